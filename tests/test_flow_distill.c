/* Distilling flow matching teachers, Stable Diffusion 3's kind: what the chord form is made of, LCM as a special case,
 * runs that are interrupted, caches, students' folders and adapters. The numbers of ten steps are PyTorch's in
 * test_distill (golden distill-flow-*). */
#include "base/random.h"
#include "data_support.h"
#include "diffusion/scheduler_config.h"
#include "distill/student_folder.h"
#include "distill_support.h"
#include "latents/latent_cache.h"
#include "splam/splam.h"

static void set_objective(sp_distill_options *o, sp_objective objective)
{
    o->objective = sp_objective_defaults(objective);
    o->objective.guidance_scale_w = 2;
}

/* On recorded draws: those of the golden case. */
static sp_distill_options replay_of(void **state, const char *name, const char *output)
{
    static char draws[600];
    sp_distill_options o = sp_distill_defaults();
    snprintf(draws, sizeof draws, "%s/draws.safetensors", golden(name));
    o.given.teacher = golden("sd3");
    o.given.draws = draws;
    o.given.output = in_folder(state, output);
    o.given.max_train_steps = 4;
    o.given.train_batch_size = 3;
    o.given.learning_rate = 1e-4;
    o.precision = SP_F32;
    return o;
}

static sp_distill_options run_of(void **state, const char *output)
{
    static char data[600];
    sp_distill_options o = sp_distill_defaults();
    snprintf(data, sizeof data, "folder:%s", in_folder(state, "pictures"));
    o.given.teacher = golden("sd3");
    o.given.data = data;
    o.given.pictures.resolution = 64;
    o.given.output = in_folder(state, output);
    o.given.max_train_steps = 4;
    o.given.train_batch_size = 2;
    o.given.learning_rate = 1e-4;
    o.given.validation_steps = 0;
    o.precision = SP_F32;
    set_objective(&o, SP_OBJECTIVE_SPLAM);
    return o;
}

static const char *weights_of(const char *output, const char *which)
{
    static char path[4][700];
    static unsigned next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/%s/diffusion_pytorch_model.safetensors", output, which);
    return text;
}

/* ---- numbers ---- */

/* At every start, t = 1 among them, whatever gamma: nothing is divided by a signal that is not there. A student is
 * shown a latent as it is, at a time between the sub-path's ends, and leads to x0 = z - t v. */
static void everything_is_finite_where_there_is_no_signal(void **state)
{
    static const double gammas[] = {0, 0.3, 1};
    sp_path path;
    (void)state;
    sp_path_of_flow(3, 1000, &path);
    for (int objective = 0; objective < SP_OBJECTIVE_DMD; objective++) {
        sp_objective_settings s = sp_objective_defaults((sp_objective)objective);
        if (objective == SP_OBJECTIVE_SPLAM) s.conditioning = SP_GAMMA_TIME;
        if (objective == SP_OBJECTIVE_SPLAM) s.sigma = SP_SIGMA_CHORD;
        assert_ok(sp_objective_check(&s, &path));
        s = sp_step_settings(&s, 0, 100);
        for (int i = 0; i < sp_subpath_count(&s, &path); i++)
            for (int k = 0; k < 3; k++) {
                sp_subpath sub = sp_subpath_at(&s, &path, i);
                if (objective == SP_OBJECTIVE_SPLAM) sub.gamma = gammas[k];
                const sp_coefficients c = sp_subpath_coefficients(&s, &path, sub);
#define X(name) assert_true(isfinite(c.name) && fabs(c.name) <= 1100);
                SP_COEFFICIENT_LIST(X)
                SP_AVERAGE_COEFFICIENT_LIST(X)
#undef X
                for (int j = 0; j < s.solver_steps; j++)
                    assert_true(isfinite(c.solver_z[j]) && isfinite(c.solver_cond[j]));
                if (objective > SP_OBJECTIVE_LCM) continue;
                assert_true(fabs(c.student_scale - 1) < 1e-12 && fabs(c.prediction_z - 1) < 1e-12);
                assert_true(fabs(c.prediction_m + c.student_timestep / 1000) < 1e-12);
                assert_true(fabs(c.position_start + c.position_end - 1) < 1e-12);
            }
    }
}

