/* The published weights of the Inception-v3 that FID is measured by, told by the names within:
 *   pt_inception-2015-12-05-6726825d.pth, of pytorch-fid and torch-fidelity, as torch.save wrote it, both forms:
 *     NAME.conv.weight, NAME.bn.{weight,bias,running_mean,running_var}, fc.weight
 *   inception-2015-12-05.pt, NVIDIA's TorchScript, which clean-fid takes:
 *     layers.NAME.{weight,beta,mean,var}, output.weight; batch norm without scale
 *   either of them as safetensors. */
#ifndef SP_CHECKPOINTS_INCEPTION_FILE_H
#define SP_CHECKPOINTS_INCEPTION_FILE_H
#include "formats/weights.h"
#include "base/hash.h"

/* Told by names; NONE: another thing than Inception-v3. */
typedef enum {
    SP_INCEPTION_NONE,
    SP_INCEPTION_PYTORCH,
    SP_INCEPTION_NVIDIA,
    SP_INCEPTION_TORCHVISION, /* of other weights and classes: FID is not measured by it */
} sp_inception_form;
sp_inception_form sp_inception_form_of(const sp_tensor_file *file);

typedef struct {
    sp_weights *weights; /* as sp_inception_network names them, batch norms folded in fp64: owned, F32 */
    char sha256[SP_SHA256_TEXT]; /* of the file's bytes */
} sp_inception_file;

/* SP_IO; SP_FORMAT and SP_SHAPE naming file and tensor, for a value that is not finite too; SP_UNSUPPORTED for
 * torchvision's network, which is another one. */
sp_status sp_inception_file_open(const char *path, sp_inception_file *out);
void sp_inception_file_free(sp_inception_file *file); /* zeroed is legal */

#endif
