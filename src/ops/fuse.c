/* Fusion: two nodes become one where the value between them has no other use.
 *   group_norm -> silu                          group_norm{silu}
 *   upsample_nearest to twice the size -> conv2d, 3x3, stride 1, padding 1    conv2d{doubled}
 *   conv2d -> add_per_channel                   conv2d with per_channel
 *   conv2d -> add, linear -> add (equal shapes) the same with residual
 *   linear -> geglu                             linear_geglu, for inference
 *   group_norm -> conv2d, 3x3, padding 1, of a large picture              norm_conv2d, for inference; of its residual
 *                                               a 1x1 conv2d, too
 * The fused node is the first one, moved to the place of the second (conv2d{doubled}: the second,
 * where it is): there all its inputs are ready. */
#include <string.h>
#include "graph/passes.h"
#include "ops/ops.h"

typedef struct {
    sp_graph *graph;
    int *uses;  /* by value id; an output of the graph counts as one */
    int *place; /* by value id: the position of its producer in the order */
} fusion;

static void count_uses(fusion *f)
{
    sp_graph *graph = f->graph;
    for (int n = 0; n < graph->node_count; n++) {
        sp_node *node = graph->nodes[n];
        for (int i = 0; i < node->inputs && !node->removed; i++)
            if (node->in[i]) f->uses[node->in[i]->id]++;
        for (int i = 0; i < node->outputs && !node->removed; i++)
            f->place[node->out[i]->id] = n;
    }
    for (int i = 0; i < graph->output_count; i++)
        f->uses[graph->outputs[i].value->id]++;
}

/* The node that made input i of `user`, if it is an `op` whose result only `user` reads, as often
 * and in the same checkpointing block. */
static sp_node *fusible(const fusion *f, const sp_node *user, int i, const sp_op *op)
{
    sp_node *node = user->in[i]->producer;
    if (!node || node->op != op || node->removed || f->uses[user->in[i]->id] != 1) return NULL;
    if (node->checkpoint != user->checkpoint || node->rate != user->rate) return NULL;
    return user->in[i]->dtype == user->out[0]->dtype ? node : NULL;
}

/* `first` takes over the result and the place of `second`, which is at position n; what it made
 * before belongs to the removed node then. */
static void absorb(fusion *f, sp_node *first, sp_node *second, int n)
{
    int from = f->place[first->out[0]->id];
    first->out[0]->producer = second;
    first->out[0] = second->out[0];
    first->out[0]->producer = first;
    second->removed = true;
    f->graph->nodes[n] = first;
    f->graph->nodes[from] = second;
}

/* Gives `node` the optional input i, if it has none yet. */
static bool take_input(sp_node *node, int i, sp_value *value)
{
    if (i < node->inputs && node->in[i]) return false;
    node->in[i] = value;
    if (node->inputs <= i) node->inputs = i + 1;
    return true;
}

static sp_status fuse_silu(fusion *f, sp_node *unary, int n)
{
    const sp_unary_options *function = unary->options;
    sp_node *norm = fusible(f, unary, 0, &sp_op_group_norm);
    if (function->kind != SP_UNARY_SILU || !norm) return SP_OK;
    const sp_group_norm_options *before = norm->options;
    if (before->silu) return SP_OK;
    sp_group_norm_options *options = sp_arena_alloc(f->graph->arena, sizeof *options);
    if (!options) return sp_fail(SP_MEMORY, "out of memory");
    *options = *before;
    options->silu = true;
    norm->options = options;
    absorb(f, norm, unary, n);
    return SP_OK;
}

static sp_status fuse_doubling(fusion *f, sp_node *conv)
{
    const sp_conv2d_options *o = conv->options;
    sp_node *upsample = fusible(f, conv, 0, &sp_op_upsample_nearest);
    bool keeps_size = o->stride == 1 && o->pad_top == 1 && o->pad_left == 1 && o->pad_bottom == 1 &&
                      o->pad_right == 1 && sp_dim(conv->in[1], 2) == 3 &&
                      sp_dim(conv->in[1], 3) == 3;
    if (!upsample || !keeps_size || o->doubled) return SP_OK;
    sp_value *x = upsample->in[0], *twice = upsample->out[0];
    if (sp_dim(twice, 1) != 2 * sp_dim(x, 1) || sp_dim(twice, 2) != 2 * sp_dim(x, 2)) return SP_OK;
    sp_conv2d_options *options = sp_arena_alloc(f->graph->arena, sizeof *options);
    if (!options) return sp_fail(SP_MEMORY, "out of memory");
    *options = *o;
    options->doubled = true;
    conv->options = options;
    conv->in[0] = x;
    upsample->removed = true;
    return SP_OK;
}

static void fuse_add_per_channel(fusion *f, sp_node *add, int n)
{
    sp_node *conv = fusible(f, add, 0, &sp_op_conv2d);
    if (conv && add->in[1]->dtype == add->out[0]->dtype && take_input(conv, 3, add->in[1]))
        absorb(f, conv, add, n);
}

static void fuse_residual(fusion *f, sp_node *add, int n)
{
    const sp_add_options *options = add->options;
    if (options->alpha != 1 || !sp_shape_equal(add->in[0]->shape, add->in[1]->shape)) return;
    for (int i = 0; i < 2; i++) {
        sp_value *residual = add->in[1 - i];
        if (residual->dtype != add->out[0]->dtype) continue;
        sp_node *conv = fusible(f, add, i, &sp_op_conv2d),
                *linear = fusible(f, add, i, &sp_op_linear);
        sp_node *product = conv ? conv : linear;
        if (!product || !take_input(product, conv ? 4 : 3, residual)) continue;
        absorb(f, product, add, n);
        return;
    }
}

