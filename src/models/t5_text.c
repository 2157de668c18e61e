/* T5's encoder. */
#include "models/t5_text.h"

#include <math.h>
#include <string.h>

#include "models/layers.h"

enum { MAX_LAYERS = 256, MAX_VOCABULARY = 1 << 24, MAX_BUCKETS = 1 << 12 };

/* ---- configuration ---- */

static sp_status check_form(const json_t *config, const char *where)
{
    const char *form;
    SP_TRY(sp_json_text(config, "feed_forward_proj", "relu", where, &form));
    if (strcmp(form, "gated-gelu") == 0) return SP_OK;
    return sp_fail(SP_UNSUPPORTED,
                   "%s: \"feed_forward_proj\" is \"%.64s\", and only gated-gelu, T5 v1.1's, is supported", where, form);
}

sp_status sp_t5_config_read(const json_t *config, const char *where, sp_t5_config *out)
{
    sp_t5_config c = {0};
    if (!json_is_object(config)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", where);
    SP_TRY(check_form(config, where));
    SP_TRY(sp_config_int(config, "vocab_size", 32128, 1, MAX_VOCABULARY, where, &c.vocabulary));
    SP_TRY(sp_config_int(config, "d_model", 512, 1, SP_MODEL_MAX_CHANNELS, where, &c.width));
    SP_TRY(sp_config_int(config, "d_kv", 64, 1, SP_MODEL_MAX_CHANNELS, where, &c.head_dim));
    SP_TRY(sp_config_int(config, "num_heads", 8, 1, SP_MODEL_MAX_CHANNELS, where, &c.heads));
    SP_TRY(sp_config_int(config, "d_ff", 2048, 1, 8 * SP_MODEL_MAX_CHANNELS, where, &c.feed_forward));
    SP_TRY(sp_config_int(config, "num_layers", 6, 1, MAX_LAYERS, where, &c.layers));
    SP_TRY(sp_config_int(config, "relative_attention_num_buckets", 32, 4, MAX_BUCKETS, where, &c.buckets));
    SP_TRY(sp_config_int(config, "relative_attention_max_distance", 128, 2, 1 << 20, where, &c.max_distance));
    SP_TRY(sp_config_double(config, "layer_norm_epsilon", 1e-6, 0, 1, where, &c.epsilon));
    if (c.buckets % 4 || c.max_distance <= c.buckets / 4)
        return sp_fail(SP_FORMAT,
                       "%s: %lld \"relative_attention_num_buckets\" up to the distance %lld, expected a multiple of 4 "
                       "and more than a quarter of it",
                       where, (long long)c.buckets, (long long)c.max_distance);
    *out = c;
    return SP_OK;
}

/* In single precision, as transformers works it out. */
static int64_t bucket_of_distance(const sp_t5_config *c, int64_t distance)
{
    int64_t half = c->buckets / 2, exact = half / 2;
    if (distance < exact) return distance;
    float share = logf((float)distance / (float)exact) / (float)log((double)c->max_distance / (double)exact);
    int64_t bucket = exact + (int64_t)(share * (float)(half - exact));
    return bucket < half - 1 ? bucket : half - 1;
}

void sp_t5_buckets(const sp_t5_config *c, int64_t length, int32_t *out)
{
    for (int64_t i = 0; i < length; i++)
        for (int64_t j = 0; j < length; j++) {
            int64_t behind = j > i ? c->buckets / 2 : 0;
            out[i * length + j] = (int32_t)(behind + bucket_of_distance(c, j > i ? j - i : i - j));
        }
}

/* ---- attention with a bias ---- */

/* What all blocks share: a bias becomes channels of queries and keys. Query i of head h has the row B[h,i,:] behind its
 * own channels and key j has 1 in channel j there, so that q k^T is what it was plus B[h,i,j], exactly; values have
 * zeros. One text pass pays for the longer sums, and the kernels of attention stay one. */
typedef struct {
    sp_value *rows, *ones, *zeros; /* [N,L,heads,L] each */
} bias_channels;

static bias_channels make_bias(sp_builder *b, const sp_t5_config *c, int64_t batch, sp_value *buckets,
                               sp_value *identity)
{
    int64_t length = sp_dim(identity, 0);
    const sp_shape by_token = sp_shape_of(batch, length, c->heads, length),
                   by_head = sp_shape_of(batch, c->heads, length, length);
    sp_value *table = sp_parameter(b, "relative_attention_bias.weight", sp_shape_of(c->buckets, c->heads));
    sp_value *rows = sp_permute(b, sp_embedding(b, buckets, table), (const int[]){0, 2, 1});
    return (bias_channels){
        .rows = sp_fill(b, rows, by_token, 1),
        .ones = sp_permute(b, sp_fill(b, identity, by_head, 1), (const int[]){0, 2, 1, 3}),
        .zeros = sp_reshape(b, sp_fill(b, identity, by_head, 0), by_token),
    };
}

/* x [N,L,heads*head_dim] with more channels behind each head's. */
static sp_value *widen(sp_builder *b, const sp_t5_config *c, sp_value *x, sp_value *more)
{
    if (!x || !more) return NULL;
    int64_t batch = sp_dim(x, 0), length = sp_dim(x, 1);
    x = sp_reshape(b, x, sp_shape_of(batch, length, c->heads, c->head_dim));
    x = sp_concat(b, 2, (sp_value *[]){x, more}, 3);
    return sp_reshape(b, x, sp_shape_of(batch, length, c->heads * (c->head_dim + length)));
}

/* Each head's own channels. */
static sp_value *narrow(sp_builder *b, const sp_t5_config *c, sp_value *x)
{
    if (!x) return NULL;
    int64_t batch = sp_dim(x, 0), length = sp_dim(x, 1);
    x = sp_reshape(b, x, sp_shape_of(batch, length, c->heads, c->head_dim + length));
    x = sp_slice(b, x, 3, 0, c->head_dim);
    return sp_reshape(b, x, sp_shape_of(batch, length, c->heads * c->head_dim));
}

static sp_value *self_attention(sp_builder *b, const sp_t5_config *c, sp_value *x, const bias_channels *bias)
{
    int64_t inner = c->heads * c->head_dim;
    sp_value *q = widen(b, c, sp_linear_layer_without_bias(b, "q", x, inner), bias->rows);
    sp_value *k = widen(b, c, sp_linear_layer_without_bias(b, "k", x, inner), bias->ones);
    sp_value *v = widen(b, c, sp_linear_layer_without_bias(b, "v", x, inner), bias->zeros);
    const sp_attention_options options = {.heads = (int)c->heads, .scale = 1};
    return sp_linear_layer_without_bias(b, "o", narrow(b, c, sp_attention(b, q, k, v, options)), c->width);
}

/* ---- blocks ---- */

static sp_value *norm(sp_builder *b, const sp_t5_config *c, const char *name, sp_value *x)
{
    sp_scope_enter(b, "%s", name);
    sp_value *gamma = sp_parameter(b, "weight", sp_shape_of(c->width));
    sp_scope_leave(b);
    return sp_layer_norm(b, x, gamma, NULL, (sp_layer_norm_options){c->epsilon, true});
}

static sp_value *feed_forward(sp_builder *b, const sp_t5_config *c, sp_value *x)
{
    sp_scope_enter(b, "DenseReluDense");
    sp_value *gate = sp_unary(b, SP_UNARY_GELU_TANH, sp_linear_layer_without_bias(b, "wi_0", x, c->feed_forward));
    x = sp_mul(b, gate, sp_linear_layer_without_bias(b, "wi_1", x, c->feed_forward));
    x = sp_linear_layer_without_bias(b, "wo", x, c->width);
    sp_scope_leave(b);
    return x;
}

/* The first block makes the bias. */
static sp_value *block(sp_builder *b, const sp_t5_config *c, int64_t index, sp_value *x, const sp_values *in,
                       bias_channels *bias)
{
    sp_scope_enter(b, "block.%lld", (long long)index);
    sp_scope_enter(b, "layer.0");
    sp_value *normed = norm(b, c, "layer_norm", x);
    sp_scope_enter(b, "SelfAttention");
    if (index == 0 && x)
        *bias = make_bias(b, c, sp_dim(x, 0), sp_values_get(in, "position_buckets"), sp_values_get(in, "identity"));
    x = sp_add(b, self_attention(b, c, normed, bias), x);
    sp_scope_leave(b);
    sp_scope_leave(b);
    sp_scope_enter(b, "layer.1");
    x = sp_add(b, feed_forward(b, c, norm(b, c, "layer_norm", x)), x);
    sp_scope_leave(b);
    sp_scope_leave(b);
    return x;
}

static bool check_inputs(sp_builder *b, const sp_values *in)
{
    sp_value *ids = sp_values_get(in, "input_ids");
    int64_t length = ids && ids->shape.rank == 2 ? sp_dim(ids, 1) : -1;
    sp_expect_shape(b, ids, "input_ids", sp_shape_of(-1, -1));
    sp_expect_shape(b, sp_values_get(in, "position_buckets"), "position_buckets", sp_shape_of(length, length));
    sp_expect_shape(b, sp_values_get(in, "identity"), "identity", sp_shape_of(length, length));
    if (length > SP_T5_MAX_TOKENS)
        sp_builder_fail(b, SP_SHAPE, "\"input_ids\" has rows of %lld tokens, and T5 is given at most %d",
                        (long long)length, SP_T5_MAX_TOKENS);
    return !sp_builder_failed(b);
}

static sp_value *encode(sp_builder *b, const sp_t5_config *c, const sp_values *in)
{
    bias_channels bias = {0};
    if (!check_inputs(b, in)) return NULL;
    sp_value *x = sp_embedding_layer(b, "shared", sp_values_get(in, "input_ids"), c->vocabulary, c->width);
    sp_scope_enter(b, "encoder");
    for (int64_t i = 0; i < c->layers; i++)
        x = block(b, c, i, x, in, &bias);
    x = norm(b, c, "final_layer_norm", x);
    sp_scope_leave(b);
    return x;
}

/* ---- as a network ---- */

static sp_status read_config(const json_t *config, const char *where, void *out)
{
    return sp_t5_config_read(config, where, out);
}

static void list_inputs(const void *config, sp_ports *out)
{
    (void)config;
    const sp_port ports[] = {
        {.name = "input_ids", .kind = SP_PORT_IDS, .shape = sp_shape_of(SP_SIZE_N, SP_SIZE_L), .rate = SP_RATE_STEP},
        {.name = "position_buckets",
         .kind = SP_PORT_IDS,
         .shape = sp_shape_of(SP_SIZE_L, SP_SIZE_L),
         .rate = SP_RATE_STEP},
        {.name = "identity", .shape = sp_shape_of(SP_SIZE_L, SP_SIZE_L), .rate = SP_RATE_STEP}};
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++)
        out->port[out->count++] = ports[i];
}

static void list_outputs(const void *config, sp_ports *out)
{
    const sp_t5_config *c = config;
    out->port[out->count++] =
        (sp_port){.name = "last_hidden_state", .shape = sp_shape_of(SP_SIZE_N, SP_SIZE_L, c->width)};
}

static void build(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    (void)options;
    sp_values_add(out, "last_hidden_state", encode(b, config, in));
}

const sp_network sp_t5_network = {.name = "text-encoder-3",
                                  .read = read_config,
                                  .inputs = list_inputs,
                                  .outputs = list_outputs,
                                  .build = build};
