/* The directory of a zip archive in memory, for archives whose entries are stored, not compressed:
 * their bytes are used where they lie. */
#ifndef SP_FORMATS_ZIP_H
#define SP_FORMATS_ZIP_H
#include <stddef.h>
#include <stdint.h>
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"

typedef struct {
    const unsigned char *data; /* NULL: compressed or encrypted, and so out of reach */
    size_t size;
} sp_zip_entry;

/* Puts name -> sp_zip_entry (in the arena) for every entry into `entries`; zip64 too. `where` names
 * the file in messages. SP_FORMAT for a damaged or truncated archive, an entry outside it, or two
 * of one name; SP_MEMORY. */
sp_status sp_zip_read(const unsigned char *data, size_t size, const char *where, sp_arena *arena,
                      sp_dictionary *entries);

#endif
