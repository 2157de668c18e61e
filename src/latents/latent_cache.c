/* A latent cache read. */
#include "latents/latent_cache.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/visible.h"
#include "checkpoints/t5_file.h"
#include "latents/latent_cache_parts.h"
#include "latents/latent_encode.h"
#include "data/source.h"

/* ---- shared with writing ---- */

sp_status sp_latent_settings_key(const json_t *settings, uint64_t *key)
{
    char *text = json_dumps(settings, JSON_SORT_KEYS | JSON_COMPACT);
    if (!text) return sp_fail(SP_MEMORY, "out of memory for the settings of a latent cache");
    *key = XXH3_64bits(text, strlen(text));
    sp_json_text_free(text);
    return SP_OK;
}

char *sp_latent_index_path(const char *folder)
{
    return sp_path_join(folder, "index.json");
}

char *sp_latent_block_path(const char *folder, int64_t block)
{
    return sp_format("%s/latents-%05lld.safetensors", folder, (long long)block);
}

void sp_latent_hash_text(uint64_t hash, char out[17])
{
    snprintf(out, 17, "%016" PRIx64, hash);
}

/* ---- opening ---- */

void sp_latent_cache_close(sp_latent_cache *cache)
{
    if (!cache) return;
    for (int64_t i = 0; cache->blocks && i < cache->block_count; i++)
        sp_latent_block_free(&cache->blocks[i]);
    sp_free(cache->blocks);
    sp_conditioning_free(&cache->negative);
    json_decref(cache->index);
    sp_free(cache->folder);
    sp_free(cache);
}

/* The facts that the first block's tensors tell; `channels` is known. */
static sp_status facts_of(const sp_latent_block *block, sp_latent_facts *facts)
{
    const sp_shape *moments = &block->moments[0].shape;
    facts->gaussian = moments->dim[1] == 2 * facts->channels;
    facts->height = moments->dim[2];
    facts->width = moments->dim[3];
    if (facts->gaussian || moments->dim[1] == facts->channels) return SP_OK;
    return sp_fail(SP_FORMAT, "\"moments\" is %s for latents of %lld channels",
                   sp_shape_text(*moments), (long long)facts->channels);
}

static bool same_but_rows(const sp_tensor *a, const sp_tensor *b)
{
    sp_shape x = a->shape, y = b->shape;
    x.dim[0] = y.dim[0] = 0;
    return a->dtype == b->dtype && sp_shape_equal(x, y);
}

static sp_status open_block(sp_latent_cache *cache, int64_t i)
{
    int64_t left = cache->facts.count - i * cache->block_rows;
    char *path = sp_latent_block_path(cache->folder, i);
    sp_latent_block *block = &cache->blocks[i], *first = &cache->blocks[0];
    sp_status status =
        path ? sp_latent_block_open(path, left < cache->block_rows ? left : cache->block_rows,
                                    cache->facts.flips, false, block)
             : SP_MEMORY;
    if (!status && !same_but_rows(&block->moments[0], &first->moments[0]))
        status =
            sp_fail(SP_FORMAT, "%s: \"moments\" is %s, and in the first file %s", path,
                    sp_shape_text(block->moments[0].shape), sp_shape_text(first->moments[0].shape));
    if (!status) status = sp_conditioning_expect(&block->conditioning, &first->conditioning, "the conditioning");
    if (status && path) status = sp_fail_within(status, "%s", path);
    sp_free(path);
    return status;
}

/* Dimensions of a row that are larger than what is stored. */
static sp_status fill_shape(const json_t *wanted, const char *where, sp_condition *member)
{
    sp_shape *shape = &member->tensor.shape;
    bool good = json_array_size(wanted) == (size_t)(shape->rank - 1);
    for (int i = 1; i < shape->rank && good; i++) {
        json_int_t size = json_integer_value(json_array_get(wanted, (size_t)(i - 1)));
        good = size >= shape->dim[i] && size <= INT32_MAX;
        shape->dim[i] = size;
    }
    if (good && sp_shape_count(*shape) <= INT32_MAX) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: \"filled\" has no sizes for \"%s\" that what is stored fits into", where,
                   member->name);
}

