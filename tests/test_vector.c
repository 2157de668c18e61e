/* Our own CPU kernels, each instruction set of this processor in turn, against the reference
 * kernels: shapes that no vector divides, numbers that cancel, thread counts. tests/test_ops.c runs
 * the general list of cases on the best set alone. */
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

static sp_value *input(maker *m, const char *name, sp_dtype dtype, sp_shape shape)
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

static size_t bytes_of(const sp_value *v)
{
    return (size_t)sp_shape_count(v->shape) * sp_dtype_size(v->dtype);
}

static void fill_input(const sp_value *v, void *data, const test_case *c, int index)
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
static void compute_input(const fixture *f, int index)
{
    const sp_value *value = f->node->in[index];
    const sp_node *producer = value->producer;
    void *in[SP_MAX_INPUTS] = {0}, *out[SP_MAX_OUTPUTS] = {0};
    for (int i = 0; i < producer->inputs; i++)
        for (int k = 0; k < index; k++)
            if (f->node->in[k] == producer->in[i]) in[i] = f->in[k];
    for (int i = 0; i < producer->outputs; i++)
        out[i] = i == value->output_index ? f->in[index] : sp_alloc(bytes_of(producer->out[i]));
    producer->op->reference(producer, (const void *const *)in, out);
    for (int i = 0; i < producer->outputs; i++)
        if (i != value->output_index) sp_free(out[i]);
}

static void fixture_make(fixture *f, const test_case *c, sp_dtype dtype)
{
    *f = (fixture){0};
    assert_ok(sp_builder_create(&f->b));
    maker m = {f->b, dtype};
    sp_value *value = c->build(&m, c->size);
    if (!value) fail_msg("%s", sp_error_message());
    f->node = value->producer;
    for (int i = 0; i < f->node->inputs; i++) {
        if (!f->node->in[i]) continue;
        f->in[i] = sp_alloc(bytes_of(f->node->in[i]));
        assert_non_null(f->in[i]);
        if (f->node->in[i]->producer)
            compute_input(f, i);
        else
            fill_input(f->node->in[i], f->in[i], c, i);
    }
    for (int i = 0; i < f->node->outputs; i++) {
        f->out[i] = sp_alloc(bytes_of(f->node->out[i]) + GUARD);
        f->expected[i] = sp_alloc(bytes_of(f->node->out[i]));
        assert_non_null(f->out[i]);
        assert_non_null(f->expected[i]);
    }
}

static void fixture_free(fixture *f)
{
    for (int i = 0; i < SP_MAX_INPUTS; i++)
        sp_free(f->in[i]);
    for (int i = 0; i < SP_MAX_OUTPUTS; i++) {
        sp_free(f->out[i]);
        sp_free(f->expected[i]);
    }
    sp_builder_destroy(f->b);
}

static const sp_cpu_kernel *find(const kernel_set *set, const sp_node *node)
{
    for (const sp_cpu_kernel *k = set->kernels; k->op; k++)
        if (k->op == node->op && (!k->supports || k->supports(node))) return k;
    fail_msg("no kernel for %s in %s", node->op->name, sp_isa_name(set->isa));
    return NULL;
}

/* Runs the set's kernel; scratch and outputs hold NaN before. */
static void run_kernel(const fixture *f, const kernel_set *set, int threads)
{
    sp_set_threads(threads);
    sp_kernel kernel = {0};
    assert_ok(find(set, f->node)->prepare(f->node, &kernel));
    char *scratch = sp_alloc(kernel.scratch + GUARD);
    assert_non_null(scratch);
    memset(scratch, 0xff, kernel.scratch + GUARD);
    for (int i = 0; i < f->node->outputs; i++)
        memset(f->out[i], 0xff, bytes_of(f->node->out[i]) + GUARD);
    kernel.run(kernel.state, f->node, f->in, f->out, scratch);
    for (int g = 0; g < GUARD; g++) {
        assert_int_equal((unsigned char)scratch[kernel.scratch + (size_t)g], 0xff);
        for (int i = 0; i < f->node->outputs; i++)
            assert_int_equal(((unsigned char *)f->out[i])[bytes_of(f->node->out[i]) + (size_t)g],
                             0xff);
    }
    if (kernel.destroy) kernel.destroy(kernel.state);
    sp_free(scratch);
    sp_set_threads(0);
}

