/* What a request asks for, seen against the model. */
#include "pipeline/request.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/log.h"
#include "models/guidance.h"
#include "options/choices.h"

enum { MAX_PICTURES = 1000000 };
static const double default_strength = 0.8; /* diffusers' */

/* ---- sampling ---- */

static sp_status choose_sampler(const splam_generate_options *o, const sp_scheduler_config *scheduler, sp_sampling *g)
{
    bool starts = sp_starts_from_image(o);
    SP_TRY(sp_sampler_choose(scheduler, o->sampler, &g->sampler.kind));
    if (o->sigmas) SP_TRY(sp_sigmas_of(o->sigmas, &g->sampler.sigmas));
    if (o->spacing) SP_TRY(sp_spacing_of(o->spacing, &g->sampler.spacing));
    SP_TRY(sp_sampler_check(scheduler, &g->sampler));
    g->sampler.steps =
        o->steps == SPLAM_UNSET ? sp_sampler_steps_for(scheduler, g->sampler.kind) : (int)o->steps;
    g->sampler.old_grid = o->old_grid;
    if (o->old_grid && g->sampler.kind != SP_SAMPLER_LCM)
        return sp_fail(SP_ARGUMENT, "`old_grid` is for the sampler lcm, and this is %s",
                       sp_sampler_name(g->sampler.kind));
    if (splam_is_given(o->eta) && !sp_sampler_has_eta(g->sampler.kind))
        return sp_fail(SP_ARGUMENT, "`eta` is for the samplers ddim and tcd, and this is %s",
                       sp_sampler_name(g->sampler.kind));
    g->sampler.eta = splam_is_given(o->eta) ? o->eta : sp_sampler_eta_for(g->sampler.kind);
    bool strength = splam_is_given(o->strength);
    if (strength && !starts)
        return sp_fail(SP_ARGUMENT, "a `strength` is given, and no picture to start from");
    if (starts) g->sampler.strength = strength ? o->strength : default_strength;
    return SP_OK;
}

static void choose_guidance(const splam_generate_options *o, const sp_scheduler_config *scheduler,
                            const sp_guidance_range *range, sp_sampling *g)
{
    bool ranged = range->high > 0;
    g->guidance = ranged || scheduler->student ? sp_usual_guidance(range) : 7.5;
    if (!splam_is_given(o->guidance)) return;
    g->guidance = o->guidance;
    if (ranged && (g->guidance < range->low || g->guidance > range->high))
        sp_log_warn("a guidance of %g is beyond the model's, which was trained for %g to %g", g->guidance, range->low,
                    range->high);
}

/* "7,8,9" as bits. */
static sp_status read_blocks(const char *text, int64_t count, uint64_t *out)
{
    for (const char *at = text; at; at = strchr(at, ',')) {
        char *end;
        if (*at == ',') at++;
        long block = strtol(at, &end, 10);
        if (end == at || *at < '0' || *at > '9' || (*end && *end != ',') || block >= count)
            return sp_fail(SP_ARGUMENT, "`skip_layers` is \"%s\", expected numbers of blocks with commas, 0 to %lld",
                           text, (long long)count - 1);
        *out |= UINT64_C(1) << block;
    }
    return SP_OK;
}

static sp_status choose_skip_layers(const splam_generate_options *o, const sp_denoiser *denoiser, sp_sampling *g)
{
    static const sp_skip_layers usual = {.scale = 2.8, .start = 0.01, .stop = 0.2}; /* diffusers' */
    const double *const given[] = {&o->skip_layer_scale, &o->skip_layer_start, &o->skip_layer_stop};
    if (!o->skip_layers) return SP_OK;
    if (!denoiser->blocks)
        return sp_fail(SP_ARGUMENT, "`skip_layers` is for Stable Diffusion 3, and this model has a %s", denoiser->name);
    if (g->guidance == 1) return sp_fail(SP_ARGUMENT, "`skip_layers` adds to guidance, and there is none");
    g->skip_layers = usual;
    double *const own[] = {&g->skip_layers.scale, &g->skip_layers.start, &g->skip_layers.stop};
    for (int i = 0; i < 3; i++)
        if (splam_is_given(*given[i])) *own[i] = *given[i];
    return read_blocks(o->skip_layers, denoiser->blocks, &g->skip_layers.blocks);
}

static sp_status choose_seed(const splam_generate_options *o, sp_sampling *g)
{
    if (!o->random_seed) {
        g->seed = o->seed;
    } else {
        uint32_t drawn; /* PyTorch's generator takes 32 bits */
        if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
            return sp_fail(SP_IO, "no random seed can be had from the system");
        g->seed = drawn;
    }
    if (o->seed_used) *o->seed_used = g->seed;
    return SP_OK;
}

sp_status sp_sampling_choose(const splam_generate_options *o, const sp_scheduler_config *scheduler,
                             const sp_denoiser *denoiser, sp_sampling *out)
{
    *out = (sp_sampling){0};
    SP_TRY(choose_sampler(o, scheduler, out));
    choose_guidance(o, scheduler, &denoiser->guidance, out);
    SP_TRY(choose_skip_layers(o, denoiser, out));
    return choose_seed(o, out);
}

/* ---- pictures ---- */

