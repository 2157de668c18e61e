/* Opening a model's parts and seeing that they fit. */
#include "pipeline/model.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "backend/registry.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/recognise.h"
#include "checkpoints/student_file.h"

static sp_status check_tokenizer(const sp_text_part *part, const char *folder)
{
    const sp_clip_text_config *text = &part->encoder->config.text;
    size_t ids = sp_tokenizer_vocabulary_size(part->tokenizer), length = sp_tokenizer_max_length(part->tokenizer);
    if (ids > (size_t)text->vocabulary)
        return sp_fail(SP_FORMAT, "%s: the tokenizer has %zu ids and the text encoder knows %lld",
                       folder, ids, (long long)text->vocabulary);
    if (length > (size_t)text->max_tokens)
        return sp_fail(SP_FORMAT,
                       "%s: the tokenizer makes %zu tokens and the text encoder takes at most %lld",
                       folder, length, (long long)text->max_tokens);
    return SP_OK;
}

static bool is_sd3(const sp_model *m)
{
    return sp_model_folder_has(&m->folder, sp_component_folder_name(SP_COMPONENT_TRANSFORMER));
}

static sp_status open_text(sp_model *m, sp_component_kind kind)
{
    sp_text_part *part = &m->text[m->text_count++];
    SP_TRY(sp_model_folder_component(&m->folder, sp_component_folder_name(kind), &part->encoder));
    SP_TRY(sp_model_folder_tokenizer(&m->folder, kind, &part->tokenizer));
    return check_tokenizer(part, m->folder.path);
}

static sp_status open_texts(sp_model *m)
{
    bool second = sp_model_folder_has(&m->folder, sp_component_folder_name(SP_COMPONENT_TEXT_ENCODER_2));
    bool third = is_sd3(m) && !m->t5_path && sp_model_folder_has(&m->folder, "text_encoder_3");
    m->text_form = is_sd3(m) ? SP_TEXTS_SD3 : second ? SP_TEXTS_XL : SP_TEXTS_ONE;
    SP_TRY(open_text(m, SP_COMPONENT_TEXT_ENCODER));
    if (third)
        sp_log_warn("%s: its third text encoder (T5) is left out; zeros stand for it, as in diffusers without one, "
                    "unless `t5` names it", m->folder.path);
    if (!second) return SP_OK;
    SP_TRY(open_text(m, SP_COMPONENT_TEXT_ENCODER_2));
    size_t first_length = sp_tokenizer_max_length(m->text[0].tokenizer),
           second_length = sp_tokenizer_max_length(m->text[1].tokenizer);
    if (first_length != second_length)
        return sp_fail(SP_FORMAT, "%s: the tokenizers make %zu and %zu tokens, which must be as many",
                       m->folder.path, first_length, second_length);
    return m->text_form == SP_TEXTS_XL ? sp_model_folder_zero_negative(&m->folder, &m->zero_negative) : SP_OK;
}

/* Before adapters are merged, which do not touch the table. */
static sp_status add_embeddings(sp_model *m, const sp_model_options *options)
{
    SP_TRY(sp_learned_list_open(options->embeddings, options->embedding_count, &m->embeddings));
    for (size_t i = 0; i < m->embeddings.count; i++) {
        const sp_learned *e = &m->embeddings.items[i];
        sp_log_info("%s: \"%s\" stands for %lld vector%s", e->path, e->token, (long long)e->count,
                    e->count == 1 ? "" : "s");
    }
    for (int i = 0; i < m->text_count; i++) {
        const sp_learned_place place = {i, m->text_count, m->text[i].tokenizer, m->text[i].encoder};
        SP_TRY(sp_learned_list_add(&m->embeddings, &place, m->precision == SP_F32));
    }
    return SP_OK;
}

