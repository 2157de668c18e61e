/* Models as a whole: folders, and checkpoints of one file. */
#include "checkpoints/model_folder.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "checkpoints/model_path.h"
#include "checkpoints/original.h"
#include "checkpoints/recognise.h"
#include "checkpoints/vae_file.h"

/* Components that change what the others compute, and that this program does not have. */
static const char *const unsupported_components[] = {
    "text_encoder_3", "text_encoder_4", "controlnet", "prior", "image_encoder"};

/* The class of an index entry such as ["diffusers", "AutoencoderKL"]; NULL if absent or null. */
static const char *index_class(const json_t *index, const char *component)
{
    return json_string_value(json_array_get(json_object_get(index, component), 1));
}

static sp_status check_index(const sp_model_folder *folder, const char *path)
{
    if (!json_is_object(folder->index))
        return sp_fail(SP_FORMAT, "%s: must hold a JSON object", path);
    for (int i = 0; i < SP_COMPONENT_COUNT; i++)
        SP_TRY(sp_component_check_class(
            (sp_component_kind)i,
            index_class(folder->index, sp_component_folder_name((sp_component_kind)i)), path));
    const char *class_name = json_string_value(json_object_get(folder->index, "_class_name"));
    /* whose third text encoder is no more than advice: the two others do without it */
    bool sd3 = index_class(folder->index, sp_component_folder_name(SP_COMPONENT_TRANSFORMER));
    for (size_t i = 0; i < sizeof unsupported_components / sizeof *unsupported_components; i++)
        if (index_class(folder->index, unsupported_components[i]) && !(i == 0 && sd3))
            return sp_fail(SP_UNSUPPORTED, "%s: is the index of %s%.64s; a model with a \"%s\" is not supported", path,
                           class_name ? "a " : "a model", class_name ? class_name : "", unsupported_components[i]);
    return SP_OK;
}

static sp_status open_index(sp_model_folder *folder)
{
    char *index = sp_path_join(folder->path, "model_index.json");
    sp_status status = index ? SP_OK : SP_MEMORY;
    if (status == SP_OK && sp_path_exists(index)) {
        status = sp_json_load(index, &folder->index);
        if (status == SP_OK) status = check_index(folder, index);
    }
    sp_free(index);
    return status;
}

sp_status sp_model_folder_open(const char *path, sp_model_folder *out)
{
    *out = (sp_model_folder){0};
    if (!sp_path_exists(path)) return sp_fail(SP_IO, "%s: no such file or folder", path);
    sp_status status = sp_model_path(path, &out->path);
    if (status == SP_OK)
        status = sp_path_is_folder(out->path) ? open_index(out) : sp_tensor_file_open(out->path, &out->single);
    if (status != SP_OK) sp_model_folder_close(out);
    return status;
}

/* A model's, or a component's own folder; a UNet where nothing says it. */
static sp_status kind_in_folder(const char *path, sp_component_kind *out)
{
    char *inside = sp_path_join(path, sp_component_folder_name(SP_COMPONENT_TRANSFORMER)),
         *config = sp_path_join(path, "config.json");
    json_t *json = NULL;
    sp_status status = inside && config ? SP_OK : SP_MEMORY;
    if (!status && sp_path_exists(config)) status = sp_json_load(config, &json);
    const char *name = json_string_value(json_object_get(json, "_class_name"));
    bool is = !status && (sp_path_is_folder(inside) ||
                          (name && sp_component_kind_of_class(name) == SP_COMPONENT_TRANSFORMER));
    *out = is ? SP_COMPONENT_TRANSFORMER : SP_COMPONENT_UNET;
    json_decref(json);
    sp_free(inside);
    sp_free(config);
    return status;
}

static sp_status kind_in_file(const sp_model_folder *folder, sp_component_kind *out)
{
    const char *what;
    *out = sp_original_has(folder->unet_file, SP_COMPONENT_TRANSFORMER) ? SP_COMPONENT_TRANSFORMER : SP_COMPONENT_UNET;
    if (sp_original_has(folder->unet_file, *out)) return SP_OK;
    what = sp_recognise_tensors(folder->unet_file);
    return sp_fail(SP_UNSUPPORTED,
                   "%s: %s%s, expected a UNet or a transformer, alone or in a checkpoint, for the rest of %s",
                   folder->unet, what ? "is " : "has neither UNet nor transformer", what ? what : "", folder->path);
}

static sp_status take_unet(sp_model_folder *folder, const char *path)
{
    sp_component_kind kind;
    char *unet;
    if (!sp_path_exists(path)) return sp_fail(SP_IO, "%s: no such file or folder", path);
    SP_TRY(sp_model_path(path, &unet));
    bool in_folder = sp_path_is_folder(unet);
    sp_status status = in_folder ? kind_in_folder(unet, &kind) : sp_tensor_file_open(unet, &folder->unet_file);
    folder->unet = unet;
    if (!status && !in_folder) status = kind_in_file(folder, &kind);
    SP_TRY(status);
    sp_component_kind other = kind == SP_COMPONENT_UNET ? SP_COMPONENT_TRANSFORMER : SP_COMPONENT_UNET;
    folder->unet_kind = kind;
    if (!sp_model_folder_has(folder, sp_component_folder_name(other))) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: has a %s, and %s, the rest of which is asked for, has a %s", unet,
                   sp_component_folder_name(kind), folder->path, sp_component_folder_name(other));
}

