/* Stable Diffusion 3's transformer in checkpoints of one file: names in both directions, configuration, tensors. */
#include "checkpoints/original_mmdit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "checkpoints/original_parts.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))
enum { PARTS = 3, HEAD_CHANNELS = 64, MAX_NAME = 512 };

/* ---- names ---- */

/* Beginnings of names, diffusers' and Stability's. */
typedef struct {
    const char *own, *original;
    int part, parts; /* as in sp_original_mmdit; parts 0: 1 */
    bool swapped;    /* of a block's: in the last one alone */
} name_rule;
#define FUSED(Q, K, V, original)                                                                   \
    {Q, original, 0, PARTS, false}, {K, original, 1, PARTS, false},                                \
    {                                                                                              \
        V, original, 2, PARTS, false                                                               \
    }
static const name_rule outside[] = {
    {"pos_embed.pos_embed", "pos_embed", 0, 0, false},
    {"pos_embed.proj.", "x_embedder.proj.", 0, 0, false},
    {"time_text_embed.timestep_embedder.linear_1.", "t_embedder.mlp.0.", 0, 0, false},
    {"time_text_embed.timestep_embedder.linear_2.", "t_embedder.mlp.2.", 0, 0, false},
    {"time_text_embed.text_embedder.linear_1.", "y_embedder.mlp.0.", 0, 0, false},
    {"time_text_embed.text_embedder.linear_2.", "y_embedder.mlp.2.", 0, 0, false},
    {"context_embedder.", "context_embedder.", 0, 0, false},
    {"norm_out.linear.", "final_layer.adaLN_modulation.1.", 0, 0, true},
    {"proj_out.", "final_layer.linear.", 0, 0, false},
};
static const name_rule inside[] = {
    {"norm1.linear.", "x_block.adaLN_modulation.1.", 0, 0, false},
    {"norm1_context.linear.", "context_block.adaLN_modulation.1.", 0, 0, true},
    FUSED("attn.to_q.", "attn.to_k.", "attn.to_v.", "x_block.attn.qkv."),
    FUSED("attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj.", "context_block.attn.qkv."),
    FUSED("attn2.to_q.", "attn2.to_k.", "attn2.to_v.", "x_block.attn2.qkv."),
    {"attn.norm_q.", "x_block.attn.ln_q.", 0, 0, false},
    {"attn.norm_k.", "x_block.attn.ln_k.", 0, 0, false},
    {"attn.norm_added_q.", "context_block.attn.ln_q.", 0, 0, false},
    {"attn.norm_added_k.", "context_block.attn.ln_k.", 0, 0, false},
    {"attn2.norm_q.", "x_block.attn2.ln_q.", 0, 0, false},
    {"attn2.norm_k.", "x_block.attn2.ln_k.", 0, 0, false},
    {"attn.to_out.0.", "x_block.attn.proj.", 0, 0, false},
    {"attn.to_add_out.", "context_block.attn.proj.", 0, 0, false},
    {"attn2.to_out.0.", "x_block.attn2.proj.", 0, 0, false},
    {"ff.net.0.proj.", "x_block.mlp.fc1.", 0, 0, false},
    {"ff.net.2.", "x_block.mlp.fc2.", 0, 0, false},
    {"ff_context.net.0.proj.", "context_block.mlp.fc1.", 0, 0, false},
    {"ff_context.net.2.", "context_block.mlp.fc2.", 0, 0, false},
};

static const name_rule *find_rule(const char *name, const name_rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sp_starts_with(name, rules[i].own)) return &rules[i];
    return NULL;
}

bool sp_original_mmdit_of(const char *name, int64_t blocks, sp_original_mmdit *out)
{
    long long block = -1;
    int length = 0;
    bool in_block = sscanf(name, "transformer_blocks.%4lld.%n", &block, &length) == 1 && length;
    const char *rest = name + length;
    const name_rule *rule = in_block ? find_rule(rest, inside, COUNT(inside))
                                     : find_rule(name, outside, COUNT(outside));
    if (!rule || strlen(name) >= sizeof out->name - 32) return false;
    *out = (sp_original_mmdit){.part = rule->part, .parts = rule->parts ? rule->parts : 1};
    out->swapped = rule->swapped && (!in_block || block == blocks - 1);
    rest += strlen(rule->own);
    if (in_block)
        snprintf(out->name, sizeof out->name, "joint_blocks.%lld.%s%s", block, rule->original,
                 rest);
    else
        snprintf(out->name, sizeof out->name, "%s%s", rule->original, rest);
    return true;
}

