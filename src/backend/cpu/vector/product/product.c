/* Matrix products in blocks of registers, the core of the other files here. */
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/math.h"

/* Most rows and vectors of a register block: twelve sums or more are under way at once, to hide the
 * latency of an FMA, and with the operands they fit the registers. */
#define ROWS 8
#define COLUMNS SP_PRODUCT_VECTORS

typedef float __attribute__((may_alias)) element;
typedef int32_t __attribute__((may_alias)) pair;

SP_INLINE sp_vf multiply_add(sp_vf sum, const element *left, sp_vf right, const bool pairs)
{
#if defined(__AVX512BF16__)
    if (pairs) {
        __m512bh a = (__m512bh)_mm512_set1_epi32(*(const pair *)left);
        return (sp_vf)_mm512_dpbf16_ps((__m512)sum, a, (__m512bh)right);
    }
#endif
    (void)pairs;
    return sum + sp_vf_set(*left) * right;
}

/* Asks for the share of p->next that belongs to some rows. */
SP_INLINE void fetch_ahead(const sp_product *p, int64_t row, const int rows)
{
    const char *from = (const char *)p->next + row * p->ahead;
    for (int64_t at = 0; at < rows * p->ahead; at += 64)
        __builtin_prefetch(from + at);
}

/* One block of `rows` times `columns` vectors of C, both known when compiled, so that the sums stay
 * in registers. */
SP_INLINE void block(const sp_product *p, int64_t i, int64_t j, const int rows, const int columns,
                     const bool pairs)
{
    sp_vf sum[ROWS][COLUMNS];
    float *c = p->c + i * p->c_row + j;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < columns; v++)
            sum[r][v] = p->accumulate ? sp_vf_load(c + r * p->c_row + v * SP_LANES) : (sp_vf){0};
    if (p->next && j == 0) fetch_ahead(p, i, rows);
    const int64_t a_row = p->a_row, a_column = p->a_column, b_row = p->b_row;
    const element *a = (const element *)p->a + i * a_row;
    const element *b = (const element *)p->b + j;
    int64_t k = p->depth;
    do {
        sp_vf right[COLUMNS];
#pragma GCC unroll 4
        for (int v = 0; v < columns; v++)
            memcpy(&right[v], b + v * SP_LANES, sizeof right[v]);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < columns; v++)
                sum[r][v] = multiply_add(sum[r][v], a + r * a_row, right[v], pairs);
        a += a_column;
        b += b_row;
    } while (--k > 0);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < columns; v++)
            sp_vf_store(c + r * p->c_row + v * SP_LANES, sum[r][v]);
}

/* Rows i .. i+rows-1 of one strip, at most 8. */
SP_INLINE void last_rows(const sp_product *p, int64_t i, int64_t rows, int64_t j, const int columns, const bool pairs)
{
    if (rows > 6) {
        block(p, i, j, 4, columns, pairs);
        i += 4;
        rows -= 4;
    }
    switch (rows) {
    case 6:
        block(p, i, j, 6, columns, pairs);
        break;
    case 5:
        block(p, i, j, 5, columns, pairs);
        break;
    case 4:
        block(p, i, j, 4, columns, pairs);
        break;
    case 3:
        block(p, i, j, 3, columns, pairs);
        break;
    case 2:
        block(p, i, j, 2, columns, pairs);
        break;
    case 1:
        block(p, i, j, 1, columns, pairs);
        break;
    default:
        break;
    }
}

/* All rows of one strip of `columns` vectors. The last rows are shared out so that no block is of so few rows that it
 * waits for its own sums. */
SP_INLINE void strip(const sp_product *p, int64_t j, const int columns, const bool pairs)
{
    int64_t i = 0;
    if (SP_LANES == 16 ? columns <= 2 : columns == 1)
        for (; i + 8 <= p->rows; i += 8)
            block(p, i, j, 8, columns, pairs);
    for (; i + 8 < p->rows; i += 6)
        block(p, i, j, 6, columns, pairs);
    last_rows(p, i, p->rows - i, j, columns, pairs);
}

SP_INLINE void product(const sp_product *p, const bool pairs)
{
    int64_t j = 0;
    for (; j + COLUMNS * SP_LANES <= p->columns; j += COLUMNS * SP_LANES)
        strip(p, j, COLUMNS, pairs);
    switch ((p->columns - j) / SP_LANES) {
#if defined(__AVX512F__)
    case 3:
        strip(p, j, 3, pairs);
        break;
    case 2:
        strip(p, j, 2, pairs);
        break;
#endif
    case 1:
        strip(p, j, 1, pairs);
        break;
    default:
        break;
    }
}

