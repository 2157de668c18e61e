/* Weights and pictures by formulas, which tools/golden/common.py repeats. */
#ifndef SP_TESTS_FORMULA_H
#define SP_TESTS_FORMULA_H
#include <stdlib.h>
#include "formats/weights.h"
#include "image/image.h"

/* Number i of those in [-1/2, 1/2) that follow from a name. */
static inline double formula_number(const char *name, uint32_t i)
{
    uint32_t h = 2166136261u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    h += i * 2654435761u;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    h ^= h >> 16;
    return (double)(h >> 8) * 0x1p-24 - 0.5;
}

/* Adds a tensor: number times factor, plus offset. */
static inline sp_status add_formula(sp_weights *weights, const char *name, sp_shape shape, double factor, double offset)
{
    sp_tensor t;
    SP_TRY(sp_tensor_create(SP_F32, shape, &t));
    for (int64_t i = 0; i < sp_tensor_count(&t); i++)
        ((float *)t.data)[i] = (float)(offset + factor * formula_number(name, (uint32_t)i));
    return sp_weights_add(weights, name, t);
}

static inline sp_image formula_picture(int width, int height)
{
    sp_image image;
    if (sp_image_create(width, height, &image)) abort();
    for (int i = 0; i < width * height * 3; i++) {
        int c = i % 3, x = i / 3 % width, y = i / 3 / width;
        image.pixels[i] = (uint8_t)((x * 7 + y * 13 + c * 50) ^ (x * y));
    }
    return image;
}

#endif
