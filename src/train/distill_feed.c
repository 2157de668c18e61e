/* Feeding a distillation step. */
#include "train/distill_feed.h"
#include "base/memory.h"
#include "base/random.h"

/* ---- drawn from data ---- */

static sp_status encode_captions(sp_distill_feed *f, sp_pipeline *teacher)
{
    int64_t count = sp_dataset_training_count(f->dataset);
    const char **captions = sp_alloc((size_t)count * sizeof *captions);
    if (!captions) return SP_MEMORY;
    for (int64_t k = 0; k < count; k++)
        captions[k] = sp_dataset_caption(f->dataset, sp_dataset_training_sample(f->dataset, k), 0);
    sp_status status = sp_pipeline_encode(teacher, captions, count, &f->contexts);
    sp_free(captions);
    const char *empty = "";
    return status ? status : sp_pipeline_encode(teacher, &empty, 1, &f->uncond);
}

static sp_status encode_pictures(sp_distill_feed *f, sp_pipeline *teacher,
                                 const sp_callbacks *callbacks)
{
    int64_t count = sp_dataset_training_count(f->dataset);
    int64_t *samples = sp_alloc((size_t)count * sizeof *samples);
    if (!samples) return SP_MEMORY;
    for (int64_t k = 0; k < count; k++)
        samples[k] = sp_dataset_training_sample(f->dataset, k);
    sp_status status = sp_latents_encode(f->dataset, samples, count, teacher->vae, teacher->backend,
                                         f->options->storage, callbacks, &f->latents);
    sp_free(samples);
    return status;
}

static sp_status open_data(sp_distill_feed *f, sp_pipeline *teacher, const sp_callbacks *callbacks)
{
    const sp_distill_options *o = f->options;
    const sp_dataset_options data = {.resolution = o->resolution, .seed = o->seed};
    SP_TRY(sp_dataset_open(o->data, &data, callbacks, &f->dataset));
    SP_TRY(sp_dataset_order_create(o->seed, sp_dataset_training_count(f->dataset), &f->order));
    SP_TRY(encode_pictures(f, teacher, callbacks));
    return encode_captions(f, teacher);
}

static size_t bytes_per_row(const sp_tensor *tensor)
{
    return sp_tensor_bytes(tensor) / (size_t)tensor->shape.dim[0];
}

/* Sample `i` of micro-batch `micro`: its place in the order and its draws depend on (seed, step,
 * index in the step) alone. */
static sp_subpath draw_sample(sp_distill_feed *f, const sp_objective_settings *now, int64_t micro,
                              int64_t i)
{
    const sp_distill_options *o = f->options;
    int64_t step = micro / o->accumulation, index = micro % o->accumulation * o->batch + i;
    int64_t k =
        sp_dataset_order_at(f->order, (uint64_t)(step * o->batch * o->accumulation + index));
    size_t latent = bytes_per_row(&f->clean), context = bytes_per_row(&f->context);
    memcpy((char *)f->clean.data + (size_t)i * latent, sp_latent_at(&f->latents, k), latent);
    memcpy((char *)f->context.data + (size_t)i * context,
           (char *)f->contexts.data + (size_t)k * context, context);
    sp_random_key key = {o->seed, SP_STREAM_NOISE, (uint64_t)step, (uint64_t)index};
    sp_random_normal(key, (float *)f->noise.data + (size_t)i * latent / sizeof(float),
                     latent / sizeof(float));
    return sp_subpath_draw(now, f->schedule, o->seed, (uint64_t)step, (uint64_t)index);
}

/* ---- replayed ---- */

static sp_status recorded(const sp_distill_feed *f, const char *name, int64_t micro, sp_dtype dtype,
                          sp_shape shape, const sp_tensor **out)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%lld", name, (long long)micro);
    SP_TRY(sp_tensor_file_get(f->draws, full, out));
    if ((*out)->dtype != dtype || !sp_shape_equal((*out)->shape, shape))
        return sp_fail(SP_SHAPE, "%s: \"%s\" is %s %s, expected %s %s",
                       sp_tensor_file_path(f->draws), full, sp_dtype_name((*out)->dtype),
                       sp_shape_text((*out)->shape), sp_dtype_name(dtype), sp_shape_text(shape));
    return SP_OK;
}

