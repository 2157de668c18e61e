/* Low-rank adapters (LoRA, Hu et al. 2021): a layer y = W x becomes y = W x + alpha/r up(down(x)),
 * where down takes x to r channels and up takes these to y's. Of a convolution, down has its
 * kernel, stride and padding and up is 1x1. */
#ifndef SP_CHECKPOINTS_LORA_H
#define SP_CHECKPOINTS_LORA_H
#include "graph/device.h"
#include "checkpoints/component.h"
#include "options/choices.h"
#include <splam/model.h>

typedef struct sp_lora sp_lora; /* a file of adapters, below */

/* ---- training ---- */

/* Which layers of a denoiser get adapters. Of a UNet, all: linear layers of the transformers, and
 * convolutions, shortcuts, time projections, down- and upsamplers of the residual blocks, as
 * LCM-LoRA has it; attention: to_q, to_k, to_v, to_out.0. Of Stable Diffusion 3's transformer, all: attention and
 * feed-forward layers of every block, of both streams; attention: those of the joint attention, which are the
 * default of diffusers' scripts. */
#define X(name, text) SP_LORA_##name,
typedef enum { SP_LORA_TARGETS_LIST(X) SP_LORA_TARGETS_COUNT } sp_lora_targets;
#undef X
const char *sp_lora_targets_name(sp_lora_targets targets);
/* SP_ARGUMENT, naming the choices, for any other text. */
sp_status sp_lora_targets_of(const char *name, sp_lora_targets *out);

enum { SP_LORA_MAX_RANK = 4096 };
typedef struct {
    int64_t rank; /* r; 0: no adapters */
    double alpha;
    sp_lora_targets targets;
} sp_lora_settings;

/* For sp_set_enter_over: layers of the set below get down, "LAYER.lora_A.weight" [r,K] or
 * [r,C,k,k], and up, "LAYER.lora_B.weight" [M,r] or [M,r,1,1], as PEFT names them; cond_proj, which
 * the teacher does not have, is of this set too. settings: as long as the adapter. */
sp_adapter sp_lora_adapter(const sp_lora_settings *settings);

/* Starting values of the adapters of a denoiser, and of cond_proj if its config has one, new, f32: down
 * U(-1/sqrt(fan_in), 1/sqrt(fan_in)) as PEFT's, up 0, so that nothing changes at first; cond_proj 0
 * or as sp_initialize. */
sp_status sp_lora_create(const sp_component_config *config, const sp_lora_settings *settings,
                         uint64_t seed, bool random_cond_proj, sp_weights **out);
/* Takes the starting values of all adapters from a file instead: of this rank for every layer;
 * alpha/r in it may be another. */
sp_status sp_lora_start(const sp_lora *lora, const sp_lora_settings *settings,
                        sp_weights *adapters);

/* A denoiser's weights with the adapters in them, new: where there is an adapter f32, and made when it is taken
 * (sp_weights_change), else views of base; cond_proj is a view of the adapters'. Both must outlive it, and the
 * device. */
sp_status sp_lora_merged(sp_device *device, const sp_weights *base, const sp_weights *adapters,
                         const sp_lora_settings *settings, sp_weights **out);

/* Writes adapters as files that other programs open, f32: diffusers' names, with alpha/r in the
 * values, because alpha = r is what such a file means; or kohya's, with alpha, of a transformer those that ComfyUI
 * reads ("lora_transformer_" and diffusers' layers). cond_proj, at gamma
 * = 1, becomes an adapter of rank 1 of time_embedding.linear_1: up is what sp_fold_guidance would
 * add to the bias, and down gives 1 for every timestep's embedding (to 1e-6). base: the UNet's
 * weights. scheduler: the scheduler_config.json, as text, of the student that they make of it, which goes into the
 * metadata under SP_LORA_SCHEDULER, where other programs pass it over; NULL: nobody says. */
#define SP_LORA_SCHEDULER "splam_scheduler"
typedef enum { SP_LORA_DIFFUSERS, SP_LORA_KOHYA } sp_lora_naming;
sp_status sp_lora_save(const char *path, sp_lora_naming naming, const sp_component_config *config,
                       const sp_weights *base, const sp_weights *adapters,
                       const sp_lora_settings *settings, const char *scheduler);

/* SP_UNSUPPORTED if what cond_proj adds cannot be written so: a time embedding of very few
 * channels. Ask before training. */
sp_status sp_lora_check_guidance(const sp_component_config *config);

