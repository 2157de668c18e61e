/* What the ways to a convolution share: where taps lie, and what is added to the products. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_CONVOLUTION_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_CONVOLUTION_H
#include "backend/cpu/vector/vector.h"

/* A convolution's positions: (n,p,q) of y [N,Ho,Wo,..] numbered row by row, and x [N,H,W,C], both as they lie in
 * memory; H and W are those that the filter sees, twice those of memory where o.doubled. */
typedef struct {
    int64_t H, W, C, Ho, Wo, filter_width;
    sp_conv2d_options o;
} sp_positions;

/* Those of x [N,H,W,C] and y as graph values. */
static inline sp_positions sp_positions_of(const sp_value *x, const sp_value *y, int64_t filter_width,
                                           const sp_conv2d_options *o)
{
    int64_t times = o->doubled ? 2 : 1;
    return (sp_positions){.H = times * sp_dim(x, 1),
                          .W = times * sp_dim(x, 2),
                          .C = sp_dim(x, 3),
                          .Ho = sp_dim(y, 1),
                          .Wo = sp_dim(y, 2),
                          .filter_width = filter_width,
                          .o = *o};
}

/* lines[k]: where the tap (row by row in the filter) of position first + k lies in x, in elements, for k < count; -1
 * outside the picture. */
static inline void sp_locate(const sp_positions *s, int64_t tap, int64_t first, int64_t count, int64_t *lines)
{
    int64_t q = first % s->Wo, p = first / s->Wo % s->Ho, n = first / s->Wo / s->Ho;
    int64_t i = tap / s->filter_width, j = tap % s->filter_width, shift = s->o.doubled;
    for (int64_t k = 0; k < count; p++, q = 0) {
        if (p == s->Ho) p = 0, n++;
        int64_t h = p * s->o.stride - s->o.pad_top + i;
        int64_t line = (n * (s->H >> shift) + (h >> shift)) * (s->W >> shift);
        for (; q < s->Wo && k < count; q++, k++) {
            int64_t w = q * s->o.stride - s->o.pad_left + j;
            bool inside = h >= 0 && h < s->H && w >= 0 && w < s->W;
            lines[k] = inside ? (line + (w >> shift)) * s->C : -1;
        }
    }
}

/* What is added to y; NULL: nothing. */
typedef struct {
    const float *bias;       /* [M] */
    const void *per_channel; /* [N,M] */
    const void *residual;    /* [N,Ho,Wo,M] */
    sp_dtype per_channel_dtype, residual_dtype;
} sp_convolution_sums;

/* Those of a conv2d node, whose bias is f32. */
static inline sp_convolution_sums sp_convolution_sums_of(const sp_node *node, void *const *in)
{
    sp_convolution_sums sums = {0};
    if (node->inputs > 2 && node->in[2]) sums.bias = in[2];
    if (node->inputs > 3 && node->in[3]) sums.per_channel = in[3], sums.per_channel_dtype = node->in[3]->dtype;
    if (node->inputs > 4 && node->in[4]) sums.residual = in[4], sums.residual_dtype = node->in[4]->dtype;
    return sums;
}

/* The kernels of conv2d and conv2d_data_gradient for 1x1 and 3x3 filters as they are defined; SP_UNSUPPORTED for other
 * shapes, and where vectors have 16 lanes but for weights of 16 bits that products want widened: the library's are as
 * fast there, and hold weights as they are multiplied. */
#define sp_direct_convolution SP_ISA_SYMBOL(sp_direct_convolution)
#define sp_direct_data_gradient SP_ISA_SYMBOL(sp_direct_data_gradient)
sp_status sp_direct_convolution(const sp_node *node, sp_kernel *out);
sp_status sp_direct_data_gradient(const sp_node *node, sp_kernel *out);

#endif
