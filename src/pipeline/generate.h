/* Pictures from a request: prompts to a conditioning, noise to latents, latents to pictures, some at a time. */
#ifndef SP_PIPELINE_GENERATE_H
#define SP_PIPELINE_GENERATE_H
#include "pipeline/picture_output.h"
#include "pipeline/picture_text.h"
#include "pipeline/pipeline.h"
#include "pipeline/preview.h"
#include "pipeline/prompts.h"
#include "pipeline/request.h"

/* What the options alone say: what is wrong with it is found before a model is opened. */
typedef struct {
    const splam_generate_options *options;
    sp_prompts prompts;
    sp_picture_output output;
    sp_image image; /* to start from; without pixels where there is none */
} sp_request;
/* pixels: the caller takes the pictures too. sp_request_free in every case. */
sp_status sp_request_read(const splam_generate_options *options, bool pixels, sp_request *out);
void sp_request_free(sp_request *request);

/* Draws; `pictures` may be NULL, and is freed by splam_pictures_free, also after SP_CANCELLED. held: plans and runs
 * stay for the next call. What stages took is added to `seconds`, to `load` what has passed since `began` (sp_now) at
 * first. */
typedef struct {
    sp_pipeline *pipeline;
    const sp_model_facts *model;
    const sp_callbacks *callbacks;
    bool held;
    sp_preview *preview; /* is fitted if the request wants it and it is not */
    double began;
} sp_generate_context;
sp_status sp_generate(const sp_generate_context *context, sp_request *request, splam_pictures *pictures,
                      splam_generate_seconds *seconds);

#endif
