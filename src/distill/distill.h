/* Distillation of a teacher's folder into a few-step student's folder. */
#ifndef SP_DISTILL_DISTILL_H
#define SP_DISTILL_DISTILL_H
#include "base/progress.h"
#include "data/dataset.h"
#include "distill/objective.h"
#include "latents/latent_cache.h"
#include "train/average.h"
#include "train/lr_schedule.h"
#include "train/training_state.h"
#include <splam/train.h>

/* The public options, checked by their table, and what is read of them. */
typedef struct {
    splam_distill_options given;
    sp_objective_settings objective;
    sp_optimizer optimizer;
    sp_lr_schedule lr_schedule;
    sp_average average;
    bool target_apart;         /* the target asks another average, or the online weights, of rate 0 */
    sp_average target_average; /* that one */
    sp_lora_settings lora; /* rank 0: the whole student is trained */
    bool random_cond_proj; /* splam by embedding: start cond_proj at random, as the released script does, instead of
                              at 0 */
    bool measures_error; /* validations measure the trajectory error */
    bool keeps_best;     /* the student of the lowest one is written */
    double max_grad_norm;
    sp_device *device; /* NULL: the default */
    sp_dtype precision;
    /* What the data was encoded to before, by this teacher at this precision (sp_distill_encode); the caller's, and
     * needed to the end. NULL: the data is opened and encoded here. */
    const sp_latent_cache *encoded;
    int rank, ranks; /* set by sp_distill: this process among those that train together */
} sp_distill_options;

/* Of options by default: the published settings; without teacher, data and output, on the default device in f32. */
sp_distill_options sp_distill_defaults(void);
/* SP_ARGUMENT, naming the member, for what says nothing to the objective or lacks something else. The texts of
 * `options` stay the caller's. */
sp_status sp_distill_options_of(const splam_distill_options *options, sp_distill_options *out);

/* What nobody gave and the teacher's path decides: splam of a flow has the chord and is told gamma by time. */
void sp_distill_fit_teacher(sp_distill_options *options, const sp_path *path);

/* Where lora.rank is 0, writes output/: unet/ (online weights), unet_ema/, the teacher's other
 * components, a scheduler that samples such a student, README.md, splam.json (objective, sampler,
 * settings), metrics.jsonl, checkpoint-N/, validation-N.png; with rounds, round-R.safetensors, the
 * student after round R and the teacher of the next. SP_CANCELLED after saving a checkpoint.
 * Started by mpirun as one of R processes, it trains with the others on R * batch samples a
 * micro-batch (distributed.h).
 *
 * Else only adapters and cond_proj are trained, and what is written of the networks is
 * pytorch_lora_weights.safetensors and kohya.safetensors (online adapters), ema/ with the same two
 * (their average), and with lora_merged all of the above too, with the adapters in the weights. */
sp_status sp_distill(const sp_distill_options *options, const sp_callbacks *callbacks);
/* The same of the public options. */
sp_status sp_distill_given(const splam_distill_options *options, const sp_callbacks *callbacks);

/* Encodes a data set for several distillations of one teacher, which has VAE and text encoder. *out is new. What was
 * rejected and captions that were cut are said in the log. */
sp_status sp_distill_encode(sp_dataset *dataset, sp_pipeline *teacher, const sp_callbacks *callbacks,
                            sp_latent_cache **out);

#endif
