/* Measuring models, and speed. */
#ifndef SPLAM_EVAL_H
#define SPLAM_EVAL_H
#include <splam/base.h>
#include <splam/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In brackets: what is taken where it is SPLAM_UNSET, NULL or an empty list, as by default; other defaults stand behind
 * a comma. */
typedef struct {
    size_t size;               /* set by splam_eval_defaults() */
    const char *const *models; /* diffusers folders or checkpoints of one file; one is required */
    size_t model_count;
    const char *unet;     /* their UNets' folder, "unet" */
    const char *teacher;  /* a diffusers folder, needed for trajectory-error, frechet-teacher; gets a row of its own,
                             "teacher"; a model of that name is "teacher-model" then */
    const char *data;     /* a data set, such as "emoji:"; this or captions is required */
    const char *caption_column; /* as in splam_picture_options */
    const char *output;   /* a folder for report.json, times.json, report.html, sheet.png, captions.txt, for pictures/,
                             a folder of PNG files for each model, sampler and number of steps, which a later call goes
                             on with, and for the teacher's trajectories, which are kept likewise and take 51 times the
                             latents of `count` pictures, in memory too: 3.2 MiB each of 512 x 512; required */
    const char *metrics;  /* of "trajectory-error,frechet,frechet-teacher,kernel,precision-recall,hit", which need no
                             other network, and those of splam_score_options [the former, without a teacher those that
                             need none] */
    const int64_t *steps; /* a row for each model and each of these [1, 2, 4] */
    size_t step_count;
    int64_t count;           /* prompts, of data one in four held out if there are so many [128, or all; of captions
                                all] */
    double guidance_scale_w; /* CFG scale - 1 of the teacher's trajectories and of models that are no students [what a
                                student's splam.json says; without one those that need a teacher are
                                refused, and models have 6.5] */
    const char *sampler;     /* [as of splam_generate_options] */
    int64_t resolution;      /* pixels [what the first model was trained for] */
    uint64_t seed;           /* of the choice of prompts, 0; prompt i has the noise of seed + i */
    splam_precision precision;
    const char *device;      /* to compute with, "cpu" [cpu] */
    const char *real;        /* what pictures are compared with by metrics of splam_score_options, as its b [data] */
    const char *convention;  /* and the rest as there; "clean", "pytorch", ... ["clean"] */
    const char *transform;   /* ["none"] */
    const char *inception, *clip, *clip_activation, *clip_prefix, *aesthetic, *pickscore, *hps, *dino;
    int64_t kid_subsets, kid_subset_size, kid_seed, nearest_k, bootstrap;
    const char *captions;    /* prompts alone, in their order: a text file of a line each, or COCO's annotations (JSON),
                                of which each picture's caption of the lowest id is taken, by pictures' ids */
    const char *protocol;    /* "coco2014-30k", "coco2017-5k" or "laion": fills in what is not given of convention,
                                transform, count, metrics and clip_prefix, and how captions are chosen [none] */
    const char *t5_absent; /* of all models, see splam_generate_options [what a student's splam.json says, or "256"] */
    const char *t5; /* see splam_generate_options [none] */
    const char *weights; /* of all models, see splam_generate_options ["stored"] */
} splam_eval_options;
SPLAM_DEFAULTS(eval)

/* Draws the same prompts from the same noise with every model and judges them, by what splam_score measures of each
 * folder of pictures, and by: trajectory error (the mean squared
 * distance of one evaluation from where the teacher's guided 50-step DDIM chain leads, at the sampler's timesteps and
 * over all 50), Frechet distance of the autoencoder's pooled latents ("frechet_vae", which is not FID) to the pictures
 * that the prompts name and to the teacher's, and caption hit rate. A call that was stopped goes on where it was, and
 * writes the same report.json. *table, which is the caller's (splam_free): the
 * rows for a terminal; NULL on failure. Errors: SPLAM_ARGUMENT for options that make no sense and, with a list, for
 * metrics that there are not, SPLAM_IO and SPLAM_FORMAT of files, SPLAM_UNSUPPORTED for a model that this library
 * cannot run, SPLAM_MEMORY, SPLAM_CANCELLED. */
