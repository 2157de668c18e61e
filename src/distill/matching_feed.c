/* Feeding a step of distribution matching: draws, and the student's own steps up to the one that is trained. */
#include <string.h>
#include "base/memory.h"
#include "base/text.h"
#include "distill/distill_feed.h"
#include "models/discriminator.h"

static int64_t batch_of(const sp_distill_feed *f)
{
    return f->options->given.train_batch_size;
}

static int student_steps(const sp_distill_feed *f)
{
    return f->options->objective.ddim_timesteps;
}

static size_t values_per_row(const sp_distill_feed *f)
{
    return (size_t)(sp_tensor_count(&f->noise) / batch_of(f));
}

static bool has_discriminator(const sp_distill_feed *f)
{
    return sp_matching_has_discriminator(&f->options->objective);
}

/* ---- making ---- */

static sp_status create_noising(sp_shape latent, sp_noising *out)
{
    SP_TRY(sp_tensor_create(SP_F32, latent, &out->noise));
    out->timesteps = sp_alloc_zero((size_t)latent.dim[0] * sizeof *out->timesteps);
    return out->timesteps ? SP_OK : SP_MEMORY;
}

static sp_status create_discriminators(sp_distill_feed *f, sp_shape latent)
{
    if (!has_discriminator(f)) return SP_OK;
    SP_TRY(sp_tensor_create(SP_F32, latent, &f->x0));
    SP_TRY(create_noising(latent, &f->gan));
    return create_noising(latent, &f->data);
}

sp_status sp_matching_feed_create(sp_distill_feed *f, const sp_step_shape *s)
{
    int n = student_steps(f);
    sp_shape latent = sp_shape_of(s->batch, s->channels, s->height, s->width);
    SP_TRY(sp_tensor_create(SP_F32, latent, &f->z));
    f->step_noise = sp_alloc_zero((size_t)n * sizeof *f->step_noise);
    f->matching = sp_alloc_zero((size_t)s->batch * sizeof *f->matching);
    f->timesteps = sp_alloc_zero((size_t)s->batch * sizeof *f->timesteps);
    f->drawn = sp_alloc((size_t)n * values_per_row(f) * sizeof *f->drawn);
    if (!f->step_noise || !f->matching || !f->timesteps || !f->drawn) return SP_MEMORY;
    for (int j = 0; j < n; j++)
        SP_TRY(sp_tensor_create(SP_F32, latent, &f->step_noise[j]));
    return create_discriminators(f, latent);
}

size_t sp_matching_feed_bytes(const sp_distill_feed *f)
{
    if (!f->step_noise) return 0;
    size_t rows = (size_t)((student_steps(f) + 1) * batch_of(f) + student_steps(f));
    if (has_discriminator(f)) rows += (size_t)(2 * batch_of(f)); /* x0 is counted with all others' */
    return rows * values_per_row(f) * sizeof(float);
}

void sp_matching_feed_free(sp_distill_feed *f)
{
    sp_tensor_free(&f->z);
    for (int j = 0; f->step_noise && j < student_steps(f); j++)
        sp_tensor_free(&f->step_noise[j]);
    sp_free(f->step_noise);
    sp_free(f->matching);
    sp_free(f->timesteps);
    sp_free(f->drawn);
    sp_tensor_free(&f->gan.noise);
    sp_tensor_free(&f->data.noise);
    sp_free(f->gan.timesteps);
    sp_free(f->data.timesteps);
}

/* ---- draws ---- */

static void copy_row(const sp_distill_feed *f, const float *from, sp_tensor *to, int64_t row)
{
    size_t values = values_per_row(f);
    memcpy((float *)to->data + (size_t)row * values, from, values * sizeof(float));
}

static void draw_noise(const sp_distill_feed *f, int64_t micro, int64_t i, sp_stream stream, sp_tensor *to)
{
    size_t values = values_per_row(f);
    sp_random_normal(sp_feed_key(f, micro, i, stream), (float *)to->data + (size_t)i * values, values);
}

/* Sample i of what a discriminator is shown: the data's latents where it learns. */
static void draw_discriminators(sp_distill_feed *f, bool fake_score, int64_t micro, int64_t i)
{
    const sp_matching_range range = sp_matching_range_of(f->path, true);
    draw_noise(f, micro, i, SP_STREAM_GAN_NOISE, &f->gan.noise);
    f->gan.timesteps[i] = sp_matching_draw(range, sp_feed_key(f, micro, i, SP_STREAM_GAN_TIMESTEP));
    if (!fake_score) return;
    sp_feed_draw_latent(f, micro, i);
    draw_noise(f, micro, i, SP_STREAM_DATA_NOISE, &f->data.noise);
    f->data.timesteps[i] = sp_matching_draw(range, sp_feed_key(f, micro, i, SP_STREAM_DATA_TIMESTEP));
}

