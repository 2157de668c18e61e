/* Students that start from a student: what is taken over, and what is refused. */
#include "distill_support.h"
#include "base/text.h"
#include "checkpoints/component.h"
#include "checkpoints/fold_guidance.h"
#include "distill/distill.h"

typedef struct {
    sp_distill_options options;
    char teacher[600], draws[600], output[600];
} trial;

/* One step on a golden case's draws; the rate 0 leaves weights as they were. */
static void make_trial(void **state, const char *name, sp_objective objective, double rate, trial *t)
{
    json_t *description = golden_case_json(name);
    snprintf(t->teacher, sizeof t->teacher, "%s/%s", golden(name), case_text(description, "teacher"));
    snprintf(t->draws, sizeof t->draws, "%s/draws.safetensors", golden(name));
    snprintf(t->output, sizeof t->output, "%s", in_folder(state, rate > 0 ? "first" : "second"));
    t->options = sp_distill_defaults();
    t->options.objective = sp_objective_defaults(objective);
    splam_distill_options *o = &t->options.given;
    o->teacher = t->teacher;
    o->draws = t->draws;
    o->output = t->output;
    o->train_batch_size = 3;
    o->max_train_steps = 1;
    o->learning_rate = rate;
    json_decref(description);
}

static void assert_same_weights(const char *model, const char *component, const char *other, bool fold)
{
    sp_component *a, *b;
    assert_ok(sp_component_open(model, component, &a));
    assert_ok(sp_component_open(other, "unet", &b));
    if (fold) assert_ok(sp_fold_guidance(a, 1));
    assert_int_equal(a->config.unet.time_cond_dim, b->config.unet.time_cond_dim);
    assert_int_equal(sp_weights_count(a->weights), sp_weights_count(b->weights));
    for (size_t i = 0; i < sp_weights_count(a->weights); i++) {
        const sp_tensor *x = sp_weights_at(a->weights, i);
        const sp_tensor *y = sp_weights_find(b->weights, sp_weights_name(a->weights, i));
        assert_non_null(y);
        assert_int_equal(sp_tensor_bytes(x), sp_tensor_bytes(y));
        assert_memory_equal(x->data, y->data, sp_tensor_bytes(x));
    }
    sp_component_close(a);
    sp_component_close(b);
}

/* A step that moves nothing writes what it began with: a plain student as it is, its average if that is named, one
 * with cond_proj as it is to one that has it too, folded to one that has none. */
static void a_student_goes_on(void **state)
{
    static const struct {
        sp_objective first, second;
        const char *unet;
        bool fold;
    } trials[] = {
        {SP_OBJECTIVE_LCM, SP_OBJECTIVE_LCM, "unet", false},
        {SP_OBJECTIVE_LCM, SP_OBJECTIVE_TCD, "unet_ema", false},
        {SP_OBJECTIVE_SPLAM, SP_OBJECTIVE_SPLAM, "unet", false},
        {SP_OBJECTIVE_SPLAM, SP_OBJECTIVE_LCM, "unet", true},
    };
    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++) {
        trial a, b;
        char start[700];
        make_trial(state, "distill-splam", trials[i].first, 1e-2, &a);
        a.options.random_cond_proj = true; /* or there would be nothing to fold */
        a.options.average.value = 0.5;
        assert_ok(sp_remove_tree(in_folder(state, "first")));
        assert_ok(sp_remove_tree(in_folder(state, "second")));
        assert_ok(sp_distill(&a.options, NULL));
        make_trial(state, trials[i].second == SP_OBJECTIVE_TCD ? "distill-tcd" : "distill-splam", trials[i].second, 0,
                   &b);
        if (trials[i].second == SP_OBJECTIVE_TCD) b.options.given.train_batch_size = 2;
        bool whole = strcmp(trials[i].unet, "unet") == 0;
        snprintf(start, sizeof start, whole ? "%s" : "%s/%s", a.output, trials[i].unet);
        b.options.given.student_start = start;
        assert_ok(sp_distill(&b.options, NULL));
        assert_same_weights(a.output, trials[i].unet, b.output, trials[i].fold);
    }
}

/* A student that was folded and gets a cond_proj of zeros again computes what it did. */
static void a_plain_start_gets_a_cond_proj_of_zeros(void **state)
{
    trial a, b;
    make_trial(state, "distill-splam", SP_OBJECTIVE_LCM, 1e-2, &a);
    assert_ok(sp_distill(&a.options, NULL));
    make_trial(state, "distill-splam", SP_OBJECTIVE_SPLAM, 0, &b);
    b.options.given.student_start = a.output;
    assert_ok(sp_distill(&b.options, NULL));
    sp_component *made;
    assert_ok(sp_component_open(b.output, "unet", &made));
    assert_int_equal(made->config.unet.time_cond_dim, 256);
    assert_ok(sp_fold_guidance(made, 1));
    sp_component *before;
    assert_ok(sp_component_open(a.output, "unet", &before));
    for (size_t i = 0; i < sp_weights_count(before->weights); i++) {
        const sp_tensor *x = sp_weights_at(before->weights, i);
        assert_memory_equal(x->data, sp_weights_find(made->weights, sp_weights_name(before->weights, i))->data,
                            sp_tensor_bytes(x));
    }
    sp_component_close(before);
    sp_component_close(made);
}

static void another_network_is_refused(void **state)
{
    trial t;
    make_trial(state, "distill-splam", SP_OBJECTIVE_LCM, 0, &t);
    char start[600];
    snprintf(start, sizeof start, "%s", golden("unet-sd1"));
    t.options.given.student_start = start;
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("`student_start`");
    assert_message("unet-sd1 has a UNet of \"");
    snprintf(start, sizeof start, "%s", golden("teacher-v_prediction"));
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("predicts v_prediction, and the teacher epsilon");
    snprintf(start, sizeof start, "%s", golden("teacher-epsilon"));
    t.options.lora = (sp_lora_settings){.rank = 2, .alpha = 2};
    assert_status(sp_distill(&t.options, NULL), SP_ARGUMENT);
    assert_message("`lora_start`");
    assert_false(sp_path_exists(t.output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_student_goes_on, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(a_plain_start_gets_a_cond_proj_of_zeros, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(another_network_is_refused, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
