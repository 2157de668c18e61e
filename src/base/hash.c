/* SHA-256, by nettle. */
#include "base/hash.h"
#include <nettle/sha2.h>
#include <stdio.h>

void sp_sha256_text(const void *data, size_t size, char out[SP_SHA256_TEXT])
{
    struct sha256_ctx context;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&context);
    sha256_update(&context, size, data);
    sha256_digest(&context, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}
