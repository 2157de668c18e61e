/* SHA-256, by which published files are known. */
#ifndef SP_BASE_HASH_H
#define SP_BASE_HASH_H
#include <stddef.h>

enum { SP_SHA256_TEXT = 65 };
/* 64 hexadecimal digits. */
void sp_sha256_text(const void *data, size_t size, char out[SP_SHA256_TEXT]);
typedef struct {
    const void *data;
    size_t size;
} sp_piece;
/* Of the pieces one after the other. */
void sp_sha256_pieces(const sp_piece *pieces, size_t count, char out[SP_SHA256_TEXT]);

#endif
