/* What a model predicts: marks in a checkpoint of one file, the configuration beside it, and what the caller knows
 * better. */
#include "tiny_model.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "diffusion/sampler.h"
#include "pipeline/model.h"
#include "convert_support.h"
#include "checkpoints/original.h"
#include "splam/splam.h"
#include "distill/student_folder.h"

static splam_status inspect_as(const char *path, const char *prediction, char **text)
{
    splam_inspect_options o = splam_inspect_defaults();
    o.path = path;
    o.prediction_type = prediction;
    return splam_inspect(&o, text);
}

/* The small checkpoint `from` with some more tensors, empty ones as people mark theirs. */
static void write_marked(const char *from, const char *to, const char *const *marks, const char *const (*metadata)[2])
{
    enum { MOST = 1000 };
    static sp_named_tensor named[MOST];
    sp_tensor_file *file;
    sp_tensor empty = {.dtype = SP_F32, .shape = sp_shape_of(0)};
    assert_ok(sp_tensor_file_open(golden(from), &file));
    size_t count = sp_tensor_file_count(file);
    for (size_t i = 0; i < count; i++)
        named[i] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
    for (; *marks; marks++)
        named[count++] = (sp_named_tensor){*marks, &empty};
    assert_ok(sp_safetensors_save(to, named, count, metadata, metadata ? 1 : 0));
    sp_tensor_file_close(file);
}

static const char first[] = "original-sd1/model.safetensors", second[] = "original-sd2/model.ckpt";
#define NO_MARKS ((const char *[]){NULL})

static sp_status read_model(const char *path, const char *prediction, sp_scheduler_config *out)
{
    sp_model_folder model;
    assert_ok(sp_model_folder_open(path, &model));
    model.prediction = prediction;
    sp_status status = sp_scheduler_config_of(&model, NULL, out);
    sp_model_folder_close(&model);
    return status;
}

static void expect(const char *path, sp_prediction prediction)
{
    sp_scheduler_config config;
    assert_ok(read_model(path, NULL, &config));
    if (config.path.prediction != prediction) fail_msg("%s is taken for the other prediction", path);
}

static void marks_are_heeded(void **state)
{
    static const char *const v_pred[] = {"v_pred", NULL}, *const zero[] = {"v_pred", "ztsnr", NULL},
                             *const zero_alone[] = {"ztsnr", NULL};
    static const char *const says_epsilon[][2] = {{"modelspec.prediction_type", "epsilon"}};
    const char *path = in_folder(state, "model.safetensors");
    sp_scheduler_config config;
    sp_component *unet;
    write_marked(first, path, NO_MARKS, NULL);
    expect(path, SP_PREDICTION_EPSILON);
    write_marked(first, path, v_pred, NULL);
    expect(path, SP_PREDICTION_V);
    assert_ok(sp_component_open(path, "unet", &unet));
    assert_int_equal(unet->config.unet.sample_size, 64); /* 1.x is for 512 whatever it predicts */
    sp_component_close(unet);
    write_marked(first, path, v_pred, says_epsilon); /* left over from what it was made of */
    expect(path, SP_PREDICTION_V);
    write_marked(first, path, zero, NULL);
    assert_ok(read_model(path, NULL, &config));
    assert_int_equal(config.path.prediction, SP_PREDICTION_V);
    assert_int_equal(config.path.kind, SP_PATH_ZERO_SNR);
    assert_int_equal(config.spacing, SP_SPACING_TRAILING); /* begins where there is no signal */
    write_marked(first, path, zero_alone, NULL);
    assert_ok(read_model(path, "v_prediction", &config));
    assert_int_equal(config.path.kind, SP_PATH_ZERO_SNR);
}

/* Heun alone does not sample what has no signal at its end, and nobody by epsilon. */
static void zero_terminal_snr_is_told(void **state)
{
    const char *model = in_folder(state, "model");
    const char *scheduler = in_folder(state, "model/scheduler/scheduler_config.json");
    make_model(model, "unet-demo", ddim_scheduler);
    write_text(scheduler, "{\"prediction_type\": \"v_prediction\", \"rescale_betas_zero_snr\": true}");
    sp_scheduler_config config;
    sp_sampler sampler;
    char *text;
    assert_int_equal(inspect_as(model, NULL, &text), SPLAM_OK);
    assert_non_null(strstr(text, "predicts v, zero terminal SNR\n"));
    splam_free(text);
    assert_ok(read_model(model, NULL, &config));
    assert_status(sp_sampler_create(&config, &(sp_sampler_options){.kind = SP_SAMPLER_HEUN, .steps = 2}, &sampler),
                  SP_UNSUPPORTED);
    assert_message("\"rescale_betas_zero_snr\" is true, which is not supported with the sampler heun");
    assert_ok(read_model(model, "epsilon", &config));
    config.spacing = SP_SPACING_TRAILING;
    assert_status(sp_sampler_create(&config, &(sp_sampler_options){.kind = SP_SAMPLER_DDIM, .steps = 2}, &sampler),
                  SP_NUMERIC);
    assert_message("timestep 999 has no signal");
}

