/* Numbers of few bits in blocks with scales within, as llama.cpp and stable-diffusion.cpp store weights in GGUF files
 * (the types' names and layouts are ggml's). All scales are f16, little-endian; an element of a block is
 *   Q8_0   d q                  34 bytes: d, 32 q of -128..127
 *   Q4_0   d (q - 8)            18: d, 16 bytes, whose low halves are q of elements 0..15, high ones of 16..31
 *   Q4_1   d q + m              20: d, m, the same
 *   Q5_0   d (q - 16)           22: d, 4 bytes whose bit i is bit 4 of element i's q, the same
 *   Q5_1   d q + m              24: d, m, the same
 *   Q4_K   d s q - e m          144: d, e, 12 bytes of s and m, 6 bits each, of eight parts of 32, 128 bytes of q
 *   Q5_K   d s q - e m          176: the same with 32 bytes of the q's bits 4 before those 128
 *   Q6_K   d s (q - 32)         210: 128 bytes of low halves, 64 of the upper two bits, 16 s of -128..127, d
 * computed in f32 from left to right. docs/formats.md has the rule by which weights become Q8_0. */
#ifndef SP_TENSOR_QUANTISED_H
#define SP_TENSOR_QUANTISED_H
#include <stdbool.h>
#include "tensor/dtype.h"

enum { SP_Q8_0_BLOCK = 32, SP_Q8_0_BYTES = 34, SP_Q8_0_SCALE = 2 /* bytes before the codes */ };

/* Elements at .. at+count-1 of an array of a quantised dtype. The last block is there whole. */
void sp_dequantise(sp_dtype dtype, const void *array, int64_t at, int64_t count, float *to);

/* 32 numbers as a block of Q8_0: d = the least f16 that is not below max |x| / 127, q = x / d rounded to nearest, even
 * where two are. A block that was Q8_0 with a code of 127 or -127 becomes what it was. d = 0 where all are 0; NaN, and
 * the block with it, where one is not finite; the largest f16, and codes held within -127..127, beyond. */
void sp_quantise(const float x[SP_Q8_0_BLOCK], void *block);

/* Block `block` of 32 elements of an array as Q8_0 without loss, where the type's scales allow it: Q8_0, Q4_0, Q5_0.
 * False, and nothing is written, for others. */
bool sp_requantise(sp_dtype dtype, const void *array, int64_t block, void *to);

#endif
