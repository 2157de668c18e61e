/* A model in another dtype; a checkpoint of one file as a folder. */
#ifndef SP_MODELS_CONVERT_H
#define SP_MODELS_CONVERT_H
#include "models/model_folder.h"

/* Writes `output`, a diffusers folder with what `model` has: weights as `dtype` (SP_F32, SP_F16,
 * SP_BF16) under today's names, everything else copied; checkpoint-N folders and metrics.jsonl are
 * left out. A checkpoint of one file becomes a folder with all its parts; `prediction` ("epsilon",
 * "v_prediction") says what it predicts, NULL: what the file tells (sp_original_scheduler), and is
 * for such a file alone. SP_FORMAT if the model has no component; SP_ARGUMENT if output exists and
 * is not empty; SP_NUMERIC, naming the tensor, if a weight does not fit into f16's range. What
 * fails leaves no output. */
sp_status sp_convert_model(const char *model, const char *output, sp_dtype dtype,
                           const char *prediction);

/* Writes one part of a single file, "unet", "vae", "text_encoder", "tokenizer" or "scheduler", as
 * the folder `to`. keep_dtype: weights as they are stored. */
sp_status sp_export_part(const sp_model_folder *single, const char *part, const char *prediction,
                         sp_dtype dtype, bool keep_dtype, const char *to);

#endif
