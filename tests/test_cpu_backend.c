/* The CPU backend's products against the reference kernels, on shapes that no blocking divides, and
 * with one thread against several. */
#include <math.h>
#include <pthread.h>
#include "kernel_fixture.h"
#include "backend/cpu/onednn/onednn.h"
#include "base/parallel.h"

/* fp32: sums of up to a few thousand products in another order. bf16: both sides round nearly the
 * same sum once, so few elements, those close to the middle between two numbers, fall on
 * neighbours, at most 2^-7 apart; rounding twice on the way would move many. fp32 results of bf16
 * products are exact but for the order of sums. */
static void compare(const fixture *f, const void *found, const char *kernel)
{
    const sp_value *y = f->node->out[0];
    double largest = 0, relative = y->dtype == SP_BF16 ? 1.0 / 128 : 0;
    int64_t count = sp_shape_count(y->shape), moved = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(sp_load(f->expected, y->dtype, i)));
    for (int64_t i = 0; i < count; i++) {
        double wanted = sp_load(f->expected, y->dtype, i), is = sp_load(found, y->dtype, i);
        moved += is != wanted;
        if (!(fabs(is - wanted) <= relative * fabs(wanted) + 3e-6 * largest))
            fail_msg("%s: element %lld of %s is %.9g, expected %.9g", kernel, (long long)i,
                     sp_shape_text(y->shape), is, wanted);
    }
    if (y->dtype == SP_BF16 && moved > 4 + count / 100)
        fail_msg("%s: %lld of the %lld elements of %s were rounded another way", kernel,
                 (long long)moved, (long long)count, sp_shape_text(y->shape));
}

/* The same bits with 1, 2, 3 and 4 threads, and right ones where the reference is asked (it takes
 * minutes for large layers). */
static void check_threads(const sp_value *value, bool must_be_fast, bool use_reference)
{
    fixture f;
    fixture_make(&f, value, use_reference);
    sp_device *device = sp_cpu_device();
    fenced first = {0}, out;
    for (int threads = 1; threads <= 4; threads++) {
        sp_kernel kernel;
        sp_set_threads(threads);
        assert_ok(device->prepare(device, f.node, &kernel));
        if (must_be_fast && strcmp(kernel.name, "reference") == 0)
            fail_msg("%s runs the reference kernel", f.node->op->name);
        run_kernel(&kernel, &f, &out);
        if (threads == 1) {
            first = out;
            if (use_reference) compare(&f, out.block + FENCE, kernel.name);
        } else {
            if (memcmp(first.block, out.block, out.bytes + 2 * FENCE) != 0)
                fail_msg("%s: other bits of %s with %d threads than with one", kernel.name,
                         sp_shape_text(value->shape), threads);
            fenced_free(&out);
        }
        if (kernel.destroy) kernel.destroy(kernel.state);
    }
    sp_set_threads(0);
    fenced_free(&first);
    fixture_free(&f);
}

static void check(const sp_value *value, bool must_be_fast)
{
    check_threads(value, must_be_fast, true);
}

/* bf16 products need avx512 in oneDNN; below it the reference runs. */
static bool fast(sp_dtype dtype)
{
    return dtype == SP_F32 || sp_cpu_isa() >= SP_ISA_AVX512;
}

/* None is large enough for Winograd, which tests/test_winograd.c looks at. */
static const convolution convolutions[] = {
    {2, 5, 7, 3, 5, 3, {1, 1, 1, 1, 1, false}},    {1, 8, 8, 16, 32, 3, {1, 1, 1, 1, 1, false}},
    {3, 9, 6, 17, 19, 3, {2, 1, 1, 1, 1, false}},  {2, 8, 8, 4, 64, 3, {2, 0, 0, 1, 1, false}},
    {2, 6, 6, 24, 40, 1, {1, 0, 0, 0, 0, false}},  {1, 7, 5, 33, 1, 1, {1, 0, 0, 0, 0, false}},
    {2, 4, 4, 64, 4, 3, {1, 1, 1, 1, 1, false}},   {1, 1, 1, 48, 16, 3, {1, 1, 1, 1, 1, false}},
    {2, 11, 3, 8, 12, 3, {1, 2, 0, 1, 1, false}},  {3, 4, 4, 192, 192, 3, {1, 1, 1, 1, 1, false}},
    {1, 6, 5, 32, 24, 3, {1, 1, 1, 1, 1, true}},   {2, 19, 13, 82, 70, 3, {1, 1, 1, 1, 1, false}},
    {1, 16, 9, 96, 35, 3, {2, 0, 0, 1, 1, false}}, {1, 2, 2, 352, 352, 3, {1, 1, 1, 1, 1, false}},
};
#define CONVOLUTIONS (int)(sizeof convolutions / sizeof *convolutions)

