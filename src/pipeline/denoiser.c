/* The networks that denoise, seen alike. */
#include "pipeline/denoiser.h"

static sp_denoiser of_unet(const sp_unet_config *c)
{
    return (sp_denoiser){.network = &sp_unet_network,
                         .config = c,
                         .name = "UNet",
                         .in_channels = c->in_channels,
                         .out_channels = c->out_channels,
                         .sample_size = c->sample_size,
                         .unit = 1,
                         .context_dim = c->cross_attention_dim,
                         .pooled_dim = c->size_dim ? c->text_dim : 0,
                         .time_cond_dim = c->time_cond_dim,
                         .guidance = c->guidance,
                         .sizes = c->size_dim > 0,
                         .megapixel = sp_unet_is_megapixel(c)};
}

static sp_denoiser of_transformer(const sp_mmdit_config *c)
{
    return (sp_denoiser){.network = &sp_mmdit_network,
                         .config = c,
                         .name = "transformer",
                         .in_channels = c->in_channels,
                         .out_channels = c->out_channels,
                         .sample_size = c->sample_size,
                         .unit = c->patch_size,
                         .most_side = c->patch_size * c->positions,
                         .context_dim = c->context_dim,
                         .pooled_dim = c->pooled_dim,
                         .blocks = c->blocks};
}

sp_denoiser sp_denoiser_of(const sp_component_config *config)
{
    return config->kind == SP_COMPONENT_TRANSFORMER ? of_transformer(&config->transformer) : of_unet(&config->unet);
}
