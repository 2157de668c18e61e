/* Distilling Stable Diffusion XL: what caches hold, the student's folder. Runs are of a teacher that has learned
 * something in test_sdxl_teacher; the numbers of a step are PyTorch's in test_distill (golden distill-sdxl). */
#include "data_support.h"
#include "distill_support.h"
#include "splam/splam.h"

static void run_program(void **state, const char *arguments)
{
    sp_string line = {0};
    char *log;
    sp_string_append_format(&line, "exec %s %s --resolution 64 >%s 2>&1", splam_program(), arguments,
                            in_folder(state, "log"));
    int code = system(line.data);
    assert_ok(sp_read_file(in_folder(state, "log"), &log, NULL));
    if (code != 0) fail_msg("%s ended with %d: %s", line.data, code, log);
    sp_free(log);
    sp_string_free(&line);
}

/* ---- caches ---- */

/* Height and width of the original, top and left of the square in the picture scaled to 64, and the square's sides. */
static void caches_know_the_cut(void **state)
{
    static const float cuts[3][6] = {
        {80, 120, 0, 16, 64, 64}, {130, 80, 20, 0, 64, 64}, {96, 96, 0, 0, 64, 64}};
    char arguments[1400];
    sp_tensor_file *file;
    const sp_tensor *ids, *negative, *pooled;
    snprintf(arguments, sizeof arguments, "data \"folder:%s\" --teacher %s --cache %s --cache-dtype f32",
             in_folder(state, "pictures"), golden("sdxl"), in_folder(state, "cache"));
    run_program(state, arguments);
    assert_ok(sp_safetensors_open(in_folder(state, "cache/latents-00000.safetensors"), &file));
    assert_ok(sp_tensor_file_get(file, "conditioning.time_ids", &ids));
    assert_true(sp_shape_equal(ids->shape, sp_shape_of(3, 6)));
    assert_memory_equal(ids->data, cuts, sizeof cuts);
    assert_ok(sp_tensor_file_get(file, "conditioning.text_embeds", &pooled));
    assert_true(sp_shape_equal(pooled->shape, sp_shape_of(3, 20)));
    assert_ok(sp_tensor_file_get(file, "negative.encoder_hidden_states", &negative));
    for (int64_t i = 0; i < sp_tensor_count(negative); i++)
        assert_true(sp_load(negative->data, negative->dtype, i) == 0);
    sp_tensor_file_close(file);
}

/* The size that LAION's metadata says the picture had, and a place that is drawn. */
static void the_original_size_is_the_metadata_s(void **state)
{
    const sp_dataset_options options = {.resolution = 64, .random_crop = true, .seed = 3};
    char spec[700];
    sp_dataset *dataset;
    sp_dataset_cut_place wide, again;
    write_text(in_folder(state, "pictures/metadata.jsonl"),
               "{\"file_name\": \"a wide fog.png\", \"text\": \"fog\","
               " \"original_width\": 1200, \"original_height\": 800}\n");
    snprintf(spec, sizeof spec, "folder:%s", in_folder(state, "pictures"));
    assert_ok(sp_dataset_open(spec, &options, NULL, &dataset));
    assert_string_equal(sp_dataset_name(dataset, 0), "a wide fog.png");
    sp_dataset_cut(dataset, 0, &wide);
    sp_dataset_cut(dataset, 0, &again);
    assert_memory_equal(&wide, &again, sizeof wide);
    assert_int_equal(wide.original_width, 1200);
    assert_int_equal(wide.original_height, 800);
    assert_int_equal(wide.top, 0);
    assert_in_range(wide.left, 0, 32);
    sp_dataset_close(dataset);
}

/* ---- training ---- */

static sp_distill_options run_of(void **state, const char *output)
{
    static char data[600];
    sp_distill_options o = sp_distill_defaults();
    snprintf(data, sizeof data, "folder:%s", in_folder(state, "pictures"));
    o.given.teacher = golden("sdxl");
    o.given.data = data;
    o.given.pictures.resolution = 64;
    o.given.output = in_folder(state, output);
    o.given.max_train_steps = 4;
    o.given.train_batch_size = 2;
    o.given.validation_steps = 0;
    o.precision = SP_F32;
    o.objective = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    o.objective.conditioning = SP_GAMMA_TIME;
    return o;
}

/* ---- the student ---- */

static void students_draw(void **state)
{
    static const char *const prompts[] = {"a red fox"};
    sp_distill_options o = run_of(state, "student");
    assert_ok(sp_distill(&o, NULL));
    json_t *index;
    assert_ok(sp_json_load(in_folder(state, "student/model_index.json"), &index));
    assert_string_equal(json_string_value(json_object_get(index, "_class_name")), "StableDiffusionXLPipeline");
    assert_string_equal(json_string_value(json_array_get(json_object_get(index, "text_encoder_2"), 1)),
                        "CLIPTextModelWithProjection");
    assert_true(json_is_true(json_object_get(index, "force_zeros_for_empty_prompt")));
    json_decref(index);
    splam_generate_options g = splam_generate_defaults();
    g.model = in_folder(state, "student");
    g.prompts = prompts;
    g.prompt_count = 1;
    g.width = g.height = 64;
    g.output = in_folder(state, "out.png");
    assert_int_equal(splam_generate(&g, NULL), SPLAM_OK);
    assert_true(sp_path_exists(g.output));
}

#define with_pictures(test) cmocka_unit_test_setup_teardown(test, set_up_pictures, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_pictures(caches_know_the_cut),
        with_pictures(the_original_size_is_the_metadata_s),
        with_pictures(students_draw),
    };
    return cmocka_run_group_tests_name("sdxl distillation", tests, NULL, NULL);
}
