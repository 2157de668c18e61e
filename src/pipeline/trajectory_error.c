/* The error of a map along trajectories. */
#include <math.h>
#include "base/inner_callbacks.h"
#include "pipeline/trajectory.h"

static double mean_square(const sp_tensor *a, const sp_tensor *b)
{
    const float *x = a->data, *y = b->data;
    int64_t count = sp_tensor_count(a);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)x[i] - (double)y[i];
        sum += d * d;
    }
    return sum / (double)count;
}

/* ---- any map ---- */

/* z and expected are there, of the chain's shape. */
static sp_status error_at(const sp_trajectory *trajectory, const sp_applied_map *f, double t,
                          const sp_callbacks *callbacks, sp_tensor *z, sp_tensor *expected, double *out)
{
    sp_map map;
    sp_tensor made;
    SP_TRY(sp_map_at(f->scheduler, t, &map));
    sp_pair begin = trajectory->pair[0];
    if (map.from.sigma * begin.alpha > map.from.alpha * begin.sigma + 1e-9)
        return sp_fail(SP_UNSUPPORTED, "%s: timestep %g has more noise than the teacher's trajectory begins with",
                       f->scheduler->where, t);
    sp_trajectory_at(trajectory, map.from, z);
    SP_TRY(f->apply(f->context, &map, z, callbacks, &made));
    sp_trajectory_at(trajectory, map.to, expected);
    sp_status status = SP_OK;
    if (made.dtype != SP_F32 || !sp_shape_equal(made.shape, expected->shape))
        status = sp_fail(SP_SHAPE, "the map makes latents %s, and the trajectory has F32 %s",
                         sp_shape_text(made.shape), sp_shape_text(expected->shape));
    if (!status) *out = mean_square(&made, expected);
    sp_tensor_free(&made);
    if (status || isfinite(*out)) return status;
    return sp_fail(SP_NUMERIC, "%s: the trajectory error at timestep %g is not finite", f->scheduler->where, t);
}

sp_status sp_trajectory_error(const sp_trajectory *trajectory, const sp_applied_map *map, const double *t, int count,
                              const char *task, const sp_callbacks *callbacks, double *error)
{
    sp_tensor z = {0}, expected = {0};
    const sp_callbacks quiet = sp_without_report(callbacks);
    if (!task) task = "trajectory error";
    const sp_shape shape = sp_trajectory_end(trajectory).shape;
    sp_status status = sp_tensor_create(SP_F32, shape, &z);
    if (!status) status = sp_tensor_create(SP_F32, shape, &expected);
    sp_report(callbacks, task, 0, count, NULL);
    for (int i = 0; i < count && !status; i++) {
        status = sp_check_cancelled(callbacks);
        if (!status) status = error_at(trajectory, map, t[i], &quiet, &z, &expected, &error[i]);
        sp_report(callbacks, task, i + 1, count, NULL);
    }
    sp_tensor_free(&z);
    sp_tensor_free(&expected);
    return status;
}

/* ---- a pipeline's ---- */

typedef struct {
    sp_pipeline *pipeline;
    const sp_trajectory_error_request *request;
} network_map;

static sp_status evaluate(void *context, sp_map *map, const sp_tensor *z, const sp_callbacks *callbacks,
                          sp_tensor *out)
{
    const network_map *network = context;
    const sp_trajectory_error_request *r = network->request;
    const sp_sampler sampler = sp_map_sampler(map);
    const sp_denoise_request request = {.guidance = r->guidance,
                                        .conditioning = r->conditioning,
                                        .negative = r->negative,
                                        .height = z->shape.dim[2],
                                        .width = z->shape.dim[3],
                                        .batch = r->batch};
    return sp_pipeline_advance(network->pipeline, &request, &sampler, z, callbacks, out);
}

sp_status sp_pipeline_trajectory_error(sp_pipeline *pipeline, const sp_trajectory *trajectory,
                                       const sp_trajectory_error_request *request, const double *t, int count,
                                       const sp_callbacks *callbacks, double *error)
{
    network_map network = {pipeline, request};
    const sp_applied_map map = {request->scheduler ? request->scheduler : &pipeline->scheduler, evaluate, &network};
    return sp_trajectory_error(trajectory, &map, t, count, request->task, callbacks, error);
}