/* A double would round it. */
static int64_t integer_at(const sp_tensor *tensor, int64_t i)
{
    int64_t value;
    memcpy(&value, (const char *)tensor->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

/* The sub-path that sample i of a micro-batch was recorded with. gamma is looked at by splam alone
 * and end, its u, by tcd alone; NULL: not recorded. */
static sp_status recorded_subpath(const sp_distill_feed *f, const sp_objective_settings *now,
                                  int64_t i, const sp_tensor *index, const sp_tensor *gamma,
                                  const sp_tensor *end, sp_subpath *out)
{
    int64_t k = integer_at(index, i);
    double g = gamma ? sp_load(gamma->data, SP_F32, i) : 1;
    if (k < 0 || k >= now->ddim_timesteps || !(g >= 0 && g <= 1))
        return sp_fail(SP_FORMAT, "%s: a draw has index %lld and gamma %g, expected 0..%d and 0..1",
                       sp_tensor_file_path(f->draws), (long long)k, g, now->ddim_timesteps - 1);
    *out = sp_subpath_at(now, f->schedule, (int)k);
    out->gamma = g;
    if (!end) return SP_OK;
    int64_t u = integer_at(end, i);
    if (u < 0 || u > out->end)
        return sp_fail(SP_FORMAT, "%s: a draw of index %lld has end %lld, expected 0..%d",
                       sp_tensor_file_path(f->draws), (long long)k, (long long)u, out->end);
    out->target = (int)u;
    return SP_OK;
}

static sp_status replay(sp_distill_feed *f, const sp_objective_settings *now, int64_t micro,
                        sp_subpath *paths)
{
    const sp_distill_options *o = f->options;
    const sp_tensor *clean, *noise, *context, *index, *gamma = NULL, *end = NULL;
    sp_shape one = sp_shape_of(o->batch);
    SP_TRY(recorded(f, "latents", micro, SP_F32, f->clean.shape, &clean));
    SP_TRY(recorded(f, "noise", micro, SP_F32, f->noise.shape, &noise));
    SP_TRY(recorded(f, "context", micro, SP_F32, f->context.shape, &context));
    SP_TRY(recorded(f, "index", micro, SP_I64, one, &index));
    if (now->objective == SP_OBJECTIVE_SPLAM)
        SP_TRY(recorded(f, "gamma", micro, SP_F32, one, &gamma));
    if (now->objective == SP_OBJECTIVE_TCD) SP_TRY(recorded(f, "end", micro, SP_I64, one, &end));
    memcpy(f->clean.data, clean->data, sp_tensor_bytes(clean));
    memcpy(f->noise.data, noise->data, sp_tensor_bytes(noise));
    memcpy(f->context.data, context->data, sp_tensor_bytes(context));
    for (int64_t i = 0; i < o->batch; i++)
        SP_TRY(recorded_subpath(f, now, i, index, gamma, end, &paths[i]));
    return SP_OK;
}

static sp_status open_draws(sp_distill_feed *f)
{
    SP_TRY(sp_safetensors_open(f->options->draws, &f->draws));
    const sp_tensor *uncond;
    SP_TRY(sp_tensor_file_get(f->draws, "uncond", &uncond));
    if (uncond->shape.rank != 3 || uncond->shape.dim[0] != 1 || sp_tensor_count(uncond) == 0)
        return sp_fail(SP_SHAPE, "%s: \"uncond\" is %s, expected [1,L,D]", f->options->draws,
                       sp_shape_text(uncond->shape));
    return sp_tensor_convert(uncond, SP_F32, &f->uncond);
}

/* ---- both ---- */

/* What is recorded must fit the teacher; what it made itself does. */
static sp_status find_shape(const sp_distill_feed *f, const sp_unet_config *unet,
                            sp_step_shape *shape)
{
    shape->batch = f->options->batch;
    shape->context_length = f->uncond.shape.dim[1];
    shape->context_dim = f->uncond.shape.dim[2];
    if (!f->draws) {
        shape->channels = f->latents.channels;
        shape->height = f->latents.height;
        shape->width = f->latents.width;
        return SP_OK;
    }
    const sp_tensor *first;
    SP_TRY(sp_tensor_file_get(f->draws, "latents.0", &first));
    if (first->shape.rank != 4 || first->shape.dim[0] != shape->batch ||
        sp_tensor_count(first) == 0)
        return sp_fail(SP_SHAPE,
                       "%s: \"latents.0\" is %s, expected [%lld,C,H,W] for --train-batch-size %lld",
                       f->options->draws, sp_shape_text(first->shape), (long long)shape->batch,
                       (long long)shape->batch);
    shape->channels = first->shape.dim[1];
    shape->height = first->shape.dim[2];
    shape->width = first->shape.dim[3];
    if (shape->channels != unet->in_channels || shape->context_dim != unet->context_dim)
        return sp_fail(
            SP_SHAPE,
            "%s: \"latents.0\" is %s and \"uncond\" %s, and the teacher takes %lld channels and a context of %lld",
            f->options->draws, sp_shape_text(first->shape), sp_shape_text(f->uncond.shape),
            (long long)unet->in_channels, (long long)unet->context_dim);
    return SP_OK;
}

static sp_status make_batch(sp_distill_feed *f, const sp_step_shape *s)
{
    sp_shape latent = sp_shape_of(s->batch, s->channels, s->height, s->width);
    sp_shape context = sp_shape_of(s->batch, s->context_length, s->context_dim);
    SP_TRY(sp_tensor_create(SP_F32, latent, &f->clean));
    SP_TRY(sp_tensor_create(SP_F32, latent, &f->noise));
    SP_TRY(sp_tensor_create(SP_F32, context, &f->context));
    SP_TRY(sp_tensor_create(SP_F32, context, &f->uncond_batch));
    f->coefficients = sp_alloc_zero((size_t)s->batch * sizeof *f->coefficients);
    if (!f->coefficients) return SP_MEMORY;
    for (int64_t i = 0; i < s->batch; i++)
        memcpy((char *)f->uncond_batch.data + (size_t)i * sp_tensor_bytes(&f->uncond),
               f->uncond.data, sp_tensor_bytes(&f->uncond));
    if (!f->embedding_dim) return SP_OK;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(s->batch, f->embedding_dim), &f->embedding));
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(s->batch, f->embedding_dim), &f->embedding_one));
    for (int64_t i = 0; i < s->batch; i++)
        sp_gamma_embedding(1, f->embedding_dim,
                           (float *)f->embedding_one.data + i * f->embedding_dim);
    return SP_OK;
}