/* Where zeros are not stored, settings say what they fill. */
static sp_status fill_shapes(sp_latent_cache *cache, const sp_latent_block *first)
{
    const json_t *filled = json_object_get(json_object_get(cache->index, "settings"), "filled");
    cache->shape = sp_conditioning_shape(&first->conditioning, 1);
    for (int i = 0; i < cache->shape.count; i++) {
        const json_t *wanted = json_object_get(filled, cache->shape.item[i].name);
        if (wanted) SP_TRY(fill_shape(wanted, cache->folder, &cache->shape.item[i]));
    }
    cache->facts.t5 = json_object_get(json_object_get(cache->index, "settings"), "text-encoder-3") != NULL;
    const sp_tensor *whole = sp_conditioning_find(&cache->shape, "encoder_hidden_states"),
                    *stored = sp_conditioning_find(&first->conditioning, "encoder_hidden_states");
    if (whole && whole->shape.rank == 3) cache->facts.tokens_behind = whole->shape.dim[1] - stored->shape.dim[1];
    return SP_OK;
}

static sp_status fill_negative(sp_latent_cache *cache, const sp_conditioning *stored)
{
    SP_TRY(sp_conditioning_create(&cache->shape, SP_F32, 1, &cache->negative));
    sp_conditioning_copy(&cache->negative, 0, 1, stored, 0);
    return SP_OK;
}

static sp_status open_blocks(sp_latent_cache *cache)
{
    cache->block_rows = SP_LATENT_BLOCK;
    cache->block_count = (cache->facts.count + SP_LATENT_BLOCK - 1) / SP_LATENT_BLOCK;
    char *last = sp_latent_block_path(cache->folder, cache->block_count - 1);
    if (!last) return SP_MEMORY;
    sp_status status = sp_path_exists(last)
                           ? SP_OK
                           : sp_fail(SP_FORMAT, "%s is absent, and index.json has %lld samples",
                                     last, (long long)cache->facts.count);
    sp_free(last);
    SP_TRY(status); /* before memory is asked for in the index's name */
    cache->blocks = sp_alloc_zero((size_t)cache->block_count * sizeof *cache->blocks);
    if (!cache->blocks) return SP_MEMORY;
    for (int64_t i = 0; i < cache->block_count; i++)
        SP_TRY(open_block(cache, i));
    const sp_latent_block *first = &cache->blocks[0];
    status = facts_of(first, &cache->facts);
    if (status) return sp_fail_within(status, "%s", sp_tensor_file_path(first->file));
    SP_TRY(sp_latent_block_check(first, cache->key, 0, first->rows));
    SP_TRY(fill_shapes(cache, first));
    return fill_negative(cache, &first->negative);
}

static sp_status read_settings(sp_latent_cache *cache, const char *where)
{
    const json_t *settings = json_object_get(cache->index, "settings");
    sp_latent_facts *f = &cache->facts;
    int64_t format, resolution;
    bool complete;
    SP_TRY(sp_json_int(cache->index, "format", 0, where, &format));
    if (format < SP_LATENT_FORMAT_READ || format > SP_LATENT_FORMAT)
        return sp_fail(SP_FORMAT, "%s: \"format\" is %lld, expected %d or %d", where, (long long)format,
                       SP_LATENT_FORMAT_READ, SP_LATENT_FORMAT);
    if (!json_is_object(settings)) return sp_fail(SP_FORMAT, "%s: no object \"settings\"", where);
    SP_TRY(sp_json_bool(cache->index, "complete", false, where, &complete));
    SP_TRY(sp_json_int(settings, "samples", 0, where, &f->count));
    SP_TRY(sp_json_int(settings, "latent-channels", 0, where, &f->channels));
    SP_TRY(sp_json_int(settings, "resolution", 0, where, &resolution));
    SP_TRY(sp_json_bool(settings, "random-flip", false, where, &f->flips));
    SP_TRY(sp_json_double(settings, "scaling-factor", 0, where, &f->scaling_factor));
    SP_TRY(sp_json_double(settings, "shift-factor", 0, where, &f->shift_factor));
    if (f->count < 1 || f->count >= UINT32_MAX || f->channels < 1 || f->channels > 1024 ||
        resolution < 1 || resolution > INT32_MAX || !(f->scaling_factor > 0) ||
        !isfinite(f->scaling_factor) || !isfinite(f->shift_factor))
        return sp_fail(
            SP_FORMAT,
            "%s: %lld samples of %lld channels from %lld pixels, scaled by %g, cannot be", where,
            (long long)f->count, (long long)f->channels, (long long)resolution, f->scaling_factor);
    cache->resolution = (int)resolution;
    if (!complete)
        return sp_fail(SP_ARGUMENT, "%s is not complete; making the cache again finishes it",
                       cache->folder);
    SP_TRY(sp_latent_settings_key(settings, &cache->key));
    snprintf(cache->key_text, sizeof cache->key_text, "%016" PRIx64, cache->key);
    return SP_OK;
}

