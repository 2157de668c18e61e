/* What a consistency model's cond_proj is told. */
#ifndef SP_MODELS_GUIDANCE_H
#define SP_MODELS_GUIDANCE_H
#include "base/text.h"
#include "formats/weights.h"
#include "models/unet.h"

/* phase_j = 1000 v 10000^(-j/(half-1)), [sin | cos] -> out [dim]. Frequencies are fp32, as in the released code: phases
 * reach 10,000. Latent consistency models are told their guidance, v = G - 1; a splam student gamma, v = 10 (1 -
 * gamma), so that G = 1 is gamma = 1. */
void sp_guidance_embedding(double v, int64_t dim, float *out);

/* What cond_proj adds at that guidance to the output of time_embedding.linear_1: linear_1.weight @ cond_proj.weight @
 * embedding(v = guidance - 1), new tensor [time_dim] f32, summed in double precision. unet has linear_1, student
 * cond_proj; they may be one. */
sp_status sp_guidance_bias(const sp_weights *unet, const sp_weights *student, const sp_unet_config *config,
                           double guidance, sp_tensor *out);

/* "LOW:HIGH", 1 <= LOW < HIGH <= 101. SP_ARGUMENT naming `name`. */
sp_status sp_guidance_range_of(const char *name, const char *text, sp_guidance_range *out);
enum { SP_GUIDANCE_RANGE_TEXT = 2 * SP_NUMBER_TEXT };
const char *sp_guidance_range_text(const sp_guidance_range *range, char text[SP_GUIDANCE_RANGE_TEXT]);
/* Where nobody says which of a range: its middle; 1 where there is none. */
double sp_usual_guidance(const sp_guidance_range *range);

#endif
