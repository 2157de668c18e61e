/* The backend's services for a training loop: AdamW with a weight average, sums of squares. */
#include <math.h>
#include "support.h"
#include "backend/optimizer.h"
#include "base/parallel.h"
#include "base/random.h"

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
        sp_adamw_tensor tensor = {COUNT, w, m, v, gradients[step], ema};
        sp_cpu_optimizer()->adamw(&o, &tensor);
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
        sp_adamw_tensor tensor = {LARGE,  base + LARGE,    base + LARGE * 2, base + LARGE * 3,
                                  memory, base + LARGE * 4};
        sp_cpu_optimizer()->adamw(&o, &tensor);
        sums[run] = sp_cpu_optimizer()->sum_of_squares(memory, LARGE);
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
    sp_cpu_optimizer()->adamw(&o, &(sp_adamw_tensor){1, &w, &m, &v, &g, NULL});
    assert_true(fabsf(w - 0.9f) < 1e-6f); /* a first step has the size of the learning rate */
    assert_true(sp_cpu_optimizer()->sum_of_squares(NULL, 0) == 0);
}

static void sum_of_squares_keeps_what_is_not_finite(void **state)
{
    (void)state;
    float x[70] = {0};
    for (int i = 0; i < 70; i += 23) {
        x[i] = NAN;
        assert_true(isnan(sp_cpu_optimizer()->sum_of_squares(x, 70)));
        x[i] = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_torch),
        cmocka_unit_test(same_bits_for_any_thread_count),
        cmocka_unit_test(without_average),
        cmocka_unit_test(sum_of_squares_keeps_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