/* ---- where it lies ---- */

typedef struct {
    const sp_tensor_file *file;
    const char *prefix; /* NULL: the file has none */
    bool diffusers;
} place;

/* A ControlNet has the beginning alone. */
static place place_of(const sp_tensor_file *file)
{
    static const struct {
        const char *prefix, *first, *last;
        bool diffusers;
    } places[] = {
        {SP_ORIGINAL_UNET, "joint_blocks.0.x_block.attn.qkv.weight", "final_layer.linear.weight",
         false},
        {"", "joint_blocks.0.x_block.attn.qkv.weight", "final_layer.linear.weight", false},
        {"", "transformer_blocks.0.attn.add_q_proj.weight", "norm_out.linear.weight", true},
    };
    for (size_t i = 0; i < COUNT(places); i++)
        if (sp_original_find(file, "%s%s", places[i].prefix, places[i].first) &&
            sp_original_find(file, "%s%s", places[i].prefix, places[i].last) &&
            (!places[i].diffusers || sp_original_find(file, "pos_embed.pos_embed")))
            return (place){file, places[i].prefix, places[i].diffusers};
    return (place){.file = file};
}

bool sp_original_has_mmdit(const sp_tensor_file *file)
{
    return place_of(file).prefix;
}

/* What a parameter is in this file; false if it has no name there. */
static bool look_up(const place *p, const char *name, int64_t blocks, sp_original_mmdit *out)
{
    if (!p->diffusers) return sp_original_mmdit_of(name, blocks, out);
    *out = (sp_original_mmdit){.parts = 1};
    snprintf(out->name, sizeof out->name, "%s", name);
    return strlen(name) < sizeof out->name;
}

/* ---- configuration ---- */

/* The name of a parameter's tensor in the file. */
static void file_name(const place *p, const char *name, char *out, size_t size)
{
    sp_original_mmdit original = {.name = ""};
    look_up(p, name, 0, &original);
    snprintf(out, size, "%s%s", p->prefix, original.name);
}

static const sp_tensor *find(const place *p, const char *format, long long block)
{
    char name[128], full[256];
    snprintf(name, sizeof name, format, block);
    file_name(p, name, full, sizeof full);
    return sp_tensor_file_find(p->file, full);
}

static sp_status dim_of(const place *p, const char *name, int axis, int64_t *out)
{
    char full[256];
    file_name(p, name, full, sizeof full);
    return sp_original_dim(p->file, full, axis, out);
}

/* The positions of a side, of which the table has the square. */
static sp_status read_positions(const place *p, sp_mmdit_config *c)
{
    int64_t all;
    SP_TRY(dim_of(p, "pos_embed.pos_embed", 1, &all));
    c->positions = llround(sqrt((double)all));
    if (c->positions * c->positions == all) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: tensor \"%spos_embed\" has %lld positions, which is no square",
                   sp_tensor_file_path(p->file), p->prefix, (long long)all);
}

static sp_status read_blocks(const place *p, sp_mmdit_config *c)
{
    while (c->blocks <= SP_MMDIT_MAX_BLOCKS &&
           find(p, "transformer_blocks.%lld.attn.to_q.weight", c->blocks)) {
        if (c->blocks < SP_MMDIT_MAX_BLOCKS)
            c->dual[c->blocks] = find(p, "transformer_blocks.%lld.attn2.to_q.weight", c->blocks);
        c->blocks++;
    }
    if (c->blocks <= SP_MMDIT_MAX_BLOCKS) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the transformer has more than %d blocks",
                   sp_tensor_file_path(p->file), SP_MMDIT_MAX_BLOCKS);
}

static sp_status read_heads(const place *p, int64_t width, sp_mmdit_config *c)
{
    c->qk_norm = find(p, "transformer_blocks.%lld.attn.norm_q.weight", 0);
    c->head_dim = width < HEAD_CHANNELS ? width : HEAD_CHANNELS;
    if (c->qk_norm) SP_TRY(dim_of(p, "transformer_blocks.0.attn.norm_q.weight", 0, &c->head_dim));
    c->heads = c->head_dim ? width / c->head_dim : 0;
    if (c->heads && c->heads * c->head_dim == width) return SP_OK;
    return sp_fail(
        SP_FORMAT,
        "%s: the transformer is %lld wide, which is no multiple of its heads of %lld channels",
        sp_tensor_file_path(p->file), (long long)width, (long long)c->head_dim);
}

