/* The UNet of Stable Diffusion 1, 2 and XL. */
#include "models/unet.h"

#include <math.h>

#include "models/layers.h"

/* Transformer2DModel's own epsilons, whatever norm_eps says. */
#define TRANSFORMER_GROUP_NORM_EPSILON 1e-6
#define TRANSFORMER_LAYER_NORM_EPSILON 1e-5

/* What every block needs to know. */
typedef struct {
    const sp_unet_config *c;
    const sp_block_options *options;
    int *blocks;              /* begun so far */
    sp_value *activated_time; /* [N,time_dim], SiLU of the embedding of time, sizes and pooled text */
    sp_value *encoder_hidden_states;
} unet_state;

/* The outputs of the way down, which the way up takes back last first. */
typedef struct {
    sp_value *value[1 + SP_MODEL_MAX_LEVELS * (SP_MODEL_MAX_LAYERS + 1)];
    int count;
} skip_stack;

static void push(skip_stack *skips, sp_value *value)
{
    skips->value[skips->count++] = value;
}

static sp_value *pop(skip_stack *skips)
{
    return skips->value[--skips->count];
}

static sp_value *sinusoidal(sp_builder *b, const sp_unet_config *c, sp_value *numbers, int64_t dim, double shift)
{
    return sp_sinusoidal(b, numbers,
                         (sp_sinusoidal_options){
                             .dim = dim, .cos_first = c->cos_first, .shift = shift, .max_period = 10000, .scale = 1});
}

/* linear_2(SiLU(linear_1 x)), of a scope. */
static sp_value *two_layers(sp_builder *b, const char *scope, sp_value *x, int64_t width)
{
    sp_scope_enter(b, "%s", scope);
    x = sp_linear_layer(b, "linear_2", sp_silu(b, sp_linear_layer(b, "linear_1", x, width)), width);
    sp_scope_leave(b);
    return x;
}

/* time_embedding: two layers over the sinusoidal embedding + cond_proj(timestep_cond). -> [N,time_dim] */
static sp_value *time_embedding(sp_builder *b, const sp_unet_config *c, const sp_unet_inputs *in)
{
    sp_value *t = sinusoidal(b, c, in->timestep, c->channels[0], c->freq_shift);
    if (in->timestep_cond) {
        sp_scope_enter(b, "time_embedding");
        t = sp_add(b, t, sp_linear_layer_without_bias(b, "cond_proj", in->timestep_cond, c->channels[0]));
        sp_scope_leave(b);
    }
    return two_layers(b, "time_embedding", t, c->time_dim);
}

/* add_embedding, "text_time": two layers over the pooled text and the embedding of each size. -> [N,time_dim] */
static sp_value *text_time_embedding(sp_builder *b, const sp_unet_config *c, const sp_unet_inputs *in)
{
    int64_t n = sp_dim(in->time_ids, 0);
    sp_value *sizes = sp_reshape(b, in->time_ids, sp_shape_of(n * SP_UNET_SIZES));
    sizes = sp_reshape(b, sinusoidal(b, c, sizes, c->size_dim, 0), sp_shape_of(n, SP_UNET_SIZES * c->size_dim));
    sp_value *both[] = {in->text_embeds, sizes};
    return two_layers(b, "add_embedding", sp_concat(b, 2, both, -1), c->time_dim);
}

/* With the SiLU that precedes every time_emb_proj. */
static sp_value *activated_time_embedding(sp_builder *b, const sp_unet_config *c, const sp_unet_inputs *in)
{
    sp_value *t = time_embedding(b, c, in);
    if (c->size_dim) t = sp_add(b, t, text_time_embedding(b, c, in));
    return sp_silu(b, t);
}

/* x + to_out(attention(to_q x, to_k source, to_v source)); source is x's own norm, or the
 * encoder's hidden states. */
static sp_value *attention_layer(sp_builder *b, const char *name, sp_value *x, sp_value *normed,
                                 sp_value *source, int64_t heads)
{
    if (!x) return NULL;
    int64_t channels = sp_channels(x);
    sp_scope_enter(b, "%s", name);
    sp_value *q = sp_linear_layer_without_bias(b, "to_q", normed, channels);
    sp_value *k = sp_linear_layer_without_bias(b, "to_k", source, channels);
    sp_value *v = sp_linear_layer_without_bias(b, "to_v", source, channels);
    double scale = 1 / sqrt((double)(channels / heads));
    sp_value *h = sp_attention(b, q, k, v, (sp_attention_options){.heads = (int)heads, .scale = scale});
    h = sp_linear_layer(b, "to_out.0", h, channels);
    sp_scope_leave(b);
    return sp_add(b, h, x);
}

