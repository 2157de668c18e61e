/* The samplers there are. */
#ifndef SP_DIFFUSION_SAMPLER_KIND_H
#define SP_DIFFUSION_SAMPLER_KIND_H
#include "options/choices.h"

typedef enum {
#define X(name, text, steps, label) SP_SAMPLER_##name,
    SP_SAMPLER_LIST(X)
#undef X
        SP_SAMPLER_COUNT
} sp_sampler_kind;

/* A set of samplers is a sum of these. */
#define SP_SAMPLER_BIT(name) (1u << SP_SAMPLER_##name)
static const unsigned sp_all_samplers = (1u << SP_SAMPLER_COUNT) - 1;

#endif
