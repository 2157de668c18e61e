/* A device's services for a training loop: AdamW with a weight average, sums of squares. */
#include <math.h>
#include "support.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/optimizer/optimizer_kernel.h"
#include "graph/optimizer.h"
#include "base/parallel.h"
#include "base/random.h"
#include "formats/tensor_file.h"
#include "formats/safetensors.h"

static void adamw(const sp_adamw_options *options, const sp_adamw_tensor *tensor)
{
    sp_cpu_device()->optimizer->adamw(sp_cpu_device(), options, tensor);
}

static double sum_of_squares(const float *x, int64_t count)
{
    double sum = 0.5; /* it is added to */
    sp_cpu_device()->optimizer->sum_of_squares(sp_cpu_device(), x, count, &sum);
    return sum - 0.5;
}

/* torch.optim.AdamW(lr=1e-2, weight_decay=1e-2) on gradients halved beforehand, then
 * ema.mul_(.95).add_(w, alpha=.05); PyTorch 2, CPU, fp32. Five parameters, three steps. */
#define COUNT 5
static const float gradients[3][COUNT] = {{0.1f, -0.2f, 3.0f, 1e-4f, 0.0f},
                                          {-0.3f, 0.25f, 1.0f, -2e-4f, 1e-6f},
                                          {0.02f, 0.7f, -5.0f, 3e-4f, 0.5f}};
static const float expected[3][4][COUNT] = {
    {{0.489950001f, -1.23987496f, 1.98979998f, -0.00899809971f, 0},
     {0.00500000035f, -0.0100000007f, 0.150000006f, 4.99999987e-06f, 0},
     {2.50000016e-06f, 1.00000007e-05f, 0.0022499999f, 2.49999999e-12f, 0},
     {0.499497503f, -1.24949372f, 1.99949002f, 0.000500095019f, 0}},
    {{0.494842917f, -1.24137831f, 1.98089039f, -0.00533662736f, -0.0072367331f},
     {-0.0104999999f, 0.00350000011f, 0.185000002f, -5.50000004e-06f, 5.00000006e-08f},
     {2.49975019e-05f, 2.56150015e-05f, 0.00249774987f, 1.24974996e-11f, 2.50000027e-16f},
     {0.499264777f, -1.24908793f, 1.99856007f, 0.000208258891f, -0.000361836661f}},
    {{0.498202443f, -1.24758708f, 1.98249602f, -0.0087681869f, -0.0136241559f},
     {-0.00844999962f, 0.0381499976f, -0.0834999979f, 1.0050001e-05f, 0.0250000451f},
     {2.50725061e-05f, 0.000148089384f, 0.00874525215f, 3.49850079e-11f, 6.2500003e-05f},
     {0.499211669f, -1.24901283f, 1.99775684f, -0.0002405634f, -0.00102495262f}}};

/* One rounding apart per operation: torch contracts some products and sums, we do not. */
static void expect_close(const float *found, const float *wanted, const char *what, int step)
{
    for (int i = 0; i < COUNT; i++)
        if (fabsf(found[i] - wanted[i]) > 4e-7f * fabsf(wanted[i]) + 2e-9f)
            fail_msg("%s[%d] after step %d is %.9g, PyTorch has %.9g", what, i, step,
                     (double)found[i], (double)wanted[i]);
}

static void adamw_follows_torch(void **state)
{
    (void)state;
    float w[COUNT] = {0.5f, -1.25f, 2.0f, 1e-3f, 0}, ema[COUNT], m[COUNT] = {0}, v[COUNT] = {0};
    memcpy(ema, w, sizeof w);
    sp_adamw_options o = {.learning_rate = 1e-2,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .epsilon = 1e-8,
                          .weight_decay = 1e-2,
                          .gradient_scale = 0.5,
                          .ema_decay = 0.95};
    for (int step = 0; step < 3; step++) {
        o.step = step + 1;
        sp_adamw_tensor tensor = {COUNT, w, {.values = m}, {.values = v}, gradients[step], ema};
        adamw(&o, &tensor);
        expect_close(w, expected[step][0], "weight", step + 1);
        expect_close(m, expected[step][1], "first moment", step + 1);
        expect_close(v, expected[step][2], "second moment", step + 1);
        expect_close(ema, expected[step][3], "average", step + 1);
    }
}

