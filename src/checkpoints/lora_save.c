/* Trained adapters as files for other programs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "models/guidance.h"
#include "checkpoints/lora.h"

enum { MAX_NAME = 512, TIMESTEPS = 1000, ITERATIONS = 400 };
static const double largest_error = 1e-5; /* of what a bias of 1 is made of */

/* ---- a bias as an adapter ---- */

/* [TIMESTEPS,dim]: what linear_1 of the time embedding takes at every timestep (ops/sinusoidal.c). */
static void time_embeddings(const sp_unet_config *c, double *out)
{
    int64_t dim = c->channels[0], half = dim / 2;
    for (int t = 0; t < TIMESTEPS; t++)
        for (int64_t j = 0; j < half; j++) {
            double *row = out + t * dim;
            double phase = t * exp(-log(10000.0) * (double)j / ((double)half - c->freq_shift));
            row[c->cos_first ? j : half + j] = cos(phase);
            row[c->cos_first ? half + j : j] = sin(phase);
        }
}

static double squares(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sum;
}

/* The vector w of least length with embeddings w = 1 for every timestep, as nearly as that is
 * possible: conjugate gradients on the normal equations (CGLS), from 0. work: 2 TIMESTEPS + 2 dim.
 * Returns the largest error. */
static double solve_ones(const double *embeddings, int64_t dim, double *w, double *work)
{
    double *r = work, *q = r + TIMESTEPS, *s = q + TIMESTEPS, *p = s + dim, before = 0, error = 0;
    memset(w, 0, (size_t)dim * sizeof *w);
    memset(p, 0, (size_t)dim * sizeof *p);
    for (int t = 0; t < TIMESTEPS; t++)
        r[t] = 1;
    for (int k = 0; k < ITERATIONS; k++) {
        memset(s, 0, (size_t)dim * sizeof *s);
        for (int t = 0; t < TIMESTEPS; t++)
            for (int64_t i = 0; i < dim; i++)
                s[i] += r[t] * embeddings[t * dim + i];
        double now = squares(s, dim);
        if (now < 1e-24) break;
        for (int64_t i = 0; i < dim; i++)
            p[i] = s[i] + (k ? now / before * p[i] : 0);
        for (int t = 0; t < TIMESTEPS; t++) {
            q[t] = 0;
            for (int64_t i = 0; i < dim; i++)
                q[t] += embeddings[t * dim + i] * p[i];
        }
        double step = now / squares(q, TIMESTEPS);
        for (int64_t i = 0; i < dim; i++)
            w[i] += step * p[i];
        for (int t = 0; t < TIMESTEPS; t++)
            r[t] -= step * q[t];
        before = now;
    }
    for (int t = 0; t < TIMESTEPS; t++)
        error = fmax(error, fabs(r[t]));
    return error;
}

/* down [1,dim] of time_embedding.linear_1, which gives 1 whatever the timestep. */
static sp_status ones_adapter(const sp_unet_config *config, sp_tensor *down)
{
    int64_t dim = config->channels[0];
    size_t numbers = (size_t)(TIMESTEPS * dim + 3 * dim + 2 * TIMESTEPS);
    double *embeddings = sp_alloc_zero(numbers * sizeof *embeddings);
    if (!embeddings) return SP_MEMORY;
    double *w = embeddings + TIMESTEPS * dim;
    time_embeddings(config, embeddings);
    double error = solve_ones(embeddings, dim, w, w + dim);
    sp_status status = sp_tensor_create(SP_F32, sp_shape_of(1, dim), down);
    for (int64_t i = 0; i < dim && !status; i++)
        ((float *)down->data)[i] = (float)w[i];
    sp_free(embeddings);
    if (!status && !(error <= largest_error)) {
        sp_tensor_free(down);
        status = sp_fail(SP_UNSUPPORTED,
                         "a time embedding of %lld channels is too small to carry what cond_proj "
                         "adds as an adapter (off by %g); `gamma_conditioning` time needs none",
                         (long long)dim, error);
    }
    return status;
}

/* Whether it has a cond_proj. */
static bool is_told(const sp_component_config *config)
{
    return config->kind == SP_COMPONENT_UNET && config->unet.time_cond_dim;
}

sp_status sp_lora_check_guidance(const sp_component_config *config)
{
    sp_tensor down = {0};
    if (!is_told(config)) return SP_OK;
    sp_status status = ones_adapter(&config->unet, &down);
    sp_tensor_free(&down);
    return status;
}

/* ---- names ---- */

static const struct {
    const char *unet, *transformer, *down, *up;
    bool underscores;
} namings[] = {
    [SP_LORA_DIFFUSERS] = {"unet.", "transformer.", ".lora_A.weight", ".lora_B.weight", false},
    [SP_LORA_KOHYA] = {"lora_unet_", "lora_transformer_", ".lora_down.weight", ".lora_up.weight", true},
};

