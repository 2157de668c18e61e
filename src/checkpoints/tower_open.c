/* Where weights of towers lie. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "checkpoints/model_path.h"
#include "checkpoints/recognise.h"
#include "checkpoints/tower_weights.h"

static const char open_clip_config[] = "open_clip_config.json", open_clip_base[] = "open_clip_model",
                  open_clip_torch_base[] = "open_clip_pytorch_model";

static bool has(const char *folder, const char *name)
{
    char *path = sp_path_join(folder, name);
    bool there = path && sp_path_exists(path);
    sp_free(path);
    return there;
}

/* LAION's repositories have both forms of the same weights. */
static bool has_open_clip(const char *folder)
{
    return has(folder, open_clip_config) &&
           (has(folder, "open_clip_model.safetensors") || has(folder, "open_clip_pytorch_model.bin"));
}

static sp_status open_folder(const char *folder, sp_tensor_file **out)
{
    unsigned long failures = sp_alloc_failures();
    if (has_open_clip(folder)) return sp_tensor_file_open_folder(folder, open_clip_base, open_clip_torch_base, out);
    if (has(folder, "config.json")) return sp_tensor_file_open_folder(folder, "model", "pytorch_model", out);
    if (sp_alloc_failures() != failures) return SP_MEMORY;
    char what[256];
    sp_recognise(folder, what, sizeof what);
    return sp_fail(SP_UNSUPPORTED, "%s: is %s, expected a folder with config.json and model.safetensors, or with "
                   "open_clip_config.json and open_clip_model.safetensors", folder, *what ? what : "another thing");
}

sp_status sp_tower_open(const char *path, sp_tensor_file **out)
{
    char *place;
    *out = NULL;
    SP_TRY(sp_model_path(path, &place));
    sp_status status = sp_path_is_folder(place) ? open_folder(place, out) : sp_tensor_file_open(place, out);
    sp_free(place);
    return status;
}

bool sp_tower_is_folder(const char *path)
{
    static const char *const types[] = {"clip", "clip_vision_model", "dinov2"};
    bool is = false;
    if (!sp_path_is_folder(path)) return false;
    if (has_open_clip(path)) return true;
    char *config = sp_path_join(path, "config.json");
    json_t *json = NULL;
    if (config && sp_path_exists(config) && sp_json_load(config, &json)) json = NULL;
    const char *type = json_string_value(json_object_get(json, "model_type"));
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        is |= strcmp(type, types[i]) == 0;
    json_decref(json);
    sp_free(config);
    return is;
}
