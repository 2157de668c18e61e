/* Reverse mode over whole compositions: against finite differences, with and without checkpointing
 * and fusion. */
#include "autodiff_support.h"

/* Every variable's gradient along a random direction. h = 1e-4 with the five-point formula errs by
 * h^4/30 of the fifth derivative, 1e-17, and by the loss's rounding, some 1e-15, over h: 1e-11.
 * 1e-7 relative and 1e-10 absolute, where gradients are 1e-4 and more, leave room. */
static void check_against_differences(compose *make, bool checkpoint)
{
    running forward = start(make, (how){SP_F64, SP_F32, false, false, false});
    running backward = start(make, (how){SP_F64, SP_F32, checkpoint, false, true});
    const double h = 1e-4;
    for (int i = 0; i < forward.variables; i++) {
        const char *name = numbered("v", i);
        double side[5] = {0}, wanted = 0, squares = 0;
        for (int k = -2; k <= 2; k++) {
            set_input(&forward, name, (uint64_t)i, h * k);
            side[k + 2] = k ? loss_of(&forward) : 0;
        }
        set_input(&forward, name, (uint64_t)i, 0);
        double found = (8 * (side[3] - side[1]) - (side[4] - side[0])) / (12 * h);
        sp_tensor gradient = output(&backward, numbered("gradient", i)), d = {0};
        assert_ok(sp_tensor_create(SP_F64, gradient.shape, &d));
        fill_random(&d, (uint64_t)i + 1000);
        for (int64_t k = 0; k < sp_tensor_count(&d); k++) {
            double g = sp_load(gradient.data, gradient.dtype, k);
            wanted += g * ((double *)d.data)[k];
            squares += g * g;
        }
        /* A key's bias moves all scores of a query alike, so its gradient is zero but for rounding. */
        if (!(fabs(found - wanted) <= 1e-7 * sqrt(squares) + 1e-10))
            fail_msg("variable %d: gradient %.12g, finite difference %.12g", i, wanted, found);
        sp_tensor_free(&gradient);
        sp_tensor_free(&d);
    }
    stop(&forward);
    stop(&backward);
}

static void test_resnet_block(void **state)
{
    (void)state;
    check_against_differences(resnet, false);
}

static void test_attention_block(void **state)
{
    (void)state;
    check_against_differences(attention, false);
}

static void test_unet_with_checkpoints(void **state)
{
    (void)state;
    check_against_differences(unet, true);
}

/* The largest relative max error between all gradients of two ways of running. */
static double compare(compose *make, how a, how b)
{
    running x = start(make, a), y = start(make, b);
    double worst = 0;
    for (int i = 0; i < x.variables; i++) {
        sp_tensor g = output(&x, numbered("gradient", i)), e = output(&y, numbered("gradient", i));
        double error, size = 0;
        assert_int_equal(g.dtype, a.dtype);
        assert_ok(sp_tensor_relative_max_error(&g, &e, &error));
        for (int64_t k = 0; k < sp_tensor_count(&e); k++)
            size = fmax(size, fabs(sp_load(e.data, e.dtype, k)));
        if (size > 1e-10 && !(error <= worst))
            worst = error; /* smaller ones are zero but for rounding */
        sp_tensor_free(&g);
        sp_tensor_free(&e);
    }
    stop(&x);
    stop(&y);
    return worst;
}

/* The same kernels on the same numbers, in another order of nodes: the same bits. */
static void test_checkpoints_change_nothing(void **state)
{
    (void)state;
    compose *all[] = {resnet, attention, unet};
    for (int i = 0; i < 3; i++) {
        how plain = {SP_F64, SP_F32, false, false, true},
            again = {SP_F64, SP_F32, true, false, true};
        assert_true(compare(all[i], again, plain) == 0);
        running x = start(all[i], again), y = start(all[i], plain);
        assert_true(x.nodes > y.nodes);
        stop(&x);
        stop(&y);
    }
}

