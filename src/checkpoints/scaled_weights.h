/* Weights in eight bits with a factor beside each tensor, as ComfyUI and others write them. */
#ifndef SP_CHECKPOINTS_SCALED_WEIGHTS_H
#define SP_CHECKPOINTS_SCALED_WEIGHTS_H
#include "formats/tensor_file.h"

/* SP_UNSUPPORTED, naming the tensor, where the file has factors: without them the numbers are others, and nothing would
 * look wrong. */
sp_status sp_scaled_weights_refuse(const sp_tensor_file *file);

#endif
