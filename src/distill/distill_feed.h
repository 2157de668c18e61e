/* What a distillation step is fed with: drawn from a data set, or replayed from a file of recorded
 * draws. */
#ifndef SP_DISTILL_DISTILL_FEED_H
#define SP_DISTILL_DISTILL_FEED_H
#include "latents/latent_cache.h"
#include "pipeline/pipeline.h"
#include "distill/distill.h"
#include "distill/matching.h"
#include "distill/subpath_file.h"

/* What latents are noised with, and to which timestep. */
typedef struct {
    sp_tensor noise;
    int *timesteps; /* of each sample, a tick */
} sp_noising;

typedef struct {
    const sp_distill_options *options;
    const sp_path *path;
    int64_t embedding_dim; /* the student's time_cond_proj_dim; 0: none */
    /* Drawn: every training sample's moments and conditioning, in memory or in files. */
    const sp_latent_cache *cache;
    sp_latent_cache *own_cache; /* that one, unless the options have it */
    sp_dataset_order *order;
    float *moments;        /* of one sample */
    sp_tensor_file *draws; /* replayed; NULL: drawn */
    /* One micro-batch. */
    sp_tensor x0, noise, online_cond, ema_cond; /* what cond_proj tells the two students */
    sp_conditioning conditioning, negative; /* the latter the same in every row */
    sp_coefficients *coefficients;
    sp_run *ahead;                 /* the caller's, of SP_STEP_AHEAD, with its weights; NULL: there is none */
    const sp_callbacks *callbacks; /* asked while it runs; may be NULL */
    /* With sub_paths: */
    sp_tensor z_end;
    sp_subpath_file *subpaths; /* NULL: of a dry run */
    uint64_t teacher_hash;
    /* dmd, in place of x0 and coefficients: */
    sp_tensor z;                   /* what the student meets */
    sp_tensor *step_noise;         /* one for each of the student's steps */
    float *drawn;                  /* those of a sample, one step's after another */
    int *timesteps;                /* t of each sample, a tick */
    sp_matching_coefficients *matching;
    sp_noising gan, data;          /* with a discriminator: t' of the student's latents, and of the data's, x0 */
} sp_distill_feed;

/* The parts of the teacher that sp_distill_feed_create needs, SP_PART_*: VAE and text encoder where
 * pictures and captions are to be encoded, neither where they were before, with latents: or with recorded draws. */
unsigned sp_distill_feed_parts(const sp_distill_options *options);
/* Opens data or draws, and sets *shape's sizes. Pictures and captions are encoded here; later the
 * teacher's VAE and text encoder are not looked at any more. What was rejected is said in the log. */
sp_status sp_distill_feed_create(const sp_distill_options *options, sp_pipeline *teacher,
                                 const sp_component_config *student, const sp_callbacks *callbacks,
                                 sp_distill_feed *out, sp_step_shape *shape);
size_t sp_distill_feed_bytes(const sp_distill_feed *feed); /* of latents, conditioning and a batch */
void sp_distill_feed_free(sp_distill_feed *feed);
/* An sp_training_task's feed; context is the sp_distill_feed. */
sp_status sp_distill_feed_run(void *feed, sp_run *run, int64_t micro);

/* ---- for feeds of one objective ---- */

/* Sample i of this rank's micro-batch: the key of its draws of `stream`. */
sp_random_key sp_feed_key(const sp_distill_feed *feed, int64_t micro, int64_t i, sp_stream stream);
/* Sets row i of the conditioning, and feed->moments. */
sp_status sp_feed_take(sp_distill_feed *feed, int64_t micro, int64_t i);
/* Draws row i of feed->x0 from the moments. */
void sp_feed_draw_latent(sp_distill_feed *feed, int64_t micro, int64_t i);
/* This rank's rows of what is recorded as "NAME.MICRO" for all ranks: a view of shape `shape`; SP_SHAPE else. */
sp_status sp_feed_recorded(const sp_distill_feed *feed, const char *name, int64_t micro, sp_dtype dtype, sp_shape shape,
                           sp_tensor *out);
int64_t sp_feed_integer_at(const sp_tensor *tensor, int64_t i); /* of I64 */
sp_status sp_feed_replay_conditioning(sp_distill_feed *feed, int64_t micro);

/* Where the teacher is apart: sets z_end of the student's run, from the file or by the teacher, for the file. The batch
 * is drawn. */
sp_status sp_subpath_feed_create(sp_distill_feed *feed, const sp_pipeline *teacher, const sp_step_shape *shape);
sp_status sp_subpath_feed_run(sp_distill_feed *feed, const sp_objective_settings *now, sp_run *run, int64_t micro);
void sp_subpath_feed_free(sp_distill_feed *feed);

/* dmd's part of making, of feeding and of freeing a feed. */
sp_status sp_matching_feed_create(sp_distill_feed *feed, const sp_step_shape *shape);
sp_status sp_matching_feed_run(sp_distill_feed *feed, sp_run *run, int64_t micro);
size_t sp_matching_feed_bytes(const sp_distill_feed *feed);
void sp_matching_feed_free(sp_distill_feed *feed);
/* Where draws are replayed: the discriminator's weights before its first step, "discriminator.N.weight" and the like,
 * are those that were recorded. */
sp_status sp_matching_recorded_discriminator(const sp_distill_feed *feed, sp_weights *fake_score);

#endif
