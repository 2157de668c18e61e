/* Matrix products of pairs of bf16 in AMX tiles, 16 rows of 64 bytes each: C in two by two of them, 32 rows by 32
 * columns, whose sums stay in the tiles while k passes 16 pairs at a time. What is left of k is filled up with zeros
 * elsewhere, so that nothing behind A and B is read. */
#include "backend/cpu/vector/product/product.h"

#if defined(__AVX512BF16__)
#include "backend/cpu/vector/product/amx.h"

#define SIDE SP_AMX_SIDE

typedef uint32_t __attribute__((may_alias)) pair;

/* The last pairs of k, filled up with zeros. */
typedef struct {
    pair a[2 * SIDE][SIDE], b[SIDE][2 * SIDE];
} rest;

static void fill_a(const sp_product *p, int64_t i, int64_t rows, int64_t done, rest *r)
{
    const pair *from = (const pair *)p->a + i * p->a_row + done;
    const __mmask16 left = (__mmask16)((1u << (p->depth - done)) - 1);
    for (int64_t row = 0; row < rows; row++)
        _mm512_storeu_si512(r->a[row], _mm512_maskz_loadu_epi32(left, from + row * p->a_row));
}

static void fill_b(const sp_product *p, int64_t j, int64_t columns, int64_t done, rest *r)
{
    const pair *from = (const pair *)p->b + j + done * p->b_row;
    for (int64_t k = 0; k < p->depth - done; k++)
        for (int64_t column = 0; column < columns; column += SIDE)
            _mm512_storeu_si512(r->b[k] + column, _mm512_loadu_si512(from + k * p->b_row + column));
}

/* C += A B of 16 pairs. */
#define MULTIPLY(a, a_bytes, b, b_bytes)                                                                              \
    do {                                                                                                              \
        _tile_loadd(4, a, a_bytes);                                                                                   \
        _tile_loadd(6, b, b_bytes);                                                                                   \
        _tile_dpbf16ps(0, 4, 6);                                                                                      \
        if (wide) {                                                                                                   \
            _tile_loadd(7, (b) + SIDE, b_bytes);                                                                      \
            _tile_dpbf16ps(1, 4, 7);                                                                                  \
        }                                                                                                             \
        if (high) {                                                                                                   \
            _tile_loadd(5, (a) + SIDE * ((a_bytes) / 4), a_bytes);                                                    \
            _tile_dpbf16ps(2, 5, 6);                                                                                  \
            if (wide) _tile_dpbf16ps(3, 5, 7);                                                                        \
        }                                                                                                             \
    } while (0)

/* Rows i.. and columns j.. of C: more than 16 rows where high, 32 columns, or 16, where wide. */
SP_AMX static inline __attribute__((always_inline)) void block(const sp_product *p, int64_t i, int64_t j, const rest *r,
                                                            const bool high, const bool wide)
{
    const int64_t a_bytes = p->a_row * 4, b_bytes = p->b_row * 4, c_bytes = p->c_row * 4;
    const pair *a = (const pair *)p->a + i * p->a_row, *b = (const pair *)p->b + j;
    float *c = p->c + i * p->c_row + j, *lower = c + SIDE * p->c_row;
    SP_AMX_READS_MEMORY();
    if (p->accumulate) {
        _tile_loadd(0, c, c_bytes);
        if (wide) _tile_loadd(1, c + SIDE, c_bytes);
        if (high) _tile_loadd(2, lower, c_bytes);
        if (high && wide) _tile_loadd(3, lower + SIDE, c_bytes);
    } else {
        _tile_zero(0);
        if (wide) _tile_zero(1);
        if (high) _tile_zero(2);
        if (high && wide) _tile_zero(3);
    }
    int64_t k = 0;
    for (; k + SP_AMX_PAIRS <= p->depth; k += SP_AMX_PAIRS, a += SP_AMX_PAIRS, b += SP_AMX_PAIRS * p->b_row)
        MULTIPLY(a, a_bytes, b, b_bytes);
    if (k < p->depth) MULTIPLY(r->a[0], (int64_t)sizeof r->a[0], r->b[0], (int64_t)sizeof r->b[0]);
    _tile_stored(0, c, c_bytes);
    if (wide) _tile_stored(1, c + SIDE, c_bytes);
    if (high) _tile_stored(2, lower, c_bytes);
    if (high && wide) _tile_stored(3, lower + SIDE, c_bytes);
}

/* Rows first .. end-1, 2 SIDE at a time and of the same shape. */
SP_AMX static void rows_of(const sp_product *p, int64_t first, int64_t end, rest *r)
{
    const int64_t done = p->depth / SP_AMX_PAIRS * SP_AMX_PAIRS;
    const int64_t height = end - first < 2 * SIDE ? end - first : 2 * SIDE;
    const bool high = height > SIDE;
    if (first >= end) return;
    sp_amx_set_shapes(high ? SIDE : height, high ? height - SIDE : SIDE);
    for (int64_t j = 0; j < p->columns; j += 2 * SIDE) {
        const bool wide = p->columns - j > SIDE;
        if (done < p->depth) fill_b(p, j, wide ? 2 * SIDE : SIDE, done, r);
        for (int64_t i = first; i < end; i += 2 * SIDE) {
            if (done < p->depth) fill_a(p, i, height, done, r);
            if (high && wide)
                block(p, i, j, r, true, true);
            else if (high)
                block(p, i, j, r, true, false);
            else if (wide)
                block(p, i, j, r, false, true);
            else
                block(p, i, j, r, false, false);
        }
    }
}

SP_AMX void sp_amx_product(const sp_product *p)
{
    int64_t whole = p->rows / (2 * SIDE) * (2 * SIDE);
    rest r;
    if (p->depth % SP_AMX_PAIRS) memset(r.b, 0, sizeof r.b);
    rows_of(p, 0, whole, &r);
    rows_of(p, whole, p->rows, &r);
    _tile_release();
}

#endif
