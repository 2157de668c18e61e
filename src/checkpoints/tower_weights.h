/* Weights of CLIP's towers and DINOv2 from files of several namings, told by the names within. For the files that open
 * them (clip_file.h, dino_file.h) and those that recognise them.
 *   TRANSFORMERS        vision_model.*, text_model.*, visual_projection.weight, text_projection.weight
 *   OPEN_CLIP           visual.*, transformer.*, visual.proj, text_projection, and OpenAI's TorchScript files: queries,
 *                       keys and values below each other in in_proj, projections transposed
 *   OPEN_CLIP_TEXT      the same with "text." before the text tower's
 *   DINO                cls_token, blocks.*: Meta's file of DINOv2
 *   DINO_TRANSFORMERS   embeddings.cls_token, encoder.layer.* */
#ifndef SP_CHECKPOINTS_TOWER_WEIGHTS_H
#define SP_CHECKPOINTS_TOWER_WEIGHTS_H
#include "formats/weights.h"
#include "models/clip_text.h"
#include "models/vit.h"

/* The tensors of `path`: a file, or a folder or what a folder of a Hugging Face cache stands for, with
 * open_clip_config.json and open_clip_model or open_clip_pytorch_model, or with config.json and model or pytorch_model.
 * SP_UNSUPPORTED for another folder. */
sp_status sp_tower_open(const char *path, sp_tensor_file **out);
/* Whether the configuration of a folder says that CLIP or DINOv2 is in it. */
bool sp_tower_is_folder(const char *path);

typedef enum {
    SP_TOWER_NONE,
    SP_TOWER_TRANSFORMERS,
    SP_TOWER_OPEN_CLIP,
    SP_TOWER_OPEN_CLIP_TEXT,
    SP_TOWER_DINO,
    SP_TOWER_DINO_TRANSFORMERS,
    SP_TOWER_FORMS
} sp_tower_form;
/* NONE: there is no image tower of these. */
sp_tower_form sp_tower_form_of(const sp_tensor_file *file);
bool sp_tower_form_is_clip(sp_tower_form form);

typedef enum { SP_TOWER_IMAGE, SP_TOWER_TEXT } sp_tower_kind;
typedef struct {
    const sp_tensor_file *file;
    sp_tower_form form;
    sp_tower_kind kind;
} sp_tower;

/* Where a parameter of the network comes from. */
typedef struct {
    char name[192];  /* of the tensor in the file */
    int part;        /* 0..2: the part of three that its rows are; -1: all of it */
    bool transposed;
    char scale[192]; /* of LayerScale, by which its rows are multiplied; "": none */
} sp_tower_source;
void sp_tower_source_of(const sp_tower *tower, const char *parameter, sp_tower_source *out);

/* Whether the file has the parameter. */
bool sp_tower_has(const sp_tower *tower, const char *parameter);
/* How many layers the file has. */
int64_t sp_tower_layers(const sp_tower *tower);
/* What shapes tell: all of *out but heads, activation and epsilon, which no shape does. SP_FORMAT or SP_SHAPE, naming
 * the tensor. */
sp_status sp_tower_image_shapes(const sp_tower *tower, sp_vit_config *out);
sp_status sp_tower_text_shapes(const sp_tower *tower, sp_clip_text_config *out);

/* The network's parameters: views of the file where it has them as they are, else F32 of their own. LayerScale is
 * multiplied into the layers before it, in fp64. DINOv2's positions are resized to the config's picture as its program
 * does: torch's bicubic (a = -3/4, clamped) with the scale (S + .1)/G from G to S patches a side. SP_FORMAT and
 * SP_SHAPE, naming file and tensor. */
sp_status sp_tower_weights(const sp_tower *tower, const sp_network *network, const void *config, sp_weights **out);

#endif