static double relative_error(const void *a, const void *b, const sp_value *v)
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

static void check_set(fixture *f, const kernel_set *set, const test_case *c, int index)
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
        first[i] = sp_alloc(bytes_of(v));
        assert_non_null(first[i]);
        memcpy(first[i], f->out[i], bytes_of(v));
    }
    run_kernel(f, set, 3);
    for (int i = 0; i < f->node->outputs; i++) {
        if (memcmp(first[i], f->out[i], bytes_of(f->node->out[i])) != 0)
            fail_msg("case %d of %s, %s: output %d depends on the number of threads", index,
                     f->node->op->name, sp_isa_name(set->isa), i);
        sp_free(first[i]);
    }
}

static void check_cases(const test_case *cases, int count)
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

static sp_value *build_attention(maker *m, const int64_t *s)
{
    sp_value *q = INPUT("q", s[0], s[1], s[3] * s[4]), *k = INPUT("k", s[0], s[2], s[3] * s[4]);
    sp_value *v = INPUT("v", s[0], s[2], s[3] * s[4]);
    return sp_attention(m->b, q, k, v,
                        (sp_attention_options){(int)s[3], 1 / sqrt((double)s[4]), s[5]});
}

/* samples, queries, keys, heads, head dimension, causal */
static const test_case attention_cases[] = {
    {build_attention, {3, 64, 64, 2, 32, 0}, .tolerance = 1e-5},
    {build_attention, {2, 16, 16, 4, 48, 0}, .tolerance = 1e-5},
    {build_attention, {2, 64, 16, 2, 16, 0}, .tolerance = 1e-5},
    {build_attention, {1, 70, 77, 2, 40, 0}, .tolerance = 1e-5},
    {build_attention, {1, 77, 77, 2, 64, 1}, .tolerance = 1e-5},
    {build_attention, {1, 130, 260, 1, 40, 0}, .tolerance = 1e-5},
    {build_attention, {2, 200, 200, 1, 80, 1}, .tolerance = 1e-5},
    {build_attention, {1, 5, 3, 3, 7, 0}, .tolerance = 1e-5},
    {build_attention, {1, 9, 201, 1, 5, 1}, .tolerance = 1e-5},
    {build_attention, {1, 65, 99, 1, 160, 0}, .tolerance = 1e-5},
    {build_attention, {1, 1, 1, 1, 1, 1}, .tolerance = 1e-5},
    {build_attention, {1, 9, 11, 1, 2, 1}, .tolerance = 1e-5},
    /* Scores up to several hundred: their own rounding is multiplied by that. */
    {build_attention, {1, 40, 150, 2, 24, 0}, .spread = 6, .tolerance = 2e-4},
    /* Maxima that grow from block to block, three vectors of queries, keys that end in a panel. */
    {build_attention, {1, 100, 390, 1, 26, 0}, .spread = 5, .tolerance = 2e-4},
    {build_attention, {1, 36, 303, 1, 64, 1}, .spread = 4, .tolerance = 2e-4},
    {build_attention, {1, 150, 150, 1, 14, 1}, .tolerance = 1e-5},
};

static void test_attention(void **state)
{
    (void)state;
    CHECK(attention_cases);
}

static sp_value *build_group_norm(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0], s[1], s[2], s[3]);
    sp_value *gamma = s[6] ? FULL("gamma", s[3]) : NULL, *beta = s[6] ? FULL("beta", s[3]) : NULL;
    return sp_group_norm(m->b, x, gamma, beta, (sp_group_norm_options){(int)s[4], 1e-5, s[5]});
}

static sp_value *build_group_norm_gradient(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0], s[1], s[2], s[3]), *dy = INPUT("dy", s[0], s[1], s[2], s[3]);
    sp_value *gamma = s[6] ? FULL("gamma", s[3]) : NULL, *beta = s[6] ? FULL("beta", s[3]) : NULL;
    return sp_group_norm_gradient(m->b, x, gamma, beta, dy,
                                  (sp_group_norm_options){(int)s[4], 1e-5, s[5]});
}

