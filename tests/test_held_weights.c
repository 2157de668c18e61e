/* Weights of 16 bits stay so in their packs, take half the room, and give the bits that the same numbers in 32 give; so
 * do those of Q8_0, in a little more than a quarter. */
#include <math.h>
#include "kernel_fixture.h"
#include "backend/cpu/convolution_choice.h"
#include "backend/cpu/vector/product/held_weight.h"
#include "tensor/quantised.h"

/* A node with weights of `dtype`; form: of a convolution, else SP_CONVOLUTION_DIRECT. */
typedef struct {
    const char *name;
    sp_convolution_form form;
    sp_value *(*make)(sp_builder *b, sp_dtype x, sp_dtype weight);
} layer;

/* More rows than a block has, more channels than are multiplied at a time, a last panel that is not whole. */
static sp_value *linear(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return sp_linear(b, input(b, "x", x, sp_shape_of(101, 402)), input(b, "w", weight, sp_shape_of(85, 402)),
                     input(b, "b", SP_F32, sp_shape_of(85)), NULL);
}

static sp_value *linear_transposed(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return sp_linear_transposed(b, input(b, "x", x, sp_shape_of(7, 402)),
                                input(b, "w", weight, sp_shape_of(402, 85)));
}

static sp_value *linear_geglu(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return sp_linear_geglu(b, input(b, "x", x, sp_shape_of(101, 200)), input(b, "w", weight, sp_shape_of(256, 200)),
                           input(b, "b", SP_F32, sp_shape_of(256)));
}

static sp_value *one_tap(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return convolve(b, &(convolution){2, 9, 7, 202, 50, 1, {1, 0, 0, 0, 0, false}}, x, weight, WITH_ALL);
}

static sp_value *strided(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return convolve(b, &(convolution){1, 9, 12, 202, 48, 3, {2, 1, 1, 1, 1, false}}, x, weight, WITH_ALL);
}

static sp_value *nine_taps(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return convolve(b, &(convolution){1, 9, 12, 278, 80, 3, {1, 1, 1, 1, 1, false}}, x, weight, WITH_ALL);
}

static sp_value *doubled(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return convolve(b, &(convolution){1, 5, 4, 130, 16, 3, {1, 1, 1, 1, 1, true}}, x, weight, 0);
}

static sp_value *backwards(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    sp_value *dy = input(b, "dy", x, sp_shape_of(2, 9, 7, 272));
    return sp_conv2d_data_gradient(b, dy, input(b, "w", weight, sp_shape_of(272, 48, 3, 3)), 9, 7,
                                   (sp_conv2d_options){1, 1, 1, 1, 1, false});
}

static const layer layers[] = {
    {"linear", SP_CONVOLUTION_DIRECT, linear},
    {"linear, transposed", SP_CONVOLUTION_DIRECT, linear_transposed},
    {"linear_geglu", SP_CONVOLUTION_DIRECT, linear_geglu},
    {"one tap", SP_CONVOLUTION_DIRECT, one_tap},
    {"stride 2", SP_CONVOLUTION_DIRECT, strided},
    {"nine taps", SP_CONVOLUTION_DIRECT, nine_taps},
    {"nine taps in F(2)", SP_CONVOLUTION_WINOGRAD_2, nine_taps},
    {"nine taps in F(4)", SP_CONVOLUTION_WINOGRAD_4, nine_taps},
    {"nine taps in F(6)", SP_CONVOLUTION_WINOGRAD_6, nine_taps},
    {"doubled in F(2)", SP_CONVOLUTION_WINOGRAD_2, doubled},
    {"doubled in F(4)", SP_CONVOLUTION_WINOGRAD_4, doubled},
    {"doubled in F(6)", SP_CONVOLUTION_WINOGRAD_6, doubled},
    {"data gradient", SP_CONVOLUTION_DIRECT, backwards},
    {"data gradient in F(2)", SP_CONVOLUTION_WINOGRAD_2, backwards},
    {"data gradient in F(4)", SP_CONVOLUTION_WINOGRAD_4, backwards},
    {"data gradient in F(6)", SP_CONVOLUTION_WINOGRAD_6, backwards},
};

/* Runs the layer's kernel; the weight is input 1. */
static void run_layer(const layer *l, const fixture *f, fenced *out, size_t *packed, const char **kernel_name)
{
    sp_device *device = sp_cpu_device_with(l->form);
    sp_kernel kernel = {0};
    assert_ok(device->prepare(device, f->node, &kernel));
    *packed = kernel.packing[1].bytes;
    *kernel_name = kernel.name;
    run_kernel(&kernel, f, out);
    if (kernel.destroy) kernel.destroy(kernel.state);
}

/* A layer whose weight is stored in one type, and the same with these numbers in a wider one. */
typedef struct {
    sp_builder *b[2];
    fixture f[2];
    fenced out[2];
    size_t packed[2];
    const char *kernel[2];
} comparison;

