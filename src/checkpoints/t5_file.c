/* T5's encoder opened: folders as transformers writes them, and single files. */
#include "checkpoints/t5_file.h"

#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/model_path.h"
#include "checkpoints/scaled_weights.h"
#include "models/quantise.h"

static const char place[] = "text_encoder_3";
static const char first_query[] = "encoder.block.0.layer.0.SelfAttention.q.weight";
enum { NAME = 256, USUAL_MAX_DISTANCE = 128 };
static const double usual_epsilon = 1e-6;

void sp_t5_file_close(sp_t5_file *t5)
{
    sp_weights_destroy(t5->weights);
    sp_tensor_file_close(t5->file);
    sp_free(t5->folder);
    *t5 = (sp_t5_file){0};
}

/* ---- what a file tells ---- */

/* What stands before transformers' names in the file, of so many bytes; NULL: T5 is not in it. */
static const char *find_prefix(const sp_tensor_file *file, size_t *length)
{
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if (!sp_ends_with(name, first_query)) continue;
        *length = strlen(name) - strlen(first_query);
        return name;
    }
    return NULL;
}

static sp_status shape_of(const sp_t5_file *t5, const char *name, sp_shape *out)
{
    const sp_tensor *tensor = sp_weights_find(t5->weights, name);
    if (!tensor)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" of T5's encoder is missing", sp_tensor_file_path(t5->file), name);
    if (tensor->shape.rank != 2 || tensor->shape.dim[0] < 1 || tensor->shape.dim[1] < 1)
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, expected two dimensions",
                       sp_tensor_file_path(t5->file), name, sp_shape_text(tensor->shape));
    *out = tensor->shape;
    return SP_OK;
}

static int64_t count_layers(const sp_t5_file *t5)
{
    char name[NAME];
    for (int64_t i = 0;; i++) {
        snprintf(name, sizeof name, "encoder.block.%lld.layer.0.layer_norm.weight", (long long)i);
        if (!sp_weights_find(t5->weights, name)) return i;
    }
}

/* Into a config.json, which is then read like any other. */
static sp_status config_of_shapes(sp_t5_file *t5)
{
    sp_shape table, query, bias, inner;
    const char *where = sp_tensor_file_path(t5->file);
    if (sp_weights_find(t5->weights, "encoder.block.0.layer.1.DenseReluDense.wi.weight"))
        return sp_fail(SP_UNSUPPORTED, "%s: is of T5 before v1.1, whose feed-forward layers have no gate", where);
    SP_TRY(shape_of(t5, "shared.weight", &table));
    SP_TRY(shape_of(t5, first_query, &query));
    SP_TRY(shape_of(t5, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &bias));
    SP_TRY(shape_of(t5, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", &inner));
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:f}", "feed_forward_proj", "gated-gelu",
                             "vocab_size", (json_int_t)table.dim[0], "d_model", (json_int_t)table.dim[1], "d_kv",
                             (json_int_t)(query.dim[0] / bias.dim[1]), "num_heads", (json_int_t)bias.dim[1], "d_ff",
                             (json_int_t)inner.dim[0], "num_layers", (json_int_t)count_layers(t5),
                             "relative_attention_num_buckets", (json_int_t)bias.dim[0],
                             "relative_attention_max_distance", (int)USUAL_MAX_DISTANCE, "layer_norm_epsilon",
                             usual_epsilon);
    sp_status status = json ? sp_t5_config_read(json, where, &t5->config) : SP_MEMORY;
    json_decref(json);
    return status;
}

/* ---- weights ---- */

/* Views by transformers' names. The table stands under one name or the other, or both. */
static sp_status add_views(sp_t5_file *t5)
{
    size_t length = 0;
    const char *first = find_prefix(t5->file, &length), *where = sp_tensor_file_path(t5->file);
    if (!first) return sp_fail(SP_FORMAT, "%s: has no T5 encoder: no tensor \"%s\"", where, first_query);
    SP_TRY(sp_weights_create(&t5->weights));
    sp_weights_set_file(t5->weights, t5->file);
    for (size_t i = 0; i < sp_tensor_file_count(t5->file); i++) {
        const char *name = sp_tensor_file_name(t5->file, i);
        if (strncmp(name, first, length) != 0) continue;
        sp_tensor view = *sp_tensor_file_at(t5->file, i);
        view.owned = false;
        bool table = strcmp(name + length, "encoder.embed_tokens.weight") == 0;
        bool used = table || strcmp(name + length, "shared.weight") == 0 || sp_starts_with(name + length, "encoder.");
        if (used) SP_TRY(sp_weights_add(t5->weights, table ? "shared.weight" : name + length, view));
    }
    return SP_OK;
}

