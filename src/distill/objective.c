/* The settings of objectives: names, defaults, what goes together, rounds. */
#include "distill/objective.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"

#define X(name, text) text,
static const char *const objective_names[] = {SP_OBJECTIVE_LIST(X)};
static const char *const sigma_names[] = {SP_SIGMA_LIST(X)};
static const char *const weighting_names[] = {SP_LOSS_WEIGHTING_LIST(X)};
static const char *const conditioning_names[] = {SP_GAMMA_CONDITIONING_LIST(X)};
static const char *const start_names[] = {SP_START_LIST(X)};
#undef X
#define X(name, text) [SP_LOSS_##name] = text,
static const char *const loss_names[] = {SP_LOSS_TYPE_LIST(X)};
#undef X

const char *sp_objective_name(sp_objective objective)
{
    return objective_names[objective];
}

const char *sp_sigma_name(sp_sigma_form sigma)
{
    return sigma_names[sigma];
}

const char *sp_gamma_conditioning_name(sp_gamma_conditioning conditioning)
{
    return conditioning_names[conditioning];
}

const char *sp_loss_weighting_name(sp_loss_weighting weighting)
{
    return weighting_names[weighting];
}

const char *sp_start_name(sp_start_kind starts)
{
    return start_names[starts];
}

const char *sp_loss_type_name(sp_loss_kind kind)
{
    return loss_names[kind];
}

sp_status sp_objective_of(const char *name, sp_objective *out)
{
    int index;
    SP_TRY(sp_name_index("objective", name, objective_names, SP_OBJECTIVE_COUNT, &index));
    *out = (sp_objective)index;
    return SP_OK;
}

sp_status sp_sigma_of(const char *name, sp_sigma_form *out)
{
    int index;
    SP_TRY(sp_name_index("sigma", name, sigma_names, SP_SIGMA_COUNT, &index));
    *out = (sp_sigma_form)index;
    return SP_OK;
}

sp_status sp_gamma_conditioning_of(const char *name, sp_gamma_conditioning *out)
{
    int index;
    SP_TRY(sp_name_index("gamma conditioning", name, conditioning_names,
                         SP_GAMMA_CONDITIONING_COUNT, &index));
    *out = (sp_gamma_conditioning)index;
    return SP_OK;
}

sp_status sp_loss_type_of(const char *name, sp_loss_kind *out)
{
    int index;
    SP_TRY(sp_name_index("loss type", name, loss_names, sizeof loss_names / sizeof *loss_names, &index));
    *out = (sp_loss_kind)index;
    return SP_OK;
}

sp_status sp_loss_weighting_of(const char *name, sp_loss_weighting *out)
{
    int index;
    SP_TRY(sp_name_index("loss weighting", name, weighting_names, SP_WEIGHTING_COUNT, &index));
    *out = (sp_loss_weighting)index;
    return SP_OK;
}

sp_status sp_start_of(const char *name, sp_start_kind *out)
{
    int index;
    SP_TRY(sp_name_index("timestep sampling", name, start_names, SP_START_COUNT, &index));
    *out = (sp_start_kind)index;
    return SP_OK;
}

/* ---- settings ---- */

sp_objective_settings sp_objective_defaults(sp_objective objective)
{
    sp_objective_settings s = {.objective = objective,
                               .gamma = {.power = 1, .grid = 1},
                               .guidance_scale_w = 8,
                               .ddim_timesteps = 50,
                               .skip = 20,
                               .skip_to = 20,
                               .solver_steps = 1,
                               .rounds = 1,
                               .loss = {.kind = SP_LOSS_HUBER, .huber_c = 1e-3},
                               .snr_gamma = 5};
    if (objective == SP_OBJECTIVE_SPLAM) {
        s.conditioning = SP_GAMMA_EMBEDDING;
        s.gamma.grid = 0;
    } else if (objective == SP_OBJECTIVE_PCM) {
        s.phases = 4;
    } else if (objective == SP_OBJECTIVE_PROGRESSIVE) {
        s.ddim_timesteps = 64;
        s.skip = s.skip_to = 0;
        s.solver_steps = 2;
        s.rounds = 4;
        s.loss.kind = SP_LOSS_L2;
    } else if (objective == SP_OBJECTIVE_DMD) {
        s.ddim_timesteps = 4;
        s.skip = s.skip_to = 0;
        s.fake_score_steps = 5;
        s.loss.kind = SP_LOSS_L2;
    }
    return s;
}

