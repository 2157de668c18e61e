/* Moving averages of weights against closed forms, and what is read as one. */
#include <math.h>
#include "support.h"
#include "train/average.h"

static void assert_near(double found, double wanted, double tolerance)
{
    if (!(fabs(found - wanted) <= tolerance)) fail_msg("%.17g is not within %g of %.17g", found, tolerance, wanted);
}

/* What share of the average after `updates` updates the weights of each have: (1 - beta_i) prod_(j > i) beta_j. The
 * rest, what was there before, is returned. */
static double shares(const sp_average *average, int updates, int64_t samples, double *share)
{
    double kept = 1;
    for (int i = updates; i > 0; i--) {
        double beta = sp_average_rate(average, i - 1, samples);
        share[i - 1] = kept * (1 - beta);
        kept *= beta;
    }
    return kept;
}

static double sum(const double *share, int count)
{
    double all = 0;
    for (int i = 0; i < count; i++)
        all += share[i];
    return all;
}

/* Standard deviation of the time of an update, as a share of the run. */
static double relative_width(const double *share, int count)
{
    double mean = 0, square = 0;
    for (int i = 0; i < count; i++) {
        double t = (i + 0.5) / count;
        mean += share[i] * t;
        square += share[i] * t * t;
    }
    return sqrt(square - mean * mean);
}

enum { MANY = 20000 };
static double share[MANY];

/* Karras et al. 2024: sigma_rel .05, .10 and .15 are gamma = 16.97, 6.94 and 3.56 (their section 3.1); the width is
 * sigma_rel of the run, however long it is, and all weights together are 1. */
static void powers_are_as_wide_as_they_say(void **state)
{
    (void)state;
    static const double widths[] = {0.01, 0.05, 0.1, 0.15, 0.25, 0.28}, gammas[] = {0, 16.97, 6.94, 3.56, 0, 0};
    for (int k = 0; k < 6; k++) {
        sp_average a;
        char text[48];
        snprintf(text, sizeof text, "power:%g", widths[k]);
        assert_ok(sp_average_of("ema_decay", text, &a));
        double g = a.gamma, t = pow(widths[k], -2);
        if (gammas[k] > 0) assert_near(g, gammas[k], 0.005);
        /* the paper's cubic, and no root beyond */
        double cubic = ((g + 7) * g + 16 - t) * g + 12 - t;
        assert_true(fabs(cubic) <= 1e-9 * (g * g * g + t * (g + 1)));
        for (int count = MANY / 8; count <= MANY; count *= 8) {
            assert_true(shares(&a, count, 32, share) == 0); /* what was there before */
            assert_near(sum(share, count), 1, 1e-9);
            assert_near(relative_width(share, count), widths[k], 2e-4 * widths[k] + 1e-6);
            for (int i = 0; i < count; i += 97) {
                double closed = pow((i + 1.0) / count, g + 1) - pow((double)i / count, g + 1);
                assert_near(share[i], closed, 1e-9 / count);
            }
        }
    }
    assert_near(sp_average_gamma(sqrt(1.0 / 12)), 0, 1e-7); /* the plain mean */
}

/* Karras et al. 2022: half of the average is younger than the half-life, once the run is long enough; before, than a
 * twentieth of the samples. */
static void half_lives_are_halves(void **state)
{
    (void)state;
    enum { SAMPLES = 4 };
    sp_average a;
    assert_ok(sp_average_of("ema_decay", "half-life:2000", &a));
    assert_true(shares(&a, MANY, SAMPLES, share) == 0);
    assert_near(sum(share, MANY), 1, 1e-9);
    assert_near(sum(share + MANY - 500, 500), 0.5, 1e-9);
    assert_near(sum(share + MANY - 1000, 1000), 0.75, 1e-9);
    assert_true(sp_average_rate(&a, 0, SAMPLES) == 0);
    assert_near(sp_average_rate(&a, 100, SAMPLES), pow(0.5, 4 / (0.05 * 400)), 1e-15);
    assert_near(sp_average_rate(&a, 1000000, SAMPLES), pow(0.5, 4 / 2000.0), 1e-15);
    /* the same average whatever the number of samples in an update, but for the grain */
    assert_near(sp_average_rate(&a, 1000000, 2 * SAMPLES), pow(sp_average_rate(&a, 1000000, SAMPLES), 2), 1e-15);
}

static void rates_are_rates(void **state)
{
    (void)state;
    sp_average a;
    assert_ok(sp_average_of("ema_decay", "0.95", &a));
    for (int t = 0; t < 100; t += 9)
        assert_true(sp_average_rate(&a, t, 7) == 0.95);
    a.rises = true;
    assert_true(sp_average_rate(&a, 0, 7) == 0.1);
    assert_true(sp_average_rate(&a, 10, 7) == 11 / 20.0);
    assert_true(sp_average_rate(&a, 1000, 7) == 0.95);
}

static void what_is_read(void **state)
{
    (void)state;
    static const char *const good[] = {"0",         "1",          "0.95",        "1e-3",
                                       "power:0.1", "power:0.28", "half-life:1", "half-life:500000"};
    static const struct {
        const char *text, *message;
    } bad[] = {{"", "`ema_decay` is \"\", a number from 0 to 1, power:SIGMA_REL or half-life:SAMPLES is expected"},
               {"nan", "a number from 0 to 1"},
               {"0.5x", "a number from 0 to 1"},
               {" 0.5", "a number from 0 to 1"},
               {"power", "a number from 0 to 1"},
               {"power:", "a number from 0 to 1"},
               {"powers:0.1", "a number from 0 to 1"},
               {"half-life:inf", "a number from 0 to 1"},
               {"1.5", "`ema_decay` is \"1.5\", X with X from 0 to 1 is expected"},
               {"power:0.29", "power:X with X from 0.0001 to 0.28 is expected"},
               {"power:0", "power:X with X from 0.0001"},
               {"half-life:0", "half-life:X with X from 1 to 1e+15 is expected"}};
    sp_average a, b;
    char text[SP_AVERAGE_TEXT];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(sp_average_of("ema_decay", good[i], &a));
        assert_ok(sp_average_of("ema_decay", sp_average_text(&a, text), &b));
        assert_true(sp_average_equal(&a, &b));
    }
    assert_string_equal(sp_average_text(&a, text), "half-life:500000");
    assert_ok(sp_average_of("ema_decay", "power:0.1", &a));
    assert_string_equal(sp_average_text(&a, text), "power:0.1");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_status(sp_average_of("ema_decay", bad[i].text, &a), SP_ARGUMENT);
        assert_message(bad[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(powers_are_as_wide_as_they_say),
        cmocka_unit_test(half_lives_are_halves),
        cmocka_unit_test(rates_are_rates),
        cmocka_unit_test(what_is_read),
    };
    return cmocka_run_group_tests_name("average", tests, NULL, NULL);
}
