/* Shapes and weights of towers. */
#include "checkpoints/tower_weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "graph/graph.h"

enum { MOST_LAYERS = 256, MOST_PATCH = 512, MOST_SIDE = 8192 };
static const char positions_name[] = "embeddings.position_embedding.weight";

/* ---- tensors ---- */

static const sp_tensor *find(const sp_tower *tower, const char *parameter, sp_tower_source *source)
{
    sp_tower_source_of(tower, parameter, source);
    return sp_tensor_file_find(tower->file, source->name);
}

bool sp_tower_has(const sp_tower *tower, const char *parameter)
{
    return find(tower, parameter, &(sp_tower_source){0});
}

int64_t sp_tower_layers(const sp_tower *tower)
{
    char name[64];
    int layers = 0;
    do
        snprintf(name, sizeof name, "encoder.layers.%d.layer_norm1.weight", layers);
    while (layers <= MOST_LAYERS && sp_tower_has(tower, name) && ++layers);
    return layers;
}

/* Its shape without dimensions of 1 before it, of which it keeps `rank`. */
static sp_shape bare(sp_shape shape, int rank)
{
    while (shape.rank > rank && shape.dim[0] == 1) {
        memmove(shape.dim, shape.dim + 1, sizeof *shape.dim * (size_t)--shape.rank);
        shape.dim[shape.rank] = 0;
    }
    return shape;
}

/* ---- shapes ---- */

/* The parameter's dimension `axis` of `rank`, in 1..most. */
static sp_status dim_of(const sp_tower *tower, const char *parameter, int rank, int axis, int64_t most, int64_t *out)
{
    const char *path = sp_tensor_file_path(tower->file);
    sp_tower_source source;
    const sp_tensor *tensor = find(tower, parameter, &source);
    if (!tensor) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing", path, source.name);
    sp_shape shape = bare(tensor->shape, rank);
    if (source.transposed) axis = rank - 1 - axis;
    if (shape.rank != rank || shape.dim[axis] < 1 || shape.dim[axis] > most)
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, expected %d dimensions, of which number %d is 1 "
                       "to %lld", path, source.name, sp_shape_text(tensor->shape), rank, axis, (long long)most);
    *out = shape.dim[axis];
    return SP_OK;
}

/* Patches a side, of the positions of patches and a class token. */
static sp_status positions_side(const sp_tower *tower, int64_t *out)
{
    int64_t rows;
    sp_tower_source source;
    SP_TRY(dim_of(tower, positions_name, 2, 0, MOST_SIDE * MOST_SIDE, &rows));
    *out = (int64_t)sqrt((double)(rows - 1));
    if (*out >= 1 && *out * *out == rows - 1) return SP_OK;
    find(tower, positions_name, &source);
    return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has %lld positions, expected a square number and one more",
                   sp_tensor_file_path(tower->file), source.name, (long long)rows);
}

static sp_status no_layers(const sp_tower *tower, int64_t layers)
{
    if (layers >= 1 && layers <= MOST_LAYERS) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: the %s tower has %s", sp_tensor_file_path(tower->file),
                   tower->kind == SP_TOWER_IMAGE ? "image" : "text", layers ? "too many layers" : "no layers");
}

sp_status sp_tower_image_shapes(const sp_tower *tower, sp_vit_config *out)
{
    static const char patches[] = "embeddings.patch_embedding.weight", fc1[] = "encoder.layers.0.mlp.fc1.weight";
    bool clip = sp_tower_form_is_clip(tower->form);
    int64_t side;
    *out = (sp_vit_config){.patch_bias = !clip, .pre_norm = clip, .layers = sp_tower_layers(tower)};
    SP_TRY(no_layers(tower, out->layers));
    SP_TRY(dim_of(tower, patches, 4, 0, SP_MODEL_MAX_CHANNELS, &out->layer.width));
    SP_TRY(dim_of(tower, patches, 4, 3, MOST_PATCH, &out->patch_size));
    SP_TRY(dim_of(tower, fc1, 2, 0, 8 * SP_MODEL_MAX_CHANNELS, &out->layer.feed_forward));
    SP_TRY(positions_side(tower, &side));
    out->image_size = side * out->patch_size;
    if (out->image_size > MOST_SIDE)
        return sp_fail(SP_SHAPE, "%s: pictures would be %lld pixels wide, at most %d are supported",
                       sp_tensor_file_path(tower->file), (long long)out->image_size, MOST_SIDE);
    if (!clip) return SP_OK;
    return dim_of(tower, "visual_projection.weight", 2, 0, SP_MODEL_MAX_CHANNELS, &out->projection);
}