static sp_status check_parameter(const sp_t5_file *t5, const sp_value *value)
{
    const sp_tensor *tensor = sp_weights_find(t5->weights, value->name);
    const char *where = sp_tensor_file_path(t5->file);
    if (!tensor) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" of T5's encoder is missing", where, value->name);
    if (!sp_shape_equal(tensor->shape, value->shape))
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, and the config asks for %s", where, value->name,
                       sp_shape_text(tensor->shape), sp_shape_text(value->shape));
    if (sp_dtype_is_float(tensor->dtype) || sp_dtype_is_quantised(tensor->dtype)) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has the type %s, and weights must be of a float type", where,
                   value->name, sp_dtype_name(tensor->dtype));
}

static sp_status check_parameters(const sp_t5_file *t5)
{
    sp_graph *graph;
    SP_TRY(sp_scaled_weights_refuse(t5->file));
    SP_TRY(sp_network_least_graph(&sp_t5_network, &t5->config, &graph));
    sp_status status = SP_OK;
    for (int i = 0; i < graph->value_count && !status; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER) status = check_parameter(t5, graph->values[i]);
    if (!status) status = sp_quantise_weights(graph, t5->weights, false);
    sp_graph_destroy(graph);
    return status;
}

sp_status sp_t5_file_quantise(sp_t5_file *t5)
{
    sp_graph *graph;
    SP_TRY(sp_network_least_graph(&sp_t5_network, &t5->config, &graph));
    sp_status status = sp_quantise_weights(graph, t5->weights, true);
    sp_graph_destroy(graph);
    return status;
}

/* ---- opening ---- */

static sp_status check_class(const json_t *config, const char *where)
{
    const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    if (!name || strcmp(name, "T5EncoderModel") == 0 || strcmp(name, "T5ForConditionalGeneration") == 0) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: is a %.64s, expected a T5EncoderModel", where, name);
}

static sp_status read_config(sp_t5_file *t5)
{
    json_t *json = NULL;
    char *path = sp_path_join(t5->folder, "config.json");
    sp_status status = path ? sp_json_load(path, &json) : SP_MEMORY;
    if (!status) status = check_class(json, path);
    if (!status) status = sp_t5_config_read(json, path, &t5->config);
    json_decref(json);
    sp_free(path);
    return status;
}

static sp_status open_folder(const char *path, sp_t5_file *t5)
{
    char *inside = sp_path_join(path, place);
    if (inside && sp_path_is_folder(inside)) {
        t5->folder = inside;
    } else {
        sp_free(inside);
        t5->folder = inside ? sp_strdup(path) : NULL;
    }
    if (!t5->folder) return SP_MEMORY;
    SP_TRY(read_config(t5));
    SP_TRY(sp_tensor_file_open_folder(t5->folder, "model", "pytorch_model", &t5->file));
    SP_TRY(add_views(t5));
    return check_parameters(t5);
}

static sp_status open_file(const char *path, sp_t5_file *t5)
{
    t5->folder = sp_strdup(path);
    if (!t5->folder) return SP_MEMORY;
    SP_TRY(sp_tensor_file_open(path, &t5->file));
    SP_TRY(add_views(t5));
    SP_TRY(config_of_shapes(t5));
    return check_parameters(t5);
}

sp_status sp_t5_file_open(const char *path, sp_t5_file *out)
{
    char *meant;
    *out = (sp_t5_file){0};
    SP_TRY(sp_model_path(path, &meant));
    sp_status status = sp_path_is_folder(meant) ? open_folder(meant, out) : open_file(meant, out);
    sp_free(meant);
    if (status) sp_t5_file_close(out);
    return status;
}
