/* Stable Diffusion 3's transformer. x is the stream of the picture, y that of the text; both are [N,L,width]. */
#include "models/mmdit.h"

#include <math.h>

#include "models/layers.h"

static const double norm_epsilon = 1e-6;
enum { TIME_WIDTH = 256 }; /* of the sinusoids */

static int64_t width_of(const sp_mmdit_config *c)
{
    return c->heads * c->head_dim;
}

/* ---- what is embedded ---- */

/* linear_1, SiLU, linear_2. */
static sp_value *embedder(sp_builder *b, const char *name, sp_value *x, int64_t width)
{
    sp_scope_enter(b, "%s", name);
    x = sp_linear_layer(b, "linear_2", sp_silu(b, sp_linear_layer(b, "linear_1", x, width)), width);
    sp_scope_leave(b);
    return x;
}

/* Time and pooled text, which all blocks are conditioned on: SiLU of their sum, [N,width]. */
static sp_value *conditioning(sp_builder *b, const sp_mmdit_config *c, sp_value *timestep, sp_value *pooled)
{
    const sp_sinusoidal_options options = {
        .dim = TIME_WIDTH, .cos_first = true, .max_period = 10000, .scale = 1};
    int64_t width = width_of(c);
    sp_scope_enter(b, "time_text_embed");
    sp_value *time = embedder(b, "timestep_embedder", sp_sinusoidal(b, timestep, options), width);
    sp_value *text = embedder(b, "text_embedder", pooled, width);
    sp_scope_leave(b);
    return sp_silu(b, sp_add(b, time, text));
}

/* The middle of the table, as many positions as the picture has patches: [height * width of them, width]. It is a
 * formula's, and no training moves it. */
static sp_value *positions(sp_builder *b, const sp_mmdit_config *c, int64_t height, int64_t width)
{
    int64_t side = c->positions, channels = width_of(c);
    if (height > side || width > side) {
        sp_builder_fail(b, SP_SHAPE,
                        "\"sample\" has %lld x %lld patches, and the transformer knows %lld positions a side",
                        (long long)width, (long long)height, (long long)side);
        return NULL;
    }
    sp_value *table = sp_parameter(b, "pos_embed", sp_shape_of(1, side * side, channels));
    table = sp_reshape(b, table, sp_shape_of(side, side, channels));
    table = sp_slice(b, table, 0, (side - height) / 2, height);
    table = sp_slice(b, table, 1, (side - width) / 2, width);
    return sp_stop_gradient(b, sp_reshape(b, table, sp_shape_of(height * width, channels)));
}

/* [sin | cos] of one place, `count` of each. */
static void waves(double place, int64_t count, float *out)
{
    for (int64_t k = 0; k < count; k++) {
        double phase = place * pow(10000, -(double)k / (double)count);
        out[k] = (float)sin(phase);
        out[count + k] = (float)cos(phase);
    }
}

sp_status sp_mmdit_positions(const sp_mmdit_config *c, sp_tensor *out)
{
    int64_t side = c->positions, width = width_of(c);
    double unit = (double)(c->sample_size / c->patch_size) / (double)side;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(1, side * side, width), out));
    for (int64_t y = 0; y < side; y++)
        for (int64_t x = 0; x < side; x++) {
            float *row = (float *)out->data + (y * side + x) * width;
            waves((double)x * unit, width / 4, row);
            waves((double)y * unit, width / 4, row + width / 2);
        }
    return SP_OK;
}

static sp_value *patches(sp_builder *b, const sp_mmdit_config *c, sp_value *sample)
{
    int64_t size = c->patch_size;
    sp_scope_enter(b, "pos_embed");
    sp_value *x = sp_conv2d_layer_as(b, "proj", sample, width_of(c), size, (sp_conv2d_options){.stride = (int)size});
    sp_value *where = positions(b, c, sp_dim(x, 1), sp_dim(x, 2));
    sp_scope_leave(b);
    return sp_add(b, sp_tokens_of(b, x), where);
}

/* A token is a patch, its rows one after the other, which are brought to those of the picture. */
static sp_value *unpatch(sp_builder *b, const sp_mmdit_config *c, sp_value *x, int64_t height, int64_t width)
{
    int64_t size = c->patch_size, samples = sp_dim(x, 0), channels = c->out_channels;
    x = sp_reshape(b, x, sp_shape_of(samples * height / size, width / size, size, size * channels));
    x = sp_permute(b, x, (int[]){0, 2, 1, 3});
    return sp_reshape(b, x, sp_shape_of(samples, height, width, channels));
}

