/* What a data set holds, its sheet, its cache of latents. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/data_set.h"
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/memory.h"
#include "base/output.h"
#include "data/caption_length.h"
#include "image/image.h"
#include "latents/latent_cache.h"
#include "image/sheet.h"
#include "checkpoints/model_folder.h"

/* ---- the sheet ---- */

typedef struct {
    int64_t count;
    uint8_t **pictures;
    const char **captions;
} sheet_cells;

static void release(sheet_cells *cells)
{
    for (int64_t i = 0; cells->pictures && i < cells->count; i++)
        sp_free(cells->pictures[i]);
    sp_free(cells->pictures);
    sp_free(cells->captions);
}

static sp_status fill(sp_dataset *dataset, uint64_t seed, const sp_callbacks *callbacks,
                      sheet_cells *cells)
{
    size_t side = (size_t)sp_dataset_resolution(dataset);
    sp_dataset_order *order;
    SP_TRY(sp_dataset_order_create(seed, sp_dataset_count(dataset), &order));
    sp_status status = SP_OK;
    for (int64_t i = 0; i < cells->count && !status; i++) {
        int64_t sample = sp_dataset_order_at(order, (uint64_t)i), used = sample;
        cells->pictures[i] = sp_alloc(3 * side * side);
        status = cells->pictures[i] ? sp_check_cancelled(callbacks) : SP_MEMORY;
        if (!status) status = sp_dataset_image(dataset, sample, cells->pictures[i], &used);
        if (!status) cells->captions[i] = sp_dataset_caption(dataset, used, 0);
        if (!status && sp_dataset_flips(sp_dataset_get_options(dataset), 0, used))
            sp_rgb_mirror(cells->pictures[i], (int)side, (int)side);
        sp_report(callbacks, "decoding pictures", i + 1, cells->count, NULL);
    }
    sp_dataset_order_destroy(order);
    return status;
}

/* About twice as wide as high, with few empty cells. */
static int columns_for(int64_t count)
{
    int ideal = 1, best = 1, least = INT_MAX;
    while ((int64_t)ideal * ideal < 2 * count && ideal < 12)
        ideal++;
    for (int columns = 1; columns <= 12 && columns <= count; columns++) {
        int empty = (int)((columns - count % columns) % columns);
        int cost = 2 * empty + 3 * abs(columns - ideal);
        if (cost <= least) {
            least = cost;
            best = columns;
        }
    }
    return best;
}

static sp_status draw(sp_dataset *dataset, const splam_data_options *o, const sheet_cells *cells)
{
    int side = sp_dataset_resolution(dataset), columns = columns_for(cells->count);
    char subtitle[160];
    snprintf(subtitle, sizeof subtitle, "%lld of %lld pictures, %d x %d pixels, seed %llu",
             (long long)cells->count, (long long)sp_dataset_count(dataset), side, side,
             (unsigned long long)o->seed);
    int rows = (int)((cells->count + columns - 1) / columns);
    /* The grid's last row may be short; NULL stands for an empty cell. */
    const uint8_t **pictures = sp_alloc_zero((size_t)(rows * columns) * sizeof *pictures);
    const char **captions = sp_alloc_zero((size_t)(rows * columns) * sizeof *captions);
    for (int64_t i = 0; pictures && captions && i < cells->count; i++) {
        pictures[i] = cells->pictures[i];
        captions[i] = cells->captions[i];
    }
    const sp_sheet sheet = {.title = sp_dataset_spec(dataset),
                            .subtitle = subtitle,
                            .rows = rows,
                            .columns = columns,
                            .picture_width = side,
                            .picture_height = side,
                            .pictures = pictures,
                            .cell_captions = captions};
    sp_status status = pictures && captions ? sp_sheet_save(&sheet, o->sheet) : SP_MEMORY;
    sp_free(pictures);
    sp_free(captions);
    return status;
}

