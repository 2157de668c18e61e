/* Linear layers by the type in which their weights are held, milliseconds of the best run: F16, BF16 and Q8_0, widened
 * near the core that multiplies. One line a layer, as a row of the table in docs/kernels.md. Usage: held_weights
 * [THREADS [f32|bf16]] */
#include <string.h>
#include "timing.h"

static const struct {
    const char *what;
    int64_t rows, inputs, outputs;
} layers[] = {
    {"SD3.5 Medium at 512, feed-forward", 1178, 1536, 6144}, {"SD3.5 Medium at 512, to_out", 1178, 1536, 1536},
    {"T5-XXL, feed-forward", 77, 4096, 10240},               {"SD1.5 at 256, to_q, 320", 1024, 320, 320},
    {"SD1.5 at 256, feed-forward, 640", 256, 640, 5120},     {"SD1.5 at 256, to_q, 1280", 64, 1280, 1280},
    {"SD1.5 at 256, feed-forward, 1280", 16, 1280, 10240},
};

int main(int argc, char **argv)
{
    static const sp_dtype types[] = {SP_F16, SP_BF16, SP_Q8_0};
    const sp_dtype dtype = argc > 2 && strcmp(argv[2], "bf16") == 0 ? SP_BF16 : SP_F32;
    sp_set_threads(argc > 1 ? atoi(argv[1]) : 0);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        double seconds[3];
        for (int k = 0; k < 3; k++) {
            sp_builder *b;
            if (sp_builder_create(&b) != SP_OK) must(NULL);
            sp_value *x = sp_input(b, "x", dtype, sp_shape_of(layers[i].rows, layers[i].inputs), SP_RATE_STEP);
            sp_value *w =
                sp_input(b, "w", types[k], sp_shape_of(layers[i].outputs, layers[i].inputs), SP_RATE_STEP);
            const sp_value *y = must(sp_linear(b, x, w, NULL, NULL));
            seconds[k] = best_seconds(sp_cpu_device(), y->producer, 1);
            sp_builder_destroy(b);
        }
        printf("| %-34s | %lld x %lld x %lld | %.2f | %.2f | %.2f | %.2f |\n", layers[i].what,
               (long long)layers[i].rows, (long long)layers[i].inputs, (long long)layers[i].outputs, seconds[0] * 1e3,
               seconds[1] * 1e3, seconds[2] * 1e3, seconds[0] / seconds[2]);
        fflush(stdout);
    }
    return 0;
}
