/* Files of adapters (LoRA and its kin) and of learned tokens, of tensors as fuzz/input_tensors.c takes them. Adapters
 * that are read are merged into layers of a few numbers, and every changed weight is made. */
#include <stdlib.h>
#include <string.h>
#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include "checkpoints/embedding.h"
#include "checkpoints/lora.h"
#include "fuzz/fuzz.h"

/* Layers of each kind that adapters are made for. */
static const struct {
    const char *name;
    sp_shape shape;
} layers[] = {
    {"conv_in.weight", {4, {8, 4, 3, 3}}},
    {"conv_in.bias", {1, {8}}},
    {"time_embedding.linear_1.weight", {2, {8, 8}}},
    {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight", {2, {8, 8}}},
    {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight", {2, {8, 8}}},
    {"down_blocks.0.attentions.0.transformer_blocks.0.norm1.weight", {1, {8}}},
    {"down_blocks.0.attentions.0.proj_in.weight", {4, {8, 8, 1, 1}}},
    {"transformer_blocks.0.attn.to_q.weight", {2, {8, 8}}},
    {"transformer_blocks.0.attn.to_k.weight", {2, {8, 8}}},
    {"transformer_blocks.0.attn.to_v.weight", {2, {8, 8}}},
    {"transformer_blocks.0.norm1.linear.weight", {2, {16, 8}}},
    {"encoder.layers.0.self_attn.q_proj.weight", {2, {8, 8}}},
};
enum { LAYERS = sizeof layers / sizeof *layers };

static sp_component make_component(sp_component_kind kind)
{
    static char here[] = "here";
    sp_component c = {.place = kind, .config = {.kind = kind}, .folder = here};
    if (kind == SP_COMPONENT_TRANSFORMER) c.config.transformer.blocks = 1;
    if (sp_weights_create(&c.weights)) abort();
    for (int i = 0; i < LAYERS; i++) {
        sp_tensor tensor;
        if (sp_tensor_create(SP_F32, layers[i].shape, &tensor) || sp_weights_add(c.weights, layers[i].name, tensor))
            abort();
    }
    return c;
}

static void merge(sp_lora *lora, sp_component_kind kind)
{
    if (!sp_lora_count(lora, kind)) return;
    sp_component c = make_component(kind);
    if (sp_lora_merge(lora, 0.5, sp_cpu_device(), &c, true) == SP_OK)
        for (int i = 0; i < LAYERS; i++) {
            sp_tensor made;
            if (sp_weights_take(c.weights, layers[i].name, &made) == SP_OK) sp_tensor_free(&made);
        }
    sp_weights_destroy(c.weights);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_lora *lora;
    sp_learned learned;
    data = fuzz_tensors(data, &size);
    const char *path = fuzz_file(data, size);
    if (sp_lora_open(path, &lora) == SP_OK) {
        for (int kind = 0; kind < SP_COMPONENT_COUNT; kind++)
            merge(lora, (sp_component_kind)kind);
        sp_lora_close(lora);
    }
    (void)sp_learned_open(&(splam_embedding){.path = path}, &learned);
    sp_learned_free(&learned);
    return 0;
}
