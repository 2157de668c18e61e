/* What all devices have in common. */
#include "graph/device.h"

size_t sp_device_allowed(sp_device *device)
{
    sp_device_memory memory;
    device->memory(device, &memory);
    return memory.own && memory.available ? memory.own + memory.available : 0;
}

double sp_ceiling_share(const sp_ceiling *ceiling, sp_dtype dtype, double flops, double bytes, double seconds)
{
    double peak = dtype == SP_BF16 ? ceiling->bf16_flops : ceiling->f32_flops;
    double arithmetic = peak > 0 ? flops / peak : 0;
    double memory = ceiling->bytes > 0 ? bytes / ceiling->bytes : 0;
    return seconds > 0 ? (arithmetic > memory ? arithmetic : memory) / seconds : 0;
}
