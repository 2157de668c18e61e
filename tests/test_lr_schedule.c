/* Schedules of the learning rate against diffusers', and which flags go together. */
#include <math.h>
#include "tiny_model.h"
#include "base/json.h"
#include "train/lr_schedule.h"

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* diffusers.optimization.get_scheduler, whole runs. */
static void rates_are_diffusers(void **state)
{
    (void)state;
    json_t *golden_file;
    assert_ok(sp_json_load(golden("lr_schedule.json"), &golden_file));
    const json_t *runs = json_object_get(golden_file, "runs");
    double rate = number_at(golden_file, "learning-rate");
    assert_true(json_array_size(runs) >= 10);
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i), *rates = json_object_get(run, "rates");
        const char *name = json_string_value(json_object_get(run, "lr-scheduler"));
        int64_t warmup = (int64_t)number_at(run, "lr-warmup-steps"), steps = (int64_t)json_array_size(rates);
        sp_lr_schedule schedule;
        assert_ok(sp_lr_schedule_of(name, strcmp(name, "constant") ? warmup : SPLAM_UNSET, &schedule));
        for (int64_t t = 0; t < steps; t++) {
            double wanted = json_number_value(json_array_get(rates, (size_t)t)),
                   found = rate * sp_lr_factor(&schedule, t, steps);
            if (fabs(found - wanted) > 1e-15 * rate)
                fail_msg("%s, step %d of %d: %.17g, diffusers has %.17g", name, (int)t, (int)steps, found, wanted);
        }
    }
    json_decref(golden_file);
}

/* What trainings from scratch have: the first step moves, and the top is where the others have it. */
static void a_warm_up_may_move_at_once(void **state)
{
    (void)state;
    const sp_lr_schedule at_once = {SP_LR_COSINE, 4, true}, plain = {SP_LR_COSINE, 4, false};
    for (int t = 0; t < 4; t++)
        assert_true(sp_lr_factor(&at_once, t, 20) == (t + 1) / 4.0);
    for (int t = 4; t < 20; t++)
        assert_true(sp_lr_factor(&at_once, t, 20) == sp_lr_factor(&plain, t, 20));
}

static void what_says_nothing_is_refused(void **state)
{
    (void)state;
    sp_lr_schedule schedule;
    assert_status(sp_lr_schedule_of("cosine_with_restarts", SPLAM_UNSET, &schedule), SP_ARGUMENT);
    assert_message("cosine_with_restarts");
    assert_status(sp_lr_schedule_of("constant", 5, &schedule), SP_ARGUMENT);
    assert_message("`lr_warmup_steps` says nothing to `lr_scheduler` constant");
    assert_status(sp_lr_schedule_of("constant_with_warmup", SPLAM_UNSET, &schedule), SP_ARGUMENT);
    assert_message("needs `lr_warmup_steps`");
    assert_ok(sp_lr_schedule_of("constant_with_warmup", 5, &schedule));
    assert_ok(sp_lr_schedule_check(&schedule, 3)); /* such a run may go on */
    assert_string_equal(sp_lr_schedule_text(&schedule), "constant after 5 steps of warm-up");
    assert_ok(sp_lr_schedule_of("linear", 5, &schedule));
    assert_status(sp_lr_schedule_check(&schedule, 5), SP_ARGUMENT);
    assert_message("`lr_warmup_steps` is 5, and `lr_scheduler` linear has to fall within `max_train_steps` 5");
    assert_ok(sp_lr_schedule_check(&schedule, 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_diffusers),
        cmocka_unit_test(a_warm_up_may_move_at_once),
        cmocka_unit_test(what_says_nothing_is_refused),
    };
    return cmocka_run_group_tests_name("lr_schedule", tests, NULL, NULL);
}
