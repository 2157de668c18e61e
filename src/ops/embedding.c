/* embedding: y[i,c] = table[ids[i], c]; an id outside the table reads row 0
 *   ids    [..], i32 or i64
 *   table  [V,C]
 *   y      [..,C]
 * embedding_gradient: dtable[v,c] = sum of dy[i,c] over i with ids[i] = v
 *   dy     [..,C]
 *   dtable [V,C], full */
#include "ops/rules.h"

static sp_status check_ids(const sp_node *node)
{
    sp_dtype dtype = node->in[0]->dtype;
    if (dtype == SP_I32 || dtype == SP_I64) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: ids are of type %s, expected I32 or I64", node->op->name,
                   sp_dtype_name(dtype));
}

static int64_t row_of(const sp_node *node, const void *const *in, int64_t i, int64_t rows)
{
    int64_t id =
        node->in[0]->dtype == SP_I64 ? ((const int64_t *)in[0])[i] : ((const int32_t *)in[0])[i];
    return id >= 0 && id < rows ? id : 0;
}

static sp_status infer(sp_node *node)
{
    SP_TRY(check_ids(node));
    sp_shape y = sp_shape_in(node, 0), table = sp_shape_in(node, 1);
    if (table.rank != 2 || table.dim[0] < 1) return sp_unexpected(node, "table", 1, "[V,C]");
    if (y.rank == SP_MAX_RANK) return sp_misfit(node, "ids", 0, "table", 1);
    y.dim[y.rank++] = table.dim[1];
    node->out[0]->shape = y;
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    dx[1] = sp_embedding_gradient(b, node->in[0], dy[0], sp_dim(node->in[1], 0));
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t V = sp_dim(node->in[1], 0), C = sp_dim(node->in[1], 1);
    for (int64_t i = 0; i < sp_count_out(node, 0); i++)
        sp_write(node, out, 0, i, sp_read(node, in, 1, row_of(node, in, i / C, V) * C + i % C));
}

const sp_op sp_op_embedding = {
    .name = "embedding",
    .outputs = 1,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_embedding(sp_builder *b, sp_value *ids, sp_value *table)
{
    return sp_node_make(b, &sp_op_embedding, 2, 2, (sp_value *[]){ids, table}, NULL);
}

static sp_status gradient_infer(sp_node *node)
{
    const sp_embedding_gradient_options *o = node->options;
    SP_TRY(check_ids(node));
    sp_shape dy = sp_shape_in(node, 1), rows = dy;
    if (rows.rank < 1) return sp_misfit(node, "dy", 1, "ids", 0);
    rows.dim[--rows.rank] = 0;
    if (!sp_shape_equal(rows, sp_shape_in(node, 0))) return sp_misfit(node, "dy", 1, "ids", 0);
    node->out[0]->shape = sp_shape_of(o->rows, dy.dim[dy.rank - 1]);
    node->out[0]->dtype = sp_full_dtype(node);
    return SP_OK;
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    int64_t V = sp_dim(node->out[0], 0), C = sp_dim(node->out[0], 1), count = sp_count_in(node, 0);
    for (int64_t i = 0; i < V * C; i++)
        sp_write(node, out, 0, i, 0);
    for (int64_t first = 0; first < count; first++) {
        int64_t row = row_of(node, in, first, V);
        bool done = false;
        for (int64_t i = 0; i < first && !done; i++)
            done = row_of(node, in, i, V) == row;
        for (int64_t c = 0; c < C && !done; c++) {
            double sum = 0;
            for (int64_t i = first; i < count; i++)
                if (row_of(node, in, i, V) == row) sum += sp_read(node, in, 1, i * C + c);
            sp_write(node, out, 0, row * C + c, sum);
        }
    }
}

const sp_op sp_op_embedding_gradient = {
    .name = "embedding_gradient",
    .outputs = 1,
    .options_size = sizeof(sp_embedding_gradient_options),
    .full_outputs = 1,
    .infer = gradient_infer,
    .reference = gradient_reference,
};

sp_value *sp_embedding_gradient(sp_builder *b, sp_value *ids, sp_value *dy, int64_t rows)
{
    return sp_node_make(b, &sp_op_embedding_gradient, 2, 2, (sp_value *[]){ids, dy},
                        &(sp_embedding_gradient_options){rows});
}
