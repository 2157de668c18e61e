/* Writing a latent cache, and going on with one. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/visible.h"
#include "data/caption_length.h"
#include "latents/latent_cache_parts.h"
#include "latents/latent_encode.h"
#include "data/source.h"

typedef struct {
    sp_dataset *dataset;
    sp_latent_encoder encoder;
    const sp_latent_cache_options *options;
    const char *folder;
    const sp_callbacks *callbacks;
    json_t *settings;
    sp_caption_cuts cuts;
    uint64_t key;
    char *partial; /* what a run that was asked to stop has of one block */
} writer;

/* ---- settings ---- */

/* Over the names of all training samples: tells whether the data are the same as before. */
static void hash_names(const sp_dataset *dataset, char out[17])
{
    uint64_t hash = SP_HASH_START;
    for (int64_t k = 0; k < sp_dataset_training_count(dataset); k++) {
        const char *name = sp_dataset_name(dataset, sp_dataset_training_sample(dataset, k));
        const sp_tensor none = {.dtype = SP_U8, .shape = {.rank = 1}};
        hash = sp_tensor_hash(hash, name, &none);
    }
    sp_latent_hash_text(hash, out);
}

/* The sizes of members that are not stored whole, by name. */
static sp_status record_filled(writer *w)
{
    const sp_conditioning *whole = &w->encoder.shape, *stored = &w->encoder.negative;
    json_t *filled = json_object();
    bool failed = !filled;
    for (int i = 0; i < whole->count && !sp_conditioning_same(whole, stored); i++) {
        const sp_shape shape = whole->item[i].tensor.shape;
        json_t *sizes = json_array();
        for (int k = 1; k < shape.rank; k++)
            failed |= json_array_append_new(sizes, json_integer(shape.dim[k])) != 0;
        failed |= json_object_set_new(filled, whole->item[i].name, sizes) != 0;
    }
    if (!failed && json_object_size(filled)) failed = json_object_set(w->settings, "filled", filled) != 0;
    json_decref(filled);
    return failed ? sp_fail(SP_MEMORY, "out of memory for the settings of %s", w->folder) : SP_OK;
}

static sp_status make_settings(writer *w)
{
    const sp_dataset_options *o = sp_dataset_get_options(w->dataset);
    const sp_pipeline *p = w->encoder.pipeline;
    const sp_vae_config *vae = &p->vae->config.vae;
    char names[17], vae_hash[17], text_hash[17], data[512];
    hash_names(w->dataset, names);
    sp_latent_hash_text(sp_component_hash(p->vae), vae_hash);
    sp_latent_hash_text(sp_model_text_hash(p->model), text_hash);
    sp_clean_text(sp_dataset_spec(w->dataset), data, sizeof data);
    w->settings = json_pack(
        "{s:s, s:I, s:s, s:i, s:i, s:f, s:f, s:f, s:b, s:b, s:o, s:s, s:s, s:s, s:s, s:I, s:f}",
        "data", data, "samples", (json_int_t)sp_dataset_training_count(w->dataset), "names", names,
        "resolution", o->resolution, "min-size", o->min_size, "min-aesthetic", o->min_aesthetic,
        "max-watermark", o->max_watermark, "min-similarity", o->min_similarity, "random-flip",
        (int)o->random_flip, "random-crop", (int)o->random_crop, "seed",
        /* without crops it decides nothing */ sp_json_seed(o->random_crop ? o->seed : 0),
        "cache-dtype", sp_dtype_name(w->options->dtype), "precision", sp_dtype_name(p->precision),
        "vae", vae_hash, "text-encoder", text_hash, "latent-channels",
        (json_int_t)vae->latent_channels, "scaling-factor", vae->scaling_factor);
    if (!w->settings) return sp_fail(SP_MEMORY, "out of memory for the settings of %s", w->folder);
    /* of those that have one, so that others' keys stay what they were */
    if (vae->shift_factor != 0 && json_object_set_new(w->settings, "shift-factor", json_real(vae->shift_factor)))
        return SP_MEMORY;
    if (p->model->t5) {
        char t5_hash[17];
        sp_latent_hash_text(sp_tensor_file_hash(p->model->t5->file.file), t5_hash);
        if (json_object_set_new(w->settings, "text-encoder-3", json_string(t5_hash))) return SP_MEMORY;
    }
    SP_TRY(record_filled(w));
    if (o->caption_column &&
        json_object_set_new(w->settings, "caption-column", json_string(o->caption_column)))
        return sp_fail(SP_ARGUMENT, "`caption_column` is not UTF-8");
    return sp_latent_settings_key(w->settings, &w->key);
}