/* BasicTransformerBlock: self-attention, cross-attention, GEGLU feed-forward, each after a layer
 * norm and with a residual. */
static sp_value *transformer_block(sp_builder *b, const unet_state *s, sp_value *x, int64_t heads)
{
    sp_value *normed = sp_layer_norm_layer(b, "norm1", x, TRANSFORMER_LAYER_NORM_EPSILON);
    x = attention_layer(b, "attn1", x, normed, normed, heads);
    normed = sp_layer_norm_layer(b, "norm2", x, TRANSFORMER_LAYER_NORM_EPSILON);
    x = attention_layer(b, "attn2", x, normed, s->encoder_hidden_states, heads);
    sp_value *h = sp_layer_norm_layer(b, "norm3", x, TRANSFORMER_LAYER_NORM_EPSILON);
    h = sp_geglu(b, sp_linear_layer(b, "ff.net.0.proj", h, 8 * sp_channels(x)));
    return sp_add(b, sp_linear_layer(b, "ff.net.2", h, sp_channels(x)), x);
}

/* Transformer2DModel over the pixels as tokens. proj_in and proj_out are linear layers or 1x1
 * convolutions, which differ in the shape of the stored weight alone. */
static sp_value *transformer(sp_builder *b, const unet_state *s, int level, int64_t depth, sp_value *x)
{
    if (!x) return NULL;
    int64_t height = sp_dim(x, 1), width = sp_dim(x, 2), channels = sp_channels(x);
    bool linear = s->c->linear_projection;
    sp_value *h = sp_group_norm_layer(b, "norm", x, s->c->groups, TRANSFORMER_GROUP_NORM_EPSILON);
    h = linear ? sp_linear_layer(b, "proj_in", sp_tokens_of(b, h), channels)
               : sp_tokens_of(b, sp_conv2d_layer(b, "proj_in", h, channels, 1));
    for (int64_t i = 0; i < depth; i++) {
        sp_scope_enter(b, "transformer_blocks.%d", (int)i);
        h = transformer_block(b, s, h, s->c->heads[level]);
        sp_scope_leave(b);
    }
    h = linear ? sp_picture_of(b, sp_linear_layer(b, "proj_out", h, channels), height, width)
               : sp_conv2d_layer(b, "proj_out", sp_picture_of(b, h, height, width), channels, 1);
    return sp_add(b, h, x);
}

static sp_value *resnet(sp_builder *b, const unet_state *s, int level, int64_t index, sp_value *x)
{
    sp_norm_settings norm = {s->c->groups, s->c->epsilon};
    return sp_resnet_block(b, index, x, s->activated_time, s->c->channels[level], norm);
}

static sp_value *attention(sp_builder *b, const unet_state *s, int level, int64_t index, int64_t depth, sp_value *x)
{
    sp_scope_enter(b, "attentions.%d", (int)index);
    x = transformer(b, s, level, depth, x);
    sp_scope_leave(b);
    return x;
}

/* A resnet and the transformer of `depth` blocks that follows it, 0: none; one block of gradient checkpointing. */
static sp_value *resnet_attention(sp_builder *b, const unet_state *s, int level, int64_t index, int64_t depth,
                                  sp_value *x)
{
    if (s->options) sp_block_begin(b, s->options, (*s->blocks)++);
    x = resnet(b, s, level, index, x);
    if (depth) x = attention(b, s, level, index, depth, x);
    if (s->options) sp_checkpoint_end(b);
    return x;
}

static sp_value *down_block(sp_builder *b, const unet_state *s, int level, sp_value *x,
                            skip_stack *skips)
{
    sp_scope_enter(b, "down_blocks.%d", level);
    for (int64_t i = 0; i < s->c->layers[level]; i++) {
        x = resnet_attention(b, s, level, i, s->c->down_attention[level] ? s->c->down_depth[level][i] : 0, x);
        push(skips, x);
    }
    if (level < s->c->levels - 1) {
        x = sp_downsample_layer(b, "downsamplers.0", x, s->c->downsample_padding);
        push(skips, x);
    }
    sp_scope_leave(b);
    return x;
}

