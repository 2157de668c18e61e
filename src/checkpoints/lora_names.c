/* The namings of LoRA files. */
#include "checkpoints/lora_names.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* ---- what is known ---- */

/* The first that fits counts. */
static const struct {
    const char *end;
    sp_lora_part part;
} ends[] = {
    {".lora_A.weight", SP_LORA_DOWN},
    {".lora_B.weight", SP_LORA_UP},
    {".lora_A.default.weight", SP_LORA_DOWN},
    {".lora_B.default.weight", SP_LORA_UP},
    {".lora_down.weight", SP_LORA_DOWN},
    {".lora_up.weight", SP_LORA_UP},
    {".lora.down.weight", SP_LORA_DOWN},
    {".lora.up.weight", SP_LORA_UP},
    {".lora_linear_layer.down.weight", SP_LORA_DOWN},
    {".lora_linear_layer.up.weight", SP_LORA_UP},
    {"_lora.down.weight", SP_LORA_DOWN}, /* to_q_lora, of the attention processors of old */
    {"_lora.up.weight", SP_LORA_UP},
    {".lora_linear_layer.alpha", SP_LORA_ALPHA},
    {".lora.alpha", SP_LORA_ALPHA},
    {"_lora.alpha", SP_LORA_ALPHA},
    {".alpha", SP_LORA_ALPHA},
    {".lora_mid.weight", SP_LORA_MID},
    {".dora_scale", SP_LORA_DORA_SCALE},
    {".lora_magnitude_vector", SP_LORA_MAGNITUDE},
    {".lora_magnitude_vector.weight", SP_LORA_MAGNITUDE},
    {".lora_magnitude_vector.default.weight", SP_LORA_MAGNITUDE},
    {".hada_w1_a", SP_LORA_HADA_W1_A},
    {".hada_w1_b", SP_LORA_HADA_W1_B},
    {".hada_w2_a", SP_LORA_HADA_W2_A},
    {".hada_w2_b", SP_LORA_HADA_W2_B},
    {".hada_t1", SP_LORA_HADA_T1},
    {".hada_t2", SP_LORA_HADA_T2},
    {".lokr_w1", SP_LORA_LOKR_W1},
    {".lokr_w1_a", SP_LORA_LOKR_W1_A},
    {".lokr_w1_b", SP_LORA_LOKR_W1_B},
    {".lokr_w2", SP_LORA_LOKR_W2},
    {".lokr_w2_a", SP_LORA_LOKR_W2_A},
    {".lokr_w2_b", SP_LORA_LOKR_W2_B},
    {".lokr_t2", SP_LORA_LOKR_T2},
    {".diff", SP_LORA_DIFF},
    {".diff_b", SP_LORA_DIFF_B},
    {".w_norm", SP_LORA_DIFF}, /* LyCORIS' of norms */
    {".b_norm", SP_LORA_DIFF_B},
};

#define X(part, name) name,
static const char *const part_names[] = {SP_LORA_PART_LIST(X)};
#undef X

const char *sp_lora_part_name(int part)
{
    return part_names[part];
}

static const char peft_prefix[] = "base_model.model.";
enum { BY_LAYER = -1 };
static const struct {
    const char *begin;
    int kind; /* of component, or BY_LAYER */
} prefixes[] = {
    {"lora_unet_", SP_COMPONENT_UNET},
    {"unet.", SP_COMPONENT_UNET},
    {"model.diffusion_model.", SP_COMPONENT_UNET},
    {"diffusion_model.", SP_COMPONENT_UNET},
    {"transformer.", SP_COMPONENT_TRANSFORMER},
    {"lora_transformer_", SP_COMPONENT_TRANSFORMER},
    {"lora_te_", SP_COMPONENT_TEXT_ENCODER},
    {"lora_te1_", SP_COMPONENT_TEXT_ENCODER},
    {"text_encoder.", SP_COMPONENT_TEXT_ENCODER},
    {"text_encoders.clip_l.transformer.", SP_COMPONENT_TEXT_ENCODER},
    {"lora_te2_", SP_COMPONENT_TEXT_ENCODER_2},
    {"text_encoder_2.", SP_COMPONENT_TEXT_ENCODER_2},
    {"text_encoders.clip_g.transformer.", SP_COMPONENT_TEXT_ENCODER_2},
    {"lycoris_", BY_LAYER},
    {"", BY_LAYER},
};

