/* Host memory as a device's: what the CPU's devices have in common. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include "backend/host/host.h"
#include "base/progress.h"
#include "base/system.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_LIMIT ((size_t)1 << 30)

static void *allocate(sp_device *device, size_t bytes)
{
    (void)device;
    void *address = sp_alloc(bytes);
    if (!address || bytes < 2 * HUGE_PAGE || bytes > HUGE_LIMIT) return address;
    /* Activations are walked over many times: fewer, larger pages spare faults and misses. Only a
     * hint. Packed weights of gigabytes are streamed, and the system would first move other memory
     * out of the way to find so many large pages. */
    uintptr_t first = ((uintptr_t)address + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    uintptr_t last = ((uintptr_t)address + bytes) & ~(HUGE_PAGE - 1);
    if (last > first) madvise((void *)first, last - first, MADV_HUGEPAGE);
    return address;
}

static void release(sp_device *device, void *address)
{
    (void)device;
    sp_free(address);
}

static void upload(sp_device *device, void *to, const void *host, size_t bytes)
{
    (void)device;
    memcpy(to, host, bytes);
}

static sp_status download(sp_device *device, void *host, const void *from, size_t bytes)
{
    (void)device;
    memcpy(host, from, bytes);
    return SP_OK;
}

static void zero(sp_device *device, void *address, size_t bytes)
{
    (void)device;
    memset(address, 0, bytes);
}

/* Work is done when the call that asks for it returns. */
static sp_status finish(sp_device *device)
{
    (void)device;
    return SP_OK;
}

static int64_t mark(sp_device *device)
{
    (void)device;
    return (int64_t)(sp_now() * 1e9);
}

static double elapsed(sp_device *device, int64_t from, int64_t to)
{
    (void)device;
    return (double)(to - from) * 1e-9;
}

static void memory(sp_device *device, sp_device_memory *out)
{
    (void)device;
    int64_t own = sp_resident_memory(), available = sp_available_memory();
    *out = (sp_device_memory){.available = available < 0 ? 0 : (size_t)available, .in_use = own < 0 ? 0 : (size_t)own};
}

sp_device sp_host_device(const char *name)
{
    return (sp_device){.name = name,
                       .host_visible = true,
                       .alignment = SP_ALIGNMENT,
                       .allocate = allocate,
                       .release = release,
                       .upload = upload,
                       .download = download,
                       .zero = zero,
                       .finish = finish,
                       .mark = mark,
                       .elapsed = elapsed,
                       .memory = memory};
}