SPLAM_API splam_status splam_eval(const splam_eval_options *options, const splam_callbacks *callbacks, char **table);

typedef struct {
    size_t size;             /* set by splam_score_defaults() */
    const char *a, *b;       /* folders of pictures, data sets ("wds:..."), or files: .npz or .safetensors of mu and
                                sigma, or of feats or reps, or .npy; a is required, b is what it is compared with */
    const char *metrics;     /* of "fid,fid_infinity,kid,is,prdc,cmmd,fd,fd_infinity,clip,aesthetic,pickscore,hps"
                                ["fid" of two sets] */
    const char *inception;   /* a file of weights; needed where a or b is a folder */
    const char *clip;        /* CLIP's towers, a file or folder; for clip, aesthetic and cmmd of pictures */
    const char *clip_activation; /* "quick_gelu" or "gelu" [what lies beside it says, or it is OpenAI's own file] */
    const char *clip_prefix; /* what is put before each caption, "A photo depicts " of GigaGAN [nothing] */
    const char *aesthetic;   /* for aesthetic: LAION's head, a file */
    const char *pickscore;   /* PickScore's weights, a folder; for pickscore */
    const char *hps;         /* a checkpoint of HPSv2 or v2.1; for hps */
    const char *captions;    /* for clip, pickscore and hps: a text file, a line for each picture of a, those included
                                that cannot be read */
    const char *dino;        /* DINOv2's weights, a file or folder; for fd of pictures */
    const char *convention;  /* "clean", "pytorch", "tensorflow" or "torchmetrics", "clean" */
    const char *transform;   /* before its resize: "none", or "center-crop-256" and "center-crop-512", the middle square
                                at so many pixels; "none" */
    int64_t count;           /* pictures of each set, the first, of a folder by name [all] */
    bool strict;             /* a picture that cannot be read is an error; else if more than one in 100 cannot */
    const char *features;    /* a .safetensors file that features are kept in, and taken from: written now and then and
                                when the call is cancelled, so that another goes on where it was [they are not kept] */
    int64_t kid_subsets;     /* 100 */
    int64_t kid_subset_size; /* [1000, or all there are] */
    int64_t kid_seed;        /* of numpy's RandomState, 2020 */
    int64_t nearest_k;       /* of prdc, 5 */
    int64_t bootstrap;       /* resamples for intervals of means over pictures; fid and fd have theirs without [none] */
    const char *save_stats;  /* a .npz file that a's mu and sigma are written to */
    bool json;               /* the report as a JSON object, else as lines for people */
    const char *device;      /* to compute with, "cpu" [cpu] */
    int64_t resolution;      /* pixels of the sides of what has no files, "emoji:" [64] */
} splam_score_options;
SPLAM_DEFAULTS(score)

/* Scores sets of pictures by Inception's features, as pytorch-fid, clean-fid, torch-fidelity and torchmetrics do:
 * "fid", the Frechet distance, "kid", the kernel distance over random subsets, "is", the Inception score of a, and
 * "prdc", precision, recall, density and coverage of a as drawn pictures and b as real ones; "fid_infinity" is what fid
 * would be of infinitely many pictures of a, by 15 subsets (Chong & Forsyth 2020). "fd" and "fd_infinity" are these
 * two of DINOv2's features as dgm-eval takes them, "cmmd" the kernel distance of CLIP's embeddings (Jayasumana et al.
 * 2024), "clip" the mean cosine of CLIP's embeddings of the pictures of a and their captions, "pickscore" that of
 * PickScore's (Kirstain et al. 2023) times its scale, "hps" that of HPSv2's (Wu et al. 2023), times 1, and "aesthetic"
 * the mean of what LAION's head says of CLIP's embeddings of a. Files of features may be of any network. As JSON the
 * keys are fid, fid_infinity, kid_mean, kid_std, kid_subsets, kid_subset_size, kid_seed, is_mean, is_std, precision,
 * recall, density, coverage, nearest_k, cmmd, fd_dino (of files fd), fd_infinity, infinity_seed, those of an interval
 * of 95 % (fid_low, fid_high, precision_low, ...) and bootstrap, count_a, count_b, unreadable_a and unreadable_b (lists
 * of reason, count and example), clip_score, clip_score_100 (100 times it, not below 0), aesthetic, pickscore, hps,
 * hps_scale, captions_sha256, captions_left_out, clip_prefix, convention, transform and inception_sha256, clip_sha256,
 * cmmd_sha256, aesthetic_sha256, pickscore_sha256, hps_sha256, dino_sha256, each where it was asked for. *report is the
 * caller's (splam_free), NULL on failure. Errors: SPLAM_ARGUMENT for options that make no sense and, with a list, for
 * metrics that there are not, SPLAM_IO, SPLAM_FORMAT and SPLAM_SHAPE of files, a picture that cannot be read among
 * them, SPLAM_UNSUPPORTED for another network's weights, SPLAM_NUMERIC, SPLAM_MEMORY, SPLAM_CANCELLED. */
