/* Speed of the CPU backend's products on the layers of the emoji demo's UNet, in GFLOP/s: one line
 * a layer, as a row of the table in docs/lab/2026-11.md. Usage: products [THREADS] */
#include "timing.h"

static double speed(const sp_value *value)
{
    const sp_node *node = ((const sp_value *)must((void *)value))->producer;
    return node->op->flops(node) / best_seconds(sp_cpu_device(), node, 0.125) * 1e-9;
}

static void print(const char *layer, double results[2][3])
{
    printf("| %-37s |", layer);
    for (int i = 0; i < 6; i++)
        printf(" %5.0f |", results[i / 3][i % 3]);
    putchar('\n');
    fflush(stdout);
}

static sp_builder *begin(void)
{
    sp_builder *b;
    if (sp_builder_create(&b) != SP_OK) must(NULL);
    return b;
}

static void convolution(int n, int size, int from, int to, int kernel, int stride)
{
    char layer[64];
    snprintf(layer, sizeof layer, "%dx%d/%d, %d of %dx%d, %d -> %d", kernel, kernel, stride, n,
             size, size, from, to);
    int pad = kernel / 2, after = (size + 2 * pad - kernel) / stride + 1;
    sp_conv2d_options o = {stride, pad, pad, pad, pad, false};
    double results[2][3];
    for (sp_dtype dtype = SP_F32; dtype <= SP_BF16; dtype++) {
        sp_builder *b = begin();
        sp_value *x = sp_input(b, "x", dtype, sp_shape_of(n, size, size, from), SP_RATE_STEP);
        sp_value *dy = sp_input(b, "dy", dtype, sp_shape_of(n, after, after, to), SP_RATE_STEP);
        sp_value *w = sp_input(b, "w", dtype, sp_shape_of(to, from, kernel, kernel), SP_RATE_STEP);
        sp_value *bias = sp_input(b, "bias", SP_F32, sp_shape_of(to), SP_RATE_STEP);
        results[dtype][0] = speed(sp_conv2d(b, x, w, bias, NULL, NULL, o));
        results[dtype][1] = speed(sp_conv2d_data_gradient(b, dy, w, size, size, o));
        results[dtype][2] = speed(sp_conv2d_weight_gradient(b, x, dy, kernel, kernel, o));
        sp_builder_destroy(b);
    }
    print(layer, results);
}

static void linear(int rows, int from, int to)
{
    char layer[64];
    snprintf(layer, sizeof layer, "linear, %d rows, %d -> %d", rows, from, to);
    double results[2][3];
    for (sp_dtype dtype = SP_F32; dtype <= SP_BF16; dtype++) {
        sp_builder *b = begin();
        sp_value *x = sp_input(b, "x", dtype, sp_shape_of(rows, from), SP_RATE_STEP);
        sp_value *dy = sp_input(b, "dy", dtype, sp_shape_of(rows, to), SP_RATE_STEP);
        sp_value *w = sp_input(b, "w", dtype, sp_shape_of(to, from), SP_RATE_STEP);
        sp_value *bias = sp_input(b, "bias", SP_F32, sp_shape_of(to), SP_RATE_STEP);
        results[dtype][0] = speed(sp_linear(b, x, w, bias, NULL));
        results[dtype][1] = speed(sp_linear_transposed(b, dy, w));
        results[dtype][2] = speed(sp_linear_weight_gradient(b, x, dy));
        sp_builder_destroy(b);
    }
    print(layer, results);
}

int main(int count, char **arguments)
{
    sp_set_threads(count > 1 ? atoi(arguments[1]) : 0);
    printf(
        "%d threads, %s. GFLOP/s of forward, data gradient, weight gradient in f32, then in bf16:\n",
        sp_threads(), sp_isa_name(sp_cpu_isa()));
    static const int convolutions[][6] = {
        {32, 16, 4, 64, 3, 1},   {32, 16, 64, 64, 3, 1},  {32, 16, 64, 64, 3, 2},
        {32, 16, 192, 64, 3, 1}, {32, 8, 128, 128, 3, 1}, {32, 8, 320, 128, 3, 1},
        {32, 8, 64, 128, 1, 1},  {32, 4, 192, 192, 3, 1}, {32, 4, 384, 192, 3, 1},
        {32, 16, 64, 4, 3, 1},   {64, 16, 64, 64, 3, 1},  {64, 8, 128, 128, 3, 1},
        {64, 4, 192, 192, 3, 1}};
    static const int linears[][3] = {{8192, 64, 64},   {8192, 64, 512},   {8192, 256, 64},
                                     {2048, 128, 128}, {2048, 128, 1024}, {2048, 512, 128},
                                     {512, 192, 192},  {512, 192, 1536},  {512, 768, 192},
                                     {16384, 64, 64},  {32, 256, 64}};
    for (size_t i = 0; i < sizeof convolutions / sizeof *convolutions; i++) {
        const int *c = convolutions[i];
        convolution(c[0], c[1], c[2], c[3], c[4], c[5]);
    }
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++)
        linear(linears[i][0], linears[i][1], linears[i][2]);
    return 0;
}
