/* Autoencoders that are one file: what kind, what configuration, which names. */
#include "checkpoints/vae_file.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/original_parts.h"
#include "checkpoints/rename.h"

#define find sp_original_find

enum { GROUPS = 32, MAX_NAME = 512 };

/* ---- TAESD's lists of layers ---- */

/* One half: what stands before a layer's place, and the place of the first convolution. */
typedef struct {
    const char *prefix;
    int first;
} layer_list;
typedef struct {
    layer_list encoder, decoder;
} tiny_names;

static const tiny_names listed = {{"encoder.layers.", 0}, {"decoder.layers.", 0}},
                        halves = {{"taesd_encoder.", 0}, {"taesd_decoder.", 1}};

static bool has_tiny(const sp_tensor_file *file, const tiny_names *names)
{
    return find(file, "%s%d.weight", names->encoder.prefix, names->encoder.first) &&
           find(file, "%s%d.weight", names->decoder.prefix, names->decoder.first);
}

/* Blocks, and between stages convolutions without bias; a convolution with one ends the list. What has no weights,
 * activations and resizings, leaves its place empty. */
static sp_status count_stages(const sp_tensor_file *file, const layer_list *list, int64_t *blocks, int *stages,
                              int64_t *last)
{
    enum { MOST = SP_MODEL_MAX_LEVELS * (SP_MODEL_MAX_LAYERS + 2) };
    int stage = 0;
    for (int place = list->first + 1; place < MOST && stage < SP_MODEL_MAX_LEVELS; place++) {
        if (find(file, "%s%d.conv.0.weight", list->prefix, place)) {
            blocks[stage]++;
        } else if (find(file, "%s%d.bias", list->prefix, place)) {
            char name[64];
            snprintf(name, sizeof name, "%s%d.weight", list->prefix, place);
            *stages = stage + 1;
            return sp_original_dim(file, name, 0, last);
        } else if (find(file, "%s%d.weight", list->prefix, place)) {
            stage++;
        }
    }
    return sp_fail(SP_FORMAT, "%s: the layers \"%s...\" do not end with a convolution that has a bias",
                   sp_tensor_file_path(file), list->prefix);
}

static sp_status first_dims(const sp_tensor_file *file, const layer_list *list, int64_t *to, int64_t *from)
{
    char name[64];
    snprintf(name, sizeof name, "%s%d.weight", list->prefix, list->first);
    SP_TRY(sp_original_dim(file, name, 0, to));
    return sp_original_dim(file, name, 1, from);
}

static sp_status tiny_config(const sp_tensor_file *file, const tiny_names *names, json_t **out)
{
    sp_vae_config c = {.kind = SP_VAE_TINY, .scaling_factor = 1, .tiny = {.upscale = 2, .activation = SP_UNARY_RELU}};
    sp_vae_tiny_config *t = &c.tiny;
    int64_t latent;
    SP_TRY(first_dims(file, &names->encoder, &t->encoder_channels, &c.in_channels));
    SP_TRY(first_dims(file, &names->decoder, &t->decoder_channels, &c.latent_channels));
    SP_TRY(count_stages(file, &names->encoder, t->encoder_blocks, &t->encoder_stages, &latent));
    SP_TRY(count_stages(file, &names->decoder, t->decoder_blocks, &t->decoder_stages, &c.out_channels));
    *out = sp_vae_config_write(&c);
    return *out ? SP_OK : SP_MEMORY;
}

/* ---- AutoencoderKL ---- */

