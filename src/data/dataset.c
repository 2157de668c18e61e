/* A data set of any kind: its samples, their order, what was rejected and why. */
#include "data/dataset.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "data/coco.h"
#include "data/emoji.h"
#include "data/folder.h"
#include "data/given.h"
#include "data/source.h"
#include "data/wds.h"
#include "image/image.h"

#define MAX_RESOLUTION 4096

/* ---- building, for the kinds ---- */

void sp_dataset_reject(const sp_dataset *dataset, const char *reason, const char *name,
                       const char *detail)
{
    sp_rejections_add(dataset->rejections, reason, name, detail);
}

void sp_dataset_reject_words(const sp_dataset *dataset, const char *reason, const char *name, const char *detail)
{
    if (!dataset->options.all_pictures) sp_dataset_reject(dataset, reason, name, detail);
}

sp_status sp_dataset_append(sp_dataset *dataset, const char *name, int caption_capacity,
                            sp_sample **out)
{
    *out = NULL;
    if (dataset->count == dataset->capacity) {
        int64_t capacity = dataset->capacity ? dataset->capacity * 2 : 256;
        sp_sample *samples =
            sp_realloc(dataset->samples, (size_t)dataset->capacity * sizeof(sp_sample),
                       (size_t)capacity * sizeof(sp_sample));
        if (!samples) return SP_MEMORY;
        dataset->samples = samples;
        dataset->capacity = capacity;
    }
    const char *copy = sp_arena_strdup(dataset->arena, name);
    const char **captions =
        sp_arena_alloc(dataset->arena, (size_t)caption_capacity * sizeof(char *));
    if (!copy || !captions) return SP_MEMORY;
    *out = &dataset->samples[dataset->count++];
    **out = (sp_sample){.name = copy, .captions = captions};
    return SP_OK;
}

sp_status sp_sample_add_caption(sp_dataset *dataset, sp_sample *sample, const char *caption)
{
    const char *copy = sp_arena_strdup(dataset->arena, caption);
    if (!copy) return SP_MEMORY;
    sample->captions[sample->caption_count++] = copy;
    return SP_OK;
}

/* ---- opening ---- */

static sp_status split_held_out(sp_dataset *dataset)
{
    size_t size = (size_t)dataset->count * sizeof(int64_t);
    dataset->training = sp_alloc(size);
    dataset->held_out = sp_alloc(size);
    if (!dataset->training || !dataset->held_out) return SP_MEMORY;
    for (int64_t i = 0; i < dataset->count; i++)
        if (dataset->samples[i].held_out)
            dataset->held_out[dataset->held_out_count++] = i;
        else
            dataset->training[dataset->training_count++] = i;
    return SP_OK;
}

static sp_status nothing_accepted(sp_dataset *dataset)
{
    sp_rejection list[SP_MAX_REASONS];
    size_t count = sp_rejections_list(dataset->rejections, list, SP_MAX_REASONS);
    if (!count) return sp_fail(SP_FORMAT, "data \"%s\" holds no pictures", dataset->spec);
    sp_string why = {0};
    for (size_t i = 0; i < count; i++)
        sp_string_append_format(&why, "%s%lld %s", i ? ", " : "", (long long)list[i].count, list[i].reason);
    sp_fail(SP_FORMAT, "data \"%s\": no sample is accepted (%s; for example %s)", dataset->spec,
            sp_string_text(&why), list[0].example);
    sp_string_free(&why);
    return SP_FORMAT;
}

static sp_status prepare(sp_dataset *dataset, const char *spec)
{
    dataset->spec = sp_strdup(spec);
    dataset->arena = sp_arena_create();
    dataset->rejections = sp_rejections_create();
    if (!dataset->spec || !dataset->arena || !dataset->rejections) return SP_MEMORY;
    sp_dataset_options *o = &dataset->options;
    if (o->caption_column && !*o->caption_column)
        return sp_fail(SP_ARGUMENT, "the name of the captions' column is empty");
    if (o->caption_column) { /* the caller's may go */
        o->caption_column = sp_arena_strdup(dataset->arena, o->caption_column);
        if (!o->caption_column) return SP_MEMORY;
    }
    if (o->resolution < 0 || o->resolution > MAX_RESOLUTION)
        return sp_fail(SP_ARGUMENT, "resolution %d is out of range, expected 1 to %d",
                       o->resolution, MAX_RESOLUTION);
    if (o->min_size < 0)
        return sp_fail(SP_ARGUMENT, "the smallest picture size %d is negative", o->min_size);
    if (!(o->min_aesthetic >= 0 && o->max_watermark >= 0 && o->min_similarity >= 0))
        return sp_fail(SP_ARGUMENT, "a filter's limit is negative: %g, %g, %g", o->min_aesthetic,
                       o->max_watermark, o->min_similarity);
    return SP_OK;
}

