/* One whole distillation step with 1, 2, 3 and 4 threads: the loss and every gradient, bit for bit;
 * and the number of threads that work on other threads gets. */
#include <dirent.h>
#include <omp.h>
#include <pthread.h>
#include "conditions.h"
#include "support.h"
#include "base/parallel.h"
#include "base/random.h"
#include "backend/registry.h"
#include "distill/objective.h"
#include "eval/frechet.h"
#include "checkpoints/component.h"

#define BATCH 3
#define SIDE 16

typedef struct {
    sp_component *teacher;
    sp_weights *student;
    sp_plan *plan;
    sp_run *run;
} step;

static void make_step(step *s, bool checkpointing, sp_dtype precision)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/teacher-epsilon", getenv("SPLAM_SOURCE"));
    assert_ok(sp_component_open(path, "unet", &s->teacher));
    assert_ok(sp_weights_copy(s->teacher->weights, SP_F32, &s->student));
    sp_objective_settings settings = {.objective = SP_OBJECTIVE_SPLAM,
                                      .conditioning = SP_GAMMA_TIME,
                                      .loss = {.kind = SP_LOSS_HUBER, .huber_c = 1e-3},
                                      .solver_steps = 1};
    const sp_component_config *unet = &s->teacher->config;
    const sp_conditioning conditioning = hidden_states_of(BATCH, 7, 24);
    sp_step_shape shape = {.batch = BATCH,
                           .channels = 4,
                           .height = SIDE,
                           .width = SIDE,
                           .conditioning = &conditioning,
                           .teacher = unet,
                           .teacher_weights = s->teacher->weights,
                           .student = unet,
                           .recompute = checkpointing ? UINT64_MAX : 0};
    sp_graph *graph;
    assert_ok(sp_objective_graph(&settings, &shape, &graph));
    assert_ok(sp_plan_create(graph, sp_default_device(), precision, &s->plan));
    assert_ok(sp_run_create(s->plan, &s->run));
    assert_ok(sp_bind(sp_run_bound(s->run), "teacher", s->teacher->weights));
    assert_ok(sp_bind(sp_run_bound(s->run), "ema", s->student));
    assert_ok(sp_bind(sp_run_bound(s->run), "online", s->student));
}

static void free_step(step *s)
{
    sp_run_destroy(s->run);
    sp_plan_destroy(s->plan);
    sp_weights_destroy(s->student);
    sp_component_close(s->teacher);
}

/* Numbers of about 1 for tensors and coefficients, timesteps of some hundreds. */
static void set_input(sp_run *run, const char *name, sp_shape shape, uint64_t index)
{
    sp_tensor tensor;
    assert_ok(sp_tensor_create(SP_F32, shape, &tensor));
    float *numbers = tensor.data;
    int64_t count = sp_shape_count(shape);
    sp_random_key key = {.seed = 3, .sample = index};
    if (shape.rank > 1)
        sp_random_normal(key, numbers, (size_t)count);
    else
        sp_random_uniform(key, numbers, (size_t)count);
    for (int64_t i = 0; i < count && strstr(name, "timestep"); i++)
        numbers[i] *= 999;
    assert_ok(sp_run_set_input(run, name, &tensor));
    sp_tensor_free(&tensor);
}

static void set_inputs(step *s)
{
    const sp_graph *graph = sp_plan_graph(s->plan);
    uint64_t count = 0;
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *v = graph->values[i];
        if (v->kind == SP_VALUE_INPUT && sp_plan_input(s->plan, v->name))
            set_input(s->run, v->name, v->shape, count++);
    }
    assert_true(count > 10);
}

/* All outputs one behind the other. */
static unsigned char *outputs(bool checkpointing, sp_dtype precision, size_t *bytes, int *count)
{
    step s;
    make_step(&s, checkpointing, precision);
    set_inputs(&s);
    assert_ok(sp_run_execute(s.run, NULL));
    const sp_graph *graph = sp_plan_graph(s.plan);
    *bytes = 0;
    *count = graph->output_count;
    for (int i = 0; i < graph->output_count; i++)
        *bytes += sp_value_bytes(graph->outputs[i].value);
    unsigned char *all = sp_alloc(*bytes), *to = all;
    assert_non_null(all);
    for (int i = 0; i < graph->output_count; i++) {
        size_t size = sp_value_bytes(graph->outputs[i].value);
        sp_tensor output;
        assert_ok(sp_run_get_output(s.run, graph->outputs[i].name, &output));
        memcpy(to, output.data, size);
        sp_tensor_free(&output);
        to += size;
    }
    free_step(&s);
    return all;
}

static unsigned char *outputs_with(int threads, bool checkpointing, sp_dtype precision, size_t *bytes,
                                   int *count)
{
    sp_set_threads(threads);
    unsigned char *all = outputs(checkpointing, precision, bytes, count);
    sp_set_threads(0);
    return all;
}

