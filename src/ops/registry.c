#include "graph/passes.h"
#include "ops/ops.h"

const sp_op *const sp_all_ops[] = {
    /* clang-format off */
    &sp_op_reshape, &sp_op_permute, &sp_op_concat, &sp_op_slice, &sp_op_unslice,
    &sp_op_upsample_nearest, &sp_op_upsample_nearest_gradient, &sp_op_stop_gradient, &sp_op_cast,
    &sp_op_add, &sp_op_mul, &sp_op_affine, &sp_op_add_per_channel, &sp_op_sample_combine,
    &sp_op_unary, &sp_op_unary_gradient, &sp_op_geglu, &sp_op_geglu_gradient,
    &sp_op_sum_leading, &sp_op_fill, &sp_op_sum_middle, &sp_op_broadcast_middle, &sp_op_mean,
    &sp_op_loss, &sp_op_loss_gradient,
    &sp_op_linear, &sp_op_linear_weight_gradient, &sp_op_linear_geglu,
    &sp_op_conv2d, &sp_op_conv2d_data_gradient, &sp_op_conv2d_weight_gradient,
    &sp_op_attention, &sp_op_attention_gradient,
    &sp_op_group_norm, &sp_op_group_norm_gradient, &sp_op_layer_norm, &sp_op_layer_norm_gradient,
    &sp_op_embedding, &sp_op_embedding_gradient, &sp_op_sinusoidal,
    /* clang-format on */
};
const int sp_all_ops_count = sizeof(sp_all_ops) / sizeof(sp_all_ops[0]);
