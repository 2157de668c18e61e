/* An autoencoder as a file of its own, under the names that the graphs use (diffusers') or under those of TAESD's
 * author; one with original names is checkpoints/original.h's. */
#ifndef SP_CHECKPOINTS_VAE_FILE_H
#define SP_CHECKPOINTS_VAE_FILE_H
#include "checkpoints/component.h"

/* KL:     encoder.conv_in.weight, encoder.down_blocks...: AutoencoderKL
 * TINY:   encoder.layers.0.weight, decoder.layers.0.weight, ...: AutoencoderTiny
 * HALVES: taesd_encoder.0.weight, taesd_decoder.1.weight, ...: the same as two lists of layers, of which the decoder's
 *         begins with the clamp, which has no weights */
typedef enum { SP_VAE_FILE_NONE, SP_VAE_FILE_KL, SP_VAE_FILE_TINY, SP_VAE_FILE_HALVES } sp_vae_file_kind;
/* NONE: anything else, one half alone too. */
sp_vae_file_kind sp_vae_file_kind_of(const sp_tensor_file *file);

/* The autoencoder's config.json (json_decref): that beside the file if it says that it is an autoencoder's, else what
 * names and shapes tell; an AutoencoderKL has 32 groups in every norm, and no "scaling_factor", for a file of it alone
 * does not say whether it is Stable Diffusion XL's. *where (sp_free) is the file that says it. SP_FORMAT naming the
 * tensor that is missing. */
sp_status sp_vae_file_config(const sp_tensor_file *file, json_t **out, char **where);

/* Adds views of the file's tensors under the names of the graph. SP_FORMAT if two come to the same name. */
sp_status sp_add_vae_file(sp_weights *weights, const sp_tensor_file *file);

#endif
