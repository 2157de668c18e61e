/* Inception's weights for FID from the files that are published, with their batch norms folded. */
#include "checkpoints/inception_file.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "base/text.h"
#include "graph/graph.h"
#include "models/inception.h"

/* ---- names ---- */

enum { NAME_BYTES = 128 };

/* The blocks and branches of NVIDIA's file by pytorch-fid's names; a block stands for those of its letter. */
static const struct {
    const char *ours, *theirs, *letter;
} blocks[] = {
    {"Conv2d_1a_3x3", "conv", ""},   {"Conv2d_2a_3x3", "conv_1", ""}, {"Conv2d_2b_3x3", "conv_2", ""},
    {"Conv2d_3b_1x1", "conv_3", ""}, {"Conv2d_4a_3x3", "conv_4", ""}, {"Mixed_5b", "mixed", "A"},
    {"Mixed_5c", "mixed_1", "A"},    {"Mixed_5d", "mixed_2", "A"},    {"Mixed_6a", "mixed_3", "B"},
    {"Mixed_6b", "mixed_4", "C"},    {"Mixed_6c", "mixed_5", "C"},    {"Mixed_6d", "mixed_6", "C"},
    {"Mixed_6e", "mixed_7", "C"},    {"Mixed_7a", "mixed_8", "D"},    {"Mixed_7b", "mixed_9", "E"},
    {"Mixed_7c", "mixed_10", "E"},
}, branches[] = {
    {"branch1x1", "conv", "ACE"},
    {"branch5x5_1", "tower.conv", "A"},
    {"branch5x5_2", "tower.conv_1", "A"},
    {"branch3x3dbl_1", "tower_1.conv", "A"},
    {"branch3x3dbl_2", "tower_1.conv_1", "A"},
    {"branch3x3dbl_3", "tower_1.conv_2", "A"},
    {"branch_pool", "tower_2.conv", "AC"},
    {"branch3x3", "conv", "B"},
    {"branch3x3dbl_1", "tower.conv", "B"},
    {"branch3x3dbl_2", "tower.conv_1", "B"},
    {"branch3x3dbl_3", "tower.conv_2", "B"},
    {"branch7x7_1", "tower.conv", "C"},
    {"branch7x7_2", "tower.conv_1", "C"},
    {"branch7x7_3", "tower.conv_2", "C"},
    {"branch7x7dbl_1", "tower_1.conv", "C"},
    {"branch7x7dbl_2", "tower_1.conv_1", "C"},
    {"branch7x7dbl_3", "tower_1.conv_2", "C"},
    {"branch7x7dbl_4", "tower_1.conv_3", "C"},
    {"branch7x7dbl_5", "tower_1.conv_4", "C"},
    {"branch3x3_1", "tower.conv", "D"},
    {"branch3x3_2", "tower.conv_1", "D"},
    {"branch7x7x3_1", "tower_1.conv", "D"},
    {"branch7x7x3_2", "tower_1.conv_1", "D"},
    {"branch7x7x3_3", "tower_1.conv_2", "D"},
    {"branch7x7x3_4", "tower_1.conv_3", "D"},
    {"branch3x3_1", "tower_conv", "E"},
    {"branch3x3_2a", "tower_mixed_conv", "E"},
    {"branch3x3_2b", "tower_mixed_conv_1", "E"},
    {"branch3x3dbl_1", "tower_1_conv", "E"},
    {"branch3x3dbl_2", "tower_1_conv_1", "E"},
    {"branch3x3dbl_3a", "tower_1_mixed_conv", "E"},
    {"branch3x3dbl_3b", "tower_1_mixed_conv_1", "E"},
    {"branch_pool", "tower_2_conv", "E"},
};

/* "Mixed_5b.branch5x5_1" as "layers.mixed.tower.conv". */
static void nvidia_name(const char *ours, char *out)
{
    size_t length = strcspn(ours, ".");
    const char *branch = ours[length] ? ours + length + 1 : "", *letter = "?";
    *out = 0;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (strlen(blocks[i].ours) == length && memcmp(blocks[i].ours, ours, length) == 0) {
            snprintf(out, NAME_BYTES, "layers.%s", blocks[i].theirs);
            letter = blocks[i].letter;
        }
    for (size_t i = 0; i < sizeof branches / sizeof *branches && *letter; i++)
        if (strstr(branches[i].letter, letter) && strcmp(branches[i].ours, branch) == 0)
            snprintf(out + strlen(out), NAME_BYTES - strlen(out), ".%s", branches[i].theirs);
}

