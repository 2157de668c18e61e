/* AutoencoderKL. */
#include <math.h>

#include "models/layers.h"
#include "models/vae_parts.h"

#define VAE_EPSILON 1e-6

/* ---- configuration ---- */

static const sp_config_rule vae_rules[] = {
    {"in_channels", NULL},
    {"out_channels", NULL},
    {"down_block_types", NULL},
    {"up_block_types", NULL},
    {"block_out_channels", NULL},
    {"layers_per_block", NULL},
    {"act_fn", "\"silu\""},
    {"latent_channels", NULL},
    {"norm_num_groups", NULL},
    {"sample_size", NULL},
    {"scaling_factor", NULL},
    {"shift_factor", NULL},
    {"latents_mean", "null"},
    {"latents_std", "null"},
    {"force_upcast", NULL}, /* fp32 accumulation and norms make it needless */
    {"use_quant_conv", NULL},
    {"use_post_quant_conv", NULL},
    {"mid_block_add_attention", NULL},
};

static sp_status read_block_types(const json_t *config, const char *where, int levels)
{
    static const char *const down[] = {"DownEncoderBlock2D"};
    static const char *const up[] = {"UpDecoderBlock2D"};
    int choice[SP_MODEL_MAX_LEVELS];
    SP_TRY(sp_config_choices(config, "down_block_types", down, 1, where, levels, 1, choice));
    return sp_config_choices(config, "up_block_types", up, 1, where, levels, 1, choice);
}

sp_status sp_vae_kl_read(const json_t *config, const char *where, sp_vae_config *out)
{
    static const int64_t default_channels[] = {64};
    sp_vae_kl_config *c = &out->kl;
    SP_TRY(sp_config_check(config, where, vae_rules, sizeof vae_rules / sizeof *vae_rules));
    SP_TRY(
        sp_config_int(config, "norm_num_groups", 32, 1, SP_MODEL_MAX_CHANNELS, where, &c->groups));
    SP_TRY(
        sp_config_channels(config, default_channels, 1, c->groups, where, c->channels, &c->levels));
    SP_TRY(read_block_types(config, where, c->levels));
    SP_TRY(sp_config_int(config, "in_channels", 3, 1, SP_MODEL_MAX_CHANNELS, where,
                         &out->in_channels));
    SP_TRY(sp_config_int(config, "out_channels", 3, 1, SP_MODEL_MAX_CHANNELS, where,
                         &out->out_channels));
    SP_TRY(sp_config_int(config, "latent_channels", 4, 1, SP_MODEL_MAX_CHANNELS, where,
                         &out->latent_channels));
    SP_TRY(sp_config_int(config, "layers_per_block", 1, 1, SP_MODEL_MAX_LAYERS, where, &c->layers));
    const json_t *size = json_object_get(config, "sample_size");
    if (json_is_array(size)) size = json_array_get(size, 0);
    out->sample_size = json_is_integer(size) ? json_integer_value(size) : 32;
    if (out->sample_size < 1 || out->sample_size > 1 << 20)
        return sp_fail(SP_FORMAT, "%s: \"sample_size\" is %lld, and must lie in 1..1048576", where,
                       (long long)out->sample_size);
    SP_TRY(
        sp_config_double(config, "scaling_factor", 0.18215, 0, 1e6, where, &out->scaling_factor));
    SP_TRY(sp_config_double(config, "shift_factor", 0, -1e6, 1e6, where, &out->shift_factor));
    SP_TRY(sp_json_bool(config, "use_quant_conv", true, where, &c->quant_conv));
    SP_TRY(sp_json_bool(config, "use_post_quant_conv", true, where, &c->post_quant_conv));
    out->factor = (int64_t)1 << (c->levels - 1);
    return sp_json_bool(config, "mid_block_add_attention", true, where, &c->mid_attention);
}

json_t *sp_vae_kl_write(const sp_vae_config *config)
{
    const sp_vae_kl_config *c = &config->kl;
    sp_json_made down = sp_json_make_list(), up = sp_json_make_list();
    for (int i = 0; i < c->levels; i++) {
        sp_json_add(&down, json_string("DownEncoderBlock2D"));
        sp_json_add(&up, json_string("UpDecoderBlock2D"));
    }
    json_t *shift = config->shift_factor != 0 ? json_real(config->shift_factor) : NULL; /* NULL: the key is left out */
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:f, s:o*, s:s, s:b, s:b, s:b}",
                     "_class_name", "AutoencoderKL", "sample_size", (json_int_t)config->sample_size,
                     "in_channels", (json_int_t)config->in_channels, "out_channels",
                     (json_int_t)config->out_channels, "latent_channels",
                     (json_int_t)config->latent_channels, "block_out_channels",
                     sp_json_integers(c->channels, c->levels), "down_block_types", sp_json_done(&down),
                     "up_block_types", sp_json_done(&up), "layers_per_block",
                     (json_int_t)c->layers, "norm_num_groups", (json_int_t)c->groups,
                     "scaling_factor", config->scaling_factor, "shift_factor", shift, "act_fn", "silu",
                     "use_quant_conv", (int)c->quant_conv, "use_post_quant_conv", (int)c->post_quant_conv,
                     "mid_block_add_attention", (int)c->mid_attention);
}

