/* The teacher's trajectories: computing, keeping and reading them between their points. */
#include "pipeline/trajectory.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/file.h"
#include "base/inner_callbacks.h"
#include "base/log.h"
#include "base/memory.h"

/* ---- the grid ---- */

sp_scheduler_config sp_trajectory_scheduler(const sp_scheduler_config *model)
{
    sp_scheduler_config config = *model;
    config.spacing = SP_SPACING_TRAILING;
    config.alpha_to_one = true;
    return config;
}

static const sp_sampler_options chain_options = {.kind = SP_SAMPLER_DDIM, .steps = SP_TRAJECTORY_STEPS};

sp_status sp_trajectory_grid(const sp_scheduler_config *model, sp_trajectory *out)
{
    sp_sampler sampler;
    const sp_scheduler_config scheduler = sp_trajectory_scheduler(model);
    if (model->path.timesteps % SP_TRAJECTORY_STEPS)
        return sp_fail(SP_UNSUPPORTED, "%s: \"num_train_timesteps\" is %d, and a trajectory needs a multiple of %d",
                       model->where, model->path.timesteps, SP_TRAJECTORY_STEPS);
    SP_TRY(sp_sampler_create(&scheduler, &chain_options, &sampler));
    for (int i = 0; i < SP_TRAJECTORY_STEPS; i++) {
        out->timestep[i] = sampler.step[i].timestep;
        out->pair[i] = sp_path_at(&scheduler.path, out->timestep[i]);
    }
    out->pair[SP_TRAJECTORY_STEPS] = (sp_pair){1, 0};
    sp_sampler_free(&sampler);
    return SP_OK;
}

/* ---- the key ---- */

/* Not cryptographic: it tells one's own files apart, gigabytes of weights in a second. */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    return XXH3_64bits_withSeed(data, size, hash);
}

static uint64_t hash_weights(uint64_t hash, const sp_weights *weights)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        const char *name = sp_weights_name(weights, i);
        const sp_tensor *tensor = sp_weights_find(weights, name);
        hash = hash_bytes(hash, name, strlen(name));
        hash = hash_bytes(hash, &tensor->dtype, sizeof tensor->dtype);
        hash = hash_bytes(hash, tensor->data, sp_tensor_bytes(tensor));
    }
    return hash;
}

static uint64_t hash_conditioning(uint64_t hash, const sp_conditioning *set)
{
    for (int i = 0; i < set->count; i++)
        hash = hash_bytes(hash, set->item[i].tensor.data, sp_tensor_bytes(&set->item[i].tensor));
    return hash;
}

/* The conditioning stands for the prompts, the tokenizer and the text encoder. */
static uint64_t key_of(const sp_pipeline *teacher, const sp_trajectory_request *r)
{
    const sp_path *path = &teacher->scheduler.path;
    size_t size;
    const void *bytes = sp_path_bytes(path, &size);
    uint64_t hash = hash_weights(1, teacher->denoiser_weights);
    hash = hash_conditioning(hash, r->conditioning);
    if (r->negative) hash = hash_conditioning(hash, r->negative);
    hash = hash_bytes(hash, bytes, size);
    hash = hash_bytes(hash, &r->guidance_scale_w, sizeof r->guidance_scale_w);
    uint64_t words[] = {(uint64_t)path->prediction,
                        (uint64_t)teacher->precision,
                        (uint64_t)sp_conditioning_rows(r->conditioning),
                        (uint64_t)r->height,
                        (uint64_t)r->width,
                        r->seed,
                        SP_TRAJECTORY_STEPS};
    return hash_bytes(hash, words, sizeof words);
}

/* ---- the file ---- */

/* Leaves *points empty if there is no such file, or not one that can be used. */
static sp_status load(const char *path, sp_shape shape, sp_tensor *points, double *seconds)
{
    if (!sp_path_exists(path)) return SP_OK;
    sp_tensor_file *file = NULL;
    const sp_tensor *found = NULL;
    sp_status status = sp_safetensors_open(path, &file);
    if (!status) found = sp_tensor_file_find(file, "points");
    if (found && found->dtype == SP_F32 && sp_shape_equal(found->shape, shape) &&
        sp_tensor_check_finite(found, "points") == SP_OK) {
        const char *took = sp_tensor_file_metadata(file, "seconds");
        *seconds = took ? strtod(took, NULL) : NAN;
        status = sp_tensor_convert(found, SP_F32, points);
    } else if (status != SP_MEMORY) {
        sp_log_warn("%s is damaged; its trajectories are computed again", path);
        status = SP_OK;
    }
    sp_tensor_file_close(file);
    return status;
}

static sp_status save(const char *path, const sp_tensor *points, double seconds)
{
    char text[32];
    snprintf(text, sizeof text, "%.6f", seconds);
    const char *const metadata[][2] = {{"format", "pt"}, {"seconds", text}};
    const sp_named_tensor named = {"points", points};
    return sp_safetensors_save(path, &named, 1, metadata, 2);
}

/* ---- the chain ---- */

static void keep_point(void *context, int point, int64_t first, int64_t count, const float *z)
{
    sp_tensor *points = context;
    int64_t samples = points->shape.dim[1], one = sp_tensor_count(points) / (SP_TRAJECTORY_POINTS * samples);
    memcpy((float *)points->data + (point * samples + first) * one, z, (size_t)(count * one) * sizeof *z);
}