/* The draws of a tick, against what is said of its share; and as diffusers' scripts take it. */
static void starts_are_drawn_as_flow_models_are_trained(void **state)
{
    enum { DRAWS = 200000, PARTS = 10 };
    sp_path path;
    double share[PARTS] = {0}, found[PARTS] = {0}, all = 0;
    (void)state;
    sp_path_of_flow(3, 1000, &path);
    assert_int_equal(sp_path_logit_normal_tick(&path, 0), 500);
    assert_int_equal(sp_path_logit_normal_tick(&path, -60), 1000);
    assert_int_equal(sp_path_logit_normal_tick(&path, 60), 1);
    for (int tick = 1; tick <= 1000; tick++) {
        double p = sp_path_logit_normal_share(&path, tick);
        assert_true(p >= 0);
        share[(tick - 1) / 100] += p;
        all += p;
    }
    assert_true(fabs(all - 1) < 1e-12);
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_LCM);
    s.starts = SP_START_LOGIT_NORMAL;
    assert_int_equal(sp_subpath_count(&s, &path), 1000);
    for (uint64_t i = 0; i < DRAWS; i++)
        found[(sp_subpath_draw(&s, &path, 5, 0, i).start - 1) / 100] += 1.0 / DRAWS;
    for (int k = 0; k < PARTS; k++) /* five deviations */
        assert_true(fabs(found[k] - share[k]) < 5 * sqrt(share[k] / DRAWS));
    /* 1 in the mean over what is drawn */
    s.weighting = SP_WEIGHTING_INVERSE_LENGTH;
    double sum = 0;
    for (int i = 0; i < 1000; i++) {
        sp_subpath sub = sp_subpath_at(&s, &path, i);
        assert_int_equal(sub.start, i + 1);
        sum += sp_path_logit_normal_share(&path, sub.start) * sp_subpath_coefficients(&s, &path, sub).loss_weight;
    }
    assert_true(fabs(sum * sp_loss_weight_scale(&s, &path) - 1) < 1e-9);
}

static void refuse(sp_distill_options o, sp_status status, const char *words)
{
    o.given.dry_run = true;
    sp_status found = sp_distill(&o, NULL);
    if (found != status || !strstr(splam_error_message(), words)) fail_msg("%d: %s", found, splam_error_message());
}

static void what_a_flow_has_no_place_for(void **state)
{
    sp_distill_options o = replay_of(state, "distill-flow-lcm", "refused");
    set_objective(&o, SP_OBJECTIVE_DMD);
    o.objective.gan_weight = 0.1;
    refuse(o, SP_UNSUPPORTED, "`gan_weight` is of a discriminator on the features of a UNet's middle block");
    set_objective(&o, SP_OBJECTIVE_SPLAM);
    o.given.gamma_conditioning = "embedding";
    o.objective.conditioning = SP_GAMMA_EMBEDDING;
    refuse(o, SP_UNSUPPORTED, "`gamma_conditioning` embedding needs a cond_proj");
    o.given.gamma_conditioning = "time";
    o.objective.conditioning = SP_GAMMA_TIME;
    o.given.sigma = "linear";
    o.objective.sigma = SP_SIGMA_LINEAR;
    refuse(o, SP_UNSUPPORTED, "the teacher is a flow model, whose trajectories begin without signal");
    set_objective(&o, SP_OBJECTIVE_LCM);
    o.objective.guidance = (sp_guidance_range){1, 5};
    refuse(o, SP_UNSUPPORTED, "`guidance_range` tells the student its guidance by cond_proj");
    set_objective(&o, SP_OBJECTIVE_PROGRESSIVE);
    o.objective.starts = SP_START_LOGIT_NORMAL;
    refuse(o, SP_ARGUMENT, "`timestep_sampling` says nothing to `objective` progressive");
    set_objective(&o, SP_OBJECTIVE_LCM);
    o.objective.starts = SP_START_LOGIT_NORMAL;
    o.given.teacher = golden("teacher-epsilon");
    refuse(o, SP_ARGUMENT, "`timestep_sampling` logit-normal is how flow models are trained");
}