/* ---- one convolution ---- */

typedef struct {
    const sp_tensor_file *file;
    bool nvidia;
    sp_weights *weights;
} reader;

/* The tensor, which must have this shape, in F32 and finite: new. */
static sp_status take(const reader *r, const char *name, sp_shape shape, sp_tensor *out)
{
    const char *path = sp_tensor_file_path(r->file);
    const sp_tensor *tensor = sp_tensor_file_find(r->file, name);
    *out = (sp_tensor){0};
    if (!tensor) return sp_fail(SP_FORMAT, "%s: tensor \"%s\" is missing", path, name);
    if (!sp_shape_equal(tensor->shape, shape))
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, and Inception for FID has %s", path, name,
                       sp_shape_text(tensor->shape), sp_shape_text(shape));
    if (!sp_dtype_is_float(tensor->dtype))
        return sp_fail(SP_FORMAT, "%s: tensor \"%s\" has the type %s, and weights must be of a float type", path, name,
                       sp_dtype_name(tensor->dtype));
    SP_TRY(sp_tensor_convert(tensor, SP_F32, out));
    sp_status status = sp_tensor_check_finite(out, name);
    if (status) sp_tensor_free(out);
    return status;
}

/* What a batch norm is made of; the scale is 1 in NVIDIA's form. */
enum { SCALE, SHIFT, MEAN, VARIANCE, PARTS };

