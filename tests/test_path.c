/* The path: its kinds, its inverse, what outputs say, and that nothing divides by alpha where it is 0. */
#include <math.h>
#include "support.h"
#include "diffusion/sampler.h"
#include "distill/objective.h"

enum { KINDS = 3, T = 1000 };

/* In double precision, unlike cmocka's assert_float_equal. */
#define assert_close(found, expected, tolerance)                                                                       \
    do {                                                                                                               \
        double found_ = (found), expected_ = (expected);                                                               \
        if (!(fabs(found_ - expected_) <= (tolerance))) fail_msg("%.17g, expected %.17g", found_, expected_);         \
    } while (0)

static sp_path path_of(sp_path_kind kind, sp_prediction prediction)
{
    sp_path path;
    if (kind == SP_PATH_FLOW) {
        sp_path_of_flow(3, T, &path);
        return path;
    }
    assert_ok(sp_path_of_betas("scaled_linear", 0.00085, 0.012, T, prediction, &path));
    if (kind == SP_PATH_ZERO_SNR) sp_path_rescale_zero_snr(&path);
    return path;
}

/* ---- kinds ---- */

static void ends_are_the_kinds(void **state)
{
    (void)state;
    const sp_path vp = path_of(SP_PATH_VARIANCE_PRESERVING, SP_PREDICTION_V);
    const sp_path zero = path_of(SP_PATH_ZERO_SNR, SP_PREDICTION_V), flow = path_of(SP_PATH_FLOW, SP_PREDICTION_FLOW);
    assert_close(vp.abar[999], .0046601, 1e-7);
    assert_close(zero.abar[0], vp.abar[0], 1e-15);
    assert_true(zero.abar[999] == 0 && sp_path_at(&zero, 999).sigma == 1);
    assert_close(sp_path_ratio(&zero, 999), 4096, 2e-4); /* diffusers' 2^-24 */
    assert_close(sp_path_ratio(&zero, 749), 5.3987, 1e-4);
    assert_true(sp_path_at(&flow, 1000).alpha == 0 && sp_path_at(&flow, 0).sigma == 0);
    assert_close(sp_path_timestep(&flow, 20), 57.69, .005); /* t_1 and t_49 of M = 50 */
    assert_close(sp_path_timestep(&flow, 980), 993.24, .005);
}

/* Any scale of the pair, real timesteps between all integers, the last ones without signal among them. */
static void timesteps_come_back(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        const sp_path path = path_of((sp_path_kind)k, SP_PREDICTION_V);
        double before = -1;
        for (double t = 0; t <= sp_path_last(&path); t += 0.125) {
            sp_pair at = sp_path_at(&path, t);
            double share = at.sigma / (at.alpha + at.sigma);
            assert_true(isfinite(share) && share > before);
            before = share;
            assert_close(sp_path_norm(&path, at), 1, 1e-14);
            assert_close(sp_path_timestep_of(&path, (sp_pair){7 * at.alpha, 7 * at.sigma}), t, 1e-8);
        }
    }
}

/* The parts of z = c (alpha x0 + sigma noise) come out of what a network that knows says. */
static void estimates_are_what_was_mixed(void **state)
{
    (void)state;
    const double x0 = .7, noise = -1.3, c = 2.5;
    for (int k = 0; k < KINDS; k++)
        for (int p = 0; p < SP_PREDICTION_COUNT; p++) {
            if ((k == SP_PATH_FLOW) != (p == SP_PREDICTION_FLOW)) continue;
            const sp_path path = path_of((sp_path_kind)k, (sp_prediction)p);
            for (double t = 0; t <= sp_path_last(&path); t += 0.5) {
                sp_pair at = sp_path_at(&path, t), target = sp_prediction_target((sp_prediction)p, at);
                double m = target.alpha * x0 + target.sigma * noise, z = c * (at.alpha * x0 + at.sigma * noise);
                const sp_estimate e = sp_estimate_from((sp_prediction)p, (sp_pair){c * at.alpha, c * at.sigma});
                if (p == SP_PREDICTION_EPSILON && at.alpha < 1e-3) continue; /* rounding over alpha */
                assert_close(e.x0_z * z + e.x0_m * m, x0, p == SP_PREDICTION_EPSILON ? 1e-12 / at.alpha : 1e-12);
                assert_close(e.noise_z * z + e.noise_m * m, noise, 1e-12);
            }
        }
}

static void transitions_keep_the_path(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        const sp_path path = path_of((sp_path_kind)k, SP_PREDICTION_V);
        for (int s = 0; s < T; s += 37)
            for (int t = s + 1; t <= sp_path_last(&path); t += 53) {
                sp_pair from = sp_path_at(&path, s), to = sp_path_at(&path, t), up = sp_path_transition(&path, s, t);
                assert_close(up.alpha * from.alpha, to.alpha, 1e-12);
                assert_close(hypot(up.alpha * from.sigma, up.sigma), to.sigma, 1e-12);
            }
    }
}

/* ---- without signal ---- */