/* samples, height, width, channels, groups, silu, affine */
static const test_case group_norm_cases[] = {
    {build_group_norm, {3, 8, 8, 64, 32, 1, 1}, .tolerance = 1e-5},
    {build_group_norm, {1, 33, 17, 20, 5, 0, 1}, .tolerance = 1e-5},
    {build_group_norm, {5, 4, 4, 192, 32, 1, 1}, .tolerance = 1e-5},
    {build_group_norm, {2, 40, 30, 96, 6, 1, 0}, .tolerance = 1e-5},
    {build_group_norm, {2, 1, 1, 3, 3, 0, 1}, .tolerance = 1e-5},
    {build_group_norm, {2, 3, 5, 7, 1, 1, 1}, .tolerance = 1e-5},
    /* A mean a thousand times the deviation leaves 24 - 10 bits of every difference from it. */
    {build_group_norm, {2, 32, 32, 32, 8, 0, 0}, .shift = 1000, .tolerance = 2e-4},
    {build_group_norm_gradient, {3, 8, 8, 64, 32, 1, 1}, .tolerance = 1e-5},
    {build_group_norm_gradient, {1, 33, 17, 20, 5, 0, 1}, .tolerance = 1e-5},
    {build_group_norm_gradient, {2, 40, 30, 96, 6, 1, 0}, .tolerance = 1e-5},
    {build_group_norm_gradient, {5, 4, 4, 192, 32, 1, 1}, .tolerance = 1e-5},
};

static void test_group_norm(void **state)
{
    (void)state;
    CHECK(group_norm_cases);
}

static sp_value *build_layer_norm(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0], s[1]), *gamma = s[2] ? FULL("gamma", s[1]) : NULL;
    return sp_layer_norm(m->b, x, gamma, s[2] ? FULL("beta", s[1]) : NULL, 1e-5);
}

static sp_value *build_layer_norm_gradient(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0], s[1]), *gamma = s[2] ? FULL("gamma", s[1]) : NULL;
    return sp_layer_norm_gradient(m->b, x, gamma, INPUT("dy", s[0], s[1]), 1e-5);
}

/* rows, channels, affine */
static const test_case layer_norm_cases[] = {
    {build_layer_norm, {70, 128, 1}, .tolerance = 1e-5},
    {build_layer_norm, {5, 77, 0}, .tolerance = 1e-5},
    {build_layer_norm, {9, 3, 1}, .tolerance = 1e-5},
    {build_layer_norm, {9, 320, 0}, .shift = 1000, .tolerance = 2e-4},
    {build_layer_norm_gradient, {2100, 48, 1}, .tolerance = 1e-5},
    {build_layer_norm_gradient, {5, 77, 0}, .tolerance = 1e-5},
    {build_layer_norm_gradient, {33, 200, 1}, .tolerance = 1e-5},
};

static void test_layer_norm(void **state)
{
    (void)state;
    CHECK(layer_norm_cases);
}

