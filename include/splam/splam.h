/* libsplam: few-step generators from Stable-Diffusion-family models; the whole public interface. */
#ifndef SPLAM_H
#define SPLAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SPLAM_API __attribute__((visibility("default")))
#else
#define SPLAM_API
#endif

/* The library's version, such as "0.1.0"; a constant. */
SPLAM_API const char *splam_version(void);

/* The MPI library that it was built with, such as "Open MPI 4.1.4", for distilling in several
 * processes; NULL: none. A constant. */
SPLAM_API const char *splam_mpi(void);

/* The sentence about the last failure on this thread: the file, tensor or setting, what was found
 * and what was expected. Never NULL; valid until the next failure on this thread. It may go to a
 * terminal as it is, and so may all texts for people: see splam_visible_text. */
SPLAM_API const char *splam_error_message(void);

/* Copies a text that may come from anywhere to `out` (at most size - 1 bytes of whole characters and
 * a NUL), safe to show on a terminal: control characters, newlines too, and bytes that are no UTF-8
 * become "\x1b", characters that are invisible or change the direction of reading "\u202e". Returns
 * the length. */
SPLAM_API size_t splam_visible_text(const char *text, char *out, size_t size);

/* Files are mapped. One that becomes shorter while it is used (somebody writes it anew) is SPLAM_IO, not the
 * process's end: mapping one sets a handler of SIGBUS (with SA_ONSTACK) if it is not set, which calls what was set
 * before for every fault that is not in the library's mappings. A program that sets its own later has to do
 * likewise: keep what sigaction gave it, and call that for faults it does not know. */

/* What every fallible call returns. */
typedef enum {
    SPLAM_OK,
    SPLAM_ARGUMENT,    /* the request makes no sense */
    SPLAM_IO,          /* open, read, write or rename failed */
    SPLAM_FORMAT,      /* a file's bytes do not follow its format */
    SPLAM_SHAPE,       /* shapes of tensors disagree */
    SPLAM_UNSUPPORTED, /* well-formed, but this library does not do it */
    SPLAM_MEMORY,      /* out of memory */
    SPLAM_NUMERIC,     /* NaN or infinity where none may be */
    SPLAM_CANCELLED,   /* a callback asked to stop; what can be saved is saved */
    SPLAM_INTERNAL     /* a bug in the library */
} splam_status;

/* Given to long calls; both members, and a pointer to the whole, may be NULL. */
typedef struct {
    void *context;
    /* After each unit of work. detail: short text such as "loss 0.0123", may be NULL. */
    void (*report)(void *context, const char *task, int64_t done, int64_t total,
                   const char *detail);
    /* true: stop as soon as nothing is lost. Asked often, between the operators of a network and the pieces of a
     * file, by the thread that called. */
    bool (*cancelled)(void *context);
} splam_callbacks;

/* A progress line on stderr (a bar on a terminal, plain lines elsewhere), and Ctrl-C and SIGTERM as
 * the way to stop: the first asks, a second one kills. The state is the caller's and outlives the
 * callbacks; the handling of signals is the process's. */
typedef struct {
    uint64_t state[32];
} splam_terminal;
SPLAM_API splam_callbacks splam_terminal_callbacks(splam_terminal *terminal);

/* Threads that the library computes with; 0: one per physical core available to the process, as at
 * start. Process-wide. */
SPLAM_API void splam_set_threads(int count);

/* In what activations are stored and products are made. Sums, norms and softmax are fp32 in both. */
typedef enum {
    SPLAM_PRECISION_DEFAULT, /* bf16 where the processor multiplies it natively, else f32 */
    SPLAM_F32,
    SPLAM_BF16
} splam_precision;

/* What a call is to write is claimed before the work begins: missing folders are made, and SPLAM_IO
 * says what cannot be written and why, or that another process is writing there (flock; of a file
 * PATH.lock while the call lasts). Files are written beside and renamed. */

/* Releases memory that the library handed out; NULL is legal. */
SPLAM_API void splam_free(void *pointer);

/* ---- looking at models and data ---- */

