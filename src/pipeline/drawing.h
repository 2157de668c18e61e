/* One request on its way to pictures: what it comes to, seen against the model, and what becomes of what is drawn.
 * Those that are drawn together (generate.h) have one each. */
#ifndef SP_PIPELINE_DRAWING_H
#define SP_PIPELINE_DRAWING_H
#include <splam/session.h>
#include "pipeline/picture_output.h"
#include "pipeline/picture_text.h"
#include "pipeline/pipeline.h"
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

/* Latents that are to be saved, all of them. */
typedef struct {
    const char *path; /* NULL: none */
    sp_tensor all;
    sp_claim claim;
} sp_latents_file;

/* A negative prompt, encoded for pictures of so many chunks. */
typedef struct {
    sp_conditioning set;
    int64_t chunks;
} sp_encoded_negative;

/* Begins with what the caller sets; the rest is 0 at first. */
typedef struct {
    sp_request *request;
    splam_pictures *pictures;       /* NULL: files alone */
    const sp_callbacks *callbacks;  /* of this request alone; may be NULL */
    void (*warn)(void *context, const char *text); /* see splam_session_request; NULL: the log */
    void (*ended)(void *context, sp_status status, const char *message); /* likewise; may be NULL */
    /* sp_drawing_prepare's */
    const sp_model_facts *model;
    sp_tensor_file *noise_file;
    sp_sampling sampling;
    sp_sampler table; /* of it */
    sp_picture_sizes sizes;
    sp_request_noise noise;
    int64_t *chunks;     /* of each prompt, and as many for the negative one beside it */
    int64_t most_chunks; /* of these */
    bool guided;         /* two passes a step */
    sp_latents_file latents;
    /* on the way */
    sp_encoded_negative negative;
    sp_tensor posterior; /* of the picture to start from */
    int64_t next;        /* the first picture that is not drawn */
    bool has_ended;
    sp_status status;    /* with which it has */
} sp_drawing;

/* Everything that can be wrong with the request, and what is said of it, before the first long computation. held: the
 * model is open for other calls too. The pipeline's syntax and clip skip become the request's. */
sp_status sp_drawing_prepare(sp_pipeline *pipeline, const sp_model_facts *model, bool held, sp_drawing *drawing);
sp_status sp_drawing_make_room(sp_drawing *drawing); /* for what it gives, once memory was chosen */
void sp_drawing_free(sp_drawing *drawing);
/* Once: from here on nothing is asked or told of it. A failure's message is the thread's. */
void sp_drawing_end(sp_drawing *drawing, sp_status status);
/* Numbers are drawn from their beginning again. */
sp_status sp_drawing_renew_noise(sp_drawing *drawing);

int64_t sp_drawing_chunks(const sp_drawing *drawing, int64_t number); /* that picture `number` takes */
bool sp_drawing_wants_pictures(const sp_drawing *drawing);            /* and not latents alone */
/* The conditioning tells of the pictures' size, where the model asks. */
sp_status sp_drawing_frame(const sp_pipeline *pipeline, const sp_drawing *drawing, sp_conditioning *set);

/* Hands picture `number` out, [3,height,width] in about [-1,1]. */
sp_status sp_drawing_give(const sp_pipeline *pipeline, sp_drawing *drawing, int64_t number, const float *nchw);
sp_status sp_drawing_save_latents(const sp_drawing *drawing);

#endif
