/* Every operator's builder call. One file per operator (family) holds its shape rule, gradient rule
 * and reference kernel.
 *
 * Letters: N samples, H height, W width, C channels, L tokens, K input features, M output features,
 * G groups, V vocabulary. Activations are NHWC or [N,L,C]; weights keep the checkpoint's layout
 * (linear [M,K], convolution [M,C,kh,kw]). All calls return output 0, or NULL after an error
 * (sticky in the builder). "suffix": trailing dimensions. */
#ifndef SP_OPS_OPS_H
#define SP_OPS_OPS_H
#include "graph/op.h"

/* ---- shape: no arithmetic ---- */
/* The same elements in the same order under another shape; one entry may be -1. A view. */
sp_value *sp_reshape(sp_builder *b, sp_value *x, sp_shape shape);
/* out.dim[i] = x.dim[order[i]]; order has x's rank. */
typedef struct {
    int order[SP_MAX_RANK];
} sp_permute_options;
sp_value *sp_permute(sp_builder *b, sp_value *x, const int *order);
sp_value *sp_nchw_to_nhwc(sp_builder *b, sp_value *x);
sp_value *sp_nhwc_to_nchw(sp_builder *b, sp_value *x);
/* Along `axis` (negative: from the end). 2..SP_MAX_INPUTS values. */
typedef struct {
    int axis;
} sp_concat_options;
sp_value *sp_concat(sp_builder *b, int count, sp_value *const *x, int axis);
/* x[start .. start+count) along axis. */
typedef struct {
    int axis;
    int64_t start, count, full;
} sp_slice_options;
sp_value *sp_slice(sp_builder *b, sp_value *x, int axis, int64_t start, int64_t count);
/* The gradient of slice: zeros of size `full` along axis with x at start. */
sp_value *sp_unslice(sp_builder *b, sp_value *x, int axis, int64_t start, int64_t full);
/* Nearest neighbour to H x W: out[h,w] = x[h*Hx/H, w*Wx/W] (floor). x [N,Hx,Wx,C]. Gradient sums. */
typedef struct {
    int64_t height, width;
} sp_resize_options;
sp_value *sp_upsample_nearest(sp_builder *b, sp_value *x, int64_t height, int64_t width);
sp_value *sp_upsample_nearest_gradient(sp_builder *b, sp_value *dy, int64_t height,
                                       int64_t width); /* back to height x width of x */
/* The largest, or the mean, of the kernel x kernel cells of each window that lie inside x; a mean divides by those
 * alone. x [N,H,W,C] -> [N,Ho,Wo,C], Ho = (H + 2 padding - kernel)/stride + 1. For inference: it has no gradient. */
typedef struct {
    int kernel, stride, padding;
    bool largest;
} sp_pool2d_options;
sp_value *sp_pool2d(sp_builder *b, sp_value *x, sp_pool2d_options options);
/* x, with no gradient flowing back. */
sp_value *sp_stop_gradient(sp_builder *b, sp_value *x);
sp_value *sp_cast(sp_builder *b, sp_value *x, sp_dtype dtype);

/* ---- elementwise ---- */
/* a + alpha*b; b has a's shape, or a suffix of it (then repeated over the leading dimensions). */
typedef struct {
    double alpha;
} sp_add_options;
sp_value *sp_add(sp_builder *b, sp_value *x, sp_value *y);
sp_value *sp_add_scaled(sp_builder *b, sp_value *x, sp_value *y, double alpha);
sp_value *sp_mul(sp_builder *b, sp_value *x, sp_value *y); /* equal shapes */
typedef struct {
    double factor, offset;
} sp_affine_options;
sp_value *sp_affine(sp_builder *b, sp_value *x, double factor,
                    double offset); /* factor*x + offset */
/* h[N,...,C] + t[N,C]: one vector per sample (the time embedding). */
sp_value *sp_add_per_channel(sp_builder *b, sp_value *h, sp_value *t);
/* (base + factor[N,C]) * x[N,...,C] + offset[N,C] + residual[N,...,C]; the last two may be NULL. With base 1 adaptive
 * layer norm's scale and shift, with base 0 its gate. */
typedef struct {
    double base;
} sp_modulate_options;
sp_value *sp_modulate(sp_builder *b, sp_value *x, sp_value *factor, sp_value *offset, sp_value *residual, double base);
/* sum_i c_i[n] * x_i[n,...], 1..4 terms: terms[2i] = c_i [N] (f32), terms[2i+1] = x_i. No gradient
 * for c. */
sp_value *sp_sample_combine(sp_builder *b, int terms, sp_value *const *coefficient_and_value);

