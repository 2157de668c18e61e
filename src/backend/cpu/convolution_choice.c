/* Which way a convolution is computed: by the measured table, or by rule where it has no row. */
#include "backend/cpu/convolution_choice.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "backend/cpu/kernel_table.h"
#include "base/log.h"

static const char *const names[] = {
#define X(name, text) text,
    SP_CONVOLUTION_FORM_LIST(X)
#undef X
};

const char *sp_convolution_form_name(sp_convolution_form form)
{
    return names[form];
}

#define ROW_OF(isa, dtype, positions, C, M, doubled, form)                                                             \
    {isa, SP_##dtype, positions, C, M, doubled, SP_CONVOLUTION_##form},
const sp_convolution_row sp_convolution_table[] = {
#define ROW(...) ROW_OF(SP_ISA_AVX2, __VA_ARGS__)
#include "backend/cpu/convolution_table/avx2.inc"
#undef ROW
#define ROW(...) ROW_OF(SP_ISA_AVX512, __VA_ARGS__)
#include "backend/cpu/convolution_table/avx512.inc"
#undef ROW
#define ROW(...) ROW_OF(SP_ISA_AVX512_BF16, __VA_ARGS__)
#include "backend/cpu/convolution_table/avx512_bf16.inc"
#undef ROW
};
const size_t sp_convolution_table_count =
    sizeof sp_convolution_table / sizeof *sp_convolution_table;

bool sp_convolution_describe(const sp_node *node, sp_convolution_row *out)
{
    bool of_weight = node->op == &sp_op_conv2d_weight_gradient;
    const sp_value *x = node->in[0], *y = of_weight ? node->in[1] : node->out[0],
                   *weight = of_weight ? node->out[0] : node->in[1];
    const sp_conv2d_gradient_options *gradient = node->options;
    const sp_conv2d_options *o = node->op == &sp_op_conv2d ? node->options : &gradient->conv;
    *out = (sp_convolution_row){.isa = sp_cpu_isa(),
                                .dtype = x->dtype,
                                .positions = sp_dim(y, 0) * sp_dim(y, 1) * sp_dim(y, 2),
                                .C = sp_dim(x, 3),
                                .M = sp_dim(y, 3),
                                .doubled = o->doubled};
    return o->stride == 1 && sp_dim(weight, 2) == 3 && sp_dim(weight, 3) == 3;
}

sp_convolution_filters sp_convolution_packed_filters = SP_FILTERS_BY_SIZE;

bool sp_convolution_packs_taps(sp_convolution_form form, const sp_convolution_row *layer)
{
    const int64_t most_of_tiles = (int64_t)64 << 20, near = (int64_t)12 << 20;
    int64_t m = sp_winograd_output_of(form), points = sp_winograd_point_count((int)m, layer->doubled);
    if (form == SP_CONVOLUTION_WINOGRAD_2_BF16) return false;
    if (sp_convolution_packed_filters != SP_FILTERS_BY_SIZE) return sp_convolution_packed_filters == SP_FILTERS_TAPS;
    return layer->positions * layer->C * 4 * points / (m * m) <= most_of_tiles &&
           points * 4 * layer->C * layer->M > near;
}

sp_convolution_filters sp_convolution_filters_of(sp_convolution_form form, const sp_node *node)
{
    sp_convolution_row layer;
    bool taps = sp_convolution_describe(node, &layer) && sp_convolution_packs_taps(form, &layer);
    return taps ? SP_FILTERS_TAPS : SP_FILTERS_POINTS;
}

bool sp_convolution_allows(sp_convolution_form form, const sp_convolution_row *layer)
{
    const int64_t limit = (int64_t)192 << 20;
    if (form == SP_CONVOLUTION_DIRECT) return true;
    if (form == SP_CONVOLUTION_WINOGRAD_2_BF16 && layer->dtype != SP_BF16) return false;
    if (sp_convolution_packs_taps(form, layer)) return true;
    int64_t points = sp_winograd_point_count(sp_winograd_output_of(form), layer->doubled);
    int64_t size = form == SP_CONVOLUTION_WINOGRAD_2_BF16 ? 2 : 4;
    if (layer->positions < 256 && points > 9) return false;
    return points * size * layer->C * layer->M <= limit;
}

/* With few channels the transforms are too large a share. In f32 larger tiles need fewer products, and more of them to
 * be worth the transforms of filters. */
static sp_convolution_form by_rule(const sp_convolution_row *r)
{
    static const sp_convolution_form of_floats[] = {SP_CONVOLUTION_WINOGRAD_6, SP_CONVOLUTION_WINOGRAD_4,
                                                    SP_CONVOLUTION_WINOGRAD_2};
    bool pairs = r->dtype == SP_BF16 && r->isa == SP_ISA_AVX512_BF16;
    bool worth = r->C >= 64 && r->M >= 64 && r->positions >= 64;
    if (worth && pairs && sp_convolution_allows(SP_CONVOLUTION_WINOGRAD_2_BF16, r))
        return SP_CONVOLUTION_WINOGRAD_2_BF16;
    for (int i = r->positions >= 65536 ? 0 : r->positions >= 256 ? 1 : 2; worth && !pairs && i < 3; i++)
        if (sp_convolution_allows(of_floats[i], r)) return of_floats[i];
    return SP_CONVOLUTION_DIRECT;
}

/* As bench/kernels measures it: what is summed over must outweigh the transforms. */
static sp_convolution_form of_weight_gradient(const sp_node *node, const sp_convolution_row *r)
{
    bool pairs =
        r->dtype == SP_BF16 && node->in[1]->dtype == SP_BF16 && r->isa == SP_ISA_AVX512_BF16;
    bool worth = r->C >= 64 && r->M >= 64 && r->positions >= 64;
    if (!worth || (pairs && sp_cpu_uses_amx())) return SP_CONVOLUTION_DIRECT;
    if (pairs) return SP_CONVOLUTION_WINOGRAD_2_BF16;
    return r->positions >= 256 ? SP_CONVOLUTION_WINOGRAD_4 : SP_CONVOLUTION_WINOGRAD_2;
}

bool sp_convolution_same_layer(const sp_convolution_row *a, const sp_convolution_row *b)
{
    return a->isa == b->isa && a->dtype == b->dtype && a->positions == b->positions &&
           a->C == b->C && a->M == b->M && a->doubled == b->doubled;
}

static pthread_once_t policy_once = PTHREAD_ONCE_INIT;
static bool direct_only; /* written once, under `policy_once` */

static void read_policy(void)
{
    const char *given = getenv("SPLAM_CONVOLUTIONS");
    if (!given || !*given) return;
    direct_only = strcmp(given, names[SP_CONVOLUTION_DIRECT]) == 0;
    if (!direct_only) sp_log_warn("SPLAM_CONVOLUTIONS is '%s', not direct; ignored", given);
}

sp_convolution_form sp_convolution_choice(const sp_node *node)
{
    sp_convolution_row layer;
    pthread_once(&policy_once, read_policy);
    if (direct_only || !sp_convolution_describe(node, &layer)) return SP_CONVOLUTION_DIRECT;
    if (node->samples) layer.positions = layer.positions / sp_dim(node->in[0], 0) * node->samples;
    if (node->op == &sp_op_conv2d_weight_gradient) return of_weight_gradient(node, &layer);
    if (layer.dtype == SP_BF16 && sp_cpu_uses_amx()) return SP_CONVOLUTION_DIRECT;
    for (size_t i = 0; i < sp_convolution_table_count; i++)
        if (sp_convolution_same_layer(&sp_convolution_table[i], &layer))
            return sp_convolution_table[i].form;
    return by_rule(&layer);
}

#define DECLARE(isa)                                                                               \
    sp_status sp_winograd_##isa(sp_convolution_form form, sp_convolution_filters filters, const sp_node *node,   \
                                sp_kernel *out);                                                       \
    sp_status sp_winograd_data_gradient_##isa(sp_convolution_form form, const sp_node *node,       \
                                              sp_kernel *out);                                     \
    sp_status sp_winograd_weight_gradient_##isa(sp_convolution_form form, const sp_node *node,     \
                                                sp_kernel *out);                                   \
    sp_status sp_direct_convolution_##isa(const sp_node *node, sp_kernel *out);                     \
    sp_status sp_direct_data_gradient_##isa(const sp_node *node, sp_kernel *out);                   \
    sp_status sp_direct_weight_gradient_##isa(const sp_node *node, sp_kernel *out);
