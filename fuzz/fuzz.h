/* What harnesses share. */
#ifndef SP_FUZZ_FUZZ_H
#define SP_FUZZ_FUZZ_H
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file, in memory, with these bytes; the next call replaces it. */
const char *fuzz_file(const uint8_t *data, size_t size);

#endif
