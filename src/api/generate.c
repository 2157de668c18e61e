/* splam_generate: prompts to a conditioning, noise to latents, latents to pictures' files, some pictures at a time. */
#include <string.h>
#include "api/generation.h"
#include "api/picture_text.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "checkpoints/model_path.h"

/* Adds the time since the last stage ended to one of g->seconds. */
static void end_stage(sp_generation *g, double *stage)
{
    double now = sp_now();
    *stage += now - g->stage_began;
    g->stage_began = now;
}

/* ---- pictures ---- */

/* Contexts of pictures first..first+count-1; each prompt is encoded once. */
static sp_status encode_group(sp_generation *g, int64_t first, int64_t count, sp_conditioning *out)
{
    int64_t prompt = first / g->count, last = (first + count - 1) / g->count;
    sp_conditioning distinct;
    SP_TRY(sp_pipeline_encode(g->pipeline, g->prompts + prompt, last - prompt + 1, &distinct));
    sp_status status = sp_conditioning_create(&distinct, SP_F32, count, out);
    for (int64_t i = 0; i < count && !status; i++)
        sp_conditioning_copy(out, i, 1, &distinct, (first + i) / g->count - prompt);
    sp_conditioning_free(&distinct);
    return status;
}

static sp_status save_picture(sp_generation *g, int64_t number, const float *nchw)
{
    const sp_pipeline *p = g->pipeline;
    sp_picture_facts facts = {
        .pipeline = p,
        .model_name = g->model_name,
        .vae_name = g->vae_name,
        .loras = g->o->loras,
        .lora_count = g->o->lora_count,
        .distillation = g->distillation,
        .model_hash = g->model_hash,
        .prompt = g->prompts[number / g->count],
        .sampler = g->sampler.kind,
        .sigmas = sp_sampler_sigmas(&p->scheduler, &g->sampler),
        .steps = g->sampler.steps,
        .eta = g->sampler.eta,
        .guidance = g->guidance,
        .has_seed = !g->noise_file,
        .seed = g->seed + (uint64_t)number,
        .torch = g->o->rng == SPLAM_RNG_TORCH,
        .width = g->width,
        .height = g->height,
        .clip_skip = g->o->clip_skip,
        .vae_tile = g->width > p->vae_tile || g->height > p->vae_tile ? p->vae_tile : 0,
        .strength = g->sampler.strength,
        .init_image = g->o->init_image ? sp_path_base(g->o->init_image) : NULL,
    };
    if (g->negative.count) facts.negative = g->o->negative ? g->o->negative : "";
    char *parameters, *json;
    sp_image image = {0};
    sp_status status = sp_picture_texts(&facts, &parameters, &json);
    if (!status) status = sp_image_create((int)g->width, (int)g->height, &image);
    if (!status) {
        sp_rgb_from_float(nchw, image.width, image.height, image.pixels);
        status = sp_generation_write(g, number, &image, &(sp_image_texts){parameters, json});
    }
    sp_image_free(&image);
    sp_free(parameters);
    sp_free(json);
    return status;
}

static sp_status save_group(sp_generation *g, int64_t first, const sp_tensor *latents)
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

static sp_status draw_group(sp_generation *g, int64_t first, int64_t count)
{
    sp_conditioning conditioning;
    sp_tensor image, latents = {0};
    sp_pipeline_keep(g->pipeline, g->keep && first + count < g->total);
    SP_TRY(encode_group(g, first, count, &conditioning));
    end_stage(g, &g->seconds.text);
    sp_status status = sp_generation_start(g, first, count, &image);
    sp_denoise_request request = {
        .sampler = g->sampler,
        .guidance = g->guidance,
        .conditioning = &conditioning,
        .negative = &g->negative,
        .image = &image,
        .height = g->height / g->factor,
        .width = g->width / g->factor,
        .noise = g->noise,
        .batch = g->batch,
        .first_sample = first,
    };
    if (!status) status = sp_pipeline_denoise(g->pipeline, &request, &g->callbacks, &latents);
    sp_conditioning_free(&conditioning);
    sp_tensor_free(&image);
    if (status) return status;
    /* Room for the VAE; packing the weights again for the next group takes seconds. */
    if (g->release || first + count == g->total) sp_pipeline_release(g->pipeline);
    if (g->all_latents.data) {
        size_t bytes = sp_tensor_bytes(&latents), one = bytes / (size_t)count;
        memcpy((char *)g->all_latents.data + (size_t)first * one, latents.data, bytes);
    }
    end_stage(g, &g->seconds.denoise);
    if (g->o->output) status = save_group(g, first, &latents);
    sp_tensor_free(&latents);
    return status;
}

