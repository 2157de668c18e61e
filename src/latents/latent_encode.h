/* Encoding training samples of a data set with a teacher's VAE and text encoder, block by block. */
#ifndef SP_LATENTS_LATENT_ENCODE_H
#define SP_LATENTS_LATENT_ENCODE_H
#include "data/dataset.h"
#include "latents/latent_block.h"
#include "pipeline/pipeline.h"

/* `dataset` and `pipeline` must outlive it. SP_ARGUMENT for a resolution that the VAE does not divide. */
typedef struct {
    sp_dataset *dataset;
    sp_pipeline *pipeline;
    sp_dtype dtype; /* of blocks: F16 or F32 */
    bool flips;
    int64_t batch;
    sp_runner vae;
    sp_tensor pictures; /* [batch,3,R,R] */
    uint8_t *rgb;       /* [batch,R,R,3] */
    sp_conditioning shape;    /* of a caption, described */
    sp_conditioning negative; /* of no caption, f32; as all that is kept trimmed (sp_pipeline_trim) */
} sp_latent_encoder;

sp_status sp_latent_encoder_open(sp_dataset *dataset, sp_pipeline *pipeline, sp_dtype dtype,
                                 bool flips, sp_latent_encoder *out);
void sp_latent_encoder_close(sp_latent_encoder *encoder); /* zeroed is legal */

/* Encodes the pictures of a block from row `filled` on; row i is training sample first + i, or what
 * stands in for it if it is damaged. SP_CANCELLED: the rows filled so far are good.
 * SP_NUMERIC for values that are not finite in the block's type. */
sp_status sp_latent_encode_pictures(sp_latent_encoder *encoder, int64_t first,
                                    sp_latent_block *block, const sp_callbacks *callbacks);
/* Then names, captions (the first of each) and conditioning of all rows. */
sp_status sp_latent_encode_text(sp_latent_encoder *encoder, sp_latent_block *block);

#endif
