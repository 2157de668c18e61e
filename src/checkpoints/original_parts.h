/* What the files on original checkpoints share. */
#ifndef SP_CHECKPOINTS_ORIGINAL_PARTS_H
#define SP_CHECKPOINTS_ORIGINAL_PARTS_H
#include "checkpoints/original.h"

#define SP_ORIGINAL_UNET "model.diffusion_model."
#define SP_ORIGINAL_VAE "first_stage_model."
#define SP_ORIGINAL_CLIP "cond_stage_model.transformer."
#define SP_ORIGINAL_OPEN_CLIP "cond_stage_model.model."

/* Tensors, of any content, that mark a checkpoint: what it predicts is v; its noise schedule ends
 * without signal. */
#define SP_ORIGINAL_V "v_pred"
#define SP_ORIGINAL_ZERO_SNR "ztsnr"

/* Resnets of a block on the way down: the first of the UNet's input blocks that only halves the
 * resolution comes right behind them. 0 if there is no UNet. */
int sp_original_unet_layers(const sp_tensor_file *file);
/* What stands before the names of the VAE: "first_stage_model." in a whole checkpoint, "vae." or nothing in a file
 * that is a VAE alone; NULL if there is none. */
const char *sp_original_vae_prefix(const sp_tensor_file *file);
/* A dimension of a tensor; SP_FORMAT, naming it, if it is not there or has no such dimension. */
sp_status sp_original_dim(const sp_tensor_file *file, const char *name, int axis, int64_t *out);
/* Resolutions of the VAE; 0 if there is none. */
int sp_original_vae_levels(const sp_tensor_file *file);
/* Layers of OpenCLIP's text encoder that are used. */
int sp_original_open_clip_layers(const sp_tensor_file *file);
/* The tensor of a name in printf's form; NULL if there is none. */
const sp_tensor *sp_original_find(const sp_tensor_file *file, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