/* weight += scale up down: weight [rows,...] f32, up [rows,r], down [r,...]. */
sp_status sp_lora_add_product(sp_device *device, const sp_tensor *up, const sp_tensor *down, double scale,
                              sp_tensor *weight);

/* ---- files ---- */

/* A file of adapters for a UNet, text encoders, or all: safetensors, or what torch.save wrote; or a folder with
 * pytorch_lora_weights or adapter_model, .safetensors or .bin, or with one .safetensors. A tensor's name is
 *
 *     [base_model.model.] [COMPONENT] LAYER PART
 *
 *   COMPONENT  unet.  lora_unet_  diffusion_model.  model.diffusion_model.        a UNet, or a transformer by its layer
 *              transformer.  lora_transformer_                                     Stable Diffusion 3's transformer
 *              text_encoder.  lora_te_  lora_te1_  text_encoders.clip_l.transformer.   a text encoder
 *              text_encoder_2.  lora_te2_  text_encoders.clip_g.transformer.           a second one
 *              nothing, or lycoris_: the layer tells
 *   LAYER      as in diffusers or in an original checkpoint, "_" for "." or not; attention's to_q, to_k, to_v, to_out
 *              behind "processor.", as diffusers had them before PEFT. What is one layer in an original checkpoint and
 *              several in diffusers (joint_blocks' qkv) changes each by its rows; halves that stand the other way
 *              there are exchanged
 *   PART       .lora_A.weight, .lora_B.weight (PEFT; also .default.weight)  .lora_down.weight, .lora_up.weight (kohya)
 *              .lora.down.weight, _lora.down.weight, .lora_linear_layer.down.weight and up (older diffusers)    .alpha
 *              .lora_mid.weight  .hada_w1_a ...  .lokr_w1 ...  .diff, .diff_b, .w_norm, .b_norm (LyCORIS)
 *              .dora_scale (LyCORIS), .lora_magnitude_vector (PEFT)
 *
 * alpha is the tensor's, else the metadata's (diffusers), else that of adapter_config.json beside a file with
 * "base_model.model.", else r.
 *
 * SP_FORMAT naming the tensor for one that belongs to no naming, for half an adapter, for shapes that do not go
 * together and values that are not finite; SP_UNSUPPORTED by name for GLoRA, OFT, IA3 and adapters with biases. */
sp_status sp_lora_open(const char *path, sp_lora **out);
void sp_lora_close(sp_lora *lora); /* NULL is legal */
/* What the file says of how its student is sampled, SP_LORA_SCHEDULER, as it stands there; NULL: nothing. */
const char *sp_lora_scheduler(const sp_lora *lora);
const char *sp_lora_path(const sp_lora *lora); /* of the file, also where a folder was given */
/* Adapters for that kind of component. */
size_t sp_lora_count(const sp_lora *lora, sp_component_kind kind);

/* W + weight (W' - W) in place of W, for every adapter of the component's kind, W' the weight with the adapter
 * (lora_parts.h); of plain LoRA that is W + weight alpha/r up down. Each is made when it is taken
 * (sp_weights_change), so the component may hold `lora` open beyond sp_lora_close, and memory does not grow by a second
 * copy of the weights. exact: changed weights are f32; else they keep the type that they are stored in (of F8: BF16).
 * SP_FORMAT, counting them and naming some, if adapters are for layers that the component does not have, and if two are
 * for one layer, but for one under a name of original checkpoints, which is passed over with a warning, as in
 * diffusers; SP_SHAPE if its shapes are not the layer's. */
sp_status sp_lora_merge(sp_lora *lora, double weight, sp_device *device, sp_component *component, bool exact);

/* Several files with their weights, merged in this order. */
typedef struct {
    const splam_lora *sources; /* the caller's, as long as the list */
    sp_lora **files;
    size_t count;
} sp_lora_list;
/* callbacks (may be NULL) are asked between them. */
sp_status sp_lora_list_open(const splam_lora *sources, size_t count, const sp_callbacks *callbacks, sp_lora_list *out);
void sp_lora_list_close(sp_lora_list *list); /* zeroed is legal; leaves it zeroed */
/* SP_ARGUMENT if a file has adapters for a kind of component that is not there; has is by kind. */
sp_status sp_lora_list_check(const sp_lora_list *list, const bool *has);
sp_status sp_lora_list_merge(const sp_lora_list *list, sp_device *device, sp_component *component, bool exact);

#endif
