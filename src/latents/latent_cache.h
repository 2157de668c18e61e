/* Encoded training samples, VAE moments and conditioning: in memory, or a folder that `splam data
 * --cache` wrote, `latents:DIR`, which is mapped, so that training holds a few samples at a time.
 *
 * DIR/index.json has the settings, what was rejected and whether the cache is complete; sample k
 * lies in DIR/latents-K.safetensors, K = k / SP_LATENT_BLOCK, in the layout of latents/latent_block.h.
 * Latents are drawn from the moments at every use, as PyTorch scripts do with latent_dist.sample(). */
#ifndef SP_LATENTS_LATENT_CACHE_H
#define SP_LATENTS_LATENT_CACHE_H
#include "data/dataset.h"
#include "pipeline/pipeline.h"

/* Samples a file: few enough that little is lost when the power goes. */
enum { SP_LATENT_BLOCK = 256 };

/* Immutable once open; for several threads at once. */
typedef struct sp_latent_cache sp_latent_cache;

typedef struct {
    int64_t count;                   /* samples */
    int64_t channels, height, width; /* of a latent */
    bool gaussian;         /* moments are [2C,h,w]: mean, log variance; else [C,h,w], the latent */
    bool flips;            /* there are moments of the mirrored pictures too */
    int64_t tokens_behind; /* of zeros, which are not stored, behind a caption's */
    bool t5;               /* they are T5's instead, and stored */
    double scaling_factor, shift_factor; /* what a UNet sees is factor * (latent - shift) */
} sp_latent_facts;

/* Opens a complete cache. SP_IO, SP_FORMAT naming the file; SP_ARGUMENT if it is not complete. */
sp_status sp_latent_cache_open(const char *folder, sp_latent_cache **out);
/* Encodes all training samples into memory, f32. With the data set's random_flip also mirrored. */
sp_status sp_latent_cache_encode(sp_dataset *dataset, sp_pipeline *pipeline,
                                 const sp_callbacks *callbacks, sp_latent_cache **out);
void sp_latent_cache_close(sp_latent_cache *cache); /* NULL is legal */

typedef struct {
    const char *teacher; /* path, for messages and the index */
    sp_dtype dtype;      /* of what is stored: SP_F16 or SP_F32 */
} sp_latent_cache_options;
/* Writes DIR, file by file, each beside and renamed; the pipeline has VAE and text encoder. Files
 * that are there already and whole are kept, so a run that was stopped goes on: the result is the
 * same. With the data set's random_flip mirrored pictures are encoded too. SP_ARGUMENT, naming what
 * differs, if DIR holds a cache of other settings. SP_CANCELLED after saving what is done. */
sp_status sp_latent_cache_write(sp_dataset *dataset, sp_pipeline *pipeline,
                                const sp_latent_cache_options *options, const char *folder,
                                const sp_callbacks *callbacks);

const sp_latent_facts *sp_latent_cache_facts(const sp_latent_cache *cache);
/* The captions' conditioning, described, and that of the empty caption, of one row, f32. */
const sp_conditioning *sp_latent_cache_conditioning(const sp_latent_cache *cache);
const sp_conditioning *sp_latent_cache_negative(const sp_latent_cache *cache);
const char *sp_latent_cache_caption(const sp_latent_cache *cache, int64_t k);
/* What tells caches apart, from their settings, in hexadecimal; "" for one in memory. */
const char *sp_latent_cache_key(const sp_latent_cache *cache);
int sp_latent_cache_resolution(const sp_latent_cache *cache); /* pixels */
size_t sp_latent_cache_bytes(const sp_latent_cache *cache);   /* in memory; 0: it is mapped */

/* Sample k: moments [2C,h,w] (or [C,h,w]) as f32 and, if `to` is not NULL, its conditioning into row `row` of that set,
 * made like the cache's. SP_FORMAT, naming the file, if its checksum is wrong; SP_ARGUMENT for flipped where there are
 * no flips. */
sp_status sp_latent_cache_read(const sp_latent_cache *cache, int64_t k, bool flipped,
                               float *moments, sp_conditioning *to, int64_t row);
/* Reads every sample's checksum. */
sp_status sp_latent_cache_verify(const sp_latent_cache *cache, const sp_callbacks *callbacks);

/* SP_ARGUMENT, naming both, if the model's VAE or text encoder is not the one that made the cache.
 * They are told apart by names, types, shapes and the first bytes of their tensors. */
sp_status sp_latent_cache_check_teacher(const sp_latent_cache *cache, const char *model);

/* SP_ARGUMENT, naming both, if T5 at `path` (checkpoints/t5_file.h) is not the one that made the cache. */
sp_status sp_latent_cache_check_t5(const sp_latent_cache *cache, const char *path);

/* Lines for people: what is in it and what was rejected when it was made. */
void sp_latent_cache_summary(const sp_latent_cache *cache, sp_string *out);

#endif
