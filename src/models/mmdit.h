/* SD3Transformer2DModel of Stable Diffusion 3 and 3.5, a transformer in which picture and text are two streams that
 * look at each other (MMDiT: Esser et al. 2024), built from a diffusers config.json. */
#ifndef SP_MODELS_MMDIT_H
#define SP_MODELS_MMDIT_H
#include "models/config.h"
#include "models/network.h"

enum { SP_MMDIT_MAX_BLOCKS = 64 };
/* Tokens of a third text encoder (T5) behind the others', diffusers' max_sequence_length; so many zeros where there is
 * none, unless somebody says another number. */
enum { SP_MMDIT_TOKENS_BEHIND = 256 };

typedef struct {
    int64_t sample_size; /* the latent's height and width it was trained for */
    int64_t patch_size;  /* of the latent, each a token of the picture */
    int64_t in_channels, out_channels;
    int64_t blocks; /* config: num_layers */
    int64_t heads, head_dim; /* their product is the width of both streams */
    int64_t context_dim;     /* config: joint_attention_dim, of encoder_hidden_states */
    int64_t pooled_dim;      /* config: pooled_projection_dim */
    int64_t positions;       /* config: pos_embed_max_size; the most patches a side */
    bool dual[SP_MMDIT_MAX_BLOCKS]; /* config: dual_attention_layers, whose picture looks at itself once more */
    bool qk_norm;                   /* queries and keys are normalised by the root mean square of a head */
} sp_mmdit_config;

/* What pos_embed is, new, f32 [1,positions^2,width]: of row y and column x the sines and cosines of x, then those of y,
 * a quarter of the width each, of p 10000^(-k/(width/4)), p being the place times the sample's side in patches over
 * `positions` (diffusers' get_2d_sincos_pos_embed). */
sp_status sp_mmdit_positions(const sp_mmdit_config *config, sp_tensor *out);

/* Reads config.json; SP_FORMAT, or SP_UNSUPPORTED naming the key. */
sp_status sp_mmdit_config_read(const json_t *config, const char *where, sp_mmdit_config *out);
/* The config.json that diffusers reads (json_decref); NULL when out of memory. */
json_t *sp_mmdit_config_write(const sp_mmdit_config *config);

/* sample [N,H,W,in_channels], H and W multiples of patch_size and at most positions patches; timestep [N], sigma times
 * 1000; encoder_hidden_states [N,L,context_dim], in any order of tokens; pooled_projections [N,pooled_dim] -> sample
 * [N,H,W,out_channels], noise less picture (the velocity). */
extern const sp_network sp_mmdit_network;

#endif
