/* The numbers of distillation objectives: sub-paths, draws, coefficients, rounds, what is refused. */
#include <math.h>
#include "support.h"
#include "distill/objective.h"
#include "diffusion/sampler.h"

/* ---- coefficients ---- */

static sp_path path_of(sp_prediction prediction)
{
    sp_path path;
    assert_ok(sp_path_of_betas("scaled_linear", 0.00085, 0.012, 1000, prediction, &path));
    return path;
}

/* method.md: at gamma = 1 the step is the Latent Consistency Model's step. */
static void gamma_one_is_lcm(void **state)
{
    (void)state;
    const sp_path path = path_of(SP_PREDICTION_EPSILON);
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    const sp_objective_settings l = sp_objective_defaults(SP_OBJECTIVE_LCM);
    s.gamma.one_probability = 1;
    for (uint64_t i = 0; i < 100; i++) {
        assert_true(sp_subpath_draw(&s, &path, 1, 2, i).gamma == 1);
        assert_true(sp_subpath_draw(&l, &path, 1, 2, i).gamma == 1);
    }
    for (int sigma = 0; sigma < SP_SIGMA_COUNT; sigma++)
        for (int told = SP_GAMMA_EMBEDDING; told < SP_GAMMA_CONDITIONING_COUNT; told++)
            for (int index = 0; index < 50; index++) {
                s.sigma = (sp_sigma_form)sigma;
                s.conditioning = (sp_gamma_conditioning)told;
                sp_subpath sub = sp_subpath_at(&s, &path, index);
                sp_coefficients splam = sp_subpath_coefficients(&s, &path, sub),
                                lcm = sp_subpath_coefficients(&l, &path, sub);
                assert_memory_equal(&splam, &lcm, sizeof lcm);
                assert_true(splam.student_timestep == sub.start && splam.position_end == 0);
            }
}

/* From the first step's length to the last's, by equal factors; all in between are as if they were constant. */
static void sub_paths_may_shorten(void **state)
{
    (void)state;
    static const int expected[] = {80, 48, 28, 17, 10};
    const sp_path path = path_of(SP_PREDICTION_EPSILON);
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    s.skip = 80;
    s.skip_to = 10;
    s.solver_steps = 3;
    assert_ok(sp_objective_check(&s, &path));
    for (int step = 0; step < 5; step++) {
        const sp_objective_settings now = sp_step_settings(&s, step, 5);
        sp_objective_settings constant = s;
        constant.skip = constant.skip_to = expected[step];
        assert_int_equal(now.skip, expected[step]);
        assert_int_equal(now.skip_to, expected[step]);
        for (uint64_t i = 0; i < 50; i++) {
            sp_subpath a = sp_subpath_draw(&now, &path, 1, 2, i), b = sp_subpath_draw(&constant, &path, 1, 2, i);
            sp_coefficients x = sp_subpath_coefficients(&now, &path, a),
                            y = sp_subpath_coefficients(&constant, &path, b);
            assert_memory_equal(&x, &y, sizeof x);
        }
    }
    for (int64_t steps = 2; steps < 2000; steps += 37) { /* both ends, and never the other way */
        int before = sp_step_settings(&s, 0, steps).skip;
        assert_int_equal(before, 80);
        for (int64_t step = 1; step < steps; step++) {
            int now = sp_step_settings(&s, step, steps).skip;
            assert_true(now <= before);
            before = now;
        }
        assert_int_equal(before, 10);
    }
    assert_int_equal(sp_step_settings(&s, 0, 1).skip, 80);
    s.skip_to = 2;
    assert_status(sp_objective_check(&s, &path), SP_ARGUMENT);
    assert_message("`solver_steps` is 3, and `skip` 2 allows no more");
    s.skip_to = 1001;
    assert_status(sp_objective_check(&s, &path), SP_ARGUMENT);
    assert_message("`skip` is 1001");
}

/* An error of the network's output, which diffusers' scripts weigh by min(SNR, gamma)/SNR for epsilon and by
 * min(SNR, gamma)/(SNR + 1) for v, and the paper (Hang et al. 2023) by min(SNR, gamma) for the clean latent, is here
 * one of x0: weight times its square has to be the same. */
