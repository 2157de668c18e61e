/* Distillation against PyTorch on recorded draws, LCM as a special case, and runs that are
 * interrupted. */
#include <math.h>
#include "support.h"
#include "base/json.h"
#include "base/parallel.h"
#include "tensor/weights.h"
#include "diffusion/sampler.h"
#include "train/distill.h"

static const char *golden(const char *name)
{
    static char path[4][512];
    static unsigned next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/tests/golden/%s", getenv("SPLAM_SOURCE"), name);
    return text;
}

typedef struct {
    sp_distill_options options;
    char teacher[512], draws[512];
} golden_case;

static double number(const json_t *flags, const char *key)
{
    return json_number_value(json_object_get(flags, key));
}

static const char *text(const json_t *flags, const char *key)
{
    return json_string_value(json_object_get(flags, key));
}

static void read_case(const char *name, golden_case *c)
{
    char path[512];
    json_t *description;
    snprintf(path, sizeof path, "%s/case.json", golden(name));
    assert_ok(sp_json_load(path, &description));
    const json_t *flags = json_object_get(description, "flags");
    snprintf(c->teacher, sizeof c->teacher, "%s/%s", golden(name),
             json_string_value(json_object_get(description, "teacher")));
    snprintf(c->draws, sizeof c->draws, "%s/draws.safetensors", golden(name));
    sp_distill_options *o = &c->options;
    *o = sp_distill_defaults();
    o->teacher = c->teacher;
    o->draws = c->draws;
    o->storage = SP_F32;
    sp_objective objective;
    assert_ok(sp_objective_of(text(flags, "objective"), &objective));
    sp_objective_settings *s = &o->objective;
    *s = sp_objective_defaults(objective);
    if (objective == SP_OBJECTIVE_SPLAM) {
        assert_ok(sp_sigma_of(text(flags, "sigma"), &s->sigma));
        assert_ok(sp_gamma_conditioning_of(text(flags, "gamma-conditioning"), &s->conditioning));
    }
    s->loss.kind = strcmp(text(flags, "loss-type"), "l2") == 0 ? SP_LOSS_L2 : SP_LOSS_HUBER;
    if (json_object_get(flags, "phases")) s->phases = (int)number(flags, "phases");
    if (json_object_get(flags, "rounds")) s->rounds = (int)number(flags, "rounds");
    s->loss.huber_c = number(flags, "huber-c");
    s->guidance_w = number(flags, "guidance-scale-w");
    s->ddim_timesteps = (int)number(flags, "num-ddim-timesteps");
    s->skip = (int)number(flags, "skip");
    s->solver_steps = (int)number(flags, "solver-steps");
    o->max_train_steps = (int64_t)number(flags, "max-train-steps");
    o->batch = (int64_t)number(flags, "train-batch-size");
    o->accumulation = (int64_t)number(flags, "gradient-accumulation-steps");
    o->learning_rate = number(flags, "learning-rate");
    o->ema_decay = number(flags, "ema-decay");
    json_decref(description);
}

static double at(const sp_tensor_file *file, const char *name, int64_t i)
{
    const sp_tensor *tensor;
    assert_ok(sp_tensor_file_get(file, name, &tensor));
    return sp_load(tensor->data, tensor->dtype, i);
}

