/* AMX tiles: eight of them, of 16 rows of 64 bytes at the most. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_AMX_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_AMX_H
#include <immintrin.h>
#include <stdint.h>

#define SP_AMX __attribute__((target("amx-tile,amx-bf16")))
#define SP_AMX_SIDE 16 /* rows of a tile, and its elements of 32 bits in a row */

/* GCC 12 does not know that the instructions read memory. */
#define SP_AMX_READS_MEMORY() __asm__ volatile("" ::: "memory")

/* As LDTILECFG reads it. */
typedef struct {
    uint8_t palette, start_row, unused[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} sp_amx_shapes;

/* Tiles by number: C 0 1 above 2 3; A 4 above 5; B 6 beside 7. upper, lower: rows of C and A, 1 to SP_AMX_SIDE. */
SP_AMX static inline void sp_amx_set_shapes(int64_t upper, int64_t lower)
{
    sp_amx_shapes shapes = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        int is_lower = tile == 2 || tile == 3 || tile == 5, is_b = tile >= 6;
        shapes.row_bytes[tile] = SP_AMX_SIDE * sizeof(uint32_t);
        shapes.rows[tile] = (uint8_t)(is_b ? SP_AMX_SIDE : is_lower ? lower : upper);
    }
    SP_AMX_READS_MEMORY();
    _tile_loadconfig(&shapes);
}

#endif
