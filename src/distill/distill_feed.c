/* Feeding a distillation step. */
#include "distill/distill_feed.h"
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/system.h"
#include "data/caption_length.h"
#include "pipeline/vae_run.h"

/* ---- drawn from data ---- */

static bool is_cached(const sp_distill_options *o)
{
    return o->given.data && !o->given.draws && sp_starts_with(o->given.data, "latents:");
}

unsigned sp_distill_feed_parts(const sp_distill_options *options)
{
    return options->given.draws || options->encoded || is_cached(options) ? SP_PART_UNET : SP_PART_ALL;
}

sp_status sp_distill_encode(sp_dataset *dataset, sp_pipeline *teacher, const sp_callbacks *callbacks,
                            sp_latent_cache **out)
{
    sp_dataset_log(dataset);
    int64_t before = sp_dataset_rejected(dataset);
    sp_caption_cuts cuts;
    SP_TRY(sp_warn_of_cut_captions(dataset, teacher->text[0].tokenizer, true, &cuts));
    sp_status status = sp_latent_cache_encode(dataset, teacher, callbacks, out);
    if (sp_dataset_rejected(dataset) != before) sp_dataset_log(dataset); /* with damaged pictures */
    SP_TRY(status);
    sp_log_info("%s of latents and conditioning stay in memory; a cache puts them in files",
                sp_bytes_text(sp_latent_cache_bytes(*out)));
    return SP_OK;
}

static sp_status encode_data(sp_distill_feed *f, sp_pipeline *teacher,
                             const sp_callbacks *callbacks)
{
    const sp_distill_options *o = f->options;
    const sp_dataset_options data = sp_dataset_options_of(&o->given.pictures, o->given.seed);
    sp_dataset *dataset;
    SP_TRY(sp_dataset_open(o->given.data, &data, callbacks, &dataset));
    sp_status status = sp_distill_encode(dataset, teacher, callbacks, &f->own_cache);
    sp_dataset_close(dataset);
    return status;
}

/* What a cache was made with is in it: a flag that says something else would be lost. */
static sp_status check_flags(const sp_distill_options *o, const sp_latent_cache *cache)
{
    const sp_dataset_options pictures = sp_dataset_options_of(&o->given.pictures, o->given.seed), *p = &pictures;
    const char *lost = sp_dataset_flag_set(p);
    int resolution = sp_latent_cache_resolution(cache);
    if (lost)
        return sp_fail(SP_ARGUMENT,
                       "`%s` is for making a cache: \"%s\" has its samples chosen and cut",
                       lost, o->given.data);
    if (p->resolution && p->resolution != resolution)
        return sp_fail(SP_ARGUMENT, "`resolution` is %d, and \"%s\" was made from %d pixels",
                       p->resolution, o->given.data, resolution);
    if (p->random_flip && !sp_latent_cache_facts(cache)->flips)
        return sp_fail(
            SP_ARGUMENT,
            "`random_flip` needs mirrored pictures too, and \"%s\" was made without them; "
            "make the cache again with `random_flip`",
            o->given.data);
    return SP_OK;
}

static sp_status check_tokens(const sp_distill_options *o, const sp_latent_cache *cache, const sp_model *teacher)
{
    int64_t behind = sp_latent_cache_facts(cache)->tokens_behind;
    if (sp_latent_cache_facts(cache)->t5 != (o->given.t5 != NULL))
        return sp_fail(SP_ARGUMENT, "\"%s\" was made %s T5, and `t5` is %s", o->given.data,
                       o->given.t5 ? "without" : "with", o->given.t5 ? "given" : "not given");
    if (o->given.t5) return sp_latent_cache_check_t5(cache, o->given.t5);
    if (behind == teacher->tokens_behind) return SP_OK;
    return sp_fail(SP_ARGUMENT, "\"%s\" was made with %lld tokens of zeros for the third text encoder, and `t5_absent` "
                   "is %lld", o->given.data, (long long)behind, (long long)teacher->tokens_behind);
}

