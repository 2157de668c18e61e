/* Precision, from options. */
#include "backend/precision.h"

sp_dtype sp_precision_dtype(const sp_device *device, splam_precision precision)
{
    if (precision == SPLAM_PRECISION_DEFAULT) return device->preferred_dtype;
    return precision == SPLAM_BF16 ? SP_BF16 : SP_F32;
}