static sp_status finish(sp_dataset *dataset)
{
    if (!dataset->count) return nothing_accepted(dataset);
    if (dataset->count >= UINT32_MAX)
        return sp_fail(SP_UNSUPPORTED, "data \"%s\" has more than 2^32 samples", dataset->spec);
    return split_held_out(dataset);
}

sp_status sp_dataset_open_kind(const char *spec, const sp_dataset_options *options,
                               sp_dataset_filler *fill, const void *context,
                               const sp_callbacks *callbacks, sp_dataset **out)
{
    *out = NULL;
    sp_dataset *dataset = sp_alloc_zero(sizeof *dataset);
    if (!dataset) return SP_MEMORY;
    if (options) dataset->options = *options;
    sp_status status = prepare(dataset, spec);
    if (status == SP_OK) status = fill(dataset, context, callbacks);
    if (status == SP_OK) status = finish(dataset);
    if (status == SP_OK)
        *out = dataset;
    else
        sp_dataset_close(dataset);
    return status;
}

typedef struct {
    const char *prefix, *what;
    sp_dataset_filler *fill;
    const void *context; /* NULL: what follows the prefix, which may not be empty then */
    bool files;          /* of pictures, whose options those of data/picture.h are */
} kind;

static const kind kinds[] = {
    {"emoji:", "emoji:", sp_emoji_fill, &sp_emoji_debian_files, false},
    {"emoji:kinds", "emoji:kinds", sp_emoji_fill, &sp_emoji_debian_kinds, false},
    {"folder:", "folder:DIR", sp_folder_fill, NULL, true},
    {"wds:", "wds:SHARDS.tar", sp_wds_fill, NULL, true},
    {"coco:", "coco:ANNOTATIONS.json,IMAGES", sp_coco_fill, NULL, true},
};
enum { KINDS = sizeof kinds / sizeof *kinds };
/* Not one that a user can name. */
static const kind program_source = {"source:", "source:NAME", sp_given_fill, NULL, false};

static sp_status unknown(const char *spec)
{
    sp_string known = {0};
    for (size_t i = 0; i < KINDS; i++)
        sp_string_append_format(&known, "%s%s",
                                i + 1 == KINDS ? " or "
                                : i            ? ", "
                                               : "",
                                kinds[i].what);
    sp_status status =
        sp_fail(SP_ARGUMENT, "data \"%s\" is not known, expected %s", spec, sp_string_text(&known));
    sp_string_free(&known);
    return status;
}

bool sp_dataset_is_spec(const char *text)
{
    for (size_t i = 0; i < KINDS; i++)
        if (sp_starts_with(text, kinds[i].prefix)) return true;
    return sp_starts_with(text, program_source.prefix) || sp_starts_with(text, "latents:");
}

bool sp_dataset_is_drawn(const char *spec)
{
    for (size_t i = 0; i < KINDS; i++)
        if (sp_starts_with(spec, kinds[i].prefix)) return !kinds[i].files;
    return sp_starts_with(spec, program_source.prefix);
}

const char *sp_dataset_flag_set(const sp_dataset_options *o)
{
    return o->min_size             ? "min_size"
           : o->min_aesthetic > 0  ? "min_aesthetic"
           : o->max_watermark > 0  ? "max_watermark"
           : o->min_similarity > 0 ? "min_similarity"
           : o->caption_column     ? "caption_column"
           : o->random_crop        ? "random_crop"
                                   : NULL;
}

