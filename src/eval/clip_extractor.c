/* CLIP's image tower, for CLIP scores and, of pictures that are prepared otherwise, for CMMD (image/tower_input.h).
 * Vectors are as the tower gives them, not of unit length. */
#include <string.h>
#include "base/log.h"
#include "base/memory.h"
#include "checkpoints/clip_file.h"
#include "eval/extractor.h"
#include "image/tower_input.h"

enum { BATCH = 8 };

static const char *weights(const splam_score_options *options)
{
    return options->clip;
}

static sp_status open_weights(const char *path, const splam_score_options *options, sp_extractor *out)
{
    sp_clip_file *file = out->model = sp_alloc_zero(sizeof *file);
    if (!file) return SP_MEMORY;
    SP_TRY(sp_clip_file_open(path, options ? options->clip_activation : NULL, file));
    out->side = file->image.image_size;
    out->batch = BATCH;
    out->feature[out->feature_count++] = (sp_feature){"image_embeds", file->image.projection};
    memcpy(out->sha256, file->sha256, sizeof out->sha256);
    return SP_OK;
}

static sp_status open_for_cmmd(const char *path, const splam_score_options *options, sp_extractor *out)
{
    SP_TRY(open_weights(path, options, out));
    const sp_clip_file *file = out->model;
    if (strcmp(file->name, "ViT-L/14 at 336") != 0)
        sp_log_warn("%s: is %s, and figures of cmmd that others publish are of OpenAI's ViT-L/14 at 336", path,
                    file->name);
    return SP_OK;
}

static void close_weights(sp_extractor *extractor)
{
    if (extractor->model) sp_clip_file_free(extractor->model);
    sp_free(extractor->model);
}

static sp_status make_runner(const sp_extractor *extractor, sp_device *device, sp_runner *out)
{
    const sp_clip_file *file = extractor->model;
    return sp_extractor_run_network(extractor, &sp_vit_network, &file->image, file->image_weights, device, out);
}

static const char *clip_convention(const sp_preparation *preparation)
{
    (void)preparation;
    return "clip";
}

static const char *cmmd_convention(const sp_preparation *preparation)
{
    (void)preparation;
    return "cmmd";
}

static sp_status clip_prepare(const sp_extractor *extractor, const sp_preparation *preparation, const sp_image *image,
                              float *nchw)
{
    (void)preparation;
    return sp_image_to_tower(image, SP_TOWER_INPUT_CLIP, (int)extractor->side, nchw);
}

static sp_status cmmd_prepare(const sp_extractor *extractor, const sp_preparation *preparation, const sp_image *image,
                              float *nchw)
{
    (void)preparation;
    return sp_image_to_tower(image, SP_TOWER_INPUT_CMMD, (int)extractor->side, nchw);
}

const sp_extractor_kind sp_clip_extractor = {
    .name = "clip",
    .title = "CLIP",
    .missing = "`clip` is missing: CLIP scores are by its towers, a file of open_clip's or OpenAI's or a folder of "
               "transformers'",
    .weights = weights,
    .open = open_weights,
    .close = close_weights,
    .convention = clip_convention,
    .prepare = clip_prepare,
    .make_runner = make_runner,
};

const sp_extractor_kind sp_cmmd_extractor = {
    .name = "cmmd",
    .title = "CLIP",
    .missing = "`clip` is missing: cmmd is by CLIP's image tower, ViT-L-14-336px.pt of OpenAI, or "
               "openai/clip-vit-large-patch14-336 of transformers",
    .weights = weights,
    .open = open_for_cmmd,
    .close = close_weights,
    .convention = cmmd_convention,
    .prepare = cmmd_prepare,
    .make_runner = make_runner,
};
