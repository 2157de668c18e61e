/* What options choose among, by name, (NAME, "text"): the tables of options, the enumerations and what reads and writes
 * their names are made of these lists. What each means stands at its enumeration. */
#ifndef SP_OPTIONS_CHOICES_H
#define SP_OPTIONS_CHOICES_H

#define SP_OBJECTIVE_LIST(X)                                                                       \
    X(SPLAM, "splam")                                                                              \
    X(LCM, "lcm")                                                                                  \
    X(PCM, "pcm")                                                                                  \
    X(TCD, "tcd")                                                                                  \
    X(PROGRESSIVE, "progressive")                                                                  \
    X(DMD, "dmd")
#define SP_SIGMA_LIST(X) X(QUADRATIC, "quadratic") X(LINEAR, "linear") X(CHORD, "chord")
#define SP_GAMMA_TOLD_LIST(X) X(EMBEDDING, "embedding") X(TIME, "time")
#define SP_GAMMA_CONDITIONING_LIST(X) X(NONE, "none") SP_GAMMA_TOLD_LIST(X)
#define SP_LOSS_TYPE_LIST(X) X(HUBER, "huber") X(L2, "l2")
#define SP_LOSS_WEIGHTING_LIST(X) X(NONE, "none") X(MIN_SNR, "min-snr") X(INVERSE_LENGTH, "inverse-length")
#define SP_START_LIST(X) X(GRID, "grid") X(LOGIT_NORMAL, "logit-normal")
#define SP_OPTIMIZER_LIST(X) X(ADAMW, "adamw") X(ADAMW8BIT, "adamw8bit")
#define SP_VALIDATION_METRIC_LIST(X) X(TRAJECTORY_ERROR, "trajectory-error")
#define SP_KEEP_LIST(X) X(LAST, "last") X(BEST, "best")
#define SP_LR_SCHEDULER_LIST(X)                                                                    \
    X(CONSTANT, "constant")                                                                        \
    X(COSINE, "cosine")                                                                            \
    X(LINEAR, "linear")                                                                            \
    X(CONSTANT_WITH_WARMUP, "constant_with_warmup")
/* The tools that pictures are measured as by. */
#define SP_CONVENTION_LIST(X)                                                                      \
    X(CLEAN, "clean")                                                                              \
    X(PYTORCH, "pytorch")                                                                          \
    X(TENSORFLOW, "tensorflow")                                                                    \
    X(TORCHMETRICS, "torchmetrics")
/* What is done with pictures before a tool's own resize. */
#define SP_TRANSFORM_LIST(X)                                                                       \
    X(NONE, "none")                                                                                \
    X(CENTER_CROP_256, "center-crop-256")                                                          \
    X(CENTER_CROP_512, "center-crop-512")
/* How others measure models, see report/protocol.h. */
#define SP_PROTOCOL_LIST(X) X(COCO2014, "coco2014-30k") X(COCO2017, "coco2017-5k") X(LAION, "laion")
/* What a teacher that is trained from scratch is made like, see recipes/teacher_family.h. */
#define SP_TEACHER_FAMILY_LIST(X) X(SD, "sd") X(SDXL, "sdxl") X(SD3, "sd3")
#define SP_LORA_TARGETS_LIST(X) X(ALL, "all") X(ATTENTION, "attention")
/* What the network of a model that can be opened predicts, as diffusers' prediction_type. */
#define SP_PREDICTION_TYPE_LIST(X) X(EPSILON, "epsilon") X(V, "v_prediction") X(SAMPLE, "sample")
/* Samplers, named as diffusers' schedulers of that kind, how many steps one takes when nobody says, and what A1111's
 * web interface calls it. */
#define SP_SAMPLER_LIST(X)                                                                         \
    X(LCM, "lcm", 4, "LCM")                                                                        \
    X(DDIM, "ddim", 50, "DDIM")                                                                    \
    X(DPMPP_2M, "dpm++2m", 20, "DPM++ 2M")                                                         \
    X(DPMPP_2M_SDE, "dpm++2m-sde", 20, "DPM++ 2M SDE")                                             \
    X(UNIPC, "unipc", 20, "UniPC")                                                                 \
    X(EULER, "euler", 30, "Euler")                                                                 \
    X(EULER_A, "euler-a", 30, "Euler a")                                                           \
    X(HEUN, "heun", 20, "Heun")                                                                    \
    X(TCD, "tcd", 4, "TCD")

/* Sizes of pictures that Stable Diffusion XL was trained on, of which help, inspect and a warning speak. */
#define SP_XL_SIZES "1024x1024, 1152x896, 1216x832, 1344x768 and 1536x640, also upright"

/* "a|b|c", as a table has it. */
#define SP_CHOICE_TEXT(name, text, ...) "|" text
#define SP_CHOICES(list) (&(list(SP_CHOICE_TEXT))[1])

#endif
