/* Configurations of original checkpoints, from names and shapes. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/original_mmdit.h"
#include "checkpoints/original_parts.h"

enum {
    GROUPS = 32,        /* of every norm in the UNet and the VAE */
    HEADS = 8,          /* of every attention in 1.x */
    HEAD_CHANNELS = 64, /* of every head in 2.x, XL and CLIP's text encoders */
    SIZE_DIM = 256,     /* of each size that XL's UNet is told */
};

#define OPEN_CLIP SP_ORIGINAL_OPEN_CLIP
#define VAE_FIRST SP_ORIGINAL_VAE "encoder.conv_in.weight"
#define OPEN_CLIP_FIRST OPEN_CLIP "token_embedding.weight"
#define XL_PROJECTION SP_ORIGINAL_XL_OPEN_CLIP "text_projection"
#define CLIP_G_PROJECTION SP_ORIGINAL_3_CLIP_G "text_projection.weight"

/* ---- looking ---- */

const sp_tensor *sp_original_find(const sp_tensor_file *file, const char *format, ...)
{
    char name[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    return length > 0 && (size_t)length < sizeof name ? sp_tensor_file_find(file, name) : NULL;
}

#define find sp_original_find
#define dim_of sp_original_dim

sp_status sp_original_dim(const sp_tensor_file *file, const char *name, int axis, int64_t *out)
{
    const sp_tensor *tensor;
    SP_TRY(sp_tensor_file_get(file, name, &tensor));
    if (axis >= tensor->shape.rank)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has the shape %s, too few dimensions",
                       sp_tensor_file_path(file), name, sp_shape_text(tensor->shape));
    *out = tensor->shape.dim[axis];
    return SP_OK;
}

/* "text_model." was there before transformers 5. Merges of XL have its second encoder under either names; Stable
 * Diffusion 3 has both under transformers'. */
sp_original_text sp_original_text_of(const sp_tensor_file *file, sp_component_kind kind)
{
    static const struct {
        sp_component_kind kind;
        sp_original_text text;
    } places[] = {
        {SP_COMPONENT_TEXT_ENCODER, {SP_ORIGINAL_CLIP "text_model.", false, NULL, false}},
        {SP_COMPONENT_TEXT_ENCODER, {SP_ORIGINAL_CLIP, false, NULL, false}},
        {SP_COMPONENT_TEXT_ENCODER, {SP_ORIGINAL_OPEN_CLIP, true, NULL, false}},
        {SP_COMPONENT_TEXT_ENCODER, {SP_ORIGINAL_XL_CLIP "text_model.", false, NULL, false}},
        {SP_COMPONENT_TEXT_ENCODER, {SP_ORIGINAL_XL_CLIP, false, NULL, false}},
        {SP_COMPONENT_TEXT_ENCODER, {SP_ORIGINAL_3_CLIP_L "text_model.", false, NULL, true}},
        {SP_COMPONENT_TEXT_ENCODER, {SP_ORIGINAL_3_CLIP_L, false, NULL, true}},
        {SP_COMPONENT_TEXT_ENCODER_2, {SP_ORIGINAL_XL_OPEN_CLIP, true, XL_PROJECTION, false}},
        {SP_COMPONENT_TEXT_ENCODER_2,
         {SP_ORIGINAL_XL_OPEN_CLIP "text_model.", false, XL_PROJECTION ".weight", false}},
        {SP_COMPONENT_TEXT_ENCODER_2, {SP_ORIGINAL_3_CLIP_G "text_model.", false, CLIP_G_PROJECTION, false}},
        {SP_COMPONENT_TEXT_ENCODER_2, {SP_ORIGINAL_3_CLIP_G, false, CLIP_G_PROJECTION, false}},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const sp_original_text *text = &places[i].text;
        const char *form = text->open_clip ? "%stoken_embedding.weight" : "%sembeddings.token_embedding.weight";
        char name[128];
        snprintf(name, sizeof name, form, text->prefix);
        if (places[i].kind == kind && sp_tensor_file_find(file, name)) return *text;
    }
    return (sp_original_text){NULL, false, NULL, false};
}

