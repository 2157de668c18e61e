/* One row: draw, time, decode, score; and a model's errors along the trajectory, each worked out once. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#include "base/inner_callbacks.h"
#include "base/memory.h"
#include "eval/evaluation.h"
#include "image/image.h"
#include "pipeline/vae_run.h"

/* Tells of the pictures' size, where the model asks. */
static sp_status frame(const sp_compared_model *c, sp_conditioning *set)
{
    const sp_framing framing = sp_framing_whole(c->evaluation->size, c->evaluation->size);
    return sp_pipeline_frame(c->pipeline, &framing, 1, set);
}

sp_status sp_compared_model_create(const sp_evaluation *e, sp_pipeline *pipeline, sp_compared_model *out)
{
    int64_t size = e->size, factor = pipeline->vae->config.vae.factor;
    *out = (sp_compared_model){.evaluation = e,
                               .pipeline = pipeline,
                               .height = size / factor,
                               .width = size / factor,
                               .batch = sp_denoise_batch(e->count, size / factor, size / factor, 0),
                               .guidance = 1};
    if (size % factor)
        return sp_fail(SP_SHAPE, "%s makes sides of a multiple of %lld pixels, and %s has %lld",
                       pipeline->model->folder.path, (long long)factor, e->dataset ? e->source : "`resolution`",
                       (long long)size);
    sp_status status = sp_pipeline_encode_negative(pipeline, NULL, &out->negative);
    if (!status) status = frame(out, &out->negative);
    if (status) sp_compared_model_free(out);
    return status;
}

void sp_compared_model_free(sp_compared_model *c)
{
    sp_conditioning_free(&c->conditioning);
    sp_conditioning_free(&c->negative);
    sp_conditioning_free(&c->near);
    sp_model_errors_free(&c->errors);
    *c = (sp_compared_model){0};
}

/* ---- the trajectory error ---- */

sp_status sp_compared_model_encode(sp_compared_model *c)
{
    const sp_evaluation *e = c->evaluation;
    if (c->conditioning.count) return SP_OK;
    SP_TRY(sp_pipeline_encode(c->pipeline, e->prompt, e->count, &c->conditioning));
    return frame(c, &c->conditioning);
}

sp_status sp_compared_model_measure(sp_compared_model *c, const sp_trajectory *trajectory, bool is_teacher,
                                    const char *task, const sp_callbacks *callbacks)
{
    sp_model_errors_free(&c->errors);
    SP_TRY(sp_compared_model_encode(c));
    c->errors = (sp_model_errors){
        .pipeline = c->pipeline,
        .trajectory = trajectory,
        .request = {.guidance = c->guidance, .conditioning = &c->conditioning, .negative = &c->negative}};
    memcpy(c->curve.t, trajectory->timestep, sizeof c->curve.t);
    if (is_teacher) {
        sp_trajectory_own_error(trajectory, c->curve.error);
        SP_TRY(sp_model_errors_add(&c->errors, c->curve.t, c->curve.error, SP_TRAJECTORY_STEPS));
    }
    return sp_model_errors_at(&c->errors, c->curve.t, SP_TRAJECTORY_STEPS, task, callbacks, c->curve.error);
}

/* ---- prompts ---- */

/* Makes `near` hold prompts first..first+rows-1: whole batches of the text encoder, for its bits may depend on how many
 * it is given. */
static sp_status encode_near(sp_compared_model *c, int64_t first, int64_t rows)
{
    const sp_evaluation *e = c->evaluation;
    int64_t begin = first - first % SP_TEXT_BATCH, end = first + rows + SP_TEXT_BATCH - 1;
    end -= end % SP_TEXT_BATCH;
    if (end > e->count) end = e->count;
    if (begin > end - SP_TEXT_BATCH) begin = end > SP_TEXT_BATCH ? end - SP_TEXT_BATCH : 0;
    if (c->near.count && begin >= c->near_first && end <= c->near_first + sp_conditioning_rows(&c->near)) return SP_OK;
    sp_conditioning_free(&c->near);
    c->near_first = begin;
    SP_TRY(sp_pipeline_encode(c->pipeline, e->prompt + begin, end - begin, &c->near));
    return frame(c, &c->near);
}

/* *out new: of prompts first..first+rows-1. */
static sp_status conditioning_of(sp_compared_model *c, int64_t first, int64_t rows, sp_conditioning *out)
{
    const sp_conditioning *from = &c->conditioning;
    int64_t at = first;
    if (!from->count) {
        SP_TRY(encode_near(c, first, rows));
        from = &c->near;
        at -= c->near_first;
    }
    SP_TRY(sp_conditioning_create(from, SP_F32, rows, out));
    sp_conditioning_copy(out, 0, rows, from, at);
    return SP_OK;
}

/* ---- drawing ---- */

/* Batches are numbered; each is as large as the others, for bits may depend on that, and so the last one begins in the
 * one before. */