static void conv2d(void **state)
{
    (void)state;
    for (int i = 0; i < CONVOLUTIONS * 8; i++) {
        for (sp_dtype dtype = SP_F32; dtype <= SP_BF16; dtype++) {
            sp_builder *b;
            assert_ok(sp_builder_create(&b));
            check(convolve(b, &convolutions[i / 8], dtype, dtype, i % 8), fast(dtype));
            sp_builder_destroy(b);
        }
    }
}

/* Nodes of both gradients; the doubled form has no data gradient. */
static int gradients_of(sp_builder *b, const convolution *c, sp_dtype dtype, sp_value *nodes[2])
{
    sp_value *y = convolve(b, c, dtype, dtype, 0);
    assert_non_null(y);
    sp_value *dy = input(b, "dy", dtype, y->shape), *x = y->producer->in[0],
             *w = y->producer->in[1];
    nodes[0] = sp_conv2d_weight_gradient(b, x, dy, c->kernel, c->kernel, c->o);
    if (c->o.doubled) return 1;
    nodes[1] = sp_conv2d_data_gradient(b, dy, w, c->h, c->w, c->o);
    return 2;
}

static void conv2d_gradients(void **state)
{
    (void)state;
    for (int i = 0; i < CONVOLUTIONS; i++) {
        for (sp_dtype dtype = SP_F32; dtype <= SP_BF16; dtype++) {
            sp_builder *b;
            sp_value *nodes[2];
            assert_ok(sp_builder_create(&b));
            int count = gradients_of(b, &convolutions[i], dtype, nodes);
            for (int k = 0; k < count; k++)
                check(nodes[k], fast(dtype));
            sp_builder_destroy(b);
        }
    }
}

/* Long sums over few results are what tempts to cut sums by thread. */
static const convolution deep_convolutions[] = {
    {1, 64, 64, 32, 16, 3, {1, 1, 1, 1, 1, false}}, {1, 64, 64, 4, 32, 3, {1, 1, 1, 1, 1, false}},
    {1, 64, 64, 32, 4, 3, {1, 1, 1, 1, 1, false}},  {1, 64, 64, 48, 32, 1, {1, 0, 0, 0, 0, false}},
    {1, 8, 8, 640, 64, 3, {1, 1, 1, 1, 1, false}},  {1, 8, 8, 64, 640, 3, {1, 1, 1, 1, 1, false}},
    {1, 64, 64, 32, 16, 3, {2, 0, 0, 1, 1, false}}, {2, 16, 16, 32, 16, 3, {1, 1, 1, 1, 1, true}},
};
/* rows, K, M */
static const int64_t deep_products[][3] = {
    {4096, 64, 48}, {1, 1280, 64}, {2, 5120, 16}, {64, 5120, 96}, {77, 768, 320}, {256, 2560, 64},
};

