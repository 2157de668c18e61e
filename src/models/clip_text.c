/* CLIP's text encoder. */
#include "models/clip_text.h"

#include <string.h>

#include "models/encoder_layer.h"
#include "models/layers.h"

#define MAX_TEXT_LAYERS 256
#define MAX_VOCABULARY (1 << 24)

static sp_status read_activation(const json_t *config, const char *where, sp_unary_kind *out)
{
    const char *name;
    SP_TRY(sp_json_text(config, "hidden_act", "quick_gelu", where, &name));
    if (strcmp(name, "quick_gelu") == 0) {
        *out = SP_UNARY_QUICK_GELU;
    } else if (strcmp(name, "gelu") == 0) {
        *out = SP_UNARY_GELU;
    } else {
        return sp_fail(
            SP_UNSUPPORTED,
            "%s: \"hidden_act\" is \"%.64s\", and only quick_gelu and gelu are supported", where,
            name);
    }
    return SP_OK;
}

/* A token id that the model itself has no use for; a list (several ends) counts by its first. */
static int64_t token_id(const json_t *config, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_array(value)) value = json_array_get(value, 0);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

sp_status sp_clip_text_config_read(const json_t *config, const char *where,
                                   sp_clip_text_config *out)
{
    sp_clip_text_config c = {0};
    if (!json_is_object(config)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", where);
    SP_TRY(sp_config_int(config, "vocab_size", 49408, 1, MAX_VOCABULARY, where, &c.vocabulary));
    SP_TRY(sp_config_int(config, "hidden_size", 512, 1, SP_MODEL_MAX_CHANNELS, where, &c.width));
    SP_TRY(sp_config_int(config, "intermediate_size", 2048, 1, 8 * SP_MODEL_MAX_CHANNELS, where,
                         &c.feed_forward));
    SP_TRY(sp_config_int(config, "num_hidden_layers", 12, 1, MAX_TEXT_LAYERS, where, &c.layers));
    SP_TRY(
        sp_config_int(config, "num_attention_heads", 8, 1, SP_MODEL_MAX_CHANNELS, where, &c.heads));
    SP_TRY(sp_config_int(config, "max_position_embeddings", 77, 1, 1 << 20, where, &c.max_tokens));
    SP_TRY(sp_config_int(config, "projection_dim", 512, 0, 1 << 20, where, &c.projection));
    SP_TRY(sp_config_double(config, "layer_norm_eps", 1e-5, 0, 1, where, &c.epsilon));
    SP_TRY(read_activation(config, where, &c.activation));
    if (c.width % c.heads)
        return sp_fail(SP_FORMAT,
                       "%s: \"hidden_size\" %lld cannot be split into %lld \"num_attention_heads\"",
                       where, (long long)c.width, (long long)c.heads);
    c.begin_id = token_id(config, "bos_token_id", 49406);
    c.end_id = token_id(config, "eos_token_id", 49407);
    c.pad_id = token_id(config, "pad_token_id", 1);
    *out = c;
    return SP_OK;
}

sp_status sp_clip_text_config_load(const char *path, sp_clip_text_config *out)
{
    json_t *config;
    SP_TRY(sp_json_load(path, &config));
    sp_status status = sp_clip_text_config_read(config, path, out);
    json_decref(config);
    return status;
}

json_t *sp_clip_text_config_write(const sp_clip_text_config *c)
{
    const char *activation = c->activation == SP_UNARY_GELU ? "gelu" : "quick_gelu";
    return json_pack(
        "{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:I, s:I, s:I}",
        "architectures", "CLIPTextModel", "model_type", "clip_text_model", "torch_dtype", "float32",
        "vocab_size", (json_int_t)c->vocabulary, "hidden_size", (json_int_t)c->width,
        "intermediate_size", (json_int_t)c->feed_forward, "num_hidden_layers",
        (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads,
        "max_position_embeddings", (json_int_t)c->max_tokens, "projection_dim",
        (json_int_t)c->projection, "layer_norm_eps", c->epsilon, "hidden_act", activation,
        "bos_token_id", (json_int_t)c->begin_id, "eos_token_id", (json_int_t)c->end_id,
        "pad_token_id", (json_int_t)c->pad_id);
}

/* Token embedding + the first L position embeddings -> [N,L,width]. */
static sp_value *embeddings(sp_builder *b, const sp_clip_text_config *c, sp_value *ids)
{
    sp_scope_enter(b, "embeddings");
    sp_value *tokens = sp_embedding_layer(b, "token_embedding", ids, c->vocabulary, c->width);
    sp_value *positions =
        sp_parameter(b, "position_embedding.weight", sp_shape_of(c->max_tokens, c->width));
    if (sp_dim(ids, 1) < c->max_tokens) positions = sp_slice(b, positions, 0, 0, sp_dim(ids, 1));
    sp_scope_leave(b);
    return sp_add(b, tokens, positions);
}

static sp_encoder_layer layer_of(const sp_clip_text_config *c)
{
    return (sp_encoder_layer){c->width, c->heads, c->feed_forward, c->epsilon, c->activation, true};
}

/* What is asked for, and what of it is at fault. */
static sp_clip_text_options checked(sp_builder *b, const sp_clip_text_config *c, const sp_clip_text_options *options,
                                    const sp_value *ids)
{
    const sp_clip_text_options asked = options ? *options : (sp_clip_text_options){0};
    sp_expect_shape(b, ids, "input_ids", sp_shape_of(-1, -1));
    if (ids && sp_dim(ids, 1) > c->max_tokens)
        sp_builder_fail(
            b, SP_SHAPE,
            "\"input_ids\" has rows of %lld tokens, and the text encoder takes at most %lld",
            (long long)sp_dim(ids, 1), (long long)c->max_tokens);
    if (asked.clip_skip < 0 || asked.clip_skip >= c->layers)
        sp_builder_fail(b, SP_ARGUMENT,
                        "`clip_skip` is %lld, and must lie in 0..%lld for this text encoder",
                        (long long)asked.clip_skip, (long long)c->layers - 1);
    return asked;
}

static sp_value *final_norm(sp_builder *b, const sp_clip_text_config *c, sp_value *x)
{
    return sp_layer_norm_layer(b, "final_layer_norm", x, c->epsilon);
}

/* The states as the layers leave them: those asked for, and of all layers where `all` is not NULL. */
static sp_value *raw_states(sp_builder *b, const sp_clip_text_config *c, int64_t clip_skip, sp_value *ids,
                            sp_value **all)
{
    const sp_encoder_layer layer = layer_of(c);
    int64_t asked = c->layers - clip_skip;
    sp_value *x = sp_encoder_layers(b, &layer, 0, asked, embeddings(b, c, ids));
    if (all) *all = sp_encoder_layers(b, &layer, asked, c->layers, x);
    return x;
}

sp_value *sp_clip_text(sp_builder *b, const sp_clip_text_config *c, const sp_clip_text_options *options,
                       sp_value *ids)
{
    const sp_clip_text_options asked = checked(b, c, options, ids);
    if (sp_builder_failed(b)) return NULL;
    sp_value *x = raw_states(b, c, asked.clip_skip, ids, NULL);
    return asked.raw ? x : final_norm(b, c, x);
}

int64_t sp_clip_text_end(const sp_clip_text_config *c, const int32_t *ids, int64_t length)
{
    int64_t largest = 0;
    for (int64_t i = 0; i < length; i++) {
        if (c->end_id != 2 && ids[i] == c->end_id) return i;
        if (ids[i] > ids[largest]) largest = i;
    }
    return c->end_id == 2 ? largest : 0;
}

/* ---- as a network ---- */

static sp_status read_config(const json_t *config, const char *where, void *out)
{
    return sp_clip_text_config_read(config, where, out);
}

static void list_inputs(const void *config, sp_ports *out)
{
    (void)config;
    out->port[out->count++] = (sp_port){.name = "input_ids",
                                        .kind = SP_PORT_IDS,
                                        .shape = sp_shape_of(SP_SIZE_N, SP_SIZE_L),
                                        .rate = SP_RATE_STEP};
}

static void list_outputs(const void *config, sp_ports *out)
{
    const sp_clip_text_config *c = config;
    out->port[out->count++] =
        (sp_port){.name = "last_hidden_state", .shape = sp_shape_of(SP_SIZE_N, SP_SIZE_L, c->width)};
}

static void build(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    sp_values_add(out, "last_hidden_state", sp_clip_text(b, config, options, sp_values_get(in, "input_ids")));
}

const sp_network sp_clip_text_network = {.name = "text-encoder",
                                         .read = read_config,
                                         .inputs = list_inputs,
                                         .outputs = list_outputs,
                                         .build = build};

/* ---- with a vector for the whole text ---- */

static void list_projection_inputs(const void *config, sp_ports *out)
{
    list_inputs(config, out);
    out->port[out->count++] = (sp_port){
        .name = "end_rows", .kind = SP_PORT_IDS, .shape = sp_shape_of(SP_SIZE_N), .rate = SP_RATE_STEP};
}

static void list_tower_outputs(const void *config, sp_ports *out)
{
    const sp_clip_text_config *c = config;
    out->port[out->count++] =
        (sp_port){.name = "text_embeds", .shape = sp_shape_of(SP_SIZE_N, c->projection), .rate = SP_RATE_STEP};
}

static void list_projection_outputs(const void *config, sp_ports *out)
{
    list_outputs(config, out);
    list_tower_outputs(config, out);
}

/* all: [N,L,width] after every layer. */
static sp_value *text_embeds(sp_builder *b, const sp_clip_text_config *c, sp_value *all, sp_value *ends)
{
    sp_expect_shape(b, ends, "end_rows", sp_shape_of(sp_dim(all, 0)));
    if (sp_builder_failed(b)) return NULL;
    sp_value *rows = sp_embedding(b, ends, sp_reshape(b, all, sp_shape_of(-1, c->width)));
    return sp_linear_layer_without_bias(b, "text_projection", rows, c->projection);
}

static void build_tower(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    sp_value *x = sp_clip_text(b, config, options, sp_values_get(in, "input_ids"));
    if (!sp_builder_failed(b))
        sp_values_add(out, "text_embeds", text_embeds(b, config, x, sp_values_get(in, "end_rows")));
}

static void build_projection(sp_builder *b, const void *config, const void *options, const sp_values *in,
                             sp_values *out)
{
    const sp_clip_text_config *c = config;
    sp_value *ids = sp_values_get(in, "input_ids"), *all;
    const sp_clip_text_options asked = checked(b, c, options, ids);
    if (sp_builder_failed(b)) return;
    sp_value *states = raw_states(b, c, asked.clip_skip, ids, &all), *normed = final_norm(b, c, all);
    if (!asked.raw) states = asked.clip_skip ? final_norm(b, c, states) : normed;
    sp_values_add(out, "last_hidden_state", states);
    sp_values_add(out, "text_embeds", text_embeds(b, c, normed, sp_values_get(in, "end_rows")));
}

const sp_network sp_clip_text_projection_network = {.name = "text-encoder-2",
                                                    .read = read_config,
                                                    .inputs = list_projection_inputs,
                                                    .outputs = list_projection_outputs,
                                                    .build = build_projection};

const sp_network sp_clip_text_tower_network = {
    .name = "text tower", .inputs = list_projection_inputs, .outputs = list_tower_outputs, .build = build_tower};
