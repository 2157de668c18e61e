/* Models as files: looked at, run in parts, written in another form. */
#ifndef SPLAM_MODEL_H
#define SPLAM_MODEL_H
#include <splam/base.h>
#include <splam/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A file of low-rank adapters, or the folder that diffusers or PEFT wrote it into, merged into a model's weights (UNet
 * and text encoder) as they are loaded. Names may be diffusers', PEFT's, kohya's or ComfyUI's. */
typedef struct {
    const char *path;
    double weight; /* 1: as it was trained */
} splam_lora;

/* A file of learned vectors (textual inversion), or a folder with diffusers' learned_embeds: A1111's .pt, diffusers'
 * .bin and .safetensors, and those of a model's two text encoders, clip_l and clip_g. Its token, in letters of either
 * case, stands for all its vectors wherever it is in a prompt. */
typedef struct {
    const char *path;
    const char *token; /* NULL: what the file names, or else the file's name without its suffix */
} splam_embedding;

typedef struct {
    size_t size;       /* set by splam_forward_defaults() */
    const char *model; /* a model, or a component's own folder; required */
    const char *component;        /* as below; required */
    const char *inputs, *outputs; /* paths; required */
    splam_precision precision;
    const char *device;           /* to compute with, "cpu" [cpu] */
} splam_forward_options;
SPLAM_DEFAULTS(forward)

/* One run of one component, from a safetensors file to another, in diffusers' names and layouts:
 *   unet          sample [N,C,H,W], timestep [N], encoder_hidden_states [N,L,D], optional
 *                 timestep_cond [N,dim], of Stable Diffusion XL text_embeds [N,P] and time_ids [N,6]
 *                 -> sample [N,C,H,W]
 *   transformer   of Stable Diffusion 3: sample [N,C,H,W], timestep [N], encoder_hidden_states [N,L,D],
 *                 pooled_projections [N,P] -> sample [N,C,H,W]
 *   vae-encoder   image [N,3,H,W] -> mean, logvar [N,c,h,w]; an AutoencoderTiny: mean alone
 *   vae-decoder   latent [N,c,h,w], already divided by the scaling factor -> image [N,3,H,W]
 *   text-encoder  input_ids [N,L] -> last_hidden_state [N,L,D]
 *   text-encoder-2  of Stable Diffusion XL: input_ids [N,L], end_rows [N] -> last_hidden_state [N,L,D],
 *                 text_embeds [N,P]; end_rows[n] = n L + the place of the end token in row n
 * Outputs are f32. Errors: SPLAM_ARGUMENT for an input that is missing, SPLAM_SHAPE for one of another shape, SPLAM_IO
 * and SPLAM_FORMAT of files, SPLAM_UNSUPPORTED for a component that this library does not have, SPLAM_NUMERIC, and no
 * file, if an output is not finite. */
SPLAM_API splam_status splam_forward(const splam_forward_options *options);

typedef struct {
    size_t size;       /* set by splam_tokenize_defaults() */
    const char *model; /* a model, or a tokenizer's folder; required */
    const char *text;  /* UTF-8; required */
} splam_tokenize_options;
SPLAM_DEFAULTS(tokenize)

/* The ids of a text, padded as the text encoder takes them, in a new array, which is the caller's (splam_free). Errors:
 * SPLAM_IO and SPLAM_FORMAT of files, SPLAM_ARGUMENT for a text that is not UTF-8. */
SPLAM_API splam_status splam_tokenize(const splam_tokenize_options *options, int32_t **ids, size_t *count);

typedef struct {
    size_t size;                 /* set by splam_inspect_defaults() */
    const char *path;            /* required */
    const char *prediction_type; /* of a model: "epsilon", "v_prediction", "sample" [what it says] */
    const char *device;          /* whose memory is counted, "cpu" [cpu] */
} splam_inspect_options;
SPLAM_DEFAULTS(inspect)

/* What a model, a component's folder, a training's output or a file of tensors holds, and the memory that generating
 * with it and distilling it would take, in lines for people, which are the caller's (splam_free). Nothing is run.
 * Errors: SPLAM_IO and SPLAM_FORMAT of files, SPLAM_ARGUMENT. */
SPLAM_API splam_status splam_inspect(const splam_inspect_options *options, char **text);

typedef struct {
    size_t size;             /* set by splam_convert_defaults() */
    const char *model;       /* a diffusers folder or a checkpoint of one file; required */
    const char *base;        /* another model, which all but the UNet is taken from, see splam_generate_options */
    const char *output;      /* a folder that is new or empty; with single_file a new file; required without `packed` */
    const char *dtype;       /* of the weights, "f32", "f16", "bf16" ["f32"] */
    const char *prediction_type; /* of a checkpoint: "epsilon", "v_prediction", "sample" [as it tells] */
    const splam_lora *loras; /* merged in this order */
    size_t lora_count;
    bool fold_guidance; /* cond_proj becomes a part of a bias: the UNet is a plain one, of one guidance */
    double guidance;    /* which; with fold_guidance [the middle of the UNet's guidance range; 1 where it has none, as
                           students told gamma are sampled] */
    bool single_file;   /* one .safetensors under the names of original checkpoints */
    const char *unet;   /* the single file's UNet, "unet"; "unet_ema": a student's average */
    const char *device; /* to merge adapters with and to pack for, "cpu" [cpu] */
    bool packed; /* write packed weights for this processor beside the output, or without one beside the model */
    const char *const *picture_sizes; /* to pack for, "512x768" [the model's own] */
    size_t picture_size_count;
    splam_precision precision; /* to pack for */
} splam_convert_options;
SPLAM_DEFAULTS(convert)

/* Writes a model in another form: adapters merged, then guidance folded, weights in another type, as a diffusers folder
 * or as a single file. Stopped (SPLAM_CANCELLED) or failed, it leaves nothing at `output`. packed: then also writes the
 * files packed-*.splam beside the output's weights, or the model's where there is no output: whoever opens that on such
 * a processor maps them. Errors: SPLAM_ARGUMENT for an output that is there, SPLAM_IO and SPLAM_FORMAT of files,
 * SPLAM_NUMERIC for a weight out of f16's range, SPLAM_UNSUPPORTED for what has no place in a single file. */
SPLAM_API splam_status splam_convert(const splam_convert_options *options, const splam_callbacks *callbacks);

#ifdef __cplusplus
}
#endif
#endif
