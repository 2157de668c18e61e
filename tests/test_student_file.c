/* splam.json: what is written is known, and what does not fit is named. */
#include "support.h"
#include "base/file.h"
#include "checkpoints/student_file.h"
#include "distill/distill_settings.h"

static sp_distill_options everything(sp_objective objective)
{
    sp_distill_options o = sp_distill_defaults();
    splam_picture_options *p = &o.given.pictures;
    o.given.teacher = "teacher";
    o.given.data = "folder:pictures";
    o.given.lora_start = "start.safetensors";
    o.given.student_start = "student";
    o.given.seed = UINT64_MAX;
    o.objective = sp_objective_defaults(objective);
    o.lora = (sp_lora_settings){.rank = 4, .alpha = 4};
    o.ranks = 2;
    p->resolution = 64;
    p->min_size = 32;
    p->min_aesthetic = 5.5;
    p->max_watermark = 0.5;
    p->min_similarity = 0.25;
    p->caption_column = "text";
    p->random_crop = p->random_flip = true;
    return o;
}

/* Each key that a distillation writes is one of the table, and its value fits. */
static void what_is_written_is_known(void **state)
{
    (void)state;
    for (int i = 0; i < SP_OBJECTIVE_COUNT; i++) {
        const sp_distill_options o = everything((sp_objective)i);
        json_t *settings;
        size_t known;
        assert_ok(sp_distill_settings(&o, SP_PREDICTION_V, &settings));
        assert_ok(sp_student_file_check(settings, "settings", &known));
        assert_int_equal(known, json_object_size(settings));
        json_decref(settings);
    }
}

static void it_is_read_as_written(void **state)
{
    const sp_distill_options o = everything(SP_OBJECTIVE_SPLAM);
    json_t *settings;
    sp_student_file file;
    assert_ok(sp_student_file_read(in_folder(state, ""), &file));
    assert_null(file.json);
    assert_ok(sp_distill_settings(&o, SP_PREDICTION_EPSILON, &settings));
    assert_ok(sp_student_file_write(in_folder(state, ""), settings, "lcm", 4));
    assert_ok(sp_student_file_read(in_folder(state, ""), &file));
    assert_string_equal(file.objective, "splam");
    assert_string_equal(file.gamma_conditioning, "embedding");
    assert_string_equal(file.sampler, "lcm");
    assert_int_equal(file.steps, 4);
    assert_true(file.guidance_scale_w == 8);
    sp_student_file_free(&file);
    json_decref(settings);
}

static void what_does_not_fit_is_named(void **state)
{
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"[1]", "splam.json: an object of settings is expected"},
        {"{\"objective\": 3}", "\"objective\" is 3, one of splam|lcm|pcm|tcd|progressive|dmd is expected"},
        {"{\"sampler\": \"best\"}", "\"sampler\" is \"best\", one of lcm|ddim|"},
        {"{\"mixed-precision\": \"fp8\"}", "\"mixed-precision\" is \"fp8\", one of auto|no|bf16 is expected"},
        {"{\"skip\": 5000}", "\"skip\" is 5000, a whole number from 1 to 1000 is expected"},
        {"{\"steps\": 1.5}", "\"steps\" is 1.5, a whole number from 1 to 1000 is expected"},
        {"{\"steps\": -1}", "\"steps\" is -1, a whole number"},
        {"{\"guidance-scale-w\": \"8\"}", "\"guidance-scale-w\" is \"8\", a number from 0 to 100 is expected"},
        {"{\"max-watermark\": 7}", "\"max-watermark\" is 7, a number"},
        {"{\"teacher\": null, \"data\": {}}", "\"data\" is {}, a text is expected"},
        {"{\"random-flip\": 2}", "\"random-flip\" is 2, a truth value is expected"},
        {"{\"seed\": -4}", "\"seed\" is -4, a whole number is expected"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sp_student_file file;
        assert_ok(sp_write_file(in_folder(state, "splam.json"), wrong[i].text, strlen(wrong[i].text)));
        assert_status(sp_student_file_read(in_folder(state, ""), &file), SP_FORMAT);
        assert_message("splam.json: ");
        assert_message(wrong[i].message);
        assert_null(file.json);
    }
    static const char fine[] =
        "{\"mine\": [1], \"skip\": 0, \"seed\": \"18446744073709551615\", \"random-flip\": true}";
    sp_student_file file;
    assert_ok(sp_write_file(in_folder(state, "splam.json"), fine, strlen(fine)));
    assert_ok(sp_student_file_read(in_folder(state, ""), &file));
    assert_null(file.objective);
    sp_student_file_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_known),
        cmocka_unit_test_setup_teardown(it_is_read_as_written, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_named, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
