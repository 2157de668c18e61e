/* What a distillation step is fed with: drawn from a data set, or replayed from a file of recorded
 * draws. */
#ifndef SP_DISTILL_DISTILL_FEED_H
#define SP_DISTILL_DISTILL_FEED_H
#include "latents/latent_cache.h"
#include "pipeline/pipeline.h"
#include "distill/distill.h"

typedef struct {
    const sp_distill_options *options;
    const sp_path *path;
    int64_t embedding_dim; /* the student's time_cond_proj_dim; 0: none */
    /* Drawn: every training sample's moments and conditioning, in memory or in files. */
    sp_latent_cache *cache;
    sp_dataset_order *order;
    float *moments;        /* of one sample */
    sp_tensor_file *draws; /* replayed; NULL: drawn */
    /* One micro-batch. */
    sp_tensor x0, noise, embedding, embedding_one;
    sp_conditioning conditioning, negative; /* the latter the same in every row */
    sp_coefficients *coefficients;
} sp_distill_feed;

/* The parts of the teacher that sp_distill_feed_create needs, SP_PART_*: VAE and text encoder where
 * pictures and captions are to be encoded, neither with latents: or recorded draws. */
unsigned sp_distill_feed_parts(const sp_distill_options *options);
/* Opens data or draws, and sets *shape's sizes. Pictures and captions are encoded here; later the
 * teacher's VAE and text encoder are not looked at any more. What was rejected is said in the log. */
sp_status sp_distill_feed_create(const sp_distill_options *options, sp_pipeline *teacher,
                                 const sp_unet_config *student, const sp_callbacks *callbacks,
                                 sp_distill_feed *out, sp_step_shape *shape);
size_t sp_distill_feed_bytes(const sp_distill_feed *feed); /* of latents, conditioning and a batch */
void sp_distill_feed_free(sp_distill_feed *feed);
/* An sp_training_task's feed; context is the sp_distill_feed. */
sp_status sp_distill_feed_run(void *feed, sp_run *run, int64_t micro);

#endif
