/* Resizing 8-bit pictures to floats as tools that measure do it, each its own way; results are not rounded.
 *   PILLOW_BICUBIC   clean-fid: Pillow's mode "F" with BICUBIC (a = -1/2, antialiased), then clipped to [0,255]
 *   TF1_BILINEAR     TensorFlow 1, torch-fidelity, StyleGAN: x = o in/out, no shift of half a pixel
 *   TORCH_BILINEAR   torch's interpolate, align_corners=False: x = max((o + 1/2) in/out - 1/2, 0)
 *   TORCH_ANTIALIAS  the same with antialias=True: the triangle is as wide as in/out
 *   TORCH_BICUBIC    torchvision's Resize of a tensor, BICUBIC: a = -1/2, antialiased, not clipped
 * A size that is there already is left as it is. Pillow's sums are in fp64 from fp64 weights with fp32 between the
 * passes, across first; the others work in fp32 as their libraries do. */
#ifndef SP_IMAGE_RESIZE_FLOAT_H
#define SP_IMAGE_RESIZE_FLOAT_H
#include "image/image.h"

typedef enum {
    SP_RESIZE_PILLOW_BICUBIC,
    SP_RESIZE_TF1_BILINEAR,
    SP_RESIZE_TORCH_BILINEAR,
    SP_RESIZE_TORCH_ANTIALIAS,
    SP_RESIZE_TORCH_BICUBIC,
} sp_float_resize;

/* Squashed, never cropped, for Inception: out [3,side,side], planes of red, green and blue, in 0..255. SP_MEMORY. */
sp_status sp_image_resize_float(const sp_image *image, int side, sp_float_resize how, float *out);

/* The shorter side made `side`, and the square of the middle, as torchvision's Resize and CenterCrop have it; also
 * SP_ARGUMENT for a picture too long to be scaled. */
sp_status sp_image_fit_float(const sp_image *image, int side, sp_float_resize how, float *out);

#endif
