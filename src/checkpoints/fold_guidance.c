/* cond_proj folded into the bias before it. */
#include "checkpoints/fold_guidance.h"

#include "models/guidance.h"

#define COND_PROJ "time_embedding.cond_proj.weight"
#define BIAS "time_embedding.linear_1.bias"

sp_status sp_fold_guidance(sp_component *unet, double guidance)
{
    sp_unet_config *c = &unet->config.unet;
    if (!c->time_cond_dim)
        return sp_fail(SP_ARGUMENT,
                       "%s: the UNet has no cond_proj, so there is nothing to fold: it is used as "
                       "it is",
                       unet->folder);
    sp_tensor sum, bias = {0}, before;
    SP_TRY(sp_guidance_bias(unet->weights, unet->weights, c, guidance, &sum));
    sp_status status = sp_weights_take(unet->weights, BIAS, &before);
    if (!status) status = sp_tensor_convert(&before, SP_F32, &bias);
    sp_tensor_free(&before);
    for (int64_t i = 0; !status && i < c->time_dim; i++)
        ((float *)bias.data)[i] += ((float *)sum.data)[i];
    sp_tensor_free(&sum);
    if (!status) status = sp_weights_add(unet->weights, BIAS, bias);
    if (!status) status = sp_weights_remove(unet->weights, COND_PROJ);
    if (!status && json_object_set_new(unet->json, "time_cond_proj_dim", json_null()))
        status = SP_MEMORY;
    json_object_del(unet->json, "_guidance_range");
    c->time_cond_dim = 0;
    c->guidance = (sp_guidance_range){0};
    return status;
}
