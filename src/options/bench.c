/* The options of measuring speed. */
#include <splam/eval.h>
#include "options/options.h"

#define OPTIONS splam_bench_options
static const splam_option options[] = {
    {SP_TEXT(model), .letter = 'm', .argument = "MODEL", .help = "a diffusers folder"},
    {SP_CHOICE(only, "generate|train|operators", NULL), .help = "one part",
     .otherwise = "all, without a model operators"},
    {SP_TEXT(part), .argument = "NAME", .help = "parts whose name contains this, such as unet_forward"},
    {SP_TEXT(op), .flag = "operator", .argument = "NAME", .help = "operators whose name contains this"},
    {SP_INTEGER(width, 1, 16384, SPLAM_UNSET), .letter = 'W', .argument = "PIXELS", .help = "of the model's pictures",
     .otherwise = "its own"},
    {SP_INTEGER(height, 1, 16384, SPLAM_UNSET), .letter = 'H', .argument = "PIXELS", .help = "of the model's pictures",
     .otherwise = "its own"},
    {SP_INTEGER(train_batch_size, 1, 4096, 1), .argument = "N", .help = "samples of a training step"},
    {SP_CHOICE(optimizer, SP_CHOICES(SP_OPTIMIZER_LIST), "adamw"), .help = "of a distillation step"},
    SP_WEIGHTS_OPTION,
    SP_PRECISION_OPTION,
    SP_DEVICE_OPTION,
    {SP_FLAG(json), .help = "print a JSON object"},
    {SP_INTEGER(threads_model, 0, 4096, 0), .argument = "N",
     .help = "instead, of a model's parts: the largest share that one of N threads has of each step, and what that "
             "makes of the whole; one thread works it out, whatever --threads says",
     .otherwise = "0: times are measured"},
    {SP_FLAG(support), .help = "instead: which kernel runs each operator"},
    {SP_FLAG(tune),
     .help = "instead: measure each form of the 3x3 convolutions and print the table of the fastest, which builds of "
             "splam take from src/backend/cpu/convolution_table/"},
};
SP_TABLE(bench);
