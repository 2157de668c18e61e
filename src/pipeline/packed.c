/* Packing a model's weights for the next time. */
#include "pipeline/packed.h"
#include <stdio.h>
#include "backend/precision.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/system.h"
#include "pipeline/pipeline.h"
#include "pipeline/request.h"

enum { PARTS = 4, MOST_SIZES = 256 };

typedef struct {
    const splam_convert_options *o;
    const sp_callbacks *callbacks;
    sp_pipeline *pipeline;
    sp_picture_sizes sizes[MOST_SIZES];
    size_t size_count;
    struct {
        const sp_component *component; /* NULL: the model has none such */
        const char *network; /* of the plans */
        sp_status (*pack)(const void *packing);
        char *path;
        sp_claim claim;
    } part[PARTS];
} packing;

/* ---- sizes ---- */

static sp_status choose_size(packing *g, int64_t width, int64_t height)
{
    static const sp_image none = {0};
    const splam_generate_options options = {.count = 1, .width = width, .height = height};
    const sp_size_question question = {.options = &options,
                                       .prompt_count = 1,
                                       .image = &none,
                                       .denoiser = &g->pipeline->facts,
                                       .vae = &g->pipeline->vae->config.vae};
    return sp_picture_sizes_choose(&question, &g->sizes[g->size_count++]);
}

static sp_status choose_sizes(packing *g)
{
    const splam_convert_options *o = g->o;
    if (o->picture_size_count > MOST_SIZES)
        return sp_fail(SP_ARGUMENT, "%zu sizes are given, and %d are the most", o->picture_size_count, MOST_SIZES);
    if (!o->picture_size_count) return choose_size(g, SPLAM_UNSET, SPLAM_UNSET);
    for (size_t i = 0; i < o->picture_size_count; i++) {
        int width, height, length = 0;
        const char *text = o->picture_sizes[i];
        if (sscanf(text, "%6dx%6d%n", &width, &height, &length) != 2 || text[length] || width < 1 || height < 1)
            return sp_fail(SP_ARGUMENT, "`picture_sizes` has \"%s\", expected WIDTHxHEIGHT in pixels, as 512x768",
                           text);
        SP_TRY(choose_size(g, width, height));
    }
    return SP_OK;
}

/* ---- what generating packs ---- */

static sp_status pack_text(const void *context)
{
    const packing *g = context;
    return sp_pipeline_pack_text(g->pipeline, 0, g->callbacks);
}

static sp_status pack_text_2(const void *context)
{
    const packing *g = context;
    return sp_pipeline_pack_text(g->pipeline, 1, g->callbacks);
}

static sp_status pack_unet(const void *context)
{
    const packing *g = context;
    sp_pipeline *p = g->pipeline;
    const sp_conditioning conditioning = sp_pipeline_conditioning(p, 1);
    for (size_t i = 0; i < g->size_count; i++) {
        sp_shape latent = sp_latent_shape(&g->sizes[i], 1);
        sp_denoise_shape shape = {
            .batch = 1, .height = latent.dim[2], .width = latent.dim[3], .conditioning = &conditioning};
        for (int guided = 0; guided <= (sp_pipeline_is_guided(p, 2) ? 1 : 0); guided++) {
            shape.guided = guided;
            SP_TRY(sp_pipeline_pack_denoise(p, &shape, g->callbacks));
        }
    }
    return SP_OK;
}

static sp_status pack_decoder(const void *context)
{
    const packing *g = context;
    for (size_t i = 0; i < g->size_count; i++)
        SP_TRY(sp_pipeline_pack_vae(g->pipeline, SP_VAE_DECODE, sp_latent_shape(&g->sizes[i], 1), g->callbacks));
    return SP_OK;
}

/* ---- files ---- */

static sp_status write_file(const packing *g, int part)
{
    const sp_component *component = g->part[part].component;
    const char *path = g->part[part].path;
    sp_packed_weight *list;
    size_t count, bytes = 0;
    SP_TRY(sp_packs_list(component->weights, &list, &count));
    for (size_t i = 0; i < count; i++)
        bytes += list[i].bytes;
    sp_status status =
        sp_packed_save(path, list, count, g->pipeline->device->packed_terms, component->file, g->callbacks);
    sp_free(list);
    if (!status) sp_log_info("%s: %zu packed weights, %s", path, count, sp_bytes_text(bytes));
    return status;
}