sp_status sp_dataset_open(const char *spec, const sp_dataset_options *options,
                          const sp_callbacks *callbacks, sp_dataset **out)
{
    *out = NULL;
    if (sp_starts_with(spec, "latents:"))
        return sp_fail(SP_UNSUPPORTED,
                       "data \"%s\" holds latents, and pictures are needed here; distill takes it",
                       spec);
    for (size_t i = 0; i <= KINDS; i++) {
        const kind *k = i < KINDS ? &kinds[i] : &program_source;
        size_t length = strlen(k->prefix);
        if (!sp_starts_with(spec, k->prefix) || !k->context == !spec[length]) continue;
        const char *flag = options && !k->files ? sp_dataset_flag_set(options) : NULL;
        if (flag)
            return sp_fail(SP_ARGUMENT,
                           "`%s` is for sets of picture files, and data \"%s\" is none", flag,
                           spec);
        return sp_dataset_open_kind(spec, options, k->fill, k->context ? k->context : spec + length,
                                    callbacks, out);
    }
    return unknown(spec);
}

void sp_dataset_close(sp_dataset *dataset)
{
    if (!dataset) return;
    if (dataset->kind) dataset->kind->close(dataset->source);
    sp_rejections_destroy(dataset->rejections);
    sp_arena_destroy(dataset->arena);
    sp_free(dataset->samples);
    sp_free(dataset->training);
    sp_free(dataset->held_out);
    sp_free(dataset->spec);
    sp_free(dataset);
}

/* ---- looking ---- */

int64_t sp_dataset_count(const sp_dataset *dataset)
{
    return dataset->count;
}

int sp_dataset_resolution(const sp_dataset *dataset)
{
    return dataset->options.resolution;
}

const char *sp_dataset_spec(const sp_dataset *dataset)
{
    return dataset->spec;
}

const sp_dataset_options *sp_dataset_get_options(const sp_dataset *dataset)
{
    return &dataset->options;
}

bool sp_dataset_flips(const sp_dataset_options *options, uint64_t epoch, int64_t sample)
{
    const sp_random_key key = {options->seed, SP_STREAM_FLIP, epoch, (uint64_t)sample};
    return options->random_flip && sp_random_below(key, 2);
}

/* Of `damaged` in all samples. */
static pthread_mutex_t damaged_lock = PTHREAD_MUTEX_INITIALIZER;

static void reject_damaged(sp_dataset *dataset, sp_sample *sample)
{
    pthread_mutex_lock(&damaged_lock);
    bool first = !sample->damaged;
    sample->damaged = true;
    pthread_mutex_unlock(&damaged_lock);
    if (first)
        sp_dataset_reject(dataset, "damaged picture (another stands in)", sample->name,
                          sp_error_message());
}

sp_status sp_dataset_image(sp_dataset *dataset, int64_t sample, uint8_t *rgb, int64_t *used)
{
    if (sample < 0 || sample >= dataset->count)
        return sp_fail(SP_ARGUMENT, "sample %lld of %lld does not exist", (long long)sample,
                       (long long)dataset->count);
    for (int64_t i = 0; i < dataset->count; i++) {
        int64_t at = (sample + i) % dataset->count;
        if (dataset->samples[at].held_out != dataset->samples[sample].held_out) continue;
        sp_status status = dataset->kind->image(dataset, at, rgb);
        if (status == SP_FORMAT || status == SP_IO || status == SP_UNSUPPORTED) {
            reject_damaged(dataset, &dataset->samples[at]);
            continue;
        }
        if (used) *used = at;
        return status;
    }
    return sp_fail(SP_FORMAT, "data \"%s\": no picture can be read any more", dataset->spec);
}

/* The picture as a PNG file, of a kind that has none. */
static sp_status encode(const sp_dataset *dataset, int64_t sample, char **bytes, size_t *size)
{
    int side = dataset->options.resolution;
    sp_image image;
    uint8_t *file;
    SP_TRY(sp_image_create(side, side, &image));
    sp_status status = dataset->kind->image(dataset, sample, image.pixels);
    if (!status) status = sp_image_encode_png(&image, NULL, 0, &file, size);
    sp_image_free(&image);
    if (!status) *bytes = (char *)file;
    return status;
}

sp_status sp_dataset_bytes(const sp_dataset *dataset, int64_t sample, char **bytes, size_t *size)
{
    *bytes = NULL;
    return dataset->kind->bytes ? dataset->kind->bytes(dataset, sample, bytes, size)
                                : encode(dataset, sample, bytes, size);
}

int sp_dataset_caption_count(const sp_dataset *dataset, int64_t sample)
{
    return dataset->samples[sample].caption_count;
}

const char *sp_dataset_caption(const sp_dataset *dataset, int64_t sample, int variant)
{
    return dataset->samples[sample].captions[variant];
}

const char *sp_dataset_name(const sp_dataset *dataset, int64_t sample)
{
    return dataset->samples[sample].name;
}