SPLAM_API splam_status splam_score(const splam_score_options *options, const splam_callbacks *callbacks, char **report);

typedef struct {
    size_t size;             /* set by splam_demo_defaults() */
    const char *output;      /* a folder, "demo-out" */
    const char *teacher;     /* a diffusers folder [the emoji teacher that comes with splam] */
    const char *data;        /* what the teacher was trained on, "emoji:kinds" */
    int64_t max_train_steps; /* of each student [what gave the best students] */
    int64_t count;           /* prompts measured [128, or all] */
    uint64_t seed;           /* of training, captions and noise, 0 */
    splam_precision precision;
    const char *device;      /* to compute with, "cpu" [cpu] */
} splam_demo_options;
SPLAM_DEFAULTS(demo)

/* Distils the teacher with LCM and with SPLAM, each at its best settings, draws and measures teacher, fast samplers and
 * students, and writes output/: sheet.png, report.html, report.json, student/ (the SPLAM one) and lcm/. *table, which
 * is the caller's (splam_free): the rows for a terminal; NULL on failure. Errors as of splam_distill and splam_eval. */
SPLAM_API splam_status splam_demo(const splam_demo_options *options, const splam_callbacks *callbacks, char **table);

typedef struct {
    size_t size;               /* set by splam_bench_defaults() */
    const char *model;         /* as for splam_generate; NULL: operators alone */
    const char *only;          /* "generate", "train" or "operators" [all that there is a model for] */
    const char *part;          /* of the model's parts, those whose name in the report contains this; NULL: all */
    const char *op;            /* of the operators, those whose name contains this; NULL: all */
    int64_t width, height;     /* of the model's pictures in pixels [its own] */
    int64_t train_batch_size;  /* samples of a training step, 1 */
    const char *optimizer;     /* of a distillation step, see there; "adamw" */
    splam_precision precision; /* of the model's parts; operators are measured in both */
    const char *device;        /* to compute with, "cpu" [cpu] */
    bool json;                 /* the report as a JSON object, else as lines for people */
    bool support;              /* instead: which kernel runs each operator, f32 and bf16 */
    int64_t threads_model;     /* instead, of a model's parts: how so many threads would share each step out, 1 to 4096,
                                  worked out by one; 0: times are measured */
    bool tune;                 /* instead: the fastest form of each convolution measured, as the table that is
                                  compiled in, src/backend/cpu/convolution_table/ */
    const char *weights;       /* of the model, see splam_generate_options; not in training steps ["stored"] */
} splam_bench_options;
SPLAM_DEFAULTS(bench)

/* Medians of repeated runs in one process, and the peaks of the same run: multiplications and additions in registers,
 * and a walk through memory. What a model lacks the parts for, or this machine the memory, is left out, and said.
 * *report is the caller's (splam_free), NULL on failure. Errors: SPLAM_ARGUMENT, SPLAM_IO and SPLAM_FORMAT of a model's
 * files, SPLAM_MEMORY, SPLAM_CANCELLED. */
SPLAM_API splam_status splam_bench(const splam_bench_options *options, const splam_callbacks *callbacks, char **report);

#ifdef __cplusplus
}
#endif
#endif