static sp_status write_sheet(sp_dataset *dataset, const splam_data_options *o,
                             const sp_callbacks *callbacks)
{
    sheet_cells cells = {.count = o->count != SPLAM_UNSET ? o->count : 48};
    if (cells.count > sp_dataset_count(dataset)) cells.count = sp_dataset_count(dataset);
    cells.pictures = sp_alloc_zero((size_t)cells.count * sizeof *cells.pictures);
    cells.captions = sp_alloc_zero((size_t)cells.count * sizeof *cells.captions);
    sp_status status = cells.pictures && cells.captions ? SP_OK : SP_MEMORY;
    if (!status) status = fill(dataset, o->seed, callbacks, &cells);
    if (!status) status = draw(dataset, o, &cells);
    release(&cells);
    return status;
}

/* ---- the summary ---- */

static void describe_captions(const sp_dataset *dataset, const sp_caption_cuts *cuts,
                              sp_string *out)
{
    enum { SHOWN = 3 };
    int64_t count = sp_dataset_count(dataset), captions = 0, bytes = 0;
    size_t longest = 0;
    for (int64_t i = 0; i < count; i++) {
        int variants = sp_dataset_caption_count(dataset, i);
        captions += variants;
        for (int v = 0; v < variants; v++) {
            size_t length = strlen(sp_dataset_caption(dataset, i, v));
            bytes += (int64_t)length;
            if (length > longest) longest = length;
        }
    }
    sp_string_say(
        out,
        "captions: %.1f a picture, %.0f bytes on average, at most %zu; %lld of %lld have more than "
        "%lld tokens and are cut; such as\n",
        (double)captions / (double)count, (double)bytes / (double)captions, longest,
        (long long)cuts->cut, (long long)captions, (long long)cuts->tokens);
    for (int64_t i = 0; i < SHOWN && i < count; i++) {
        int64_t sample = i * (count / SHOWN);
        int variants = sp_dataset_caption_count(dataset, sample);
        sp_string_say(out, "  %s: \"%s\"", sp_dataset_name(dataset, sample),
                      sp_dataset_caption(dataset, sample, 0));
        if (variants > 1)
            sp_string_say(out, ", or \"%s\"", sp_dataset_caption(dataset, sample, 1));
        sp_string_append(out, "\n", 1);
    }
}

/* The text, now the caller's. */
static sp_status take(sp_string *text, char **out)
{
    if (text->failed) {
        sp_string_free(text);
        return SP_MEMORY;
    }
    *out = text->data;
    return SP_OK;
}

/* By the teacher's tokenizer, or else the one of Stable Diffusion. */
static sp_status count_cuts(const sp_dataset *dataset, const char *teacher, sp_caption_cuts *out)
{
    sp_model_folder folder = {0};
    sp_tokenizer *tokenizer = NULL;
    if (teacher) SP_TRY(sp_model_folder_open(teacher, &folder));
    sp_status status = teacher ? sp_model_folder_tokenizer(&folder, SP_COMPONENT_TEXT_ENCODER, &tokenizer)
                               : sp_tokenizer_clip(false, &tokenizer);
    if (!status) status = sp_count_cut_captions(dataset, tokenizer, false, out);
    sp_tokenizer_destroy(tokenizer);
    if (teacher) sp_model_folder_close(&folder);
    return status;
}

static sp_status describe(sp_dataset *dataset, const char *teacher, char **summary)
{
    sp_string text = {0};
    sp_caption_cuts cuts;
    SP_TRY(count_cuts(dataset, teacher, &cuts));
    sp_dataset_summary(dataset, &text);
    describe_captions(dataset, &cuts, &text);
    return take(&text, summary);
}

/* ---- latents ---- */

static sp_dtype cache_dtype(const splam_data_options *o)
{
    return o->cache_dtype && strcmp(o->cache_dtype, "f32") == 0 ? SP_F32 : SP_F16;
}

