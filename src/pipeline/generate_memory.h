/* What is done to stay within memory, decided before the first stage runs. */
#ifndef SP_PIPELINE_GENERATE_MEMORY_H
#define SP_PIPELINE_GENERATE_MEMORY_H
#include "pipeline/pipeline.h"
#include "pipeline/request.h"

typedef struct {
    const sp_picture_sizes *sizes;
    size_t prompt_count;
    uint64_t left_out; /* blocks that a third pass is without in some steps; 0: there is none */
    bool guided, encodes, decodes; /* two passes; a picture to start from; to pictures */
    bool fits;                     /* a preview (preview.h) */
    bool held;                     /* what is planned stays after the call */
    splam_vae_tiling tiling;
    int64_t limit; /* bytes of the process; 0: none */
    bool (*make_room)(void *keeper, int64_t bytes); /* see splam_generate_options; may be NULL */
    void *keeper;
} sp_memory_question;

typedef struct {
    int64_t group; /* as many pictures are in memory at once */
    int64_t batch; /* and at most so many are denoised at once; 0: by size */
    bool release;  /* the UNet's memory is given back for every decoding */
    bool keep;     /* text encoder and decoder stay packed between groups */
} sp_memory_choice;
/* Also sets the side of the VAE's tiles. SP_MEMORY with what each part needs if nothing helps. */
sp_status sp_memory_choose(sp_pipeline *pipeline, const sp_memory_question *question, sp_memory_choice *out);

#endif
