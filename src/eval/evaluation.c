/* Choosing prompts, encoding the real pictures, judging drawn ones. */
#include "eval/evaluation.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "base/random.h"
#include "image/image.h"
#include "eval/vae_features.h"
#include "pipeline/vae_run.h"

enum { CHUNK_PIXELS = 1 << 21 }; /* of the real pictures that are in memory at once */

/* ---- choosing ---- */

static int64_t find_caption(const sp_dataset *dataset, const char *caption)
{
    for (int64_t i = 0; i < sp_dataset_count(dataset); i++)
        if (strcmp(sp_dataset_caption(dataset, i, 0), caption) == 0) return i;
    return -1;
}

/* Samples that prompts are drawn from. */
typedef struct {
    int64_t *sample, count;
} pool;

static bool is_trained(const sp_dataset *dataset, const char *caption)
{
    int64_t count = sp_dataset_training_count(dataset);
    for (int64_t k = 0; k < count; k++)
        if (strcmp(sp_dataset_caption(dataset, sp_dataset_training_sample(dataset, k), 0), caption) == 0) return true;
    return false;
}

/* Unseen is what is held out and whose caption is, too: where captions name many pictures, a held-out picture has one
 * that training has. Such a picture is in neither pool. */
static sp_status make_pools(const sp_dataset *dataset, pool *training, pool *unseen)
{
    int64_t trained = sp_dataset_training_count(dataset), held_out = sp_dataset_held_out_count(dataset);
    training->sample = sp_alloc((size_t)(trained + 1) * sizeof *training->sample);
    unseen->sample = sp_alloc((size_t)(held_out + 1) * sizeof *unseen->sample);
    if (!training->sample || !unseen->sample) return SP_MEMORY;
    for (int64_t k = 0; k < trained; k++)
        training->sample[training->count++] = sp_dataset_training_sample(dataset, k);
    for (int64_t k = 0; k < held_out; k++) {
        int64_t sample = sp_dataset_held_out_sample(dataset, k);
        if (!is_trained(dataset, sp_dataset_caption(dataset, sample, 0)))
            unseen->sample[unseen->count++] = sample;
    }
    return SP_OK;
}

/* Appends samples of one pool, in drawn order, until `until` have been chosen. */
static sp_status append_drawn(sp_evaluation *e, uint64_t seed, bool held_out, const pool *from, int64_t until,
                              bool *taken, int64_t *chosen)
{
    if (from->count == 0) return SP_OK;
    uint32_t *order = sp_alloc((size_t)from->count * sizeof *order);
    if (!order) return SP_MEMORY;
    sp_random_permutation((sp_random_key){seed, SP_STREAM_SHUFFLE, held_out, 0}, order, (size_t)from->count);
    for (int64_t k = 0; k < from->count && *chosen < until; k++) {
        int64_t sample = from->sample[order[k]];
        if (taken[sample]) continue;
        taken[sample] = true;
        e->held_out[*chosen] = held_out;
        e->sample[(*chosen)++] = sample;
    }
    sp_free(order);
    return SP_OK;
}

static bool is_in(const pool *pool, int64_t sample)
{
    for (int64_t k = 0; k < pool->count; k++)
        if (pool->sample[k] == sample) return true;
    return false;
}

static sp_status choose(sp_evaluation *e, const sp_evaluation_options *o, const pool *training, const pool *unseen,
                        bool *taken)
{
    int64_t chosen = 0, held_out = 0;
    for (int64_t i = 0; i < o->wanted_count && chosen < e->count; i++) {
        int64_t sample = find_caption(e->dataset, o->wanted[i]);
        if (sample < 0 || taken[sample]) continue;
        taken[sample] = true;
        e->held_out[chosen] = is_in(unseen, sample);
        held_out += e->held_out[chosen];
        e->sample[chosen++] = sample;
    }
    int64_t aim = e->count / 4;
    if (aim > unseen->count) aim = unseen->count;
    int64_t missing = aim > held_out ? aim - held_out : 0;
    int64_t until = e->count - missing > chosen ? e->count - missing : chosen;
    SP_TRY(append_drawn(e, o->seed, false, training, until, taken, &chosen));
    return append_drawn(e, o->seed, true, unseen, e->count, taken, &chosen);
}

