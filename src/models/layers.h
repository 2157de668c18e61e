/* Layers: an operator together with its parameters, named as in the checkpoints: NAME.weight,
 * NAME.bias within the current scope. Every call accepts NULL values after an error and returns
 * NULL then (see graph.h).
 *
 * Letters: N samples, H height, W width, C channels, L tokens. Pictures are [N,H,W,C], tokens
 * [N,L,C]. */
#ifndef SP_MODELS_LAYERS_H
#define SP_MODELS_LAYERS_H
#include "ops/ops.h"

/* Convolution with bias, odd square kernel, stride 1, the size kept: x [N,H,W,C] ->
 * [N,H,W,channels]. */
sp_value *sp_conv2d_layer(sp_builder *b, const char *name, sp_value *x, int64_t channels,
                          int64_t kernel);
/* The same with stride and padding of one's own, and without bias. */
sp_value *sp_conv2d_layer_as(sp_builder *b, const char *name, sp_value *x, int64_t channels, int64_t kernel,
                             sp_conv2d_options options);
sp_value *sp_conv2d_layer_without_bias(sp_builder *b, const char *name, sp_value *x,
                                       int64_t channels, int64_t kernel, sp_conv2d_options options);
/* x [...,K] -> [...,features], with bias, or without. */
sp_value *sp_linear_layer(sp_builder *b, const char *name, sp_value *x, int64_t features);
sp_value *sp_linear_layer_without_bias(sp_builder *b, const char *name, sp_value *x,
                                       int64_t features);
sp_value *sp_group_norm_layer(sp_builder *b, const char *name, sp_value *x, int64_t groups,
                              double epsilon);
sp_value *sp_layer_norm_layer(sp_builder *b, const char *name, sp_value *x, double epsilon);
/* ids [...] -> [...,width], table [rows,width]. */
sp_value *sp_embedding_layer(sp_builder *b, const char *name, sp_value *ids, int64_t rows,
                             int64_t width);

/* [N,H,W,C] -> [N,H*W,C] and back; both are views. */
sp_value *sp_tokens_of(sp_builder *b, sp_value *picture);
sp_value *sp_picture_of(sp_builder *b, sp_value *tokens, int64_t height, int64_t width);

/* The residual block of UNet and autoencoder (ResnetBlock2D), "resnets.INDEX":
 *   norm1, SiLU, conv1, + time_emb_proj, norm2, SiLU, conv2, + shortcut  ->  [N,H,W,channels]
 * activated_time: SiLU(time embedding) [N,D], or NULL where there is none. */
typedef struct {
    int64_t groups;
    double epsilon;
} sp_norm_settings;
sp_value *sp_resnet_block(sp_builder *b, int64_t index, sp_value *x, sp_value *activated_time,
                          int64_t channels, sp_norm_settings norm);
/* Nearest neighbour to height x width, then conv (Upsample2D). */
sp_value *sp_upsample_layer(sp_builder *b, const char *name, sp_value *x, int64_t height,
                            int64_t width);
/* Convolution of stride 2 (Downsample2D). padding 1: one pixel on every side; 0: right and bottom
 * only. */
sp_value *sp_downsample_layer(sp_builder *b, const char *name, sp_value *x, int64_t padding);

/* Fails the build unless `value` has exactly this shape; an entry of -1 stands for any size >= 1.
 * `name` is for the message. */
void sp_expect_shape(sp_builder *b, const sp_value *value, const char *name, sp_shape expected);

#endif