/* ---- adaptive norms ---- */

enum { MOST_CHUNKS = 9 };
typedef struct {
    sp_value *chunk[MOST_CHUNKS]; /* [N,width] each */
} modulation;

/* The linear layer that makes `count` vectors of the conditioning. */
static modulation modulate(sp_builder *b, const char *name, sp_value *conditioning, int count)
{
    modulation out = {{NULL}};
    int64_t width = sp_channels(conditioning);
    sp_value *all = sp_linear_layer(b, name, conditioning, count * width);
    for (int i = 0; i < count && all; i++)
        out.chunk[i] = sp_slice(b, all, 1, i * width, width);
    return out;
}

static sp_value *plain_norm(sp_builder *b, sp_value *x)
{
    return sp_layer_norm(b, x, NULL, NULL, (sp_layer_norm_options){.epsilon = norm_epsilon});
}

static sp_value *scale_and_shift(sp_builder *b, sp_value *x, sp_value *scale, sp_value *shift)
{
    return sp_modulate(b, x, scale, shift, NULL, 1);
}

/* x + gate * change */
static sp_value *add_gated(sp_builder *b, sp_value *x, sp_value *gate, sp_value *change)
{
    return sp_modulate(b, change, gate, NULL, x, 0);
}

/* ---- attention ---- */

/* Queries, keys and values of a stream. */
typedef struct {
    const char *q, *k, *v, *norm_q, *norm_k;
} projection_names;
static const projection_names own = {"to_q", "to_k", "to_v", "norm_q", "norm_k"},
                              added = {"add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"};
typedef struct {
    sp_value *q, *k, *v;
} projections;

/* Each head by its root mean square. */
static sp_value *head_norm(sp_builder *b, const sp_mmdit_config *c, const char *name, sp_value *x)
{
    if (!c->qk_norm || !x) return x;
    const sp_shape shape = x->shape;
    sp_scope_enter(b, "%s", name);
    sp_value *gamma = sp_parameter(b, "weight", sp_shape_of(c->head_dim));
    sp_scope_leave(b);
    x = sp_reshape(b, x, sp_shape_of(shape.dim[0], shape.dim[1], c->heads, c->head_dim));
    x = sp_layer_norm(b, x, gamma, NULL, (sp_layer_norm_options){norm_epsilon, true});
    return sp_reshape(b, x, shape);
}

static projections project(sp_builder *b, const sp_mmdit_config *c, const projection_names *names, sp_value *x)
{
    int64_t width = width_of(c);
    return (projections){
        .q = head_norm(b, c, names->norm_q, sp_linear_layer(b, names->q, x, width)),
        .k = head_norm(b, c, names->norm_k, sp_linear_layer(b, names->k, x, width)),
        .v = sp_linear_layer(b, names->v, x, width),
    };
}

/* The last token stands for so many. */
static sp_value *attend(sp_builder *b, const sp_mmdit_config *c, const projections *p, int64_t copies)
{
    const sp_attention_options options = {
        .heads = (int)c->heads, .scale = 1 / sqrt((double)c->head_dim), .last_key_copies = copies};
    return sp_attention(b, p->q, p->k, p->v, options);
}

/* The picture alone. */
static sp_value *self_attention(sp_builder *b, const sp_mmdit_config *c, sp_value *x)
{
    sp_scope_enter(b, "attn2");
    const projections p = project(b, c, &own, x);
    x = sp_linear_layer(b, "to_out.0", attend(b, c, &p, 1), width_of(c));
    sp_scope_leave(b);
    return x;
}

/* Both streams look at both, the picture's tokens before the text's, whose last one stands for `copies`. *y NULL
 * afterwards: the last block has no use for the text any more. */
