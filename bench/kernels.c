/* Speed of the CPU kernels, convolutions' forward pass and data gradient apart, on the sizes of the
 * emoji demo and of Stable Diffusion: one line an operator, as a row of the table in
 * docs/kernels.md. GB/s count every input and output once; GFLOP/s as the operator counts them,
 * with their share of what the cores can do. With "direct" no convolution is Winograd's.
 * Usage: kernels [THREADS [OPERATOR [f32|bf16 [direct]]]] */
#include "backend/cpu/convolution_choice.h"
#include "graph/passes.h"
#include "timing.h"

typedef struct {
    sp_builder *b;
    sp_dtype dtype;
    const int64_t *size;
} maker;

static sp_value *image(const maker *m, const char *name)
{
    return sp_input(m->b, name, m->dtype, sp_shape_of(m->size[0], m->size[1], m->size[2]),
                    SP_RATE_STEP);
}
static sp_value *vector(const maker *m, const char *name)
{
    return sp_input(m->b, name, SP_F32, sp_shape_of(m->size[2]), SP_RATE_STEP);
}
static sp_value *make_add(const maker *m)
{
    return sp_add(m->b, image(m, "x"), image(m, "y"));
}
static sp_value *make_silu(const maker *m)
{
    return sp_silu(m->b, image(m, "x"));
}
static sp_value *make_silu_gradient(const maker *m)
{
    return sp_unary_gradient(m->b, image(m, "x"), image(m, "dy"),
                             (sp_unary_options){.kind = SP_UNARY_SILU});
}
static sp_value *make_geglu(const maker *m)
{
    return sp_geglu(m->b, image(m, "x"));
}
static sp_value *make_cast(const maker *m)
{
    return sp_cast(m->b, image(m, "x"), m->dtype == SP_F32 ? SP_BF16 : SP_F32);
}
static sp_value *make_sum_leading(const maker *m)
{
    return sp_sum_leading(m->b, image(m, "x"), 1);
}
static const sp_group_norm_options group_norm = {32, 1e-5, true};
static sp_value *make_group_norm(const maker *m)
{
    return sp_group_norm(m->b, image(m, "x"), vector(m, "gamma"), vector(m, "beta"), group_norm);
}
static sp_value *make_group_norm_gradient(const maker *m)
{
    return sp_group_norm_gradient(m->b, image(m, "x"), vector(m, "gamma"), vector(m, "beta"),
                                  image(m, "dy"), group_norm);
}
static sp_value *make_layer_norm(const maker *m)
{
    return sp_layer_norm(m->b, image(m, "x"), vector(m, "gamma"), vector(m, "beta"),
                         (sp_layer_norm_options){1e-5, false});
}
static sp_value *make_layer_norm_gradient(const maker *m)
{
    return sp_layer_norm_gradient(m->b, image(m, "x"), vector(m, "gamma"), image(m, "dy"),
                                  (sp_layer_norm_options){1e-5, false});
}
static sp_value *make_upsample(const maker *m)
{
    sp_value *x =
        sp_input(m->b, "x", m->dtype, sp_shape_of(m->size[0], m->size[1], m->size[1], m->size[2]),
                 SP_RATE_STEP);
    return sp_upsample_nearest(m->b, x, 2 * m->size[1], 2 * m->size[1]);
}
/* size: samples, rows, channels of x and of y */
static sp_value *make_concat(const maker *m)
{
    int64_t other[3] = {m->size[0], m->size[1], m->size[3]};
    maker second = {m->b, m->dtype, other};
    return sp_concat(m->b, 2, (sp_value *[]){image(m, "x"), image(&second, "y")}, 2);
}
/* size: samples, rows, channels of x and of y */
static sp_value *make_linear(const maker *m)
{
    sp_value *weight = sp_input(m->b, "weight", m->dtype, sp_shape_of(m->size[3], m->size[2]),
                                SP_RATE_RUN),
             *bias = sp_input(m->b, "bias", SP_F32, sp_shape_of(m->size[3]), SP_RATE_RUN);
    return sp_linear(m->b, image(m, "x"), weight, bias, NULL);
}
/* size: samples, rows, channels of x and of y */
static sp_value *make_linear_geglu(const maker *m)
{
    sp_value *weight = sp_input(m->b, "weight", m->dtype, sp_shape_of(2 * m->size[3], m->size[2]),
                                SP_RATE_RUN),
             *bias = sp_input(m->b, "bias", SP_F32, sp_shape_of(2 * m->size[3]), SP_RATE_RUN);
    return sp_linear_geglu(m->b, image(m, "x"), weight, bias);
}
/* size: samples, rows, channels of x and of y */
static sp_value *make_linear_weight_gradient(const maker *m)
{
    int64_t other[3] = {m->size[0], m->size[1], m->size[3]};
    maker y = {m->b, m->dtype, other};
    return sp_linear_weight_gradient(m->b, image(m, "x"), image(&y, "dy"));
}
/* size: samples, side of x, channels of x and of y, kernel, stride, or 0 where x is doubled to that
 * side; padded to a whole part of the side */
