/* Speed of the optimiser on a part of a model: bytes moved, their share of what memory gives, and
 * the time of all 859.5 M parameters of an SD1.5 UNet. Usage: optimizer [THREADS [MILLIONS]] */
#include <string.h>
#include "graph/optimizer.h"
#include "timing.h"

static const double sd15_parameters = 859.5e6;

typedef struct {
    sp_adamw_tensor tensor;
    sp_adamw_options options;
} work;

static void step(work *w)
{
    sp_device *cpu = sp_cpu_device();
    cpu->optimizer->adamw(cpu, &w->options, &w->tensor);
}

static void norm(work *w)
{
    sp_device *cpu = sp_cpu_device();
    double sum = 0;
    cpu->optimizer->sum_of_squares(cpu, w->tensor.gradient, w->tensor.count, &sum);
    w->options.step += sum < 0;
}

static void report(const char *name, void (*run)(work *w), work *w, double bytes)
{
    sp_peak peak;
    sp_cpu_device()->measure_peak(sp_cpu_device(), &peak);
    double best = INFINITY, count = (double)w->tensor.count;
    for (int i = 0; i < 8; i++) {
        double start = clock_seconds();
        run(w);
        best = fmin(best, clock_seconds() - start);
    }
    printf(
        "%-10s %5.1f bytes an element, %5.2f ns, %5.1f GB/s, %3.0f %% of memory's; SD1.5 %.2f s\n",
        name, bytes, best / count * 1e9, bytes * count / best * 1e-9,
        100 * bytes * count / best / peak.bytes, best / count * sd15_parameters);
}

static float *values(int64_t count, uint64_t seed)
{
    float *x = must(sp_alloc((size_t)count * sizeof *x));
    if (seed)
        sp_random_normal((sp_random_key){.seed = seed}, x, (size_t)count);
    else
        memset(x, 0, (size_t)count * sizeof *x);
    return x;
}

static uint8_t *codes(int64_t count, uint8_t zero)
{
    uint8_t *c = must(sp_alloc((size_t)count));
    memset(c, zero, (size_t)count);
    return c;
}

int main(int argc, char **argv)
{
    int64_t count = (argc > 2 ? atoll(argv[2]) : 64) << 20;
    sp_set_threads(argc > 1 ? atoi(argv[1]) : 1);
    work w = {.options = {8e-6, 0.9, 0.999, 1e-8, 0, 0.5, 0.95, 10}};
    w.tensor = (sp_adamw_tensor){.count = count,
                                 .weight = values(count, 1),
                                 .ema = values(count, 1),
                                 .gradient = values(count, 2)};
    report("norm", norm, &w, 4);
    /* Gradient; weight, average and both moments there and back. */
    w.tensor.first.values = values(count, 0);
    w.tensor.second.values = values(count, 0);
    report("adamw", step, &w, 4 + 8 * 4);
    sp_free(w.tensor.first.values);
    sp_free(w.tensor.second.values);
    w.tensor.first = (sp_moment){.codes = codes(count, SP_DYNAMIC8_ZERO),
                                 .scales = values(sp_dtype_scales(SP_DYNAMIC8_SIGNED, count), 0)};
    w.tensor.second =
        (sp_moment){.codes = codes(count, 0), .scales = values(sp_dtype_scales(SP_DYNAMIC8_SIGNED, count), 0)};
    report("adamw8bit", step, &w, 4 + 8 * 2 + 2 * 2 * (1 + 4.0 / SP_DYNAMIC8_BLOCK));
    return 0;
}
