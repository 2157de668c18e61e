/* What all devices have in common. */
#include "graph/device.h"

size_t sp_device_allowed(sp_device *device)
{
    sp_device_memory memory;
    device->memory(device, &memory);
    return memory.in_use && memory.available ? memory.in_use + memory.available : 0;
}

double sp_peak_share(const sp_peak *peak, sp_dtype dtype, double flops, double bytes, double seconds)
{
    double best = dtype == SP_BF16 ? peak->bf16_flops : peak->f32_flops;
    double arithmetic = best > 0 ? flops / best : 0;
    double memory = peak->bytes > 0 ? bytes / peak->bytes : 0;
    return seconds > 0 ? (arithmetic > memory ? arithmetic : memory) / seconds : 0;
}
