/* The options of writing a model in another form. */
#include <splam/model.h>
#include "options/options.h"

#define OPTIONS splam_convert_options
static const splam_option options[] = {
    SP_MODEL_OPTION,
    {SP_TEXT(output), .letter = 'o', .argument = "OUT", .required = true,
     .help = "the new folder, or with --single-file the new file"},
    {SP_CHOICE(dtype, "f32|f16|bf16", "f32"), .help = "type of the weights"},
    {SP_LIST(loras, lora_count, SPLAM_OPTION_LORAS), .flag = "merge-lora", .argument = "PATH[:WEIGHT]...",
     .help = "low-rank adapters (a file or its folder; names of diffusers, PEFT, kohya, ComfyUI), added to UNet and "
             "text encoder; WEIGHT is 1 where none is given"},
    {SP_FLAG(fold_guidance), .help = "make cond_proj, at gamma = 1, a part of a bias: a plain UNet"},
    {SP_FLAG(single_file), .help = "one .safetensors under the original names"},
    {SP_TEXT(unet), .preset_text = "unet", .argument = "NAME",
     .help = "the single file's UNet; unet_ema is a student's average"},
    {SP_CHOICE(prediction_type, "epsilon|v_prediction", NULL), .help = "what a checkpoint of one file predicts",
     .otherwise = "what it tells"},
    {SP_TEXT(device), .argument = "DEVICE", .help = "to merge adapters with", .otherwise = "cpu"},
};
SP_TABLE(convert);
