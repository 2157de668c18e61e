/* ode-error: how far a student's pictures are from the end of the teacher's trajectory. */
#include "eval/ode_error.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "eval/task_name.h"

sp_scheduler_config sp_ode_scheduler(const sp_scheduler_config *model)
{
    sp_scheduler_config config = *model;
    config.spacing = SP_SPACING_TRAILING;
    config.alpha_to_one = true;
    return config;
}

/* ---- the key ---- */

/* Not cryptographic: it tells one's own files apart. Eight bytes at a time, so that gigabytes of
 * weights take seconds. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ (hash >> 29);
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, bytes + at, 8);
        hash = mix(hash, word);
    }
    uint64_t rest = 0;
    memcpy(&rest, bytes + at, size - at);
    return mix(mix(hash, rest), size);
}

static uint64_t hash_weights(uint64_t hash, const sp_weights *weights)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        const char *name = sp_weights_name(weights, i);
        const sp_tensor *tensor = sp_weights_find(weights, name);
        hash = hash_bytes(hash, name, strlen(name));
        hash = mix(hash, (uint64_t)tensor->dtype);
        hash = hash_bytes(hash, tensor->data, sp_tensor_bytes(tensor));
    }
    return hash;
}

static uint64_t hash_conditioning(uint64_t hash, const sp_conditioning *set)
{
    for (int i = 0; i < set->count; i++)
        hash = hash_bytes(hash, set->item[i].tensor.data, sp_tensor_bytes(&set->item[i].tensor));
    return hash;
}

/* The conditioning stands for the prompts, the tokenizer and the text encoder. */
static uint64_t key_of(const sp_pipeline *teacher, const sp_ode_request *r)
{
    const sp_path *path = &teacher->scheduler.path;
    size_t size;
    const void *bytes = sp_path_bytes(path, &size);
    uint64_t hash = hash_weights(1, teacher->unet_weights);
    hash = hash_conditioning(hash, r->conditioning);
    if (r->negative) hash = hash_conditioning(hash, r->negative);
    hash = hash_bytes(hash, bytes, size);
    hash = hash_bytes(hash, &r->guidance_scale_w, sizeof r->guidance_scale_w);
    uint64_t words[] = {(uint64_t)path->prediction,
                        (uint64_t)teacher->precision,
                        (uint64_t)sp_conditioning_rows(r->conditioning),
                        (uint64_t)r->height,
                        (uint64_t)r->width,
                        r->seed,
                        SP_ODE_STEPS};
    return hash_bytes(hash, words, sizeof words);
}

/* ---- the file ---- */

/* Leaves *latents empty if there is no such file, or not one that can be used. */
static sp_status load(const char *path, sp_shape shape, sp_tensor *latents, double *seconds)
{
    if (!sp_path_exists(path)) return SP_OK;
    sp_tensor_file *file = NULL;
    const sp_tensor *found = NULL;
    sp_status status = sp_safetensors_open(path, &file);
    if (!status) found = sp_tensor_file_find(file, "latents");
    if (found && found->dtype == SP_F32 && sp_shape_equal(found->shape, shape) &&
        sp_tensor_check_finite(found, "latents") == SP_OK) {
        const char *took = sp_tensor_file_metadata(file, "seconds");
        *seconds = took ? strtod(took, NULL) : NAN;
        status = sp_tensor_convert(found, SP_F32, latents);
    } else if (status != SP_MEMORY) {
        sp_log_warn("%s is damaged; its references are computed again", path);
        status = SP_OK;
    }
    sp_tensor_file_close(file);
    return status;
}

static sp_status save(const char *path, const sp_tensor *latents, double seconds)
{
    char text[32];
    snprintf(text, sizeof text, "%.6f", seconds);
    const char *const metadata[][2] = {{"format", "pt"}, {"seconds", text}};
    const sp_named_tensor named = {"latents", latents};
    return sp_safetensors_save(path, &named, 1, metadata, 2);
}

/* ---- the chain ---- */

static sp_status compute(sp_pipeline *teacher, const sp_ode_request *r,
                         const sp_callbacks *callbacks, sp_tensor *latents, double *seconds)
{
    sp_scheduler_config scheduler = sp_ode_scheduler(&teacher->scheduler);
    sp_philox_noise noise = {r->seed};
    const sp_denoise_request request = {
        .sampler = {.kind = SP_SAMPLER_DDIM, .steps = SP_ODE_STEPS},
        .scheduler = &scheduler,
        .guidance = r->guidance_scale_w + 1,
        .conditioning = r->conditioning,
        .negative = r->negative,
        .height = r->height,
        .width = r->width,
        .noise = sp_noise_philox(&noise),
    };
    const sp_renamed_task name = {callbacks, r->task};
    const sp_callbacks shown = sp_rename_task(&name);
    double began = sp_now();
    sp_status status = sp_pipeline_denoise(teacher, &request, &shown, latents);
    *seconds = sp_now() - began;
    return status;
}

sp_status sp_ode_references(sp_pipeline *teacher, const sp_ode_request *r,
                            const sp_callbacks *callbacks, sp_tensor *latents, double *seconds)
{
    double took = NAN;
    *latents = (sp_tensor){0};
    if (teacher->unet_config.time_cond_dim)
        return sp_fail(SP_UNSUPPORTED,
                       "%s is a student (its UNet has cond_proj), and ode-error needs a teacher",
                       teacher->model->folder.path);
    char *path = NULL;
    if (r->cache) {
        path = sp_format("%s/ode-references-%016llx.safetensors", r->cache,
                         (unsigned long long)key_of(teacher, r));
        if (!path) return SP_MEMORY;
    }
    sp_status status = SP_OK;
    if (path)
        status = load(path,
                      sp_shape_of(sp_conditioning_rows(r->conditioning), teacher->unet_config.in_channels,
                                  r->height, r->width),
                      latents, &took);
    if (!status && !latents->data) {
        status = compute(teacher, r, callbacks, latents, &took);
        if (!status && path) status = sp_make_folders(r->cache);
        if (!status && path) status = save(path, latents, took);
    }
    sp_free(path);
    if (status) sp_tensor_free(latents);
    if (seconds) *seconds = took;
    return status;
}

sp_status sp_ode_error(const sp_tensor *latents, const sp_tensor *references, double *out)
{
    if (latents->dtype != SP_F32 || references->dtype != SP_F32 ||
        !sp_shape_equal(latents->shape, references->shape) || sp_tensor_count(latents) < 1)
        return sp_fail(SP_SHAPE, "latents %s and their references %s must be F32 of one shape",
                       sp_shape_text(latents->shape), sp_shape_text(references->shape));
    const float *a = latents->data, *b = references->data;
    int64_t count = sp_tensor_count(latents);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    *out = sum / (double)count;
    return SP_OK;
}
