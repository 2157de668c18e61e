/* The teacher's trajectories, the maps that models are, and the errors of these along those. */
#include <math.h>
#include "conditions.h"
#include "scheduler_support.h"
#include "backend/registry.h"
#include "base/random.h"
#include "ops/ops.h"
#include "pipeline/model_errors.h"

enum { PROMPTS = 3, TOKENS = 5, SIDE = 8 };
static const uint64_t noise_seed = 40;
static const double guidance_scale_w = 1.5;
static const char *const models[] = {"teacher-epsilon", "teacher-v_prediction"};

/* ---- a teacher ---- */

typedef struct {
    sp_pipeline *teacher;
    sp_tensor states, negative_states;
    sp_conditioning conditioning, negative; /* views of these */
} teacher_case;

static sp_tensor random_tensor(sp_shape shape, uint64_t seed)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, shape, &t));
    sp_random_normal((sp_random_key){.seed = seed}, t.data, (size_t)sp_tensor_count(&t));
    return t;
}

static teacher_case make_case(const char *model)
{
    teacher_case c = {0};
    const sp_model_options options = {.parts = SP_PART_UNET};
    assert_ok(sp_pipeline_open(golden(model), &options, &c.teacher));
    int64_t dim = c.teacher->facts.context_dim;
    c.states = random_tensor(sp_shape_of(PROMPTS, TOKENS, dim), 1);
    c.negative_states = random_tensor(sp_shape_of(1, TOKENS, dim), 2);
    c.conditioning = hidden_states(&c.states);
    c.negative = hidden_states(&c.negative_states);
    return c;
}

static void free_case(teacher_case *c)
{
    sp_pipeline_close(c->teacher);
    sp_tensor_free(&c->states);
    sp_tensor_free(&c->negative_states);
}

static sp_trajectory_request request_of(const teacher_case *c, const char *cache)
{
    return (sp_trajectory_request){&c->conditioning, &c->negative, SIDE,  SIDE,
                                   noise_seed,       guidance_scale_w,  cache, NULL};
}

/* The teacher alone: one evaluation for all prompts. */
static sp_runner bare_network(const teacher_case *c)
{
    sp_pipeline *p = c->teacher;
    sp_builder *b;
    sp_runner runner;
    assert_ok(sp_builder_create(&b));
    const sp_weight_set set = {.name = "unet", .rate = SP_RATE_RUN, .weights = p->denoiser_weights};
    const sp_network_use unet = {.network = &sp_unet_network, .config = &p->denoiser_config.unet, .set = &set};
    const sp_network_sizes sizes = {
        .batch = PROMPTS, .height = SIDE, .width = SIDE, .tokens = c->states.shape.dim[1]};
    sp_network_alone(b, &unet, &sizes);
    assert_ok(sp_runner_create(b, sp_default_device(), SP_F32, &runner));
    assert_ok(sp_bind(sp_run_bound(runner.run), "unet", p->denoiser_weights));
    return runner;
}

static sp_tensor ask(sp_run *run, const sp_tensor *z, int timestep, const sp_tensor *context)
{
    float t[PROMPTS];
    for (int i = 0; i < PROMPTS; i++)
        t[i] = (float)timestep;
    sp_tensor timesteps = {SP_F32, sp_shape_of(PROMPTS), t, false}, m;
    assert_ok(sp_run_set_input(run, "sample", z));
    assert_ok(sp_run_set_input(run, "timestep", &timesteps));
    assert_ok(sp_run_set_input(run, "encoder_hidden_states", context));
    assert_ok(sp_run_execute(run, NULL));
    assert_ok(sp_run_get_output(run, "sample", &m));
    return m;
}

