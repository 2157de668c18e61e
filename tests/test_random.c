#include "support.h"

#include <math.h>

#include "base/parallel.h"
#include "base/random.h"

/* Known answers of the Random123 distribution, philox4x32 with 10 rounds. */
static void test_philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        sp_philox(cases[i].counter, cases[i].key, out);
        for (int j = 0; j < 4; j++)
            assert_int_equal(out[j], cases[i].out[j]);
    }
}

/* The layout of the counter is part of every recorded run: (block, sample, step, stream and high
 * step). */
static void test_key_layout(void **state)
{
    (void)state;
    sp_random_key key = {.seed = 0x299f31d0a4093822u,
                         .stream = SP_STREAM_GAMMA,
                         .step = 0x7712345678u,
                         .sample = 0x85a308d3u};
    uint32_t bits[11], block[4];
    sp_random_bits(key, bits, 11);
    for (uint32_t i = 0; i < 11; i++) {
        const uint32_t counter[4] = {i / 4, 0x85a308d3u, 0x12345678u,
                                     (uint32_t)SP_STREAM_GAMMA << 8 | 0x77u};
        const uint32_t words[2] = {0xa4093822u, 0x299f31d0u};
        sp_philox(counter, words, block);
        assert_int_equal(bits[i], block[i % 4]);
    }
}

static void test_draws_do_not_depend_on_threads(void **state)
{
    (void)state;
    enum { COUNT = 300001 };
    float *one = sp_alloc(COUNT * sizeof *one), *many = sp_alloc(COUNT * sizeof *many);
    sp_random_key key = {.seed = 3, .stream = SP_STREAM_NOISE, .step = 9, .sample = 1};
    sp_set_threads(1);
    sp_random_normal(key, one, COUNT);
    sp_set_threads(4);
    sp_random_normal(key, many, COUNT);
    sp_set_threads(0);
    assert_memory_equal(one, many, COUNT * sizeof *one);
    sp_random_normal(key, many, 7); /* a shorter draw is the beginning of a longer one */
    assert_memory_equal(one, many, 7 * sizeof *one);
    sp_free(one);
    sp_free(many);
}

static void test_moments(void **state)
{
    (void)state;
    enum { COUNT = 1 << 20 };
    float *x = sp_alloc(COUNT * sizeof *x);
    sp_random_key key = {.seed = 1, .stream = SP_STREAM_INIT};
    sp_random_normal(key, x, COUNT);
    double sum = 0, square = 0, fourth = 0, neighbours = 0;
    for (int i = 0; i < COUNT; i++) {
        double v = (double)x[i];
        sum += v, square += v * v, fourth += v * v * v * v;
        neighbours += v * (double)x[(i + 1) % COUNT];
    }
    /* Five standard errors of each mean over 2^20 draws: 1, sqrt 2, sqrt 96 and 1 times 2^-10. */
    assert_true(fabs(sum / COUNT) < 5e-3);
    assert_true(fabs(square / COUNT - 1) < 7e-3);
    assert_true(fabs(fourth / COUNT - 3) < 5e-2);
    assert_true(fabs(neighbours / COUNT) < 5e-3);
    sp_random_uniform(key, x, COUNT);
    sum = 0;
    for (int i = 0; i < COUNT; i++) {
        assert_true(x[i] >= 0 && x[i] < 1);
        sum += (double)x[i];
    }
    assert_true(fabs(sum / COUNT - 0.5) < 1.5e-3); /* five times sqrt(1/12) 2^-10 */
    sp_free(x);
}

static void test_below_and_permutation(void **state)
{
    (void)state;
    enum { COUNT = 1000, BOUND = 7, DRAWS = 70000 };
    int histogram[BOUND] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) {
        sp_random_key key = {.seed = 5, .stream = SP_STREAM_SUBPATH, .step = i};
        histogram[sp_random_below(key, BOUND)]++;
        assert_int_equal(sp_random_below(key, 1), 0);
        assert_true(sp_random_below(key, UINT64_MAX) < UINT64_MAX);
    }
    for (int i = 0; i < BOUND; i++) /* mean 10,000, standard deviation 93: five of them */
        assert_in_range(histogram[i], 10000 - 465, 10000 + 465);
    uint32_t order[COUNT], again[COUNT];
    unsigned char seen[COUNT] = {0};
    sp_random_key key = {.seed = 5, .stream = SP_STREAM_SHUFFLE, .step = 1};
    sp_random_permutation(key, order, COUNT);
    sp_random_permutation(key, again, COUNT);
    assert_memory_equal(order, again, sizeof order);
    int fixed = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_false(seen[order[i]]++);
        fixed += order[i] == i;
    }
    assert_in_range(fixed, 0, 10); /* Poisson with mean 1 */
    key.step = 2;
    sp_random_permutation(key, again, COUNT);
    assert_memory_not_equal(order, again, sizeof order);
    sp_random_permutation(key, NULL, 0);
}

/* ---- PyTorch's generator; values recorded from torch.randn and numpy's RandomState ---- */

