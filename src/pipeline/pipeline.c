/* Opening a model's parts and seeing that they fit; prompts to a conditioning; latents to pictures. */
#include "pipeline/pipeline.h"
#include <string.h>
#include "backend/registry.h"
#include "base/file.h"
#include "base/memory.h"
#include "checkpoints/recognise.h"
#include "pipeline/vae_run.h"

enum { TEXT_BATCH = 16 }; /* prompts encoded at once */

static sp_status open_text(sp_pipeline *p, const char *folder)
{
    SP_TRY(sp_component_open(folder, "text_encoder", &p->text_encoder));
    SP_TRY(sp_model_folder_tokenizer(&p->folder, &p->tokenizer));
    const sp_clip_text_config *text = &p->text_encoder->config.text;
    size_t ids = sp_tokenizer_vocabulary_size(p->tokenizer),
           length = sp_tokenizer_max_length(p->tokenizer);
    if (ids > (size_t)text->vocabulary)
        return sp_fail(SP_FORMAT, "%s: the tokenizer has %zu ids and the text encoder knows %lld",
                       folder, ids, (long long)text->vocabulary);
    if (length > (size_t)text->max_tokens)
        return sp_fail(SP_FORMAT,
                       "%s: the tokenizer makes %zu tokens and the text encoder takes at most %lld",
                       folder, length, (long long)text->max_tokens);
    if (p->clip_skip < 0 || p->clip_skip >= text->layers)
        return sp_fail(SP_ARGUMENT,
                       "clip-skip is %d, and must lie in 0..%lld for this text encoder",
                       p->clip_skip, (long long)text->layers - 1);
    return SP_OK;
}

static sp_status check_vae(const sp_pipeline *p, const sp_unet_config *unet)
{
    const sp_vae_config *vae = &p->vae->config.vae;
    const char *folder = p->vae->folder;
    if (vae->out_channels != 3 || vae->in_channels != 3)
        return sp_fail(
            SP_UNSUPPORTED, "%s: the VAE's pictures have %lld channels, and only 3 are supported",
            folder, (long long)(vae->out_channels != 3 ? vae->out_channels : vae->in_channels));
    if (vae->latent_channels != unet->in_channels)
        return sp_fail(SP_FORMAT, "%s: the VAE's latents have %lld channels and the UNet's %lld",
                       folder, (long long)vae->latent_channels, (long long)unet->in_channels);
    return SP_OK;
}

static sp_status check_unet(const sp_pipeline *p, const sp_unet_config *unet)
{
    const char *folder = p->folder.path;
    if (unet->in_channels != unet->out_channels)
        return sp_fail(
            SP_UNSUPPORTED,
            "%s: the UNet takes %lld channels and gives %lld; only text to image is supported",
            folder, (long long)unet->in_channels, (long long)unet->out_channels);
    if (p->text_encoder && p->text_encoder->config.text.width != unet->cross_attention_dim)
        return sp_fail(
            SP_FORMAT, "%s: the text encoder is %lld wide and the UNet expects a context of %lld",
            folder, (long long)p->text_encoder->config.text.width, (long long)unet->cross_attention_dim);
    return p->vae ? check_vae(p, unet) : SP_OK;
}

/* Before anything is packed, so that adapters cost nothing at run time. In bf16 the sums are
 * rounded to the type of the file, since packing rounds them anyway. */
static sp_status merge_loras(sp_pipeline *p, const sp_pipeline_options *options)
{
    const bool has[SP_COMPONENT_COUNT] = {
        [SP_COMPONENT_UNET] = p->unet, [SP_COMPONENT_TEXT_ENCODER] = p->text_encoder};
    bool exact = p->storage == SP_F32;
    sp_lora_list list;
    SP_TRY(sp_lora_list_open(options->loras, options->lora_count, &list));
    sp_status status = sp_lora_list_check(&list, has);
    if (!status && p->unet) status = sp_lora_list_merge(&list, p->device, p->unet, exact, &p->callbacks);
    if (!status && p->text_encoder)
        status = sp_lora_list_merge(&list, p->device, p->text_encoder, exact, &p->callbacks);
    sp_lora_list_close(&list);
    return status;
}

