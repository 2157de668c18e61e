/* write_towers CLIP DINO HEAD: a CLIP of CLIP's vocabulary as transformers has it (CLIP.safetensors), a DINOv2 as Meta
 * has it (DINO.safetensors) and an aesthetic head, small, with weights by the formula, for scripts that run the
 * program. */
#include <stdio.h>
#include "checkpoints/tower_weights.h"
#include "formula.h"
#include "graph/graph.h"

/* The tensor that the parameter is of, whole, and its LayerScale. */
static sp_status add_source(sp_weights *weights, const sp_tower *tower, const sp_value *parameter)
{
    sp_tower_source source;
    sp_shape shape = parameter->shape;
    sp_tower_source_of(tower, parameter->name, &source);
    if (source.part >= 0) shape.dim[0] *= 3;
    if (*source.scale) SP_TRY(add_formula(weights, source.scale, sp_shape_of(shape.dim[0]), 0.5, 1));
    return add_formula(weights, source.name, shape, 0.5, shape.rank == 1);
}

static sp_status add_tower(sp_weights *weights, sp_tower_form form, sp_tower_kind kind, const sp_network *network,
                           const void *config)
{
    const sp_tower tower = {NULL, form, kind};
    sp_graph *graph;
    sp_status status = sp_network_least_graph(network, config, &graph);
    for (int i = 0; !status && i < graph->value_count; i++)
        if (graph->values[i]->kind == SP_VALUE_PARAMETER) status = add_source(weights, &tower, graph->values[i]);
    sp_graph_destroy(graph);
    return status;
}

enum { PROJECTION = 16 };

static sp_status write_head(const char *path)
{
    sp_weights *weights;
    SP_TRY(sp_weights_create(&weights));
    SP_TRY(add_formula(weights, "weight", sp_shape_of(1, PROJECTION), 1, 0));
    SP_TRY(add_formula(weights, "bias", sp_shape_of(1), 0, 5));
    SP_TRY(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
    return SP_OK;
}

static sp_status write_towers(const char *clip, const char *dino)
{
    const sp_encoder_layer layer = {64, 1, 128, 1e-5, SP_UNARY_GELU, false};
    const sp_vit_config image = {224, 112, layer, 1, .pre_norm = true, .projection = PROJECTION};
    const sp_vit_config meta = {224, 112, layer, 1, .patch_bias = true};
    const sp_clip_text_config text = {.vocabulary = 49408, .width = 64, .feed_forward = 128, .layers = 1, .heads = 1,
                                      .max_tokens = 77, .projection = PROJECTION, .epsilon = 1e-5};
    sp_weights *weights;
    SP_TRY(sp_weights_create(&weights));
    SP_TRY(add_tower(weights, SP_TOWER_TRANSFORMERS, SP_TOWER_IMAGE, &sp_vit_network, &image));
    SP_TRY(add_tower(weights, SP_TOWER_TRANSFORMERS, SP_TOWER_TEXT, &sp_clip_text_tower_network, &text));
    SP_TRY(add_formula(weights, "logit_scale", sp_shape_of(1), 0, 4));
    SP_TRY(sp_weights_save(weights, clip, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
    SP_TRY(sp_weights_create(&weights));
    SP_TRY(add_tower(weights, SP_TOWER_DINO, SP_TOWER_IMAGE, &sp_vit_network, &meta));
    SP_TRY(sp_weights_save(weights, dino, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
    return SP_OK;
}

int main(int argc, char **argv)
{
    if (argc != 4 || write_towers(argv[1], argv[2]) != SP_OK || write_head(argv[3]) != SP_OK) {
        fprintf(stderr, "write_towers CLIP DINO HEAD: %s\n", sp_error_message());
        return 1;
    }
    return 0;
}
