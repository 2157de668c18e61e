/* What the norms share. */
#ifndef SP_BACKEND_CPU_VECTOR_NORM_NORM_H
#define SP_BACKEND_CPU_VECTOR_NORM_NORM_H
#include "backend/cpu/vector/vector.h"

/* to[c] = the weight of channel c as f32, or `otherwise` where there is none (value NULL). */
static inline void sp_norm_weights(const sp_value *value, const void *data, int64_t channels, float otherwise,
                                   float *to)
{
    if (value && value->dtype == SP_F32)
        memcpy(to, data, (size_t)channels * sizeof *to);
    else if (value)
        sp_convert_elements(to, SP_F32, data, value->dtype, channels);
    else
        for (int64_t c = 0; c < channels; c++)
            to[c] = otherwise;
}

#endif
