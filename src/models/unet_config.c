/* The UNet's config.json. */
#include "models/unet.h"

#include <string.h>

#include "models/guidance.h"

static const sp_config_rule unet_rules[] = {
    {"sample_size", NULL},
    {"in_channels", NULL},
    {"out_channels", NULL},
    {"center_input_sample", "false"},
    {"flip_sin_to_cos", NULL},
    {"freq_shift", NULL},
    {"down_block_types", NULL},
    {"mid_block_type", NULL},
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
    {"reverse_transformer_layers_per_block", NULL},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"attention_head_dim", NULL},
    {"num_attention_heads", "null"},
    {"dual_cross_attention", "false"},
    {"use_linear_projection", NULL},
    {"class_embed_type", "null"},
    {"class_embeddings_concat", "false"},
    {"num_class_embeds", "null"},
    {"projection_class_embeddings_input_dim", NULL},
    {"addition_embed_type", NULL},
    {"addition_embed_type_num_heads", NULL},
    {"addition_time_embed_dim", NULL},
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

static sp_status read_middle(const json_t *config, const char *where, sp_unet_config *out)
{
    static const char with[] = "UNetMidBlock2DCrossAttn", without[] = "UNetMidBlock2D";
    const char *type;
    if (json_is_null(json_object_get(config, "mid_block_type")))
        return sp_fail(SP_UNSUPPORTED,
                       "%s: \"mid_block_type\" is null, and a UNet without a middle block is not supported", where);
    SP_TRY(sp_json_text(config, "mid_block_type", with, where, &type));
    out->middle_attention = strcmp(type, with) == 0;
    if (out->middle_attention || strcmp(type, without) == 0) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: \"mid_block_type\" is \"%.64s\", and only %s and %s are supported", where, type,
                   with, without);
}

/* One block's entry of a list of depths: a number for all its transformers, or one for each. */
static sp_status read_depths(const json_t *entry, const char *key, const char *where, int64_t count, int64_t *out)
{
    const json_t *holder = json_pack("{s:O}", key, entry);
    if (!holder) return sp_fail(SP_MEMORY, "%s: out of memory while reading \"%s\"", where, key);
    sp_status status = sp_config_int_list(holder, key, 1, 0, SP_MODEL_MAX_LAYERS, where, (int)count, out);
    json_decref((json_t *)(uintptr_t)holder);
    return status;
}

/* A list of one entry a level; NULL: the key is absent or a number. */
static sp_status find_list(const json_t *config, const char *key, const char *where, int levels, const json_t **out)
{
    const json_t *list = json_object_get(config, key);
    *out = json_is_array(list) ? list : NULL;
    if (!*out || json_array_size(list) == (size_t)levels) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: \"%s\" must be a number or a list of %d, one for each of \"block_out_channels\"",
                   where, key, levels);
}

static const char depth_key[] = "transformer_layers_per_block", reverse_key[] = "reverse_transformer_layers_per_block";

static bool is_nested(const json_t *list)
{
    bool nested = false;
    for (size_t i = 0; i < json_array_size(list); i++)
        nested = nested || json_is_array(json_array_get(list, i));
    return nested;
}

/* An up block's depths are those of the down block of its size, unless a list of their own says otherwise. */
static sp_status read_depth_lists(const json_t *config, const json_t *list, const char *where, sp_unet_config *out)
{
    const json_t *reverse;
    int last = out->levels - 1;
    SP_TRY(find_list(config, reverse_key, where, out->levels, &reverse));
    if (!reverse && is_nested(list))
        return sp_fail(SP_FORMAT, "%s: \"%s\" holds lists, and then \"%s\" must be given", where, depth_key,
                       reverse_key);
    for (int i = 0; i < out->levels; i++) {
        const json_t *up = reverse ? json_array_get(reverse, (size_t)(last - i)) : json_array_get(list, (size_t)i);
        SP_TRY(read_depths(json_array_get(list, (size_t)i), depth_key, where, out->layers[i], out->down_depth[i]));
        SP_TRY(read_depths(up, reverse ? reverse_key : depth_key, where, out->layers[i] + 1, out->up_depth[i]));
    }
    if (!out->middle_attention) return SP_OK;
    return read_depths(json_array_get(list, (size_t)last), depth_key, where, 1, &out->middle_depth);
}

/* Of blocks without cross-attention files say anything, most often 1. */
static void level_out(sp_unet_config *c)
{
    for (int i = 0; i < c->levels; i++) {
        for (int64_t k = 0; k < c->layers[i]; k++)
            if (!c->down_attention[i]) c->down_depth[i][k] = 1;
        for (int64_t k = 0; k <= c->layers[i]; k++)
            if (!c->up_attention[i]) c->up_depth[i][k] = 1;
    }
}

