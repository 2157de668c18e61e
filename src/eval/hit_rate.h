/* Caption hit rate: is the real picture nearest to a generated one of those that the caption names? */
#ifndef SP_EVAL_HIT_RATE_H
#define SP_EVAL_HIT_RATE_H
#include "tensor/tensor.h"

/* A real picture. Equal numbers for equal pictures, which count as one (real pictures that are drawn alike cannot be
 * told apart), and for equal captions, which name all pictures that have them. */
typedef struct {
    uint64_t picture, caption;
} sp_real_picture;

/* rank[i] = how many different real pictures lie strictly nearer (Euclidean distance of features) to
 * generated picture i than the nearest one that its caption names: 0 is a hit.
 *   generated [N,D], real [M,D] f32
 *   pictures  [M]  of real
 *   named     [N]  index into real, of any one picture with the caption
 * SP_SHAPE if the widths differ. */
sp_status sp_caption_ranks(const sp_tensor *generated, const sp_tensor *real, const sp_real_picture *pictures,
                           const int64_t *named, int64_t *rank);

/* Share of ranks below k among those whose `group` is `wanted`; NaN if there are none. */
double sp_hit_rate(const int64_t *rank, const bool *group, bool wanted, int64_t count, int64_t k);

#endif
