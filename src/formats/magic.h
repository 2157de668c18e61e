/* What bytes are that are no file of tensors, for messages. */
#ifndef SP_FORMATS_MAGIC_H
#define SP_FORMATS_MAGIC_H
#include <stddef.h>

/* "a GGUF file", "an HTML page", "a text", ..., by the first bytes; NULL if they are not known, and for files of
 * tensors. Static text. */
const char *sp_magic_text(const unsigned char *data, size_t size);

#endif