bool sp_dataset_is_held_out(const sp_dataset *dataset, int64_t sample)
{
    return dataset->samples[sample].held_out;
}

int64_t sp_dataset_training_count(const sp_dataset *dataset)
{
    return dataset->training_count;
}

int64_t sp_dataset_training_sample(const sp_dataset *dataset, int64_t k)
{
    return dataset->training[k];
}

int64_t sp_dataset_held_out_count(const sp_dataset *dataset)
{
    return dataset->held_out_count;
}

int64_t sp_dataset_held_out_sample(const sp_dataset *dataset, int64_t k)
{
    return dataset->held_out[k];
}

size_t sp_dataset_rejections(sp_dataset *dataset, sp_rejection *out, size_t capacity)
{
    return sp_rejections_list(dataset->rejections, out, capacity);
}

int64_t sp_dataset_rejected(sp_dataset *dataset)
{
    sp_rejection list[SP_MAX_REASONS];
    return sp_rejections_sum(list, sp_dataset_rejections(dataset, list, SP_MAX_REASONS));
}

void sp_dataset_summary(sp_dataset *dataset, sp_string *out)
{
    sp_rejection reasons[SP_MAX_REASONS];
    size_t count = sp_dataset_rejections(dataset, reasons, SP_MAX_REASONS);
    int64_t captions = 0;
    for (int64_t i = 0; i < dataset->count; i++)
        captions += dataset->samples[i].caption_count;
    sp_string_say(out, "%s holds %lld pictures (%dx%d), %lld captions; %lld held out\n",
                            dataset->spec, (long long)dataset->count, dataset->options.resolution,
                            dataset->options.resolution, (long long)captions,
                            (long long)dataset->held_out_count);
    sp_rejections_append(reasons, count, out);
}

void sp_dataset_log(sp_dataset *dataset)
{
    sp_string summary = {0};
    sp_dataset_summary(dataset, &summary);
    if (summary.data) sp_log_lines(summary.data);
    sp_string_free(&summary);
}

/* ---- order ---- */

struct sp_dataset_order {
    uint64_t seed, epoch;
    uint32_t count;
    uint32_t *permutation;
};

static void shuffle(sp_dataset_order *order, uint64_t epoch)
{
    sp_random_key key = {.seed = order->seed, .stream = SP_STREAM_SHUFFLE, .step = epoch};
    sp_random_permutation(key, order->permutation, order->count);
    order->epoch = epoch;
}

sp_status sp_dataset_order_create(uint64_t seed, int64_t count, sp_dataset_order **out)
{
    *out = NULL;
    if (count < 1 || count > UINT32_MAX)
        return sp_fail(SP_ARGUMENT, "%lld samples cannot be put in order", (long long)count);
    sp_dataset_order *order = sp_alloc_zero(sizeof *order);
    uint32_t *permutation = sp_alloc((size_t)count * sizeof(uint32_t));
    if (!order || !permutation) {
        sp_free(order);
        sp_free(permutation);
        return SP_MEMORY;
    }
    *order = (sp_dataset_order){.seed = seed, .count = (uint32_t)count, .permutation = permutation};
    shuffle(order, 0);
    *out = order;
    return SP_OK;
}

void sp_dataset_order_destroy(sp_dataset_order *order)
{
    if (!order) return;
    sp_free(order->permutation);
    sp_free(order);
}

int64_t sp_dataset_order_at(sp_dataset_order *order, uint64_t position)
{
    uint64_t epoch = position / order->count;
    if (epoch != order->epoch) shuffle(order, epoch);
    return order->permutation[position % order->count];
}

/* ---- as the public options say it ---- */

static double filter(double limit)
{
    return limit == (double)SPLAM_UNSET ? 0 : limit;
}

sp_dataset_options sp_dataset_options_of(const splam_picture_options *o, uint64_t seed)
{
    return (sp_dataset_options){
        .resolution = o->resolution == SPLAM_UNSET ? 0 : (int)o->resolution,
        .min_size = o->min_size == SPLAM_UNSET ? 0 : (int)o->min_size,
        .min_aesthetic = filter(o->min_aesthetic),
        .max_watermark = filter(o->max_watermark),
        .min_similarity = filter(o->min_similarity),
        .caption_column = o->caption_column,
        .random_crop = o->random_crop,
        .random_flip = o->random_flip,
        .seed = seed,
    };
}
