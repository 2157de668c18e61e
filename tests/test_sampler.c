/* Samplers and the denoising loop, against diffusers' schedulers on the same network and noise. */
#include "conditions.h"
#include "scheduler_support.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "pipeline/pipeline.h"

/* ---- goldens ---- */

/* Final latents may differ by this, relative max error: the largest rounding error of diffusers'
 * own float32 against float64 is 2e-5, and some samplers keep float32 states. */
static const double tolerance = 2e-4;

static void make_model(void **state, const char *name)
{
    char scheduler[64];
    snprintf(scheduler, sizeof scheduler, "%s/scheduler_config.json", name);
    assert_ok(sp_make_folders(in_folder(state, "model/scheduler")));
    assert_ok(
        sp_copy_file(golden(scheduler), in_folder(state, "model/scheduler/scheduler_config.json"), NULL));
    if (!sp_path_exists(in_folder(state, "model/unet")))
        assert_ok(sp_copy_tree(golden("unet-demo"), in_folder(state, "model/unet"), NULL));
}

static void check_timesteps(const sp_pipeline *p, const sp_sampler_options *options,
                            const sp_tensor_file *file)
{
    const sp_tensor *expected;
    sp_sampler sampler;
    assert_ok(sp_tensor_file_get(file, "timesteps", &expected));
    assert_ok(sp_sampler_create(&p->scheduler, options, &sampler));
    assert_int_equal(sp_tensor_count(expected), sampler.count);
    for (int i = 0; i < sampler.count; i++) {
        double wanted = sp_load(expected->data, expected->dtype, i), found = sampler.step[i].timestep;
        /* that of a sigma goes through a logarithm, and NumPy's is another */
        /* and a flow's are not whole */
        bool whole = sp_sampler_sigmas(&p->scheduler, options) <= SP_SIGMAS_NORMAL &&
                     p->scheduler.path.kind != SP_PATH_FLOW;
        bool good = whole ? found == wanted : fabs(found - wanted) < 1e-4;
        if (!good) fail_msg("timestep %d is %.9g, expected %.9g", i, found, wanted);
    }
    sp_sampler_free(&sampler);
}

static double number(const json_t *run, const char *key)
{
    return json_number_value(json_object_get(run, key));
}

/* One run of case.json. Where it has a seed, the noise is PyTorch's. */
static void check_run(sp_pipeline *p, const char *path, const char *sampler, const json_t *run, int64_t batch)
{
    enum { MOST_STEPS = 64 };
    sp_tensor_file *file;
    const sp_tensor *noise[MOST_STEPS] = {NULL}, *context, *uncond, *expected;
    sp_sampler_kind kind;
    char name[32];
    assert_ok(sp_safetensors_open(path, &file));
    for (int i = 0; i < MOST_STEPS; i++) {
        snprintf(name, sizeof name, "noise.%d", i);
        noise[i] = sp_tensor_file_find(file, name);
    }
    assert_ok(sp_tensor_file_get(file, "context", &context));
    assert_ok(sp_tensor_file_get(file, "uncond", &uncond));
    assert_ok(sp_tensor_file_get(file, "latents", &expected));
    assert_ok(sp_sampler_kind_of(sampler, &kind));
    sp_given_noise given = {.step = noise, .steps = MOST_STEPS};
    sp_torch_noise torch = {0};
    bool seeded = json_object_get(run, "seed");
    if (seeded) assert_ok(sp_torch_noise_create((uint64_t)number(run, "seed"), context->shape.dim[0], &torch));
    const sp_conditioning prompt = hidden_states(context), negative = hidden_states(uncond);
    sp_denoise_request request = {
        .sampler = {.kind = kind,
                    .steps = (int)number(run, "steps"),
                    .strength = number(run, "strength"),
                    .eta = number(run, "eta")},
        .guidance = number(run, "guidance"),
        .image = sp_tensor_file_find(file, "image"),
        .conditioning = &prompt,
        .negative = &negative,
        .height = expected->shape.dim[2],
        .width = expected->shape.dim[3],
        .noise = seeded ? sp_noise_torch(&torch) : sp_noise_given(&given),
        .batch = batch};
    check_timesteps(p, &request.sampler, file);
    sp_tensor latents;
    double error;
    assert_ok(sp_pipeline_denoise(p, &request, NULL, &latents));
    assert_ok(sp_tensor_relative_max_error(&latents, expected, &error));
    if (error > tolerance || isnan(error)) fail_msg("%s: relative max error %.3g", path, error);
    print_message("%s: %.1e\n", sp_path_base(path), error);
    sp_torch_noise_free(&torch);
    sp_tensor_free(&latents);
    sp_tensor_file_close(file);
}