static void min_snr_weighs_as_diffusers_do(void **state)
{
    (void)state;
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    s.weighting = SP_WEIGHTING_MIN_SNR;
    s.snr_gamma = 2;
    for (int p = 0; p < SP_PREDICTION_FLOW; p++) {
        const sp_path path = path_of((sp_prediction)p);
        bool above = false, below = false;
        for (int i = 0; i < 900; i++) {
            s.objective = i % 2 ? SP_OBJECTIVE_SPLAM : SP_OBJECTIVE_LCM;
            s.sigma = (sp_sigma_form)(i / 2 % 2);
            sp_subpath sub = sp_subpath_draw(&s, &path, 5, 6, (uint64_t)i);
            if (s.objective == SP_OBJECTIVE_LCM) sub.gamma = 1;
            sp_coefficients c = sp_subpath_coefficients(&s, &path, sub);
            sp_pair start = sp_path_at(&path, sub.start), end = sp_path_at(&path, sub.end);
            double rho = start.alpha / end.alpha, g = sub.gamma, far = rho * end.sigma;
            double noise = s.sigma == SP_SIGMA_LINEAR ? g * start.sigma + (1 - g) * far
                                                      : sqrt(far * far + g * g * (1 - rho * rho));
            double snr = pow(start.alpha / noise, 2), out = sp_path_boundary(&path, sub.start).out;
            double diffusers = fmin(snr, 2) / (double[]){snr, snr + 1, 1}[p];
            double found = c.loss_weight * pow(c.prediction_m / out, 2);
            assert_true(fabs(found - diffusers) <= 1e-9 * diffusers);
            above |= snr > 2;
            below |= snr < 2;
        }
        assert_true(above && below);
    }
}

static void inverse_lengths_are_one_in_the_mean(void **state)
{
    (void)state;
    static const sp_objective objectives[] = {SP_OBJECTIVE_SPLAM, SP_OBJECTIVE_LCM, SP_OBJECTIVE_PCM, SP_OBJECTIVE_TCD};
    const sp_path path = path_of(SP_PREDICTION_EPSILON);
    for (int k = 0; k < 4 * 4; k++) {
        sp_objective_settings s = sp_objective_defaults(objectives[k % 4]);
        s.weighting = SP_WEIGHTING_INVERSE_LENGTH;
        s.ddim_timesteps = k < 8 ? 50 : 1000;
        s.skip = s.skip_to = k / 4 % 2 ? 20 : 270;
        double sum = 0, scale = sp_loss_weight_scale(&s, &path), shortest = 0;
        for (int i = 0; i < s.ddim_timesteps; i++) {
            sp_subpath sub = sp_subpath_at(&s, &path, i);
            double weight = scale * sp_subpath_coefficients(&s, &path, sub).loss_weight;
            sum += weight;
            shortest = fmax(shortest, weight);
            if (sub.start > sub.end) assert_true(fabs(weight * (sub.start - sub.end) - scale) <= 1e-12 * scale);
        }
        assert_true(fabs(sum / s.ddim_timesteps - 1) <= 1e-12);
        assert_true(shortest > 1.01); /* those that are cut at their ends */
        s.weighting = SP_WEIGHTING_NONE;
        assert_true(sp_loss_weight_scale(&s, &path) == 1);
    }
}

static void weights_without_use_are_refused(void **state)
{
    (void)state;
    const sp_path path = path_of(SP_PREDICTION_EPSILON);
    for (int objective = 0; objective < SP_OBJECTIVE_COUNT; objective++) {
        sp_objective_settings s = sp_objective_defaults((sp_objective)objective);
        bool x0 = objective == SP_OBJECTIVE_SPLAM || objective == SP_OBJECTIVE_LCM;
        s.weighting = SP_WEIGHTING_MIN_SNR;
        assert_int_equal(sp_objective_check(&s, &path) == SP_OK, x0);
        if (!x0) assert_message("`loss_weighting` min-snr says nothing to `objective`");
        s.weighting = SP_WEIGHTING_INVERSE_LENGTH;
        bool lengths = x0 || objective == SP_OBJECTIVE_PCM || objective == SP_OBJECTIVE_TCD;
        assert_int_equal(sp_objective_check(&s, &path) == SP_OK, lengths);
        if (!lengths) assert_message("it is for splam, lcm, pcm and tcd");
    }
}

