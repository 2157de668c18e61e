/* Convolution on channels-last activations, forward and data gradient. Weights are in the layout
 * the library likes best, made from the checkpoint's [M,C,kh,kw]. */
#include <string.h>
#include "backend/cpu/onednn/onednn.h"
#include "base/parallel.h"

typedef struct {
    sp_onednn_primitive primitive;
    sp_onednn_packer packer, bias; /* of the weight, one of the two; of the bias */
    sp_weight_packer weights;
    size_t library_at; /* offset in the scratch of what the library needs */
    /* Forward: what is laid into the output before the primitive adds to it. What is not, it adds
     * by itself. */
    bool lay_per_channel, lay_residual;
    size_t doubled_at; /* forward: offset in the scratch of x at twice its size, where it is asked
                          for */
} convolution;

typedef struct {
    dnnl_dims_t strides, before, after;
    dnnl_memory_desc_t x, weight,
        y; /* y and x channels-last; the weight's layout is the library's choice */
} geometry;

static void destroy(void *state)
{
    convolution *c = state;
    sp_onednn_destroy(&c->primitive);
    sp_onednn_destroy(&c->packer.reorder);
    sp_free(c);
}

static void describe(const sp_value *x, const int64_t weight[4], const sp_value *y,
                     const sp_conv2d_options *o, geometry *g)
{
    *g = (geometry){.strides = {o->stride, o->stride},
                    .before = {o->pad_top, o->pad_left},
                    .after = {o->pad_bottom, o->pad_right},
                    .x = sp_onednn_nhwc(x->dtype, x),
                    .weight = sp_onednn_any(x->dtype, 4, weight),
                    .y = sp_onednn_nhwc(y->dtype, y)};
    if (!o->doubled) return;
    sp_value twice = *x;
    twice.shape.dim[1] *= 2;
    twice.shape.dim[2] *= 2;
    g->x = sp_onednn_nhwc(x->dtype, &twice);
}

static sp_status forward_descriptor(const geometry *g, const dnnl_memory_desc_t *bias,
                                    dnnl_convolution_desc_t *out)
{
    return sp_onednn_check(dnnl_convolution_forward_desc_init(
                               out, dnnl_forward_inference, dnnl_convolution_direct, &g->x,
                               &g->weight, bias, &g->y, g->strides, g->before, g->after),
                           "a convolution");
}

static sp_status pack_weight(convolution *c, const sp_value *weight,
                             dnnl_primitive_desc_t descriptor, sp_packing *out)
{
    const dnnl_memory_desc_t *packed =
        dnnl_primitive_desc_query_md(descriptor, dnnl_query_weights_md, 0);
    const int64_t *d = weight->shape.dim;
    int64_t strides[4] = {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1};
    if (!sp_onednn_packs_convolution(weight, packed, &c->weights, out))
        SP_TRY(sp_onednn_make_packer(weight, 4, d, strides, packed, &c->packer, out));
    sp_onednn_add(&c->primitive, DNNL_ARG_WEIGHTS, packed);
    return SP_OK;
}

static sp_status finish(convolution *c, sp_kernel *out,
                        void (*run)(void *, const sp_node *, void *const *, void *const *, void *))
{
    out->run = run;
    out->state = c;
    out->destroy = destroy;
    return SP_OK;
}

/* ---- forward: in x, weight, bias, per_channel, residual ---- */

bool sp_onednn_supports_conv2d(const sp_node *node)
{
    if (!sp_onednn_not_empty(node) || node->out[0]->dtype != node->in[0]->dtype) return false;
    return sp_onednn_reads(node, 2) && sp_onednn_reads(node, 3) && sp_onednn_reads(node, 4);
}

typedef struct {
    const char *per_channel, *residual; /* NULL: not laid */
    char *to;
    int64_t positions, channels, row_bytes;
} layer;