static void check_case(void **state, const char *name)
{
    char path[128];
    json_t *json;
    sp_pipeline *p;
    make_model(state, name);
    snprintf(path, sizeof path, "%s/case.json", name);
    assert_ok(sp_json_load(golden(path), &json));
    assert_ok(sp_pipeline_open(in_folder(state, "model"),
                               &(sp_model_options){.parts = SP_PART_UNET}, &p));
    json_t *runs = json_object_get(json, "runs"), *run;
    size_t i;
    assert_true(json_array_size(runs) > 0);
    json_array_foreach(runs, i, run)
    {
        snprintf(path, sizeof path, "%s/%s", name, json_string_value(json_object_get(run, "file")));
        check_run(p, golden(path), json_string_value(json_object_get(json, "sampler")), run, i == 0 ? 1 : 0);
    }
    sp_pipeline_close(p);
    json_decref(json);
}

#define CASES(X)                                                                                   \
    X(lcm, "sampler-lcm")                                                                          \
    X(lcm_v, "sampler-lcm-v")                                                                      \
    X(ddim, "sampler-ddim")                                                                        \
    X(ddim_linspace, "sampler-ddim-linspace")                                                      \
    X(ddim_to_one, "sampler-ddim-to-one")                                                          \
    X(ddim_trailing, "sampler-ddim-trailing")                                                      \
    X(ddim_v, "sampler-ddim-v")                                                                    \
    X(flow, "sampler-flow")                                                                        \
    X(flow_unshifted, "sampler-flow-unshifted")                                                    \
    X(flow_heun, "sampler-flow-heun")                                                              \
    X(flow_lcm, "sampler-flow-lcm")                                                                \
    X(dpm, "sampler-dpm")                                                                          \
    X(dpm_leading, "sampler-dpm-leading")                                                          \
    X(dpm_trailing, "sampler-dpm-trailing")                                                        \
    X(dpm_v, "sampler-dpm-v")                                                                      \
    X(euler, "sampler-euler")                                                                      \
    X(euler_leading, "sampler-euler-leading")                                                      \
    X(euler_trailing, "sampler-euler-trailing")                                                    \
    X(euler_v, "sampler-euler-v")                                                                  \
    X(image_lcm, "sampler-image-lcm")                                                              \
    X(image_ddim, "sampler-image-ddim")                                                            \
    X(image_dpm, "sampler-image-dpm")                                                              \
    X(image_dpm_leading, "sampler-image-dpm-leading")                                              \
    X(image_euler, "sampler-image-euler")                                                          \
    X(image_euler_leading, "sampler-image-euler-leading")                                          \
    X(image_v, "sampler-image-v")                                                                  \
    X(ddim_eta, "sampler-ddim-eta")                                                                \
    X(ddim_eta_to_one, "sampler-ddim-eta-to-one")                                                  \
    X(ddim_eta_zero_snr, "sampler-ddim-eta-zero-snr")                                              \
    X(tcd, "sampler-tcd")                                                                          \
    X(tcd_v, "sampler-tcd-v")                                                                      \
    X(euler_a, "sampler-euler-a")                                                                  \
    X(euler_a_v, "sampler-euler-a-v")                                                              \
    X(euler_a_leading, "sampler-euler-a-leading")                                                  \
    X(heun, "sampler-heun")                                                                        \
    X(heun_v, "sampler-heun-v")                                                                    \
    X(heun_trailing, "sampler-heun-trailing")                                                      \
    X(unipc, "sampler-unipc")                                                                      \
    X(unipc_v, "sampler-unipc-v")                                                                  \
    X(unipc_leading, "sampler-unipc-leading")                                                      \
    X(unipc_3, "sampler-unipc-3")                                                                  \
    X(unipc_bh1, "sampler-unipc-bh1")                                                              \
    X(unipc_1, "sampler-unipc-1")                                                                  \
    X(unipc_full, "sampler-unipc-full")                                                            \
    X(sde, "sampler-sde")                                                                          \
    X(sde_v, "sampler-sde-v")                                                                      \
    X(sde_heun, "sampler-sde-heun")                                                                \
    X(dpm_3, "sampler-dpm-3")                                                                      \
    X(dpm_3_full, "sampler-dpm-3-full")                                                            \
    X(dpm_1, "sampler-dpm-1")                                                                      \
    X(dpm_heun, "sampler-dpm-heun")                                                                \
    X(euler_karras, "sampler-euler-karras")                                                        \
    X(euler_karras_v, "sampler-euler-karras-v")                                                    \
    X(euler_karras_leading, "sampler-euler-karras-leading")                                        \
    X(euler_exponential, "sampler-euler-exponential")                                              \
    X(heun_karras, "sampler-heun-karras")                                                          \
    X(heun_exponential, "sampler-heun-exponential")                                                \
    X(dpm_karras, "sampler-dpm-karras")                                                            \
    X(dpm_karras_v, "sampler-dpm-karras-v")                                                        \
    X(dpm_exponential, "sampler-dpm-exponential")                                                  \
    X(sde_karras, "sampler-sde-karras")                                                            \
    X(sde_exponential, "sampler-sde-exponential")                                                  \
    X(unipc_karras, "sampler-unipc-karras")                                                        \
    X(unipc_exponential, "sampler-unipc-exponential")                                              \
    X(seed_lcm, "sampler-seed-lcm")                                                                \
    X(seed_euler_a, "sampler-seed-euler-a")                                                        \
    X(seed_sde, "sampler-seed-sde")                                                                \
    X(sdxl, "sampler-sdxl")                                                                        \
    X(sdxl_turbo, "sampler-sdxl-turbo")                                                            \
    X(zero_snr_ddim, "sampler-zero-snr-ddim")                                                      \
    X(zero_snr_euler, "sampler-zero-snr-euler")                                                    \
    X(zero_snr_linspace, "sampler-zero-snr-linspace")                                              \
    X(zero_snr_karras, "sampler-zero-snr-karras")                                                  \
    X(zero_snr_euler_a, "sampler-zero-snr-euler-a")                                                \
    X(zero_snr_dpm, "sampler-zero-snr-dpm")                                                        \
    X(zero_snr_dpm_karras, "sampler-zero-snr-dpm-karras")                                          \
    X(zero_snr_sde, "sampler-zero-snr-sde")                                                        \
    X(zero_snr_unipc, "sampler-zero-snr-unipc")                                                    \
    X(zero_snr_lcm, "sampler-zero-snr-lcm")                                                        \
    X(zero_snr_tcd, "sampler-zero-snr-tcd")                                                        \
    X(zero_snr_image, "sampler-zero-snr-image")                                                    \
    X(x0_lightning, "sampler-x0-lightning")                                                        \
    X(x0_euler_karras, "sampler-x0-euler-karras")                                                  \
    X(x0_ddim, "sampler-x0-ddim")                                                                  \
    X(x0_dpm, "sampler-x0-dpm")                                                                    \
    X(x0_sde, "sampler-x0-sde")                                                                    \
    X(x0_unipc, "sampler-x0-unipc")                                                                \
    X(x0_heun, "sampler-x0-heun")                                                                  \
    X(x0_lcm, "sampler-x0-lcm")                                                                    \
    X(x0_tcd, "sampler-x0-tcd")                                                                    \
    X(x0_zero_snr, "sampler-x0-zero-snr")                                                          \
    X(x0_zero_snr_euler, "sampler-x0-zero-snr-euler")                                              \
    X(odd, "sampler-odd")