static sp_status take_norm(const reader *r, const char *layer, int64_t channels, sp_tensor *parts)
{
    static const char *const published[] = {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"};
    static const char *const nvidia[] = {NULL, "beta", "mean", "var"};
    for (int i = 0; i < PARTS; i++) {
        char name[2 * NAME_BYTES];
        const char *part = r->nvidia ? nvidia[i] : published[i];
        if (!part) continue;
        snprintf(name, sizeof name, "%s.%s", layer, part);
        SP_TRY(take(r, name, sp_shape_of(channels), &parts[i]));
    }
    const float *variance = parts[VARIANCE].data;
    for (int64_t i = 0; i < channels; i++)
        if (variance[i] < 0)
            return sp_fail(SP_FORMAT, "%s: \"%s\" has a variance of %g", sp_tensor_file_path(r->file), layer,
                           (double)variance[i]);
    return SP_OK;
}

/* w' = w g / sqrt(var + eps), b' = beta - mean g / sqrt(var + eps). */
static void fold(const sp_tensor *parts, sp_tensor *weight, sp_tensor *bias)
{
    int64_t channels = weight->shape.dim[0], each = sp_tensor_count(weight) / channels;
    const float *scale = parts[SCALE].data, *shift = parts[SHIFT].data, *mean = parts[MEAN].data;
    const float *variance = parts[VARIANCE].data;
    float *w = weight->data, *b = bias->data;
    for (int64_t c = 0; c < channels; c++) {
        double factor = (scale ? (double)scale[c] : 1) / sqrt((double)variance[c] + SP_INCEPTION_EPSILON);
        for (int64_t i = 0; i < each; i++)
            w[c * each + i] = (float)((double)w[c * each + i] * factor);
        b[c] = (float)((double)shift[c] - (double)mean[c] * factor);
    }
}

static sp_status add_folded(const reader *r, const char *ours, const char *layer, sp_tensor *weight)
{
    sp_tensor parts[PARTS] = {0}, bias = {0};
    int64_t channels = weight->shape.dim[0];
    char name[2 * NAME_BYTES];
    sp_status status = take_norm(r, layer, channels, parts);
    if (!status) status = sp_tensor_create(SP_F32, sp_shape_of(channels), &bias);
    if (!status) fold(parts, weight, &bias);
    if (!status) status = sp_tensor_check_finite(weight, layer); /* a product beyond f32 */
    if (!status) status = sp_tensor_check_finite(&bias, layer);
    for (int i = 0; i < PARTS; i++)
        sp_tensor_free(&parts[i]);
    if (status) {
        sp_tensor_free(weight);
        sp_tensor_free(&bias);
        return status;
    }
    snprintf(name, sizeof name, "%s.conv.bias", ours);
    status = sp_weights_add(r->weights, name, bias);
    if (status) {
        sp_tensor_free(weight);
        return status;
    }
    snprintf(name, sizeof name, "%s.conv.weight", ours);
    return sp_weights_add(r->weights, name, *weight);
}

static sp_status add_convolution(const reader *r, const char *ours, sp_shape shape)
{
    char layer[NAME_BYTES], name[2 * NAME_BYTES];
    sp_tensor weight;
    if (r->nvidia)
        nvidia_name(ours, layer);
    else
        snprintf(layer, sizeof layer, "%s", ours);
    snprintf(name, sizeof name, "%s.%s", layer, r->nvidia ? "weight" : "conv.weight");
    SP_TRY(take(r, name, shape, &weight));
    return add_folded(r, ours, layer, &weight);
}

/* ---- all of them ---- */

static sp_status add_parameter(const reader *r, const sp_value *value)
{
    static const char conv_weight[] = ".conv.weight";
    if (sp_ends_with(value->name, conv_weight)) {
        char ours[NAME_BYTES];
        snprintf(ours, sizeof ours, "%.*s", (int)(strlen(value->name) - strlen(conv_weight)), value->name);
        return add_convolution(r, ours, value->shape);
    }
    if (strcmp(value->name, "fc.weight") != 0) return SP_OK; /* biases come with their weights */
    sp_tensor tensor;
    SP_TRY(take(r, r->nvidia ? "output.weight" : "fc.weight", value->shape, &tensor));
    return sp_weights_add(r->weights, "fc.weight", tensor);
}

static sp_status add_parameters(const reader *r)
{
    sp_graph *graph;
    sp_status status = sp_network_least_graph(&sp_inception_network, NULL, &graph);
    for (int i = 0; !status && i < graph->value_count; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER) status = add_parameter(r, graph->values[i]);
    sp_graph_destroy(graph);
    return status;
}

/* torchvision's has the same names up to its auxiliary head and its thousand classes. */
sp_inception_form sp_inception_form_of(const sp_tensor_file *file)
{
    const sp_tensor *fc = sp_tensor_file_find(file, "fc.weight");
    if (sp_tensor_file_find(file, "layers.mixed_10.conv.weight")) return SP_INCEPTION_NVIDIA;
    if (!sp_tensor_file_find(file, "Mixed_7c.branch1x1.conv.weight")) return SP_INCEPTION_NONE;
    bool thousand = fc && fc->shape.rank == 2 && fc->shape.dim[0] == 1000;
    return thousand || sp_tensor_file_find(file, "AuxLogits.fc.weight") ? SP_INCEPTION_TORCHVISION
                                                                        : SP_INCEPTION_PYTORCH;
}

static sp_status check_form(const sp_tensor_file *file)
{
    if (sp_inception_form_of(file) != SP_INCEPTION_TORCHVISION) return SP_OK;
    return sp_fail(SP_UNSUPPORTED,
                   "%s: is torchvision's Inception, trained for other classes, and FID is measured by the one of 2015: "
                   "pt_inception-2015-12-05-6726825d.pth or inception-2015-12-05.pt",
                   sp_tensor_file_path(file));
}

sp_status sp_inception_file_open(const char *path, sp_inception_file *out)
{
    sp_tensor_file *file = NULL;
    *out = (sp_inception_file){0};
    SP_TRY(sp_tensor_file_open(path, &file));
    sp_status status = check_form(file);
    if (!status) status = sp_weights_create(&out->weights);
    const reader r = {file, sp_inception_form_of(file) == SP_INCEPTION_NVIDIA, out->weights};
    if (!status) status = add_parameters(&r);
    if (!status) status = sp_tensor_file_sha256(file, out->sha256);
    sp_tensor_file_close(file);
    if (status) sp_inception_file_free(out);
    return status;
}

void sp_inception_file_free(sp_inception_file *file)
{
    sp_weights_destroy(file->weights);
    *file = (sp_inception_file){0};
}
