/* What a call of splam_generate asks for, seen against the model. */
#include <math.h>
#include <string.h>
#include <sys/random.h>
#include "api/generation.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

enum { MAX_PICTURES = 1000000 };
static const double default_strength = 0.8; /* diffusers' */

static sp_status choose_sampler(sp_generation *g)
{
    const splam_generate_options *o = g->o;
    const sp_scheduler_config *scheduler = &g->pipeline->scheduler;
    g->sampler.kind = sp_sampler_for(scheduler);
    if (o->sampler) SP_TRY(sp_sampler_kind_of(o->sampler, &g->sampler.kind));
    if (o->sigmas) SP_TRY(sp_sigmas_of(o->sigmas, &g->sampler.sigmas));
    SP_TRY(sp_sampler_check(scheduler, &g->sampler));
    int64_t steps = o->steps ? o->steps : sp_sampler_steps_for(scheduler, g->sampler.kind);
    if (steps < 1 || steps > SP_MAX_TIMESTEPS)
        return sp_fail(SP_ARGUMENT, "%lld steps are not possible", (long long)steps);
    g->sampler.steps = (int)steps;
    g->sampler.old_grid = o->old_grid;
    if (o->eta && g->sampler.kind != SP_SAMPLER_TCD)
        return sp_fail(SP_ARGUMENT, "eta is for the sampler tcd, and this is %s",
                       sp_sampler_name(g->sampler.kind));
    g->sampler.eta = o->eta ? *o->eta : sp_default_eta;
    if (o->strength != 0 && !o->init_image)
        return sp_fail(SP_ARGUMENT, "a strength is given, and no picture to start from");
    if (o->init_image) g->sampler.strength = o->strength != 0 ? o->strength : default_strength;
    g->guidance = o->guidance ? *o->guidance : scheduler->student ? 1 : 7.5;
    if (!(g->guidance >= 0 && g->guidance <= 1000))
        return sp_fail(SP_ARGUMENT, "guidance %g is out of range", g->guidance);
    return SP_OK;
}

static sp_status choose_seed(sp_generation *g)
{
    if (!g->o->random_seed) {
        g->seed = g->o->seed;
    } else {
        uint32_t drawn; /* PyTorch's generator takes 32 bits */
        if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
            return sp_fail(SP_IO, "no random seed can be had from the system");
        g->seed = drawn;
    }
    if (g->o->seed_used) *g->o->seed_used = g->seed;
    return SP_OK;
}

static sp_status check_side(const sp_generation *g, const char *name, int64_t noise, int64_t side)
{
    if (!side)
        return sp_fail(SP_ARGUMENT,
                       "the model does not say what size it was trained for: give the %s", name);
    if (side < 1 || side > SP_GENERATION_MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "the %s is %lld pixels, expected 1 to %d", name,
                       (long long)side, SP_GENERATION_MAX_SIDE);
    if (side % g->factor)
        return sp_fail(SP_ARGUMENT,
                       "the %s of %lld pixels is not a multiple of %lld, as this model needs", name,
                       (long long)side, (long long)g->factor);
    if (noise && noise * g->factor != side)
        return sp_fail(SP_ARGUMENT, "%s: \"noise.0\" is for a %s of %lld pixels, not %lld",
                       g->o->noise, name, (long long)(noise * g->factor), (long long)side);
    return SP_OK;
}

/* The sides that nobody asked for: of the picture to start from, rounded down, in its proportions
 * if the other one was asked for; else of the noise; else what the model was trained for. */
static sp_status choose_sides(sp_generation *g, sp_shape noise)
{
    int64_t f = g->factor, own = g->pipeline->unet_config.sample_size * f;
    int64_t width = g->o->width, height = g->o->height;
    if (g->image.pixels) {
        double scale = width    ? (double)width / g->image.width
                       : height ? (double)height / g->image.height
                                : 1;
        if (!width) width = (int64_t)fmin(g->image.width * scale + 1e-6, 1e9) / f * f;
        if (!height) height = (int64_t)fmin(g->image.height * scale + 1e-6, 1e9) / f * f;
        if (width == 0 || height == 0)
            return sp_fail(SP_ARGUMENT, "%s: is %d x %d pixels, and %lld is the least for a side",
                           g->o->init_image, g->image.width, g->image.height, (long long)f);
    }
    g->width = width ? width : noise.rank ? noise.dim[3] * f : own;
    g->height = height ? height : noise.rank ? noise.dim[2] * f : own;
    SP_TRY(check_side(g, "width", noise.dim[3], g->width));
    return check_side(g, "height", noise.dim[2], g->height);
}