static void test_fusion_before_autodiff(void **state)
{
    (void)state;
    compose *all[] = {resnet, attention, unet};
    for (int i = 0; i < 3; i++)
        for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
            how plain = {SP_F64, SP_F32, false, false, true},
                fused = {SP_F64, SP_F32, checkpoint, true, true};
            assert_true(compare(all[i], fused, plain) <=
                        1e-11); /* double; the order of sums changes */
            running x = start(all[i], (how){SP_F64, SP_F32, false, true, false});
            running y = start(all[i], (how){SP_F64, SP_F32, false, false, false});
            assert_true(x.nodes < y.nodes);
            stop(&x);
            stop(&y);
        }
}

/* linear_geglu has no gradient, so it may only be where none is asked for. */
static void test_fusion_for_inference(void **state)
{
    (void)state;
    how fused = {SP_F64, SP_F32, false, true, false}, plain = {SP_F64, SP_F32, false, false, false},
        trained = {SP_F64, SP_F32, false, true, true};
    running x = start(attention, fused), y = start(attention, plain), z = start(attention, trained);
    assert_int_equal(x.fused_geglus, 2);
    assert_int_equal(y.fused_geglus, 0);
    assert_int_equal(z.fused_geglus, 0);
    double expected = loss_of(&y);
    assert_true(fabs(loss_of(&x) - expected) <= 1e-13 * fabs(expected));
    stop(&x);
    stop(&y);
    stop(&z);
}

/* Gradients come out in fp32 whatever the precision. fp32 rounds at 6e-8, and some gradients here are
 * a hundredth of the terms that they sum: 1e-4. bf16 rounds at 4e-3 at each of about ten nodes:
 * 0.15. */
static void test_lower_precision(void **state)
{
    (void)state;
    compose *all[] = {resnet, attention, unet};
    for (int i = 0; i < 3; i++)
        for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
            how exact = {SP_F64, SP_F32, false, false, true};
            double f32 = compare(all[i], (how){SP_F32, SP_F32, checkpoint, false, true}, exact);
            double bf16 = compare(all[i], (how){SP_F32, SP_BF16, checkpoint, true, true}, exact);
            if (!(f32 <= 1e-4 && bf16 <= 0.15))
                fail_msg("composition %d: errors %g (f32), %g (bf16)", i, f32, bf16);
        }
}

/* ---- small facts ---- */
static sp_value *cube(composition *c)
{
    sp_value *x = V(7);
    return sp_mean(c->b, sp_mul(c->b, sp_mul(c->b, x, x), x));
}

static sp_value *half_stopped(composition *c)
{
    sp_value *x = V(7);
    return sp_mean(c->b, sp_mul(c->b, x, sp_stop_gradient(c->b, sp_affine(c->b, x, 3, 1))));
}

/* Its gradient at x, given as function. */
static void check_formula(compose *make, double (*formula)(double))
{
    running r = start(make, (how){SP_F64, SP_F32, false, false, true});
    sp_tensor gradient = output(&r, "gradient0"), x = {0};
    assert_ok(sp_tensor_create(SP_F64, gradient.shape, &x));
    fill_random(&x, 0);
    for (int64_t i = 0; i < sp_tensor_count(&x); i++)
        assert_true(fabs(((double *)gradient.data)[i] - formula(((double *)x.data)[i])) <= 1e-15);
    sp_tensor_free(&gradient);
    sp_tensor_free(&x);
    stop(&r);
}

static double cube_gradient(double x)
{
    return 3 * x * x / 7;
}

static double half_stopped_gradient(double x)
{
    return (3 * x + 1) / 7;
}

static void test_value_used_several_times(void **state)
{
    (void)state;
    check_formula(cube, cube_gradient);
}

static void test_stop_gradient(void **state)
{
    (void)state;
    check_formula(half_stopped, half_stopped_gradient);
}