static sp_status open_folder(sp_latent_cache *cache, const char *folder)
{
    char *path = sp_latent_index_path(folder);
    cache->folder = sp_strdup(folder);
    sp_status status = path && cache->folder ? SP_OK : SP_MEMORY;
    if (!status && !sp_path_exists(path))
        status = sp_fail(SP_IO, "%s is no latent cache: there is no index.json", folder);
    if (!status) status = sp_json_load(path, &cache->index);
    if (!status) status = read_settings(cache, path);
    sp_free(path);
    return status ? status : open_blocks(cache);
}

sp_status sp_latent_cache_open(const char *folder, sp_latent_cache **out)
{
    *out = NULL;
    sp_latent_cache *cache = sp_alloc_zero(sizeof *cache);
    if (!cache) return SP_MEMORY;
    sp_status status = open_folder(cache, folder);
    if (status)
        sp_latent_cache_close(cache);
    else
        *out = cache;
    return status;
}

/* ---- in memory ---- */

static sp_status encode_all(sp_latent_cache *cache, sp_dataset *dataset, sp_pipeline *pipeline,
                            const sp_callbacks *callbacks)
{
    const sp_vae_config *vae = &pipeline->vae->config.vae;
    sp_latent_encoder encoder;
    cache->facts = (sp_latent_facts){
        .count = sp_dataset_training_count(dataset),
        .channels = vae->latent_channels,
        .flips = sp_dataset_get_options(dataset)->random_flip,
        .scaling_factor = vae->scaling_factor,
        .shift_factor = vae->shift_factor,
    };
    cache->resolution = sp_dataset_resolution(dataset);
    cache->block_rows = cache->facts.count;
    cache->block_count = 1;
    cache->blocks = sp_alloc_zero(sizeof *cache->blocks);
    if (!cache->blocks) return SP_MEMORY;
    if (!cache->facts.count)
        return sp_fail(SP_FORMAT, "data \"%s\" has no sample to train on",
                       sp_dataset_spec(dataset));
    cache->blocks->rows = cache->facts.count;
    SP_TRY(sp_latent_encoder_open(dataset, pipeline, SP_F32, cache->facts.flips, &encoder));
    sp_status status = sp_latent_encode_pictures(&encoder, 0, cache->blocks, callbacks);
    if (!status) status = sp_latent_encode_text(&encoder, cache->blocks);
    cache->shape = encoder.shape;
    if (!status) status = fill_negative(cache, &encoder.negative);
    sp_latent_encoder_close(&encoder);
    return status ? status : facts_of(cache->blocks, &cache->facts);
}

sp_status sp_latent_cache_encode(sp_dataset *dataset, sp_pipeline *pipeline,
                                 const sp_callbacks *callbacks, sp_latent_cache **out)
{
    *out = NULL;
    sp_latent_cache *cache = sp_alloc_zero(sizeof *cache);
    if (!cache) return SP_MEMORY;
    sp_status status = encode_all(cache, dataset, pipeline, callbacks);
    if (status)
        sp_latent_cache_close(cache);
    else
        *out = cache;
    return status;
}