static sp_value *build_add(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0], s[1], s[2]);
    sp_value *y = s[3] == 0   ? INPUT("y", s[0], s[1], s[2])
                  : s[3] == 1 ? INPUT("y", s[1], s[2])
                              : INPUT("y", s[2]);
    return sp_add_scaled(m->b, x, y, -0.75);
}
static sp_value *build_mul(maker *m, const int64_t *s)
{
    return sp_mul(m->b, INPUT("x", s[0]), INPUT("y", s[0]));
}
static sp_value *build_affine(maker *m, const int64_t *s)
{
    return sp_affine(m->b, INPUT("x", s[0]), 1.25, -0.5);
}
static sp_value *build_add_per_channel(maker *m, const int64_t *s)
{
    return sp_add_per_channel(m->b, INPUT("h", s[0], s[1], s[2]), INPUT("t", s[0], s[2]));
}
static sp_value *build_broadcast_middle(maker *m, const int64_t *s)
{
    return sp_broadcast_middle(m->b, INPUT("x", s[0], s[2]), sp_shape_of(s[0], s[1], s[2]));
}
static sp_value *build_sample_combine(maker *m, const int64_t *s)
{
    sp_value *terms[] = {FULL("c0", s[0]),       FULL("x0", s[0], s[1]), FULL("c1", s[0]),
                         FULL("x1", s[0], s[1]), FULL("c2", s[0]),       FULL("x2", s[0], s[1])};
    return sp_sample_combine(m->b, (int)s[2], terms);
}
static sp_value *build_fill(maker *m, const int64_t *s)
{
    return sp_fill(m->b, FULL("x", s[1]), sp_shape_of(s[0], s[1]), 0.5);
}
static sp_value *build_cast(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0]);
    return sp_cast(m->b, x, m->dtype == SP_F32 ? SP_BF16 : SP_F32);
}

static const test_case elementwise_cases[] = {
    {build_add, {3, 5, 129, 0}, .tolerance = 1e-6},
    {build_add, {300, 3, 64, 1}, .tolerance = 1e-6},
    {build_add, {40, 50, 5, 2}, .tolerance = 1e-6},
    {build_add, {3, 77, 768, 1}, .tolerance = 1e-6},
    {build_add, {33, 7, 515, 2}, .tolerance = 1e-6},
    {build_mul, {40001}, .tolerance = 1e-6},
    {build_affine, {1000}, .tolerance = 1e-6},
    {build_add_per_channel, {5, 64, 48}, .tolerance = 1e-6},
    {build_add_per_channel, {3, 9, 1280}, .tolerance = 1e-6},
    {build_add_per_channel, {2, 1, 3}, .tolerance = 1e-6},
    {build_broadcast_middle, {5, 64, 48}, .tolerance = 1e-6},
    {build_broadcast_middle, {3, 9, 1283}, .tolerance = 1e-6},
    {build_sample_combine, {5, 1033, 3}, .tolerance = 1e-6},
    {build_sample_combine, {7, 3, 1}, .tolerance = 1e-6},
    {build_fill, {9, 700}, .tolerance = 1e-6},
    {build_fill, {700, 1}, .tolerance = 1e-6},
    {build_cast, {70001}, .tolerance = 0},
};

static void test_elementwise(void **state)
{
    (void)state;
    CHECK(elementwise_cases);
}

static sp_value *build_unary(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0]);
    if (s[1] == SP_UNARY_CLAMP) return sp_clamp(m->b, x, -0.5, 0.75);
    return sp_unary(m->b, (sp_unary_kind)s[1], x);
}
static sp_value *build_unary_gradient(maker *m, const int64_t *s)
{
    sp_unary_options options = {.kind = (sp_unary_kind)s[1], .low = -0.5, .high = 0.75};
    return sp_unary_gradient(m->b, INPUT("x", s[0]), INPUT("dy", s[0]), options);
}
static sp_value *build_geglu(maker *m, const int64_t *s)
{
    return sp_geglu(m->b, INPUT("x", s[0], 2 * s[1]));
}
static sp_value *build_geglu_gradient(maker *m, const int64_t *s)
{
    return sp_geglu_gradient(m->b, INPUT("x", s[0], 2 * s[1]), INPUT("dy", s[0], s[1]));
}

static const test_case geglu_cases[] = {
    {build_geglu, {33, 256}, .spread = 2, .tolerance = 1e-6},
    {build_geglu, {5, 1300}, .spread = 2, .tolerance = 1e-6},
    {build_geglu, {7, 3}, .spread = 2, .tolerance = 1e-6},
    {build_geglu_gradient, {33, 256}, .spread = 2, .tolerance = 1e-6},
    {build_geglu_gradient, {7, 19}, .spread = 2, .tolerance = 1e-6},
};

