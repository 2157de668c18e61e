/* The options of the demonstration. */
#include <splam/eval.h>
#include "options/options.h"

#define OPTIONS splam_demo_options
static const splam_option options[] = {
    {SP_TEXT(output), .preset_text = "demo-out", .letter = 'o', .argument = "DIR",
     .help = "folder for the report and the students"},
    {SP_TEXT(teacher), .argument = "MODEL", .help = "the model to distil",
     .otherwise = "the emoji teacher that comes with splam"},
    {SP_TEXT(data), .preset_text = "emoji:kinds", .argument = "SPEC",
     .help = "pictures and captions that the teacher was trained on: " SP_DATA_SETS},
    {SP_INTEGER(max_train_steps, 1, 1e9, SPLAM_UNSET), .argument = "N",
     .help = "optimiser steps of each student; fewer give worse students, sooner",
     .otherwise = "those that the settings were found for"},
    {SP_INTEGER(count, 2, 1e6, SPLAM_UNSET), .argument = "N", .help = "captions that are measured",
     .otherwise = "80, or all there are"},
    {SP_SEED(seed), .help = "of training, captions and noise"},
    SP_PRECISION_OPTION,
    SP_DEVICE_OPTION,
};
SP_TABLE(demo);
