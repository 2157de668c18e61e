/* Staying within a limit of memory: every part's run is planned before the first begins. */
#include "api/generation.h"
#include "base/log.h"
#include "base/system.h"

/* What no plan knows of: generated code, buffers of files, a tile or two of a picture. */
enum { UNPLANNED = 32 << 20 };

enum { TEXT, ENCODE, DENOISE, DECODE, STAGES };
static const char *const names[STAGES] = {"text encoder", "VAE encoder", "UNet", "VAE decoder"};

/* Bytes. What runs at the same time adds up; stages follow each other. */
typedef struct {
    size_t program;                              /* what the process has before the first stage */
    size_t weights[STAGES], activations[STAGES]; /* as packed; 0: there is no such stage */
    size_t pictures;                             /* that are decoded and not yet written */
} memory_table;

static size_t stage_sum(const memory_table *t, int stage)
{
    return t->weights[stage] + t->activations[stage];
}

static void set_stage(memory_table *t, int stage, const sp_plan_memory *m)
{
    t->weights[stage] = m->persistent + m->parameters;
    t->activations[stage] = m->arena + m->boundary;
}

/* The most at any time. kept: text encoder and VAE decoder stay between groups, as the UNet does. */
static size_t peak(const memory_table *t, bool released, bool kept)
{
    size_t most = 0;
    if (kept)
        most = stage_sum(t, TEXT) + stage_sum(t, DENOISE) + stage_sum(t, DECODE) + t->pictures;
    for (int i = 0; i < STAGES; i++) {
        size_t sum = stage_sum(t, i);
        if (i == DECODE) sum += t->pictures + (released ? 0 : stage_sum(t, DENOISE));
        most = sum > most ? sum : most;
    }
    return t->program + most;
}

static void append_stages(const sp_generation *g, const memory_table *t, sp_string *out)
{
    for (int i = 0; i < STAGES; i++)
        if (stage_sum(t, i))
            sp_string_append_format(out, "%s %s (weights %s, activations %s), ", names[i],
                                    sp_bytes_text(stage_sum(t, i)), sp_bytes_text(t->weights[i]),
                                    sp_bytes_text(t->activations[i]));
    if (g->pipeline->vae_tile > 0 && t->weights[DECODE])
        sp_string_append_format(out, "in tiles of %lld pixels, ", (long long)g->pipeline->vae_tile);
    sp_string_append_format(out, "pictures %s, the program itself %s", sp_bytes_text(t->pictures),
                            sp_bytes_text(t->program));
}

/* ---- the VAE ---- */

static sp_status plan_vae(sp_generation *g, int64_t tile, memory_table *t)
{
    sp_pipeline *p = g->pipeline;
    sp_plan_memory memory;
    SP_TRY(sp_pipeline_set_vae_tile(p, tile));
    if (g->o->output) {
        sp_shape latents = sp_shape_of(g->group, p->unet_config.in_channels, g->height / g->factor,
                                       g->width / g->factor);
        SP_TRY(sp_pipeline_plan_vae(p, SP_VAE_DECODE, latents, &memory));
        set_stage(t, DECODE, &memory);
        t->pictures = sizeof(float) * 3 * (size_t)(g->group * g->width * g->height);
    }
    if (!g->o->init_image) return SP_OK;
    SP_TRY(
        sp_pipeline_plan_vae(p, SP_VAE_POSTERIOR, sp_shape_of(1, 3, g->height, g->width), &memory));
    set_stage(t, ENCODE, &memory);
    return SP_OK;
}

/* In tiles if asked for, or if the whole does not fit. */
static sp_status choose_tiles(sp_generation *g, size_t limit, memory_table *t)
{
    int64_t tile = sp_vae_tile_side(&g->pipeline->vae->config.vae);
    bool large = g->width > tile || g->height > tile;
    if (g->o->vae_tiling == SPLAM_VAE_TILING_ON) return plan_vae(g, tile, t);
    SP_TRY(plan_vae(g, 0, t));
    size_t whole = peak(t, true, false);
    if (g->o->vae_tiling == SPLAM_VAE_TILING_OFF || !large || whole <= limit) return SP_OK;
    sp_log_info("the VAE works in tiles of %lld pixels: in one piece it would take %s, and %s %s",
                (long long)tile, sp_bytes_text(whole - t->program),
                sp_bytes_text(limit > t->program ? limit - t->program : 0),
                g->o->memory_limit ? "are left of the limit" : "are free");
    return plan_vae(g, tile, t);
}

