/* conv2d: y[n,p,q,m] = sum_{c,i,j} x[n,h,w,c] weight[m,c,i,j] + bias[m] + per_channel[n,m]
 *                      + residual[n,p,q,m]
 *         h = p*stride - pad_top + i, w = q*stride - pad_left + j, zeros outside x
 *         doubled: x[n,h/2,w/2,c] for 0 <= h < 2H, 0 <= w < 2W
 *   x            [N,H,W,C]
 *   weight       [M,C,kh,kw]
 *   bias         [M] or absent, full
 *   per_channel  [N,M] or absent
 *   residual     [N,Ho,Wo,M] or absent
 *   y            [N,Ho,Wo,M]   Ho = (H + pad_top + pad_bottom - kh)/stride + 1
 * conv2d_data_gradient: dx[n,h,w,c] = sum of dy[n,p,q,m] weight[m,c,i,j] over what meets at (h,w)
 *   dy           [N,Ho,Wo,M]
 *   dx           [N,H,W,C]
 * conv2d_weight_gradient: dW[m,c,i,j] = sum_{n,p,q} dy[n,p,q,m] x[n,h,w,c], or x[n,h/2,w/2,c]
 *   dW           [M,C,kh,kw], full */
#include "ops/rules.h"

/* All sizes of one convolution, whichever of x, y and the weight is the result. */
typedef struct {
    int64_t N, H, W, C, Ho, Wo, M, kh, kw;
    sp_conv2d_options o;
} geometry; /* H and W: of x as the kernel sees it, doubled or not */

static geometry geometry_of(sp_shape x, sp_shape y, sp_shape weight, sp_conv2d_options o)
{
    int times = o.doubled ? 2 : 1;
    return (geometry){x.dim[0], times * x.dim[1], times * x.dim[2], x.dim[3],      y.dim[1],
                      y.dim[2], weight.dim[0],    weight.dim[2],    weight.dim[3], o};
}

/* Ho or Wo; -1 if the kernel does not fit or the options make no sense. */
static int64_t output_size(int64_t size, int64_t kernel, int before, int after, int stride)
{
    int64_t room = size + before + after - kernel;
    if (stride < 1 || before < 0 || after < 0 || kernel < 1 || room < 0) return -1;
    return room / stride + 1;
}

static sp_shape output_shape(sp_shape x, int64_t M, int64_t kh, int64_t kw, sp_conv2d_options o)
{
    int times = o.doubled ? 2 : 1;
    return sp_shape_of(x.dim[0],
                       output_size(times * x.dim[1], kh, o.pad_top, o.pad_bottom, o.stride),
                       output_size(times * x.dim[2], kw, o.pad_left, o.pad_right, o.stride), M);
}

static int64_t at_x(const geometry *g, int64_t n, int64_t h, int64_t w, int64_t c)
{
    int shift = g->o.doubled;
    return ((n * (g->H >> shift) + (h >> shift)) * (g->W >> shift) + (w >> shift)) * g->C + c;
}

static int64_t at_y(const geometry *g, int64_t n, int64_t p, int64_t q, int64_t m)
{
    return ((n * g->Ho + p) * g->Wo + q) * g->M + m;
}

static int64_t at_weight(const geometry *g, int64_t m, int64_t c, int64_t i, int64_t j)
{
    return ((m * g->C + c) * g->kh + i) * g->kw + j;
}

