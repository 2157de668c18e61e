/* What reading and writing a latent cache share. */
#ifndef SP_LATENTS_LATENT_CACHE_PARTS_H
#define SP_LATENTS_LATENT_CACHE_PARTS_H
#include "base/json.h"
#include "latents/latent_block.h"
#include "latents/latent_cache.h"

struct sp_latent_cache {
    sp_latent_facts facts;
    int resolution;
    int64_t block_rows; /* samples a block but the last */
    sp_latent_block *blocks;
    int64_t block_count;
    sp_conditioning shape, negative; /* the first a description */
    char *folder;  /* NULL: in memory */
    json_t *index; /* index.json */
    uint64_t key;
    char key_text[17];
};

/* index.json is {"format", "complete", "settings", "teacher", "rejected"}; all that decides what
 * the files hold is in "settings", whose XXH3 is the key of their checksums. */
enum {
    SP_LATENT_FORMAT = 2,
    SP_LATENT_FORMAT_READ = 1, /* from this on: conditioning has old names, which are read (pipeline/conditioning.h) */
};
sp_status sp_latent_settings_key(const json_t *settings, uint64_t *key);
/* New strings; NULL when out of memory. */
char *sp_latent_index_path(const char *folder);
char *sp_latent_block_path(const char *folder, int64_t block);
/* "88d3a1c2f00c1234" */
void sp_latent_hash_text(uint64_t hash, char out[17]);

#endif