static void lay_range(void *context, int64_t begin, int64_t end)
{
    const layer *l = context;
    for (int64_t row = begin; row < end; row++) {
        const char *of_sample =
            l->per_channel ? l->per_channel + row / l->positions * l->row_bytes : NULL;
        const char *from = l->residual ? l->residual + row * l->row_bytes : of_sample;
        char *to = l->to + row * l->row_bytes;
        memcpy(to, from, (size_t)l->row_bytes);
        if (!l->residual || !of_sample) continue;
        for (int64_t i = 0; i < l->channels; i++) /* only in fp32, see plan_sums */
            ((float *)to)[i] += ((const float *)of_sample)[i];
    }
}

static void lay(const convolution *c, const sp_node *node, void *const *in, void *out,
                void *scratch)
{
    const sp_value *y = node->out[0];
    layer l = {.to = out, .positions = sp_dim(y, 1) * sp_dim(y, 2), .channels = sp_channels(y)};
    l.row_bytes = l.channels * (int64_t)sp_dtype_size(y->dtype);
    if (c->lay_residual) l.residual = in[4];
    if (c->lay_per_channel) {
        const sp_value *t = node->in[3];
        l.per_channel = in[3];
        if (t->dtype != y->dtype) {
            sp_convert_elements(scratch, y->dtype, in[3], t->dtype, sp_shape_count(t->shape));
            l.per_channel = scratch;
        }
    }
    bool there = l.residual == l.to && !l.per_channel; /* the residual is where the result will be */
    if ((l.residual || l.per_channel) && !there) sp_parallel_for(sp_dim(y, 0) * l.positions, 64, lay_range, &l);
}

/* Rows of x, each written four times. */
typedef struct {
    const char *from;
    char *to;
    int64_t width;
    size_t pixel; /* bytes */
} doubling;

static void double_range(void *context, int64_t begin, int64_t end)
{
    const doubling *d = context;
    size_t row = (size_t)d->width * d->pixel;
    for (int64_t r = begin; r < end; r++) {
        const char *from = d->from + (size_t)r * row;
        char *to = d->to + (size_t)r * 4 * row;
        for (int64_t w = 0; w < d->width; w++, from += d->pixel) {
            memcpy(to + (size_t)(2 * w) * d->pixel, from, d->pixel);
            memcpy(to + (size_t)(2 * w + 1) * d->pixel, from, d->pixel);
        }
        memcpy(to + 2 * row, to, 2 * row);
    }
}

static void *doubled(const sp_value *x, const void *from, void *to)
{
    doubling d = {from, to, sp_dim(x, 2), (size_t)sp_channels(x) * sp_dtype_size(x->dtype)};
    sp_parallel_for(sp_dim(x, 0) * sp_dim(x, 1), 1, double_range, &d);
    return to;
}

static void run_forward(void *state, const sp_node *node, void *const *in, void *const *out,
                        void *scratch)
{
    const convolution *c = state;
    const sp_conv2d_options *o = node->options;
    lay(c, node, in, out[0], scratch);
    void *addresses[SP_ONEDNN_MAX_ARGUMENTS];
    int count = 0;
    addresses[count++] =
        o->doubled ? doubled(node->in[0], in[0], (char *)scratch + c->doubled_at) : in[0];
    addresses[count++] = in[1];
    if (sp_onednn_optional(node, 2)) addresses[count++] = in[2];
    if (sp_onednn_optional(node, 3) && !c->lay_per_channel) addresses[count++] = in[3];
    if (sp_onednn_optional(node, 4) && !c->lay_residual) addresses[count++] = in[4];
    addresses[count] = out[0];
    sp_onednn_run(&c->primitive, addresses, count, (char *)scratch + c->library_at);
}

/* The library's fastest convolution can add to its output (a sum) and a vector of channels, which
 * is what per_channel is for one sample. It cannot add another tensor, nor a vector per sample;
 * slower ones can, and its GEMM one on SSE4.1 then gives wrong numbers. So these are laid into the
 * output first, as long as nothing is rounded by that: both in fp32, one of them in bf16. */
