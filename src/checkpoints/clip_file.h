/* CLIP's towers from the files that are published: ViT-B/32, B/16, L/14 (at 224 and 336 pixels), H/14, g/14, bigG/14
 * and others of their kind.
 *   open_clip's     open_clip_model.safetensors or open_clip_pytorch_model.bin, open_clip_config.json beside it
 *   OpenAI's        ViT-L-14.pt and its like, TorchScript in F16
 *   transformers'   a folder of model.safetensors or pytorch_model.bin (also in shards) and config.json */
#ifndef SP_CHECKPOINTS_CLIP_FILE_H
#define SP_CHECKPOINTS_CLIP_FILE_H
#include "base/hash.h"
#include "checkpoints/tower_weights.h"

typedef struct {
    sp_tensor_file *file;
    char name[48];              /* "ViT-L/14 at 336"; of no published size: "ViT, width 96, 2 layers" */
    const char *activation_by;  /* who said which: "config.json", "its file is OpenAI's"; static text */
    sp_vit_config image;
    sp_clip_text_config text;   /* layers 0: there is none */
    double logit_scale;         /* the logarithm of what cosines were multiplied by in training; NAN: it has none */
    sp_weights *image_weights, *text_weights; /* for sp_vit_network and sp_clip_text_tower_network; the latter may be
                                                 NULL */
    char sha256[SP_SHA256_TEXT]; /* of the bytes of its weights */
} sp_clip_file;

/* `path`: a file, a folder, or what a folder of a Hugging Face cache stands for. Shapes tell the architecture; what
 * they do not tell, heads and activation, is told by the configuration beside the weights. Without one heads have 64
 * channels, but for the published widths of H/14 (80), g/14 (88) and bigG/14 (104), and the activation is quick_gelu of
 * OpenAI's own files, which have a tensor input_resolution, gelu of g/14, whose weights are all LAION's, and else has
 * to be said. activation "quick_gelu" or "gelu": known better; NULL: as above.
 * SP_IO; SP_FORMAT and SP_SHAPE naming the tensor; SP_ARGUMENT where the activation is not known; SP_UNSUPPORTED for
 * another image tower (a ResNet, timm's), or what is no CLIP. */
sp_status sp_clip_file_open(const char *path, const char *activation, sp_clip_file *out);
void sp_clip_file_free(sp_clip_file *file); /* zeroed is legal */

/* The same of a file that is open, without weights and hash, for those who tell what it is. file->file stays NULL. */
sp_status sp_clip_file_describe(const sp_tensor_file *tensors, const char *activation, sp_clip_file *out);

#endif