static sp_status check_side(const sp_picture_sizes *g, const char *file, const char *name, int64_t noise, int64_t side)
{
    if (!side)
        return sp_fail(SP_ARGUMENT,
                       "the model does not say what size it was trained for: give the %s", name);
    if (side < 1 || side > SP_MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "the %s is %lld pixels, expected 1 to %d", name,
                       (long long)side, SP_MAX_SIDE);
    if (side % g->multiple)
        return sp_fail(SP_ARGUMENT,
                       "the %s of %lld pixels is not a multiple of %lld, as this model needs", name,
                       (long long)side, (long long)g->multiple);
    if (g->most && side > g->most)
        return sp_fail(SP_ARGUMENT, "the %s of %lld pixels is more than the %lld that this model knows positions for",
                       name, (long long)side, (long long)g->most);
    if (noise && noise * g->factor != side)
        return sp_fail(SP_ARGUMENT, "%s: \"noise.0\" is for a %s of %lld pixels, not %lld",
                       file, name, (long long)(noise * g->factor), (long long)side);
    return SP_OK;
}

/* The sides that nobody asked for: of the picture to start from, rounded down, in its proportions
 * if the other one was asked for; else of the noise; else what the model was trained for. */
static sp_status choose_sides(const sp_size_question *q, sp_shape noise, sp_picture_sizes *out)
{
    const splam_generate_options *o = q->options;
    int64_t f = out->multiple, own = q->denoiser->sample_size * out->factor;
    int64_t width = o->width == SPLAM_UNSET ? 0 : o->width, height = o->height == SPLAM_UNSET ? 0 : o->height;
    const sp_image *image = q->image;
    if (image->pixels) {
        double scale = width    ? (double)width / image->width
                       : height ? (double)height / image->height
                                : 1;
        if (!width) width = (int64_t)fmin(image->width * scale + 1e-6, 1e9) / f * f;
        if (!height) height = (int64_t)fmin(image->height * scale + 1e-6, 1e9) / f * f;
        if (width == 0 || height == 0)
            return sp_fail(SP_ARGUMENT, "%s: is %d x %d pixels, and %lld is the least for a side",
                           sp_start_image_name(o), image->width, image->height, (long long)f);
    }
    out->width = width ? width : noise.rank ? noise.dim[3] * out->factor : own;
    out->height = height ? height : noise.rank ? noise.dim[2] * out->factor : own;
    SP_TRY(check_side(out, o->noise, "width", noise.dim[3], out->width));
    return check_side(out, o->noise, "height", noise.dim[2], out->height);
}

/* A model of XL's kind whose own size is a megapixel, unlike Turbo's, in less than half of it. */
static void warn_of_small(const sp_size_question *q, const sp_picture_sizes *sizes)
{
    int64_t own = q->denoiser->sample_size * sizes->factor;
    if (!q->denoiser->megapixel || 2 * sizes->width * sizes->height >= own * own) return;
    sp_log_warn("%lldx%lld pixels are far below what this model was trained on, and it draws poor pictures there; "
                "Stable Diffusion XL's sizes are " SP_XL_SIZES,
                (long long)sizes->width, (long long)sizes->height);
}

static sp_status read_noise_shape(const sp_size_question *q, sp_shape *out)
{
    const sp_tensor *first;
    int64_t channels = q->denoiser->in_channels;
    SP_TRY(sp_tensor_file_get(q->noise, "noise.0", &first));
    sp_shape noise = *out = first->shape;
    if (noise.rank == 4 && noise.dim[0] >= 1 && noise.dim[1] == channels && noise.dim[2] >= 1 &&
        noise.dim[2] <= SP_MAX_SIDE && noise.dim[3] >= 1 && noise.dim[3] <= SP_MAX_SIDE)
        return SP_OK;
    return sp_fail(SP_SHAPE, "%s: tensor \"noise.0\" has the shape %s, expected [N,%lld,h,w]", q->options->noise,
                   sp_shape_text(noise), (long long)channels);
}

sp_status sp_picture_sizes_choose(const sp_size_question *q, sp_picture_sizes *out)
{
    const splam_generate_options *o = q->options;
    sp_shape noise = {0};
    int64_t prompts = (int64_t)q->prompt_count;
    *out = (sp_picture_sizes){.factor = q->vae->factor,
                              .multiple = q->vae->factor * q->denoiser->unit,
                              .most = q->vae->factor * q->denoiser->most_side,
                              .channels = q->denoiser->in_channels};
    if (q->noise) SP_TRY(read_noise_shape(q, &noise));
    out->each = o->count != SPLAM_UNSET                   ? o->count
                : q->noise && noise.dim[0] % prompts == 0 ? noise.dim[0] / prompts
                                                          : 1;
    if (out->each < 1 || out->each > MAX_PICTURES || prompts > MAX_PICTURES / out->each)
        return sp_fail(SP_ARGUMENT,
                       "%lld pictures of each of %lld prompts are not possible: at most %d in all",
                       (long long)out->each, (long long)prompts, MAX_PICTURES);
    out->total = out->each * prompts;
    if (q->noise && noise.dim[0] != out->total)
        return sp_fail(SP_SHAPE,
                       "%s: tensor \"noise.0\" has the shape %s, and %lld pictures are asked for",
                       o->noise, sp_shape_text(noise), (long long)out->total);
    SP_TRY(choose_sides(q, noise, out));
    warn_of_small(q, out);
    return SP_OK;
}

sp_shape sp_latent_shape(const sp_picture_sizes *sizes, int64_t count)
{
    return sp_shape_of(count, sizes->channels, sizes->height / sizes->factor, sizes->width / sizes->factor);
}