static sp_status another_setting(const writer *w, const char *key, const json_t *before,
                                 const json_t *now)
{
    char *old = before ? sp_json_dumps(before, 0) : NULL;
    char *new = now ? sp_json_dumps(now, 0) : NULL;
    sp_fail(SP_ARGUMENT,
            "%s holds latents with \"%s\": %s, and now it is %s; remove it or choose another `cache`",
            w->folder, key, old ? old : "nothing", new ? new : "nothing");
    sp_free(old);
    sp_free(new);
    return SP_ARGUMENT;
}

static sp_status same_settings(const writer *w, const char *path)
{
    json_t *index, *value;
    const char *key;
    SP_TRY(sp_json_load(path, &index));
    json_t *before = json_object_get(index, "settings");
    sp_status status = SP_OK;
    json_object_foreach(w->settings, key, value)
    {
        json_t *old = json_object_get(before, key);
        if (!status && !json_equal(old, value)) status = another_setting(w, key, old, value);
    }
    json_object_foreach(before, key, value)
    {
        if (!status && !json_object_get(w->settings, key))
            status = another_setting(w, key, value, NULL);
    }
    json_decref(index);
    return status;
}

/* ---- the index ---- */

static json_t *list_rejections(sp_dataset *dataset)
{
    sp_rejection reasons[SP_MAX_REASONS];
    size_t count = sp_dataset_rejections(dataset, reasons, SP_MAX_REASONS);
    json_t *list = json_array();
    for (size_t i = 0; list && i < count && i < SP_MAX_REASONS; i++) {
        json_t *one = json_pack("{s:s, s:I, s:s}", "reason", reasons[i].reason, "count",
                                (json_int_t)reasons[i].count, "example", reasons[i].example);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static sp_status save_index(const writer *w, const char *path, bool complete)
{
    char teacher[512];
    sp_clean_text(w->options->teacher, teacher, sizeof teacher);
    json_t *rejected = list_rejections(w->dataset);
    json_t *index = rejected ? json_pack("{s:i, s:b, s:s, s:O, s:I, s:o}", "format", SP_LATENT_FORMAT,
                                         "complete", (int)complete, "teacher", teacher, "settings",
                                         w->settings, "captions-cut",
                                         (json_int_t)w->cuts.cut, "rejected", rejected)
                             : NULL;
    sp_status status =
        index ? sp_json_save(path, index) : sp_fail(SP_MEMORY, "out of memory for %s", path);
    json_decref(index);
    return status;
}

/* ---- blocks ---- */

/* Looks again at what was damaged, so that it is counted in this run too. */
static sp_status count_damaged(writer *w, const sp_latent_block *block, int64_t first)
{
    for (int64_t i = 0; i < block->filled; i++) {
        int64_t sample = sp_dataset_training_sample(w->dataset, first + i), used;
        memcpy(&used, (const char *)block->sample.data + 8 * i, sizeof used);
        if (used != sample) SP_TRY(sp_dataset_image(w->dataset, sample, w->encoder.rgb, NULL));
    }
    return SP_OK;
}

/* True if the file is there and whole. */
static sp_status kept(writer *w, const char *path, int64_t first, int64_t rows, bool *is_kept)
{
    sp_latent_block block;
    *is_kept = false;
    if (!sp_path_exists(path)) return SP_OK;
    sp_status status = sp_latent_block_open(path, rows, w->encoder.flips, false, &block);
    for (int64_t i = 0; i <= rows && !status; i++)
        status = sp_latent_block_check(&block, w->key, first, i);
    if (status == SP_MEMORY) return status;
    if (status) {
        sp_log_warn("made again: %s", sp_error_message());
        sp_latent_block_free(&block);
        return SP_OK;
    }
    status = count_damaged(w, &block, first);
    sp_latent_block_free(&block);
    *is_kept = !status;
    return status;
}

static sp_status copy_rows(const sp_tensor *from, int64_t rows, sp_tensor *to)
{
    if (!from->data) return SP_OK;
    sp_shape shape = from->shape;
    shape.dim[0] = rows;
    SP_TRY(sp_tensor_create(from->dtype, shape, to));
    memcpy(to->data, from->data, sp_tensor_bytes(from));
    return SP_OK;
}

/* Begins a block with what was saved of it when the run before was asked to stop. Whatever is wrong
 * with that only means to begin anew. */
static sp_status take_partial(writer *w, int64_t first, sp_latent_block *block)
{
    sp_latent_block saved;
    if (!sp_path_exists(w->partial)) return SP_OK;
    sp_status status =
        sp_latent_block_open(w->partial, block->rows, w->encoder.flips, true, &saved);
    for (int64_t i = 0; !status && i < saved.filled; i++)
        status = sp_latent_block_check(&saved, w->key, first, i);
    if (status) { /* of another block, most likely */
        sp_latent_block_free(&saved);
        return status == SP_MEMORY ? status : SP_OK;
    }
    status = count_damaged(w, &saved, first);
    if (!status) status = copy_rows(&saved.moments[0], block->rows, &block->moments[0]);
    if (!status) status = copy_rows(&saved.moments[1], block->rows, &block->moments[1]);
    if (!status) status = copy_rows(&saved.sample, block->rows, &block->sample);
    if (!status) block->filled = saved.filled;
    sp_latent_block_free(&saved);
    return status;
}

static sp_status save_partial(writer *w, int64_t first, sp_latent_block *block)
{
    if (!block->filled) return SP_CANCELLED;
    SP_TRY(sp_latent_block_save(block, w->partial, w->key, first));
    return sp_fail(SP_CANCELLED, "interrupted");
}

static sp_status make_block(writer *w, const char *path, int64_t first, int64_t rows)
{
    sp_latent_block block = {.rows = rows};
    sp_status status = take_partial(w, first, &block);
    if (!status) status = sp_latent_encode_pictures(&w->encoder, first, &block, w->callbacks);
    if (status == SP_CANCELLED) status = save_partial(w, first, &block);
    if (!status) status = sp_latent_encode_text(&w->encoder, &block);
    if (!status) status = sp_latent_block_save(&block, path, w->key, first);
    sp_latent_block_free(&block);
    return status;
}

static sp_status write_blocks(writer *w)
{
    int64_t count = sp_dataset_training_count(w->dataset);
    for (int64_t first = 0; first < count; first += SP_LATENT_BLOCK) {
        int64_t left = count - first, rows = left < SP_LATENT_BLOCK ? left : SP_LATENT_BLOCK;
        char *path = sp_latent_block_path(w->folder, first / SP_LATENT_BLOCK);
        bool is_kept = false;
        sp_status status = path ? kept(w, path, first, rows, &is_kept) : SP_MEMORY;
        if (!status && is_kept)
            sp_report(w->callbacks, "encoding pictures", first + rows, count, "kept");
        if (!status && !is_kept) status = make_block(w, path, first, rows);
        sp_free(path);
        SP_TRY(status);
        SP_TRY(sp_check_cancelled(w->callbacks));
    }
    return SP_OK;
}

/* Removes what a killed run left of files that it was writing. */
static sp_status tidy(const char *folder)
{
    char **names;
    size_t count;
    SP_TRY(sp_list_folder(folder, &names, &count));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count; i++) {
        bool left =
            strstr(names[i], ".safetensors.tmp-") || sp_starts_with(names[i], "index.json.tmp-");
        char *path = left && !status ? sp_path_join(folder, names[i]) : NULL;
        if (left && !status) status = path ? sp_remove_tree(path) : SP_MEMORY;
        sp_free(path);
        sp_free(names[i]);
    }
    sp_free(names);
    return status;
}

static sp_status write_all(writer *w)
{
    char *path = sp_latent_index_path(w->folder);
    sp_status status = path ? make_settings(w) : SP_MEMORY;
    if (!status) status = sp_make_folders(w->folder);
    if (!status) status = tidy(w->folder);
    if (!status)
        status = sp_path_exists(path) ? same_settings(w, path) : save_index(w, path, false);
    if (!status) status = write_blocks(w);
    if (!status && unlink(w->partial) && errno != ENOENT)
        status = sp_fail(SP_IO, "%s cannot be removed: %s", w->partial, strerror(errno));
    if (!status) status = save_index(w, path, true);
    sp_free(path);
    return status;
}

sp_status sp_latent_cache_write(sp_dataset *dataset, sp_pipeline *pipeline,
                                const sp_latent_cache_options *options, const char *folder,
                                const sp_callbacks *callbacks)
{
    writer w = {.dataset = dataset, .options = options, .folder = folder, .callbacks = callbacks};
    if (!sp_dataset_training_count(dataset))
        return sp_fail(SP_FORMAT, "data \"%s\" has no sample to train on",
                       sp_dataset_spec(dataset));
    w.partial = sp_path_join(folder, "partial.safetensors");
    sp_status status = w.partial ? SP_OK : SP_MEMORY;
    if (!status)
        status = sp_latent_encoder_open(dataset, pipeline, options->dtype,
                                        sp_dataset_get_options(dataset)->random_flip, &w.encoder);
    if (!status)
        status = sp_warn_of_cut_captions(dataset, pipeline->text[0].tokenizer, true, &w.cuts);
    if (!status) status = write_all(&w);
    sp_latent_encoder_close(&w.encoder);
    json_decref(w.settings);
    sp_free(w.partial);
    return status;
}