/* ---- runs ---- */

/* splam at gamma = 1 is lcm: the same weights. */
static void splam_at_gamma_one_trains_lcm(void **state)
{
    sp_distill_options o = run_of(state, "lcm");
    set_objective(&o, SP_OBJECTIVE_LCM);
    assert_ok(sp_distill(&o, NULL));
    o = run_of(state, "splam");
    o.objective.gamma.grid = 1;
    assert_ok(sp_distill(&o, NULL));
    assert_same_file(weights_of(in_folder(state, "lcm"), "transformer"),
                     weights_of(in_folder(state, "splam"), "transformer"));
    assert_same_file(weights_of(in_folder(state, "lcm"), "transformer_ema"),
                     weights_of(in_folder(state, "splam"), "transformer_ema"));
}

/* Stopped in the middle, as all of it was whole. */
static void check_resumed(void **state, sp_distill_options o)
{
    o.given.output = in_folder(state, "whole");
    assert_ok(sp_distill(&o, NULL));
    o.given.output = in_folder(state, "resumed");
    int left = 2;
    const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&o, &callbacks), SP_CANCELLED);
    o.given.resume = "latest";
    assert_ok(sp_distill(&o, NULL));
    assert_same_file(weights_of(in_folder(state, "whole"), "transformer"),
                     weights_of(in_folder(state, "resumed"), "transformer"));
    assert_same_file(weights_of(in_folder(state, "whole"), "transformer_ema"),
                     weights_of(in_folder(state, "resumed"), "transformer_ema"));
}

static void resumed_equals_undisturbed(void **state)
{
    sp_distill_options o = run_of(state, "resumed");
    o.objective.starts = SP_START_LOGIT_NORMAL;
    check_resumed(state, o);
    o.given.resume = "latest";
    o.objective.starts = SP_START_GRID;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("timestep_sampling");
}

/* The student's part and the fake score's, of whole networks and of adapters over one teacher. */
static void matching_resumed_equals_undisturbed(void **state)
{
    sp_distill_options o = run_of(state, "resumed");
    set_objective(&o, SP_OBJECTIVE_DMD);
    o.objective.fake_score_steps = 1;
    check_resumed(state, o);
    assert_ok(sp_remove_tree(in_folder(state, "whole")));
    assert_ok(sp_remove_tree(in_folder(state, "resumed")));
    o.given.lora_rank = o.lora.rank = 2;
    o.given.lora_merged = true;
    o.lora.alpha = 2;
    check_resumed(state, o);
}

/* Blocks are recomputed by memory, and no bit depends on it. The table of positions is what it was. */
static void recomputing_changes_no_bit(void **state)
{
    static const sp_dtype precisions[] = {SP_F32, SP_BF16};
    for (int i = 0; i < 2; i++) {
        sp_distill_options o = replay_of(state, "distill-flow-lcm", "kept");
        set_objective(&o, SP_OBJECTIVE_LCM);
        o.precision = precisions[i];
        assert_ok(sp_distill(&o, NULL));
        o.given.output = in_folder(state, "again");
        o.given.gradient_checkpointing = true;
        assert_ok(sp_distill(&o, NULL));
        assert_same_file(weights_of(in_folder(state, "kept"), "transformer"),
                         weights_of(in_folder(state, "again"), "transformer"));
        sp_tensor_file *a, *b;
        const sp_tensor *before, *after;
        assert_ok(sp_safetensors_open(weights_of(golden("sd3"), "transformer"), &a));
        assert_ok(sp_safetensors_open(weights_of(in_folder(state, "kept"), "transformer_ema"), &b));
        assert_ok(sp_tensor_file_get(a, "pos_embed.pos_embed", &before));
        assert_ok(sp_tensor_file_get(b, "pos_embed.pos_embed", &after));
        assert_memory_equal(before->data, after->data, sp_tensor_bytes(before));
        assert_ok(sp_tensor_file_get(a, "proj_out.weight", &before));
        assert_ok(sp_tensor_file_get(b, "proj_out.weight", &after));
        assert_memory_not_equal(before->data, after->data, sp_tensor_bytes(before));
        sp_tensor_file_close(a);
        sp_tensor_file_close(b);
        assert_ok(sp_remove_tree(in_folder(state, "kept")));
        assert_ok(sp_remove_tree(in_folder(state, "again")));
    }
}

