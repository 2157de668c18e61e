/* Which files a command line names. */
#include "named_files.h"

#include <string.h>

/* What a flag of a text names is written; anything else only read. */
static bool is_written(const option *o)
{
    static const char *const names[] = {"output", "outputs", "trace", "save-latents", "sheet", "cache", "sub-paths",
                                        "features", "save-stats"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(o->name, names[i]) == 0) return true;
    return false;
}

void named_files_add_word(named_files *files, const char *word)
{
    if (word && files->read_count < sizeof files->read / sizeof *files->read)
        files->read[files->read_count++] = word;
}

static void add_written(named_files *files, const char *word)
{
    if (files->written_count < sizeof files->written / sizeof *files->written)
        files->written[files->written_count++] = word;
}

void named_files_add_flag(named_files *files, const option *o)
{
    if (o->argument && strcmp(o->argument, "TEXT") == 0) return;
    if (o->kind == OPTION_TEXTS) {
        const option_texts *list = o->value;
        for (size_t i = 0; i < list->count; i++)
            named_files_add_word(files, list->item[i]);
    } else if (o->kind == OPTION_TEXT) {
        const char *text = *(const char *const *)o->value;
        named_files_add_word(files, text);
        /* Without an output's name it lies where the program runs. */
        if (is_written(o) && (text || strcmp(o->name, "output") == 0)) add_written(files, text ? text : ".");
    }
}