#define X(name, folder)                                                                            \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        check_case(state, folder);                                                                 \
    }
CASES(X)
#undef X

/* ---- samplers by themselves ---- */

static void check_grid(const sp_scheduler_config *config, sp_sampler_options options,
                       const int *expected)
{
    sp_sampler sampler;
    assert_ok(sp_sampler_create(config, &options, &sampler));
    for (int i = 0; i < options.steps; i++)
        assert_int_equal(sampler.step[i].timestep, expected[i]);
    sp_sampler_free(&sampler);
}

static void test_lcm_grids(void **state)
{
    (void)state;
    sp_scheduler_config config = config_of("{\"_class_name\": \"LCMScheduler\"}");
    assert_int_equal(config.student, SP_STUDENT_LCM);
    assert_int_equal(sp_sampler_for(&config), SP_SAMPLER_LCM);
    sp_sampler_options o = {.kind = SP_SAMPLER_LCM, .steps = 3};
    check_grid(&config, o, (int[]){999, 679, 339});
    o.steps = 8;
    check_grid(&config, o, (int[]){999, 879, 759, 639, 499, 379, 259, 139});
    o.steps = 4;
    o.old_grid = true;
    check_grid(&config, o, (int[]){999, 759, 519, 279});
    o.old_grid = false;
    o.strength = 0.5; /* of 25 timesteps: the highest is 499 */
    check_grid(&config, o, (int[]){499, 379, 259, 139});
    o.old_grid = true;
    check_grid(&config, o, (int[]){499, 379, 259, 139});
    o.strength = 0.55; /* of 27 */
    check_grid(&config, o, (int[]){539, 419, 299, 179});
    config.original_steps = 10;
    o = (sp_sampler_options){.kind = SP_SAMPLER_LCM, .steps = 4};
    check_grid(&config, o, (int[]){999, 799, 499, 299});
}