static splam_generate_options drawing_of(void **state, const char *model)
{
    static const char *const prompts[] = {"a red fox"};
    splam_generate_options g = splam_generate_defaults();
    g.model = model;
    g.prompts = prompts;
    g.prompt_count = 1;
    g.width = g.height = 64;
    g.precision = SPLAM_F32;
    g.save_latents = in_folder(state, "latents.safetensors");
    g.output = in_folder(state, "out.png");
    return g;
}

static sp_tensor drawn(const splam_generate_options *g)
{
    sp_tensor_file *file;
    const sp_tensor *latents;
    sp_tensor copy;
    if (splam_generate(g, NULL) != SPLAM_OK) fail_msg("%s", splam_error_message());
    assert_ok(sp_safetensors_open(g->save_latents, &file));
    assert_ok(sp_tensor_file_get(file, "latents", &latents));
    assert_ok(sp_tensor_convert(latents, SP_F32, &copy));
    sp_tensor_file_close(file);
    return copy;
}

/* ---- caches ---- */

/* Encodes the run's pictures, as the run would, and has it go on from that, into the folder "cached". */
static void go_on_from_cache(void **state, sp_distill_options *o)
{
    static char cached[700];
    splam_data_options d = splam_data_defaults();
    char *summary;
    d.spec = o->given.data;
    d.teacher = o->given.teacher;
    d.t5 = o->given.t5;
    d.t5_absent = o->given.t5_absent;
    d.pictures.resolution = 64;
    d.precision = SPLAM_F32;
    d.cache = in_folder(state, "cache");
    d.cache_dtype = "f32";
    assert_int_equal(splam_data(&d, NULL, &summary), SPLAM_OK);
    splam_free(summary);
    snprintf(cached, sizeof cached, "latents:%s", d.cache);
    o->given.data = cached;
    o->given.pictures.resolution = SPLAM_UNSET;
    o->given.output = in_folder(state, "cached");
}

/* A cache keeps no zeros, and a run on it is the run on the pictures. */
static void caches_are_filled_up_again(void **state)
{
    sp_distill_options o = run_of(state, "plain");
    sp_tensor_file *file;
    const sp_tensor *states, *pooled, *moments;
    assert_ok(sp_distill(&o, NULL));
    go_on_from_cache(state, &o);
    assert_ok(sp_safetensors_open(in_folder(state, "cache/latents-00000.safetensors"), &file));
    assert_ok(sp_tensor_file_get(file, "moments", &moments));
    assert_int_equal(moments->shape.dim[1], 12);
    assert_ok(sp_tensor_file_get(file, "conditioning.encoder_hidden_states", &states));
    assert_ok(sp_tensor_file_get(file, "conditioning.pooled_projections", &pooled));
    assert_int_equal(states->shape.dim[2], 40); /* of two encoders; the transformer takes 48 */
    assert_int_equal(pooled->shape.dim[1], 40);
    sp_latent_cache *cache;
    assert_ok(sp_latent_cache_open(in_folder(state, "cache"), &cache));
    const sp_conditioning *whole = sp_latent_cache_conditioning(cache);
    const sp_tensor *member = sp_conditioning_find(whole, "encoder_hidden_states");
    assert_int_equal(member->shape.dim[1], states->shape.dim[1] + SP_MMDIT_TOKENS_BEHIND);
    assert_int_equal(member->shape.dim[2], 48);
    sp_conditioning row;
    assert_ok(sp_conditioning_create(whole, SP_F32, 1, &row));
    member = sp_conditioning_find(&row, "encoder_hidden_states");
    memset(member->data, 1, sp_tensor_bytes(member));
    float *unused = sp_alloc(sp_tensor_bytes(moments));
    assert_ok(sp_latent_cache_read(cache, 0, false, unused, &row, 0));
    for (int64_t k = 0; k < member->shape.dim[1]; k++)
        for (int64_t c = 0; c < 48; c++) {
            bool kept = k < states->shape.dim[1] && c < 40;
            float wanted = kept ? ((const float *)states->data)[k * 40 + c] : 0;
            assert_true(((const float *)member->data)[k * 48 + c] == wanted);
        }
    sp_free(unused);
    sp_conditioning_free(&row);
    sp_latent_cache_close(cache);
    sp_tensor_file_close(file);
    assert_ok(sp_distill(&o, NULL));
    assert_same_file(weights_of(in_folder(state, "plain"), "transformer"),
                     weights_of(in_folder(state, "cached"), "transformer"));
}