typedef struct {
    sp_compared_model *c;
    const sp_row_request *r;
    sp_ranks *ranks;
    const sp_callbacks *callbacks;
    sp_drawn *drawn;
    int64_t *wanted, wanted_count; /* batches that lack a picture */
    size_t bytes;                  /* of a batch's pixels */
    uint8_t *mine, *all;           /* those of this rank, of all ranks; alone, all is mine */
    int64_t made;                  /* pictures, so far */
} drawing;

static int64_t first_of(const drawing *d, int64_t batch)
{
    int64_t first = batch * d->c->batch, last = d->c->evaluation->count - d->c->batch;
    return first < last ? first : last;
}

static sp_status draw_latents(const drawing *d, int64_t first, const sp_callbacks *callbacks, sp_tensor *latents)
{
    sp_compared_model *c = d->c;
    const sp_row_request *r = d->r;
    sp_philox_noise noise = {r->seed};
    sp_conditioning conditioning;
    SP_TRY(conditioning_of(c, first, c->batch, &conditioning));
    const sp_denoise_request request = {
        .sampler = r->sampler,
        .scheduler = r->scheduler,
        .guidance = c->guidance,
        .conditioning = &conditioning,
        .negative = &c->negative,
        .height = c->height,
        .width = c->width,
        .noise = sp_noise_philox(&noise),
        .first_sample = first,
        .batch = c->batch,
    };
    sp_status status = sp_pipeline_denoise(c->pipeline, &request, callbacks, latents);
    sp_conditioning_free(&conditioning);
    return status;
}

/* Of the request's latents, a view. */
static sp_tensor given_latents(const drawing *d, int64_t first)
{
    sp_tensor part = *d->r->latents;
    int64_t one = sp_tensor_count(&part) / part.shape.dim[0];
    part.shape.dim[0] = d->c->batch;
    part.data = (float *)part.data + first * one;
    part.owned = false;
    return part;
}

static void to_pixels(const sp_tensor *images, uint8_t *rgb)
{
    int64_t count = images->shape.dim[0], one = sp_tensor_count(images) / count;
    int height = (int)images->shape.dim[2], width = (int)images->shape.dim[3];
    for (int64_t i = 0; i < count; i++)
        sp_rgb_from_float((const float *)images->data + i * one, width, height, rgb + i * one);
}

static sp_status check_size(const drawing *d, const sp_tensor *images)
{
    int64_t size = d->drawn->size;
    if (sp_shape_equal(images->shape, sp_shape_of(d->c->batch, 3, size, size))) return SP_OK;
    return sp_fail(SP_SHAPE, "pictures %s do not have sides of %lld pixels", sp_shape_text(images->shape),
                   (long long)size);
}

static sp_status draw_batch(const drawing *d, int64_t batch, uint8_t *rgb)
{
    const sp_callbacks quiet = sp_without_report(d->callbacks);
    int64_t first = first_of(d, batch);
    sp_tensor latents, images;
    if (d->r->latents)
        latents = given_latents(d, first);
    else
        SP_TRY(draw_latents(d, first, &quiet, &latents));
    sp_status status = sp_pipeline_decode(d->c->pipeline, &latents, &quiet, &images);
    sp_tensor_free(&latents);
    SP_TRY(status);
    status = check_size(d, &images);
    if (!status) to_pixels(&images, rgb);
    sp_tensor_free(&images);
    return status;
}

static sp_status keep_batch(drawing *d, int64_t batch, const uint8_t *rgb)
{
    int64_t first = first_of(d, batch);
    size_t one = d->bytes / (size_t)d->c->batch;
    for (int64_t i = 0; i < d->c->batch; i++) {
        if (d->drawn->there[first + i]) continue;
        SP_TRY(sp_drawn_put(d->drawn, first + i, rgb + (size_t)i * one));
        d->made++;
    }
    return SP_OK;
}

static void report(const drawing *d)
{
    sp_report(d->callbacks, d->r->task, sp_drawn_known(d->drawn), d->drawn->count, NULL);
}

/* A batch for each rank, from the `round`-th that is wanted on. */
static sp_status draw_round(drawing *d, int64_t round)
{
    int64_t mine = round + sp_ranks_rank(d->ranks), ranks = sp_ranks_count(d->ranks);
    SP_TRY(sp_check_cancelled(d->callbacks));
    if (mine < d->wanted_count) SP_TRY(draw_batch(d, d->wanted[mine], d->mine));
    if (d->ranks) SP_TRY(sp_ranks_gather(d->ranks, d->mine, d->bytes, d->all));
    for (int64_t i = 0; i < ranks && round + i < d->wanted_count && !sp_ranks_rank(d->ranks); i++)
        SP_TRY(keep_batch(d, d->wanted[round + i], d->all + (size_t)i * d->bytes));
    report(d);
    return SP_OK;
}

/* ---- what is to be drawn ---- */

/* Rank 0 knows what is there. */
static sp_status list_wanted(drawing *d)
{
    int64_t count = d->c->evaluation->count, batches = (count + d->c->batch - 1) / d->c->batch;
    SP_TRY(sp_ranks_broadcast(d->ranks, d->drawn->there, (size_t)count * sizeof *d->drawn->there));
    d->wanted = sp_alloc((size_t)batches * sizeof *d->wanted);
    if (!d->wanted) return SP_MEMORY;
    for (int64_t b = 0; b < batches; b++) {
        int64_t first = first_of(d, b), i = 0;
        while (i < d->c->batch && d->drawn->there[first + i])
            i++;
        if (i < d->c->batch) d->wanted[d->wanted_count++] = b;
    }
    return SP_OK;
}

