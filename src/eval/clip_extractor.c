/* CLIP's image tower, for CLIP scores and the aesthetic head, and of pictures that are prepared otherwise
 * (image/tower_input.h) for CMMD; and the towers of PickScore and HPSv2, which are CLIPs with weights of their own.
 * Vectors are as the tower gives them, not of unit length. */
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "checkpoints/clip_file.h"
#include "eval/extractor.h"

enum { BATCH = 8 };

static const char *weights(const splam_score_options *options)
{
    return options->clip;
}

static const char *pickscore_weights(const splam_score_options *options)
{
    return options->pickscore;
}

static const char *hps_weights(const splam_score_options *options)
{
    return options->hps;
}

static sp_status open_file(const char *path, const char *activation, sp_extractor *out)
{
    sp_clip_file *file = out->model = sp_alloc_zero(sizeof *file);
    if (!file) return SP_MEMORY;
    SP_TRY(sp_clip_file_open(path, activation, file));
    out->side = file->image.image_size;
    out->batch = BATCH;
    out->feature[out->feature_count++] = (sp_feature){"image_embeds", file->image.projection};
    snprintf(out->name, sizeof out->name, "%s", file->name);
    memcpy(out->sha256, file->sha256, sizeof out->sha256);
    return SP_OK;
}

static sp_status open_clip(const char *path, const splam_score_options *options, sp_extractor *out)
{
    return open_file(path, options ? options->clip_activation : NULL, out);
}

static sp_status open_pickscore(const char *path, const splam_score_options *options, sp_extractor *out)
{
    (void)options;
    sp_status status = open_file(path, NULL, out);
    if (status != SP_ARGUMENT) return status;
    return sp_fail(SP_ARGUMENT, "%s: no config.json beside it, as PickScore's folder has it, says which activation it "
                   "has", path);
}

/* Checkpoints of HPSv2 say nothing of the architecture, which is its program's: open_clip's ViT-H-14. */
static sp_status open_hps(const char *path, const splam_score_options *options, sp_extractor *out)
{
    (void)options;
    return open_file(path, "gelu", out);
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

const sp_extractor_kind sp_clip_extractor = {
    .name = "clip",
    .options = "clip,clip_activation,transform",
    .title = "CLIP",
    .missing = "`clip` is missing: clip and aesthetic are by CLIP, a file of open_clip's or OpenAI's or a folder of "
               "transformers'",
    .input = SP_TOWER_INPUT_CLIP,
    .weights = weights,
    .open = open_clip,
    .close = close_weights,
    .prepare = sp_extractor_prepare_tower,
    .make_runner = make_runner,
};

const sp_extractor_kind sp_cmmd_extractor = {
    .name = "cmmd",
    .options = "clip,clip_activation,transform",
    .title = "CMMD's CLIP",
    .missing = "`clip` is missing: cmmd is by CLIP's image tower, ViT-L-14-336px.pt of OpenAI, or "
               "openai/clip-vit-large-patch14-336 of transformers",
    .usual = "ViT-L/14 at 336",
    .input = SP_TOWER_INPUT_CMMD,
    .weights = weights,
    .open = open_clip,
    .close = close_weights,
    .prepare = sp_extractor_prepare_tower,
    .make_runner = make_runner,
};

const sp_extractor_kind sp_pickscore_extractor = {
    .name = "pickscore",
    .options = "pickscore,transform",
    .title = "PickScore",
    .missing = "`pickscore` is missing: the folder of a CLIP as transformers has it, yuvalkirstain/PickScore_v1",
    .usual = "ViT-H/14",
    .input = SP_TOWER_INPUT_PICKSCORE,
    .weights = pickscore_weights,
    .open = open_pickscore,
    .close = close_weights,
    .prepare = sp_extractor_prepare_tower,
    .make_runner = make_runner,
};

const sp_extractor_kind sp_hps_extractor = {
    .name = "hps",
    .options = "hps,transform",
    .title = "HPSv2",
    .missing = "`hps` is missing: a checkpoint of HPSv2, HPS_v2.1_compressed.pt or HPS_v2_compressed.pt",
    .usual = "ViT-H/14",
    .input = SP_TOWER_INPUT_HPS,
    .weights = hps_weights,
    .open = open_hps,
    .close = close_weights,
    .prepare = sp_extractor_prepare_tower,
    .make_runner = make_runner,
};
