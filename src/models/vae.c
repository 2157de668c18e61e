/* Autoencoders: the kinds, and what they have in common. */
#include "models/vae.h"

#include <string.h>

#include "models/layers.h"
#include "models/vae_parts.h"

static const struct {
    const char *class_name;
    sp_status (*read)(const json_t *config, const char *where, sp_vae_config *out);
    json_t *(*write)(const sp_vae_config *config);
    sp_vae_moments (*encode)(sp_builder *b, const sp_vae_config *c, sp_value *image);
    sp_value *(*decode)(sp_builder *b, const sp_vae_config *c, sp_value *latent);
} kinds[] = {
#define X(name, lower, class_name)                                                                 \
    {class_name, sp_vae_##lower##_read, sp_vae_##lower##_write, sp_vae_##lower##_encode,           \
     sp_vae_##lower##_decode},
    SP_VAE_LIST(X)
#undef X
};
enum { KINDS = sizeof kinds / sizeof *kinds };

sp_status sp_vae_config_read(const json_t *config, const char *where, sp_vae_config *out)
{
    const char *name;
    int kind = 0;
    memset(out, 0, sizeof *out);
    if (!json_is_object(config)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", where);
    SP_TRY(sp_json_text(config, "_class_name", kinds[SP_VAE_KL].class_name, where, &name));
    while (kind < KINDS && strcmp(name, kinds[kind].class_name) != 0)
        kind++;
    if (kind == KINDS)
        return sp_fail(SP_UNSUPPORTED, "%s: \"_class_name\" is \"%.64s\", which is not supported",
                       where, name);
    out->kind = (sp_vae_kind)kind;
    return kinds[kind].read(config, where, out);
}

sp_status sp_vae_config_load(const char *path, sp_vae_config *out)
{
    json_t *config;
    SP_TRY(sp_json_load(path, &config));
    sp_status status = sp_vae_config_read(config, path, out);
    json_decref(config);
    return status;
}

json_t *sp_vae_config_write(const sp_vae_config *config)
{
    return kinds[config->kind].write(config);
}

sp_vae_moments sp_vae_encode(sp_builder *b, const sp_vae_config *c, sp_value *image)
{
    sp_expect_shape(b, image, "image (as NHWC)", sp_shape_of(-1, -1, -1, c->in_channels));
    int64_t factor = c->factor;
    if (image && !sp_builder_failed(b) && (sp_dim(image, 1) < factor || sp_dim(image, 2) < factor))
        sp_builder_fail(b, SP_SHAPE, "\"image\" is %lldx%lld, and must be at least %lldx%lld",
                        (long long)sp_dim(image, 2), (long long)sp_dim(image, 1), (long long)factor,
                        (long long)factor);
    if (sp_builder_failed(b)) return (sp_vae_moments){NULL, NULL};
    return kinds[c->kind].encode(b, c, image);
}

sp_value *sp_vae_decode(sp_builder *b, const sp_vae_config *c, sp_value *latent)
{
    sp_expect_shape(b, latent, "latent (as NHWC)", sp_shape_of(-1, -1, -1, c->latent_channels));
    return sp_builder_failed(b) ? NULL : kinds[c->kind].decode(b, c, latent);
}

/* ---- as networks ---- */

static sp_status read_config(const json_t *config, const char *where, void *out)
{
    return sp_vae_config_read(config, where, out);
}

static void add_picture(sp_ports *out, const char *name, int64_t channels, bool optional)
{
    out->port[out->count++] = (sp_port){.name = name,
                                        .kind = SP_PORT_PICTURE,
                                        .shape = sp_shape_of(SP_SIZE_N, channels, SP_SIZE_H, SP_SIZE_W),
                                        .rate = SP_RATE_STEP,
                                        .optional = optional};
}

static void encoder_inputs(const void *config, sp_ports *out)
{
    add_picture(out, "image", ((const sp_vae_config *)config)->in_channels, false);
}

static void encoder_outputs(const void *config, sp_ports *out)
{
    int64_t channels = ((const sp_vae_config *)config)->latent_channels;
    add_picture(out, "mean", channels, false);
    add_picture(out, "logvar", channels, true);
}

static int64_t encoder_least_side(const void *config)
{
    return ((const sp_vae_config *)config)->factor;
}

static void build_encoder(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    (void)options;
    sp_vae_moments moments = sp_vae_encode(b, config, sp_values_get(in, "image"));
    sp_values_add(out, "mean", moments.mean);
    if (moments.logvar) sp_values_add(out, "logvar", moments.logvar);
}

const sp_network sp_vae_encoder_network = {.name = "vae-encoder",
                                           .read = read_config,
                                           .inputs = encoder_inputs,
                                           .outputs = encoder_outputs,
                                           .least_side = encoder_least_side,
                                           .build = build_encoder};

static void decoder_inputs(const void *config, sp_ports *out)
{
    add_picture(out, "latent", ((const sp_vae_config *)config)->latent_channels, false);
}

static void decoder_outputs(const void *config, sp_ports *out)
{
    add_picture(out, "image", ((const sp_vae_config *)config)->out_channels, false);
}

static void build_decoder(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    (void)options;
    sp_values_add(out, "image", sp_vae_decode(b, config, sp_values_get(in, "latent")));
}

const sp_network sp_vae_decoder_network = {.name = "vae-decoder",
                                           .read = read_config,
                                           .inputs = decoder_inputs,
                                           .outputs = decoder_outputs,
                                           .build = build_decoder};
