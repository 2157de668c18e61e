/* What a server draws with, by name: models, adapters (LoRA) and learned tokens, and those of them that are open.
 *
 * Names are what clients say; paths are the server's alone, and no text of a client's becomes a part of one. Lists may
 * be asked by any thread. Opening, drawing with and closing is one thread's, the one that draws. A model is open with a
 * set of adapters, which are merged into it; another set is another one. Those used last stay open. */
#ifndef SERVER_MODELS_H
#define SERVER_MODELS_H
#include <jansson.h>
#include <splam/splam.h>

/* Adapters that a request asks for. */
enum { SV_ADAPTERS = 8, SV_NAME_BYTES = 256 };
typedef struct {
    char name[SV_NAME_BYTES], *path; /* owned */
    double weight;
} sv_adapter;
typedef struct {
    size_t count;
    sv_adapter item[SV_ADAPTERS];
} sv_adapters;
void sv_adapters_free(sv_adapters *adapters);
bool sv_adapters_same(const sv_adapters *a, const sv_adapters *b);

typedef struct {
    const char *const *models; /* paths, of which each has another last part */
    size_t model_count;
    const splam_model_options *options; /* of all models; adapters of requests are merged behind these */
    const char *lora_folder, *embedding_folder; /* NULL: there is none */
    const splam_callbacks *opening;     /* asked while models are opened at the start */
    void (*log)(const void *logger, const char *text); /* what is wrong with a learned token */
    const void *logger;
} sv_models_settings;

typedef struct sv_models sv_models;
/* Opens each model once, to see what it is, and keeps the first one open. What `settings` points to is needed until
 * sv_models_free. Of a failure `error` has one sentence, and *out is NULL. */
splam_status sv_models_create(const sv_models_settings *settings, sv_models **out, char *error, size_t size);
void sv_models_free(sv_models *models); /* NULL is legal */

/* ---- lists: any thread ---- */

size_t sv_models_count(const sv_models *models);
/* Of the i-th; there as long as `models`. */
const splam_model_facts *sv_models_facts(const sv_models *models, size_t i);
/* The place of a name, with or without ".safetensors" or ".ckpt", or of A1111's title, "NAME [HASH]". False: there is
 * no such model. */
bool sv_models_find(const sv_models *models, const char *name, size_t *out);
size_t sv_models_default(const sv_models *models); /* what is drawn with where nobody says */
void sv_models_set_default(sv_models *models, size_t i);
/* First ten digits of its hash, and A1111's title. */
void sv_model_hash(const splam_model_facts *facts, char out[11]);
void sv_model_title(const splam_model_facts *facts, char *out, size_t size);

/* An adapter of the folder, whose path becomes the caller's (free). NULL: there is none of that name, or no memory. */
char *sv_models_find_adapter(sv_models *models, const char *name);
/* The names, a new list each; NULL: out of memory. */
json_t *sv_models_adapters(sv_models *models);
/* {"loaded": {NAME: {...}}, "skipped": {}}, of the default model: what fits it and what does not, as A1111 has it. */
json_t *sv_models_embeddings(sv_models *models);
/* Reads the folders anew. False after a sentence: nothing has changed. Models with other learned tokens than those that
 * there are now are opened anew when they are next drawn with. */
bool sv_models_reload(sv_models *models, char *error, size_t size);

/* ---- the thread that draws ---- */

/* A session of a model with adapters, opened unless it is. It stays until the next call of this or the next function.
 * Failures are those of splam_model_open. */
splam_status sv_models_take(sv_models *models, size_t model, const sv_adapters *adapters,
                            const splam_callbacks *callbacks, splam_session **out);
/* Closes the one that was used longest ago, but not the last that was taken. False: there is no other. */
bool sv_models_drop(sv_models *models);
size_t sv_models_open_count(const sv_models *models); /* any thread */

#endif