/* What the loss does not depend on has no gradient, which is not the same as a gradient of zeros. */
static void test_unreached_is_null(void **state)
{
    (void)state;
    composition composed = {.dtype = SP_F32}, *c = &composed;
    assert_ok(sp_builder_create(&c->b));
    sp_value *x = V(3), *y = V(3), *z = V(3), *gradient[3];
    sp_value *loss = sp_mean(c->b, sp_add(c->b, x, sp_stop_gradient(c->b, y)));
    sp_output(c->b, "z", sp_mul(c->b, z, x));
    assert_ok(sp_gradient(c->b, loss, c->variable, 3, gradient));
    assert_non_null(gradient[0]);
    assert_null(gradient[1]);
    assert_null(gradient[2]);
    sp_builder_destroy(c->b);
}

static sp_value *through_sinusoidal(composition *c)
{
    return sp_mean(c->b, sp_sinusoidal(c->b, V(3), (sp_sinusoidal_options){8, false, 0, 1e4, 1}));
}

static sp_value *through_coefficient(composition *c)
{
    sp_value *coefficient = V(3), *x = V(3, 4);
    return sp_mean(c->b, sp_sample_combine(c->b, 1, (sp_value *[]){coefficient, x}));
}

static sp_value *through_target(composition *c)
{
    sp_value *prediction = V(3), *target = V(3);
    return sp_loss(c->b, prediction, target, NULL, (sp_loss_options){SP_LOSS_L2, 0});
}

static sp_value *through_a_gradient(composition *c)
{
    sp_value *x = V(3), *dy = V(3);
    return sp_mean(c->b, sp_unary_gradient(c->b, x, dy, (sp_unary_options){.kind = SP_UNARY_SILU}));
}

static sp_value *not_a_scalar(composition *c)
{
    return sp_silu(c->b, V(3));
}

static void test_what_has_no_gradient(void **state)
{
    (void)state;
    const struct {
        compose *make;
        sp_status status;
        const char *words;
    } refused[] = {
        {through_sinusoidal, SP_UNSUPPORTED, "sinusoidal"},
        {through_coefficient, SP_UNSUPPORTED, "sample_combine"},
        {through_target, SP_UNSUPPORTED, "loss"},
        {through_a_gradient, SP_UNSUPPORTED, "unary_gradient"},
        {not_a_scalar, SP_SHAPE, "[3]"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        composition c = {.dtype = SP_F32};
        sp_value *gradient[MAX_VARIABLES];
        assert_ok(sp_builder_create(&c.b));
        sp_value *loss = refused[i].make(&c);
        assert_non_null(loss);
        assert_status(sp_gradient(c.b, loss, c.variable, c.count, gradient), refused[i].status);
        assert_message(refused[i].words);
        sp_builder_destroy(c.b);
    }
}

/* A loss that is not finite must not leave finite gradients behind. */
static void test_nan_reaches_gradients(void **state)
{
    (void)state;
    running r = start(cube, (how){SP_F64, SP_F32, false, false, true});
    sp_tensor x = {0};
    assert_ok(sp_tensor_create(SP_F64, sp_shape_of(7), &x));
    ((double *)x.data)[3] = NAN;
    assert_ok(sp_run_set_input(r.run, "v0", &x));
    assert_ok(sp_run_execute(r.run, NULL));
    sp_tensor gradient = output(&r, "gradient0");
    for (int i = 0; i < 7; i++)
        assert_true(isnan(((double *)gradient.data)[i]));
    sp_tensor_free(&gradient);
    sp_tensor_free(&x);
    stop(&r);
}

/* ---- outputs as they are completed ---- */

typedef struct {
    running *r;
    double squares[MAX_VARIABLES]; /* of each gradient, at the moment it was reported */
    int seen[MAX_VARIABLES], total, last_step, fail_at;
} watching;

static double squares_of(running *r, int variable)
{
    sp_tensor g = output(r, numbered("gradient", variable));
    double sum = 0;
    for (int64_t k = 0; k < sp_tensor_count(&g); k++)
        sum += pow(sp_load(g.data, g.dtype, k), 2);
    sp_tensor_free(&g);
    return sum;
}

static void spoil(running *r, const char *name)
{
    sp_device *device = sp_plan_device(r->plan);
    size_t bytes = (size_t)sp_shape_count(sp_plan_output(r->plan, name)->shape) * sizeof(double);
    void *all_ones = sp_alloc(bytes);
    assert_non_null(all_ones);
    memset(all_ones, 0xff, bytes);
    device->upload(device, sp_run_output_address(r->run, name), all_ones, bytes);
    sp_free(all_ones);
}

/* Takes what was reported and spoils it: nobody may read it any more. */
static sp_status take_and_spoil(void *context, int index)
{
    watching *w = context;
    const char *name = sp_plan_graph(w->r->plan)->outputs[index].name;
    int step = sp_plan_output_step(w->r->plan, index), variable;
    assert_int_equal(sp_plan_output_index(w->r->plan, name), index);
    assert_true(step >= w->last_step);
    w->last_step = step;
    if (++w->total == w->fail_at) return sp_fail(SP_CANCELLED, "enough");
    if (sscanf(name, "gradient%d", &variable) != 1) return SP_OK;
    w->squares[variable] = squares_of(w->r, variable);
    w->seen[variable]++;
    spoil(w->r, name);
    return SP_OK;
}

static void test_outputs_are_reported(void **state)
{
    (void)state;
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        running plain = start(unet, (how){SP_F64, SP_F32, checkpoint, false, true});
        running watched = start(unet, (how){SP_F64, SP_F32, checkpoint, false, true});
        watching w = {.r = &watched};
        for (int i = 0; i < watched.variables; i++)
            spoil(&watched, numbered("gradient", i)); /* what is there from before */
        sp_run_set_output_observer(watched.run, take_and_spoil, &w);
        assert_ok(sp_run_execute(watched.run, NULL));
        assert_int_equal(w.total, sp_plan_graph(watched.plan)->output_count);
        for (int i = 0; i < watched.variables; i++) {
            assert_int_equal(w.seen[i], 1);
            assert_true(w.squares[i] == squares_of(&plain, i));
        }
        w = (watching){.r = &watched, .fail_at = 3};
        assert_status(sp_run_execute(watched.run, NULL), SP_CANCELLED);
        assert_int_equal(w.total, 3);
        sp_run_set_output_observer(watched.run, NULL, NULL);
        assert_ok(sp_run_execute(watched.run, NULL));
        assert_true(squares_of(&watched, 0) == squares_of(&plain, 0));
        assert_int_equal(sp_plan_output_index(plain.plan, "nothing"), -1);
        stop(&plain);
        stop(&watched);
    }
}

