/* The optimiser's kernels, dealt out to threads. */
#include <math.h>
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/optimizer/optimizer_kernel.h"
#include "base/parallel.h"

static const sp_optimizer_loops *loops(void)
{
    switch (sp_cpu_isa()) {
    case SP_ISA_BASELINE:
        return &sp_optimizer_loops_baseline;
    case SP_ISA_AVX2:
        return &sp_optimizer_loops_avx2;
    default:
        return &sp_optimizer_loops_avx512;
    }
}

typedef struct {
    sp_adamw_scalars scalars;
    const sp_adamw_tensor *tensor;
} update;

/* Pieces stay in the first cache between the weight's loop and its average's. */
enum { BLOCK = SP_DYNAMIC8_BLOCK, PIECE = 4 * BLOCK };

/* Whole blocks of moments; the last may be shorter. */
static void update_range(void *context, int64_t begin, int64_t end)
{
    const update *u = context;
    const sp_adamw_tensor *tensor = u->tensor;
    int64_t last = end * BLOCK < tensor->count ? end * BLOCK : tensor->count;
    for (int64_t i = begin * BLOCK; i < last; i += PIECE)
        (tensor->first.codes ? loops()->adamw8bit : loops()->adamw)(
            &u->scalars, tensor, i, i + PIECE < last ? i + PIECE : last);
}

static void adamw(sp_device *device, const sp_adamw_options *o, const sp_adamw_tensor *tensor)
{
    (void)device;
    update u = {.tensor = tensor};
    u.scalars = (sp_adamw_scalars){
        .gradient_scale = (float)o->gradient_scale,
        .decay = (float)(1 - o->learning_rate * o->weight_decay),
        .one_minus_beta1 = (float)(1 - o->beta1),
        .beta2 = (float)o->beta2,
        .one_minus_beta2 = (float)(1 - o->beta2),
        .step_size = (float)(o->learning_rate / (1 - pow(o->beta1, (double)o->step))),
        .correction = (float)sqrt(1 - pow(o->beta2, (double)o->step)),
        .epsilon = (float)o->epsilon,
        .ema_decay = (float)o->ema_decay,
        .one_minus_ema_decay = (float)(1 - o->ema_decay),
    };
    sp_parallel_for((tensor->count + BLOCK - 1) / BLOCK, 32, update_range, &u);
}

typedef struct {
    sp_adamw_scalars scalars;
    const float *weight;
    float *average;
    int64_t count;
} averaging;

static void average_range(void *context, int64_t begin, int64_t end)
{
    const averaging *a = context;
    int64_t first = begin * BLOCK, last = end * BLOCK < a->count ? end * BLOCK : a->count;
    loops()->average(&a->scalars, a->weight + first, a->average + first, last - first);
}

static void average(sp_device *device, double decay, const float *weight, float *average, int64_t count)
{
    (void)device;
    averaging a = {.scalars = {.ema_decay = (float)decay, .one_minus_ema_decay = (float)(1 - decay)},
                   .weight = weight,
                   .average = average,
                   .count = count};
    sp_parallel_for((count + BLOCK - 1) / BLOCK, 32, average_range, &a);
}

#define MAX_CHUNKS 256
typedef struct {
    const float *x;
    int64_t count, chunk;
    double sums[MAX_CHUNKS];
} squares;

static void squares_range(void *context, int64_t begin, int64_t end)
{
    squares *s = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i * s->chunk, left = s->count - first;
        s->sums[i] = loops()->sum_of_squares(s->x + first, left < s->chunk ? left : s->chunk);
    }
}

/* Chunks follow from the count alone, and are added in order. */
static void sum_of_squares(sp_device *device, const float *x, int64_t count, double *sum)
{
    (void)device;
    if (count <= 0) return;
    squares s = {.x = x, .count = count};
    s.chunk = (count - 1) / MAX_CHUNKS + 1;
    s.chunk = (s.chunk + 4095) / 4096 * 4096;
    int64_t chunks = (count - 1) / s.chunk + 1;
    sp_parallel_for(chunks, 1, squares_range, &s);
    double all = 0;
    for (int64_t i = 0; i < chunks; i++)
        all += s.sums[i];
    *sum += all;
}

const sp_optimizer_kernels sp_cpu_optimizer = {adamw, sum_of_squares, average};