static sp_status save_latents(sp_generation *g)
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

/* splam.json, which a student's folder has. */
static sp_status load_distillation(sp_generation *g)
{
    char *path;
    SP_TRY(sp_model_file(g->o->model, "splam.json", &path));
    sp_status status = sp_path_exists(path) ? sp_json_load(path, &g->distillation) : SP_OK;
    sp_free(path);
    return status;
}

/* Everything that can be wrong with the request is found here, before the first long computation. */
static sp_status prepare(sp_generation *g)
{
    const splam_generate_options *o = g->o;
    if (!o->model) return sp_fail(SP_ARGUMENT, "a model is missing");
    if (!o->output && !o->save_latents)
        return sp_fail(SP_ARGUMENT,
                       "there is nothing to write: neither pictures nor latents are asked for");
    SP_TRY(sp_generation_choose_output(g));
    SP_TRY(sp_generation_read_request(g));
    SP_TRY(load_distillation(g));
    SP_TRY(sp_generation_claim_output(g));
    g->model_name = folder_name(o->model);
    g->vae_name = o->vae ? folder_name(o->vae) : NULL;
    int64_t pixels = g->width * g->height;
    g->group = pixels < SP_GENERATION_GROUP ? SP_GENERATION_GROUP / pixels : 1;
    if (g->group > g->total) g->group = g->total;
    if (!g->model_name || (o->vae && !g->vae_name)) return SP_MEMORY;
    g->model_hash = sp_model_hash(g->pipeline->unet->file);
    SP_TRY(sp_generation_plan_memory(g));
    if (!o->save_latents) return SP_OK;
    return sp_tensor_create(SP_F32,
                            sp_shape_of(g->total, g->pipeline->unet_config.in_channels,
                                        g->height / g->factor, g->width / g->factor),
                            &g->all_latents);
}

static sp_status generate(sp_generation *g)
{
    SP_TRY(prepare(g));
    end_stage(g, &g->seconds.load);
    const char *negative = g->o->negative ? g->o->negative : "";
    if (sp_pipeline_is_guided(g->pipeline, g->guidance))
        SP_TRY(sp_pipeline_encode_negative(g->pipeline, negative, &g->negative));
    end_stage(g, &g->seconds.text);
    SP_TRY(sp_generation_encode_image(g));
    end_stage(g, &g->seconds.encode);
    for (int64_t first = 0; first < g->total; first += g->group)
        SP_TRY(draw_group(g, first, g->total - first < g->group ? g->total - first : g->group));
    if (g->o->save_latents) SP_TRY(save_latents(g));
    end_stage(g, &g->seconds.write);
    return SP_OK;
}

static void generation_free(sp_generation *g)
{
    for (int i = 0; i < g->given_count; i++)
        sp_tensor_free(&g->given[i]);
    sp_free(g->given);
    sp_free(g->given_steps);
    sp_torch_noise_free(&g->torch);
    sp_tensor_free(&g->given_posterior);
    sp_conditioning_free(&g->negative);
    sp_tensor_free(&g->posterior);
    sp_image_free(&g->image);
    sp_tensor_free(&g->all_latents);
    sp_tensor_file_close(g->noise_file);
    sp_pipeline_close(g->pipeline);
    sp_free(g->prompts);
    sp_free(g->prompts_text);
    sp_free(g->model_name);
    sp_free(g->vae_name);
    sp_free(g->output);
    sp_claim_end(&g->output_claim);
    sp_claim_end(&g->latents_claim);
    json_decref(g->distillation);
}

splam_status splam_generate(const splam_generate_options *options, const splam_callbacks *callbacks)
{
    double began = sp_now();
    sp_generation g = {
        .o = options, .callbacks = sp_own_callbacks(callbacks), .stage_began = began};
    sp_status status = generate(&g);
    if (status == SP_CANCELLED && options->output)
        status = sp_fail(status, "interrupted: %lld of %lld pictures were written",
                         (long long)g.written, (long long)g.total);
    generation_free(&g);
    g.seconds.total = sp_now() - began;
    if (options->seconds) *options->seconds = g.seconds;
    return status;
}
