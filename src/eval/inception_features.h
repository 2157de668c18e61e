/* Inception's features of pictures in files, by the convention of one of the tools that FID is measured with. */
#ifndef SP_EVAL_INCEPTION_FEATURES_H
#define SP_EVAL_INCEPTION_FEATURES_H
#include "checkpoints/inception_file.h"
#include "graph/device.h"
#include "image/resize_float.h"
#include "options/choices.h"

/* How a picture becomes the network's input: resized as image/resize_float.h says, then (v - 128)/128 of 0..255, or
 * v/127.5 - 1. */
typedef enum {
#define X(name, text) SP_CONVENTION_##name,
    SP_CONVENTION_LIST(X)
#undef X
        SP_CONVENTION_COUNT
} sp_convention;
const char *sp_convention_name(sp_convention convention);

/* Before that: nothing; or the largest square of the middle (torchvision's CenterCrop) by Pillow's 8-bit Lanczos at 256
 * pixels, as GigaGAN's, DMD's and DMD2's evaluations have it. */
typedef enum {
#define X(name, text) SP_TRANSFORM_##name,
    SP_TRANSFORM_LIST(X)
#undef X
        SP_TRANSFORM_COUNT
} sp_transform;
const char *sp_transform_name(sp_transform transform);

typedef struct {
    sp_convention convention;
    sp_transform transform;
} sp_preparation;
/* nchw [3,299,299]. */
sp_status sp_preparation_apply(const sp_preparation *preparation, const sp_image *image, float *nchw);

typedef struct {
    sp_tensor features, logits; /* [N,2048], [N,1008], F32 */
} sp_inception_features;
void sp_inception_features_free(sp_inception_features *features); /* zeroed is legal */

/* Of the pictures at `paths`, which are decoded plainly (sp_image_decode_plain). A file that cannot be read as a
 * picture is an error naming it. Activations are f32. SP_IO, SP_FORMAT, SP_MEMORY, SP_CANCELLED, SP_NUMERIC for
 * features that are not finite. */
sp_status sp_inception_features_of(const sp_inception_file *inception, const sp_preparation *preparation,
                                   const char *const *paths, int64_t count, sp_device *device,
                                   const sp_callbacks *callbacks, sp_inception_features *out);

#endif