#define SP_UNARY_LIST(X)                                                                           \
    X(SILU, "silu")                                                                                \
    X(GELU, "gelu")                                                                                \
    X(QUICK_GELU, "quick_gelu") X(GELU_TANH, "gelu_tanh") X(TANH, "tanh") X(RELU, "relu") X(EXP, "exp") \
    X(SOFTPLUS, "softplus") X(CLAMP, "clamp")
typedef enum {
#define X(name, text) SP_UNARY_##name,
    SP_UNARY_LIST(X)
#undef X
} sp_unary_kind;
/* silu x*sigmoid(x); gelu exact (erf); quick_gelu x*sigmoid(1.702x); gelu_tanh
 * x*sigmoid(2 sqrt(2/pi) (x + .044715 x^3)), which is PyTorch's approximate="tanh"; softplus log(1 + e^x); clamp to
 * [low,high] (others ignore the bounds). */
typedef struct {
    sp_unary_kind kind;
    double low, high;
} sp_unary_options;
sp_value *sp_unary(sp_builder *b, sp_unary_kind kind, sp_value *x);
sp_value *sp_clamp(sp_builder *b, sp_value *x, double low, double high);
sp_value *sp_unary_gradient(sp_builder *b, sp_value *x, sp_value *dy,
                            sp_unary_options options); /* f'(x) * dy */
static inline sp_value *sp_silu(sp_builder *b, sp_value *x)
{
    return sp_unary(b, SP_UNARY_SILU, x);
}
/* x[...,2C] = [a | g]: a * gelu(g) -> [...,C]. */
sp_value *sp_geglu(sp_builder *b, sp_value *x);
sp_value *sp_geglu_gradient(sp_builder *b, sp_value *x, sp_value *dy); /* [...,2C] */
/* geglu(linear(x)), weight [2C,K], bias may be NULL; for inference: it has no gradient. */
sp_value *sp_linear_geglu(sp_builder *b, sp_value *x, sp_value *weight, sp_value *bias);

/* ---- reductions ---- */
/* Sum over leading dimensions down to the last `keep` ones -> f32. (bias gradients: keep = 1) */
typedef struct {
    int keep;
} sp_sum_leading_options;
sp_value *sp_sum_leading(sp_builder *b, sp_value *x, int keep);
/* [N,...,C] -> [N,C], sum over what is between; dtype of x. (gradient of add_per_channel) */
sp_value *sp_sum_middle(sp_builder *b, sp_value *x);
/* factor * x, repeated over leading dimensions up to `shape`, of which x's shape is a suffix.
 * (gradient of mean and sum_leading) */
typedef struct {
    sp_shape shape;
    double factor;
} sp_fill_options;
sp_value *sp_fill(sp_builder *b, sp_value *x, sp_shape shape, double factor);
/* [N,C] -> shape [N,...,C], repeated over what is between. (gradient of sum_middle) */
sp_value *sp_broadcast_middle(sp_builder *b, sp_value *x, sp_shape shape);
/* Mean over everything -> scalar f32. */
sp_value *sp_mean(sp_builder *b, sp_value *x);
/* 1 / mean of |x[n,...]| per sample -> [N] f32, a coefficient for sp_sample_combine; 0 where that mean is 0. No
 * gradient. */
sp_value *sp_inverse_mean_abs(sp_builder *b, sp_value *x);
/* Mean over everything of the loss between prediction and target (equal shapes, f32), scalar f32;
 * weight [N] (f32) multiplies each sample's loss, NULL: 1. No gradient for target and weight.
 * huber: sqrt(d^2+c^2)-c; l2: d^2. */
typedef enum { SP_LOSS_HUBER, SP_LOSS_L2 } sp_loss_kind;
typedef struct {
    sp_loss_kind kind;
    double huber_c;
} sp_loss_options;
sp_value *sp_loss(sp_builder *b, sp_value *prediction, sp_value *target, sp_value *weight,
                  sp_loss_options options);
/* d(loss)/d(prediction) * dy, f32; dy is a scalar, weight may be NULL. */
sp_value *sp_loss_gradient(sp_builder *b, sp_value *prediction, sp_value *target, sp_value *weight,
                           sp_value *dy, sp_loss_options options);

/* ---- products ---- */
/* y[...,M] = x[...,K] W^T + bias[M] + residual[...,M]. transposed: W is [K,M] and y = x W (the
 * input gradient of a linear layer). bias and residual may be NULL. Products in x's dtype, sums in
 * fp32. */
typedef struct {
    bool transposed;
} sp_linear_options;
sp_value *sp_linear(sp_builder *b, sp_value *x, sp_value *weight, sp_value *bias,
                    sp_value *residual);
