/* Blocks of few bits to numbers and back. */
#include "tensor/quantised.h"
#include <math.h>

static float half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return sp_f16_to_f32(h);
}

/* A part is 32 elements, of which a block is one or eight. */
enum { PART = 32 };
typedef void decode(const unsigned char *block, int part, float *to);

/* ---- blocks of one part ---- */

/* Low halves of 16 bytes, then high ones. */
static void take_halves(const unsigned char *halves, int *codes)
{
    for (int i = 0; i < PART / 2; i++) {
        codes[i] = halves[i] & 15;
        codes[PART / 2 + i] = halves[i] >> 4;
    }
}

/* Bit i of four bytes is element i's fifth. */
static void add_fifths(const unsigned char *bits, int *codes)
{
    for (int i = 0; i < PART; i++)
        codes[i] |= (bits[i / 8] >> i % 8 & 1) << 4;
}

static void from_middle(float d, const int *codes, int middle, float *to)
{
    for (int i = 0; i < PART; i++)
        to[i] = d * (float)(codes[i] - middle);
}

static void from_least(float d, const int *codes, float least, float *to)
{
    for (int i = 0; i < PART; i++)
        to[i] = d * (float)codes[i] + least;
}

static void from_q8_0(const unsigned char *b, int part, float *to)
{
    (void)part;
    float d = half_at(b);
    for (int i = 0; i < PART; i++)
        to[i] = d * (float)(signed char)b[SP_Q8_0_SCALE + i];
}

static void from_q4_0(const unsigned char *b, int part, float *to)
{
    (void)part;
    int codes[PART];
    take_halves(b + 2, codes);
    from_middle(half_at(b), codes, 8, to);
}

static void from_q4_1(const unsigned char *b, int part, float *to)
{
    (void)part;
    int codes[PART];
    take_halves(b + 4, codes);
    from_least(half_at(b), codes, half_at(b + 2), to);
}

static void from_q5_0(const unsigned char *b, int part, float *to)
{
    (void)part;
    int codes[PART];
    take_halves(b + 6, codes);
    add_fifths(b + 2, codes);
    from_middle(half_at(b), codes, 16, to);
}

static void from_q5_1(const unsigned char *b, int part, float *to)
{
    (void)part;
    int codes[PART];
    take_halves(b + 8, codes);
    add_fifths(b + 4, codes);
    from_least(half_at(b), codes, half_at(b + 2), to);
}

/* ---- blocks of eight parts ---- */

/* Scale and offset of part k. The first four have the lower six bits of bytes 0..3 and 4..7; the others their lower
 * four in bytes 8..11, scales below, and the upper two in the upper bits of bytes 0..7. */
static void part_scales(const unsigned char *s, int k, float *scale, float *offset)
{
    int a = k < 4 ? s[k] & 63 : (s[k + 4] & 15) | (s[k - 4] >> 6) << 4;
    int b = k < 4 ? s[k + 4] & 63 : s[k + 4] >> 4 | (s[k] >> 6) << 4;
    *scale = (float)a;
    *offset = (float)b;
}

/* Parts 2k and 2k+1 are the low and the high halves of bytes 32k .. 32k+31; bit k of `fifths` is one more of part k. */
static void from_parts(const unsigned char *b, int part, const unsigned char *halves, const unsigned char *fifths,
                       float *to)
{
    float scale, offset;
    part_scales(b + 4, part, &scale, &offset);
    scale *= half_at(b);
    offset *= half_at(b + 2);
    for (int i = 0; i < PART; i++) {
        int code = halves[part / 2 * PART + i] >> part % 2 * 4 & 15;
        if (fifths) code |= (fifths[i] >> part & 1) << 4;
        to[i] = scale * (float)code - offset;
    }
}

static void from_q4_k(const unsigned char *b, int part, float *to)
{
    from_parts(b, part, b + 16, NULL, to);
}

static void from_q5_k(const unsigned char *b, int part, float *to)
{
    from_parts(b, part, b + 48, b + 16, to);
}

