/* Vision Transformers: patches and a class token through encoder layers. */
#include "models/vit.h"
#include "models/layers.h"

int64_t sp_vit_tokens(const sp_vit_config *c)
{
    int64_t side = c->image_size / c->patch_size;
    return side * side + 1;
}

/* The class token, then the patches, each with its position -> [N,tokens,width]. */
static sp_value *embeddings(sp_builder *b, const sp_vit_config *c, sp_value *image)
{
    const sp_conv2d_options options = {.stride = (int)c->patch_size};
    int64_t width = c->layer.width;
    sp_scope_enter(b, "embeddings");
    sp_value *patches =
        (c->patch_bias ? sp_conv2d_layer_as : sp_conv2d_layer_without_bias)(b, "patch_embedding", image, width,
                                                                           c->patch_size, options);
    sp_value *token = sp_parameter(b, "class_embedding", sp_shape_of(width));
    sp_value *positions = sp_parameter(b, "position_embedding.weight", sp_shape_of(sp_vit_tokens(c), width));
    token = sp_fill(b, token, sp_shape_of(sp_dim(image, 0), 1, width), 1);
    sp_value *x = sp_concat(b, 2, (sp_value *[]){token, sp_tokens_of(b, patches)}, 1);
    sp_scope_leave(b);
    return sp_add(b, x, positions);
}

static void build(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    const sp_vit_config *c = config;
    (void)options;
    sp_value *x = sp_values_get(in, "image");
    sp_expect_shape(b, x, "image (as NHWC)", sp_shape_of(-1, c->image_size, c->image_size, 3));
    if (sp_builder_failed(b)) return;
    x = embeddings(b, c, x);
    if (c->pre_norm) x = sp_layer_norm_layer(b, "pre_layrnorm", x, c->layer.epsilon); /* so they call it */
    x = sp_encoder_layers_first(b, &c->layer, c->layers, x);
    if (!x) return;
    x = sp_reshape(b, x, sp_shape_of(-1, c->layer.width));
    x = sp_layer_norm_layer(b, "post_layernorm", x, c->layer.epsilon);
    if (c->projection) x = sp_linear_layer_without_bias(b, "visual_projection", x, c->projection);
    sp_values_add(out, "image_embeds", x);
}

static void inputs(const void *config, sp_ports *out)
{
    const sp_vit_config *c = config;
    out->port[out->count++] = (sp_port){.name = "image",
                                        .kind = SP_PORT_PICTURE,
                                        .shape = sp_shape_of(SP_SIZE_N, 3, c->image_size, c->image_size),
                                        .rate = SP_RATE_STEP};
}

static void outputs(const void *config, sp_ports *out)
{
    const sp_vit_config *c = config;
    int64_t width = c->projection ? c->projection : c->layer.width;
    out->port[out->count++] =
        (sp_port){.name = "image_embeds", .shape = sp_shape_of(SP_SIZE_N, width), .rate = SP_RATE_STEP};
}

const sp_network sp_vit_network = {.name = "image encoder", .inputs = inputs, .outputs = outputs, .build = build};