static sp_status check_vae(const sp_model *m, const sp_denoiser *denoiser)
{
    const sp_vae_config *vae = &m->vae->config.vae;
    const char *folder = m->vae->folder;
    if (vae->out_channels != 3 || vae->in_channels != 3)
        return sp_fail(
            SP_UNSUPPORTED, "%s: the VAE's pictures have %lld channels, and only 3 are supported",
            folder, (long long)(vae->out_channels != 3 ? vae->out_channels : vae->in_channels));
    if (vae->latent_channels != denoiser->in_channels)
        return sp_fail(SP_FORMAT, "%s: the VAE's latents have %lld channels and the %s's %lld", folder,
                       (long long)vae->latent_channels, denoiser->name, (long long)denoiser->in_channels);
    return SP_OK;
}

static sp_status check_pooled(const sp_model *m, const sp_denoiser *denoiser)
{
    const char *folder = m->folder.path;
    int64_t pooled = 0;
    for (int i = m->text_form == SP_TEXTS_SD3 ? 0 : 1; i < m->text_count; i++)
        pooled += m->text[i].encoder->config.text.projection;
    if (!denoiser->pooled_dim) return SP_OK;
    if (m->text_count < 2)
        return sp_fail(SP_FORMAT, "%s: the %s takes a pooled text, and there is no text_encoder_2 to make it", folder,
                       denoiser->name);
    if (pooled == denoiser->pooled_dim) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: the pooled text is %lld wide and the %s expects %lld", folder, (long long)pooled,
                   denoiser->name, (long long)denoiser->pooled_dim);
}

/* What the text encoders give and what the denoiser takes. */
static sp_status check_text(const sp_model *m, const sp_denoiser *denoiser)
{
    int64_t width = 0;
    for (int i = 0; i < m->text_count; i++)
        width += m->text[i].encoder->config.text.width;
    bool fits = m->text_form == SP_TEXTS_SD3 ? width <= denoiser->context_dim : width == denoiser->context_dim;
    if (!fits)
        return sp_fail(SP_FORMAT, "%s: the text encoder%s %lld wide and the %s expects a context of %lld",
                       m->folder.path, m->text_count > 1 ? "s are together" : " is", (long long)width,
                       denoiser->name, (long long)denoiser->context_dim);
    if (m->t5 && m->t5->file.config.width != denoiser->context_dim)
        return sp_fail(SP_FORMAT, "%s: T5 is %lld wide and the %s expects a context of %lld", m->t5->file.folder,
                       (long long)m->t5->file.config.width, denoiser->name, (long long)denoiser->context_dim);
    return check_pooled(m, denoiser);
}

sp_status sp_model_check_denoiser(const sp_model *m, const sp_denoiser *denoiser)
{
    if (denoiser->in_channels != denoiser->out_channels)
        return sp_fail(SP_UNSUPPORTED, "%s: the %s takes %lld channels and gives %lld; only text to image is supported",
                       m->folder.path, denoiser->name, (long long)denoiser->in_channels,
                       (long long)denoiser->out_channels);
    if (m->text_count) SP_TRY(check_text(m, denoiser));
    return m->vae ? check_vae(m, denoiser) : SP_OK;
}

static bool same_schedule(const sp_path *a, const sp_path *b)
{
    size_t size, other;
    const void *x = sp_path_bytes(a, &size), *y = sp_path_bytes(b, &other);
    return a->kind == b->kind && a->timesteps == b->timesteps && size == other && memcmp(x, y, size) == 0;
}

static size_t count_for_denoiser(const sp_lora *lora)
{
    return sp_lora_count(lora, SP_COMPONENT_UNET) + sp_lora_count(lora, SP_COMPONENT_TRANSFORMER);
}

/* Samplers look at the student's; what the UNet predicts stays the model's. */
static sp_status become_student(sp_model *m, const sp_lora *lora, sp_scheduler_config *own)
{
    const char *text = sp_lora_scheduler(lora), *path = sp_lora_path(lora);
    char *where = sp_format("%s: the metadata \"" SP_LORA_SCHEDULER "\"", path);
    json_t *json = NULL;
    sp_status status = where ? sp_json_parse(text, strlen(text), where, &json) : SP_MEMORY;
    if (!status) status = sp_scheduler_config_read(json, where, own);
    json_decref(json);
    sp_free(where);
    SP_TRY(status);
    if (!same_schedule(&own->path, &m->scheduler.path)) {
        sp_log_warn("%s makes a student of a model with another noise schedule than %s; it is sampled as that model is",
                    path, m->folder.path);
        return SP_OK;
    }
    own->path.prediction = m->scheduler.path.prediction;
    m->scheduler = *own;
    return SP_OK;
}

