/* Element types and conversion between them. */
#include "tensor/dtype.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/parallel.h"
#include "tensor/quantised.h"

static const struct {
    const char *name;
    int64_t elements, bytes; /* of a block */
    int64_t scale;           /* elements of one; 0: there are none */
} dtypes[SP_DTYPE_COUNT] = {
#define X(name, text, elements, bytes, scale) {text, elements, bytes, scale},
    SP_DTYPE_LIST(X)
#undef X
};

/* Without overflow. */
static int64_t divide_up(int64_t count, int64_t by)
{
    return count / by + (count % by != 0);
}

size_t sp_dtype_bytes(sp_dtype dtype, int64_t elements)
{
    int64_t bytes;
    if ((unsigned)dtype >= SP_DTYPE_COUNT || elements < 0) return SIZE_MAX;
    int64_t blocks = divide_up(elements, dtypes[dtype].elements);
    return __builtin_mul_overflow(blocks, dtypes[dtype].bytes, &bytes) ? SIZE_MAX : (size_t)bytes;
}

int64_t sp_dtype_scales(sp_dtype dtype, int64_t elements)
{
    return sp_dtype_is_coded(dtype) ? divide_up(elements, dtypes[dtype].scale) : 0;
}

int sp_dtype_is_coded(sp_dtype dtype)
{
    return (unsigned)dtype < SP_DTYPE_COUNT && dtypes[dtype].scale > 0;
}

int sp_dtype_is_quantised(sp_dtype dtype)
{
    return sp_dtype_block(dtype) > 1 && !sp_dtype_is_coded(dtype);
}

int64_t sp_dtype_block(sp_dtype dtype)
{
    return (unsigned)dtype < SP_DTYPE_COUNT ? dtypes[dtype].elements : 1;
}

/* An error of the program: a code is no number, and to go on with one would be to compute nonsense. */
static _Noreturn void refuse_element(sp_dtype dtype)
{
    sp_log_warn("%s has no elements of their own, only codes with scales", sp_dtype_name(dtype));
    abort();
}

size_t sp_dtype_size(sp_dtype dtype)
{
    if ((unsigned)dtype >= SP_DTYPE_COUNT || sp_dtype_block(dtype) > 1) refuse_element(dtype);
    return (size_t)dtypes[dtype].bytes;
}

