/* What samplers, prompts and pictures need to know of the network that denoises: a UNet, or Stable Diffusion 3's
 * transformer. */
#ifndef SP_PIPELINE_DENOISER_H
#define SP_PIPELINE_DENOISER_H
#include "checkpoints/component.h"

typedef struct {
    const sp_network *network;
    const void *config; /* of the network's type */
    const char *name;   /* what people call it: "UNet", "transformer" */
    int64_t in_channels, out_channels;
    int64_t sample_size;   /* the latent's height and width it was trained for; 0: unknown */
    int64_t unit;          /* the latent's sides must be multiples of it */
    int64_t most_side;     /* and at most that; 0: any */
    int64_t context_dim;   /* of a token's state */
    int64_t pooled_dim;    /* of the pooled text; 0: it takes none */
    int64_t time_cond_dim; /* of the guidance that it is told; 0: it is told none */
    sp_guidance_range guidance;
    int64_t blocks;        /* that skip-layer guidance may leave out; 0: none */
    bool sizes;            /* it is told sizes and crops, time_ids */
    bool megapixel;        /* it was trained on SP_XL_SIZES, sp_unet_is_megapixel */
} sp_denoiser;

/* Skip-layer guidance: in evaluation i of n with start n < i < stop n (as diffusers has it) the conditional output less
 * that of the transformer without some of its blocks, times `scale`, is added. Only where there is guidance. */
typedef struct {
    uint64_t blocks; /* bit k: block k is left out; 0: nothing is added */
    double scale, start, stop;
} sp_skip_layers;

/* The config, of kind SP_COMPONENT_UNET or SP_COMPONENT_TRANSFORMER, outlives it. */
sp_denoiser sp_denoiser_of(const sp_component_config *config);

#endif