static void assert_cached_tokens(const char *folder, int64_t tokens)
{
    sp_latent_cache *cache;
    assert_ok(sp_latent_cache_open(folder, &cache));
    assert_int_equal(sp_latent_cache_facts(cache)->tokens_behind, tokens);
    sp_latent_cache_close(cache);
}

static bool file_has(const char *path, const char *words)
{
    char *text;
    size_t size;
    assert_ok(sp_read_file(path, &text, &size));
    bool has = strstr(text, words) != NULL;
    sp_free(text);
    return has;
}

/* The tokens of the text encoder that is absent are the cache's, the run's and the student's. */
static void fewer_tokens_are_kept_in_mind(void **state)
{
    sp_distill_options o = run_of(state, "fewer"), with_draws = replay_of(state, "distill-flow-lcm", "refused");
    json_t *settings;
    o.given.t5_absent = "77";
    assert_ok(sp_distill(&o, NULL));
    assert_ok(sp_json_load(in_folder(state, "fewer/splam.json"), &settings));
    assert_string_equal(case_text(settings, "t5-absent"), "77");
    json_decref(settings);
    assert_true(file_has(in_folder(state, "fewer/README.md"), "guidance_scale=1, max_sequence_length=77)"));
    go_on_from_cache(state, &o);
    assert_cached_tokens(in_folder(state, "cache"), 77);
    o.given.t5_absent = NULL;
    refuse(o, SP_ARGUMENT, "was made with 77 tokens of zeros for the third text encoder, and `t5_absent` is 256");
    o.given.t5_absent = "77";
    assert_ok(sp_distill(&o, NULL));
    assert_same_file(weights_of(in_folder(state, "fewer"), "transformer"),
                     weights_of(in_folder(state, "cached"), "transformer"));
    set_objective(&with_draws, SP_OBJECTIVE_LCM);
    with_draws.given.t5_absent = "77";
    refuse(with_draws, SP_ARGUMENT, "`t5_absent` has no use beside `draws`");
    /* the student is drawn as it was made, unless somebody says otherwise */
    splam_generate_options g = drawing_of(state, in_folder(state, "fewer"));
    sp_tensor usual = drawn(&g);
    g.t5_absent = "77";
    sp_tensor same = drawn(&g);
    g.t5_absent = "256";
    sp_tensor other = drawn(&g);
    assert_memory_equal(usual.data, same.data, sp_tensor_bytes(&usual));
    assert_memory_not_equal(usual.data, other.data, sp_tensor_bytes(&usual));
    sp_tensor_free(&usual);
    sp_tensor_free(&same);
    sp_tensor_free(&other);
}