/* Where each file will be; what lies there is not used. */
static sp_status claim_files(packing *g)
{
    const sp_device *device = g->pipeline->device;
    for (int i = 0; i < PARTS; i++) {
        if (!g->part[i].component) continue;
        sp_weights *weights = g->part[i].component->weights;
        const char *precision = sp_precision_name(g->pipeline->precision);
        g->part[i].path = sp_packed_place_path(sp_weights_packed(weights), device->packed_terms, precision);
        if (!g->part[i].path) return SP_MEMORY;
        SP_TRY(sp_weights_set_packed(weights, NULL));
        SP_TRY(sp_claim_file(g->part[i].path, &g->part[i].claim));
    }
    return SP_OK;
}

static sp_status pack_parts(packing *g)
{
    sp_pipeline *p = g->pipeline;
    const sp_component *const components[PARTS] = {p->text[0].encoder, p->text[1].encoder, p->denoiser, p->vae};
    static const char *const networks[PARTS] = {"text-encoder", "text-encoder-2", "unet", "vae-decoder"};
    sp_status (*const functions[PARTS])(const void *) = {pack_text, pack_text_2, pack_unet, pack_decoder};
    for (int i = 0; i < PARTS; i++) {
        g->part[i].component = components[i];
        g->part[i].network = networks[i];
        g->part[i].pack = functions[i];
    }
    SP_TRY(choose_sizes(g));
    SP_TRY(claim_files(g));
    p->plans.most = 2 * (int)g->size_count;
    for (int i = 0; i < PARTS; i++) {
        if (!g->part[i].component) continue;
        sp_report(g->callbacks, "packing", i, PARTS, g->part[i].network);
        SP_TRY(g->part[i].pack(g));
        SP_TRY(write_file(g, i));
        sp_plans_forget(&p->plans, g->part[i].network);
    }
    sp_report(g->callbacks, "packing", PARTS, PARTS, NULL);
    return SP_OK;
}

/* base: NULL, or where all but the UNet is from. prediction: of a checkpoint of one file. only_sizes: nothing is
 * packed, but what is wrong with the sizes for this model is said. */
static sp_status pack_model(const char *path, const char *base, const char *prediction, const splam_convert_options *o,
                            bool only_sizes, sp_device *device, const sp_callbacks *callbacks)
{
    const sp_model_options options = {.base = base,
                                      .unet = o->unet,
                                      .prediction = prediction,
                                      .device = device,
                                      .precision = sp_precision_dtype(device, o->precision),
                                      .callbacks = callbacks};
    if (!device->packed_terms)
        return sp_fail(SP_UNSUPPORTED, "packed weights of the device \"%s\" are not kept in files", device->name);
    packing *g = sp_alloc_zero(sizeof *g);
    if (!g) return SP_MEMORY;
    g->o = o;
    g->callbacks = callbacks;
    sp_status status = sp_pipeline_open(path, &options, &g->pipeline);
    if (!status) status = only_sizes ? choose_sizes(g) : pack_parts(g);
    for (int i = 0; i < PARTS; i++) {
        sp_claim_end(&g->part[i].claim);
        sp_free(g->part[i].path);
    }
    sp_pipeline_close(g->pipeline);
    sp_free(g);
    return status;
}

/* ---- all ---- */

static sp_status check_options(const splam_convert_options *o)
{
    if (!o->packed && (o->picture_size_count || o->precision != SPLAM_PRECISION_DEFAULT))
        return sp_fail(SP_ARGUMENT, "`%s` is of packed weights, and `packed` is not given",
                       o->picture_size_count ? "picture_sizes" : "precision");
    if (o->output) return SP_OK;
    if (!o->packed) return sp_fail(SP_ARGUMENT, "`output` is missing");
    const char *changes = o->dtype           ? "dtype"
                          : o->lora_count    ? "loras"
                          : o->fold_guidance ? "fold_guidance"
                          : o->single_file   ? "single_file"
                                             : NULL;
    if (!changes) return SP_OK;
    return sp_fail(SP_ARGUMENT,
                   "`%s` makes another model, for which an `output` is missing: without one, packed weights are "
                   "written beside the model as it is",
                   changes);
}

sp_status sp_convert(const splam_convert_options *o, sp_device *device, const sp_callbacks *callbacks)
{
    SP_TRY(check_options(o));
    if (o->output && o->packed) /* before minutes of work */
        SP_TRY(pack_model(o->model, o->base, o->prediction_type, o, true, device, callbacks));
    if (o->output) SP_TRY(sp_convert_model(o, device, callbacks));
    if (!o->packed) return SP_OK;
    if (!o->output) return pack_model(o->model, o->base, o->prediction_type, o, false, device, callbacks);
    return pack_model(o->output, NULL, o->single_file ? o->prediction_type : NULL, o, false, device, callbacks);
}
