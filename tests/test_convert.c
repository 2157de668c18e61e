/* Converting a model's folder: types, what is left alone, and what is refused without leaving half
 * a model. */
#include <math.h>
#include "support.h"
#include "checkpoints/component.h"
#include "convert_support.h"

/* A teacher with a UNet and a scheduler, in the test's folder. */
static const char *make_teacher(void **state)
{
    char golden[512];
    static char model[512];
    snprintf(golden, sizeof golden, "%s/tests/golden/teacher-epsilon", getenv("SPLAM_SOURCE"));
    snprintf(model, sizeof model, "%s", in_folder(state, "model"));
    assert_ok(sp_copy_tree(golden, model, NULL));
    return model;
}

static void converts_weights_and_copies_the_rest(void **state)
{
    const char *model = make_teacher(state);
    assert_ok(sp_make_folders(in_folder(state, "model/checkpoint-3")));
    assert_ok(sp_write_file(in_folder(state, "model/metrics.jsonl"), "{}\n", 3));
    assert_ok(
        convert_model(model, in_folder(state, "new"), &(splam_convert_options){.dtype = "bf16"}));
    sp_component *before, *after;
    assert_ok(sp_component_open(model, "unet", &before));
    assert_ok(sp_component_open(in_folder(state, "new"), "unet", &after));
    for (size_t i = 0; i < sp_weights_count(before->weights); i++) {
        const sp_tensor *old = sp_weights_at(before->weights, i);
        const sp_tensor *new = sp_weights_find(after->weights, sp_weights_name(before->weights, i));
        assert_int_equal(new->dtype, SP_BF16);
        for (int64_t k = 0; k < sp_tensor_count(old); k++) {
            double x = sp_load(old->data, old->dtype, k), y = sp_load(new->data, new->dtype, k);
            assert_true(fabs(x - y) <= ldexp(fabs(x), -8)); /* bf16 keeps 8 bits, rounded */
        }
    }
    sp_component_close(before);
    sp_component_close(after);
    assert_true(sp_path_exists(in_folder(state, "new/scheduler/scheduler_config.json")));
    assert_false(sp_path_exists(in_folder(state, "new/checkpoint-3")));
    assert_false(sp_path_exists(in_folder(state, "new/metrics.jsonl")));
    assert_status(
        convert_model(model, in_folder(state, "new"), &(splam_convert_options){.dtype = "f16"}),
        SP_ARGUMENT);
    assert_message("not empty");
    assert_true(sp_path_exists(in_folder(state, "new/unet/config.json")));
}

static void refusals_leave_nothing(void **state)
{
    const char *model = make_teacher(state);
    assert_status(convert_model(in_folder(state, "nowhere"), in_folder(state, "new"),
                                &(splam_convert_options){.dtype = "f16"}),
                  SP_IO);
    assert_ok(sp_make_folders(in_folder(state, "empty")));
    assert_status(convert_model(in_folder(state, "empty"), in_folder(state, "new"),
                                &(splam_convert_options){.dtype = "f16"}),
                  SP_FORMAT);
    assert_message("holds no model");
    /* A component's own folder would only be copied. */
    assert_status(convert_model(in_folder(state, "model/unet"), in_folder(state, "new"),
                                &(splam_convert_options){.dtype = "f16"}),
                  SP_FORMAT);
    sp_component *unet;
    sp_weights *large;
    assert_ok(sp_component_open(model, "unet", &unet));
    assert_ok(sp_weights_copy(unet->weights, SP_F32, &large));
    ((float *)sp_weights_find(large, "conv_out.bias")->data)[0] = 1e5f;
    assert_ok(sp_component_save(in_folder(state, "model/unet"), SP_COMPONENT_UNET, unet->json,
                                large, SP_F32, NULL));
    sp_weights_destroy(large);
    sp_component_close(unet);
    assert_status(
        convert_model(model, in_folder(state, "new"), &(splam_convert_options){.dtype = "f16"}),
        SP_NUMERIC);
    assert_message("\"conv_out.bias\" has 100000");
    assert_false(sp_path_exists(in_folder(state, "new")));
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(converts_weights_and_copies_the_rest),
        with_folder(refusals_leave_nothing),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
