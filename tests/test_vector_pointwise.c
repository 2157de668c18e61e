/* Our own elementwise kernels, each instruction set of this processor in turn, against the reference kernels; functions
 * over their whole range, brief ones of bf16, and special numbers. */
#include "vector_support.h"

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
static sp_value *build_modulate(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0], s[1], s[2]), *factor = INPUT("f", s[0], s[2]),
             *offset = s[3] & 1 ? INPUT("o", s[0], s[2]) : NULL,
             *residual = s[3] & 2 ? INPUT("r", s[0], s[1], s[2]) : NULL;
    return sp_modulate(m->b, x, factor, offset, residual, s[3] & 2 ? 0 : 1);
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
    {build_modulate, {5, 64, 48, 0}, .tolerance = 1e-6},
    {build_modulate, {3, 9, 1536, 1}, .tolerance = 1e-6},
    {build_modulate, {2, 77, 515, 2}, .tolerance = 1e-6},
    {build_modulate, {2, 1, 3, 3}, .tolerance = 1e-6},
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
 * has the square of x in an exponent: 40 there; gelu_tanh's has the cube. */
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
                     {SP_UNARY_SOFTPLUS, -87, 100, 6},
                     {SP_UNARY_GELU, -12, 50, 40},
                     {SP_UNARY_GELU_TANH, -8, 50, 100}};
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
                     {SP_UNARY_GELU_TANH, -8, 50, 0},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_functions_are_accurate_everywhere),
        cmocka_unit_test(test_brief_functions),
        cmocka_unit_test(test_special_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
