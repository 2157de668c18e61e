/* What a picture's file says about how it was made. */
#ifndef SP_API_PICTURE_TEXT_H
#define SP_API_PICTURE_TEXT_H
#include "pipeline/pipeline.h"

typedef struct {
    const sp_pipeline *pipeline;
    const char *model_name;
    const char *vae_name; /* of another autoencoder than the model's; NULL: it is the model's */
    const splam_lora *loras; /* what was merged into the model */
    size_t lora_count;
    const json_t *distillation; /* the student's splam.json; NULL: there is none */
    uint64_t model_hash;        /* sp_model_hash */
    const char *prompt;
    const char *negative; /* NULL: no guidance took place */
    sp_sampler_kind sampler;
    sp_sigmas sigmas; /* sp_sampler_sigmas */
    int steps;
    double eta; /* of tcd */
    double guidance;
    bool has_seed; /* false: the noise was given */
    uint64_t seed;
    bool torch; /* the generator was PyTorch's */
    int64_t width, height;
    int clip_skip;
    int64_t vae_tile;       /* side of the tiles it was decoded in; 0: in one piece */
    double strength;        /* of a picture to start from; 0: there was none */
    const char *init_image; /* its file's name */
} sp_picture_facts;

/* sp_tensor_hash over all tensors of the UNet's file. */
uint64_t sp_model_hash(const sp_tensor_file *file);

/* New strings (sp_free): the text that A1111's web interface writes and reads, and a JSON object
 * with more. */
sp_status sp_picture_texts(const sp_picture_facts *facts, char **parameters, char **json);

#endif
