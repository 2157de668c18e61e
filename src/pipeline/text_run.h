/* Text encoders at work. */
#ifndef SP_PIPELINE_TEXT_RUN_H
#define SP_PIPELINE_TEXT_RUN_H
#include "pipeline/pipeline.h"

/* The largest clip_skip that every encoder has layers for; 0 where they are not open. */
int64_t sp_text_most_skipped(const sp_pipeline *pipeline);
void sp_text_forget(sp_pipeline *pipeline); /* gives back the memory of all runs */

#endif