static void deep_sums_for_any_threads(void **state)
{
    (void)state;
    for (int i = 0; i < (int)(sizeof deep_convolutions / sizeof *deep_convolutions) * 2; i++) {
        sp_dtype dtype = i & 1 ? SP_BF16 : SP_F32;
        const convolution *c = &deep_convolutions[i / 2];
        sp_builder *b;
        sp_value *nodes[2];
        assert_ok(sp_builder_create(&b));
        if (!fast(dtype)) dtype = SP_F32;
        int count = gradients_of(b, c, dtype, nodes);
        for (int k = 0; k < count; k++)
            check_threads(nodes[k], true, false);
        check_threads(convolve(b, c, dtype, dtype, WITH_BIAS), true, false);
        sp_builder_destroy(b);
    }
    for (int i = 0; i < (int)(sizeof deep_products / sizeof *deep_products) * 2; i++) {
        sp_dtype dtype = i & 1 && fast(SP_BF16) ? SP_BF16 : SP_F32;
        const int64_t *p = deep_products[i / 2];
        sp_builder *b;
        assert_ok(sp_builder_create(&b));
        sp_value *x = input(b, "x", dtype, sp_shape_of(1, p[0], p[1])),
                 *dy = input(b, "dy", dtype, sp_shape_of(1, p[0], p[2]));
        check_threads(sp_linear(b, x, input(b, "w", dtype, sp_shape_of(p[2], p[1])), NULL, NULL),
                      true, false);
        check_threads(sp_linear_transposed(b, x, input(b, "t", dtype, sp_shape_of(p[1], p[2]))),
                      true, false);
        check_threads(sp_linear_weight_gradient(b, x, dy), true, false);
        sp_builder_destroy(b);
    }
}

/* The library's linear layers, which only processors with AMX run. */
static void check_library(const sp_value *value)
{
    fixture f;
    fixture_make(&f, value, true);
    sp_kernel kernel = {.name = "onednn linear"};
    sp_status status = sp_onednn_prepare_linear(f.node, &kernel);
    if (status == SP_OK) {
        fenced out;
        run_kernel(&kernel, &f, &out);
        compare(&f, out.block + FENCE, kernel.name);
        fenced_free(&out);
        kernel.destroy(kernel.state);
    } else {
        assert_int_equal(status, SP_UNSUPPORTED); /* bf16 below avx512 */
        assert_false(fast(value->dtype));
    }
    fixture_free(&f);
}

static const int64_t products[][3] = {{1, 1, 1},     {1, 64, 256},  {7, 33, 5},
                                      {77, 128, 96}, {128, 1, 17},  {3, 320, 77},
                                      {256, 64, 64}, {65, 96, 130}, {2, 770, 3}};
#define PRODUCTS (int)(sizeof products / sizeof *products)

static void linear(void **state)
{
    (void)state;
    for (int i = 0; i < PRODUCTS * 4; i++) {
        for (sp_dtype dtype = SP_F32; dtype <= SP_BF16; dtype++) {
            const int64_t *p = products[i / 4];
            sp_builder *b;
            assert_ok(sp_builder_create(&b));
            sp_value *x = input(b, "x", dtype, sp_shape_of(1, p[0], p[1])),
                     *bias = i & 1 ? input(b, "bias", SP_F32, sp_shape_of(p[2])) : NULL,
                     *r = i & 2 ? input(b, "r", dtype, sp_shape_of(1, p[0], p[2])) : NULL;
            sp_value *nodes[] = {
                sp_linear(b, x, input(b, "w", dtype, sp_shape_of(p[2], p[1])), bias, r),
                sp_linear_transposed(b, x, input(b, "wt", dtype, sp_shape_of(p[1], p[2]))),
                sp_linear_weight_gradient(b, x, input(b, "dy", dtype, sp_shape_of(1, p[0], p[2]))),
            };
            for (int k = 0; k < 3; k++) {
                check(nodes[k], true);
                if (k < 2) check_library(nodes[k]);
            }
            sp_builder_destroy(b);
        }
    }
}

