/* Speed of the packing of weights, as a training step in bf16 does it, on layers of Stable
 * Diffusion: one line a layer, from f32 and for products of bf16, forward pass and data gradient.
 * GB/s count what is read and what is written once. The last column is a sum of what was packed, to
 * compare two builds. Usage: packing [THREADS [OPERATOR [f32|bf16|f16]]], the last the weights'
 * type as stored */
#include "timing.h"

typedef struct {
    const char *name;
    int64_t side, C, M, kernel; /* kernel 0: a linear layer of side * side rows */
    int stride;
    bool doubled;
} layer;

static const layer layers[] = {
    {"conv2d, 64x64, 320 -> 320, 3x3", 64, 320, 320, 3, 1, false},
    {"conv2d, 64x64, 960 -> 320, 3x3", 64, 960, 320, 3, 1, false},
    {"conv2d, 32x32, 640 -> 640, 3x3", 32, 640, 640, 3, 1, false},
    {"conv2d, 16x16, 1280 -> 1280, 3x3", 16, 1280, 1280, 3, 1, false},
    {"conv2d, 16x16, 2560 -> 1280, 3x3", 16, 2560, 1280, 3, 1, false},
    {"conv2d, 16x16 doubled, 1280 -> 1280, 3x3", 16, 1280, 1280, 3, 1, true},
    {"conv2d, 8x8, 1280 -> 1280, 3x3", 8, 1280, 1280, 3, 1, false},
    {"conv2d, 8x8, 2560 -> 1280, 3x3", 8, 2560, 1280, 3, 1, false},
    {"conv2d, 16x16, 1280 -> 1280, 3x3 stride 2", 16, 1280, 1280, 3, 2, false},
    {"conv2d, 64x64, 4 -> 320, 3x3", 64, 4, 320, 3, 1, false},
    {"conv2d, 64x64, 320 -> 4, 3x3", 64, 320, 4, 3, 1, false},
    {"conv2d, 64x64, 320 -> 320, 1x1", 64, 320, 320, 1, 1, false},
    {"conv2d, 32x32, 640 -> 640, 1x1", 32, 640, 640, 1, 1, false},
    {"conv2d, 16x16, 1280 -> 1280, 1x1", 16, 1280, 1280, 1, 1, false},
    {"conv2d, 16x16, 2560 -> 1280, 1x1", 16, 2560, 1280, 1, 1, false},
    {"conv2d, 16x16, 1280 -> 10240, 1x1", 16, 1280, 10240, 1, 1, false},
    {"conv2d, 16x16, 5120 -> 1280, 1x1", 16, 5120, 1280, 1, 1, false},
    {"linear, 4096 rows, 320 -> 320", 64, 320, 320, 0, 0, false},
    {"linear, 256 rows, 1280 -> 1280", 16, 1280, 1280, 0, 0, false},
    {"linear, 256 rows, 1280 -> 10240", 16, 1280, 10240, 0, 0, false},
    {"linear, 256 rows, 5120 -> 1280", 16, 5120, 1280, 0, 0, false},
};

static sp_value *make(sp_builder *b, const layer *l, sp_dtype dtype, sp_dtype stored, bool gradient)
{
    int64_t s = l->side, k = l->kernel, in = gradient ? l->M : l->C;
    if (k == 0) {
        sp_value *x = sp_input(b, "x", dtype, sp_shape_of(s * s, in), SP_RATE_STEP),
                 *w = sp_input(b, "w", stored, sp_shape_of(l->M, l->C), SP_RATE_STEP);
        return gradient ? sp_linear_transposed(b, x, w) : sp_linear(b, x, w, NULL, NULL);
    }
    int pad = (int)k / 2, after = l->stride == 2 ? 1 : pad;
    sp_conv2d_options o = {l->stride, pad, pad, after, after, l->doubled};
    sp_value *x = sp_input(b, "x", dtype,
                           sp_shape_of(1, s / l->stride * (gradient ? 1 : l->stride),
                                       s / l->stride * (gradient ? 1 : l->stride), in),
                           SP_RATE_STEP),
             *w = sp_input(b, "w", stored, sp_shape_of(l->M, l->C, k, k), SP_RATE_STEP);
    return gradient ? sp_conv2d_data_gradient(b, x, w, s, s, o)
                    : sp_conv2d(b, x, w, NULL, NULL, NULL, o);
}

static uint64_t sum_of(const uint32_t *words, size_t count)
{
    uint64_t sum = 1;
    for (size_t i = 0; i < count; i++)
        sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 32;
}

static void measure(const sp_node *node)
{
    sp_kernel kernel;
    if (sp_cpu_device()->prepare(sp_cpu_device(), node, &kernel) != SP_OK) must(NULL);
    const sp_packing *p = &kernel.packing[1];
    if (p->bytes == 0) {
        printf(" none |");
    } else {
        void *data = random_data(node->in[1]), *packed = must(sp_alloc_zero(p->bytes)),
             *room = must(sp_alloc(p->scratch));
        double best = INFINITY, begin = clock_seconds();
        for (int run = 0; run < 3 || clock_seconds() - begin < 0.25; run++) {
            double start = clock_seconds();
            p->pack(p->state, data, packed, room);
            best = fmin(best, clock_seconds() - start);
        }
        double bytes = (double)sp_value_bytes(node->in[1]) + (double)p->bytes;
        printf(" %s | %.0f us | %.1f GB/s | %08x |", kernel.name, best * 1e6, bytes / best * 1e-9,
               (unsigned)sum_of(packed, p->bytes / 4));
        sp_free(data);
        sp_free(packed);
        sp_free(room);
    }
    if (kernel.destroy) kernel.destroy(kernel.state);
}

int main(int argc, char **argv)
{
    sp_set_threads(argc > 1 ? atoi(argv[1]) : 0);
    const char *prefix = argc > 2 ? argv[2] : "", *type = argc > 3 ? argv[3] : "f32";
    sp_dtype stored = strcmp(type, "bf16") == 0  ? SP_BF16
                      : strcmp(type, "f16") == 0 ? SP_F16
                                                 : SP_F32;
    sp_dtype dtype = sp_cpu_device()->preferred_dtype;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        if (strncmp(layers[i].name, prefix, strlen(prefix)) != 0) continue;
        printf("| %s |", layers[i].name);
        for (int gradient = 0; gradient < 2 - layers[i].doubled; gradient++) {
            sp_builder *b;
            if (sp_builder_create(&b) != SP_OK) must(NULL);
            const sp_value *y = must(make(b, &layers[i], dtype, stored, gradient));
            measure(y->producer);
            sp_builder_destroy(b);
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
