/* Bound plans: packed weights are made once and shared, by runs and by plans of different sizes, in any thread. */
#include "support.h"

#include <pthread.h>

#include "backend/cpu/cpu.h"
#include "base/random.h"
#include "graph/run.h"
#include "ops/ops.h"

enum { CHANNELS = 64, SEED = 5 };

typedef struct {
    sp_weights *weights;
} fixture;

static sp_tensor random_tensor(sp_shape shape, uint64_t stream)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, shape, &t));
    sp_random_normal((sp_random_key){SEED, SP_STREAM_NOISE, stream, 0}, t.data, (size_t)sp_tensor_count(&t));
    return t;
}

static int create_weights(void **state)
{
    fixture *f = sp_alloc_zero(sizeof *f);
    assert_ok(sp_weights_create(&f->weights));
    assert_ok(sp_weights_add(f->weights, "kernel", random_tensor(sp_shape_of(CHANNELS, CHANNELS, 3, 3), 1)));
    assert_ok(sp_weights_add(f->weights, "matrix", random_tensor(sp_shape_of(CHANNELS, CHANNELS), 2)));
    *state = f;
    return 0;
}

static int destroy_weights(void **state)
{
    fixture *f = *state;
    sp_weights_destroy(f->weights);
    sp_free(f);
    return 0;
}

/* y = matrix p + conv(x): p changes with the prompt, x with the step. */
static sp_plan *plan_of(int64_t side)
{
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    assert_ok(sp_builder_create(&b));
    sp_set_enter(b, "model", SP_RATE_RUN, NULL, NULL);
    sp_value *kernel = sp_parameter(b, "kernel", sp_shape_of(CHANNELS, CHANNELS, 3, 3)),
             *matrix = sp_parameter(b, "matrix", sp_shape_of(CHANNELS, CHANNELS));
    sp_set_leave(b);
    sp_value *x = sp_input(b, "x", SP_F32, sp_shape_of(1, side, side, CHANNELS), SP_RATE_STEP),
             *p = sp_input(b, "p", SP_F32, sp_shape_of(1, CHANNELS), SP_RATE_PROMPT);
    sp_value *per_channel = sp_linear(b, p, matrix, NULL, NULL);
    const sp_conv2d_options same = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    sp_output(b, "y", sp_conv2d(b, x, kernel, NULL, per_channel, NULL, same));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_cpu_device(), sp_cpu_device()->preferred_dtype, &plan));
    return plan;
}

static void set_inputs(sp_run *run, int64_t side, uint64_t stream)
{
    sp_tensor x = random_tensor(sp_shape_of(1, side, side, CHANNELS), 10 + stream),
              p = random_tensor(sp_shape_of(1, CHANNELS), 20 + stream);
    assert_ok(sp_run_set_input(run, "x", &x));
    assert_ok(sp_run_set_input(run, "p", &p));
    sp_tensor_free(&x);
    sp_tensor_free(&p);
}

static sp_tensor output_of(sp_run *run)
{
    sp_tensor y;
    assert_ok(sp_run_execute(run, NULL));
    assert_ok(sp_run_get_output(run, "y", &y));
    return y;
}

/* What a run with packs of its own computes. */
static sp_tensor expected(const fixture *f, int64_t side, uint64_t stream)
{
    sp_weights *copy;
    sp_run *run;
    sp_plan *plan = plan_of(side);
    assert_ok(sp_weights_copy(f->weights, SP_F32, &copy));
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", copy));
    set_inputs(run, side, stream);
    sp_tensor y = output_of(run);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    sp_weights_destroy(copy);
    return y;
}

static void check_output(const fixture *f, sp_run *run, int64_t side, uint64_t stream)
{
    set_inputs(run, side, stream);
    sp_tensor y = output_of(run), z = expected(f, side, stream);
    assert_memory_equal(y.data, z.data, sp_tensor_bytes(&z));
    sp_tensor_free(&y);
    sp_tensor_free(&z);
}