/* Adapters that were distilled make a student of the model; of several such files the last one says how it is
 * sampled. */
static sp_status take_scheduler(sp_model *m, const sp_lora_list *list)
{
    const sp_lora *by = NULL;
    for (size_t i = 0; i < list->count; i++) {
        if (!sp_lora_scheduler(list->files[i]) || !count_for_denoiser(list->files[i])) continue;
        if (by) sp_log_warn("%s and %s both make a student of the model; it is sampled as the latter says",
                            sp_lora_path(by), sp_lora_path(list->files[i]));
        by = list->files[i];
    }
    if (!by) return SP_OK;
    sp_scheduler_config *own = sp_alloc(sizeof *own);
    sp_status status = own ? become_student(m, by, own) : SP_MEMORY;
    sp_free(own);
    return status;
}

static sp_status refuse_text_adapters(const sp_lora_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        for (int kind = 0; kind < SP_COMPONENT_COUNT; kind++)
            if (sp_component_is_text((sp_component_kind)kind) &&
                sp_lora_count(list->files[i], (sp_component_kind)kind))
                return sp_fail(SP_UNSUPPORTED,
                               "%s: has adapters for the text encoders of a Stable Diffusion 3 model, which are not "
                               "supported yet", sp_lora_path(list->files[i]));
    return SP_OK;
}

/* A layer's sum is made when its weight is packed, so that adapters cost nothing at run time, and no memory. In bf16 it
 * is rounded to the type of the file, since packing rounds it anyway. */
static sp_status merge_loras(sp_model *m, const sp_model_options *options)
{
    bool exact = m->precision == SP_F32, texts = !is_sd3(m);
    const bool has[SP_COMPONENT_COUNT] = {[SP_COMPONENT_UNET] = m->denoiser && texts,
                                          [SP_COMPONENT_TRANSFORMER] = m->denoiser && !texts,
                                          [SP_COMPONENT_TEXT_ENCODER] = texts && m->text_count > 0,
                                          [SP_COMPONENT_TEXT_ENCODER_2] = texts && m->text_count > 1};
    sp_lora_list list;
    SP_TRY(sp_lora_list_open(options->loras, options->lora_count, options->callbacks, &list));
    sp_status status = texts ? SP_OK : refuse_text_adapters(&list);
    if (!status) status = sp_lora_list_check(&list, has);
    if (!status) status = take_scheduler(m, &list);
    if (!status && m->denoiser) status = sp_lora_list_merge(&list, m->device, m->denoiser, exact);
    for (int i = 0; i < m->text_count && texts && !status; i++)
        status = sp_lora_list_merge(&list, m->device, m->text[i].encoder, exact);
    sp_lora_list_close(&list);
    return status;
}

/* Before a part is missed by name: what the model is, if it is none. */
static sp_status check_model(const sp_model *m, unsigned parts, const sp_model_options *options)
{
    if (is_sd3(m) && options->embedding_count)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: is a Stable Diffusion 3 model, which an embedding is not supported with yet",
                       m->folder.path);
    bool denoiser = parts & SP_PART_UNET && !options->unet, transformer = is_sd3(m);
    const bool needed[SP_COMPONENT_COUNT] = {[SP_COMPONENT_UNET] = denoiser && !transformer,
                                             [SP_COMPONENT_TRANSFORMER] = denoiser && transformer,
                                             [SP_COMPONENT_VAE] = parts & SP_PART_VAE && !options->vae,
                                             [SP_COMPONENT_TEXT_ENCODER] = parts & SP_PART_TEXT,
                                             [SP_COMPONENT_TEXT_ENCODER_2] = parts & SP_PART_TEXT && transformer};
    return sp_model_expect(&m->folder, needed);
}