sp_status sp_objective_useless(sp_objective objective, const char *member, const char *used_by)
{
    return sp_fail(SP_ARGUMENT, "`%s` says nothing to `objective` %s; it is for %s", member,
                   sp_objective_name(objective), used_by);
}

/* Only a splam student stands anywhere but at the start of its sub-path. */
static sp_status check_gamma(const sp_objective_settings *s)
{
    const sp_gamma_distribution *g = &s->gamma;
    if (s->objective != SP_OBJECTIVE_SPLAM) {
        if (s->conditioning != SP_GAMMA_NONE)
            return sp_objective_useless(s->objective, "gamma_conditioning", "splam");
        if (g->grid != 1) return sp_objective_useless(s->objective, "gamma_grid", "splam");
        if (s->sigma != SP_SIGMA_QUADRATIC)
            return sp_objective_useless(s->objective, "sigma", "splam");
        return SP_OK;
    }
    if (s->conditioning == SP_GAMMA_NONE)
        return sp_fail(
            SP_ARGUMENT,
            "`gamma_conditioning` is \"none\", and splam must tell its student gamma, by "
            "embedding or time");
    if (s->sigma == SP_SIGMA_CHORD && s->conditioning != SP_GAMMA_TIME)
        return sp_fail(SP_ARGUMENT,
                       "`sigma` chord puts the student at a timestep of its own, so it needs `gamma_conditioning` "
                       "time and not %s",
                       sp_gamma_conditioning_name(s->conditioning));
    if (!(g->one_probability >= 0 && g->one_probability <= 1))
        return sp_fail(SP_ARGUMENT, "`gamma_one_probability` is %g, expected 0 to 1",
                       g->one_probability);
    if (!(g->power > 0 && g->power <= 100))
        return sp_fail(SP_ARGUMENT, "`gamma_power` is %g, expected more than 0 and at most 100",
                       g->power);
    if (g->grid < 0) return sp_fail(SP_ARGUMENT, "`gamma_grid` is %d, expected 1 or more", g->grid);
    return SP_OK;
}

/* cond_proj tells w where it is drawn, and gamma where that is embedded. */
static sp_status check_guidance(const sp_objective_settings *s)
{
    if (s->guidance.high <= 0) return SP_OK;
    if (s->objective != SP_OBJECTIVE_LCM && s->objective != SP_OBJECTIVE_SPLAM)
        return sp_objective_useless(s->objective, "guidance_range", "lcm and splam");
    if (s->conditioning != SP_GAMMA_EMBEDDING) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`guidance_range` tells the student its guidance by cond_proj, and "
                                "`gamma_conditioning` embedding gamma; take `gamma_conditioning` time");
}

/* M must be n^R times the steps of the last round. */
static sp_status check_rounds(const sp_objective_settings *s)
{
    if (s->skip != 0 || s->skip_to != 0) return sp_objective_useless(s->objective, "skip", "splam, lcm, pcm and tcd");
    if (s->solver_steps < 2)
        return sp_fail(SP_ARGUMENT,
                       "`solver_steps` is %d, and progressive needs 2 at least to make one of",
                       s->solver_steps);
    if (s->rounds < 1) return sp_fail(SP_ARGUMENT, "`rounds` is %d, expected 1 or more", s->rounds);
    int steps = s->ddim_timesteps;
    for (int r = 0; r < s->rounds; r++) {
        if (steps % s->solver_steps)
            return sp_fail(
                SP_ARGUMENT,
                "`num_ddim_timesteps` is %d, which cannot be divided by `solver_steps` %d "
                "in each of `rounds` %d",
                s->ddim_timesteps, s->solver_steps, s->rounds);
        steps /= s->solver_steps;
    }
    return SP_OK;
}