sp_value *sp_linear_transposed(sp_builder *b, sp_value *x, sp_value *weight);
/* dW[M,K] = dy[...,M]^T x[...,K], f32. */
sp_value *sp_linear_weight_gradient(sp_builder *b, sp_value *x, sp_value *dy);

/* y = conv(x, weight) + bias[M] + per_channel[N,M] + residual[N,Ho,Wo,M]; the last three may be
 * NULL. Ho = (H + pad_top + pad_bottom - kh)/stride + 1. Cross-correlation, zeros outside, as in
 * PyTorch. doubled: of x upsampled to twice its height and width (nearest) first; H is 2 H then. */
typedef struct {
    int stride, pad_top, pad_left, pad_bottom, pad_right;
    bool doubled;
} sp_conv2d_options;
sp_value *sp_conv2d(sp_builder *b, sp_value *x, sp_value *weight, sp_value *bias,
                    sp_value *per_channel, sp_value *residual, sp_conv2d_options options);
/* Gradient with respect to x [N,height,width,C]; inputs (dy, weight). */
typedef struct {
    sp_conv2d_options conv;
    int64_t height, width, kernel_height, kernel_width;
} sp_conv2d_gradient_options;
sp_value *sp_conv2d_data_gradient(sp_builder *b, sp_value *dy, sp_value *weight, int64_t height,
                                  int64_t width, sp_conv2d_options options);
/* Gradient with respect to the weight [M,C,kh,kw], f32; inputs (x, dy). */
sp_value *sp_conv2d_weight_gradient(sp_builder *b, sp_value *x, sp_value *dy, int64_t kernel_height,
                                    int64_t kernel_width, sp_conv2d_options options);

/* softmax(scale q k^T (+ causal mask)) v per head; q [N,Lq,C], k, v [N,Lk,C], C = heads * head
 * dimension. Scores and softmax in fp32. causal: query i sees the keys j <= i. Output 1 is the
 * logarithm of the sum of the scores' exponentials, [N,heads,Lq] f32, for the gradient.
 * last_key_copies: the last key and its value stand for so many equal ones (0 is 1), and their gradients are the sums
 * of those. */
typedef struct {
    int heads;
    double scale;
    bool causal;
    int64_t last_key_copies;
} sp_attention_options;
sp_value *sp_attention(sp_builder *b, sp_value *q, sp_value *k, sp_value *v,
                       sp_attention_options options);
/* Outputs dq, dk, dv from (q, k, v, out, log_sum, dout), out and log_sum being the outputs of
 * sp_attention; the scores are computed again. */
sp_value *sp_attention_gradient(sp_builder *b, sp_value *q, sp_value *k, sp_value *v, sp_value *out,
                                sp_value *log_sum, sp_value *dout, sp_attention_options options);

/* ---- normalisation: statistics in fp32; gamma, beta [C] in f32, may both be NULL ---- */
/* Over the middle dimensions and the C/G channels of a group: x [N,...,C]. silu: y*sigmoid(y) on
 * the result. */
typedef struct {
    int groups;
    double epsilon;
    bool silu;
} sp_group_norm_options;
sp_value *sp_group_norm(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *beta,
                        sp_group_norm_options options);
/* Outputs dx, dgamma (f32), dbeta (f32) from (x, gamma, beta, dy). */
sp_value *sp_group_norm_gradient(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *beta,
                                 sp_value *dy, sp_group_norm_options options);
/* Over the channels of each row: x [...,C]. root_mean_square: the mean is not taken off (RMSNorm). */
typedef struct {
    double epsilon;
    bool root_mean_square;
} sp_layer_norm_options;
sp_value *sp_layer_norm(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *beta,
                        sp_layer_norm_options options);
sp_value *sp_layer_norm_gradient(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *dy,
                                 sp_layer_norm_options options); /* dx, dgamma, dbeta */

/* ---- tables and embeddings ---- */
/* table[ids]: ids [..] (i32 or i64, checked against V when run: out of range reads row 0 and is
 * reported by the caller's input check), table [V,C] -> [..,C]. */
sp_value *sp_embedding(sp_builder *b, sp_value *ids, sp_value *table);
typedef struct {
    int64_t rows;
} sp_embedding_gradient_options;
sp_value *sp_embedding_gradient(sp_builder *b, sp_value *ids, sp_value *dy,
                                int64_t rows); /* [V,C] f32 */
/* Sinusoidal embedding of t [N] (f32) -> [N,dim] f32. half = dim/2; phase_j = scale * t *
 * exp(-ln(max_period) * j / (half - shift)), the frequency rounded to fp32 as diffusers does; [sin
 * | cos], or [cos | sin] if cos_first. */
