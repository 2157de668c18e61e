/* Speed of the forms of a 3x3 convolution on the sizes of Stable Diffusion, one row a layer, as in
 * docs/performance.md: GFLOP/s as a direct convolution counts them. Usage:
 * convolutions [THREADS [f32|bf16 [LAYER]]] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/cpu/convolution_choice.h"
#include "backend/cpu/kernel_table.h"
#include "base/random.h"
#include "clock.h"

static void *must(void *pointer)
{
    if (pointer) return pointer;
    fprintf(stderr, "%s\n", sp_error_message());
    exit(1);
}

static void *data_of(const sp_value *v, bool random)
{
    size_t count = (size_t)sp_shape_count(v->shape);
    float *numbers = must(sp_alloc_zero(count * sizeof *numbers));
    void *data = must(sp_alloc(count * sp_dtype_size(v->dtype)));
    if (random) sp_random_normal((sp_random_key){.seed = 1}, numbers, count);
    sp_convert(data, v->dtype, numbers, SP_F32, (int64_t)count);
    sp_free(numbers);
    return data;
}

/* The best of many runs in half a second, and the time of packing. */
static double seconds(const sp_node *node, sp_kernel *kernel, double *packing)
{
    void *in[SP_MAX_INPUTS] = {0}, *out[1] = {data_of(node->out[0], false)};
    void *scratch = must(sp_alloc(kernel->scratch)), *weight = data_of(node->in[1], true);
    in[0] = data_of(node->in[0], true);
    in[1] = must(sp_alloc(kernel->packing[1].bytes));
    void *room = must(sp_alloc(kernel->packing[1].scratch));
    double start = clock_seconds(), best = INFINITY;
    kernel->packing[1].pack(kernel->packing[1].state, weight, in[1], room);
    *packing = clock_seconds() - start;
    double begin = clock_seconds();
    for (int run = 0; run < 3 || clock_seconds() - begin < 0.5; run++) {
        start = clock_seconds();
        kernel->run(kernel->state, node, in, out, scratch);
        best = fmin(best, clock_seconds() - start);
    }
    kernel->destroy(kernel->state);
    sp_free(room);
    sp_free(in[0]);
    sp_free(in[1]);
    sp_free(weight);
    sp_free(out[0]);
    sp_free(scratch);
    return best;
}

static const struct {
    const char *name;
    int64_t N, H, W, C, M;
    bool doubled;
} rows[] = {
    {"64x64, 320 -> 320", 1, 64, 64, 320, 320, false},
    {"64x64, 960 -> 320", 1, 64, 64, 960, 320, false},
    {"32x32, 640 -> 640", 1, 32, 32, 640, 640, false},
    {"32x32, 1920 -> 640", 1, 32, 32, 1920, 640, false},
    {"16x16, 1280 -> 1280", 1, 16, 16, 1280, 1280, false},
    {"16x16, 2560 -> 1280", 1, 16, 16, 2560, 1280, false},
    {"8x8, 1280 -> 1280", 1, 8, 8, 1280, 1280, false},
    {"8x8 to 16x16, 1280 -> 1280", 1, 8, 8, 1280, 1280, true},
    {"16x16 to 32x32, 1280 -> 1280", 1, 16, 16, 1280, 1280, true},
    {"32x32 to 64x64, 640 -> 640", 1, 32, 32, 640, 640, true},
    {"64x64, 512 -> 512", 1, 64, 64, 512, 512, false},
    {"128x128, 512 -> 512", 1, 128, 128, 512, 512, false},
    {"128x128 to 256x256, 512 -> 512", 1, 128, 128, 512, 512, true},
    {"256x256, 256 -> 256", 1, 256, 256, 256, 256, false},
    {"256x256, 512 -> 256", 1, 256, 256, 512, 256, false},
    {"256x256 to 512x512, 256 -> 256", 1, 256, 256, 256, 256, true},
    {"512x512, 128 -> 128", 1, 512, 512, 128, 128, false},
    {"512x512, 256 -> 128", 1, 512, 512, 256, 128, false},
    {"32 of 16x16, 64 -> 64", 32, 16, 16, 64, 64, false},
    {"32 of 16x16, 192 -> 64", 32, 16, 16, 192, 64, false},
    {"32 of 8x8, 128 -> 128", 32, 8, 8, 128, 128, false},
    {"32 of 8x8, 272 -> 128", 32, 8, 8, 272, 128, false},
    {"32 of 4x4, 144 -> 144", 32, 4, 4, 144, 144, false},
    {"32 of 4x4, 288 -> 144", 32, 4, 4, 288, 144, false},
    {"32 of 4x4 to 8x8, 144 -> 144", 32, 4, 4, 144, 144, true},
};

static void measure(size_t r, sp_dtype dtype, int form)
{
    sp_builder *b;
    if (sp_builder_create(&b) != SP_OK) must(NULL);
    sp_value *x = sp_input(b, "x", dtype, sp_shape_of(rows[r].N, rows[r].H, rows[r].W, rows[r].C),
                           SP_RATE_STEP);
    sp_value *w = sp_input(b, "w", dtype, sp_shape_of(rows[r].M, rows[r].C, 3, 3), SP_RATE_RUN);
    sp_value *y = must(
        sp_conv2d(b, x, w, NULL, NULL, NULL, (sp_conv2d_options){1, 1, 1, 1, 1, rows[r].doubled}));
    sp_kernel kernel = {0};
    const sp_node *node = y->producer;
    sp_status status = SP_UNSUPPORTED;
    if (form == SP_CONVOLUTION_DIRECT) {
        for (const sp_cpu_kernel *k = sp_cpu_onednn; k->op; k++)
            if (k->op == node->op) status = k->prepare(node, &kernel);
    } else {
        status = sp_winograd_prepare(form, node, &kernel);
    }
    if (status == SP_UNSUPPORTED) {
        printf(" |");
    } else {
        double packing, time = seconds(node, &kernel, &packing);
        printf(" %.0f (%.1f ms, pack %.0f) |", node->op->flops(node) / time * 1e-9, time * 1e3,
               packing * 1e3);
    }
    fflush(stdout);
    sp_builder_destroy(b);
}

int main(int argc, char **argv)
{
    sp_set_threads(argc > 1 ? atoi(argv[1]) : 0);
    sp_dtype dtype = argc > 2 && argv[2][0] == 'f' ? SP_F32 : SP_BF16;
    sp_cpu_backend();
    printf("| layer, %s |", sp_dtype_name(dtype));
    for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++)
        printf(" %s |", sp_convolution_form_name(form));
    printf("\n");
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (argc > 3 && !strstr(rows[r].name, argv[3])) continue;
        printf("| %s |", rows[r].name);
        for (int form = 0; form < SP_CONVOLUTION_FORM_COUNT; form++)
            measure(r, dtype, form);
        printf("\n");
    }
    return 0;
}
