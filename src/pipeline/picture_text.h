/* What a picture's file says about how it was made. */
#ifndef SP_PIPELINE_PICTURE_TEXT_H
#define SP_PIPELINE_PICTURE_TEXT_H
#include "checkpoints/student_file.h"
#include "diffusion/sampler.h"
#include "pipeline/model.h"
#include "text/chunks.h"

/* A learned token: its name as A1111 writes it, without colons and commas, the first of its ids, and the beginning of
 * its file's SHA-256, by which A1111 knows it. */
enum { SP_LEARNED_HASH = 12 };
typedef struct {
    char *name, hash[SP_LEARNED_HASH + 1];
    int32_t first;
} sp_learned_fact;

/* What pictures say of their model. */
typedef struct {
    char *name;
    char *vae_name;       /* of another autoencoder than the model's; NULL: it is the model's */
    char *loras;          /* "a:0.8, b:1", what was merged into the model; NULL: nothing */
    sp_learned_fact *learned; /* tokens that it was given */
    size_t learned_count;
    char *t5; /* the name of Stable Diffusion 3's third text encoder, where it was used; NULL: it was not */
    int64_t t5_absent; /* tokens of zeros for that encoder; 0: it is used, or there is no place for one */
    const char *weights; /* "q8" where they were held so, a constant; NULL: as they are stored */
    sp_student_file student;
    uint64_t hash;        /* over all tensors of the UNet's file (sp_tensor_hash) */
} sp_model_facts;
/* sp_model_facts_free in every case. */
sp_status sp_model_facts_read(const char *path, const sp_model_options *options, const sp_model *model,
                              sp_model_facts *out);
void sp_model_facts_free(sp_model_facts *facts);

typedef struct {
    const sp_model_facts *model;
    sp_dtype precision; /* the precision of the computation */
    const char *prompt;
    const char *negative; /* NULL: no guidance took place */
    sp_sampler_kind sampler;
    sp_sigmas sigmas; /* sp_sampler_sigmas */
    sp_timestep_spacing spacing; /* sp_sampler_spacing */
    int steps;
    const sp_sampler *table; /* for its timesteps */
    double eta; /* see sp_sampler_has_eta */
    double guidance;
    sp_skip_layers skip_layers;
    const char *skipped; /* its blocks, "7,8,9", where there are any */
    bool has_seed; /* false: the noise was given */
    uint64_t seed;
    bool torch; /* the generator was PyTorch's */
    int64_t width, height;
    sp_prompt_syntax syntax;
    const char *learned; /* "NAME: HASH, NAME: HASH" of the learned tokens that are in the prompts; NULL: none */
    int clip_skip;
    int64_t vae_tile;       /* side of the tiles it was decoded in; 0: in one piece */
    double strength;        /* of a picture to start from; 0: there was none */
    const char *init_image; /* its file's name */
} sp_picture_facts;

/* New strings (sp_free): the text that A1111's web interface writes and reads, and a JSON object
 * with more. */
sp_status sp_picture_texts(const sp_picture_facts *facts, char **parameters, char **json);

#endif