/* ---- forward ---- */
static sp_status infer(sp_node *node)
{
    const sp_conv2d_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0), weight = sp_shape_in(node, 1);
    if (x.rank != 4) return sp_unexpected(node, "x", 0, "[N,H,W,C]");
    if (weight.rank != 4 || weight.dim[1] != x.dim[3]) return sp_misfit(node, "weight", 1, "x", 0);
    int64_t M = weight.dim[0];
    sp_shape y = output_shape(x, M, weight.dim[2], weight.dim[3], *o);
    if (y.dim[1] < 1 || y.dim[2] < 1) return sp_misfit(node, "weight", 1, "the padded x", 0);
    if (node->in[2] && !sp_shape_equal(sp_shape_in(node, 2), sp_shape_of(M)))
        return sp_misfit(node, "bias", 2, "weight", 1);
    if (node->in[3] && !sp_shape_equal(sp_shape_in(node, 3), sp_shape_of(x.dim[0], M)))
        return sp_fail(SP_SHAPE, "conv2d: per_channel has shape %s, expected %s",
                       sp_shape_text(sp_shape_in(node, 3)),
                       sp_shape_text(sp_shape_of(x.dim[0], M)));
    if (node->in[4] && !sp_shape_equal(sp_shape_in(node, 4), y))
        return sp_fail(SP_SHAPE, "conv2d: residual has shape %s, but the result has shape %s",
                       sp_shape_text(sp_shape_in(node, 4)), sp_shape_text(y));
    node->out[0]->shape = y;
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    sp_conv2d_options o = *(const sp_conv2d_options *)node->options, whole = o;
    sp_value *x = node->in[0], *weight = node->in[1];
    int64_t height = sp_dim(x, 1), width = sp_dim(x, 2), times = o.doubled ? 2 : 1;
    whole.doubled = false;
    if (sp_wants_gradient(node, 0)) {
        dx[0] = sp_conv2d_data_gradient(b, dy[0], weight, times * height, times * width, whole);
        if (o.doubled) dx[0] = sp_upsample_nearest_gradient(b, dx[0], height, width);
    }
    if (sp_wants_gradient(node, 1))
        dx[1] = sp_conv2d_weight_gradient(b, x, dy[0], sp_dim(weight, 2), sp_dim(weight, 3), o);
    if (sp_wants_gradient(node, 2)) dx[2] = sp_sum_leading(b, dy[0], 1);
    if (sp_wants_gradient(node, 3)) dx[3] = sp_sum_middle(b, dy[0]);
    if (sp_wants_gradient(node, 4)) dx[4] = dy[0];
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    geometry g = geometry_of(sp_shape_in(node, 0), node->out[0]->shape, sp_shape_in(node, 1),
                             *(const sp_conv2d_options *)node->options);
    for (int64_t index = 0; index < sp_count_out(node, 0); index++) {
        int64_t m = index % g.M, q = index / g.M % g.Wo, p = index / g.M / g.Wo % g.Ho;
        int64_t n = index / g.M / g.Wo / g.Ho;
        double sum = sp_read_or(node, in, 2, m, 0) + sp_read_or(node, in, 3, n * g.M + m, 0) +
                     sp_read_or(node, in, 4, index, 0);
        for (int64_t i = 0; i < g.kh; i++)
            for (int64_t j = 0; j < g.kw; j++) {
                int64_t h = p * g.o.stride - g.o.pad_top + i, w = q * g.o.stride - g.o.pad_left + j;
                if (h < 0 || h >= g.H || w < 0 || w >= g.W) continue;
                for (int64_t c = 0; c < g.C; c++)
                    sum += sp_read(node, in, 0, at_x(&g, n, h, w, c)) *
                           sp_read(node, in, 1, at_weight(&g, m, c, i, j));
            }
        sp_write(node, out, 0, index, sum);
    }
}

static double flops(const sp_node *node)
{
    sp_shape weight = sp_shape_in(node, 1);
    return 2.0 * (double)sp_count_out(node, 0) * (double)sp_extent(weight, 1, 4);
}

const sp_op sp_op_conv2d = {
    .name = "conv2d",
    .outputs = 1,
    .options_size = sizeof(sp_conv2d_options),
    .full_inputs = 1 << 2,
    .stored_inputs = 1 << 1,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
    .flops = flops,
};

sp_value *sp_conv2d(sp_builder *b, sp_value *x, sp_value *weight, sp_value *bias,
                    sp_value *per_channel, sp_value *residual, sp_conv2d_options options)
{
    return sp_node_make(b, &sp_op_conv2d, 2, 5,
                        (sp_value *[]){x, weight, bias, per_channel, residual}, &options);
}

/* ---- gradients ---- */
/* x and dy must be the two ends of this convolution. */
static sp_status check_ends(const sp_node *node, sp_shape x, sp_shape dy, int64_t M)
{
    const sp_conv2d_gradient_options *o = node->options;
    sp_shape y = output_shape(x, M, o->kernel_height, o->kernel_width, o->conv);
    if (sp_shape_equal(dy, y)) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: dy has shape %s, which does not fit x of shape %s",
                   node->op->name, sp_shape_text(dy), sp_shape_text(x));
}

static sp_status data_gradient_infer(sp_node *node)
{
    const sp_conv2d_gradient_options *o = node->options;
    sp_shape dy = sp_shape_in(node, 0), weight = sp_shape_in(node, 1);
    if (dy.rank != 4) return sp_unexpected(node, "dy", 0, "[N,H,W,M]");
    if (weight.rank != 4 || weight.dim[0] != dy.dim[3])
        return sp_misfit(node, "weight", 1, "dy", 0);
    sp_shape x = sp_shape_of(dy.dim[0], o->height, o->width, weight.dim[1]);
    node->out[0]->shape = x;
    return check_ends(node, x, dy, weight.dim[0]);
}

