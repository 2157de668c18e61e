/* The operator cases in two modes: every backend's kernels against the reference, and every
 * gradient rule against finite differences in double; and what the builder calls refuse, and
 * fusion. */
#include "support.h"
#include "backend/host/host.h"
#include <math.h>
#include "backend/cpu/cpu.h"
#include "base/random.h"
#include "ops/autodiff.h"
#include "graph/run.h"
#include "bench/op_cases.h"

/* One cmocka test: all cases of one operator in one mode. */
typedef struct {
    const sp_op *op;
    sp_device *device; /* NULL: gradient mode */
    sp_dtype precision;
} mode;

static double largest(const sp_tensor *t)
{
    double result = 0;
    for (int64_t i = 0; i < sp_tensor_count(t); i++)
        result = fmax(result, fabs(sp_load(t->data, t->dtype, i)));
    return result;
}

/* ---- kernels against the reference ---- */
static void compare_case(const sp_op_case *c, const mode *m)
{
    sp_op_trial *tested, *expected;
    assert_ok(sp_op_trial_create(c, m->device, m->precision, false, &tested));
    assert_ok(sp_op_trial_create(c, sp_reference_device(), SP_F64, false, &expected));
    assert_ok(sp_op_trial_run(tested));
    assert_ok(sp_op_trial_run(expected));
    assert_ok(sp_op_trial_check_guards(tested));
    sp_tensor result[SP_MAX_OUTPUTS] = {0}, exact[SP_MAX_OUTPUTS] = {0};
    double scale = 0;
    for (int k = 0; k < c->op->outputs; k++) {
        assert_ok(sp_op_trial_output(tested, k, &result[k]));
        assert_ok(sp_op_trial_output(expected, k, &exact[k]));
        scale = fmax(scale, largest(&exact[k]));
    }
    for (int k = 0; k < c->op->outputs; k++) {
        double error, tolerance = sp_op_case_tolerance(c, result[k].dtype);
        /* Weights that are rounded to bf16 are made to 8e-5, and so is the sum of them, whose
         * logarithm may be as small as .3. */
        if (c->op == &sp_op_attention && k == 1 && m->precision == SP_BF16) tolerance = 4e-4;
        assert_ok(sp_tensor_relative_max_error(&result[k], &exact[k], &error));
        /* A small output is measured by its neighbours, and one that is zero but for the rounding
         * of doubles, such as dq with one key, by their whole size: it is a difference of such
         * terms. */
        double own = largest(&exact[k]), floor = own > 1e-12 * scale ? 1e-3 * scale : scale;
        if (own == 0) error = largest(&result[k]) / (floor > 0 ? floor : 1);
        if (own > 0 && own < floor) error *= own / floor;
        if (!(error <= tolerance))
            fail_msg("%s \"%s\", output %d, kernel \"%s\": relative max error %g, allowed %g",
                     c->op->name, c->name, k, sp_op_trial_kernel(tested), error, tolerance);
        sp_tensor_free(&result[k]);
        sp_tensor_free(&exact[k]);
    }
    sp_op_trial_destroy(tested);
    sp_op_trial_destroy(expected);
}

static void test_kernels(void **state)
{
    const mode *m = *state;
    for (int i = 0; i < sp_op_case_count; i++)
        if (sp_op_cases[i].op == m->op && !sp_op_cases[i].large) compare_case(&sp_op_cases[i], m);
}

/* ---- weights where files have them ---- */

/* A weight may begin anywhere that its elements may: the same bits as from a cache line. */
static void compare_places(const sp_op_case *c, const mode *m)
{
    sp_op_trial *trial[2];
    for (int stored = 0; stored < 2; stored++) {
        assert_ok(sp_op_trial_create(c, m->device, m->precision, stored, &trial[stored]));
        assert_ok(sp_op_trial_run(trial[stored]));
        assert_ok(sp_op_trial_check_guards(trial[stored]));
    }
    for (int k = 0; k < c->op->outputs; k++) {
        sp_tensor aligned, odd;
        assert_ok(sp_op_trial_output(trial[0], k, &aligned));
        assert_ok(sp_op_trial_output(trial[1], k, &odd));
        if (memcmp(aligned.data, odd.data, sp_tensor_bytes(&odd)) != 0)
            fail_msg("%s \"%s\", output %d, kernel \"%s\": other bits at another address", c->op->name,
                     c->name, k, sp_op_trial_kernel(trial[0]));
        sp_tensor_free(&aligned);
        sp_tensor_free(&odd);
    }
    sp_op_trial_destroy(trial[0]);
    sp_op_trial_destroy(trial[1]);
}

