/* A model's trajectory errors, each worked out once. */
#include "pipeline/model_errors.h"
#include <string.h>
#include "base/memory.h"

static int find(const sp_model_errors *e, double t)
{
    for (int i = 0; i < e->count; i++)
        if (e->t[i] == t) return i;
    return -1;
}

/* Room for `more` timesteps beyond those that are known. */
static sp_status make_room(sp_model_errors *e, int more)
{
    size_t old = (size_t)e->count * sizeof(double), size = old + (size_t)more * sizeof(double);
    double *t = sp_realloc(e->t, old, size);
    if (!t) return SP_MEMORY;
    e->t = t;
    double *error = sp_realloc(e->error, old, size);
    if (!error) return SP_MEMORY;
    e->error = error;
    return SP_OK;
}

sp_status sp_model_errors_at(sp_model_errors *e, const double *t, int count, const char *task,
                             const sp_callbacks *callbacks, double *error)
{
    sp_trajectory_error_request request = e->request;
    int more = 0;
    request.task = task;
    SP_TRY(make_room(e, count));
    for (int i = 0; i < count; i++)
        if (find(e, t[i]) < 0) e->t[e->count + more++] = t[i];
    if (more)
        SP_TRY(sp_pipeline_trajectory_error(e->pipeline, e->trajectory, &request, e->t + e->count, more, callbacks,
                                            e->error + e->count));
    e->count += more;
    for (int i = 0; i < count; i++)
        error[i] = e->error[find(e, t[i])];
    return SP_OK;
}

sp_status sp_model_errors_add(sp_model_errors *e, const double *t, const double *error, int count)
{
    SP_TRY(make_room(e, count));
    memcpy(e->t + e->count, t, (size_t)count * sizeof *t);
    memcpy(e->error + e->count, error, (size_t)count * sizeof *error);
    e->count += count;
    return SP_OK;
}

/* Of the map in `steps` steps, which is not that of the errors that are known. */
static sp_status hop_errors(const sp_model_errors *e, const sp_scheduler_config *map, int steps, const double *t,
                            int count, const sp_callbacks *callbacks, double *error)
{
    sp_scheduler_config hops = *map;
    sp_trajectory_error_request request = e->request;
    hops.distilled_steps = steps;
    request.scheduler = &hops;
    return sp_pipeline_trajectory_error(e->pipeline, e->trajectory, &request, t, count, callbacks, error);
}

sp_status sp_model_errors_of_sampler(sp_model_errors *e, const sp_scheduler_config *scheduler,
                                     const sp_sampler_options *options, const sp_callbacks *callbacks, double *mean)
{
    const sp_scheduler_config *map = e->request.scheduler ? e->request.scheduler : &e->pipeline->scheduler;
    sp_sampler sampler;
    SP_TRY(sp_sampler_create(scheduler ? scheduler : map, options, &sampler));
    double *t = sp_alloc(2 * (size_t)sampler.count * sizeof *t), *error = t ? t + sampler.count : NULL, sum = 0;
    sp_status status = t ? SP_OK : SP_MEMORY;
    int count = t ? sp_sampler_timesteps(&sampler, t) : 0;
    if (!status)
        status = sp_map_is_otherwise(map, options)
                     ? hop_errors(e, map, options->steps, t, count, callbacks, error)
                     : sp_model_errors_at(e, t, count, NULL, callbacks, error);
    for (int i = 0; i < count && !status; i++)
        sum += error[i];
    *mean = sum / count;
    sp_free(t);
    sp_sampler_free(&sampler);
    return status;
}

void sp_model_errors_free(sp_model_errors *e)
{
    sp_free(e->t);
    sp_free(e->error);
    *e = (sp_model_errors){0};
}