static void compare_layers(const layer *l, sp_dtype x, sp_dtype stored, sp_dtype wide, bool use_reference,
                           comparison *c)
{
    for (int i = 0; i < 2; i++) {
        assert_ok(sp_builder_create(&c->b[i]));
        fixture_make(&c->f[i], l->make(c->b[i], x, i ? wide : stored), use_reference && i == 0);
    }
    sp_convert_elements(c->f[1].in[1], wide, c->f[0].in[1], stored, sp_shape_count(c->f[0].node->in[1]->shape));
    for (int i = 0; i < 2; i++)
        run_layer(l, &c->f[i], &c->out[i], &c->packed[i], &c->kernel[i]);
}

static bool same_bits(const comparison *c)
{
    return memcmp(c->out[0].block, c->out[1].block, c->out[0].bytes + 2 * FENCE) == 0;
}

static void comparison_free(comparison *c)
{
    for (int i = 0; i < 2; i++) {
        fenced_free(&c->out[i]);
        fixture_free(&c->f[i]);
        sp_builder_destroy(c->b[i]);
    }
}

/* The library's kernels hold weights as they multiply them; ours are used wherever 16 bits would be widened. */
static bool holds_what_it_multiplies(sp_dtype x)
{
    return sp_cpu_isa() == SP_ISA_AVX512_BF16 && x == SP_BF16;
}

static void check_layer(const layer *l, sp_dtype x, sp_dtype stored)
{
    comparison c;
    if (holds_what_it_multiplies(x)) return;
    compare_layers(l, x, stored, SP_F32, false, &c);
    bool same = strcmp(c.kernel[0], c.kernel[1]) == 0 && strcmp(c.kernel[0], "direct") != 0;
    if (sp_cpu_isa() < SP_ISA_AVX512 || same) {
        if (c.packed[0] == 0 || c.packed[0] * (x == SP_F32 ? 2 : 1) != c.packed[1])
            fail_msg("%s: %zu bytes packed of %s, %zu of F32", l->name, c.packed[0], sp_dtype_name(stored),
                     c.packed[1]);
        if (x == SP_F32 && !same_bits(&c)) fail_msg("%s: other bits of %s than of F32", l->name, sp_dtype_name(stored));
    }
    comparison_free(&c);
}

static void sixteen_bits_lose_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        check_layer(&layers[i], SP_F32, SP_F16);
        check_layer(&layers[i], SP_F32, SP_BF16);
    }
}

/* Where activations are bf16, weights are held in 16 bits, whatever the file has. */
static void bf16_holds_sixteen_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (layers[i].make != linear_geglu) check_layer(&layers[i], SP_BF16, SP_F16);
}

/* ---- Q8_0 ---- */

/* Blocks of 32 inputs, parts of several, a last panel that is not whole. */
static sp_value *linear_blocks(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return sp_linear(b, input(b, "x", x, sp_shape_of(101, 416)), input(b, "w", weight, sp_shape_of(85, 416)),
                     input(b, "b", SP_F32, sp_shape_of(85)), NULL);
}

static sp_value *geglu_blocks(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return sp_linear_geglu(b, input(b, "x", x, sp_shape_of(101, 224)), input(b, "w", weight, sp_shape_of(256, 224)),
                           input(b, "b", SP_F32, sp_shape_of(256)));
}

static sp_value *tap_blocks(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return convolve(b, &(convolution){2, 9, 7, 224, 50, 1, {1, 0, 0, 0, 0, false}}, x, weight, WITH_ALL);
}

static const layer quantised_layers[] = {
    {"linear of Q8_0", SP_CONVOLUTION_DIRECT, linear_blocks},
    {"linear_geglu of Q8_0", SP_CONVOLUTION_DIRECT, geglu_blocks},
    {"one tap of Q8_0", SP_CONVOLUTION_DIRECT, tap_blocks},
};

/* Where bf16 is multiplied in pairs, the numbers are rounded to it first; a convolution of one tap widens them. */
static void check_quantised(const layer *l, sp_dtype x)
{
    const bool pairs = sp_cpu_isa() == SP_ISA_AVX512_BF16 && x == SP_BF16 && l->make != tap_blocks;
    const sp_dtype wide = pairs ? SP_BF16 : SP_F32;
    comparison c;
    if (pairs && sp_cpu_uses_amx()) return; /* bf16 weights are the library's there */
    compare_layers(l, x, SP_Q8_0, wide, true, &c);
    if (strcmp(c.kernel[0], "reference") == 0) fail_msg("%s runs the reference kernel", l->name);
    if (strcmp(c.kernel[0], c.kernel[1]) == 0 && (x == SP_F32 || pairs)) { /* else the others are held in bf16 */
        assert_int_equal(c.packed[0] * 32 * (pairs ? 2 : 4), c.packed[1] * SP_Q8_0_BYTES);
        if (!same_bits(&c)) fail_msg("%s: other bits than of %s", l->name, sp_dtype_name(wide));
    }
    const fixture *f = &c.f[0];
    const sp_value *y = f->node->out[0];
    double largest = 0, error = 0;
    for (int64_t i = 0; i < sp_shape_count(y->shape); i++) {
        double wanted = sp_load(f->expected, y->dtype, i);
        largest = fmax(largest, fabs(wanted));
        error = fmax(error, fabs(wanted - sp_load(c.out[0].block + FENCE, y->dtype, i)));
    }
    if (!(error <= (x == SP_F32 ? 1e-5 : 1e-2) * largest)) fail_msg("%s: off by %g of %g", l->name, error, largest);
    comparison_free(&c);
}