static void test_places(void **state)
{
    const mode *m = *state;
    for (int i = 0; i < sp_op_case_count; i++)
        if (sp_op_cases[i].op == m->op && !sp_op_cases[i].large) compare_places(&sp_op_cases[i], m);
}

/* ---- gradients against finite differences ---- */

/* loss = mean(weights * y): any y is brought to a scalar whose gradient reaches all its elements. */
typedef struct {
    sp_plan *plan;
    sp_run *run;
    sp_case_inputs inputs;
    sp_tensor data[SP_MAX_INPUTS];
} scalar_graph;

static void fill_random(sp_tensor *tensor, uint64_t seed, double low, double high)
{
    int64_t count = sp_tensor_count(tensor);
    float *uniform = sp_alloc((size_t)count * sizeof *uniform + 1);
    assert_non_null(uniform);
    sp_random_uniform((sp_random_key){.seed = seed}, uniform, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        sp_store(tensor->data, tensor->dtype, i, low + (high - low) * (double)uniform[i]);
    sp_free(uniform);
}

static void create_scalar(const sp_op_case *c, bool with_gradients, scalar_graph *g)
{
    sp_builder *b;
    sp_graph *graph;
    assert_ok(sp_builder_create(&b));
    sp_value *y = sp_op_case_build(c, b, SP_F64, &g->inputs);
    sp_value *weights = sp_input(b, "weights", SP_F64, y ? y->shape : (sp_shape){0}, SP_RATE_STEP);
    sp_shape shape = weights ? weights->shape : (sp_shape){0};
    sp_value *loss = sp_mean(b, sp_mul(b, y, weights));
    sp_output(b, "loss", loss);
    for (int i = 0; i < g->inputs.count && with_gradients; i++) {
        if (!g->inputs.input[i].differentiable) continue;
        sp_value *gradient;
        char name[24];
        snprintf(name, sizeof name, "gradient%d", i);
        assert_ok(sp_gradient(b, loss, &g->inputs.input[i].value, 1, &gradient));
        assert_non_null(gradient);
        sp_output(b, name, gradient);
    }
    for (int i = 0; i < g->inputs.count; i++)
        if (!sp_builder_failed(b)) assert_ok(sp_op_case_data(c, &g->inputs, i, &g->data[i]));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_reference_device(), SP_F32, &g->plan));
    assert_ok(sp_run_create(g->plan, &g->run));
    sp_tensor random = {0};
    assert_ok(sp_tensor_create(SP_F64, shape, &random));
    fill_random(&random, 7, -1, 1);
    assert_ok(sp_run_set_input(g->run, "weights", &random));
    sp_tensor_free(&random);
}

static void set_input(scalar_graph *g, int i)
{
    char name[24];
    snprintf(name, sizeof name, "in%d", i);
    if (sp_plan_input(g->plan, name)) assert_ok(sp_run_set_input(g->run, name, &g->data[i]));
}

static double evaluate(scalar_graph *g)
{
    sp_tensor loss = {0};
    assert_ok(sp_run_execute(g->run, NULL));
    assert_ok(sp_run_get_output(g->run, "loss", &loss));
    assert_int_equal(loss.dtype, SP_F64);
    double value = ((double *)loss.data)[0];
    sp_tensor_free(&loss);
    return value;
}

static void destroy_scalar(scalar_graph *g)
{
    for (int i = 0; i < g->inputs.count; i++)
        sp_tensor_free(&g->data[i]);
    sp_run_destroy(g->run);
    sp_plan_destroy(g->plan);
}

/* (loss(x + h d) - loss(x - h d)) / 2h for input i. */
static double central_difference(scalar_graph *g, int i, const double *direction, double h)
{
    double *x = g->data[i].data, value[2];
    int64_t count = sp_tensor_count(&g->data[i]);
    double *kept = sp_alloc((size_t)count * sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, x, (size_t)count * sizeof *kept);
    for (int side = 0; side < 2; side++) {
        for (int64_t k = 0; k < count; k++)
            x[k] = kept[k] + (side ? -h : h) * direction[k];
        set_input(g, i);
        value[side] = evaluate(g);
    }
    memcpy(x, kept, (size_t)count * sizeof *kept);
    set_input(g, i);
    sp_free(kept);
    return (value[0] - value[1]) / (2 * h);
}

