/* Inception-v3 for FID, block by block; the letters A to E are those of torchvision's classes. */
#include "models/inception.h"
#include "models/layers.h"

/* ReLU(convolution + bias), rows x columns. */
typedef struct {
    int64_t channels;
    int rows, columns, stride, pad_rows, pad_columns;
} kernel;

static sp_value *conv(sp_builder *b, const char *name, sp_value *x, kernel k)
{
    if (!x) return NULL;
    sp_scope_enter(b, "%s.conv", name);
    sp_value *weight = sp_parameter(b, "weight", sp_shape_of(k.channels, sp_channels(x), k.rows, k.columns));
    sp_value *bias = sp_parameter(b, "bias", sp_shape_of(k.channels));
    const sp_conv2d_options options = {k.stride, k.pad_rows, k.pad_columns, k.pad_rows, k.pad_columns, false};
    sp_value *y = sp_unary(b, SP_UNARY_RELU, sp_conv2d(b, x, weight, bias, NULL, NULL, options));
    sp_scope_leave(b);
    return y;
}

/* 1x1; 1x7 and 7x1, 1x3 and 3x1, 3x3 and 5x5 of the same size; 3x3 without padding. */
static sp_value *point(sp_builder *b, const char *name, sp_value *x, int64_t channels)
{
    return conv(b, name, x, (kernel){channels, 1, 1, 1, 0, 0});
}

static sp_value *same(sp_builder *b, const char *name, sp_value *x, int64_t channels, int rows, int columns)
{
    return conv(b, name, x, (kernel){channels, rows, columns, 1, rows / 2, columns / 2});
}

static sp_value *inner(sp_builder *b, const char *name, sp_value *x, int64_t channels, int stride)
{
    return conv(b, name, x, (kernel){channels, 3, 3, stride, 0, 0});
}

static sp_value *largest(sp_builder *b, sp_value *x)
{
    return sp_pool2d(b, x, (sp_pool2d_options){.kernel = 3, .stride = 2, .largest = true});
}

static sp_value *around(sp_builder *b, sp_value *x, bool largest)
{
    return sp_pool2d(b, x, (sp_pool2d_options){.kernel = 3, .stride = 1, .padding = 1, .largest = largest});
}

static sp_value *block_a(sp_builder *b, const char *name, sp_value *x, int64_t pooled)
{
    sp_value *y[4];
    sp_scope_enter(b, "%s", name);
    y[0] = point(b, "branch1x1", x, 64);
    y[1] = same(b, "branch5x5_2", point(b, "branch5x5_1", x, 48), 64, 5, 5);
    y[2] = same(b, "branch3x3dbl_2", point(b, "branch3x3dbl_1", x, 64), 96, 3, 3);
    y[2] = same(b, "branch3x3dbl_3", y[2], 96, 3, 3);
    y[3] = point(b, "branch_pool", around(b, x, false), pooled);
    sp_scope_leave(b);
    return sp_concat(b, 4, y, -1);
}

static sp_value *block_b(sp_builder *b, const char *name, sp_value *x)
{
    sp_value *y[3];
    sp_scope_enter(b, "%s", name);
    y[0] = inner(b, "branch3x3", x, 384, 2);
    y[1] = same(b, "branch3x3dbl_2", point(b, "branch3x3dbl_1", x, 64), 96, 3, 3);
    y[1] = inner(b, "branch3x3dbl_3", y[1], 96, 2);
    y[2] = largest(b, x);
    sp_scope_leave(b);
    return sp_concat(b, 3, y, -1);
}

static sp_value *block_c(sp_builder *b, const char *name, sp_value *x, int64_t width)
{
    sp_value *y[4];
    sp_scope_enter(b, "%s", name);
    y[0] = point(b, "branch1x1", x, 192);
    y[1] = same(b, "branch7x7_2", point(b, "branch7x7_1", x, width), width, 1, 7);
    y[1] = same(b, "branch7x7_3", y[1], 192, 7, 1);
    y[2] = same(b, "branch7x7dbl_2", point(b, "branch7x7dbl_1", x, width), width, 7, 1);
    y[2] = same(b, "branch7x7dbl_3", y[2], width, 1, 7);
    y[2] = same(b, "branch7x7dbl_4", y[2], width, 7, 1);
    y[2] = same(b, "branch7x7dbl_5", y[2], 192, 1, 7);
    y[3] = point(b, "branch_pool", around(b, x, false), 192);
    sp_scope_leave(b);
    return sp_concat(b, 4, y, -1);
}