sp_status sp_tower_text_shapes(const sp_tower *tower, sp_clip_text_config *out)
{
    static const char tokens[] = "embeddings.token_embedding.weight", fc1[] = "encoder.layers.0.mlp.fc1.weight";
    *out = (sp_clip_text_config){.layers = sp_tower_layers(tower)};
    SP_TRY(no_layers(tower, out->layers));
    SP_TRY(dim_of(tower, tokens, 2, 0, 1 << 24, &out->vocabulary));
    SP_TRY(dim_of(tower, tokens, 2, 1, SP_MODEL_MAX_CHANNELS, &out->width));
    SP_TRY(dim_of(tower, fc1, 2, 0, 8 * SP_MODEL_MAX_CHANNELS, &out->feed_forward));
    SP_TRY(dim_of(tower, positions_name, 2, 0, 1 << 16, &out->max_tokens));
    return dim_of(tower, "text_projection.weight", 2, 0, SP_MODEL_MAX_CHANNELS, &out->projection);
}

/* ---- positions of DINOv2 ---- */

static double keys(double x)
{
    const double a = -0.75;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

enum { TAPS = 4 };
typedef struct {
    int64_t place[TAPS];
    double weight[TAPS];
} taps;

static taps taps_at(int64_t to, int64_t from, int64_t i)
{
    double x = ((double)i + 0.5) * (double)from / ((double)to + 0.1) - 0.5, first = floor(x);
    taps t;
    for (int k = 0; k < TAPS; k++) {
        int64_t place = (int64_t)first + k - 1;
        t.place[k] = place < 0 ? 0 : place >= from ? from - 1 : place;
        t.weight[k] = keys(x - (first + k - 1));
    }
    return t;
}

/* rows [from*from,width] to [to*to,width]. */
static void resize_rows(const float *rows, int64_t from, int64_t width, int64_t to, float *out)
{
    for (int64_t i = 0; i < to * to; i++, out += width) {
        taps y = taps_at(to, from, i / to), x = taps_at(to, from, i % to);
        for (int64_t c = 0; c < width; c++) {
            double sum = 0;
            for (int k = 0; k < TAPS * TAPS; k++)
                sum += y.weight[k / TAPS] * x.weight[k % TAPS] *
                       (double)rows[(y.place[k / TAPS] * from + x.place[k % TAPS]) * width + c];
            out[c] = (float)sum;
        }
    }
}

/* All positions, F32, the class token's unchanged. */
static sp_status resize_positions(const sp_tower *tower, const sp_tensor *tensor, sp_shape shape, sp_tensor *out)
{
    int64_t from, to = (int64_t)sqrt((double)(shape.dim[0] - 1)), width = shape.dim[1];
    sp_tensor all;
    SP_TRY(positions_side(tower, &from));
    SP_TRY(sp_tensor_convert(tensor, SP_F32, &all));
    sp_status status = sp_tensor_create(SP_F32, shape, out);
    if (!status) {
        memcpy(out->data, all.data, (size_t)width * sizeof(float));
        resize_rows((const float *)all.data + width, from, width, to, (float *)out->data + width);
    }
    sp_tensor_free(&all);
    return status;
}

/* ---- weights ---- */

static sp_status check_type(const sp_tower *tower, const char *name, const sp_tensor *tensor)
{
    if (sp_dtype_is_float(tensor->dtype)) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has the type %s, and weights must be of a float type",
                   sp_tensor_file_path(tower->file), name, sp_dtype_name(tensor->dtype));
}

/* The tensor must be what the parameter's shape comes from. */
static sp_status check_shape(const sp_tower *tower, const sp_tower_source *source, const sp_tensor *tensor,
                             sp_shape shape)
{
    if (source->part >= 0) shape.dim[0] *= 3;
    if (source->transposed) shape = sp_shape_of(shape.dim[1], shape.dim[0]);
    if (sp_shape_equal(bare(tensor->shape, shape.rank), shape)) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, expected %s", sp_tensor_file_path(tower->file),
                   source->name, sp_shape_text(tensor->shape), sp_shape_text(shape));
}

