/* Where noise comes from: Philox, PyTorch's generator, a file. */
#include "diffusion/noise.h"
#include <stdio.h>
#include <string.h>
#include "base/memory.h"

static sp_status draw_philox(void *context, int64_t sample, int step, float *out, int64_t count)
{
    const sp_philox_noise *state = context;
    sp_random_key key = {.seed = state->seed + (uint64_t)sample,
                         .stream = step > 0   ? SP_STREAM_FRESH_NOISE
                                   : step < 0 ? SP_STREAM_POSTERIOR
                                              : SP_STREAM_NOISE};
    key.step = step > 0 ? (uint64_t)step : 0;
    sp_random_normal(key, out, (size_t)count);
    return SP_OK;
}

sp_noise sp_noise_philox(sp_philox_noise *state)
{
    return (sp_noise){state, draw_philox};
}

sp_status sp_torch_noise_create(uint64_t seed, int64_t count, sp_torch_noise *out)
{
    *out = (sp_torch_noise){.count = count};
    out->generator = sp_alloc((size_t)count * sizeof *out->generator);
    if (!out->generator) return SP_MEMORY;
    for (int64_t i = 0; i < count; i++)
        sp_torch_seed(&out->generator[i], seed + (uint64_t)i);
    return SP_OK;
}

void sp_torch_noise_free(sp_torch_noise *state)
{
    sp_free(state->generator);
    *state = (sp_torch_noise){0};
}

static sp_status draw_torch(void *context, int64_t sample, int step, float *out, int64_t count)
{
    const sp_torch_noise *state = context;
    (void)step;
    if (sample >= state->count)
        return sp_fail(SP_INTERNAL, "noise for sample %lld of %lld", (long long)sample,
                       (long long)state->count);
    sp_torch_normal(&state->generator[sample], out, (size_t)count);
    return SP_OK;
}

sp_noise sp_noise_torch(sp_torch_noise *state)
{
    return (sp_noise){state, draw_torch};
}

static sp_status draw_given(void *context, int64_t sample, int step, float *out, int64_t count)
{
    const sp_given_noise *state = context;
    const sp_tensor *noise = step < 0              ? state->posterior
                             : step < state->steps ? state->step[step]
                                                   : NULL;
    char name[32];
    snprintf(name, sizeof name, step < 0 ? "noise.posterior" : "noise.%d", step);
    if (!noise)
        return sp_fail(SP_ARGUMENT, "the noise given has no \"%s\", which this sampler needs",
                       name);
    if (noise->dtype != SP_F32 || noise->shape.dim[0] <= sample ||
        sp_tensor_count(noise) != noise->shape.dim[0] * count)
        return sp_fail(SP_SHAPE, "\"%s\" is %s %s, and sample %lld needs %lld numbers of F32", name,
                       sp_dtype_name(noise->dtype), sp_shape_text(noise->shape), (long long)sample,
                       (long long)count);
    memcpy(out, (const float *)noise->data + sample * count, (size_t)count * sizeof *out);
    return SP_OK;
}

sp_noise sp_noise_given(sp_given_noise *state)
{
    return (sp_noise){state, draw_given};
}
