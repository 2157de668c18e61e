/* CLIP's files: where they lie, what architecture they are, which activation. */
#include "checkpoints/clip_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "checkpoints/recognise.h"

enum { HEAD = 64 };

/* ---- what it is ---- */

static sp_status check_form(const sp_tensor_file *file, sp_tower_form form)
{
    const char *path = sp_tensor_file_path(file);
    if (sp_tower_form_is_clip(form)) return SP_OK;
    if (sp_tensor_file_find(file, "visual.layer1.0.conv1.weight"))
        return sp_fail(SP_UNSUPPORTED, "%s: is a CLIP whose image tower is a ResNet, and only Vision Transformers are "
                       "supported", path);
    if (sp_tensor_file_find(file, "visual.trunk.patch_embed.proj.weight") ||
        sp_tensor_file_find(file, "visual.trunk.stem.0.weight"))
        return sp_fail(SP_UNSUPPORTED, "%s: is a CLIP whose image tower is timm's, and only OpenAI's and open_clip's "
                       "own Vision Transformers are supported", path);
    const char *other = sp_recognise_tensors(file);
    return sp_fail(SP_UNSUPPORTED, "%s: is %s, expected CLIP's weights under the names of open_clip, OpenAI or "
                   "transformers", path, other ? other : "another thing");
}

static const struct {
    const char *name;
    int64_t patch, width, layers, image, head;
} published[] = {
    {"ViT-B/32", 32, 768, 12, 224, HEAD}, {"ViT-B/16", 16, 768, 12, 224, HEAD}, {"ViT-L/14", 14, 1024, 24, 224, HEAD},
    {"ViT-H/14", 14, 1280, 32, 224, 80},  {"ViT-g/14", 14, 1408, 40, 224, 88},  {"ViT-bigG/14", 14, 1664, 48, 224, 104},
};

/* Its place among those; -1: of no published size. Pictures may be larger. */
static int published_as(const sp_vit_config *c)
{
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (published[i].patch == c->patch_size && published[i].width == c->layer.width &&
            published[i].layers == c->layers)
            return (int)i;
    return -1;
}

static void name_it(sp_clip_file *out)
{
    const sp_vit_config *c = &out->image;
    int i = published_as(c);
    if (i < 0)
        snprintf(out->name, sizeof out->name, "ViT, width %d, %d layers", (int)c->layer.width, (int)c->layers);
    else if (published[i].image == c->image_size)
        snprintf(out->name, sizeof out->name, "%s", published[i].name);
    else
        snprintf(out->name, sizeof out->name, "%s at %d", published[i].name, (int)c->image_size);
}

/* ---- the configuration beside it ---- */

typedef struct {
    json_t *json; /* NULL: there is none */
    char *path;
    bool transformers;
} configuration;

/* The object on a tower; NULL: nothing is said of it. transformers' of one tower alone is the whole. */
static const json_t *tower_of(const configuration *c, sp_tower_kind kind)
{
    static const char *const keys[2][2] = {{"vision_cfg", "text_cfg"}, {"vision_config", "text_config"}};
    const json_t *root = c->transformers ? c->json : json_object_get(c->json, "model_cfg");
    const json_t *tower = json_object_get(root, keys[c->transformers][kind]);
    if (!tower && c->transformers && json_object_get(root, "hidden_size")) tower = root;
    return json_is_object(tower) ? tower : NULL;
}

static sp_status load_configuration(const sp_tensor_file *file, sp_tower_form form, configuration *out)
{
    *out = (configuration){.transformers = form == SP_TOWER_TRANSFORMERS};
    out->path = sp_path_beside(sp_tensor_file_path(file), out->transformers ? "config.json" : "open_clip_config.json");
    if (!out->path) return SP_MEMORY;
    if (sp_path_exists(out->path)) SP_TRY(sp_json_load(out->path, &out->json));
    if (tower_of(out, SP_TOWER_IMAGE)) return SP_OK;
    json_decref(out->json); /* of another thing */
    out->json = NULL;
    return SP_OK;
}

static void free_configuration(configuration *c)
{
    json_decref(c->json);
    sp_free(c->path);
}