static sp_status transpose(const sp_tensor *tensor, sp_shape shape, sp_tensor *out)
{
    SP_TRY(sp_tensor_create(SP_F32, shape, out));
    int64_t rows = shape.dim[0], columns = shape.dim[1];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            ((float *)out->data)[i * columns + j] = (float)sp_load(tensor->data, tensor->dtype, j * rows + i);
    return SP_OK;
}

/* Rows of the tensor, of whatever rank, times LayerScale's numbers: new. */
static sp_status scale_rows(const sp_tower *tower, const char *name, const sp_tensor *tensor, sp_tensor *out)
{
    const char *path = sp_tensor_file_path(tower->file);
    const sp_tensor *scale = sp_tensor_file_find(tower->file, name);
    int64_t rows = tensor->shape.dim[0], each = sp_tensor_count(tensor) / rows;
    if (!scale) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing", path, name);
    SP_TRY(check_type(tower, name, scale));
    if (!sp_shape_equal(scale->shape, sp_shape_of(rows)))
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, expected [%lld]", path, name,
                       sp_shape_text(scale->shape), (long long)rows);
    SP_TRY(sp_tensor_convert(tensor, SP_F32, out));
    float *x = out->data;
    for (int64_t i = 0; i < rows; i++) {
        double factor = sp_load(scale->data, scale->dtype, i);
        for (int64_t k = 0; k < each; k++, x++)
            *x = (float)((double)*x * factor);
    }
    return SP_OK;
}

static sp_tensor view_of(const sp_tensor *tensor, const sp_tower_source *source, sp_shape shape)
{
    sp_tensor view = {.dtype = tensor->dtype, .shape = shape, .data = tensor->data};
    if (source->part > 0) view.data = (char *)tensor->data + (size_t)source->part * sp_tensor_bytes(&view);
    return view;
}

/* A view, or new. */
static sp_status take(const sp_tower *tower, const sp_value *parameter, sp_tensor *out)
{
    sp_tower_source source;
    sp_shape shape = parameter->shape;
    const sp_tensor *tensor = find(tower, parameter->name, &source);
    if (!tensor)
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing", sp_tensor_file_path(tower->file), source.name);
    SP_TRY(check_type(tower, source.name, tensor));
    bool resized = !sp_tower_form_is_clip(tower->form) && strcmp(parameter->name, positions_name) == 0;
    if (resized) {
        sp_shape own = bare(tensor->shape, shape.rank);
        shape.dim[0] = own.rank == shape.rank ? own.dim[0] : shape.dim[0];
    }
    SP_TRY(check_shape(tower, &source, tensor, shape));
    if (!sp_shape_equal(shape, parameter->shape)) return resize_positions(tower, tensor, parameter->shape, out);
    if (source.transposed) return transpose(tensor, shape, out);
    *out = view_of(tensor, &source, shape);
    return *source.scale ? scale_rows(tower, source.scale, &(sp_tensor){out->dtype, shape, out->data, false}, out)
                         : SP_OK;
}

static sp_status add_parameters(const sp_tower *tower, const sp_graph *graph, sp_weights *weights)
{
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        sp_tensor tensor;
        if (value->kind != SP_VALUE_PARAMETER) continue;
        SP_TRY(take(tower, value, &tensor));
        SP_TRY(sp_weights_add(weights, value->name, tensor));
    }
    return SP_OK;
}

sp_status sp_tower_weights(const sp_tower *tower, const sp_network *network, const void *config, sp_weights **out)
{
    sp_graph *graph;
    *out = NULL;
    sp_status status = sp_network_least_graph(network, config, &graph);
    if (!status) status = sp_weights_create(out);
    if (!status) sp_weights_set_file(*out, tower->file);
    if (!status) status = add_parameters(tower, graph, *out);
    sp_graph_destroy(graph);
    if (!status) return SP_OK;
    sp_weights_destroy(*out);
    *out = NULL;
    return status;
}
