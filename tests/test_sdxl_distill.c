/* Distilling Stable Diffusion XL: what caches hold, runs that are interrupted, several processes, the student's folder.
 * The numbers of a step are PyTorch's in test_distill (golden distill-sdxl). */
#include "data_support.h"
#include "distill_support.h"
#include "splam/splam.h"

static void write_picture(void **state, const char *name, int width, int height, uint8_t shade)
{
    char file[64];
    size_t size;
    uint8_t *png = grey_png(width, height, shade, &size);
    snprintf(file, sizeof file, "pictures/%s.png", name);
    assert_ok(sp_write_file(in_folder(state, file), png, size));
    sp_free(png);
    snprintf(file, sizeof file, "pictures/%s.txt", name);
    write_text(in_folder(state, file), name);
}

static int set_up_pictures(void **state)
{
    if (make_test_folder(state) != 0) return -1;
    assert_ok(sp_make_folders(in_folder(state, "pictures")));
    write_picture(state, "a wide fog", 120, 80, 40);
    write_picture(state, "b tall fox", 80, 130, 90);
    write_picture(state, "c red", 96, 96, 200);
    return 0;
}

static void run_program(void **state, const char *before, const char *arguments)
{
    sp_string line = {0};
    char *log;
    sp_string_append_format(&line, "exec %s %s %s --resolution 64 >%s 2>&1", before, splam_program(), arguments,
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
    run_program(state, "", arguments);
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

static void assert_same_student(void **state, const char *a, const char *b, const char *file)
{
    char first[700], second[700];
    snprintf(first, sizeof first, "%s/%s", in_folder(state, a), file);
    snprintf(second, sizeof second, "%s/%s", in_folder(state, b), file);
    assert_same_file(first, second);
}

#define UNET "unet/diffusion_pytorch_model.safetensors"

static void check_resumed(void **state, int64_t rank, const char *file)
{
    sp_distill_options o = run_of(state, "whole");
    o.lora.rank = rank;
    o.lora.alpha = (double)rank;
    assert_ok(sp_distill(&o, NULL));
    o.given.output = in_folder(state, "resumed");
    int left = 2;
    const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&o, &callbacks), SP_CANCELLED);
    o.given.resume = "latest";
    assert_ok(sp_distill(&o, NULL));
    assert_same_student(state, "whole", "resumed", file);
}

static void resumed_equals_undisturbed(void **state)
{
    check_resumed(state, 0, UNET);
}

static void resumed_adapters_equal_undisturbed(void **state)
{
    check_resumed(state, 2, "pytorch_lora_weights.safetensors");
}

/* Gradients are summed in another order: weights, which move by some 3e-5, differ by less than a hundredth of that. */
static void assert_close_student(void **state, const char *a, const char *b)
{
    char first[700], second[700];
    sp_tensor_file *x, *y;
    double sum = 0, count = 0;
    snprintf(first, sizeof first, "%s/" UNET, in_folder(state, a));
    snprintf(second, sizeof second, "%s/" UNET, in_folder(state, b));
    assert_ok(sp_safetensors_open(first, &x));
    assert_ok(sp_safetensors_open(second, &y));
    for (size_t i = 0; i < sp_tensor_file_count(x); i++) {
        const sp_tensor *u = sp_tensor_file_at(x, i), *v = sp_tensor_file_find(y, sp_tensor_file_name(x, i));
        for (int64_t k = 0; k < sp_tensor_count(u); k++)
            sum += fabs(sp_load(u->data, u->dtype, k) - sp_load(v->data, v->dtype, k));
        count += (double)sp_tensor_count(u);
    }
    print_message("two processes against one: %.1e in the mean\n", sum / count);
    assert_true(sum / count < 1e-7);
    sp_tensor_file_close(x);
    sp_tensor_file_close(y);
}

static void two_processes_are_one(void **state)
{
    char arguments[2000];
    static const char run[] =
        "distill --teacher %s --data \"folder:%s\" --output %s --objective lcm --max-train-steps 3"
        " --train-batch-size %d --validation-steps 0 --mixed-precision no -t 1";
    const char *model = golden("sdxl"), *pictures = in_folder(state, "pictures");
    allow_mpirun();
    snprintf(arguments, sizeof arguments, run, model, pictures, in_folder(state, "one"), 2);
    run_program(state, "", arguments);
    snprintf(arguments, sizeof arguments, run, model, pictures, in_folder(state, "two"), 1);
    run_program(state, "mpirun --oversubscribe -n 2", arguments);
    assert_close_student(state, "one", "two");
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
        with_pictures(resumed_equals_undisturbed),
        with_pictures(resumed_adapters_equal_undisturbed),
        with_pictures(two_processes_are_one),
        with_pictures(students_draw),
    };
    return cmocka_run_group_tests_name("sdxl distillation", tests, NULL, NULL);
}
