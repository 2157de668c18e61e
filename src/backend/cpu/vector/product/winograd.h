/* Winograd convolution (Lavin & Gray 2016): 3x3 kernels of stride 1, F(m x m, 3 x 3) with
 * t = m + 2. With tiles d of t x t pixels that overlap by two, and kernels g,
 *   y = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A,
 * which is t^2 products [tiles, C] [C, M] where a direct convolution takes 9 m^2. Points are 0, 1,
 * -1, (2, -2, (1/2, -1/2,)) infinity; that of -1 has index 2 in every form.
 *
 * Where the picture is doubled first (upsample 2), neighbours are equal and B^T d B is zero at
 * index 2: (t - 1)^2 products are enough. */
#ifndef SP_BACKEND_CPU_VECTOR_PRODUCT_WINOGRAD_H
#define SP_BACKEND_CPU_VECTOR_PRODUCT_WINOGRAD_H
#include "backend/cpu/convolution_choice.h"
#include "backend/cpu/vector/product/convolution.h"
#include "backend/cpu/vector/product/product.h"
#include "backend/cpu/vector/vector.h"

/* Output channels whose products are made together: as many uses of tiles, which come from farther away than what is
 * multiplied at a time. */
#define SP_WINOGRAD_PANEL 64
#define SP_WINOGRAD_MAX_TILE 8 /* most of t */
#define SP_WINOGRAD_MAX_POINTS (SP_WINOGRAD_MAX_TILE * SP_WINOGRAD_MAX_TILE)
#define SP_WINOGRAD_GRADIENT_POINTS 36 /* most of a tile's in the gradient of filters, where m is 2 or 4 */

/* Sizes of one convolution, forward or with respect to its input; the latter is the convolution of
 * dy with turned kernels. */
typedef struct {
    int output, tile; /* m and t */
    bool half;        /* transformed tiles and kernels are bf16, in pairs of channels */
    bool doubled;     /* x is read at half its place */
    int64_t N, H, W, C, Ho, Wo, M; /* x [N,H,W,C] (before doubling), y [N,Ho,Wo,M] */
    int64_t pad_top, pad_left;
    sp_dtype x_dtype, y_dtype;
    int64_t tile_rows, tile_columns, tiles; /* per picture, and of all */
    int64_t block;                          /* tiles at a time */
} sp_winograd_shape;

/* Points (i,j) of a tile are numbered row by row, those that are always zero left out. */
static inline int64_t sp_winograd_points(const sp_winograd_shape *s)
{
    return sp_winograd_point_count(s->output, s->doubled);
}

SP_INLINE bool sp_winograd_skips(int i, int j, bool doubled)
{
    return doubled && (i == 2 || j == 2);
}

SP_INLINE int sp_winograd_point(int i, int j, int tile, bool doubled)
{
    return doubled ? (i - (i > 2)) * (tile - 1) + j - (j > 2) : i * tile + j;
}

/* B^T d B of tiles first .. first+count-1, `depth` channels after the other: channel c of tile first + i at
 *   v[(c / depth * points + e) * point_stride + i * depth + c % depth].
 * depth: C, or a multiple of SP_LANES. `zeros` are C zeros of x's type. */
#define sp_winograd_input SP_ISA_SYMBOL(sp_winograd_input)
void sp_winograd_input(const sp_winograd_shape *s, const void *x, const void *zeros, int64_t first,
                       int64_t count, void *v, int64_t depth, int64_t point_stride);

/* A^T products A and the sums, for channels channel .. channel+columns-1 of y. Products of tile
 * first + i lie at products[e * point_stride + i * row_stride]. */
#define sp_winograd_output SP_ISA_SYMBOL(sp_winograd_output)
void sp_winograd_output(const sp_winograd_shape *s, const float *products, int64_t point_stride,
                        int64_t row_stride, int64_t first, int64_t count, int64_t channel,
                        int64_t columns, const sp_convolution_sums *sums, void *y);

/* Tiles for the gradient of filters, which sums over them; one is a step of the sum, or two where shape->half. m = 2 or
 * 4, C a multiple of SP_LANES. */
typedef struct {
    const sp_winograd_shape *shape;
    const void *data, *zeros; /* the picture that shape describes as x; C zeros of its type */
    bool spread;              /* A d A^T of the tiles' first m x m pixels, else B^T d B */
    bool doubled;             /* points that B^T d B of a doubled x has as zeros are left out */
    /* Element: f32 of tile k, or two bf16, of tiles 2k and 2k + 1 (zero after the last). Point e, channel c of panel
     * f = c / panel, which is w = min(panel, C - f * panel) wide, step k:
     *   to[e * point_stride + f * panel * steps + k * w + c % panel] */
    float *to;
    int64_t point_stride, panel, steps;
} sp_winograd_tiles;
/* Steps begin .. end-1; context: an sp_winograd_tiles. */
#define sp_winograd_transform_tiles SP_ISA_SYMBOL(sp_winograd_transform_tiles)
void sp_winograd_transform_tiles(void *context, int64_t begin, int64_t end);

/* Sizes of the convolution of x to y. */
#define sp_winograd_describe SP_ISA_SYMBOL(sp_winograd_describe)
void sp_winograd_describe(sp_convolution_form form, const sp_value *x, const sp_value *y,
                          const sp_conv2d_options *o, sp_winograd_shape *s);
/* The fewest lines of `per_line` elements that hold so many, an odd number, so that the points of a
 * tile do not meet in the same sets of a cache; in elements. */
static inline int64_t sp_winograd_stride(int64_t elements, int64_t per_line)
{
    int64_t lines = sp_ceil_div(elements, per_line);
    return (lines + 1 - lines % 2) * per_line;
}

#endif
