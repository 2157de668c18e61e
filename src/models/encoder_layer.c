/* Blocks of transformers that encode. */
#include "models/encoder_layer.h"
#include <math.h>
#include "models/layers.h"

/* Of the queries' rows to all of x. */
static sp_value *self_attention(sp_builder *b, const sp_encoder_layer *c, sp_value *queries, sp_value *x)
{
    sp_scope_enter(b, "self_attn");
    sp_value *q = sp_linear_layer(b, "q_proj", queries, c->width);
    sp_value *k = sp_linear_layer(b, "k_proj", x, c->width);
    sp_value *v = sp_linear_layer(b, "v_proj", x, c->width);
    double scale = 1 / sqrt((double)(c->width / c->heads));
    const sp_attention_options options = {.heads = (int)c->heads, .scale = scale, .causal = c->causal};
    sp_value *h = sp_attention(b, q, k, v, options);
    h = sp_linear_layer(b, "out_proj", h, c->width);
    sp_scope_leave(b);
    return h;
}

/* alone: the first row is all that comes out. */
static sp_value *encoder_layer(sp_builder *b, const sp_encoder_layer *c, sp_value *x, bool alone)
{
    sp_value *u = sp_layer_norm_layer(b, "layer_norm1", x, c->epsilon), *queries = u;
    if (alone) queries = sp_slice(b, u, 1, 0, 1);
    if (alone) x = sp_slice(b, x, 1, 0, 1);
    x = sp_add(b, self_attention(b, c, queries, u), x);
    sp_value *h = sp_layer_norm_layer(b, "layer_norm2", x, c->epsilon);
    h = sp_unary(b, c->activation, sp_linear_layer(b, "mlp.fc1", h, c->feed_forward));
    return sp_add(b, sp_linear_layer(b, "mlp.fc2", h, c->width), x);
}

static sp_value *layers_of(sp_builder *b, const sp_encoder_layer *layer, int64_t first, int64_t last, sp_value *x,
                           bool alone)
{
    for (int64_t i = first; i < last; i++) {
        sp_scope_enter(b, "encoder.layers.%d", (int)i);
        x = encoder_layer(b, layer, x, alone && i == last - 1);
        sp_scope_leave(b);
    }
    return x;
}

sp_value *sp_encoder_layers(sp_builder *b, const sp_encoder_layer *layer, int64_t first, int64_t last, sp_value *x)
{
    return layers_of(b, layer, first, last, x, false);
}

sp_value *sp_encoder_layers_first(sp_builder *b, const sp_encoder_layer *layer, int64_t count, sp_value *x)
{
    return layers_of(b, layer, 0, count, x, true);
}
