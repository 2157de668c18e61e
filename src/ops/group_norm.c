/* group_norm: z = gamma[c] * (x - mean[n,g]) / sqrt(var[n,g] + eps) + beta[c]     (Wu & He 2018)
 *             y = silu ? z * sigmoid(z) : z
 *   x      [N,..,C]   statistics over the middle and the C/G channels of group g
 *   gamma  [C] or absent (1), full
 *   beta   [C] or absent (0), full
 *   y      [N,..,C]
 * group_norm_gradient, with u = (x - mean) / sqrt(var + eps), dz = dy * (silu ? silu'(z) : 1) and
 * d = gamma dz:
 *   dx = (d - mean over g of d - u * mean over g of d u) / sqrt(var + eps)
 *   dgamma = sum dz u; dbeta = sum dz
 *   dy, dx         [N,..,C]
 *   dgamma, dbeta  [C], full; also made where gamma and beta are absent */
#include "ops/rules.h"

enum { X, GAMMA, BETA, DY };

typedef struct {
    int64_t N, S, C, G; /* S: the middle dimensions together */
    double epsilon;
    bool silu;
} sizes;

static sizes sizes_of(const sp_node *node)
{
    const sp_group_norm_options *o = node->options;
    sp_shape x = sp_shape_in(node, X);
    return (sizes){x.dim[0], sp_extent(x, 1, x.rank - 1), x.dim[x.rank - 1], o->groups, o->epsilon,
                   o->silu};
}

static sp_status check(const sp_node *node)
{
    const sp_group_norm_options *o = node->options;
    sp_shape x = sp_shape_in(node, X);
    if (x.rank < 2 || sp_shape_count(x) < 1)
        return sp_unexpected(node, "x", X, "[N,..,C] with elements");
    int64_t C = x.dim[x.rank - 1];
    if (o->groups < 1 || C % o->groups)
        return sp_fail(SP_SHAPE, "%s: x has shape %s, whose channels are no multiple of %d groups",
                       node->op->name, sp_shape_text(x), o->groups);
    for (int i = GAMMA; i <= BETA; i++)
        if (node->in[i] && !sp_shape_equal(sp_shape_in(node, i), sp_shape_of(C)))
            return sp_misfit(node, i == GAMMA ? "gamma" : "beta", i, "x", X);
    return SP_OK;
}

static sp_status infer(sp_node *node)
{
    SP_TRY(check(node));
    node->out[0]->shape = sp_shape_in(node, X);
    return SP_OK;
}

static void gradient(sp_builder *b, sp_node *node, sp_value *const *dy, sp_value **dx)
{
    sp_value *made = sp_group_norm_gradient(b, node->in[X], node->in[GAMMA], node->in[BETA], dy[0],
                                            *(const sp_group_norm_options *)node->options);
    if (!made) return;
    for (int i = X; i <= BETA; i++)
        if (sp_wants_gradient(node, i)) dx[i] = sp_output_of(made, i);
}

/* Position of element e of group g in sample n, e running over S and the group's channels. */
static int64_t at(const sizes *s, int64_t n, int64_t g, int64_t e)
{
    int64_t width = s->C / s->G;
    return (n * s->S + e / width) * s->C + g * width + e % width;
}

/* Mean of a group, and 1 / sqrt(var + eps). */
static void statistics(const sp_node *node, const void *const *in, const sizes *s, int64_t n,
                       int64_t g, double *mean, double *scale)
{
    int64_t count = s->S * (s->C / s->G);
    double sum = 0, squares = 0;
    for (int64_t e = 0; e < count; e++)
        sum += sp_read(node, in, X, at(s, n, g, e));
    *mean = sum / (double)count;
    for (int64_t e = 0; e < count; e++) {
        double d = sp_read(node, in, X, at(s, n, g, e)) - *mean;
        squares += d * d;
    }
    *scale = 1 / sqrt(squares / (double)count + s->epsilon);
}

static void reference(const sp_node *node, const void *const *in, void *const *out)
{
    sizes s = sizes_of(node);
    for (int64_t group = 0; group < s.N * s.G; group++) {
        int64_t n = group / s.G, g = group % s.G;
        double mean, scale;
        statistics(node, in, &s, n, g, &mean, &scale);
        for (int64_t e = 0; e < s.S * (s.C / s.G); e++) {
            int64_t i = at(&s, n, g, e), c = i % s.C;
            double u = (sp_read(node, in, X, i) - mean) * scale;
            double z = sp_read_or(node, in, GAMMA, c, 1) * u + sp_read_or(node, in, BETA, c, 0);
            sp_write(node, out, 0, i, s.silu ? z * sp_sigmoid(z) : z);
        }
    }
}