/* ---- reading ---- */

const sp_latent_facts *sp_latent_cache_facts(const sp_latent_cache *cache)
{
    return &cache->facts;
}

const sp_conditioning *sp_latent_cache_conditioning(const sp_latent_cache *cache)
{
    return &cache->shape;
}

const sp_conditioning *sp_latent_cache_negative(const sp_latent_cache *cache)
{
    return &cache->negative;
}

const char *sp_latent_cache_caption(const sp_latent_cache *cache, int64_t k)
{
    return sp_latent_block_caption(&cache->blocks[k / cache->block_rows], k % cache->block_rows);
}

const char *sp_latent_cache_key(const sp_latent_cache *cache)
{
    return cache->key_text;
}

int sp_latent_cache_resolution(const sp_latent_cache *cache)
{
    return cache->resolution;
}

size_t sp_latent_cache_bytes(const sp_latent_cache *cache)
{
    const sp_latent_block *b = cache->blocks;
    if (cache->folder) return 0;
    return sp_tensor_bytes(&b->moments[0]) +
           (b->moments[1].data ? sp_tensor_bytes(&b->moments[1]) : 0) +
           sp_conditioning_bytes(&b->conditioning);
}

/* Row i as f32, and its pages given back: all of a cache would pass through memory in an epoch. */
static void read_row(const sp_latent_block *block, const sp_tensor *tensor, int64_t i, float *out)
{
    sp_tensor row = *tensor;
    row.shape.dim[0] = 1;
    row.data = (char *)tensor->data + (size_t)i * sp_tensor_bytes(&row);
    sp_convert_elements(out, SP_F32, row.data, row.dtype, sp_tensor_count(&row));
    if (block->file) sp_tensor_file_drop(block->file, &row);
}

static void drop_conditions(const sp_latent_block *block, int64_t i)
{
    for (int k = 0; block->file && k < block->conditioning.count; k++) {
        sp_tensor row = block->conditioning.item[k].tensor;
        row.shape.dim[0] = 1;
        row.data = (char *)row.data + (size_t)i * sp_tensor_bytes(&row);
        sp_tensor_file_drop(block->file, &row);
    }
}

sp_status sp_latent_cache_read(const sp_latent_cache *cache, int64_t k, bool flipped,
                               float *moments, sp_conditioning *to, int64_t at)
{
    const sp_latent_block *block = &cache->blocks[k / cache->block_rows];
    int64_t row = k % cache->block_rows;
    if (flipped && !cache->facts.flips)
        return sp_fail(SP_ARGUMENT, "the latents hold no mirrored pictures");
    if (block->file) SP_TRY(sp_latent_block_check(block, cache->key, k - row, row));
    read_row(block, &block->moments[flipped], row, moments);
    if (!to) return SP_OK;
    sp_conditioning_copy(to, at, 1, &block->conditioning, row);
    drop_conditions(block, row);
    return SP_OK;
}

sp_status sp_latent_cache_verify(const sp_latent_cache *cache, const sp_callbacks *callbacks)
{
    for (int64_t i = 0; i < cache->block_count; i++) {
        const sp_latent_block *block = &cache->blocks[i];
        for (int64_t row = 0; row <= block->rows; row++)
            SP_TRY(sp_latent_block_check(block, cache->key, i * cache->block_rows, row));
        for (int flipped = 0; flipped < 2; flipped++)
            if (block->moments[flipped].data)
                sp_tensor_file_drop(block->file, &block->moments[flipped]);
        for (int k = 0; k < block->conditioning.count; k++)
            sp_tensor_file_drop(block->file, &block->conditioning.item[k].tensor);
        sp_report(callbacks, "checking latents", i + 1, cache->block_count, NULL);
        SP_TRY(sp_check_cancelled(callbacks));
    }
    return SP_OK;
}

/* ---- what it was made of and with ---- */