static sp_status activation_named(const char *name, const char *where, sp_unary_kind *out)
{
    *out = strcmp(name, "gelu") == 0 ? SP_UNARY_GELU : SP_UNARY_QUICK_GELU;
    if (*out == SP_UNARY_GELU || strcmp(name, "quick_gelu") == 0) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: \"hidden_act\" is \"%.64s\", and only quick_gelu and gelu are supported", where,
                   name);
}

/* Absent keys have transformers' and open_clip's defaults. */
static sp_status configured_activation(const configuration *c, sp_tower_kind kind, sp_unary_kind *out)
{
    const char *name;
    bool quick;
    if (!c->transformers) {
        SP_TRY(sp_json_bool(json_object_get(c->json, "model_cfg"), "quick_gelu", false, c->path, &quick));
        *out = quick ? SP_UNARY_QUICK_GELU : SP_UNARY_GELU;
        return SP_OK;
    }
    SP_TRY(sp_json_text(tower_of(c, kind), "hidden_act", "quick_gelu", c->path, &name));
    return activation_named(name, c->path, out);
}

static sp_status configured_heads(const configuration *c, sp_tower_kind kind, int64_t width, int64_t *out)
{
    const json_t *tower = tower_of(c, kind);
    int64_t usual = kind == SP_TOWER_IMAGE ? 12 : 8, head;
    if (c->transformers || kind == SP_TOWER_TEXT)
        return sp_config_int(tower, c->transformers ? "num_attention_heads" : "heads", usual, 1, SP_MODEL_MAX_CHANNELS,
                             c->path, out);
    SP_TRY(sp_config_int(tower, "head_width", HEAD, 1, SP_MODEL_MAX_CHANNELS, c->path, &head));
    *out = width / head ? width / head : 1;
    return SP_OK;
}

static sp_status configured_epsilon(const configuration *c, sp_tower_kind kind, double *out)
{
    *out = 1e-5;
    if (!c->transformers) return SP_OK;
    return sp_config_double(tower_of(c, kind), "layer_norm_eps", 1e-5, 0, 1, c->path, out);
}

/* ---- heads and activation ---- */

static sp_status ask_activation(const sp_tensor_file *file, const configuration *c)
{
    return sp_fail(SP_ARGUMENT, "%s: no %s beside it says which activation it has: quick_gelu (the weights of OpenAI, "
                   "MetaCLIP and DFN) or gelu (those of LAION, DataComp and HPSv2); put that file there, or say "
                   "`clip_activation`", sp_tensor_file_path(file), sp_path_base(c->path));
}

/* Of all towers. */
static sp_status find_activation(const sp_tensor_file *file, const configuration *c, const char *said,
                                 sp_clip_file *out)
{
    int place = published_as(&out->image);
    sp_unary_kind *image = &out->image.layer.activation, *text = &out->text.activation;
    if (said) {
        out->activation_by = "as said";
        SP_TRY(activation_named(said, "`clip_activation`", image));
    } else if (c->json) {
        out->activation_by = c->transformers ? "config.json" : "open_clip_config.json";
        SP_TRY(configured_activation(c, SP_TOWER_IMAGE, image));
        return configured_activation(c, SP_TOWER_TEXT, text);
    } else if (sp_tensor_file_find(file, "input_resolution")) {
        out->activation_by = "OpenAI's file";
        *image = SP_UNARY_QUICK_GELU;
    } else if (place >= 0 && strcmp(published[place].name, "ViT-g/14") == 0) {
        out->activation_by = "LAION's architecture";
        *image = SP_UNARY_GELU;
    } else {
        return ask_activation(file, c);
    }
    *text = *image;
    return SP_OK;
}

static sp_status check_heads(const sp_tensor_file *file, const char *tower, int64_t width, int64_t heads)
{
    if (heads >= 1 && width % heads == 0) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: the %s tower's width %lld cannot be split into %lld heads",
                   sp_tensor_file_path(file), tower, (long long)width, (long long)heads);
}