/* A transformer without a block would be its two projections alone, which nobody has. */
static sp_status check_depths(const char *where, const sp_unet_config *c)
{
    bool good = !c->middle_attention || c->middle_depth > 0;
    for (int i = 0; i < c->levels; i++) {
        for (int64_t k = 0; k < c->layers[i]; k++)
            good = good && (!c->down_attention[i] || c->down_depth[i][k] > 0);
        for (int64_t k = 0; k <= c->layers[i]; k++)
            good = good && (!c->up_attention[i] || c->up_depth[i][k] > 0);
    }
    if (good) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: \"%s\" gives a block with cross-attention no transformer layer", where, depth_key);
}

static sp_status read_transformers(const json_t *config, const char *where, sp_unet_config *out)
{
    const json_t *list;
    int64_t depth;
    SP_TRY(find_list(config, depth_key, where, out->levels, &list));
    if (list) {
        SP_TRY(read_depth_lists(config, list, where, out));
        level_out(out);
        return check_depths(where, out);
    }
    const json_t *reverse = json_object_get(config, reverse_key);
    if (reverse && !json_is_null(reverse))
        return sp_fail(SP_FORMAT, "%s: \"%s\" is given, and \"%s\" is no list", where, reverse_key, depth_key);
    SP_TRY(sp_config_int(config, depth_key, 1, 1, SP_MODEL_MAX_LAYERS, where, &depth));
    sp_unet_config_set_depth(out, depth);
    return SP_OK;
}

void sp_unet_config_set_depth(sp_unet_config *c, int64_t depth)
{
    for (int i = 0; i < c->levels; i++) {
        for (int64_t k = 0; k < c->layers[i]; k++)
            c->down_depth[i][k] = depth;
        for (int64_t k = 0; k <= c->layers[i]; k++)
            c->up_depth[i][k] = depth;
    }
    c->middle_depth = c->middle_attention ? depth : 0;
}

