/* The samplers there are. */
#ifndef SP_DIFFUSION_SAMPLER_KIND_H
#define SP_DIFFUSION_SAMPLER_KIND_H

/* (kind, name, how many steps it takes when nobody says) */
#define SP_SAMPLER_LIST(X)                                                                         \
    X(LCM, "lcm", 4)                                                                               \
    X(DDIM, "ddim", 50)                                                                            \
    X(DPMPP_2M, "dpm++2m", 20)                                                                     \
    X(DPMPP_2M_SDE, "dpm++2m-sde", 20)                                                             \
    X(UNIPC, "unipc", 20)                                                                          \
    X(EULER, "euler", 30)                                                                          \
    X(EULER_A, "euler-a", 30)                                                                      \
    X(HEUN, "heun", 20)                                                                            \
    X(TCD, "tcd", 4)
typedef enum {
#define X(name, text, steps) SP_SAMPLER_##name,
    SP_SAMPLER_LIST(X)
#undef X
        SP_SAMPLER_COUNT
} sp_sampler_kind;

/* A set of samplers is a sum of these. */
#define SP_SAMPLER_BIT(name) (1u << SP_SAMPLER_##name)
static const unsigned sp_all_samplers = (1u << SP_SAMPLER_COUNT) - 1;

#endif
