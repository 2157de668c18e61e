/* One run of one component, from file to file. */
#include <string.h>
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/output.h"
#include "checkpoints/component.h"
#include "pipeline/forward.h"

/* A NaN in an output comes from the weights or the inputs: say which tensor, if it is one of them. */
static sp_status blame(const splam_forward_options *o, const sp_tensor_file *inputs)
{
    for (size_t i = 0; i < sp_tensor_file_count(inputs); i++)
        if (sp_tensor_check_finite(sp_tensor_file_at(inputs, i), sp_tensor_file_name(inputs, i)))
            return sp_fail_within(SP_NUMERIC, "%s", o->inputs);
    sp_component *component;
    SP_TRY(sp_component_open(o->model, sp_forward_folder(o->component), &component));
    sp_status status = SP_OK;
    for (size_t i = 0; !status && i < sp_weights_count(component->weights); i++)
        status = sp_tensor_check_finite(sp_weights_at(component->weights, i),
                                        sp_weights_name(component->weights, i));
    if (status) sp_fail_within(status, "%s", component->folder);
    sp_component_close(component);
    return status;
}

static sp_status check_finite(const splam_forward_options *o, const sp_tensor_file *inputs,
                              const sp_named_outputs *outputs)
{
    for (int i = 0; i < outputs->count; i++) {
        if (sp_tensor_check_finite(&outputs->item[i].tensor, outputs->item[i].name) == SP_OK)
            continue;
        SP_TRY(blame(o, inputs));
        SP_TRY(sp_tensor_check_finite(&outputs->item[i].tensor, outputs->item[i].name));
    }
    return SP_OK;
}

static sp_status save(const char *path, const sp_named_outputs *outputs)
{
    sp_named_tensor named[SP_MAX_PORTS];
    for (int i = 0; i < outputs->count; i++)
        named[i] = (sp_named_tensor){outputs->item[i].name, &outputs->item[i].tensor};
    return sp_safetensors_save(path, named, (size_t)outputs->count, NULL, 0);
}

sp_status sp_forward_files(const splam_forward_options *o)
{
    sp_tensor_file *inputs = NULL;
    sp_named_outputs outputs = {0};
    sp_claim claim = {0};
    sp_device *device;
    sp_status status = sp_device_of(o->device, &device);
    if (!status) status = sp_claim_file(o->outputs, &claim);
    if (!status) status = sp_safetensors_open(o->inputs, &inputs);
    if (!status)
        status = sp_component_forward(o->model, o->component, inputs, sp_precision_dtype(device, o->precision),
                                      device, &outputs);
    if (!status) status = check_finite(o, inputs, &outputs);
    if (!status) status = save(o->outputs, &outputs);
    sp_named_outputs_free(&outputs);
    sp_tensor_file_close(inputs);
    sp_claim_end(&claim);
    return status;
}