/* Phases: edges are the timesteps of DDIM in P steps, and no sub-path leaves its phase. */
static void phases_are_the_samplers(void **state)
{
    (void)state;
    const sp_path path = path_of(SP_PREDICTION_EPSILON);
    sp_scheduler_config config = {.path = path, .spacing = SP_SPACING_TRAILING};
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
                sp_subpath sub = sp_subpath_at(&s, &path, i);
                int edge = 0; /* the highest timestep of the sampler below the start */
                for (int k = phases - 1; k > 0; k--)
                    if (sampler.step[k].timestep < sub.start) edge = (int)sampler.step[k].timestep;
                assert_int_equal(sub.target, edge);
                assert_true(sub.end >= sub.target && sub.end <= sub.start);
                assert_int_equal(sub.point[0], sub.start);
                assert_int_equal(sub.point[3], sub.end);
                for (int j = 0; j < 3; j++)
                    assert_true(sub.point[j] >= sub.point[j + 1]);
                assert_true(sub.start == 0 || sub.target < sub.start);
            }
        }
        sp_sampler_free(&sampler);
    }
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_PCM); /* edges 0, 249, 499, 749 */
    assert_int_equal(sp_subpath_at(&s, &path, 49).target, 749);
    assert_int_equal(sp_subpath_at(&s, &path, 37).target, 749); /* s = 759 */
    assert_int_equal(sp_subpath_at(&s, &path, 37).end, 749);    /* not 739 */
    assert_int_equal(sp_subpath_at(&s, &path, 24).target, 249); /* s = 499, an edge */
    assert_int_equal(sp_subpath_at(&s, &path, 0).target, 0);
}

/* tcd to timestep 0 is pcm with one phase; at u = e the target is z_e itself. */
static void tcd_to_zero_is_pcm(void **state)
{
    (void)state;
    sp_objective_settings p = sp_objective_defaults(SP_OBJECTIVE_PCM),
                          t = sp_objective_defaults(SP_OBJECTIVE_TCD);
    p.phases = 1;
    for (int k = 0; k < SP_PREDICTION_FLOW; k++) {
        const sp_path path = path_of((sp_prediction)k);
        bool zero = false, end = false;
        for (int index = 0; index < 50; index++) {
            sp_subpath sub = sp_subpath_at(&t, &path, index);
            sp_coefficients a = sp_subpath_coefficients(&t, &path, sub),
                            b = sp_subpath_coefficients(&p, &path,
                                                        sp_subpath_at(&p, &path, index));
            assert_memory_equal(&a, &b, sizeof a);
            sub.target = sub.end;
            a = sp_subpath_coefficients(&t, &path, sub);
            assert_float_equal(a.target_end, 1, 1e-14);
            assert_float_equal(a.target_m, 0, 1e-14);
        }
        for (uint64_t i = 0; i < 4000; i++) {
            sp_subpath sub = sp_subpath_draw(&t, &path, 3, 4, i);
            assert_true(sub.target >= 0 && sub.target <= sub.end);
            zero |= sub.target == 0 && sub.end > 100;
            end |= sub.target == sub.end && sub.end > 100;
        }
        assert_true(zero && end);
    }
}

/* What a network makes of z = alpha x + sigma n that knows x and n. */
static double knowing(const sp_path *path, double t, double x0, double noise)
{
    sp_pair target = sp_prediction_target(path->prediction, sp_path_at(path, t));
    return target.alpha * x0 + target.sigma * noise;
}

/* With such networks for teacher, average and student, prediction and target are the same point of
 * the trajectory: alpha_u x + sigma_u n, and for progressive the clean latent times its weight. */
static void check_exact(const sp_objective_settings *s, const sp_path *path,
                        sp_subpath sub)
{
    const double x0 = 0.7, noise = -1.3;
    sp_coefficients c = sp_subpath_coefficients(s, path, sub);
    double z_s = c.start_x0 * x0 + c.start_noise * noise, z = z_s;
    for (int j = 0; j < s->solver_steps && j < SP_MAX_SOLVER_STEPS; j++)
        z = c.solver_z[j] * z +
            c.solver_cond[j] * knowing(path, c.solver_timestep[j], x0, noise);
    double target = c.target_start * z_s + c.target_end * z;
    if (sp_objective_asks_average(s))
        target += c.target_m * knowing(path, c.target_timestep, x0, noise);
    double p =
        c.prediction_z * z_s + c.prediction_m * knowing(path, c.student_timestep, x0, noise);
    sp_pair at = sp_path_at(path, sp_path_timestep(path, sub.target));
    double want = at.alpha * x0 + at.sigma * noise;
    if (s->objective == SP_OBJECTIVE_PROGRESSIVE)
        want = x0 * fmax(c.start_x0 / c.start_noise, 1);
    assert_float_equal(p, want, 1e-11);
    assert_float_equal(target, want, 1e-11);
}