/* ---- graph ---- */

static sp_value *resnet(sp_builder *b, const sp_vae_kl_config *c, int64_t index, sp_value *x,
                        int64_t channels)
{
    return sp_resnet_block(b, index, x, NULL, channels, (sp_norm_settings){c->groups, VAE_EPSILON});
}

/* One head over all pixels, as wide as there are channels. */
static sp_value *pixel_attention(sp_builder *b, const sp_vae_kl_config *c, sp_value *x)
{
    if (!x) return NULL;
    int64_t channels = sp_channels(x);
    sp_scope_enter(b, "attentions.0");
    sp_value *h = sp_tokens_of(b, sp_group_norm_layer(b, "group_norm", x, c->groups, VAE_EPSILON));
    sp_value *q = sp_linear_layer(b, "to_q", h, channels);
    sp_value *k = sp_linear_layer(b, "to_k", h, channels);
    sp_value *v = sp_linear_layer(b, "to_v", h, channels);
    h = sp_attention(b, q, k, v, (sp_attention_options){.heads = 1, .scale = 1 / sqrt((double)channels)});
    h = sp_picture_of(b, sp_linear_layer(b, "to_out.0", h, channels), sp_dim(x, 1), sp_dim(x, 2));
    sp_scope_leave(b);
    return sp_add(b, h, x);
}

static sp_value *middle_block(sp_builder *b, const sp_vae_kl_config *c, sp_value *x)
{
    int64_t channels = c->channels[c->levels - 1];
    sp_scope_enter(b, "mid_block");
    x = resnet(b, c, 0, x, channels);
    if (c->mid_attention) x = pixel_attention(b, c, x);
    x = resnet(b, c, 1, x, channels);
    sp_scope_leave(b);
    return x;
}

static sp_value *encoder(sp_builder *b, const sp_vae_config *config, sp_value *image)
{
    const sp_vae_kl_config *c = &config->kl;
    sp_scope_enter(b, "encoder");
    sp_value *x = sp_conv2d_layer(b, "conv_in", image, c->channels[0], 3);
    for (int level = 0; level < c->levels; level++) {
        sp_scope_enter(b, "down_blocks.%d", level);
        for (int64_t i = 0; i < c->layers; i++)
            x = resnet(b, c, i, x, c->channels[level]);
        if (level < c->levels - 1) x = sp_downsample_layer(b, "downsamplers.0", x, 0);
        sp_scope_leave(b);
    }
    x = middle_block(b, c, x);
    x = sp_silu(b, sp_group_norm_layer(b, "conv_norm_out", x, c->groups, VAE_EPSILON));
    x = sp_conv2d_layer(b, "conv_out", x, 2 * config->latent_channels, 3);
    sp_scope_leave(b);
    return x;
}

static sp_value *decoder(sp_builder *b, const sp_vae_config *config, sp_value *latent)
{
    const sp_vae_kl_config *c = &config->kl;
    sp_scope_enter(b, "decoder");
    sp_value *x = sp_conv2d_layer(b, "conv_in", latent, c->channels[c->levels - 1], 3);
    x = middle_block(b, c, x);
    for (int level = c->levels - 1; level >= 0; level--) {
        sp_scope_enter(b, "up_blocks.%d", c->levels - 1 - level);
        for (int64_t i = 0; i <= c->layers; i++)
            x = resnet(b, c, i, x, c->channels[level]);
        if (level > 0)
            x = sp_upsample_layer(b, "upsamplers.0", x, 2 * sp_dim(x, 1), 2 * sp_dim(x, 2));
        sp_scope_leave(b);
    }
    x = sp_silu(b, sp_group_norm_layer(b, "conv_norm_out", x, c->groups, VAE_EPSILON));
    x = sp_conv2d_layer(b, "conv_out", x, config->out_channels, 3);
    sp_scope_leave(b);
    return x;
}

sp_vae_moments sp_vae_kl_encode(sp_builder *b, const sp_vae_config *c, sp_value *image)
{
    sp_value *x = encoder(b, c, image);
    if (c->kl.quant_conv) x = sp_conv2d_layer(b, "quant_conv", x, 2 * c->latent_channels, 1);
    sp_value *mean = sp_slice(b, x, -1, 0, c->latent_channels);
    sp_value *logvar = sp_slice(b, x, -1, c->latent_channels, c->latent_channels);
    return (sp_vae_moments){mean, sp_clamp(b, logvar, -30, 20)};
}

sp_value *sp_vae_kl_decode(sp_builder *b, const sp_vae_config *c, sp_value *latent)
{
    sp_value *x = c->kl.post_quant_conv
                      ? sp_conv2d_layer(b, "post_quant_conv", latent, c->latent_channels, 1)
                      : latent;
    return decoder(b, c, x);
}
