/* In what activations are stored, as options say it. */
#ifndef SP_BACKEND_PRECISION_H
#define SP_BACKEND_PRECISION_H
#include <splam/base.h>
#include "graph/device.h"

/* SP_F32 or SP_BF16; the device's own choice where options leave it open. */
sp_dtype sp_precision_dtype(const sp_device *device, splam_precision precision);

#endif