static void test_parameters_of_a_set(void **state)
{
    (void)state;
    sp_builder *b;
    sp_value **parameters;
    int count;
    assert_ok(sp_builder_create(&b));
    sp_set_enter(b, "teacher", SP_RATE_RUN, NULL, NULL);
    sp_parameter(b, "a", sp_shape_of(2));
    sp_set_leave(b);
    sp_set_enter(b, "online", SP_RATE_STEP, NULL, NULL);
    sp_value *second = sp_parameter(b, "b", sp_shape_of(3)),
             *first = sp_parameter(b, "a", sp_shape_of(2));
    sp_set_leave(b);
    assert_ok(sp_parameters_of(b, "online", &parameters, &count));
    assert_int_equal(count, 2);
    assert_ptr_equal(parameters[0], second);
    assert_ptr_equal(parameters[1], first);
    sp_builder_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resnet_block),
        cmocka_unit_test(test_outputs_are_reported),
        cmocka_unit_test(test_attention_block),
        cmocka_unit_test(test_unet_with_checkpoints),
        cmocka_unit_test(test_checkpoints_change_nothing),
        cmocka_unit_test(test_fusion_before_autodiff),
        cmocka_unit_test(test_fusion_for_inference),
        cmocka_unit_test(test_lower_precision),
        cmocka_unit_test(test_value_used_several_times),
        cmocka_unit_test(test_stop_gradient),
        cmocka_unit_test(test_unreached_is_null),
        cmocka_unit_test(test_what_has_no_gradient),
        cmocka_unit_test(test_nan_reaches_gradients),
        cmocka_unit_test(test_parameters_of_a_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
