/* A model's folder in another dtype. */
#ifndef SP_MODELS_CONVERT_H
#define SP_MODELS_CONVERT_H
#include "models/component.h"

/* Writes `output`, a diffusers folder with what `model` has: weights as `dtype` (SP_F32, SP_F16,
 * SP_BF16) under today's names, everything else copied; checkpoint-N folders and metrics.jsonl are
 * left out. SP_FORMAT if the model has no component; SP_ARGUMENT if output exists and is not empty;
 * SP_NUMERIC, naming the tensor, if a weight does not fit into f16's range. What fails leaves no
 * output. */
sp_status sp_convert_model(const char *model, const char *output, sp_dtype dtype);

#endif