static sp_status choose_from(sp_evaluation *e, const sp_evaluation_options *o, const pool *training,
                             const pool *unseen)
{
    int64_t all = e->dataset ? training->count + unseen->count : o->known;
    if (o->count < 2 || o->count > all)
        return sp_fail(SP_ARGUMENT,
                       "%lld prompts cannot be measured: %s has %s for 2 to %lld", (long long)o->count, e->source,
                       e->dataset ? "pictures" : "captions", (long long)all);
    size_t count = (size_t)o->count;
    e->count = o->count;
    e->known = e->dataset ? o->count : o->known;
    e->sample = sp_alloc_zero(count * sizeof *e->sample);
    e->place = sp_alloc_zero(count * sizeof *e->place);
    e->prompt = sp_alloc_zero((size_t)e->known * sizeof *e->prompt);
    e->held_out = sp_alloc_zero(count * sizeof *e->held_out);
    bool *taken = e->dataset ? sp_alloc_zero((size_t)sp_dataset_count(e->dataset) * sizeof *taken) : NULL;
    sp_status status = e->sample && e->place && e->prompt && e->held_out ? SP_OK : SP_MEMORY;
    if (!status && e->dataset)
        status = taken ? choose(e, o, training, unseen, taken) : SP_MEMORY;
    else if (!status)
        memcpy(e->prompt, o->prompts, (size_t)e->known * sizeof *e->prompt);
    sp_free(taken);
    return status;
}

static sp_status choose_prompts(sp_evaluation *e, const sp_evaluation_options *o)
{
    pool training = {0}, unseen = {0};
    sp_status status = e->dataset ? make_pools(e->dataset, &training, &unseen) : SP_OK;
    if (!status) status = choose_from(e, o, &training, &unseen);
    sp_free(training.sample);
    sp_free(unseen.sample);
    return status;
}

/* ---- real pictures ---- */

static uint64_t hash_of(const uint8_t *bytes, size_t size)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001B3);
    return hash;
}

/* One picture as floats; a stand-in for a damaged one brings its own caption. `keys` may be NULL. */
static sp_status real_picture(const sp_evaluation *e, int64_t sample, uint8_t *rgb, float *nchw, sp_real_picture *keys)
{
    int64_t used;
    int size = sp_dataset_resolution(e->dataset);
    SP_TRY(sp_dataset_image(e->dataset, sample, rgb, &used));
    for (int64_t i = 0; i < e->count && used != sample; i++)
        if (e->sample[i] == sample) e->prompt[i] = sp_dataset_caption(e->dataset, used, 0);
    sp_rgb_to_float(rgb, size, size, nchw);
    const char *caption = sp_dataset_caption(e->dataset, used, 0);
    if (keys)
        *keys = (sp_real_picture){hash_of(rgb, (size_t)size * (size_t)size * 3),
                                  hash_of((const uint8_t *)caption, strlen(caption))};
    return SP_OK;
}

/* The features of `latents` by those of the metrics that are of pictures, into rows first.. of its table of `total`
 * rows. */
static sp_status keep_features(sp_metric_set metrics, int64_t first, int64_t total, const sp_tensor *latents,
                               sp_tensor tables[SP_METRICS_MAX])
{
    const sp_metric *metric;
    for (int k = 0; (metric = sp_metric_at(k)); k++) {
        sp_tensor features;
        if (!(metrics & 1u << k) || !metric->features) continue;
        SP_TRY(metric->features(latents, &features));
        int64_t width = features.shape.dim[1];
        sp_status status = SP_OK;
        if (!tables[k].data) status = sp_tensor_create(SP_F32, sp_shape_of(total, width), &tables[k]);
        if (!status)
            memcpy((float *)tables[k].data + first * width, features.data, sp_tensor_bytes(&features));
        sp_tensor_free(&features);
        SP_TRY(status);
    }
    return SP_OK;
}

