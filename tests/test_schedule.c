/* How work is shared out: the record of splits against splits that are known, against threads that work, and of a plan
 * whose steps are known. */
#include <math.h>
#include <omp.h>
#include <splam/eval.h>
#include "support.h"
#include "backend/registry.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"

/* ---- loops ---- */

enum { MOST = 5000, MOST_THREADS = 16 };
typedef struct {
    int seen[MOST];
    int64_t of_thread[MOST_THREADS]; /* items */
    int64_t slots_seen;              /* bits */
} work;

static void loop(void *context, int64_t begin, int64_t end)
{
    work *w = context;
    w->of_thread[omp_get_thread_num()] += end - begin;
    for (int64_t i = begin; i < end; i++)
        w->seen[i]++;
}

static void slot_work(void *context, int64_t begin, int64_t end, int64_t slot)
{
    work *w = context;
    w->slots_seen |= (int64_t)1 << slot;
    for (int64_t i = begin; i < end; i++)
        w->seen[i]++;
}

static void seen_once(const work *w, int64_t count)
{
    for (int64_t i = 0; i < MOST; i++)
        assert_int_equal(w->seen[i], i < count);
}

static void known_shares(void **state)
{
    (void)state;
    static const struct {
        int threads;
        int64_t count, grain, largest;
    } known[] = {
        {4, 10, 1, 3},      /* 3 3 2 2 */
        {4, 10, 4, 4},      /* grains of 4, 4 and 2 */
        {4, 10, 16, 10},    /* one grain: one thread has all */
        {128, 64, 1, 1},    /* half of the threads have nothing */
        {3, 4999, 7, 1673}, /* 715 grains: 239 of 7, 238, and 238 less what the last is short of */
        {1, 100, 1, 100},
    };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        work w = {0};
        sp_split_record record = {.threads = known[k].threads};
        sp_record_splits(&record);
        assert_int_equal(sp_threads(), known[k].threads);
        sp_parallel_for(known[k].count, known[k].grain, loop, &w);
        sp_record_splits(NULL);
        seen_once(&w, known[k].count);
        assert_int_equal(record.loops, 1);
        assert_int_equal(record.items, known[k].count);
        assert_int_equal(llround(record.share * (double)known[k].count), known[k].largest);
        assert_true(record.seconds >= 0 && fabs(record.critical - record.seconds * record.share) < 1e-12);
    }
}

static void known_slots(void **state)
{
    (void)state;
    static const struct {
        int64_t items, slots, largest;
    } known[] = {
        {33, 4, 9},    /* one by one: 9 8 8 8 */
        {1000, 4, 256}, /* 16 at a time: 256 256 248 240 */
        {3, 3, 1},
        {5, 1, 5},
    };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        work w = {0};
        sp_slots slots = {.items = known[k].items, .slots = known[k].slots, .work = slot_work, .context = &w};
        sp_split_record record = {.threads = 8};
        sp_record_splits(&record);
        sp_slots_run(&slots);
        sp_record_splits(NULL);
        seen_once(&w, known[k].items);
        assert_int_equal(w.slots_seen, (1 << known[k].slots) - 1);
        assert_int_equal(record.items, known[k].items);
        assert_int_equal(llround(record.share * (double)known[k].items), known[k].largest);
    }
}

/* The record says of a loop what threads that are there do. */
static void record_equals_threads(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 7; threads++)
        for (int64_t count = 1; count < MOST; count = count * 3 + 1)
            for (int64_t grain = 1; grain <= 64; grain *= 8) {
                work real = {0}, one = {0};
                int64_t largest = 0;
                sp_set_threads(threads);
                sp_parallel_for(count, grain, loop, &real);
                for (int t = 0; t < threads; t++)
                    largest = real.of_thread[t] > largest ? real.of_thread[t] : largest;
                sp_set_threads(2);
                sp_split_record record = {.threads = threads};
                sp_record_splits(&record);
                sp_parallel_for(count, grain, loop, &one);
                sp_record_splits(NULL);
                assert_int_equal(one.of_thread[0], count);
                assert_int_equal(llround(record.share * (double)count), largest);
            }
    sp_set_threads(0);
}

static void outer(void *context, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        sp_parallel_for(MOST, 1, loop, (work *)context + i);
}

