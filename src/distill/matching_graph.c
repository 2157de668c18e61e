/* The steps of distribution matching as graphs. */
#include "distill/matching.h"
#include "distill/step_graph.h"
#include "models/discriminator.h"
#include "models/initialize.h"

/* The student's output at (z, tau). */
static sp_value *student_output(sp_step_graph *g, const sp_block_options *options, sp_value *z)
{
    return sp_step_network(g, "online", g->shape->student, options, z, sp_step_coefficient(g, "student_timestep"),
                           NULL);
}

static sp_value *made(sp_step_graph *g, sp_value *z, sp_value *m)
{
    return sp_step_combine(g, sp_step_coefficient(g, "made_z"), z, sp_step_coefficient(g, "made_m"), m);
}

static sp_value *noised(sp_step_graph *g, sp_value *x, sp_value *noise)
{
    return sp_step_combine(g, sp_step_coefficient(g, "noised_x"), x, sp_step_coefficient(g, "noised_noise"), noise);
}

static sp_value *fake_output(sp_step_graph *g, const sp_block_options *options, sp_value *z)
{
    return sp_step_network(g, SP_FAKE_SCORE, g->shape->teacher, options, z, sp_step_coefficient(g, "score_timestep"),
                           NULL);
}

static sp_value *real_estimate(sp_step_graph *g, sp_value *z)
{
    sp_value *cond, *uncond;
    sp_step_teacher(g, z, sp_step_coefficient(g, "score_timestep"), &cond, &uncond);
    sp_value *terms[6] = {sp_step_coefficient(g, "estimate_z"), z, sp_step_coefficient(g, "real_cond"), cond};
    if (!uncond) return sp_sample_combine(g->b, 2, terms);
    terms[4] = sp_step_coefficient(g, "real_uncond");
    terms[5] = uncond;
    return sp_sample_combine(g->b, 3, terms);
}

/* x - g. */
static sp_value *matched(sp_step_graph *g, sp_value *x, sp_value *noise)
{
    sp_builder *b = g->b;
    sp_value *still = sp_stop_gradient(b, x), *z = noised(g, still, noise);
    sp_stage_enter(b, "teacher");
    sp_value *real = real_estimate(g, z);
    sp_stage_leave(b);
    sp_stage_enter(b, "target");
    sp_value *fake = sp_step_combine(g, sp_step_coefficient(g, "estimate_z"), z, sp_step_coefficient(g, "estimate_m"),
                                     fake_output(g, NULL, z));
    sp_value *weight = sp_inverse_mean_abs(b, sp_add_scaled(b, still, real, -1));
    sp_value *terms[] = {weight, sp_add_scaled(b, fake, real, -1)};
    sp_value *target = sp_add_scaled(b, still, sp_sample_combine(b, 1, terms), -1);
    sp_stage_leave(b);
    return sp_stop_gradient(b, target);
}

/* ---- the discriminator ---- */

/* D of latents z at `timestep`, on the fake score's features. Blocks are counted on from those of a whole UNet. */
static sp_value *logits(sp_step_graph *g, sp_value *z, sp_value *timestep)
{
    const sp_unet_config *unet = &g->shape->teacher->unet;
    const sp_block_options options = {.recompute = g->shape->recompute, .first_block = sp_unet_block_count(unet)};
    sp_value *features = sp_step_features(g, SP_FAKE_SCORE, &options, z, timestep);
    sp_set_enter(g->b, SP_FAKE_SCORE, SP_RATE_STEP, NULL, NULL); /* its own weights, over adapters too */
    sp_value *d = sp_discriminator(g->b, features, unet->groups);
    sp_set_leave(g->b);
    return d;
}

static sp_value *noised_student(sp_step_graph *g, sp_value *x)
{
    return sp_step_combine(g, sp_step_coefficient(g, "gan_x"), x, sp_step_coefficient(g, "gan_sigma"),
                           sp_step_latent(g, "gan_noise"));
}

static sp_value *noised_data(sp_step_graph *g)
{
    return sp_step_combine(g, sp_step_coefficient(g, "data_x0"), sp_step_latent(g, "x0"),
                           sp_step_coefficient(g, "data_sigma"), sp_step_latent(g, "data_noise"));
}

/* mean softplus(sign D), an output of its own. */
static sp_value *gan_loss(sp_step_graph *g, const char *output, sp_value *d, double sign)
{
    sp_value *loss = sp_mean(g->b, sp_unary(g->b, SP_UNARY_SOFTPLUS, sp_affine(g->b, d, sign, 0)));
    sp_output(g->b, output, loss);
    return loss;
}

/* loss + weight (what the student's latents are short of the data's). */
static sp_value *with_student_gan(sp_step_graph *g, sp_value *loss, sp_value *x)
{
    if (!sp_matching_has_discriminator(g->settings)) return loss;
    sp_output(g->b, "loss_matching", loss);
    sp_value *d = logits(g, noised_student(g, x), sp_step_coefficient(g, "gan_timestep"));
    return sp_add_scaled(g->b, loss, gan_loss(g, "loss_gan", d, -1), g->settings->gan_weight);
}

