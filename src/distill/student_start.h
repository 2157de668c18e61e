/* What a student is before its first step. */
#ifndef SP_DISTILL_STUDENT_START_H
#define SP_DISTILL_STUDENT_START_H
#include "distill/distill.h"
#include "pipeline/pipeline.h"

/* New f32 weights of a denoiser `student`, or with lora.rank its adapters: the teacher's, so that at step 0 the
 * student is the teacher; the adapters of lora_start; or those of `student_start`, a model or a denoiser's own folder,
 * such as DIR/unet_ema. A cond_proj that the start has and the student has not is folded away at gamma = 1; one that
 * it has not begins as the options say. SP_ARGUMENT, naming what differs, for a start that is no network like the
 * teacher's or predicts something else. */
sp_status sp_student_start(const sp_distill_options *options, const sp_pipeline *teacher,
                           const sp_component_config *student, sp_weights **out);
/* Those of dmd's fake score: the teacher's, or adapters that change nothing. */
sp_status sp_fake_score_start(const sp_distill_options *options, const sp_pipeline *teacher, sp_weights **out);
/* The same questions as of a start alone, for before the long work on the data. */
sp_status sp_student_start_check(const sp_distill_options *options, const sp_pipeline *teacher,
                                 const sp_component_config *student);

#endif
