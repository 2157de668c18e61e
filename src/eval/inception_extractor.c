/* Inception as FID is measured by it, and the conventions of the tools that do so: how pictures are resized
 * (image/resize_float.h) and scaled, to (v - 128)/128 of 0..255, or v/127.5 - 1. */
#include "base/memory.h"
#include "checkpoints/inception_file.h"
#include "eval/extractor.h"
#include "image/resize_float.h"
#include "models/inception.h"
#include <string.h>

enum { BATCH = 8, PIXELS = 3 * SP_INCEPTION_SIDE * SP_INCEPTION_SIDE };

static const struct {
    sp_float_resize resize;
    bool symmetric; /* v/127.5 - 1 */
} conventions[] = {
    [SP_CONVENTION_CLEAN] = {SP_RESIZE_PILLOW_BICUBIC, false},
    [SP_CONVENTION_PYTORCH] = {SP_RESIZE_TORCH_BILINEAR, true},
    [SP_CONVENTION_TENSORFLOW] = {SP_RESIZE_TF1_BILINEAR, false},
    [SP_CONVENTION_TORCHMETRICS] = {SP_RESIZE_TORCH_ANTIALIAS, false},
};

static const char *convention(const sp_preparation *preparation)
{
    return sp_convention_name(preparation->convention);
}

static sp_status prepare(const sp_extractor *extractor, const sp_preparation *preparation, const sp_image *image,
                         float *nchw)
{
    bool symmetric = conventions[preparation->convention].symmetric;
    (void)extractor;
    SP_TRY(sp_image_resize_float(image, SP_INCEPTION_SIDE, conventions[preparation->convention].resize, nchw));
    for (int64_t i = 0; i < PIXELS; i++)
        nchw[i] = symmetric ? nchw[i] / 127.5f - 1 : (nchw[i] - 128) / 128;
    return SP_OK;
}

static const char *weights(const splam_score_options *options)
{
    return options->inception;
}

static sp_status open_weights(const char *path, const splam_score_options *options, sp_extractor *out)
{
    (void)options;
    out->side = SP_INCEPTION_SIDE;
    out->batch = BATCH;
    out->feature[out->feature_count++] = (sp_feature){"features", SP_INCEPTION_FEATURES};
    out->feature[out->feature_count++] = (sp_feature){"logits", SP_INCEPTION_CLASSES};
    sp_inception_file *file = out->model = sp_alloc_zero(sizeof *file);
    if (!file) return SP_MEMORY;
    SP_TRY(sp_inception_file_open(path, file));
    memcpy(out->sha256, file->sha256, sizeof out->sha256);
    return SP_OK;
}

static void close_weights(sp_extractor *extractor)
{
    if (extractor->model) sp_inception_file_free(extractor->model);
    sp_free(extractor->model);
}

static sp_status make_runner(const sp_extractor *extractor, sp_device *device, sp_runner *out)
{
    const sp_inception_file *file = extractor->model;
    return sp_extractor_run_network(extractor, &sp_inception_network, NULL, file->weights, device, out);
}

const sp_extractor_kind sp_inception_extractor = {
    .name = "inception",
    .options = "inception,convention,transform",
    .title = "Inception",
    .missing = "`inception` is missing: features of pictures are by the network of "
               "pt_inception-2015-12-05-6726825d.pth (pytorch-fid's, whose inception.py has its address) or "
               "inception-2015-12-05.pt (clean-fid's, in its inception_torchscript.py)",
    .weights = weights,
    .open = open_weights,
    .close = close_weights,
    .convention = convention,
    .prepare = prepare,
    .make_runner = make_runner,
};