/* A loop within a loop belongs to the share that it is in, and a library has one thread. */
static void nested_and_libraries(void **state)
{
    (void)state;
    static work inner[6];
    sp_split_record record = {.threads = 4};
    sp_record_splits(&record);
    sp_parallel_for(6, 1, outer, inner);
    assert_false(record.library);
    sp_library_threads();
    assert_int_equal(omp_get_max_threads(), 1);
    sp_record_splits(NULL);
    assert_true(record.library);
    assert_int_equal(record.loops, 1);
    assert_int_equal(llround(record.share * 6), 2);
    for (int i = 0; i < 6; i++)
        seen_once(&inner[i], MOST);
    sp_library_threads();
    assert_int_equal(omp_get_max_threads(), sp_threads());
}

/* A page of fresh memory belongs to the thread that writes it first. */
static void tensors_are_cleared_by_all(void **state)
{
    (void)state;
    static const sp_dtype dtypes[] = {SP_F32, SP_DYNAMIC8_SIGNED};
    for (int i = 0; i < 2; i++) {
        sp_tensor tensor;
        sp_split_record record = {.threads = 4};
        sp_record_splits(&record);
        assert_ok(sp_tensor_create(dtypes[i], sp_shape_of(1 << 22), &tensor));
        sp_record_splits(NULL);
        assert_int_equal(record.loops, 1);
        assert_int_equal(record.items, sp_tensor_bytes(&tensor));
        assert_true(record.share == 0.25);
        const unsigned char *bytes = tensor.data;
        for (size_t k = 0; k < sp_tensor_bytes(&tensor); k++)
            assert_int_equal(bytes[k], i ? SP_DYNAMIC8_ZERO : 0);
        sp_tensor_free(&tensor);
    }
}

/* ---- a model ---- */

static json_t *bench(const char *model, int64_t threads, const char *part)
{
    char *report;
    splam_bench_options o = splam_bench_defaults();
    o.model = model;
    o.threads_model = threads;
    o.part = part;
    o.train_batch_size = 2;
    o.precision = SPLAM_F32;
    o.json = true;
    assert_ok(splam_bench(&o, NULL, &report));
    json_error_t error;
    json_t *json = json_loads(report, 0, &error);
    splam_free(report);
    assert_non_null(json);
    json_t *found = json_object_get(json_object_get(json_object_get(json, "threads_model"), "parts"), part);
    assert_non_null(found);
    json_incref(found);
    json_decref(json);
    return found;
}

static double number(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* Rows say the same as their sum, shares are possible ones, and one thread has all of everything. */
static void rows_add_up(const json_t *part, double threads)
{
    size_t i;
    json_t *row;
    double known = 0, model = 0, library = 0;
    json_array_foreach(json_object_get(part, "rows"), i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "rate")), "step")) continue;
        double seconds = number(row, "seconds");
        if (!json_object_get(row, "largest_share")) {
            library += seconds;
            continue;
        }
        known += seconds;
        model += number(row, "model_seconds");
        double share = number(row, "largest_share");
        assert_true(share <= 1 && share >= 1 / threads - 1e-9);
        assert_true(number(row, "model_seconds") >= seconds / threads * (1 - 1e-5));
        if (number(row, "loops") == 0) assert_true(share == 1);
    }
    const json_t *sum = json_object_get(part, "step");
    assert_true(known > 0);
    /* Six digits are printed of each. */
    assert_true(fabs(number(sum, "seconds") - known) <= 1e-4 * known);
    assert_true(fabs(number(sum, "model_seconds") - model) <= 1e-4 * model);
    assert_true(fabs(number(sum, "library_seconds") - library) <= 1e-4 * (known + library));
    assert_true(fabs(number(sum, "efficiency") - known / (threads * model)) <= 1e-3);
}

static void model_of_a_model(void **state)
{
    (void)state;
    char *teacher = sp_path_join(getenv("SPLAM_SOURCE"), "assets/teacher");
    static const char *const parts[] = {"unet_forward", "distill_step"};
    for (int p = 0; p < 2; p++)
        for (int threads = 1; threads <= 64; threads *= 8) {
            json_t *part = bench(teacher, threads, parts[p]);
            rows_add_up(part, threads);
            double efficiency = number(json_object_get(part, "step"), "efficiency");
            if (threads == 1) assert_true(fabs(efficiency - 1) < 1e-5);
            if (threads == 64) assert_true(efficiency < 0.9); /* it is a small model */
            json_decref(part);
        }
    sp_free(teacher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_shares),         cmocka_unit_test(known_slots),
        cmocka_unit_test(record_equals_threads), cmocka_unit_test(nested_and_libraries),
        cmocka_unit_test(tensors_are_cleared_by_all),
        cmocka_unit_test(model_of_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
