/* The way of sp_vae_run_all for pictures that are larger than a tile. Within src/models. */
#ifndef SP_PIPELINE_VAE_TILES_H
#define SP_PIPELINE_VAE_TILES_H
#include "pipeline/vae_run.h"

/* The side of a tile as the half's input has it: pixels of pictures or of latents. */
int64_t sp_vae_input_tile(const sp_vae_config *config, sp_vae_half half, int64_t tile);
sp_status sp_vae_run_tiles(const sp_component *vae, sp_vae_half half, const sp_tensor *in,
                           const sp_vae_settings *settings, const sp_callbacks *callbacks,
                           sp_tensor *out);

#endif
