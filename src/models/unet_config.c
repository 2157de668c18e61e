/* The UNet's config.json. */
#include "models/unet.h"

#include <string.h>

static const sp_config_rule unet_rules[] = {
    {"sample_size", NULL},
    {"in_channels", NULL},
    {"out_channels", NULL},
    {"center_input_sample", "false"},
    {"flip_sin_to_cos", NULL},
    {"freq_shift", NULL},
    {"down_block_types", NULL},
    {"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
    {"up_block_types", NULL},
    {"only_cross_attention", "false"},
    {"mid_block_only_cross_attention", "null"},
    {"block_out_channels", NULL},
    {"layers_per_block", NULL},
    {"downsample_padding", NULL},
    {"mid_block_scale_factor", "1"},
    {"dropout", "0"},
    {"act_fn", "\"silu\""},
    {"norm_num_groups", NULL},
    {"norm_eps", NULL},
    {"cross_attention_dim", NULL},
    {"transformer_layers_per_block", NULL},
    {"reverse_transformer_layers_per_block", "null"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"attention_head_dim", NULL},
    {"num_attention_heads", "null"},
    {"dual_cross_attention", "false"},
    {"use_linear_projection", NULL},
    {"class_embed_type", "null"},
    {"class_embeddings_concat", "false"},
    {"num_class_embeds", "null"},
    {"projection_class_embeddings_input_dim", "null"},
    {"addition_embed_type", "null"},
    {"addition_embed_type_num_heads", NULL},
    {"addition_time_embed_dim", "null"},
    {"upcast_attention", NULL},
    {"attention_type", "\"default\""},
    {"cross_attention_norm", "null"},
    {"resnet_time_scale_shift", "\"default\""},
    {"resnet_skip_time_act", "false"},
    {"resnet_out_scale_factor", "1"},
    {"time_embedding_type", "\"positional\""},
    {"time_embedding_dim", NULL},
    {"time_embedding_act_fn", "null"},
    {"timestep_post_act", "null"},
    {"time_cond_proj_dim", NULL},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    /* what diffusers' EMAModel leaves in the config of the weights it saves */
    {"decay", NULL},
    {"min_decay", NULL},
    {"inv_gamma", NULL},
    {"power", NULL},
    {"optimization_step", NULL},
    {"update_after_step", NULL},
    {"use_ema_warmup", NULL},
};

static sp_status read_block_types(const json_t *config, const char *where, sp_unet_config *out)
{
    static const char *const down[] = {"DownBlock2D", "CrossAttnDownBlock2D"};
    static const char *const up[] = {"UpBlock2D", "CrossAttnUpBlock2D"};
    int choice[SP_MODEL_MAX_LEVELS] = {1, 1, 1, 0};
    int levels = out->levels;
    SP_TRY(sp_config_choices(config, "down_block_types", down, 2, where, levels, 4, choice));
    for (int i = 0; i < levels; i++)
        out->down_attention[i] = choice[i];
    memcpy(choice, (int[4]){0, 1, 1, 1}, 4 * sizeof(int));
    SP_TRY(sp_config_choices(config, "up_block_types", up, 2, where, levels, 4, choice));
    for (int i = 0; i < levels; i++)
        out->up_attention[levels - 1 - i] = choice[i];
    return SP_OK;
}

/* cross_attention_dim is one number; a list must repeat it, since there is one context. */
static sp_status read_cross_attention_dim(const json_t *config, const char *where, sp_unet_config *out)
{
    int64_t dim[SP_MODEL_MAX_LEVELS];
    SP_TRY(sp_config_int_list(config, "cross_attention_dim", 1280, 1, SP_MODEL_MAX_CHANNELS, where,
                              out->levels, dim));
    for (int i = 1; i < out->levels; i++)
        if (dim[i] != dim[0])
            return sp_fail(
                SP_UNSUPPORTED,
                "%s: \"cross_attention_dim\" differs between levels, which is not supported",
                where);
    out->cross_attention_dim = dim[0];
    return SP_OK;
}

/* Height and width may be two numbers; then the first stands for both. */
static sp_status read_sample_size(const json_t *config, const char *where, sp_unet_config *out)
{
    const json_t *size = json_object_get(config, "sample_size");
    int64_t both[2] = {0, 0};
    if (json_is_array(size))
        SP_TRY(sp_config_int_list(config, "sample_size", 0, 1, 1 << 20, where, 2, both));
    else
        SP_TRY(sp_config_int(config, "sample_size", 0, 0, 1 << 20, where, &both[0]));
    out->sample_size = both[0];
    return SP_OK;
}

static sp_status read_time(const json_t *config, const char *where, sp_unet_config *out)
{
    SP_TRY(sp_json_bool(config, "flip_sin_to_cos", true, where, &out->cos_first));
    SP_TRY(sp_config_double(config, "freq_shift", 0, -1e6, 1e6, where, &out->freq_shift));
    SP_TRY(sp_config_int(config, "time_embedding_dim", 4 * out->channels[0], 1,
                         4 * SP_MODEL_MAX_CHANNELS, where, &out->time_dim));
    SP_TRY(sp_config_int(config, "time_cond_proj_dim", 0, 0, SP_MODEL_MAX_CHANNELS, where,
                         &out->time_cond_dim));
    int64_t half = out->channels[0] / 2;
    if (out->channels[0] % 2 || (double)half <= out->freq_shift)
        return sp_fail(
            SP_FORMAT,
            "%s: a time embedding of width %lld (the first of \"block_out_channels\") with"
            " \"freq_shift\" %g is impossible: the width must be even and its half above the shift",
            where, (long long)out->channels[0], out->freq_shift);
    return SP_OK;
}

static sp_status check_heads(const char *where, const sp_unet_config *c)
{
    for (int i = 0; i < c->levels; i++) {
        bool attends = c->down_attention[i] || c->up_attention[i] || i == c->levels - 1;
        if (attends && c->channels[i] % c->heads[i])
            return sp_fail(
                SP_FORMAT,
                "%s: %lld channels cannot be split into the %lld heads of \"attention_head_dim\"",
                where, (long long)c->channels[i], (long long)c->heads[i]);
    }
    return SP_OK;
}

sp_status sp_unet_config_read(const json_t *config, const char *where, sp_unet_config *out)
{
    static const int64_t default_channels[] = {320, 640, 1280, 1280};
    sp_unet_config c = {0};
    SP_TRY(sp_config_check(config, where, unet_rules, sizeof unet_rules / sizeof *unet_rules));
    const json_t *groups = json_object_get(config, "norm_num_groups");
    if (groups && json_is_null(groups))
        return sp_fail(SP_UNSUPPORTED,
                       "%s: a model without norms (\"norm_num_groups\": null) is not supported",
                       where);
    SP_TRY(
        sp_config_int(config, "norm_num_groups", 32, 1, SP_MODEL_MAX_CHANNELS, where, &c.groups));
    SP_TRY(sp_config_channels(config, default_channels, 4, c.groups, where, c.channels, &c.levels));
    SP_TRY(read_block_types(config, where, &c));
    SP_TRY(read_sample_size(config, where, &c));
    SP_TRY(
        sp_config_int(config, "in_channels", 4, 1, SP_MODEL_MAX_CHANNELS, where, &c.in_channels));
    SP_TRY(
        sp_config_int(config, "out_channels", 4, 1, SP_MODEL_MAX_CHANNELS, where, &c.out_channels));
    SP_TRY(sp_config_int_list(config, "layers_per_block", 2, 1, SP_MODEL_MAX_LAYERS, where,
                              c.levels, c.layers));
    SP_TRY(sp_config_int_list(config, "attention_head_dim", 8, 1, SP_MODEL_MAX_CHANNELS, where,
                              c.levels, c.heads));
    SP_TRY(sp_config_int_list(config, "transformer_layers_per_block", 1, 1, SP_MODEL_MAX_LAYERS,
                              where, c.levels, c.transformer_layers));
    SP_TRY(sp_config_int(config, "downsample_padding", 1, 0, 1, where, &c.downsample_padding));
    SP_TRY(sp_config_double(config, "norm_eps", 1e-5, 0, 1, where, &c.epsilon));
    SP_TRY(sp_json_bool(config, "use_linear_projection", false, where, &c.linear_projection));
    SP_TRY(sp_json_bool(config, "upcast_attention", false, where, &c.upcast_attention));
    SP_TRY(read_cross_attention_dim(config, where, &c));
    SP_TRY(read_time(config, where, &c));
    SP_TRY(check_heads(where, &c));
    *out = c;
    return SP_OK;
}

sp_status sp_unet_config_load(const char *path, sp_unet_config *out)
{
    json_t *config;
    SP_TRY(sp_json_load(path, &config));
    sp_status status = sp_unet_config_read(config, path, out);
    json_decref(config);
    return status;
}

/* One number where all levels agree, as diffusers' own files have it. */
static json_t *list_or_number(const int64_t *values, int count)
{
    bool equal = true;
    for (int i = 1; i < count; i++)
        equal = equal && values[i] == values[0];
    if (equal) return json_integer(values[0]);
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_integer(values[i]));
    return list;
}

