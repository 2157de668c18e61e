/* A convolution of one picture, some rows of the result at a time. Each element is what the undivided convolution
 * makes, bit for bit, where our kernels convolve: a strip begins where tiles of all kinds do, and the way to compute
 * and the layout of filters are those of the whole. A library's kernels may sum in another order. */
#ifndef SP_BACKEND_CPU_STRIP_CONVOLUTION_H
#define SP_BACKEND_CPU_STRIP_CONVOLUTION_H
#include "backend/cpu/convolution_choice.h"
#include "ops/ops.h"

/* How a picture is cut: `count` strips of `rows` rows (a multiple of 12 where there are several), of which the last has
 * what is left, and no fewer. */
typedef struct {
    int64_t rows, count, height; /* height: of the picture */
} sp_strips_cut;
sp_strips_cut sp_strips_of(int64_t height, int64_t rows);
static inline int64_t sp_strip_rows(const sp_strips_cut *cut, int64_t k)
{
    return k < cut->count - 1 ? cut->rows : cut->height - (cut->count - 1) * cut->rows;
}

enum { SP_STRIP_USUAL, SP_STRIP_LAST, SP_STRIP_KINDS };

typedef struct {
    sp_value x, y, residual; /* of a strip */
    sp_node node;
    sp_kernel kernel;
} sp_strip;

/* Plain numbers and descriptions; sp_strip_convolution_free releases the kernels. Must not be moved once prepared. */
typedef struct {
    sp_strips_cut cut;
    sp_value weight, bias;
    sp_conv2d_options options; /* of a strip, whose rows beyond its own are in its window */
    sp_strip strips[SP_STRIP_KINDS];
    size_t window_row, y_row;  /* bytes */
    size_t expanded_bytes;     /* of a window that is doubled in memory, for kernels that do not double; 0 else */
    size_t scratch;
} sp_strip_convolution;

/* whole: a conv2d of one picture and stride 1 that keeps its size, or doubles it: 3x3 of padding 1, or 1x1. SP_OK with
 * sp_strips_alike false where both kinds of strips want other weights: then there has to be one strip. */
sp_status sp_strip_convolution_prepare(sp_strip_convolution *s, const sp_node *whole, const sp_strips_cut *cut);
void sp_strip_convolution_free(sp_strip_convolution *s);
bool sp_strips_alike(const sp_strip_convolution *s);

/* Rows of the window that strip k reads: of a 3x3 filter one above and one below the strip, those outside the picture
 * zero; of a doubling one, rows of the picture that is doubled. */
int64_t sp_strip_window_rows(const sp_strip_convolution *s, int64_t k);
/* Strip k of y, to `y`. residual: of the strip, NULL where the whole has none; it may be `y`. weight and bias as packed
 * for the kernels of s. */
void sp_strip_convolve(const sp_strip_convolution *s, int64_t k, void *window, void *weight, void *bias, void *residual,
                       void *y, void *scratch);

#endif
