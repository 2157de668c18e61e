/* splam_generate: prompts to contexts, noise to latents, latents to PNGs, some pictures at a time.
 */
#include <string.h>
#include <sys/random.h>
#include "api/convert.h"
#include "api/picture_text.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/text.h"
#include "data/image.h"
#include "models/vae_run.h"

enum {
    MAX_SIDE = 16384, /* pixels of a picture */
    MAX_PICTURES = 1000000,
    GROUP_PIXELS = 1 << 22, /* of the pictures that are in memory at once */
};

/* One call. Pictures are numbered over all prompts: prompt j / count, seed + j. */
typedef struct {
    const splam_generate_options *o;
    sp_callbacks callbacks;
    sp_pipeline *pipeline;
    const char **prompts; /* the list and its own copy of the file */
    size_t prompt_count;
    char *prompts_text;
    char *model_name, *vae_name; /* vae_name NULL: the model's own */
    json_t *distillation;        /* NULL: not a student of ours */
    uint64_t model_hash;
    sp_sampler_options sampler;
    double guidance;
    uint64_t seed;
    int64_t count, total;  /* pictures per prompt, and of all */
    int64_t width, height; /* pixels */
    int64_t factor;        /* pixels per latent pixel */
    sp_tensor uncond;
    sp_tensor_file *noise_file;
    sp_tensor *given; /* noise.0, ... as f32 */
    const sp_tensor **given_steps;
    int given_count;
    sp_torch_noise torch;
    sp_philox_noise philox;
    sp_given_noise given_noise;
    sp_noise noise;
    sp_tensor all_latents; /* when they are to be saved */
    splam_generate_seconds seconds;
    double stage_began;
} generation;

/* Adds the time since the last stage ended to one of g->seconds. */
static void end_stage(generation *g, double *stage)
{
    double now = sp_now();
    *stage += now - g->stage_began;
    g->stage_began = now;
}

/* ---- what is asked for ---- */

static sp_status read_prompts(generation *g)
{
    const splam_generate_options *o = g->o;
    size_t lines = 0, length = 0;
    if (o->prompts_file) {
        SP_TRY(sp_read_file(o->prompts_file, &g->prompts_text, &length));
        if (strlen(g->prompts_text) != length)
            return sp_fail(SP_FORMAT, "%s: is not a text file", o->prompts_file);
        lines = 1;
        for (const char *p = g->prompts_text; *p; p++)
            lines += *p == '\n';
    }
    g->prompts = sp_alloc_zero((o->prompt_count + lines + 1) * sizeof *g->prompts);
    if (!g->prompts) return SP_MEMORY;
    for (size_t i = 0; i < o->prompt_count; i++)
        g->prompts[g->prompt_count++] = o->prompts[i];
    char *rest = g->prompts_text, *line;
    while (rest && (line = strsep(&rest, "\n")) != NULL) {
        line[strcspn(line, "\r")] = 0;
        if (*line) g->prompts[g->prompt_count++] = line;
    }
    if (g->prompt_count) return SP_OK;
    if (o->prompts_file) return sp_fail(SP_FORMAT, "%s: there is no prompt in it", o->prompts_file);
    return sp_fail(SP_ARGUMENT, "a prompt is missing");
}

static sp_status choose_sampler(generation *g)
{
    const splam_generate_options *o = g->o;
    const sp_scheduler_config *scheduler = &g->pipeline->scheduler;
    g->sampler.kind = sp_sampler_for(scheduler);
    if (o->sampler) SP_TRY(sp_sampler_kind_of(o->sampler, &g->sampler.kind));
    int64_t steps = o->steps ? o->steps : sp_sampler_default_steps(g->sampler.kind);
    if (steps < 1 || steps > SP_MAX_TIMESTEPS)
        return sp_fail(SP_ARGUMENT, "%lld steps are not possible", (long long)steps);
    g->sampler.steps = (int)steps;
    g->sampler.old_grid = o->old_grid;
    g->guidance = o->guidance >= 0 ? o->guidance : scheduler->is_lcm ? 1 : 7.5;
    if (!(g->guidance <= 1000))
        return sp_fail(SP_ARGUMENT, "guidance %g is out of range", g->guidance);
    return SP_OK;
}