#define LARGE 100003 /* odd, and above the size that is split */
static void same_bits_for_any_thread_count(void **state)
{
    (void)state;
    float *memory = sp_alloc(sizeof(float) * LARGE * 9);
    assert_non_null(memory);
    sp_random_normal((sp_random_key){.seed = 3}, memory, LARGE * 5);
    memcpy(memory + LARGE * 5, memory + LARGE, sizeof(float) * LARGE * 4);
    for (int i = LARGE * 3; i < LARGE * 4; i++)
        memory[i] = memory[i + LARGE * 4] = fabsf(memory[i]);
    sp_adamw_options o = {1e-3, 0.9, 0.999, 1e-8, 1e-2, 0.7, 0.99, 4};
    double sums[2];
    for (int run = 0; run < 2; run++) {
        float *base = memory + (run ? LARGE * 4 : 0);
        sp_set_threads(run ? 3 : 1);
        sp_adamw_tensor tensor = {.count = LARGE,
                                  .weight = base + LARGE,
                                  .first.values = base + LARGE * 2,
                                  .second.values = base + LARGE * 3,
                                  .gradient = memory,
                                  .ema = base + LARGE * 4};
        adamw(&o, &tensor);
        sums[run] = sum_of_squares(memory, LARGE);
    }
    sp_set_threads(0);
    assert_memory_equal(memory + LARGE, memory + LARGE * 5, sizeof(float) * LARGE * 4);
    assert_memory_equal(&sums[0], &sums[1], sizeof(double));
    double plain = 0;
    for (int i = 0; i < LARGE; i++)
        plain += (double)memory[i] * memory[i];
    assert_true(fabs(sums[0] - plain) <= 1e-12 * plain); /* 1e5 sums in double */
    sp_free(memory);
}

static void without_average(void **state)
{
    (void)state;
    float w = 1, m = 0, v = 0, g = 1;
    sp_adamw_options o = {.learning_rate = 0.1,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .epsilon = 1e-8,
                          .gradient_scale = 1,
                          .step = 1};
    adamw(&o, &(sp_adamw_tensor){1, &w, {.values = &m}, {.values = &v}, &g, NULL});
    assert_true(fabsf(w - 0.9f) < 1e-6f); /* a first step has the size of the learning rate */
    assert_true(sum_of_squares(NULL, 0) == 0);
}

/* As adamw's own average, with any thread count. */
static void another_average_has_the_same_bits(void **state)
{
    (void)state;
    float *memory = sp_alloc(sizeof(float) * LARGE * 6);
    assert_non_null(memory);
    float *w = memory, *zero = memory + LARGE * 3, *ema = memory + LARGE * 4, *other = memory + LARGE * 5;
    sp_random_normal((sp_random_key){.seed = 4}, memory, LARGE * 6);
    memset(zero, 0, sizeof(float) * LARGE);
    memcpy(other, ema, sizeof(float) * LARGE);
    const sp_adamw_options o = {
        .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1, .gradient_scale = 1, .ema_decay = 0.83, .step = 1};
    for (int i = 0; i < LARGE; i++)
        memory[LARGE * 2 + i] = fabsf(memory[LARGE * 2 + i]);
    adamw(&o, &(sp_adamw_tensor){.count = LARGE,
                                 .weight = w,
                                 .first.values = memory + LARGE,
                                 .second.values = memory + LARGE * 2,
                                 .gradient = zero,
                                 .ema = ema});
    sp_set_threads(3);
    sp_cpu_device()->optimizer->average(sp_cpu_device(), o.ema_decay, w, other, LARGE);
    sp_set_threads(0);
    assert_memory_equal(ema, other, sizeof(float) * LARGE);
    sp_cpu_device()->optimizer->average(sp_cpu_device(), 0, w, other, LARGE);
    assert_memory_equal(w, other, sizeof(float) * LARGE);
    sp_free(memory);
}

