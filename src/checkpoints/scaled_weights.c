/* Scaled weights told apart. */
#include "checkpoints/scaled_weights.h"

#include "base/text.h"

sp_status sp_scaled_weights_refuse(const sp_tensor_file *file)
{
    static const char *const signs[] = {"scaled_fp8", ".scale_weight", ".weight_scale", ".weight_scale_inv",
                                        ".scale_input", ".input_scale", ".comfy_quant"};
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        for (size_t k = 0; k < sizeof signs / sizeof *signs; k++)
            if (sp_ends_with(name, signs[k]))
                return sp_fail(SP_UNSUPPORTED,
                               "%s: tensor \"%s\" is of scaled fp8, weights in eight bits with factors, which is not "
                               "supported; plain F8_E4M3 and F8_E5M2 are",
                               sp_tensor_file_path(file), name);
    }
    return SP_OK;
}