/* The chain of the definition, written out: eps and x0 guided apart, 999, 979, ..., 19, clean. Its points. */
static sp_tensor chain_by_hand(const teacher_case *c)
{
    const sp_path *schedule = &c->teacher->scheduler.path;
    bool v = schedule->prediction == SP_PREDICTION_V;
    sp_runner network = bare_network(c);
    sp_tensor points, uncond;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(SP_TRAJECTORY_POINTS, PROMPTS, 4, SIDE, SIDE), &points));
    int64_t one = 4 * SIDE * SIDE, row = sp_tensor_count(&c->negative_states);
    sp_tensor z = {SP_F32, sp_shape_of(PROMPTS, 4, SIDE, SIDE), points.data, false};
    for (int i = 0; i < PROMPTS; i++)
        sp_random_normal((sp_random_key){noise_seed + (uint64_t)i, SP_STREAM_NOISE, 0, 0},
                         (float *)z.data + i * one, (size_t)one);
    assert_ok(sp_tensor_create(SP_F32, c->states.shape, &uncond));
    for (int64_t i = 0; i < PROMPTS * row; i++)
        ((float *)uncond.data)[i] = ((float *)c->negative_states.data)[i % row];
    for (int t = 999; t > 0; t -= 20) {
        double abar = schedule->abar[t], a = sqrt(abar), s = sqrt(1 - abar);
        double next = t >= 20 ? schedule->abar[t - 20] : 1;
        sp_tensor m[] = {ask(network.run, &z, t, &c->states), ask(network.run, &z, t, &uncond)};
        float *to = (float *)z.data + PROMPTS * one;
        for (int64_t i = 0; i < PROMPTS * one; i++) {
            double x0[2], eps[2], x = ((float *)z.data)[i];
            for (int k = 0; k < 2; k++) {
                double y = ((float *)m[k].data)[i];
                x0[k] = v ? a * x - s * y : (x - s * y) / a;
                eps[k] = v ? s * x + a * y : y;
            }
            double guided_x0 = x0[0] + guidance_scale_w * (x0[0] - x0[1]);
            double guided_eps = eps[0] + guidance_scale_w * (eps[0] - eps[1]);
            to[i] = (float)(sqrt(next) * guided_x0 + sqrt(1 - next) * guided_eps);
        }
        z.data = to;
        sp_tensor_free(&m[0]);
        sp_tensor_free(&m[1]);
    }
    sp_tensor_free(&uncond);
    sp_runner_free(&network);
    return points;
}

static void test_trajectories_follow_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        teacher_case c = make_case(models[i]);
        const sp_trajectory_request request = request_of(&c, NULL);
        sp_trajectory trajectory;
        sp_tensor expected = chain_by_hand(&c);
        int64_t one = sp_tensor_count(&expected) / SP_TRAJECTORY_POINTS;
        assert_ok(sp_trajectory_create(c.teacher, &request, NULL, &trajectory));
        assert_true(sp_shape_equal(trajectory.points.shape, expected.shape));
        for (int k = 0; k < SP_TRAJECTORY_POINTS; k++) {
            sp_tensor a = {SP_F32, sp_shape_of(one), (float *)trajectory.points.data + k * one, false};
            sp_tensor b = {SP_F32, sp_shape_of(one), (float *)expected.data + k * one, false};
            double error;
            assert_ok(sp_tensor_relative_max_error(&a, &b, &error));
            /* Fifty steps in float32, in another order of sums; a random network amplifies little. */
            if (!(error < 2e-4)) fail_msg("point %d: relative error %g", k, error);
            if (k < SP_TRAJECTORY_STEPS) assert_true(trajectory.timestep[k] == 999 - 20 * k);
        }
        const sp_tensor end = sp_trajectory_end(&trajectory);
        assert_ptr_equal(end.data, (float *)trajectory.points.data + SP_TRAJECTORY_STEPS * one);
        sp_trajectory_free(&trajectory);
        sp_tensor_free(&expected);
        free_case(&c);
    }
}

static int files_in(const char *folder)
{
    char **names;
    size_t count;
    assert_ok(sp_list_folder(folder, &names, &count));
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    return (int)count;
}

static bool stop_at_once(void *unused)
{
    (void)unused;
    return true;
}

static void assert_same(const sp_trajectory *a, const sp_trajectory *b)
{
    assert_memory_equal(a->points.data, b->points.data, sp_tensor_bytes(&a->points));
    assert_memory_equal(a->pair, b->pair, sizeof a->pair);
}