static sp_status open_cache(sp_distill_feed *f, const sp_model *teacher)
{
    const sp_distill_options *o = f->options;
    sp_string summary = {0};
    SP_TRY(sp_latent_cache_open(o->given.data + strlen("latents:"), &f->own_cache));
    SP_TRY(check_flags(o, f->own_cache));
    SP_TRY(sp_latent_cache_check_teacher(f->own_cache, o->given.teacher));
    SP_TRY(check_tokens(o, f->own_cache, teacher));
    sp_latent_cache_summary(f->own_cache, &summary);
    if (summary.data) sp_log_lines(summary.data);
    sp_string_free(&summary);
    return SP_OK;
}

static sp_status open_data(sp_distill_feed *f, sp_pipeline *teacher, const sp_callbacks *callbacks)
{
    f->cache = f->options->encoded;
    if (!f->cache) {
        SP_TRY(is_cached(f->options) ? open_cache(f, teacher->model) : encode_data(f, teacher, callbacks));
        f->cache = f->own_cache;
    }
    const sp_latent_facts *facts = sp_latent_cache_facts(f->cache);
    f->moments =
        sp_alloc((size_t)(2 * facts->channels * facts->height * facts->width) * sizeof *f->moments);
    if (!f->moments) return SP_MEMORY;
    return sp_dataset_order_create(f->options->given.seed, facts->count, &f->order);
}

static size_t bytes_per_row(const sp_tensor *tensor)
{
    return sp_tensor_bytes(tensor) / (size_t)tensor->shape.dim[0];
}

/* A sample's place in the order and its draws depend on (seed, step, index in the step) alone, the index running over
 * accumulation, ranks and batch, and whether it is mirrored on (seed, epoch, sample). */
sp_random_key sp_feed_key(const sp_distill_feed *f, int64_t micro, int64_t i, sp_stream stream)
{
    const sp_distill_options *o = f->options;
    int64_t step = micro / o->given.gradient_accumulation_steps,
            index = (micro % o->given.gradient_accumulation_steps * o->ranks + o->rank) * o->given.train_batch_size + i;
    return (sp_random_key){o->given.seed, stream, (uint64_t)step, (uint64_t)index};
}

sp_status sp_feed_take(sp_distill_feed *f, int64_t micro, int64_t i)
{
    const sp_distill_options *o = f->options;
    int64_t total = o->given.gradient_accumulation_steps * o->ranks * o->given.train_batch_size;
    const sp_random_key key = sp_feed_key(f, micro, i, SP_STREAM_SHUFFLE);
    uint64_t position = key.step * (uint64_t)total + key.sample;
    int64_t k = sp_dataset_order_at(f->order, position);
    uint64_t epoch = position / (uint64_t)sp_latent_cache_facts(f->cache)->count;
    sp_dataset_options flip = {.random_flip = o->given.pictures.random_flip, .seed = o->given.seed};
    return sp_latent_cache_read(f->cache, k, sp_dataset_flips(&flip, epoch, k), f->moments, &f->conditioning, i);
}

/* z0 from the moments, as latent_dist.sample() times the scaling factor; a draw like the others. */
void sp_feed_draw_latent(sp_distill_feed *f, int64_t micro, int64_t i)
{
    const sp_latent_facts *facts = sp_latent_cache_facts(f->cache);
    size_t count = bytes_per_row(&f->x0) / sizeof(float);
    const float *logvar = facts->gaussian ? f->moments + count : NULL;
    float *latent = (float *)f->x0.data + (size_t)i * count;
    if (logvar) sp_random_normal(sp_feed_key(f, micro, i, SP_STREAM_POSTERIOR), latent, count);
    const sp_latent_scale scale = {facts->scaling_factor, facts->shift_factor};
    sp_vae_draw(scale, f->moments, logvar, latent, (int64_t)count, latent);
}

