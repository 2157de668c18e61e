/* Kernels of each instruction set against the reference kernels: a case builds a node, and is checked on all sets. */
#ifndef SP_TESTS_VECTOR_SUPPORT_H
#define SP_TESTS_VECTOR_SUPPORT_H
#include <math.h>
#include "support.h"
#include "backend/cpu/kernel_table.h"
#include "base/parallel.h"
#include "base/random.h"
#include "graph/passes.h"
typedef struct {
    sp_isa isa;
    const sp_cpu_kernel *kernels;
} kernel_set;

static const kernel_set sets[] = {
    {SP_ISA_BASELINE, sp_cpu_vector_baseline},
    {SP_ISA_AVX2, sp_cpu_vector_avx2},
    {SP_ISA_AVX512, sp_cpu_vector_avx512},
    {SP_ISA_AVX512_BF16, sp_cpu_vector_avx512bf16},
};
#define SET_COUNT (int)(sizeof sets / sizeof *sets)

/* What a case builds its node from. */
typedef struct {
    sp_builder *b;
    sp_dtype dtype;
} maker;

static inline sp_value *input(maker *m, const char *name, sp_dtype dtype, sp_shape shape)
{
    return sp_input(m->b, name, dtype, shape, SP_RATE_STEP);
}
#define INPUT(name, ...) input(m, name, m->dtype, sp_shape_of(__VA_ARGS__))
#define FULL(name, ...) input(m, name, SP_F32, sp_shape_of(__VA_ARGS__))

typedef sp_value *build_function(maker *m, const int64_t *size);
/* Input data: normal numbers times `spread` plus `shift`, rounded to the dtype. */
typedef struct {
    build_function *build;
    int64_t size[8];
    float spread, shift; /* spread 0: 1 */
    /* Relative max error allowed in f32. Sums of a few hundred terms of either sign keep about
     * 1e-6; 1e-5 leaves room for the condition of a normalisation. */
    double tolerance;
} test_case;

/* bf16 results may differ by one step of rounding, 2^-7 of the largest at most. */
#define BF16_TOLERANCE (1.0 / 128)

#define GUARD 64
typedef struct {
    sp_builder *b;
    const sp_node *node;
    void *in[SP_MAX_INPUTS], *out[SP_MAX_OUTPUTS], *expected[SP_MAX_OUTPUTS];
} fixture;

static inline void fill_input(const sp_value *v, void *data, const test_case *c, int index)
{
    size_t count = (size_t)sp_shape_count(v->shape);
    float *numbers = sp_alloc(count * sizeof *numbers);
    assert_non_null(numbers);
    sp_random_normal((sp_random_key){.seed = 3, .sample = (uint64_t)index}, numbers, count);
    for (size_t i = 0; i < count; i++) {
        bool integer = v->dtype == SP_I32 || v->dtype == SP_I64;
        numbers[i] =
            integer ? 5 * numbers[i] : numbers[i] * (c->spread != 0 ? c->spread : 1) + c->shift;
    }
    sp_convert_elements(data, v->dtype, numbers, SP_F32, (int64_t)count);
    sp_free(numbers);
}

/* An input that is a result itself, of other inputs of the node. */
static inline void compute_input(const fixture *f, int index)
{
    const sp_value *value = f->node->in[index];
    const sp_node *producer = value->producer;
    void *in[SP_MAX_INPUTS] = {0}, *out[SP_MAX_OUTPUTS] = {0};
    for (int i = 0; i < producer->inputs; i++)
        for (int k = 0; k < index; k++)
            if (f->node->in[k] == producer->in[i]) in[i] = f->in[k];
    for (int i = 0; i < producer->outputs; i++)
        out[i] = i == value->output_index ? f->in[index] : sp_alloc(sp_value_bytes(producer->out[i]));
    producer->op->reference(producer, (const void *const *)in, out);
    for (int i = 0; i < producer->outputs; i++)
        if (i != value->output_index) sp_free(out[i]);
}

static inline void fixture_make(fixture *f, const test_case *c, sp_dtype dtype)
{
    *f = (fixture){0};
    assert_ok(sp_builder_create(&f->b));
    maker m = {f->b, dtype};
    sp_value *value = c->build(&m, c->size);
    if (!value) fail_msg("%s", sp_error_message());
    f->node = value->producer;
    for (int i = 0; i < f->node->inputs; i++) {
        if (!f->node->in[i]) continue;
        f->in[i] = sp_alloc(sp_value_bytes(f->node->in[i]));
        assert_non_null(f->in[i]);
        if (f->node->in[i]->producer)
            compute_input(f, i);
        else
            fill_input(f->node->in[i], f->in[i], c, i);
    }
    for (int i = 0; i < f->node->outputs; i++) {
        f->out[i] = sp_alloc(sp_value_bytes(f->node->out[i]) + GUARD);
        f->expected[i] = sp_alloc(sp_value_bytes(f->node->out[i]));
        assert_non_null(f->out[i]);
        assert_non_null(f->expected[i]);
    }
}

