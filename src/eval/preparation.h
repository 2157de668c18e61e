/* What a call says of how pictures become a network's input: a transform of the picture as it was decoded, which is the
 * same for every network, and the convention of the tool that is followed, where a network has several. */
#ifndef SP_EVAL_PREPARATION_H
#define SP_EVAL_PREPARATION_H
#include "image/image.h"
#include "options/choices.h"

/* How Inception's input is made, see eval/inception_extractor.c. */
typedef enum {
#define X(name, text) SP_CONVENTION_##name,
    SP_CONVENTION_LIST(X)
#undef X
} sp_convention;
const char *sp_convention_name(sp_convention convention);

/* Nothing; or the largest square of the middle (torchvision's CenterCrop) by Pillow's 8-bit Lanczos at 256 pixels, as
 * GigaGAN's, DMD's and DMD2's evaluations have it, or at 512. */
typedef enum {
#define X(name, text) SP_TRANSFORM_##name,
    SP_TRANSFORM_LIST(X)
#undef X
} sp_transform;
const char *sp_transform_name(sp_transform transform);
/* *image becomes what is made of it. */
sp_status sp_transform_apply(sp_transform transform, sp_image *image);

typedef struct {
    sp_convention convention;
    sp_transform transform;
} sp_preparation;

#endif