static sp_status vae_hash(const char *model, uint64_t *out)
{
    sp_component *vae;
    SP_TRY(sp_component_open(model, "vae", &vae));
    *out = sp_component_hash(vae);
    sp_component_close(vae);
    return SP_OK;
}

static sp_status text_hash(const char *path, uint64_t *out)
{
    sp_model *model;
    SP_TRY(sp_model_open(path, &(sp_model_options){.parts = SP_PART_TEXT}, &model));
    *out = sp_model_text_hash(model);
    sp_model_close(model);
    return SP_OK;
}

static sp_status check_part(const sp_latent_cache *cache, const char *model, uint64_t hash, const char *key)
{
    const json_t *settings = json_object_get(cache->index, "settings");
    const char *made = json_string_value(json_object_get(settings, key));
    const char *teacher = json_string_value(json_object_get(cache->index, "teacher"));
    char found[17];
    sp_latent_hash_text(hash, found);
    if (made && !strcmp(made, found)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s was made with the %s of %s (%s), and %s has another (%s)",
                   cache->folder, key, teacher ? teacher : "another model", made ? made : "unnamed",
                   model, found);
}

sp_status sp_latent_cache_check_teacher(const sp_latent_cache *cache, const char *model)
{
    uint64_t hash;
    if (!cache->folder) return SP_OK;
    SP_TRY(vae_hash(model, &hash));
    SP_TRY(check_part(cache, model, hash, "vae"));
    SP_TRY(text_hash(model, &hash));
    return check_part(cache, model, hash, "text-encoder");
}

sp_status sp_latent_cache_check_t5(const sp_latent_cache *cache, const char *path)
{
    sp_t5_file t5;
    if (!cache->folder) return SP_OK;
    SP_TRY(sp_t5_file_open(path, &t5));
    sp_status status = check_part(cache, path, sp_tensor_file_hash(t5.file), "text-encoder-3");
    sp_t5_file_close(&t5);
    return status;
}

static void append_rejected(const json_t *rejected, sp_string *out)
{
    size_t i;
    json_t *one;
    sp_rejection list[SP_MAX_REASONS];
    size_t count = 0;
    json_array_foreach(rejected, i, one)
    {
        if (count == SP_MAX_REASONS) break;
        const char *reason = json_string_value(json_object_get(one, "reason"));
        const char *example = json_string_value(json_object_get(one, "example"));
        sp_rejection *r = &list[count++];
        *r = (sp_rejection){.count = json_integer_value(json_object_get(one, "count"))};
        sp_clean_text(reason ? reason : "?", r->reason, sizeof r->reason);
        sp_clean_text(example ? example : "?", r->example, sizeof r->example);
    }
    sp_rejections_append(list, count, out);
}

void sp_latent_cache_summary(const sp_latent_cache *cache, sp_string *out)
{
    const sp_latent_facts *f = &cache->facts;
    const json_t *settings = json_object_get(cache->index, "settings");
    char conditions[512];
    sp_conditioning_text(&cache->shape, conditions, sizeof conditions);
    const char *data = json_string_value(json_object_get(settings, "data")),
               *teacher = json_string_value(json_object_get(cache->index, "teacher"));
    sp_string_say(
        out,
        "latents:%s holds %lld samples of %s (%dx%d), %s: moments of %lldx%lldx%lld%s, %s; "
        "made with %s\n",
        cache->folder ? cache->folder : "", (long long)f->count, data ? data : "?", cache->resolution,
        cache->resolution, sp_dtype_name(cache->blocks->moments[0].dtype), (long long)f->channels,
        (long long)f->height, (long long)f->width, f->flips ? ", mirrored too" : "",
        conditions, teacher ? teacher : "?");
    json_int_t cut = json_integer_value(json_object_get(cache->index, "captions-cut"));
    if (cut > 0)
        sp_string_say(
            out, "%lld captions have more tokens than the text encoder takes and were cut\n",
            (long long)cut);
    append_rejected(json_object_get(cache->index, "rejected"), out);
}
