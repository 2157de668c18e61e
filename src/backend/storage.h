/* In what activations are stored, as options say it. */
#ifndef SP_BACKEND_STORAGE_H
#define SP_BACKEND_STORAGE_H
#include <splam/base.h>
#include "tensor/dtype.h"

/* SP_F32 or SP_BF16. */
sp_dtype sp_storage_of(splam_precision precision);

#endif