/* A computation is seen by its being cancelled. */
static void test_trajectories_are_kept(void **state)
{
    const char *folder = in_folder(state, "cache");
    const sp_callbacks stop = {.cancelled = stop_at_once};
    teacher_case c = make_case(models[0]);
    sp_trajectory_request request = request_of(&c, folder);
    sp_trajectory first, second;
    assert_ok(sp_trajectory_create(c.teacher, &request, NULL, &first));
    assert_int_equal(files_in(folder), 1);
    assert_ok(sp_trajectory_create(c.teacher, &request, &stop, &second));
    assert_same(&first, &second);
    assert_true(fabs(first.seconds - second.seconds) < 1e-5);
    sp_trajectory_free(&second);

    request.guidance_scale_w += 1;
    assert_status(sp_trajectory_create(c.teacher, &request, &stop, &second), SP_CANCELLED);
    assert_null(second.points.data);
    request = request_of(&c, folder);
    request.seed++;
    assert_status(sp_trajectory_create(c.teacher, &request, &stop, &second), SP_CANCELLED);
    request = request_of(&c, folder);
    ((float *)c.states.data)[3] += 1;
    assert_status(sp_trajectory_create(c.teacher, &request, &stop, &second), SP_CANCELLED);
    ((float *)c.states.data)[3] -= 1;

    char **names;
    size_t count;
    assert_ok(sp_list_folder(folder, &names, &count));
    assert_int_equal(strncmp(names[0], "trajectories-", 13), 0);
    char *path = sp_path_join(folder, names[0]);
    assert_ok(sp_write_file(path, "damaged", 7));
    assert_ok(sp_trajectory_create(c.teacher, &request, NULL, &second));
    assert_same(&first, &second);
    sp_free(path);
    sp_free(names[0]);
    sp_free(names);
    sp_trajectory_free(&first);
    sp_trajectory_free(&second);
    free_case(&c);
}

static void test_refusals(void **state)
{
    (void)state;
    teacher_case c = make_case(models[0]);
    sp_trajectory_request request = request_of(&c, NULL);
    sp_trajectory trajectory;
    request.height = request.width = 1 << 16;
    assert_status(sp_trajectory_create(c.teacher, &request, NULL, &trajectory), SP_MEMORY);
    assert_message("the trajectories of 3 samples take ");
    c.teacher->scheduler.path.timesteps = 999;
    assert_status(sp_trajectory_create(c.teacher, &request, NULL, &trajectory), SP_UNSUPPORTED);
    assert_message("\"num_train_timesteps\" is 999");
    free_case(&c);
}

/* ---- maps ---- */

static const char scaled[] = "\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"beta_end\": 0.012";

/* The schedule of Stable Diffusion with a class and keys of one's own. */
static sp_scheduler_config model_of(const char *keys)
{
    char text[512];
    snprintf(text, sizeof text, "{%s, %s}", keys, scaled);
    return config_of(text);
}

static const char teacher_keys[] = "\"_class_name\": \"DDIMScheduler\", \"timestep_spacing\": \"trailing\"";
static const char lcm_keys[] = "\"_class_name\": \"LCMScheduler\"";
static const char tcd_keys[] = "\"_class_name\": \"TCDScheduler\"";
static const char phased_keys[] = "\"_class_name\": \"DDIMScheduler\", \"_distilled_steps\": 4, "
                                  "\"timestep_spacing\": \"trailing\", \"set_alpha_to_one\": false";
static const char *const kinds_of_map[] = {teacher_keys, lcm_keys, tcd_keys, phased_keys};

/* A model's map at a timestep of its own sampler is that sampler's step there, where both end in one place: of lcm and
 * a teacher the only step, of tcd too, of pcm and progressive every one. */
static void test_maps_are_the_samplers_steps(void **state)
{
    (void)state;
    static const int steps[] = {1, 1, 1, 4};
    for (int p = 0; p < SP_PREDICTION_FLOW; p++)
        for (int k = 0; k < 4; k++) {
            sp_scheduler_config config = model_of(kinds_of_map[k]);
            config.path.prediction = (sp_prediction)p;
            const sp_sampler_options options = {.kind = k ? sp_sampler_for(&config) : SP_SAMPLER_DDIM,
                                                .steps = steps[k]};
            sp_sampler sampler;
            assert_ok(sp_sampler_create(&config, &options, &sampler));
            for (int i = 0; i < steps[k]; i++) {
                sp_map map;
                assert_ok(sp_map_at(&config, sampler.step[i].timestep, &map));
                assert_memory_equal(&map.row, &sampler.step[i], sizeof map.row);
                assert_int_equal(sp_map_sampler(&map).count, 1);
            }
            sp_sampler_free(&sampler);
        }
}

static void assert_pair(sp_pair a, sp_pair b)
{
    assert_true(fabs(a.alpha - b.alpha) < 1e-15 && fabs(a.sigma - b.sigma) < 1e-15);
}