/* addition_embed_type "text_time": six sizes and the pooled text beside the time. */
static sp_status read_text_time(const json_t *config, const char *where, sp_unet_config *out)
{
    static const char sum_key[] = "projection_class_embeddings_input_dim", size_key[] = "addition_time_embed_dim";
    const char *type;
    int64_t sum;
    SP_TRY(sp_json_text(config, "addition_embed_type", "", where, &type));
    SP_TRY(sp_config_int(config, sum_key, 0, 0, 1 << 20, where, &sum));
    SP_TRY(sp_config_int(config, size_key, 0, 0, SP_MODEL_MAX_CHANNELS, where, &out->size_dim));
    if (!*type && !sum && !out->size_dim) return SP_OK;
    if (strcmp(type, "text_time") != 0)
        return sp_fail(SP_UNSUPPORTED, "%s: \"addition_embed_type\" is %s%.64s%s, and only text_time is supported",
                       where, *type ? "\"" : "", *type ? type : "absent beside its dimensions", *type ? "\"" : "");
    out->text_dim = sum - SP_UNET_SIZES * out->size_dim;
    if (out->size_dim < 2 || out->size_dim % 2 || out->text_dim < 1)
        return sp_fail(SP_FORMAT,
                       "%s: \"%s\" %lld is no sum of a text embedding and six sizes of \"%s\" %lld, an even number",
                       where, sum_key, (long long)sum, size_key, (long long)out->size_dim);
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

static sp_status read_guidance(const json_t *config, const char *where, sp_unet_config *out)
{
    const char *range;
    SP_TRY(sp_json_text(config, "_guidance_range", NULL, where, &range));
    if (!range || !out->time_cond_dim) return SP_OK;
    sp_status status = sp_guidance_range_of("_guidance_range", range, &out->guidance);
    return status ? sp_fail_within(SP_FORMAT, "%s", where) : SP_OK;
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
        bool attends = c->down_attention[i] || c->up_attention[i] || (c->middle_attention && i == c->levels - 1);
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
    SP_TRY(read_middle(config, where, &c));
    SP_TRY(read_transformers(config, where, &c));
    SP_TRY(sp_config_int(config, "downsample_padding", 1, 0, 1, where, &c.downsample_padding));
    SP_TRY(sp_config_double(config, "norm_eps", 1e-5, 0, 1, where, &c.epsilon));
    SP_TRY(sp_json_bool(config, "use_linear_projection", false, where, &c.linear_projection));
    SP_TRY(sp_json_bool(config, "upcast_attention", false, where, &c.upcast_attention));
    SP_TRY(read_cross_attention_dim(config, where, &c));
    SP_TRY(read_time(config, where, &c));
    SP_TRY(read_text_time(config, where, &c));
    SP_TRY(read_guidance(config, where, &c));
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
    return equal ? json_integer(values[0]) : sp_json_integers(values, count);
}

/* The depths of levels from..to, in the order of the file: a number where a block's transformers agree. */
static json_t *depth_list(const sp_unet_config *c, bool up)
{
    sp_json_made list = sp_json_make_list();
    for (int i = 0; i < c->levels; i++) {
        int level = up ? c->levels - 1 - i : i;
        sp_json_add(&list,
                    list_or_number(up ? c->up_depth[level] : c->down_depth[level], (int)c->layers[level] + up));
    }
    return sp_json_done(&list);
}

/* Whether list b has the members of list a the other way round. */
static bool is_mirrored(const json_t *a, const json_t *b)
{
    size_t count = json_array_size(a);
    bool same = json_array_size(b) == count;
    for (size_t i = 0; same && i < count; i++)
        same = json_equal(json_array_get(a, i), json_array_get(b, count - 1 - i));
    return same;
}

/* One number, one a level, or lists for both ways: the shortest that says it. */
static void write_depths(const sp_unet_config *c, sp_json_made *config)
{
    json_t *down = depth_list(c, false), *up = depth_list(c, true);
    bool plain = !is_nested(down) && is_mirrored(down, up), one = plain && json_array_size(down) > 0;
    for (size_t i = 1; i < json_array_size(down); i++)
        one = one && json_equal(json_array_get(down, i), json_array_get(down, 0));
    sp_json_put(config, depth_key, json_incref(one ? json_array_get(down, 0) : down));
    if (!plain) sp_json_put(config, reverse_key, json_incref(up));
    json_decref(down);
    json_decref(up);
}

static void write_text_time(const sp_unet_config *c, sp_json_made *config)
{
    sp_json_put(config, "addition_embed_type", json_string("text_time"));
    sp_json_put(config, "addition_time_embed_dim", json_integer(c->size_dim));
    sp_json_put(config, "projection_class_embeddings_input_dim",
                json_integer(c->text_dim + SP_UNET_SIZES * c->size_dim));
}

bool sp_unet_is_megapixel(const sp_unet_config *c)
{
    return c->size_dim > 0 && c->sample_size == 128;
}

json_t *sp_unet_config_write(const sp_unet_config *c)
{
    sp_json_made down = sp_json_make_list(), up = sp_json_make_list();
    for (int i = 0; i < c->levels; i++) {
        int back = c->levels - 1 - i;
        sp_json_add(&down, json_string(c->down_attention[i] ? "CrossAttnDownBlock2D" : "DownBlock2D"));
        sp_json_add(&up, json_string(c->up_attention[back] ? "CrossAttnUpBlock2D" : "UpBlock2D"));
    }
    char range[SP_GUIDANCE_RANGE_TEXT];
    bool whole_shift = c->freq_shift == (double)(int64_t)c->freq_shift;
    json_t *config = json_pack(
        "{s:s, s:o, s:I, s:I, s:o, s:o, s:o, s:s, s:o, s:o,"
        " s:I, s:I, s:f, s:s, s:I, s:o, s:b, s:b, s:b, s:o, s:o, s:s*}",
        "_class_name", "UNet2DConditionModel", "sample_size",
        c->sample_size ? json_integer(c->sample_size) : json_null(), "in_channels",
        (json_int_t)c->in_channels, "out_channels", (json_int_t)c->out_channels,
        "block_out_channels", sp_json_integers(c->channels, c->levels), "down_block_types", sp_json_done(&down),
        "up_block_types", sp_json_done(&up),
        "mid_block_type", c->middle_attention ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D", "layers_per_block",
        list_or_number(c->layers, c->levels), "attention_head_dim",
        list_or_number(c->heads, c->levels), "cross_attention_dim",
        (json_int_t)c->cross_attention_dim, "norm_num_groups", (json_int_t)c->groups, "norm_eps",
        c->epsilon, "act_fn", "silu", "downsample_padding", (json_int_t)c->downsample_padding,
        "freq_shift",
        whole_shift ? json_integer((json_int_t)c->freq_shift) : json_real(c->freq_shift),
        "flip_sin_to_cos", (int)c->cos_first, "use_linear_projection", (int)c->linear_projection,
        "upcast_attention", (int)c->upcast_attention, "time_embedding_dim",
        c->time_dim == 4 * c->channels[0] ? json_null() : json_integer(c->time_dim),
        "time_cond_proj_dim", c->time_cond_dim ? json_integer(c->time_cond_dim) : json_null(), "_guidance_range",
        c->guidance.high > 0 ? sp_guidance_range_text(&c->guidance, range) : NULL);
    sp_json_made made = {config, !config};
    write_depths(c, &made);
    if (c->size_dim) write_text_time(c, &made);
    return sp_json_done(&made);
}
