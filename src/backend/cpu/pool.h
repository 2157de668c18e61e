/* The kernel of pool2d in f32. */
#ifndef SP_BACKEND_CPU_POOL_H
#define SP_BACKEND_CPU_POOL_H
#include "backend/cpu/kernel_table.h"

sp_status sp_cpu_pool2d(const sp_node *node, sp_kernel *out); /* prepare */

#endif
