/* The vectorised kernels of one instruction set. */
#include "backend/cpu/kernel_table.h"

const sp_cpu_kernel SP_ISA_SYMBOL(sp_cpu_vector)[] = {
    {0},
};