static void exact_networks_have_no_loss(void **state)
{
    (void)state;
    for (int p = 0; p < SP_PREDICTION_FLOW; p++)
        for (int o = SP_OBJECTIVE_PCM; o < SP_OBJECTIVE_DMD; o++) {
            const sp_path path = path_of((sp_prediction)p);
            sp_objective_settings s = sp_objective_defaults((sp_objective)o);
            if (s.skip) s.skip = 70, s.solver_steps = 3;
            s.guidance_scale_w = 0;
            for (uint64_t i = 0; i < 200; i++)
                check_exact(&s, &path, sp_subpath_draw(&s, &path, 5, 6, i));
        }
}

static void rounds_share_the_steps(void **state)
{
    (void)state;
    sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_PROGRESSIVE);
    const sp_path path = path_of(SP_PREDICTION_V);
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
        assert_true(now.guidance_scale_w == (round ? 0 : 8));
        assert_int_equal(sp_subpath_at(&now, &path, size - 1).start, 999);
        for (int i = 0; i < size; i++) {
            sp_subpath sub = sp_subpath_at(&now, &path, i);
            int below = i ? sp_subpath_at(&now, &path, i - 1).start : 0;
            assert_int_equal(sub.end, below); /* neighbours touch */
            const sp_objective_settings before = sp_round_settings(&s, round - 1);
            if (round) /* the teacher is asked where it was trained */
                for (int j = 0; j < 2; j++)
                    assert_int_equal(sub.point[j],
                                     sp_subpath_at(&before, &path, 2 * i + 1 - j).start);
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
    const sp_path path = path_of(SP_PREDICTION_EPSILON);
    assert_status(sp_objective_check(&s, &path), SP_ARGUMENT);
    assert_message(words);
}

static void settings_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    for (int o = 0; o < SP_OBJECTIVE_COUNT; o++) {
        const sp_objective_settings good = sp_objective_defaults((sp_objective)o);
        const sp_path path = path_of(SP_PREDICTION_EPSILON);
        assert_ok(sp_objective_check(&good, &path));
        sp_objective_settings s = good;
        s.conditioning = o == SP_OBJECTIVE_SPLAM ? SP_GAMMA_NONE : SP_GAMMA_TIME;
        check_refused(s, "`gamma_conditioning`");
        s = good;
        s.phases = o == SP_OBJECTIVE_PCM ? 51 : 4;
        check_refused(s, "`phases`");
        s = good;
        s.rounds = o == SP_OBJECTIVE_PROGRESSIVE ? 0 : 2;
        check_refused(s, "`rounds`");
        s = good;
        s.skip = good.skip ? 0 : 20;
        check_refused(s, "`skip`");
        s = good;
        s.solver_steps = o == SP_OBJECTIVE_PROGRESSIVE ? 1 : 17;
        check_refused(s, "`solver_steps`");
        s = good;
        s.ddim_timesteps = o == SP_OBJECTIVE_PROGRESSIVE ? 50 : 1001;
        check_refused(s, o == SP_OBJECTIVE_DMD ? "`student_steps`" : "`num_ddim_timesteps`");
        s = good;
        s.fake_score_steps = o == SP_OBJECTIVE_DMD ? 0 : 5;
        check_refused(s, "`fake_score_steps`");
        s = good;
        s.gamma.grid = -1;
        check_refused(s, "`gamma_grid`");
        s = good;
        s.sigma = SP_SIGMA_CHORD;
        check_refused(s, "`sigma`");
        if (o == SP_OBJECTIVE_SPLAM) continue;
        s.sigma = SP_SIGMA_LINEAR;
        check_refused(s, "`sigma`");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gamma_one_is_lcm),
        cmocka_unit_test(sub_paths_may_shorten),
        cmocka_unit_test(min_snr_weighs_as_diffusers_do),
        cmocka_unit_test(inverse_lengths_are_one_in_the_mean),
        cmocka_unit_test(weights_without_use_are_refused),
        cmocka_unit_test(phases_are_the_samplers),
        cmocka_unit_test(tcd_to_zero_is_pcm),
        cmocka_unit_test(exact_networks_have_no_loss),
        cmocka_unit_test(rounds_share_the_steps),
        cmocka_unit_test(gamma_is_drawn_from_its_grid),
        cmocka_unit_test(settings_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
