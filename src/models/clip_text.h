/* CLIPTextModel: token ids to the hidden states that condition a UNet, or to the vector that pictures are compared
 * with; built from a transformers config.json. */
#ifndef SP_MODELS_CLIP_TEXT_H
#define SP_MODELS_CLIP_TEXT_H
#include "models/config.h"
#include "models/network.h"
#include "ops/ops.h"

typedef struct {
    int64_t vocabulary;   /* config: vocab_size */
    int64_t width;        /* hidden_size */
    int64_t feed_forward; /* intermediate_size */
    int64_t layers, heads;
    int64_t max_tokens;       /* max_position_embeddings */
    int64_t projection;       /* projection_dim; of the networks with text_embeds, else for writing alone */
    double epsilon;           /* layer_norm_eps */
    sp_unary_kind activation; /* hidden_act: quick_gelu or gelu */
    int64_t begin_id, end_id, pad_id;
} sp_clip_text_config;

/* SP_IO, SP_FORMAT, or SP_UNSUPPORTED naming the key. Absent keys take transformers' defaults; keys
 * that do not change the text model are not looked at. */
sp_status sp_clip_text_config_load(const char *path, sp_clip_text_config *out);
sp_status sp_clip_text_config_read(const json_t *config, const char *where,
                                   sp_clip_text_config *out);
/* The config.json that transformers reads (json_decref); NULL when out of memory. */
json_t *sp_clip_text_config_write(const sp_clip_text_config *config);

/* Which hidden states are asked for: transformers' hidden_states[-1 - clip_skip]. */
typedef struct {
    int64_t clip_skip; /* the last k >= 0 layers are left out, as in diffusers */
    bool raw;          /* as the layers leave them, as SDXL takes them; else after the final norm */
} sp_clip_text_options;
/* input_ids [N,L] (i64 or i32, each in 0..vocabulary-1), L <= max_tokens -> hidden states [N,L,width]. options NULL: of
 * all layers, after the final norm. Parameters are named without the "text_model." of older files. */
sp_value *sp_clip_text(sp_builder *b, const sp_clip_text_config *c, const sp_clip_text_options *options,
                       sp_value *input_ids);

/* input_ids -> last_hidden_state; config sp_clip_text_config, options sp_clip_text_options. */
extern const sp_network sp_clip_text_network;

/* CLIPTextModelWithProjection: input_ids, end_rows [N] -> last_hidden_state by the options, and of all layers
 * text_embeds [N,projection], text_projection.weight times the normed state of the row that ends the text, not of unit
 * length. end_rows[n] = n L + sp_clip_text_end. */
extern const sp_network sp_clip_text_projection_network;
/* That without last_hidden_state: CLIP's own, for what it is compared with. */
extern const sp_network sp_clip_text_tower_network;

/* The place of the row that stands for the text: the first of `end_id`, or, where the config says 2 as older files do,
 * of the largest id; 0 if there is none. */
int64_t sp_clip_text_end(const sp_clip_text_config *config, const int32_t *ids, int64_t length);

#endif
