/* The options of running one component. */
#include <splam/model.h>
#include "options/options.h"

#define OPTIONS splam_forward_options
static const splam_option options[] = {
    {SP_TEXT(model), .letter = 'm', .argument = "MODEL", .required = true,
     .help = "a diffusers folder, or the component's own"},
    {SP_CHOICE(component, "unet|transformer|vae-encoder|vae-decoder|text-encoder|text-encoder-2", NULL),
     .required = true,
     .help = "which part to run"},
    {SP_TEXT(inputs), .letter = 'i', .argument = "FILE", .required = true, .help = "safetensors with the inputs above"},
    {SP_TEXT(outputs), .letter = 'o', .argument = "FILE", .required = true, .help = "safetensors to write, f32"},
    SP_PRECISION_OPTION,
    SP_DEVICE_OPTION,
};
SP_TABLE(forward);