/* Two runs of one bound plan pack once, and each keeps its own prompt. */
static void test_runs_share(void **state)
{
    const fixture *f = *state;
    sp_plan *plan = plan_of(16);
    sp_bound *bound;
    sp_run *a, *b;
    assert_true(sp_plan_get_memory(plan).shared > 0);
    assert_ok(sp_bound_create(plan, &bound));
    assert_ok(sp_bind(bound, "model", f->weights));
    assert_ok(sp_run_create_of(bound, &a));
    assert_ok(sp_run_create_of(bound, &b));
    check_output(f, a, 16, 1);
    sp_tensor mine;
    assert_ok(sp_run_get_output(a, "y", &mine));
    unsigned long packed = sp_packed_count();
    set_inputs(b, 16, 2);
    sp_tensor theirs = output_of(b), again = output_of(a);
    assert_int_equal(sp_packed_count(), packed);
    assert_memory_equal(mine.data, again.data, sp_tensor_bytes(&mine));
    assert_memory_not_equal(mine.data, theirs.data, sp_tensor_bytes(&mine));
    sp_tensor_free(&mine);
    sp_tensor_free(&theirs);
    sp_tensor_free(&again);
    check_output(f, b, 16, 2);
    sp_run_destroy(a);
    sp_run_destroy(b);
    sp_bound_destroy(bound);
    sp_plan_destroy(plan);
}

/* Plans of two sizes: what both pack alike is there once, for as long as either is. */
static void test_sizes_share(void **state)
{
    const fixture *f = *state;
    sp_plan *small = plan_of(16), *large = plan_of(32);
    sp_bound *of_small, *of_large;
    sp_run *run;
    const size_t before = sp_packed_bytes();
    assert_ok(sp_bound_create(small, &of_small));
    assert_ok(sp_bind(of_small, "model", f->weights));
    const size_t one = sp_packed_bytes() - before;
    assert_ok(sp_bound_create(large, &of_large));
    assert_ok(sp_bind(of_large, "model", f->weights));
    const size_t both = sp_packed_bytes() - before;
    assert_true(one > 0);
    assert_true(both < 2 * one); /* the matrix, if not the kernel too */
    assert_ok(sp_run_create_of(of_small, &run));
    check_output(f, run, 16, 3);
    sp_run_destroy(run);
    sp_bound_destroy(of_small);
    assert_true(sp_packed_bytes() - before > 0);
    assert_ok(sp_run_create_of(of_large, &run));
    check_output(f, run, 32, 4);
    sp_run_destroy(run);
    sp_bound_destroy(of_large);
    assert_int_equal(sp_packed_bytes(), before);
    sp_plan_destroy(small);
    sp_plan_destroy(large);
}

/* Who shares weights sees them change, what depends on the prompt alone included. */
static void test_changes_are_seen(void **state)
{
    fixture *f = *state;
    sp_plan *small = plan_of(16), *large = plan_of(32);
    sp_run *a, *b;
    assert_ok(sp_run_create(small, &a));
    assert_ok(sp_run_create(large, &b));
    assert_ok(sp_bind(sp_run_bound(a), "model", f->weights));
    assert_ok(sp_bind(sp_run_bound(b), "model", f->weights));
    check_output(f, a, 16, 5);
    check_output(f, b, 32, 6);
    const char *const names[] = {"kernel", "matrix"};
    for (int i = 0; i < 2; i++) {
        sp_tensor *t = sp_weights_find(f->weights, names[i]);
        for (int64_t k = 0; k < sp_tensor_count(t); k++)
            ((float *)t->data)[k] *= -0.5f;
    }
    sp_bound_weights_changed(sp_run_bound(a));
    sp_tensor y = output_of(b), z = expected(f, 32, 6); /* its inputs are those of before */
    assert_memory_equal(y.data, z.data, sp_tensor_bytes(&z));
    sp_tensor_free(&y);
    sp_tensor_free(&z);
    check_output(f, a, 16, 5);
    sp_run_destroy(a);
    sp_run_destroy(b);
    sp_plan_destroy(small);
    sp_plan_destroy(large);
}

typedef struct {
    sp_run *run;
    int rounds;
    sp_tensor want;
    int wrong; /* cmocka's assertions belong to the main thread */
} worker;

