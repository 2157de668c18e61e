/* The kernel of pool2d in f32. */
#ifndef SP_BACKEND_CPU_POOL_H
#define SP_BACKEND_CPU_POOL_H
#include "backend/cpu/kernel_table.h"

extern const sp_cpu_kernel sp_cpu_pool[];

#endif
