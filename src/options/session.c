/* The options of a session. */
#include <splam/session.h>
#include "options/options.h"

#define OPTIONS splam_session_options
static const splam_option options[] = {
    {SP_INTEGER(sizes, 1, 64, 4), .argument = "N",
     .help = "sizes of pictures, batches and prompts that are kept side by side of each network"},
};
SP_TABLE(session);