/* Weights may be stored in another type than the activations' one. */
static void weights_of_other_dtypes(void **state)
{
    (void)state;
    for (sp_dtype stored = SP_F32; stored <= SP_F16; stored++) {
        sp_builder *b;
        assert_ok(sp_builder_create(&b));
        sp_value *x = input(b, "x", SP_F32, sp_shape_of(2, 6, 5, 20));
        check(sp_linear(b, x, input(b, "w", stored, sp_shape_of(24, 20)), NULL, NULL), true);
        check(sp_linear_transposed(b, x, input(b, "t", stored, sp_shape_of(20, 24))), true);
        check(sp_conv2d(b, x, input(b, "k", stored, sp_shape_of(12, 20, 3, 3)), NULL, NULL, NULL,
                        (sp_conv2d_options){1, 1, 1, 1, 1, false}),
              true);
        sp_builder_destroy(b);
    }
}

/* Our own packing of a convolution's weights gives what the library's reorder gives; whether there
 * was one of our own. */
static bool packs_like_the_library(const int64_t d[4], dnnl_format_tag_t tag, sp_dtype stored)
{
    sp_value weight = {.dtype = stored, .shape = sp_shape_of(d[0], d[1], d[2], d[3])};
    dnnl_dims_t dims = {d[0], d[1], d[2], d[3]};
    int64_t strides[4] = {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1};
    dnnl_memory_desc_t layout;
    assert_int_equal(dnnl_memory_desc_init_by_tag(&layout, 4, dims, dnnl_bf16, tag), dnnl_success);
    sp_weight_packer own;
    sp_onednn_packer library;
    sp_packing packing[2];
    if (!sp_onednn_packs_convolution(&weight, &layout, &own, &packing[0])) return false;
    assert_ok(sp_onednn_make_packer(&weight, 4, d, strides, &layout, &library, &packing[1]));
    assert_int_equal(packing[0].bytes, packing[1].bytes);
    assert_true(packing[0].key == packing[1].key);
    size_t count = (size_t)sp_shape_count(weight.shape);
    float *numbers = sp_alloc(count * sizeof *numbers);
    void *source = sp_alloc(sp_value_bytes(&weight)), *scratch = sp_alloc(packing[1].scratch + 1);
    assert_true(numbers && source && scratch);
    sp_random_normal((sp_random_key){.seed = 3}, numbers, count);
    sp_convert_elements(source, stored, numbers, SP_F32, (int64_t)count);
    fenced out[2];
    for (int i = 0; i < 2; i++)
        packing[i].pack(packing[i].state, source, fenced_make(&out[i], packing[i].bytes, 0xff),
                        scratch);
    assert_memory_equal(out[0].block, out[1].block, out[0].bytes + 2 * FENCE);
    for (int i = 0; i < 2; i++)
        fenced_free(&out[i]);
    sp_onednn_destroy(&library.reorder);
    sp_free(numbers);
    sp_free(source);
    sp_free(scratch);
    return true;
}