/* ---- another autoencoder ---- */

/* The model's own says what its UNet takes, factor and shift. A file alone does not say it of itself, and is taken to
 * be of the same family; one that says another factor is used as it says, with a warning. */
static void fit_scale(sp_model *m)
{
    sp_component *own;
    sp_vae_config *config = &m->vae->config.vae;
    if (config->kind != SP_VAE_KL || !sp_model_folder_has(&m->folder, "vae")) return;
    if (sp_model_folder_component(&m->folder, "vae", &own)) return; /* another one is used because it cannot be */
    double scale = own->config.vae.scaling_factor, shift = own->config.vae.shift_factor;
    bool said = json_object_get(m->vae->json, "scaling_factor"), kl = own->config.vae.kind == SP_VAE_KL;
    if (kl && !said) {
        config->scaling_factor = scale;
        config->shift_factor = shift;
    } else if (kl && config->scaling_factor != scale)
        sp_log_warn("%s: its latents are scaled by %g, and those of the model's own autoencoder by %g: it is another "
                    "family's, and pictures will have wrong colours", m->vae->folder, config->scaling_factor, scale);
    sp_component_close(own);
}

/* TAESD's weights for Stable Diffusion XL differ from those for 1.x and 2.x in numbers alone. */
static void check_tiny_name(const sp_model *m)
{
    const char *name = strcasestr(sp_path_base(m->vae->folder), "taesd");
    bool large = m->denoiser && sp_denoiser_of(&m->denoiser->config).sizes;
    if (m->vae->config.vae.kind != SP_VAE_TINY || !m->denoiser || !name) return;
    bool named_large = strncasecmp(name, "taesdxl", strlen("taesdxl")) == 0;
    if (named_large != large)
        sp_log_warn("%s: is by its name for %s, and the model is %s; TAESD and TAESDXL cannot take each other's place",
                    m->vae->folder, named_large ? "Stable Diffusion XL" : "Stable Diffusion 1.x and 2.x",
                    large ? "Stable Diffusion XL" : "another");
}

static sp_status open_vae(sp_model *m, const char *other)
{
    if (!other) return sp_model_folder_component(&m->folder, "vae", &m->vae);
    SP_TRY(sp_component_open(other, "vae", &m->vae));
    fit_scale(m);
    check_tiny_name(m);
    return SP_OK;
}

static sp_status open_denoiser(sp_model *m, const char *unet)
{
    sp_component_kind kind = is_sd3(m) ? SP_COMPONENT_TRANSFORMER : SP_COMPONENT_UNET;
    bool usual = !unet || strcmp(unet, sp_component_folder_name(SP_COMPONENT_UNET)) == 0;
    if (!usual && is_sd3(m) && sp_component_kind_of(unet) != (int)kind)
        return sp_fail(SP_ARGUMENT, "%s: has a transformer, and \"%.64s\" is the name of none; a student's average is "
                                    "\"transformer_ema\"", m->folder.path, unet);
    return sp_model_folder_component(&m->folder, usual ? sp_component_folder_name(kind) : unet, &m->denoiser);
}

/* Of Stable Diffusion 3's text. */
static sp_status choose_tokens_behind(sp_model *m, const char *path, const sp_model_options *options)
{
    sp_student_file student;
    const char *given = options->t5 ? "t5" : options->t5_absent ? "t5_absent" : NULL;
    if (!is_sd3(m) && given)
        return sp_fail(SP_ARGUMENT, "`%s` is of Stable Diffusion 3 alone, and %s is another model", given,
                       m->folder.path);
    if (options->t5 && options->t5_absent)
        return sp_fail(SP_ARGUMENT, "`t5_absent` says what stands for `t5`, which is given");
    if (!is_sd3(m)) return SP_OK;
    m->t5_path = options->t5;
    m->tokens_behind = SP_MMDIT_TOKENS_BEHIND;
    if (options->t5) return SP_OK;
    SP_TRY(sp_student_file_read(path, &student));
    if (json_object_get(student.json, "t5"))
        sp_log_warn("%s was distilled with its third text encoder (T5), and is drawn without; `t5` names one", path);
    const char *said = options->t5_absent ? options->t5_absent : student.t5_absent;
    m->tokens_behind = said ? strtol(said, NULL, 10) : SP_MMDIT_TOKENS_BEHIND;
    sp_student_file_free(&student);
    return SP_OK;
}

