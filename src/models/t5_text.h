/* T5's encoder (T5EncoderModel of transformers, v1.1's form: Raffel et al. 2020, Shazeer 2020), the third text encoder
 * of Stable Diffusion 3 and 3.5. */
#ifndef SP_MODELS_T5_TEXT_H
#define SP_MODELS_T5_TEXT_H
#include "models/config.h"
#include "models/network.h"

enum { SP_T5_MAX_TOKENS = 1024 }; /* of an input; the scores of all pairs are kept */

typedef struct {
    int64_t vocabulary, width; /* config: vocab_size, d_model */
    int64_t heads, head_dim;   /* config: num_heads, d_kv; their product need not be the width */
    int64_t feed_forward;      /* config: d_ff */
    int64_t layers;            /* config: num_layers */
    int64_t buckets;           /* config: relative_attention_num_buckets, of distances; even */
    int64_t max_distance;      /* config: relative_attention_max_distance; all farther tokens share a bucket */
    double epsilon;            /* config: layer_norm_epsilon */
} sp_t5_config;

/* Reads config.json; SP_FORMAT, or SP_UNSUPPORTED naming the key (another feed_forward_proj than "gated-gelu"). */
sp_status sp_t5_config_read(const json_t *config, const char *where, sp_t5_config *out);

/* input_ids [N,L]; position_buckets [L,L], sp_t5_buckets; identity [L,L], 1 where row and column are the same, else 0
 * -> last_hidden_state [N,L,width]. Every token looks at all others, padding too, as in diffusers' pipeline:
 *   n = layer_norm(x), RMSNorm: x / sqrt(mean(x^2) + epsilon) * weight
 *   x += o(softmax(q(n) k(n)^T + B) v(n)), no scale; B [heads,L,L] = relative_attention_bias[position_buckets] of the
 *        first block, in all blocks
 *   x += wo(gelu_tanh(wi_0(n)) * wi_1(n)), n the norm of the new x
 * and the final norm; no layer has a bias. Names are transformers', the table's "shared.weight". */
extern const sp_network sp_t5_network;

/* The bucket of each pair of tokens, out [L,L], query by key: half of them are of keys behind the query, and of each
 * half one half of single distances, the others of ranges that grow geometrically up to max_distance. */
void sp_t5_buckets(const sp_t5_config *config, int64_t length, int32_t *out);

#endif
