/* Pictures from requests that are drawn together: prompts to a conditioning, noise to latents, latents to pictures,
 * some at a time. What a picture is does not depend on those beside it: kernels are chosen as for each alone
 * (sp_pipeline_set_alone). */
#ifndef SP_PIPELINE_GENERATE_H
#define SP_PIPELINE_GENERATE_H
#include "pipeline/drawing.h"
#include "pipeline/preview.h"

typedef struct {
    sp_pipeline *pipeline;
    const sp_model_facts *model;
    bool held;           /* plans and runs stay for the next call */
    sp_preview *preview; /* is fitted if a request wants it and it is not */
    double began;        /* what has passed since (sp_now) is added to `load` at first */
    splam_generate_seconds *seconds; /* what stages took is added to it */
} sp_generate_context;

/* Draws the requests, which differ in what splam_generate_may_batch lets differ; those that have failed already are
 * left out. Each is ended once, and what one fails of or is cancelled for harms no other: its part of a batch is
 * computed to the end, and dropped. sp_drawing_free in every case. */
void sp_generate(const sp_generate_context *context, sp_drawing *drawings, size_t count);

#endif