/* Small ones, some with a last part of a block, and one that is written past the caches. */
static void convolutions_are_packed_like_by_the_library(void **state)
{
    (void)state;
    static const struct {
        int64_t dims[4];
        dnnl_format_tag_t tag;
        bool own; /* with AVX512 and bf16 */
    } cases[] = {
        {{64, 4, 3, 3}, dnnl_AcdB64a2b, true},      {{192, 38, 3, 3}, dnnl_AcdB64a2b, true},
        {{96, 34, 3, 3}, dnnl_AcdB48a2b, true},     {{32, 48, 3, 3}, dnnl_AcdB32a2b, true},
        {{48, 18, 3, 3}, dnnl_AcdB16a2b, true},     {{576, 480, 3, 3}, dnnl_AcdB32a2b, true},
        {{128, 322, 1, 1}, dnnl_AcdB64a2b, true},   {{32, 48, 3, 3}, dnnl_ABcd8a16b2a, true},
        {{512, 480, 3, 3}, dnnl_ABcd8a16b2a, true}, {{40, 48, 3, 3}, dnnl_AcdB32a2b, false},
        {{32, 33, 3, 3}, dnnl_AcdB32a2b, false},    {{32, 48, 5, 5}, dnnl_AcdB32a2b, false},
        {{32, 48, 1, 1}, dnnl_BAcd8a16b2a, false},  {{24, 48, 3, 3}, dnnl_ABcd8a16b2a, false},
        {{32, 48, 1, 1}, dnnl_ABcd8a16b2a, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (sp_dtype stored = SP_F32; stored <= SP_F16; stored++)
            for (int threads = 1; threads <= 3; threads += 2) {
                sp_set_threads(threads);
                assert_int_equal(packs_like_the_library(cases[i].dims, cases[i].tag, stored),
                                 cases[i].own && sp_cpu_isa() == SP_ISA_AVX512_BF16);
            }
    sp_set_threads(0);
}

/* W of a linear layer and its transpose, [M,K] and [K,M], are packed into the same bytes: rows are
 * turned in one and taken as they are in the other. */
static void check_transposed_packing(int64_t K, int64_t M, sp_dtype dtype, sp_dtype stored)
{
    sp_builder *b;
    assert_ok(sp_builder_create(&b));
    sp_value *x = input(b, "x", dtype, sp_shape_of(4, K));
    sp_value *nodes[] = {
        sp_linear(b, x, input(b, "w", stored, sp_shape_of(M, K)), NULL, NULL),
        sp_linear_transposed(b, x, input(b, "wt", stored, sp_shape_of(K, M))),
    };
    fixture f;
    fixture_make(&f, nodes[0], false);
    size_t size = sp_dtype_size(stored);
    char *w = f.in[1], *turned = sp_alloc(sp_value_bytes(f.node->in[1]));
    assert_non_null(turned);
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++)
            memcpy(turned + (size_t)(k * M + m) * size, w + (size_t)(m * K + k) * size, size);
    fenced out[2];
    for (int i = 0; i < 2; i++) {
        sp_kernel kernel;
        assert_ok(sp_cpu_device()->prepare(sp_cpu_device(), nodes[i]->producer, &kernel));
        const sp_packing *p = &kernel.packing[1];
        assert_true(p->bytes > 0 && p->scratch == 0);
        p->pack(p->state, i ? turned : w, fenced_make(&out[i], p->bytes, 0xff), NULL);
        kernel.destroy(kernel.state);
    }
    assert_memory_equal(out[0].block, out[1].block, out[0].bytes + 2 * FENCE);
    for (int i = 0; i < 2; i++)
        fenced_free(&out[i]);
    sp_free(turned);
    fixture_free(&f);
    sp_builder_destroy(b);
}

static void transposed_weights_pack_alike(void **state)
{
    (void)state;
    if (sp_cpu_uses_amx()) skip();
    static const int64_t sizes[][2] = {{7, 5}, {150, 77}, {290, 64}, {2, 130}, {1056, 2100}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (sp_dtype stored = SP_F32; stored <= SP_F16; stored++) {
            check_transposed_packing(sizes[i][0], sizes[i][1], SP_F32, stored);
            check_transposed_packing(sizes[i][0], sizes[i][1], SP_BF16, stored);
        }
}

static void equal_layouts_share_a_key(void **state)
{
    (void)state;
    sp_device *device = sp_cpu_device();
    uint64_t keys[3];
    for (int i = 0; i < 3; i++) {
        sp_builder *b;
        sp_kernel kernel;
        assert_ok(sp_builder_create(&b));
        convolution c = {i == 1 ? 3 : 2, 8, 8, 64, i == 2 ? 128 : 64, 3, {1, 1, 1, 1, 1, false}};
        sp_value *y = convolve(b, &c, SP_F32, SP_F32, 0);
        assert_non_null(y);
        assert_ok(device->prepare(device, y->producer, &kernel));
        keys[i] = kernel.packing[1].key;
        assert_true(kernel.packing[1].bytes >= sp_value_bytes(y->producer->in[1]));
        kernel.destroy(kernel.state);
        sp_builder_destroy(b);
    }
    assert_true(keys[0] != 0 && keys[0] == keys[1] && keys[0] != keys[2]);
}

typedef struct {
    const sp_kernel *kernel;
    const fixture *f;
    fenced out;
} worker;

static void *work(void *context)
{
    worker *w = context;
    run_kernel(w->kernel, w->f, &w->out);
    return NULL;
}

/* A plan is shared between requests, so a prepared kernel must run in several threads at once, with
 * equal bits. */
static void one_kernel_in_many_threads(void **state)
{
    (void)state;
    sp_builder *b;
    assert_ok(sp_builder_create(&b));
    fixture f;
    fixture_make(&f,
                 convolve(b, &(convolution){2, 16, 16, 32, 48, 3, {1, 1, 1, 1, 1, false}}, SP_F32,
                          SP_F32, 7),
                 false);
    sp_device *device = sp_cpu_device();
    sp_kernel kernel;
    assert_ok(device->prepare(device, f.node, &kernel));
    worker workers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        workers[i] = (worker){.kernel = &kernel, .f = &f};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i < 4; i++)
        assert_memory_equal(workers[0].out.block, workers[i].out.block,
                            workers[0].out.bytes + 2 * FENCE);
    for (int i = 0; i < 4; i++)
        fenced_free(&workers[i].out);
    kernel.destroy(kernel.state);
    fixture_free(&f);
    sp_builder_destroy(b);
}

static void support_is_listed(void **state)
{
    (void)state;
    assert_non_null(strstr(sp_cpu_support(&sp_op_conv2d, SP_F32), "conv2d"));
    assert_string_equal(sp_cpu_support(&sp_op_conv2d, SP_I32), "reference");
    assert_int_equal(sp_cpu_device()->preferred_dtype,
                     sp_cpu_isa() == SP_ISA_AVX512_BF16 ? SP_BF16 : SP_F32);
}

static sp_status prepare_once(void *node)
{
    sp_kernel kernel;
    SP_TRY(sp_cpu_device()->prepare(sp_cpu_device(), node, &kernel));
    if (kernel.destroy) kernel.destroy(kernel.state);
    return SP_OK;
}

static void preparing_without_memory(void **state)
{
    (void)state;
    sp_builder *b;
    assert_ok(sp_builder_create(&b));
    sp_value *y = convolve(b, &convolutions[0], SP_F32, SP_F32, 7);
    assert_non_null(y);
    sp_value *dy = input(b, "dy", SP_F32, y->shape), *x = y->producer->in[0],
             *w = y->producer->in[1];
    sp_value *nodes[] = {y, sp_conv2d_data_gradient(b, dy, w, 5, 7, convolutions[0].o),
                         sp_conv2d_weight_gradient(b, x, dy, 3, 3, convolutions[0].o),
                         sp_linear_transposed(b, x, input(b, "wt", SP_F32, sp_shape_of(3, 8))),
                         sp_linear_weight_gradient(b, dy, dy)};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        assert_non_null(nodes[i]);
        assert_true(fail_every_allocation(prepare_once, nodes[i]->producer) > 0);
    }
    sp_builder_destroy(b);
}

static void memory(void **state)
{
    (void)state;
    sp_device *device = sp_cpu_device();
    char text[] = "to and fro", back[sizeof text] = "";
    size_t sizes[] = {sizeof text, (size_t)9 << 20}; /* the second one in large pages */
    for (int i = 0; i < 2; i++) {
        char *address = device->allocate(device, sizes[i]);
        assert_non_null(address);
        device->upload(device, address + sizes[i] - sizeof text, text, sizeof text);
        assert_ok(device->download(device, back, address + sizes[i] - sizeof text, sizeof text));
        assert_string_equal(text, back);
        device->release(device, address);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv2d),
        cmocka_unit_test(conv2d_gradients),
        cmocka_unit_test(deep_sums_for_any_threads),
        cmocka_unit_test(linear),
        cmocka_unit_test(weights_of_other_dtypes),
        cmocka_unit_test(convolutions_are_packed_like_by_the_library),
        cmocka_unit_test(transposed_weights_pack_alike),
        cmocka_unit_test(equal_layouts_share_a_key),
        cmocka_unit_test(one_kernel_in_many_threads),
        cmocka_unit_test(support_is_listed),
        cmocka_unit_test(preparing_without_memory),
        cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
