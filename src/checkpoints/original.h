/* Checkpoints of one file, as Stable Diffusion 1.x, 2.x, XL and 3 were published: UNet or transformer, VAE and text
 * encoders under the names of CompVis' and Stability's own programs, no configuration. What
 * diffusers keeps in config.json is told by names and shapes. */
#ifndef SP_CHECKPOINTS_ORIGINAL_H
#define SP_CHECKPOINTS_ORIGINAL_H
#include "checkpoints/component.h"

/* `kind` is that of the place in a model (sp_component's), throughout: Stable Diffusion 3's first text encoder is at
 * TEXT_ENCODER, and of the kind of the second. */

/* True if the file has that component's tensors; a file that is a UNet alone may have them without prefix or under
 * diffusers' names, one that is a VAE alone as well. */
bool sp_original_has(const sp_tensor_file *file, sp_component_kind kind);

/* The component's config.json (json_decref). Heads are not told by shapes: a UNet with linear
 * projections (2.x, XL) has heads of 64 channels, one without 8 heads; CLIP's text encoders have heads
 * of 64. Depths of transformers are counted, so that XL's smaller relatives (SSD-1B, Segmind-Vega) are read too. Of
 * OpenCLIP's layers 2.x does not use the last. A 2.x that predicts v was trained for pictures of 768, XL for 1024, all
 * others for 512; prediction is as below. Of Stable Diffusion 3's transformer see original_mmdit.h. SP_FORMAT naming
 * the tensor that is missing; SP_UNSUPPORTED for a UNet that is conditioned on anything else. */
sp_status sp_original_config(const sp_tensor_file *file, sp_component_kind kind,
                             const char *prediction, json_t **out);

/* Adds views of the component's tensors under the names of its graph: attention's fused matrices
 * are split, exchanged halves of norms copied, 1x1 kernels of the VAE's attention seen as matrices, averaged weights
 * (model_ema.) and other components left out; an identity stands for the projection of Stable Diffusion 3's first text
 * encoder. SP_FORMAT if two tensors come to the same name. */
sp_status sp_add_original(sp_weights *weights, const sp_tensor_file *file, sp_component_kind kind);

/* The same text if it is diffusers' name of what a UNet here may predict: "epsilon", "v_prediction", "sample" (the
 * clean latent); else NULL. */
const char *sp_prediction_type(const char *name);

/* What the UNet predicts and what its noise schedule is. */
typedef struct {
    const char *type; /* of sp_prediction_type */
    bool said;     /* the file says so, or what lies beside it; else it is guessed, or was given */
    bool zero_snr; /* the schedule's end has no signal: a tensor "ztsnr" */
} sp_original_prediction;
/* prediction: such a type, known better; NULL: a tensor "v_pred"; else
 * model.params.parameterization, "v", "x0" or "eps" (where there are params without it), of NAME.yaml
 * beside the file, as CompVis' program and A1111's web interface read it, looked for in the first 64
 * KiB of a regular file; else "modelspec.prediction_type" of the metadata; else as diffusers
 * guesses: v for 2.x, unless "global_step" is 875000 as in the 512-base checkpoint, and epsilon
 * otherwise. SP_UNSUPPORTED for another parameterization. */
sp_status sp_original_predicts(const sp_tensor_file *file, const char *prediction, sp_original_prediction *out);

/* Sets in a scheduler's configuration what such marks say, where they do: "prediction_type" if it is said, and of a
 * schedule that ends without signal "rescale_betas_zero_snr"; then, and of what predicts the clean latent, trailing
 * timesteps, which begin at the end: the latter are models for one step or few. */
sp_status sp_original_mark(const sp_original_prediction *predicts, json_t *scheduler);

/* The scheduler_config.json that the published models have (json_decref), with what the UNet
 * predicts and, as above, where its schedule ends; of a transformer, which predicts a velocity, as it is. */
sp_status sp_original_scheduler(const sp_tensor_file *file, const char *prediction, json_t **out);

/* True if the first text encoder's prompts are padded with "!" (id 0) and not with the end token: OpenCLIP, 2.x. */
bool sp_original_pads_with_zero(const sp_tensor_file *file);

/* The name that a parameter of the graph of 1.x, 2.x and XL has in such a file, the inverse of sp_add_original; false
 * if it has none (cond_proj). Of OpenCLIP's attention it is that of the separate matrices, which
 * the file has as one. xl: the model is Stable Diffusion XL, whose first text encoder lies elsewhere. */
bool sp_original_name(const sp_component_config *config, bool xl, const char *name, char *out, size_t size);

/* Writes components as one safetensors file of original names, floats as `dtype`: a text encoder
 * with gelu in OpenCLIP's layout (2.x, the second of XL), another as CLIP's, with a transformer both as transformers
 * has them; what the UNet predicts in the metadata and by the empty tensors "v_pred" and "ztsnr", of a transformer
 * nothing. Written beside and renamed. SP_UNSUPPORTED,
 * naming the tensor or the key, for what such a file cannot carry: readers know a model's configuration
 * by names and shapes alone. */
sp_status sp_original_save(const char *path, sp_component *const *components, size_t count,
                           sp_original_prediction prediction, sp_dtype dtype,
                           const sp_callbacks *callbacks);

#endif
