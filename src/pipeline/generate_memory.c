/* Staying within a limit of memory: every part's run is planned before the first begins. */
#include "pipeline/generate_memory.h"
#include "base/log.h"
#include "base/system.h"
#include "pipeline/preview.h"

/* What no plan knows of: generated code, buffers of files, a tile or two of a picture. */
enum { UNPLANNED = 32 << 20 };
enum { GROUP = 1 << 22 }; /* pixels of the pictures that are in memory at once */

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

static void append_stages(const sp_pipeline *p, const memory_table *t, sp_string *out)
{
    for (int i = 0; i < STAGES; i++)
        if (stage_sum(t, i))
            sp_string_append_format(out, "%s %s (weights %s, activations %s), ", names[i],
                                    sp_bytes_text(stage_sum(t, i)), sp_bytes_text(t->weights[i]),
                                    sp_bytes_text(t->activations[i]));
    if (p->vae_tile > 0 && t->weights[DECODE])
        sp_string_append_format(out, "in tiles of %lld pixels, ", (long long)p->vae_tile);
    sp_string_append_format(out, "pictures %s, the program itself %s", sp_bytes_text(t->pictures),
                            sp_bytes_text(t->program));
}

/* What is planned, for whom. */
typedef struct {
    sp_pipeline *pipeline;
    const sp_memory_question *question;
    sp_memory_choice *choice;
    memory_table table;
    size_t limit;
} planning;

/* ---- the VAE ---- */

/* One picture or another: they follow each other. */
static sp_status plan_encoder(planning *g, sp_shape picture)
{
    sp_plan_memory memory;
    SP_TRY(sp_pipeline_plan_vae(g->pipeline, SP_VAE_POSTERIOR, picture, &memory));
    if (memory.persistent + memory.parameters + memory.arena + memory.boundary > stage_sum(&g->table, ENCODE))
        set_stage(&g->table, ENCODE, &memory);
    return SP_OK;
}

static sp_status plan_vae(planning *g, int64_t tile)
{
    const sp_memory_question *q = g->question;
    const sp_picture_sizes *sizes = q->sizes;
    sp_plan_memory memory;
    SP_TRY(sp_pipeline_set_vae_tile(g->pipeline, tile));
    set_stage(&g->table, ENCODE, &(sp_plan_memory){0});
    if (q->decodes) {
        SP_TRY(sp_pipeline_plan_vae(g->pipeline, SP_VAE_DECODE, sp_latent_shape(sizes, g->choice->group), &memory));
        set_stage(&g->table, DECODE, &memory);
        g->table.pictures = sizeof(float) * 3 * (size_t)(g->choice->group * sizes->width * sizes->height);
    }
    if (q->encodes) SP_TRY(plan_encoder(g, sp_shape_of(1, 3, sizes->height, sizes->width)));
    return q->fits ? plan_encoder(g, sp_preview_chart_shape(&g->pipeline->vae->config.vae)) : SP_OK;
}

static int64_t tile_side(const planning *g)
{
    return sp_vae_tile_side(&g->pipeline->vae->config.vae);
}

static bool is_large(const planning *g)
{
    int64_t tile = tile_side(g);
    return g->question->sizes->width > tile || g->question->sizes->height > tile;
}

/* In tiles if asked for, or if the whole does not fit. */
static sp_status choose_tiles(planning *g)
{
    const sp_memory_question *q = g->question;
    int64_t tile = tile_side(g);
    if (q->tiling == SPLAM_VAE_TILING_ON) return plan_vae(g, tile);
    SP_TRY(plan_vae(g, 0));
    size_t whole = peak(&g->table, true, false), program = g->table.program;
    if (q->tiling == SPLAM_VAE_TILING_OFF || !is_large(g) || whole <= g->limit) return SP_OK;
    sp_log_info("the VAE works in tiles of %lld pixels: in one piece it would take %s, and %s %s",
                (long long)tile, sp_bytes_text(whole - program),
                sp_bytes_text(g->limit > program ? g->limit - program : 0),
                q->limit ? "are left of the limit" : "are free");
    return plan_vae(g, tile);
}

/* ---- the rest ---- */

static sp_status plan_denoise(planning *g)
{
    sp_pipeline *p = g->pipeline;
    sp_memory_choice *choice = g->choice;
    sp_shape latents = sp_latent_shape(g->question->sizes, choice->group);
    const sp_conditioning conditioning = sp_pipeline_conditioning(p, choice->group);
    sp_denoise_shape shape = {
        .batch = sp_denoise_batch(choice->group, latents.dim[2], latents.dim[3], choice->batch),
        .height = latents.dim[2],
        .width = latents.dim[3],
        .conditioning = &conditioning,
        .guided = g->question->guided};
    sp_plan_memory memory;
    SP_TRY(sp_pipeline_plan_denoise(p, &shape, &memory));
    set_stage(&g->table, DENOISE, &memory);
    shape.left_out = g->question->left_out;
    if (shape.left_out) { /* in a plan of its own, of the same weights */
        SP_TRY(sp_pipeline_plan_denoise(p, &shape, &memory));
        g->table.activations[DENOISE] += memory.arena + memory.boundary;
    }
    choice->batch = shape.batch;
    return SP_OK;
}