static void compare_traces(const char *name, const char *found_path, int64_t steps)
{
    char path[512];
    sp_tensor_file *found, *want;
    snprintf(path, sizeof path, "%s/trace.safetensors", golden(name));
    assert_ok(sp_safetensors_open(found_path, &found));
    assert_ok(sp_safetensors_open(path, &want));
    double worst_loss = 0, worst_norm = 0, error;
    for (int64_t i = 0; i < steps; i++) {
        worst_loss = fmax(worst_loss, fabs(at(found, "loss", i) / at(want, "loss", i) - 1));
        worst_norm =
            fmax(worst_norm, fabs(at(found, "grad_norm", i) / at(want, "grad_norm", i) - 1));
    }
    for (size_t i = 0; i < sp_tensor_file_count(want); i++) {
        const char *key = sp_tensor_file_name(want, i);
        if (strncmp(key, "prediction.", 11) != 0 && strncmp(key, "target.", 7) != 0) continue;
        const sp_tensor *mine;
        assert_ok(sp_tensor_file_get(found, key, &mine));
        assert_ok(sp_tensor_relative_max_error(mine, sp_tensor_file_at(want, i), &error));
        if (error > 1e-4) fail_msg("%s: %s is off by %g", name, key, error);
    }
    print_message("%s: loss %.1e, grad_norm %.1e\n", name, worst_loss, worst_norm);
    /* Ten steps in fp32: PyTorch's own losses are within 1.6e-5 of float64's, its norms within
     * 5e-4; a learning rate that is a tenth too large moves losses by 9.7e-4. */
    assert_true(worst_loss <= 1e-4);
    assert_true(worst_norm <= 2e-3);
    sp_tensor_file_close(found);
    sp_tensor_file_close(want);
}

static void check_case(void **state, const char *name)
{
    golden_case c;
    read_case(name, &c);
    c.options.output = in_folder(state, name);
    c.options.trace = in_folder(state, "trace.safetensors");
    assert_ok(sp_distill(&c.options, NULL));
    compare_traces(name, c.options.trace, c.options.max_train_steps);
}

static void traces_equal_pytorch(void **state)
{
    char **names;
    size_t count;
    int cases = 0;
    assert_ok(sp_list_folder(golden(""), &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], "distill-", 8) == 0) {
            check_case(state, names[i]);
            cases++;
        }
        sp_free(names[i]);
    }
    sp_free(names);
    assert_true(cases >= 18);
}

/* ---- files compared byte by byte ---- */

static void assert_same_file(const char *a, const char *b)
{
    sp_mapped_file x, y;
    assert_ok(sp_map_file(a, &x));
    assert_ok(sp_map_file(b, &y));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    sp_unmap_file(&x);
    sp_unmap_file(&y);
}

static const char *unet_of(const char *output, const char *which)
{
    static char path[4][600];
    static unsigned next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/%s/diffusion_pytorch_model.safetensors", output, which);
    return text;
}

/* ---- coefficients ---- */

static sp_noise_schedule schedule_of(sp_prediction prediction)
{
    sp_noise_schedule schedule;
    assert_ok(sp_schedule_make("scaled_linear", 0.00085, 0.012, 1000, prediction, &schedule));
    return schedule;
}

/* method.md: at gamma = 1 the step is the Latent Consistency Model's step. */
static void gamma_one_is_lcm(void **state)
{
    (void)state;
    const sp_noise_schedule schedule = schedule_of(SP_PREDICTION_EPSILON);
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    const sp_objective_settings l = sp_objective_defaults(SP_OBJECTIVE_LCM);
    s.gamma.one_probability = 1;
    for (uint64_t i = 0; i < 100; i++) {
        assert_true(sp_subpath_draw(&s, &schedule, 1, 2, i).gamma == 1);
        assert_true(sp_subpath_draw(&l, &schedule, 1, 2, i).gamma == 1);
    }
    for (int sigma = 0; sigma < SP_SIGMA_COUNT; sigma++)
        for (int told = SP_GAMMA_EMBEDDING; told < SP_GAMMA_CONDITIONING_COUNT; told++)
            for (int index = 0; index < 50; index++) {
                s.sigma = (sp_sigma_form)sigma;
                s.conditioning = (sp_gamma_conditioning)told;
                sp_subpath path = sp_subpath_at(&s, &schedule, index);
                sp_coefficients splam = sp_subpath_coefficients(&s, &schedule, path),
                                lcm = sp_subpath_coefficients(&l, &schedule, path);
                assert_memory_equal(&splam, &lcm, sizeof lcm);
                assert_true(splam.student_timestep == path.start && splam.position_end == 0);
            }
}

