/* Frechet distances of sets of features, their intervals, and those of infinitely many, against numpy, scipy and the
 * authors' program. */
#include "score_support.h"
#include <math.h>
#include "base/parallel.h"
#include "base/random.h"
#include "eval/fd_infinity.h"
#include "eval/frechet_interval.h"

/* ---- Frechet distances ---- */

static sp_frechet_side of(const sp_tensor *features)
{
    return (sp_frechet_side){.features = features};
}

static void test_rows_that_count_more_than_once(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), b = rows("b", 50, 12, 0.5);
    uint32_t times_a[60], times_b[50];
    for (uint32_t i = 0; i < 60; i++)
        times_a[i] = i % 3;
    for (uint32_t i = 0; i < 50; i++)
        times_b[i] = (i + 1) % 4;
    const sp_frechet_side x = {.features = &a, .times = times_a}, y = {.features = &b, .times = times_b};
    double d, wanted = number("frechet.times");
    assert_ok(sp_frechet_of_sides(&x, &y, &d));
    assert_near(d, wanted, 1e-10 * wanted);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

static void set_column(sp_tensor *t, int column, float value)
{
    for (int64_t i = 0; i < t->shape.dim[0]; i++)
        ((float *)t->data)[i * t->shape.dim[1] + column] = value;
}

static void copy_column(sp_tensor *t, int from, int to)
{
    for (int64_t i = 0; i < t->shape.dim[0]; i++)
        ((float *)t->data)[i * t->shape.dim[1] + to] = ((float *)t->data)[i * t->shape.dim[1] + from];
}

/* Both ways round, of features, and of their means and covariances, which say less where the rank is not full: an
 * eigenvalue that should be 0 is rounding, 1e-16, and its root 1e-8. */
static void check_ranks(const sp_tensor *a, const sp_tensor *b, const char *name)
{
    sp_gaussian one, two;
    double d, wanted = number(name);
    const sp_frechet_side x = of(a), y = of(b), u = {.gaussian = &one}, v = {.gaussian = &two};
    const sp_frechet_side *const pairs[][2] = {{&x, &y}, {&y, &x}, {&u, &v}, {&v, &u}, {&x, &v}, {&u, &y}};
    assert_ok(sp_gaussian_fit(a, &one));
    assert_ok(sp_gaussian_fit(b, &two));
    for (int i = 0; i < 6; i++) {
        assert_ok(sp_frechet_of_sides(pairs[i][0], pairs[i][1], &d));
        assert_near(d, wanted, (i < 2 ? 1e-10 : 1e-7) * wanted);
    }
    for (int i = 0; i < 4; i++) {
        const sp_frechet_side *const each[] = {&x, &y, &u, &v};
        assert_ok(sp_frechet_of_sides(each[i], each[i], &d));
        assert_near(d, 0, 1e-12);
    }
    sp_gaussian_free(&one);
    sp_gaussian_free(&two);
}

static void test_frechet_of_any_rank(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t a, b, width;
    } cases[] = {{"frechet.mixed", 200, 9, 24}, {"frechet.few", 9, 14, 24}, {"frechet.constant", 60, 50, 12},
                 {"frechet.twice", 60, 50, 12}};
    for (int i = 0; i < 4; i++) {
        sp_tensor a = rows("a", cases[i].a, cases[i].width, 1), b = rows("b", cases[i].b, cases[i].width, 0.5);
        for (int side = 0; side < 2 && i >= 2; side++) {
            set_column(side ? &b : &a, 3, 0.1f);
            set_column(side ? &b : &a, 7, 0);
            if (i == 3) copy_column(side ? &b : &a, 5, 7);
        }
        check_ranks(&a, &b, cases[i].name);
        sp_tensor_free(&a);
        sp_tensor_free(&b);
    }
}

/* What is left is the means and the other's trace. */
static void test_frechet_of_a_point(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 12, 1), point = rows("b", 40, 12, 1);
    for (int i = 0; i < 12; i++)
        set_column(&point, i, (float)i);
    const sp_frechet_side x = of(&a), y = of(&point);
    sp_gaussian g;
    double d, wanted = 0;
    assert_ok(sp_gaussian_fit(&a, &g));
    for (int i = 0; i < 12; i++)
        wanted += (g.mean[i] - i) * (g.mean[i] - i) + g.covariance[i * 13];
    assert_ok(sp_frechet_of_sides(&x, &y, &d));
    assert_near(d, wanted, 1e-12 * wanted);
    sp_gaussian_free(&g);
    sp_tensor_free(&a);
    sp_tensor_free(&point);
}