/* Before a part is missed by name: what the model is, if it is none. */
static sp_status check_model(const sp_pipeline *p, unsigned parts, const sp_pipeline_options *options)
{
    const bool needed[SP_COMPONENT_COUNT] = {[SP_COMPONENT_UNET] = parts & SP_PART_UNET && !options->unet,
                                             [SP_COMPONENT_VAE] = parts & SP_PART_VAE && !options->vae,
                                             [SP_COMPONENT_TEXT_ENCODER] = parts & SP_PART_TEXT};
    return sp_model_expect(&p->folder, needed);
}

static sp_status open_parts(sp_pipeline *p, const char *folder, const sp_pipeline_options *options)
{
    unsigned parts = options->parts ? options->parts : SP_PART_ALL;
    SP_TRY(sp_model_folder_open(folder, &p->folder));
    SP_TRY(check_model(p, parts, options));
    p->folder.prediction = options->prediction;
    if (parts & SP_PART_UNET) SP_TRY(sp_prediction_check(&p->folder));
    SP_TRY(sp_scheduler_config_of(&p->folder, NULL, &p->scheduler));
    if (parts & SP_PART_TEXT) SP_TRY(open_text(p, folder));
    if (parts & SP_PART_VAE)
        SP_TRY(sp_component_open_as(options->vae ? options->vae : folder, "vae",
                                    options->vae ? NULL : options->prediction, &p->vae));
    if (parts & SP_PART_UNET)
        SP_TRY(sp_component_open_as(folder, options->unet ? options->unet : "unet", options->prediction,
                                    &p->unet));
    SP_TRY(merge_loras(p, options));
    return p->unet ? sp_pipeline_set_unet(p, NULL, NULL) : SP_OK;
}

sp_status sp_pipeline_open(const char *folder, const sp_pipeline_options *options,
                           sp_pipeline **out)
{
    *out = NULL;
    sp_pipeline *p = sp_alloc_zero(sizeof *p);
    if (!p) return SP_MEMORY;
    p->device = options->device ? options->device : sp_default_device();
    p->storage = options->storage;
    p->clip_skip = options->clip_skip;
    if (options->callbacks) p->callbacks = *options->callbacks;
    sp_status status = open_parts(p, folder, options);
    if (status) {
        sp_pipeline_close(p);
        return status;
    }
    *out = p;
    return SP_OK;
}

void sp_pipeline_close(sp_pipeline *p)
{
    if (!p) return;
    sp_pipeline_release(p);
    sp_component_close(p->unet);
    sp_pipeline_close_parts(p, SP_PART_VAE | SP_PART_TEXT);
    sp_model_folder_close(&p->folder);
    sp_free(p);
}

sp_status sp_pipeline_set_unet(sp_pipeline *p, const sp_unet_config *config,
                               const sp_weights *weights)
{
    if (!weights && !p->unet)
        return sp_fail(SP_INTERNAL, "the pipeline was opened without its UNet");
    const sp_unet_config *chosen = weights ? config : &p->unet->config.unet;
    SP_TRY(check_unet(p, chosen));
    sp_pipeline_release(p);
    p->unet_config = *chosen;
    p->unet_weights = weights ? weights : p->unet->weights;
    return SP_OK;
}

sp_status sp_pipeline_set_vae_tile(sp_pipeline *p, int64_t tile)
{
    int64_t unit = p->vae ? sp_vae_tile_unit(&p->vae->config.vae) : 1;
    if (tile < 0 || tile % unit)
        return sp_fail(SP_ARGUMENT, "a tile of %lld pixels is not a multiple of %lld", (long long)tile, (long long)unit);
    p->vae_tile = tile;
    return SP_OK;
}

void sp_pipeline_close_parts(sp_pipeline *p, unsigned parts)
{
    if (parts & SP_PART_VAE) {
        sp_vae_ready_free(&p->vae_ready);
        sp_component_close(p->vae);
        p->vae = NULL;
    }
    if (parts & SP_PART_TEXT) {
        sp_runner_free(&p->text);
        sp_component_close(p->text_encoder);
        sp_tokenizer_destroy(p->tokenizer);
        p->text_encoder = NULL;
        p->tokenizer = NULL;
    }
}

/* Lets the kernel take back the mapped pages of a component that has been run. */
static void drop_pages(const sp_component *component)
{
    for (size_t i = 0; i < sp_tensor_file_count(component->file); i++)
        sp_tensor_file_drop(component->file, sp_tensor_file_at(component->file, i));
}

