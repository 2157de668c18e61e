/* Training the models of a small latent diffusion system from nothing: an autoencoder, then text
 * encoder and UNet. */
#ifndef SP_TRAIN_TRAIN_H
#define SP_TRAIN_TRAIN_H
#include "base/progress.h"
#include "graph/device.h"

/* Settings shared by `train vae` and `train teacher`; 0 or NULL takes the default in brackets. */
typedef struct {
    const char *data, *output;
    const char *caption_column; /* sp_dataset_options' */
    const char *vae;      /* teacher: the autoencoder's folder, or a model folder with one */
    int64_t max_steps;    /* [vae 2000, teacher 8000] */
    int64_t batch;        /* [vae 32, teacher 64] */
    double learning_rate; /* [vae 1e-3, teacher 8e-4] */
    double ema_decay;     /* [vae .995, teacher .999] */
    int64_t checkpointing_steps, validation_steps;
    const char *resume;
    uint64_t seed;
    sp_device *device;      /* NULL: the default */
    sp_dtype storage;       /* SP_F32 or SP_BF16 */
    bool v_prediction;      /* teacher: predicts v, else epsilon */
    double caption_dropout; /* teacher: share of empty captions, for guidance */
    double caption_variety; /* teacher: share of captions other than the official name */
} sp_train_options;

/* Writes output/vae: an AutoencoderKL of factor 4 with 4 latent channels, each normalised over the
 * data to mean 0 and deviation 1 (folded into its first and last layers, scaling_factor 1), from
 * the averaged weights. */
sp_status sp_train_vae(const sp_train_options *options, const sp_callbacks *callbacks);

/* Writes output/{model_index.json,unet,vae,text_encoder,tokenizer,scheduler}: a tokenizer learned
 * from the captions, a CLIP-style text encoder and a UNet trained together. */
sp_status sp_train_teacher(const sp_train_options *options, const sp_callbacks *callbacks);

#endif