static sp_status heads_of(const sp_tensor_file *file, const configuration *c, const char *tower, int64_t width,
                          int64_t head, int64_t *out)
{
    *out = width / head;
    if (width % head == 0) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: the %s tower's width %lld cannot be split into heads of %lld, and no %s beside it "
                   "says how many it has", sp_tensor_file_path(file), tower, (long long)width, (long long)head,
                   sp_path_base(c->path));
}

static sp_status find_heads(const sp_tensor_file *file, const configuration *c, sp_clip_file *out)
{
    int place = published_as(&out->image);
    int64_t width = out->image.layer.width, *heads = &out->image.layer.heads;
    if (!c->json) {
        SP_TRY(heads_of(file, c, "image", width, place < 0 ? HEAD : published[place].head, heads));
        return heads_of(file, c, "text", out->text.width, HEAD, &out->text.heads);
    }
    SP_TRY(configured_heads(c, SP_TOWER_IMAGE, width, heads));
    SP_TRY(configured_heads(c, SP_TOWER_TEXT, out->text.width, &out->text.heads));
    SP_TRY(check_heads(file, "image", width, *heads));
    return check_heads(file, "text", out->text.width, out->text.heads); /* of none: 0, which all divide */
}

/* ---- all ---- */

static double logit_scale_of(const sp_tensor_file *file)
{
    const sp_tensor *scale = sp_tensor_file_find(file, "logit_scale");
    bool number = scale && sp_dtype_is_float(scale->dtype) && sp_tensor_count(scale) == 1;
    return number ? sp_load(scale->data, scale->dtype, 0) : NAN;
}

static sp_status describe_with(const sp_tensor_file *file, sp_tower_form form, const configuration *c, const char *said,
                               sp_clip_file *out)
{
    const sp_tower image = {file, form, SP_TOWER_IMAGE}, text = {file, form, SP_TOWER_TEXT};
    SP_TRY(sp_tower_image_shapes(&image, &out->image));
    if (sp_tower_has(&text, "embeddings.token_embedding.weight")) SP_TRY(sp_tower_text_shapes(&text, &out->text));
    out->image.layer.epsilon = out->text.epsilon = 1e-5;
    out->logit_scale = logit_scale_of(file);
    SP_TRY(find_heads(file, c, out));
    SP_TRY(find_activation(file, c, said, out));
    if (c->json) {
        SP_TRY(configured_epsilon(c, SP_TOWER_IMAGE, &out->image.layer.epsilon));
        SP_TRY(configured_epsilon(c, SP_TOWER_TEXT, &out->text.epsilon));
    }
    name_it(out);
    return SP_OK;
}

sp_status sp_clip_file_describe(const sp_tensor_file *tensors, const char *activation, sp_clip_file *out)
{
    sp_tower_form form = sp_tower_form_of(tensors);
    configuration c;
    *out = (sp_clip_file){0};
    SP_TRY(check_form(tensors, form));
    sp_status status = load_configuration(tensors, form, &c);
    if (!status) status = describe_with(tensors, form, &c, activation, out);
    free_configuration(&c);
    return status;
}

static sp_status take_weights(sp_clip_file *out)
{
    sp_tower_form form = sp_tower_form_of(out->file);
    const sp_tower image = {out->file, form, SP_TOWER_IMAGE}, text = {out->file, form, SP_TOWER_TEXT};
    SP_TRY(sp_tower_weights(&image, &sp_vit_network, &out->image, &out->image_weights));
    if (out->text.layers)
        SP_TRY(sp_tower_weights(&text, &sp_clip_text_tower_network, &out->text, &out->text_weights));
    return sp_tensor_file_sha256(out->file, out->sha256);
}

sp_status sp_clip_file_open(const char *path, const char *activation, sp_clip_file *out)
{
    sp_tensor_file *file;
    *out = (sp_clip_file){0};
    SP_TRY(sp_tower_open(path, &file));
    sp_status status = sp_clip_file_describe(file, activation, out);
    out->file = file;
    if (!status) status = take_weights(out);
    if (status) sp_clip_file_free(out);
    return status;
}

void sp_clip_file_free(sp_clip_file *file)
{
    sp_weights_destroy(file->image_weights);
    sp_weights_destroy(file->text_weights);
    sp_tensor_file_close(file->file);
    *file = (sp_clip_file){0};
}