static inline void fixture_free(fixture *f)
{
    for (int i = 0; i < SP_MAX_INPUTS; i++)
        sp_free(f->in[i]);
    for (int i = 0; i < SP_MAX_OUTPUTS; i++) {
        sp_free(f->out[i]);
        sp_free(f->expected[i]);
    }
    sp_builder_destroy(f->b);
}

static inline const sp_cpu_kernel *find(const kernel_set *set, const sp_node *node)
{
    for (const sp_cpu_kernel *k = set->kernels; k->op; k++)
        if (k->op == node->op && (!k->supports || k->supports(node))) return k;
    fail_msg("no kernel for %s in %s", node->op->name, sp_isa_name(set->isa));
    return NULL;
}

/* Runs the set's kernel; scratch and outputs hold NaN before. */
static inline void run_kernel(const fixture *f, const kernel_set *set, int threads)
{
    sp_set_threads(threads);
    sp_kernel kernel = {0};
    assert_ok(find(set, f->node)->prepare(f->node, &kernel));
    char *scratch = sp_alloc(kernel.scratch + GUARD);
    assert_non_null(scratch);
    memset(scratch, 0xff, kernel.scratch + GUARD);
    for (int i = 0; i < f->node->outputs; i++)
        memset(f->out[i], 0xff, sp_value_bytes(f->node->out[i]) + GUARD);
    kernel.run(kernel.state, f->node, f->in, f->out, scratch);
    for (int g = 0; g < GUARD; g++) {
        assert_int_equal((unsigned char)scratch[kernel.scratch + (size_t)g], 0xff);
        for (int i = 0; i < f->node->outputs; i++)
            assert_int_equal(((unsigned char *)f->out[i])[sp_value_bytes(f->node->out[i]) + (size_t)g],
                             0xff);
    }
    if (kernel.destroy) kernel.destroy(kernel.state);
    sp_free(scratch);
    sp_set_threads(0);
}

static inline double relative_error(const void *a, const void *b, const sp_value *v)
{
    double difference = 0, largest = 1e-30;
    for (int64_t i = 0; i < sp_shape_count(v->shape); i++) {
        double x = sp_load(a, v->dtype, i), y = sp_load(b, v->dtype, i);
        if (isnan(x) != isnan(y)) return INFINITY;
        if (x == y || isnan(x)) continue;
        difference = fmax(difference, fabs(x - y));
        largest = fmax(largest, fabs(y));
    }
    return difference / largest;
}

static inline void check_set(fixture *f, const kernel_set *set, const test_case *c, int index)
{
    void *first[SP_MAX_OUTPUTS] = {0};
    run_kernel(f, set, 1);
    for (int i = 0; i < f->node->outputs; i++) {
        const sp_value *v = f->node->out[i];
        bool lowered = f->node->in[0]->dtype == SP_BF16 || v->dtype == SP_BF16;
        double error = relative_error(f->out[i], f->expected[i], v),
               allowed = lowered ? BF16_TOLERANCE : c->tolerance;
        if (!(error <= allowed))
            fail_msg("case %d of %s, %s, %s, output %d: relative max error %g, allowed %g", index,
                     f->node->op->name, sp_isa_name(set->isa), sp_dtype_name(v->dtype), i, error,
                     allowed);
        first[i] = sp_alloc(sp_value_bytes(v));
        assert_non_null(first[i]);
        memcpy(first[i], f->out[i], sp_value_bytes(v));
    }
    /* Few threads, and more than there are samples, heads or parts: then work is cut otherwise. */
    static const int threads[] = {3, 16};
    for (int t = 0; t < 2; t++) {
        run_kernel(f, set, threads[t]);
        for (int i = 0; i < f->node->outputs; i++)
            if (memcmp(first[i], f->out[i], sp_value_bytes(f->node->out[i])) != 0)
                fail_msg("case %d of %s, %s: output %d with %d threads is not that with one", index,
                         f->node->op->name, sp_isa_name(set->isa), i, threads[t]);
    }
    for (int i = 0; i < f->node->outputs; i++)
        sp_free(first[i]);
}

static inline void check_cases(const test_case *cases, int count)
{
    static const sp_dtype dtypes[] = {SP_F32, SP_BF16};
    for (int i = 0; i < count; i++)
        for (int d = 0; d < 2; d++) {
            fixture f;
            fixture_make(&f, &cases[i], dtypes[d]);
            f.node->op->reference(f.node, (const void *const *)f.in, f.expected);
            for (int k = 0; k < SET_COUNT; k++)
                if (sets[k].isa <= sp_cpu_isa()) check_set(&f, &sets[k], &cases[i], i);
            fixture_free(&f);
        }
}
#define CHECK(cases) check_cases(cases, (int)(sizeof(cases) / sizeof *(cases)))

#endif
