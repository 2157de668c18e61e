/* What the programs of this folder share: a kernel timed on random data. */
#ifndef SPLAM_BENCH_TIMING_H
#define SPLAM_BENCH_TIMING_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "backend/cpu/cpu.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/random.h"
#include "ops/ops.h"

static inline void *must(void *pointer)
{
    if (pointer) return pointer;
    fprintf(stderr, "%s\n", sp_error_message());
    exit(1);
}

/* Seconds of this thread where one thread is measured, which other work does not disturb as much as
 * it does the wall clock; else of the wall. */
static inline double clock_seconds(void)
{
    struct timespec t;
    if (sp_threads() != 1 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return sp_now();
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void *random_data(const sp_value *v)
{
    size_t count = (size_t)sp_shape_count(v->shape);
    float *numbers = must(sp_alloc(count * sizeof *numbers));
    void *data = must(sp_alloc(sp_value_bytes(v)));
    sp_random_normal((sp_random_key){.seed = 1}, numbers, count);
    sp_convert_elements(data, v->dtype, numbers, SP_F32, (int64_t)count);
    sp_free(numbers);
    return data;
}

/* An input as the kernel takes it: random, and packed if it asks for that. */
static inline void *input_data(const sp_value *value, const sp_packing *packing)
{
    void *data = random_data(value);
    if (packing->bytes == 0) return data;
    void *packed = must(sp_alloc(packing->bytes)), *room = must(sp_alloc(packing->scratch));
    packing->pack(packing->state, data, packed, room);
    sp_free(room);
    sp_free(data);
    return packed;
}

/* Seconds of the best of many runs in `budget` seconds; packing apart. */
static inline double best_seconds(sp_device *device, const sp_node *node, double budget)
{
    sp_kernel kernel;
    if (device->prepare(device, node, &kernel) != SP_OK) must(NULL);
    void *in[SP_MAX_INPUTS] = {0}, *out[SP_MAX_OUTPUTS] = {0},
         *scratch = must(sp_alloc(kernel.scratch));
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i]) in[i] = input_data(node->in[i], &kernel.packing[i]);
    for (int i = 0; i < node->outputs; i++)
        out[i] = must(sp_alloc(sp_value_bytes(node->out[i])));
    double best = INFINITY, begin = clock_seconds();
    for (int run = 0; run < 5 || clock_seconds() - begin < budget; run++) {
        double start = clock_seconds();
        kernel.run(kernel.state, node, in, out, scratch);
        best = fmin(best, clock_seconds() - start);
    }
    if (kernel.destroy) kernel.destroy(kernel.state);
    for (int i = 0; i < node->inputs; i++)
        sp_free(in[i]);
    for (int i = 0; i < node->outputs; i++)
        sp_free(out[i]);
    sp_free(scratch);
    return best;
}

#endif
