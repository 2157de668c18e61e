/* The options of looking at a model. */
#include <splam/model.h>
#include "options/options.h"

#define OPTIONS splam_inspect_options
static const splam_option options[] = {
    {SP_TEXT(path), .required = true, .operand = true, .argument = "PATH", .help = "a path"},
    SP_PREDICTION_OPTION,
    {SP_TEXT(device), .argument = "DEVICE", .help = "whose memory is counted", .otherwise = "cpu"},
};
SP_TABLE(inspect);
