/* Weights of 16 bits stay so in their packs, take half the room, and give the bits that the same numbers in 32 give. */
#include "kernel_fixture.h"
#include "backend/cpu/convolution_choice.h"

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

/* The library's kernels hold weights as they multiply them; ours are used wherever 16 bits would be widened. */
static bool holds_what_it_multiplies(const sp_value *y)
{
    return sp_cpu_isa() == SP_ISA_AVX512_BF16 && y->producer->in[0]->dtype == SP_BF16;
}

static void check_layer(const layer *l, sp_dtype x, sp_dtype stored)
{
    sp_builder *b, *wide_b;
    fixture f, wide;
    fenced out, wide_out;
    size_t packed, wide_packed;
    const char *kernel, *wide_kernel;
    assert_ok(sp_builder_create(&b));
    assert_ok(sp_builder_create(&wide_b));
    sp_value *y = l->make(b, x, stored), *wide_y = l->make(wide_b, x, SP_F32);
    if (!holds_what_it_multiplies(y)) {
        fixture_make(&f, y, false);
        fixture_make(&wide, wide_y, false);
        sp_convert_elements(wide.in[1], SP_F32, f.in[1], stored, sp_shape_count(f.node->in[1]->shape));
        run_layer(l, &f, &out, &packed, &kernel);
        run_layer(l, &wide, &wide_out, &wide_packed, &wide_kernel);
        bool same = strcmp(kernel, wide_kernel) == 0 && strcmp(kernel, "direct") != 0;
        if (sp_cpu_isa() < SP_ISA_AVX512 || same) {
            if (packed == 0 || packed * (x == SP_F32 ? 2 : 1) != wide_packed)
                fail_msg("%s: %zu bytes packed of %s, %zu of F32", l->name, packed, sp_dtype_name(stored), wide_packed);
            if (x == SP_F32 && memcmp(out.block, wide_out.block, out.bytes + 2 * FENCE) != 0)
                fail_msg("%s: other bits of %s than of F32", l->name, sp_dtype_name(stored));
        }
        fenced_free(&out);
        fenced_free(&wide_out);
        fixture_free(&f);
        fixture_free(&wide);
    }
    sp_builder_destroy(b);
    sp_builder_destroy(wide_b);
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

int main(void)
{
    sp_convolution_packed_filters = SP_FILTERS_TAPS; /* small as these layers are */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_bits_lose_nothing),
        cmocka_unit_test(bf16_holds_sixteen_bits),
    };
    return cmocka_run_group_tests_name("held_weights", tests, NULL, NULL);
}