static sp_status read_channels(const place *p, sp_mmdit_config *c)
{
    int64_t out;
    SP_TRY(dim_of(p, "pos_embed.proj.weight", 1, &c->in_channels));
    SP_TRY(dim_of(p, "pos_embed.proj.weight", 2, &c->patch_size));
    SP_TRY(dim_of(p, "proj_out.weight", 0, &out));
    c->out_channels = c->patch_size ? out / c->patch_size / c->patch_size : 0;
    if (c->out_channels && c->out_channels * c->patch_size * c->patch_size == out) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: the transformer gives %lld numbers a patch, whose side is %lld",
                   sp_tensor_file_path(p->file), (long long)out, (long long)c->patch_size);
}

sp_status sp_original_mmdit_config(const sp_tensor_file *file, json_t **out)
{
    enum { USUAL = 128 };
    const place p = place_of(file);
    sp_mmdit_config c = {0};
    int64_t width;
    SP_TRY(read_channels(&p, &c));
    SP_TRY(read_positions(&p, &c));
    SP_TRY(read_blocks(&p, &c));
    SP_TRY(dim_of(&p, "pos_embed.proj.weight", 0, &width));
    SP_TRY(read_heads(&p, width, &c));
    SP_TRY(dim_of(&p, "context_embedder.weight", 1, &c.context_dim));
    SP_TRY(dim_of(&p, "time_text_embed.text_embedder.linear_1.weight", 1, &c.pooled_dim));
    c.sample_size = c.positions < USUAL / c.patch_size ? c.positions * c.patch_size : USUAL;
    *out = sp_mmdit_config_write(&c);
    return *out ? SP_OK : SP_MEMORY;
}

/* ---- reading ---- */

static sp_status fail_pieces(const sp_tensor_file *file, const char *name, const sp_tensor *tensor,
                             int pieces)
{
    return sp_fail(
        SP_FORMAT,
        "%s: tensor \"%s\" has the shape %s, and its first dimension should be divisible by %d",
        sp_tensor_file_path(file), name, sp_shape_text(tensor->shape), pieces);
}

static bool is_divisible(const sp_tensor *tensor, int pieces)
{
    return tensor->shape.rank >= 1 && tensor->shape.dim[0] % pieces == 0;
}

/* A copy with its halves exchanged. */
static sp_status swap_halves(const sp_tensor *tensor, sp_tensor *out)
{
    size_t half = sp_tensor_bytes(tensor) / 2;
    SP_TRY(sp_tensor_create(tensor->dtype, tensor->shape, out));
    memcpy(out->data, (const char *)tensor->data + half, half);
    memcpy((char *)out->data + half, tensor->data, half);
    return SP_OK;
}

/* Adds the parameter that `tensor` of the file holds. */
static sp_status add_found(sp_weights *weights, const place *p, const char *name,
                           const sp_original_mmdit *original, const sp_tensor *tensor)
{
    sp_tensor own = *tensor;
    int pieces = original->swapped ? 2 : original->parts;
    own.owned = false;
    if (!is_divisible(tensor, pieces)) return fail_pieces(p->file, original->name, tensor, pieces);
    if (original->swapped) {
        SP_TRY(swap_halves(tensor, &own));
    } else if (original->parts > 1) {
        own.shape.dim[0] /= original->parts;
        own.data = (char *)tensor->data + (size_t)original->part * sp_tensor_bytes(&own);
    }
    return sp_weights_add(weights, name, own);
}

static sp_status add_parameter(sp_weights *weights, const place *p, const char *name,
                               int64_t blocks, sp_dictionary *used)
{
    sp_original_mmdit original;
    char full[256];
    if (!look_up(p, name, blocks, &original))
        return SP_OK; /* missing, which is said of all in one place */
    snprintf(full, sizeof full, "%s%s", p->prefix, original.name);
    const sp_tensor *tensor = sp_tensor_file_find(p->file, full);
    if (!tensor) return SP_OK;
    SP_TRY(sp_dictionary_put(used, full, (void *)(uintptr_t)tensor));
    return add_found(weights, p, name, &original, tensor);
}