static sp_status choose_seed(generation *g)
{
    if (g->o->seed >= 0) {
        g->seed = (uint64_t)g->o->seed;
    } else {
        uint32_t drawn; /* PyTorch's generator takes 32 bits */
        if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
            return sp_fail(SP_IO, "no random seed can be had from the system");
        g->seed = drawn;
    }
    if (g->o->seed_used) *g->o->seed_used = (int64_t)g->seed;
    return SP_OK;
}

/* One side in pixels: what is asked for, or what the noise has, or what the model was trained for.
 */
static sp_status choose_side(const generation *g, const char *name, int64_t asked, int64_t noise,
                             int64_t *out)
{
    int64_t own = g->pipeline->unet_config.sample_size;
    *out = asked ? asked : (noise ? noise : own) * g->factor;
    if (!*out)
        return sp_fail(SP_ARGUMENT,
                       "the model does not say what size it was trained for: give the %s", name);
    if (*out < 1 || *out > MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "the %s is %lld pixels, expected 1 to %d", name,
                       (long long)*out, MAX_SIDE);
    if (*out % g->factor)
        return sp_fail(SP_ARGUMENT,
                       "the %s of %lld pixels is not a multiple of %lld, as this model needs", name,
                       (long long)*out, (long long)g->factor);
    if (noise && noise * g->factor != *out)
        return sp_fail(SP_ARGUMENT, "%s: \"noise.0\" is for a %s of %lld pixels, not %lld",
                       g->o->noise, name, (long long)(noise * g->factor), (long long)*out);
    return SP_OK;
}

/* How many pictures of each prompt, and how large. */
static sp_status choose_pictures(generation *g)
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
            noise.dim[2] > MAX_SIDE || noise.dim[3] < 1 || noise.dim[3] > MAX_SIDE)
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
    SP_TRY(choose_side(g, "width", o->width, noise.dim[3], &g->width));
    return choose_side(g, "height", o->height, noise.dim[2], &g->height);
}

/* ---- noise ---- */

static sp_status load_noise(generation *g, const char *name, sp_tensor *out)
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
static sp_status load_all_noise(generation *g)
{
    sp_sampler sampler;
    SP_TRY(sp_sampler_create(&g->pipeline->scheduler, &g->sampler, &sampler));
    size_t steps = (size_t)sampler.count + 1;
    g->given = sp_alloc_zero(steps * sizeof *g->given);
    g->given_steps = sp_alloc_zero(steps * sizeof *g->given_steps);
    sp_status status = g->given && g->given_steps ? SP_OK : SP_MEMORY;
    for (int i = 0; i <= sampler.count && !status; i++) {
        char name[32];
        if (i > 0 && sampler.step[i - 1].fresh == 0) continue;
        snprintf(name, sizeof name, "noise.%d", i);
        status = load_noise(g, name, &g->given[i]);
        g->given_steps[i] = &g->given[i];
        g->given_count = i + 1;
    }
    sp_sampler_free(&sampler);
    return status;
}

