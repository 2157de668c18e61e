/* The blocks of CLIP's and DINOv2's transformers (transformers' CLIPEncoderLayer): norms come first, all layers have
 * biases. */
#ifndef SP_MODELS_ENCODER_LAYER_H
#define SP_MODELS_ENCODER_LAYER_H
#include "ops/ops.h"

typedef struct {
    int64_t width, heads, feed_forward;
    double epsilon;           /* of the norms */
    sp_unary_kind activation; /* QUICK_GELU or GELU */
    bool causal;
} sp_encoder_layer;

/* x [N,L,width]; layers first..last-1, as "encoder.layers.I":
 *   x += out_proj(attention(q_proj(u), k_proj(u), v_proj(u))), u = layer_norm1(x), scale 1/sqrt(width/heads)
 *   x += fc2(activation(fc1(layer_norm2(x)))), fc1 [feed_forward,width] */
sp_value *sp_encoder_layers(sp_builder *b, const sp_encoder_layer *layer, int64_t first, int64_t last, sp_value *x);
/* The first row of layers 0..count-1 alone, [N,1,width], of one layer at least, not causal: the last layer works out
 * keys and values of the other rows and nothing else. */
sp_value *sp_encoder_layers_first(sp_builder *b, const sp_encoder_layer *layer, int64_t count, sp_value *x);

#endif
