/* Checksums of a checkpoint's files: found while they are written, verified before they are read.
 * XXH3, 64 bits, as 16 hexadecimal digits; they find damage, not malice. */
#ifndef SP_TRAIN_CHECKSUM_H
#define SP_TRAIN_CHECKSUM_H
#include "base/json.h"
#include "base/progress.h"
#include "formats/weights.h"

#define SP_STATE_FILE "state.json" /* what a checkpoint says of itself */

/* The files of one folder as they are written or verified. */
typedef struct {
    const char *folder;
    json_t *files; /* an object: name -> {"bytes": N, "xxh3": "..."} */
    const sp_callbacks *callbacks;
    const char *task;    /* the bar's label; it is shown when the work takes longer than seconds */
    int64_t done, total; /* bytes */
    double started;      /* sp_now() */
} sp_checksums;

/* Writes folder/NAME.safetensors, every tensor as sp_tensor_stored has it, and adds it to `files`. */
sp_status sp_checksum_save(sp_checksums *sums, const char *name, const sp_weights *weights);

/* Reads NAME.safetensors of each of `names` from the disk. SP_FORMAT if `files` does not describe just these,
 * or if a file's size or checksum is not what was written; SP_IO if it cannot be read or is no regular file (a
 * link is none); SP_CANCELLED. Nothing else that `files` names is looked at, and no more is read than it says:
 * it comes from a file itself. */
sp_status sp_checksum_verify(sp_checksums *sums, const char *const *names, size_t count);

/* Adds "xxh3" of the rest of `object` to it. */
sp_status sp_checksum_seal(json_t *object);
/* SP_FORMAT if the object, the folder's state.json, is not what was sealed. */
sp_status sp_checksum_check_seal(const char *folder, json_t *object);

#endif