sp_status sp_distill_feed_create(const sp_distill_options *options, sp_pipeline *teacher,
                                 const sp_unet_config *student, const sp_callbacks *callbacks,
                                 sp_distill_feed *out, sp_step_shape *shape)
{
    *out = (sp_distill_feed){.options = options,
                             .schedule = &teacher->scheduler.schedule,
                             .embedding_dim = student->time_cond_dim};
    sp_status status = options->draws ? open_draws(out) : open_data(out, teacher, callbacks);
    if (!status) status = find_shape(out, student, shape);
    if (!status) status = make_batch(out, shape);
    if (status) sp_distill_feed_free(out);
    return status;
}

void sp_distill_feed_free(sp_distill_feed *f)
{
    sp_tensor *tensors[] = {&f->contexts, &f->uncond,       &f->clean,     &f->noise,
                            &f->context,  &f->uncond_batch, &f->embedding, &f->embedding_one};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        sp_tensor_free(tensors[i]);
    sp_free(f->coefficients);
    sp_latents_free(&f->latents);
    sp_dataset_order_destroy(f->order);
    sp_dataset_close(f->dataset);
    sp_tensor_file_close(f->draws);
    *f = (sp_distill_feed){0};
}

sp_status sp_distill_feed_run(void *feed, sp_run *run, int64_t micro)
{
    sp_distill_feed *f = feed;
    const sp_distill_options *o = f->options;
    const sp_objective_settings now =
        sp_round_settings(&o->objective, sp_round_of_step(&o->objective, micro / o->accumulation,
                                                          o->max_train_steps));
    sp_subpath *paths = sp_alloc((size_t)o->batch * sizeof *paths);
    if (!paths) return SP_MEMORY;
    sp_status status = f->draws ? replay(f, &now, micro, paths) : SP_OK;
    for (int64_t i = 0; i < o->batch && !status; i++) {
        if (!f->draws) paths[i] = draw_sample(f, &now, micro, i);
        f->coefficients[i] = sp_subpath_coefficients(&now, f->schedule, paths[i]);
        if (f->embedding_dim)
            sp_gamma_embedding(paths[i].gamma, f->embedding_dim,
                               (float *)f->embedding.data + i * f->embedding_dim);
    }
    sp_free(paths);
    SP_TRY(status);
    SP_TRY(sp_run_set_input(run, "clean", &f->clean));
    SP_TRY(sp_run_set_input(run, "noise", &f->noise));
    SP_TRY(sp_run_set_input(run, "context", &f->context));
    if (now.guidance_w != 0) SP_TRY(sp_run_set_input(run, "uncond", &f->uncond_batch));
    if (f->embedding_dim) {
        SP_TRY(sp_run_set_input(run, "gamma_embedding", &f->embedding));
        SP_TRY(sp_run_set_input(run, "gamma_one_embedding", &f->embedding_one));
    }
    return sp_objective_set_coefficients(run, &now, f->coefficients, o->batch);
}
