/* Text files: UTF-8, without the byte order mark that some editors put before it. */
#ifndef SP_BASE_TEXT_FILE_H
#define SP_BASE_TEXT_FILE_H
#include <stddef.h>
#include "base/status.h"

/* Steps over the byte order mark of UTF-8, if `*size` bytes at `*text` begin with one. SP_FORMAT,
 * naming `name`, if they begin with that of UTF-16 or UTF-32. For what is no file of its own. */
sp_status sp_skip_byte_order_mark(const char *name, const char **text, size_t *size);
/* As sp_read_file (base/file.h), less a byte order mark. */
sp_status sp_read_text(const char *path, char **out, size_t *size);
/* All that comes from a descriptor, less a byte order mark; `name` is for messages. SP_IO. */
sp_status sp_read_text_stream(int descriptor, const char *name, char **out, size_t *size);
/* SP_FORMAT, with name, line, byte in the line (both from 1) and its value, for the first byte that
 * is not UTF-8, or is NUL. */
sp_status sp_check_utf8(const char *name, const char *text, size_t size);

#endif
