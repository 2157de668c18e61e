/* Low-rank adapters in training: the graph, what is written, starting and resuming. */
#include <math.h>
#include "conditions.h"
#include "distill_support.h"
#include "lora_support.h"
#include "backend/registry.h"
#include "base/random.h"
#include "distill/distill.h"
#include "distill/objective.h"

/* ---- what training writes ---- */

static void set_random(sp_weights *weights, const char *end, float scale)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        sp_tensor *tensor = sp_weights_at(weights, i);
        if (!strstr(sp_weights_name(weights, i), end)) continue;
        sp_random_normal((sp_random_key){.seed = 21, .sample = i}, tensor->data,
                         (size_t)sp_tensor_count(tensor));
        for (int64_t k = 0; k < sp_tensor_count(tensor); k++)
            ((float *)tensor->data)[k] *= scale;
    }
}

/* A student of adapters and cond_proj, drawn with its merged weights, is what its files are in both
 * namings. */
static void written_files_are_the_student(void **state)
{
    const char *model = base_model(state);
    for (int with_cond_proj = 0; with_cond_proj < 2; with_cond_proj++) {
        sp_pipeline *p;
        sp_weights *adapters, *merged;
        const sp_lora_settings lora = {.rank = 3, .alpha = with_cond_proj ? 4 : 3};
        assert_ok(sp_pipeline_open(model, &(sp_model_options){0}, &p));
        sp_component_config config = p->denoiser->config;
        if (with_cond_proj) config.unet.time_cond_dim = 256;
        assert_ok(sp_lora_create(&config, &lora, 5, false, &adapters));
        set_random(adapters, "lora_B", 0.1f);
        set_random(adapters, "cond_proj", 0.1f);
        assert_ok(sp_lora_merged(sp_default_device(), p->denoiser->weights, adapters, &lora, &merged));
        for (int i = 0; i < 2; i++)
            assert_ok(sp_lora_save(in_folder(state, i ? "k.safetensors" : "d.safetensors"),
                                   (sp_lora_naming)i, &config, p->denoiser->weights, adapters, &lora, NULL));
        assert_ok(sp_pipeline_set_denoiser(p, &config, merged));
        for (int i = 0; i < 2; i++) {
            const char *file = in_folder(state, i ? "k.safetensors" : "d.safetensors");
            assert_true(difference(draw_model(model, file, 1), draw(p)) <= 1e-5);
        }
        assert_true(difference(draw_model(model, NULL, 0), draw(p)) > 1e-3);
        sp_weights_destroy(merged);
        sp_weights_destroy(adapters);
        sp_pipeline_close(p);
    }
    /* eight channels cannot make a constant */
    sp_component *tiny;
    assert_ok(sp_component_open(golden("unet-guided"), "unet", &tiny));
    assert_status(sp_lora_check_guidance(&tiny->config), SP_UNSUPPORTED);
    assert_message("`gamma_conditioning` time");
    sp_component_close(tiny);
}

/* ---- the graph of training ---- */

/* Gradients are those of adapters and cond_proj; the base is bound once and has none. */
static void only_adapters_have_gradients(void **state)
{
    (void)state;
    sp_component *teacher;
    sp_weights *adapters;
    const sp_lora_settings lora = {.rank = 2, .alpha = 2, .targets = SP_LORA_ALL};
    assert_ok(sp_component_open(golden("teacher-epsilon"), "unet", &teacher));
    sp_component_config config = teacher->config;
    config.unet.time_cond_dim = 256;
    assert_ok(sp_lora_create(&config, &lora, 1, false, &adapters));
    const sp_objective_settings settings = sp_distill_defaults().objective;
    const sp_conditioning conditioning = hidden_states_of(1, 7, 24);
    const sp_step_shape shape = {.batch = 1,
                                 .channels = 4,
                                 .height = 8,
                                 .width = 8,
                                 .conditioning = &conditioning,
                                 .teacher = &teacher->config,
                                 .student = &config,
                                 .teacher_weights = teacher->weights,
                                 .lora = &lora};
    sp_graph *graph;
    assert_ok(sp_objective_graph(&settings, &shape, &graph));
    size_t gradients = 0, base = 0;
    for (int i = 0; i < graph->output_count; i++) {
        const char *name = graph->outputs[i].name;
        if (strncmp(name, "gradient.", 9) != 0) continue;
        assert_non_null(sp_weights_find(adapters, name + 9));
        gradients++;
    }
    assert_int_equal(gradients, sp_weights_count(adapters));
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind != SP_VALUE_PARAMETER) continue;
        bool teachers = strcmp(value->set, "teacher") == 0;
        base += teachers;
        assert_true(teachers || sp_weights_find(adapters, value->name));
        assert_false(teachers && (value->needs_gradient || value->rate != SP_RATE_RUN));
    }
    assert_int_equal(base, sp_weights_count(teacher->weights)); /* one copy for three networks */
    sp_graph_destroy(graph);
    sp_weights_destroy(adapters);
    sp_component_close(teacher);
}

