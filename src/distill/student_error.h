/* The trajectory error of a student in training (pipeline/trajectory.h): of its averaged weights, along its teacher's
 * trajectories at the w that is distilled in, from captions and noise that are the same at every validation.
 *
 * Captions are the first N of the training samples in the order that `splam eval --seed S` draws them in, S the run's
 * seed, and caption i has the noise of S + i: where the data set holds nothing back, the numbers are those of
 * `splam eval --count N --seed S` of what is written at that step. */
#ifndef SP_DISTILL_STUDENT_ERROR_H
#define SP_DISTILL_STUDENT_ERROR_H
#include "distill/distill_feed.h"
#include "pipeline/trajectory.h"

enum { SP_STUDENT_ERROR_PROMPTS = 32, SP_STUDENT_ERROR_COUNTS = 3 };
/* 1, 2, 4. */
extern const int sp_student_error_steps[SP_STUDENT_ERROR_COUNTS];

typedef struct {
    double mean;                        /* over the 50 points of the trajectory */
    double at[SP_STUDENT_ERROR_COUNTS]; /* mean over the timesteps that the student's sampler asks at in so many steps;
                                           NaN: it does not sample in so many */
} sp_student_errors;

typedef struct {
    const sp_distill_options *options;
    sp_pipeline *teacher;                   /* with its UNet */
    sp_conditioning conditioning, negative; /* the captions'; a view of the feed's */
    sp_trajectory trajectory;
    sp_scheduler_config *scheduler; /* the student's */
} sp_student_error;

/* How many captions of a data set of `count`. SP_ARGUMENT if more are asked for than there are. */
sp_status sp_student_error_prompts(const sp_distill_options *options, int64_t count, int64_t *out);
/* Beside plans: the trajectories, the captions and an error in the making, of N captions. */
size_t sp_student_error_bytes(const sp_latent_facts *facts, const sp_conditioning *conditioning, int64_t prompts);

/* Computes the trajectories, or takes them from output/, where they are kept. Everything outlives *out, which is freed
 * also on failure. Refuses as sp_trajectory_create. */
sp_status sp_student_error_create(const sp_distill_options *options, const sp_distill_feed *feed, sp_pipeline *teacher,
                                  const sp_callbacks *callbacks, sp_student_error *out);
void sp_student_error_free(sp_student_error *error); /* zeroed is legal */

/* Of these weights, or adapters over the teacher's. Shows no progress; SP_NUMERIC, SP_CANCELLED. */
sp_status sp_student_error_measure(const sp_student_error *error, const sp_component_config *student,
                                   const sp_weights *weights, const sp_callbacks *callbacks, sp_student_errors *out);
/* {"trajectory_error_mean": x, "trajectory_error": {"1": x, ...}}; NULL without memory. */
json_t *sp_student_errors_json(const sp_student_errors *errors);

#endif
