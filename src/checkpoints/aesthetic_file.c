/* Aesthetic heads from their files, multiplied out. */
#include "checkpoints/aesthetic_file.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"

/* The layers' names, and those of a head of one layer. */
static const char *const names[] = {"layers.0.", "layers.2.", "layers.4.", "layers.6.", "layers.7."};
static const char *const alone[] = {""};
enum { LAYERS = sizeof names / sizeof *names, MOST_WIDTH = 16384, NAME_BYTES = 32 };

static const sp_tensor *find(const sp_tensor_file *file, const char *layer, const char *part)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", layer, part);
    return sp_tensor_file_find(file, name);
}

bool sp_aesthetic_file_is(const sp_tensor_file *file)
{
    const sp_tensor *first = find(file, names[0], "weight"), *single = find(file, alone[0], "weight");
    if (first) return find(file, names[LAYERS - 1], "weight") != NULL;
    return single && sp_tensor_file_count(file) == 2 && single->shape.rank == 2 && single->shape.dim[0] == 1;
}

/* A tensor of the file in F64. */
static sp_status take(const sp_tensor_file *file, const char *layer, const char *part, sp_tensor *out)
{
    char name[NAME_BYTES], where[1024];
    const sp_tensor *found;
    snprintf(name, sizeof name, "%s%s", layer, part);
    snprintf(where, sizeof where, "%s: tensor \"%s\"", sp_tensor_file_path(file), name);
    *out = (sp_tensor){0};
    SP_TRY(sp_tensor_file_get(file, name, &found));
    SP_TRY(sp_tensor_convert(found, SP_F64, out));
    return sp_tensor_check_finite(out, where);
}

static sp_status check_layer(const sp_tensor_file *file, const char *layer, const sp_tensor *weight,
                             const sp_tensor *bias, int64_t outputs)
{
    const sp_shape *w = &weight->shape, *b = &bias->shape;
    if (w->rank == 2 && w->dim[0] == outputs && w->dim[1] > 0 && w->dim[1] <= MOST_WIDTH && b->rank == 1 &&
        b->dim[0] == outputs)
        return SP_OK;
    return sp_fail(SP_SHAPE, "%s: layer \"%sweight\" %s with bias %s, expected [%lld,N] and [%lld]",
                   sp_tensor_file_path(file), layer, sp_shape_text(*w), sp_shape_text(*b), (long long)outputs,
                   (long long)outputs);
}

/* y = v (W x + b) + c: v becomes v W, and c gets v b. */
static sp_status multiply(const sp_tensor *weight, const sp_tensor *bias, sp_aesthetic_file *out)
{
    const double *w = weight->data, *b = bias->data;
    int64_t outputs = weight->shape.dim[0], inputs = weight->shape.dim[1];
    double *product = sp_alloc_zero((size_t)inputs * sizeof *product);
    if (!product) return SP_MEMORY;
    for (int64_t i = 0; i < outputs; i++) {
        out->bias += out->weight[i] * b[i];
        for (int64_t j = 0; j < inputs; j++)
            product[j] += out->weight[i] * w[i * inputs + j];
    }
    sp_free(out->weight);
    out->weight = product;
    out->dim = inputs;
    return SP_OK;
}

static sp_status take_layer(const sp_tensor_file *file, const char *layer, sp_aesthetic_file *out)
{
    sp_tensor weight = {0}, bias = {0};
    sp_status status = take(file, layer, "weight", &weight);
    if (!status) status = take(file, layer, "bias", &bias);
    if (!status) status = check_layer(file, layer, &weight, &bias, out->dim);
    if (!status) status = multiply(&weight, &bias, out);
    sp_tensor_free(&weight);
    sp_tensor_free(&bias);
    return status;
}

static sp_status take_layers(const sp_tensor_file *file, sp_aesthetic_file *out)
{
    bool single = !find(file, names[0], "weight");
    int count = single ? 1 : LAYERS;
    if (!sp_aesthetic_file_is(file))
        return sp_fail(SP_UNSUPPORTED,
                       "%s: is no aesthetic head without activations, as sac+logos+ava1-l14-linearMSE.pth: it has not "
                       "the layers \"layers.{0,2,4,6,7}\", nor a single \"weight\" [1,N]", sp_tensor_file_path(file));
    out->dim = 1;
    out->weight = sp_alloc(sizeof *out->weight);
    if (!out->weight) return SP_MEMORY;
    *out->weight = 1;
    for (int i = count - 1; i >= 0; i--)
        SP_TRY(take_layer(file, single ? alone[i] : names[i], out));
    for (int64_t i = 0; i < out->dim; i++)
        if (!isfinite(out->weight[i]) || !isfinite(out->bias))
            return sp_fail(SP_NUMERIC, "%s: its layers multiply to a number that is not finite",
                           sp_tensor_file_path(file));
    return SP_OK;
}

sp_status sp_aesthetic_file_open(const char *path, sp_aesthetic_file *out)
{
    sp_tensor_file *file;
    *out = (sp_aesthetic_file){0};
    SP_TRY(sp_tensor_file_open(path, &file));
    sp_status status = take_layers(file, out);
    if (!status) status = sp_tensor_file_sha256(file, out->sha256);
    sp_tensor_file_close(file);
    if (status) sp_aesthetic_file_free(out);
    return status;
}

void sp_aesthetic_file_free(sp_aesthetic_file *file)
{
    sp_free(file->weight);
    *file = (sp_aesthetic_file){0};
}
