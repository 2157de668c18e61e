/* The options that a model is opened with. */
#include <splam/session.h>
#include "options/options.h"

#define OPTIONS splam_model_options
static const splam_option options[] = {SP_MODEL_PART_OPTIONS};
SP_TABLE(model);
