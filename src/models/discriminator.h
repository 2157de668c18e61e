/* The discriminator of DMD2 (Yin et al. 2024, "Improved Distribution Matching Distillation for Fast Image Synthesis"):
 * a head on the middle block's features of a UNet, that tells latents of the data from a student's. */
#ifndef SP_MODELS_DISCRIMINATOR_H
#define SP_MODELS_DISCRIMINATOR_H
#include "models/layers.h"

/* The logit D [N,1,1] of features [N,h,w,C], which grows with how much they look like the data's:
 *
 *   while the shorter side is more than 4: convolution 4x4, stride 2, padding 1, C -> C; group norm; SiLU
 *   a layer over all that is left, [h w C] -> C; group norm; SiLU
 *   a layer C -> 1
 *
 * So of 8x8 features there is one halving, of 4x4 and smaller ones none, and with SD 1.5 it is the release's head,
 * whose second convolution, of 4x4 on 4x4, is the layer over all that is left. Groups are `groups`, the UNet's own, or
 * fewer, so that each has 4 channels or more. Parameters are named by their place in the list, SiLU counted too, within
 * the builder's scope: "discriminator.0.weight". The layer over all has its inputs in the order of the features, h, w,
 * C. */
#define SP_DISCRIMINATOR "discriminator"
sp_value *sp_discriminator(sp_builder *b, sp_value *features, int64_t groups);

#endif
