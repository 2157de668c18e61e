/* Sets of one tensor, as Stable Diffusion's are, for tests that make the tensor themselves. */
#ifndef SP_TESTS_CONDITIONS_H
#define SP_TESTS_CONDITIONS_H
#include "pipeline/conditioning.h"
#include "support.h"

/* A view of [N,L,D]. */
static inline sp_conditioning hidden_states(const sp_tensor *tensor)
{
    sp_conditioning set = {0};
    sp_tensor view = *tensor;
    view.owned = false;
    assert_ok(sp_conditioning_add(&set, "encoder_hidden_states", view));
    return set;
}

/* The description of [rows,length,width]. */
static inline sp_conditioning hidden_states_of(int64_t rows, int64_t length, int64_t width)
{
    return hidden_states(&(sp_tensor){.dtype = SP_F32, .shape = sp_shape_of(rows, length, width)});
}

#endif