static sp_status draw_sample(sp_distill_feed *f, const sp_objective_settings *now, int64_t micro,
                             int64_t i, sp_subpath *path)
{
    const sp_random_key key = sp_feed_key(f, micro, i, SP_STREAM_NOISE);
    size_t latent = bytes_per_row(&f->x0);
    SP_TRY(sp_feed_take(f, micro, i));
    sp_feed_draw_latent(f, micro, i);
    sp_random_normal(key, (float *)f->noise.data + (size_t)i * latent / sizeof(float),
                     latent / sizeof(float));
    *path = sp_subpath_draw(now, f->path, key.seed, key.step, key.sample);
    return SP_OK;
}

/* ---- replayed ---- */

sp_status sp_feed_recorded(const sp_distill_feed *f, const char *name, int64_t micro, sp_dtype dtype, sp_shape shape,
                           sp_tensor *out)
{
    char full[64];
    const sp_tensor *all;
    sp_shape wanted = shape;
    wanted.dim[0] *= f->options->ranks;
    snprintf(full, sizeof full, "%s.%lld", name, (long long)micro);
    SP_TRY(sp_tensor_file_get(f->draws, full, &all));
    if (all->dtype != dtype || !sp_shape_equal(all->shape, wanted))
        return sp_fail(SP_SHAPE, "%s: \"%s\" is %s %s, expected %s %s",
                       sp_tensor_file_path(f->draws), full, sp_dtype_name(all->dtype),
                       sp_shape_text(all->shape), sp_dtype_name(dtype), sp_shape_text(wanted));
    *out = (sp_tensor){.dtype = dtype, .shape = shape};
    out->data = (char *)all->data + (size_t)f->options->rank * sp_tensor_bytes(out);
    return SP_OK;
}

