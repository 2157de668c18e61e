/* Teachers whose schedule ends without signal: every objective trains on the last sub-path, the chord with gamma = 1 is
 * LCM bit for bit, and the student keeps the schedule. */
#include <math.h>
#include "distill_support.h"
#include "base/log.h"
#include "diffusion/sampler.h"
#include "distill/distill.h"

enum { STEPS = 2, BATCH = 3, COUNT = 4 * 8 * 8, LENGTH = 7, DIM = 24 };

static const char scheduler[] =
    "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\":"
    " \"scaled_linear\", \"num_train_timesteps\": 1000, \"clip_sample\": false, \"set_alpha_to_one\": false,"
    " \"timestep_spacing\": \"trailing\", \"prediction_type\": \"v_prediction\", \"rescale_betas_zero_snr\": true}";

static const char *teacher_of(void **state)
{
    const char *teacher = in_folder(state, "teacher");
    if (!sp_path_exists(teacher)) assert_ok(sp_copy_tree(golden("teacher-v_prediction"), teacher, NULL));
    assert_ok(sp_write_file(in_folder(state, "teacher/scheduler/scheduler_config.json"), scheduler,
                            sizeof scheduler - 1));
    return in_folder(state, "teacher");
}

static void add(sp_named_tensor *named, sp_tensor *tensor, const char *name, int step, sp_dtype dtype, sp_shape shape)
{
    static char names[64][16];
    static int next;
    char *text = names[next++ % 64];
    snprintf(text, sizeof names[0], step < 0 ? "%s" : "%s.%d", name, step);
    assert_ok(sp_tensor_create(dtype, shape, tensor));
    if (dtype == SP_F32) {
        const sp_random_key key = {
            .seed = 3, .stream = SP_STREAM_NOISE, .step = (uint64_t)(step + 1), .sample = (uint64_t)*name};
        sp_random_normal(key, tensor->data, (size_t)sp_tensor_count(tensor));
    }
    *named = (sp_named_tensor){text, tensor};
}

/* All samples on sub-path `index`, or at that step of dmd's four; gamma 0, 1/2 and 1, or 1 alone; tcd's u and dmd's t
 * are 500. */
static void write_draws(const char *path, int64_t index, bool ones)
{
    enum { PARTS = 8 };
    sp_tensor tensor[PARTS * STEPS + 1] = {0};
    sp_named_tensor named[PARTS * STEPS + 1];
    int n = 0;
    for (int k = 0; k < STEPS; k++) {
        const struct {
            const char *name;
            sp_dtype dtype;
            sp_shape shape;
        } parts[] = {{"latents", SP_F32, sp_shape_of(BATCH, 4, 8, 8)}, {"noise", SP_F32, sp_shape_of(BATCH, 4, 8, 8)},
                     {"context", SP_F32, sp_shape_of(BATCH, LENGTH, DIM)}, {"gamma", SP_F32, sp_shape_of(BATCH)},
                     {"step_noise", SP_F32, sp_shape_of(BATCH, 4 * 4, 8, 8)},
                     {"index", SP_I64, sp_shape_of(BATCH)}, {"end", SP_I64, sp_shape_of(BATCH)},
                     {"timestep", SP_I64, sp_shape_of(BATCH)}};
        for (int p = 0; p < PARTS; p++, n++)
            add(&named[n], &tensor[n], parts[p].name, k, parts[p].dtype, parts[p].shape);
        for (int i = 0; i < BATCH; i++) {
            ((float *)tensor[n - 5].data)[i] = ones ? 1 : (float)i / 2;
            ((int64_t *)tensor[n - 3].data)[i] = index;
            ((int64_t *)tensor[n - 2].data)[i] = ((int64_t *)tensor[n - 1].data)[i] = 500;
        }
    }
    add(&named[n], &tensor[n], "uncond", -1, SP_F32, sp_shape_of(1, LENGTH, DIM));
    n++;
    assert_ok(sp_safetensors_save(path, named, (size_t)n, NULL, 0));
    for (int i = 0; i < n; i++)
        sp_tensor_free(&tensor[i]);
}

