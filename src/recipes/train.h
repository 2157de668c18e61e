/* Training the models of a small latent diffusion system from scratch: an autoencoder, then text
 * encoder and UNet. Options are checked (options/options.h). */
#ifndef SP_RECIPES_TRAIN_H
#define SP_RECIPES_TRAIN_H
#include "base/progress.h"
#include <splam/train.h>

/* Writes output/vae: an AutoencoderKL of factor 4 with 4 latent channels, each normalised over the
 * data to mean 0 and deviation 1 (folded into its first and last layers, scaling_factor 1), from
 * the averaged weights. */
sp_status sp_train_vae(const splam_train_options *options, const sp_callbacks *callbacks);

/* Writes output/{model_index.json,unet,vae,text_encoder,tokenizer,scheduler}, and what its family has more
 * (recipes/teacher_family.h): a tokenizer learned from the captions, CLIP-style text encoders and a UNet trained
 * together. */
sp_status sp_train_teacher(const splam_train_options *options, const sp_callbacks *callbacks);

#endif
