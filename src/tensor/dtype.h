/* Element types. Everything about a dtype derives from this list: (name, safetensors name, bytes). */
#ifndef SP_TENSOR_DTYPE_H
#define SP_TENSOR_DTYPE_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SP_DTYPE_LIST(X)                                                                           \
    X(F32, "F32", 4)                                                                               \
    X(BF16, "BF16", 2)                                                                             \
    X(F16, "F16", 2)                                                                               \
    X(F8_E4M3, "F8_E4M3", 1) /* of weights in files alone: "fn", no infinities, NaN at 0x7f, 0xff */ \
    X(F8_E5M2, "F8_E5M2", 1) /* likewise: the upper byte of an F16 */                              \
    X(F64, "F64", 8)                                                                               \
    X(I64, "I64", 8)                                                                               \
    X(I32, "I32", 4)                                                                               \
    X(U8, "U8", 1)                                                                                 \
    X(PACKED, "PACKED", 1) /* bytes in a backend's own layout; never in a file */

typedef enum {
#define X(name, text, size) SP_##name,
    SP_DTYPE_LIST(X)
#undef X
        SP_DTYPE_COUNT
} sp_dtype;

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
size_t sp_dtype_size(sp_dtype dtype);
const char *sp_dtype_name(sp_dtype dtype);
int sp_dtype_from_name(const char *name); /* -1 if unknown */

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
 * from f8). */
void sp_convert_elements(void *to, sp_dtype to_dtype, const void *from, sp_dtype from_dtype, int64_t count);

#endif
