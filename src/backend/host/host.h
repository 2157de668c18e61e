/* The host: its memory, and every operator by its reference kernel. */
#ifndef SP_BACKEND_HOST_HOST_H
#define SP_BACKEND_HOST_HOST_H
#include "graph/backend.h"

/* The backend of reference kernels: every operator, every float dtype, slow. */
sp_backend *sp_reference_backend(void);
/* The fallback that other backends use: prepares op->reference for the node. */
sp_status sp_reference_prepare(sp_backend *backend, const sp_node *node, sp_kernel *out);

#endif