/* With the types that the tensors have: indices are integers. */
static void save_all(const sp_weights *weights, const char *path)
{
    enum { MOST = 256 };
    sp_named_tensor named[MOST];
    size_t count = sp_weights_count(weights);
    assert_true(count <= MOST);
    for (size_t i = 0; i < count; i++)
        named[i] = (sp_named_tensor){sp_weights_name(weights, i),
                                     sp_weights_at((sp_weights *)(uintptr_t)weights, i)};
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
}

/* Recorded gammas, all 1, for draws that have none or others. */
static void write_gamma_ones(void **state, golden_case *c)
{
    const char *path = in_folder(state, "ones.safetensors");
    sp_tensor_file *file;
    sp_weights *views, *ones;
    assert_ok(sp_safetensors_open(c->draws, &file));
    assert_ok(sp_weights_create(&views));
    assert_ok(sp_weights_create(&ones));
    assert_ok(sp_weights_add_file(views, file));
    for (size_t i = 0; i < sp_weights_count(views); i++) {
        const char *name = sp_weights_name(views, i);
        sp_tensor copy = *sp_weights_at(views, i);
        copy.owned = false;
        if (strncmp(name, "gamma.", 6) != 0) assert_ok(sp_weights_add(ones, name, copy));
    }
    for (int64_t k = 0; k < c->options.max_train_steps; k++) {
        char name[32];
        sp_tensor gamma;
        snprintf(name, sizeof name, "gamma.%lld", (long long)k);
        assert_ok(sp_tensor_create(SP_F32, sp_shape_of(c->options.batch), &gamma));
        for (int64_t i = 0; i < c->options.batch; i++)
            ((float *)gamma.data)[i] = 1;
        assert_ok(sp_weights_add(ones, name, gamma));
    }
    save_all(ones, path);
    sp_weights_destroy(ones);
    sp_weights_destroy(views);
    sp_tensor_file_close(file);
    snprintf(c->draws, sizeof c->draws, "%s", path);
}

/* ... and as a whole run, told by time: the same weights. */
static void splam_at_gamma_one_trains_lcm(void **state)
{
    golden_case c;
    read_case("distill-lcm-v", &c);
    c.options.max_train_steps = 3;
    c.options.output = in_folder(state, "lcm");
    assert_ok(sp_distill(&c.options, NULL));
    golden_case d;
    read_case("distill-splam-v-linear-time-l2", &d);
    const sp_loss_options loss = c.options.objective.loss;
    c.options.objective = d.options.objective;
    c.options.objective.loss = loss;
    c.options.objective.gamma.grid = 1;
    write_gamma_ones(state, &c);
    c.options.output = in_folder(state, "splam");
    assert_ok(sp_distill(&c.options, NULL));
    assert_same_file(unet_of(in_folder(state, "lcm"), "unet"),
                     unet_of(in_folder(state, "splam"), "unet"));
}

/* Phases: edges are the timesteps of DDIM in P steps, and no sub-path leaves its phase. */
static void phases_are_the_samplers(void **state)
{
    (void)state;
    const sp_noise_schedule schedule = schedule_of(SP_PREDICTION_EPSILON);
    sp_scheduler_config config = {.schedule = schedule, .spacing = SP_SPACING_TRAILING};
    for (int phases = 1; phases <= 10; phases++) {
        sp_sampler sampler;
        const sp_sampler_options options = {.kind = SP_SAMPLER_DDIM, .steps = phases};
        assert_ok(sp_sampler_create(&config, &options, &sampler));
        sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_PCM);
        s.phases = phases;
        for (int m = 10; m <= 1000; m += 45) {
            s.ddim_timesteps = m;
            s.skip = 150;
            s.solver_steps = 3;
            for (int i = 0; i < m; i++) {
                sp_subpath path = sp_subpath_at(&s, &schedule, i);
                int edge = 0; /* the highest timestep of the sampler below the start */
                for (int k = phases - 1; k > 0; k--)
                    if (sampler.step[k].timestep < path.start) edge = (int)sampler.step[k].timestep;
                assert_int_equal(path.target, edge);
                assert_true(path.end >= path.target && path.end <= path.start);
                assert_int_equal(path.point[0], path.start);
                assert_int_equal(path.point[3], path.end);
                for (int j = 0; j < 3; j++)
                    assert_true(path.point[j] >= path.point[j + 1]);
                assert_true(path.start == 0 || path.target < path.start);
            }
        }
        sp_sampler_free(&sampler);
    }
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_PCM); /* edges 0, 249, 499, 749 */
    assert_int_equal(sp_subpath_at(&s, &schedule, 49).target, 749);
    assert_int_equal(sp_subpath_at(&s, &schedule, 37).target, 749); /* s = 759 */
    assert_int_equal(sp_subpath_at(&s, &schedule, 37).end, 749);    /* not 739 */
    assert_int_equal(sp_subpath_at(&s, &schedule, 24).target, 249); /* s = 499, an edge */
    assert_int_equal(sp_subpath_at(&s, &schedule, 0).target, 0);
}