/* Beginnings of layers, for names that do not say the component. */
static const struct {
    const char *begin;
    sp_component_kind kind;
} layers[] = {
    {"down_blocks_", SP_COMPONENT_UNET},     {"mid_block_", SP_COMPONENT_UNET},
    {"up_blocks_", SP_COMPONENT_UNET},       {"time_embedding_", SP_COMPONENT_UNET},
    {"conv_in", SP_COMPONENT_UNET},          {"conv_out", SP_COMPONENT_UNET},
    {"input_blocks_", SP_COMPONENT_UNET},    {"middle_block_", SP_COMPONENT_UNET},
    {"output_blocks_", SP_COMPONENT_UNET},   {"time_embed_", SP_COMPONENT_UNET},
    {"add_embedding_", SP_COMPONENT_UNET},   {"label_emb_", SP_COMPONENT_UNET},
    {"text_model_", SP_COMPONENT_TEXT_ENCODER}, {"encoder_layers_", SP_COMPONENT_TEXT_ENCODER},
    {"transformer_blocks_", SP_COMPONENT_TRANSFORMER}, {"joint_blocks_", SP_COMPONENT_TRANSFORMER},
    {"x_embedder_", SP_COMPONENT_TRANSFORMER},  {"t_embedder_", SP_COMPONENT_TRANSFORMER},
    {"y_embedder_", SP_COMPONENT_TRANSFORMER},  {"context_embedder", SP_COMPONENT_TRANSFORMER},
    {"final_layer_", SP_COMPONENT_TRANSFORMER},
};

/* Anywhere in a name: what it is a sign of. */
static const char flux_sign[] = "single_transformer_blocks"; /* whose other names are as a supported model's */
static const struct {
    const char *sign, *what;
} refused[] = {
    {flux_sign, "a LoRA of Flux"},
    {".oft_", "OFT"},
    {".boft_", "BOFT"},
    {".on_input", "IA3"},
    {".a1.weight", "GLoRA"},
    {".a2.weight", "GLoRA"},
    {".b1.weight", "GLoRA"},
    {".b2.weight", "GLoRA"},
    {".lora_embedding_", "a LoRA of an embedding"},
    {".lora_B.bias", "a LoRA with biases"},
    {".lora_B.default.bias", "a LoRA with biases"},
    {".modules_to_save.", "a layer that was trained whole"},
    {".set_weight", "a replacement of whole weights"},
    {".reshape_weight", "a LoRA that reshapes weights"},
    {"lora_te3_", "a LoRA of a model with a T5 text encoder"},
    {"text_encoders.t5xxl.", "a LoRA of a model with a T5 text encoder"},
    {"double_blocks.", "a LoRA of Flux"},
    {"single_blocks.", "a LoRA of Flux"},
};

static const struct {
    const char *sign, *family;
} families[] = {
    {"double_blocks_", "Flux"},
    {"single_blocks_", "Flux"},
    {"joint_blocks_", "Stable Diffusion 3"},
    {"single_transformer_blocks_", "Flux"},
    {"_transformer_blocks_1_", "Stable Diffusion XL"},
    {"label_emb_", "Stable Diffusion XL"},
    {"add_embedding_", "Stable Diffusion XL"},
};

