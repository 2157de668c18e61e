/* What a consistency model's cond_proj is told. */
#ifndef SP_MODELS_GUIDANCE_H
#define SP_MODELS_GUIDANCE_H
#include "formats/weights.h"
#include "models/unet.h"

/* The gamma embedding's argument and values: v = 10 (1 - gamma), phase_j = 1000 v
 * 10000^(-j/(half-1)), [sin | cos] -> out [dim]. Frequencies are fp32, as in the released code:
 * phases reach 10,000. Latent consistency models are told their guidance scale G in the same form,
 * v = G - 1. */
void sp_gamma_embedding(double gamma, int64_t dim, float *out);

/* What cond_proj adds at gamma = 1 to the output of time_embedding.linear_1: linear_1.weight @
 * cond_proj.weight @ embedding(v = 0), new tensor [time_dim] f32, summed in double precision. unet
 * has linear_1, student cond_proj; they may be one. */
sp_status sp_guidance_bias(const sp_weights *unet, const sp_weights *student,
                           const sp_unet_config *config, sp_tensor *out);

#endif