/* tcd to timestep 0 is pcm with one phase; at u = e the target is z_e itself. */
static void tcd_to_zero_is_pcm(void **state)
{
    (void)state;
    sp_objective_settings p = sp_objective_defaults(SP_OBJECTIVE_PCM),
                          t = sp_objective_defaults(SP_OBJECTIVE_TCD);
    p.phases = 1;
    for (int v = 0; v < 2; v++) {
        const sp_noise_schedule schedule = schedule_of(v ? SP_PREDICTION_V : SP_PREDICTION_EPSILON);
        bool zero = false, end = false;
        for (int index = 0; index < 50; index++) {
            sp_subpath path = sp_subpath_at(&t, &schedule, index);
            sp_coefficients a = sp_subpath_coefficients(&t, &schedule, path),
                            b = sp_subpath_coefficients(&p, &schedule,
                                                        sp_subpath_at(&p, &schedule, index));
            assert_memory_equal(&a, &b, sizeof a);
            path.target = path.end;
            a = sp_subpath_coefficients(&t, &schedule, path);
            assert_float_equal(a.target_end, 1, 1e-14);
            assert_float_equal(a.target_m, 0, 1e-14);
        }
        for (uint64_t i = 0; i < 4000; i++) {
            sp_subpath path = sp_subpath_draw(&t, &schedule, 3, 4, i);
            assert_true(path.target >= 0 && path.target <= path.end);
            zero |= path.target == 0 && path.end > 100;
            end |= path.target == path.end && path.end > 100;
        }
        assert_true(zero && end);
    }
}

/* What a network makes of z = alpha x + sigma n that knows x and n. */
static double knowing(const sp_noise_schedule *schedule, double t, double clean, double noise)
{
    if (schedule->prediction == SP_PREDICTION_EPSILON) return noise;
    return sp_schedule_alpha(schedule, t) * noise - sp_schedule_sigma(schedule, t) * clean;
}

/* With such networks for teacher, average and student, prediction and target are the same point of
 * the trajectory: alpha_u x + sigma_u n, and for progressive the clean latent times its weight. */
static void check_exact(const sp_objective_settings *s, const sp_noise_schedule *schedule,
                        sp_subpath path)
{
    const double clean = 0.7, noise = -1.3;
    sp_coefficients c = sp_subpath_coefficients(s, schedule, path);
    double z_s = c.start_clean * clean + c.start_noise * noise, z = z_s;
    for (int j = 0; j < s->solver_steps && j < SP_MAX_SOLVER_STEPS; j++)
        z = c.solver_z[j] * z +
            c.solver_cond[j] * knowing(schedule, c.solver_timestep[j], clean, noise);
    double target = c.target_start * z_s + c.target_end * z;
    if (sp_objective_asks_average(s))
        target += c.target_m * knowing(schedule, c.target_timestep, clean, noise);
    double p =
        c.prediction_z * z_s + c.prediction_m * knowing(schedule, c.student_timestep, clean, noise);
    double want = sp_schedule_alpha(schedule, path.target) * clean +
                  sp_schedule_sigma(schedule, path.target) * noise;
    if (s->objective == SP_OBJECTIVE_PROGRESSIVE)
        want = clean * fmax(c.start_clean / c.start_noise, 1);
    assert_float_equal(p, want, 1e-11);
    assert_float_equal(target, want, 1e-11);
}

