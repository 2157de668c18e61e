/* A node with random inputs, and kernels run on memory that tells whether it was overrun. */
#ifndef SP_TESTS_KERNEL_FIXTURE_H
#define SP_TESTS_KERNEL_FIXTURE_H
#include "support.h"
#include "base/random.h"
#include "graph/device.h"
#include "ops/ops.h"

/* Memory that tells whether it was written past its ends. */
#define FENCE 128
typedef struct {
    unsigned char *block;
    size_t bytes;
} fenced;

static inline void *fenced_make(fenced *f, size_t bytes, int fill)
{
    *f = (fenced){sp_alloc(bytes + 2 * FENCE), bytes};
    assert_non_null(f->block);
    memset(f->block, 0xa5, bytes + 2 * FENCE);
    memset(f->block + FENCE, fill, bytes);
    return f->block + FENCE;
}

static inline void fenced_free(fenced *f)
{
    for (int i = 0; i < FENCE; i++) {
        assert_int_equal(f->block[i], 0xa5);
        assert_int_equal(f->block[FENCE + f->bytes + (size_t)i], 0xa5);
    }
    sp_free(f->block);
}

/* A node with random inputs and the reference's output. */
typedef struct {
    const sp_node *node;
    void *in[SP_MAX_INPUTS];
    void *expected;
} fixture;

static inline void fixture_make(fixture *f, const sp_value *value, bool use_reference)
{
    assert_non_null(value);
    *f = (fixture){.node = value->producer};
    for (int i = 0; i < f->node->inputs; i++) {
        const sp_value *v = f->node->in[i];
        if (!v) continue;
        size_t count = (size_t)sp_shape_count(v->shape);
        float *numbers = sp_alloc(count * sizeof *numbers);
        f->in[i] = sp_alloc(sp_value_bytes(v));
        assert_non_null(numbers);
        assert_non_null(f->in[i]);
        sp_random_normal((sp_random_key){.seed = 7, .sample = (uint64_t)i}, numbers, count);
        sp_convert_elements(f->in[i], v->dtype, numbers, SP_F32, (int64_t)count);
        sp_free(numbers);
    }
    f->expected = sp_alloc(sp_value_bytes(value));
    assert_non_null(f->expected);
    if (use_reference) f->node->op->reference(f->node, (const void *const *)f->in, &f->expected);
}

static inline void fixture_free(fixture *f)
{
    for (int i = 0; i < SP_MAX_INPUTS; i++)
        sp_free(f->in[i]);
    sp_free(f->expected);
}

/* Runs the prepared kernel on fresh memory: outputs and scratch start as NaN. The caller frees
 * *out. */
static inline void run_kernel(const sp_kernel *kernel, const fixture *f, fenced *out)
{
    fenced scratch, packed[SP_MAX_INPUTS] = {0};
    void *in[SP_MAX_INPUTS];
    for (int i = 0; i < SP_MAX_INPUTS; i++) {
        in[i] = f->in[i];
        const sp_packing *p = &kernel->packing[i];
        if (p->bytes == 0) continue;
        in[i] = fenced_make(&packed[i], p->bytes, 0xff);
        fenced room;
        p->pack(p->state, f->in[i], in[i], fenced_make(&room, p->scratch, 0xff));
        fenced_free(&room);
    }
    void *results[SP_MAX_OUTPUTS] = {fenced_make(out, sp_value_bytes(f->node->out[0]), 0xff)};
    kernel->run(kernel->state, f->node, in, results, fenced_make(&scratch, kernel->scratch, 0xff));
    fenced_free(&scratch);
    for (int i = 0; i < SP_MAX_INPUTS; i++)
        if (packed[i].block) fenced_free(&packed[i]);
}

/* A convolution to be tested, and its node on named inputs. sums: what is added to it, in bits. */
typedef struct {
    int64_t n, h, w, c, m;
    int kernel;
    sp_conv2d_options o;
} convolution;
enum { WITH_BIAS = 1, WITH_PER_CHANNEL = 2, WITH_RESIDUAL = 4, WITH_ALL = 7 };

static inline sp_value *input(sp_builder *b, const char *name, sp_dtype dtype, sp_shape shape)
{
    return sp_input(b, name, dtype, shape, SP_RATE_STEP);
}

static inline sp_value *convolve(sp_builder *b, const convolution *c, sp_dtype dtype,
                                 sp_dtype weight, int sums)
{
    int times = c->o.doubled ? 2 : 1;
    int64_t ho = (times * c->h + c->o.pad_top + c->o.pad_bottom - c->kernel) / c->o.stride + 1;
    int64_t wo = (times * c->w + c->o.pad_left + c->o.pad_right - c->kernel) / c->o.stride + 1;
    sp_shape channels = sp_shape_of(c->m), samples = sp_shape_of(c->n, c->m);
    return sp_conv2d(
        b, input(b, "x", dtype, sp_shape_of(c->n, c->h, c->w, c->c)),
        input(b, "weight", weight, sp_shape_of(c->m, c->c, c->kernel, c->kernel)),
        sums & WITH_BIAS ? input(b, "bias", SP_F32, channels) : NULL,
        sums & WITH_PER_CHANNEL ? input(b, "t", dtype, samples) : NULL,
        sums & WITH_RESIDUAL ? input(b, "r", dtype, sp_shape_of(c->n, ho, wo, c->m)) : NULL, c->o);
}

#endif