static void test_activations(void **state)
{
    (void)state;
    CHECK(geglu_cases);
    for (int kind = SP_UNARY_SILU; kind <= SP_UNARY_CLAMP; kind++) {
        test_case cases[] = {{build_unary, {20003, kind}, .spread = 3, .tolerance = 1e-6},
                             {build_unary_gradient, {20003, kind}, .spread = 3, .tolerance = 1e-6}};
        CHECK(cases);
    }
}

/* Element by element, relative to the element itself: 4 units in the last place of f32 where the
 * result is a normal number. silu and gelu divide or multiply once or twice more, and gelu's tail
 * has the square of x in an exponent: 40 there. */
static void test_functions_are_accurate_everywhere(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    static const struct {
        sp_unary_kind kind;
        double low, high, units;
    } functions[] = {{SP_UNARY_EXP, -87, 88.5, 4},
                     {SP_UNARY_TANH, -12, 12, 4},
                     {SP_UNARY_SILU, -80, 100, 8},
                     {SP_UNARY_GELU, -12, 50, 40}};
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        test_case c = {build_unary, {COUNT, functions[k].kind}, .spread = 1};
        fixture f;
        fixture_make(&f, &c, SP_F32);
        for (int i = 0; i < COUNT; i++)
            ((float *)f.in[0])[i] =
                (float)(functions[k].low +
                        (functions[k].high - functions[k].low) * i / (COUNT - 1));
        f.node->op->reference(f.node, (const void *const *)f.in, f.expected);
        for (int s = 0; s < SET_COUNT && sets[s].isa <= sp_cpu_isa(); s++) {
            run_kernel(&f, &sets[s], 1);
            for (int i = 0; i < COUNT; i++) {
                double x = ((float *)f.in[0])[i], y = ((float *)f.out[0])[i],
                       expected = ((float *)f.expected[0])[i];
                if (fabs(expected) < 0x1p-126) continue;
                if (!(fabs(y - expected) <= functions[k].units * 0x1p-24 * 2 * fabs(expected)))
                    fail_msg("function %d of %g on %s: %.9g, expected %.9g", functions[k].kind, x,
                             sp_isa_name(sets[s].isa), y, expected);
            }
        }
        fixture_free(&f);
    }
}

/* bf16 results are the nearest number or its neighbour, 2^-7 away from it at most, also where they
 * are small. Below -5 gelu may be 1e-6 off. */
static void test_brief_functions(void **state)
{
    (void)state;
    enum { COUNT = 65536 };
    static const struct {
        sp_unary_kind kind;
        double low, high, absolute;
    } functions[] = {{SP_UNARY_SILU, -60, 100, 0},
                     {SP_UNARY_QUICK_GELU, -30, 50, 0},
                     {SP_UNARY_GELU, -40, 50, 1e-6}};
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        test_case c = {build_unary, {COUNT, functions[k].kind}, .spread = 1};
        fixture f;
        fixture_make(&f, &c, SP_BF16);
        for (int i = 0; i < COUNT; i++) { /* every number of bf16 in the range */
            uint16_t bits = (uint16_t)i;
            double x = sp_load(&bits, SP_BF16, 0);
            bool inside = x >= functions[k].low && x <= functions[k].high && fabs(x) > 1e-30;
            sp_store(f.in[0], SP_BF16, i, inside ? x : 0);
        }
        f.node->op->reference(f.node, (const void *const *)f.in, f.expected);
        for (int s = 0; s < SET_COUNT && sets[s].isa <= sp_cpu_isa(); s++) {
            run_kernel(&f, &sets[s], 1);
            for (int i = 0; i < COUNT; i++) {
                double x = sp_load(f.in[0], SP_BF16, i), y = sp_load(f.out[0], SP_BF16, i),
                       expected = sp_load(f.expected[0], SP_BF16, i);
                double absolute = x < -5 ? functions[k].absolute : 0;
                if (!(fabs(y - expected) <= fabs(expected) / 128 + absolute))
                    fail_msg("function %d of %g on %s: %.9g, expected %.9g", functions[k].kind, x,
                             sp_isa_name(sets[s].isa), y, expected);
            }
        }
        fixture_free(&f);
    }
}