static void plan_sums(const sp_node *node, convolution *c)
{
    const sp_value *per_channel = sp_onednn_optional(node, 3),
                   *residual = sp_onednn_optional(node, 4);
    sp_dtype dtype = node->out[0]->dtype;
    c->lay_per_channel = per_channel && sp_dim(per_channel, 0) > 1;
    c->lay_residual =
        residual && residual->dtype == dtype && (!c->lay_per_channel || dtype == SP_F32);
}

static sp_status forward_attributes(const sp_node *node, convolution *c, dnnl_post_ops_t chain,
                                    dnnl_memory_desc_t extra[2])
{
    const sp_value *per_channel = sp_onednn_optional(node, 3),
                   *residual = sp_onednn_optional(node, 4);
    plan_sums(node, c);
    dnnl_status_t status = dnnl_success;
    if (c->lay_per_channel || c->lay_residual) status = dnnl_post_ops_append_sum(chain, 1.0f);
    if (status == dnnl_success && per_channel && !c->lay_per_channel) {
        extra[0] =
            sp_onednn_plain(per_channel->dtype, 4, (int64_t[]){1, sp_channels(per_channel), 1, 1});
        status = dnnl_post_ops_append_binary(chain, dnnl_binary_add, &extra[0]);
    }
    if (status == dnnl_success && residual && !c->lay_residual) {
        extra[1] = sp_onednn_nhwc(residual->dtype, residual);
        status = dnnl_post_ops_append_binary(chain, dnnl_binary_add, &extra[1]);
    }
    return sp_onednn_check(status, "a convolution's sums");
}

static sp_status make_forward(const sp_node *node, convolution *c, sp_kernel *out,
                              dnnl_primitive_attr_t attributes, dnnl_post_ops_t chain)
{
    const sp_value *x = node->in[0], *weight = node->in[1], *bias = sp_onednn_optional(node, 2);
    dnnl_memory_desc_t extra[2], bias_layout;
    SP_TRY(forward_attributes(node, c, chain, extra));
    SP_TRY(sp_onednn_check(dnnl_primitive_attr_set_post_ops(attributes, chain),
                           "a convolution's sums"));
    geometry g;
    describe(x, weight->shape.dim, node->out[0], node->options, &g);
    if (bias) bias_layout = sp_onednn_plain(bias->dtype, 1, bias->shape.dim);
    dnnl_convolution_desc_t operation;
    SP_TRY(forward_descriptor(&g, bias ? &bias_layout : NULL, &operation));
    dnnl_primitive_desc_t descriptor;
    SP_TRY(sp_onednn_make(&operation, attributes, NULL, &c->primitive, &descriptor));
    sp_onednn_add(&c->primitive, DNNL_ARG_SRC, &g.x);
    sp_status status = pack_weight(c, weight, descriptor, &out->packing[1]);
    dnnl_primitive_desc_destroy(descriptor);
    if (status != SP_OK) return status;
    if (bias) {
        SP_TRY(sp_onednn_make_packer(bias, 1, bias->shape.dim, (int64_t[]){1}, &bias_layout,
                                     &c->bias, &out->packing[2]));
        sp_onednn_add(&c->primitive, DNNL_ARG_BIAS, &bias_layout);
    }
    int position = c->lay_per_channel || c->lay_residual;
    if (sp_onednn_optional(node, 3) && !c->lay_per_channel)
        sp_onednn_add(&c->primitive, DNNL_ARG_ATTR_MULTIPLE_POST_OP(position++) | DNNL_ARG_SRC_1,
                      &extra[0]);
    if (sp_onednn_optional(node, 4) && !c->lay_residual)
        sp_onednn_add(&c->primitive, DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1,
                      &extra[1]);
    sp_onednn_add(&c->primitive, DNNL_ARG_DST, &g.y);
    if (c->lay_per_channel && node->in[3]->dtype != node->out[0]->dtype)
        c->library_at = SP_ONEDNN_ALIGN((size_t)sp_shape_count(node->in[3]->shape) *
                                        sp_dtype_size(node->out[0]->dtype));
    out->scratch = c->library_at + c->primitive.scratch;
    if (((const sp_conv2d_options *)node->options)->doubled) {
        c->doubled_at = SP_ONEDNN_ALIGN(out->scratch);
        out->scratch =
            c->doubled_at + 4 * (size_t)sp_shape_count(x->shape) * sp_dtype_size(x->dtype);
    }
    return SP_OK;
}

