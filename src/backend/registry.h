/* Devices by name. */
#ifndef SP_BACKEND_REGISTRY_H
#define SP_BACKEND_REGISTRY_H
#include "graph/device.h"

/* "cpu", or a name that was registered; NULL is "cpu". SP_UNSUPPORTED for a device that splam knows and this build does
 * not have ("cuda:0"), SP_ARGUMENT, naming the choices, for any other name. */
sp_status sp_device_of(const char *name, sp_device **out);
/* Adds a device, which lives as long as the program; once for each, before others ask for it by its name. */
sp_status sp_device_register(sp_device *device);

#endif