static void joint_attention(sp_builder *b, const sp_mmdit_config *c, bool last, int64_t copies, sp_value **x,
                            sp_value **y)
{
    int64_t picture = sp_dim(*x, 1), text = sp_dim(*y, 1), width = width_of(c);
    sp_scope_enter(b, "attn");
    const projections of_x = project(b, c, &own, *x), of_y = project(b, c, &added, *y);
    const projections both = {.q = sp_concat(b, 2, (sp_value *[]){of_x.q, of_y.q}, 1),
                              .k = sp_concat(b, 2, (sp_value *[]){of_x.k, of_y.k}, 1),
                              .v = sp_concat(b, 2, (sp_value *[]){of_x.v, of_y.v}, 1)};
    sp_value *seen = attend(b, c, &both, copies);
    *x = sp_linear_layer(b, "to_out.0", sp_slice(b, seen, 1, 0, picture), width);
    *y = last ? NULL : sp_linear_layer(b, "to_add_out", sp_slice(b, seen, 1, picture, text), width);
    sp_scope_leave(b);
}

/* ---- blocks ---- */

static sp_value *feed_forward(sp_builder *b, const char *name, sp_value *x)
{
    int64_t width = sp_channels(x);
    sp_scope_enter(b, "%s", name);
    x = sp_unary(b, SP_UNARY_GELU_TANH, sp_linear_layer(b, "net.0.proj", x, 4 * width));
    x = sp_linear_layer(b, "net.2", x, width);
    sp_scope_leave(b);
    return x;
}

/* norm, scale and shift, feed-forward, gate; chunks shift, scale, gate of `m` from `first` on. */
static sp_value *add_feed_forward(sp_builder *b, const char *name, sp_value *x, const modulation *m, int first)
{
    sp_value *h = scale_and_shift(b, plain_norm(b, x), m->chunk[first + 1], m->chunk[first]);
    return add_gated(b, x, m->chunk[first + 2], feed_forward(b, name, h));
}

enum { SHIFT, SCALE, GATE, MLP_SHIFT, DUAL_SHIFT = 6, DUAL_SCALE, DUAL_GATE, SIMPLE = 6 };
enum { LAST_SCALE, LAST_SHIFT, OF_LAST }; /* of the last block's text, and of what follows the blocks */

static void block(sp_builder *b, const sp_mmdit_config *c, int64_t index, int64_t copies, sp_value *conditioning,
                  sp_value **x, sp_value **y)
{
    bool last = index == c->blocks - 1, dual = c->dual[index];
    sp_scope_enter(b, "transformer_blocks.%d", (int)index);
    const modulation of_x = modulate(b, "norm1.linear", conditioning, dual ? MOST_CHUNKS : SIMPLE),
                     of_y = modulate(b, "norm1_context.linear", conditioning, last ? OF_LAST : SIMPLE);
    sp_value *norm = plain_norm(b, *x), *text_norm = plain_norm(b, *y);
    sp_value *seen = scale_and_shift(b, norm, of_x.chunk[SCALE], of_x.chunk[SHIFT]);
    sp_value *text_seen = scale_and_shift(b, text_norm, of_y.chunk[last ? LAST_SCALE : SCALE],
                                          of_y.chunk[last ? LAST_SHIFT : SHIFT]);
    joint_attention(b, c, last, copies, &seen, &text_seen);
    *x = add_gated(b, *x, of_x.chunk[GATE], seen);
    if (dual) {
        sp_value *h = scale_and_shift(b, norm, of_x.chunk[DUAL_SCALE], of_x.chunk[DUAL_SHIFT]);
        *x = add_gated(b, *x, of_x.chunk[DUAL_GATE], self_attention(b, c, h));
    }
    *x = add_feed_forward(b, "ff", *x, &of_x, MLP_SHIFT);
    if (!last) {
        *y = add_gated(b, *y, of_y.chunk[GATE], text_seen);
        *y = add_feed_forward(b, "ff_context", *y, &of_y, MLP_SHIFT);
    }
    sp_scope_leave(b);
}

/* ---- as a network ---- */

static void check_inputs(sp_builder *b, const sp_mmdit_config *c, const sp_values *in)
{
    const sp_value *sample = sp_values_get(in, "sample");
    int64_t n = sp_dim(sample, 0);
    sp_expect_shape(b, sample, "sample (as NHWC)", sp_shape_of(-1, -1, -1, c->in_channels));
    sp_expect_shape(b, sp_values_get(in, "timestep"), "timestep", sp_shape_of(n));
    sp_expect_shape(b, sp_values_get(in, "encoder_hidden_states"), "encoder_hidden_states",
                    sp_shape_of(n, -1, c->context_dim));
    sp_expect_shape(b, sp_values_get(in, "pooled_projections"), "pooled_projections", sp_shape_of(n, c->pooled_dim));
    if (sp_builder_failed(b)) return;
    if (sp_dim(sample, 1) % c->patch_size || sp_dim(sample, 2) % c->patch_size)
        sp_builder_fail(b, SP_SHAPE,
                        "\"sample\" has %lld x %lld pixels, which must be multiples of the patches' side, %lld",
                        (long long)sp_dim(sample, 2), (long long)sp_dim(sample, 1), (long long)c->patch_size);
}

