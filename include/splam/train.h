/* Training from scratch, and distillation. */
#ifndef SPLAM_TRAIN_H
#define SPLAM_TRAIN_H
#include <splam/base.h>
#include <splam/data.h>
#include <splam/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- training from scratch ---- */

/* In brackets: what is taken where it is SPLAM_UNSET or NULL, as by default; other defaults stand behind a comma. */
typedef struct {
    size_t size;                 /* set by splam_train_defaults() */
    const char *data;            /* a data set, such as "emoji:"; required */
    const char *caption_column;  /* as in splam_picture_options */
    const char *output;          /* folder of the model, checkpoint-N/ and metrics.jsonl; required */
    const char *vae;             /* teacher: an autoencoder's folder or file, or a model with one */
    int64_t max_train_steps;     /* [vae 2000, teacher 8000] */
    int64_t train_batch_size;    /* pictures a step [vae 32, teacher 64] */
    double learning_rate;        /* at its highest [vae 1e-3, teacher 8e-4] */
    const char *lr_scheduler;    /* as in splam_distill_options [cosine after a warm-up of W = 50 (vae) or 100 steps
                                    (teacher) in which step t, from 0, has (t + 1)/W of the rate] */
    int64_t lr_warmup_steps;     /* with an lr_scheduler other than "constant" [0; constant_with_warmup needs one] */
    const char *ema_decay;       /* as in splam_distill_options; a rate is at most t/(t + 9) in step t, from 1
                                    [vae "0.995", teacher "0.999"] */
    int64_t checkpointing_steps; /* steps between checkpoints, 500; 0: only at the end and when stopped */
    int64_t validation_steps;    /* teacher: steps between sheets of samples, 0: never */
    const char *resume;          /* "latest" or a checkpoint's folder; NULL: from step 0 */
    uint64_t seed;               /* of initial weights, data order and draws, 0 */
    splam_precision precision;
    const char *device;          /* to compute with, "cpu" [cpu] */
    const char *start;           /* teacher: a model that predicts the same, whose text encoder, UNet and tokenizer it
                                    begins as; NULL: random weights, and a tokenizer learned from the captions */
    const char *prediction_type; /* teacher: what it predicts, "epsilon" or "v_prediction" ["epsilon"; of "sd3" the
                                    velocity, and nothing else] */
    double caption_dropout;      /* teacher: share of empty captions, 0.1 */
    double caption_variety;      /* teacher: share of captions other than the official name, 0.25 */
    int64_t resolution;          /* side of the pictures in pixels, a multiple of the autoencoder's factor
                                    [emoji 64, else 512] */
    const char *family;          /* teacher: what it is made like, "sd", "sdxl" or "sd3" [what start is, or "sd"] */
    int64_t width;               /* teacher: channels of the UNet's first level, or of each of a transformer's four
                                    heads, a multiple of 16, to which all other sizes are in proportion; not with start
                                    [64] */
} splam_train_options;
SPLAM_DEFAULTS(train)

/* Writes output/vae, an AutoencoderKL of factor 4. Both: SPLAM_ARGUMENT for options that make no sense or that are not
 * those of the checkpoint to go on from, SPLAM_IO and SPLAM_FORMAT of files, SPLAM_MEMORY, SPLAM_NUMERIC if a loss is
 * not finite, SPLAM_CANCELLED after saving a checkpoint. */
SPLAM_API splam_status splam_train_vae(const splam_train_options *options, const splam_callbacks *callbacks);
/* Writes a whole diffusers folder of the family: tokenizers learned from the captions (or start's), text encoders and
 * a UNet trained together, and the autoencoder given. */
SPLAM_API splam_status splam_train_teacher(const splam_train_options *options, const splam_callbacks *callbacks);

/* ---- distillation ---- */

/* Terms are those of the papers: a teacher's trajectory is cut into sub-paths of `skip` timesteps, and gamma is the
 * position on one, 1 at its start. Objectives:
 *   splam        the whole sub-path (Xu et al. 2024), sampled with lcm
 *   lcm          its start alone (Luo et al. 2023), sampled with lcm
 *   pcm          to the lower edge of one of `phases` equal phases (Wang et al. 2024), sampled with
 *                ddim in that many steps
 *   tcd          to a timestep drawn below the sub-path (Zheng et al. 2024), sampled with tcd
 *   progressive  one step for solver_steps of the teacher's, in rounds (Salimans & Ho 2022),
 *                sampled with ddim in num_ddim_timesteps / solver_steps^rounds steps
 *   dmd          what the student makes is brought to be as likely as the teacher's, as a fake score trained in turn
 *                with it tells (Yin et al. 2024, DMD2), sampled with lcm in student_steps. A training step is one
 *                optimiser step of one network: of every fake_score_steps + 1 the last is the student's. Of the data
 *                captions are used, and the pictures' size; with a gan_weight also the pictures, which a discriminator
 *                on the fake score's features, trained with it, learns to tell from the student's
 * In brackets: what is taken where it is SPLAM_UNSET or NULL, as by default; what is for one objective is refused with
 * the others. Other defaults stand behind a comma. */