static sp_value *middle_block(sp_builder *b, const unet_state *s, sp_value *x)
{
    int level = s->c->levels - 1;
    sp_scope_enter(b, "mid_block");
    x = resnet_attention(b, s, level, 0, s->c->middle_attention ? s->c->middle_depth : 0, x);
    if (s->c->middle_attention) x = resnet_attention(b, s, level, 1, 0, x);
    sp_scope_leave(b);
    return x;
}

/* The upsampler is told the size of the next skip, so odd sizes come back as they were. */
static sp_value *up_block(sp_builder *b, const unet_state *s, int level, sp_value *x,
                          skip_stack *skips)
{
    sp_scope_enter(b, "up_blocks.%d", s->c->levels - 1 - level);
    for (int64_t i = 0; i <= s->c->layers[level]; i++) {
        sp_value *both[2] = {x, pop(skips)};
        x = resnet_attention(b, s, level, i, s->c->up_attention[level] ? s->c->up_depth[level][i] : 0,
                             sp_concat(b, 2, both, -1));
    }
    if (level > 0) {
        const sp_value *next = skips->value[skips->count - 1];
        x = sp_upsample_layer(b, "upsamplers.0", x, sp_dim(next, 1), sp_dim(next, 2));
    }
    sp_scope_leave(b);
    return x;
}

static void check_inputs(sp_builder *b, const sp_unet_config *c, const sp_unet_inputs *in)
{
    int64_t n = sp_dim(in->sample, 0);
    sp_expect_shape(b, in->sample, "sample (as NHWC)", sp_shape_of(-1, -1, -1, c->in_channels));
    sp_expect_shape(b, in->timestep, "timestep", sp_shape_of(n));
    sp_expect_shape(b, in->encoder_hidden_states, "encoder_hidden_states", sp_shape_of(n, -1, c->cross_attention_dim));
    if (in->timestep_cond && !c->time_cond_dim)
        sp_builder_fail(b, SP_ARGUMENT,
                        "\"timestep_cond\" is given to a model without time_cond_proj_dim");
    sp_expect_shape(b, in->timestep_cond, "timestep_cond", sp_shape_of(n, c->time_cond_dim));
    if (!c->size_dim) return;
    sp_expect_shape(b, in->text_embeds, "text_embeds", sp_shape_of(n, c->text_dim));
    sp_expect_shape(b, in->time_ids, "time_ids", sp_shape_of(n, SP_UNET_SIZES));
}

/* To the middle block's output. */
static sp_value *way_down(sp_builder *b, unet_state *s, const sp_unet_inputs *in, skip_stack *skips)
{
    const sp_unet_config *c = s->c;
    s->encoder_hidden_states = in->encoder_hidden_states;
    s->activated_time = activated_time_embedding(b, c, in);
    sp_value *x = sp_conv2d_layer(b, "conv_in", in->sample, c->channels[0], 3);
    push(skips, x);
    for (int level = 0; level < c->levels; level++)
        x = down_block(b, s, level, x, skips);
    return middle_block(b, s, x);
}

int sp_unet_block_count(const sp_unet_config *c)
{
    int64_t count = c->middle_attention ? 2 : 1;
    for (int level = 0; level < c->levels; level++)
        count += 2 * c->layers[level] + 1;
    return (int)count;
}

sp_value *sp_unet_features(sp_builder *b, const sp_unet_config *c, const sp_block_options *options,
                           const sp_unet_inputs *in)
{
    check_inputs(b, c, in);
    if (sp_builder_failed(b)) return NULL;
    int blocks = 0;
    unet_state s = {.c = c, .options = options, .blocks = &blocks};
    skip_stack skips = {.count = 0};
    return way_down(b, &s, in, &skips);
}

sp_value *sp_unet(sp_builder *b, const sp_unet_config *c, const sp_block_options *options, const sp_unet_inputs *in)
{
    check_inputs(b, c, in);
    if (sp_builder_failed(b)) return NULL;
    int blocks = 0;
    unet_state s = {.c = c, .options = options, .blocks = &blocks};
    skip_stack skips = {.count = 0};
    sp_value *x = way_down(b, &s, in, &skips);
    for (int level = c->levels - 1; level >= 0; level--)
        x = up_block(b, &s, level, x, &skips);
    x = sp_silu(b, sp_group_norm_layer(b, "conv_norm_out", x, c->groups, c->epsilon));
    return sp_conv2d_layer(b, "conv_out", x, c->out_channels, 3);
}