const sp_op sp_op_group_norm = {
    .name = "group_norm",
    .outputs = 1,
    .options_size = sizeof(sp_group_norm_options),
    .full_inputs = 1 << GAMMA | 1 << BETA,
    .infer = infer,
    .gradient = gradient,
    .reference = reference,
};

sp_value *sp_group_norm(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *beta,
                        sp_group_norm_options options)
{
    return sp_node_make(b, &sp_op_group_norm, 1, 3, (sp_value *[]){x, gamma, beta}, &options);
}

static sp_status gradient_infer(sp_node *node)
{
    SP_TRY(check(node));
    sp_shape x = sp_shape_in(node, X);
    if (!node->in[DY] || !sp_shape_equal(sp_shape_in(node, DY), x))
        return sp_misfit(node, "dy", DY, "x", X);
    node->out[0]->shape = x;
    for (int i = 1; i < 3; i++) {
        node->out[i]->shape = sp_shape_of(x.dim[x.rank - 1]);
        node->out[i]->dtype = sp_full_dtype(node);
    }
    return SP_OK;
}

/* u and dz of element i, whose group has this mean and scale. */
static double normalised_gradient(const sp_node *node, const void *const *in, const sizes *s,
                                  int64_t i, double mean, double scale, double *u)
{
    double dy = sp_read(node, in, DY, i);
    *u = (sp_read(node, in, X, i) - mean) * scale;
    if (!s->silu) return dy;
    double z =
        sp_read_or(node, in, GAMMA, i % s->C, 1) * *u + sp_read_or(node, in, BETA, i % s->C, 0);
    double sigmoid = sp_sigmoid(z);
    return dy * sigmoid * (1 + z * (1 - sigmoid));
}

static void gradient_reference(const sp_node *node, const void *const *in, void *const *out)
{
    sizes s = sizes_of(node);
    double *dgamma = sp_reference_scratch(node, out, 2 * s.C),
           *dbeta = dgamma ? dgamma + s.C : NULL;
    if (!dgamma) return;
    for (int64_t c = 0; c < s.C; c++)
        dgamma[c] = dbeta[c] = 0;
    int64_t count = s.S * (s.C / s.G);
    for (int64_t group = 0; group < s.N * s.G; group++) {
        int64_t n = group / s.G, g = group % s.G;
        double mean, scale, u, sum_d = 0, sum_du = 0;
        statistics(node, in, &s, n, g, &mean, &scale);
        for (int64_t e = 0; e < count; e++) {
            int64_t i = at(&s, n, g, e), c = i % s.C;
            double dz = normalised_gradient(node, in, &s, i, mean, scale, &u);
            dgamma[c] += dz * u;
            dbeta[c] += dz;
            sum_d += sp_read_or(node, in, GAMMA, c, 1) * dz;
            sum_du += sp_read_or(node, in, GAMMA, c, 1) * dz * u;
        }
        for (int64_t e = 0; e < count; e++) {
            int64_t i = at(&s, n, g, e);
            double d = normalised_gradient(node, in, &s, i, mean, scale, &u) *
                       sp_read_or(node, in, GAMMA, i % s.C, 1);
            sp_write(node, out, 0, i,
                     scale * (d - sum_d / (double)count - u * sum_du / (double)count));
        }
    }
    for (int64_t c = 0; c < s.C; c++) {
        sp_write(node, out, 1, c, dgamma[c]);
        sp_write(node, out, 2, c, dbeta[c]);
    }
    sp_free(dgamma);
}

const sp_op sp_op_group_norm_gradient = {
    .name = "group_norm_gradient",
    .outputs = 3,
    .options_size = sizeof(sp_group_norm_options),
    .full_inputs = 1 << GAMMA | 1 << BETA,
    .full_outputs = 1 << 1 | 1 << 2,
    .infer = gradient_infer,
    .reference = gradient_reference,
};

sp_value *sp_group_norm_gradient(sp_builder *b, sp_value *x, sp_value *gamma, sp_value *beta,
                                 sp_value *dy, sp_group_norm_options options)
{
    return sp_node_make(b, &sp_op_group_norm_gradient, 1, 4, (sp_value *[]){x, gamma, beta, dy},
                        &options);
}