sp_status sp_lora_name_refuse(const char *path, const char *name)
{
    for (size_t i = 0; i < COUNT(refused); i++)
        if (strstr(name, refused[i].sign))
            return sp_fail(SP_UNSUPPORTED,
                           "%s: tensor \"%s\" is of %s, which is not supported", path, name, refused[i].what);
    return sp_fail(SP_FORMAT,
                   "%s: tensor \"%s\" is not of a LoRA: names such as "
                   "\"unet.LAYER.lora_A.weight\" and \"lora_unet_LAYER.lora_down.weight\" are known",
                   path, name);
}

const char *sp_lora_layer_family(const char *layer)
{
    for (size_t i = 0; i < COUNT(families); i++)
        if (strstr(layer, families[i].sign)) return families[i].family;
    return NULL;
}

/* ---- one name ---- */

static void underscore(char *text)
{
    for (; *text; text++)
        if (*text == '.') *text = '_';
}

static void cut(char *text, size_t at, size_t count)
{
    memmove(text + at, text + at + count, strlen(text + at + count) + 1);
}

/* Attention processors had the projections of old; the text encoder's are named as the UNet's there. */
static void modernise(char *layer, size_t size, bool text)
{
    static const char processor[] = "_processor_", text_model[] = "text_model_";
    static const char *const text_names[][2] = {{"_self_attn_to_q", "_self_attn_q_proj"},
                                                {"_self_attn_to_k", "_self_attn_k_proj"},
                                                {"_self_attn_to_v", "_self_attn_v_proj"},
                                                {"_self_attn_to_out", "_self_attn_out_proj"}};
    char *at = strstr(layer, processor);
    if (at) cut(layer, (size_t)(at - layer), sizeof processor - 2);
    if (text && sp_starts_with(layer, text_model)) cut(layer, 0, sizeof text_model - 1);
    for (size_t i = 0; i < COUNT(text_names) && text; i++)
        if (sp_ends_with(layer, text_names[i][0])) {
            size_t length = strlen(layer) - strlen(text_names[i][0]);
            snprintf(layer + length, size - length, "%s", text_names[i][1]);
        }
    if (!text && sp_ends_with(layer, "_to_out")) snprintf(layer + strlen(layer), size - strlen(layer), "_0");
}

static int kind_of_layer(const char *layer)
{
    for (size_t i = 0; i < COUNT(layers); i++)
        if (sp_starts_with(layer, layers[i].begin)) return (int)layers[i].kind;
    return BY_LAYER;
}

bool sp_lora_name_parse(const char *name, sp_lora_name *out)
{
    enum { GROWTH = 8 }; /* bytes that modernise may add */
    size_t length = strlen(name), end = 0, prefix = 0, begin = 0;
    if (length + GROWTH >= SP_LORA_MAX_NAME || strstr(name, flux_sign)) return false;
    while (end < COUNT(ends) && !sp_ends_with(name, ends[end].end))
        end++;
    if (end == COUNT(ends)) return false;
    out->peft = sp_starts_with(name, peft_prefix);
    if (out->peft) begin = sizeof peft_prefix - 1;
    while (!sp_starts_with(name + begin, prefixes[prefix].begin))
        prefix++;
    begin += strlen(prefixes[prefix].begin);
    out->part = ends[end].part;
    out->base = length - strlen(ends[end].end);
    out->module = begin;
    if (begin >= out->base) return false;
    snprintf(out->layer, sizeof out->layer, "%.*s", (int)(out->base - begin), name + begin);
    underscore(out->layer);
    int kind = prefixes[prefix].kind == BY_LAYER ? kind_of_layer(out->layer) : prefixes[prefix].kind;
    /* kohya and ComfyUI call any denoiser so */
    if (kind == SP_COMPONENT_UNET && kind_of_layer(out->layer) == SP_COMPONENT_TRANSFORMER)
        kind = SP_COMPONENT_TRANSFORMER;
    if (kind == BY_LAYER) return false;
    out->kind = (sp_component_kind)kind;
    modernise(out->layer, sizeof out->layer, sp_component_is_text(out->kind));
    return true;
}