/* Into points, which are there. */
static sp_status compute(sp_pipeline *teacher, const sp_trajectory_request *r, const sp_callbacks *callbacks,
                         sp_trajectory *out)
{
    const sp_scheduler_config scheduler = sp_trajectory_scheduler(&teacher->scheduler);
    sp_philox_noise noise = {r->seed};
    const sp_denoise_request request = {
        .sampler = chain_options,
        .scheduler = &scheduler,
        .guidance = r->guidance_scale_w + 1,
        .conditioning = r->conditioning,
        .negative = r->negative,
        .height = r->height,
        .width = r->width,
        .noise = sp_noise_philox(&noise),
        .observer = {&out->points, keep_point},
    };
    const sp_renamed_task name = {callbacks, r->task};
    const sp_callbacks shown = sp_rename_task(&name);
    sp_tensor end;
    double began = sp_now();
    SP_TRY(sp_pipeline_denoise(teacher, &request, &shown, &end));
    out->seconds = sp_now() - began;
    sp_tensor_free(&end);
    return SP_OK;
}

static sp_status make_points(sp_shape shape, sp_tensor *points)
{
    sp_status status = sp_tensor_create(SP_F32, shape, points);
    if (status != SP_MEMORY) return status;
    return sp_fail_within(SP_MEMORY, "the trajectories of %lld samples take %lld MB, which fewer would not",
                          (long long)shape.dim[1], (long long)(sp_shape_count(shape) * 4 / 1000000));
}

static sp_status find_or_compute(sp_pipeline *teacher, const sp_trajectory_request *r, const char *path,
                                 const sp_callbacks *callbacks, sp_trajectory *out)
{
    const sp_shape shape = sp_shape_of(SP_TRAJECTORY_POINTS, sp_conditioning_rows(r->conditioning),
                                       teacher->facts.in_channels, r->height, r->width);
    if (path) SP_TRY(load(path, shape, &out->points, &out->seconds));
    if (out->points.data) return SP_OK;
    SP_TRY(make_points(shape, &out->points));
    SP_TRY(compute(teacher, r, callbacks, out));
    if (!path) return SP_OK;
    SP_TRY(sp_make_folders(r->cache));
    return save(path, &out->points, out->seconds);
}

sp_status sp_trajectory_create(sp_pipeline *teacher, const sp_trajectory_request *r, const sp_callbacks *callbacks,
                               sp_trajectory *out)
{
    *out = (sp_trajectory){.seconds = NAN};
    if (teacher->facts.time_cond_dim)
        return sp_fail(SP_UNSUPPORTED, "%s is a student (its UNet has cond_proj), and a trajectory is a teacher's",
                       teacher->model->folder.path);
    SP_TRY(sp_trajectory_grid(&teacher->scheduler, out));
    char *path = NULL;
    if (r->cache) {
        path = sp_format("%s/trajectories-%016llx.safetensors", r->cache, (unsigned long long)key_of(teacher, r));
        if (!path) return SP_MEMORY;
    }
    sp_status status = find_or_compute(teacher, r, path, callbacks, out);
    sp_free(path);
    if (status) sp_trajectory_free(out);
    return status;
}

void sp_trajectory_free(sp_trajectory *trajectory)
{
    sp_tensor_free(&trajectory->points);
}

/* ---- its latents ---- */

static sp_tensor point_of(const sp_trajectory *trajectory, int i)
{
    const sp_tensor *all = &trajectory->points;
    const int64_t *dim = all->shape.dim;
    sp_tensor point = {SP_F32, sp_shape_of(dim[1], dim[2], dim[3], dim[4]), NULL, false};
    point.data = (float *)all->data + i * sp_tensor_count(&point);
    return point;
}

sp_tensor sp_trajectory_end(const sp_trajectory *trajectory)
{
    return point_of(trajectory, SP_TRAJECTORY_STEPS);
}

/* How much of a latent is noise; rises along every path. */
static double noise_share(sp_pair pair)
{
    return pair.sigma / (pair.alpha + pair.sigma);
}

/* z = p z_i + q z_{i+1}. */
typedef struct {
    int i;
    double p, q;
} chain_weights;

static chain_weights weights_at(const sp_trajectory *trajectory, int i, sp_pair at)
{
    sp_pair from = trajectory->pair[i], to = trajectory->pair[i + 1];
    double det = from.alpha * to.sigma - from.sigma * to.alpha;
    return (chain_weights){i, (at.alpha * to.sigma - at.sigma * to.alpha) / det,
                           (from.alpha * at.sigma - from.sigma * at.alpha) / det};
}

void sp_trajectory_at(const sp_trajectory *trajectory, sp_pair pair, sp_tensor *out)
{
    int i = 0;
    while (i + 1 < SP_TRAJECTORY_STEPS && noise_share(trajectory->pair[i + 1]) >= noise_share(pair))
        i++;
    const chain_weights w = weights_at(trajectory, i, pair);
    const sp_tensor from = point_of(trajectory, w.i), to = point_of(trajectory, w.i + 1);
    const float *a = from.data, *b = to.data;
    float *z = out->data;
    for (int64_t k = 0; k < sp_tensor_count(out); k++)
        z[k] = (float)(w.p * a[k] + w.q * b[k]);
}

void sp_trajectory_own_error(const sp_trajectory *trajectory, double error[SP_TRAJECTORY_STEPS])
{
    const sp_tensor end = sp_trajectory_end(trajectory);
    for (int i = 0; i < SP_TRAJECTORY_STEPS; i++) {
        const chain_weights x0 = weights_at(trajectory, i, (sp_pair){1, 0});
        const sp_tensor from = point_of(trajectory, i), to = point_of(trajectory, i + 1);
        const float *a = from.data, *b = to.data, *clean = end.data;
        double sum = 0;
        for (int64_t k = 0; k < sp_tensor_count(&end); k++) {
            double d = x0.p * a[k] + x0.q * b[k] - clean[k];
            sum += d * d;
        }
        error[i] = sum / (double)sp_tensor_count(&end);
    }
}