typedef struct {
    size_t size;                    /* set by splam_distill_defaults() */
    const char *teacher;            /* a diffusers folder or a checkpoint of one file; required */
    const char *prediction_type;    /* of its UNet: "epsilon", "v_prediction", "sample" [what it says] */
    const char *data;               /* a data set or "latents:DIR"; not needed with draws */
    splam_picture_options pictures; /* with latents only random_flip, where they have it */
    const char *output;             /* the student's folder, metrics.jsonl, checkpoint-N/, validation-N.png; not needed
                                       for a dry run */
    const char *objective;          /* "splam", "lcm", "pcm", "tcd", "progressive", "dmd"; "splam" */
    const char *sigma;              /* splam: where the student stands on a sub-path, "quadratic", "linear" (exact for
                                       DDIM) or "chord" (the same points, spread otherwise; with gamma_conditioning
                                       "time"; what flow teachers and those of zero terminal SNR need)
                                       ["quadratic", flow teachers "chord"] */
    const char *gamma_conditioning; /* splam: "embedding", "time" ["embedding", flow teachers "time"] */
    double gamma_one_probability;   /* splam: gamma = 1 is drawn this often on top [0] */
    double gamma_power;             /* splam: gamma = uniform^power [1] */
    int64_t gamma_grid;             /* splam: gamma is one of 1/N, 2/N, ..., 1, (floor(N uniform^power) + 1)/N
                                       [any number] */
    const char *cond_proj_init;     /* splam told by embedding, and with a guidance_range: "zero", the student begins as
                                       the teacher; "random", as in the released scripts ["zero"] */
    int64_t phases;                 /* pcm [4] */
    int64_t rounds;                 /* progressive: of max_train_steps/rounds steps each, step t (from 0) belonging
                                       to round floor(t rounds/max_train_steps) [4] */
    int64_t student_steps;          /* dmd: steps that the student is made for [4] */
    int64_t fake_score_steps;       /* dmd: optimiser steps of the fake score before each of the student's [5] */
    double gan_weight;              /* dmd: weight of the discriminator's loss beside the student's, .001 in DMD2; 0: no
                                       discriminator [0] */
    double gan_fake_score_weight;   /* dmd with gan_weight: weight of the discriminator's own loss beside that of the
                                       fake score, on whose features it stands [.01] */
    double guidance_scale_w;        /* CFG scale minus 1; not with a guidance_range [8] */
    const char *guidance_range;     /* lcm, and splam told gamma by time, without lora_rank: "LOW:HIGH", CFG scales from
                                       1 to 101. Each sample has a guidance of its own, drawn evenly, and the student is
                                       told it by cond_proj (Luo et al. 2023): its user chooses among them. NULL: one
                                       guidance for all */
    int64_t num_ddim_timesteps;     /* M; progressive: steps of the first teacher; not dmd [50, progressive 64] */
    int64_t skip;                   /* K, timesteps; not progressive, dmd [1000/M] */
    int64_t skip_to;                /* K of the last step, and skip that of the first: of step t of T, from 0, it is
                                       skip (skip_to/skip)^(t/(T-1)), rounded [skip] */
    int64_t solver_steps;           /* DDIM steps of the teacher inside a sub-path; not dmd [1, progressive 2] */
    const char *loss_type;          /* "huber" (pseudo-Huber), "l2"; not dmd ["huber", progressive "l2"] */
    double huber_c;                 /* sqrt(d^2 + c^2) - c [1e-3] */
    const char *loss_weighting;     /* of samples: "min-snr", splam and lcm: min(SNR, snr_gamma) where the student
                                       stands (Hang et al. 2023); "inverse-length", not progressive: 1/(s - e), 1 in the
                                       mean over all starts; "none" */
    double snr_gamma;               /* of min-snr [5] */
    const char *timestep_sampling;  /* where sub-paths start: "grid", at M points; "logit-normal", of flow teachers, not
                                       progressive: at any timestep, as often as flow models are trained there (Esser et
                                       al. 2024, before their shift); "grid" */
    int64_t max_train_steps;        /* optimiser steps, with dmd of both networks, 1000 */
    int64_t train_batch_size;       /* pictures a micro-batch, 12 */
    int64_t gradient_accumulation_steps; /* micro-batches an optimiser step, 1 */
    double learning_rate;           /* of AdamW, at its highest, 8e-6 */
    const char *lr_scheduler;       /* diffusers' meanings: "constant", "constant_with_warmup", "linear", "cosine" (half
                                       a cycle); the last two fall to 0 at max_train_steps, so that a run of other
                                       length is another run; "constant" */
    int64_t lr_warmup_steps;        /* W: step t, from 0, below W has t/W of the rate; not with "constant"
                                       [0; constant_with_warmup needs one] */
    const char *ema_decay;          /* of the averaged weights: "X", what they keep of themselves in a step, 0 to 1, "0"
                                       being the weights themselves; "power:S", (1 - 1/t)^(gamma + 1) in step t, from 1,
                                       whose profile is as wide as the share S of the run so far (Karras et al. 2024);
                                       "half-life:N", .5^(pictures of a step / N), N being at most a twentieth of the
                                       pictures so far (Karras et al. 2022); "0.95" */
    const char *target_ema_decay;   /* the same, of the average that makes the target; "0": the online weights do.
                                       Another than ema_decay takes another set of weights; not progressive [the same
                                       average] */
    const char *optimizer;          /* "adamw"; "adamw8bit": moments in a byte each; "adamw" */
    splam_precision precision;
    const char *device;             /* to compute with, "cpu" [cpu] */
    bool gradient_checkpointing;    /* of all blocks; else of as many as the limit demands */
    int64_t memory_limit;           /* bytes that the process may take; SPLAM_MEMORY, before the first step, if it
                                       cannot do with that [what is free] */
    const char *student_start;      /* a student to start from, such as a SPLAM student to go on with another objective:
                                       a model, or a UNet's own folder (DIR/unet_ema), of the teacher's shape; not with
                                       lora_rank; a cond_proj that the new student has not is folded away. NULL: begins
                                       as the teacher */
    int64_t lora_rank;              /* 0, as by default: the whole student is trained; else adapters of this rank */
    double lora_alpha;              /* their share is alpha/rank [the rank] */
    const char *lora_targets;       /* "all": linear layers and convolutions of every block, "attention" ["all"] */
    const char *lora_start;         /* a LoRA file to start from; NULL: begins as the teacher */
    bool lora_merged;               /* also write the student with the adapters in its weights */
    int64_t checkpointing_steps;    /* steps between checkpoints, 200; 0: only at the end and when stopped */
    int64_t validation_steps;       /* steps between validations, of which the last step is one: sheets of samples; 0:
                                       never */
    const char *validation_metrics; /* what they also measure, of the averaged weights: "trajectory-error", the mean
                                       square of what one evaluation makes of each of the points of the teacher's
                                       50-step DDIM trajectories minus where these lead (docs/formats.md:
                                       metrics.jsonl); progressive: in the last round. NULL: nothing */
    int64_t validation_prompts;     /* captions of the training samples that it is measured on, drawn by the seed, the
                                       same at every validation [32, or all there are] */
    const char *keep;               /* "last"; "best": written is the student, and the average, of the validation of the
                                       lowest mean error, whose checkpoint is one more that stays; needs
                                       validation_metrics; "last" */
    int64_t checkpoints_total_limit; /* older ones are removed, 2; 0: none is */
    const char *resume;             /* "latest" or a checkpoint's folder; NULL: from step 0 */
    uint64_t seed;                  /* of data order, noise and draws, 0 */
    const char *draws, *trace;      /* safetensors to replay, to write; NULL: none */
    const char *sub_paths;          /* a file that keeps where the teacher's sub-paths end: what is there is taken from
                                       it, what is not the teacher adds. For runs of the same teacher, precision, data,
                                       seed, batch, guidance and sub-paths, which need the teacher once; another run's
                                       is SPLAM_ARGUMENT. Of one process alone, not progressive and dmd. NULL: the
                                       teacher takes part in every step */
    bool dry_run;                   /* say what memory and time it takes, then stop */
    const char *t5_absent;          /* of teacher and student, see splam_generate_options ["256"] */
    const char *t5; /* see splam_generate_options [none] */
} splam_distill_options;
SPLAM_DEFAULTS(distill)

/* Distils. With a lora_rank the output has pytorch_lora_weights.safetensors (diffusers' names) and
 * kohya.safetensors, their average's in ema/, and a whole student only with lora_merged. Errors: SPLAM_ARGUMENT for
 * options that make no sense or that are not those of the checkpoint to go on from, SPLAM_IO and SPLAM_FORMAT of files,
 * SPLAM_UNSUPPORTED for a teacher that this library cannot distil, SPLAM_MEMORY before the first step, SPLAM_NUMERIC if
 * a loss is not finite, SPLAM_CANCELLED when asked to stop; the last checkpoint is whole then. */
SPLAM_API splam_status splam_distill(const splam_distill_options *options, const splam_callbacks *callbacks);

#ifdef __cplusplus
}
#endif
#endif