static void free_features(sp_tensor tables[SP_METRICS_MAX])
{
    for (int k = 0; k < SP_METRICS_MAX; k++)
        sp_tensor_free(&tables[k]);
}

/* If no metric looks among all pictures, only the prompts' own are encoded. */
static bool looks_among_all(const sp_evaluation *e)
{
    return e->metrics & sp_metrics_of(SP_REFERENCE_ALL);
}

bool sp_evaluation_has_image_metric(const sp_evaluation *e)
{
    return e->metrics & ~sp_metrics_of(SP_REFERENCE_TRAJECTORY);
}

static sp_status run_vae(const sp_evaluation *e, sp_vae_half half, const sp_tensor *in,
                         const sp_callbacks *callbacks, sp_tensor *out)
{
    const sp_vae_settings settings = {.device = e->device};
    return sp_vae_run_all(e->vae, half, in, &settings, callbacks, out);
}

/* Pictures first..first+n-1 of those that are looked among, in `images` [n,...]. */
static sp_status encode_chunk(sp_evaluation *e, int64_t first, sp_tensor *images, uint8_t *rgb)
{
    int64_t n = images->shape.dim[0], one = sp_tensor_count(images) / n;
    for (int64_t i = 0; i < n; i++) {
        int64_t sample = looks_among_all(e) ? first + i : e->sample[first + i];
        SP_TRY(
            real_picture(e, sample, rgb, (float *)images->data + i * one, &e->real[first + i]));
    }
    sp_tensor latents;
    SP_TRY(run_vae(e, SP_VAE_ENCODE, images, NULL, &latents));
    const sp_metric_set metrics = e->metrics & sp_metrics_of_real_pictures();
    sp_status status = keep_features(metrics, first, e->real_count, &latents, e->reference);
    sp_tensor_free(&latents);
    return status;
}

static sp_status encode_real(sp_evaluation *e, const sp_callbacks *callbacks)
{
    int64_t size = sp_dataset_resolution(e->dataset), chunk = CHUNK_PIXELS / (size * size);
    if (chunk < 1) chunk = 1;
    uint8_t *rgb = sp_alloc((size_t)(size * size * 3));
    sp_status status = rgb ? SP_OK : SP_MEMORY;
    for (int64_t first = 0; first < e->real_count && !status; first += chunk) {
        int64_t n = e->real_count - first < chunk ? e->real_count - first : chunk;
        sp_tensor images = {0};
        status = sp_check_cancelled(callbacks);
        if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(n, 3, size, size), &images);
        if (!status) status = encode_chunk(e, first, &images, rgb);
        sp_tensor_free(&images);
        sp_report(callbacks, "encoding real pictures", first + n, e->real_count, NULL);
    }
    sp_free(rgb);
    return status;
}

/* The table of metric k without the rows that it does not look among. */
static sp_status keep_own_rows(sp_evaluation *e, int k)
{
    sp_tensor own, *all = &e->reference[k];
    int64_t width = all->shape.dim[1];
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(e->count, width), &own));
    for (int64_t i = 0; i < e->count; i++)
        memcpy((float *)own.data + i * width, (const float *)all->data + e->place[i] * width,
               (size_t)width * sizeof(float));
    sp_tensor_free(all);
    *all = own;
    return SP_OK;
}

static sp_status prepare_real(sp_evaluation *e, const sp_callbacks *callbacks)
{
    bool all = looks_among_all(e);
    const sp_metric_set real = e->metrics & sp_metrics_of_real_pictures();
    if (!e->dataset && real)
        return sp_fail(SP_ARGUMENT, "`data` is missing: %s compares with its pictures",
                       sp_metric_at(__builtin_ctz(real))->name);
    if (!e->dataset) return SP_OK;
    e->real_count = all ? sp_dataset_count(e->dataset) : e->count;
    for (int64_t i = 0; i < e->count; i++) {
        e->place[i] = all ? e->sample[i] : i;
        e->prompt[i] = sp_dataset_caption(e->dataset, e->sample[i], 0);
        e->held_out_count += e->held_out[i];
    }
    if (!real) return SP_OK;
    e->real = sp_alloc_zero((size_t)e->real_count * sizeof *e->real);
    if (!e->real) return SP_MEMORY;
    sp_status status = encode_real(e, callbacks);
    const sp_metric *metric;
    for (int k = 0; (metric = sp_metric_at(k)) && !status; k++)
        if (e->reference[k].data && metric->reference == SP_REFERENCE_NAMED) status = keep_own_rows(e, k);
    return status;
}

