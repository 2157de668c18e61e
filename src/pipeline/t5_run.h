/* T5 at work, of pipelines whose model has it. */
#ifndef SP_PIPELINE_T5_RUN_H
#define SP_PIPELINE_T5_RUN_H
#include "pipeline/pipeline.h"

/* The last hidden states of prompts, *out new [count,L,width] f32, L the model's tokens_behind: ids cut and padded to
 * L, one prompt after the other, so that none depends on those beside it. Its memory is given back before it returns,
 * whatever the pipeline keeps: it has more weights than all else. SP_UNSUPPORTED for weighted prompts. */
sp_status sp_t5_encode(sp_pipeline *pipeline, const char *const *prompts, int64_t count, sp_tensor *out);
/* The memory that a run takes. */
sp_status sp_t5_plan(sp_pipeline *pipeline, sp_plan_memory *out);

#endif