static void test_ends_of_maps(void **state)
{
    (void)state;
    static const struct {
        double t, end;
    } phases[] = {{999, 749}, {750, 749}, {749.5, 749}, {749, 499}, {500, 499}, {499, 249}, {249, 0}, {19, 0}, {0, 0}};
    const sp_scheduler_config phased = model_of(phased_keys), tcd = model_of(tcd_keys);
    const sp_path *path = &phased.path;
    sp_map map;
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        assert_ok(sp_map_at(&phased, phases[i].t, &map));
        assert_pair(map.to, sp_path_at(path, phases[i].end));
        assert_ok(sp_map_at(&tcd, phases[i].t, &map));
        assert_pair(map.from, sp_path_at(path, phases[i].t));
        assert_pair(map.to, sp_path_at(path, 0));
    }
    for (int k = 0; k < 2; k++) {
        const sp_scheduler_config config = model_of(kinds_of_map[k]);
        assert_ok(sp_map_at(&config, 400, &map));
        assert_pair(map.to, (sp_pair){1, 0});
    }
    sp_scheduler_config silent = model_of(teacher_keys);
    sp_path_rescale_zero_snr(&silent.path);
    assert_status(sp_map_at(&silent, 999, &map), SP_NUMERIC);
    assert_message("timestep 999 has no signal");
}

/* ---- the chain between its points ---- */

/* `count` samples of one element, whose points are there to be filled. */
static sp_trajectory empty_chain(const sp_scheduler_config *config, int64_t count)
{
    sp_trajectory t = {0};
    assert_ok(sp_trajectory_grid(config, &t));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(SP_TRAJECTORY_POINTS, count, 1, 1, 1), &t.points));
    return t;
}

static double mixed(sp_pair pair, double x0, double noise)
{
    return pair.alpha * x0 + pair.sigma * noise;
}

/* Where x0 and eps are the same all along, the chain is alpha x0 + sigma eps everywhere, on its points and between
 * them. */
static void test_chain_between_points(void **state)
{
    (void)state;
    enum { COUNT = 3 };
    const double x0[COUNT] = {.7, -1.3, 4}, noise[COUNT] = {-.4, 1.1, 0};
    for (int kind = 0; kind < 3; kind++) {
        sp_scheduler_config config = model_of(teacher_keys);
        if (kind == 1) config.path.prediction = SP_PREDICTION_V, sp_path_rescale_zero_snr(&config.path);
        if (kind == 2) sp_path_of_flow(3, 1000, &config.path);
        sp_trajectory chain = empty_chain(&config, COUNT);
        float *points = chain.points.data, found[COUNT];
        sp_tensor z = {SP_F32, sp_shape_of(COUNT, 1, 1, 1), found, false};
        for (int i = 0; i < SP_TRAJECTORY_POINTS * COUNT; i++)
            points[i] = (float)mixed(chain.pair[i / COUNT], x0[i % COUNT], noise[i % COUNT]);
        for (double t = 0; t <= 999; t += .25) {
            const sp_pair at = sp_path_at(&config.path, t);
            sp_trajectory_at(&chain, at, &z);
            for (int k = 0; k < COUNT; k++)
                if (!(fabs(found[k] - mixed(at, x0[k], noise[k])) < 2e-6))
                    fail_msg("t = %g: %.8f, not %.8f", t, found[k], mixed(at, x0[k], noise[k]));
        }
        for (int i = 0; i < SP_TRAJECTORY_POINTS; i++) {
            sp_trajectory_at(&chain, chain.pair[i], &z);
            assert_memory_equal(found, points + i * COUNT, sizeof found);
        }
        sp_trajectory_free(&chain);
    }
}

/* The chain as a map: to where the model would lead. */
static sp_status follow(void *context, sp_map *map, const sp_tensor *z, const sp_callbacks *callbacks, sp_tensor *out)
{
    (void)callbacks;
    SP_TRY(sp_tensor_create(SP_F32, z->shape, out));
    sp_trajectory_at(context, map->to, out);
    return SP_OK;
}

/* The same with 1 added to the first element. */
static sp_status follow_beside(void *context, sp_map *map, const sp_tensor *z, const sp_callbacks *callbacks,
                               sp_tensor *out)
{
    SP_TRY(follow(context, map, z, callbacks, out));
    ((float *)out->data)[0] += 1;
    return SP_OK;
}

static sp_status make_other_latents(void *context, sp_map *map, const sp_tensor *z, const sp_callbacks *callbacks,
                                    sp_tensor *out)
{
    (void)context, (void)map, (void)z, (void)callbacks;
    return sp_tensor_create(SP_F32, sp_shape_of(1, 1, 1, 1), out);
}