/* A tensor of the UNet, by its original name; NULL if there is none. */
static const sp_tensor *unet_find(const sp_original_unet *unet, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const sp_tensor *unet_find(const sp_original_unet *unet, const char *format, ...)
{
    char original[128], name[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(original, sizeof original, format, arguments);
    va_end(arguments);
    if (!unet->prefix) return NULL;
    sp_original_unet_name(unet, original, name, sizeof name);
    return sp_tensor_file_find(unet->file, name);
}

static sp_status unet_dim(const sp_original_unet *unet, const char *original, int axis, int64_t *out)
{
    char name[256];
    sp_original_unet_name(unet, original, name, sizeof name);
    return dim_of(unet->file, name, axis, out);
}

/* Stable Diffusion XL's UNet, or text encoders of its. */
static bool is_xl(const sp_tensor_file *file)
{
    const sp_original_unet unet = sp_original_unet_of(file);
    return unet_find(&unet, "label_emb.0.0.weight") || find(file, SP_ORIGINAL_XL_OPEN_CLIP "token_embedding.weight");
}

bool sp_original_has(const sp_tensor_file *file, sp_component_kind kind)
{
    if (kind == SP_COMPONENT_UNET) return sp_original_unet_of(file).prefix;
    if (kind == SP_COMPONENT_VAE) return sp_original_vae_prefix(file);
    if (kind == SP_COMPONENT_TRANSFORMER) return sp_original_has_mmdit(file);
    return sp_original_text_of(file, kind).prefix;
}

bool sp_original_pads_with_zero(const sp_tensor_file *file)
{
    return sp_tensor_file_find(file, OPEN_CLIP_FIRST);
}

/* Of 2.x that predicts v the published ones are for 768. */
static sp_status is_large(const sp_tensor_file *file, const char *prediction, bool *out)
{
    sp_original_prediction predicts;
    SP_TRY(sp_original_predicts(file, prediction, &predicts));
    *out = strcmp(predicts.type, "v_prediction") == 0 && sp_original_pads_with_zero(file);
    return SP_OK;
}

/* ---- UNet ---- */

/* Of those on the way down the first block that only halves the resolution comes right behind the resnets. */
static int count_layers_of(const sp_original_unet *unet)
{
    enum { MOST = SP_MODEL_MAX_LAYERS + 2 };
    const char *p = unet->prefix;
    for (int i = 1; i < MOST; i++) {
        bool there = unet->diffusers ? find(unet->file, "%sdown_blocks.0.resnets.%d.norm1.weight", p, i - 1)
                                     : find(unet->file, "%sinput_blocks.%d.0.in_layers.0.weight", p, i);
        if (!there || (!unet->diffusers && find(unet->file, "%sinput_blocks.%d.0.op.weight", p, i))) return i - 1;
    }
    return MOST - 1;
}

/* By tensors at both ends: a ControlNet has the first half of a UNet. */
sp_original_unet sp_original_unet_of(const sp_tensor_file *file)
{
    static const struct {
        const char *prefix, *first, *last;
        bool diffusers;
    } places[] = {
        {SP_ORIGINAL_UNET, "input_blocks.0.0.weight", "", false},
        {"", "input_blocks.0.0.weight", "out.2.weight", false},
        {"", "conv_in.weight", "up_blocks.0.resnets.0.norm1.weight", true},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        sp_original_unet unet = {.file = file, .prefix = places[i].prefix, .diffusers = places[i].diffusers};
        if (!find(file, "%s%s", unet.prefix, places[i].first)) continue;
        if (*places[i].last && !find(file, "%s%s", unet.prefix, places[i].last)) continue;
        unet.layers = count_layers_of(&unet);
        return unet;
    }
    return (sp_original_unet){.file = file};
}

static sp_status unet_levels(const sp_original_unet *unet, sp_unet_config *c)
{
    int layers = unet->layers;
    if (layers < 1 || layers > SP_MODEL_MAX_LAYERS)
        return sp_fail(SP_FORMAT, "%s: the UNet's first block has no resnet, or more than %d",
                       sp_tensor_file_path(unet->file), SP_MODEL_MAX_LAYERS);
    for (int first = 1; c->levels < SP_MODEL_MAX_LEVELS; first += layers + 1) {
        char name[128];
        snprintf(name, sizeof name, "input_blocks.%d.0.out_layers.3.weight", first);
        if (!unet_find(unet, "%s", name)) break;
        SP_TRY(unet_dim(unet, name, 0, &c->channels[c->levels]));
        c->layers[c->levels] = layers;
        c->down_attention[c->levels] = unet_find(unet, "input_blocks.%d.1.norm.weight", first);
        c->levels++;
    }
    for (int i = 0; i < c->levels; i++) /* the output blocks begin with the lowest resolution */
        c->up_attention[i] = unet_find(unet, "output_blocks.%d.1.norm.weight", (c->levels - 1 - i) * (layers + 1));
    c->middle_attention = unet_find(unet, "middle_block.1.norm.weight");
    return SP_OK;
}

/* Blocks of the transformer at that place. */
static int64_t depth_at(const sp_original_unet *unet, const char *side, int block)
{
    int64_t depth = 0;
    while (depth <= SP_MODEL_MAX_LAYERS &&
           unet_find(unet, "%s.%d%s.transformer_blocks.%lld.norm1.weight", side, block,
                     strcmp(side, "middle_block") == 0 ? "" : ".1", (long long)depth))
        depth++;
    return depth;
}

static sp_status unet_depths(const sp_original_unet *unet, sp_unet_config *c)
{
    bool good = true;
    for (int i = 0; i < c->levels; i++) {
        int each = (int)c->layers[i] + 1, down = 1 + i * each, up = (c->levels - 1 - i) * each;
        for (int k = 0; k < each; k++) {
            if (k < each - 1) c->down_depth[i][k] = c->down_attention[i] ? depth_at(unet, "input_blocks", down + k) : 1;
            c->up_depth[i][k] = c->up_attention[i] ? depth_at(unet, "output_blocks", up + k) : 1;
            good = good && c->down_depth[i][k] <= SP_MODEL_MAX_LAYERS && c->up_depth[i][k] <= SP_MODEL_MAX_LAYERS;
        }
    }
    c->middle_depth = c->middle_attention ? depth_at(unet, "middle_block", 1) : 0;
    if (good && c->middle_depth <= SP_MODEL_MAX_LAYERS) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the UNet has more than %d transformer layers in a row",
                   sp_tensor_file_path(unet->file), SP_MODEL_MAX_LAYERS);
}

/* Where an attention lies: in the middle, or else on the way down from the lowest resolution up. */
static sp_status find_attention(const sp_original_unet *unet, const sp_unet_config *c, char *out, size_t size)
{
    int block = c->levels - 1;
    if (c->middle_attention) {
        snprintf(out, size, "middle_block.1.");
        return SP_OK;
    }
    while (block >= 0 && !c->down_attention[block])
        block--;
    snprintf(out, size, "input_blocks.%d.1.", 1 + block * (int)(c->layers[0] + 1));
    if (block >= 0) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the UNet looks at no text", sp_tensor_file_path(unet->file));
}

/* Any attention tells the context and the form of the projections. */
static sp_status unet_attention(const sp_original_unet *unet, sp_unet_config *c)
{
    const sp_tensor *projection;
    char place[64], original[128], name[256];
    SP_TRY(find_attention(unet, c, place, sizeof place));
    snprintf(original, sizeof original, "%stransformer_blocks.0.attn2.to_k.weight", place);
    SP_TRY(unet_dim(unet, original, 1, &c->cross_attention_dim));
    snprintf(original, sizeof original, "%sproj_in.weight", place);
    sp_original_unet_name(unet, original, name, sizeof name);
    SP_TRY(sp_tensor_file_get(unet->file, name, &projection));
    c->linear_projection = projection->shape.rank == 2;
    c->upcast_attention = c->linear_projection && !is_xl(unet->file);
    for (int i = 0; i < c->levels; i++)
        c->heads[i] = !c->linear_projection            ? HEADS
                      : c->channels[i] > HEAD_CHANNELS ? c->channels[i] / HEAD_CHANNELS
                                                       : 1;
    return SP_OK;
}

/* XL's pooled text and sizes enter where classes would. */
static sp_status unet_text_time(const sp_original_unet *unet, sp_unet_config *c)
{
    int64_t sum = 0;
    if (!unet_find(unet, "label_emb.0.0.weight")) return SP_OK;
    SP_TRY(unet_dim(unet, "label_emb.0.0.weight", 1, &sum));
    c->size_dim = SIZE_DIM;
    c->text_dim = sum - SP_UNET_SIZES * SIZE_DIM;
    if (c->text_dim > 0) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: a UNet conditioned on %lld numbers beside the text is not supported",
                   sp_tensor_file_path(unet->file), (long long)sum);
}