sp_status sp_model_folder_open_unet(const char *unet, const char *base, sp_model_folder *out)
{
    SP_TRY(sp_model_folder_open(base ? base : unet, out));
    sp_status status = base ? take_unet(out, unet) : SP_OK;
    if (status) sp_model_folder_close(out);
    return status;
}

void sp_model_folder_close(sp_model_folder *folder)
{
    sp_tensor_file_close(folder->unet_file);
    sp_free(folder->unet);
    sp_tensor_file_close(folder->single);
    json_decref(folder->index);
    sp_free(folder->path);
    *folder = (sp_model_folder){0};
}

/* The scheduler is told by the UNet or transformer, and the tokenizer is the one that all such models have. */
static bool has_in_file(const sp_tensor_file *file, const char *component)
{
    if (strcmp(component, "vae") == 0 && sp_vae_file_kind_of(file)) return true;
    for (int i = 0; i < SP_COMPONENT_COUNT; i++)
        if (strcmp(component, sp_component_folder_name((sp_component_kind)i)) == 0)
            return sp_original_has(file, (sp_component_kind)i);
    if (strcmp(component, "scheduler") == 0)
        return sp_original_has(file, SP_COMPONENT_UNET) || sp_original_has(file, SP_COMPONENT_TRANSFORMER);
    if (strcmp(component, "tokenizer_2") == 0) return sp_original_has(file, SP_COMPONENT_TEXT_ENCODER_2);
    return strcmp(component, "tokenizer") == 0 && sp_original_has(file, SP_COMPONENT_TEXT_ENCODER);
}

bool sp_model_folder_has(const sp_model_folder *folder, const char *component)
{
    if (folder->unet && strcmp(component, sp_component_folder_name(folder->unet_kind)) == 0) return true;
    if (folder->single) return has_in_file(folder->single, component);
    const json_t *entry = json_object_get(folder->index, component);
    if (entry && !index_class(folder->index, component)) return false;
    char *path = sp_path_join(folder->path, component);
    bool has = path && sp_path_is_folder(path);
    sp_free(path);
    return has;
}

sp_status sp_model_folder_component(const sp_model_folder *folder, const char *component, sp_component **out)
{
    int kind = sp_component_kind_of(component);
    bool other = folder->unet && kind == (int)folder->unet_kind;
    /* Stable Diffusion 3's first text encoder makes a vector of the whole text too */
    bool projects = kind == SP_COMPONENT_TEXT_ENCODER &&
                    sp_model_folder_has(folder, sp_component_folder_name(SP_COMPONENT_TRANSFORMER));
    if (projects)
        return sp_component_open_kind(folder->path, component, SP_COMPONENT_TEXT_ENCODER_2, folder->prediction, out);
    return sp_component_open_as(other ? folder->unet : folder->path, component, folder->prediction, out);
}

sp_status sp_model_folder_tokenizer(const sp_model_folder *folder, sp_component_kind text, sp_tokenizer **out)
{
    bool needed[SP_COMPONENT_COUNT] = {false};
    needed[text] = true;
    *out = NULL;
    /* The built-in one is of models with such a text encoder alone. */
    if (folder->single) SP_TRY(sp_model_expect(folder, needed));
    if (folder->single)
        return sp_tokenizer_clip(text == SP_COMPONENT_TEXT_ENCODER_2 || sp_original_pads_with_zero(folder->single),
                                 out);
    char *path = sp_path_join(folder->path, text == SP_COMPONENT_TEXT_ENCODER_2 ? "tokenizer_2" : "tokenizer");
    if (!path) return SP_MEMORY;
    sp_status status = sp_tokenizer_load(path, out);
    sp_free(path);
    return status;
}

/* ---- the scheduler ---- */

/* Python writes infinite numbers as no JSON can hold them; lambda_min_clipped is one in many files. */
static void replace_infinities(char *text)
{
    bool quoted = false;
    for (char *p = text; *p; p++) {
        if (*p == '\\' && quoted && p[1]) {
            p++;
        } else if (*p == '"') {
            quoted = !quoted;
        } else if (!quoted && strncmp(p, "Infinity", 8) == 0) {
            if (p > text && p[-1] == '-') p[-1] = ' ';
            memcpy(p, "null    ", 8);
        }
    }
}

sp_status sp_scheduler_json_load(const char *path, json_t **out)
{
    char *text;
    SP_TRY(sp_read_text(path, &text, NULL));
    replace_infinities(text);
    sp_status status = sp_json_parse(text, strlen(text), path, out);
    sp_free(text);
    return status;
}

