/* Distillation of a teacher's folder into a few-step student's folder. */
#ifndef SP_DISTILL_DISTILL_H
#define SP_DISTILL_DISTILL_H
#include "base/progress.h"
#include "data/dataset.h"
#include "distill/objective.h"
#include "train/training_state.h"

typedef struct {
    const char *teacher;         /* diffusers folder, or a checkpoint of one file */
    const char *prediction;      /* what it predicts, as of sp_model_options */
    const char *data;            /* SPEC of data/dataset.h, or latents:DIR; not needed with draws */
    sp_dataset_options pictures; /* its seed is `seed` below, whatever it says. With latents: only
                                    random_flip, and resolution if it is that of the latents */
    const char *output;
    sp_objective_settings objective;
    int64_t max_train_steps, batch, accumulation;
    double learning_rate, ema_decay, max_grad_norm;
    sp_device *device; /* NULL: the default */
    sp_dtype precision;
    sp_optimizer optimizer;
    bool gradient_checkpointing; /* of all blocks; else of as many as the limit demands */
    int64_t memory_limit;        /* bytes of the process; 0: what it may have here */
    bool random_cond_proj;  /* splam by embedding: start cond_proj at random, as the released script
                               does, instead of at 0 */
    sp_lora_settings lora;  /* rank 0: the whole student is trained */
    const char *lora_start; /* a LoRA file that training starts from; NULL: as the teacher */
    bool lora_merged;       /* also write the student with the adapters in its weights */
    int64_t checkpointing_steps, validation_steps;
    int checkpoints_total_limit;
    const char *resume; /* NULL, "latest" or a checkpoint */
    uint64_t seed;
    const char *draws; /* safetensors to replay; NULL: data */
    const char *trace; /* safetensors to write; NULL: none */
    int rank, ranks;   /* set by sp_distill: this process among those that train together */
    bool dry_run;      /* report memory and the time of one step, then stop; nothing is written */
} sp_distill_options;

/* The published settings: splam, quadratic sigma, embedding, w = 8, M = 50, huber 1e-3, lr 8e-6,
 * EMA .95, 1000 steps of 12. */
sp_distill_options sp_distill_defaults(void);

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

#endif