void sp_product_run(const sp_product *p)
{
#if defined(__AVX512BF16__)
    if (p->amx) {
        sp_amx_product(p);
        return;
    }
    if (p->pairs) {
        product(p, true);
        return;
    }
#endif
    product(p, false);
}

typedef float vf4 __attribute__((vector_size(16)));
typedef int32_t vi4 __attribute__((vector_size(16)));

static inline void transpose4(float *to, int64_t to_row, const float *from, int64_t from_row)
{
    vf4 r[4];
    for (int i = 0; i < 4; i++)
        memcpy(&r[i], from + i * from_row, sizeof r[i]);
    vf4 low01 = __builtin_shuffle(r[0], r[1], (vi4){0, 4, 1, 5}),
        high01 = __builtin_shuffle(r[0], r[1], (vi4){2, 6, 3, 7});
    vf4 low23 = __builtin_shuffle(r[2], r[3], (vi4){0, 4, 1, 5}),
        high23 = __builtin_shuffle(r[2], r[3], (vi4){2, 6, 3, 7});
    vf4 out[4] = {__builtin_shuffle(low01, low23, (vi4){0, 1, 4, 5}),
                  __builtin_shuffle(low01, low23, (vi4){2, 3, 6, 7}),
                  __builtin_shuffle(high01, high23, (vi4){0, 1, 4, 5}),
                  __builtin_shuffle(high01, high23, (vi4){2, 3, 6, 7})};
    for (int i = 0; i < 4; i++)
        memcpy(to + i * to_row, &out[i], sizeof out[i]);
}

static void transpose_any(float *to, int64_t to_row, const float *from, int64_t from_row,
                          int64_t rows, int64_t columns)
{
    int64_t full_rows = rows & ~3, full_columns = columns & ~3;
    for (int64_t i = 0; i < full_rows; i += 4) {
        for (int64_t j = 0; j < full_columns; j += 4)
            transpose4(to + j * to_row + i, to_row, from + i * from_row + j, from_row);
        for (int64_t j = full_columns; j < columns; j++)
            for (int64_t k = i; k < i + 4; k++)
                memcpy(to + j * to_row + k, from + k * from_row + j, sizeof *to);
    }
    for (int64_t i = full_rows; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            memcpy(to + j * to_row + i, from + i * from_row + j, sizeof *to);
}

/* SP_LANES rows and columns, in registers: with each merging of the first half of the rows with the
 * second, lane by lane, one bit of the row's number becomes one of the lane's. */
SP_INLINE void transpose_lanes(float *to, int64_t to_row, const float *from, int64_t from_row)
{
    sp_vf r[SP_LANES];
    sp_vi low, high;
#pragma GCC unroll 16
    for (int i = 0; i < SP_LANES; i++) {
        low[i] = i / 2 + i % 2 * SP_LANES;
        high[i] = low[i] + SP_LANES / 2;
        r[i] = sp_vf_load(from + i * from_row);
    }
#pragma GCC unroll 4
    for (int bit = 1; bit < SP_LANES; bit *= 2) {
        sp_vf merged[SP_LANES];
#pragma GCC unroll 8
        for (int i = 0; i < SP_LANES / 2; i++) {
            merged[2 * i] = __builtin_shuffle(r[i], r[i + SP_LANES / 2], low);
            merged[2 * i + 1] = __builtin_shuffle(r[i], r[i + SP_LANES / 2], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < SP_LANES; i++)
            r[i] = merged[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < SP_LANES; i++)
        sp_vf_store(to + i * to_row, r[i]);
}

void sp_transpose(void *to, int64_t to_row, const void *from, int64_t from_row, int64_t rows,
                  int64_t columns)
{
    float *y = to;
    const float *x = from;
    int64_t full_rows = rows / SP_LANES * SP_LANES, full_columns = columns / SP_LANES * SP_LANES;
    for (int64_t i = 0; i < full_rows; i += SP_LANES)
        for (int64_t j = 0; j < full_columns; j += SP_LANES)
            transpose_lanes(y + j * to_row + i, to_row, x + i * from_row + j, from_row);
    transpose_any(y + full_columns * to_row, to_row, x + full_columns, from_row, full_rows,
                  columns - full_columns);
    transpose_any(y + full_rows, to_row, x + full_rows * from_row, from_row, rows - full_rows,
                  columns);
}
