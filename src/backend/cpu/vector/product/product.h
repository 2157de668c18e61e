/* The small matrix product under attention: C (+)= A B, with every operand in the first or second
 * cache level. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_PRODUCT_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_PRODUCT_H
#include <stdbool.h>
#include "backend/cpu/kernel_table.h"
#include "backend/cpu/vector/math.h"

/* Vectors of a row of C that are made at once. B is read fastest where it lies in panels of so many columns, each row
 * of a panel behind the other: what is read then lies in successive lines of the first cache level. */
#if defined(__AVX512F__)
#define SP_PRODUCT_VECTORS 4
#else
#define SP_PRODUCT_VECTORS 2
#endif
#define SP_PRODUCT_PANEL (SP_PRODUCT_VECTORS * SP_LANES)

/* Each element of C is one chain of sums over k in order, whatever the blocking. */
typedef struct {
    /* Element (i,k) at a[i*a_row + k*a_column]. Read one by one, so any layout will do. */
    const void *a;
    int64_t a_row, a_column;
    const void *b; /* [depth][columns], row stride b_row */
    int64_t b_row;
    float *c; /* [rows][columns], row stride c_row */
    int64_t c_row;
    int64_t rows, columns, depth; /* columns: a multiple of SP_LANES; depth: 1 or more */
    bool accumulate;              /* C += A B, else C = A B */
    const void *next; /* what is read after this, fetched meanwhile, `ahead` bytes for each row of c; or NULL */
    int64_t ahead;
    /* Elements of a and b are pairs of bf16 that lie next to each other in k; depth and strides
     * count pairs. Only where sp_product_takes_pairs. */
    bool pairs;
    /* In AMX tiles. A's pairs then lie one behind the other in k (a_column 1), and 16 pairs of k are a sum that is
     * added to C: still one order whatever the blocking in rows and columns. Only where sp_cpu_uses_amx. */
    bool amx;
} sp_product;

#define SP_AMX_PAIRS 16 /* of k that are multiplied at a time; the rest of a depth is filled up with zeros */

#define sp_product_run SP_ISA_SYMBOL(sp_product_run)
void sp_product_run(const sp_product *product);

#if defined(__AVX512BF16__)
#define sp_product_takes_pairs true
#else
#define sp_product_takes_pairs false
#endif

/* amx_product.c: p->amx. */
#define sp_amx_product SP_ISA_SYMBOL(sp_amx_product)
void sp_amx_product(const sp_product *product);

/* to[j*to_row + i] = from[i*from_row + j] for i < rows, j < columns; elements of 32 bits. */
#define sp_transpose SP_ISA_SYMBOL(sp_transpose)
void sp_transpose(void *to, int64_t to_row, const void *from, int64_t from_row, int64_t rows,
                  int64_t columns);

#endif
