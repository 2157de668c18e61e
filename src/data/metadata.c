/* metadata.jsonl and metadata.csv. */
#include "data/metadata.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/file.h"
#include "base/text_file.h"
#include "data/csv.h"
#include "data/picture.h"

void sp_metadata_free(sp_metadata *metadata)
{
    sp_dictionary_destroy(metadata->lines);
    json_decref(metadata->documents);
    *metadata = (sp_metadata){0};
}

typedef struct {
    sp_dataset *dataset;
    const char *folder, *path;
    const char *malformed; /* the reason of rejections */
    sp_metadata *metadata;
} reading;

/* Takes the object over. */
static sp_status add_object(const reading *r, long long line, json_t *object)
{
    char *where = sp_format("%s:%lld", r->path, line);
    const char *file = json_string_value(json_object_get(object, "file_name"));
    const char *column = r->dataset->options.caption_column;
    sp_status status = where ? SP_OK : SP_MEMORY;
    if (!status && (!file || !sp_find_caption(object, column, SP_METADATA_COLUMNS))) {
        char expected[160];
        snprintf(expected, sizeof expected, "expected \"file_name\" and \"%.64s\"%s",
                 column ? column : "text", column ? "" : ", \"caption\" or \"prompt\"");
        sp_dataset_reject_words(r->dataset, r->malformed, where, expected);
    } else if (!status) {
        while (sp_starts_with(file, "./"))
            file += 2;
        char *path = sp_path_join(r->folder, file);
        status = path ? sp_dictionary_put(r->metadata->lines, path, object) : SP_MEMORY;
        sp_free(path);
        if (json_array_append(r->metadata->documents, object))
            status = sp_fail(SP_MEMORY, "out of memory for %s", where);
    }
    json_decref(object);
    sp_free(where);
    return status;
}

/* ---- metadata.jsonl ---- */

/* A bad line is a rejection; only lack of memory is an error. */
static sp_status read_line(const reading *r, long long number, const char *line, size_t size)
{
    json_t *object;
    char *where = sp_format("%s:%lld", r->path, number);
    if (!where) return SP_MEMORY;
    sp_status status = sp_json_parse_lenient(line, size, where, &object);
    if (status == SP_FORMAT)
        sp_dataset_reject_words(r->dataset, r->malformed, where, sp_error_message());
    sp_free(where);
    if (status) return status == SP_FORMAT ? SP_OK : status;
    return add_object(r, number, object);
}

static sp_status read_lines(const reading *r, const char *text, size_t size)
{
    long long number = 1;
    for (size_t at = 0; at < size; number++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        if (strspn(text + at, " \t\r") < length) SP_TRY(read_line(r, number, text + at, length));
        at += length + 1;
    }
    return SP_OK;
}

/* ---- metadata.csv ---- */

/* A number where the whole text is one, else a text; NULL if it is not UTF-8, or out of memory. */
static json_t *value_of(const char *text, bool caption)
{
    char *end;
    double number = strtod(text, &end);
    bool plain = strspn(text, "+-.0123456789eE") == strlen(text); /* no "nan", no hexadecimals */
    return !caption && end != text && !*end && plain ? json_real(number) : json_string(text);
}

static bool is_caption_column(const reading *r, const char *name)
{
    const char *column = r->dataset->options.caption_column;
    return column ? !strcasecmp(name, column) : sp_is_caption_column(name);
}

static sp_status add_row(const reading *r, const sp_csv *row, char *const *header, size_t columns)
{
    json_t *object = row->count == columns ? json_object() : NULL;
    unsigned long failures = sp_alloc_failures();
    for (size_t i = 0; object && i < columns; i++) {
        bool text = !strcmp(header[i], "file_name") || is_caption_column(r, header[i]);
        if (json_object_set_new(object, header[i], value_of(sp_csv_field(row, i), text)) == 0)
            continue;
        json_decref(object);
        object = NULL;
    }
    if (object) return add_object(r, row->line, object);
    if (sp_alloc_failures() != failures) return SP_MEMORY;
    char *where = sp_format("%s:%lld", r->path, row->line), detail[96] = "is not UTF-8";
    if (row->count != columns)
        snprintf(detail, sizeof detail, "%zu fields, and the header has %zu", row->count, columns);
    sp_dataset_reject_words(r->dataset, r->malformed, where ? where : r->path, detail);
    sp_free(where);
    return SP_OK;
}

/* Copies the names of the columns; *has_file: one is "file_name". */
static sp_status copy_header(const sp_csv *row, char **header, bool *has_file)
{
    *has_file = false;
    for (size_t i = 0; i < row->count; i++) {
        header[i] = sp_strdup(sp_csv_field(row, i));
        if (!header[i]) return SP_MEMORY;
        *has_file |= !strcmp(header[i], "file_name");
    }
    return SP_OK;
}

static sp_status read_rows(const reading *r, sp_csv *csv)
{
    bool more, has_file = false;
    SP_TRY(sp_csv_next(csv, &more));
    size_t columns = more ? csv->count : 0;
    char **header = sp_alloc_zero((columns + 1) * sizeof *header);
    sp_status status = header ? SP_OK : SP_MEMORY;
    if (!status && columns) status = copy_header(csv, header, &has_file);
    if (!status && columns && !has_file)
        sp_dataset_reject_words(r->dataset, "metadata.csv without a column \"file_name\"", r->path, NULL);
    while (!status && has_file && more) {
        status = sp_csv_next(csv, &more);
        if (!status && more) status = add_row(r, csv, header, columns);
    }
    for (size_t i = 0; header && i < columns; i++)
        sp_free(header[i]);
    sp_free(header);
    return status;
}

static sp_status read_table(const reading *r, const char *text, size_t size)
{
    sp_csv csv = {.text = text, .size = size};
    sp_status status = read_rows(r, &csv);
    if (status == SP_FORMAT) {
        sp_dataset_reject_words(r->dataset, r->malformed, r->path, sp_error_message());
        status = SP_OK;
    }
    sp_csv_free(&csv);
    return status;
}

/* ---- both ---- */

static sp_status read_file(const reading *r, bool table)
{
    char *text;
    size_t size;
    SP_TRY(sp_read_text(r->path, &text, &size));
    sp_status status = table ? read_table(r, text, size) : read_lines(r, text, size);
    sp_free(text);
    return status;
}

sp_status sp_metadata_read(sp_dataset *dataset, const char *folder, sp_metadata *metadata)
{
    if (!metadata->lines) metadata->lines = sp_dictionary_create();
    if (!metadata->documents) metadata->documents = json_array();
    char *lines = sp_path_join(folder, "metadata.jsonl"),
         *table = sp_path_join(folder, "metadata.csv");
    sp_status status = metadata->lines && metadata->documents && lines && table
                           ? SP_OK
                           : sp_fail(SP_MEMORY, "out of memory for %s", folder);
    bool has_lines = !status && sp_path_exists(lines), has_table = !status && sp_path_exists(table);
    if (has_lines && has_table)
        status = sp_fail(SP_FORMAT, "%s: metadata.jsonl and metadata.csv are both there; one is read",
                         folder);
    reading r = {dataset, folder, has_table ? table : lines,
                 has_table ? "malformed metadata.csv row" : "malformed metadata.jsonl line", metadata};
    if (!status && (has_lines || has_table)) status = read_file(&r, has_table);
    sp_free(lines);
    sp_free(table);
    return status;
}
