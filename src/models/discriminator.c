/* A head that tells a student's latents from the data's. */
#include "models/discriminator.h"
#include <stdio.h>

enum { SP_UNHALVED_SIDE = 4, SP_LEAST_OF_GROUP = 4 };
#define EPSILON 1e-5

/* Of the last norm a group is as many numbers as it has channels. */
static int64_t groups_for(int64_t channels, int64_t groups)
{
    while (groups > 1 && (channels % groups || channels / groups < SP_LEAST_OF_GROUP))
        groups--;
    return groups;
}

static const char *place(char *text, size_t size, int index)
{
    snprintf(text, size, "%d", index);
    return text;
}

/* The norm and the SiLU behind a layer; *index is the norm's place. */
static sp_value *activated(sp_builder *b, sp_value *x, int64_t groups, int *index)
{
    char name[16];
    x = sp_silu(b, sp_group_norm_layer(b, place(name, sizeof name, *index), x, groups, EPSILON));
    *index += 2;
    return x;
}

static bool is_large(const sp_value *x)
{
    return sp_dim(x, 1) > SP_UNHALVED_SIDE && sp_dim(x, 2) > SP_UNHALVED_SIDE;
}

sp_value *sp_discriminator(sp_builder *b, sp_value *features, int64_t groups)
{
    const sp_conv2d_options halving = {2, 1, 1, 1, 1, false};
    int64_t channels = sp_channels(features);
    char name[16];
    int index = 0;
    if (!features) return NULL;
    groups = groups_for(channels, groups);
    sp_scope_enter(b, SP_DISCRIMINATOR);
    sp_value *x = features;
    while (is_large(x)) {
        x = sp_conv2d_layer_as(b, place(name, sizeof name, index++), x, channels, 4, halving);
        x = activated(b, x, groups, &index);
    }
    x = sp_reshape(b, x, sp_shape_of(sp_dim(x, 0), 1, -1));
    x = sp_linear_layer(b, place(name, sizeof name, index++), x, channels);
    x = activated(b, x, groups, &index);
    x = sp_linear_layer(b, place(name, sizeof name, index), x, 1);
    sp_scope_leave(b);
    return x;
}
