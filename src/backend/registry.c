/* Devices by name: the processor's, and those that were added. */
#include "backend/registry.h"
#include <string.h>
#include "backend/cpu/cpu.h"
#include "base/text.h"

enum { MAX_ADDED = 8 };
static sp_device *added[MAX_ADDED];
static int added_count;

sp_status sp_device_register(sp_device *device)
{
    if (added_count == MAX_ADDED)
        return sp_fail(SP_INTERNAL, "device \"%s\": there are %d already", device->name, MAX_ADDED);
    added[added_count++] = device;
    return SP_OK;
}

sp_status sp_device_of(const char *name, sp_device **out)
{
    *out = sp_cpu_device();
    if (!name || strcmp(name, "cpu") == 0) return SP_OK;
    for (int i = 0; i < added_count; i++)
        if (strcmp(name, added[i]->name) == 0) {
            *out = added[i];
            return SP_OK;
        }
    *out = NULL;
    if (strcmp(name, "cuda") == 0 || sp_starts_with(name, "cuda:"))
        return sp_fail(SP_UNSUPPORTED, "device \"%s\": this splam is built without CUDA; the device it has is cpu", name);
    return sp_fail(SP_ARGUMENT, "there is no device \"%s\"; choose cpu", name);
}
