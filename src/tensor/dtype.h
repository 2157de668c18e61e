/* Element types. Everything about a dtype derives from one list. Most have elements with an address of their own. Some
 * are *coded*: an array of them is codes in whole blocks, and f32 scales beside it, "NAME.scales" to a tensor NAME, one
 * for so many elements in the order of memory. An element of those is its scale times what its code stands for. Others
 * are *quantised*: an array of them is whole blocks that have their scales within (tensor/quantised.h), as llama.cpp
 * and stable-diffusion.cpp store weights; an element has a value, but no address. */
#ifndef SP_TENSOR_DTYPE_H
#define SP_TENSOR_DTYPE_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Codes of 8 bits for numbers of many magnitudes (Dettmers, Lewis, Shleifer & Zettlemoyer 2022, arXiv 2110.02861): the
 * scale is the largest magnitude of a block, a code stands for a value of a dynamic tree map. The maps, values of codes
 * in rising order:
 *   signed     -d_126 .. -d_0, 0, d_0 .. d_126, 1; decade i = 0..6 has 2^i values
 *   unsigned   0, d_0 .. d_253, 1;                 decade i = 0..6 has 2^(i+1) values
 * where the n values of decade i are 10^(i-6) (.1 + .9 (k + .5) / n), k = 0..n-1. */
enum {
    SP_DYNAMIC8_BLOCK = 256,
    SP_DYNAMIC8_ZERO = 127 /* the signed map's code of 0; the unsigned one's is 0 */
};

/* (name, safetensors' name, elements of a block, its bytes, elements of a scale or 0) */
#define SP_DTYPE_LIST(X)                                                                                               \
    X(F32, "F32", 1, 4, 0)                                                                                             \
    X(BF16, "BF16", 1, 2, 0)                                                                                           \
    X(F16, "F16", 1, 2, 0)                                                                                             \
    X(F8_E4M3, "F8_E4M3", 1, 1, 0) /* of weights in files alone: "fn", no infinities, NaN at 0x7f, 0xff */             \
    X(F8_E5M2, "F8_E5M2", 1, 1, 0) /* likewise: the upper byte of an F16 */                                            \
    X(Q8_0, "Q8_0", 32, 34, 0) /* weights alone, in GGUF files and in packs: see tensor/quantised.h */                 \
    X(Q5_1, "Q5_1", 32, 24, 0) /* in GGUF files alone, as all that follow to Q6_K */                                   \
    X(Q5_0, "Q5_0", 32, 22, 0)                                                                                         \
    X(Q4_1, "Q4_1", 32, 20, 0)                                                                                         \
    X(Q4_0, "Q4_0", 32, 18, 0)                                                                                         \
    X(Q4_K, "Q4_K", 256, 144, 0)                                                                                       \
    X(Q5_K, "Q5_K", 256, 176, 0)                                                                                       \
    X(Q6_K, "Q6_K", 256, 210, 0)                                                                                       \
    X(F64, "F64", 1, 8, 0)                                                                                             \
    X(I64, "I64", 1, 8, 0)                                                                                             \
    X(I32, "I32", 1, 4, 0)                                                                                             \
    X(U8, "U8", 1, 1, 0)                                                                                               \
    X(DYNAMIC8_SIGNED, "DYNAMIC8_SIGNED", SP_DYNAMIC8_BLOCK, SP_DYNAMIC8_BLOCK, SP_DYNAMIC8_BLOCK) /* in no file */    \
    X(DYNAMIC8_UNSIGNED, "DYNAMIC8_UNSIGNED", SP_DYNAMIC8_BLOCK, SP_DYNAMIC8_BLOCK, SP_DYNAMIC8_BLOCK) /* likewise */

typedef enum {
#define X(name, text, elements, bytes, scale) SP_##name,
    SP_DTYPE_LIST(X)
#undef X
        SP_DTYPE_COUNT
} sp_dtype;

/* Bytes of an array, its last block whole, without scales. SIZE_MAX, which no allocation gives, if elements are fewer
 * than 0 or the bytes are beyond int64_t. */
size_t sp_dtype_bytes(sp_dtype dtype, int64_t elements);
/* Scales that belong to an array; 0 of a dtype that has none. */
int64_t sp_dtype_scales(sp_dtype dtype, int64_t elements);
#define SP_SCALES_SUFFIX ".scales"
/* Whether it has scales beside it. Elements then have no address and no value of their own: sp_dtype_size, sp_load,
 * sp_store and sp_convert_elements abort the program, in every build; sp_tensor_convert fails. */
int sp_dtype_is_coded(sp_dtype dtype);
/* Whether blocks have scales within. sp_dtype_size and sp_store abort the program, for a block is written whole. */
int sp_dtype_is_quantised(sp_dtype dtype);
/* Elements of a block; 1 of a type whose elements have addresses. */
int64_t sp_dtype_block(sp_dtype dtype);
/* Bytes of an element. For who addresses one; what an array takes is sp_dtype_bytes. */
size_t sp_dtype_size(sp_dtype dtype);
const char *sp_dtype_name(sp_dtype dtype);
int sp_dtype_from_name(const char *name); /* of those that a file may name; -1 for others */

/* F64 too. */
static inline int sp_dtype_is_float(sp_dtype dtype)
{
    return dtype == SP_F64 || (unsigned)dtype <= SP_F8_E5M2;
}
_Static_assert(SP_F32 == 0 && SP_BF16 == 1 && SP_F16 == 2 && SP_F8_E4M3 == 3 && SP_F8_E5M2 == 4,
               "the small floats come first");
/* A float type that weights are kept in, and nothing else: it is widened as they are packed. */
static inline int sp_dtype_is_f8(sp_dtype dtype)
{
    return dtype == SP_F8_E4M3 || dtype == SP_F8_E5M2;
}

/* bf16 and f16 <-> f32, round to nearest even; NaN stays NaN. */
static inline float sp_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t sp_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
    uint32_t quiet = (u >> 16) | 0x40; /* NaN */
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}
/* Of F8_E4M3 (Micikevicius et al. 2022, "FP8 Formats for Deep Learning") and F8_E5M2, exactly. Back, in sp_store: to
 * the nearest, even where two are; beyond the largest, 448, NaN in E4M3, and infinity in E5M2, as in PyTorch. */
float sp_f8_e4m3_to_f32(uint8_t code);
float sp_f8_e5m2_to_f32(uint8_t code);
float sp_f16_to_f32(uint16_t h);
uint16_t sp_f32_to_f16(float f);

/* Element i of an array of `dtype`, as double: for reference kernels and tests, where clarity beats
 * speed. */
double sp_load(const void *data, sp_dtype dtype, int64_t i);
void sp_store(void *data, sp_dtype dtype, int64_t i, double value);
/* Converts count elements between any two numeric dtypes (parallel, vectorised for f32/bf16/f16 and
 * from f8). Of quantised types all can be read, and Q8_0 be written, in whole blocks: `count` is a multiple of
 * theirs. */
void sp_convert_elements(void *to, sp_dtype to_dtype, const void *from, sp_dtype from_dtype, int64_t count);

#endif