/* One run of one component, from a safetensors file to another, in diffusers' names and layouts:
 *   unet          sample [N,C,H,W], timestep [N], encoder_hidden_states [N,L,D], optional
 *                 timestep_cond [N,dim] -> sample [N,C,H,W]
 *   vae-encoder   image [N,3,H,W] -> mean, logvar [N,c,h,w]; an AutoencoderTiny: mean alone
 *   vae-decoder   latent [N,c,h,w], already divided by the scaling factor -> image [N,3,H,W]
 *   text-encoder  input_ids [N,L] -> last_hidden_state [N,L,D]
 * Outputs are f32. SPLAM_NUMERIC, and no file, if one of them is not finite. */
typedef struct {
    const char *model; /* a model, or a component's own folder */
    const char *component;
    const char *inputs, *outputs; /* paths */
    splam_precision precision;
} splam_forward_options;
SPLAM_API splam_status splam_forward(const splam_forward_options *options);

/* The ids of `text`, padded as the text encoder takes them, in a new array (splam_free). model: a
 * model, or a tokenizer's folder. */
SPLAM_API splam_status splam_tokenize(const char *model, const char *text, int32_t **ids,
                                      size_t *count);

/* What a model, a component's folder, a training's output or a file of tensors holds,
 * and the memory that generating with it and distilling it would take, in lines for people
 * (splam_free). Nothing is run. prediction: of a model, what it predicts, "epsilon" or
 * "v_prediction", whatever it says; NULL: what it says. */
SPLAM_API splam_status splam_inspect(const char *path, const char *prediction, char **text);

/* A data set is named by a text: "emoji:", "folder:DIR", "wds:SHARDS.tar" (a shell's wildcards and
 * braces) or "coco:ANNOTATIONS.json,IMAGES".
 *
 * Which of its pictures are taken and how they are cut; 0 takes the default in brackets, or asks
 * nothing. Filters look at fields that LAION's metadata have, in a picture's json, in letters of
 * either case; a picture without the field is rejected. */
typedef struct {
    int64_t resolution;    /* side of the pictures [emoji 64, else 512] */
    int64_t min_size;      /* shorter sides below are rejected: width and height, or original_width
                              and original_height, or the picture's own [half the resolution] */
    double min_aesthetic;  /* aesthetic, aesthetic_score, aesthetic_score_laion_v2 */
    double max_watermark;  /* pwatermark, watermark, watermark_score */
    double min_similarity; /* similarity, clip_similarity_vitb32, clip_similarity_vitl14 */
    const char *caption_column; /* the key of captions in a picture's json, in metadata.jsonl or in
                                   COCO's annotations, or the column in metadata.csv; captions from
                                   elsewhere are not taken then [the .txt or .caption beside the
                                   picture; else text, caption, prompt or additional_feature] */
    bool random_crop;      /* at a place drawn from (seed, picture); else the centre */
    bool random_flip;      /* mirrored or not, drawn from (seed, epoch, picture) */
} splam_picture_options;

/* 0 or NULL takes the default in brackets. */
typedef struct {
    const char *spec; /* a data set, or "latents:DIR": see cache */
    splam_picture_options pictures;
    const char *sheet;   /* a picture of samples with their captions to write,
                            .png, .jpg, .jpeg or .webp; NULL: none */
    int64_t count;       /* pictures on it [48] */
    uint64_t seed;       /* of their choice, of crops and flips */
    const char *cache;   /* a folder to write what training needs of the pictures: moments of the
                            VAE's posterior and contexts of the captions; distill takes it as
                            "latents:DIR". A run that was stopped goes on. NULL: none */
    const char *teacher; /* a model whose VAE and text encoder make them */
    const char *cache_dtype; /* "F16", "F32" ["F16"] */
    splam_precision precision;
} splam_data_options;
/* Opens a data set and decodes the pictures of the sheet; *summary: what was accepted and rejected,
 * and why, in lines for people (splam_free). Of latents every checksum is read. */
SPLAM_API splam_status splam_data(const splam_data_options *options,
                                  const splam_callbacks *callbacks, char **summary);

/* A file of low-rank adapters, or the folder that diffusers or PEFT wrote it into, merged into a model's weights (UNet
 * and text encoder) as they are loaded. Names may be diffusers', PEFT's, kohya's or ComfyUI's. */
typedef struct {
    const char *path;
    double weight; /* 1: as it was trained */
} splam_lora;