static void assert_normals(const float *found, const float *expected, size_t count)
{
    /* The draws are exact, the logarithms, sines and cosines of another library are not. */
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(found[i] - expected[i]) <= 1e-5f))
            fail_msg("normal %zu is %.9g, expected %.9g", i, (double)found[i], (double)expected[i]);
}

static void test_mt19937(void **state)
{
    (void)state;
    static const struct {
        int index;
        uint32_t word;
    } expected[] = {{0, 953453411},   {1, 236996814},    {2, 3739766767},  {623, 2809743450},
                    {624, 164677315}, {625, 3235025989}, {1299, 417587705}};
    sp_torch_generator generator;
    sp_torch_seed(&generator, 5);
    size_t next = 0;
    for (int i = 0; i < 1300; i++) {
        uint32_t word = sp_torch_bits(&generator);
        if (expected[next].index == i) assert_int_equal(word, expected[next++].word);
    }
    assert_int_equal(next, sizeof expected / sizeof *expected);
}

/* torch.Generator().manual_seed(42), then torch.randn of 32, 19, 5, 4, 16 and 2 values: whole
 * blocks, a tail drawn again, single values, and the waiting second value, which a long draw in
 * between leaves alone. */
static void test_torch_sequence(void **state)
{
    (void)state;
    static const float expected[] = {
        1.92691529f,    1.48728406f,   0.900717199f,   -2.10552096f,  0.678418458f,  -1.23454487f,
        -0.0430674776f, -1.60466695f,  -0.752135277f,  1.64872301f,   -0.392478645f, -1.40360713f,
        -0.727881312f,  -0.559430182f, -0.768838882f,  0.76244539f,   1.64231694f,   -0.159597471f,
        -0.497397542f,  0.439589262f,  -0.758131146f,  1.07831764f,   0.800800562f,  1.68062055f,
        1.27912438f,    1.29642284f,   0.61046648f,    1.33473778f,   -0.23162432f,  0.041759491f,
        -0.251575291f,  0.859858513f,  -1.38467371f,   -0.871236145f, -0.223365918f, 0.525808752f,
        -0.48799172f,   1.19136906f,   -0.81400764f,   -0.735992789f, -0.837124646f, -0.922390044f,
        1.8113178f,     0.675614893f,  -0.0978068933f, 1.844594f,     -1.18453741f,  1.38354933f,
        -1.20244563f,   0.70781225f,   -1.07588589f,   -0.949965894f, -1.00138462f,  -0.77191931f,
        1.34340358f,    0.955953062f,  -1.01102328f,   -0.3568106f,   0.714678228f,  -0.239759073f,
        0.0516435951f,  0.728109539f,  -0.710641921f,  -0.602068305f, 0.960448802f,  0.404814273f,
        -1.35434294f,   -0.497646242f, 0.483539283f,   -0.197561681f, 1.26831138f,   1.22426283f,
        0.09811721f,    1.74225271f,   -1.35267365f,   0.219060495f,  0.216293007f,  0.648761511f,
    };
    static const size_t counts[] = {32, 19, 5, 4, 16, 2};
    sp_torch_generator generator;
    sp_torch_seed(&generator, 42);
    const float *next = expected;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        float found[32];
        sp_torch_normal(&generator, found, counts[i]);
        assert_normals(found, next, counts[i]);
        next += counts[i];
    }
}

static void test_torch_latent(void **state)
{
    (void)state;
    enum { COUNT = 4 * 64 * 64 };
    static float found[COUNT];
    static const float head[] = {-0.1117185652256012f, -0.49659010767936707f, 0.16307370364665985f,
                                 -0.8816877603530884f};
    static const float tail[] = {1.3883376121520996f, -1.0849719047546387f, 0.5443094968795776f,
                                 1.5798630714416504f};
    sp_torch_generator generator;
    sp_torch_seed(&generator, 1234);
    sp_torch_normal(&generator, found, COUNT);
    assert_normals(found, head, 4);
    assert_normals(found + COUNT - 4, tail, 4);
    double sum = 0;
    for (int i = 0; i < COUNT; i++)
        sum += (double)found[i];
    /* Rounding errors of 16,384 values, each at most about 1e-6. */
    assert_true(fabs(sum - -6.569933727238094) < 1e-3);
}

static void test_torch_seed_is_cut_to_32_bits(void **state)
{
    (void)state;
    static const float expected[] = {-0.1467950940132141f, 0.7861412763595581f,
                                     0.9468216300010681f};
    sp_torch_generator generator;
    float found[3];
    sp_torch_seed(&generator, (1ull << 32) + 7);
    sp_torch_normal(&generator, found, 3);
    assert_normals(found, expected, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_key_layout),
        cmocka_unit_test(test_draws_do_not_depend_on_threads),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_below_and_permutation),
        cmocka_unit_test(test_mt19937),
        cmocka_unit_test(test_torch_sequence),
        cmocka_unit_test(test_torch_latent),
        cmocka_unit_test(test_torch_seed_is_cut_to_32_bits),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
