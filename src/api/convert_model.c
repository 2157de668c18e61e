/* splam_convert: a model into the form that other programs open. */
#include <string.h>
#include "api/convert.h"
#include "backend/registry.h"
#include "checkpoints/convert.h"

splam_status splam_convert(const splam_convert_options *o, const splam_callbacks *callbacks)
{
    const sp_callbacks own_callbacks = sp_own_callbacks(callbacks);
    int dtype = o->dtype ? sp_dtype_from_name(o->dtype) : SP_F32;
    sp_status status = SP_OK;
    if (!o->model || !o->output)
        status = sp_fail(SP_ARGUMENT, "a model and what to write it to are needed");
    else if (dtype != SP_F32 && dtype != SP_F16 && dtype != SP_BF16)
        status =
            sp_fail(SP_ARGUMENT, "dtype \"%s\" is not known, expected F32, F16 or BF16", o->dtype);
    else if (o->prediction && strcmp(o->prediction, "epsilon") != 0 &&
             strcmp(o->prediction, "v_prediction") != 0)
        status = sp_fail(SP_ARGUMENT,
                         "prediction type \"%s\" is not known, expected epsilon or v_prediction",
                         o->prediction);
    if (status) return status;
    sp_convert_options own = {.dtype = (sp_dtype)dtype,
                              .prediction = o->prediction,
                              .fold_guidance = o->fold_guidance,
                              .single_file = o->single_file,
                              .unet = o->unet,
                              .callbacks = &own_callbacks,
                              .loras = o->loras,
                              .lora_count = o->lora_count,
                              .device = sp_default_device()};
    status = sp_check_loras(o->loras, o->lora_count);
    if (!status) status = sp_convert_model(o->model, o->output, &own);
    return status;
}