static void test_frechet_refuses_what_is_not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int64_t count = 9; count <= 60; count += 51)
        for (int i = 0; i < 3; i++) {
            sp_tensor a = rows("a", count, 12, 1), b = rows("b", 50, 12, 1);
            const sp_frechet_side x = of(&a), y = of(&b);
            sp_gaussian g;
            double d;
            ((float *)a.data)[17] = bad[i];
            assert_status(sp_frechet_of_sides(&y, &x, &d), SP_NUMERIC);
            assert_message("element 17");
            assert_status(sp_gaussian_fit(&a, &g), SP_NUMERIC);
            assert_message("element 17");
            assert_ok(sp_gaussian_fit(&b, &g));
            g.covariance[13] = (double)bad[i];
            const sp_frechet_side statistics = {.gaussian = &g};
            assert_status(sp_frechet_of_sides(&y, &statistics, &d), SP_NUMERIC);
            sp_gaussian_free(&g);
            sp_tensor_free(&a);
            sp_tensor_free(&b);
        }
}

/* Covariances have the same bits with any number, and LAPACK's eigenvalues all but the last. */
static void test_frechet_with_any_threads(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 900, 260, 1), b = rows("b", 700, 260, 0.5), few = rows("c", 200, 260, 0.5);
    const sp_frechet_side x = of(&a), y = of(&b), z = of(&few);
    double d[2][2];
    for (int i = 0; i < 2; i++) {
        sp_set_threads(1 + i);
        assert_ok(sp_frechet_of_sides(&x, &y, &d[i][0]));
        assert_ok(sp_frechet_of_sides(&x, &z, &d[i][1]));
    }
    sp_set_threads(0);
    assert_near(d[0][0], d[1][0], 1e-12 * d[0][0]);
    assert_near(d[0][1], d[1][1], 1e-12 * d[0][1]);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&few);
}

/* ---- its interval ---- */

static double half_of(const sp_frechet_side *a, const sp_frechet_side *b)
{
    sp_interval found;
    assert_ok(sp_frechet_interval(a, b, 7, NULL, &found));
    assert_near(found.low + found.high, 14, 1e-12);
    return (found.high - found.low) / 2;
}

static const double reach = 1.959963984540054; /* standard deviations of a normal distribution */

/* Far apart, the distance is that of the means squared, to a few percent, and its deviation follows from theirs. */
static void test_interval_of_far_sets(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 300, 1, 1), b = rows("b", 200, 1, 1);
    for (int i = 0; i < 200; i++)
        ((float *)b.data)[i] += 10;
    sp_gaussian one, two;
    assert_ok(sp_gaussian_fit(&a, &one));
    assert_ok(sp_gaussian_fit(&b, &two));
    const sp_frechet_side x = of(&a), y = of(&b), known = {.gaussian = &two};
    double va = one.covariance[0] / 300, vb = two.covariance[0] / 200, apart = two.mean[0] - one.mean[0];
    double both = half_of(&x, &y), half = half_of(&x, &known);
    sp_interval interval;
    assert_near(both, 2 * reach * apart * sqrt(va + vb), 0.05 * both);
    assert_near(half, 2 * reach * apart * sqrt(va), 0.05 * half);
    assert_true(half_of(&x, &y) == both);
    assert_near(half_of(&y, &x), both, 0.01 * both);
    assert_status(sp_frechet_interval(&known, &known, 0, NULL, &interval), SP_ARGUMENT);
    assert_status(sp_frechet_interval(&x, &y, 0, &stopping, &interval), SP_CANCELLED);
    sp_gaussian_free(&one);
    sp_gaussian_free(&two);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* Leaving out one row after the other says the same, where a side is known: with many rows to a feature the second
 * order is nothing. Rows lean to one side, so that it counts where the other set's mean lies. */
