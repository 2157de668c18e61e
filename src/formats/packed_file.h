/* Packed weights in a file beside a model's: what a device's kernels make of weights before they run, byte by byte as
 * they read it, so that it is mapped and used where it lies, by all processes together.
 *
 * PREFIXpacked-SET-PRECISION.splam, SET being the instruction set, is a safetensors file. A tensor "KEY:BYTES:NAME",
 * U8 [BYTES], is weight NAME in the layout that graph/device.h calls KEY (16 hexadecimal digits), at a multiple of 64
 * bytes in the file, from 64 KiB on of 4,096; between them "padding:N". The metadata say what it depends on: `format`,
 * the device's terms, and which file the weights are of (sp_packed_open).
 *
 * What is asked for is looked for by (NAME, KEY, BYTES), so nothing in such a file makes a kernel read beside it. That
 * the bytes are those of the weights is believed, as it is believed of a model's own file. */
#ifndef SP_FORMATS_PACKED_FILE_H
#define SP_FORMATS_PACKED_FILE_H
#include "formats/tensor_file.h"

/* What layouts depend on beside a key: pairs of a name and a text that were the same when the file was written. The
 * first is the instruction set. */
typedef struct {
    const char *const (*pair)[2];
    size_t count;
} sp_packed_terms;

typedef struct {
    const char *name;
    uint64_t key;
    size_t bytes;
    const void *data;
} sp_packed_weight;

/* Written beside and renamed. `source` is what the weights are views of; it is read whole, for its sum. */
sp_status sp_packed_save(const char *path, const sp_packed_weight *weights, size_t count, const sp_packed_terms *terms,
                         const sp_tensor_file *source, const sp_callbacks *callbacks);

typedef struct sp_packed_file sp_packed_file;
/* SP_FORMAT for bytes that do not follow the format; SP_UNSUPPORTED, saying what was found and what is here, where it
 * was written under other terms or of other weights. It is of `source` if that has the stamp (sizes and times) and the
 * hash (a part of each tensor) that it had then; with another stamp, as a copy has, all of `source` is read and
 * summed, which a message tells. */
sp_status sp_packed_open(const char *path, const sp_packed_terms *terms, const sp_tensor_file *source,
                         sp_packed_file **out);
void sp_packed_close(sp_packed_file *file); /* NULL is legal */
const char *sp_packed_path(const sp_packed_file *file);
/* Where weight `name` lies in the layout; NULL: it does not. */
const void *sp_packed_find(const sp_packed_file *file, const char *name, uint64_t key, size_t bytes);
bool sp_packed_knows(const sp_packed_file *file, const char *name); /* in some layout */
/* As sp_tensor_file_check and sp_tensor_file_drop. */
sp_status sp_packed_check(const sp_packed_file *file);
void sp_packed_drop(const sp_packed_file *file, const void *data, size_t bytes);

/* Whether a name in a folder is that of such a file. */
bool sp_packed_is_name(const char *name);

/* The files for one set of weights, opened when they are first asked for. Any thread. */
typedef struct sp_packed_place sp_packed_place;
sp_status sp_packed_place_create(const char *prefix, const sp_tensor_file *source, sp_packed_place **out);
void sp_packed_place_destroy(sp_packed_place *place); /* closes them; NULL is legal */
char *sp_packed_place_path(const sp_packed_place *place, const sp_packed_terms *terms, const char *precision); /* new */
/* NULL where there is none that fits; if there is one that does not, a message has said once why. */
const sp_packed_file *sp_packed_place_open(sp_packed_place *place, const sp_packed_terms *terms, const char *precision);
/* Says once of a file, with what it has and what was asked for, that weights are packed that it might have had. */
void sp_packed_place_miss(sp_packed_place *place, const sp_packed_file *file, int other_layout, int changed, int all);
sp_status sp_packed_place_check(sp_packed_place *place); /* sp_packed_check of all */

#endif
