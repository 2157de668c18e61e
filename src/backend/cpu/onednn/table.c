/* What oneDNN does for us. */
#include "backend/cpu/onednn/onednn.h"

#define ENTRY(name)                                                                                \
    {                                                                                              \
        &sp_op_##name, SP_DTYPE_BIT(SP_F32) | SP_DTYPE_BIT(SP_BF16), sp_onednn_supports_##name,    \
            sp_onednn_prepare_##name, "onednn " #name                                              \
    }

const sp_cpu_kernel sp_cpu_onednn[] = {
    ENTRY(conv2d),
    ENTRY(conv2d_data_gradient),
    ENTRY(linear),
    {0},
};