static void sum_of_squares_keeps_what_is_not_finite(void **state)
{
    (void)state;
    float x[70] = {0};
    for (int i = 0; i < 70; i += 23) {
        x[i] = NAN;
        assert_true(isnan(sum_of_squares(x, 70)));
        x[i] = 0;
    }
}

/* ---- moments in 8 bits ---- */

/* The codebook as published: decades of 2^i (or 2^(i+1)) values between powers of ten, 0 and 1. */
static void make_codebook(bool is_signed, double codebook[256])
{
    int filled = 0;
    for (int i = 0; i < 7; i++) {
        int items = 1 << (is_signed ? i : i + 1);
        for (int k = 0; k < items; k++) {
            double value = pow(10, i - 6) * (0.1 + 0.9 * (k + 0.5) / items);
            if (is_signed) codebook[126 - filled] = -value;
            codebook[(is_signed ? 128 : 1) + filled++] = value;
        }
    }
    codebook[is_signed ? 127 : 0] = 0;
    codebook[255] = 1;
}

typedef struct {
    int64_t count;
    uint8_t codes[2][2048];
    float scales[2][8], weight[2048], ema[2048];
} coded;

static sp_adamw_tensor tensor_of(coded *c, const float *gradient)
{
    return (sp_adamw_tensor){.count = c->count,
                             .weight = c->weight,
                             .first = {.codes = c->codes[0], .scales = c->scales[0]},
                             .second = {.codes = c->codes[1], .scales = c->scales[1]},
                             .gradient = gradient,
                             .ema = c->ema};
}

static coded *new_coded(int64_t count, const float *weight)
{
    coded *c = sp_alloc_zero(sizeof *c);
    assert_non_null(c);
    c->count = count;
    memset(c->codes[0], SP_DYNAMIC8_ZERO, sizeof c->codes[0]);
    memcpy(c->weight, weight, sizeof(float) * (size_t)count);
    memcpy(c->ema, weight, sizeof(float) * (size_t)count);
    return c;
}

/* A code is the nearest one, or as near as fp32 tells: where two are equally far, either is right. */
static void expect_nearest(const double *codebook, uint8_t code, double moment, double scale, int i)
{
    double found = fabs(codebook[code] * scale - moment), best = INFINITY;
    for (int k = 0; k < 256; k++)
        best = fmin(best, fabs(codebook[k] * scale - moment));
    if (found > best + 4e-7 * scale * fmax(1e-6, fabs(moment / scale)))
        fail_msg("element %d: %.9g over %.9g became %.9g, %.3g away where %.3g is possible", i,
                 moment, scale, codebook[code] * scale, found, best);
}