static void *work(void *context)
{
    worker *w = context;
    for (int i = 0; i < w->rounds; i++) {
        sp_tensor y;
        if (sp_run_execute(w->run, NULL) || sp_run_get_output(w->run, "y", &y)) {
            w->wrong++;
            continue;
        }
        w->wrong += memcmp(y.data, w->want.data, sp_tensor_bytes(&y)) != 0;
        sp_tensor_free(&y);
    }
    return NULL;
}

/* Several threads, each with a run of its own, begin before anything is packed. */
static void test_threads_share(void **state)
{
    enum { WORKERS = 4, ROUNDS = 20 };
    const fixture *f = *state;
    sp_plan *plan = plan_of(16);
    sp_bound *bound;
    worker workers[WORKERS];
    pthread_t threads[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        workers[i] = (worker){.rounds = ROUNDS, .want = expected(f, 16, (uint64_t)i)};
    assert_ok(sp_bound_create(plan, &bound));
    assert_ok(sp_bind(bound, "model", f->weights));
    for (int i = 0; i < WORKERS; i++) {
        assert_ok(sp_run_create_of(bound, &workers[i].run));
        set_inputs(workers[i].run, 16, (uint64_t)i);
    }
    unsigned long packed = sp_packed_count();
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].wrong, 0);
        sp_tensor_free(&workers[i].want);
        sp_run_destroy(workers[i].run);
    }
    assert_in_range(sp_packed_count() - packed, 1, 2); /* each weight once */
    sp_bound_destroy(bound);
    sp_plan_destroy(plan);
}

static void test_an_input_of_weights_rate_has_one_run(void **state)
{
    (void)state;
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    sp_bound *bound;
    sp_run *first, *second;
    assert_ok(sp_builder_create(&b));
    sp_value *slow = sp_input(b, "slow", SP_F32, sp_shape_of(2, 2), SP_RATE_RUN),
             *x = sp_input(b, "x", SP_F32, sp_shape_of(2, 2), SP_RATE_STEP);
    sp_output(b, "y", sp_add(b, sp_affine(b, slow, 2, 0), x));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_cpu_device(), SP_F32, &plan));
    assert_ok(sp_bound_create(plan, &bound));
    assert_ok(sp_run_create_of(bound, &first));
    assert_status(sp_run_create_of(bound, &second), SP_INTERNAL);
    sp_run_destroy(first);
    assert_ok(sp_run_create_of(bound, &second));
    sp_run_destroy(second);
    sp_bound_destroy(bound);
    sp_plan_destroy(plan);
}

/* ---- changes ---- */

enum { MOST_CHANGES = 4 };
typedef struct {
    float factor, term;
    int applied, released;
    bool fails;
} change;

static sp_status apply_change(void *context, sp_tensor *weight)
{
    change *c = context;
    if (c->fails) return sp_fail(SP_IO, "the change fails");
    assert_int_equal(weight->dtype, SP_F32);
    for (int64_t i = 0; i < sp_tensor_count(weight); i++)
        ((float *)weight->data)[i] = ((float *)weight->data)[i] * c->factor + c->term;
    c->applied++;
    return SP_OK;
}

static void release_change(void *context)
{
    ((change *)context)->released++;
}

static sp_weight_change change_of(change *c)
{
    return (sp_weight_change){apply_change, release_change, c};
}

