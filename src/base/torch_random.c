/* PyTorch's CPU generator: mt19937 (Matsumoto & Nishimura 1998) and the two ways in which
 * torch.randn turns its words into normals: at least 16 values by single-precision Box-Muller over
 * blocks of 16 uniforms, fewer one by one by double-precision Box-Muller whose second value waits
 * for the next call. */
#include <math.h>

#include "base/random.h"

#define STATE 624
#define SHIFT 397

void sp_torch_seed(sp_torch_generator *generator, uint64_t seed)
{
    uint32_t *state = generator->state;
    state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < STATE; i++)
        state[i] = 1812433253u * (state[i - 1] ^ (state[i - 1] >> 30)) + i;
    generator->position = STATE;
    generator->cached_normal = 0;
    generator->has_cached = 0;
}

static void refill(sp_torch_generator *generator)
{
    uint32_t *state = generator->state;
    for (int i = 0; i < STATE; i++) {
        uint32_t mixed = (state[i] & 0x80000000u) | (state[(i + 1) % STATE] & 0x7fffffffu);
        uint32_t twist = mixed & 1 ? 0x9908b0dfu : 0;
        state[i] = state[(i + SHIFT) % STATE] ^ (mixed >> 1) ^ twist;
    }
    generator->position = 0;
}

uint32_t sp_torch_bits(sp_torch_generator *generator)
{
    if (generator->position >= STATE) refill(generator);
    uint32_t word = generator->state[generator->position++];
    word ^= word >> 11;
    word ^= word << 7 & 0x9d2c5680u;
    word ^= word << 15 & 0xefc60000u;
    return word ^ word >> 18;
}

static float uniform_float(sp_torch_generator *generator)
{
    return (float)(sp_torch_bits(generator) & 0xffffffu) * 0x1p-24f;
}

static double uniform_double(sp_torch_generator *generator)
{
    uint64_t high = sp_torch_bits(generator);
    uint64_t word = high << 32 | sp_torch_bits(generator);
    return (double)(word & 0x1fffffffffffffu) * 0x1p-53;
}

static void box_muller_16(float *x)
{
    for (int j = 0; j < 8; j++) {
        float radius = sqrtf(-2 * logf(1 - x[j]));
        float angle = (float)(2 * M_PI) * x[j + 8];
        x[j] = radius * cosf(angle);
        x[j + 8] = radius * sinf(angle);
    }
}

static double next_normal(sp_torch_generator *generator)
{
    if (generator->has_cached) {
        generator->has_cached = 0;
        return generator->cached_normal;
    }
    double angle = 2 * M_PI * uniform_double(generator);
    double radius = sqrt(-2 * log1p(-uniform_double(generator)));
    generator->cached_normal = radius * sin(angle);
    generator->has_cached = 1;
    return radius * cos(angle);
}

void sp_torch_normal(sp_torch_generator *generator, float *out, size_t count)
{
    if (count < 16) {
        for (size_t i = 0; i < count; i++)
            out[i] = (float)next_normal(generator);
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = uniform_float(generator);
    for (size_t i = 0; i + 16 <= count; i += 16)
        box_muller_16(out + i);
    if (count % 16) {
        float *last = out + count - 16;
        for (int i = 0; i < 16; i++)
            last[i] = uniform_float(generator);
        box_muller_16(last);
    }
}
