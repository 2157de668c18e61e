/* Devices by name. */
#include "backend/registry.h"
#include <string.h>
#include "backend/cpu/cpu.h"
#include "base/text.h"

static sp_device *chosen; /* NULL: nobody chose */

sp_device *sp_default_device(void)
{
    return chosen ? chosen : sp_cpu_device();
}

void sp_set_default_device(sp_device *device)
{
    chosen = device;
}

sp_status sp_device_of(const char *name, sp_device **out)
{
    *out = NULL;
    if (!name) {
        *out = sp_default_device();
        return SP_OK;
    }
    if (strcmp(name, "cpu") == 0) {
        *out = sp_cpu_device();
        return SP_OK;
    }
    if (strcmp(name, "cuda") == 0 || sp_starts_with(name, "cuda:"))
        return sp_fail(SP_UNSUPPORTED, "`device` is \"%s\", and this splam is built without CUDA: it has cpu", name);
    return sp_fail(SP_ARGUMENT, "`device` is \"%s\", cpu is expected", name);
}