/* Two elements, and all of them at once with random signs, which a fault in any element shows in.
 * Central differences with h = 1e-5 err by h^2/6 of the third derivative, about 1e-10, and by the
 * rounding of the loss over h, 1e-11; 1e-6 relative leaves room for functions with larger third
 * derivatives. */
static void check_input(const sp_op_case *c, scalar_graph *g, int i, const sp_tensor *gradient)
{
    const double *exact = gradient->data, h = 1e-5;
    int64_t count = sp_tensor_count(gradient);
    double squares = 0;
    for (int64_t k = 0; k < count; k++)
        squares += exact[k] * exact[k];
    sp_tensor direction = {0};
    assert_ok(sp_tensor_create(SP_F64, gradient->shape, &direction));
    double *d = direction.data;
    for (int probe = 0; probe < 3; probe++) {
        fill_random(&direction, 11 + (uint64_t)probe, -1, 1);
        double wanted = 0, scale = probe < 2 ? largest(gradient) : sqrt(squares);
        int64_t chosen = (int64_t)(fabs(d[0]) * (double)count);
        for (int64_t k = 0; k < count; k++) {
            d[k] = probe == 2 ? (d[k] < 0 ? -1 : 1) : k == chosen;
            wanted += d[k] * exact[k];
        }
        double found = central_difference(g, i, d, h);
        if (!(fabs(found - wanted) <= 1e-6 * scale + 5e-11))
            fail_msg("%s \"%s\", input %d, probe %d: gradient %.12g, finite difference %.12g",
                     c->op->name, c->name, i, probe, wanted, found);
    }
    sp_tensor_free(&direction);
}

static void check_gradients(const sp_op_case *c)
{
    scalar_graph forward = {0}, backward = {0};
    create_scalar(c, false, &forward);
    create_scalar(c, true, &backward);
    for (int i = 0; i < forward.inputs.count; i++) {
        set_input(&forward, i);
        set_input(&backward, i);
    }
    assert_true(evaluate(&forward) == evaluate(&backward));
    for (int i = 0; i < forward.inputs.count; i++) {
        if (!forward.inputs.input[i].differentiable) continue;
        char name[24];
        snprintf(name, sizeof name, "gradient%d", i);
        sp_tensor gradient = {0};
        assert_ok(sp_run_get_output(backward.run, name, &gradient));
        assert_int_equal(gradient.dtype, SP_F64);
        check_input(c, &forward, i, &gradient);
        sp_tensor_free(&gradient);
    }
    destroy_scalar(&forward);
    destroy_scalar(&backward);
}

static void test_gradients(void **state)
{
    const mode *m = *state;
    for (int i = 0; i < sp_op_case_count; i++)
        if (sp_op_cases[i].op == m->op && !sp_op_cases[i].large) check_gradients(&sp_op_cases[i]);
}

/* ---- the list ---- */
static void test_every_operator_has_a_case(void **state)
{
    (void)state;
    for (int o = 0; o < sp_all_ops_count; o++) {
        bool found =
            sp_all_ops[o] == &sp_op_stop_gradient; /* has nothing to compute; see test_autodiff */
        for (int i = 0; i < sp_op_case_count && !found; i++)
            found = sp_op_cases[i].op == sp_all_ops[o] && !sp_op_cases[i].large;
        if (!found) fail_msg("%s has no case", sp_all_ops[o]->name);
    }
}

/* A case's operator is the last node that it builds; large cases build too. */
static void test_cases_build_their_operator(void **state)
{
    (void)state;
    for (int i = 0; i < sp_op_case_count; i++) {
        const sp_op_case *c = &sp_op_cases[i];
        sp_builder *b;
        sp_graph *graph;
        sp_case_inputs inputs;
        assert_ok(sp_builder_create(&b));
        sp_value *y = sp_op_case_build(c, b, SP_F32, &inputs);
        assert_ok(sp_builder_finish(b, &graph));
        assert_ptr_equal(y->producer, graph->nodes[graph->node_count - 1]);
        assert_ptr_equal(y->producer->op, c->op);
        sp_graph_destroy(graph);
        sp_builder_destroy(b);
    }
}

