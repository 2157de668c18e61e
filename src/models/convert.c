/* Converting a model's folder. */
#include "models/convert.h"
#include <math.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

static const double f16_largest = 65504;

static sp_status check_range(const sp_component *component, sp_dtype dtype)
{
    for (size_t i = 0; i < sp_weights_count(component->weights) && dtype == SP_F16; i++) {
        const sp_tensor *tensor = sp_weights_at(component->weights, i);
        int64_t count = sp_tensor_count(tensor);
        for (int64_t k = 0; k < count; k++) {
            double value = sp_load(tensor->data, tensor->dtype, k);
            if (!(fabs(value) <= f16_largest))
                return sp_fail(SP_NUMERIC,
                               "%s: tensor \"%s\" has %g, which F16 cannot hold; take BF16",
                               component->folder, sp_weights_name(component->weights, i), value);
        }
    }
    return SP_OK;
}

static sp_status convert_component(const char *model, const char *name, const char *to,
                                   sp_dtype dtype)
{
    sp_component *component;
    SP_TRY(sp_component_open(model, name, &component));
    sp_status status = check_range(component, dtype);
    if (!status)
        status = sp_component_save(to, (sp_component_kind)sp_component_kind_of(name),
                                   component->json, component->weights, dtype);
    sp_component_close(component);
    return status;
}

static sp_status convert_entry(const char *model, const char *name, const char *output,
                               sp_dtype dtype)
{
    if (sp_starts_with(name, "checkpoint-") || strcmp(name, "metrics.jsonl") == 0) return SP_OK;
    char *from = sp_path_join(model, name), *to = sp_path_join(output, name);
    sp_status status = from && to ? SP_OK : SP_MEMORY;
    if (!status && !sp_path_is_folder(from))
        status = sp_copy_file(from, to);
    else if (!status && sp_component_kind_of(name) >= 0)
        status = convert_component(model, name, to, dtype);
    else if (!status)
        status = sp_copy_tree(from, to);
    sp_free(from);
    sp_free(to);
    return status;
}

static sp_status make_output(const char *output)
{
    if (sp_path_is_folder(output)) {
        char **names;
        size_t count;
        SP_TRY(sp_list_folder(output, &names, &count));
        for (size_t i = 0; i < count; i++)
            sp_free(names[i]);
        sp_free(names);
        if (count)
            return sp_fail(SP_ARGUMENT, "%s is not empty; converting writes a new folder", output);
    }
    return sp_make_folders(output);
}

/* Half a model must not look like one, and its folder would be in the way of the next attempt. */
static sp_status remove_output(const char *output, sp_status why)
{
    char *message = sp_strdup(sp_error_message());
    sp_remove_tree(output);
    sp_status status = sp_fail(why, "%s", message ? message : "out of memory");
    sp_free(message);
    return status;
}

static sp_status convert_entries(const char *model, char *const *names, size_t count,
                                 const char *output, sp_dtype dtype)
{
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any |= sp_component_kind_of(names[i]) >= 0;
    if (!any)
        return sp_fail(SP_FORMAT, "%s: holds no model: no folder unet, vae or text_encoder", model);
    SP_TRY(make_output(output));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && !status; i++)
        status = convert_entry(model, names[i], output, dtype);
    return status ? remove_output(output, status) : SP_OK;
}

sp_status sp_convert_model(const char *model, const char *output, sp_dtype dtype)
{
    char **names;
    size_t count;
    sp_model_folder folder; /* for its checks */
    SP_TRY(sp_model_folder_open(model, &folder));
    sp_model_folder_close(&folder);
    SP_TRY(sp_list_folder(model, &names, &count));
    sp_status status = convert_entries(model, names, count, output, dtype);
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    return status;
}
