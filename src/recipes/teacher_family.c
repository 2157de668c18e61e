/* The families of models that a teacher can be of. */
#include "recipes/teacher_family.h"
#include <string.h>
#include "options/choices.h"

static int64_t units(int64_t width, int64_t count)
{
    return width / SP_TEACHER_UNITS * count;
}

static int64_t context_width(const sp_teacher_family *family, int64_t width)
{
    int64_t sum = 0;
    for (int i = 0; i < family->text_count; i++)
        sum += units(width, family->text[i].units);
    return sum;
}

/* Stable Diffusion's UNet with one resnet a level, and attention below the first. */
static sp_component_config unet(const sp_teacher_family *family, int64_t width, const int64_t latent[2])
{
    sp_component_config config = {
        .kind = SP_COMPONENT_UNET,
        .unet = {
            .levels = 3,
            .sample_size = latent[1],
            .in_channels = latent[0],
            .out_channels = latent[0],
            .channels = {width, units(width, 32), units(width, 36)},
            .layers = {1, 1, 1},
            .heads = {4, 4, 4},
            .down_attention = {false, true, true},
            .up_attention = {false, true, true},
            .middle_attention = true,
            .cross_attention_dim = context_width(family, width),
            .time_dim = 4 * width,
            .groups = units(width, 4),
            .epsilon = 1e-5,
            .downsample_padding = 1,
            .cos_first = true,
        }};
    sp_unet_config_set_depth(&config.unet, 1);
    return config;
}

/* XL's has deeper transformers where there are fewer tokens, and is told the pooled text and six sizes. */
static sp_component_config xl_unet(const sp_teacher_family *family, int64_t width, const int64_t latent[2])
{
    sp_component_config config = unet(family, width, latent);
    sp_unet_config *c = &config.unet;
    int last = c->levels - 1;
    c->down_depth[last][0] = c->up_depth[last][0] = c->up_depth[last][1] = c->middle_depth = 2;
    c->linear_projection = true;
    c->size_dim = width;
    c->text_dim = units(width, family->text[1].units);
    return config;
}

/* Stable Diffusion 3.5 Medium's in small: eight blocks, of which the first half looks at the picture once more, and
 * positions for pictures of twice the side. */
static sp_component_config transformer(const sp_teacher_family *family, int64_t width, const int64_t latent[2])
{
    enum { PATCH = 2 };
    sp_component_config config = {
        .kind = SP_COMPONENT_TRANSFORMER,
        .transformer = {
            .sample_size = latent[1],
            .patch_size = PATCH,
            .in_channels = latent[0],
            .out_channels = latent[0],
            .blocks = 8,
            .heads = 4,
            .head_dim = width,
            .context_dim = context_width(family, width),
            .pooled_dim = context_width(family, width),
            .positions = latent[1] / PATCH * 2,
            .qk_norm = true,
        }};
    sp_mmdit_config *c = &config.transformer;
    for (int i = 0; i < c->blocks / 2; i++)
        c->dual[i] = true;
    return config;
}

#define X(name, text) FAMILY_##name,
enum { SP_TEACHER_FAMILY_LIST(X) FAMILY_COUNT };
#undef X
static const char *const names[FAMILY_COUNT] = {
#define X(name, text) text,
    SP_TEACHER_FAMILY_LIST(X)
#undef X
};

