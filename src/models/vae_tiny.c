/* AutoencoderTiny. Every layer has its place in one list, activations and resizings included, and
 * that place is its name: "decoder.layers.7.conv.2.weight". */
#include "models/layers.h"
#include "models/vae_parts.h"

/* ---- configuration ---- */

static const sp_config_rule rules[] = {
    {"in_channels", NULL},
    {"out_channels", NULL},
    {"encoder_block_out_channels", NULL},
    {"decoder_block_out_channels", NULL},
    {"act_fn", NULL},
    {"upsample_fn", "\"nearest\""},
    {"latent_channels", NULL},
    {"upsampling_scaling_factor", NULL},
    {"num_encoder_blocks", NULL},
    {"num_decoder_blocks", NULL},
    {"latent_magnitude", NULL}, /* these two are for latents kept as bytes */
    {"latent_shift", NULL},
    {"force_upcast", NULL},
    {"scaling_factor", NULL},
    {"shift_factor", "0"},
    {"block_out_channels", NULL}, /* diffusers repeats the decoder's there */
};

static const struct {
    const char *name;
    sp_unary_kind kind;
} activations[] = {{"relu", SP_UNARY_RELU},
                   {"silu", SP_UNARY_SILU},
                   {"swish", SP_UNARY_SILU},
                   {"gelu", SP_UNARY_GELU}};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

static sp_status read_activation(const json_t *config, const char *where, sp_unary_kind *out)
{
    const char *name;
    SP_TRY(sp_json_text(config, "act_fn", "relu", where, &name));
    for (int i = 0; i < ACTIVATIONS; i++)
        if (strcmp(name, activations[i].name) == 0) {
            *out = activations[i].kind;
            return SP_OK;
        }
    return sp_fail(SP_UNSUPPORTED,
                   "%s: \"act_fn\" is \"%.64s\", and only relu, silu and gelu are supported", where,
                   name);
}

/* The stages of one half: how many blocks each has, and the channels, which no layer changes and so
 * are the same in all. */
static sp_status read_half(const json_t *config, const char *half, const int64_t *default_blocks,
                           const char *where, int *stages, int64_t *channels, int64_t *blocks)
{
    static const int64_t default_channels[] = {64, 64, 64, 64};
    char channels_key[40], blocks_key[40];
    int64_t all[SP_MODEL_MAX_LEVELS];
    int count;
    snprintf(channels_key, sizeof channels_key, "%s_block_out_channels", half);
    snprintf(blocks_key, sizeof blocks_key, "num_%s_blocks", half);
    SP_TRY(sp_config_int_array(config, channels_key, "channel counts", default_channels, 4, 1,
                               SP_MODEL_MAX_CHANNELS, where, all, &count));
    SP_TRY(sp_config_int_array(config, blocks_key, "numbers of blocks", default_blocks, 4, 0,
                               SP_MODEL_MAX_LAYERS, where, blocks, stages));
    if (count != *stages)
        return sp_fail(SP_FORMAT, "%s: \"%s\" has %d entries and \"%s\" %d", where, channels_key,
                       count, blocks_key, *stages);
    for (int i = 1; i < count; i++)
        if (all[i] != all[0])
            return sp_fail(SP_FORMAT, "%s: \"%s\" holds %lld and %lld, and must be all equal",
                           where, channels_key, (long long)all[0], (long long)all[i]);
    *channels = all[0];
    return SP_OK;
}

static int64_t power(int64_t base, int exponent)
{
    return exponent > 0 ? base * power(base, exponent - 1) : 1;
}

/* How much smaller the encoder makes a side, which is how much larger the decoder must make it. */
static sp_status read_factor(const json_t *config, const char *where, sp_vae_config *out)
{
    sp_vae_tiny_config *c = &out->tiny;
    SP_TRY(sp_config_int(config, "upsampling_scaling_factor", 2, 1, 64, where, &c->upscale));
    int64_t up = power(c->upscale, c->decoder_stages - 1), down = power(2, c->encoder_stages - 1);
    if (up != down)
        return sp_fail(SP_UNSUPPORTED,
                       "%s: the encoder makes sides %lld times smaller and the decoder %lld times "
                       "larger, and both must be equal",
                       where, (long long)down, (long long)up);
    out->factor = up;
    return SP_OK;
}

sp_status sp_vae_tiny_read(const json_t *config, const char *where, sp_vae_config *out)
{
    static const int64_t encoder_blocks[] = {1, 3, 3, 3}, decoder_blocks[] = {3, 3, 3, 1};
    sp_vae_tiny_config *c = &out->tiny;
    SP_TRY(sp_config_check(config, where, rules, sizeof rules / sizeof *rules));
    SP_TRY(sp_config_int(config, "in_channels", 3, 1, SP_MODEL_MAX_CHANNELS, where,
                         &out->in_channels));
    SP_TRY(sp_config_int(config, "out_channels", 3, 1, SP_MODEL_MAX_CHANNELS, where,
                         &out->out_channels));
    SP_TRY(sp_config_int(config, "latent_channels", 4, 1, SP_MODEL_MAX_CHANNELS, where,
                         &out->latent_channels));
    SP_TRY(sp_config_double(config, "scaling_factor", 1, 0, 1e6, where, &out->scaling_factor));
    SP_TRY(read_activation(config, where, &c->activation));
    SP_TRY(read_half(config, "encoder", encoder_blocks, where, &c->encoder_stages,
                     &c->encoder_channels, c->encoder_blocks));
    SP_TRY(read_half(config, "decoder", decoder_blocks, where, &c->decoder_stages,
                     &c->decoder_channels, c->decoder_blocks));
    return read_factor(config, where, out);
}