/* ---- NAME.yaml ---- */

static const char yaml_v[] =
    "model:\n  base_learning_rate: 1.0e-4\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n"
    "    parameterization: \"v\"\n    linear_start: 0.00085\n    unet_config:\n      params:\n        image_size: 32\n";

static void check_yaml(const char *yaml, const char *model, const char *text, sp_prediction prediction)
{
    write_text(yaml, text);
    expect(model, prediction);
}

static void the_file_beside_is_read(void **state)
{
    static const char *const says_v[][2] = {{"modelspec.prediction_type", "v"}};
    char path[512], yaml[512]; /* in_folder keeps the last few */
    snprintf(path, sizeof path, "%s", in_folder(state, "model.safetensors"));
    snprintf(yaml, sizeof yaml, "%s", in_folder(state, "model.yaml"));
    const sp_prediction epsilon = SP_PREDICTION_EPSILON, v = SP_PREDICTION_V;
    sp_scheduler_config config;
    write_marked(first, path, NO_MARKS, NULL);
    check_yaml(yaml, path, yaml_v, v);
    check_yaml(yaml, path, "# mine\r\nmodel: # the model\r\n  params:\r\n   parameterization: 'v' # not eps\r\n", v);
    check_yaml(yaml, path, "model:\n  params:\n    a:\n      b: 1\n    parameterization: v   \n", v);
    check_yaml(yaml, path, "other: 1\nmodel:\n\n  params:\n\n    # parameterization: eps\n    parameterization: v", v);
    check_yaml(yaml, path, "model:\n  params:\n    parameterization: eps\n", epsilon);
    check_yaml(yaml, path, "model:\n  params:\n    parameterization: x0\n", SP_PREDICTION_SAMPLE);
    check_yaml(yaml, path, "model:\n  params:\n    first:\n      parameterization: v\n", epsilon);
    check_yaml(yaml, path, "model:\n  other:\n    parameterization: v\n", epsilon);
    check_yaml(yaml, path, "data:\n  params:\n    parameterization: v\n", epsilon);
    check_yaml(yaml, path, "parameterization: v\n", epsilon);
    check_yaml(yaml, path, "model:\n  params:\n    note: 'parameterization: v'\n", epsilon);
    write_text(yaml, "model:\n  params:\n    parameterization: mu\n");
    assert_status(read_model(path, NULL, &config), SP_UNSUPPORTED);
    assert_message("model.yaml: \"parameterization\" is \"mu\"");
    assert_ok(read_model(path, "epsilon", &config)); /* not asked where it is known better */
    /* of 2.x, which is taken for v, a configuration without the key is the 512 model's */
    write_marked(second, path, NO_MARKS, says_v);
    check_yaml(yaml, path, "model:\n  params:\n    linear_start: 0.00085\n", epsilon);
    check_yaml(yaml, path, "nothing: of it\n", v);
    assert_int_equal(unlink(yaml), 0);
    expect(path, v);
}

/* What is no configuration neither stops nor tells anything. */
static void a_hostile_file_beside_is_nothing(void **state)
{
    const char *path = in_folder(state, "model.safetensors"), *yaml = in_folder(state, "model.yaml");
    write_marked(first, path, NO_MARKS, NULL);
    enum { HUGE = 1 << 20 };
    char *text = sp_alloc(HUGE + sizeof yaml_v);
    assert_non_null(text);
    for (int kind = 0; kind < 4; kind++) { /* lines, one line, bytes, keys that go ever deeper */
        for (int i = 0; i < HUGE; i++)
            text[i] = kind == 0   ? "a: 1\n"[i % 5]
                      : kind == 1 ? ' '
                      : kind == 2 ? (char)((unsigned)i * 7919u >> 3)
                                  : ':';
        memcpy(text + HUGE, yaml_v, sizeof yaml_v);
        assert_ok(sp_write_file(yaml, text, HUGE + sizeof yaml_v));
        expect(path, SP_PREDICTION_EPSILON);
    }
    sp_free(text);
    assert_int_equal(unlink(yaml), 0);
    assert_int_equal(mkfifo(yaml, 0600), 0);
    expect(path, SP_PREDICTION_EPSILON);
    assert_int_equal(unlink(yaml), 0);
    assert_ok(sp_make_folders(yaml));
    expect(path, SP_PREDICTION_EPSILON);
    assert_ok(sp_remove_tree(yaml));
}

