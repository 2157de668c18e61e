/* Inception with weights by a formula, which tools/golden/make_inception.py repeats. */
#ifndef SP_TESTS_INCEPTION_SUPPORT_H
#define SP_TESTS_INCEPTION_SUPPORT_H
#include <math.h>
#include "base/text.h"
#include "formula.h"
#include "graph/graph.h"
#include "models/inception.h"

/* What pytorch-fid's file would have of a layer. */
static inline sp_status add_formula_layer(sp_weights *weights, const sp_value *weight)
{
    static const struct {
        const char *part;
        double factor, offset;
    } parts[] = {{"weight", 0.5, 1}, {"bias", 0.2, 0}, {"running_mean", 0.2, 0}, {"running_var", 1, 1}};
    const sp_shape s = weight->shape;
    int64_t fan = sp_shape_count(s) / s.dim[0];
    char name[160];
    SP_TRY(add_formula(weights, weight->name, s, 2 * sqrt(6 / (double)fan), 0));
    if (s.rank != 4) return SP_OK;
    for (int i = 0; i < 4; i++) {
        int stem = (int)(strlen(weight->name) - strlen(".conv.weight"));
        snprintf(name, sizeof name, "%.*s.bn.%s", stem, weight->name, parts[i].part);
        SP_TRY(add_formula(weights, name, sp_shape_of(s.dim[0]), parts[i].factor, parts[i].offset));
    }
    return SP_OK;
}

/* A file of them as safetensors, 87 MB. */
static inline sp_status write_formula_inception(const char *path)
{
    sp_graph *graph;
    sp_weights *weights;
    SP_TRY(sp_weights_create(&weights));
    sp_status status = sp_network_least_graph(&sp_inception_network, NULL, &graph);
    for (int i = 0; !status && i < graph->value_count; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER && sp_ends_with(graph->values[i]->name, "weight"))
            status = add_formula_layer(weights, graph->values[i]);
    sp_graph_destroy(graph);
    if (!status) status = sp_weights_save(weights, path, SP_F32, NULL, 0, NULL);
    sp_weights_destroy(weights);
    return status;
}

#endif