/* Smaller batches and groups, as far as it takes. */
static sp_status fit(planning *g)
{
    memory_table *t = &g->table;
    sp_memory_choice *choice = g->choice;
    sp_plan_memory memory;
    SP_TRY(sp_pipeline_plan_text(g->pipeline, (int64_t)g->question->prompt_count, &memory));
    set_stage(t, TEXT, &memory);
    SP_TRY(plan_denoise(g));
    while (t->program + stage_sum(t, DENOISE) > g->limit && choice->batch > 1) {
        choice->batch = (choice->batch + 1) / 2;
        SP_TRY(plan_denoise(g));
    }
    while (peak(t, true, false) > g->limit && choice->group > 1 &&
           t->program + stage_sum(t, DECODE) + t->pictures > g->limit) {
        choice->group = (choice->group + 1) / 2;
        SP_TRY(plan_vae(g, g->pipeline->vae_tile));
    }
    choice->release = peak(t, false, false) > g->limit;
    choice->keep = peak(t, false, true) <= g->limit;
    return SP_OK;
}

static sp_status report(const planning *g)
{
    const memory_table *t = &g->table;
    const sp_memory_choice *choice = g->choice;
    bool last = g->question->sizes->total <= choice->group && !g->question->held;
    size_t most = peak(t, choice->release || last, choice->keep && !last);
    sp_string text = {0};
    append_stages(g->pipeline, t, &text);
    sp_status status = SP_OK;
    if (most > g->limit)
        status = sp_fail(SP_MEMORY, "a memory limit of %s is too small, %s are needed: %s",
                         sp_bytes_text(g->limit), sp_bytes_text(most), sp_string_text(&text));
    else
        sp_log_info("memory: %s; peak %s of %s", sp_string_text(&text), sp_bytes_text(most),
                    sp_bytes_text(g->limit));
    sp_string_free(&text);
    return status;
}

/* What the process has beside this pipeline's plans: what an earlier call left of those is in the stages. */
static size_t own_memory(const sp_pipeline *p, const sp_device_memory *memory)
{
    size_t held = sp_plans_bytes(&p->plans);
    return UNPLANNED + (memory->in_use > held ? memory->in_use - held : 0);
}

/* Asks for room until all of it fits in one piece, or nobody has any. */
static sp_status find_room(planning *g)
{
    const sp_memory_question *q = g->question;
    sp_plan_memory memory;
    if (!q->make_room) return SP_OK;
    SP_TRY(plan_vae(g, q->tiling == SPLAM_VAE_TILING_ON ? tile_side(g) : 0));
    SP_TRY(sp_pipeline_plan_text(g->pipeline, (int64_t)q->prompt_count, &memory));
    set_stage(&g->table, TEXT, &memory);
    SP_TRY(plan_denoise(g));
    size_t most;
    while ((most = peak(&g->table, false, true)) > g->limit && q->make_room(q->keeper, (int64_t)(most - g->limit))) {
        sp_device_memory left;
        g->pipeline->device->memory(g->pipeline->device, &left);
        g->table.program = own_memory(g->pipeline, &left);
    }
    g->choice->batch = 0;
    return SP_OK;
}

sp_status sp_memory_choose(sp_pipeline *p, const sp_memory_question *q, sp_memory_choice *out)
{
    sp_device_memory memory;
    p->device->memory(p->device, &memory);
    int64_t pixels = q->sizes->width * q->sizes->height;
    *out = (sp_memory_choice){.group = pixels < GROUP ? GROUP / pixels : 1};
    if (out->group > q->sizes->total) out->group = q->sizes->total;
    planning g = {.pipeline = p, .question = q, .choice = out, .table = {.program = own_memory(p, &memory)}};
    if (q->limit < 0)
        return sp_fail(SP_ARGUMENT, "a memory limit of %lld bytes is not possible", (long long)q->limit);
    if (!q->limit) {
        out->keep = true;
        /* Planning takes a moment: only where it can matter. */
        SP_TRY(sp_pipeline_set_vae_tile(p, q->tiling == SPLAM_VAE_TILING_ON ? tile_side(&g) : 0));
        if (q->tiling != SPLAM_VAE_TILING_AUTO || !memory.available || !is_large(&g)) return SP_OK;
        g.limit = UNPLANNED + memory.in_use + memory.available;
        return choose_tiles(&g);
    }
    g.limit = (size_t)q->limit;
    SP_TRY(find_room(&g));
    SP_TRY(choose_tiles(&g));
    SP_TRY(fit(&g));
    return report(&g);
}
