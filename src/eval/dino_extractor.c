/* DINOv2, whose class token FD is measured of (Stein et al. 2023), of pictures as dgm-eval prepares them. */
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "checkpoints/dino_file.h"
#include "eval/extractor.h"

enum { BATCH = 8 };

static const char *weights(const splam_score_options *options)
{
    return options->dino;
}

static sp_status open_weights(const char *path, const splam_score_options *options, sp_extractor *out)
{
    (void)options;
    sp_dino_file *file = out->model = sp_alloc_zero(sizeof *file);
    if (!file) return SP_MEMORY;
    SP_TRY(sp_dino_file_open(path, file));
    snprintf(out->name, sizeof out->name, "%s", file->name);
    out->side = file->config.image_size;
    out->batch = BATCH;
    out->feature[out->feature_count++] = (sp_feature){"image_embeds", file->config.layer.width};
    memcpy(out->sha256, file->sha256, sizeof out->sha256);
    return SP_OK;
}

static void close_weights(sp_extractor *extractor)
{
    if (extractor->model) sp_dino_file_free(extractor->model);
    sp_free(extractor->model);
}

static sp_status make_runner(const sp_extractor *extractor, sp_device *device, sp_runner *out)
{
    const sp_dino_file *file = extractor->model;
    return sp_extractor_run_network(extractor, &sp_vit_network, &file->config, file->weights, device, out);
}

const sp_extractor_kind sp_dino_extractor = {
    .name = "dino",
    .options = "dino,transform",
    .title = "DINOv2",
    .missing = "`dino` is missing: fd is by DINOv2, dinov2_vitl14_pretrain.pth or a folder of transformers'",
    .usual = "DINOv2 ViT-L/14",
    .input = SP_TOWER_INPUT_DINO,
    .weights = weights,
    .open = open_weights,
    .close = close_weights,
    .prepare = sp_extractor_prepare_tower,
    .make_runner = make_runner,
};
