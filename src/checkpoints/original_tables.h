/* Beginnings of names that differ between original checkpoints (from) and the graphs (to), for both
 * directions. Within src/models. */
#ifndef SP_CHECKPOINTS_ORIGINAL_TABLES_H
#define SP_CHECKPOINTS_ORIGINAL_TABLES_H
#include <stddef.h>
#include <stdbool.h>

typedef struct {
    const char *from, *to;
} sp_name_pair;

/* Replaces the first pair whose `from` (back: whose `to`) begins the name; the name is unchanged if
 * none does. */
void sp_replace_beginning(const char *name, const sp_name_pair *pairs, size_t count, bool back,
                          char *out, size_t size);
#define SP_REPLACE_BEGINNING(name, pairs, back, out, size)                                         \
    sp_replace_beginning(name, pairs, sizeof(pairs) / sizeof *(pairs), back, out, size)

static const sp_name_pair sp_unet_outside_names[] = {
    {"time_embed.0.", "time_embedding.linear_1."},
    {"time_embed.2.", "time_embedding.linear_2."},
    {"label_emb.0.0.", "add_embedding.linear_1."},
    {"label_emb.0.2.", "add_embedding.linear_2."},
    {"input_blocks.0.0.", "conv_in."},
    {"middle_block.1.", "mid_block.attentions.0."},
    {"out.0.", "conv_norm_out."},
    {"out.2.", "conv_out."},
};
static const sp_name_pair sp_unet_resnet_names[] = {
    {"in_layers.0.", "norm1."},          {"in_layers.2.", "conv1."},
    {"out_layers.0.", "norm2."},         {"out_layers.3.", "conv2."},
    {"emb_layers.1.", "time_emb_proj."}, {"skip_connection.", "conv_shortcut."},
};
static const sp_name_pair sp_vae_resnet_names[] = {{"nin_shortcut.", "conv_shortcut."}};
static const sp_name_pair sp_vae_attention_names[] = {{"norm.", "group_norm."},
                                                      {"q.", "to_q."},
                                                      {"k.", "to_k."},
                                                      {"v.", "to_v."},
                                                      {"proj_out.", "to_out.0."}};
static const sp_name_pair sp_open_clip_inside_names[] = {
    {"ln_1.", "layer_norm1."},
    {"ln_2.", "layer_norm2."},
    {"mlp.c_fc.", "mlp.fc1."},
    {"mlp.c_proj.", "mlp.fc2."},
    {"attn.out_proj.", "self_attn.out_proj."},
};
static const sp_name_pair sp_open_clip_outside_names[] = {
    {"token_embedding.", "embeddings.token_embedding."},
    {"positional_embedding", "embeddings.position_embedding.weight"},
    {"ln_final.", "final_layer_norm."},
};

#endif
