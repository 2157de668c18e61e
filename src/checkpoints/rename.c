/* Older names of tensors made today's. */
#include "checkpoints/rename.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

static const char text_prefix[] = "text_model.";

/* Longer names than this belong to no model, and are kept as they are. */
#define MAX_NAME 512

static sp_tensor view_of(const sp_tensor *tensor)
{
    sp_tensor view = *tensor;
    view.owned = false;
    return view;
}

/* "encoder.mid_block.attentions.0.query.weight" -> "...to_q.weight"; false if the name is of
 * today's form. */
static bool rename_vae_attention(const char *name, char *out, size_t size)
{
    static const char *const pairs[][2] = {{".query.", ".to_q."},
                                           {".key.", ".to_k."},
                                           {".value.", ".to_v."},
                                           {".proj_attn.", ".to_out.0."}};
    if (!strstr(name, ".attentions.") || strlen(name) >= MAX_NAME) return false;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *at = strstr(name, pairs[i][0]);
        if (!at) continue;
        snprintf(out, size, "%.*s%s%s", (int)(at - name), name, pairs[i][1],
                 at + strlen(pairs[i][0]));
        return true;
    }
    return false;
}

/* The VAE's attention weights were 1x1 convolutions once, under old and new names. */
static void flatten_kernel(const char *name, sp_tensor *view)
{
    bool attention = strstr(name, ".attentions.") && sp_ends_with(name, ".weight");
    if (attention && view->shape.rank == 4 && view->shape.dim[2] == 1 && view->shape.dim[3] == 1)
        view->shape = sp_shape_of(view->shape.dim[0], view->shape.dim[1]);
}

sp_status sp_add_renamed(sp_weights *weights, const sp_tensor_file *file, sp_component_kind kind)
{
    char buffer[MAX_NAME + 16];
    sp_weights_set_file(weights, file);
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        sp_tensor view = view_of(sp_tensor_file_at(file, i));
        if (sp_component_is_text(kind)) {
            if (sp_starts_with(name, text_prefix)) name += sizeof text_prefix - 1;
            if (strcmp(name, "embeddings.position_ids") == 0) continue;
        } else if (kind == SP_COMPONENT_VAE) {
            if (rename_vae_attention(name, buffer, sizeof buffer)) name = buffer;
            flatten_kernel(name, &view);
        }
        if (sp_weights_find(weights, name))
            return sp_fail(SP_FORMAT, "%s: two tensors stand for \"%s\"", sp_tensor_file_path(file),
                           name);
        SP_TRY(sp_weights_add(weights, name, view));
    }
    return SP_OK;
}

sp_status sp_add_prefixed(const sp_weights *weights, sp_weights **out)
{
    SP_TRY(sp_weights_create(out));
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        const char *own = sp_weights_name(weights, i);
        char *name = sp_format("%s%s", sp_starts_with(own, "text_projection.") ? "" : text_prefix, own);
        sp_status status =
            name ? sp_weights_add_view(*out, name, weights, sp_weights_name(weights, i)) : SP_MEMORY;
        sp_free(name);
        if (status != SP_OK) {
            sp_weights_destroy(*out);
            *out = NULL;
            return status;
        }
    }
    return SP_OK;
}