/* diffusers 0.42 on SDXL's scheduler file, or with the spacing asked for. Sigmas are those of the rows, which divide a
 * state by sqrt(sigma^2 + 1); where it is a latent there are none. */
static void test_sdxl_grids(void **state)
{
    (void)state;
    static const char zero[] = ", \"rescale_betas_zero_snr\": true"; /* and v */
    static const struct {
        const char *more; /* keys behind the file's */
        sp_sampler_kind kind;
        sp_timestep_spacing spacing;
        int steps, count; /* timesteps that are compared */
        double timestep[8], sigma[8], initial;
    } rows[] = {
        {"", SP_SAMPLER_EULER, 0, 4, 4, {751, 501, 251, 1}, {4.116698, 1.623693, .6983986, .04131448},
         4.236414},
        {"", SP_SAMPLER_EULER, 0, 30, 3, {958, 925, 892}, {11.47685, 9.543586, 8.004313}, 11.52033},
        {"", SP_SAMPLER_EULER, 0, 50, 2, {981, 961}, {13.12042, 11.67605}, 13.15847},
        {"", SP_SAMPLER_EULER, SP_SPACING_TRAILING, 1, 1, {999}, {14.61465}, 14.61465},
        {"", SP_SAMPLER_EULER, SP_SPACING_TRAILING, 2, 2, {999, 499}, {14.61465, 1.612887}, 14.61465},
        {"", SP_SAMPLER_EULER, SP_SPACING_TRAILING, 4, 4, {999, 749, 499, 249},
         {14.61465, 4.081731, 1.612887, .6932054}, 14.61465},
        {"", SP_SAMPLER_EULER, SP_SPACING_TRAILING, 8, 8, {999, 874, 749, 624, 499, 374, 249, 124},
         {14.61465, 7.297354, 4.081731, 2.492532, 1.612887, 1.068952, .6932054, .3977464}, 14.61465},
        {"", SP_SAMPLER_EULER_A, SP_SPACING_TRAILING, 1, 1, {999}, {14.61465}, 14.61465},
        {"", SP_SAMPLER_LCM, 0, 4, 4, {999, 759, 499, 259}, {0}, 1},
        {"", SP_SAMPLER_DDIM, 0, 4, 4, {751, 501, 251, 1}, {0}, 1},
        {"", SP_SAMPLER_DPMPP_2M, 0, 4, 4, {801, 601, 401, 201}, {0}, 1},
        {zero, SP_SAMPLER_EULER, SP_SPACING_TRAILING, 4, 4, {999, 749, 499, 249}, {4096, 5.398741, 1.768081, .7270561},
         4096},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        char text[sizeof sdxl_scheduler + sizeof zero + 1];
        snprintf(text, sizeof text, "%s%s}", sdxl_scheduler, rows[r].more);
        sp_scheduler_config config = config_of(text);
        if (*rows[r].more) config.path.prediction = SP_PREDICTION_V;
        const sp_sampler_options options = {.kind = rows[r].kind, .spacing = rows[r].spacing, .steps = rows[r].steps};
        sp_sampler sampler;
        assert_ok(sp_sampler_create(&config, &options, &sampler));
        assert_int_equal(sampler.count, rows[r].steps);
        assert_true(fabs(sampler.initial_sigma / rows[r].initial - 1) < 1e-5); /* diffusers' schedule is float32 */
        for (int i = 0; i < rows[r].count; i++) {
            double scale = sampler.step[i].input_scale, sigma = sqrt(1 / (scale * scale) - 1);
            assert_true(sampler.step[i].timestep == rows[r].timestep[i]);
            if (rows[r].sigma[i] == 0) assert_true(scale == 1);
            else if (!(fabs(sigma / rows[r].sigma[i] - 1) < 1e-5)) fail_msg("sigma %d of row %zu: %.7g", i, r, sigma);
        }
        assert_true(sampler.step[sampler.count - 1].next.fresh == 0);
        sp_sampler_free(&sampler);
    }
}