/* The linear layer is the first node, and stays as the node of another operator. */
static void fuse_geglu(fusion *f, sp_node *geglu, int n)
{
    sp_node *linear = fusible(f, geglu, 0, &sp_op_linear);
    if (!linear || (linear->inputs > 3 && linear->in[3])) return;
    if (((const sp_linear_options *)linear->options)->transposed) return;
    linear->op = &sp_op_linear_geglu;
    linear->options = NULL;
    if (linear->inputs > 3) linear->inputs = 3;
    absorb(f, linear, geglu, n);
}

static sp_status fuse_node(fusion *f, sp_node *node, int n)
{
    if (node->op == &sp_op_unary) return fuse_silu(f, node, n);
    if (node->op == &sp_op_conv2d) return fuse_doubling(f, node);
    if (node->op == &sp_op_add_per_channel) fuse_add_per_channel(f, node, n);
    if (node->op == &sp_op_add) fuse_residual(f, node, n);
    return SP_OK;
}

/* ---- large pictures ---- */

/* At least so many that no convolution of a strip packs filters otherwise than that of the whole. */
int64_t sp_strip_elements = 10 << 20;

static bool is_plain(const sp_node *conv, int64_t kernel)
{
    const sp_conv2d_options *o = conv->options;
    int pad = (int)kernel / 2;
    return sp_dim(conv->in[1], 2) == kernel && sp_dim(conv->in[1], 3) == kernel && o->stride == 1 && !o->doubled &&
           o->pad_top == pad && o->pad_left == pad && o->pad_bottom == pad && o->pad_right == pad;
}

static sp_value *input_of(const sp_node *node, int i)
{
    return i < node->inputs ? node->in[i] : NULL;
}

/* Rows of a strip of x, a multiple of what tiles of any kind have; 0 if it is not worth it. */
static int64_t strip_rows(const sp_value *x)
{
    enum { TILES = 12 };
    int64_t row = sp_dim(x, 2) * sp_dim(x, 3);
    if (sp_dim(x, 0) != 1 || sp_shape_count(x->shape) < 6 * sp_strip_elements) return 0;
    int64_t rows = ((sp_strip_elements + row - 1) / row + TILES - 1) / TILES * TILES;
    return sp_dim(x, 1) >= 2 * rows ? rows : 0;
}

/* Where there are fewer, as where a picture comes out, what the norm makes is not much more than its input, and kernels
 * of libraries sum strips in another order. */
enum { LEAST_CHANNELS = 16 };

/* The convolution stays where it is, as a node of another operator. */
static sp_status fuse_norm(fusion *f, sp_node *conv)
{
    sp_node *norm = fusible(f, conv, 0, &sp_op_group_norm), *shortcut = NULL;
    if (!norm || !is_plain(conv, 3) || input_of(conv, 3) || sp_channels(conv->out[0]) < LEAST_CHANNELS)
        return SP_OK;
    int64_t rows = strip_rows(norm->in[0]);
    if (!rows) return SP_OK;
    sp_norm_conv2d_options *options = sp_arena_alloc(f->graph->arena, sizeof *options);
    if (!options) return sp_fail(SP_MEMORY, "out of memory");
    *options = (sp_norm_conv2d_options){*(const sp_group_norm_options *)norm->options, rows};
    sp_value *residual = input_of(conv, 4);
    if (residual) shortcut = fusible(f, conv, 4, &sp_op_conv2d);
    if (shortcut && (!is_plain(shortcut, 1) || input_of(shortcut, 3) || input_of(shortcut, 4))) shortcut = NULL;
    sp_value *const in[SP_MAX_INPUTS] = {norm->in[0],          conv->in[1],
                                         input_of(conv, 2),    input_of(norm, 1),
                                         input_of(norm, 2),    shortcut ? shortcut->in[0] : residual,
                                         shortcut ? shortcut->in[1] : NULL, shortcut ? input_of(shortcut, 2) : NULL};
    memcpy(conv->in, in, sizeof in);
    conv->op = &sp_op_norm_conv2d;
    conv->options = options;
    conv->inputs = SP_MAX_INPUTS;
    norm->removed = true;
    if (shortcut) shortcut->removed = true;
    return SP_OK;
}

static sp_status fuse_node_for_inference(fusion *f, sp_node *node, int n)
{
    if (node->op == &sp_op_geglu) fuse_geglu(f, node, n);
    return node->op == &sp_op_conv2d ? fuse_norm(f, node) : SP_OK;
}

static sp_status fuse_graph(sp_graph *graph, sp_status (*fuse)(fusion *f, sp_node *node, int n))
{
    size_t count = (size_t)graph->value_count + 1;
    fusion f = {graph, sp_alloc_zero(count * sizeof(int)), sp_alloc_zero(count * sizeof(int))};
    sp_status status = f.uses && f.place ? SP_OK : SP_MEMORY;
    if (!status) count_uses(&f);
    for (int n = 0; n < graph->node_count && !status; n++)
        if (!graph->nodes[n]->removed) status = fuse(&f, graph->nodes[n], n);
    int kept = 0;
    for (int n = 0; n < graph->node_count; n++)
        if (!graph->nodes[n]->removed) graph->nodes[kept++] = graph->nodes[n];
    graph->node_count = kept;
    sp_free(f.uses);
    sp_free(f.place);
    return status;
}

sp_status sp_pass_fuse(sp_graph *graph)
{
    return fuse_graph(graph, fuse_node);
}

sp_status sp_pass_fuse_inference(sp_graph *graph)
{
    return fuse_graph(graph, fuse_node_for_inference);
}