/* Sample i, whose student has taken j steps. */
static sp_status draw_sample(sp_distill_feed *f, bool fake_score, int64_t micro, int64_t i, int j)
{
    size_t values = values_per_row(f);
    SP_TRY(sp_feed_take(f, micro, i));
    draw_noise(f, micro, i, SP_STREAM_NOISE, &f->noise);
    sp_random_normal(sp_feed_key(f, micro, i, SP_STREAM_SIMULATED), f->drawn, (size_t)(j + 1) * values);
    for (int k = 0; k <= j; k++)
        copy_row(f, f->drawn + (size_t)k * values, &f->step_noise[k], i);
    f->timesteps[i] = sp_matching_draw(sp_matching_range_of(f->path, fake_score),
                                       sp_feed_key(f, micro, i, SP_STREAM_TIMESTEP));
    if (has_discriminator(f)) draw_discriminators(f, fake_score, micro, i);
    return SP_OK;
}

/* ---- replayed ---- */

static sp_status recorded_timesteps(sp_distill_feed *f, const char *name, int64_t micro, sp_matching_range range,
                                    int *timesteps)
{
    sp_tensor recorded;
    SP_TRY(sp_feed_recorded(f, name, micro, SP_I64, sp_shape_of(batch_of(f)), &recorded));
    for (int64_t i = 0; i < batch_of(f); i++) {
        int64_t t = sp_feed_integer_at(&recorded, i);
        if (t < range.low || t > range.high)
            return sp_fail(SP_FORMAT, "%s: \"%s.%lld\" is %lld, expected %d..%d", sp_tensor_file_path(f->draws), name,
                           (long long)micro, (long long)t, range.low, range.high);
        timesteps[i] = (int)t;
    }
    return SP_OK;
}

static sp_status recorded_latents(sp_distill_feed *f, const char *name, int64_t micro, sp_tensor *to)
{
    sp_tensor recorded;
    SP_TRY(sp_feed_recorded(f, name, micro, SP_F32, to->shape, &recorded));
    memcpy(to->data, recorded.data, sp_tensor_bytes(&recorded));
    return SP_OK;
}

/* The student's step that all samples have. */
static sp_status recorded_index(sp_distill_feed *f, int64_t micro, int *j)
{
    sp_tensor index;
    SP_TRY(sp_feed_recorded(f, "index", micro, SP_I64, sp_shape_of(batch_of(f)), &index));
    int64_t first = sp_feed_integer_at(&index, 0);
    for (int64_t i = 0; i < batch_of(f); i++) {
        int64_t own = sp_feed_integer_at(&index, i);
        if (own != first || own < 0 || own >= student_steps(f))
            return sp_fail(SP_FORMAT, "%s: \"index.%lld\" has %lld, expected 0..%d, the same for all of a step",
                           sp_tensor_file_path(f->draws), (long long)micro, (long long)own, student_steps(f) - 1);
    }
    *j = (int)first;
    return SP_OK;
}

static sp_status replay_discriminators(sp_distill_feed *f, bool fake_score, int64_t micro)
{
    const sp_matching_range range = sp_matching_range_of(f->path, true);
    if (!has_discriminator(f)) return SP_OK;
    SP_TRY(recorded_latents(f, "gan_noise", micro, &f->gan.noise));
    SP_TRY(recorded_timesteps(f, "gan_timestep", micro, range, f->gan.timesteps));
    if (!fake_score) return SP_OK;
    SP_TRY(recorded_latents(f, "latents", micro, &f->x0));
    SP_TRY(recorded_latents(f, "data_noise", micro, &f->data.noise));
    return recorded_timesteps(f, "data_timestep", micro, range, f->data.timesteps);
}

sp_status sp_matching_recorded_discriminator(const sp_distill_feed *f, sp_weights *fake_score)
{
    for (size_t i = 0; f->draws && i < sp_weights_count(fake_score); i++) {
        const char *name = sp_weights_name(fake_score, i);
        sp_tensor *weight = sp_weights_at(fake_score, i);
        const sp_tensor *recorded;
        if (!sp_starts_with(name, SP_DISCRIMINATOR ".")) continue;
        SP_TRY(sp_tensor_file_get(f->draws, name, &recorded));
        if (recorded->dtype != SP_F32 || !sp_shape_equal(recorded->shape, weight->shape))
            return sp_fail(SP_SHAPE, "%s: \"%s\" is %s %s, expected F32 %s", sp_tensor_file_path(f->draws), name,
                           sp_dtype_name(recorded->dtype), sp_shape_text(recorded->shape),
                           sp_shape_text(weight->shape));
        memcpy(weight->data, recorded->data, sp_tensor_bytes(weight));
    }
    return SP_OK;
}