void sp_pipeline_release(sp_pipeline *p)
{
    sp_runner_free(&p->denoiser);
    memset(p->denoiser_key, 0, sizeof p->denoiser_key);
    if (p->unet) drop_pages(p->unet);
}

void sp_pipeline_keep(sp_pipeline *p, bool keep)
{
    p->keeps = keep;
}

/* ---- prompts ---- */

static sp_status text_builder(const sp_pipeline *p, int clip_skip, int64_t batch, sp_builder **out)
{
    const sp_weight_set set = {.name = "text", .rate = SP_RATE_RUN, .weights = p->text_encoder->weights};
    const sp_clip_text_options options = {.clip_skip = clip_skip};
    const sp_network_use text = {.network = &sp_clip_text_network,
                                 .config = &p->text_encoder->config.text,
                                 .options = &options,
                                 .set = &set};
    const sp_network_sizes sizes = {
        .batch = batch, .tokens = (int64_t)sp_tokenizer_max_length(p->tokenizer), .ids = SP_I32};
    SP_TRY(sp_builder_create(out));
    sp_network_alone(*out, &text, &sizes);
    return SP_OK;
}

sp_status sp_pipeline_plan_text(const sp_pipeline *p, int64_t prompts, sp_plan_memory *out)
{
    sp_builder *b;
    sp_plan *plan;
    SP_TRY(text_builder(p, p->clip_skip, prompts < TEXT_BATCH ? prompts : TEXT_BATCH, &b));
    SP_TRY(sp_runner_plan(b, p->device, p->storage, &plan));
    *out = sp_plan_get_memory(plan);
    sp_plan_destroy(plan);
    return SP_OK;
}

/* The runner for so many prompts and layers: the one at hand if it fits. */
static sp_status prepare_text(sp_pipeline *p, int clip_skip, int64_t batch)
{
    const int64_t key[] = {batch, clip_skip};
    if (p->text.run && memcmp(key, p->text_key, sizeof key) == 0) return SP_OK;
    sp_runner_free(&p->text);
    sp_builder *b;
    SP_TRY(text_builder(p, clip_skip, batch, &b));
    SP_TRY(sp_runner_create(b, p->device, p->storage, &p->text));
    memcpy(p->text_key, key, sizeof key);
    sp_status status = sp_bind(sp_run_bound(p->text.run), "text", p->text_encoder->weights);
    if (status) sp_runner_free(&p->text);
    return status;
}

static sp_status encode_batches(const sp_pipeline *p, const char *const *prompts, int64_t count,
                                sp_tensor *ids, sp_tensor *states)
{
    sp_run *run = p->text.run;
    int64_t batch = ids->shape.dim[0], length = ids->shape.dim[1];
    for (int64_t first = 0; first < count; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        for (int64_t i = 0; i < n; i++)
            SP_TRY(sp_tokenizer_encode(p->tokenizer, prompts[first + i],
                                       (int32_t *)ids->data + i * length, NULL));
        sp_tensor out = {0};
        SP_TRY(sp_run_set_input(run, "input_ids", ids));
        SP_TRY(sp_run_execute(run, &p->callbacks));
        SP_TRY(sp_run_get_output(run, "last_hidden_state", &out));
        size_t one = sp_tensor_bytes(&out) / (size_t)batch;
        memcpy((char *)states->data + (size_t)first * one, out.data, (size_t)n * one);
        sp_tensor_free(&out);
    }
    return SP_OK;
}

/* The text encoder's last hidden states, new tensor [count,L,D] f32. */
static sp_status encode_text(sp_pipeline *p, const char *const *prompts, int64_t count, int clip_skip, sp_tensor *states)
{
    *states = (sp_tensor){0};
    int64_t length = (int64_t)sp_tokenizer_max_length(p->tokenizer),
            width = p->text_encoder->config.text.width;
    sp_tensor ids = {0};
    int64_t batch = count < TEXT_BATCH ? count : TEXT_BATCH;
    sp_status status = sp_tensor_create(SP_I32, sp_shape_of(batch, length), &ids);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(count, length, width), states);
    if (!status) status = prepare_text(p, clip_skip, batch);
    if (!status) status = encode_batches(p, prompts, count, &ids, states);
    if (!p->keeps || status) sp_runner_free(&p->text);
    sp_tensor_free(&ids);
    drop_pages(p->text_encoder);
    if (status) sp_tensor_free(states);
    return status;
}

