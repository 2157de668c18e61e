/* The aesthetic head of LAION (improved-aesthetic-predictor's sac+logos+ava1-l14-linearMSE.pth): five linear layers,
 * 768-1024-128-64-16-1, without activations, on embeddings of length 1: one affine map, which is all that is kept.
 *   layers.{0,2,4,6,7}.{weight,bias}, between which dropout had its numbers; or a single one, {weight,bias}, as the
 *   heads before (sa_0_4_vit_l_14_linear.pth)
 * as torch.save wrote them, or as safetensors. Heads with activations have layers of other numbers, and are refused. */
#ifndef SP_CHECKPOINTS_AESTHETIC_FILE_H
#define SP_CHECKPOINTS_AESTHETIC_FILE_H
#include "base/hash.h"
#include "formats/tensor_file.h"

typedef struct {
    int64_t dim;         /* of embeddings */
    double *weight;      /* [dim], summed in fp64: owned */
    double bias;
    char sha256[SP_SHA256_TEXT]; /* of the file's bytes */
} sp_aesthetic_file;

bool sp_aesthetic_file_is(const sp_tensor_file *file); /* by its names */
/* SP_IO; SP_FORMAT and SP_SHAPE naming file and tensor; SP_NUMERIC for a value that is not finite; SP_UNSUPPORTED for
 * other layers; SP_MEMORY. */
sp_status sp_aesthetic_file_open(const char *path, sp_aesthetic_file *out);
void sp_aesthetic_file_free(sp_aesthetic_file *file); /* zeroed is legal */

#endif