static sp_distill_options options_of(void **state, sp_objective objective)
{
    sp_distill_options o = sp_distill_defaults();
    o.given.teacher = teacher_of(state);
    o.given.draws = in_folder(state, "draws.safetensors");
    o.given.output = in_folder(state, sp_objective_name(objective));
    o.precision = SP_F32;
    o.given.max_train_steps = STEPS;
    o.given.train_batch_size = BATCH;
    o.objective = sp_objective_defaults(objective);
    o.objective.guidance_scale_w = 2;
    o.objective.rounds = 1;
    if (objective == SP_OBJECTIVE_SPLAM) {
        o.objective.sigma = SP_SIGMA_CHORD;
        o.objective.conditioning = SP_GAMMA_TIME;
    }
    return o;
}

static void every_objective_trains_where_there_is_no_signal(void **state)
{
    char trace[512], draws[512], output[512], teacher[512];
    snprintf(trace, sizeof trace, "%s", in_folder(state, "trace.safetensors"));
    for (int k = 0; k < SP_OBJECTIVE_COUNT; k++) {
        sp_distill_options o = options_of(state, (sp_objective)k);
        snprintf(draws, sizeof draws, "%s", o.given.draws);
        snprintf(output, sizeof output, "%s", o.given.output);
        snprintf(teacher, sizeof teacher, "%s", o.given.teacher);
        o.given.draws = draws, o.given.output = output, o.given.teacher = teacher, o.given.trace = trace;
        write_draws(draws, sp_round_settings(&o.objective, 0).ddim_timesteps - 1, false);
        assert_ok(sp_distill(&o, NULL));
        sp_tensor_file *file;
        sp_scheduler_config config;
        assert_ok(sp_safetensors_open(trace, &file));
        for (int i = 0; i < STEPS; i++)
            assert_true(isfinite(trace_at(file, "loss", i)) && trace_at(file, "loss", i) < 100);
        sp_tensor_file_close(file);
        char path[1024];
        snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", output);
        assert_ok(sp_scheduler_config_load(path, &config));
        assert_int_equal(config.path.kind, SP_PATH_ZERO_SNR);
        sp_sampler sampler;
        sp_sampler_options how = {.kind = sp_sampler_for(&config)};
        how.eta = sp_sampler_eta_for(how.kind);
        how.steps = sp_sampler_steps_for(&config, how.kind);
        assert_ok(sp_sampler_create(&config, &how, &sampler));
        assert_true(sampler.step[0].timestep == 999);
        sp_sampler_free(&sampler);
    }
}

static void the_chord_at_one_is_lcm(void **state)
{
    char path[2][1100], output[2][512], draws[512], teacher[512];
    for (int k = 0; k < 2; k++) {
        sp_distill_options o = options_of(state, k ? SP_OBJECTIVE_LCM : SP_OBJECTIVE_SPLAM);
        snprintf(draws, sizeof draws, "%s", o.given.draws);
        snprintf(teacher, sizeof teacher, "%s", o.given.teacher);
        snprintf(output[k], sizeof output[k], "%s-one", o.given.output);
        o.given.draws = draws, o.given.output = output[k], o.given.teacher = teacher;
        write_draws(draws, 49, true);
        assert_ok(sp_distill(&o, NULL));
        snprintf(path[k], sizeof path[k], "%s/unet/diffusion_pytorch_model.safetensors", output[k]);
    }
    assert_same_file(path[0], path[1]);
}

static void what_needs_a_signal_is_refused(void **state)
{
    char draws[512];
    sp_distill_options o = options_of(state, SP_OBJECTIVE_SPLAM);
    snprintf(draws, sizeof draws, "%s", o.given.draws);
    o.given.draws = draws;
    write_draws(draws, 49, false);
    o.objective.conditioning = SP_GAMMA_EMBEDDING;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`sigma` chord");
    o.objective.sigma = SP_SIGMA_QUADRATIC;
    assert_status(sp_distill(&o, NULL), SP_UNSUPPORTED);
    assert_message("`sigma` quadratic with `gamma_conditioning` embedding");
    o.objective.sigma = SP_SIGMA_LINEAR;
    o.objective.conditioning = SP_GAMMA_TIME;
    assert_status(sp_distill(&o, NULL), SP_UNSUPPORTED);
    assert_message("take `sigma` chord and `gamma_conditioning` time");
    o.given.prediction_type = "epsilon";
    sp_log_set_level(SP_LOG_QUIET);
    assert_status(sp_distill(&o, NULL), SP_UNSUPPORTED);
    assert_message("epsilon");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_objective_trains_where_there_is_no_signal),
        cmocka_unit_test(the_chord_at_one_is_lcm),
        cmocka_unit_test(what_needs_a_signal_is_refused),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