static bool finite_combination(const sp_combination *c)
{
    bool good = isfinite(c->z) && isfinite(c->m) && isfinite(c->fresh);
    for (int k = 0; k < SP_SAMPLER_KEPT; k++)
        good = good && isfinite(c->kept[k]);
    return good;
}

/* Finite, or refused with a sentence. */
static bool check_sampler(const sp_scheduler_config *config, sp_sampler_options options)
{
    sp_sampler sampler;
    sp_status status = sp_sampler_create(config, &options, &sampler);
    if (status) {
        assert_true(status == SP_UNSUPPORTED || status == SP_NUMERIC);
        assert_message(sp_sampler_name(options.kind));
        return false;
    }
    if (options.steps > 1 || config->spacing == SP_SPACING_TRAILING)
        assert_int_equal(sampler.step[0].timestep, sp_path_last(&config->path));
    assert_true(isfinite(sampler.initial_sigma) && isfinite(sampler.initial_image));
    for (int i = 0; i < sampler.count; i++) {
        assert_true(isfinite(sampler.step[i].input_scale) && finite_combination(&sampler.step[i].next));
        for (int k = 0; k < sampler.kept; k++)
            assert_true(finite_combination(&sampler.step[i].keep[k]));
    }
    sp_sampler_free(&sampler);
    return true;
}

static sp_scheduler_config config_of(const sp_path *path)
{
    sp_scheduler_config config = {.path = *path,
                                  .spacing = SP_SPACING_TRAILING,
                                  .sigmas = SP_SIGMAS_NORMAL,
                                  .alpha_to_one = true,
                                  .original_steps = 50,
                                  .lower_order_final = true};
    return config;
}

static void check_samplers(const sp_path *path)
{
    sp_scheduler_config config = config_of(path);
    int finite = 0, all = 0;
    for (int k = 0; k < SP_SAMPLER_COUNT; k++)
        for (int steps = 1; steps <= 20; steps++)
            for (int variant = 0; variant < 12; variant++) {
                config.solver_order = 1 + variant % 3;
                config.solver_heun = variant % 2;
                config.spacing = variant < 6 ? SP_SPACING_TRAILING : SP_SPACING_LINSPACE;
                if (k == SP_SAMPLER_DDIM) config.spacing = SP_SPACING_TRAILING;
                const sp_sampler_options o = {.kind = (sp_sampler_kind)k,
                                              .steps = steps,
                                              .eta = .3,
                                              .strength = variant == 3};
                finite += check_sampler(&config, o);
                all++;
            }
    /* euler-a of a flow is refused, and epsilon of ddim, lcm and tcd */
    assert_int_equal(all - finite, path->kind == SP_PATH_FLOW              ? all / SP_SAMPLER_COUNT
                                   : path->prediction != SP_PREDICTION_EPSILON ? 0
                                                                                : 3 * all / SP_SAMPLER_COUNT);
}

static void check_objectives(const sp_path *path)
{
    for (int o = 0; o < SP_OBJECTIVE_DMD; o++) { /* which has no sub-paths */
        sp_objective_settings s = sp_objective_defaults((sp_objective)o);
        if (o == SP_OBJECTIVE_SPLAM) s.sigma = SP_SIGMA_CHORD, s.conditioning = SP_GAMMA_TIME;
        assert_ok(sp_objective_check(&s, path));
        s = sp_round_settings(&s, 0);
        for (int index = 0; index < s.ddim_timesteps; index++)
            for (int g = 0; g <= 4; g++) {
                sp_subpath sub = sp_subpath_at(&s, path, index);
                sub.gamma = o == SP_OBJECTIVE_SPLAM ? g / 4. : 1;
                const sp_coefficients c = sp_subpath_coefficients(&s, path, sub);
                const double *number = (const double *)&c;
                for (size_t i = 0; i < sizeof c / sizeof *number; i++)
                    if (!isfinite(number[i]))
                        fail_msg("%s at %d: number %zu", sp_objective_name(s.objective), index, i);
                assert_true(c.student_timestep >= 0 && c.student_timestep <= sp_path_last(path));
            }
        assert_int_equal(sp_subpath_at(&s, path, s.ddim_timesteps - 1).start, sp_path_last(path));
    }
}

static void all_is_finite_without_signal(void **state)
{
    (void)state;
    const sp_path zero = path_of(SP_PATH_ZERO_SNR, SP_PREDICTION_V), flow = path_of(SP_PATH_FLOW, SP_PREDICTION_FLOW);
    const sp_path epsilon = path_of(SP_PATH_ZERO_SNR, SP_PREDICTION_EPSILON);
    const sp_path clean = path_of(SP_PATH_ZERO_SNR, SP_PREDICTION_SAMPLE);
    check_samplers(&zero);
    check_samplers(&clean);
    check_samplers(&flow);
    check_samplers(&epsilon);
    check_objectives(&zero);
    check_objectives(&clean);
    check_objectives(&flow);
    for (int o = 0; o < SP_OBJECTIVE_COUNT; o++) {
        const sp_objective_settings s = sp_objective_defaults((sp_objective)o);
        assert_status(sp_objective_check(&s, &epsilon), SP_UNSUPPORTED);
        assert_message("epsilon");
    }
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    for (int told = SP_GAMMA_EMBEDDING; told <= SP_GAMMA_TIME; told++)
        for (int sigma = SP_SIGMA_QUADRATIC; sigma <= SP_SIGMA_LINEAR; sigma++) {
            s.sigma = (sp_sigma_form)sigma;
            s.conditioning = (sp_gamma_conditioning)told;
            assert_status(sp_objective_check(&s, &zero), SP_UNSUPPORTED);
            assert_message(sp_sigma_name(s.sigma));
            assert_message(sp_gamma_conditioning_name(s.conditioning));
        }
}

