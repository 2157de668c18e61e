/* Reading comma-separated values. */
#include "data/csv.h"
#include <string.h>
#include "base/memory.h"

void sp_csv_free(sp_csv *csv)
{
    sp_string_free(&csv->bytes);
    sp_free(csv->begins);
    *csv = (sp_csv){0};
}

const char *sp_csv_field(const sp_csv *csv, size_t i)
{
    return csv->bytes.data + csv->begins[i];
}

static sp_status begin_field(sp_csv *csv)
{
    if (csv->count == csv->capacity) {
        size_t capacity = csv->capacity ? csv->capacity * 2 : 16;
        size_t *begins = sp_realloc(csv->begins, csv->capacity * sizeof *begins,
                                    capacity * sizeof *begins);
        if (!begins) return SP_MEMORY;
        csv->begins = begins;
        csv->capacity = capacity;
    }
    csv->begins[csv->count++] = csv->bytes.length;
    return SP_OK;
}

/* Appends the text up to the next of `ends`, and steps over it. */
static void take_until(sp_csv *csv, const char *ends)
{
    size_t length = 0;
    while (length < csv->size && (!csv->text[length] || !strchr(ends, csv->text[length]))) {
        csv->next_line += csv->text[length] == '\n';
        length++;
    }
    sp_string_append(&csv->bytes, csv->text, length);
    csv->text += length;
    csv->size -= length;
}

/* Behind an opening quote: up to its end. */
static sp_status take_quoted(sp_csv *csv)
{
    for (;;) {
        take_until(csv, "\"");
        if (!csv->size)
            return sp_fail(SP_FORMAT, "line %lld: a quote without its end", csv->line);
        bool doubled = csv->size > 1 && csv->text[1] == '"';
        if (doubled) sp_string_append(&csv->bytes, "\"", 1);
        csv->text += 1 + doubled;
        csv->size -= 1 + (size_t)doubled;
        if (!doubled) return SP_OK;
    }
}

/* One field; *last: it was the row's last. */
static sp_status take_field(sp_csv *csv, bool *last)
{
    SP_TRY(begin_field(csv));
    if (csv->size && *csv->text == '"') {
        csv->text++;
        csv->size--;
        SP_TRY(take_quoted(csv));
    }
    take_until(csv, ",\r\n"); /* what stands behind a closing quote belongs to the field */
    *last = !csv->size || *csv->text != ',';
    size_t end = csv->size > 1 && !memcmp(csv->text, "\r\n", 2) ? 2 : csv->size > 0;
    csv->next_line += *last && end;
    csv->text += end;
    csv->size -= end;
    sp_string_append(&csv->bytes, "", 1);
    return csv->bytes.failed ? SP_MEMORY : SP_OK;
}

sp_status sp_csv_next(sp_csv *csv, bool *more)
{
    if (!csv->next_line) csv->next_line = 1;
    *more = false;
    do {
        if (!csv->size) return SP_OK;
        csv->line = csv->next_line;
        csv->count = 0;
        csv->bytes.length = 0;
        for (bool last = false; !last;)
            SP_TRY(take_field(csv, &last));
    } while (csv->count == 1 && !*sp_csv_field(csv, 0));
    *more = true;
    return SP_OK;
}