json_t *sp_unet_config_write(const sp_unet_config *c)
{
    json_t *channels = json_array(), *down = json_array(), *up = json_array();
    for (int i = 0; i < c->levels; i++) {
        int back = c->levels - 1 - i;
        json_array_append_new(channels, json_integer(c->channels[i]));
        json_array_append_new(
            down, json_string(c->down_attention[i] ? "CrossAttnDownBlock2D" : "DownBlock2D"));
        json_array_append_new(
            up, json_string(c->up_attention[back] ? "CrossAttnUpBlock2D" : "UpBlock2D"));
    }
    bool whole_shift = c->freq_shift == (double)(int64_t)c->freq_shift;
    return json_pack(
        "{s:s, s:o, s:I, s:I, s:o, s:o, s:o, s:s, s:o, s:o, s:o,"
        " s:I, s:I, s:f, s:s, s:I, s:o, s:b, s:b, s:b, s:o, s:o}",
        "_class_name", "UNet2DConditionModel", "sample_size",
        c->sample_size ? json_integer(c->sample_size) : json_null(), "in_channels",
        (json_int_t)c->in_channels, "out_channels", (json_int_t)c->out_channels,
        "block_out_channels", channels, "down_block_types", down, "up_block_types", up,
        "mid_block_type", "UNetMidBlock2DCrossAttn", "layers_per_block",
        list_or_number(c->layers, c->levels), "attention_head_dim",
        list_or_number(c->heads, c->levels), "transformer_layers_per_block",
        list_or_number(c->transformer_layers, c->levels), "cross_attention_dim",
        (json_int_t)c->cross_attention_dim, "norm_num_groups", (json_int_t)c->groups, "norm_eps",
        c->epsilon, "act_fn", "silu", "downsample_padding", (json_int_t)c->downsample_padding,
        "freq_shift",
        whole_shift ? json_integer((json_int_t)c->freq_shift) : json_real(c->freq_shift),
        "flip_sin_to_cos", (int)c->cos_first, "use_linear_projection", (int)c->linear_projection,
        "upcast_attention", (int)c->upcast_attention, "time_embedding_dim",
        c->time_dim == 4 * c->channels[0] ? json_null() : json_integer(c->time_dim),
        "time_cond_proj_dim", c->time_cond_dim ? json_integer(c->time_cond_dim) : json_null());
}