static void exact_networks_have_no_loss(void **state)
{
    (void)state;
    for (int v = 0; v < 2; v++)
        for (int o = SP_OBJECTIVE_PCM; o < SP_OBJECTIVE_COUNT; o++) {
            const sp_noise_schedule schedule =
                schedule_of(v ? SP_PREDICTION_V : SP_PREDICTION_EPSILON);
            sp_objective_settings s = sp_objective_defaults((sp_objective)o);
            if (s.skip) s.skip = 70, s.solver_steps = 3;
            s.guidance_w = 0;
            for (uint64_t i = 0; i < 200; i++)
                check_exact(&s, &schedule, sp_subpath_draw(&s, &schedule, 5, 6, i));
        }
}

static void rounds_share_the_steps(void **state)
{
    (void)state;
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_PROGRESSIVE);
    const sp_noise_schedule schedule = schedule_of(SP_PREDICTION_V);
    assert_int_equal(sp_objective_distilled_steps(&s), 4);
    for (int64_t steps = 4; steps < 50; steps++)
        for (int64_t t = 0; t < steps; t++) {
            int round = sp_round_of_step(&s, t, steps);
            assert_in_range(round, 0, 3);
            assert_true(sp_round_begin(&s, round, steps) <= t);
            assert_true(round == 3 || sp_round_begin(&s, round + 1, steps) > t);
        }
    int size = 64;
    for (int round = 0; round < 4; round++) {
        const sp_objective_settings now = sp_round_settings(&s, round);
        size /= 2;
        assert_int_equal(now.ddim_timesteps, size);
        assert_true(now.guidance_w == (round ? 0 : 8));
        assert_int_equal(sp_subpath_at(&now, &schedule, size - 1).start, 999);
        for (int i = 0; i < size; i++) {
            sp_subpath path = sp_subpath_at(&now, &schedule, i);
            int below = i ? sp_subpath_at(&now, &schedule, i - 1).start : 0;
            assert_int_equal(path.end, below); /* neighbours touch */
            const sp_objective_settings before = sp_round_settings(&s, round - 1);
            if (round) /* the teacher is asked where it was trained */
                for (int j = 0; j < 2; j++)
                    assert_int_equal(path.point[j],
                                     sp_subpath_at(&before, &schedule, 2 * i + 1 - j).start);
        }
    }
    const sp_objective_settings lcm = sp_objective_defaults(SP_OBJECTIVE_LCM);
    assert_int_equal(sp_round_of_step(&lcm, 999, 1000), 0);
    assert_int_equal(sp_objective_distilled_steps(&lcm), 0);
}

static void gamma_is_drawn_from_its_grid(void **state)
{
    (void)state;
    int seen[5] = {0}, ones = 0;
    sp_gamma_distribution grid = {.power = 1, .grid = 4}, one = {.power = 1, .grid = 1};
    for (uint64_t i = 0; i < 4000; i++) {
        const sp_random_key key = {.seed = 9, .stream = SP_STREAM_GAMMA, .sample = i};
        double gamma = sp_gamma_draw(&grid, key) * 4;
        assert_true(gamma == floor(gamma) && gamma >= 1 && gamma <= 4);
        seen[(int)gamma]++;
        assert_true(sp_gamma_draw(&one, key) == 1);
        const sp_gamma_distribution often = {.power = 1, .one_probability = 0.25};
        ones += sp_gamma_draw(&often, key) == 1;
        const sp_gamma_distribution squared = {.power = 2}, plain = {.power = 1};
        double x = sp_gamma_draw(&plain, key);
        assert_true(x >= 0 && x < 1 && sp_gamma_draw(&squared, key) == x * x);
    }
    for (int k = 1; k <= 4; k++) /* 1000 +- 5 deviations of 27 */
        assert_in_range(seen[k], 863, 1137);
    assert_in_range(ones, 863, 1137);
}