/* The guidance that latent consistency models are told has no original name. */
static sp_status unet_guidance(const sp_original_unet *unet, sp_unet_config *c)
{
    static const char name[] = "time_embedding.cond_proj.weight";
    if (!unet->diffusers || !find(unet->file, "%s", name)) return SP_OK;
    return dim_of(unet->file, name, 1, &c->time_cond_dim);
}

static sp_status unet_config(const sp_tensor_file *file, const char *prediction, json_t **out)
{
    const sp_original_unet unet = sp_original_unet_of(file);
    sp_unet_config c = {
        .groups = GROUPS, .epsilon = 1e-5, .downsample_padding = 1, .cos_first = true};
    SP_TRY(unet_dim(&unet, "input_blocks.0.0.weight", 1, &c.in_channels));
    SP_TRY(unet_dim(&unet, "out.2.weight", 0, &c.out_channels));
    SP_TRY(unet_dim(&unet, "time_embed.0.weight", 0, &c.time_dim));
    SP_TRY(unet_levels(&unet, &c));
    SP_TRY(unet_depths(&unet, &c));
    SP_TRY(unet_attention(&unet, &c));
    SP_TRY(unet_text_time(&unet, &c));
    SP_TRY(unet_guidance(&unet, &c));
    bool large;
    SP_TRY(is_large(file, prediction, &large));
    c.sample_size = is_xl(file) ? 128 : large ? 96 : 64;
    *out = sp_unet_config_write(&c);
    return *out ? SP_OK : SP_MEMORY;
}