typedef struct {
    sp_lora_naming naming;
    sp_component_kind of;
    const sp_lora_settings *settings;
    sp_weights *out;
} lora_file;

static sp_status add(const lora_file *f, const char *layer, const char *end, sp_tensor tensor)
{
    char name[MAX_NAME];
    bool unet = f->of == SP_COMPONENT_UNET;
    int prefix =
        snprintf(name, sizeof name, "%s", unet ? namings[f->naming].unet : namings[f->naming].transformer);
    snprintf(name + prefix, sizeof name - (size_t)prefix, "%s", layer);
    for (char *c = name; *c && namings[f->naming].underscores; c++)
        if (*c == '.') *c = '_';
    size_t length = strlen(name);
    snprintf(name + length, sizeof name - length, "%s", end);
    return sp_weights_add(f->out, name, tensor);
}

/* kohya's file says alpha; diffusers' means alpha = r, and so has up times alpha/r. */
static sp_status add_adapter(const lora_file *f, const char *layer, const sp_tensor *down,
                             const sp_tensor *up, double alpha)
{
    bool kohya = f->naming == SP_LORA_KOHYA;
    double scale = kohya ? 1 : alpha / (double)down->shape.dim[0];
    sp_tensor copy;
    SP_TRY(sp_tensor_convert(down, SP_F32, &copy));
    SP_TRY(add(f, layer, namings[f->naming].down, copy));
    SP_TRY(sp_tensor_convert(up, SP_F32, &copy));
    for (int64_t i = 0; i < sp_tensor_count(&copy); i++)
        ((float *)copy.data)[i] *= (float)scale;
    SP_TRY(add(f, layer, namings[f->naming].up, copy));
    if (!kohya) return SP_OK;
    SP_TRY(sp_tensor_create(SP_F32, (sp_shape){.rank = 0}, &copy));
    *(float *)copy.data = (float)alpha;
    return add(f, layer, ".alpha", copy);
}

static sp_status add_guidance(const lora_file *f, const sp_unet_config *config,
                              const sp_weights *base, const sp_weights *adapters)
{
    sp_tensor up = {0}, down = {0};
    sp_status status = ones_adapter(config, &down);
    if (!status) status = sp_guidance_bias(base, adapters, config, 1, &up);
    up.shape = sp_shape_of(config->time_dim, 1);
    if (!status) status = add_adapter(f, "time_embedding.linear_1", &down, &up, 1);
    sp_tensor_free(&up);
    sp_tensor_free(&down);
    return status;
}

static sp_status add_all(const lora_file *f, const sp_component_config *config, const sp_weights *base,
                         const sp_weights *adapters)
{
    static const char end[] = ".lora_A.weight";
    char layer[MAX_NAME], up[MAX_NAME + 32];
    for (size_t i = 0; i < sp_weights_count(adapters); i++) {
        const char *name = sp_weights_name(adapters, i);
        if (!sp_ends_with(name, end)) continue;
        snprintf(layer, sizeof layer, "%.*s", (int)(strlen(name) - strlen(end)), name);
        snprintf(up, sizeof up, "%s.lora_B.weight", layer);
        SP_TRY(add_adapter(f, layer, sp_weights_at(adapters, i), sp_weights_find(adapters, up),
                           f->settings->alpha));
    }
    return is_told(config) ? add_guidance(f, &config->unet, base, adapters) : SP_OK;
}

sp_status sp_lora_save(const char *path, sp_lora_naming naming, const sp_component_config *config,
                       const sp_weights *base, const sp_weights *adapters,
                       const sp_lora_settings *settings, const char *scheduler)
{
    char rank[32], alpha[32];
    snprintf(rank, sizeof rank, "%lld", (long long)settings->rank);
    snprintf(alpha, sizeof alpha, "%g", settings->alpha);
    size_t count = naming == SP_LORA_KOHYA ? 4 : 1;
    const char *metadata[5][2] = {{"format", "pt"},
                                  {"ss_network_module", "networks.lora"},
                                  {"ss_network_dim", rank},
                                  {"ss_network_alpha", alpha}};
    if (scheduler) {
        metadata[count][0] = SP_LORA_SCHEDULER;
        metadata[count++][1] = scheduler;
    }
    lora_file f = {.naming = naming, .of = config->kind, .settings = settings};
    SP_TRY(sp_weights_create(&f.out));
    sp_status status = add_all(&f, config, base, adapters);
    if (!status)
        status = sp_weights_save(f.out, path, SP_F32, metadata, count, NULL);
    sp_weights_destroy(f.out);
    return status;
}
