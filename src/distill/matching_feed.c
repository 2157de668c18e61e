/* Feeding a step of distribution matching: draws, and the student's own steps up to the one that is trained. */
#include <string.h>
#include "base/memory.h"
#include "distill/distill_feed.h"

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

/* ---- making ---- */

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
    return SP_OK;
}

size_t sp_matching_feed_bytes(const sp_distill_feed *f)
{
    if (!f->step_noise) return 0;
    size_t rows = (size_t)((student_steps(f) + 1) * batch_of(f) + student_steps(f));
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
}

/* ---- draws ---- */

static void copy_row(const sp_distill_feed *f, const float *from, sp_tensor *to, int64_t row)
{
    size_t values = values_per_row(f);
    memcpy((float *)to->data + (size_t)row * values, from, values * sizeof(float));
}

/* Sample i, whose student has taken j steps. */
static sp_status draw_sample(sp_distill_feed *f, bool fake_score, int64_t micro, int64_t i, int j)
{
    const sp_random_key noise = sp_feed_key(f, micro, i, SP_STREAM_NOISE),
                        own = sp_feed_key(f, micro, i, SP_STREAM_SIMULATED);
    size_t values = values_per_row(f);
    SP_TRY(sp_feed_take(f, micro, i));
    sp_random_normal(noise, (float *)f->noise.data + (size_t)i * values, values);
    sp_random_normal(own, f->drawn, (size_t)(j + 1) * values);
    for (int k = 0; k <= j; k++)
        copy_row(f, f->drawn + (size_t)k * values, &f->step_noise[k], i);
    f->timesteps[i] = sp_matching_draw(f->path, fake_score, noise.seed, noise.step, noise.sample);
    return SP_OK;
}

/* j and the samples' t, as they were recorded. */
static sp_status recorded_steps(sp_distill_feed *f, bool fake_score, const sp_tensor *index, const sp_tensor *timestep,
                                int *j)
{
    int low = sp_matching_lowest(f->path, fake_score), high = sp_matching_highest(f->path, fake_score);
    int64_t first = sp_feed_integer_at(index, 0);
    for (int64_t i = 0; i < batch_of(f); i++) {
        int64_t own = sp_feed_integer_at(index, i), t = sp_feed_integer_at(timestep, i);
        if (own != first || own < 0 || own >= student_steps(f) || t < low || t > high)
            return sp_fail(
                SP_FORMAT,
                "%s: a draw has index %lld and timestep %lld, expected 0..%d, the same for all of a step, and %d..%d",
                sp_tensor_file_path(f->draws), (long long)own, (long long)t, student_steps(f) - 1, low, high);
        f->timesteps[i] = (int)t;
    }
    *j = (int)first;
    return SP_OK;
}

/* "step_noise" has the noise of the student's n steps as n C channels. */
static sp_status replay(sp_distill_feed *f, bool fake_score, int64_t micro, int *j)
{
    sp_tensor noise, own, index, timestep;
    sp_shape one = sp_shape_of(batch_of(f)), steps = f->noise.shape;
    size_t values = values_per_row(f);
    steps.dim[1] *= student_steps(f);
    SP_TRY(sp_feed_recorded(f, "noise", micro, SP_F32, f->noise.shape, &noise));
    SP_TRY(sp_feed_recorded(f, "step_noise", micro, SP_F32, steps, &own));
    SP_TRY(sp_feed_recorded(f, "index", micro, SP_I64, one, &index));
    SP_TRY(sp_feed_recorded(f, "timestep", micro, SP_I64, one, &timestep));
    SP_TRY(sp_feed_replay_conditioning(f, micro));
    memcpy(f->noise.data, noise.data, sp_tensor_bytes(&noise));
    for (int64_t i = 0; i < batch_of(f); i++)
        for (int k = 0; k < student_steps(f); k++)
            copy_row(f, (const float *)own.data + ((size_t)i * (size_t)student_steps(f) + (size_t)k) * values,
                     &f->step_noise[k], i);
    return recorded_steps(f, fake_score, &index, &timestep, j);
}

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
            sp_matching_coefficients_of(&f->options->objective, f->path, SP_MATCHING_SIMULATION, j, 0);
    SP_TRY(sp_run_set_input(f->simulation, "z", &f->z));
    SP_TRY(sp_run_set_input(f->simulation, "noise", &f->step_noise[j + 1]));
    SP_TRY(sp_conditioning_set(f->simulation, "", &f->conditioning));
    SP_TRY(sp_matching_set_coefficients(f->simulation, f->matching, batch_of(f)));
    SP_TRY(sp_run_execute(f->simulation, f->callbacks));
    SP_TRY(sp_run_get_output(f->simulation, "next", &next));
    memcpy(f->z.data, next.data, sp_tensor_bytes(&f->z));
    sp_tensor_free(&next);
    return SP_OK;
}

sp_status sp_matching_feed_run(sp_distill_feed *f, sp_run *run, int64_t micro)
{
    const sp_objective_settings *s = &f->options->objective;
    int64_t step = micro / f->options->given.gradient_accumulation_steps;
    bool fake_score = sp_matching_turn_of(s, step).fake_score;
    sp_matching_part part = fake_score ? SP_MATCHING_FAKE_SCORE : SP_MATCHING_STUDENT;
    int j = 0;
    SP_TRY(draw(f, fake_score, micro, &j));
    memcpy(f->z.data, f->step_noise[0].data, sp_tensor_bytes(&f->z));
    for (int k = 0; k < j; k++)
        SP_TRY(simulate_step(f, k));
    for (int64_t i = 0; i < batch_of(f); i++)
        f->matching[i] = sp_matching_coefficients_of(s, f->path, part, j, f->timesteps[i]);
    SP_TRY(sp_run_set_input(run, "z", &f->z));
    SP_TRY(sp_run_set_input(run, "noise", &f->noise));
    SP_TRY(sp_conditioning_set(run, "", &f->conditioning));
    if (!fake_score && sp_objective_is_guided(s)) SP_TRY(sp_conditioning_set(run, "negative.", &f->negative));
    return sp_matching_set_coefficients(run, f->matching, batch_of(f));
}