/* Of each four parts two are the low halves of 64 bytes, two the high ones; a part has two scales. */
static void from_q6_k(const unsigned char *b, int part, float *to)
{
    const unsigned char *low = b + part / 4 * 64 + part % 2 * PART, *high = b + 128 + part / 4 * PART;
    const signed char *scales = (const signed char *)b + 192 + 2 * part;
    float d = half_at(b + 208);
    for (int i = 0; i < PART; i++) {
        int code = (low[i] >> part % 4 / 2 * 4 & 15) | (high[i] >> part % 4 * 2 & 3) << 4;
        to[i] = d * (float)scales[i / 16] * (float)(code - 32);
    }
}

/* ---- arrays ---- */

static decode *const decoders[SP_DTYPE_COUNT] = {
    [SP_Q8_0] = from_q8_0, [SP_Q5_1] = from_q5_1, [SP_Q5_0] = from_q5_0, [SP_Q4_1] = from_q4_1,
    [SP_Q4_0] = from_q4_0, [SP_Q4_K] = from_q4_k, [SP_Q5_K] = from_q5_k, [SP_Q6_K] = from_q6_k,
};

void sp_dequantise(sp_dtype dtype, const void *array, int64_t at, int64_t count, float *to)
{
    const int64_t elements = sp_dtype_block(dtype), bytes = (int64_t)sp_dtype_bytes(dtype, elements);
    for (int64_t end = at + count; at < end;) {
        const unsigned char *block = (const unsigned char *)array + at / elements * bytes;
        int part = (int)(at % elements / PART), first = (int)(at % PART);
        int64_t taken = end - at < PART - first ? end - at : PART - first;
        float values[PART];
        decoders[dtype](block, part, taken == PART ? to : values);
        if (taken < PART) memcpy(to, values + first, (size_t)taken * sizeof *to);
        to += taken;
        at += taken;
    }
}

bool sp_requantise(sp_dtype dtype, const void *array, int64_t block, void *to)
{
    const unsigned char *from = (const unsigned char *)array + sp_dtype_bytes(dtype, block * SP_Q8_0_BLOCK);
    unsigned char *out = to;
    if (dtype != SP_Q8_0 && dtype != SP_Q4_0 && dtype != SP_Q5_0) return false;
    if (dtype == SP_Q8_0) {
        memcpy(out, from, SP_Q8_0_BYTES);
        return true;
    }
    const bool five = dtype == SP_Q5_0;
    int codes[PART];
    take_halves(from + (five ? 6 : 2), codes);
    if (five) add_fifths(from + 2, codes);
    memcpy(out, from, SP_Q8_0_SCALE);
    for (int i = 0; i < PART; i++)
        out[SP_Q8_0_SCALE + i] = (unsigned char)(codes[i] - (five ? 16 : 8));
    return true;
}

/* ---- to Q8_0 ---- */

/* The least f16 that is not below a number of 0 or more; the largest finite one beyond. */
static uint16_t half_above(float x)
{
    const uint16_t largest = 0x7bff;
    uint16_t h = sp_f32_to_f16(x);
    if (h >= largest) return largest;
    return sp_f16_to_f32(h) < x ? (uint16_t)(h + 1) : h;
}

void sp_quantise(const float x[SP_Q8_0_BLOCK], void *block)
{
    const uint16_t not_a_number = 0x7e00;
    float most = 0;
    bool finite = true;
    for (int i = 0; i < SP_Q8_0_BLOCK; i++) {
        finite = finite && isfinite(x[i]);
        most = fmaxf(most, fabsf(x[i]));
    }
    uint16_t scale = finite ? half_above(most / 127) : not_a_number;
    float d = sp_f16_to_f32(scale);
    signed char *codes = (signed char *)block + SP_Q8_0_SCALE;
    memcpy(block, &scale, sizeof scale);
    for (int i = 0; i < SP_Q8_0_BLOCK; i++)
        codes[i] = d > 0 ? (signed char)fminf(127, fmaxf(-127, rintf(x[i] / d))) : (signed char)0;
}
