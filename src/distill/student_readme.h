/* README.md of a student: how to use it here and in other programs. */
#ifndef SP_DISTILL_STUDENT_README_H
#define SP_DISTILL_STUDENT_README_H
#include "diffusion/scheduler_config.h"
#include "distill/distill.h"

/* Writes output/README.md. settings: as splam.json has them; `scheduler` is the student's own. */
sp_status sp_student_readme_save(const sp_distill_options *options, const sp_component_config *student,
                                 const json_t *settings, const sp_scheduler_config *scheduler);
/* The pipeline of diffusers that opens the folder: LatentConsistencyModelPipeline tells a gamma
 * embedding what it needs, and cannot do with a UNet that has none. */
const char *sp_student_pipeline_class(const sp_component_config *student);

#endif