static sp_status make_noise(generation *g)
{
    if (g->noise_file) {
        SP_TRY(load_all_noise(g));
        g->given_noise = (sp_given_noise){g->given_steps, g->given_count};
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

/* ---- pictures ---- */

/* Contexts of pictures first..first+count-1; each prompt is encoded once. */
static sp_status encode_group(generation *g, int64_t first, int64_t count, sp_tensor *out)
{
    int64_t prompt = first / g->count, last = (first + count - 1) / g->count;
    sp_tensor distinct;
    SP_TRY(sp_pipeline_encode(g->pipeline, g->prompts + prompt, last - prompt + 1, &distinct));
    sp_shape shape = distinct.shape;
    shape.dim[0] = count;
    size_t one = sp_tensor_bytes(&distinct) / (size_t)(last - prompt + 1);
    sp_status status = sp_tensor_create(SP_F32, shape, out);
    for (int64_t i = 0; i < count && !status; i++)
        memcpy((char *)out->data + (size_t)i * one,
               (char *)distinct.data + (size_t)((first + i) / g->count - prompt) * one, one);
    sp_tensor_free(&distinct);
    return status;
}

/* NAME.png of a single picture, NAME-j.png of several, with as many digits as the last one has. */
static char *picture_path(const generation *g, int64_t number)
{
    const char *path = g->o->output;
    if (g->total == 1) return sp_strdup(path);
    const char *dot = strrchr(sp_path_base(path), '.');
    if (!dot || dot == sp_path_base(path)) dot = path + strlen(path);
    int digits = snprintf(NULL, 0, "%lld", (long long)g->total - 1);
    return sp_format("%.*s-%0*lld%s", (int)(dot - path), path, digits, (long long)number, dot);
}

static sp_status save_picture(const generation *g, int64_t number, const float *nchw)
{
    sp_picture_facts facts = {
        .pipeline = g->pipeline,
        .model_name = g->model_name,
        .vae_name = g->vae_name,
        .distillation = g->distillation,
        .model_hash = g->model_hash,
        .prompt = g->prompts[number / g->count],
        .sampler = g->sampler.kind,
        .steps = g->sampler.steps,
        .guidance = g->guidance,
        .has_seed = !g->noise_file,
        .seed = g->seed + (uint64_t)number,
        .torch = g->o->rng == SPLAM_RNG_TORCH,
        .width = g->width,
        .height = g->height,
        .clip_skip = g->o->clip_skip,
    };
    if (g->uncond.data) facts.negative = g->o->negative ? g->o->negative : "";
    char *parameters, *json, *path = picture_path(g, number);
    sp_image image = {0};
    if (!path) return SP_MEMORY;
    sp_status status = sp_picture_texts(&facts, &parameters, &json);
    if (!status) status = sp_image_create((int)g->width, (int)g->height, &image);
    if (!status) {
        const sp_png_text texts[] = {{"parameters", parameters}, {"splam", json}};
        sp_rgb_from_float(nchw, image.width, image.height, image.pixels);
        status = sp_image_save_png(&image, path, texts, 2);
    }
    sp_image_free(&image);
    sp_free(parameters);
    sp_free(json);
    sp_free(path);
    return status;
}

static sp_status save_group(generation *g, int64_t first, const sp_tensor *latents)
{
    int64_t count = latents->shape.dim[0];
    sp_tensor images;
    SP_TRY(sp_pipeline_decode(g->pipeline, latents, &g->callbacks, &images));
    end_stage(g, &g->seconds.decode);
    int64_t one = sp_tensor_count(&images) / count;
    sp_status status = SP_OK;
    for (int64_t i = 0; i < count && !status; i++)
        status = save_picture(g, first + i, (const float *)images.data + i * one);
    sp_tensor_free(&images);
    end_stage(g, &g->seconds.write);
    return status;
}

static sp_status draw_group(generation *g, int64_t first, int64_t count)
{
    sp_tensor context, latents;
    SP_TRY(encode_group(g, first, count, &context));
    end_stage(g, &g->seconds.text);
    sp_denoise_request request = {
        .sampler = g->sampler,
        .guidance = g->guidance,
        .context = &context,
        .uncond = &g->uncond,
        .height = g->height / g->factor,
        .width = g->width / g->factor,
        .noise = g->noise,
        .first_sample = first,
    };
    sp_status status = sp_pipeline_denoise(g->pipeline, &request, &g->callbacks, &latents);
    sp_tensor_free(&context);
    if (status) return status;
    if (first + count == g->total) sp_pipeline_release(g->pipeline); /* room for the VAE */
    if (g->all_latents.data) {
        size_t bytes = sp_tensor_bytes(&latents), one = bytes / (size_t)count;
        memcpy((char *)g->all_latents.data + (size_t)first * one, latents.data, bytes);
    }
    end_stage(g, &g->seconds.denoise);
    if (g->o->output) status = save_group(g, first, &latents);
    sp_tensor_free(&latents);
    return status;
}

static sp_status save_latents(generation *g)
{
    const sp_named_tensor tensors[] = {{"latents", &g->all_latents}};
    return sp_safetensors_save(g->o->save_latents, tensors, 1, NULL, 0);
}

/* ---- the whole ---- */

/* The last part of a path, without the slashes it may end in. */
static char *folder_name(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    return sp_format("%.*s", (int)(length - begin), path + begin);
}

static sp_status make_parent(const char *path)
{
    char *folder = path ? sp_strdup(path) : NULL;
    char *slash = folder ? strrchr(folder, '/') : NULL;
    sp_status status = path && !folder ? SP_MEMORY : SP_OK;
    if (slash && slash > folder) {
        *slash = 0;
        status = sp_make_folders(folder);
    }
    sp_free(folder);
    return status;
}

/* splam.json, which a student's folder has. */
static sp_status load_distillation(generation *g)
{
    char *path = sp_path_join(g->o->model, "splam.json");
    if (!path) return SP_MEMORY;
    sp_status status = sp_path_exists(path) ? sp_json_load(path, &g->distillation) : SP_OK;
    sp_free(path);
    return status;
}

/* Everything that can be wrong with the request is found here, before the first long computation.
 */
static sp_status prepare(generation *g)
{
    const splam_generate_options *o = g->o;
    if (!o->model) return sp_fail(SP_ARGUMENT, "a model is missing");
    if (!o->output && !o->save_latents)
        return sp_fail(SP_ARGUMENT,
                       "there is nothing to write: neither pictures nor latents are asked for");
    sp_pipeline_options options = {.unet = o->unet,
                                   .vae = o->vae,
                                   .storage = sp_storage_of(o->precision),
                                   .clip_skip = o->clip_skip};
    SP_TRY(read_prompts(g));
    SP_TRY(sp_pipeline_open(o->model, &options, &g->pipeline));
    if (o->noise) SP_TRY(sp_safetensors_open(o->noise, &g->noise_file));
    SP_TRY(choose_sampler(g));
    SP_TRY(choose_seed(g));
    SP_TRY(choose_pictures(g));
    SP_TRY(make_noise(g));
    SP_TRY(load_distillation(g));
    SP_TRY(make_parent(o->output));
    SP_TRY(make_parent(o->save_latents));
    g->model_name = folder_name(o->model);
    g->vae_name = o->vae ? folder_name(o->vae) : NULL;
    if (!g->model_name || (o->vae && !g->vae_name)) return SP_MEMORY;
    g->model_hash = sp_model_hash(g->pipeline->unet->file);
    if (!o->save_latents) return SP_OK;
    return sp_tensor_create(SP_F32,
                            sp_shape_of(g->total, g->pipeline->unet_config.in_channels,
                                        g->height / g->factor, g->width / g->factor),
                            &g->all_latents);
}

static sp_status generate(generation *g)
{
    SP_TRY(prepare(g));
    end_stage(g, &g->seconds.load);
    const char *negative = g->o->negative ? g->o->negative : "";
    if (sp_pipeline_is_guided(g->pipeline, g->guidance))
        SP_TRY(sp_pipeline_encode_negative(g->pipeline, negative, &g->uncond));
    int64_t pixels = g->width * g->height,
            group = pixels < GROUP_PIXELS ? GROUP_PIXELS / pixels : 1;
    for (int64_t first = 0; first < g->total; first += group)
        SP_TRY(draw_group(g, first, g->total - first < group ? g->total - first : group));
    if (g->o->save_latents) SP_TRY(save_latents(g));
    end_stage(g, &g->seconds.write);
    return SP_OK;
}

static void generation_free(generation *g)
{
    for (int i = 0; i < g->given_count; i++)
        sp_tensor_free(&g->given[i]);
    sp_free(g->given);
    sp_free(g->given_steps);
    sp_torch_noise_free(&g->torch);
    sp_tensor_free(&g->uncond);
    sp_tensor_free(&g->all_latents);
    sp_tensor_file_close(g->noise_file);
    sp_pipeline_close(g->pipeline);
    sp_free(g->prompts);
    sp_free(g->prompts_text);
    sp_free(g->model_name);
    sp_free(g->vae_name);
    json_decref(g->distillation);
}

splam_status splam_generate(const splam_generate_options *options, const splam_callbacks *callbacks)
{
    double began = sp_now();
    generation g = {.o = options, .callbacks = sp_own_callbacks(callbacks), .stage_began = began};
    sp_status status = generate(&g);
    generation_free(&g);
    g.seconds.total = sp_now() - began;
    if (options->seconds) *options->seconds = g.seconds;
    return sp_public_status(status);
}