typedef struct {
    int64_t dim;
    bool cos_first;
    double shift, max_period, scale;
} sp_sinusoidal_options;
sp_value *sp_sinusoidal(sp_builder *b, sp_value *t, sp_sinusoidal_options options);

/* A residual block of a large picture, conv2d(group_norm(h)) + r with h = conv2d(group_norm(v)), both convolutions 3x3
 * of stride 1 and padding 1: v [N,H,W,C], weight1 [M,C,3,3], weight2 [M,M,3,3], r = v, or conv2d of v with shortcut
 * [M,C,1,1], which C != M needs. v = x, or with up_weight [C,K,3,3], which needs a shortcut, conv2d{doubled} of
 * x [N,H/2,W/2,K]. Biases, gammas and betas may be NULL. For inference: it has no gradient. */
#define SP_BLOCK_INPUT_LIST(X)                                                                                        \
    X(X, "x") X(WEIGHT1, "weight1") X(WEIGHT2, "weight2") X(BIAS1, "bias1") X(BIAS2, "bias2") X(GAMMA1, "gamma1")      \
    X(BETA1, "beta1") X(GAMMA2, "gamma2") X(BETA2, "beta2") X(SHORTCUT, "shortcut")                                    \
    X(SHORTCUT_BIAS, "shortcut_bias") X(UP_WEIGHT, "up_weight") X(UP_BIAS, "up_bias")
typedef enum {
#define X(name, text) SP_BLOCK_##name,
    SP_BLOCK_INPUT_LIST(X)
#undef X
        SP_BLOCK_INPUTS
} sp_block_input;
/* How a kernel makes the result is a matter of memory alone: bits are the same. */
typedef struct {
    sp_group_norm_options norm1, norm2;
    int64_t rows;  /* that are made at a time, about; 0: all */
    int64_t bytes; /* that x, y and scratch may take together: to stay below, kernels may make rows more than once; 0:
                      any number */
    bool consumes; /* nobody else reads x: kernels may write over it */
} sp_residual_block_options;
sp_value *sp_residual_block(sp_builder *b, sp_value *const in[SP_BLOCK_INPUTS], sp_residual_block_options options);

/* ---- fusion ---- */
/* Before autodiff or for inference: group_norm + silu -> group_norm{silu}; upsample_nearest to
 * twice the size + 3x3 conv2d -> conv2d{doubled}; conv2d + add_per_channel + add -> conv2d with
 * per_channel and residual; linear + add -> linear with residual. Only where the intermediate value
 * has no other use. */
sp_status sp_pass_fuse(sp_graph *graph);
/* After autodiff or for inference: linear + geglu -> linear_geglu, which has no gradient, where the
 * gradient does not need the value between them; and of large pictures the nodes of a residual block without a time
 * embedding -> residual_block, with the doubling convolution before it where a shortcut leads to half as many channels
 * or fewer. */
sp_status sp_pass_fuse_inference(sp_graph *graph);
/* When a picture is large and what is done then. For tests, which have small ones. */
typedef struct {
    int64_t elements; /* that are there at a time, about; a picture is large with six times as many */
    int64_t bytes;    /* of activations, sp_residual_block_options */
} sp_large_picture_limits;
extern sp_large_picture_limits sp_large_pictures;

/* Every operator by its name after sp_op_, but for the cast, which graph/ has. */
/* clang-format off */
#define SP_OP_LIST(X)                                                                              \
    X(reshape) X(permute) X(concat) X(slice) X(unslice)                                            \
    X(upsample_nearest) X(upsample_nearest_gradient) X(pool2d) X(stop_gradient)                    \
    X(add) X(mul) X(affine) X(add_per_channel) X(modulate) X(sample_combine)                       \
    X(unary) X(unary_gradient) X(geglu) X(geglu_gradient)                                          \
    X(sum_leading) X(fill) X(sum_middle) X(broadcast_middle) X(mean) X(inverse_mean_abs)           \
    X(loss) X(loss_gradient)                                                                       \
    X(linear) X(linear_weight_gradient) X(linear_geglu) X(residual_block)                           \
    X(conv2d) X(conv2d_data_gradient) X(conv2d_weight_gradient)                                    \
    X(attention) X(attention_gradient)                                                             \
    X(group_norm) X(group_norm_gradient) X(layer_norm) X(layer_norm_gradient)                      \
    X(embedding) X(embedding_gradient) X(sinusoidal)
/* clang-format on */
#define SP_OP_DECLARE(name) extern const sp_op sp_op_##name;
SP_OP_LIST(SP_OP_DECLARE)

/* All of them, the cast too, for tests, the reference table and `splam bench --support`. */
extern const sp_op *const sp_all_ops[];
extern const int sp_all_ops_count;

#endif
