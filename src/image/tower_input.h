/* 8-bit pictures made what image towers take, as the tools that measure by them do it, which begin with Pillow's
 * convert("RGB"):
 *   CLIP  OpenAI's, open_clip's and torchmetrics': Resize(side), then CenterCrop(side)
 *   CMMD  cmmd-pytorch's: the largest square of the middle (its offset half the surplus, rounded down), resized
 *   DINO  dgm-eval's for DINOv2: squashed
 *   PICKSCORE  transformers' processor of CLIP: as CLIP, but that the crop's offset is half the surplus, rounded down
 * each by Pillow's antialiased bicubic in 8 bits, then (v/255 - mean)/deviation, CLIP's numbers or for DINO
 * ImageNet's; and
 *   HPS   HPSv2's: as CLIP, but floats are resized (image/resize_float.h), and nothing is rounded or clipped. */
#ifndef SP_IMAGE_TOWER_INPUT_H
#define SP_IMAGE_TOWER_INPUT_H
#include "image/image.h"

typedef enum {
    SP_TOWER_INPUT_CLIP,
    SP_TOWER_INPUT_CMMD,
    SP_TOWER_INPUT_DINO,
    SP_TOWER_INPUT_PICKSCORE,
    SP_TOWER_INPUT_HPS
} sp_tower_input;

/* nchw [3,side,side]. SP_ARGUMENT for a picture too long to be scaled, SP_MEMORY. */
sp_status sp_image_to_tower(const sp_image *image, sp_tower_input how, int side, float *nchw);

#endif