/* The text without what is the same as its last token. Such tokens, which have no positions, stay the same through all
 * blocks, so one of them is enough where attention counts it as often. */
static sp_value *distinct_tokens(sp_builder *b, sp_value *text, int64_t same)
{
    int64_t length = sp_dim(text, 1);
    if (same <= 1) return text;
    if (same <= length) return sp_slice(b, text, 1, 0, length - same + 1);
    sp_builder_fail(b, SP_SHAPE, "\"encoder_hidden_states\" has %lld tokens, and %lld are said to be the same",
                    (long long)length, (long long)same);
    return NULL;
}

static void build(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    const sp_mmdit_config *c = config;
    const sp_block_options *blocks = options;
    check_inputs(b, c, in);
    if (sp_builder_failed(b)) return;
    sp_value *sample = sp_values_get(in, "sample"), *x = patches(b, c, sample);
    sp_value *time = conditioning(b, c, sp_values_get(in, "timestep"), sp_values_get(in, "pooled_projections"));
    int64_t same = blocks ? blocks->same_tokens : 0;
    sp_value *text = distinct_tokens(b, sp_values_get(in, "encoder_hidden_states"), same);
    sp_value *y = sp_linear_layer(b, "context_embedder", text, width_of(c));
    for (int64_t i = 0; i < c->blocks; i++) {
        if (blocks && blocks->left_out >> i & 1) continue;
        if (blocks) sp_block_begin(b, blocks, (int)i);
        block(b, c, i, same, time, &x, &y);
        if (blocks) sp_checkpoint_end(b);
    }
    const modulation m = modulate(b, "norm_out.linear", time, OF_LAST);
    x = scale_and_shift(b, plain_norm(b, x), m.chunk[LAST_SCALE], m.chunk[LAST_SHIFT]);
    x = sp_linear_layer(b, "proj_out", x, c->patch_size * c->patch_size * c->out_channels);
    sp_values_add(out, "sample", unpatch(b, c, x, sp_dim(sample, 1), sp_dim(sample, 2)));
}

static sp_status read_config(const json_t *config, const char *where, void *out)
{
    return sp_mmdit_config_read(config, where, out);
}

static void list_inputs(const void *config, sp_ports *out)
{
    const sp_mmdit_config *c = config;
    const sp_port ports[] = {
        {.name = "sample",
         .kind = SP_PORT_PICTURE,
         .shape = sp_shape_of(SP_SIZE_N, c->in_channels, SP_SIZE_H, SP_SIZE_W),
         .rate = SP_RATE_STEP},
        {.name = "timestep", .kind = SP_PORT_TIMESTEP, .shape = sp_shape_of(SP_SIZE_N), .rate = SP_RATE_STEP},
        {.name = "encoder_hidden_states",
         .shape = sp_shape_of(SP_SIZE_N, SP_SIZE_L, c->context_dim),
         .rate = SP_RATE_PROMPT,
         .condition = true},
        {.name = "pooled_projections",
         .shape = sp_shape_of(SP_SIZE_N, c->pooled_dim),
         .rate = SP_RATE_PROMPT,
         .condition = true},
    };
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++)
        out->port[out->count++] = ports[i];
}

static void list_outputs(const void *config, sp_ports *out)
{
    const sp_mmdit_config *c = config;
    out->port[out->count++] = (sp_port){.name = "sample",
                                        .kind = SP_PORT_PICTURE,
                                        .shape = sp_shape_of(SP_SIZE_N, c->out_channels, SP_SIZE_H, SP_SIZE_W)};
}

static int64_t least_side(const void *config)
{
    return ((const sp_mmdit_config *)config)->patch_size;
}

const sp_network sp_mmdit_network = {.name = "transformer",
                                     .read = read_config,
                                     .inputs = list_inputs,
                                     .outputs = list_outputs,
                                     .least_side = least_side,
                                     .build = build};
