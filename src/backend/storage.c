/* Precision, from options. */
#include "backend/storage.h"
#include "backend/registry.h"

sp_dtype sp_storage_of(splam_precision precision)
{
    if (precision == SPLAM_PRECISION_DEFAULT) return sp_default_device()->preferred_dtype;
    return precision == SPLAM_BF16 ? SP_BF16 : SP_F32;
}