/* ---- what is known better ---- */

static void the_caller_knows_better(void **state)
{
    static const char *const v_pred[] = {"v_pred", NULL};
    const char *single = in_folder(state, "model.safetensors"), *folder = in_folder(state, "model");
    sp_scheduler_config config;
    char *text;
    write_marked(first, single, v_pred, NULL);
    make_model(folder, "unet-demo", ddim_scheduler);
    static const char *const asked[] = {"epsilon", "v_prediction", "sample"},
                             *const shown[] = {"predicts epsilon\n", "predicts v\n", "predicts the clean latent\n"};
    for (int i = 0; i < 6; i++) {
        const char *model = i % 2 ? folder : single;
        assert_ok(read_model(model, asked[i / 2], &config));
        assert_int_equal(config.path.prediction, i / 2);
        sp_log_set_level(SP_LOG_QUIET);
        assert_int_equal(inspect_as(model, asked[i / 2], &text), SPLAM_OK);
        assert_non_null(strstr(text, shown[i / 2]));
        splam_free(text);
        assert_int_equal(inspect_as(model, "noise", &text), SPLAM_ARGUMENT);
        sp_log_set_level(SP_LOG_INFO);
        assert_message("`prediction_type` is \"noise\", one of epsilon|v_prediction|sample is expected");
    }
    assert_int_equal(inspect_as(golden("original-sd1/inputs_unet.safetensors"), "epsilon", &text), SPLAM_ARGUMENT);
    assert_message("has no scheduler");
}

/* The flag changes the picture, and to what the model would say. */
static void pictures_are_of_the_prediction_asked_for(void **state)
{
    const char *model = in_folder(state, "model");
    const char *paths[3] = {in_folder(state, "a.safetensors"), in_folder(state, "b.safetensors"),
                            in_folder(state, "c.safetensors")};
    sp_tensor_file *file[3];
    const sp_tensor *latents[3];
    make_model(model, "unet-demo", ddim_scheduler);
    sp_log_set_level(SP_LOG_QUIET);
    for (int i = 0; i < 3; i++) {
        splam_generate_options o = splam_generate_defaults();
        o.model = model;
        o.prompt = "red apple";
        o.steps = 2;
        o.prediction_type = i == 1 ? "v_prediction" : NULL;
        o.save_latents = paths[i];
        if (i == 2)
            write_text(in_folder(state, "model/scheduler/scheduler_config.json"),
                       "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
                       " \"beta_schedule\": \"scaled_linear\", \"clip_sample\": false, \"set_alpha_to_one\": false,"
                       " \"steps_offset\": 1, \"prediction_type\": \"v_prediction\"}");
        assert_int_equal(splam_generate(&o, NULL), SPLAM_OK);
        assert_ok(sp_safetensors_open(paths[i], &file[i]));
        assert_ok(sp_tensor_file_get(file[i], "latents", &latents[i]));
    }
    sp_log_set_level(SP_LOG_INFO);
    size_t bytes = sp_tensor_bytes(latents[0]);
    assert_memory_equal(latents[1]->data, latents[2]->data, bytes);
    assert_true(memcmp(latents[0]->data, latents[1]->data, bytes) != 0);
    for (int i = 0; i < 3; i++)
        sp_tensor_file_close(file[i]);
}

/* A student is sampled as its teacher was taken. */
static void students_are_told(void **state)
{
    const char *folder = in_folder(state, "model");
    sp_model_folder teacher;
    json_t *scheduler;
    make_model(folder, "unet-demo", ddim_scheduler);
    assert_ok(sp_model_folder_open(folder, &teacher));
    teacher.prediction = "v_prediction";
    assert_ok(sp_student_scheduler(&(sp_objective_settings){.ddim_timesteps = 50}, &teacher, &scheduler));
    assert_string_equal(json_string_value(json_object_get(scheduler, "prediction_type")), "v_prediction");
    json_decref(scheduler);
    sp_model_folder_close(&teacher);
}