static sp_status prepare(drawing *d)
{
    size_t side = (size_t)d->drawn->size, ranks = (size_t)sp_ranks_count(d->ranks);
    d->bytes = (size_t)d->c->batch * side * side * 3;
    SP_TRY(list_wanted(d));
    if (!d->wanted_count) return SP_OK;
    d->all = sp_alloc_zero(ranks * d->bytes);
    d->mine = d->ranks ? sp_alloc_zero(d->bytes) : d->all;
    return d->all && d->mine ? SP_OK : SP_MEMORY;
}

sp_status sp_compared_model_draw(sp_compared_model *c, const sp_row_request *r, sp_ranks *ranks,
                                 const sp_callbacks *callbacks, sp_drawn *drawn, double *seconds)
{
    drawing d = {.c = c, .r = r, .ranks = ranks, .callbacks = callbacks, .drawn = drawn};
    double began = sp_now();
    sp_pipeline_keep(c->pipeline, true);
    sp_status status = prepare(&d);
    if (d.wanted_count) report(&d);
    for (int64_t round = 0; round < d.wanted_count && !status; round += sp_ranks_count(ranks))
        status = draw_round(&d, round);
    sp_pipeline_keep(c->pipeline, false);
    *seconds = d.made ? (r->seconds + sp_now() - began) / (double)d.made : NAN;
    sp_free(d.wanted);
    if (d.mine != d.all) sp_free(d.mine);
    sp_free(d.all);
    return status;
}

/* ---- what pictures depend on ---- */

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    return XXH3_64bits_withSeed(data, size, hash);
}

/* Networks, what the tokenizer and the text encoder make of "", and what the sampler does with the model's schedule. */
static sp_status hash_model(sp_compared_model *c, const sp_row_request *r, uint64_t *out)
{
    const sp_pipeline *p = c->pipeline;
    const uint64_t parts[] = {sp_component_hash(p->denoiser), sp_model_text_hash(p->model), sp_component_hash(p->vae)};
    sp_sampler sampler;
    SP_TRY(sp_sampler_create(r->scheduler ? r->scheduler : &p->scheduler, &r->sampler, &sampler));
    uint64_t hash = hash_bytes(1, parts, sizeof parts);
    for (int i = 0; i < c->negative.count; i++)
        hash = hash_bytes(hash, c->negative.item[i].tensor.data, sp_tensor_bytes(&c->negative.item[i].tensor));
    hash = hash_bytes(hash, &sampler.initial_sigma, sizeof sampler.initial_sigma);
    *out = hash_bytes(hash, sampler.step, (size_t)sampler.count * sizeof *sampler.step);
    sp_sampler_free(&sampler);
    return SP_OK;
}

sp_status sp_compared_model_settings(sp_compared_model *c, const sp_row_request *r, json_t **out)
{
    uint64_t hash;
    char text[17];
    int64_t count = c->evaluation->count;
    *out = NULL;
    SP_TRY(hash_model(c, r, &hash));
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    *out = json_pack("{s:s, s:i, s:f, s:o, s:s, s:i, s:I, s:I, s:s}", "sampler", sp_sampler_name(r->sampler.kind),
                     "steps", r->sampler.steps, "guidance", c->guidance, "seed", sp_json_seed(r->seed), "precision",
                     sp_dtype_name(c->pipeline->precision), "size", c->evaluation->size, "batch",
                     (json_int_t)c->batch, "text_batch",
                     (json_int_t)(count < SP_TEXT_BATCH ? count : SP_TEXT_BATCH), "model_hash", text);
    return *out ? SP_OK : SP_MEMORY;
}

/* ---- the row ---- */

static sp_status score_map(sp_compared_model *c, const sp_row_request *r, const sp_callbacks *callbacks,
                           sp_scores *scores)
{
    double own;
    if (!c->errors.trajectory) return SP_OK;
    SP_TRY(sp_model_errors_of_sampler(&c->errors, r->scheduler, &r->sampler, callbacks, &own));
    return sp_evaluation_score_map(c->evaluation, &c->curve, own, scores);
}

sp_status sp_compared_model_score(sp_compared_model *c, const sp_row_request *r, const sp_drawn *drawn,
                                  const sp_callbacks *callbacks, sp_row *row)
{
    const sp_callbacks quiet = sp_without_report(callbacks);
    *row = (sp_row){.model = r->model,
                    .sampler = sp_sampler_name(r->sampler.kind),
                    .steps = r->sampler.steps,
                    .scores = sp_scores_none(),
                    .seconds_per_image = NAN};
    SP_TRY(score_map(c, r, callbacks, &row->scores));
    return sp_evaluation_score_drawn(c->evaluation, drawn, &quiet, &row->scores);
}
