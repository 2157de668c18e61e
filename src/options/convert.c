/* The options of writing a model in another form. */
#include <splam/model.h>
#include "options/options.h"

#define OPTIONS splam_convert_options
static const splam_option options[] = {
    SP_MODEL_OPTION,
    SP_BASE_OPTION,
    {SP_TEXT(output), .letter = 'o', .argument = "OUT",
     .help = "the new folder, or with --single-file the new file; may be left out with --packed"},
    {SP_CHOICE(dtype, "f32|f16|bf16", NULL), .help = "type of the weights", .otherwise = "f32"},
    {SP_LIST(loras, lora_count, SPLAM_OPTION_LORAS), .flag = "merge-lora", .argument = "PATH[:WEIGHT]...",
     .help = "low-rank adapters (a file or its folder; names of diffusers, PEFT, kohya, ComfyUI), added to UNet and "
             "text encoder; WEIGHT is 1 where none is given"},
    {SP_FLAG(fold_guidance), .help = "make cond_proj a part of a bias: a plain UNet, of one guidance"},
    {SP_NUMBER(guidance, 1, 101, SPLAM_UNSET), .letter = 'g', .argument = "G", .needs = "fold_guidance",
     .help = "guidance that is folded, of a student of a guidance range or another latent consistency model",
     .otherwise = "the middle of its range; of one without, 1, as students told gamma are sampled"},
    {SP_FLAG(single_file), .help = "one .safetensors under the original names"},
    {SP_TEXT(unet), .preset_text = "unet", .argument = "NAME",
     .help = "the single file's UNet; unet_ema (transformer_ema) is a student's average"},
    {SP_CHOICE(prediction_type, SP_CHOICES(SP_PREDICTION_TYPE_LIST), NULL),
     .help = "what a checkpoint of one file predicts; sample is the clean latent",
     .otherwise = "what it tells"},
    {SP_FLAG(packed), .help = "write packed weights beside the new model, or without an output beside MODEL"},
    {SP_LIST(picture_sizes, picture_size_count, SPLAM_OPTION_TEXTS), .flag = "size", .argument = "WxH...",
     .help = "sizes of pictures to pack for", .otherwise = "the model's own"},
    {SP_ENUM(precision, "auto|f32|bf16", SPLAM_PRECISION_DEFAULT), .help = "precision to pack for",
     .otherwise = "auto: bf16 where the processor has it"},
    {SP_TEXT(device), .argument = "DEVICE", .help = "to merge adapters with and to pack for", .otherwise = "cpu"},
};
SP_TABLE(convert);
