/* The backend's measure_ceiling. */
#ifndef SP_BACKEND_CPU_MEASURE_CEILING_H
#define SP_BACKEND_CPU_MEASURE_CEILING_H
#include "graph/backend.h"

void sp_cpu_measure_ceiling(sp_backend *backend, sp_ceiling *out);

#endif