/* A double would round it. */
int64_t sp_feed_integer_at(const sp_tensor *tensor, int64_t i)
{
    int64_t value;
    memcpy(&value, (const char *)tensor->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

/* The draws of sub-paths of a micro-batch. gamma is looked at by splam alone, end, its u, by tcd alone, and w where
 * guidance is drawn; no data: not recorded. */
typedef struct {
    sp_tensor index, gamma, end, w;
} recorded_draws;

static sp_status read_draws(const sp_distill_feed *f, const sp_objective_settings *now, int64_t micro,
                            recorded_draws *out)
{
    sp_shape one = sp_shape_of(f->options->given.train_batch_size);
    *out = (recorded_draws){0};
    SP_TRY(sp_feed_recorded(f, "index", micro, SP_I64, one, &out->index));
    if (now->objective == SP_OBJECTIVE_SPLAM) SP_TRY(sp_feed_recorded(f, "gamma", micro, SP_F32, one, &out->gamma));
    if (now->objective == SP_OBJECTIVE_TCD) SP_TRY(sp_feed_recorded(f, "end", micro, SP_I64, one, &out->end));
    if (now->guidance.high <= 0) return SP_OK;
    return sp_feed_recorded(f, "guidance_scale_w", micro, SP_F32, one, &out->w);
}

/* Rounded to float32, as the ends of the range are. */
static sp_status recorded_guidance(const sp_distill_feed *f, const sp_guidance_range *range, double w, double *out)
{
    float low = (float)(range->low - 1), high = (float)(range->high - 1);
    *out = w;
    if (w >= (double)low && w <= (double)high) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: a draw has guidance_scale_w %g, expected %g..%g", sp_tensor_file_path(f->draws), w,
                   (double)low, (double)high);
}

/* The sub-path that sample i was recorded with. */
static sp_status recorded_subpath(const sp_distill_feed *f, const sp_objective_settings *now, int64_t i,
                                  const recorded_draws *draws, sp_subpath *out)
{
    int64_t k = sp_feed_integer_at(&draws->index, i);
    double g = draws->gamma.data ? sp_load(draws->gamma.data, SP_F32, i) : 1;
    int count = sp_subpath_count(now, f->path);
    if (k < 0 || k >= count || !(g >= 0 && g <= 1))
        return sp_fail(SP_FORMAT, "%s: a draw has index %lld and gamma %g, expected 0..%d and 0..1",
                       sp_tensor_file_path(f->draws), (long long)k, g, count - 1);
    *out = sp_subpath_at(now, f->path, (int)k);
    out->gamma = g;
    if (draws->w.data)
        SP_TRY(recorded_guidance(f, &now->guidance, sp_load(draws->w.data, SP_F32, i), &out->guidance_scale_w));
    if (!draws->end.data) return SP_OK;
    int64_t u = sp_feed_integer_at(&draws->end, i);
    if (u < 0 || u > out->end)
        return sp_fail(SP_FORMAT, "%s: a draw of index %lld has end %lld, expected 0..%d",
                       sp_tensor_file_path(f->draws), (long long)k, (long long)u, out->end);
    out->target = (int)u;
    return SP_OK;
}

sp_status sp_feed_replay_conditioning(sp_distill_feed *f, int64_t micro)
{
    const sp_distill_options *o = f->options;
    char suffix[32], where[64];
    sp_conditioning all;
    snprintf(suffix, sizeof suffix, ".%lld", (long long)micro);
    snprintf(where, sizeof where, "the conditioning of draw %lld", (long long)micro);
    SP_TRY(sp_conditioning_read(f->draws, SP_CONDITIONING, suffix, o->given.train_batch_size * o->ranks, &all));
    sp_status status = sp_conditioning_expect(&all, &f->conditioning, where);
    if (status) return sp_fail_within(status, "%s", sp_tensor_file_path(f->draws));
    sp_conditioning_copy(&f->conditioning, 0, o->given.train_batch_size, &all, o->rank * o->given.train_batch_size);
    return SP_OK;
}

static sp_status replay(sp_distill_feed *f, const sp_objective_settings *now, int64_t micro,
                        sp_subpath *paths)
{
    const sp_distill_options *o = f->options;
    sp_tensor x0, noise;
    recorded_draws draws;
    SP_TRY(sp_feed_recorded(f, "latents", micro, SP_F32, f->x0.shape, &x0));
    SP_TRY(sp_feed_recorded(f, "noise", micro, SP_F32, f->noise.shape, &noise));
    SP_TRY(sp_feed_replay_conditioning(f, micro));
    SP_TRY(read_draws(f, now, micro, &draws));
    memcpy(f->x0.data, x0.data, sp_tensor_bytes(&x0));
    memcpy(f->noise.data, noise.data, sp_tensor_bytes(&noise));
    for (int64_t i = 0; i < o->given.train_batch_size; i++)
        SP_TRY(recorded_subpath(f, now, i, &draws, &paths[i]));
    return SP_OK;
}

static sp_status open_draws(sp_distill_feed *f)
{
    const splam_distill_options *o = &f->options->given;
    const sp_dataset_options pictures = sp_dataset_options_of(&o->pictures, o->seed), *p = &pictures;
    const char *lost = p->resolution    ? "resolution"
                       : p->random_flip ? "random_flip"
                                        : sp_dataset_flag_set(p);
    if (lost)
        return sp_fail(SP_ARGUMENT, "`%s` has no use beside `draws`, which are latents", lost);
    return sp_safetensors_open(f->options->given.draws, &f->draws);
}

/* ---- both ---- */

/* One row of the negative conditioning, a view: what all rows of a batch have. */
static sp_status open_negative(const sp_distill_feed *f, sp_conditioning *out)
{
    if (f->draws) return sp_conditioning_read(f->draws, SP_NEGATIVE, "", 1, out);
    *out = *sp_latent_cache_negative(f->cache);
    return SP_OK;
}

static bool is_matching(const sp_distill_feed *f)
{
    return f->options->objective.objective == SP_OBJECTIVE_DMD;
}

/* What tells the size of recorded latents; of dmd only a discriminator looks at clean ones. */
static const char *shape_name(const sp_distill_feed *f)
{
    return is_matching(f) ? "noise.0" : "latents.0";
}

static sp_status recorded_shape(const sp_distill_feed *f, sp_step_shape *shape)
{
    const sp_tensor *first;
    int64_t recorded_batch = shape->batch * f->options->ranks;
    const char *name = shape_name(f);
    SP_TRY(sp_tensor_file_get(f->draws, name, &first));
    if (first->shape.rank != 4 || first->shape.dim[0] != recorded_batch ||
        sp_tensor_count(first) == 0)
        return sp_fail(
            SP_SHAPE,
            "%s: \"%s\" is %s, expected [%lld,C,H,W] for `train_batch_size` %lld%s",
            f->options->given.draws, name, sp_shape_text(first->shape), (long long)recorded_batch,
            (long long)shape->batch, f->options->ranks > 1 ? " in each process" : "");
    shape->channels = first->shape.dim[1];
    shape->height = first->shape.dim[2];
    shape->width = first->shape.dim[3];
    return SP_OK;
}

/* What is recorded must fit the teacher; what it made itself does. */
static sp_status find_shape(const sp_distill_feed *f, const sp_denoiser *denoiser,
                            const sp_conditioning *negative, sp_step_shape *shape)
{
    const char *where = f->draws ? f->options->given.draws : f->options->given.data;
    shape->batch = f->options->given.train_batch_size;
    if (f->draws) {
        SP_TRY(recorded_shape(f, shape));
    } else {
        const sp_latent_facts *facts = sp_latent_cache_facts(f->cache);
        shape->channels = facts->channels;
        shape->height = facts->height;
        shape->width = facts->width;
    }
    if (shape->channels != denoiser->in_channels)
        return sp_fail(SP_SHAPE, "%s%s%s has %lld channels, and the teacher takes %lld", where, f->draws ? ": " : "",
                       f->draws ? shape_name(f) : "", (long long)shape->channels, (long long)denoiser->in_channels);
    sp_status status = sp_conditioning_check(negative, denoiser->network, denoiser->config, "the conditioning");
    return status ? sp_fail_within(status, "%s", where) : SP_OK;
}

static sp_status make_batch(sp_distill_feed *f, const sp_conditioning *negative, sp_step_shape *s)
{
    sp_shape latent = sp_shape_of(s->batch, s->channels, s->height, s->width);
    SP_TRY(sp_tensor_create(SP_F32, latent, &f->noise));
    SP_TRY(sp_conditioning_create(negative, SP_F32, s->batch, &f->conditioning));
    SP_TRY(sp_conditioning_create(negative, SP_F32, s->batch, &f->negative));
    sp_conditioning_copy(&f->negative, 0, s->batch, negative, 0);
    s->conditioning = &f->conditioning;
    if (is_matching(f)) return sp_matching_feed_create(f, s);
    SP_TRY(sp_tensor_create(SP_F32, latent, &f->x0));
    f->coefficients = sp_alloc_zero((size_t)s->batch * sizeof *f->coefficients);
    if (!f->coefficients) return SP_MEMORY;
    if (!f->embedding_dim) return SP_OK;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(s->batch, f->embedding_dim), &f->online_cond));
    return sp_tensor_create(SP_F32, sp_shape_of(s->batch, f->embedding_dim), &f->ema_cond);
}