/* ---- the bound: real pictures through the autoencoder ---- */

/* Fills images with pictures first.., [n,3,size,size]. */
typedef sp_status fill_images(const sp_evaluation *e, const void *context, int64_t first, sp_tensor *images);

static sp_status add_chunk(const sp_evaluation *e, sp_metric_set metrics, int64_t first, const sp_tensor *images,
                           sp_tensor tables[SP_METRICS_MAX])
{
    sp_tensor latents;
    SP_TRY(run_vae(e, SP_VAE_ENCODE, images, NULL, &latents));
    sp_status status = keep_features(metrics, first, e->count, &latents, tables);
    sp_tensor_free(&latents);
    return status;
}

/* The features of all pictures, a chunk after the other; the last one is as long as the others, for the autoencoder's
 * bits may depend on that, and so begins in the one before. */
static sp_status features_of(const sp_evaluation *e, sp_metric_set metrics, fill_images *fill, const void *context,
                             const sp_callbacks *callbacks, sp_tensor tables[SP_METRICS_MAX])
{
    int64_t size = e->size, chunk = CHUNK_PIXELS / (size * size);
    if (chunk < 1) chunk = 1;
    if (chunk > e->count) chunk = e->count;
    sp_tensor images;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(chunk, 3, size, size), &images));
    sp_status status = SP_OK;
    for (int64_t done = 0; done < e->count && !status; done += chunk) {
        int64_t first = done + chunk < e->count ? done : e->count - chunk;
        status = sp_check_cancelled(callbacks);
        if (!status) status = fill(e, context, first, &images);
        if (!status) status = add_chunk(e, metrics, first, &images, tables);
    }
    sp_tensor_free(&images);
    return status;
}

static sp_status score(const sp_evaluation *e, const sp_tensor *features, sp_measured measured, sp_scores *scores);

static sp_status score_pictures(const sp_evaluation *e, fill_images *fill, const void *context,
                                const sp_callbacks *callbacks, sp_scores *scores)
{
    sp_tensor features[SP_METRICS_MAX] = {0};
    sp_status status = features_of(e, e->metrics, fill, context, callbacks, features);
    if (!status) status = score(e, features, (sp_measured){0}, scores);
    free_features(features);
    return status;
}

/* Real pictures, encoded, decoded and rounded as drawn ones are. */
static sp_status fill_decoded(const sp_evaluation *e, const void *context, int64_t first, sp_tensor *images)
{
    int64_t n = images->shape.dim[0], one = sp_tensor_count(images) / n;
    uint8_t *rgb = sp_alloc((size_t)one);
    sp_tensor latents = {0}, decoded = {0};
    sp_status status = rgb ? SP_OK : SP_MEMORY;
    (void)context;
    for (int64_t i = 0; i < n && !status; i++)
        status = real_picture(e, e->sample[first + i], rgb, (float *)images->data + i * one, NULL);
    if (!status) status = run_vae(e, SP_VAE_ENCODE, images, NULL, &latents);
    if (!status) status = run_vae(e, SP_VAE_DECODE, &latents, NULL, &decoded);
    if (!status) sp_features_quantise(&decoded);
    if (!status) memcpy(images->data, decoded.data, sp_tensor_bytes(&decoded));
    sp_tensor_free(&latents);
    sp_tensor_free(&decoded);
    sp_free(rgb);
    return status;
}