/* The teacher's chain itself, whatever kind of map is asked for, at the samplers' timesteps and between. */
static void test_chain_has_no_error(void **state)
{
    (void)state;
    const double t[] = {999, 979, 499, 19, 749, 333.25, 7, 0};
    enum { COUNT = sizeof t / sizeof *t };
    teacher_case c = make_case(models[1]);
    const sp_trajectory_request request = request_of(&c, NULL);
    sp_trajectory trajectory;
    double error[COUNT];
    assert_ok(sp_trajectory_create(c.teacher, &request, NULL, &trajectory));
    int64_t count = sp_tensor_count(&trajectory.points) / SP_TRAJECTORY_POINTS;
    for (int k = 0; k < 4; k++) {
        const sp_scheduler_config config = model_of(kinds_of_map[k]);
        sp_applied_map map = {&config, follow, &trajectory};
        assert_ok(sp_trajectory_error(&trajectory, &map, t, COUNT, NULL, NULL, error));
        for (int i = 0; i < COUNT; i++)
            assert_true(error[i] == 0);
        map.apply = follow_beside;
        assert_ok(sp_trajectory_error(&trajectory, &map, t, COUNT, NULL, NULL, error));
        for (int i = 0; i < COUNT; i++)
            assert_true(fabs(error[i] * (double)count - 1) < 1e-5);
    }
    sp_scheduler_config other = model_of(teacher_keys);
    const sp_applied_map wrong = {&other, make_other_latents, NULL};
    const sp_callbacks stop = {.cancelled = stop_at_once};
    assert_status(sp_trajectory_error(&trajectory, &wrong, t, 1, NULL, NULL, error), SP_SHAPE);
    assert_status(sp_trajectory_error(&trajectory, &wrong, t, 1, NULL, &stop, error), SP_CANCELLED);
    other.path.prediction = SP_PREDICTION_V;
    sp_path_rescale_zero_snr(&other.path);
    assert_status(sp_trajectory_error(&trajectory, &wrong, t, 1, NULL, NULL, error), SP_UNSUPPORTED);
    assert_message("timestep 999 has more noise");
    sp_trajectory_free(&trajectory);
    free_case(&c);
}

static sp_status measure_chain(void *map)
{
    const double t[] = {999, 500};
    double error[2];
    const sp_applied_map *chain = map;
    return sp_trajectory_error(chain->context, chain, t, 2, NULL, NULL, error);
}

static void test_want_of_memory(void **state)
{
    (void)state;
    const sp_scheduler_config config = model_of(teacher_keys);
    sp_trajectory chain = empty_chain(&config, 3);
    sp_applied_map map = {&config, follow, &chain};
    assert_true(fail_every_allocation(measure_chain, &map) >= 4);
    sp_trajectory_free(&chain);
}

/* ---- a known flow ---- */

/* Data of two dimensions: equal parts of three normal distributions. z_t is one too, so that its score, and with it the
 * exact eps, is a formula. */
static const double centre[3][2] = {{1.2, .3}, {-.8, 1}, {-.2, -1.3}}, deviation = .2;

static void exact_eps(sp_pair at, const double z[2], double eps[2])
{
    double variance = at.alpha * at.alpha * deviation * deviation + at.sigma * at.sigma;
    double log_weight[3], most = -INFINITY, sum = 0;
    for (int k = 0; k < 3; k++) {
        double x = z[0] - at.alpha * centre[k][0], y = z[1] - at.alpha * centre[k][1];
        log_weight[k] = -(x * x + y * y) / (2 * variance);
        most = fmax(most, log_weight[k]);
    }
    eps[0] = eps[1] = 0;
    for (int k = 0; k < 3; k++) {
        double weight = exp(log_weight[k] - most);
        sum += weight;
        for (int i = 0; i < 2; i++)
            eps[i] += weight * at.sigma * (z[i] - at.alpha * centre[k][i]) / variance;
    }
    for (int i = 0; i < 2; i++)
        eps[i] /= sum;
}

/* The probability flow from t to `end`, d(z/alpha) = eps d(sigma/alpha), by Heun's method in `steps` steps even in t;
 * end -1: the clean latent, the last step being from timestep 0. */