/* ---- pictures ---- */

typedef enum {
    SPLAM_RNG_PHILOX, /* this library's own: a number depends on seed, step and place alone */
    SPLAM_RNG_TORCH   /* PyTorch's on a CPU: diffusers' noise with one generator a picture */
} splam_rng;

/* Whether pictures larger than a tile go through the VAE in overlapping tiles, as with diffusers'
 * enable_tiling: in the memory of one tile, and not quite as in one piece. */
typedef enum {
    SPLAM_VAE_TILING_AUTO, /* where the whole would need more than the limit, or than is free */
    SPLAM_VAE_TILING_ON,
    SPLAM_VAE_TILING_OFF
} splam_vae_tiling;

/* Where the seconds of a call went, over all its pictures. What a part needs before it can run
 * (planning, packing of weights) belongs to the part. */
typedef struct {
    double load;    /* reading the request, opening files, reading the tokenizer */
    double text;    /* prompts to contexts */
    double encode;  /* the picture to start from */
    double denoise; /* all steps of the sampler */
    double decode;  /* latents to pictures */
    double write;   /* compressing and writing files */
    double total;
} splam_generate_seconds;

/* 0 or NULL takes the default in brackets. Nothing is kept after the call. */
typedef struct {
    const char *model; /* a diffusers folder or a checkpoint of one file */
    const char *unet;  /* its UNet's folder ["unet"]; "unet_ema": a student's average */
    const char *prediction; /* what the UNet predicts, "epsilon" or "v_prediction" [what the model says] */
    const char *vae;   /* another autoencoder, AutoencoderKL or AutoencoderTiny: its folder, its file, or a model
                          with one [the model's own] */
    const splam_lora *loras; /* merged in this order */
    size_t lora_count;
    const char *const *prompts; /* UTF-8 */
    size_t prompt_count;
    const char *prompts_file; /* more prompts, UTF-8, one a line; blank lines are left out. "-":
                                 standard input */
    const char *negative;     /* looked at where there is guidance [""] */
    const char *sampler;      /* lcm, tcd, ddim, dpm++2m, dpm++2m-sde, unipc, euler, euler-a, heun, as diffusers'
                                 schedulers of that kind [a student's own, else dpm++2m] */
    const char *sigmas;       /* of dpm++2m, dpm++2m-sde, unipc, euler and heun: normal, karras, exponential [what the
                                 model's scheduler says] */
    int64_t steps; /* each an evaluation of the network, with heun two [a student's own, else lcm and tcd 4, ddim 50,
                      euler and euler-a 30, the others 20] */
    const double *eta;     /* tcd: 0, no noise between steps, to 1 [0.3] */
    const double *guidance; /* CFG scale, 0 and more [1 for a student, else 7.5] */
    bool old_grid;         /* lcm: the older timesteps, 999, 759, 519, 279 for four steps */
    uint64_t seed;         /* picture j of all has seed + j, modulo 2^64 */
    bool random_seed;      /* one is drawn instead */
    uint64_t *seed_used;   /* receives the seed; may be NULL */
    int64_t count;         /* pictures per prompt [as many as the noise file has, or 1] */
    int64_t width, height; /* pixels [the noise file's, or what the model was trained for] */
    const char *init_image; /* JPEG, PNG or WebP to start from instead of noise alone, scaled to
                               cover the size and cut; without a width or height that of the
                               picture, rounded down to what the model takes */
    double strength; /* how much of it is replaced, in (0,1]: the last floor(steps * strength)
                        steps are taken; lcm takes all, beginning with less noise [0.8] */
    splam_vae_tiling vae_tiling;
    int64_t memory_limit; /* bytes that the process may take at most: what it plans is printed, and
                             done with less or refused if it is more [none] */
    splam_rng rng;
    splam_precision precision;
    int clip_skip;            /* last layers of the text encoder left out */
    const char *output;       /* a picture's file: .png, .jpg or .jpeg, .webp, in letters of either
                                 case; without a suffix that of the format is appended. Of several
                                 pictures number j is NAME-j.SUFFIX. A folder, one that is there or
                                 a path that ends in /: out.SUFFIX in it. "-": one picture, to
                                 standard output. NULL: none */
    const char *format;       /* "png", "jpg", "webp", as the suffix if there is one [the suffix's,
                                 or "png"] */
    int quality;              /* 1..100, of JPEG [95], whose colours keep their resolution from 90
                                 on, or WebP [90], lossless at 100; SPLAM_ARGUMENT with PNG */
    const char *noise;        /* safetensors: noise.0 [N,C,h,w], unit normal, before the sampler's
                                 initial sigma; noise.1, ... where the sampler draws again;
                                 noise.posterior for the latent of init_image, without which it is
                                 the mean */
    const char *save_latents; /* safetensors: latents [N,C,h,w], before division by the VAE's
                                 scaling factor */
    splam_generate_seconds *seconds; /* receives where the time went; may be NULL */
} splam_generate_options;

