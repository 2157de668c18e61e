/* SentencePiece's precompiled table of character replacements, as tokenizer.json holds it in base64: normalisation of
 * T5's text. The table is a double array (Darts), whose values are places in a block of texts that end with a NUL. */
#ifndef SP_TEXT_CHARSMAP_H
#define SP_TEXT_CHARSMAP_H
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Zero-initialise: the table that replaces nothing. Release with sp_charsmap_free. */
typedef struct {
    uint8_t *bytes;  /* of the whole */
    uint32_t *units; /* of the double array */
    size_t unit_count;
    const char *texts; /* in bytes; a NUL is the last of them */
    size_t text_size;
} sp_charsmap;

/* Of base64 with padding. Nothing is believed of the table but its sizes: looking something up stays within it whatever
 * it holds. SP_FORMAT, SP_MEMORY. */
sp_status sp_charsmap_read(const char *base64, size_t length, sp_charsmap *out);
void sp_charsmap_free(sp_charsmap *map);

/* Text normalised as Hugging Face's tokenizers do it, a new string (sp_free): of each grapheme of less than six bytes,
 * else of each character of it, the shortest beginning that the table has stands for the whole, and is replaced; what
 * it has no beginning of stays. `text` is UTF-8. SP_MEMORY. */
sp_status sp_charsmap_apply(const sp_charsmap *map, const char *text, size_t length, char **out, size_t *out_length);

#endif