static void data_gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_conv2d_gradient_options *options = node->options;
    geometry g =
        geometry_of(node->out[0]->shape, sp_shape_in(node, 0), sp_shape_in(node, 1), options->conv);
    for (int64_t index = 0; index < sp_count_out(node, 0); index++) {
        int64_t c = index % g.C, w = index / g.C % g.W, h = index / g.C / g.W % g.H,
                n = index / g.C / g.W / g.H;
        double sum = 0;
        for (int64_t i = 0; i < g.kh; i++)
            for (int64_t j = 0; j < g.kw; j++) {
                int64_t p = h + g.o.pad_top - i, q = w + g.o.pad_left - j;
                if (p < 0 || q < 0 || p % g.o.stride || q % g.o.stride) continue;
                p /= g.o.stride, q /= g.o.stride;
                if (p >= g.Ho || q >= g.Wo) continue;
                for (int64_t m = 0; m < g.M; m++)
                    sum += sp_read(node, in, 0, at_y(&g, n, p, q, m)) *
                           sp_read(node, in, 1, at_weight(&g, m, c, i, j));
            }
        sp_write(node, out, 0, index, sum);
    }
}

static double data_gradient_flops(const sp_node *node)
{
    return 2.0 * (double)sp_count_in(node, 0) * (double)sp_extent(sp_shape_in(node, 1), 1, 4);
}

const sp_op sp_op_conv2d_data_gradient = {
    .name = "conv2d_data_gradient",
    .outputs = 1,
    .options_size = sizeof(sp_conv2d_gradient_options),
    .stored_inputs = 1 << 1,
    .infer = data_gradient_infer,
    .reference = data_gradient_reference,
    .flops = data_gradient_flops,
};

sp_value *sp_conv2d_data_gradient(sp_builder *b, sp_value *dy, sp_value *weight, int64_t height,
                                  int64_t width, sp_conv2d_options options)
{
    bool whole = weight && weight->shape.rank == 4;
    sp_conv2d_gradient_options o = {options, height, width, whole ? sp_dim(weight, 2) : 0,
                                    whole ? sp_dim(weight, 3) : 0};
    return sp_node_make(b, &sp_op_conv2d_data_gradient, 2, 2, (sp_value *[]){dy, weight}, &o);
}

static sp_status weight_gradient_infer(sp_node *node)
{
    const sp_conv2d_gradient_options *o = node->options;
    sp_shape x = sp_shape_in(node, 0), dy = sp_shape_in(node, 1);
    if (x.rank != 4) return sp_unexpected(node, "x", 0, "[N,H,W,C]");
    if (dy.rank != 4) return sp_misfit(node, "dy", 1, "x", 0);
    node->out[0]->shape = sp_shape_of(dy.dim[3], x.dim[3], o->kernel_height, o->kernel_width);
    node->out[0]->dtype = sp_full_dtype(node);
    return check_ends(node, x, dy, dy.dim[3]);
}

static void weight_gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_conv2d_gradient_options *options = node->options;
    geometry g =
        geometry_of(sp_shape_in(node, 0), sp_shape_in(node, 1), node->out[0]->shape, options->conv);
    for (int64_t index = 0; index < sp_count_out(node, 0); index++) {
        int64_t j = index % g.kw, i = index / g.kw % g.kh, c = index / g.kw / g.kh % g.C;
        int64_t m = index / g.kw / g.kh / g.C;
        double sum = 0;
        for (int64_t at = 0; at < g.N * g.Ho * g.Wo; at++) {
            int64_t q = at % g.Wo, p = at / g.Wo % g.Ho, n = at / g.Wo / g.Ho;
            int64_t h = p * g.o.stride - g.o.pad_top + i, w = q * g.o.stride - g.o.pad_left + j;
            if (h < 0 || h >= g.H || w < 0 || w >= g.W) continue;
            sum += sp_read(node, in, 1, at * g.M + m) * sp_read(node, in, 0, at_x(&g, n, h, w, c));
        }
        sp_write(node, out, 0, index, sum);
    }
}

static double weight_gradient_flops(const sp_node *node)
{
    return 2.0 * (double)sp_count_in(node, 1) * (double)sp_extent(node->out[0]->shape, 1, 4);
}

const sp_op sp_op_conv2d_weight_gradient = {
    .name = "conv2d_weight_gradient",
    .outputs = 1,
    .options_size = sizeof(sp_conv2d_gradient_options),
    .full_outputs = 1,
    .infer = weight_gradient_infer,
    .reference = weight_gradient_reference,
    .flops = weight_gradient_flops,
};

sp_value *sp_conv2d_weight_gradient(sp_builder *b, sp_value *x, sp_value *dy, int64_t kernel_height,
                                    int64_t kernel_width, sp_conv2d_options options)
{
    sp_conv2d_gradient_options o = {options, x ? x->shape.dim[1] : 0, x ? x->shape.dim[2] : 0,
                                    kernel_height, kernel_width};
    return sp_node_make(b, &sp_op_conv2d_weight_gradient, 2, 2, (sp_value *[]){x, dy}, &o);
}
