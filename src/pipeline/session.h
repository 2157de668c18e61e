/* Models that are held, sessions of them, and both for one call: what include/splam/session.h says, of options that are
 * checked. */
#ifndef SP_PIPELINE_SESSION_H
#define SP_PIPELINE_SESSION_H
#include "pipeline/generate.h"
#include <splam/session.h>

struct splam_model {
    sp_model *parts;
    sp_model_facts facts;
};

struct splam_session {
    const splam_model *model;
    sp_pipeline *pipeline;
    sp_preview preview; /* fitted when it is first needed */
};

sp_status sp_held_model_open(const char *path, const splam_model_options *options, const sp_callbacks *callbacks,
                             splam_model **out);
void sp_held_model_close(splam_model *model); /* NULL is legal */
/* Fails where no sampler suits the model. */
sp_status sp_held_model_describe(const splam_model *model, splam_model_facts *out);

sp_status sp_session_create(const splam_model *model, const splam_session_options *options, splam_session **out);
void sp_session_destroy(splam_session *session); /* NULL is legal */
/* pictures: NULL, or 0. What stages took is written to options->seconds, also after a failure. */
sp_status sp_session_generate(splam_session *session, const splam_generate_options *options,
                              const sp_callbacks *callbacks, splam_pictures *pictures);
/* Of requests that are checked. */
sp_status sp_session_generate_batch(splam_session *session, const splam_session_request *requests, size_t count);
void sp_pictures_free(splam_pictures *pictures); /* zeroed is legal */
/* outputs: 0. */
sp_status sp_session_forward(splam_session *session, const char *component, const splam_tensor *inputs, size_t count,
                             const sp_callbacks *callbacks, splam_tensors *outputs);
void sp_tensors_free(splam_tensors *tensors); /* zeroed is legal */

/* A model opened, drawn with and closed. */
sp_status sp_generate_once(const splam_generate_options *options, const sp_callbacks *callbacks);

#endif
