/* A model in another dtype or form, with adapters merged and guidance folded. */
#ifndef SP_CHECKPOINTS_CONVERT_H
#define SP_CHECKPOINTS_CONVERT_H
#include "checkpoints/lora.h"
#include "checkpoints/model_folder.h"
#include <splam/model.h>

/* As splam_convert, of options that are checked, merging adapters with `device`, which may be NULL without any.
 * Writes `output`, a diffusers folder with what `model` has: weights in another type under today's
 * names, everything else copied; checkpoint-N folders and metrics.jsonl are left out. A checkpoint
 * of one file becomes a folder with all its parts. Or, as one file, UNet, VAE and text encoder.
 * First adapters are merged, then guidance is folded, then values are rounded. SP_FORMAT if the
 * model has no component; SP_ARGUMENT if output is a folder that is not empty or a file that
 * exists; SP_NUMERIC, naming the tensor, if a weight does not fit into f16's range; and as
 * sp_lora_open, sp_lora_merge, sp_fold_guidance and sp_original_save say. What fails leaves no
 * output. */
sp_status sp_convert_model(const splam_convert_options *options, sp_device *device, const sp_callbacks *callbacks);

/* Writes one part of a single file, "unet", "vae", "text_encoder", "tokenizer" or "scheduler", as
 * the folder `to`, weights as they are stored. */
sp_status sp_export_part(const sp_model_folder *single, const char *part, const char *to);

#endif
