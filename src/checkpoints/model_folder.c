/* Models as a whole: folders, and checkpoints of one file. */
#include "checkpoints/model_folder.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoints/model_path.h"
#include "checkpoints/original.h"
#include "checkpoints/recognise.h"
#include "checkpoints/vae_file.h"

/* Components that change what the others compute, and that this program does not have. */
static const char *const unsupported_components[] = {
    "text_encoder_3", "transformer", "controlnet", "prior", "image_encoder"};

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
    for (size_t i = 0; i < sizeof unsupported_components / sizeof *unsupported_components; i++)
        if (index_class(folder->index, unsupported_components[i]))
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

void sp_model_folder_close(sp_model_folder *folder)
{
    sp_tensor_file_close(folder->single);
    json_decref(folder->index);
    sp_free(folder->path);
    *folder = (sp_model_folder){0};
}

/* The scheduler is told by the UNet, and the tokenizer is the one that all such models have. */
static bool has_in_file(const sp_tensor_file *file, const char *component)
{
    if (strcmp(component, "vae") == 0 && sp_vae_file_kind_of(file)) return true;
    for (int i = 0; i < SP_COMPONENT_COUNT; i++)
        if (strcmp(component, sp_component_folder_name((sp_component_kind)i)) == 0)
            return sp_original_has(file, (sp_component_kind)i);
    if (strcmp(component, "scheduler") == 0) return sp_original_has(file, SP_COMPONENT_UNET);
    if (strcmp(component, "tokenizer_2") == 0) return sp_original_has(file, SP_COMPONENT_TEXT_ENCODER_2);
    return strcmp(component, "tokenizer") == 0 && sp_original_has(file, SP_COMPONENT_TEXT_ENCODER);
}

bool sp_model_folder_has(const sp_model_folder *folder, const char *component)
{
    if (folder->single) return has_in_file(folder->single, component);
    const json_t *entry = json_object_get(folder->index, component);
    if (entry && !index_class(folder->index, component)) return false;
    char *path = sp_path_join(folder->path, component);
    bool has = path && sp_path_is_folder(path);
    sp_free(path);
    return has;
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

sp_status sp_model_folder_zero_negative(const sp_model_folder *folder, bool *out)
{
    *out = true;
    if (!folder->index) return SP_OK;
    return sp_json_bool(folder->index, "force_zeros_for_empty_prompt", true, folder->path, out);
}