/* AdamW in double on what the codes say before the step. */
static void eight_bits_follow_the_reference(void **state)
{
    (void)state;
    enum { N = 1000, STEPS = 6 };
    double codebook[2][256], moment[2][N];
    float gradient[N], weight[N];
    make_codebook(true, codebook[0]);
    make_codebook(false, codebook[1]);
    sp_random_normal((sp_random_key){.seed = 5}, weight, N);
    coded *c = new_coded(N, weight);
    const sp_adamw_options o = {1e-2, 0.9, 0.999, 1e-8, 1e-2, 0.5, 0.95, 3};
    for (int step = 0; step < STEPS; step++) {
        sp_random_normal((sp_random_key){.seed = 6, .step = (uint64_t)step}, gradient, N);
        for (int i = 0; i < N; i++) /* over seven decades; the last block but one is all 0 */
            gradient[i] *= i / 256 == 2 ? 0 : (float)pow(10, -(i % 8));
        double expected[2][N];
        for (int i = 0; i < N; i++) {
            double g = gradient[i] * o.gradient_scale;
            for (int k = 0; k < 2; k++)
                moment[k][i] = codebook[k][c->codes[k][i]] * c->scales[k][i / 256];
            moment[0][i] += (1 - o.beta1) * (g - moment[0][i]);
            moment[1][i] = o.beta2 * moment[1][i] + (1 - o.beta2) * g * g;
            expected[0][i] = c->weight[i] * (1 - o.learning_rate * o.weight_decay) -
                             o.learning_rate / (1 - pow(o.beta1, 3)) * moment[0][i] /
                                 (sqrt(moment[1][i] / (1 - pow(o.beta2, 3))) + o.epsilon);
            expected[1][i] = o.ema_decay * c->ema[i] + (1 - o.ema_decay) * expected[0][i];
        }
        sp_adamw_tensor tensor = tensor_of(c, gradient);
        adamw(&o, &tensor);
        for (int i = 0; i < N; i++) {
            /* A dozen roundings of fp32, and of the step's own size. */
            assert_true(fabs(c->weight[i] - expected[0][i]) < 2e-6 * (1 + fabs(expected[0][i])));
            assert_true(fabs(c->ema[i] - expected[1][i]) < 2e-6 * (1 + fabs(expected[1][i])));
            for (int k = 0; k < 2; k++) {
                double most = 0;
                for (int j = i / 256 * 256; j < N && j < i / 256 * 256 + 256; j++)
                    most = fmax(most, fabs(moment[k][j]));
                assert_true(fabs(c->scales[k][i / 256] - most) <= 1e-6 * most);
                if (most > 0)
                    expect_nearest(codebook[k], c->codes[k][i], moment[k][i], c->scales[k][i / 256], i);
                else
                    assert_int_equal(c->codes[k][i], k ? 0 : SP_DYNAMIC8_ZERO);
            }
        }
    }
    sp_free(c);
}

static const void *recorded(const sp_tensor_file *file, const char *name, int step)
{
    char full[64];
    const sp_tensor *tensor;
    snprintf(full, sizeof full, step < 0 ? "%s" : "%s.%d", name, step);
    assert_ok(sp_tensor_file_get(file, full, &tensor));
    return tensor->data;
}

static int codes_apart(const uint8_t *a, const uint8_t *b, int count)
{
    int differ = 0;
    for (int i = 0; i < count; i++) {
        assert_true(abs(a[i] - b[i]) <= 1);
        differ += a[i] != b[i];
    }
    return differ;
}

static void eight_bits_follow_bitsandbytes(void **state)
{
    (void)state;
    enum { N = 1000, STEPS = 4 };
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(golden("optimizer.safetensors"), &file));
    double codebook[2][256];
    for (int k = 0; k < 2; k++) {
        make_codebook(k == 0, codebook[k]);
        const float *theirs = recorded(file, k ? "second_map" : "first_map", -1);
        for (int i = 0; i < 256; i++) /* theirs is rounded to fp32 twice */
            assert_true(fabs(theirs[i] - codebook[k][i]) <= 2e-7 * fabs(codebook[k][i]));
    }
    coded *c = new_coded(N, recorded(file, "initial", -1));
    sp_adamw_options o = {1e-2, 0.9, 0.999, 1e-8, 1e-2, 1, 0.95, 0};
    for (int step = 0; step < STEPS; step++) {
        o.step = step + 1;
        sp_adamw_tensor tensor =
            tensor_of(c, (const float *)recorded(file, "gradients", -1) + step * N);
        adamw(&o, &tensor);
        const float *weight = recorded(file, "weight", step), *ema = recorded(file, "ema", step);
        for (int i = 0; i < N; i++) {
            /* As above. A code on the other side of a middle moves the next step by some
             * hundredths of its size, .01. */
            assert_true(fabsf(c->weight[i] - weight[i]) < (step ? 1e-3f : 2e-6f));
            assert_true(fabsf(c->ema[i] - ema[i]) < (step ? 1e-4f : 2e-6f));
        }
        /* Roundings decide about elements in the middle between two codes, which are few. */
        assert_true(codes_apart(c->codes[0], recorded(file, "first_codes", step), N) <= 2);
        assert_true(codes_apart(c->codes[1], recorded(file, "second_codes", step), N) <= 2);
        const float *scale = recorded(file, "first_scales", step);
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(c->scales[0][i] - scale[i]) <= 1e-6f * scale[i]);
    }
    sp_free(c);
    sp_tensor_file_close(file);
}

