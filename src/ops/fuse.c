/* Fusion: two nodes become one where the value between them has no other use.
 *   group_norm -> silu                          group_norm{silu}
 *   upsample_nearest to twice the size -> conv2d, 3x3, stride 1, padding 1    conv2d{doubled}
 *   conv2d -> add_per_channel                   conv2d with per_channel
 *   conv2d -> add, linear -> add (equal shapes) the same with residual
 *   linear -> geglu                             linear_geglu, for inference
 *   a residual block of a large picture         residual_block, for inference; with the conv2d{doubled} before it
 *                                               where channels become half as many
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

/* bytes: a gigabyte is what a decoder of 1024x1024 pixels is to take, its weights apart. */
sp_large_picture_limits sp_large_pictures = {.elements = 10 << 20, .bytes = 1000000000};

static bool is_plain(const sp_node *conv, int64_t kernel, bool doubled)
{
    const sp_conv2d_options *o = conv->options;
    int pad = (int)kernel / 2;
    return sp_dim(conv->in[1], 2) == kernel && sp_dim(conv->in[1], 3) == kernel && o->stride == 1 &&
           o->doubled == doubled && o->pad_top == pad && o->pad_left == pad && o->pad_bottom == pad &&
           o->pad_right == pad;
}

static sp_value *input_of(const sp_node *node, int i)
{
    return i < node->inputs ? node->in[i] : NULL;
}

/* The convolution that made input i of `user` and adds nothing but a bias. */
static sp_node *plain_before(const fusion *f, const sp_node *user, int i, int64_t kernel)
{
    sp_node *conv = input_of(user, i) ? fusible(f, user, i, &sp_op_conv2d) : NULL;
    return conv && is_plain(conv, kernel, false) && !input_of(conv, 3) && !input_of(conv, 4) ? conv : NULL;
}

/* The nodes of a residual block; shortcut and up: NULL where there is none. */
typedef struct {
    sp_node *norm1, *conv1, *norm2, *conv2, *shortcut, *up;
    sp_value *x; /* what it begins with */
} block;

/* Whether nobody reads v but the block. */
static bool is_own(const fusion *f, const block *b, const sp_value *v, int uses)
{
    const sp_node *node = v->producer;
    return node && f->uses[v->id] == uses && node->rate == b->conv2->rate && node->checkpoint == b->conv2->checkpoint &&
           !(node->op->flags & SP_OP_VIEW);
}

/* Finds the doubling convolution that makes what the block begins with, if what the first convolution and the shortcut
 * make of that is no larger. */
static void find_doubling(const fusion *f, block *b)
{
    sp_node *up = b->x->producer;
    if (!b->shortcut || !is_own(f, b, b->x, 2) || up->op != &sp_op_conv2d || !is_plain(up, 3, true)) return;
    if (input_of(up, 3) || input_of(up, 4) || 2 * sp_channels(b->conv2->out[0]) > sp_channels(b->x)) return;
    b->up = up;
    b->x = up->in[0];
}

/* Where there are fewer, kernels of libraries convolve, and sum strips in another order. */
enum { LEAST_CHANNELS = 16 };

static bool find_block(const fusion *f, sp_node *conv2, block *b)
{
    *b = (block){.conv2 = conv2};
    if (!is_plain(conv2, 3, false) || input_of(conv2, 3) || !input_of(conv2, 4)) return false;
    if (sp_channels(conv2->out[0]) < LEAST_CHANNELS) return false;
    b->norm2 = fusible(f, conv2, 0, &sp_op_group_norm);
    b->conv1 = b->norm2 ? plain_before(f, b->norm2, 0, 3) : NULL;
    b->norm1 = b->conv1 ? fusible(f, b->conv1, 0, &sp_op_group_norm) : NULL;
    if (!b->norm1) return false;
    b->x = b->norm1->in[0];
    b->shortcut = plain_before(f, conv2, 4, 1);
    if (b->shortcut && b->shortcut->in[0] != b->x) b->shortcut = NULL;
    return b->shortcut || conv2->in[4] == b->x;
}

/* Rows of a strip, a multiple of what tiles of any kind have; 0 if the block is not large. */
static int64_t strip_rows(const block *b)
{
    enum { TILES = 12 };
    const sp_value *v = b->norm1->in[0], *h = b->norm2->in[0], *wide = sp_channels(v) > sp_channels(h) ? v : h;
    int64_t row = sp_dim(wide, 2) * sp_dim(wide, 3);
    if (sp_dim(wide, 0) != 1 || sp_shape_count(wide->shape) < 6 * sp_large_pictures.elements) return 0;
    int64_t rows = ((sp_large_pictures.elements + row - 1) / row + TILES - 1) / TILES * TILES;
    return sp_dim(wide, 1) >= 2 * rows ? rows : 0;
}

static void take_block(sp_node *node, const block *b, const void *options)
{
    sp_value *const in[SP_BLOCK_INPUTS] = {
        [SP_BLOCK_X] = b->x,
        [SP_BLOCK_WEIGHT1] = b->conv1->in[1],
        [SP_BLOCK_WEIGHT2] = b->conv2->in[1],
        [SP_BLOCK_BIAS1] = input_of(b->conv1, 2),
        [SP_BLOCK_BIAS2] = input_of(b->conv2, 2),
        [SP_BLOCK_GAMMA1] = input_of(b->norm1, 1),
        [SP_BLOCK_BETA1] = input_of(b->norm1, 2),
        [SP_BLOCK_GAMMA2] = input_of(b->norm2, 1),
        [SP_BLOCK_BETA2] = input_of(b->norm2, 2),
        [SP_BLOCK_SHORTCUT] = b->shortcut ? b->shortcut->in[1] : NULL,
        [SP_BLOCK_SHORTCUT_BIAS] = b->shortcut ? input_of(b->shortcut, 2) : NULL,
        [SP_BLOCK_UP_WEIGHT] = b->up ? b->up->in[1] : NULL,
        [SP_BLOCK_UP_BIAS] = b->up ? input_of(b->up, 2) : NULL,
    };
    b->norm1->removed = b->conv1->removed = b->norm2->removed = true;
    if (b->shortcut) b->shortcut->removed = true;
    if (b->up) b->up->removed = true;
    memcpy(node->in, in, sizeof in);
    node->op = &sp_op_residual_block;
    node->options = options;
    node->inputs = SP_BLOCK_INPUTS;
}

/* The second convolution stays where it is, as a node of another operator. */
static sp_status fuse_block(fusion *f, sp_node *conv2)
{
    block b;
    if (!find_block(f, conv2, &b)) return SP_OK;
    int64_t rows = strip_rows(&b);
    if (!rows) return SP_OK;
    sp_residual_block_options *options = sp_arena_alloc(f->graph->arena, sizeof *options);
    if (!options) return sp_fail(SP_MEMORY, "out of memory");
    find_doubling(f, &b);
    *options = (sp_residual_block_options){.norm1 = *(const sp_group_norm_options *)b.norm1->options,
                                           .norm2 = *(const sp_group_norm_options *)b.norm2->options,
                                           .rows = rows,
                                           .bytes = sp_large_pictures.bytes,
                                           .consumes = is_own(f, &b, b.x, b.up ? 1 : 2)};
    take_block(conv2, &b, options);
    return SP_OK;
}

static sp_status fuse_node_for_inference(fusion *f, sp_node *node, int n)
{
    if (node->op == &sp_op_geglu) fuse_geglu(f, node, n);
    return node->op == &sp_op_conv2d ? fuse_block(f, node) : SP_OK;
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