static sp_status kl_config(const sp_tensor_file *file, json_t **out)
{
    static const char block[] = "encoder.down_blocks.%d.resnets.%d.conv2.weight";
    char name[64];
    sp_vae_config c = {
        .kind = SP_VAE_KL, .scaling_factor = 0.18215, .sample_size = 512, .kl = {.groups = GROUPS}};
    sp_vae_kl_config *kl = &c.kl;
    SP_TRY(sp_original_dim(file, "encoder.conv_in.weight", 1, &c.in_channels));
    SP_TRY(sp_original_dim(file, "decoder.conv_out.weight", 0, &c.out_channels));
    SP_TRY(sp_original_dim(file, "decoder.conv_in.weight", 1, &c.latent_channels));
    for (; kl->levels < SP_MODEL_MAX_LEVELS && find(file, block, kl->levels, 0); kl->levels++) {
        snprintf(name, sizeof name, block, kl->levels, 0);
        SP_TRY(sp_original_dim(file, name, 0, &kl->channels[kl->levels]));
    }
    while (kl->layers < SP_MODEL_MAX_LAYERS && find(file, block, 0, (int)kl->layers))
        kl->layers++;
    if (!kl->layers)
        return sp_tensor_file_get(file, "encoder.down_blocks.0.resnets.0.conv2.weight", &(const sp_tensor *){0});
    kl->quant_conv = find(file, "quant_conv.weight");
    kl->post_quant_conv = find(file, "post_quant_conv.weight");
    kl->mid_attention = find(file, "encoder.mid_block.attentions.0.group_norm.weight");
    c.factor = (int64_t)1 << (kl->levels - 1);
    *out = sp_vae_config_write(&c);
    json_object_del(*out, "scaling_factor"); /* nothing says it */
    return *out ? SP_OK : SP_MEMORY;
}

/* ---- all ---- */

sp_vae_file_kind sp_vae_file_kind_of(const sp_tensor_file *file)
{
    if (has_tiny(file, &listed)) return SP_VAE_FILE_TINY;
    if (has_tiny(file, &halves)) return SP_VAE_FILE_HALVES;
    bool kl = find(file, "encoder.conv_in.weight") &&
              find(file, "encoder.down_blocks.0.resnets.0.norm1.weight");
    return kl ? SP_VAE_FILE_KL : SP_VAE_FILE_NONE;
}

/* config.json in the file's folder, if it is there and an autoencoder's: a file may lie among anything. */
static sp_status config_beside(const char *path, json_t **out, char **where)
{
    char *beside = sp_path_beside(path, "config.json");
    if (!beside) return SP_MEMORY;
    sp_status status = sp_path_exists(beside) ? sp_json_load(beside, out) : SP_OK;
    const char *class_name = json_string_value(json_object_get(*out, "_class_name"));
    if (!status && class_name && sp_component_kind_of_class(class_name) == SP_COMPONENT_VAE) {
        *where = beside;
        return SP_OK;
    }
    json_decref(*out);
    *out = NULL;
    sp_free(beside);
    return status;
}

sp_status sp_vae_file_config(const sp_tensor_file *file, json_t **out, char **where)
{
    sp_vae_file_kind kind = sp_vae_file_kind_of(file);
    *out = NULL;
    *where = NULL;
    if (kind != SP_VAE_FILE_HALVES) SP_TRY(config_beside(sp_tensor_file_path(file), out, where));
    if (*out) return SP_OK;
    *where = sp_strdup(sp_tensor_file_path(file));
    if (!*where) return SP_MEMORY;
    return kind == SP_VAE_FILE_KL ? kl_config(file, out)
                                  : tiny_config(file, kind == SP_VAE_FILE_TINY ? &listed : &halves, out);
}

static bool rename_half(const char *name, const layer_list *from, const layer_list *to, char *out, size_t size)
{
    int place, length = 0;
    if (!sp_starts_with(name, from->prefix)) return false;
    const char *rest = name + strlen(from->prefix);
    if (sscanf(rest, "%4d.%n", &place, &length) != 1 || !length) return false;
    snprintf(out, size, "%s%d.%s", to->prefix, place - from->first + to->first, rest + length);
    return true;
}

sp_status sp_add_vae_file(sp_weights *weights, const sp_tensor_file *file)
{
    if (sp_vae_file_kind_of(file) != SP_VAE_FILE_HALVES)
        return sp_add_renamed(weights, file, SP_COMPONENT_VAE);
    sp_weights_set_file(weights, file);
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        char out[MAX_NAME + 32];
        const char *name = sp_tensor_file_name(file, i);
        sp_tensor view = *sp_tensor_file_at(file, i);
        view.owned = false;
        if (strlen(name) < MAX_NAME && (rename_half(name, &halves.encoder, &listed.encoder, out, sizeof out) ||
                                        rename_half(name, &halves.decoder, &listed.decoder, out, sizeof out)))
            name = out;
        if (sp_weights_find(weights, name))
            return sp_fail(SP_FORMAT, "%s: two tensors stand for \"%s\"", sp_tensor_file_path(file), name);
        SP_TRY(sp_weights_add(weights, name, view));
    }
    return SP_OK;
}