static void flow(const sp_path *path, double t, double end, int steps, double z[2])
{
    bool clean = end < 0;
    for (int i = 0; i < steps + clean; i++) {
        double from_t = i < steps ? t + (fmax(end, 0) - t) * i / steps : 0;
        sp_pair from = sp_path_at(path, from_t);
        sp_pair to = i < steps ? sp_path_at(path, t + (fmax(end, 0) - t) * (i + 1) / steps) : (sp_pair){1, 0};
        double h = to.sigma / to.alpha - from.sigma / from.alpha, eps[2], next[2], later[2];
        exact_eps(from, z, eps);
        for (int k = 0; k < 2; k++)
            next[k] = to.alpha * (z[k] / from.alpha + h * eps[k]);
        exact_eps(to, next, later);
        for (int k = 0; k < 2; k++)
            z[k] = to.alpha * (z[k] / from.alpha + h * (eps[k] + later[k]) / 2);
    }
}

static sp_status exact_map(void *context, sp_map *map, const sp_tensor *z, const sp_callbacks *callbacks,
                           sp_tensor *out)
{
    (void)callbacks;
    SP_TRY(sp_tensor_create(SP_F32, z->shape, out));
    const float *from = z->data;
    float *to = out->data;
    for (int64_t i = 0; i < sp_tensor_count(z); i += 2) {
        double at[2] = {from[i], from[i + 1]};
        flow(context, map->timestep, -1, (int)(map->timestep / 2) + 1, at);
        to[i] = (float)at[0];
        to[i + 1] = (float)at[1];
    }
    return SP_OK;
}

enum { SAMPLES = 64 };

/* Points of the flow itself, integrated at every timestep. */
static sp_trajectory known_flow(const sp_scheduler_config *config)
{
    sp_trajectory chain = {0};
    assert_ok(sp_trajectory_grid(config, &chain));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(SP_TRAJECTORY_POINTS, SAMPLES, 2, 1, 1), &chain.points));
    float *points = chain.points.data;
    sp_random_normal((sp_random_key){.seed = 5}, points, (size_t)SAMPLES * 2);
    for (int s = 0; s < SAMPLES; s++) {
        double z[2] = {points[2 * s], points[2 * s + 1]};
        for (int i = 0; i < SP_TRAJECTORY_STEPS; i++) {
            bool last = i + 1 == SP_TRAJECTORY_STEPS;
            flow(&config->path, chain.timestep[i], last ? -1 : chain.timestep[i + 1], 20, z);
            for (int k = 0; k < 2; k++)
                points[((i + 1) * SAMPLES + s) * 2 + k] = (float)z[k];
        }
    }
    return chain;
}

/* What was measured before: where the deterministic chain of a map ends that keeps the noise which its clean estimate
 * implies, eps = (z - alpha x)/sigma, at a sampler's timesteps. */
static double error_of_deterministic_chain(const sp_trajectory *chain, const sp_path *path, const sp_sampler *sampler)
{
    const float *noise = chain->points.data, *end = noise + (int64_t)SP_TRAJECTORY_STEPS * SAMPLES * 2;
    double sum = 0;
    for (int s = 0; s < SAMPLES; s++) {
        double z[2] = {noise[2 * s], noise[2 * s + 1]}, x[2];
        for (int i = 0; i < sampler->count; i++) {
            double t = sampler->step[i].timestep;
            sp_pair at = sp_path_at(path, t), to = {1, 0};
            if (i + 1 < sampler->count) to = sp_path_at(path, sampler->step[i + 1].timestep);
            memcpy(x, z, sizeof x);
            flow(path, t, -1, (int)(t / 2) + 1, x);
            for (int k = 0; k < 2; k++)
                z[k] = mixed(to, x[k], (z[k] - at.alpha * x[k]) / at.sigma);
        }
        for (int k = 0; k < 2; k++)
            sum += (z[k] - end[2 * s + k]) * (z[k] - end[2 * s + k]);
    }
    return sum / (2 * SAMPLES);
}

/* An exact map has no error, however many steps it is asked for; its deterministic chain leaves the trajectory at the
 * second. */
