/* splam_convert: a model into the form that other programs open. */
#include <string.h>
#include "splam/splam.h"
#include "options/options.h"
#include "backend/registry.h"
#include "checkpoints/convert.h"

splam_status splam_convert(const splam_convert_options *options, const splam_callbacks *callbacks)
{
    splam_convert_options o;
    SP_TRY(sp_options_take(&sp_verb_convert, options, &o));
    sp_device *device;
    SP_TRY(sp_device_of(o.device, &device));
    const sp_convert_options settings = {.dtype = strcmp(o.dtype, "f16") == 0    ? SP_F16
                                             : strcmp(o.dtype, "bf16") == 0 ? SP_BF16
                                                                            : SP_F32,
                                    .prediction = o.prediction_type,
                                    .fold_guidance = o.fold_guidance,
                                    .single_file = o.single_file,
                                    .unet = o.unet,
                                    .callbacks = callbacks,
                                    .loras = o.loras,
                                    .lora_count = o.lora_count,
                                    .device = device};
    return sp_convert_model(o.model, o.output, &settings);
}
