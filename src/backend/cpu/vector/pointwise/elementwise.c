/* cast, add, mul, affine, add_per_channel, modulate, sample_combine, fill, broadcast_middle and
 * loss_gradient. */
#include "backend/cpu/vector/pointwise/pointwise.h"

SP_POINTWISE_LOOP(copy_body, , SP_POINTWISE_LOAD_1, a)
SP_POINTWISE_LOOP(add_body, float alpha = loop->parameter[0], SP_POINTWISE_LOAD_2, a + alpha * b)
SP_POINTWISE_LOOP(mul_body, , SP_POINTWISE_LOAD_2, a *b)
SP_POINTWISE_LOOP(affine_body, float factor = loop->parameter[0];
                  float offset = loop->parameter[1], SP_POINTWISE_LOAD_1, a *factor + offset)

/* A loop of whole tensors of one shape, so far without a body. */
static sp_pointwise whole(const sp_node *node, void *const *in, void *const *out)
{
    int64_t count = sp_shape_count(node->out[0]->shape);
    sp_pointwise loop = {.rows = 1, .row_length = count, .inputs = node->inputs, .outputs = 1};
    for (int k = 0; k < node->inputs; k++)
        loop.in[k] = sp_pointwise_rows(node->in[k], in[k], count);
    loop.out[0] = sp_pointwise_rows(node->out[0], out[0], count);
    return loop;
}

static bool small_float(sp_dtype dtype)
{
    return dtype == SP_F32 || dtype == SP_BF16;
}

static void cast_run(void *state, const sp_node *node, void *const *in, void *const *out,
                     void *scratch)
{
    (void)state, (void)scratch;
    sp_dtype from = node->in[0]->dtype, to = node->out[0]->dtype;
    if (from == to || !small_float(from) || !small_float(to)) {
        sp_convert_elements(out[0], to, in[0], from, sp_shape_count(node->in[0]->shape));
        return;
    }
    sp_pointwise loop = whole(node, in, out);
    loop.body = copy_body;
    loop.half_body = copy_body_half;
    sp_pointwise_run(&loop);
}

sp_status SP_KERNEL(cast)(const sp_node *node, sp_kernel *out)
{
    (void)node;
    out->run = cast_run;
    return SP_OK;
}

/* y repeats over x's leading dimensions. */
static void repeat_suffix(sp_pointwise *loop, int operand, int64_t period)
{
    if (period >= loop->row_length) return;
    if (period <= SP_POINTWISE_CHUNK) {
        loop->in[operand].period = period;
        return;
    }
    loop->rows = loop->row_length / period;
    loop->row_length = period;
    for (int k = 0; k < loop->inputs; k++)
        loop->in[k].row_stride = k == operand ? 0 : period;
    loop->out[0].row_stride = period;
}