typedef struct {
    char path[512];
    const char *prediction;
    sp_prediction found;
} named_model;

static void open_named(void *context)
{
    named_model *m = context;
    sp_model *model;
    assert_ok(sp_model_open(m->path, &(sp_model_options){.parts = SP_PART_UNET, .prediction = m->prediction}, &model));
    m->found = model->scheduler.path.prediction;
    sp_model_close(model);
}

/* Nothing in a published file says that it predicts the clean latent but its name, which decides nothing. */
static void names_are_told(void **state)
{
    static const char *const says_epsilon[][2] = {{"modelspec.prediction_type", "epsilon"}};
    static const char words[] = "lightning_1step_x0.safetensors: by its name it predicts the clean latent";
    named_model m;
    snprintf(m.path, sizeof m.path, "%s", in_folder(state, "lightning_1step_x0.safetensors"));
    for (int i = 0; i < 3; i++) {
        write_marked(first, m.path, NO_MARKS, i == 1 ? says_epsilon : NULL);
        m.prediction = i == 2 ? "sample" : NULL;
        char *log = captured(state, open_named, &m);
        if (!strstr(log, words) != (i > 0)) fail_msg("case %d: %s", i, log);
        assert_int_equal(m.found, i == 2 ? SP_PREDICTION_SAMPLE : SP_PREDICTION_EPSILON);
        sp_free(log);
    }
}

/* ---- converting ---- */

/* Marks go through a folder's scheduler and come back. */
static void marks_survive_converting(void **state)
{
    static const char *const marks[] = {"v_pred", "ztsnr", NULL};
    const char *path = in_folder(state, "model.safetensors"), *again = in_folder(state, "again.safetensors"),
               *folder = in_folder(state, "converted");
    sp_tensor_file *file;
    json_t *scheduler;
    write_marked(first, path, marks, NULL);
    assert_ok(convert_model(path, folder, &(splam_convert_options){.dtype = "f32"}));
    assert_ok(sp_json_load(in_folder(state, "converted/scheduler/scheduler_config.json"), &scheduler));
    assert_string_equal(json_string_value(json_object_get(scheduler, "prediction_type")), "v_prediction");
    assert_true(json_is_true(json_object_get(scheduler, "rescale_betas_zero_snr")));
    json_decref(scheduler);
    assert_ok(convert_model(folder, again, &(splam_convert_options){.dtype = "f32", .single_file = true}));
    assert_ok(sp_safetensors_open(again, &file));
    assert_non_null(sp_tensor_file_find(file, "v_pred"));
    assert_non_null(sp_tensor_file_find(file, "ztsnr"));
    sp_tensor_file_close(file);
}

/* What predicts the clean latent has no tensor for a mark: the metadata has it. Read from a file it is sampled from the
 * last timestep on. */
static void clean_latents_survive_converting(void **state)
{
    const char *path = in_folder(state, "model.safetensors"), *again = in_folder(state, "again.safetensors"),
               *folder = in_folder(state, "converted");
    const splam_convert_options from = {.dtype = "f32", .prediction_type = "sample"},
                                to = {.dtype = "f32", .single_file = true};
    sp_tensor_file *file;
    sp_scheduler_config config;
    write_marked(first, path, NO_MARKS, NULL);
    assert_ok(convert_model(path, folder, &from));
    assert_ok(convert_model(folder, again, &to));
    for (int i = 0; i < 2; i++) {
        assert_ok(read_model(i ? again : folder, NULL, &config));
        assert_int_equal(config.path.prediction, SP_PREDICTION_SAMPLE);
        assert_int_equal(config.spacing, SP_SPACING_TRAILING);
    }
    assert_ok(sp_safetensors_open(again, &file));
    assert_null(sp_tensor_file_find(file, "v_pred"));
    assert_string_equal(sp_tensor_file_metadata(file, "modelspec.prediction_type"), "sample");
    sp_tensor_file_close(file);
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(marks_are_heeded),
        with_folder(zero_terminal_snr_is_told),
        with_folder(the_file_beside_is_read),
        with_folder(a_hostile_file_beside_is_nothing),
        with_folder(the_caller_knows_better),
        with_folder(pictures_are_of_the_prediction_asked_for),
        with_folder(students_are_told),
        with_folder(names_are_told),
        with_folder(marks_survive_converting),
        with_folder(clean_latents_survive_converting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
