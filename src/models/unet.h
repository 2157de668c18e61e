/* UNet2DConditionModel of Stable Diffusion 1.x, 2.x and XL, built from a diffusers config.json. */
#ifndef SP_MODELS_UNET_H
#define SP_MODELS_UNET_H
#include "models/config.h"
#include "models/network.h"
#include "ops/ops.h"

/* CFG scales from low to high; high 0: none. */
typedef struct {
    double low, high;
} sp_guidance_range;

/* Lists are per level, from the highest resolution down. */
typedef struct {
    int levels;
    int64_t sample_size; /* the latent's height and width it was trained for; 0: unknown. Any size
                            runs */
    int64_t in_channels, out_channels;
    int64_t channels[SP_MODEL_MAX_LEVELS];
    int64_t layers[SP_MODEL_MAX_LEVELS]; /* resnets of a down block; its up block has one more */
    int64_t heads[SP_MODEL_MAX_LEVELS];  /* config: attention_head_dim, which diffusers misnamed */
    /* Blocks of each transformer; config: transformer_layers_per_block and its reverse_ one. */
    int64_t down_depth[SP_MODEL_MAX_LEVELS][SP_MODEL_MAX_LAYERS];
    int64_t up_depth[SP_MODEL_MAX_LEVELS][SP_MODEL_MAX_LAYERS + 1];
    int64_t middle_depth;
    bool middle_attention; /* config: mid_block_type; false: UNetMidBlock2D, one resnet alone */
    bool down_attention[SP_MODEL_MAX_LEVELS];
    bool up_attention[SP_MODEL_MAX_LEVELS]; /* by resolution, as the others; the file lists them
                                               backwards */
    int64_t cross_attention_dim;
    int64_t time_dim;      /* width of the time embedding: time_embedding_dim or 4 channels[0] */
    int64_t time_cond_dim; /* config: time_cond_proj_dim; 0: the model has no cond_proj */
    sp_guidance_range guidance; /* config: _guidance_range, which diffusers passes over: what cond_proj was trained for;
                                   none where it does not say */
    int64_t size_dim;      /* config: addition_time_embed_dim; 0: no "text_time", the time embedding is of time alone */
    int64_t text_dim;      /* of the pooled text, what projection_class_embeddings_input_dim has beside six sizes */
    int64_t groups;
    double epsilon;
    int64_t downsample_padding;
    double freq_shift;
    bool cos_first; /* config: flip_sin_to_cos */
    bool linear_projection;
    bool upcast_attention; /* of no consequence here: scores are always fp32. Kept for writing */
} sp_unet_config;

enum { SP_UNET_SIZES = 6 }; /* numbers of time_ids */
/* Gives every transformer of the levels that are set so many blocks, the middle one too. */
void sp_unet_config_set_depth(sp_unet_config *config, int64_t depth);

/* Stable Diffusion XL's kind whose own size is 128, 1024 x 1024 pixels: trained on SP_XL_SIZES (options/choices.h), as
 * Turbo, whose size is 64, is not. */
bool sp_unet_is_megapixel(const sp_unet_config *config);

/* SP_IO, SP_FORMAT, or SP_UNSUPPORTED naming the key. Absent keys take diffusers' defaults. */
sp_status sp_unet_config_load(const char *path, sp_unet_config *out);
sp_status sp_unet_config_read(const json_t *config, const char *where, sp_unet_config *out);
/* The config.json that diffusers reads (json_decref); NULL when out of memory. */
json_t *sp_unet_config_write(const sp_unet_config *config);

/* Each resnet with its attention is a block of gradient checkpointing. */
int sp_unet_block_count(const sp_unet_config *config); /* of a whole UNet */

/* What a UNet is asked. */
typedef struct {
    sp_value *sample;                /* [N,H,W,in_channels] */
    sp_value *timestep;              /* [N] f32, whole or fractional */
    sp_value *encoder_hidden_states; /* [N,L,cross_attention_dim] */
    sp_value *timestep_cond;         /* [N,time_cond_dim]; NULL: cond_proj is skipped */
    sp_value *text_embeds;           /* [N,text_dim], where the config has size_dim: the pooled text */
    sp_value *time_ids;              /* [N,6]: height and width of the original, top and left of the crop, height and
                                        width of the target, in pixels */
} sp_unet_inputs;
/* The prediction [N,H,W,out_channels]. options NULL: no blocks are marked. Parameters are named as in the checkpoint,
 * within the builder's scope. */
sp_value *sp_unet(sp_builder *b, const sp_unet_config *c, const sp_block_options *options, const sp_unet_inputs *in);

/* What the middle block makes of them, [N,h,w,channels of the last level]: the way down alone, without the way up. h
 * and w are those of the sample halved levels - 1 times, halves rounded up. */
sp_value *sp_unet_features(sp_builder *b, const sp_unet_config *c, const sp_block_options *options,
                           const sp_unet_inputs *in);

/* sample, timestep, encoder_hidden_states and, where the config has them, timestep_cond, text_embeds and time_ids ->
 * sample; config sp_unet_config, options sp_block_options. */
extern const sp_network sp_unet_network;
/* The same inputs -> mid_block, the middle block's features. */
extern const sp_network sp_unet_features_network;

#endif