static void add_run(void *state, const sp_node *node, void *const *in, void *const *out,
                    void *scratch)
{
    (void)state, (void)scratch;
    sp_pointwise loop = whole(node, in, out);
    loop.body = add_body;
    loop.half_body = add_body_half;
    loop.parameter[0] = (float)((const sp_add_options *)node->options)->alpha;
    repeat_suffix(&loop, 1, sp_shape_count(node->in[1]->shape));
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(add, add_run)

static void mul_run(void *state, const sp_node *node, void *const *in, void *const *out,
                    void *scratch)
{
    (void)state, (void)scratch;
    sp_pointwise loop = whole(node, in, out);
    loop.body = mul_body;
    loop.half_body = mul_body_half;
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(mul, mul_run)

static void affine_run(void *state, const sp_node *node, void *const *in, void *const *out,
                       void *scratch)
{
    (void)state, (void)scratch;
    const sp_affine_options *o = node->options;
    sp_pointwise loop = whole(node, in, out);
    loop.body = affine_body;
    loop.half_body = affine_body_half;
    loop.parameter[0] = (float)o->factor;
    loop.parameter[1] = (float)o->offset;
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(affine, affine_run)

static void fill_run(void *state, const sp_node *node, void *const *in, void *const *out,
                     void *scratch)
{
    (void)state, (void)scratch;
    sp_pointwise loop = whole(node, in, out);
    loop.body = affine_body;
    loop.half_body = affine_body_half;
    loop.parameter[0] = (float)((const sp_fill_options *)node->options)->factor;
    repeat_suffix(&loop, 0, sp_shape_count(node->in[0]->shape));
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(fill, fill_run)

static int64_t middle_of(sp_shape shape)
{
    int64_t middle = 1;
    for (int i = 1; i < shape.rank - 1; i++)
        middle *= shape.dim[i];
    return middle;
}

static void add_per_channel_run(void *state, const sp_node *node, void *const *in, void *const *out,
                                void *scratch)
{
    (void)state, (void)scratch;
    sp_shape h = node->in[0]->shape;
    sp_pointwise loop = whole(node, in, out);
    loop.body = add_body;
    loop.half_body = add_body_half;
    loop.parameter[0] = 1;
    sp_pointwise_per_channel(&loop, h.dim[0], middle_of(h), h.dim[h.rank - 1], &loop.in[1]);
    loop.in[0].row_stride = loop.out[0].row_stride = loop.row_length;
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(add_per_channel, add_per_channel_run)

/* Inputs x and factor, then offset, residual, whichever there are; parameter: base. */
SP_INLINE void modulate_loop(const sp_pointwise *loop, void *const *y, const void *const *x, int64_t count,
                             const bool half, const bool offset, const bool residual)
{
    for (int64_t i = 0; i < count; i += SP_LANES) {
        int64_t left = count - i;
        sp_vf sum = (loop->parameter[0] + sp_vf_get(x[1], i, left, half)) * sp_vf_get(x[0], i, left, half);
        if (offset) sum += sp_vf_get(x[2], i, left, half);
        if (residual) sum += sp_vf_get(x[2 + offset], i, left, half);
        sp_vf_put(y[0], i, sum, left, half);
    }
}
#define MODULATE(name, half, offset, residual)                                                     \
    static void name(const sp_pointwise *loop, int64_t row, void *const *y, const void *const *x,  \
                     int64_t count)                                                                \
    {                                                                                              \
        (void)row;                                                                                 \
        modulate_loop(loop, y, x, count, half, offset, residual);                                  \
    }
MODULATE(modulate_body, false, false, false)
MODULATE(modulate_body_half, true, false, false)
MODULATE(modulate_residual_body, false, false, true)
MODULATE(modulate_residual_body_half, true, false, true)
MODULATE(modulate_offset_body, false, true, false)
MODULATE(modulate_offset_body_half, true, true, false)
MODULATE(modulate_both_body, false, true, true)
MODULATE(modulate_both_body_half, true, true, true)

static void modulate_run(void *state, const sp_node *node, void *const *in, void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    /* by whether there is an offset, a residual, whether operands are bf16 */
    static sp_pointwise_body *const bodies[2][2][2] = {
        {{modulate_body, modulate_body_half}, {modulate_residual_body, modulate_residual_body_half}},
        {{modulate_offset_body, modulate_offset_body_half}, {modulate_both_body, modulate_both_body_half}},
    };
    sp_shape x = node->in[0]->shape;
    bool offset = node->in[2] != NULL, residual = node->in[3] != NULL;
    sp_pointwise loop = {.outputs = 1,
                         .body = bodies[offset][residual][0],
                         .half_body = bodies[offset][residual][1],
                         .parameter = {(float)((const sp_modulate_options *)node->options)->base}};
    for (int i = 0; i < node->inputs; i++) {
        if (!node->in[i]) continue;
        sp_pointwise_operand *operand = &loop.in[loop.inputs++];
        *operand = sp_pointwise_rows(node->in[i], in[i], 0);
        bool vector = i == 1 || i == 2;
        if (vector) sp_pointwise_per_channel(&loop, x.dim[0], middle_of(x), x.dim[x.rank - 1], operand);
    }
    loop.in[0].row_stride = loop.row_length;
    if (residual) loop.in[loop.inputs - 1].row_stride = loop.row_length;
    loop.out[0] = sp_pointwise_rows(node->out[0], out[0], loop.row_length);
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(modulate, modulate_run)

static void broadcast_middle_run(void *state, const sp_node *node, void *const *in,
                                 void *const *out, void *scratch)
{
    (void)state, (void)scratch;
    sp_shape y = node->out[0]->shape;
    sp_pointwise loop = whole(node, in, out);
    loop.body = copy_body;
    loop.half_body = copy_body_half;
    sp_pointwise_per_channel(&loop, y.dim[0], middle_of(y), y.dim[y.rank - 1], &loop.in[0]);
    loop.out[0].row_stride = loop.row_length;
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(broadcast_middle, broadcast_middle_run)

/* One number per sample: element n of input `input`; `absent` if there is no such input. */
typedef struct {
    const sp_node *node;
    void *const *in;
} sample_values;

static float sample_value(const sample_values *values, int input, int64_t n, float absent)
{
    if (input >= values->node->inputs || !values->node->in[input]) return absent;
    return (float)sp_load(values->in[input], values->node->in[input]->dtype, n);
}

static void combine_body(const sp_pointwise *loop, int64_t row, void *const *y, const void *const *x,
                         int64_t count)
{
    float c[SP_POINTWISE_INPUTS];
    for (int k = 0; k < loop->inputs; k++)
        c[k] = sample_value(loop->context, 2 * k, row, 0);
    for (int64_t i = 0; i < count; i += SP_LANES) {
        sp_vf sum = c[0] * sp_vf_get(x[0], i, count - i, false);
        for (int k = 1; k < loop->inputs; k++)
            sum += c[k] * sp_vf_get(x[k], i, count - i, false);
        sp_vf_put(y[0], i, sum, count - i, false);
    }
}

static void sample_combine_run(void *state, const sp_node *node, void *const *in, void *const *out,
                               void *scratch)
{
    (void)state, (void)scratch;
    int64_t samples = node->out[0]->shape.dim[0];
    if (samples == 0) return;
    sample_values values = {node, in};
    sp_pointwise loop = {.rows = samples,
                         .inputs = node->inputs / 2,
                         .outputs = 1,
                         .body = combine_body,
                         .context = &values};
    loop.row_length = sp_shape_count(node->out[0]->shape) / samples;
    for (int k = 0; k < loop.inputs; k++)
        loop.in[k] = sp_pointwise_rows(node->in[2 * k + 1], in[2 * k + 1], loop.row_length);
    loop.out[0] = sp_pointwise_rows(node->out[0], out[0], loop.row_length);
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(sample_combine, sample_combine_run)

/* parameter: dy / count (times 2 for l2), and huber's c. Differences whose square vanishes count as
 * 0: there f' is 0, or, for c = 0, anything. */
static void loss_gradient_body(const sp_pointwise *loop, int64_t row, void *const *y, const void *const *x,
                               int64_t count)
{
    const sample_values *values = loop->context;
    float factor = loop->parameter[0] * sample_value(values, 2, row, 1), c = loop->parameter[1];
    bool huber = ((const sp_loss_options *)values->node->options)->kind == SP_LOSS_HUBER;
    for (int64_t i = 0; i < count; i += SP_LANES) {
        sp_vf d = sp_vf_get(x[0], i, count - i, false) - sp_vf_get(x[1], i, count - i, false),
              slope = d;
        if (huber)
            slope = sp_vf_select_less(sp_vf_abs(d), sp_vf_set(1e-18f), sp_vf_set(0),
                                      d / sp_vf_sqrt(d * d + c * c));
        sp_vf_put(y[0], i, factor * slope, count - i, false);
    }
}

static void loss_gradient_run(void *state, const sp_node *node, void *const *in, void *const *out,
                              void *scratch)
{
    (void)state, (void)scratch;
    const sp_loss_options *o = node->options;
    int64_t count = sp_shape_count(node->out[0]->shape);
    sample_values values = {node, in};
    sp_pointwise loop = {.rows = node->in[2] ? node->in[0]->shape.dim[0] : 1,
                         .inputs = 2,
                         .outputs = 1,
                         .body = loss_gradient_body,
                         .context = &values};
    loop.row_length = count / loop.rows;
    for (int k = 0; k < 2; k++)
        loop.in[k] = sp_pointwise_rows(node->in[k], in[k], loop.row_length);
    loop.out[0] = sp_pointwise_rows(node->out[0], out[0], loop.row_length);
    double dy = sp_load(in[3], node->in[3]->dtype, 0) / (double)count;
    loop.parameter[0] = (float)(o->kind == SP_LOSS_L2 ? 2 * dy : dy);
    loop.parameter[1] = (float)o->huber_c;
    sp_pointwise_run(&loop);
}
SP_DEFINE_KERNEL(loss_gradient, loss_gradient_run)