static sp_value *make_conv2d_weight_gradient(const maker *m)
{
    bool doubled = m->size[5] == 0;
    int64_t side = m->size[1], stride = doubled ? 1 : m->size[5], pad = m->size[4] / 2;
    int64_t stored = doubled ? side / 2 : side;
    sp_value *x = sp_input(m->b, "x", m->dtype, sp_shape_of(m->size[0], stored, stored, m->size[2]),
                           SP_RATE_STEP),
             *dy = sp_input(m->b, "dy", m->dtype,
                            sp_shape_of(m->size[0], side / stride, side / stride, m->size[3]),
                            SP_RATE_STEP);
    sp_conv2d_options o = {(int)stride, (int)pad, (int)pad, (int)pad, (int)pad, doubled};
    return sp_conv2d_weight_gradient(m->b, x, dy, m->size[4], m->size[4], o);
}
static sp_value *make_permute(const maker *m)
{
    return sp_permute(m->b, image(m, "x"), (int[]){0, 2, 1});
}
/* size: samples, queries, keys, heads, head dimension, causal */
static sp_value *tokens(const maker *m, const char *name, int64_t count)
{
    return sp_input(m->b, name, m->dtype, sp_shape_of(m->size[0], count, m->size[3] * m->size[4]),
                    SP_RATE_STEP);
}
static sp_attention_options heads(const maker *m)
{
    return (sp_attention_options){
        .heads = (int)m->size[3], .scale = 1 / sqrt((double)m->size[4]), .causal = m->size[5] != 0};
}
static sp_value *make_attention(const maker *m)
{
    return sp_attention(m->b, tokens(m, "q", m->size[1]), tokens(m, "k", m->size[2]),
                        tokens(m, "v", m->size[2]), heads(m));
}
static sp_value *make_attention_gradient(const maker *m)
{
    sp_value *log_sum = sp_input(m->b, "log_sum", SP_F32,
                                 sp_shape_of(m->size[0], m->size[3], m->size[1]), SP_RATE_STEP);
    return sp_attention_gradient(m->b, tokens(m, "q", m->size[1]), tokens(m, "k", m->size[2]),
                                 tokens(m, "v", m->size[2]), tokens(m, "out", m->size[1]), log_sum,
                                 tokens(m, "dout", m->size[1]), heads(m));
}

