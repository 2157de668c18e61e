/* Comma-separated values (RFC 4180): rows of fields that may be quoted, and then hold commas, line
 * ends and doubled quotes. */
#ifndef SP_DATA_CSV_H
#define SP_DATA_CSV_H
#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

/* Set text and size; the rest zero. Release with sp_csv_free. */
typedef struct {
    const char *text; /* what is still to be read, any bytes */
    size_t size;
    long long next_line;
    long long line;  /* of the row last read, from 1 */
    size_t count;    /* its fields */
    sp_string bytes; /* one after another, each with a NUL */
    size_t *begins;  /* [count] in bytes */
    size_t capacity;
} sp_csv;
/* Reads the next row that is not empty; *more is false when there is none. SP_FORMAT for a quote
 * without its end, after which there is nothing more, SP_MEMORY. */
sp_status sp_csv_next(sp_csv *csv, bool *more);
const char *sp_csv_field(const sp_csv *csv, size_t i); /* of the row last read */
void sp_csv_free(sp_csv *csv);

#endif