/* ---- VAE ---- */

const char *sp_original_vae_prefix(const sp_tensor_file *file)
{
    static const char *const alone[] = {"vae.", ""};
    if (sp_tensor_file_find(file, VAE_FIRST)) return SP_ORIGINAL_VAE;
    /* Without a prefix, what follows tells these names from diffusers'. */
    for (int i = 0; i < 2; i++)
        if (find(file, "%sencoder.conv_in.weight", alone[i]) &&
            find(file, "%sencoder.down.0.block.0.norm1.weight", alone[i]))
            return alone[i];
    return NULL;
}

/* The name behind the prefix of the VAE's, in a buffer that is used again. */
static const char *vae_name(const sp_tensor_file *file, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const char *vae_name(const sp_tensor_file *file, const char *format, ...)
{
    static _Thread_local char name[128];
    const char *prefix = sp_original_vae_prefix(file);
    int length = snprintf(name, sizeof name, "%s", prefix ? prefix : SP_ORIGINAL_VAE);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name + length, sizeof name - (size_t)length, format, arguments);
    va_end(arguments);
    return name;
}

static bool vae_has(const sp_tensor_file *file, const char *name)
{
    return sp_tensor_file_find(file, vae_name(file, "%s", name));
}

int sp_original_vae_levels(const sp_tensor_file *file)
{
    int levels = 0;
    while (levels <= SP_MODEL_MAX_LEVELS &&
           sp_tensor_file_find(file, vae_name(file, "encoder.down.%d.block.0.conv2.weight", levels)))
        levels++;
    return levels;
}

static sp_status vae_config(const sp_tensor_file *file, const char *prediction, json_t **out)
{
    bool large, third = sp_original_has_mmdit(file);
    SP_TRY(is_large(file, prediction, &large));
    sp_vae_config c = {.kind = SP_VAE_KL,
                       .scaling_factor = third ? 1.5305 : is_xl(file) ? 0.13025 : 0.18215,
                       .shift_factor = third ? 0.0609 : 0,
                       .sample_size = third || is_xl(file) ? 1024 : large ? 768 : 512,
                       .kl = {.groups = GROUPS, .levels = sp_original_vae_levels(file)}};
    if (c.kl.levels < 1 || c.kl.levels > SP_MODEL_MAX_LEVELS)
        return sp_fail(SP_FORMAT, "%s: the VAE has %d resolutions, and must have 1 to %d",
                       sp_tensor_file_path(file), c.kl.levels, SP_MODEL_MAX_LEVELS);
    SP_TRY(dim_of(file, vae_name(file, "encoder.conv_in.weight"), 1, &c.in_channels));
    SP_TRY(dim_of(file, vae_name(file, "decoder.conv_out.weight"), 0, &c.out_channels));
    SP_TRY(dim_of(file, vae_name(file, "decoder.conv_in.weight"), 1, &c.latent_channels));
    for (int i = 0; i < c.kl.levels; i++)
        SP_TRY(dim_of(file, vae_name(file, "encoder.down.%d.block.0.conv2.weight", i), 0,
                      &c.kl.channels[i]));
    while (c.kl.layers <= SP_MODEL_MAX_LAYERS &&
           sp_tensor_file_find(
               file, vae_name(file, "encoder.down.0.block.%d.conv2.weight", (int)c.kl.layers)))
        c.kl.layers++;
    c.kl.quant_conv = vae_has(file, "quant_conv.weight");
    c.kl.post_quant_conv = vae_has(file, "post_quant_conv.weight");
    c.kl.mid_attention = vae_has(file, "encoder.mid.attn_1.norm.weight");
    c.factor = (int64_t)1 << (c.kl.levels - 1);
    *out = sp_vae_config_write(&c);
    if (!third && !sp_original_has(file, SP_COMPONENT_UNET)) json_object_del(*out, "scaling_factor"); /* the UNet's */
    return *out ? SP_OK : SP_MEMORY;
}