static void blocks_lose_nothing_either(void **state)
{
    (void)state;
    if (sp_cpu_isa() < SP_ISA_AVX2) skip(); /* where the library takes linear layers */
    for (size_t i = 0; i < sizeof quantised_layers / sizeof *quantised_layers; i++) {
        check_quantised(&quantised_layers[i], SP_F32);
        if (quantised_layers[i].make != geglu_blocks) check_quantised(&quantised_layers[i], SP_BF16);
    }
}

/* Transposed, blocks lie across what is summed over: the numbers are there all the same. */
static sp_value *transposed_blocks(sp_builder *b, sp_dtype x, sp_dtype weight)
{
    return sp_linear_transposed(b, input(b, "x", x, sp_shape_of(7, 96)), input(b, "w", weight, sp_shape_of(96, 64)));
}

static void blocks_across(void **state)
{
    (void)state;
    comparison c;
    compare_layers(&(layer){"linear, transposed", SP_CONVOLUTION_DIRECT, transposed_blocks}, SP_F32, SP_Q8_0, SP_F32,
                   false, &c);
    assert_string_equal(c.kernel[0], c.kernel[1]);
    assert_true(same_bits(&c));
    comparison_free(&c);
}

/* The forms in which products read a pack, of each instruction set that the processor has: also pairs of bf16, which
 * few processors multiply. */
#define DECLARE(isa)                                                                                                   \
    const float *sp_weight_widen_##isa(const sp_weight_packer *packer, const void *packed, const sp_weight_part *part, \
                                       float *room);
DECLARE(baseline)
DECLARE(avx2)
DECLARE(avx512)
DECLARE(avx512bf16)
static const struct {
    sp_isa isa;
    int64_t panel; /* of products there */
    void (*pack)(void *packer, const void *source, void *packed, void *scratch);
    const float *(*widen)(const sp_weight_packer *packer, const void *packed, const sp_weight_part *part, float *room);
} forms[] = {
    {SP_ISA_BASELINE, 8, sp_weight_pack_baseline, sp_weight_widen_baseline},
    {SP_ISA_AVX2, 16, sp_weight_pack_avx2, sp_weight_widen_avx2},
    {SP_ISA_AVX512, 64, sp_weight_pack_avx512, sp_weight_widen_avx512},
    {SP_ISA_AVX512_BF16, 64, sp_weight_pack_avx512bf16, sp_weight_widen_avx512bf16},
};

static uint32_t pair_of(float even, float odd)
{
    return sp_f32_to_bf16(even) | (uint32_t)sp_f32_to_bf16(odd) << 16;
}

static void packs_of_blocks_are_widened(void **state)
{
    (void)state;
    enum { C = 96, M = 80, BLOCKS = M * C / SP_Q8_0_BLOCK };
    static float numbers[M * C], room[C * 64];
    static char source[BLOCKS * SP_Q8_0_BYTES], packed[BLOCKS * SP_Q8_0_BYTES];
    sp_random_normal((sp_random_key){.seed = 5}, numbers, M * C);
    sp_convert_elements(source, SP_Q8_0, numbers, SP_F32, M * C);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (int pairs = 0; pairs < 2 && forms[i].isa <= sp_cpu_isa(); pairs++) {
            sp_weight_packer p = {.taps = 1, .held = SP_Q8_0, .pairs = pairs, .dtype = SP_Q8_0, .C = C, .M = M,
                                  .output_stride = C, .input_stride = 1, .group = C, .panel = forms[i].panel};
            forms[i].pack(&p, source, packed, NULL);
            for (int64_t m = 0; m < M; m += p.panel)
                for (int64_t first = 0; first < C; first += 32) {
                    int64_t width = M - m < p.panel ? M - m : p.panel, step = pairs ? 2 : 1;
                    const sp_weight_part part = {m, width, 0, first / step, 32 / step};
                    const float *found = forms[i].widen(&p, packed, &part, room);
                    for (int64_t k = 0; k < 32; k += step)
                        for (int64_t j = 0; j < width; j++) {
                            float value[2] = {0};
                            sp_dequantise(SP_Q8_0, source, (m + j) * C + first + k, step, value);
                            uint32_t bits;
                            memcpy(&bits, &found[k / step * width + j], 4);
                            if (pairs)
                                assert_int_equal(bits, pair_of(value[0], value[1]));
                            else
                                assert_memory_equal(&bits, value, 4);
                        }
                }
        }
}

int main(void)
{
    sp_convolution_packed_filters = SP_FILTERS_TAPS; /* small as these layers are */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_bits_lose_nothing),
        cmocka_unit_test(bf16_holds_sixteen_bits),
        cmocka_unit_test(blocks_lose_nothing_either),
        cmocka_unit_test(blocks_across),
        cmocka_unit_test(packs_of_blocks_are_widened),
    };
    return cmocka_run_group_tests_name("held_weights", tests, NULL, NULL);
}