sp_status sp_distill_feed_create(const sp_distill_options *options, sp_pipeline *teacher,
                                 const sp_component_config *student, const sp_callbacks *callbacks,
                                 sp_distill_feed *out, sp_step_shape *shape)
{
    const sp_denoiser denoiser = sp_denoiser_of(student);
    *out = (sp_distill_feed){.options = options,
                             .path = &teacher->scheduler.path,
                             .callbacks = callbacks,
                             .embedding_dim = denoiser.time_cond_dim};
    sp_conditioning negative;
    sp_status status = options->given.draws ? open_draws(out) : open_data(out, teacher, callbacks);
    if (!status) status = open_negative(out, &negative);
    if (!status) status = find_shape(out, &denoiser, &negative, shape);
    if (!status) status = make_batch(out, &negative, shape);
    /* What is recorded may be anything. */
    if (!status && !options->given.draws) shape->same_tokens = sp_model_same_tokens(teacher->model);
    if (!status && options->given.sub_paths) status = sp_subpath_feed_create(out, teacher, shape);
    if (status) sp_distill_feed_free(out);
    return status;
}

size_t sp_distill_feed_bytes(const sp_distill_feed *f)
{
    const sp_tensor *tensors[] = {&f->x0, &f->noise, &f->online_cond, &f->ema_cond, &f->z_end};
    size_t bytes = f->cache ? sp_latent_cache_bytes(f->cache) : 0;
    bytes += sp_conditioning_bytes(&f->conditioning) + sp_conditioning_bytes(&f->negative);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (tensors[i]->data) bytes += sp_tensor_bytes(tensors[i]);
    return bytes + sp_matching_feed_bytes(f);
}