static sp_value *block_d(sp_builder *b, const char *name, sp_value *x)
{
    sp_value *y[3];
    sp_scope_enter(b, "%s", name);
    y[0] = inner(b, "branch3x3_2", point(b, "branch3x3_1", x, 192), 320, 2);
    y[1] = same(b, "branch7x7x3_2", point(b, "branch7x7x3_1", x, 192), 192, 1, 7);
    y[1] = same(b, "branch7x7x3_3", y[1], 192, 7, 1);
    y[1] = inner(b, "branch7x7x3_4", y[1], 192, 2);
    y[2] = largest(b, x);
    sp_scope_leave(b);
    return sp_concat(b, 3, y, -1);
}

static sp_value *block_e(sp_builder *b, const char *name, sp_value *x, bool pools_largest)
{
    sp_value *y[6];
    sp_scope_enter(b, "%s", name);
    y[0] = point(b, "branch1x1", x, 320);
    sp_value *one = point(b, "branch3x3_1", x, 384);
    y[1] = same(b, "branch3x3_2a", one, 384, 1, 3);
    y[2] = same(b, "branch3x3_2b", one, 384, 3, 1);
    sp_value *two = same(b, "branch3x3dbl_2", point(b, "branch3x3dbl_1", x, 448), 384, 3, 3);
    y[3] = same(b, "branch3x3dbl_3a", two, 384, 1, 3);
    y[4] = same(b, "branch3x3dbl_3b", two, 384, 3, 1);
    y[5] = point(b, "branch_pool", around(b, x, pools_largest), 192);
    sp_scope_leave(b);
    return sp_concat(b, 6, y, -1);
}

static sp_value *stem(sp_builder *b, sp_value *x)
{
    x = inner(b, "Conv2d_1a_3x3", x, 32, 2);
    x = inner(b, "Conv2d_2a_3x3", x, 32, 1);
    x = largest(b, same(b, "Conv2d_2b_3x3", x, 64, 3, 3));
    x = point(b, "Conv2d_3b_1x1", x, 80);
    return largest(b, inner(b, "Conv2d_4a_3x3", x, 192, 1));
}

static void build(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    (void)config, (void)options;
    sp_value *x = sp_values_get(in, "image");
    sp_expect_shape(b, x, "image (as NHWC)", sp_shape_of(-1, SP_INCEPTION_SIDE, SP_INCEPTION_SIDE, 3));
    x = stem(b, x);
    x = block_a(b, "Mixed_5b", x, 32);
    x = block_a(b, "Mixed_5c", x, 64);
    x = block_a(b, "Mixed_5d", x, 64);
    x = block_b(b, "Mixed_6a", x);
    x = block_c(b, "Mixed_6b", x, 128);
    x = block_c(b, "Mixed_6c", x, 160);
    x = block_c(b, "Mixed_6d", x, 160);
    x = block_c(b, "Mixed_6e", x, 192);
    x = block_d(b, "Mixed_7a", x);
    x = block_e(b, "Mixed_7b", x, false);
    x = block_e(b, "Mixed_7c", x, true);
    if (!x) return;
    x = sp_pool2d(b, x, (sp_pool2d_options){.kernel = (int)sp_dim(x, 1), .stride = 1});
    x = x ? sp_reshape(b, x, sp_shape_of(-1, SP_INCEPTION_FEATURES)) : NULL;
    sp_values_add(out, "features", x);
    sp_values_add(out, "logits", sp_linear_layer_without_bias(b, "fc", x, SP_INCEPTION_CLASSES));
}

static void inputs(const void *config, sp_ports *out)
{
    (void)config;
    out->port[out->count++] =
        (sp_port){.name = "image",
                  .kind = SP_PORT_PICTURE,
                  .shape = sp_shape_of(SP_SIZE_N, 3, SP_INCEPTION_SIDE, SP_INCEPTION_SIDE),
                  .rate = SP_RATE_STEP};
}

static void outputs(const void *config, sp_ports *out)
{
    (void)config;
    out->port[out->count++] =
        (sp_port){.name = "features", .shape = sp_shape_of(SP_SIZE_N, SP_INCEPTION_FEATURES), .rate = SP_RATE_STEP};
    out->port[out->count++] =
        (sp_port){.name = "logits", .shape = sp_shape_of(SP_SIZE_N, SP_INCEPTION_CLASSES), .rate = SP_RATE_STEP};
}

const sp_network sp_inception_network = {.name = "inception", .inputs = inputs, .outputs = outputs, .build = build};