/* ---- text encoders ---- */

static int count_layers(const sp_tensor_file *file, const char *prefix, const char *tail)
{
    enum { MOST = 256 };
    int count = 0;
    while (count < MOST && find(file, "%s%d.%s", prefix, count, tail))
        count++;
    return count;
}

/* 2.x takes the state before OpenCLIP's last layer. A file that came from diffusers and back has 23
 * layers, the last one gone already. XL has a use for all. */
int sp_original_open_clip_layers(const sp_tensor_file *file, const sp_original_text *text)
{
    enum { WITHOUT_LAST = 23 };
    char layers[128];
    snprintf(layers, sizeof layers, "%stransformer.resblocks.", text->prefix);
    int count = count_layers(file, layers, "ln_1.weight");
    return count == WITHOUT_LAST || strcmp(text->prefix, SP_ORIGINAL_XL_OPEN_CLIP) == 0 ? count : count - 1;
}

/* The tensors that tell sizes. */
typedef struct {
    char tokens[128], positions[128], wide[128], layers[128];
} text_names;

static text_names names_of(const sp_original_text *text)
{
    text_names n;
    const char *p = text->prefix;
    snprintf(n.tokens, sizeof n.tokens, "%s%stoken_embedding.weight", p, text->open_clip ? "" : "embeddings.");
    snprintf(n.positions, sizeof n.positions, "%s%s", p,
             text->open_clip ? "positional_embedding" : "embeddings.position_embedding.weight");
    snprintf(n.layers, sizeof n.layers, "%s%s", p, text->open_clip ? "transformer.resblocks." : "encoder.layers.");
    snprintf(n.wide, sizeof n.wide, "%s%s", p,
             text->open_clip ? "transformer.resblocks.0.mlp.c_fc.weight" : "encoder.layers.0.mlp.fc1.weight");
    return n;
}

/* As wide as the text's own states, but for what the matrix says: [width,projection], or with its sides changed. */
static sp_status text_projection(const sp_tensor_file *file, const sp_original_text *text, sp_clip_text_config *c)
{
    c->projection = text->open_clip ? 512 : c->width;
    return text->projection ? dim_of(file, text->projection, text->open_clip ? 1 : 0, &c->projection) : SP_OK;
}

static sp_status text_config(const sp_tensor_file *file, sp_component_kind kind, json_t **out)
{
    const sp_original_text text = sp_original_text_of(file, kind);
    const text_names names = names_of(&text);
    bool gelu = text.open_clip || kind == SP_COMPONENT_TEXT_ENCODER_2;
    sp_clip_text_config c = {.epsilon = 1e-5,
                             .begin_id = 49406,
                             .end_id = 49407,
                             .pad_id = gelu ? 0 : 49407,
                             .activation = gelu ? SP_UNARY_GELU : SP_UNARY_QUICK_GELU,
                             .layers = text.open_clip ? sp_original_open_clip_layers(file, &text)
                                                      : count_layers(file, names.layers, "layer_norm1.weight")};
    SP_TRY(dim_of(file, names.tokens, 0, &c.vocabulary));
    SP_TRY(dim_of(file, names.tokens, 1, &c.width));
    SP_TRY(dim_of(file, names.positions, 0, &c.max_tokens));
    SP_TRY(dim_of(file, names.wide, 0, &c.feed_forward));
    SP_TRY(text_projection(file, &text, &c));
    c.heads = c.width > HEAD_CHANNELS ? c.width / HEAD_CHANNELS : 1;
    *out = sp_clip_text_config_write(&c);
    if (!*out) return SP_MEMORY;
    if (!text.projection && !text.identity) return SP_OK;
    json_t *name = json_pack("[s]", "CLIPTextModelWithProjection");
    return json_object_set_new(*out, "architectures", name) ? SP_MEMORY : SP_OK;
}