void sp_distill_feed_free(sp_distill_feed *f)
{
    sp_tensor *tensors[] = {&f->x0, &f->noise, &f->online_cond, &f->ema_cond};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        sp_tensor_free(tensors[i]);
    sp_conditioning_free(&f->conditioning);
    sp_conditioning_free(&f->negative);
    sp_matching_feed_free(f);
    sp_subpath_feed_free(f);
    sp_free(f->coefficients);
    sp_free(f->moments);
    sp_dataset_order_destroy(f->order);
    sp_latent_cache_close(f->own_cache);
    sp_tensor_file_close(f->draws);
    *f = (sp_distill_feed){0};
}

/* Both are told w where it is drawn; else the one gamma, and the average, which is asked at the sub-path's end, 1. */
static void tell(sp_distill_feed *f, int64_t i, const sp_subpath *path)
{
    bool drawn = f->options->objective.guidance.high > 0;
    int64_t dim = f->embedding_dim;
    if (!dim) return;
    sp_guidance_embedding(drawn ? path->guidance_scale_w : 10 * (1 - path->gamma), dim,
                          (float *)f->online_cond.data + i * dim);
    sp_guidance_embedding(drawn ? path->guidance_scale_w : 0, dim, (float *)f->ema_cond.data + i * dim);
}

sp_status sp_distill_feed_run(void *feed, sp_run *run, int64_t micro)
{
    sp_distill_feed *f = feed;
    const sp_distill_options *o = f->options;
    if (is_matching(f)) return sp_matching_feed_run(f, run, micro);
    const sp_objective_settings now = sp_step_settings(
        &o->objective, micro / o->given.gradient_accumulation_steps, o->given.max_train_steps);
    double scale = sp_loss_weight_scale(&now, f->path);
    sp_subpath *paths = sp_alloc((size_t)o->given.train_batch_size * sizeof *paths);
    if (!paths) return SP_MEMORY;
    sp_status status = f->draws ? replay(f, &now, micro, paths) : SP_OK;
    for (int64_t i = 0; i < o->given.train_batch_size && !status; i++) {
        if (!f->draws) status = draw_sample(f, &now, micro, i, &paths[i]);
        if (status) break;
        f->coefficients[i] = sp_subpath_coefficients(&now, f->path, paths[i]);
        f->coefficients[i].loss_weight *= scale;
        tell(f, i, &paths[i]);
    }
    sp_free(paths);
    SP_TRY(status);
    SP_TRY(sp_run_set_input(run, "x0", &f->x0));
    SP_TRY(sp_run_set_input(run, "noise", &f->noise));
    SP_TRY(sp_conditioning_set(run, "", &f->conditioning));
    if (f->embedding_dim) {
        SP_TRY(sp_run_set_input(run, "online.timestep_cond", &f->online_cond));
        SP_TRY(sp_run_set_input(run, "ema.timestep_cond", &f->ema_cond));
    }
    SP_TRY(sp_objective_set_coefficients(run, &now, f->coefficients, o->given.train_batch_size));
    if (o->given.sub_paths) return sp_subpath_feed_run(f, &now, run, micro);
    if (sp_objective_is_guided(&now)) SP_TRY(sp_conditioning_set(run, "negative.", &f->negative));
    return sp_objective_set_solver(run, &now, f->coefficients, o->given.train_batch_size);
}
