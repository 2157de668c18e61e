/* The backend's measure_ceiling. */
#ifndef SP_BACKEND_CPU_MEASURE_CEILING_H
#define SP_BACKEND_CPU_MEASURE_CEILING_H
#include "graph/device.h"

void sp_cpu_measure_ceiling(sp_device *device, sp_ceiling *out);

#endif
