#include "backend/cpu/convolution_choice.h"
#include "ops/ops.h"

static const char *const names[] = {
#define X(name, text) text,
    SP_CONVOLUTION_FORM_LIST(X)
#undef X
};

const char *sp_convolution_form_name(sp_convolution_form form)
{
    return names[form];
}

sp_convolution_form sp_convolution_choice(const sp_node *node)
{
    const sp_value *x = node->in[0], *weight = node->in[1], *y = node->out[0];
    if (sp_dim(weight, 2) != 3 || sp_dim(weight, 3) != 3) return SP_CONVOLUTION_DIRECT;
    if (sp_dim(x, 3) < 64 || sp_dim(y, 3) < 64) return SP_CONVOLUTION_DIRECT;
    if (sp_dim(y, 0) * sp_dim(y, 1) * sp_dim(y, 2) < 256) return SP_CONVOLUTION_DIRECT;
    return x->dtype == SP_BF16 ? SP_WINOGRAD_2_BF16 : SP_WINOGRAD_4;
}

#define DECLARE(isa)                                                                               \
    sp_status sp_winograd_##isa(sp_convolution_form form, const sp_node *node, sp_kernel *out);    \
    sp_status sp_winograd_data_gradient_##isa(sp_convolution_form form, const sp_node *node,       \
                                              sp_kernel *out);
DECLARE(baseline)
DECLARE(avx2)
DECLARE(avx512)
DECLARE(avx512bf16)

#define PREPARE(isa)                                                                               \
    (node->op == &sp_op_conv2d ? sp_winograd_##isa : sp_winograd_data_gradient_##isa)(form, node,  \
                                                                                      out)

sp_status sp_winograd_prepare(sp_convolution_form form, const sp_node *node, sp_kernel *out)
{
    switch (sp_cpu_isa()) {
    case SP_ISA_AVX512_BF16:
        return PREPARE(avx512bf16);
    case SP_ISA_AVX512:
        return PREPARE(avx512);
    case SP_ISA_AVX2:
        return PREPARE(avx2);
    default:
        return PREPARE(baseline);
    }
}