/* With the third encoder: a run on its cache is the run on the pictures, and neither is mistaken for one without. */
static void the_third_encoder_is_kept_in_mind(void **state)
{
    sp_distill_options o = run_of(state, "with");
    json_t *settings;
    o.given.t5 = golden("t5");
    assert_ok(sp_distill(&o, NULL));
    assert_ok(sp_json_load(in_folder(state, "with/splam.json"), &settings));
    assert_string_equal(case_text(settings, "t5"), golden("t5"));
    json_decref(settings);
    assert_true(file_has(in_folder(state, "with/README.md"), "text_encoder_3=t5, tokenizer_3=t5_tokenizer)"));
    go_on_from_cache(state, &o);
    assert_cached_tokens(in_folder(state, "cache"), 0);
    o.given.t5 = NULL;
    refuse(o, SP_ARGUMENT, "was made with T5, and `t5` is not given");
    o.given.t5 = golden("t5");
    assert_ok(sp_distill(&o, NULL));
    assert_same_file(weights_of(in_folder(state, "with"), "transformer"),
                     weights_of(in_folder(state, "cached"), "transformer"));
}

/* ---- students ---- */

static const struct {
    sp_objective objective;
    const char *class_name, *sampler;
    int steps;
} students[] = {
    {SP_OBJECTIVE_SPLAM, "FlowMatchLCMScheduler", "lcm", 4},
    {SP_OBJECTIVE_LCM, "FlowMatchLCMScheduler", "lcm", 4},
    {SP_OBJECTIVE_PCM, "FlowMatchEulerDiscreteScheduler", "ddim", 4},
    {SP_OBJECTIVE_TCD, "FlowMatchEulerDiscreteScheduler", "tcd", 4},
    {SP_OBJECTIVE_PROGRESSIVE, "FlowMatchEulerDiscreteScheduler", "ddim", 4},
    {SP_OBJECTIVE_DMD, "FlowMatchLCMScheduler", "lcm", 4},
};

/* What a student is sampled with stands in its scheduler's file, with the teacher's shift. */
static void schedulers_say_how_students_are_sampled(void **state)
{
    sp_model_folder teacher;
    sp_scheduler_config *config = sp_alloc(sizeof *config);
    (void)state;
    assert_ok(sp_model_folder_open(golden("sd3"), &teacher));
    for (size_t i = 0; i < sizeof students / sizeof *students; i++) {
        const sp_objective_settings s = sp_objective_defaults(students[i].objective);
        json_t *json;
        assert_ok(sp_student_scheduler(&s, &teacher, &json));
        assert_string_equal(json_string_value(json_object_get(json, "_class_name")), students[i].class_name);
        assert_ok(sp_scheduler_config_read(json, "a student", config));
        assert_int_equal(config->path.kind, SP_PATH_FLOW);
        assert_true(config->path.shift == 3);
        assert_int_equal(config->demands, 0);
        sp_sampler_kind kind = sp_sampler_for(config);
        assert_string_equal(sp_sampler_name(kind), students[i].sampler);
        assert_int_equal(sp_sampler_steps_for(config, kind), students[i].steps);
        json_object_set_new(json, "_student", json_string("other"));
        assert_status(sp_scheduler_config_read(json, "a student", config), SP_UNSUPPORTED);
        json_decref(json);
    }
    sp_model_folder_close(&teacher);
    sp_free(config);
}

/* Every objective's student is a whole model, and so is its average. Along the way its error is measured. */
static void students_draw(void **state)
{
    for (size_t i = 0; i < sizeof students / sizeof *students; i++) {
        sp_distill_options o = run_of(state, "student");
        set_objective(&o, students[i].objective);
        o.given.validation_steps = 4;
        o.given.validation_prompts = 2;
        bool dmd = students[i].objective == SP_OBJECTIVE_DMD; /* which follows no trajectory */
        o.measures_error = !dmd;
        if (dmd) o.objective.fake_score_steps = 1;
        assert_ok(sp_distill(&o, NULL));
        assert_true(sp_path_exists(in_folder(state, "student/validation-4.png")));
        json_t *index, *settings;
        assert_ok(sp_json_load(in_folder(state, "student/model_index.json"), &index));
        assert_string_equal(case_text(index, "_class_name"), "StableDiffusion3Pipeline");
        assert_string_equal(json_string_value(json_array_get(json_object_get(index, "transformer"), 1)),
                            "SD3Transformer2DModel");
        json_decref(index);
        assert_ok(sp_json_load(in_folder(state, "student/splam.json"), &settings));
        assert_string_equal(case_text(settings, "sampler"), students[i].sampler);
        json_decref(settings);
        splam_generate_options g = drawing_of(state, in_folder(state, "student"));
        sp_tensor online = drawn(&g);
        g.unet = "transformer_ema";
        sp_tensor average = drawn(&g);
        assert_memory_not_equal(online.data, average.data, sp_tensor_bytes(&online));
        sp_tensor_free(&online);
        sp_tensor_free(&average);
        assert_ok(sp_remove_tree(in_folder(state, "student")));
    }
}

