/* Our own CPU kernels, each instruction set of this processor in turn, against the reference
 * kernels: shapes that no vector divides, numbers that cancel, thread counts. tests/test_ops.c runs
 * the general list of cases on the best set alone. */
#include "vector_support.h"

static sp_value *build_attention(maker *m, const int64_t *s)
{
    sp_value *q = INPUT("q", s[0], s[1], s[3] * s[4]), *k = INPUT("k", s[0], s[2], s[3] * s[4]);
    sp_value *v = INPUT("v", s[0], s[2], s[3] * s[4]);
    return sp_attention(m->b, q, k, v,
                        (sp_attention_options){(int)s[3], 1 / sqrt((double)s[4]), s[5], s[6]});
}

/* samples, queries, keys, heads, head dimension, causal, copies of the last key */
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
    {build_attention, {2, 70, 97, 2, 32, 0, 256}, .tolerance = 1e-5},
    {build_attention, {1, 65, 192, 1, 64, 0, 77}, .tolerance = 1e-5},
    {build_attention, {1, 6, 1, 2, 16, 0, 3}, .tolerance = 1e-5},
    {build_attention, {1, 9, 9, 2, 10, 1, 5}, .tolerance = 1e-5},
    {build_attention, {1, 100, 389, 1, 26, 0, 256}, .spread = 5, .tolerance = 2e-4},
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
    {build_group_norm, {1, 13, 12, 330, 33, 1, 1}, .tolerance = 1e-5},
    {build_group_norm, {1, 8, 8, 1280, 32, 1, 1}, .tolerance = 1e-5},
    {build_group_norm, {2, 40, 30, 96, 6, 1, 0}, .tolerance = 1e-5},
    {build_group_norm, {2, 1, 1, 3, 3, 0, 1}, .tolerance = 1e-5},
    {build_group_norm, {2, 3, 5, 7, 1, 1, 1}, .tolerance = 1e-5},
    /* A mean a thousand times the deviation leaves 24 - 10 bits of every difference from it. */
    {build_group_norm, {2, 32, 32, 32, 8, 0, 0}, .shift = 1000, .tolerance = 2e-4},
    {build_group_norm_gradient, {3, 8, 8, 64, 32, 1, 1}, .tolerance = 1e-5},
    {build_group_norm_gradient, {1, 33, 17, 20, 5, 0, 1}, .tolerance = 1e-5},
    {build_group_norm_gradient, {2, 40, 30, 96, 6, 1, 0}, .tolerance = 1e-5},
    {build_group_norm_gradient, {1, 13, 12, 330, 33, 1, 1}, .tolerance = 1e-5},
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
    return sp_layer_norm(m->b, x, gamma, s[2] && !s[3] ? FULL("beta", s[1]) : NULL,
                         (sp_layer_norm_options){1e-5, s[3] != 0});
}

static sp_value *build_layer_norm_gradient(maker *m, const int64_t *s)
{
    sp_value *x = INPUT("x", s[0], s[1]), *gamma = s[2] ? FULL("gamma", s[1]) : NULL;
    return sp_layer_norm_gradient(m->b, x, gamma, INPUT("dy", s[0], s[1]), (sp_layer_norm_options){1e-5, s[3] != 0});
}

/* rows, channels, affine */
static const test_case layer_norm_cases[] = {
    {build_layer_norm, {70, 128, 1}, .tolerance = 1e-5},
    {build_layer_norm, {5, 77, 0}, .tolerance = 1e-5},
    {build_layer_norm, {9, 3, 1}, .tolerance = 1e-5},
    {build_layer_norm, {9, 320, 0}, .shift = 1000, .tolerance = 2e-4},
    {build_layer_norm, {70, 64, 1, 1}, .tolerance = 1e-5},
    {build_layer_norm, {9, 77, 0, 1}, .shift = 10, .tolerance = 1e-5},
    {build_layer_norm_gradient, {210, 64, 1, 1}, .tolerance = 1e-5},
    {build_layer_norm_gradient, {5, 77, 0, 1}, .tolerance = 1e-5},
    {build_layer_norm_gradient, {2100, 48, 1}, .tolerance = 1e-5},
    {build_layer_norm_gradient, {5, 77, 0}, .tolerance = 1e-5},
    {build_layer_norm_gradient, {33, 200, 1}, .tolerance = 1e-5},
};

static void test_layer_norm(void **state)
{
    (void)state;
    CHECK(layer_norm_cases);
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
    sp_attention_options options = {(int)s[3], 1 / sqrt((double)s[4]), s[5], s[6]};
    sp_value *log_sum = sp_output_of(sp_attention(m->b, q, k, v, options), 1);
    return sp_attention_gradient(m->b, q, k, v, out, log_sum, dout, options);
}

/* samples, queries, keys, heads, head dimension, causal, copies of the last key */
static const test_case attention_gradient_cases[] = {
    {build_attention_gradient, {3, 64, 64, 2, 32, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {2, 16, 16, 4, 48, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {2, 64, 16, 2, 16, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 70, 77, 2, 40, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 130, 260, 1, 40, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {2, 200, 200, 1, 80, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 200, 333, 2, 24, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 5, 3, 3, 7, 0}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 9, 201, 1, 5, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 1, 1, 1, 1, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 9, 11, 1, 2, 1}, .tolerance = 1e-5},
    {build_attention_gradient, {2, 70, 97, 2, 32, 0, 256}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 200, 193, 2, 24, 0, 77}, .tolerance = 1e-5},
    {build_attention_gradient, {1, 9, 9, 2, 10, 1, 5}, .tolerance = 1e-5},
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
    {build_permute, {2, 70, 70, 3, 0x0312}, .tolerance = 0}, /* a picture's channels apart */
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