static char *scheduler_path(const sp_model_folder *folder)
{
    return folder->single ? sp_strdup(folder->path) : sp_path_join(folder->path, "scheduler/scheduler_config.json");
}

static sp_status mark_by_unet(const sp_model_folder *folder, json_t *scheduler)
{
    sp_original_prediction predicts;
    if (folder->unet_kind == SP_COMPONENT_TRANSFORMER) return SP_OK; /* a velocity, which nothing marks */
    SP_TRY(sp_original_predicts(folder->unet_file, folder->prediction, &predicts));
    return sp_original_mark(&predicts, scheduler);
}

/* What the caller knows better goes into the file's place. */
static sp_status load_scheduler(const sp_model_folder *folder, const char *path, json_t **out)
{
    if (folder->single)
        SP_TRY(sp_original_scheduler(folder->single, folder->prediction, out));
    else
        SP_TRY(sp_scheduler_json_load(path, out));
    if (!json_is_object(*out)) return sp_fail(SP_FORMAT, "%s: must hold a JSON object", path);
    if (folder->unet_file) SP_TRY(mark_by_unet(folder, *out));
    if (!folder->prediction) return SP_OK;
    return json_object_set_new(*out, "prediction_type", json_string(folder->prediction)) ? SP_MEMORY : SP_OK;
}

sp_status sp_model_folder_scheduler(const sp_model_folder *folder, json_t **out, char **where)
{
    *out = NULL;
    *where = scheduler_path(folder);
    sp_status status = *where ? load_scheduler(folder, *where, out) : SP_MEMORY;
    if (!status) return SP_OK;
    json_decref(*out);
    sp_free(*where);
    *out = NULL;
    *where = NULL;
    return status;
}

/* A type, or NULL; *where: the file that says so. */
static sp_status find_said(const sp_model_folder *folder, const char **out, char **where)
{
    const sp_tensor_file *files[] = {folder->unet_file, folder->single};
    json_t *json;
    *out = NULL;
    for (int i = 0; i < 2; i++) {
        sp_original_prediction predicts = {0};
        if (files[i]) SP_TRY(sp_original_predicts(files[i], NULL, &predicts));
        if (!predicts.said) continue;
        *out = predicts.type;
        *where = sp_strdup(sp_tensor_file_path(files[i]));
        return *where ? SP_OK : SP_MEMORY;
    }
    if (folder->single) return SP_OK;
    *where = scheduler_path(folder);
    if (!*where) return SP_MEMORY;
    SP_TRY(sp_scheduler_json_load(*where, &json));
    const char *said = json_string_value(json_object_get(json, "prediction_type"));
    if (said) *out = sp_prediction_type(said);
    json_decref(json);
    return SP_OK;
}

/* sdxl_lightning_1step_unet_x0.safetensors has nothing else that tells. */
static sp_status check_name(const sp_model_folder *folder)
{
    const sp_tensor_file *file = folder->unet_file ? folder->unet_file : folder->single;
    sp_original_prediction predicts;
    if (!file || sp_original_has(file, SP_COMPONENT_TRANSFORMER)) return SP_OK;
    if (!strcasestr(sp_path_base(sp_tensor_file_path(file)), "_x0")) return SP_OK;
    SP_TRY(sp_original_predicts(file, NULL, &predicts));
    if (!predicts.said)
        sp_log_warn("%s: by its name it predicts the clean latent, which nothing in it says; it is taken to predict "
                    "%s, unless `prediction_type` says sample",
                    sp_tensor_file_path(file), folder->unet_file ? "what the base says" : predicts.type);
    return SP_OK;
}

sp_status sp_prediction_fits(const sp_model_folder *folder)
{
    if (!folder->prediction || !sp_model_folder_has(folder, sp_component_folder_name(SP_COMPONENT_TRANSFORMER)))
        return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: is a Stable Diffusion 3 model, which predicts a velocity; a prediction type is "
                   "for a UNet", folder->unet ? folder->unet : folder->path);
}

sp_status sp_prediction_check(const sp_model_folder *folder)
{
    const char *asked = folder->prediction, *said = NULL;
    char *where = NULL;
    SP_TRY(sp_prediction_fits(folder));
    if (!asked) return check_name(folder);
    if (!sp_prediction_type(asked))
        return sp_fail(SP_ARGUMENT, "prediction type \"%.64s\" is not known, expected epsilon, v_prediction or sample",
                       asked);
    sp_status status = find_said(folder, &said, &where);
    if (!status && said && strcmp(said, asked) != 0)
        sp_log_warn("%s: says that the UNet predicts %s, and it is taken to predict %s, as asked for", where, said,
                    asked);
    sp_free(where);
    return status;
}

/* ---- the text encoders' side ---- */

sp_status sp_model_folder_zero_negative(const sp_model_folder *folder, bool *out)
{
    *out = true;
    if (!folder->index) return SP_OK;
    return sp_json_bool(folder->index, "force_zeros_for_empty_prompt", true, folder->path, out);
}