static sp_status check_cache(const splam_data_options *o)
{
    if (o->teacher) return SP_OK;
    return sp_fail(SP_ARGUMENT, "`teacher` is missing: a cache needs the one that makes its latents");
}

static sp_status write_cache(sp_dataset *dataset, const splam_data_options *o,
                             const sp_callbacks *callbacks)
{
    sp_device *device;
    SP_TRY(sp_device_of(o->device, &device));
    sp_model_options parts = {.parts = SP_PART_TEXT | SP_PART_VAE,
                              .t5_absent = o->t5_absent,
                              .t5 = o->t5,
                              .device = device,
                              .precision = sp_precision_dtype(device, o->precision)};
    const sp_latent_cache_options options = {.teacher = o->teacher, .dtype = cache_dtype(o)};
    sp_pipeline *pipeline;
    SP_TRY(sp_pipeline_open(o->teacher, &parts, &pipeline));
    if (pipeline->model->text_form == SP_TEXTS_SD3) { /* its transformer says how wide a prompt's states are */
        sp_pipeline_close(pipeline);
        parts.parts = SP_PART_ALL;
        SP_TRY(sp_pipeline_open(o->teacher, &parts, &pipeline));
    }
    sp_status status = sp_latent_cache_write(dataset, pipeline, &options, o->cache, callbacks);
    sp_pipeline_close(pipeline);
    return status;
}

static sp_status look_at_latents(const splam_data_options *o, const sp_callbacks *callbacks,
                                 char **summary)
{
    const sp_dataset_options p = sp_dataset_options_of(&o->pictures, o->seed);
    sp_string text = {0};
    sp_latent_cache *cache;
    if (o->sheet || o->cache)
        return sp_fail(SP_ARGUMENT, "\"%s\" holds no pictures for a sheet or another cache",
                       o->spec);
    if (p.resolution || p.random_flip || sp_dataset_flag_set(&p))
        return sp_fail(SP_ARGUMENT, "\"%s\" has its samples chosen and cut already", o->spec);
    SP_TRY(sp_latent_cache_open(o->spec + strlen("latents:"), &cache));
    sp_status status = sp_latent_cache_verify(cache, callbacks);
    sp_latent_cache_summary(cache, &text);
    sp_latent_cache_close(cache);
    if (!status) return take(&text, summary);
    sp_string_free(&text);
    return status;
}

/* Before the data are looked at, which may take long. */
static sp_status claim_outputs(const splam_data_options *o, sp_claim *sheet, sp_claim *cache)
{
    static const char *const names[] = {"index.json", "partial.safetensors", NULL};
    if (o->cache) SP_TRY(check_cache(o));
    if (o->sheet) SP_TRY(sp_image_format_by_name(o->sheet, &(sp_image_format){0}));
    if (o->sheet) SP_TRY(sp_claim_file(o->sheet, sheet));
    return o->cache ? sp_claim_folder(o->cache, names, cache) : SP_OK;
}

static sp_status look_at_pictures(const splam_data_options *o, const sp_callbacks *callbacks, char **summary)
{
    const sp_dataset_options options = sp_dataset_options_of(&o->pictures, o->seed);
    sp_dataset *dataset = NULL;
    sp_claim sheet = {0}, cache = {0};
    sp_status status = claim_outputs(o, &sheet, &cache);
    if (!status) status = sp_dataset_open(o->spec, &options, callbacks, &dataset);
    if (!status && o->sheet) status = write_sheet(dataset, o, callbacks);
    if (!status && o->cache) status = write_cache(dataset, o, callbacks);
    if (!status) status = describe(dataset, o->teacher, summary);
    sp_dataset_close(dataset);
    sp_claim_end(&sheet);
    sp_claim_end(&cache);
    return status;
}

sp_status sp_describe_data(const splam_data_options *o, const sp_callbacks *callbacks, char **summary)
{
    bool latents = sp_starts_with(o->spec, "latents:");
    return latents ? look_at_latents(o, callbacks, summary) : look_at_pictures(o, callbacks, summary);
}
