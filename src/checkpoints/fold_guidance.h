/* How a consistency model's cond_proj is folded away. */
#ifndef SP_CHECKPOINTS_FOLD_GUIDANCE_H
#define SP_CHECKPOINTS_FOLD_GUIDANCE_H
#include "checkpoints/component.h"

/* Folds cond_proj into time_embedding.linear_1.bias (f32 then): the result is a plain UNet that computes what the
 * student does at that guidance; one that is told gamma at 1, gamma = 1, which is where it is sampled. Changes the
 * component's weights, config and json. SP_ARGUMENT if it has no cond_proj. */
sp_status sp_fold_guidance(sp_component *unet, double guidance);

#endif