/* loss + weight (how badly the two are told apart); the student's latents and the data's are one batch. */
static sp_value *with_fake_score_gan(sp_step_graph *g, sp_value *loss, sp_value *x)
{
    sp_builder *b = g->b;
    int64_t batch = g->shape->batch;
    if (!sp_matching_has_discriminator(g->settings)) return loss;
    sp_output(b, "loss_denoising", loss);
    sp_value *z[] = {noised_student(g, x), noised_data(g)};
    sp_value *t[] = {sp_step_coefficient(g, "gan_timestep"), sp_step_coefficient(g, "data_timestep")};
    sp_value *d = logits(g, sp_concat(b, 2, z, 0), sp_concat(b, 2, t, 0));
    sp_value *fake = gan_loss(g, "loss_gan_fake", sp_slice(b, d, 0, 0, batch), 1),
             *real = gan_loss(g, "loss_gan_real", sp_slice(b, d, 0, batch, batch), -1);
    return sp_add_scaled(b, loss, sp_add(b, fake, real), g->settings->gan_fake_score_weight);
}

/* ---- steps ---- */

static const sp_loss_options l2 = {.kind = SP_LOSS_L2};

static sp_status build_student(sp_step_graph *g)
{
    const sp_block_options options = {.recompute = g->shape->recompute};
    sp_stage_enter(g->b, "forward");
    sp_value *z = sp_step_latent(g, "z"), *noise = sp_step_latent(g, "noise");
    sp_step_conditioning(g, sp_objective_is_guided(g->settings));
    sp_value *x = made(g, z, student_output(g, &options, z)), *target = matched(g, x, noise);
    sp_value *loss = sp_affine(g->b, sp_loss(g->b, x, target, NULL, l2), 0.5, 0);
    return sp_step_outputs(g, with_student_gan(g, loss, x), x, target, "online");
}

static sp_status build_fake_score(sp_step_graph *g)
{
    sp_builder *b = g->b;
    const sp_block_options options = {.recompute = g->shape->recompute};
    sp_stage_enter(b, "target");
    sp_value *z = sp_step_latent(g, "z"), *noise = sp_step_latent(g, "noise");
    sp_step_conditioning(g, false);
    sp_value *x = sp_stop_gradient(b, made(g, z, student_output(g, NULL, z)));
    sp_value *target = sp_stop_gradient(b, sp_step_combine(g, sp_step_coefficient(g, "wanted_x"), x,
                                                           sp_step_coefficient(g, "wanted_noise"), noise));
    sp_stage_leave(b);
    sp_stage_enter(b, "forward");
    sp_value *m = fake_output(g, &options, noised(g, x, noise)), *loss = sp_loss(b, m, target, NULL, l2);
    return sp_step_outputs(g, with_fake_score_gan(g, loss, x), m, target, SP_FAKE_SCORE);
}

static sp_status build_simulation(sp_step_graph *g)
{
    sp_value *z = sp_step_latent(g, "z");
    sp_step_conditioning(g, false);
    sp_value *terms[] = {sp_step_coefficient(g, "made_z"), z,
                         sp_step_coefficient(g, "made_m"), student_output(g, NULL, z),
                         sp_step_coefficient(g, "made_noise"), sp_step_latent(g, "noise")};
    sp_output(g->b, "next", sp_nhwc_to_nchw(g->b, sp_sample_combine(g->b, 3, terms)));
    if (sp_builder_failed(g->b)) return SP_INTERNAL;
    SP_TRY(sp_pass_fuse(sp_builder_graph(g->b)));
    return sp_pass_fuse_inference(sp_builder_graph(g->b));
}

sp_status sp_matching_graph(const sp_objective_settings *settings, const sp_step_shape *shape, sp_step_part part,
                            sp_graph **out)
{
    static sp_status (*const builders[SP_STEP_PARTS])(sp_step_graph *) = {
        [SP_STEP_STUDENT] = build_student,
        [SP_STEP_FAKE_SCORE] = build_fake_score,
        [SP_STEP_AHEAD] = build_simulation,
    };
    return sp_step_graph_make(settings, shape, builders[part], out);
}

/* What has weights already keeps them. */
sp_status sp_matching_discriminator_start(const sp_objective_settings *settings, const sp_step_shape *shape,
                                          uint64_t seed, sp_weights *fake_score)
{
    const sp_initialize_options options = {.seed = seed};
    sp_graph *graph;
    SP_TRY(sp_matching_graph(settings, shape, SP_STEP_FAKE_SCORE, &graph));
    sp_status status = sp_initialize(graph, SP_FAKE_SCORE, &options, fake_score);
    sp_graph_destroy(graph);
    return status;
}
