/* The options of looking at data. */
#include <splam/data.h>
#include "options/options.h"

#define OPTIONS splam_data_options
static const splam_option options[] = {
    {SP_TEXT(spec), .required = true, .operand = true, .argument = "SPEC", .help = "a data set: " SP_DATA_SETS},
    {SP_TEXT(sheet), .argument = "out.png", .heading = "The sheet",
     .help = "draw pictures of the set with their captions"},
    {SP_INTEGER(count, 1, 1000, SPLAM_UNSET), .argument = "N", .needs = "sheet", .help = "pictures on the sheet",
     .otherwise = "48"},
    {SP_SEED(seed), .help = "of the sheet's choice, of crops and flips"},
    SP_PICTURE_OPTIONS,
    {SP_TEXT(cache), .argument = "DIR", .heading = "The cache",
     .help = "write VAE moments and text contexts there, for --data latents:DIR"},
    {SP_TEXT(teacher), .argument = "MODEL", .needs = "cache",
     .help = "whose VAE and text encoder make them (required with --cache)"},
    {SP_CHOICE(cache_dtype, "f16|f32", NULL), .needs = "cache", .help = "of what is stored", .otherwise = "f16"},
    SP_T5_OPTIONS,
    SP_PRECISION_OPTION_UNDER("Computing"),
    SP_DEVICE_OPTION,
};
SP_TABLE(data);