/* The teacher's chain that students are measured against. */
static void test_teacher_chain(void **state)
{
    (void)state;
    sp_scheduler_config config =
        config_of("{\"timestep_spacing\": \"trailing\", \"beta_schedule\": \"scaled_linear\"}");
    sp_sampler sampler;
    assert_ok(sp_sampler_create(
        &config, &(sp_sampler_options){.kind = SP_SAMPLER_DDIM, .steps = 50}, &sampler));
    for (int i = 0; i < 50; i++)
        assert_int_equal(sampler.step[i].timestep, 999 - 20 * i);
    /* The last step ends at the clean estimate. */
    const sp_estimate e = sp_estimate_from(SP_PREDICTION_EPSILON, sp_path_at(&config.path, 19));
    assert_float_equal(sampler.step[49].next.z, e.x0_z, 1e-15);
    assert_float_equal(sampler.step[49].next.m, e.x0_m, 1e-15);
    sp_sampler_free(&sampler);
}

/* A network that knows the answer: for z = alpha x + sigma n it says n (or v), so every sampler must end at x, passing
 * through alpha' x + sigma' n on its way; where fresh noise is added, the n of what follows is what z has of it, and as
 * large. */
static bool is_scaled(sp_sampler_kind kind)
{
    return kind == SP_SAMPLER_EULER || kind == SP_SAMPLER_EULER_A || kind == SP_SAMPLER_HEUN;
}

static double mixed(sp_pair pair, double x0, double noise)
{
    return pair.alpha * x0 + pair.sigma * noise;
}

/* What a latent is made of at t: where there is no signal, those that compute with sigma/alpha see a little. */
static sp_pair latent_at(const sp_path *path, sp_sampler_kind kind, double t)
{
    sp_pair at = sp_path_at(path, t);
    bool by_pair = kind == SP_SAMPLER_DDIM || kind == SP_SAMPLER_LCM || kind == SP_SAMPLER_TCD;
    if (at.alpha > 0 || by_pair || path->kind == SP_PATH_FLOW) return at;
    double ratio = sp_path_ratio(path, t), alpha = 1 / sqrt(1 + ratio * ratio);
    return (sp_pair){alpha, ratio * alpha};
}

