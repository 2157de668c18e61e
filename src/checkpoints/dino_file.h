/* DINOv2's weights: dinov2_vits14_pretrain.pth, vitb14 and vitl14, or a folder as transformers has them
 * (facebook/dinov2-large: model.safetensors). */
#ifndef SP_CHECKPOINTS_DINO_FILE_H
#define SP_CHECKPOINTS_DINO_FILE_H
#include "base/hash.h"
#include "checkpoints/tower_weights.h"

enum { SP_DINO_SIDE = 224 }; /* pixels, as dgm-eval gives it */

typedef struct {
    sp_tensor_file *file;
    char name[48];        /* "DINOv2 ViT-L/14" */
    sp_vit_config config; /* of pictures of SP_DINO_SIDE */
    sp_weights *weights;  /* for sp_vit_network */
    char sha256[SP_SHA256_TEXT];
} sp_dino_file;

/* `path`: a file, a folder, or what a folder of a Hugging Face cache stands for. Heads have 64 channels. SP_IO;
 * SP_FORMAT and SP_SHAPE naming the tensor; SP_UNSUPPORTED for ViT-g/14, whose layers have SwiGLU, for those with
 * registers, and for what is no DINOv2. */
sp_status sp_dino_file_open(const char *path, sp_dino_file *out);
void sp_dino_file_free(sp_dino_file *file); /* zeroed is legal */

/* The same of a file that is open, without weights and hash. file->file stays NULL. */
sp_status sp_dino_file_describe(const sp_tensor_file *tensors, sp_dino_file *out);

#endif