static void test_known_flow(void **state)
{
    (void)state;
    /* without c_skip and c_out, which a formula does not need */
    const sp_scheduler_config config = model_of(teacher_keys), student = model_of(lcm_keys);
    sp_trajectory chain = known_flow(&config);
    const sp_applied_map map = {&config, exact_map, (void *)(uintptr_t)&config.path};
    double curve[SP_TRAJECTORY_STEPS];
    assert_ok(sp_trajectory_error(&chain, &map, chain.timestep, SP_TRAJECTORY_STEPS, NULL, NULL, curve));
    for (int i = 0; i < SP_TRAJECTORY_STEPS; i++)
        if (!(curve[i] < 1e-7)) fail_msg("t = %g: %g", chain.timestep[i], curve[i]);
    for (int steps = 1; steps <= 8; steps *= 2) {
        sp_sampler sampler;
        double error = 0;
        assert_ok(sp_sampler_create(&student, &(sp_sampler_options){.kind = SP_SAMPLER_LCM, .steps = steps}, &sampler));
        for (int i = 0; i < steps; i++) {
            double one;
            assert_ok(sp_trajectory_error(&chain, &map, &sampler.step[i].timestep, 1, NULL, NULL, &one));
            error += one / steps;
        }
        double before = error_of_deterministic_chain(&chain, &config.path, &sampler);
        print_message("%d steps: %g, and before %g\n", steps, error, before);
        assert_true(error < 1e-7);
        assert_true(steps == 1 ? before < 1e-7 : before > 1e-3);
        sp_sampler_free(&sampler);
    }
    /* Between its points the flow is not quite one DDIM step. */
    const double between[] = {989, 749, 249, 9}, most[] = {1e-7, 1e-7, 1e-7, 1e-4};
    assert_ok(sp_trajectory_error(&chain, &map, between, 4, NULL, NULL, curve));
    for (int i = 0; i < 4; i++) {
        print_message("t = %g: %g\n", between[i], curve[i]);
        assert_true(curve[i] < most[i]);
    }
    sp_trajectory_free(&chain);
}

/* ---- networks ---- */

static sp_trajectory_error_request error_request(const teacher_case *c, const sp_scheduler_config *scheduler,
                                                 double guidance)
{
    return (sp_trajectory_error_request){
        .scheduler = scheduler, .guidance = guidance, .conditioning = &c->conditioning, .negative = &c->negative};
}

/* In one step the trajectory error is what the distance of the two ends was: of the picture that one step draws and
 * the chain's. */
static void test_one_step_is_the_distance_of_the_ends(void **state)
{
    (void)state;
    teacher_case c = make_case(models[0]);
    const sp_trajectory_request request = request_of(&c, NULL);
    sp_trajectory trajectory;
    assert_ok(sp_trajectory_create(c.teacher, &request, NULL, &trajectory));
    const sp_tensor end = sp_trajectory_end(&trajectory);
    for (int lcm = 0; lcm < 2; lcm++) {
        sp_scheduler_config student = c.teacher->scheduler;
        student.student = lcm ? SP_STUDENT_LCM : SP_STUDENT_NONE;
        student.spacing = SP_SPACING_TRAILING;
        student.alpha_to_one = true;
        double guidance = lcm ? 1 : 1 + guidance_scale_w, t = 999, error, sum = 0;
        sp_philox_noise noise = {noise_seed};
        const sp_denoise_request drawing = {
            .sampler = {.kind = lcm ? SP_SAMPLER_LCM : SP_SAMPLER_DDIM, .steps = 1},
            .scheduler = &student,
            .guidance = guidance,
            .conditioning = &c.conditioning,
            .negative = &c.negative,
            .height = SIDE,
            .width = SIDE,
            .noise = sp_noise_philox(&noise)};
        sp_tensor drawn;
        assert_ok(sp_pipeline_denoise(c.teacher, &drawing, NULL, &drawn));
        for (int64_t i = 0; i < sp_tensor_count(&drawn); i++) {
            double d = (double)((float *)drawn.data)[i] - (double)((float *)end.data)[i];
            sum += d * d;
        }
        const sp_trajectory_error_request asked = error_request(&c, &student, guidance);
        assert_ok(sp_pipeline_trajectory_error(c.teacher, &trajectory, &asked, &t, 1, NULL, &error));
        assert_true(error > 0 && error == sum / (double)sp_tensor_count(&drawn));
        sp_tensor_free(&drawn);
    }
    sp_trajectory_free(&trajectory);
    free_case(&c);
}