/* And the state. */
static sp_pair state_at(const sp_path *path, sp_sampler_kind kind, double t)
{
    bool by_alpha = is_scaled(kind) && path->kind != SP_PATH_FLOW;
    return by_alpha ? (sp_pair){1, sp_path_ratio(path, t)} : latent_at(path, kind, t);
}

static void check_exact(const sp_scheduler_config *config, sp_sampler_options options)
{
    enum { COUNT = 5 };
    const double x0[COUNT] = {.7, -1.3, 0, 2.5, -.2};
    double noise[COUNT] = {-.4, 1.1, 2, -.9, .05};
    const float fresh[COUNT] = {.3, -1.8, .6, 0, 1.1};
    float z[COUNT], m[COUNT], kept[SP_SAMPLER_KEPT * COUNT];
    sp_sampler sampler;
    assert_ok(sp_sampler_create(config, &options, &sampler));
    const sp_path *path = &config->path;
    for (int k = 0; k < COUNT; k++)
        z[k] = (float)mixed(state_at(path, options.kind, sampler.step[0].timestep), x0[k], noise[k]);
    for (int i = 0; i < sampler.count; i++) {
        sp_pair at = latent_at(path, options.kind, sampler.step[i].timestep);
        sp_pair state = state_at(path, options.kind, sampler.step[i].timestep);
        sp_pair target = sp_prediction_target(path->prediction, at);
        for (int k = 0; k < COUNT; k++) {
            /* z is a float, and sigma/alpha 15, with zero terminal SNR 4096 */
            assert_float_equal(z[k], mixed(state, x0[k], noise[k]), fmax(2e-5, 2e-6 * state.sigma));
            m[k] = (float)mixed(target, x0[k], noise[k]);
        }
        float clean[COUNT];
        sp_sampler_estimate(&sampler, i, z, m, clean, COUNT);
        for (int k = 0; k < COUNT; k++) /* the floats z and m are off by 2^-24, which is divided by alpha */
            assert_float_equal(clean[k], x0[k], fmax(2e-5, 2e-6 * hypot(1, at.sigma) / at.alpha));
        sp_sampler_advance(&sampler, i, z, m, kept, fresh, COUNT);
        if (sampler.step[i].next.fresh == 0) continue;
        state = state_at(path, options.kind, sampler.step[i + 1].timestep);
        const double before = noise[0], added = sampler.step[i].next.fresh / state.sigma;
        for (int k = 0; k < COUNT; k++)
            noise[k] = (z[k] - state.alpha * x0[k]) / state.sigma;
        assert_float_equal(hypot((noise[0] - added * fresh[0]) / before, added), 1, 1e-3);
    }
    /* tcd ends at timestep 0, the others at the clean latent */
    sp_pair end = options.kind == SP_SAMPLER_TCD ? sp_path_at(path, 0) : (sp_pair){1, 0};
    for (int k = 0; k < COUNT; k++)
        assert_float_equal(z[k], mixed(end, x0[k], noise[k]), 2e-5);
    sp_sampler_free(&sampler);
}

