/* Values of flags. */
#ifndef CLI_OPTION_VALUES_H
#define CLI_OPTION_VALUES_H
#include "options.h"

/* Reads the text into what o->value points to, as o->kind says; a list grows by it. CLI_OK, or CLI_USAGE after a
 * sentence on stderr that names the flag. The text is kept where the value is one. */
int option_read(const option *o, const char *text);

#endif