/* ---- settings ---- */

static void check_refused(sp_objective_settings s, const char *words)
{
    assert_status(sp_objective_check(&s, 1000), SP_ARGUMENT);
    assert_message(words);
}

static void settings_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    for (int o = 0; o < SP_OBJECTIVE_COUNT; o++) {
        const sp_objective_settings good = sp_objective_defaults((sp_objective)o);
        assert_ok(sp_objective_check(&good, 1000));
        sp_objective_settings s = good;
        s.conditioning = o == SP_OBJECTIVE_SPLAM ? SP_GAMMA_NONE : SP_GAMMA_TIME;
        check_refused(s, "gamma-conditioning");
        s = good;
        s.phases = o == SP_OBJECTIVE_PCM ? 51 : 4;
        check_refused(s, "--phases");
        s = good;
        s.rounds = o == SP_OBJECTIVE_PROGRESSIVE ? 0 : 2;
        check_refused(s, "--rounds");
        s = good;
        s.skip = o == SP_OBJECTIVE_PROGRESSIVE ? 20 : 0;
        check_refused(s, "--skip");
        s = good;
        s.solver_steps = o == SP_OBJECTIVE_PROGRESSIVE ? 1 : 17;
        check_refused(s, "--solver-steps");
        s = good;
        s.ddim_timesteps = o == SP_OBJECTIVE_PROGRESSIVE ? 50 : 1001;
        check_refused(s, "--num-ddim-timesteps");
        s = good;
        s.gamma.grid = -1;
        check_refused(s, "--gamma-grid");
        if (o == SP_OBJECTIVE_SPLAM) continue;
        s = good;
        s.sigma = SP_SIGMA_LINEAR;
        check_refused(s, "--sigma");
    }
}

/* ---- runs that are interrupted ---- */

static bool stop_after(void *context)
{
    int *left = context;
    return --*left <= 0;
}

/* A run stopped after 4 steps and resumed equals the run not stopped, bit for bit. */
static void resumed_equals_undisturbed(void **state)
{
    golden_case c;
    read_case("distill-splam-accumulate", &c);
    c.options.output = in_folder(state, "whole");
    assert_ok(sp_distill(&c.options, NULL));
    c.options.output = in_folder(state, "resumed");
    int left = 4;
    const sp_callbacks callbacks = {.context = &left, .cancelled = stop_after};
    assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
    c.options.resume = "latest";
    assert_ok(sp_distill(&c.options, NULL));
    assert_same_file(unet_of(in_folder(state, "whole"), "unet"),
                     unet_of(in_folder(state, "resumed"), "unet"));
    assert_same_file(unet_of(in_folder(state, "whole"), "unet_ema"),
                     unet_of(in_folder(state, "resumed"), "unet_ema"));
    c.options.learning_rate *= 2;
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("learning-rate");
}

static const char *in(const char *folder, const char *name)
{
    static char path[4][700];
    static unsigned next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/%s", folder, name);
    return text;
}

/* The same for every step of a run in rounds, before, at and after the boundary; and from another
 * folder, where the round's teacher has to be found. */