static json_t *repeated(int64_t value, int count)
{
    sp_json_made list = sp_json_make_list();
    for (int i = 0; i < count; i++)
        sp_json_add(&list, json_integer(value));
    return sp_json_done(&list);
}

json_t *sp_vae_tiny_write(const sp_vae_config *config)
{
    const sp_vae_tiny_config *c = &config->tiny;
    const char *activation = "relu";
    for (int i = 0; i < ACTIVATIONS; i++)
        if (activations[i].kind == c->activation) activation = activations[i].name;
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:s, s:f}", "_class_name", "AutoencoderTiny",
        "in_channels", (json_int_t)config->in_channels, "out_channels",
        (json_int_t)config->out_channels, "latent_channels", (json_int_t)config->latent_channels,
        "encoder_block_out_channels", repeated(c->encoder_channels, c->encoder_stages),
        "decoder_block_out_channels", repeated(c->decoder_channels, c->decoder_stages),
        "num_encoder_blocks", sp_json_integers(c->encoder_blocks, c->encoder_stages), "num_decoder_blocks",
        sp_json_integers(c->decoder_blocks, c->decoder_stages), "upsampling_scaling_factor",
        (json_int_t)c->upscale, "act_fn", activation, "scaling_factor", config->scaling_factor);
}

/* ---- graph ---- */

typedef struct {
    sp_builder *b;
    int next; /* the place of the next layer in the list */
} layer_list;

static const char *place(layer_list *list)
{
    static _Thread_local char name[16];
    snprintf(name, sizeof name, "%d", list->next++);
    return name;
}

/* relu(x + conv(act(conv(act(conv(x)))))) */
static sp_value *block(layer_list *list, const sp_vae_tiny_config *c, sp_value *x)
{
    if (!x) return NULL;
    sp_builder *b = list->b;
    int64_t channels = sp_channels(x);
    sp_scope_enter(b, "%s.conv", place(list));
    sp_value *h = sp_unary(b, c->activation, sp_conv2d_layer(b, "0", x, channels, 3));
    h = sp_unary(b, c->activation, sp_conv2d_layer(b, "2", h, channels, 3));
    h = sp_conv2d_layer(b, "4", h, channels, 3);
    sp_scope_leave(b);
    return sp_unary(b, SP_UNARY_RELU, sp_add(b, h, x));
}

/* A 3x3 convolution without bias. */
static sp_value *between(layer_list *list, sp_value *x, int stride)
{
    if (!x) return NULL;
    return sp_conv2d_layer_without_bias(list->b, place(list), x, sp_channels(x), 3,
                                        (sp_conv2d_options){stride, 1, 1, 1, 1, false});
}

sp_vae_moments sp_vae_tiny_encode(sp_builder *b, const sp_vae_config *config, sp_value *image)
{
    const sp_vae_tiny_config *c = &config->tiny;
    layer_list list = {b, 0};
    sp_scope_enter(b, "encoder.layers");
    sp_value *x = sp_affine(b, image, 0.5, 0.5); /* pictures in [0,1] here */
    x = sp_conv2d_layer(b, place(&list), x, c->encoder_channels, 3);
    for (int stage = 0; stage < c->encoder_stages; stage++) {
        if (stage > 0) x = between(&list, x, 2);
        for (int64_t i = 0; i < c->encoder_blocks[stage]; i++)
            x = block(&list, c, x);
    }
    x = sp_conv2d_layer(b, place(&list), x, config->latent_channels, 3);
    sp_scope_leave(b);
    return (sp_vae_moments){x, NULL};
}

sp_value *sp_vae_tiny_decode(sp_builder *b, const sp_vae_config *config, sp_value *latent)
{
    const sp_vae_tiny_config *c = &config->tiny;
    layer_list list = {b, 0};
    sp_scope_enter(b, "decoder.layers");
    /* A soft clamp to [-3,3]. */
    sp_value *x = sp_unary(b, SP_UNARY_TANH, sp_affine(b, latent, 1.0 / 3, 0));
    x = sp_conv2d_layer(b, place(&list), sp_affine(b, x, 3, 0), c->decoder_channels, 3);
    x = sp_unary(b, c->activation, x);
    list.next++;
    for (int stage = 0; stage < c->decoder_stages; stage++) {
        for (int64_t i = 0; i < c->decoder_blocks[stage]; i++)
            x = block(&list, c, x);
        if (stage == c->decoder_stages - 1 || !x) break;
        x = sp_upsample_nearest(b, x, c->upscale * sp_dim(x, 1), c->upscale * sp_dim(x, 2));
        list.next++;
        x = between(&list, x, 1);
    }
    x = sp_conv2d_layer(b, place(&list), x, config->out_channels, 3);
    sp_scope_leave(b);
    return sp_affine(b, x, 2, -1);
}