/* A sampler's error is the mean over its own timesteps, on the curve and off it, each evaluated once. */
static void test_samplers_have_their_means(void **state)
{
    (void)state;
    static const double asked[2][4] = {{999, 759, 499, 259}, {999, 749, 499, 249}}; /* of LCM's points, of DDIM's */
    teacher_case c = make_case(models[0]);
    const sp_trajectory_request request = request_of(&c, NULL);
    sp_trajectory trajectory;
    assert_ok(sp_trajectory_create(c.teacher, &request, NULL, &trajectory));
    for (int ddim = 0; ddim < 2; ddim++) {
        sp_scheduler_config student = c.teacher->scheduler;
        student.student = SP_STUDENT_LCM;
        student.spacing = SP_SPACING_TRAILING;
        sp_model_errors errors = {c.teacher, &trajectory, error_request(&c, &student, 1), 0, NULL, NULL};
        const sp_sampler_options sampler = {.kind = ddim ? SP_SAMPLER_DDIM : SP_SAMPLER_LCM, .steps = 4};
        double curve[SP_TRAJECTORY_STEPS], error[4], mean;
        assert_ok(sp_model_errors_at(&errors, trajectory.timestep, SP_TRAJECTORY_STEPS, NULL, NULL, curve));
        assert_ok(sp_model_errors_of_sampler(&errors, NULL, &sampler, NULL, &mean));
        assert_ok(sp_pipeline_trajectory_error(c.teacher, &trajectory, &errors.request, asked[ddim], 4, NULL, error));
        assert_true(mean == (error[0] + error[1] + error[2] + error[3]) / 4);
        assert_true(curve[0] == error[0]);
        assert_int_equal(errors.count, SP_TRAJECTORY_STEPS + (ddim ? 2 : 0));
        sp_model_errors_free(&errors);
    }
    sp_trajectory_free(&trajectory);
    free_case(&c);
}

/* What follows from the points is what the teacher's evaluations give; and batches do not matter. */
static void test_own_error(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        teacher_case c = make_case(models[i]);
        const sp_trajectory_request request = request_of(&c, NULL);
        sp_trajectory trajectory;
        double own[SP_TRAJECTORY_STEPS], evaluated[SP_TRAJECTORY_STEPS], one, some = 539;
        assert_ok(sp_trajectory_create(c.teacher, &request, NULL, &trajectory));
        sp_trajectory_own_error(&trajectory, own);
        sp_trajectory_error_request asked = error_request(&c, NULL, 1 + guidance_scale_w);
        assert_ok(sp_pipeline_trajectory_error(c.teacher, &trajectory, &asked, trajectory.timestep,
                                               SP_TRAJECTORY_STEPS, NULL, evaluated));
        for (int k = 0; k < SP_TRAJECTORY_STEPS; k++)
            /* points are rounded to f32, and neighbours near to each other */
            if (!(fabs(own[k] - evaluated[k]) < 2e-4 * evaluated[k] + 1e-9))
                fail_msg("t = %g: %.9g, not %.9g", trajectory.timestep[k], own[k], evaluated[k]);
        assert_true(own[SP_TRAJECTORY_STEPS - 1] == 0);
        asked.batch = 2;
        assert_ok(sp_pipeline_trajectory_error(c.teacher, &trajectory, &asked, &some, 1, NULL, &one));
        assert_true(fabs(one - evaluated[23]) < 1e-6 * one);
        sp_trajectory_free(&trajectory);
        free_case(&c);
    }
}

static void test_given_latents_must_fit(void **state)
{
    (void)state;
    teacher_case c = make_case(models[0]);
    sp_tensor start = random_tensor(sp_shape_of(PROMPTS, 4, SIDE, SIDE + 1), 3), latents;
    sp_map map;
    assert_ok(sp_map_at(&c.teacher->scheduler, 500, &map));
    const sp_sampler sampler = sp_map_sampler(&map);
    const sp_denoise_request request = {.guidance = 1, .conditioning = &c.conditioning, .height = SIDE, .width = SIDE};
    assert_status(sp_pipeline_advance(c.teacher, &request, &sampler, &start, NULL, &latents), SP_SHAPE);
    assert_message("expected F32 [3,4,8,8]");
    sp_tensor_free(&start);
    free_case(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trajectories_follow_the_definition),
        cmocka_unit_test_setup_teardown(test_trajectories_are_kept, make_test_folder, remove_test_folder),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_maps_are_the_samplers_steps),
        cmocka_unit_test(test_ends_of_maps),
        cmocka_unit_test(test_chain_between_points),
        cmocka_unit_test(test_chain_has_no_error),
        cmocka_unit_test(test_want_of_memory),
        cmocka_unit_test(test_known_flow),
        cmocka_unit_test(test_one_step_is_the_distance_of_the_ends),
        cmocka_unit_test(test_samplers_have_their_means),
        cmocka_unit_test(test_own_error),
        cmocka_unit_test(test_given_latents_must_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