static void resumed_in_a_round_equals_undisturbed(void **state)
{
    golden_case c;
    read_case("distill-progressive", &c);
    char whole[512], stopped[512], elsewhere[512], checkpoint[600];
    snprintf(whole, sizeof whole, "%s", in_folder(state, "whole"));
    snprintf(elsewhere, sizeof elsewhere, "%s", in_folder(state, "elsewhere"));
    c.options.output = whole;
    assert_ok(sp_distill(&c.options, NULL));
    for (int after = 3; after <= 8; after++) {
        char name[32];
        snprintf(name, sizeof name, "stopped-%d", after);
        snprintf(stopped, sizeof stopped, "%s", in_folder(state, name));
        c.options.output = stopped;
        c.options.resume = NULL;
        int left = after;
        const sp_callbacks callbacks = {.context = &left, .cancelled = stop_after};
        assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
        c.options.resume = "latest";
        assert_ok(sp_distill(&c.options, NULL));
        assert_same_file(unet_of(whole, "unet"), unet_of(stopped, "unet"));
        assert_same_file(unet_of(whole, "unet_ema"), unet_of(stopped, "unet_ema"));
        assert_same_file(in(whole, "round-1.safetensors"), in(stopped, "round-1.safetensors"));
    }
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-8", stopped);
    c.options.output = elsewhere;
    c.options.resume = checkpoint;
    assert_ok(sp_distill(&c.options, NULL));
    assert_same_file(unet_of(whole, "unet"), unet_of(elsewhere, "unet"));
    assert_same_file(in(whole, "round-1.safetensors"), in(elsewhere, "round-1.safetensors"));
}

/* A round's teacher that is missing, or of a run with other flags, is not taken. */
static void another_runs_round_is_refused(void **state)
{
    golden_case c;
    read_case("distill-progressive", &c);
    char output[512], file[600];
    snprintf(output, sizeof output, "%s", in_folder(state, "run"));
    c.options.output = output;
    int left = 7;
    sp_callbacks callbacks = {.context = &left, .cancelled = stop_after};
    assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
    snprintf(file, sizeof file, "%s", in_folder(state, "kept.safetensors"));
    assert_ok(sp_copy_file(in(output, "round-1.safetensors"), file));
    c.options.learning_rate *= 2;
    c.options.output = in_folder(state, "other");
    left = 6;
    assert_status(sp_distill(&c.options, &callbacks), SP_CANCELLED);
    c.options.learning_rate /= 2;
    assert_ok(sp_copy_file(in_folder(state, "other/round-1.safetensors"),
                           in(output, "round-1.safetensors")));
    c.options.output = output;
    c.options.resume = "latest";
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("round-1.safetensors is of a run with other flags");
    assert_int_equal(remove(in(output, "round-1.safetensors")), 0);
    assert_status(sp_distill(&c.options, NULL), SP_IO);
    assert_message("round-1.safetensors");
    assert_ok(sp_copy_file(file, in(output, "round-1.safetensors")));
    assert_ok(sp_distill(&c.options, NULL));
    c.options.max_train_steps = 9; /* rounds would begin elsewhere */
    assert_status(sp_distill(&c.options, NULL), SP_ARGUMENT);
    assert_message("max-train-steps");
}

/* What a student's folder says about its sampling, to diffusers and to us. */
static void students_say_how_they_are_sampled(void **state)
{
    static const struct {
        const char *name, *scheduler, *pipeline, *sampler;
        int steps;
    } students[] = {
        {"distill-splam", "LCMScheduler", "LatentConsistencyModelPipeline", "lcm", 4},
        {"distill-splam-linear-time", "LCMScheduler", "StableDiffusionPipeline", "lcm", 4},
        {"distill-lcm", "LCMScheduler", "StableDiffusionPipeline", "lcm", 4},
        {"distill-pcm-v-skip150-solver2", "DDIMScheduler", "StableDiffusionPipeline", "ddim", 3},
        {"distill-tcd", "TCDScheduler", "StableDiffusionPipeline", "tcd", 4},
        {"distill-progressive", "DDIMScheduler", "StableDiffusionPipeline", "ddim", 2},
    };
    for (size_t i = 0; i < sizeof students / sizeof *students; i++) {
        golden_case c;
        json_t *json;
        sp_scheduler_config config;
        read_case(students[i].name, &c);
        if (c.options.objective.rounds == 1) c.options.max_train_steps = 2;
        c.options.output = in_folder(state, students[i].name);
        char output[512];
        snprintf(output, sizeof output, "%s", c.options.output);
        c.options.output = output;
        assert_ok(sp_distill(&c.options, NULL));
        const char *scheduler = in(output, "scheduler/scheduler_config.json");
        assert_ok(sp_scheduler_config_load(scheduler, &config));
        sp_sampler_kind kind = sp_sampler_for(&config);
        assert_string_equal(sp_sampler_name(kind), students[i].sampler);
        assert_int_equal(sp_sampler_steps_for(&config, kind), students[i].steps);
        assert_true(config.student != SP_STUDENT_NONE);
        assert_ok(sp_json_load(scheduler, &json));
        assert_string_equal(text(json, "_class_name"), students[i].scheduler);
        json_decref(json);
        assert_ok(sp_json_load(in(output, "model_index.json"), &json));
        assert_string_equal(text(json, "_class_name"), students[i].pipeline);
        assert_string_equal(
            json_string_value(json_array_get(json_object_get(json, "scheduler"), 1)),
            students[i].scheduler);
        json_decref(json);
        assert_ok(sp_json_load(in(output, "splam.json"), &json));
        assert_string_equal(text(json, "objective"),
                            sp_objective_name(c.options.objective.objective));
        assert_string_equal(text(json, "sampler"), students[i].sampler);
        assert_int_equal(number(json, "steps"), students[i].steps);
        json_decref(json);
    }
}

