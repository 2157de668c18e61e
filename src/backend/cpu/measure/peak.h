/* The backend's measure_peak. */
#ifndef SP_BACKEND_CPU_MEASURE_PEAK_H
#define SP_BACKEND_CPU_MEASURE_PEAK_H
#include "graph/device.h"

void sp_cpu_measure_peak(sp_device *device, sp_peak *out);

#endif
