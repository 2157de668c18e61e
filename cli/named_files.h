/* The files that a command line names, for --sandbox. */
#ifndef CLI_NAMED_FILES_H
#define CLI_NAMED_FILES_H
#include "options.h"

typedef struct {
    const char *read[2 * OPTION_LIST_MAX], *written[OPTION_LIST_MAX];
    size_t read_count, written_count;
} named_files;

/* A word may name a file to read; NULL: none. Beyond the list's end it is left out, and cannot be opened. */
void named_files_add_word(named_files *files, const char *word);
/* The files of a flag that was parsed; a text that is no file, such as a prompt, adds nothing. */
void named_files_add_flag(named_files *files, const option *flag);

#endif