/* ---- the chord ---- */

/* What a network that knows makes of the student's input is told apart from where it stands: the latents of
 * prediction and target, for any position, are the clean one. */
static void the_chord_is_exact(void **state)
{
    (void)state;
    const double x0 = .7, noise = -1.3;
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    s.sigma = SP_SIGMA_CHORD;
    s.conditioning = SP_GAMMA_TIME;
    s.guidance_scale_w = 0;
    for (int k = 0; k < KINDS; k++) {
        const sp_path path = path_of((sp_path_kind)k, k == SP_PATH_FLOW ? SP_PREDICTION_FLOW : SP_PREDICTION_V);
        for (int index = 0; index < 50; index++)
            for (int g = 0; g <= 8; g++) {
                sp_subpath sub = sp_subpath_at(&s, &path, index);
                sub.gamma = g / 8.;
                const sp_coefficients c = sp_subpath_coefficients(&s, &path, sub);
                sp_pair told = sp_prediction_target(path.prediction, sp_path_at(&path, c.solver_timestep[0]));
                double z_s = c.start_x0 * x0 + c.start_noise * noise;
                double z_e = c.solver_z[0] * z_s + c.solver_cond[0] * (told.alpha * x0 + told.sigma * noise);
                double z = c.position_start * z_s + c.position_end * z_e;
                sp_pair at = sp_path_at(&path, c.student_timestep);
                assert_close(c.student_scale * z, at.alpha * x0 + at.sigma * noise, 1e-12);
                told = sp_prediction_target(path.prediction, at);
                sp_boundary b = sp_path_boundary(&path, c.student_timestep);
                double p = c.prediction_z * z + c.prediction_m * (told.alpha * x0 + told.sigma * noise);
                assert_close(p, b.skip * (at.alpha * x0 + at.sigma * noise) + b.out * x0, 1e-12);
                assert_true(g < 8 || (c.student_timestep == sp_path_timestep(&path, sub.start) && c.position_end == 0));
            }
    }
}

/* The paper's point gamma z_s + (1 - gamma) rho z_e is c (gamma' z_s + (1 - gamma') z_e), c = gamma + (1 - gamma) rho,
 * gamma' = gamma/c: with the exact sigma and told by time, chord and paper are one thing but for the density of
 * gamma. */
static void the_chord_is_the_paper_elsewhere(void **state)
{
    (void)state;
    sp_objective_settings paper = sp_objective_defaults(SP_OBJECTIVE_SPLAM), chord;
    paper.sigma = SP_SIGMA_LINEAR;
    paper.conditioning = SP_GAMMA_TIME;
    paper.skip = 100;
    chord = paper;
    chord.sigma = SP_SIGMA_CHORD;
    for (int p = 0; p < SP_PREDICTION_FLOW; p++) {
        const sp_path path = path_of(SP_PATH_VARIANCE_PRESERVING, (sp_prediction)p);
        for (int index = 0; index < 50; index++)
            for (int g = 0; g < 10; g++) {
                sp_subpath sub = sp_subpath_at(&paper, &path, index);
                sub.gamma = g / 10.;
                const sp_coefficients a = sp_subpath_coefficients(&paper, &path, sub);
                double c = a.position_start + a.position_end;
                sub.gamma /= c;
                const sp_coefficients b = sp_subpath_coefficients(&chord, &path, sub);
                assert_close(c * b.position_start, a.position_start, 1e-12);
                assert_close(c * b.position_end, a.position_end, 1e-12);
                assert_close(a.student_scale * c, b.student_scale, 1e-12); /* so the network sees the same, */
                assert_close(a.student_timestep, b.student_timestep, 1e-9);
                if (b.student_timestep == 0) continue; /* all boundary */
                sp_boundary s = sp_path_boundary(&path, sub.start), t = sp_path_boundary(&path, b.student_timestep);
                double x0_z = (a.prediction_z - s.skip) / s.out; /* and the same estimate is made of it */
                double scale = fmax(1, fabs(x0_z));
                assert_close(x0_z * c / scale, (b.prediction_z - t.skip * b.student_scale) / t.out / scale, 1e-12);
                assert_close(a.prediction_m / s.out / scale, b.prediction_m / t.out / scale, 1e-12);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_are_the_kinds),
        cmocka_unit_test(timesteps_come_back),
        cmocka_unit_test(estimates_are_what_was_mixed),
        cmocka_unit_test(transitions_keep_the_path),
        cmocka_unit_test(all_is_finite_without_signal),
        cmocka_unit_test(the_chord_is_exact),
        cmocka_unit_test(the_chord_is_the_paper_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
