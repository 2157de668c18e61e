/* Base64 as JSON carries pictures (RFC 4648). */
#ifndef SERVER_BASE64_H
#define SERVER_BASE64_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A new text (free), with padding; NULL: out of memory. */
char *sv_base64_encode(const uint8_t *bytes, size_t size);
/* *out is new (free). A "data:image/png;base64," before it is left out, padding may be missing, and ends of lines are
 * passed over. False: a character that is none of its 64, a number of characters that none has, or no memory (*out is
 * NULL in every case). */
bool sv_base64_decode(const char *text, size_t length, uint8_t **out, size_t *size);

#endif