static sp_status check_subpath(const sp_objective_settings *s, int timesteps)
{
    if (s->rounds != 1) return sp_objective_useless(s->objective, "rounds", "progressive");
    int least = s->skip < s->skip_to ? s->skip : s->skip_to, most = s->skip > s->skip_to ? s->skip : s->skip_to;
    if (least < 1 || most > timesteps)
        return sp_fail(SP_ARGUMENT, "`skip` is %d, expected 1 to %d", least < 1 ? least : most, timesteps);
    if (s->solver_steps > least)
        return sp_fail(SP_ARGUMENT, "`solver_steps` is %d, and `skip` %d allows no more than that",
                       s->solver_steps, least);
    return SP_OK;
}

static sp_status check_matching(const sp_objective_settings *s)
{
    if (s->skip != 0 || s->skip_to != 0) return sp_objective_useless(s->objective, "skip", "splam, lcm, pcm and tcd");
    if (s->solver_steps != 1) return sp_objective_useless(s->objective, "solver_steps", "objectives with sub-paths");
    if (s->rounds != 1) return sp_objective_useless(s->objective, "rounds", "progressive");
    if (s->loss.kind != SP_LOSS_L2)
        return sp_objective_useless(s->objective, "loss_type", "objectives with sub-paths");
    if (s->fake_score_steps < 1)
        return sp_fail(SP_ARGUMENT, "`fake_score_steps` is %d, expected 1 or more", s->fake_score_steps);
    if (!(s->gan_weight >= 0 && isfinite(s->gan_weight)))
        return sp_fail(SP_ARGUMENT, "`gan_weight` is %g, expected 0 (no discriminator) or more", s->gan_weight);
    if (s->gan_weight > 0 && !(s->gan_fake_score_weight > 0 && isfinite(s->gan_fake_score_weight)))
        return sp_fail(SP_ARGUMENT, "`gan_fake_score_weight` is %g, expected more than 0: it is what the discriminator "
                                    "of `gan_weight` learns by", s->gan_fake_score_weight);
    return SP_OK;
}

/* Whether the objective has use for its weights: see above what they are made of. */
static sp_status check_weighting(const sp_objective_settings *s)
{
    bool compares_x0 = s->objective == SP_OBJECTIVE_SPLAM || s->objective == SP_OBJECTIVE_LCM;
    bool min_snr = s->weighting == SP_WEIGHTING_MIN_SNR;
    if (s->weighting == SP_WEIGHTING_NONE) return SP_OK;
    if (min_snr ? compares_x0 : compares_x0 || s->objective == SP_OBJECTIVE_PCM || s->objective == SP_OBJECTIVE_TCD)
        return SP_OK;
    return sp_fail(SP_ARGUMENT, "`loss_weighting` %s says nothing to `objective` %s; it is for %s",
                   weighting_names[s->weighting], sp_objective_name(s->objective),
                   min_snr ? "splam and lcm" : "splam, lcm, pcm and tcd");
}

/* Where the path ends without signal. */
static sp_status check_end(const sp_objective_settings *s, const sp_path *path)
{
    const char *end = path->kind == SP_PATH_FLOW
                          ? "the teacher is a flow model, whose trajectories begin without signal"
                          : "the teacher's schedule ends without signal (\"rescale_betas_zero_snr\")";
    if (!sp_path_ends_without_signal(path)) return SP_OK;
    if (path->prediction == SP_PREDICTION_EPSILON)
        return sp_fail(SP_UNSUPPORTED, "%s, where its prediction_type epsilon says nothing of the latent", end);
    if (s->objective != SP_OBJECTIVE_SPLAM || s->sigma == SP_SIGMA_CHORD) return SP_OK;
    return sp_fail(SP_UNSUPPORTED,
                   "`sigma` %s with `gamma_conditioning` %s is not possible: %s, where all points of a sub-path are "
                   "noise alone; take `sigma` chord and `gamma_conditioning` time",
                   sp_sigma_name(s->sigma), sp_gamma_conditioning_name(s->conditioning), end);
}

/* Of a grid there is no other distribution, and no table of timesteps was trained so. */
static sp_status check_starts(const sp_objective_settings *s, const sp_path *path)
{
    if (s->starts == SP_START_GRID) return SP_OK;
    if (s->objective == SP_OBJECTIVE_PROGRESSIVE || s->objective == SP_OBJECTIVE_DMD)
        return sp_objective_useless(s->objective, "timestep_sampling", "splam, lcm, pcm and tcd");
    if (path->kind == SP_PATH_FLOW) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`timestep_sampling` %s is how flow models are trained, and the teacher is none",
                   start_names[s->starts]);
}