static sp_status quantise(sp_model *m)
{
    if (m->denoiser) SP_TRY(sp_component_quantise(m->denoiser));
    if (m->vae) SP_TRY(sp_component_quantise(m->vae));
    for (int i = 0; i < m->text_count; i++)
        SP_TRY(sp_component_quantise(m->text[i].encoder));
    return m->t5 ? sp_t5_file_quantise(&m->t5->file) : SP_OK;
}

static sp_status open_parts(sp_model *m, const char *path, const sp_model_options *options)
{
    unsigned parts = options->parts ? options->parts : SP_PART_ALL;
    SP_TRY(sp_model_folder_open_unet(path, options->base, &m->folder));
    SP_TRY(check_model(m, parts, options));
    SP_TRY(choose_tokens_behind(m, path, options));
    m->folder.prediction = options->prediction;
    if (parts & SP_PART_UNET) SP_TRY(sp_prediction_check(&m->folder));
    SP_TRY(sp_scheduler_config_of(&m->folder, NULL, &m->scheduler));
    if (parts & SP_PART_TEXT) SP_TRY(open_texts(m));
    if (parts & SP_PART_TEXT) SP_TRY(add_embeddings(m, options));
    if (parts & SP_PART_TEXT && m->t5_path) SP_TRY(sp_t5_part_open(m->t5_path, m->folder.path, &m->t5));
    if (parts & SP_PART_UNET)
        SP_TRY(open_denoiser(m, options->unet));
    if (parts & SP_PART_VAE) SP_TRY(open_vae(m, options->vae));
    SP_TRY(merge_loras(m, options));
    if (options->weights && strcmp(options->weights, "q8") == 0) SP_TRY(quantise(m));
    if (!m->denoiser) return SP_OK;
    const sp_denoiser facts = sp_denoiser_of(&m->denoiser->config);
    return sp_model_check_denoiser(m, &facts);
}

sp_status sp_model_open(const char *path, const sp_model_options *options, sp_model **out)
{
    *out = NULL;
    sp_model *m = sp_alloc_zero(sizeof *m);
    if (!m) return SP_MEMORY;
    m->device = options->device ? options->device : sp_default_device();
    m->precision = options->precision;
    sp_status status = open_parts(m, path, options);
    if (status) {
        sp_model_close(m);
        return status;
    }
    *out = m;
    return SP_OK;
}

void sp_model_close(sp_model *m)
{
    if (!m) return;
    sp_component_close(m->denoiser);
    sp_model_close_parts(m, SP_PART_VAE | SP_PART_TEXT);
    sp_learned_list_close(&m->embeddings);
    sp_model_folder_close(&m->folder);
    sp_free(m);
}

void sp_model_close_parts(sp_model *m, unsigned parts)
{
    if (parts & SP_PART_VAE) {
        sp_component_close(m->vae);
        m->vae = NULL;
    }
    if (parts & SP_PART_TEXT) {
        for (int i = 0; i < SP_MAX_TEXTS; i++) {
            sp_component_close(m->text[i].encoder);
            sp_tokenizer_destroy(m->text[i].tokenizer);
            m->text[i] = (sp_text_part){0};
        }
        m->text_count = 0;
        sp_t5_part_close(m->t5);
        m->t5 = NULL;
    }
}

int64_t sp_model_same_tokens(const sp_model *m)
{
    return m->t5_path ? 0 : m->tokens_behind;
}

uint64_t sp_model_text_hash(const sp_model *m)
{
    uint64_t hash = m->text_count ? sp_component_hash(m->text[0].encoder) : 0;
    for (int i = 1; i < m->text_count; i++)
        hash = hash * 31 + sp_component_hash(m->text[i].encoder);
    return hash;
}
