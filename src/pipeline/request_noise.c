/* The noise of a request: from a file, or drawn from its seed. */
#include <stdio.h>
#include "base/memory.h"
#include "pipeline/request.h"

typedef struct {
    const char *path;
    const sp_tensor_file *file;
    sp_shape shape;
} noise_file;

static sp_status load_noise(const noise_file *from, const char *name, sp_tensor *out)
{
    const sp_tensor *tensor;
    SP_TRY(sp_tensor_file_get(from->file, name, &tensor));
    if (!sp_shape_equal(tensor->shape, from->shape))
        return sp_fail(SP_SHAPE, "%s: tensor \"%s\" has the shape %s, expected %s", from->path, name,
                       sp_shape_text(tensor->shape), sp_shape_text(from->shape));
    SP_TRY(sp_tensor_convert(tensor, SP_F32, out));
    sp_status status = sp_tensor_check_finite(out, name);
    return status ? sp_fail_within(status, "%s", from->path) : SP_OK;
}

/* Every noise.K that the sampler will ask for. */
static sp_status load_steps(const noise_file *from, const sp_sampler *sampler, sp_request_noise *out)
{
    size_t steps = (size_t)sampler->count + 1;
    out->step = sp_alloc_zero(steps * sizeof *out->step);
    out->steps = sp_alloc_zero(steps * sizeof *out->steps);
    if (!out->step || !out->steps) return SP_MEMORY;
    for (int i = 0; i <= sampler->count; i++) {
        char name[32];
        if (i > 0 && sampler->step[i - 1].next.fresh == 0) continue;
        snprintf(name, sizeof name, "noise.%d", i);
        out->given.steps = i + 1;
        out->steps[i] = &out->step[i];
        SP_TRY(load_noise(from, name, &out->step[i]));
    }
    return SP_OK;
}

static sp_status load_all(const noise_file *from, const sp_sampler *sampler, bool posterior, sp_request_noise *out)
{
    SP_TRY(load_steps(from, sampler, out));
    out->given.step = out->steps;
    out->noise = sp_noise_given(&out->given);
    if (!posterior || !sp_tensor_file_find(from->file, "noise.posterior")) return SP_OK;
    out->given.posterior = &out->posterior;
    return load_noise(from, "noise.posterior", &out->posterior);
}

sp_status sp_request_noise_create(const splam_generate_options *o, const sp_tensor_file *file,
                                  const sp_sampler *sampler, const sp_sampling *sampling,
                                  const sp_picture_sizes *sizes, bool posterior, sp_request_noise *out)
{
    *out = (sp_request_noise){.philox.seed = sampling->seed};
    if (file) {
        const noise_file from = {o->noise, file, sp_latent_shape(sizes, sizes->total)};
        return load_all(&from, sampler, posterior, out);
    }
    if (o->rng == SPLAM_RNG_TORCH) {
        SP_TRY(sp_torch_noise_create(sampling->seed, sizes->total, &out->torch));
        out->noise = sp_noise_torch(&out->torch);
        return SP_OK;
    }
    out->noise = sp_noise_philox(&out->philox);
    return SP_OK;
}

void sp_request_noise_free(sp_request_noise *n)
{
    for (int i = 0; i < n->given.steps && n->step; i++)
        sp_tensor_free(&n->step[i]);
    sp_free(n->step);
    sp_free(n->steps);
    sp_tensor_free(&n->posterior);
    sp_torch_noise_free(&n->torch);
    *n = (sp_request_noise){0};
}