/* Pictures from prompts; those of one prompt are neighbours. They carry what made them: A1111's
 * text and a JSON object with the model's hash. PNG: text chunks "parameters" and "splam"; JPEG and
 * WebP: EXIF UserComment, and the XMP property json of the namespace urn:splam:1.0:. SPLAM_CANCELLED
 * keeps the pictures that are written and says how many; SPLAM_IO, before anything is drawn, where
 * output or save_latents cannot be written. */
SPLAM_API splam_status splam_generate(const splam_generate_options *options,
                                      const splam_callbacks *callbacks);

/* ---- training from nothing ---- */

/* 0 or NULL takes the default in brackets. */
typedef struct {
    const char *data;            /* a data set, such as "emoji:" */
    const char *caption_column;  /* as in splam_picture_options */
    const char *output;          /* folder of the model, checkpoint-N/ and metrics.jsonl */
    const char *vae;             /* teacher: an autoencoder's folder or file, or a model with one */
    int64_t max_train_steps;     /* [vae 2000, teacher 8000] */
    int64_t train_batch_size;    /* [vae 32, teacher 64] */
    double learning_rate;        /* [vae 1e-3, teacher 8e-4] */
    double ema_decay;            /* [vae .995, teacher .999] */
    int64_t checkpointing_steps; /* 0: a checkpoint only at the end and when stopped */
    int64_t validation_steps;    /* teacher: steps between sheets of samples; 0: never */
    const char *resume;          /* "latest" or a checkpoint's folder; NULL: from step 0 */
    uint64_t seed;
    splam_precision precision;
    bool v_prediction;      /* teacher: predicts v instead of epsilon */
    double caption_dropout; /* teacher: share of empty captions, 0..1 */
    double caption_variety; /* teacher: share of captions other than the official name */
} splam_train_options;

/* Writes output/vae, an AutoencoderKL of factor 4. */
SPLAM_API splam_status splam_train_vae(const splam_train_options *options,
                                       const splam_callbacks *callbacks);
/* Writes a whole diffusers folder: a tokenizer learned from the captions, a text encoder and a UNet
 * trained together, and the autoencoder given. */
SPLAM_API splam_status splam_train_teacher(const splam_train_options *options,
                                           const splam_callbacks *callbacks);

/* ---- distillation ---- */

/* Begin with splam_distill_defaults(). Terms are those of the papers: a teacher's trajectory is cut
 * into sub-paths of `skip` timesteps, and gamma is the position on one, 1 at its start. Objectives:
 *   splam        the whole sub-path (Xu et al. 2024), sampled with lcm
 *   lcm          its start alone (Luo et al. 2023), sampled with lcm
 *   pcm          to the lower edge of one of `phases` equal phases (Wang et al. 2024), sampled with
 *                ddim in that many steps
 *   tcd          to a timestep drawn below the sub-path (Zheng et al. 2024), sampled with tcd
 *   progressive  one step for solver_steps of the teacher's, in rounds (Salimans & Ho 2022),
 *                sampled with ddim in num_ddim_timesteps / solver_steps^rounds steps
 * Where a default stands in brackets, 0 or NULL takes it, and what is for one objective is refused
 * with the others. */
