/* A model in another dtype or form, with adapters merged and guidance folded. */
#ifndef SP_CHECKPOINTS_CONVERT_H
#define SP_CHECKPOINTS_CONVERT_H
#include "checkpoints/lora.h"
#include "checkpoints/model_folder.h"

typedef struct {
    sp_dtype dtype;         /* of the weights: SP_F32, SP_F16, SP_BF16 */
    const char *prediction; /* of a checkpoint of one file: "epsilon", "v_prediction"; NULL: what
                               the file tells (sp_original_scheduler) */
    const splam_lora *loras; /* merged into UNets and text encoder */
    size_t lora_count;
    sp_device *device; /* to merge them with; may be NULL where there is none */
    bool fold_guidance;  /* UNets become plain ones (models/guidance.h) */
    bool single_file;    /* write one file of original names instead of a folder */
    const sp_callbacks *callbacks; /* may be NULL: SP_CANCELLED as soon as they say so */
    const char *unet;    /* for the single file: the UNet's folder; NULL: "unet" */
} sp_convert_options;

/* Writes `output`, a diffusers folder with what `model` has: weights in another type under today's
 * names, everything else copied; checkpoint-N folders and metrics.jsonl are left out. A checkpoint
 * of one file becomes a folder with all its parts. Or, as one file, UNet, VAE and text encoder.
 * First adapters are merged, then guidance is folded, then values are rounded. SP_FORMAT if the
 * model has no component; SP_ARGUMENT if output is a folder that is not empty or a file that
 * exists; SP_NUMERIC, naming the tensor, if a weight does not fit into f16's range; and as
 * sp_lora_open, sp_lora_merge, sp_fold_guidance and sp_original_save say. What fails leaves no
 * output. */
sp_status sp_convert_model(const char *model, const char *output,
                           const sp_convert_options *options);

/* Writes one part of a single file, "unet", "vae", "text_encoder", "tokenizer" or "scheduler", as
 * the folder `to`, weights as they are stored. */
sp_status sp_export_part(const sp_model_folder *single, const char *part, const char *to);

#endif
