/* Layers that several networks are made of. */
#include "models/layers.h"

#include <stdio.h>

static sp_value *convolution(sp_builder *b, const char *name, sp_value *x, int64_t channels,
                             int64_t kernel, sp_conv2d_options options, bool has_bias)
{
    if (!x) return NULL;
    sp_scope_enter(b, "%s", name);
    sp_value *weight =
        sp_parameter(b, "weight", sp_shape_of(channels, sp_channels(x), kernel, kernel));
    sp_value *bias = has_bias ? sp_parameter(b, "bias", sp_shape_of(channels)) : NULL;
    sp_value *y = sp_adapted(b, sp_conv2d(b, x, weight, bias, NULL, NULL, options));
    sp_scope_leave(b);
    return y;
}

sp_value *sp_conv2d_layer(sp_builder *b, const char *name, sp_value *x, int64_t channels,
                          int64_t kernel)
{
    int pad = (int)(kernel / 2);
    return convolution(b, name, x, channels, kernel,
                       (sp_conv2d_options){1, pad, pad, pad, pad, false}, true);
}

sp_value *sp_conv2d_layer_as(sp_builder *b, const char *name, sp_value *x, int64_t channels, int64_t kernel,
                             sp_conv2d_options options)
{
    return convolution(b, name, x, channels, kernel, options, true);
}

sp_value *sp_conv2d_layer_without_bias(sp_builder *b, const char *name, sp_value *x,
                                       int64_t channels, int64_t kernel, sp_conv2d_options options)
{
    return convolution(b, name, x, channels, kernel, options, false);
}

static sp_value *linear(sp_builder *b, const char *name, sp_value *x, int64_t features,
                        bool has_bias)
{
    if (!x) return NULL;
    sp_scope_enter(b, "%s", name);
    sp_value *weight = sp_parameter(b, "weight", sp_shape_of(features, sp_channels(x)));
    sp_value *bias = has_bias ? sp_parameter(b, "bias", sp_shape_of(features)) : NULL;
    sp_value *y = sp_adapted(b, sp_linear(b, x, weight, bias, NULL));
    sp_scope_leave(b);
    return y;
}

sp_value *sp_linear_layer(sp_builder *b, const char *name, sp_value *x, int64_t features)
{
    return linear(b, name, x, features, true);
}

sp_value *sp_linear_layer_without_bias(sp_builder *b, const char *name, sp_value *x,
                                       int64_t features)
{
    return linear(b, name, x, features, false);
}

sp_value *sp_group_norm_layer(sp_builder *b, const char *name, sp_value *x, int64_t groups,
                              double epsilon)
{
    if (!x) return NULL;
    sp_scope_enter(b, "%s", name);
    sp_value *gamma = sp_parameter(b, "weight", sp_shape_of(sp_channels(x)));
    sp_value *beta = sp_parameter(b, "bias", sp_shape_of(sp_channels(x)));
    sp_value *y =
        sp_group_norm(b, x, gamma, beta, (sp_group_norm_options){(int)groups, epsilon, false});
    sp_scope_leave(b);
    return y;
}

sp_value *sp_layer_norm_layer(sp_builder *b, const char *name, sp_value *x, double epsilon)
{
    if (!x) return NULL;
    sp_scope_enter(b, "%s", name);
    sp_value *gamma = sp_parameter(b, "weight", sp_shape_of(sp_channels(x)));
    sp_value *beta = sp_parameter(b, "bias", sp_shape_of(sp_channels(x)));
    sp_value *y = sp_layer_norm(b, x, gamma, beta, (sp_layer_norm_options){.epsilon = epsilon});
    sp_scope_leave(b);
    return y;
}

sp_value *sp_embedding_layer(sp_builder *b, const char *name, sp_value *ids, int64_t rows,
                             int64_t width)
{
    sp_scope_enter(b, "%s", name);
    sp_value *y = sp_embedding(b, ids, sp_parameter(b, "weight", sp_shape_of(rows, width)));
    sp_scope_leave(b);
    return y;
}

sp_value *sp_tokens_of(sp_builder *b, sp_value *picture)
{
    if (!picture) return NULL;
    return sp_reshape(b, picture,
                      sp_shape_of(sp_dim(picture, 0), sp_dim(picture, 1) * sp_dim(picture, 2),
                                  sp_channels(picture)));
}

sp_value *sp_picture_of(sp_builder *b, sp_value *tokens, int64_t height, int64_t width)
{
    if (!tokens) return NULL;
    return sp_reshape(b, tokens,
                      sp_shape_of(sp_dim(tokens, 0), height, width, sp_channels(tokens)));
}

sp_value *sp_resnet_block(sp_builder *b, int64_t index, sp_value *x, sp_value *activated_time,
                          int64_t channels, sp_norm_settings norm)
{
    if (!x) return NULL;
    sp_scope_enter(b, "resnets.%d", (int)index);
    sp_value *h = sp_silu(b, sp_group_norm_layer(b, "norm1", x, norm.groups, norm.epsilon));
    h = sp_conv2d_layer(b, "conv1", h, channels, 3);
    if (activated_time)
        h = sp_add_per_channel(b, h, sp_linear_layer(b, "time_emb_proj", activated_time, channels));
    h = sp_silu(b, sp_group_norm_layer(b, "norm2", h, norm.groups, norm.epsilon));
    h = sp_conv2d_layer(b, "conv2", h, channels, 3);
    sp_value *shortcut =
        sp_channels(x) == channels ? x : sp_conv2d_layer(b, "conv_shortcut", x, channels, 1);
    h = sp_add(b, h, shortcut);
    sp_scope_leave(b);
    return h;
}

sp_value *sp_upsample_layer(sp_builder *b, const char *name, sp_value *x, int64_t height,
                            int64_t width)
{
    if (!x) return NULL;
    sp_scope_enter(b, "%s", name);
    sp_value *y =
        sp_conv2d_layer(b, "conv", sp_upsample_nearest(b, x, height, width), sp_channels(x), 3);
    sp_scope_leave(b);
    return y;
}

sp_value *sp_downsample_layer(sp_builder *b, const char *name, sp_value *x, int64_t padding)
{
    if (!x) return NULL;
    int before = (int)padding;
    sp_scope_enter(b, "%s", name);
    sp_value *y = convolution(b, "conv", x, sp_channels(x), 3,
                              (sp_conv2d_options){2, before, before, 1, 1, false}, true);
    sp_scope_leave(b);
    return y;
}

void sp_expect_shape(sp_builder *b, const sp_value *value, const char *name, sp_shape expected)
{
    if (!value) return;
    bool good = value->shape.rank == expected.rank;
    for (int i = 0; good && i < expected.rank; i++) {
        int64_t found = value->shape.dim[i];
        good = found >= 1 && (expected.dim[i] == -1 || found == expected.dim[i]);
    }
    if (good) return;
    char text[128] = "[";
    int length = 1;
    for (int i = 0; i < expected.rank; i++) {
        const char *comma = i ? "," : "";
        if (expected.dim[i] < 0)
            length += snprintf(text + length, sizeof text - (size_t)length, "%sany", comma);
        else
            length += snprintf(text + length, sizeof text - (size_t)length, "%s%lld", comma,
                               (long long)expected.dim[i]);
    }
    sp_builder_fail(b, SP_SHAPE, "\"%s\" has the shape %s, expected %s]", name,
                    sp_shape_text(value->shape), text);
}
