/* Low-rank adapters (LoRA, Hu et al. 2021): a layer y = W x becomes y = W x + alpha/r up(down(x)),
 * where down takes x to r channels and up takes these to y's. Of a convolution, down has its kernel,
 * stride and padding and up is 1x1. */
#ifndef SP_MODELS_LORA_H
#define SP_MODELS_LORA_H
#include "models/component.h"

/* ---- files ---- */

/* A file of adapters for a UNet, a text encoder, or both: safetensors, or what torch.save wrote. Two
 * namings are known:
 *   diffusers (PEFT)  unet.LAYER.lora_A.weight, .lora_B.weight; text_encoder.LAYER...; also
 *                     .lora.down.weight, .lora.up.weight; alpha in the metadata, else r
 *   kohya             lora_unet_LAYER.lora_down.weight, .lora_up.weight, .alpha (absent: r);
 *                     lora_te_LAYER...
 * with the layer's name as in diffusers, or as in original checkpoints; kohya's has "_" for ".". */
typedef struct sp_lora sp_lora;

/* SP_FORMAT naming the tensor for one that belongs to neither naming, for half an adapter, for
 * shapes that do not go together and values that are not finite; SP_UNSUPPORTED by name for DoRA,
 * LoHa, LoKr, OFT, IA3, adapters with biases or a middle factor, and those of Stable Diffusion XL's
 * second text encoder. */
sp_status sp_lora_open(const char *path, sp_lora **out);
void sp_lora_close(sp_lora *lora); /* NULL is legal */
/* Adapters for that kind of component. */
size_t sp_lora_count(const sp_lora *lora, sp_component_kind kind);

/* W + weight alpha/r up down in place of W, for every adapter of the component's kind, parameter by
 * parameter. exact: changed weights are f32; else they keep the type that they are stored in.
 * SP_FORMAT, naming the tensor, if an adapter is for a layer that the component does not have;
 * SP_SHAPE if its shapes are not the layer's. */
sp_status sp_lora_merge(const sp_lora *lora, double weight, sp_component *component, bool exact);

/* Several files with their weights, merged in this order. */
typedef struct {
    const char *path;
    double weight;
} sp_lora_source;
typedef struct {
    const sp_lora_source *sources; /* the caller's, as long as the list */
    sp_lora **files;
    size_t count;
} sp_lora_list;
sp_status sp_lora_list_open(const sp_lora_source *sources, size_t count, sp_lora_list *out);
void sp_lora_list_close(sp_lora_list *list); /* zeroed is legal; leaves it zeroed */
/* SP_ARGUMENT if a file has adapters for a kind of component that is not there; has is by kind. */
sp_status sp_lora_list_check(const sp_lora_list *list, const bool *has);
sp_status sp_lora_list_merge(const sp_lora_list *list, sp_component *component, bool exact);

#endif