/* A file that is a transformer alone may hold other things, too, in a whole one what lies beside it is not its own. */
static sp_status add_unused(sp_weights *weights, const place *p, const sp_dictionary *used)
{
    for (size_t i = 0; i < sp_tensor_file_count(p->file); i++) {
        const char *name = sp_tensor_file_name(p->file, i);
        sp_tensor view = *sp_tensor_file_at(p->file, i);
        view.owned = false;
        if (strlen(name) >= MAX_NAME || !sp_starts_with(name, p->prefix) ||
            sp_dictionary_get(used, name))
            continue;
        if (!*p->prefix &&
            (sp_starts_with(name, SP_ORIGINAL_VAE) || sp_starts_with(name, "text_encoders.")))
            continue;
        if (!sp_weights_find(weights, name)) SP_TRY(sp_weights_add(weights, name, view));
    }
    return SP_OK;
}

sp_status sp_add_original_mmdit(sp_weights *weights, const sp_tensor_file *file)
{
    const place p = place_of(file);
    sp_component_config config = {.kind = SP_COMPONENT_TRANSFORMER};
    json_t *json;
    sp_graph *graph;
    SP_TRY(sp_original_mmdit_config(file, &json));
    sp_status status = sp_mmdit_config_read(json, sp_tensor_file_path(file), &config.transformer);
    json_decref(json);
    SP_TRY(status);
    SP_TRY(sp_component_graph(&config, &graph));
    sp_dictionary *used = sp_dictionary_create();
    status = used ? SP_OK : SP_MEMORY;
    for (int i = 0; i < graph->value_count && !status; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER)
            status =
                add_parameter(weights, &p, graph->values[i]->name, config.transformer.blocks, used);
    if (!status) status = add_unused(weights, &p, used);
    sp_dictionary_destroy(used);
    sp_graph_destroy(graph);
    return status;
}

/* ---- writing ---- */

/* The other parameters of a fused tensor follow the queries' in the table. */
static void sibling(const char *query, int part, char *out, size_t size)
{
    const char *rest = strchr(strchr(query, '.') + 1, '.') + 1;
    const name_rule *rule = find_rule(rest, inside, COUNT(inside));
    snprintf(out, size, "%.*s%s%s", (int)(rest - query), query, rule[part].own,
             rest + strlen(rule->own));
}

/* Queries, keys and values below each other, *out new. */
static sp_status fuse(const sp_weights *weights, const char *query, sp_tensor *out)
{
    char name[MAX_NAME];
    *out = (sp_tensor){0};
    for (int i = 0; i < PARTS; i++) {
        sp_tensor part;
        sibling(query, i, name, sizeof name);
        SP_TRY(sp_weights_take(weights, name, &part));
        sp_shape shape = part.shape;
        shape.dim[0] *= PARTS;
        sp_status status = i ? SP_OK : sp_tensor_create(part.dtype, shape, out);
        int64_t count = sp_tensor_count(&part);
        if (!status)
            sp_convert_elements((char *)out->data + (size_t)(i * count) * sp_dtype_size(out->dtype),
                                out->dtype, part.data, part.dtype, count);
        sp_tensor_free(&part);
        sp_weights_drop(weights, name);
        SP_TRY(status);
    }
    return SP_OK;
}

static sp_status write_swapped(sp_weights *out, const char *as, const sp_weights *weights,
                               const char *name)
{
    sp_tensor own, swapped;
    SP_TRY(sp_weights_take(weights, name, &own));
    sp_status status = swap_halves(&own, &swapped);
    sp_tensor_free(&own);
    return status ? status : sp_weights_add(out, as, swapped);
}

static sp_status write_parameter(sp_weights *out, const sp_component *transformer, const char *name)
{
    const sp_weights *weights = transformer->weights;
    sp_original_mmdit original;
    char as[256];
    if (!sp_original_mmdit_of(name, transformer->config.transformer.blocks, &original))
        return sp_fail(SP_INTERNAL, "%s: \"%s\" has no name in original checkpoints",
                       transformer->folder, name);
    snprintf(as, sizeof as, SP_ORIGINAL_UNET "%s", original.name);
    if (original.swapped) return write_swapped(out, as, weights, name);
    if (original.parts == 1) return sp_weights_add_view(out, as, weights, name);
    if (original.part) return SP_OK; /* with the queries */
    sp_tensor fused;
    sp_status status = fuse(weights, name, &fused);
    if (!status) return sp_weights_add(out, as, fused);
    sp_tensor_free(&fused);
    return status;
}

sp_status sp_original_mmdit_write(sp_weights *out, const sp_component *transformer)
{
    sp_graph *graph;
    SP_TRY(sp_component_graph(&transformer->config, &graph));
    sp_status status = SP_OK;
    for (int i = 0; i < graph->value_count && !status; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER)
            status = write_parameter(out, transformer, graph->values[i]->name);
    sp_graph_destroy(graph);
    return status;
}