static void test_special_numbers(void **state)
{
    (void)state;
    static const float special[] = {NAN,    INFINITY, -INFINITY, 0.0f,  -0.0f,
                                    1e-40f, 1e38f,    -1e38f,    89.0f, -104.0f};
    enum { COUNT = sizeof special / sizeof *special };
    for (int kind = SP_UNARY_SILU; kind <= SP_UNARY_CLAMP; kind++) {
        test_case c = {build_unary, {COUNT, kind}, .spread = 1};
        fixture f;
        fixture_make(&f, &c, SP_F32);
        memcpy(f.in[0], special, sizeof special);
        f.node->op->reference(f.node, (const void *const *)f.in, f.expected);
        for (int s = 0; s < SET_COUNT && sets[s].isa <= sp_cpu_isa(); s++) {
            run_kernel(&f, &sets[s], 1);
            for (int i = 0; i < COUNT; i++) {
                float y = ((float *)f.out[0])[i], expected = ((float *)f.expected[0])[i];
                bool close = y == expected || (isnan(y) && isnan(expected)) ||
                             fabsf(y - expected) <= 1e-6f * fabsf(expected) ||
                             (fabsf(y) < 1e-37f && fabsf(expected) < 1e-37f);
                if (!close)
                    fail_msg("function %d of %g on %s: %g, expected %g", kind, (double)special[i],
                             sp_isa_name(sets[s].isa), (double)y, (double)expected);
            }
        }
        fixture_free(&f);
    }
}

static sp_value *build_sum_leading(maker *m, const int64_t *s)
{
    return sp_sum_leading(m->b, INPUT("x", s[0], s[1], s[2]), (int)s[3]);
}
static sp_value *build_sum_middle(maker *m, const int64_t *s)
{
    return sp_sum_middle(m->b, INPUT("x", s[0], s[1], s[2]));
}
static sp_value *build_mean(maker *m, const int64_t *s)
{
    return sp_mean(m->b, FULL("x", s[0], s[1]));
}
static sp_value *build_loss(maker *m, const int64_t *s)
{
    sp_value *weight = s[3] ? FULL("w", s[0]) : NULL;
    return sp_loss(m->b, FULL("p", s[0], s[1]), FULL("t", s[0], s[1]), weight,
                   (sp_loss_options){(sp_loss_kind)s[2], 1e-3});
}
static sp_value *build_loss_gradient(maker *m, const int64_t *s)
{
    sp_value *weight = s[3] ? FULL("w", s[0]) : NULL;
    return sp_loss_gradient(m->b, FULL("p", s[0], s[1]), FULL("t", s[0], s[1]), weight,
                            input(m, "dy", SP_F32, (sp_shape){0}),
                            (sp_loss_options){(sp_loss_kind)s[2], 1e-3});
}

static const test_case reduction_cases[] = {
    {build_sum_leading, {32, 256, 64, 1}, .tolerance = 1e-5},
    {build_sum_leading, {3, 7, 1283, 1}, .tolerance = 1e-5},
    {build_sum_leading, {50, 9, 77, 2}, .tolerance = 1e-5},
    {build_sum_leading, {50, 9, 7, 0}, .tolerance = 1e-5},
    {build_sum_leading, {5, 9, 7, 3}, .tolerance = 0},
    {build_sum_middle, {5, 300, 48}, .tolerance = 1e-5},
    {build_sum_middle, {1, 70, 1030}, .tolerance = 1e-5},
    {build_mean, {100, 333}, .shift = 1, .tolerance = 1e-6},
    {build_loss, {7, 1025, SP_LOSS_HUBER, 1}, .tolerance = 1e-5},
    {build_loss, {33, 5, SP_LOSS_L2, 1}, .tolerance = 1e-5},
    {build_loss, {33, 555, SP_LOSS_L2, 0}, .tolerance = 1e-5},
    {build_loss_gradient, {7, 1025, SP_LOSS_HUBER, 1}, .tolerance = 1e-6},
    {build_loss_gradient, {33, 5, SP_LOSS_L2, 1}, .tolerance = 1e-6},
    {build_loss_gradient, {33, 5, SP_LOSS_HUBER, 0}, .tolerance = 1e-6},
};

