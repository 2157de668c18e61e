/* SHA-256, by nettle. */
#include "base/hash.h"
#include <nettle/sha2.h>
#include <stdio.h>

void sp_sha256_pieces(const sp_piece *pieces, size_t count, char out[SP_SHA256_TEXT])
{
    struct sha256_ctx context;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&context);
    for (size_t i = 0; i < count; i++)
        sha256_update(&context, pieces[i].size, pieces[i].data);
    sha256_digest(&context, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void sp_sha256_text(const void *data, size_t size, char out[SP_SHA256_TEXT])
{
    sp_sha256_pieces(&(sp_piece){data, size}, 1, out);
}