/* A kernel that writes one element too far, or one too few, must be seen. */
static void run_too_far(void *state, const sp_node *node, void *const *in, void *const *out,
                        void *scratch)
{
    (void)state, (void)scratch;
    node->op->reference(node, (const void *const *)in, out);
    ((float *)out[0])[sp_shape_count(node->out[0]->shape)] = 0;
}

static void run_short(void *state, const sp_node *node, void *const *in, void *const *out,
                      void *scratch)
{
    (void)state, (void)scratch, (void)in;
    memset(out[0], 0, (size_t)(sp_shape_count(node->out[0]->shape) - 1) * sizeof(float));
}

static sp_status prepare_too_far(sp_device *device, const sp_node *node, sp_kernel *out)
{
    (void)device, (void)node;
    *out = (sp_kernel){.name = "too far", .run = run_too_far};
    return SP_OK;
}

static sp_status prepare_short(sp_device *device, const sp_node *node, sp_kernel *out)
{
    (void)device, (void)node;
    *out = (sp_kernel){.name = "short", .run = run_short};
    return SP_OK;
}

static const sp_op_case *first_case(const sp_op *op)
{
    for (int i = 0; i < sp_op_case_count; i++)
        if (sp_op_cases[i].op == op) return &sp_op_cases[i];
    return NULL;
}

static void test_guards_see_bad_kernels(void **state)
{
    (void)state;
    sp_device device = *sp_reference_device();
    sp_op_trial *trial;
    sp_tensor out = {0};
    device.prepare = prepare_too_far;
    assert_ok(sp_op_trial_create(first_case(&sp_op_mul), &device, SP_F32, false, &trial));
    assert_ok(sp_op_trial_run(trial));
    assert_status(sp_op_trial_check_guards(trial), SP_INTERNAL);
    assert_message("an output");
    sp_op_trial_destroy(trial);

    device.prepare = prepare_short;
    assert_ok(sp_op_trial_create(first_case(&sp_op_mul), &device, SP_F32, false, &trial));
    assert_ok(sp_op_trial_run(trial));
    assert_ok(sp_op_trial_check_guards(trial));
    assert_ok(sp_op_trial_output(trial, 0, &out));
    assert_status(sp_tensor_check_finite(&out, "out"), SP_NUMERIC);
    sp_tensor_free(&out);
    sp_op_trial_destroy(trial);
}

/* ---- running them ---- */
enum { MAX_TESTS = 512 };

static void add_test(struct CMUnitTest *tests, mode *modes, size_t *count,
                     CMUnitTestFunction function, const char *name, mode m)
{
    if (*count == MAX_TESTS || !name) abort();
    modes[*count] = m;
    tests[*count] =
        (struct CMUnitTest){.name = name, .test_func = function, .initial_state = &modes[*count]};
    (*count)++;
}

int main(void)
{
    static struct CMUnitTest tests[MAX_TESTS];
    static mode modes[MAX_TESTS];
    size_t count = 0;
    sp_device *devices[] = {sp_reference_device(), sp_cpu_device()};
    const sp_dtype precision[] = {SP_F32, SP_BF16};
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(test_every_operator_has_a_case),
        cmocka_unit_test(test_cases_build_their_operator),
        cmocka_unit_test(test_guards_see_bad_kernels),
    };
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        tests[count++] = fixed[i];
    for (int o = 0; o < sp_all_ops_count; o++) {
        const sp_op *op = sp_all_ops[o];
        for (int k = 0; k < 4 && !(op->flags & SP_OP_VIEW); k++)
            add_test(tests, modes, &count, test_kernels,
                     sp_format("%s: %s %s", devices[k / 2]->name, op->name,
                               sp_dtype_name(precision[k % 2])),
                     (mode){op, devices[k / 2], precision[k % 2]});
        for (int k = 0; k < 2 && !(op->flags & SP_OP_VIEW); k++)
            add_test(tests, modes, &count, test_places,
                     sp_format("places: %s %s", op->name, sp_dtype_name(precision[k])),
                     (mode){op, sp_cpu_device(), precision[k]});
        if (op->gradient)
            add_test(tests, modes, &count, test_gradients, sp_format("gradient: %s", op->name),
                     (mode){.op = op});
    }
    int failed = _cmocka_run_group_tests("operators", tests, count, NULL, NULL);
    for (size_t i = sizeof fixed / sizeof fixed[0]; i < count; i++)
        sp_free((char *)tests[i].name);
    return failed;
}