static void check(bool checkpointing, sp_dtype precision)
{
    size_t bytes, first_bytes;
    int count;
    unsigned char *first = outputs_with(1, checkpointing, precision, &first_bytes, &count);
    assert_true(count > 100); /* the loss and the gradients */
    for (int threads = 2; threads <= 4; threads++) {
        unsigned char *other = outputs_with(threads, checkpointing, precision, &bytes, &count);
        assert_int_equal(bytes, first_bytes);
        assert_memory_equal(first, other, bytes);
        sp_free(other);
    }
    sp_free(first);
}

static void gradients_in_f32(void **state)
{
    (void)state;
    check(false, SP_F32);
}

static void gradients_in_bf16(void **state)
{
    (void)state;
    check(false, SP_BF16);
}

static void gradients_with_checkpoints(void **state)
{
    (void)state;
    check(true, sp_default_device()->preferred_dtype);
}

/* ---- on other threads ---- */

enum { WORKERS = 2, ROWS = 300, COLUMNS = 200 };

typedef struct {
    pthread_barrier_t *done, *leave;
    unsigned char *outputs; /* of a step, which our loops and oneDNN compute */
    size_t bytes;
    double distance;     /* which OpenBLAS computes */
    int library_threads; /* that a library would take on the worker then */
} work;

static int threads_of_the_process(void)
{
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    int count = 0;
    for (const struct dirent *e; (e = readdir(folder));)
        count += e->d_name[0] != '.';
    closedir(folder);
    return count;
}

static double some_distance(void)
{
    double distance;
    sp_tensor a, b;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(ROWS, COLUMNS), &a));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(ROWS, COLUMNS), &b));
    sp_random_normal((sp_random_key){.seed = 1}, a.data, ROWS * COLUMNS);
    sp_random_normal((sp_random_key){.seed = 2}, b.data, ROWS * COLUMNS);
    assert_ok(sp_frechet_distance(&a, &b, &distance));
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    return distance;
}

static void *compute(void *context)
{
    work *w = context;
    int count;
    w->distance = some_distance();
    w->library_threads = omp_get_max_threads();
    w->outputs = outputs(false, SP_F32, &w->bytes, &count);
    pthread_barrier_wait(w->done);
    pthread_barrier_wait(w->leave);
    return NULL;
}

/* How many threads more than the workers there are when these have computed, and when those that leave had time to: at
 * most `most`, or what there is after five seconds. */
static int helpers_of_workers(work *w, int most)
{
    pthread_t workers[WORKERS];
    pthread_barrier_t done, leave;
    assert_int_equal(pthread_barrier_init(&done, NULL, WORKERS + 1), 0);
    assert_int_equal(pthread_barrier_init(&leave, NULL, WORKERS + 1), 0);
    int before = threads_of_the_process();
    for (int i = 0; i < WORKERS; i++) {
        w[i] = (work){.done = &done, .leave = &leave};
        assert_int_equal(pthread_create(&workers[i], NULL, compute, &w[i]), 0);
    }
    pthread_barrier_wait(&done);
    int after = threads_of_the_process();
    for (int tries = 0; after - before - WORKERS > most && tries < 500; tries++) {
        usleep(10000);
        after = threads_of_the_process();
    }
    pthread_barrier_wait(&leave);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(workers[i], NULL), 0);
    pthread_barrier_destroy(&done);
    pthread_barrier_destroy(&leave);
    return after - before - WORKERS;
}

/* OpenMP keeps its number of threads for each thread by itself: a library that is called on one
 * where nobody set it would take a thread for every hardware thread. */
static void the_number_holds_on_every_thread(void **state)
{
    (void)state;
    size_t bytes;
    int count;
    unsigned char *alone = outputs_with(1, false, SP_F32, &bytes, &count);
    static const int numbers[] = {1, 3};
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
        work w[WORKERS];
        sp_set_threads(numbers[n]);
        int most = WORKERS * (numbers[n] - 1), helpers = helpers_of_workers(w, most);
        /* Those that the last loop had no work for have left. */
        assert_in_range(helpers, numbers[n] > 1 ? WORKERS : 0, most);
        for (int i = 0; i < WORKERS; i++) {
            assert_int_equal(w[i].bytes, bytes);
            assert_memory_equal(w[i].outputs, alone, bytes);
            assert_true(w[i].distance == w[0].distance);
            assert_int_equal(w[i].library_threads, numbers[n]);
            sp_free(w[i].outputs);
        }
    }
    sp_set_threads(0);
    sp_free(alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_in_f32),
        cmocka_unit_test(gradients_in_bf16),
        cmocka_unit_test(gradients_with_checkpoints),
        cmocka_unit_test(the_number_holds_on_every_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