/* "step_noise" has the noise of the student's n steps as n C channels. */
static sp_status replay_step_noise(sp_distill_feed *f, int64_t micro)
{
    sp_tensor own;
    sp_shape steps = f->noise.shape;
    size_t values = values_per_row(f);
    steps.dim[1] *= student_steps(f);
    SP_TRY(sp_feed_recorded(f, "step_noise", micro, SP_F32, steps, &own));
    for (int64_t i = 0; i < batch_of(f); i++)
        for (int k = 0; k < student_steps(f); k++)
            copy_row(f, (const float *)own.data + ((size_t)i * (size_t)student_steps(f) + (size_t)k) * values,
                     &f->step_noise[k], i);
    return SP_OK;
}

static sp_status replay(sp_distill_feed *f, bool fake_score, int64_t micro, int *j)
{
    SP_TRY(recorded_latents(f, "noise", micro, &f->noise));
    SP_TRY(replay_step_noise(f, micro));
    SP_TRY(sp_feed_replay_conditioning(f, micro));
    SP_TRY(recorded_index(f, micro, j));
    SP_TRY(recorded_timesteps(f, "timestep", micro, sp_matching_range_of(f->path, fake_score), f->timesteps));
    return replay_discriminators(f, fake_score, micro);
}

/* ---- both ---- */

static sp_status draw(sp_distill_feed *f, bool fake_score, int64_t micro, int *j)
{
    if (f->draws) return replay(f, fake_score, micro, j);
    const sp_random_key key = sp_feed_key(f, micro, 0, SP_STREAM_SUBPATH);
    *j = sp_matching_student_step(&f->options->objective, key.seed, key.step);
    for (int64_t i = 0; i < batch_of(f); i++)
        SP_TRY(draw_sample(f, fake_score, micro, i, *j));
    return SP_OK;
}

/* ---- the student's own steps ---- */

/* f->z from tau_j to tau_{j+1}. */
static sp_status simulate_step(sp_distill_feed *f, int j)
{
    sp_tensor next = {0};
    for (int64_t i = 0; i < batch_of(f); i++)
        f->matching[i] =
            sp_matching_coefficients_of(&f->options->objective, f->path, SP_STEP_AHEAD, j, 0);
    SP_TRY(sp_run_set_input(f->ahead, "z", &f->z));
    SP_TRY(sp_run_set_input(f->ahead, "noise", &f->step_noise[j + 1]));
    SP_TRY(sp_conditioning_set(f->ahead, "", &f->conditioning));
    SP_TRY(sp_matching_set_coefficients(f->ahead, f->matching, batch_of(f)));
    SP_TRY(sp_run_execute(f->ahead, f->callbacks));
    SP_TRY(sp_run_get_output(f->ahead, "next", &next));
    memcpy(f->z.data, next.data, sp_tensor_bytes(&f->z));
    sp_tensor_free(&next);
    return SP_OK;
}

static sp_status set_discriminators(const sp_distill_feed *f, sp_run *run, bool fake_score)
{
    SP_TRY(sp_run_set_input(run, "gan_noise", &f->gan.noise));
    if (!fake_score) return SP_OK;
    SP_TRY(sp_run_set_input(run, "x0", &f->x0));
    return sp_run_set_input(run, "data_noise", &f->data.noise);
}

sp_status sp_matching_feed_run(sp_distill_feed *f, sp_run *run, int64_t micro)
{
    const sp_objective_settings *s = &f->options->objective;
    int64_t step = micro / f->options->given.gradient_accumulation_steps;
    bool fake_score = sp_matching_turn_of(s, step).fake_score;
    sp_step_part part = fake_score ? SP_STEP_FAKE_SCORE : SP_STEP_STUDENT;
    int j = 0;
    SP_TRY(draw(f, fake_score, micro, &j));
    memcpy(f->z.data, f->step_noise[0].data, sp_tensor_bytes(&f->z));
    for (int k = 0; k < j; k++)
        SP_TRY(simulate_step(f, k));
    for (int64_t i = 0; i < batch_of(f); i++) {
        f->matching[i] = sp_matching_coefficients_of(s, f->path, part, j, f->timesteps[i]);
        if (has_discriminator(f))
            sp_matching_add_discriminator(f->path, f->gan.timesteps[i], f->data.timesteps[i], &f->matching[i]);
    }
    SP_TRY(sp_run_set_input(run, "z", &f->z));
    SP_TRY(sp_run_set_input(run, "noise", &f->noise));
    if (has_discriminator(f)) SP_TRY(set_discriminators(f, run, fake_score));
    SP_TRY(sp_conditioning_set(run, "", &f->conditioning));
    if (!fake_score && sp_objective_is_guided(s)) SP_TRY(sp_conditioning_set(run, "negative.", &f->negative));
    return sp_matching_set_coefficients(run, f->matching, batch_of(f));
}