static const struct {
    const char *name;
    sp_value *(*make)(const maker *m);
    int64_t size[6];
} rows[] = {
    {"add, 32x256x64", make_add, {32, 256, 64}},
    {"add, 1x4096x320", make_add, {1, 4096, 320}},
    {"add, 1x1024x640", make_add, {1, 1024, 640}},
    {"cast, 2x4096x320", make_cast, {2, 4096, 320}},
    {"silu, 1x4096x320", make_silu, {1, 4096, 320}},
    {"silu, 1x262144x128", make_silu, {1, 262144, 128}},
    {"silu gradient, 32x256x64", make_silu_gradient, {32, 256, 64}},
    {"geglu, 32x64x1024", make_geglu, {32, 64, 1024}},
    {"geglu, 1x4096x2560", make_geglu, {1, 4096, 2560}},
    {"geglu, 2x4096x2560", make_geglu, {2, 4096, 2560}},
    {"geglu, 1x1024x5120", make_geglu, {1, 1024, 5120}},
    {"geglu, 1x256x10240", make_geglu, {1, 256, 10240}},
    {"sum of rows, 32x256x64", make_sum_leading, {32, 256, 64}},
    {"permute, 2x320x4096", make_permute, {2, 320, 4096}},
    {"concat, 1x4096x320 + 320", make_concat, {1, 4096, 320, 320}},
    {"concat, 1x4096x640 + 320", make_concat, {1, 4096, 640, 320}},
    {"concat, 1x1024x1280 + 640", make_concat, {1, 1024, 1280, 640}},
    {"concat, 1x256x1280 + 1280", make_concat, {1, 256, 1280, 1280}},
    {"upsample, 1x32x32x640", make_upsample, {1, 32, 640}},
    {"upsample, 1x16x16x1280", make_upsample, {1, 16, 1280}},
    {"upsample, 1x256x256x256", make_upsample, {1, 256, 256}},
    {"group norm + silu, 32x256x64", make_group_norm, {32, 256, 64}},
    {"group norm + silu, 1x4096x320", make_group_norm, {1, 4096, 320}},
    {"group norm + silu, 2x4096x320", make_group_norm, {2, 4096, 320}},
    {"group norm + silu, 1x4096x640", make_group_norm, {1, 4096, 640}},
    {"group norm + silu, 1x4096x960", make_group_norm, {1, 4096, 960}},
    {"group norm + silu, 1x1024x640", make_group_norm, {1, 1024, 640}},
    {"group norm + silu, 1x1024x1920", make_group_norm, {1, 1024, 1920}},
    {"group norm + silu, 1x256x1280", make_group_norm, {1, 256, 1280}},
    {"group norm + silu, 1x256x2560", make_group_norm, {1, 256, 2560}},
    {"group norm + silu, 1x4096x512", make_group_norm, {1, 4096, 512}},
    {"group norm + silu, 1x65536x512", make_group_norm, {1, 65536, 512}},
    {"group norm + silu, 1x262144x256", make_group_norm, {1, 262144, 256}},
    {"group norm + silu, 1x262144x128", make_group_norm, {1, 262144, 128}},
    {"group norm + silu gradient, 32x256x64", make_group_norm_gradient, {32, 256, 64}},
    {"group norm + silu gradient, 1x4096x320", make_group_norm_gradient, {1, 4096, 320}},
    {"layer norm, 32x64x128", make_layer_norm, {32, 64, 128}},
    {"layer norm, 1x4096x320", make_layer_norm, {1, 4096, 320}},
    {"layer norm, 1x1024x640", make_layer_norm, {1, 1024, 640}},
    {"layer norm, 1x256x1280", make_layer_norm, {1, 256, 1280}},
    {"layer norm gradient, 32x64x128", make_layer_norm_gradient, {32, 64, 128}},
    {"layer norm gradient, 1x4096x320", make_layer_norm_gradient, {1, 4096, 320}},
    {"linear, 1 rows, 320 -> 1280", make_linear, {1, 1, 320, 1280}},
    {"linear, 1 rows, 1280 -> 1280", make_linear, {1, 1, 1280, 1280}},
    {"linear, 2 rows, 1280 -> 1280", make_linear, {2, 1, 1280, 1280}},
    {"linear, 4 rows, 1280 -> 1280", make_linear, {1, 4, 1280, 1280}},
    {"linear, 77 rows, 768 -> 320", make_linear, {1, 77, 768, 320}},
    {"linear, 77 rows, 768 -> 1280", make_linear, {1, 77, 768, 1280}},
    {"linear, 64 rows, 1280 -> 1280", make_linear, {1, 64, 1280, 1280}},
    {"linear, 64 rows, 1280 -> 10240", make_linear, {1, 64, 1280, 10240}},
    {"linear, 64 rows, 5120 -> 1280", make_linear, {1, 64, 5120, 1280}},
    {"linear, 256 rows, 1280 -> 1280", make_linear, {1, 256, 1280, 1280}},
    {"linear, 256 rows, 1280 -> 10240", make_linear, {1, 256, 1280, 10240}},
    {"linear, 256 rows, 5120 -> 1280", make_linear, {1, 256, 5120, 1280}},
    {"linear, 1024 rows, 640 -> 5120", make_linear, {1, 1024, 640, 5120}},
    {"linear, 1024 rows, 2560 -> 640", make_linear, {1, 1024, 2560, 640}},
    {"linear, 4096 rows, 320 -> 320", make_linear, {1, 4096, 320, 320}},
    {"linear, 4096 rows, 320 -> 2560", make_linear, {1, 4096, 320, 2560}},
    {"linear, 4096 rows, 1280 -> 320", make_linear, {1, 4096, 1280, 320}},
    {"geglu of linear, 4096 rows, 320 -> 1280", make_linear_geglu, {1, 4096, 320, 1280}},
    {"geglu of linear, 1024 rows, 640 -> 2560", make_linear_geglu, {1, 1024, 640, 2560}},
    {"geglu of linear, 256 rows, 1280 -> 5120", make_linear_geglu, {1, 256, 1280, 5120}},
    {"conv2d weight gradient, 64x64, 4 -> 320, 3x3",
     make_conv2d_weight_gradient,
     {1, 64, 4, 320, 3, 1}},
    {"conv2d weight gradient, 64x64, 320 -> 4, 3x3",
     make_conv2d_weight_gradient,
     {1, 64, 320, 4, 3, 1}},
    {"conv2d weight gradient, 64x64, 320 -> 320, 3x3",
     make_conv2d_weight_gradient,
     {1, 64, 320, 320, 3, 1}},
    {"conv2d weight gradient, 64x64, 640 -> 320, 3x3",
     make_conv2d_weight_gradient,
     {1, 64, 640, 320, 3, 1}},
    {"conv2d weight gradient, 64x64, 960 -> 320, 3x3",
     make_conv2d_weight_gradient,
     {1, 64, 960, 320, 3, 1}},
    {"conv2d weight gradient, 64x64, 320 -> 320, 3x3 stride 2",
     make_conv2d_weight_gradient,
     {1, 64, 320, 320, 3, 2}},
    {"conv2d weight gradient, 64x64, 640 -> 640, 3x3",
     make_conv2d_weight_gradient,
     {1, 64, 640, 640, 3, 1}},
    {"conv2d weight gradient, 64x64, 640 -> 640, 3x3 of doubled",
     make_conv2d_weight_gradient,
     {1, 64, 640, 640, 3, 0}},
    {"conv2d weight gradient, 32x32, 320 -> 640, 3x3",
     make_conv2d_weight_gradient,
     {1, 32, 320, 640, 3, 1}},
    {"conv2d weight gradient, 32x32, 640 -> 640, 3x3",
     make_conv2d_weight_gradient,
     {1, 32, 640, 640, 3, 1}},
    {"conv2d weight gradient, 32x32, 960 -> 640, 3x3",
     make_conv2d_weight_gradient,
     {1, 32, 960, 640, 3, 1}},
    {"conv2d weight gradient, 32x32, 1280 -> 640, 3x3",
     make_conv2d_weight_gradient,
     {1, 32, 1280, 640, 3, 1}},
    {"conv2d weight gradient, 32x32, 1920 -> 640, 3x3",
     make_conv2d_weight_gradient,
     {1, 32, 1920, 640, 3, 1}},
    {"conv2d weight gradient, 32x32, 640 -> 640, 3x3 stride 2",
     make_conv2d_weight_gradient,
     {1, 32, 640, 640, 3, 2}},
    {"conv2d weight gradient, 32x32, 1280 -> 1280, 3x3",
     make_conv2d_weight_gradient,
     {1, 32, 1280, 1280, 3, 1}},
    {"conv2d weight gradient, 16x16, 640 -> 1280, 3x3",
     make_conv2d_weight_gradient,
     {1, 16, 640, 1280, 3, 1}},
    {"conv2d weight gradient, 16x16, 1280 -> 1280, 3x3",
     make_conv2d_weight_gradient,
     {1, 16, 1280, 1280, 3, 1}},
    {"conv2d weight gradient, 16x16, 1920 -> 1280, 3x3",
     make_conv2d_weight_gradient,
     {1, 16, 1920, 1280, 3, 1}},
    {"conv2d weight gradient, 16x16, 2560 -> 1280, 3x3",
     make_conv2d_weight_gradient,
     {1, 16, 2560, 1280, 3, 1}},
    {"conv2d weight gradient, 16x16, 1280 -> 1280, 3x3 stride 2",
     make_conv2d_weight_gradient,
     {1, 16, 1280, 1280, 3, 2}},
    {"conv2d weight gradient, 8x8, 1280 -> 1280, 3x3",
     make_conv2d_weight_gradient,
     {1, 8, 1280, 1280, 3, 1}},
    {"conv2d weight gradient, 8x8, 2560 -> 1280, 3x3",
     make_conv2d_weight_gradient,
     {1, 8, 2560, 1280, 3, 1}},
    {"conv2d weight gradient, 64x64, 320 -> 320, 1x1",
     make_conv2d_weight_gradient,
     {1, 64, 320, 320, 1, 1}},
    {"conv2d weight gradient, 64x64, 960 -> 320, 1x1",
     make_conv2d_weight_gradient,
     {1, 64, 960, 320, 1, 1}},
    {"conv2d weight gradient, 32x32, 640 -> 640, 1x1",
     make_conv2d_weight_gradient,
     {1, 32, 640, 640, 1, 1}},
    {"conv2d weight gradient, 32x32, 1920 -> 640, 1x1",
     make_conv2d_weight_gradient,
     {1, 32, 1920, 640, 1, 1}},
    {"conv2d weight gradient, 16x16, 1280 -> 1280, 1x1",
     make_conv2d_weight_gradient,
     {1, 16, 1280, 1280, 1, 1}},
    {"conv2d weight gradient, 16x16, 2560 -> 1280, 1x1",
     make_conv2d_weight_gradient,
     {1, 16, 2560, 1280, 1, 1}},
    {"conv2d weight gradient, 8x8, 1280 -> 1280, 1x1",
     make_conv2d_weight_gradient,
     {1, 8, 1280, 1280, 1, 1}},
    {"conv2d weight gradient, 32 of 16x16, 64 -> 64, 3x3",
     make_conv2d_weight_gradient,
     {32, 16, 64, 64, 3, 1}},
    {"conv2d weight gradient, 32 of 8x8, 128 -> 128, 3x3",
     make_conv2d_weight_gradient,
     {32, 8, 128, 128, 3, 1}},
    {"conv2d weight gradient, 32 of 4x4, 192 -> 192, 3x3",
     make_conv2d_weight_gradient,
     {32, 4, 192, 192, 3, 1}},
    {"linear weight gradient, 4096 rows, 320 -> 320",
     make_linear_weight_gradient,
     {1, 4096, 320, 320}},
    {"linear weight gradient, 4096 rows, 320 -> 2560",
     make_linear_weight_gradient,
     {1, 4096, 320, 2560}},
    {"linear weight gradient, 4096 rows, 1280 -> 320",
     make_linear_weight_gradient,
     {1, 4096, 1280, 320}},
    {"linear weight gradient, 1024 rows, 640 -> 640",
     make_linear_weight_gradient,
     {1, 1024, 640, 640}},
    {"linear weight gradient, 1024 rows, 640 -> 5120",
     make_linear_weight_gradient,
     {1, 1024, 640, 5120}},
    {"linear weight gradient, 1024 rows, 2560 -> 640",
     make_linear_weight_gradient,
     {1, 1024, 2560, 640}},
    {"linear weight gradient, 256 rows, 1280 -> 1280",
     make_linear_weight_gradient,
     {1, 256, 1280, 1280}},
    {"linear weight gradient, 256 rows, 1280 -> 10240",
     make_linear_weight_gradient,
     {1, 256, 1280, 10240}},
    {"linear weight gradient, 256 rows, 5120 -> 1280",
     make_linear_weight_gradient,
     {1, 256, 5120, 1280}},
    {"linear weight gradient, 64 rows, 1280 -> 1280",
     make_linear_weight_gradient,
     {1, 64, 1280, 1280}},
    {"linear weight gradient, 64 rows, 1280 -> 10240",
     make_linear_weight_gradient,
     {1, 64, 1280, 10240}},
    {"linear weight gradient, 64 rows, 5120 -> 1280",
     make_linear_weight_gradient,
     {1, 64, 5120, 1280}},
    {"linear weight gradient, 77 rows, 768 -> 320", make_linear_weight_gradient, {1, 77, 768, 320}},
    {"linear weight gradient, 77 rows, 768 -> 640", make_linear_weight_gradient, {1, 77, 768, 640}},
    {"linear weight gradient, 77 rows, 768 -> 1280",
     make_linear_weight_gradient,
     {1, 77, 768, 1280}},
    {"linear weight gradient, 1 rows, 320 -> 1280", make_linear_weight_gradient, {1, 1, 320, 1280}},
    {"linear weight gradient, 1 rows, 1280 -> 320", make_linear_weight_gradient, {1, 1, 1280, 320}},
    {"linear weight gradient, 1 rows, 1280 -> 1280",
     make_linear_weight_gradient,
     {1, 1, 1280, 1280}},
    {"attention, 32x64x64, 4 heads of 32", make_attention, {32, 64, 64, 4, 32, 0}},
    {"attention, 32x16x16, 4 heads of 48", make_attention, {32, 16, 16, 4, 48, 0}},
    {"attention, 32x64x16, 4 heads of 32", make_attention, {32, 64, 16, 4, 32, 0}},
    {"attention, 1x4096x4096, 8 heads of 40", make_attention, {1, 4096, 4096, 8, 40, 0}},
    {"attention, 1x1024x1024, 8 heads of 80", make_attention, {1, 1024, 1024, 8, 80, 0}},
    {"attention, 1x256x256, 8 heads of 160", make_attention, {1, 256, 256, 8, 160, 0}},
    {"attention, 1x64x64, 8 heads of 160", make_attention, {1, 64, 64, 8, 160, 0}},
    {"attention, 1x4096x77, 8 heads of 40", make_attention, {1, 4096, 77, 8, 40, 0}},
    {"attention, 1x1024x77, 8 heads of 80", make_attention, {1, 1024, 77, 8, 80, 0}},
    {"attention, 1x256x77, 8 heads of 160", make_attention, {1, 256, 77, 8, 160, 0}},
    {"attention, 1x64x77, 8 heads of 160", make_attention, {1, 64, 77, 8, 160, 0}},
    {"attention, 1x4096x4096, 5 heads of 64", make_attention, {1, 4096, 4096, 5, 64, 0}},
    {"attention, 1x1024x1024, 10 heads of 64", make_attention, {1, 1024, 1024, 10, 64, 0}},
    {"attention, 1x256x256, 20 heads of 64", make_attention, {1, 256, 256, 20, 64, 0}},
    {"attention, 1x4096x77, 5 heads of 64", make_attention, {1, 4096, 77, 5, 64, 0}},
    {"attention, 1x4096x4096, 1 head of 512", make_attention, {1, 4096, 4096, 1, 512, 0}},
    {"attention, 1x77x77, 12 heads of 64, causal", make_attention, {1, 77, 77, 12, 64, 1}},
    {"attention gradient, 32x64x64, 4 heads of 32",
     make_attention_gradient,
     {32, 64, 64, 4, 32, 0}},
    {"attention gradient, 32x64x16, 4 heads of 32",
     make_attention_gradient,
     {32, 64, 16, 4, 32, 0}},
    {"attention gradient, 1x4096x4096, 8 heads of 40",
     make_attention_gradient,
     {1, 4096, 4096, 8, 40, 0}},
    {"attention gradient, 1x1024x1024, 8 heads of 80",
     make_attention_gradient,
     {1, 1024, 1024, 8, 80, 0}},
    {"attention gradient, 1x256x256, 8 heads of 160",
     make_attention_gradient,
     {1, 256, 256, 8, 160, 0}},
    {"attention gradient, 1x64x64, 8 heads of 160",
     make_attention_gradient,
     {1, 64, 64, 8, 160, 0}},
    {"attention gradient, 1x4096x77, 8 heads of 40",
     make_attention_gradient,
     {1, 4096, 77, 8, 40, 0}},
    {"attention gradient, 1x1024x77, 8 heads of 80",
     make_attention_gradient,
     {1, 1024, 77, 8, 80, 0}},
};