DECLARE(baseline)
DECLARE(avx2)
DECLARE(avx512)
DECLARE(avx512bf16)

sp_status sp_winograd_prepare(sp_convolution_form form, sp_convolution_filters filters, const sp_node *node,
                              sp_kernel *out)
{
    if (node->op == &sp_op_conv2d) return SP_ISA_CALL(sp_winograd, form, filters, node, out);
    if (node->op == &sp_op_conv2d_data_gradient)
        return SP_ISA_CALL(sp_winograd_data_gradient, form, node, out);
    return SP_ISA_CALL(sp_winograd_weight_gradient, form, node, out);
}

/* ---- one form for all ---- */

static sp_status prepare_direct(const sp_node *node, sp_kernel *out)
{
    *out = (sp_kernel){.name = names[SP_CONVOLUTION_DIRECT]};
    sp_status status = node->op == &sp_op_conv2d                 ? SP_ISA_CALL(sp_direct_convolution, node, out)
                       : node->op == &sp_op_conv2d_data_gradient ? SP_ISA_CALL(sp_direct_data_gradient, node, out)
                                                                 : SP_ISA_CALL(sp_direct_weight_gradient, node, out);
    for (const sp_cpu_kernel *k = sp_cpu_onednn; status == SP_UNSUPPORTED && k->op; k++)
        if (k->op == node->op && (!k->supports || k->supports(node))) {
            *out = (sp_kernel){.name = k->name};
            status = k->prepare(node, out);
        }
    return status;
}

sp_status sp_convolution_prepare(sp_convolution_form form, sp_convolution_filters filters, const sp_node *node,
                                 sp_kernel *out)
{
    *out = (sp_kernel){.name = names[form]};
    sp_status status = form == SP_CONVOLUTION_DIRECT ? SP_UNSUPPORTED : sp_winograd_prepare(form, filters, node, out);
    return status == SP_UNSUPPORTED ? prepare_direct(node, out) : status;
}

static sp_device forced[SP_CONVOLUTION_FORM_COUNT]; /* written once, under `once` */

static sp_status prepare_forced(sp_device *device, const sp_node *node, sp_kernel *out)
{
    sp_convolution_form form = (sp_convolution_form)(device - forced);
    if (node->op != &sp_op_conv2d && node->op != &sp_op_conv2d_data_gradient &&
        node->op != &sp_op_conv2d_weight_gradient)
        return sp_cpu_device()->prepare(sp_cpu_device(), node, out);
    if (form == SP_CONVOLUTION_DIRECT) return prepare_direct(node, out);
    *out = (sp_kernel){.name = names[form]};
    return sp_winograd_prepare(form, SP_FILTERS_BY_SIZE, node, out);
}

static void make_forced(void)
{
    for (int i = 0; i < SP_CONVOLUTION_FORM_COUNT; i++) {
        forced[i] = *sp_cpu_device();
        forced[i].prepare = prepare_forced;
    }
}

sp_device *sp_cpu_device_with(sp_convolution_form form)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_forced);
    return &forced[form];
}