typedef struct {
    const char *teacher;            /* a diffusers folder or a checkpoint of one file */
    const char *prediction;         /* what its UNet predicts, "epsilon" or "v_prediction" [what it says] */
    const char *data;               /* a data set or "latents:DIR"; not needed with draws */
    splam_picture_options pictures; /* with latents only random_flip, where they have it */
    const char *output; /* the student's folder, metrics.jsonl, checkpoint-N/, validation-N.png */
    const char *objective; /* "splam", "lcm", "pcm", "tcd", "progressive" */
    const char *sigma; /* splam: "quadratic" or "linear" noise level on a sub-path ["quadratic"] */
    const char *gamma_conditioning; /* splam: "embedding", "time" ["embedding"] */
    double gamma_one_probability;   /* splam: gamma = 1 is drawn this often on top [0] */
    double gamma_power;             /* splam: gamma = uniform^power [1] */
    int64_t gamma_grid; /* splam: gamma is one of 1/N, 2/N, ..., 1, (floor(N uniform^power) + 1)/N
                           [any number] */
    const char *cond_proj_init; /* splam told by embedding: "zero", the student begins as the
                                   teacher; "random", as in the released script ["zero"] */
    int64_t phases;             /* pcm [4] */
    int64_t rounds; /* progressive: of max_train_steps/rounds steps each, step t (from 0) belonging
                       to round floor(t rounds/max_train_steps) [4] */
    double guidance_scale_w; /* CFG scale minus 1 */
    int64_t
        num_ddim_timesteps; /* M; progressive: steps of the first teacher [50, progressive 64] */
    int64_t skip;           /* not progressive [1000/M] */
    int64_t solver_steps;   /* DDIM steps of the teacher inside a sub-path [1, progressive 2] */
    const char *loss_type;  /* "huber" (pseudo-Huber), "l2" ["huber", progressive "l2"] */
    double huber_c;
    int64_t max_train_steps, train_batch_size, gradient_accumulation_steps;
    double learning_rate, ema_decay;
    const char *optimizer; /* "adamw"; "adamw8bit": moments in a byte each */
    splam_precision precision;
    bool gradient_checkpointing; /* of all blocks; else of as many as the limit demands */
    int64_t memory_limit; /* bytes that the process may take; 0: what is free. SPLAM_MEMORY, before
                             the first step, if it cannot do with that */
    int64_t lora_rank;    /* 0: the whole student is trained; else adapters (LoRA) of this rank */
    double lora_alpha;    /* their share is alpha/rank; 0: the rank */
    const char
        *lora_targets;      /* "all": linear layers and convolutions of every block, "attention" */
    const char *lora_start; /* a LoRA file to start from; NULL: begins as the teacher */
    bool lora_merged;       /* also write the student with the adapters in its weights */
    int64_t checkpointing_steps, validation_steps, checkpoints_total_limit;
    const char *resume; /* "latest" or a checkpoint's folder; NULL: from step 0 */
    uint64_t seed;
    const char *draws, *trace; /* safetensors to replay, to write; NULL: none */
    bool dry_run;              /* say what memory and time it takes, then stop */
} splam_distill_options;
SPLAM_API splam_distill_options splam_distill_defaults(void);

/* Distils. With a lora_rank the output has pytorch_lora_weights.safetensors (diffusers' names) and
 * kohya.safetensors, their average's in ema/, and a whole student only with lora_merged.
 * SPLAM_NUMERIC if a loss is not finite, SPLAM_CANCELLED when asked to stop; the last
 * checkpoint is whole then. */
SPLAM_API splam_status splam_distill(const splam_distill_options *options,
                                     const splam_callbacks *callbacks);

/* ---- measuring models ---- */