/* How many pictures of each prompt, and how large. */
static sp_status choose_pictures(sp_generation *g)
{
    const splam_generate_options *o = g->o;
    sp_shape noise = {0};
    int64_t prompts = (int64_t)g->prompt_count;
    g->factor = g->pipeline->vae->config.vae.factor;
    if (g->noise_file) {
        const sp_tensor *first;
        SP_TRY(sp_tensor_file_get(g->noise_file, "noise.0", &first));
        noise = first->shape;
        int64_t channels = g->pipeline->unet_config.in_channels;
        if (noise.rank != 4 || noise.dim[0] < 1 || noise.dim[1] != channels || noise.dim[2] < 1 ||
            noise.dim[2] > SP_GENERATION_MAX_SIDE || noise.dim[3] < 1 ||
            noise.dim[3] > SP_GENERATION_MAX_SIDE)
            return sp_fail(SP_SHAPE,
                           "%s: tensor \"noise.0\" has the shape %s, expected [N,%lld,h,w]",
                           o->noise, sp_shape_text(noise), (long long)channels);
    }
    g->count = o->count                                       ? o->count
               : g->noise_file && noise.dim[0] % prompts == 0 ? noise.dim[0] / prompts
                                                              : 1;
    if (g->count < 1 || g->count > MAX_PICTURES || prompts > MAX_PICTURES / g->count)
        return sp_fail(SP_ARGUMENT,
                       "%lld pictures of each of %lld prompts are not possible: at most %d in all",
                       (long long)g->count, (long long)prompts, MAX_PICTURES);
    g->total = g->count * prompts;
    if (g->noise_file && noise.dim[0] != g->total)
        return sp_fail(SP_SHAPE,
                       "%s: tensor \"noise.0\" has the shape %s, and %lld pictures are asked for",
                       o->noise, sp_shape_text(noise), (long long)g->total);
    return choose_sides(g, noise);
}

/* ---- noise ---- */

static sp_status load_noise(sp_generation *g, const char *name, sp_tensor *out)
{
    const sp_tensor *tensor;
    SP_TRY(sp_tensor_file_get(g->noise_file, name, &tensor));
    sp_shape expected = sp_shape_of(g->total, g->pipeline->unet_config.in_channels,
                                    g->height / g->factor, g->width / g->factor);
    if (!sp_shape_equal(tensor->shape, expected))
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, expected %s", g->o->noise,
                       name, sp_shape_text(tensor->shape), sp_shape_text(expected));
    SP_TRY(sp_tensor_convert(tensor, SP_F32, out));
    sp_status status = sp_tensor_check_finite(out, name);
    return status ? sp_fail_within(status, "%s", g->o->noise) : SP_OK;
}

/* Every noise.K that the sampler will ask for. */
static sp_status load_all_noise(sp_generation *g)
{
    sp_sampler sampler;
    SP_TRY(sp_sampler_create(&g->pipeline->scheduler, &g->sampler, &sampler));
    size_t steps = (size_t)sampler.count + 1;
    g->given = sp_alloc_zero(steps * sizeof *g->given);
    g->given_steps = sp_alloc_zero(steps * sizeof *g->given_steps);
    sp_status status = g->given && g->given_steps ? SP_OK : SP_MEMORY;
    for (int i = 0; i <= sampler.count && !status; i++) {
        char name[32];
        if (i > 0 && sampler.step[i - 1].next.fresh == 0) continue;
        snprintf(name, sizeof name, "noise.%d", i);
        status = load_noise(g, name, &g->given[i]);
        g->given_steps[i] = &g->given[i];
        g->given_count = i + 1;
    }
    sp_sampler_free(&sampler);
    SP_TRY(status);
    if (!g->image.pixels || !sp_tensor_file_find(g->noise_file, "noise.posterior")) return SP_OK;
    return load_noise(g, "noise.posterior", &g->given_posterior);
}

static sp_status make_noise(sp_generation *g)
{
    if (g->noise_file) {
        SP_TRY(load_all_noise(g));
        g->given_noise = (sp_given_noise){g->given_steps, g->given_count,
                                          g->given_posterior.data ? &g->given_posterior : NULL};
        g->noise = sp_noise_given(&g->given_noise);
    } else if (g->o->rng == SPLAM_RNG_TORCH) {
        SP_TRY(sp_torch_noise_create(g->seed, g->total, &g->torch));
        g->noise = sp_noise_torch(&g->torch);
    } else {
        g->philox.seed = g->seed;
        g->noise = sp_noise_philox(&g->philox);
    }
    return SP_OK;
}

sp_status sp_generation_read_request(sp_generation *g)
{
    const splam_generate_options *o = g->o;
    sp_pipeline_options options = {.unet = o->unet,
                                   .prediction = o->prediction,
                                   .vae = o->vae,
                                   .lora_count = o->lora_count,
                                   .storage = sp_storage_of(o->precision),
                                   .clip_skip = o->clip_skip,
                                   .callbacks = &g->callbacks};
    SP_TRY(sp_generation_read_prompts(g));
    if (o->init_image) SP_TRY(sp_image_load(o->init_image, &g->image));
    SP_TRY(sp_check_loras(o->loras, o->lora_count));
    options.loras = o->loras;
    SP_TRY(sp_pipeline_open(o->model, &options, &g->pipeline));
    if (o->noise) SP_TRY(sp_safetensors_open(o->noise, &g->noise_file));
    SP_TRY(choose_sampler(g));
    SP_TRY(choose_seed(g));
    SP_TRY(choose_pictures(g));
    SP_TRY(sp_generation_warn_of_prompts(g));
    return make_noise(g);
}