/* Here the set is made: what another family of models takes is added here. */
static sp_status encode(sp_pipeline *p, const char *const *prompts, int64_t count, int clip_skip, sp_conditioning *out)
{
    sp_tensor states;
    *out = (sp_conditioning){0};
    if (!p->text_encoder)
        return sp_fail(SP_INTERNAL, "the pipeline was opened without its text encoder");
    if (count < 1) return sp_fail(SP_ARGUMENT, "there is no prompt");
    SP_TRY(encode_text(p, prompts, count, clip_skip, &states));
    SP_TRY(sp_conditioning_add(out, "encoder_hidden_states", states));
    sp_status status = sp_conditioning_check_finite(out, "the prompts");
    if (status) sp_conditioning_free(out);
    return status;
}

sp_status sp_pipeline_encode(sp_pipeline *p, const char *const *prompts, int64_t count, sp_conditioning *out)
{
    return encode(p, prompts, count, p->clip_skip, out);
}

sp_status sp_pipeline_encode_negative(sp_pipeline *p, const char *prompt, sp_conditioning *out)
{
    return encode(p, &prompt, 1, 0, out);
}

sp_conditioning sp_pipeline_conditioning(const sp_pipeline *p, int64_t count)
{
    return sp_conditioning_declared(&sp_unet_network, &p->unet_config, count,
                                    (int64_t)sp_tokenizer_max_length(p->tokenizer));
}

/* ---- pictures ---- */

/* *out is new and finite; `what` names it in the message if it is not. */
static sp_status run_vae(sp_pipeline *p, sp_vae_half half, const sp_tensor *in, const char *what,
                         const sp_callbacks *callbacks, sp_tensor *out)
{
    const sp_vae_settings settings = {
        .device = p->device, .storage = p->storage, .tile = p->vae_tile, .ready = &p->vae_ready};
    *out = (sp_tensor){0};
    if (!p->vae) return sp_fail(SP_INTERNAL, "the pipeline was opened without its VAE");
    sp_status status = sp_vae_run_all(p->vae, half, in, &settings, callbacks, out);
    if (!p->keeps || status) sp_vae_ready_free(&p->vae_ready);
    drop_pages(p->vae);
    SP_TRY(status);
    status = sp_tensor_check_finite(out, what);
    if (status) sp_tensor_free(out);
    return status;
}

sp_status sp_pipeline_plan_vae(const sp_pipeline *p, sp_vae_half half, sp_shape in,
                               sp_plan_memory *out)
{
    const sp_vae_settings settings = {
        .device = p->device, .storage = p->storage, .tile = p->vae_tile};
    return sp_vae_plan_all(p->vae, half, in, &settings, out);
}

sp_status sp_pipeline_decode(sp_pipeline *p, const sp_tensor *latents,
                             const sp_callbacks *callbacks, sp_tensor *images)
{
    return run_vae(p, SP_VAE_DECODE, latents, "the decoded pictures", callbacks, images);
}

sp_status sp_pipeline_encode_pictures(sp_pipeline *p, const sp_tensor *pictures,
                                      const sp_callbacks *callbacks, sp_tensor *posterior)
{
    return run_vae(p, SP_VAE_POSTERIOR, pictures, "the encoded picture", callbacks, posterior);
}

sp_status sp_pipeline_draw_latents(const sp_pipeline *p, const sp_tensor *posterior,
                                   const sp_noise *noise, int64_t first_sample, int64_t count,
                                   sp_tensor *latents)
{
    const sp_vae_config *config = &p->vae->config.vae;
    sp_shape shape = posterior->shape;
    bool drawn = noise && shape.dim[1] == 2 * config->latent_channels;
    shape.dim[0] = count;
    shape.dim[1] = config->latent_channels;
    SP_TRY(sp_tensor_create(SP_F32, shape, latents));
    int64_t one = sp_tensor_count(latents) / count;
    const float *mean = posterior->data, *logvar = mean + one;
    sp_status status = SP_OK;
    for (int64_t i = 0; i < count && !status; i++) {
        float *z = (float *)latents->data + i * one;
        if (drawn)
            status = noise->draw(noise->context, first_sample + i, SP_NOISE_POSTERIOR, z, one);
        if (!status) sp_vae_draw(config->scaling_factor, mean, drawn ? logvar : NULL, z, one, z);
    }
    if (status) sp_tensor_free(latents);
    return status;
}