sp_status sp_evaluation_create(sp_dataset *dataset, const sp_component *vae, sp_device *device,
                               const sp_evaluation_options *options, const sp_callbacks *callbacks,
                               sp_evaluation **out)
{
    *out = NULL;
    sp_evaluation *e = sp_alloc_zero(sizeof *e);
    if (!e) return SP_MEMORY;
    e->vae = vae;
    e->dataset = dataset;
    e->size = dataset ? sp_dataset_resolution(dataset) : options->size;
    e->source = dataset ? sp_dataset_spec(dataset) : options->source;
    e->device = device;
    e->metrics = options->metrics;
    e->real_scores = sp_scores_none();
    sp_status status = choose_prompts(e, options);
    if (!status) status = prepare_real(e, callbacks);
    if (!status && e->metrics & sp_metrics_of_real_pictures())
        status = score_pictures(e, fill_decoded, NULL, callbacks, &e->real_scores);
    if (status) {
        sp_evaluation_destroy(e);
        return status;
    }
    *out = e;
    return SP_OK;
}

void sp_evaluation_destroy(sp_evaluation *e)
{
    if (!e) return;
    sp_free(e->sample);
    sp_free(e->place);
    sp_free(e->prompt);
    sp_free(e->held_out);
    sp_free(e->real);
    free_features(e->reference);
    sp_free(e);
}

sp_status sp_evaluation_real(const sp_evaluation *e, int64_t i, uint8_t *rgb)
{
    return sp_dataset_image(e->dataset, e->sample[i], rgb, NULL);
}

/* ---- judging ---- */

/* The columns of every metric asked for that looks at pictures and has what to compare them with, or of every one that
 * does not; `measured` says what there is but for features. */
static sp_status score(const sp_evaluation *e, const sp_tensor *features, sp_measured measured, sp_scores *scores)
{
    const sp_metric *metric;
    double *column = scores->value;
    measured.evaluation = e;
    for (int k = 0; (metric = sp_metric_at(k)); column += metric->column_count, k++) {
        if (!(e->metrics & 1u << k) || (metric->features != NULL) != (features != NULL)) continue;
        if (features && !e->reference[k].data) continue;
        measured.features = features ? &features[k] : NULL;
        measured.reference = features ? &e->reference[k] : NULL;
        for (int i = 0; i < metric->column_count; i++)
            column[i] = NAN;
        SP_TRY(metric->score(&measured, column));
    }
    return SP_OK;
}

static sp_status fill_drawn(const sp_evaluation *e, const void *context, int64_t first, sp_tensor *images)
{
    int64_t n = images->shape.dim[0], one = sp_tensor_count(images) / n;
    uint8_t *rgb = sp_alloc((size_t)one);
    sp_status status = rgb ? SP_OK : SP_MEMORY;
    for (int64_t i = 0; i < n && !status; i++) {
        status = sp_drawn_get(context, first + i, rgb);
        if (!status) sp_rgb_to_float(rgb, e->size, e->size, (float *)images->data + i * one);
    }
    sp_free(rgb);
    return status;
}

static sp_status check_drawn(const sp_evaluation *e, const sp_drawn *drawn)
{
    if (drawn->count == e->count && drawn->size == e->size) return SP_OK;
    return sp_fail(SP_SHAPE, "%lld pictures of %d pixels do not go with %lld prompts of %d pixels",
                   (long long)drawn->count, drawn->size, (long long)e->count, e->size);
}

sp_status sp_evaluation_keep_teacher(sp_evaluation *e, const sp_drawn *drawn, const sp_callbacks *callbacks)
{
    sp_metric_set metrics = e->metrics & sp_metrics_of(SP_REFERENCE_TEACHER);
    if (!metrics) return SP_OK;
    SP_TRY(check_drawn(e, drawn));
    return features_of(e, metrics, fill_drawn, drawn, callbacks, e->reference);
}

sp_status sp_evaluation_score_drawn(const sp_evaluation *e, const sp_drawn *drawn, const sp_callbacks *callbacks,
                                    sp_scores *scores)
{
    if (!sp_evaluation_has_image_metric(e)) return SP_OK;
    SP_TRY(check_drawn(e, drawn));
    return score_pictures(e, fill_drawn, drawn, callbacks, scores);
}

sp_status sp_evaluation_score_map(const sp_evaluation *e, const sp_error_curve *curve, double own, sp_scores *scores)
{
    return score(e, NULL, (sp_measured){.curve = curve, .own = own}, scores);
}