/* ---- adapters ---- */

/* What is trained as adapters is drawn alike from either file over the teacher, whose sampler it brings along, and as
 * the student that they are merged into; and training can go on with the file. */
static void adapters_are_the_student(void **state)
{
    static const char *const files[] = {"pytorch_lora_weights.safetensors", "kohya.safetensors"};
    sp_distill_options o = run_of(state, "lora");
    double error;
    o.lora = (sp_lora_settings){.rank = 3, .alpha = 6, .targets = SP_LORA_ALL};
    o.given.lora_merged = true;
    o.given.learning_rate = 1e-2;
    assert_ok(sp_distill(&o, NULL));
    splam_generate_options g = drawing_of(state, in_folder(state, "lora"));
    sp_tensor merged = drawn(&g);
    g.model = golden("sd3");
    for (int i = 0; i < 2; i++) {
        char path[700];
        snprintf(path, sizeof path, "%s/%s", in_folder(state, "lora"), files[i]);
        g.loras = &(splam_lora){.path = path, .weight = 1};
        g.lora_count = 1;
        sp_tensor adapted = drawn(&g);
        assert_ok(sp_tensor_relative_max_error(&adapted, &merged, &error));
        if (error > 1e-5) fail_msg("%s: %g", files[i], error);
        sp_tensor_free(&adapted);
    }
    g.lora_count = 0;
    g.steps = 4;
    g.sampler = "lcm";
    sp_tensor teacher = drawn(&g);
    assert_ok(sp_tensor_relative_max_error(&teacher, &merged, &error));
    assert_true(error > 1e-3);
    sp_tensor_free(&teacher);
    sp_tensor_free(&merged);
    /* a UNet's model has no use for it */
    char path[700];
    snprintf(path, sizeof path, "%s/%s", in_folder(state, "lora"), files[0]);
    g.model = golden("sdxl");
    g.loras = &(splam_lora){.path = path, .weight = 1};
    g.lora_count = 1;
    assert_int_equal(splam_generate(&g, NULL), SPLAM_ARGUMENT);
    assert_message("adapters for the transformer, which is not there");
    o.given.lora_start = path;
    o.given.output = in_folder(state, "further");
    assert_ok(sp_distill(&o, NULL));
    o.lora.targets = SP_LORA_ATTENTION;
    o.given.output = in_folder(state, "fewer");
    assert_status(sp_distill(&o, NULL), SP_FORMAT);
    assert_message("what is left over would be lost");
}

#define with_pictures(test) cmocka_unit_test_setup_teardown(test, set_up_pictures, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_finite_where_there_is_no_signal),
        cmocka_unit_test(starts_are_drawn_as_flow_models_are_trained),
        with_pictures(what_a_flow_has_no_place_for),
        with_pictures(splam_at_gamma_one_trains_lcm),
        with_pictures(resumed_equals_undisturbed),
        with_pictures(matching_resumed_equals_undisturbed),
        with_pictures(recomputing_changes_no_bit),
        with_pictures(caches_are_filled_up_again), with_pictures(fewer_tokens_are_kept_in_mind),
        with_pictures(the_third_encoder_is_kept_in_mind),
        cmocka_unit_test(schedulers_say_how_students_are_sampled),
        with_pictures(students_draw),
        with_pictures(adapters_are_the_student),
    };
    return cmocka_run_group_tests_name("distillation of flows", tests, NULL, NULL);
}
