/* The options of making ids of a text. */
#include <splam/model.h>
#include "options/options.h"

#define OPTIONS splam_tokenize_options
static const splam_option options[] = {
    {SP_TEXT(model), .letter = 'm', .argument = "MODEL", .required = true,
     .help = "a diffusers folder, or a tokenizer's own"},
    {SP_TEXT(text), .required = true, .operand = true, .argument = "TEXT", .help = "a text"},
};
SP_TABLE(tokenize);
