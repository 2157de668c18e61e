/* The Unicode a CLIP tokenizer needs: forgiving UTF-8, its normalisation, and three classes of
 * character. */
#ifndef SP_TEXT_UNICODE_H
#define SP_TEXT_UNICODE_H
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef enum {
    SP_CHARACTER_OTHER,
    SP_CHARACTER_LETTER,
    SP_CHARACTER_NUMBER,
    SP_CHARACTER_SPACE
} sp_character;

/* \p{L}, \p{N}, White_Space or none of them, as Hugging Face's tokenizers (Unicode 16) sort them. */
sp_character sp_classify(int32_t point);

/* Bytes to code points; each maximal ill-formed part becomes one U+FFFD, as Python's
 * errors="replace" does. points has room for `length`; returns how many were written. */
size_t sp_utf8_decode(const char *bytes, size_t length, int32_t *points);
/* Code points (valid ones) to bytes; bytes has room for 4 * count; returns how many were written. */
size_t sp_utf8_encode(const int32_t *points, size_t count, char *bytes);

/* NFC (of Unicode 9, as there), then every run of white space to one blank, then lower case
 * character by character (no final sigma; U+0130 becomes two). *out is new (sp_free). SP_MEMORY. */
sp_status sp_normalize_points(const int32_t *points, size_t count, int32_t **out,
                              size_t *out_count);

#endif
