/* The config.json of Stable Diffusion 3's transformer. */
#include "models/mmdit.h"

#include <string.h>

static const sp_config_rule rules[] = {
    {"sample_size", NULL},
    {"patch_size", NULL},
    {"in_channels", NULL},
    {"num_layers", NULL},
    {"attention_head_dim", NULL},
    {"num_attention_heads", NULL},
    {"joint_attention_dim", NULL},
    {"caption_projection_dim", NULL},
    {"pooled_projection_dim", NULL},
    {"out_channels", NULL},
    {"pos_embed_max_size", NULL},
    {"dual_attention_layers", NULL},
    {"qk_norm", NULL},
};

static sp_status read_dual(const json_t *config, const char *where, sp_mmdit_config *out)
{
    static const char key[] = "dual_attention_layers";
    const json_t *list = json_object_get(config, key);
    if (!list || json_is_null(list)) return SP_OK;
    if (!json_is_array(list)) return sp_fail(SP_FORMAT, "%s: \"%s\" must be a list of numbers", where, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        json_int_t layer = json_integer_value(entry);
        if (!json_is_integer(entry) || layer < 0 || layer >= out->blocks)
            return sp_fail(SP_FORMAT, "%s: \"%s\" must hold numbers of layers, 0 to %lld", where, key,
                           (long long)out->blocks - 1);
        out->dual[layer] = true;
    }
    return SP_OK;
}

static sp_status read_norm(const json_t *config, const char *where, sp_mmdit_config *out)
{
    const char *norm;
    SP_TRY(sp_json_text(config, "qk_norm", "", where, &norm));
    out->qk_norm = strcmp(norm, "rms_norm") == 0;
    if (out->qk_norm || !*norm) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: \"qk_norm\" is \"%.64s\", and only rms_norm and null are supported", where,
                   norm);
}

static sp_status read_sizes(const json_t *config, const char *where, sp_mmdit_config *out)
{
    enum { MOST = SP_MODEL_MAX_CHANNELS };
    int64_t width;
    SP_TRY(sp_config_int(config, "sample_size", 128, 1, 1 << 16, where, &out->sample_size));
    SP_TRY(sp_config_int(config, "patch_size", 2, 1, 16, where, &out->patch_size));
    SP_TRY(sp_config_int(config, "in_channels", 16, 1, MOST, where, &out->in_channels));
    SP_TRY(sp_config_int(config, "out_channels", out->in_channels, 1, MOST, where, &out->out_channels));
    SP_TRY(sp_config_int(config, "num_layers", 18, 1, SP_MMDIT_MAX_BLOCKS, where, &out->blocks));
    SP_TRY(sp_config_int(config, "num_attention_heads", 18, 1, 1024, where, &out->heads));
    SP_TRY(sp_config_int(config, "attention_head_dim", 64, 1, 1024, where, &out->head_dim));
    SP_TRY(sp_config_int(config, "joint_attention_dim", 4096, 1, MOST, where, &out->context_dim));
    SP_TRY(sp_config_int(config, "pooled_projection_dim", 2048, 1, MOST, where, &out->pooled_dim));
    SP_TRY(sp_config_int(config, "pos_embed_max_size", 96, 1, 4096, where, &out->positions));
    SP_TRY(sp_config_int(config, "caption_projection_dim", 1152, 1, MOST, where, &width));
    if (width == out->heads * out->head_dim && width <= MOST) return SP_OK;
    return sp_fail(SP_FORMAT,
                   "%s: \"caption_projection_dim\" is %lld, and must be \"num_attention_heads\" times "
                   "\"attention_head_dim\", %lld, and at most %d",
                   where, (long long)width, (long long)(out->heads * out->head_dim), MOST);
}

sp_status sp_mmdit_config_read(const json_t *config, const char *where, sp_mmdit_config *out)
{
    *out = (sp_mmdit_config){0};
    SP_TRY(sp_config_check(config, where, rules, sizeof rules / sizeof *rules));
    SP_TRY(read_sizes(config, where, out));
    SP_TRY(read_dual(config, where, out));
    return read_norm(config, where, out);
}

json_t *sp_mmdit_config_write(const sp_mmdit_config *c)
{
    json_t *dual = json_array();
    int failed = !dual;
    for (int64_t i = 0; i < c->blocks; i++)
        if (c->dual[i]) failed |= json_array_append_new(dual, json_integer(i));
    json_t *out = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:s?}", "_class_name",
        "SD3Transformer2DModel", "sample_size", (json_int_t)c->sample_size, "patch_size", (json_int_t)c->patch_size,
        "in_channels", (json_int_t)c->in_channels, "out_channels", (json_int_t)c->out_channels, "num_layers",
        (json_int_t)c->blocks, "attention_head_dim", (json_int_t)c->head_dim, "num_attention_heads",
        (json_int_t)c->heads, "joint_attention_dim", (json_int_t)c->context_dim, "caption_projection_dim",
        (json_int_t)(c->heads * c->head_dim), "pooled_projection_dim", (json_int_t)c->pooled_dim, "pos_embed_max_size",
        (json_int_t)c->positions, "dual_attention_layers", dual, "qk_norm", c->qk_norm ? "rms_norm" : NULL);
    if (!failed) return out;
    json_decref(out);
    return NULL;
}