/* ---- as a network ---- */

static sp_status read_config(const json_t *config, const char *where, void *out)
{
    return sp_unet_config_read(config, where, out);
}

static void list_inputs(const void *config, sp_ports *out)
{
    const sp_unet_config *c = config;
    out->port[out->count++] = (sp_port){.name = "sample",
                                        .kind = SP_PORT_PICTURE,
                                        .shape = sp_shape_of(SP_SIZE_N, c->in_channels, SP_SIZE_H, SP_SIZE_W),
                                        .rate = SP_RATE_STEP};
    out->port[out->count++] = (sp_port){
        .name = "timestep", .kind = SP_PORT_TIMESTEP, .shape = sp_shape_of(SP_SIZE_N), .rate = SP_RATE_STEP};
    out->port[out->count++] = (sp_port){.name = "encoder_hidden_states",
                                        .shape = sp_shape_of(SP_SIZE_N, SP_SIZE_L, c->cross_attention_dim),
                                        .rate = SP_RATE_PROMPT,
                                        .condition = true};
    if (c->time_cond_dim)
        out->port[out->count++] = (sp_port){.name = "timestep_cond",
                                            .shape = sp_shape_of(SP_SIZE_N, c->time_cond_dim),
                                            .rate = SP_RATE_STEP,
                                            .optional = true};
    if (!c->size_dim) return;
    out->port[out->count++] = (sp_port){.name = "text_embeds",
                                        .shape = sp_shape_of(SP_SIZE_N, c->text_dim),
                                        .rate = SP_RATE_PROMPT,
                                        .condition = true};
    out->port[out->count++] = (sp_port){.name = "time_ids",
                                        .shape = sp_shape_of(SP_SIZE_N, SP_UNET_SIZES),
                                        .rate = SP_RATE_PROMPT,
                                        .condition = true,
                                        .picture = true};
}

static void list_outputs(const void *config, sp_ports *out)
{
    const sp_unet_config *c = config;
    out->port[out->count++] = (sp_port){.name = "sample",
                                        .kind = SP_PORT_PICTURE,
                                        .shape = sp_shape_of(SP_SIZE_N, c->out_channels, SP_SIZE_H, SP_SIZE_W)};
}

static int64_t least_side(const void *config)
{
    return (int64_t)1 << (((const sp_unet_config *)config)->levels - 1);
}

static sp_unet_inputs inputs_of(const sp_values *in)
{
    return (sp_unet_inputs){.sample = sp_values_get(in, "sample"),
                            .timestep = sp_values_get(in, "timestep"),
                            .encoder_hidden_states = sp_values_get(in, "encoder_hidden_states"),
                            .timestep_cond = sp_values_get(in, "timestep_cond"),
                            .text_embeds = sp_values_get(in, "text_embeds"),
                            .time_ids = sp_values_get(in, "time_ids")};
}

static void build(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    const sp_unet_inputs inputs = inputs_of(in);
    sp_values_add(out, "sample", sp_unet(b, config, options, &inputs));
}

static void list_features(const void *config, sp_ports *out)
{
    const sp_unet_config *c = config;
    out->port[out->count++] = (sp_port){
        .name = "mid_block",
        .kind = SP_PORT_PICTURE,
        .shape = sp_shape_of(SP_SIZE_N, c->channels[c->levels - 1], SP_SIZE_H, SP_SIZE_W)}; /* smaller ones */
}

static void build_features(sp_builder *b, const void *config, const void *options, const sp_values *in,
                           sp_values *out)
{
    const sp_unet_inputs inputs = inputs_of(in);
    sp_values_add(out, "mid_block", sp_unet_features(b, config, options, &inputs));
}

const sp_network sp_unet_network = {.name = "unet",
                                    .read = read_config,
                                    .inputs = list_inputs,
                                    .outputs = list_outputs,
                                    .least_side = least_side,
                                    .build = build};

const sp_network sp_unet_features_network = {.name = "unet",
                                             .read = read_config,
                                             .inputs = list_inputs,
                                             .outputs = list_features,
                                             .least_side = least_side,
                                             .build = build_features};