static void test_exact_network(void **state)
{
    (void)state;
    for (int p = 0; p < SP_PREDICTION_FLOW; p++) {
        sp_scheduler_config config = config_of("{\"timestep_spacing\": \"trailing\","
                                               " \"beta_schedule\": \"scaled_linear\", \"beta_end\": 0.012,"
                                               " \"beta_start\": 0.00085}");
        config.path.prediction = (sp_prediction)p;
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_LCM, .steps = 4});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_LCM, .steps = 1});
        for (int n = 0; n < 4; n++)
            check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_DDIM, .steps = 10, .eta = n / 3.});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_DPMPP_2M, .steps = 20});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_EULER, .steps = 10});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_EULER_A, .steps = 10});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_HEUN, .steps = 10});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_DPMPP_2M_SDE, .steps = 20});
        for (config.solver_order = 1; config.solver_order <= 3; config.solver_order++) {
            check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_DPMPP_2M, .steps = 16});
            check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_UNIPC, .steps = 10});
        }
        config.solver_order = 2;
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_TCD, .steps = 8});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_TCD, .steps = 4, .eta = 1});
        check_exact(&config, (sp_sampler_options){.kind = SP_SAMPLER_TCD, .steps = 4, .eta = .3});
    }
}

/* The same where alpha reaches 0: zero terminal SNR, and a flow, whose grid shifts its last tick twice. */
static void test_exact_without_signal(void **state)
{
    (void)state;
    sp_scheduler_config config = config_of(
        "{\"timestep_spacing\": \"trailing\", \"beta_schedule\": \"scaled_linear\", \"beta_end\": 0.012,"
        " \"beta_start\": 0.00085, \"prediction_type\": \"v_prediction\", \"rescale_betas_zero_snr\": true}");
    for (int flow = 0; flow < 2; flow++) {
        if (flow) sp_path_of_flow(3, 1000, &config.path);
        if (flow) config.demands = 0;
        for (int k = 0; k < SP_SAMPLER_COUNT; k++)
            for (int steps = 1; steps <= 10; steps += 3) {
                if (k == SP_SAMPLER_HEUN && !flow) continue;
                if (k == SP_SAMPLER_EULER_A && flow) continue;
                if (k == SP_SAMPLER_DDIM && !flow && 1000 % steps) continue; /* misses its grid, as diffusers */
                for (config.solver_order = 1; config.solver_order <= 3; config.solver_order++)
                    check_exact(&config, (sp_sampler_options){.kind = (sp_sampler_kind)k, .steps = steps,
                                                              .eta = k == SP_SAMPLER_DDIM ? steps / 10. : 0});
            }
    }
    config.solver_order = 2;
    sp_sampler sampler;
    const double diffusers[] = {1, .857692, .602151, .0089286}, students[] = {1, .9, .75, .5};
    for (int ddim = 0; ddim < 2; ddim++) {
        const sp_sampler_options o = {.kind = ddim ? SP_SAMPLER_DDIM : SP_SAMPLER_EULER, .steps = 4};
        assert_ok(sp_sampler_create(&config, &o, &sampler));
        for (int i = 0; i < 4; i++)
            assert_float_equal(sampler.step[i].timestep, 1000 * (ddim ? students : diffusers)[i], 1e-3);
        sp_sampler_free(&sampler);
    }
    assert_status(sp_sampler_create(&config, &(sp_sampler_options){.kind = SP_SAMPLER_EULER_A, .steps = 4}, &sampler),
                  SP_UNSUPPORTED);
    assert_message("euler-a has no form for flow models");
    const sp_sampler_options karras = {.kind = SP_SAMPLER_EULER, .steps = 4, .sigmas = SP_SIGMAS_KARRAS};
    assert_status(sp_sampler_create(&config, &karras, &sampler), SP_UNSUPPORTED);
    assert_message("sigmas of their own");
}

