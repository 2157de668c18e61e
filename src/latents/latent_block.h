/* A block of encoded samples: in memory while it is made, or a view of one file of a latent cache.
 *
 * In the file, n samples, T being F16 or F32:
 *   moments          T [n,2C,h,w]  the VAE's posterior, mean then log variance, neither scaled; of
 *                                  an AutoencoderTiny [n,C,h,w], the latent
 *   moments_flipped  T the same    of the mirrored picture, where flips were asked for
 *   conditioning.NAME  T [n,...]   of the captions (pipeline/conditioning.h); rows of less than 64 numbers, as sizes
 *                                  are, as F32
 *   negative.NAME    the same [1,...]  of the empty caption
 *   sample           I64 [n]       numbers in the data set of the pictures that were encoded
 *   text             U8            name and caption of each, all ended by a 0 byte
 *   text_ends        I64 [n,2]     where each of them ends in `text`, the 0 included
 *   checksums        I64 [n+1]     XXH3 of each sample's bytes, and of the empty caption's */
#ifndef SP_LATENTS_LATENT_BLOCK_H
#define SP_LATENTS_LATENT_BLOCK_H
#include "formats/safetensors.h"
#include "pipeline/conditioning.h"

typedef struct {
    int64_t rows, filled; /* samples that there is room for, that have moments */
    sp_tensor moments[2]; /* data NULL: not yet, or, of [1], no flips */
    sp_conditioning conditioning, negative;
    sp_tensor sample, text, text_ends, checksums;
    sp_tensor_file *file; /* NULL: the tensors are owned */
} sp_latent_block;

void sp_latent_block_free(sp_latent_block *block); /* zeroed is legal; leaves it zeroed */

/* The XXH3 of row i as it is stored, begun with that of `key` and of the row's number in the
 * whole cache, so that no sample stands in another's place. Row `rows`: the empty caption's. */
uint64_t sp_latent_block_checksum(const sp_latent_block *block, uint64_t key, int64_t first,
                                  int64_t i);
/* SP_FORMAT, naming the file, if row i is not as it was written. */
sp_status sp_latent_block_check(const sp_latent_block *block, uint64_t key, int64_t first,
                                int64_t i);

/* Writes the rows filled, and what else there is; beside and renamed. */
sp_status sp_latent_block_save(const sp_latent_block *block, const char *path, uint64_t key,
                               int64_t first);
/* Opens a file of `rows` samples, or, where `partial`, of at most so many, which hold moments
 * alone. SP_IO, SP_FORMAT, SP_SHAPE. Rows are not checked yet. */
sp_status sp_latent_block_open(const char *path, int64_t rows, bool flips, bool partial,
                               sp_latent_block *out);

const char *sp_latent_block_name(const sp_latent_block *block, int64_t i);
const char *sp_latent_block_caption(const sp_latent_block *block, int64_t i);

#endif
