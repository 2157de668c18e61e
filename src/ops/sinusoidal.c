/* sinusoidal: y[n] = [sin(phase) | cos(phase)], or [cos | sin] if cos_first   (Vaswani et al. 2017)
 *             phase_j = scale * t[n] * exp(-ln(max_period) * j / (half - shift))
 *             j = 0..half-1, half = dim/2
 *   t      [N]       full
 *   y      [N,dim]   full
 * Frequencies and phases are rounded to fp32 where diffusers rounds them: phases reach 10,000, so
 * the rounding shows in the result. */
#include "ops/rules.h"

static sp_status infer(sp_node *node)
{
    const sp_sinusoidal_options *o = node->options;
    sp_shape t = sp_shape_in(node, 0);
    if (t.rank != 1) return sp_unexpected(node, "t", 0, "[N]");
    if (o->dim < 2 || o->dim % 2 || (double)(o->dim / 2) == o->shift)
        return sp_fail(
            SP_SHAPE,
            "sinusoidal: %lld channels cannot be split into sines and cosines for t of shape %s",
            (long long)o->dim, sp_shape_text(t));
    node->out[0]->shape = sp_shape_of(t.dim[0], o->dim);
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static float frequency(const sp_sinusoidal_options *o, int64_t j)
{
    float exponent =
        (float)-log(o->max_period) * (float)j / (float)((double)(o->dim / 2) - o->shift);
    return (float)exp(exponent);
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    const sp_sinusoidal_options *o = node->options;
    int64_t half = o->dim / 2, sine = o->cos_first ? half : 0, cosine = half - sine;
    for (int64_t n = 0; n < sp_count_in(node, 0); n++) {
        float t = (float)o->scale * (float)sp_read(node, in, 0, n);
        for (int64_t j = 0; j < half; j++) {
            float phase = t * frequency(o, j);
            sp_write(node, out, 0, n * o->dim + sine + j, sin(phase));
            sp_write(node, out, 0, n * o->dim + cosine + j, cos(phase));
        }
    }
}

const sp_op sp_op_sinusoidal = {
    .name = "sinusoidal",
    .outputs = 1,
    .options_size = sizeof(sp_sinusoidal_options),
    .full_inputs = 1,
    .full_outputs = 1,
    .infer = infer,
    .reference = reference,
};

sp_value *sp_sinusoidal(sp_builder *b, sp_value *t, sp_sinusoidal_options options)
{
    return sp_node_make(b, &sp_op_sinusoidal, 1, 1, &t, &options);
}