/* What is packed is made for the packing alone, once for all plans; results are those of changed weights. */
static void test_changes_are_made_when_packed(void **state)
{
    fixture *f = *state;
    change twice = {.factor = 2}, more = {.factor = 1, .term = 0.25f};
    assert_ok(sp_weights_change(f->weights, "kernel", SP_F32, change_of(&twice)));
    assert_ok(sp_weights_change(f->weights, "kernel", SP_F32, change_of(&more)));
    assert_null(sp_weights_find(f->weights, "kernel")->data);
    sp_plan *plans[] = {plan_of(16), plan_of(24)};
    sp_bound *bound[2];
    sp_run *run[2];
    for (int i = 0; i < 2; i++) {
        assert_ok(sp_bound_create(plans[i], &bound[i]));
        assert_ok(sp_bind(bound[i], "model", f->weights));
        assert_ok(sp_run_create_of(bound[i], &run[i]));
    }
    assert_int_equal(twice.applied, 0);
    sp_tensor y[2];
    for (int i = 0; i < 2; i++) {
        set_inputs(run[i], i ? 24 : 16, 1);
        y[i] = output_of(run[i]);
    }
    assert_int_equal(twice.applied, 1);
    assert_int_equal(more.applied, 1);
    assert_null(sp_weights_find(f->weights, "kernel")->data);
    for (int i = 0; i < 2; i++) {
        sp_tensor z = expected(f, i ? 24 : 16, 1); /* of a copy, whose weights are changed */
        assert_memory_equal(y[i].data, z.data, sp_tensor_bytes(&z));
        sp_tensor_free(&z);
        sp_tensor_free(&y[i]);
        sp_run_destroy(run[i]);
        sp_bound_destroy(bound[i]);
        sp_plan_destroy(plans[i]);
    }
    assert_int_equal(twice.applied, 3);
    assert_int_equal(twice.released, 0);
    sp_tensor kernel, own = {0};
    assert_ok(sp_weights_take(f->weights, "kernel", &kernel));
    assert_true(kernel.owned);
    sp_tensor_free(&kernel);
    sp_weights *views;
    assert_ok(sp_weights_create(&views));
    assert_ok(sp_weights_add_view(views, "as", f->weights, "kernel"));
    assert_true(sp_weights_is_changed(views, "as"));
    assert_status(sp_weights_change(views, "as", SP_F32, change_of(&(change){0})), SP_INTERNAL);
    sp_weights_destroy(views);
    assert_ok(sp_weights_add(f->weights, "kernel", own)); /* and they are gone */
    assert_int_equal(twice.released + more.released, 2);
    assert_false(sp_weights_is_changed(f->weights, "kernel"));
}

/* A weight that a step reads as it is has its changes from when it is bound. */
static void test_changes_of_unpacked_weights(void **state)
{
    (void)state;
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    sp_run *run;
    sp_weights *weights;
    change twice = {.factor = 2};
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add(weights, "v", random_tensor(sp_shape_of(1, 9), 3)));
    assert_ok(sp_weights_change(weights, "v", SP_F32, change_of(&twice)));
    assert_ok(sp_builder_create(&b));
    sp_set_enter(b, "model", SP_RATE_RUN, NULL, NULL);
    sp_value *v = sp_parameter(b, "v", sp_shape_of(1, 9));
    sp_set_leave(b);
    sp_output(b, "y", sp_add(b, sp_input(b, "x", SP_F32, sp_shape_of(1, 9), SP_RATE_STEP), v));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_cpu_device(), SP_F32, &plan));
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", weights));
    assert_ok(sp_run_clear_input(run, "x"));
    sp_tensor y = output_of(run), before = random_tensor(sp_shape_of(1, 9), 3);
    for (int i = 0; i < 9; i++)
        assert_true(((float *)y.data)[i] == 2 * ((float *)before.data)[i]);
    assert_int_equal(twice.applied, 1);
    sp_tensor_free(&y);
    sp_tensor_free(&before);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    sp_weights_destroy(weights);
    assert_int_equal(twice.released, 1);
}

/* A change that fails fails the run, and the next one makes everything anew. */
static void test_a_change_fails(void **state)
{
    fixture *f = *state;
    change twice = {.factor = 2, .fails = true};
    assert_ok(sp_weights_change(f->weights, "kernel", SP_F32, change_of(&twice)));
    sp_plan *plan = plan_of(8);
    sp_run *run;
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", f->weights));
    set_inputs(run, 8, 1);
    assert_status(sp_run_execute(run, NULL), SP_IO);
    assert_message("the change fails");
    twice.fails = false;
    check_output(f, run, 8, 1);
    sp_run_destroy(run);
    sp_plan_destroy(plan);
}

/* ---- a weight that is read transposed too ---- */

enum { ROWS = 16, WIDE = 384, NARROW = 192 }; /* whole panels of every processor's products */

