/* A latent diffusion model as it was opened: its parts, which nobody changes, for any number of pipelines and
 * threads. */
#ifndef SP_PIPELINE_MODEL_H
#define SP_PIPELINE_MODEL_H
#include "checkpoints/embedding.h"
#include "checkpoints/lora.h"
#include "checkpoints/model_folder.h"
#include "diffusion/scheduler_config.h"
#include "pipeline/denoiser.h"
#include "pipeline/t5_part.h"
#include "text/tokenizer.h"

enum { SP_PART_UNET = 1, SP_PART_TEXT = 2, SP_PART_VAE = 4, SP_PART_ALL = 7 };

typedef struct {
    unsigned parts;   /* what to open, SP_PART_*; 0: all. The scheduler always is */
    const char *base; /* a model that has what the one opened has not: all but the UNet is its; NULL: nothing is */
    const char *unet; /* folder of the denoiser; NULL or "unet": the usual one. A student's average is "unet_ema" or
                         "transformer_ema" */
    const char *prediction; /* what the UNet predicts, known better than the model tells; NULL: as it tells */
    const char *vae;  /* folder of another VAE, its own or its model's; NULL: the model's */
    const splam_lora *loras; /* merged into UNet and text encoder; those that splam distilled make a student of the
                                model, which samplers then look at the scheduler of (SP_LORA_SCHEDULER) */
    size_t lora_count;
    const splam_embedding *embeddings; /* tokens that the tokenizer and the text encoder learn */
    size_t embedding_count;
    const char *t5_absent; /* "256", "77": tokens of zeros that stand for Stable Diffusion 3's third text encoder; NULL:
                              what a student's splam.json says, or 256 */
    const char *t5; /* where that encoder is (sp_t5_part_open); NULL: nowhere, zeros stand for it */
    const char *weights; /* "q8": held as Q8_0 where a layer's can be; NULL, "stored": as they are stored */
    sp_device *device; /* NULL: the default */
    sp_dtype precision; /* SP_F32 (0) or SP_BF16 */
    const sp_callbacks *callbacks; /* asked between files of adapters; may be NULL */
} sp_model_options;

/* A text encoder, with the tokenizer that makes its ids. */
typedef struct {
    sp_component *encoder;
    sp_tokenizer *tokenizer;
} sp_text_part;
enum { SP_MAX_TEXTS = 2 };

/* What is made of a prompt. ONE: the states of one encoder after the norm of its last layer. XL: those of two before
 * their last layers, side by side, and the second one's pooled text. SD3: the same, with zeros up to the width that the
 * denoiser takes, a third encoder's states, or zeros for them, behind, and the first two encoders' pooled texts. */
typedef enum { SP_TEXTS_ONE, SP_TEXTS_XL, SP_TEXTS_SD3 } sp_text_form;

typedef struct {
    sp_model_folder folder;
    sp_component *denoiser, *vae;    /* the UNet, or Stable Diffusion 3's transformer; NULL: not opened */
    sp_text_part text[SP_MAX_TEXTS]; /* one, or two of Stable Diffusion XL, whose hidden states stand side by side */
    int text_count;                  /* 0: not opened */
    sp_text_form text_form;
    int64_t tokens_behind; /* of SD3: those of the third encoder, or zeros where they would be; else 0 */
    const char *t5_path;   /* of the options; NULL: zeros. The caller's */
    sp_t5_part *t5;        /* NULL: zeros, or not opened */
    bool zero_negative; /* a negative prompt that nobody gave is zeros; else it is the empty text */
    sp_learned_list embeddings;      /* that the tokenizers know */
    sp_scheduler_config scheduler;
    sp_device *device;
    sp_dtype precision;
} sp_model;

/* Opens a diffusers folder or a checkpoint of one file. The caller owns *out. Any fault of a file,
 * and parts that do not fit together (the text encoder's width and what the UNet takes, the latent
 * channels of UNet and VAE), are one sentence. */
sp_status sp_model_open(const char *path, const sp_model_options *options, sp_model **out);
void sp_model_close(sp_model *model); /* NULL is legal */
/* Of SP_PART_VAE and SP_PART_TEXT: for whoever has the model alone. */
void sp_model_close_parts(sp_model *model, unsigned parts);
/* Over the weights of its text encoders: of one, sp_component_hash. */
uint64_t sp_model_text_hash(const sp_model *model);
/* How many tokens at the end of every text that the model's encoders make are the same, zeros (sp_block_options). */
int64_t sp_model_same_tokens(const sp_model *model);
/* Whether a denoiser goes with the other parts. */
sp_status sp_model_check_denoiser(const sp_model *model, const sp_denoiser *denoiser);

#endif
