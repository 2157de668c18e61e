/* Files of captions, a line for each picture. */
#include "eval/caption_lines.h"
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text_file.h"

/* The lines of text, of which the last may end with the file. */
static sp_status cut_lines(sp_caption_lines *c, char *text, size_t size)
{
    char *end = text + size;
    for (char *line = text; line < end; c->count++) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        *stop = 0;
        if (strspn(line, " \t\r") == strlen(line))
            return sp_fail(SP_FORMAT, "%s, line %lld: is blank; each line is the caption of one picture", c->path,
                           (long long)c->count + 1);
        c->line[c->count] = line;
        line = stop + 1;
    }
    return SP_OK;
}

static sp_status load(sp_caption_lines *c)
{
    size_t size, lines = 1;
    const char *text;
    SP_TRY(sp_read_file(c->path, &c->text, &size));
    sp_sha256_text(c->text, size, c->sha256);
    text = c->text;
    SP_TRY(sp_skip_byte_order_mark(c->path, &text, &size));
    SP_TRY(sp_check_utf8(c->path, text, size));
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    c->line = sp_alloc(lines * sizeof *c->line);
    return c->line ? cut_lines(c, c->text + (text - c->text), size) : SP_MEMORY;
}

sp_status sp_caption_lines_load(const char *path, sp_caption_lines *out)
{
    *out = (sp_caption_lines){.path = path};
    sp_status status = load(out);
    if (status) sp_caption_lines_free(out);
    return status;
}

void sp_caption_lines_free(sp_caption_lines *c)
{
    sp_free(c->text);
    sp_free(c->line);
    *c = (sp_caption_lines){0};
}