/* 0 or NULL takes the default in brackets. */
typedef struct {
    const char *const *models; /* diffusers folders or checkpoints of one file */
    size_t model_count;
    const char *unet;     /* their UNets' folder ["unet"] */
    const char *teacher;  /* a diffusers folder, needed for ode-error; gets a row of its own */
    const char *data;     /* a data set, such as "emoji:" */
    const char *caption_column; /* as in splam_picture_options */
    const char *output;   /* a folder for report.json, report.html, sheet.png, and the teacher's
                             references, which are kept for the next time */
    const char *metrics;  /* of "ode-error,frechet,hit" [all, without a teacher frechet and hit] */
    const int64_t *steps; /* a row for each model and each of these */
    size_t step_count;    /* [1, 2, 4] */
    int64_t count;        /* prompts, one in four held out if there are so many [128] */
    const double *guidance_scale_w; /* CFG scale - 1, 0 and more, of the teacher's references and of
                                       models that are no students [what a student's splam.json
                                       says; without one ode-error is refused, and others have
                                       6.5] */
    const char *sampler;     /* [a student's own, else dpm++2m] */
    int64_t resolution;      /* [what the first model was trained for] */
    uint64_t seed;           /* of the choice of prompts; prompt i has the noise of seed + i */
    splam_precision precision;
} splam_eval_options;
/* Draws the same prompts from the same noise with every model and judges them: ode-error, Frechet
 * distance of the autoencoder's pooled latents ("frechet_vae", which is not FID), and caption hit
 * rate. *table: the rows for a terminal (splam_free). SPLAM_ARGUMENT, with a list, for
 * metrics that there are not. */
SPLAM_API splam_status splam_eval(const splam_eval_options *options,
                                  const splam_callbacks *callbacks, char **table);

/* 0 or NULL takes the default in brackets. */
typedef struct {
    const char *output;      /* a folder ["demo-out"] */
    const char *teacher;     /* a diffusers folder [the emoji teacher that comes with splam] */
    const char *data;        /* what the teacher was trained on ["emoji:"] */
    int64_t max_train_steps; /* of each student [what gave the best students] */
    int64_t count;           /* prompts measured [128] */
    uint64_t seed;
    splam_precision precision;
} splam_demo_options;
/* Distils the teacher with LCM and with SPLAM, each at its best settings, draws and measures
 * teacher, fast samplers and students, and writes output/: sheet.png, report.html, report.json,
 * student/ (the SPLAM one) and lcm/. *table: the rows for a terminal (splam_free). */
SPLAM_API splam_status splam_demo(const splam_demo_options *options,
                                  const splam_callbacks *callbacks, char **table);

/* ---- files ---- */

typedef struct {
    const char *model;       /* a diffusers folder or a checkpoint of one file */
    const char *output;      /* a folder that is new or empty; with single_file a new file */
    const char *dtype;       /* "F32", "F16", "BF16"; NULL: F32 */
    const char *prediction;  /* "epsilon" or "v_prediction", for a checkpoint; NULL: as it tells */
    const splam_lora *loras; /* merged in this order */
    size_t lora_count;
    bool fold_guidance; /* cond_proj becomes a part of a bias, at gamma = 1: the UNet is a plain one */
    bool single_file;   /* one .safetensors under the names of original checkpoints */
    const char *unet;   /* the single file's UNet ["unet"]; "unet_ema": a student's average */
} splam_convert_options;
/* Writes a model in another form: adapters merged, then guidance folded, weights in another type,
 * as a diffusers folder or as a single file. Stopped (SPLAM_CANCELLED) or failed, it leaves nothing at `output`. */
SPLAM_API splam_status splam_convert(const splam_convert_options *options, const splam_callbacks *callbacks);

/* ---- measuring speed ---- */

/* 0 or NULL takes the default in brackets. */
typedef struct {
    const char *model;     /* as for splam_generate; NULL: operators alone */
    const char *only;      /* "generate", "train" or "operators" [all that there is a model for] */
    const char *part;      /* of the model's parts, those whose name in the report contains this */
    const char *op;        /* of the operators, those whose name contains this */
    int64_t batch;         /* samples of a training step [1] */
    const char *optimizer; /* of a distillation step, see there ["adamw"] */
    splam_precision precision; /* of the model's parts; operators are measured in both */
    bool json;                 /* the report as a JSON object, else as lines for people */
    bool support;              /* instead: which kernel runs each operator, f32 and bf16 */
    bool tune; /* instead: the fastest form of each convolution measured, as the table that is
                  compiled in, src/backend/cpu/convolution_table.inc */
} splam_bench_options;

/* Medians of repeated runs in one process, and the ceilings of the same run: multiplications and
 * additions in registers, and a walk through memory. What a model lacks the parts for, or this
 * machine the memory, is left out, and said. *report: splam_free. */
SPLAM_API splam_status splam_bench(const splam_bench_options *options,
                                   const splam_callbacks *callbacks, char **report);

#ifdef __cplusplus
}
#endif
#endif
