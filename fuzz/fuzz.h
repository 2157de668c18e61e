/* What harnesses share. */
#ifndef SP_FUZZ_FUZZ_H
#define SP_FUZZ_FUZZ_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The library's log goes nowhere from here on. */
void fuzz_quiet(void);

/* ---- a file ---- */

/* The path of a file, in memory, with these bytes; the next call replaces it. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* ---- a folder ---- */

/* The path of a folder, in memory, with the files that the input says: a line "=== NAME" begins one, and what stands
 * before the first such line is in none. names: those that there may be, at most FUZZ_NAMES, ended by NULL, others are
 * passed over; the last of two of a name stays. A NAME that ends in .safetensors is made by fuzz_tensors. The next call
 * replaces all. Files that are no name's may be put beside. */
enum { FUZZ_NAMES = 16 };
const char *fuzz_folder(const uint8_t *data, size_t size, const char *const *names);
/* The path of a file in it, whether it is there or not; the next call replaces it. */
const char *fuzz_path(const char *name);
/* Writes a file beside them. */
void fuzz_write(const char *name, const void *data, size_t size);

/* ---- tensors ---- */

/* A safetensors file with a well-formed header, of what an input says of its tensors: mutated bytes alone would seldom
 * come past lengths and offsets. Lines "NAME DTYPE 2,3" are tensors, in their order, "@KEY VALUE" is metadata, an empty
 * line ends them; their data are the bytes behind it, over and over. Bytes that are a safetensors file's already stay.
 * *size is set; the next call replaces the file. Data end at FUZZ_TENSORS bytes, whatever shapes say. */
enum { FUZZ_TENSORS = 1 << 16 };
const uint8_t *fuzz_tensors(const uint8_t *data, size_t *size);

#endif