sp_status sp_onednn_prepare_conv2d(const sp_node *node, sp_kernel *out)
{
    convolution *c = sp_alloc_zero(sizeof *c);
    if (!c) return SP_MEMORY;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t chain = NULL;
    sp_status status = sp_onednn_check(dnnl_primitive_attr_create(&attributes), "attributes");
    if (status == SP_OK) status = sp_onednn_check(dnnl_post_ops_create(&chain), "attributes");
    if (status == SP_OK) status = make_forward(node, c, out, attributes, chain);
    if (chain) dnnl_post_ops_destroy(chain);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    if (status == SP_OK) return finish(c, out, run_forward);
    destroy(c);
    return status;
}

/* ---- data gradient ---- */

/* The library makes a gradient only from the description of its forward pass. */
static sp_status forward_hint(const geometry *g, dnnl_primitive_desc_t *out)
{
    dnnl_convolution_desc_t operation;
    SP_TRY(forward_descriptor(g, NULL, &operation));
    dnnl_engine_t engine = sp_onednn_engine();
    if (!engine) return SP_INTERNAL;
    operation.prop_kind = dnnl_forward_training;
    return sp_onednn_check(dnnl_primitive_desc_create(out, &operation, NULL, engine, NULL),
                           "a convolution");
}

bool sp_onednn_supports_conv2d_data_gradient(const sp_node *node)
{
    return sp_onednn_not_empty(node) && node->out[0]->dtype == node->in[0]->dtype;
}

static void run_data_gradient(void *state, const sp_node *node, void *const *in, void *const *out,
                              void *scratch)
{
    (void)node;
    const convolution *c = state;
    sp_onednn_run(&c->primitive, (void *[]){in[0], in[1], out[0]}, 2, scratch);
}

static sp_status make_data_gradient(const sp_node *node, convolution *c, sp_kernel *out)
{
    const sp_conv2d_gradient_options *o = node->options;
    const sp_value *dy = node->in[0], *weight = node->in[1], *dx = node->out[0];
    geometry g;
    describe(dx, weight->shape.dim, dy, &o->conv, &g);
    dnnl_convolution_desc_t operation;
    dnnl_primitive_desc_t hint = NULL, descriptor = NULL;
    SP_TRY(forward_hint(&g, &hint));
    sp_status status = sp_onednn_check(
        dnnl_convolution_backward_data_desc_init(&operation, dnnl_convolution_direct, &g.x,
                                                 &g.weight, &g.y, g.strides, g.before, g.after),
        "a convolution's data gradient");
    if (status == SP_OK)
        status = sp_onednn_make(&operation, NULL, hint, &c->primitive, &descriptor);
    if (status == SP_OK) {
        sp_onednn_add(&c->primitive, DNNL_ARG_DIFF_DST, &g.y);
        status = pack_weight(c, weight, descriptor, &out->packing[1]);
        sp_onednn_add(&c->primitive, DNNL_ARG_DIFF_SRC, &g.x);
        out->scratch = c->primitive.scratch;
    }
    if (descriptor) dnnl_primitive_desc_destroy(descriptor);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

sp_status sp_onednn_prepare_conv2d_data_gradient(const sp_node *node, sp_kernel *out)
{
    convolution *c = sp_alloc_zero(sizeof *c);
    if (!c) return SP_MEMORY;
    sp_status status = make_data_gradient(node, c, out);
    if (status == SP_OK) return finish(c, out, run_data_gradient);
    destroy(c);
    return status;
}