sp_status sp_objective_check(const sp_objective_settings *s, const sp_path *path)
{
    int timesteps = path->timesteps;
    bool dmd = s->objective == SP_OBJECTIVE_DMD;
    int most = dmd && timesteps > SP_MAX_STUDENT_STEPS ? SP_MAX_STUDENT_STEPS : timesteps;
    if (s->ddim_timesteps < 1 || s->ddim_timesteps > most)
        return sp_fail(SP_ARGUMENT, "`%s` is %d, expected 1 to %d", dmd ? "student_steps" : "num_ddim_timesteps",
                       s->ddim_timesteps, most);
    if (s->solver_steps < 1 || s->solver_steps > SP_MAX_SOLVER_STEPS)
        return sp_fail(SP_ARGUMENT, "`solver_steps` is %d, expected 1 to %d", s->solver_steps,
                       SP_MAX_SOLVER_STEPS);
    bool pcm = s->objective == SP_OBJECTIVE_PCM;
    if (!pcm && s->phases != 0) return sp_objective_useless(s->objective, "phases", "pcm");
    if (pcm && (s->phases < 1 || s->phases > s->ddim_timesteps))
        return sp_fail(SP_ARGUMENT, "`phases` is %d, expected 1 to %d (`num_ddim_timesteps`)",
                       s->phases, s->ddim_timesteps);
    if (!dmd && s->fake_score_steps != 0) return sp_objective_useless(s->objective, "fake_score_steps", "dmd");
    if (!dmd && s->gan_weight != 0) return sp_objective_useless(s->objective, "gan_weight", "dmd");
    SP_TRY(check_gamma(s));
    SP_TRY(check_guidance(s));
    SP_TRY(check_weighting(s));
    SP_TRY(check_end(s, path));
    SP_TRY(check_starts(s, path));
    if (dmd) return check_matching(s);
    return s->objective == SP_OBJECTIVE_PROGRESSIVE ? check_rounds(s) : check_subpath(s, timesteps);
}

int sp_objective_distilled_steps(const sp_objective_settings *s)
{
    if (s->objective == SP_OBJECTIVE_PROGRESSIVE)
        return sp_round_settings(s, s->rounds - 1).ddim_timesteps;
    return s->objective == SP_OBJECTIVE_DMD ? s->ddim_timesteps : s->phases;
}

bool sp_objective_has_cond_proj(const sp_objective_settings *s)
{
    return s->conditioning == SP_GAMMA_EMBEDDING || s->guidance.high > 0;
}

bool sp_objective_asks_average(const sp_objective_settings *s)
{
    return s->objective != SP_OBJECTIVE_PROGRESSIVE && s->objective != SP_OBJECTIVE_DMD;
}

/* ---- rounds ---- */

int sp_round_of_step(const sp_objective_settings *s, int64_t step, int64_t max_steps)
{
    return (int)(step * s->rounds / max_steps);
}

int64_t sp_round_begin(const sp_objective_settings *s, int round, int64_t max_steps)
{
    return (round * max_steps + s->rounds - 1) / s->rounds;
}

sp_objective_settings sp_round_settings(const sp_objective_settings *s, int round)
{
    sp_objective_settings now = *s;
    if (s->objective != SP_OBJECTIVE_PROGRESSIVE) return now;
    for (int r = 0; r <= round; r++)
        now.ddim_timesteps /= s->solver_steps;
    if (round > 0) now.guidance_scale_w = 0;
    return now;
}

/* ---- steps ---- */

static int skip_at(const sp_objective_settings *s, int64_t step, int64_t max_steps)
{
    if (s->skip == s->skip_to || max_steps < 2) return s->skip;
    double ratio = (double)s->skip_to / s->skip, done = (double)step / (double)(max_steps - 1);
    return (int)floor(s->skip * pow(ratio, done) + 0.5);
}

sp_objective_settings sp_step_settings(const sp_objective_settings *s, int64_t step, int64_t max_steps)
{
    sp_objective_settings now = sp_round_settings(s, sp_round_of_step(s, step, max_steps));
    now.skip = now.skip_to = skip_at(s, step, max_steps);
    return now;
}