static const sp_teacher_family families[FAMILY_COUNT] = {
    [FAMILY_SD] = {
        .pipeline = "StableDiffusionPipeline",
        .scheduler = "DDIMScheduler",
        .pipeline_json = "{\"feature_extractor\": [null, null], \"safety_checker\": [null, null],"
                         " \"requires_safety_checker\": false}",
        .scheduler_json = "{\"clip_sample\": false, \"set_alpha_to_one\": false, \"steps_offset\": 1,"
                          " \"timestep_spacing\": \"leading\"}",
        .denoiser = &sp_unet_network,
        .denoiser_kind = SP_COMPONENT_UNET,
        .denoiser_config = unet,
        .text_count = 1,
        .text = {{"text_encoder", SP_COMPONENT_TEXT_ENCODER, "tokenizer", false, &sp_clip_text_network, {0}, 32, 2,
                  SP_UNARY_QUICK_GELU}},
        .zero = {"conv_out"},
    },
    [FAMILY_SDXL] = {
        .pipeline = "StableDiffusionXLPipeline",
        .scheduler = "EulerDiscreteScheduler",
        .pipeline_json = "{\"feature_extractor\": [null, null], \"image_encoder\": [null, null]}",
        .scheduler_json = "{\"steps_offset\": 1, \"timestep_spacing\": \"leading\"}",
        .denoiser = &sp_unet_network,
        .denoiser_kind = SP_COMPONENT_UNET,
        .denoiser_config = xl_unet,
        .text_count = 2,
        .text = {{"text_encoder", SP_COMPONENT_TEXT_ENCODER, "tokenizer", false, &sp_clip_text_network, {1, true}, 24,
                  3, SP_UNARY_QUICK_GELU},
                 {"text_encoder_2", SP_COMPONENT_TEXT_ENCODER_2, "tokenizer_2", true, &sp_clip_text_projection_network,
                  {1, true}, 40, 3, SP_UNARY_GELU}},
        .zero = {"conv_out"},
        .zero_negative = true,
    },
    [FAMILY_SD3] = {
        .pipeline = "StableDiffusion3Pipeline",
        .scheduler = "FlowMatchEulerDiscreteScheduler",
        .shift = 3,
        .pipeline_json = "{\"feature_extractor\": [null, null], \"image_encoder\": [null, null],"
                         " \"text_encoder_3\": [null, null], \"tokenizer_3\": [null, null]}",
        .scheduler_json = "{}",
        .denoiser = &sp_mmdit_network,
        .denoiser_kind = SP_COMPONENT_TRANSFORMER,
        .denoiser_config = transformer,
        .text_count = 2,
        .text = {{"text_encoder", SP_COMPONENT_TEXT_ENCODER_2, "tokenizer", false, &sp_clip_text_projection_network,
                  {1, true}, 24, 3, SP_UNARY_QUICK_GELU},
                 {"text_encoder_2", SP_COMPONENT_TEXT_ENCODER_2, "tokenizer_2", true, &sp_clip_text_projection_network,
                  {1, true}, 40, 3, SP_UNARY_GELU}},
        .absent_tokens = SP_MMDIT_TOKENS_BEHIND,
        .zero = {"norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out"}, /* adaLN-Zero */
    },
};

const char *sp_teacher_family_name(const sp_teacher_family *family)
{
    return names[family - families];
}

const sp_teacher_family *sp_teacher_family_of(const char *name)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(names[i], name) == 0) return &families[i];
    return NULL;
}

static bool reads(const sp_teacher_family *family, const char *folder)
{
    for (int i = 0; i < family->text_count; i++)
        if (strcmp(family->text[i].folder, folder) == 0) return true;
    return false;
}

/* It has the family's parts, and no other text encoder. */
static bool is_of(const sp_teacher_family *family, const sp_model_folder *folder)
{
    bool is = sp_model_folder_has(folder, sp_component_folder_name(family->denoiser_kind));
    for (int kind = 0; kind < SP_COMPONENT_COUNT; kind++) {
        const char *name = sp_component_folder_name((sp_component_kind)kind);
        if (sp_component_is_text((sp_component_kind)kind))
            is = is && reads(family, name) == sp_model_folder_has(folder, name);
    }
    return is;
}

sp_status sp_teacher_family_of_model(const sp_model_folder *folder, const sp_teacher_family **out)
{
    for (int i = 0; i < FAMILY_COUNT; i++) {
        *out = &families[i];
        if (is_of(*out, folder)) return SP_OK;
    }
    return sp_fail(SP_UNSUPPORTED, "%s: its parts are those of no family that can be trained: %s", folder->path,
                   SP_CHOICES(SP_TEACHER_FAMILY_LIST));
}

bool sp_teacher_pools(const sp_teacher_text *text)
{
    sp_component_config config = {.kind = text->kind};
    sp_ports ports = {0};
    text->network->outputs(&config.text, &ports);
    return sp_ports_find(&ports, "text_embeds") != NULL;
}

sp_component_config sp_teacher_text_config(const sp_teacher_family *family, int i, int64_t width,
                                           const sp_tokenizer *tokenizer)
{
    const sp_teacher_text *text = &family->text[i];
    int64_t own = units(width, text->units);
    return (sp_component_config){.kind = text->kind,
                                 .text = {
                                     .vocabulary = (int64_t)sp_tokenizer_vocabulary_size(tokenizer),
                                     .width = own,
                                     .feed_forward = 4 * own,
                                     .layers = text->layers,
                                     .heads = 4,
                                     .max_tokens = SP_TEACHER_TOKENS,
                                     .projection = own,
                                     .epsilon = 1e-5,
                                     .activation = text->activation,
                                     .begin_id = sp_tokenizer_bos(tokenizer),
                                     .end_id = sp_tokenizer_eos(tokenizer),
                                     .pad_id = sp_tokenizer_pad(tokenizer),
                                 }};
}