static void test_reductions(void **state)
{
    (void)state;
    CHECK(reduction_cases);
}

static sp_value *build_attention_gradient(maker *m, const int64_t *s)
{
    int64_t C = s[3] * s[4];
    sp_value *q = INPUT("q", s[0], s[1], C), *k = INPUT("k", s[0], s[2], C),
             *v = INPUT("v", s[0], s[2], C);
    sp_value *out = INPUT("out", s[0], s[1], C), *dout = INPUT("dout", s[0], s[1], C);
    sp_attention_options options = {(int)s[3], 1 / sqrt((double)s[4]), s[5]};
    sp_value *log_sum = sp_output_of(sp_attention(m->b, q, k, v, options), 1);
    return sp_attention_gradient(m->b, q, k, v, out, log_sum, dout, options);
}

/* samples, queries, keys, heads, head dimension, causal */
static const test_case attention_gradient_cases[] = {
    {build_attention_gradient, {3, 64, 64, 2, 32, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {2, 16, 16, 4, 48, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {2, 64, 16, 2, 16, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 70, 77, 2, 40, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 130, 260, 1, 40, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {2, 200, 200, 1, 80, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 5, 3, 3, 7, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 9, 201, 1, 5, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 1, 1, 1, 1, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 9, 11, 1, 2, 1}, .tolerance = 1e-5},
};

static void test_attention_gradient(void **state)
{
    (void)state;
    CHECK(attention_gradient_cases);
}

static sp_value *build_permute(maker *m, const int64_t *s)
{
    sp_shape shape = sp_shape_make(s, 4);
    int order[4];
    for (int i = 0; i < 4; i++)
        order[i] = (int)(s[4] >> (4 * (3 - i)) & 15);
    return sp_permute(m->b, input(m, "x", m->dtype, shape), order);
}
static sp_value *build_permute_integers(maker *m, const int64_t *s)
{
    return sp_permute(m->b, input(m, "x", s[2] == 8 ? SP_I64 : SP_U8, sp_shape_of(s[0], s[1])),
                      (int[]){1, 0});
}
static sp_value *build_concat(maker *m, const int64_t *s)
{
    sp_value *x[] = {INPUT("a", 3, s[0], 5), INPUT("b", 3, s[1], 5), INPUT("c", 3, s[2], 5)};
    return sp_concat(m->b, 3, x, 1);
}
static sp_value *build_slice(maker *m, const int64_t *s)
{
    return sp_slice(m->b, INPUT("x", s[0], s[1], s[2]), (int)s[3], s[4], s[5]);
}
static sp_value *build_unslice(maker *m, const int64_t *s)
{
    return sp_unslice(m->b, INPUT("x", s[0], s[1], s[2]), (int)s[3], s[4], s[5]);
}
static sp_value *build_upsample(maker *m, const int64_t *s)
{
    return sp_upsample_nearest(m->b, INPUT("x", s[0], s[1], s[2], s[3]), s[4], s[5]);
}
static sp_value *build_upsample_gradient(maker *m, const int64_t *s)
{
    return sp_upsample_nearest_gradient(m->b, INPUT("dy", s[0], s[4], s[5], s[3]), s[1], s[2]);
}
static sp_value *build_embedding(maker *m, const int64_t *s)
{
    sp_value *ids = input(m, "ids", s[3] ? SP_I64 : SP_I32, sp_shape_of(s[0], 7));
    return sp_embedding(m->b, ids, INPUT("table", s[1], s[2]));
}
static sp_value *build_embedding_gradient(maker *m, const int64_t *s)
{
    sp_value *ids = input(m, "ids", s[3] ? SP_I64 : SP_I32, sp_shape_of(s[0], 7));
    return sp_embedding_gradient(m->b, ids, INPUT("dy", s[0], 7, s[2]), s[1]);
}
static sp_value *build_sinusoidal(maker *m, const int64_t *s)
{
    return sp_sinusoidal(m->b, FULL("t", s[0]),
                         (sp_sinusoidal_options){s[1], s[2], (double)s[3], 10000, 1});
}

static const test_case layout_cases[] = {
    {build_permute, {2, 4, 33, 17, 0x0231}, .tolerance = 0}, /* to channels-last, and back */
    {build_permute, {2, 33, 17, 70, 0x0312}, .tolerance = 0},
    {build_permute, {3, 20, 4, 40, 0x0213}, .tolerance = 0}, /* heads */
    {build_permute, {3, 1, 1, 40, 0x3210}, .tolerance = 0},
    {build_permute, {3, 7, 5, 9, 0x3120}, .tolerance = 0},
    {build_permute, {3, 7, 5, 9, 0x0123}, .tolerance = 0},
    {build_permute, {1, 1, 1, 1, 0x2103}, .tolerance = 0},
    {build_permute_integers, {37, 21, 8}, .tolerance = 0},
    {build_permute_integers, {37, 21, 1}, .tolerance = 0},
    {build_concat, {4, 9, 1}, .tolerance = 0},
    {build_slice, {3, 9, 20, 1, 2, 5}, .tolerance = 0},
    {build_slice, {300, 9, 20, -1, 19, 1}, .tolerance = 0},
    {build_slice, {30, 90, 200, 0, 3, 20}, .tolerance = 0},
    {build_unslice, {3, 9, 20, 1, 2, 15}, .tolerance = 0},
    {build_unslice, {3, 9, 20, 2, 0, 21}, .tolerance = 0},
    {build_upsample, {2, 8, 8, 40, 16, 16}, .tolerance = 0},
    {build_upsample, {2, 5, 7, 3, 11, 4}, .tolerance = 0},
    {build_upsample_gradient, {2, 8, 8, 40, 16, 16}, .tolerance = 1e-6},
    {build_upsample_gradient, {2, 5, 7, 3, 11, 4}, .tolerance = 1e-6},
    {build_embedding, {30, 8, 65, 0}, .tolerance = 0},
    {build_embedding, {30, 8, 5, 1}, .tolerance = 0},
    {build_embedding_gradient, {30, 8, 65, 0}, .tolerance = 1e-5},
    {build_embedding_gradient, {30, 8, 135, 1}, .tolerance = 1e-5},
    {build_sinusoidal, {30, 64, 1, 0}, .spread = 300, .tolerance = 0},
    {build_sinusoidal, {3, 10, 0, 1}, .spread = 300, .tolerance = 0},
};

static void test_layout(void **state)
{
    (void)state;
    CHECK(layout_cases);
}

/* A NaN reaches the results that depend on it, and no others. */
static void test_nan_spreads_no_further(void **state)
{
    (void)state;
    const test_case cases[] = {{build_attention, {2, 20, 30, 2, 8, 0}, .spread = 1},
                               {build_attention_gradient, {2, 20, 30, 2, 8, 0}, .spread = 1},
                               {build_group_norm, {2, 6, 6, 16, 4, 1, 1}, .spread = 1},
                               {build_layer_norm, {40, 24, 1}, .spread = 1},
                               {build_layer_norm_gradient, {40, 24, 1}, .spread = 1}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        fixture f;
        sp_dtype dtype = i % 2 ? SP_BF16 : SP_F32;
        fixture_make(&f, &cases[i / 2], dtype);
        sp_store(f.in[0], dtype, 17, NAN);
        f.node->op->reference(f.node, (const void *const *)f.in, f.expected);
        for (int s = 0; s < SET_COUNT && sets[s].isa <= sp_cpu_isa(); s++) {
            run_kernel(&f, &sets[s], 1);
            for (int o = 0; o < f.node->outputs; o++)
                assert_true(relative_error(f.out[o], f.expected[o], f.node->out[o]) <=
                            (dtype == SP_BF16 ? BF16_TOLERANCE : 1e-5));
        }
        fixture_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_functions_are_accurate_everywhere),
        cmocka_unit_test(test_brief_functions),
        cmocka_unit_test(test_special_numbers),
        cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_group_norm),
        cmocka_unit_test(test_layer_norm),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_gradient),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_nan_spreads_no_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
