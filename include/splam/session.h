/* A model that is held: opened once, drawn with often, by several threads. */
#ifndef SPLAM_SESSION_H
#define SPLAM_SESSION_H
#include <splam/base.h>
#include <splam/generate.h>
#include <splam/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- models ---- */

/* Opened files and merged adapters. Nobody changes it: any number of threads may have sessions of it, which share its
 * memory and that of the weights as they are packed for the processor. */
typedef struct splam_model splam_model;

/* Begin with splam_model_defaults(). */
typedef struct {
    size_t size;
    const char *base; /* another model, see splam_generate_options [the model itself] */
    const char *unet; /* its UNet's folder ["unet"]; "unet_ema" or "transformer_ema": a student's average */
    const char *prediction_type; /* what the UNet predicts: "epsilon", "v_prediction" or "sample", the clean
                                    latent [what the model says] */
    const char *vae;  /* another autoencoder, see splam_generate_options [the model's own] */
    const splam_lora *loras; /* merged in this order */
    size_t lora_count;
    const splam_embedding *embeddings; /* learned tokens that prompts may have */
    size_t embedding_count;
    splam_precision precision;
    const char *device; /* to compute with, "cpu" [cpu] */
    const char *t5_absent; /* see splam_generate_options [what a student's splam.json says, or "256"] */
    const char *t5; /* see splam_generate_options [none] */
    const char *weights; /* see splam_generate_options ["stored"] */
} splam_model_options;
SPLAM_DEFAULTS(model)

/* path: a diffusers folder or a checkpoint of one file. options NULL: all defaults; callbacks, which may be NULL, are
 * asked while adapters are merged. No text needs to live longer than the call. Files are mapped: they must stay as they
 * are while the model is open. Fails as splam_generate would, before anything is drawn: SPLAM_IO, SPLAM_FORMAT,
 * SPLAM_SHAPE and SPLAM_UNSUPPORTED name the file, SPLAM_ARGUMENT the option; *model is NULL then. */
SPLAM_API splam_status splam_model_open(const char *path, const splam_model_options *options,
                                        const splam_callbacks *callbacks, splam_model **model);
/* What an open model is. */
typedef struct {
    size_t size;           /* sizeof(splam_model_facts), set by the caller */
    const char *name;      /* the last part of its path, as pictures have it; there as long as the model */
    uint64_t hash;         /* that pictures have, over the UNet's tensors (`model_hash`) */
    int64_t width, height; /* pixels of a picture where nobody asks for a size; 0: the model does not say */
    int64_t multiple;      /* sides of pictures are multiples of so many pixels */
    const char *sampler;   /* what a picture is drawn with where nobody says more, a constant */
    int64_t steps;
    double guidance;
    int64_t batch_pixels;  /* pixels of all pictures of a batch (splam_session_generate_batch), beyond which one gains
                              nothing; 0: none does, or it would change bits */
} splam_model_facts;
/* Any thread. SPLAM_ARGUMENT for a size that is none; fails as splam_generate does where no sampler suits the model. */
SPLAM_API splam_status splam_model_describe(const splam_model *model, splam_model_facts *facts);
/* After its sessions. NULL is legal. */
SPLAM_API void splam_model_close(splam_model *model);

/* ---- sessions ---- */

/* What a model needs to run: plans, activations, and a share in the packed weights. It keeps them, so that a second
 * picture of the same size is drawn without reading, planning or packing anything. One thread at a time; sessions of
 * one model in as many threads as you like. Two threads that compute at once share the processor: splam_set_threads is
 * for each. */
typedef struct splam_session splam_session;

/* Begin with splam_session_defaults(). */
typedef struct {
    size_t size;
    int64_t sizes; /* so many sizes of pictures, batches and prompts are kept side by side of each network, the last
                      used; more are planned anew; 1 to 64 [4] */
} splam_session_options;
SPLAM_DEFAULTS(session)

/* The model outlives it. options NULL: all defaults. SPLAM_MEMORY, SPLAM_ARGUMENT. */
SPLAM_API splam_status splam_session_create(const splam_model *model, const splam_session_options *options,
                                            splam_session **session);
SPLAM_API void splam_session_destroy(splam_session *session); /* NULL is legal */

/* Draws as splam_generate does, with the same bits. options: without those of the model (model, unet, prediction_type,
 * vae, loras, embeddings, t5_absent, t5, weights, precision,
 * device), which are SPLAM_ARGUMENT here. *pictures receives the
 * pixels (splam_pictures_free); NULL: files alone. SPLAM_CANCELLED keeps those that are drawn; on other failures there
 * are none. The session can be used again after every failure. */
SPLAM_API splam_status splam_session_generate(splam_session *session, const splam_generate_options *options,
                                              const splam_callbacks *callbacks, splam_pictures *pictures);

/* One of several requests that are drawn as one batch. Everything is called on the thread that draws. */
typedef struct {
    const splam_generate_options *options;
    splam_callbacks callbacks; /* told of the batch, and asked for this request alone */
    /* Gets the warnings about this request, with the context of callbacks. NULL: the log does, as always. */
    void (*warn)(void *context, const char *text);
    /* Called once, as soon as it is done, has failed or has been cancelled, with the context of callbacks; message: the
     * sentence about a failure, else "". Nothing of the request is called or written afterwards. May be NULL. */
    void (*ended)(void *context, splam_status status, const char *message);
} splam_session_request;
/* Draws them together, which takes less time than one after the other as far as splam_model_facts.batch_pixels go. Each
 * picture has the bits that it has alone. A request that fails or is cancelled harms no other: it has ended at the next
 * step, and what is computed for it in the batch at hand is dropped. `seconds` are those of the whole call.
 * SPLAM_ARGUMENT, and none has been ended: two of them do not go together, or one has options of the model; else each
 * says by `ended` what became of it. */
SPLAM_API splam_status splam_session_generate_batch(splam_session *session, const splam_session_request *requests,
                                                    size_t count);
/* Whether the two may be drawn in one batch: they differ in prompts, negative prompt, guidance, seed, count, and what
 * files are called and made of, at most, and neither has noise from a file or a picture to start from. Any thread. */
SPLAM_API bool splam_generate_may_batch(const splam_generate_options *a, const splam_generate_options *b);

/* A tensor of floats, row by row; whole numbers (input_ids) are floats too. */
enum { SPLAM_MAX_RANK = 8 };
typedef struct {
    const char *name;
    int rank;
    int64_t shape[SPLAM_MAX_RANK];
    const float *data;
} splam_tensor;
typedef struct {
    size_t count;
    splam_tensor *item;
} splam_tensors;
SPLAM_API void splam_tensors_free(splam_tensors *tensors); /* of the library's; zeroed is legal */
/* One run of "unet", "vae-encoder", "vae-decoder", "text-encoder" or "text-encoder-2" on arrays: inputs and
 * outputs as of splam_forward.
 * SPLAM_FORMAT or SPLAM_SHAPE naming the tensor that is missing, not known or of another shape, SPLAM_NUMERIC for an
 * output that is not finite. */
SPLAM_API splam_status splam_session_forward(splam_session *session, const char *component, const splam_tensor *inputs,
                                             size_t input_count, const splam_callbacks *callbacks,
                                             splam_tensors *outputs);

#ifdef __cplusplus
}
#endif
#endif
