/* Models as files: looked at, run in parts, written in another form. */
#ifndef SPLAM_MODEL_H
#define SPLAM_MODEL_H
#include <splam/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A file of low-rank adapters, or the folder that diffusers or PEFT wrote it into, merged into a model's weights (UNet
 * and text encoder) as they are loaded. Names may be diffusers', PEFT's, kohya's or ComfyUI's. */
typedef struct {
    const char *path;
    double weight; /* 1: as it was trained */
} splam_lora;

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

#ifdef __cplusplus
}
#endif
#endif
