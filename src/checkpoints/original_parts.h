/* What the files on original checkpoints share. */
#ifndef SP_CHECKPOINTS_ORIGINAL_PARTS_H
#define SP_CHECKPOINTS_ORIGINAL_PARTS_H
#include "checkpoints/original.h"

/* Of the UNet in a whole checkpoint. */
#define SP_ORIGINAL_UNET "model.diffusion_model."
#define SP_ORIGINAL_VAE "first_stage_model."
/* Of text encoders: of Stable Diffusion 1.x, 2.x, and the two of XL. */
#define SP_ORIGINAL_CLIP "cond_stage_model.transformer."
#define SP_ORIGINAL_OPEN_CLIP "cond_stage_model.model."
#define SP_ORIGINAL_XL_CLIP "conditioner.embedders.0.transformer."
#define SP_ORIGINAL_XL_OPEN_CLIP "conditioner.embedders.1.model."
/* The two that Stable Diffusion 3 has beside T5. */
#define SP_ORIGINAL_3_CLIP_L "text_encoders.clip_l.transformer."
#define SP_ORIGINAL_3_CLIP_G "text_encoders.clip_g.transformer."

/* Tensors, of any content, that mark a checkpoint: what it predicts is v; its noise schedule ends
 * without signal. */
#define SP_ORIGINAL_V "v_pred"
#define SP_ORIGINAL_ZERO_SNR "ztsnr"

/* Where a UNet lies, and under whose names: in a whole checkpoint, or in a file that is a UNet alone, whose original
 * names have no prefix, or which has diffusers' names. */
typedef struct {
    const sp_tensor_file *file;
    const char *prefix; /* NULL: the file has none */
    bool diffusers;
    int layers; /* resnets of a block on the way down, up to SP_MODEL_MAX_LAYERS + 1; 0: there are none */
} sp_original_unet;
sp_original_unet sp_original_unet_of(const sp_tensor_file *file);
/* The name that a parameter of a UNet has there, given without prefix under its original one. */
void sp_original_unet_name(const sp_original_unet *unet, const char *original, char *out, size_t size);
/* The graph's name of a UNet's parameter, by its original one without prefix. */
void sp_original_unet_rename(const char *original, int layers, char *out, size_t size);
/* What stands before the names of the VAE: "first_stage_model." in a whole checkpoint, "vae." or nothing in a file
 * that is a VAE alone; NULL if there is none. */
const char *sp_original_vae_prefix(const sp_tensor_file *file);
/* A dimension of a tensor; SP_FORMAT, naming it, if it is not there or has no such dimension. */
sp_status sp_original_dim(const sp_tensor_file *file, const char *name, int axis, int64_t *out);
/* Resolutions of the VAE; 0 if there is none. */
int sp_original_vae_levels(const sp_tensor_file *file);
/* Where a text encoder lies, and whether under OpenCLIP's names or CLIP's, as transformers has them. `projection` is
 * the tensor that the whole text is multiplied by; where `identity` is set, it is multiplied by nothing. */
typedef struct {
    const char *prefix; /* NULL: the file has none of the kind */
    bool open_clip;
    const char *projection; /* of second encoders; NULL: it has none */
    bool identity;          /* of Stable Diffusion 3's first */
} sp_original_text;
sp_original_text sp_original_text_of(const sp_tensor_file *file, sp_component_kind kind);
/* Layers of OpenCLIP's that are used. */
int sp_original_open_clip_layers(const sp_tensor_file *file, const sp_original_text *text);
/* A matrix with its sides changed, new. */
sp_status sp_original_transpose(const sp_tensor *matrix, sp_tensor *out);
/* The tensor of a name in printf's form; NULL if there is none. */
const sp_tensor *sp_original_find(const sp_tensor_file *file, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