static sp_distill_options short_run(void)
{
    static char draws[1024], teacher[1024];
    snprintf(draws, sizeof draws, "%s", golden("distill-splam/draws.safetensors"));
    snprintf(teacher, sizeof teacher, "%s", golden("teacher-epsilon"));
    sp_distill_options o = sp_distill_defaults();
    o.given.teacher = teacher;
    o.given.draws = draws;
    o.given.train_batch_size = 3;
    o.given.max_train_steps = 6;
    o.given.learning_rate = 1e-3;
    o.lora = (sp_lora_settings){.rank = 4, .alpha = 8, .targets = SP_LORA_ALL};
    return o;
}

static double first_loss(const char *path)
{
    sp_tensor_file *file;
    const sp_tensor *loss;
    assert_ok(sp_safetensors_open(path, &file));
    assert_ok(sp_tensor_file_get(file, "loss", &loss));
    double value = sp_load(loss->data, loss->dtype, 0);
    sp_tensor_file_close(file);
    return value;
}

/* Before its first step a student of adapters is the teacher, as a whole one is. */
static void starts_as_the_teacher(void **state)
{
    sp_distill_options o = short_run();
    o.given.max_train_steps = 1;
    o.given.trace = in_folder(state, "lora-trace");
    o.given.output = in_folder(state, "lora");
    assert_ok(sp_distill(&o, NULL));
    o.lora.rank = 0;
    o.given.trace = in_folder(state, "whole-trace");
    o.given.output = in_folder(state, "whole");
    assert_ok(sp_distill(&o, NULL));
    double a = first_loss(in_folder(state, "lora-trace")),
           b = first_loss(in_folder(state, "whole-trace"));
    assert_true(fabs(a / b - 1) < 1e-5); /* adapters add zeros in another order of sums */
    o.given.lora_merged = true;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`lora_rank`");
}

/* Stopped and resumed: the same files, bit for bit; checkpoints and output have adapters alone. */
static void resumed_equals_undisturbed(void **state)
{
    sp_distill_options o = short_run();
    o.given.output = in_folder(state, "whole");
    assert_ok(sp_distill(&o, NULL));
    o.given.output = in_folder(state, "resumed");
    int left = 3;
    const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&o, &callbacks), SP_CANCELLED);
    o.given.resume = "latest";
    o.given.lora_merged = true; /* of the output alone, so no other run */
    assert_ok(sp_distill(&o, NULL));
    static const char *const files[] = {
        "pytorch_lora_weights.safetensors",     "kohya.safetensors",
        "ema/pytorch_lora_weights.safetensors", "ema/kohya.safetensors",
        "checkpoint-6/online.safetensors",      "checkpoint-6/ema.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *a = sp_format("%s/whole/%s", (char *)*state, files[i]),
             *b = sp_format("%s/resumed/%s", (char *)*state, files[i]);
        assert_same_file(a, b);
        sp_free(a);
        sp_free(b);
    }
    assert_false(sp_path_exists(in_folder(state, "whole/unet")));
    assert_true(sp_path_exists(in_folder(state, "resumed/unet_ema/config.json")));
    sp_tensor_file *file;
    assert_ok(
        sp_safetensors_open(in_folder(state, "whole/checkpoint-6/online.safetensors"), &file));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        assert_true(strstr(name, ".lora_") || strstr(name, "cond_proj"));
    }
    sp_tensor_file_close(file);
    o.lora.alpha = 4;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`lora_alpha`");
    o.lora.alpha = -1;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("alpha");
}

/* A file to start from must be what is trained. */
static void wrong_starts_are_refused(void **state)
{
    sp_distill_options o = short_run();
    o.given.output = in_folder(state, "run");
    char *start = sp_strdup(golden("distill-lora/start.safetensors"));
    o.given.lora_start = start;
    assert_status(sp_distill(&o, NULL), SP_SHAPE); /* another rank */
    o.lora.rank = 2;
    o.lora.targets = SP_LORA_ATTENTION;
    assert_status(sp_distill(&o, NULL), SP_FORMAT);
    assert_message("would be lost");
    o.lora.targets = SP_LORA_ALL;
    sp_free(start);
    o.given.lora_start = start = sp_strdup(golden("distill-lora-attention-time-v/start.safetensors"));
    assert_status(sp_distill(&o, NULL), SP_FORMAT);
    assert_message("has no adapter for");
    sp_free(start);
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(written_files_are_the_student),
        cmocka_unit_test(only_adapters_have_gradients),
        with_folder(starts_as_the_teacher),
        with_folder(resumed_equals_undisturbed),
        with_folder(wrong_starts_are_refused),
    };
    return cmocka_run_group_tests_name("lora_training", tests, NULL, NULL);
}