const char *sp_dtype_name(sp_dtype dtype)
{
    return (unsigned)dtype < SP_DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

int sp_dtype_from_name(const char *name)
{
    for (int i = 0; i < SP_DTYPE_COUNT; i++)
        if (dtypes[i].elements == 1 && strcmp(name, dtypes[i].name) == 0) return i;
    return -1;
}

static inline uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Both half-precision conversions are written without branches, so that loops over them vectorise. */
static inline float half_to_float(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    uint32_t exponent = magnitude & 0x0f800000u;
    uint32_t normal = magnitude + (112u << 23);
    /* A subnormal's digits become the low digits of 2^-14, which is then taken away again. */
    uint32_t subnormal = float_bits(bits_float(magnitude + (113u << 23)) - 0x1p-14f);
    uint32_t bits = exponent == 0 ? subnormal : normal;
    bits = exponent == 0x0f800000u ? magnitude + (224u << 23) : bits; /* infinity and NaN */
    return bits_float(bits | (uint32_t)(h & 0x8000) << 16);
}

static inline uint16_t float_to_half(float f)
{
    uint32_t bits = float_bits(f);
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    /* Adding 0.5 leaves the multiples of 2^-24 in the low digits, rounded by the processor. */
    uint32_t small = magnitude < 0x38800000u ? magnitude : 0;
    uint32_t subnormal = float_bits(bits_float(small) + 0.5f) - 0x3f000000u;
    uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
    half = magnitude >= 0x477ff000u ? 0x7c00u : half; /* 65520 and more round to infinity */
    half = magnitude > 0x7f800000u ? 0x7e00u | (magnitude >> 13 & 0x3ffu) : half;
    return (uint16_t)(half | (bits >> 16 & 0x8000u));
}

/* A subnormal's three digits become the low ones of 2^-6, as a half's above. */
static inline float e4m3_to_float(uint8_t code)
{
    uint32_t magnitude = (uint32_t)(code & 0x7f) << 20;
    uint32_t normal = magnitude + (120u << 23);
    uint32_t subnormal = float_bits(bits_float(magnitude + (121u << 23)) - 0x1p-6f);
    uint32_t bits = (code & 0x78) == 0 ? subnormal : normal;
    bits = (code & 0x7f) == 0x7f ? 0x7fc00000u : bits;
    return bits_float(bits | (uint32_t)(code & 0x80) << 24);
}

static inline float e5m2_to_float(uint8_t code)
{
    return half_to_float((uint16_t)(code << 8));
}

float sp_f8_e4m3_to_f32(uint8_t code)
{
    return e4m3_to_float(code);
}

float sp_f8_e5m2_to_f32(uint8_t code)
{
    return e5m2_to_float(code);
}

/* Codes without their sign are in the order of their values. */
static uint8_t nearest_f8(bool e4m3, double value)
{
    float (*decode)(uint8_t) = e4m3 ? e4m3_to_float : e5m2_to_float;
    uint8_t sign = signbit(value) ? 0x80 : 0, low = 0, last = e4m3 ? 0x7e : 0x7b, high = last;
    double magnitude = fabs(value);
    if (isnan(value)) return sign | 0x7f;
    while (low < high) {
        uint8_t middle = (uint8_t)((low + high + 1) / 2);
        if ((double)decode(middle) <= magnitude)
            low = middle;
        else
            high = (uint8_t)(middle - 1);
    }
    double at = (double)decode(low);
    double step = low == last ? at - (double)decode(low - 1) : (double)decode(low + 1) - at;
    bool up = magnitude > at + step / 2 || (magnitude == at + step / 2 && low & 1);
    return sign | (uint8_t)(low + up); /* behind the last: NaN of E4M3, infinity of E5M2 */
}

float sp_f16_to_f32(uint16_t h)
{
    return half_to_float(h);
}

uint16_t sp_f32_to_f16(float f)
{
    return float_to_half(f);
}

#define LOAD(type, data, i)                                                                        \
    ({                                                                                             \
        type sp_value;                                                                             \
        memcpy(&sp_value, (const char *)(data) + (i) * (int64_t)sizeof(type), sizeof(type));       \
        sp_value;                                                                                  \
    })

static double load_quantised(const void *data, sp_dtype dtype, int64_t i)
{
    float value;
    sp_dequantise(dtype, data, i, 1, &value);
    return (double)value;
}

double sp_load(const void *data, sp_dtype dtype, int64_t i)
{
    switch (dtype) {
    case SP_F32:
        return (double)LOAD(float, data, i);
    case SP_BF16:
        return (double)sp_bf16_to_f32(LOAD(uint16_t, data, i));
    case SP_F16:
        return (double)half_to_float(LOAD(uint16_t, data, i));
    case SP_F8_E4M3:
        return (double)e4m3_to_float(LOAD(uint8_t, data, i));
    case SP_F8_E5M2:
        return (double)e5m2_to_float(LOAD(uint8_t, data, i));
    case SP_F64:
        return LOAD(double, data, i);
    case SP_I64:
        return (double)LOAD(int64_t, data, i);
    case SP_I32:
        return (double)LOAD(int32_t, data, i);
    case SP_U8:
        return (double)LOAD(uint8_t, data, i);
    default:
        if (!sp_dtype_is_quantised(dtype)) refuse_element(dtype);
        return load_quantised(data, dtype, i);
    }
}

/* Towards zero, held within [low, high]; NaN gives 0. */
static double clamp_integer(double value, double low, double high)
{
    if (isnan(value)) return 0;
    return value < low ? low : value > high ? high : trunc(value);
}

static int64_t to_int64(double value)
{
    /* 2^63 itself is a double but no int64. */
    if (value >= 0x1p63) return INT64_MAX;
    return (int64_t)clamp_integer(value, -0x1p63, 0x1p63);
}

#define STORE(type, data, i, expression)                                                           \
    do {                                                                                           \
        type sp_value = (expression);                                                              \
        memcpy((char *)(data) + (i) * (int64_t)sizeof(type), &sp_value, sizeof(type));             \
    } while (0)

void sp_store(void *data, sp_dtype dtype, int64_t i, double value)
{
    switch (dtype) {
    case SP_F32:
        STORE(float, data, i, (float)value);
        break;
    case SP_BF16:
        STORE(uint16_t, data, i, sp_f32_to_bf16((float)value));
        break;
    case SP_F16:
        STORE(uint16_t, data, i, float_to_half((float)value));
        break;
    case SP_F8_E4M3:
    case SP_F8_E5M2:
        STORE(uint8_t, data, i, nearest_f8(dtype == SP_F8_E4M3, value));
        break;
    case SP_F64:
        STORE(double, data, i, value);
        break;
    case SP_I64:
        STORE(int64_t, data, i, to_int64(value));
        break;
    case SP_I32:
        STORE(int32_t, data, i, (int32_t)clamp_integer(value, INT32_MIN, INT32_MAX));
        break;
    case SP_U8:
        STORE(uint8_t, data, i, (uint8_t)clamp_integer(value, 0, 255));
        break;
    default:
        refuse_element(dtype);
    }
}

/* Tensors in a mapped file may lie at any address. */
typedef float __attribute__((aligned(1), may_alias)) unaligned_float;
typedef uint16_t __attribute__((aligned(1), may_alias)) unaligned_half;

static inline float same_float(float f)
{
    return f;
}

typedef void convert_loop(void *restrict to, const void *restrict from, int64_t count);

/* One plain loop per pair of float types; each is a shape that the compiler vectorises. All loops
 * once for each instruction set: integer and exact floating-point operations, so the same bits. */
#define CONVERT_LOOP(attribute, name, to_type, from_type, encode, decode)                          \
    attribute static void name(void *restrict to, const void *restrict from, int64_t count)        \
    {                                                                                              \
        to_type *restrict y = to;                                                                  \
        const from_type *restrict x = from;                                                        \
        for (int64_t i = 0; i < count; i++)                                                        \
            y[i] = encode(decode(x[i]));                                                           \
    }
#define F8_LOOPS(isa, attribute, form)                                                             \
    CONVERT_LOOP(attribute, f32_from_##form##_##isa, unaligned_float, uint8_t, same_float,         \
                 form##_to_float)                                                                  \
    CONVERT_LOOP(attribute, bf16_from_##form##_##isa, unaligned_half, uint8_t, sp_f32_to_bf16,     \
                 form##_to_float)                                                                  \
    CONVERT_LOOP(attribute, f16_from_##form##_##isa, unaligned_half, uint8_t, float_to_half,       \
                 form##_to_float)
#define CONVERT_LOOPS(isa, attribute)                                                              \
    CONVERT_LOOP(attribute, f32_from_bf16_##isa, unaligned_float, unaligned_half, same_float,      \
                 sp_bf16_to_f32)                                                                   \
    CONVERT_LOOP(attribute, f32_from_f16_##isa, unaligned_float, unaligned_half, same_float,       \
                 half_to_float)                                                                    \
    CONVERT_LOOP(attribute, bf16_from_f32_##isa, unaligned_half, unaligned_float, sp_f32_to_bf16,  \
                 same_float)                                                                       \
    CONVERT_LOOP(attribute, f16_from_f32_##isa, unaligned_half, unaligned_float, float_to_half,    \
                 same_float)                                                                       \
    CONVERT_LOOP(attribute, bf16_from_f16_##isa, unaligned_half, unaligned_half, sp_f32_to_bf16,   \
                 half_to_float)                                                                    \
    CONVERT_LOOP(attribute, f16_from_bf16_##isa, unaligned_half, unaligned_half, float_to_half,    \
                 sp_bf16_to_f32)                                                                   \
    F8_LOOPS(isa, attribute, e4m3)                                                                 \
    F8_LOOPS(isa, attribute, e5m2)                                                                 \
    static convert_loop *const loops_##isa[TARGETS][SOURCES] = {                                   \
        [SP_F32] = {[SP_BF16] = f32_from_bf16_##isa,                                               \
                    [SP_F16] = f32_from_f16_##isa,                                                 \
                    [SP_F8_E4M3] = f32_from_e4m3_##isa,                                            \
                    [SP_F8_E5M2] = f32_from_e5m2_##isa},                                           \
        [SP_BF16] = {[SP_F32] = bf16_from_f32_##isa,                                               \
                     [SP_F16] = bf16_from_f16_##isa,                                               \
                     [SP_F8_E4M3] = bf16_from_e4m3_##isa,                                          \
                     [SP_F8_E5M2] = bf16_from_e5m2_##isa},                                         \
        [SP_F16] = {[SP_F32] = f16_from_f32_##isa,                                                 \
                    [SP_BF16] = f16_from_bf16_##isa,                                               \
                    [SP_F8_E4M3] = f16_from_e4m3_##isa,                                            \
                    [SP_F8_E5M2] = f16_from_e5m2_##isa},                                           \
    };
enum { TARGETS = SP_F16 + 1, SOURCES = SP_F8_E5M2 + 1 }; /* F32, BF16 and F16 come first, then F8 */

CONVERT_LOOPS(baseline, )
#ifdef __x86_64__
CONVERT_LOOPS(avx2, __attribute__((target("avx2"))))
CONVERT_LOOPS(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,prefer-vector-width=512"))))
#endif

static convert_loop *find_loop(sp_dtype to, sp_dtype from)
{
    if ((int)to >= TARGETS || (int)from >= SOURCES) return NULL;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return loops_avx512[to][from];
    if (__builtin_cpu_supports("avx2")) return loops_avx2[to][from];
#endif
    return loops_baseline[to][from];
}

typedef struct {
    char *to;
    const char *from;
    sp_dtype to_dtype, from_dtype;
    convert_loop *loop; /* NULL: element by element */
} conversion;

static void convert_range(void *context, int64_t begin, int64_t end)
{
    const conversion *c = context;
    int64_t to_size = (int64_t)sp_dtype_size(c->to_dtype),
            from_size = (int64_t)sp_dtype_size(c->from_dtype);
    if (c->to_dtype == c->from_dtype) {
        memcpy(c->to + begin * to_size, c->from + begin * from_size,
               (size_t)((end - begin) * to_size));
    } else if (c->loop) {
        c->loop(c->to + begin * to_size, c->from + begin * from_size, end - begin);
    } else {
        for (int64_t i = begin; i < end; i++)
            sp_store(c->to, c->to_dtype, i, sp_load(c->from, c->from_dtype, i));
    }
}

/* By way of f32, some at a time. */
static void dequantise_range(void *context, int64_t begin, int64_t end)
{
    enum { AT_ONCE = 1024 };
    const conversion *c = context;
    float values[AT_ONCE];
    size_t size = sp_dtype_size(c->to_dtype);
    for (int64_t at = begin; at < end; at += AT_ONCE) {
        int64_t count = end - at < AT_ONCE ? end - at : AT_ONCE;
        sp_dequantise(c->from_dtype, c->from, at, count, values);
        convert_range(&(conversion){.to = c->to + (size_t)at * size,
                                    .from = (const char *)values,
                                    .to_dtype = c->to_dtype,
                                    .from_dtype = SP_F32,
                                    .loop = find_loop(c->to_dtype, SP_F32)},
                      0, count);
    }
}

/* Ranges of blocks. */
static void quantise_range(void *context, int64_t begin, int64_t end)
{
    const conversion *c = context;
    float values[SP_Q8_0_BLOCK];
    for (int64_t block = begin; block < end; block++) {
        char *to = c->to + sp_dtype_bytes(SP_Q8_0, block * SP_Q8_0_BLOCK);
        if (sp_requantise(c->from_dtype, c->from, block, to)) continue;
        for (int64_t i = 0; i < SP_Q8_0_BLOCK; i++)
            values[i] = (float)sp_load(c->from, c->from_dtype, block * SP_Q8_0_BLOCK + i);
        sp_quantise(values, to);
    }
}

void sp_convert_elements(void *to, sp_dtype to_dtype, const void *from, sp_dtype from_dtype, int64_t count)
{
    if (sp_dtype_is_coded(to_dtype) || sp_dtype_is_coded(from_dtype)) refuse_element(to_dtype);
    if (sp_dtype_is_quantised(to_dtype) && (to_dtype != SP_Q8_0 || count % SP_Q8_0_BLOCK)) refuse_element(to_dtype);
    conversion c = {.to = to,
                    .from = from,
                    .to_dtype = to_dtype,
                    .from_dtype = from_dtype,
                    .loop = find_loop(to_dtype, from_dtype)};
    if (to_dtype == SP_Q8_0)
        sp_parallel_for(count / SP_Q8_0_BLOCK, 1 << 11, quantise_range, &c);
    else if (sp_dtype_is_quantised(from_dtype))
        sp_parallel_for(count, 1 << 14, dequantise_range, &c);
    else
        sp_parallel_for(count, 1 << 16, convert_range, &c);
}
