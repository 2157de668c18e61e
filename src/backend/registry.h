/* Devices by name. */
#ifndef SP_BACKEND_REGISTRY_H
#define SP_BACKEND_REGISTRY_H
#include "graph/device.h"

/* "cpu"; NULL is the default. SP_UNSUPPORTED for a device that splam knows and this build does not have ("cuda:0"),
 * SP_ARGUMENT, naming the choices, for any other name. */
sp_status sp_device_of(const char *name, sp_device **out);
/* What options without a device get: the processor, unless a program said otherwise before anything ran, as tests do
 * that run on a device of their own. It lives as long as the program. */
sp_device *sp_default_device(void);
void sp_set_default_device(sp_device *device);

#endif