static void test_interval_is_a_jackknifes(void **state)
{
    enum { ROWS = 500, WIDTH = 3 };
    (void)state;
    sp_tensor a = rows("a", ROWS, WIDTH, 1), b = rows("b", 400, WIDTH, 0.5);
    uint32_t times[ROWS];
    sp_gaussian g;
    for (int i = 0; i < ROWS * WIDTH; i++)
        ((float *)a.data)[i] *= 4 * ((float *)a.data)[i];
    assert_ok(sp_gaussian_fit(&b, &g));
    const sp_frechet_side x = of(&a), known = {.gaussian = &g};
    double d[ROWS], mean = 0, sum = 0;
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < ROWS; k++)
            times[k] = k != i;
        const sp_frechet_side less = {.features = &a, .times = times};
        assert_ok(sp_frechet_of_sides(&less, &known, &d[i]));
        mean += d[i] / ROWS;
    }
    for (int i = 0; i < ROWS; i++)
        sum += (d[i] - mean) * (d[i] - mean) * (ROWS - 1) / ROWS;
    assert_near(half_of(&x, &known), reach * sqrt(sum), 0.03 * reach * sqrt(sum));
    assert_near(half_of(&known, &x), reach * sqrt(sum), 0.03 * reach * sqrt(sum));
    sp_gaussian_free(&g);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* What does not vary says nothing, nor does what is there twice. */
static void test_interval_of_any_rank(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 60, 5, 1), b = rows("b", 50, 5, 0.5), wide[2];
    const sp_frechet_side x = of(&a), y = of(&b), u = of(&wide[0]), v = of(&wide[1]);
    for (int k = 0; k < 2; k++) {
        const sp_tensor *from = k ? &b : &a;
        assert_ok(sp_tensor_create(SP_F32, sp_shape_of(from->shape.dim[0], 7), &wide[k]));
        for (int64_t i = 0; i < from->shape.dim[0]; i++)
            memcpy((float *)wide[k].data + 7 * i, (const float *)from->data + 5 * i, 5 * sizeof(float));
        set_column(&wide[k], 5, 0.25f);
        set_column(&wide[k], 6, -3);
    }
    double half = half_of(&x, &y);
    assert_near(half_of(&u, &v), half, 1e-9 * half);
    assert_near(half_of(&u, &u), half_of(&x, &x), 1e-9 * half);
    for (int i = 0; i < 7; i++)
        set_column(&wide[0], i, (float)i);
    assert_true(half_of(&u, &v) > 0); /* a point: the means and the other's trace */
    assert_near(half_of(&u, &u), 0, 1e-9);
    sp_tensor *const all[] = {&a, &b, &wide[0], &wide[1]};
    for (int i = 0; i < 4; i++)
        sp_tensor_free(all[i]);
}

enum { TIMES = 200 };

/* Normal numbers, whose first columns are wider and further off by the shift, a tenth part of them far out. */
static sp_tensor anew(uint64_t seed, uint64_t which, int64_t count, int64_t width, double shift)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(count, width), &t));
    float *x = t.data;
    sp_random_normal((sp_random_key){seed, SP_STREAM_BOOTSTRAP, which, 1 << 20}, x, (size_t)(count * width));
    for (int64_t i = 0; i < count * width; i++) {
        double slope = 1 - (double)(i % width) / (double)width, out = (i / width) % 10 ? 1 : 1.5;
        x[i] = (float)((double)x[i] * out * (1 + shift * slope) + shift * slope);
    }
    return t;
}

/* Of sets drawn anew, how many of the intervals hold the mean distance of all of them; and how long they are, to how
 * long they should be. */
static void check_coverage(int64_t count_a, int64_t count_b, int64_t width, double shift, double least)
{
    double d[TIMES], half[TIMES], mean = 0, square = 0, said = 0;
    int held = 0;
    for (uint64_t i = 0; i < TIMES; i++) {
        sp_tensor a = anew(i, 0, count_a, width, 0), b = anew(i, 1, count_b, width, shift);
        const sp_frechet_side x = of(&a), y = of(&b);
        assert_ok(sp_frechet_of_sides(&x, &y, &d[i]));
        half[i] = half_of(&x, &y);
        mean += d[i] / TIMES;
        sp_tensor_free(&a);
        sp_tensor_free(&b);
    }
    for (int i = 0; i < TIMES; i++) {
        square += (d[i] - mean) * (d[i] - mean) / (TIMES - 1);
        said += half[i] * half[i] / (reach * reach) / TIMES;
        held += fabs(d[i] - mean) <= half[i];
    }
    print_message("%d and %d rows of %d, shift %.1f: distance %.4f, deviation %.4f, said %.4f, %.1f %% hold it\n",
                  (int)count_a, (int)count_b, (int)width, shift, mean, sqrt(square), sqrt(said), 100.0 * held / TIMES);
    assert_in_range(held, (int)(least * TIMES), TIMES);
    assert_near(sqrt(said / square), 1, 0.3);
}