sp_status sp_original_config(const sp_tensor_file *file, sp_component_kind kind,
                             const char *prediction, json_t **out)
{
    *out = NULL;
    if (!sp_original_has(file, kind))
        return sp_fail(SP_FORMAT,
                       "%s: has no %s under the names of Stable Diffusion's original checkpoints, "
                       "such as \"%s\"",
                       sp_tensor_file_path(file), sp_component_folder_name(kind),
                       kind == SP_COMPONENT_UNET          ? SP_ORIGINAL_UNET "input_blocks.0.0.weight"
                       : kind == SP_COMPONENT_TRANSFORMER ? SP_ORIGINAL_UNET "joint_blocks.0.x_block.attn.qkv.weight"
                       : kind == SP_COMPONENT_VAE         ? VAE_FIRST
                                                          : OPEN_CLIP_FIRST);
    if (kind == SP_COMPONENT_TRANSFORMER) return sp_original_mmdit_config(file, out);
    if (kind == SP_COMPONENT_UNET) return unet_config(file, prediction, out);
    if (kind == SP_COMPONENT_VAE) return vae_config(file, prediction, out);
    sp_status status = text_config(file, kind, out);
    if (status) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

/* ---- scheduler ---- */

sp_status sp_original_mark(const sp_original_prediction *predicts, json_t *scheduler)
{
    int failed = 0;
    if (predicts->said)
        failed |= json_object_set_new(scheduler, "prediction_type", json_string(predicts->type));
    if (predicts->zero_snr) failed |= json_object_set_new(scheduler, "rescale_betas_zero_snr", json_true());
    if (predicts->zero_snr || strcmp(predicts->type, "sample") == 0)
        failed |= json_object_set_new(scheduler, "timestep_spacing", json_string("trailing"));
    return failed ? SP_MEMORY : SP_OK;
}

/* Stable Diffusion 3's. */
static sp_status flow_scheduler(json_t **out)
{
    *out = json_pack("{s:s, s:s, s:i, s:f}", "_class_name", "FlowMatchEulerDiscreteScheduler", "_diffusers_version",
                     "0.29.0", "num_train_timesteps", 1000, "shift", 3.0);
    return *out ? SP_OK : SP_MEMORY;
}

sp_status sp_original_scheduler(const sp_tensor_file *file, const char *prediction, json_t **out)
{
    sp_original_prediction predicts;
    *out = NULL;
    if (sp_original_has_mmdit(file)) return flow_scheduler(out);
    SP_TRY(sp_original_predicts(file, prediction, &predicts));
    *out = json_pack("{s:s, s:s, s:f, s:f, s:s, s:b, s:i, s:s, s:b, s:b, s:i, s:n}", "_class_name",
                     is_xl(file)                         ? "EulerDiscreteScheduler"
                     : sp_original_pads_with_zero(file) ? "DDIMScheduler"
                                                        : "PNDMScheduler",
                     "_diffusers_version", "0.8.0", "beta_start", 0.00085, "beta_end", 0.012,
                     "beta_schedule", "scaled_linear", "clip_sample", 0, "num_train_timesteps",
                     1000, "prediction_type", "epsilon", "set_alpha_to_one", 0, "skip_prk_steps", 1,
                     "steps_offset", 1, "trained_betas");
    if (!*out) return SP_MEMORY;
    predicts.said = true;
    /* XL's own, and the default of that class is another */
    int failed = is_xl(file) ? json_object_set_new(*out, "timestep_spacing", json_string("leading")) : 0;
    sp_status status = failed ? SP_MEMORY : sp_original_mark(&predicts, *out);
    if (!status) return SP_OK;
    json_decref(*out);
    *out = NULL;
    return status;
}
