/* Linear layers as matrix products: y[R,M] = x[R,K] W^T + bias + residual, R being all leading
 * dimensions together. Our own kernel (vector/linear.c) goes before this one except for bf16 where
 * the library has AMX; below that the library's sums depend on the number of threads (gemm:jit). */
#include "backend/cpu/onednn/onednn.h"

typedef struct {
    sp_onednn_primitive primitive;
    sp_onednn_packer packer, bias;
    sp_weight_packer weights; /* where our own loop packs */
} product;

static void destroy(void *state)
{
    product *p = state;
    sp_onednn_destroy(&p->primitive);
    sp_onednn_destroy(&p->packer.reorder);
    sp_free(p);
}

static int64_t rows_of(const sp_value *value)
{
    return sp_shape_count(value->shape) / sp_channels(value);
}

/* ---- linear: in x, weight, bias, residual ---- */

bool sp_onednn_supports_linear(const sp_node *node)
{
    return sp_onednn_not_empty(node) && node->out[0]->dtype == node->in[0]->dtype &&
           sp_onednn_reads(node, 2) && sp_onednn_reads(node, 3);
}

static void run_linear(void *state, const sp_node *node, void *const *in, void *const *out,
                       void *scratch)
{
    const product *p = state;
    void *addresses[SP_ONEDNN_MAX_ARGUMENTS];
    int count = 0;
    addresses[count++] = in[0];
    addresses[count++] = in[1];
    if (sp_onednn_optional(node, 2)) addresses[count++] = in[2];
    if (sp_onednn_optional(node, 3)) addresses[count++] = in[3];
    addresses[count] = out[0];
    sp_onednn_run(&p->primitive, addresses, count, scratch);
}

static sp_status make_linear(const sp_node *node, product *p, sp_kernel *out,
                             dnnl_primitive_attr_t attributes, dnnl_post_ops_t chain)
{
    const sp_value *x = node->in[0], *weight = node->in[1], *y = node->out[0];
    const sp_value *bias = sp_onednn_optional(node, 2), *residual = sp_onednn_optional(node, 3);
    const sp_linear_options *o = node->options;
    int64_t rows = rows_of(x), inner = sp_channels(x), columns = sp_channels(y);
    dnnl_memory_desc_t x_layout = sp_onednn_plain(x->dtype, 2, (int64_t[]){rows, inner});
    dnnl_memory_desc_t w_layout = sp_onednn_any(x->dtype, 2, (int64_t[]){inner, columns});
    dnnl_memory_desc_t y_layout = sp_onednn_plain(y->dtype, 2, (int64_t[]){rows, columns});
    dnnl_memory_desc_t bias_layout, residual_layout;
    if (bias) bias_layout = sp_onednn_plain(bias->dtype, 2, (int64_t[]){1, columns});
    if (residual) {
        residual_layout = sp_onednn_plain(residual->dtype, 2, (int64_t[]){rows, columns});
        SP_TRY(sp_onednn_check(
            dnnl_post_ops_append_binary(chain, dnnl_binary_add, &residual_layout), "a residual"));
        SP_TRY(sp_onednn_check(dnnl_primitive_attr_set_post_ops(attributes, chain), "a residual"));
    }
    dnnl_matmul_desc_t operation;
    SP_TRY(sp_onednn_check(dnnl_matmul_desc_init(&operation, &x_layout, &w_layout,
                                                 bias ? &bias_layout : NULL, &y_layout),
                           "a linear layer"));
    dnnl_primitive_desc_t descriptor;
    SP_TRY(sp_onednn_make(&operation, attributes, NULL, &p->primitive, &descriptor));
    dnnl_memory_desc_t packed = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_destroy(descriptor);
    const int64_t dims[2] = {inner, columns}, as_stored[2] = {columns, 1}, turned[2] = {1, inner};
    const int64_t *strides = o->transposed ? as_stored : turned;
    if (!sp_onednn_packs_linear(weight, dims, strides, &packed, &p->weights, &out->packing[1]))
        SP_TRY(sp_onednn_make_packer(weight, 2, dims, strides, &packed, &p->packer, &out->packing[1]));
    sp_onednn_add(&p->primitive, DNNL_ARG_SRC, &x_layout);
    sp_onednn_add(&p->primitive, DNNL_ARG_WEIGHTS, &packed);
    if (bias) {
        SP_TRY(sp_onednn_make_packer(bias, 2, (int64_t[]){1, columns}, (int64_t[]){columns, 1},
                                     &bias_layout, &p->bias, &out->packing[2]));
        sp_onednn_add(&p->primitive, DNNL_ARG_BIAS, &bias_layout);
    }
    if (residual)
        sp_onednn_add(&p->primitive, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                      &residual_layout);
    sp_onednn_add(&p->primitive, DNNL_ARG_DST, &y_layout);
    out->scratch = p->primitive.scratch;
    return SP_OK;
}

sp_status sp_onednn_prepare_linear(const sp_node *node, sp_kernel *out)
{
    product *p = sp_alloc_zero(sizeof *p);
    if (!p) return SP_MEMORY;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t chain = NULL;
    sp_status status = sp_onednn_check(dnnl_primitive_attr_create(&attributes), "attributes");
    if (status == SP_OK) status = sp_onednn_check(dnnl_post_ops_create(&chain), "attributes");
    if (status == SP_OK) status = make_linear(node, p, out, attributes, chain);
    if (chain) dnnl_post_ops_destroy(chain);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    if (status != SP_OK) {
        destroy(p);
        return status;
    }
    out->run = run_linear;
    out->state = p;
    out->destroy = destroy;
    return SP_OK;
}
