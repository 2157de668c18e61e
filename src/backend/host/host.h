/* The host: its memory, and every operator by its reference kernel. */
#ifndef SP_BACKEND_HOST_HOST_H
#define SP_BACKEND_HOST_HOST_H
#include "graph/device.h"

/* A device of host memory, whose work is done when a call returns; kernels, optimizer and preferred_dtype are the
 * caller's to set. */
sp_device sp_host_device(const char *name);

/* The device of reference kernels: every operator, every float dtype, slow. */
sp_device *sp_reference_device(void);
/* The fallback that other devices use: prepares op->reference for the node. Where host memory is not the device's, a
 * run waits, brings the inputs down and the outputs up. */
sp_status sp_reference_prepare(sp_device *device, const sp_node *node, sp_kernel *out);

#endif