/* Every value that a code stands for is coded as itself, 0 and -0 too; nothing is lost by decoding
 * and coding again. */
static void codes_survive(void **state)
{
    (void)state;
    float gradient[256] = {0}, weight[256] = {0};
    coded *c = new_coded(256, weight);
    for (int i = 0; i < 256; i++)
        c->codes[0][i] = c->codes[1][i] = (uint8_t)i;
    c->scales[0][0] = c->scales[1][0] = 3;
    const sp_adamw_options o = {.beta1 = 1, .beta2 = 1, .epsilon = 1, .ema_decay = 1, .step = 1};
    sp_adamw_tensor tensor = tensor_of(c, gradient);
    tensor.weight = weight;
    adamw(&o, &tensor);
    for (int i = 0; i < 256; i++) {
        assert_int_equal(c->codes[0][i], i);
        assert_int_equal(c->codes[1][i], i);
    }
    sp_free(c);
}

/* A short last block is as one that is filled up with zeros: what stands behind it is read and written, and stays. */
static void last_block_is_whole(void **state)
{
    (void)state;
    enum { N = 257, FULL = 512, STEPS = 5 };
    float gradient[FULL] = {0}, weight[FULL] = {0};
    sp_random_normal((sp_random_key){.seed = 10}, weight, N);
    coded *short_one = new_coded(N, weight), *full = new_coded(FULL, weight);
    sp_adamw_options o = {1e-2, 0.9, 0.999, 1e-8, 1e-2, 0.5, 0.95, 0};
    for (o.step = 1; o.step <= STEPS; o.step++) {
        sp_random_normal((sp_random_key){.seed = 11, .step = (uint64_t)o.step}, gradient, N);
        sp_adamw_tensor a = tensor_of(short_one, gradient), b = tensor_of(full, gradient);
        adamw(&o, &a);
        adamw(&o, &b);
    }
    full->count = N;
    assert_memory_equal(short_one, full, sizeof *full);
    for (int i = N; i < FULL; i++)
        assert_true(full->codes[0][i] == SP_DYNAMIC8_ZERO && full->codes[1][i] == 0);
    sp_free(short_one);
    sp_free(full);
}

static void same_bits_for_any_instruction_set(void **state)
{
    (void)state;
    enum { N = 2000 };
    const sp_optimizer_loops *loops[] = {&sp_optimizer_loops_baseline, &sp_optimizer_loops_avx2,
                                         &sp_optimizer_loops_avx512};
    const int needed[] = {SP_ISA_BASELINE, SP_ISA_AVX2, SP_ISA_AVX512};
    const sp_adamw_scalars scalars = {0.7f,  0.999f, 0.1f,  0.999f, 0.001f,
                                      0.01f, 0.05f,  1e-8f, 0.95f,  0.05f};
    float gradient[N], weight[N];
    sp_random_normal((sp_random_key){.seed = 8}, weight, N);
    coded *first = NULL;
    for (int k = 0; k < 3; k++) {
        if ((int)sp_cpu_isa() < needed[k]) continue;
        coded *c = new_coded(N, weight);
        for (int step = 0; step < 3; step++) {
            sp_random_normal((sp_random_key){.seed = 9, .step = (uint64_t)step}, gradient, N);
            sp_adamw_tensor tensor = tensor_of(c, gradient);
            loops[k]->adamw8bit(&scalars, &tensor, 0, N);
        }
        if (first) assert_memory_equal(first, c, sizeof *c);
        if (first)
            sp_free(c);
        else
            first = c;
    }
    sp_free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_torch),
        cmocka_unit_test(same_bits_for_any_thread_count),
        cmocka_unit_test(without_average),
        cmocka_unit_test(another_average_has_the_same_bits),
        cmocka_unit_test(eight_bits_follow_the_reference),
        cmocka_unit_test(eight_bits_follow_bitsandbytes),
        cmocka_unit_test(codes_survive),
        cmocka_unit_test(last_block_is_whole),
        cmocka_unit_test(same_bits_for_any_instruction_set),
        cmocka_unit_test(sum_of_squares_keeps_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
