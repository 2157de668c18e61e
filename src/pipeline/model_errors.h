/* The trajectory errors of one model by timestep, each worked out once: its curve, and what samplers ask at. */
#ifndef SP_PIPELINE_MODEL_ERRORS_H
#define SP_PIPELINE_MODEL_ERRORS_H
#include "pipeline/trajectory.h"

/* Begun with the first three, which outlive it; sp_model_errors_free in the end. */
typedef struct {
    sp_pipeline *pipeline; /* its network as it is now, until the end */
    const sp_trajectory *trajectory;
    sp_trajectory_error_request request; /* batch and task are each call's */
    int count;                           /* known so far */
    double *t, *error;
} sp_model_errors;

/* error[i] at t[i], evaluated where it is not known. Reports as sp_pipeline_trajectory_error. */
sp_status sp_model_errors_at(sp_model_errors *errors, const double *t, int count, const char *task,
                             const sp_callbacks *callbacks, double *error);
/* What is known without an evaluation. */
sp_status sp_model_errors_add(sp_model_errors *errors, const double *t, const double *error, int count);
/* The mean over the timesteps that a sampler of that scheduler (NULL: the map's) asks at. Students that take other hops
 * in so many steps (sp_map_is_otherwise) are measured over these, which are no points of their curve. */
sp_status sp_model_errors_of_sampler(sp_model_errors *errors, const sp_scheduler_config *scheduler,
                                     const sp_sampler_options *sampler, const sp_callbacks *callbacks, double *mean);
void sp_model_errors_free(sp_model_errors *errors); /* zeroed is legal */

#endif
