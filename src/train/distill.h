/* Distillation of a teacher's folder into a few-step student's folder. */
#ifndef SP_TRAIN_DISTILL_H
#define SP_TRAIN_DISTILL_H
#include "base/progress.h"
#include "diffusion/objective.h"

typedef struct {
    const char *teacher; /* diffusers folder */
    const char *data;    /* SPEC; not needed with draws */
    const char *output;
    sp_objective_settings objective;
    int64_t max_train_steps, batch, accumulation;
    double learning_rate, ema_decay, max_grad_norm;
    int resolution; /* pixels; 0: the data's own (emoji 64, else 512) */
    sp_dtype storage;
    bool gradient_checkpointing;
    bool random_cond_proj; /* splam by embedding: start cond_proj at random, as the released script
                              does, instead of at 0 */
    int64_t checkpointing_steps, validation_steps;
    int checkpoints_total_limit;
    const char *resume; /* NULL, "latest" or a checkpoint */
    uint64_t seed;
    const char *draws; /* safetensors to replay; NULL: data */
    const char *trace; /* safetensors to write; NULL: none */
    bool dry_run;      /* report memory and the time of one step, then stop; nothing is written */
} sp_distill_options;

/* The published settings: splam, quadratic sigma, embedding, w = 8, M = 50, huber 1e-3, lr 8e-6,
 * EMA .95, 1000 steps of 12. */
sp_distill_options sp_distill_defaults(void);

/* Writes output/: unet/ (online weights), unet_ema/, the teacher's other components, an
 * scheduler that samples such a student, README.md, splam.json (objective, sampler, settings),
 * metrics.jsonl, checkpoint-N/, validation-N.png; with rounds, round-R.safetensors, the student
 * after round R and the teacher of the next. SP_CANCELLED after saving a checkpoint. */
sp_status sp_distill(const sp_distill_options *options, const sp_callbacks *callbacks);

#endif