/* Of 200, 95 % are 190, give or take 3 (one standard deviation); a bootstrap of equal distributions says 1.8 times what
 * is true, and holds all. */
static void test_intervals_hold_what_they_say(void **state)
{
    (void)state;
    check_coverage(128, 128, 8, 0, 0.9);
    check_coverage(128, 128, 8, 0.3, 0.9);
    check_coverage(200, 60, 4, 0.3, 0.9);
    check_coverage(64, 64, 16, 0.3, 0.9);
    check_coverage(12, 12, 16, 0.3, 0.9);
}

/* ---- of infinitely many ---- */

static void test_fd_infinity_is_dgm_evals(void **state)
{
    (void)state;
    sp_tensor a = rows("a", 300, 12, 1), b = rows("b", 200, 12, 0.5);
    sp_gaussian g;
    const sp_frechet_side real = of(&b), statistics = {.gaussian = &g};
    double d, wanted = number("fd_infinity.many");
    assert_ok(sp_fd_infinity(&a, &real, 2020, NULL, &d));
    assert_near(d, wanted, 1e-9 * wanted);
    assert_ok(sp_gaussian_fit(&b, &g));
    assert_ok(sp_fd_infinity(&a, &statistics, 2020, NULL, &d));
    assert_near(d, wanted, 1e-9 * wanted);
    assert_ok(sp_fd_infinity(&a, &real, 2021, NULL, &d));
    assert_true(fabs(d - wanted) > 1e-6);
    assert_status(sp_fd_infinity(&a, &real, 2020, &stopping, &d), SP_CANCELLED);
    ((float *)a.data)[7] = NAN;
    assert_status(sp_fd_infinity(&a, &real, 2020, NULL, &d), SP_NUMERIC);
    sp_gaussian_free(&g);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    a = rows("a", 80, 24, 1), b = rows("b", 20, 24, 0.5);
    wanted = number("fd_infinity.few");
    assert_ok(sp_fd_infinity(&a, &real, 2020, NULL, &d));
    assert_near(d, wanted, 1e-9 * wanted);
    a.shape.dim[0] = 2;
    assert_status(sp_fd_infinity(&a, &real, 2020, NULL, &d), SP_SHAPE);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
}

/* ---- memory ---- */

typedef struct {
    sp_tensor a, b, narrow; /* few rows, more than features, rank not full */
} sets;

static sp_status attempt_distances(void *context)
{
    sets *s = context;
    const sp_frechet_side a = of(&s->a), b = of(&s->b), narrow = of(&s->narrow);
    double d;
    SP_TRY(sp_frechet_of_sides(&a, &a, &d));
    SP_TRY(sp_frechet_of_sides(&b, &b, &d));
    SP_TRY(sp_frechet_of_sides(&a, &narrow, &d));
    sp_interval interval;
    SP_TRY(sp_frechet_interval(&a, &narrow, d, NULL, &interval));
    return sp_fd_infinity(&s->b, &b, 1, NULL, &d);
}

static void test_distances_starve(void **state)
{
    (void)state;
    sets s = {rows("a", 5, 8, 1), rows("b", 12, 8, 1), rows("c", 12, 8, 1)};
    set_column(&s.narrow, 3, 1);
    assert_true(fail_every_allocation(attempt_distances, &s) > 40);
    sp_tensor_free(&s.a);
    sp_tensor_free(&s.b);
    sp_tensor_free(&s.narrow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_that_count_more_than_once),
        cmocka_unit_test(test_frechet_of_any_rank),
        cmocka_unit_test(test_frechet_of_a_point),
        cmocka_unit_test(test_frechet_refuses_what_is_not_finite),
        cmocka_unit_test(test_frechet_with_any_threads),
        cmocka_unit_test(test_interval_of_far_sets),
        cmocka_unit_test(test_interval_is_a_jackknifes),
        cmocka_unit_test(test_interval_of_any_rank),
        cmocka_unit_test(test_intervals_hold_what_they_say),
        cmocka_unit_test(test_fd_infinity_is_dgm_evals),
        cmocka_unit_test(test_distances_starve),
    };
    return cmocka_run_group_tests(tests, open_distances, close_golden);
}