static sp_peak peak; /* of all threads */
static sp_device *device;

static void measure(size_t row, sp_dtype dtype)
{
    maker m = {NULL, dtype, rows[row].size};
    if (sp_builder_create(&m.b) != SP_OK) must(NULL);
    const sp_node *node = ((const sp_value *)must(rows[row].make(&m)))->producer;
    double time = best_seconds(device, node, 0.25), bytes = 0;
    for (int i = 0; i < node->inputs; i++)
        bytes += node->in[i] ? (double)sp_value_bytes(node->in[i]) : 0;
    for (int i = 0; i < node->outputs; i++)
        bytes += (double)sp_value_bytes(node->out[i]);
    double flops = node->op->flops ? node->op->flops(node) : 0;
    double share = 100 * sp_peak_share(&peak, dtype, flops, flops > 0 ? 0 : bytes, time);
    if (flops > 0)
        printf(" %.0f us | %.0f GFLOP/s (%.0f %%) |", time * 1e6, flops / time * 1e-9, share);
    else
        printf(" %.0f us | %.1f GB/s |", time * 1e6, bytes / time * 1e-9);
    sp_builder_destroy(m.b);
}

int main(int argc, char **argv)
{
    sp_set_threads(argc > 1 ? atoi(argv[1]) : 0);
    const char *prefix = argc > 2 ? argv[2] : "", *dtype = argc > 3 ? argv[3] : "";
    bool direct = argc > 4 && strcmp(argv[4], "direct") == 0;
    device = direct ? sp_cpu_device_with(SP_CONVOLUTION_DIRECT) : sp_cpu_device();
    sp_cpu_device()->measure_peak(sp_cpu_device(), &peak);
    printf("peak: %.0f GFLOP/s f32, %.0f bf16; memory: %.1f GB/s\n", peak.f32_flops * 1e-9,
           peak.bf16_flops * 1e-9, peak.bytes * 1e-9);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strncmp(rows[i].name, prefix, strlen(prefix)) != 0) continue;
        printf("| %s |", rows[i].name);
        if (strcmp(dtype, "bf16") != 0) measure(i, SP_F32);
        if (strcmp(dtype, "f32") != 0) measure(i, SP_BF16);
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