static void test_step_limits(void **state)
{
    (void)state;
    sp_scheduler_config config = config_of("{\"steps_offset\": 1}");
    sp_sampler sampler;
    sp_sampler_kind kind;
    assert_status(sp_sampler_create(&config,
                                    &(sp_sampler_options){.kind = SP_SAMPLER_LCM, .steps = 51},
                                    &sampler),
                  SP_ARGUMENT);
    assert_message("51 steps of lcm");
    assert_status(sp_sampler_create(&config,
                                    &(sp_sampler_options){.kind = SP_SAMPLER_DDIM, .steps = 0},
                                    &sampler),
                  SP_ARGUMENT);
    assert_status(sp_sampler_create(&config,
                                    &(sp_sampler_options){.kind = SP_SAMPLER_DDIM, .steps = 1000},
                                    &sampler),
                  SP_ARGUMENT);
    assert_message("begin at timestep 1000");
    for (int steps = 1; steps < 1000; steps += 7)
        for (int k = 0; k < SP_SAMPLER_COUNT; k++)
            for (int s = 0; s < 4; s++) {
                config.spacing = (sp_timestep_spacing)s;
                if ((k == SP_SAMPLER_LCM || k == SP_SAMPLER_TCD) && steps > 50) continue;
                assert_ok(sp_sampler_create(
                    &config, &(sp_sampler_options){.kind = (sp_sampler_kind)k, .steps = steps},
                    &sampler));
                assert_int_equal(sampler.count, k == SP_SAMPLER_HEUN ? 2 * steps - 1 : steps);
                for (int i = 0; i < sampler.count; i++) {
                    bool second = k == SP_SAMPLER_HEUN && i > 0 && i % 2 == 0;
                    assert_true(sampler.step[i].timestep >= 0 && sampler.step[i].timestep <= 999);
                    assert_true(isfinite(sampler.step[i].next.z) && isfinite(sampler.step[i].next.m));
                    assert_true(i == 0 || (second ? sampler.step[i].timestep == sampler.step[i - 1].timestep
                                                  : sampler.step[i].timestep < sampler.step[i - 1].timestep));
                }
                sp_sampler_free(&sampler);
            }
    assert_status(sp_sampler_kind_of("dpm", &kind), SP_ARGUMENT);
    assert_message("dpm++2m");
}

/* ---- students ---- */

/* A student's scheduler tells how it is sampled. */
static void test_students(void **state)
{
    (void)state;
    sp_scheduler_config config = config_of("{\"_class_name\": \"TCDScheduler\"}");
    assert_int_equal(config.student, SP_STUDENT_TCD);
    assert_int_equal(sp_sampler_for(&config), SP_SAMPLER_TCD);
    assert_int_equal(sp_sampler_steps_for(&config, SP_SAMPLER_TCD), 4);
    assert_float_equal(config.path.abar[0], 0.99915, 1e-6); /* latent defaults */
    config = config_of("{\"_class_name\": \"DDIMScheduler\", \"_distilled_steps\": 6}");
    assert_int_equal(config.student, SP_STUDENT_DDIM);
    assert_int_equal(sp_sampler_for(&config), SP_SAMPLER_DDIM);
    assert_int_equal(sp_sampler_steps_for(&config, SP_SAMPLER_DDIM), 6);
    assert_int_equal(sp_sampler_steps_for(&config, SP_SAMPLER_EULER), 30);
    config = config_of("{\"_class_name\": \"DDIMScheduler\"}");
    assert_int_equal(config.student, SP_STUDENT_NONE);
    assert_int_equal(sp_sampler_steps_for(&config, SP_SAMPLER_DDIM), 50);
    json_t *json;
    static const char bad[] = "{\"_distilled_steps\": -1}";
    assert_ok(sp_json_parse(bad, strlen(bad), "scheduler_config.json", &json));
    assert_status(sp_scheduler_config_read(json, "scheduler_config.json", &config), SP_FORMAT);
    assert_message("_distilled_steps");
    json_decref(json);
    sp_sampler sampler;
    assert_status(
        sp_sampler_create(&config,
                          &(sp_sampler_options){.kind = SP_SAMPLER_TCD, .steps = 2, .eta = 1.5},
                          &sampler),
        SP_ARGUMENT);
    assert_message("eta of 1.5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define X(name, folder) cmocka_unit_test(test_##name),
        CASES(X)
#undef X
            cmocka_unit_test(test_lcm_grids),
        cmocka_unit_test(test_sdxl_grids),
        cmocka_unit_test(test_teacher_chain),
        cmocka_unit_test(test_exact_network),
        cmocka_unit_test(test_exact_without_signal),
        cmocka_unit_test(test_step_limits),
        cmocka_unit_test(test_students),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