/* z = (x W^T) W, as a linear layer and the gradient through it read their weight. */
static sp_dtype dtype_of(void *context, const char *name)
{
    (void)name;
    return *(const sp_dtype *)context;
}

/* z = (x W^T) W, as a linear layer and the gradient through it read their weight. */
static sp_plan *both_ways(sp_rate rate, sp_dtype weight, sp_dtype precision)
{
    sp_builder *b;
    sp_graph *graph;
    sp_plan *plan;
    assert_ok(sp_builder_create(&b));
    sp_set_enter(b, "model", rate, dtype_of, &weight);
    sp_value *w = sp_parameter(b, "w", sp_shape_of(WIDE, NARROW));
    sp_set_leave(b);
    sp_value *x = sp_input(b, "x", SP_F32, sp_shape_of(ROWS, NARROW), SP_RATE_STEP);
    sp_output(b, "y", sp_linear_transposed(b, sp_linear(b, x, w, NULL, NULL), w));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_cpu_device(), precision, &plan));
    return plan;
}

static sp_tensor run_both_ways(const sp_plan *plan, const sp_weights *weights)
{
    sp_run *run;
    sp_tensor x = random_tensor(sp_shape_of(ROWS, NARROW), 31);
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", weights));
    assert_ok(sp_run_set_input(run, "x", &x));
    sp_tensor first = output_of(run), again = output_of(run);
    assert_memory_equal(first.data, again.data, sp_tensor_bytes(&first));
    sp_tensor_free(&again);
    sp_tensor_free(&x);
    sp_run_destroy(run);
    return first;
}

/* A weight of this type with products of this precision; packed: bytes of an element in our own products' pack. */
static void check_kept_once(sp_dtype weight, sp_dtype precision, size_t packed)
{
    sp_weights *weights;
    sp_tensor w = random_tensor(sp_shape_of(WIDE, NARROW), 30), held;
    assert_ok(sp_tensor_convert(&w, weight, &held));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add(weights, "w", held));
    sp_plan *stays = both_ways(SP_RATE_RUN, weight, precision),
            *trained = both_ways(SP_RATE_STEP, weight, precision);
    sp_tensor a = run_both_ways(stays, weights), b = run_both_ways(trained, weights);
    assert_memory_equal(a.data, b.data, sp_tensor_bytes(&a));
    bool ours = true;
    int made = 0;
    for (int s = 0; s < sp_plan_step_count(stays); s++) {
        const sp_plan_step step = sp_plan_step_at(stays, s);
        ours = ours && !strstr(step.kernel, "onednn");
        made += step.packs_input >= 0 && step.rate == SP_RATE_STEP;
    }
    assert_int_equal(made, ours);
    if (ours) assert_int_equal(sp_plan_get_memory(stays).persistent, WIDE * NARROW * packed);
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    sp_tensor_free(&w);
    sp_plan_destroy(stays);
    sp_plan_destroy(trained);
    sp_weights_destroy(weights);
}

/* Of a weight that stays one pack is kept, and the other is made of it at each step, with the bits that packing the
 * weight itself gives, as it is done with a weight that is trained. Only our own products do so. */
static void test_transposed_weights_are_kept_once(void **state)
{
    (void)state;
    check_kept_once(SP_F32, SP_F32, 4);
    check_kept_once(SP_F16, SP_F32, 2);
    check_kept_once(SP_BF16, SP_F32, 2);
    check_kept_once(SP_F32, SP_BF16, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs_share, create_weights, destroy_weights),
        cmocka_unit_test_setup_teardown(test_sizes_share, create_weights, destroy_weights),
        cmocka_unit_test_setup_teardown(test_changes_are_seen, create_weights, destroy_weights),
        cmocka_unit_test_setup_teardown(test_threads_share, create_weights, destroy_weights),
        cmocka_unit_test(test_an_input_of_weights_rate_has_one_run),
        cmocka_unit_test_setup_teardown(test_changes_are_made_when_packed, create_weights, destroy_weights),
        cmocka_unit_test(test_changes_of_unpacked_weights),
        cmocka_unit_test_setup_teardown(test_a_change_fails, create_weights, destroy_weights),
        cmocka_unit_test(test_transposed_weights_are_kept_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