static void bad_input_is_refused(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    c.options.output = in_folder(state, "bad");
    c.options.batch = 4;
    assert_status(sp_distill(&c.options, NULL), SP_SHAPE);
    assert_message("train-batch-size");
    c.options.batch = 3;
    c.options.max_train_steps = 11;
    assert_status(sp_distill(&c.options, NULL), SP_FORMAT);
    assert_message("latents.10");
    c.options.draws =
        NULL; /* and no data: the golden teachers have neither VAE nor text encoder to go with it */
    assert_status(sp_distill(&c.options, NULL), SP_IO);
    c.options.teacher = in_folder(state, "nowhere");
    assert_status(sp_distill(&c.options, NULL), SP_IO);
}

/* A weight that is not a number: training stops at once, says so, and saves nothing. */
static void not_a_number_stops(void **state)
{
    golden_case c;
    read_case("distill-splam", &c);
    const char *teacher = in_folder(state, "teacher"),
               *weights = in_folder(state, "teacher/unet/diffusion_pytorch_model.safetensors");
    sp_tensor_file *file;
    sp_weights *copy, *views;
    assert_ok(sp_copy_tree(c.teacher, teacher));
    assert_ok(sp_safetensors_open(weights, &file));
    assert_ok(sp_weights_create(&views));
    assert_ok(sp_weights_add_file(views, file));
    assert_ok(sp_weights_copy(views, SP_F32, &copy));
    ((float *)sp_weights_find(copy, "conv_in.bias")->data)[0] = NAN;
    assert_ok(sp_weights_save(copy, weights, SP_F32, NULL, 0));
    sp_weights_destroy(copy);
    sp_weights_destroy(views);
    sp_tensor_file_close(file);
    c.options.teacher = teacher;
    c.options.output = in_folder(state, "student");
    assert_status(sp_distill(&c.options, NULL), SP_NUMERIC);
    assert_message("step 1: the loss is");
    assert_false(sp_path_exists(in_folder(state, "student/checkpoint-1")));
    assert_false(sp_path_exists(in_folder(state, "student/unet")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(traces_equal_pytorch, make_test_folder, remove_test_folder),
        cmocka_unit_test(gamma_one_is_lcm),
        cmocka_unit_test(phases_are_the_samplers),
        cmocka_unit_test(tcd_to_zero_is_pcm),
        cmocka_unit_test(exact_networks_have_no_loss),
        cmocka_unit_test(rounds_share_the_steps),
        cmocka_unit_test(gamma_is_drawn_from_its_grid),
        cmocka_unit_test(settings_that_do_not_fit_are_refused),
        cmocka_unit_test_setup_teardown(splam_at_gamma_one_trains_lcm, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(resumed_in_a_round_equals_undisturbed, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(another_runs_round_is_refused, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(students_say_how_they_are_sampled, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(resumed_equals_undisturbed, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(not_a_number_stops, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(bad_input_is_refused, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
