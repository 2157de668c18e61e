/* CLIP and DINOv2, for people. */
#include "report/inspect_towers.h"
#include <math.h>
#include "checkpoints/clip_file.h"
#include "checkpoints/dino_file.h"

static const char *activation_name(sp_unary_kind kind)
{
    return kind == SP_UNARY_GELU ? "gelu" : "quick_gelu";
}

static void describe_image(const char *name, const sp_vit_config *c, sp_string *out)
{
    sp_string_say(out, "  %s: pictures of %lld pixels in patches of %lld, %lld layers of width %lld with %lld heads, "
                  "%lld numbers\n", name, (long long)c->image_size, (long long)c->patch_size, (long long)c->layers,
                  (long long)c->layer.width, (long long)c->layer.heads,
                  (long long)(c->projection ? c->projection : c->layer.width));
}

static sp_status describe_clip(const sp_tensor_file *file, sp_string *out)
{
    sp_clip_file clip;
    SP_TRY(sp_clip_file_describe(file, NULL, &clip));
    const sp_clip_text_config *t = &clip.text;
    describe_image(clip.name, &clip.image, out);
    if (t->layers)
        sp_string_say(out, "  texts of %lld tokens of %lld, %lld layers of width %lld with %lld heads\n",
                      (long long)t->max_tokens, (long long)t->vocabulary, (long long)t->layers, (long long)t->width,
                      (long long)t->heads);
    else
        sp_string_say(out, "  no text tower\n");
    sp_string_say(out, "  %s, by %s\n", activation_name(clip.image.layer.activation), clip.activation_by);
    if (!isnan(clip.logit_scale)) sp_string_say(out, "  cosines times %.1f\n", exp(clip.logit_scale));
    return SP_OK;
}

static sp_status describe_dino(const sp_tensor_file *file, sp_string *out)
{
    sp_dino_file dino;
    SP_TRY(sp_dino_file_describe(file, &dino));
    describe_image(dino.name, &dino.config, out);
    return SP_OK;
}

sp_status sp_inspect_tower(const sp_tensor_file *file, sp_string *out)
{
    sp_tower_form form = sp_tower_form_of(file);
    if (form == SP_TOWER_NONE) return SP_OK;
    sp_status status = sp_tower_form_is_clip(form) ? describe_clip(file, out) : describe_dino(file, out);
    if (status == SP_MEMORY) return status;
    if (status) sp_string_say(out, "  %s\n", sp_error_message());
    return SP_OK;
}