/* ---- the rest ---- */

static sp_status plan_denoise(sp_generation *g, memory_table *t)
{
    const sp_conditioning conditioning = sp_pipeline_conditioning(g->pipeline, g->group);
    const sp_denoise_shape shape = {
        .batch = sp_denoise_batch(g->group, g->height / g->factor, g->width / g->factor, g->batch),
        .height = g->height / g->factor,
        .width = g->width / g->factor,
        .conditioning = &conditioning,
        .guided = sp_pipeline_is_guided(g->pipeline, g->guidance)};
    sp_plan_memory memory;
    SP_TRY(sp_pipeline_plan_denoise(g->pipeline, &shape, &memory));
    set_stage(t, DENOISE, &memory);
    g->batch = shape.batch;
    return SP_OK;
}

/* Smaller batches and groups, as far as it takes. */
static sp_status fit(sp_generation *g, size_t limit, memory_table *t)
{
    sp_plan_memory memory;
    SP_TRY(sp_pipeline_plan_text(g->pipeline, (int64_t)g->prompt_count, &memory));
    set_stage(t, TEXT, &memory);
    SP_TRY(plan_denoise(g, t));
    while (t->program + stage_sum(t, DENOISE) > limit && g->batch > 1) {
        g->batch = (g->batch + 1) / 2;
        SP_TRY(plan_denoise(g, t));
    }
    while (peak(t, true, false) > limit && g->group > 1 &&
           t->program + stage_sum(t, DECODE) + t->pictures > limit) {
        g->group = (g->group + 1) / 2;
        SP_TRY(plan_vae(g, g->pipeline->vae_tile, t));
    }
    g->release = peak(t, false, false) > limit;
    g->keep = peak(t, false, true) <= limit;
    return SP_OK;
}

static sp_status report(const sp_generation *g, size_t limit, const memory_table *t)
{
    bool single = g->total <= g->group;
    size_t most = peak(t, g->release || single, g->keep && !single);
    sp_string text = {0};
    append_stages(g, t, &text);
    sp_status status = SP_OK;
    if (most > limit)
        status = sp_fail(SP_MEMORY, "a memory limit of %s is too small, %s are needed: %s",
                         sp_bytes_text(limit), sp_bytes_text(most), sp_string_text(&text));
    else
        sp_log_info("memory: %s; peak %s of %s", sp_string_text(&text), sp_bytes_text(most),
                    sp_bytes_text(limit));
    sp_string_free(&text);
    return status;
}

sp_status sp_generation_plan_memory(sp_generation *g)
{
    sp_device_memory memory;
    g->pipeline->device->memory(g->pipeline->device, &memory);
    int64_t tile = sp_vae_tile_side(&g->pipeline->vae->config.vae);
    memory_table t = {.program = UNPLANNED + memory.own};
    if (g->o->memory_limit < 0)
        return sp_fail(SP_ARGUMENT, "a memory limit of %lld bytes is not possible",
                       (long long)g->o->memory_limit);
    if (!g->o->memory_limit) {
        g->keep = true;
        /* Planning takes a moment: only where it can matter. */
        if (g->o->vae_tiling == SPLAM_VAE_TILING_ON)
            SP_TRY(sp_pipeline_set_vae_tile(g->pipeline, tile));
        if (g->o->vae_tiling != SPLAM_VAE_TILING_AUTO || !memory.available ||
            (g->width <= tile && g->height <= tile))
            return SP_OK;
        return choose_tiles(g, t.program + memory.available, &t);
    }
    size_t limit = (size_t)g->o->memory_limit;
    SP_TRY(choose_tiles(g, limit, &t));
    SP_TRY(fit(g, limit, &t));
    return report(g, limit, &t);
}
