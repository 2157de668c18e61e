/* Recognising what is no model, or not one of these. */
#include "checkpoints/recognise.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/aesthetic_file.h"
#include "checkpoints/inception_file.h"
#include "checkpoints/lora_names.h"
#include "checkpoints/original_parts.h"
#include "checkpoints/tower_weights.h"
#include "checkpoints/vae_file.h"
#include "formats/magic.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define find sp_original_find

/* ---- files of tensors ---- */

/* Names that begin with `sign`, or, where it begins with '*', have the rest of it anywhere. The first rule that fits
 * counts: what holds another thing's names comes before it. */
static const struct {
    const char *sign, *text;
} signs[] = {
    {"*.lora_down.", "a LoRA"},
    {"*.lora_A.", "a LoRA"},
    {"*lora.down.weight", "a LoRA"},
    {"*lora_linear_layer.", "a LoRA"},
    {"*.hada_", "a LoRA (LoHa)"},
    {"*.lokr_", "a LoRA (LoKr)"},
    {"*.oft_", "a LoRA (OFT)"},
    {"control_model.", "a ControlNet"},
    {"*input_hint_block.", "a ControlNet"},
    {"*controlnet_cond_embedding.", "a ControlNet"},
    {"*controlnet_down_blocks.", "a ControlNet"},
    {"ip_adapter.", "an IP-Adapter"},
    {"image_proj.", "an IP-Adapter"},
    {"adapter.body.", "a T2I-Adapter"},
    {"*motion_modules.", "a motion module (AnimateDiff)"},
    {"edm_mean", "a Playground 2.5 checkpoint, whose noise is of another kind (EDM)"},
    {"*.time_mixer.", "a Stable Video Diffusion model"},
    {"*joint_blocks.", "a part of a Stable Diffusion 3 model"},
    {"*double_blocks.", "a Flux model"},
    {"single_transformer_blocks.", "a Flux model"},
    {"string_to_param.", "an embedding (textual inversion)"},
    {"emb_params", "an embedding (textual inversion)"},
    {"clip_g", "an embedding (textual inversion)"},
    {"clip_l", "an embedding (textual inversion)"},
    {"*SelfAttention.q.weight", "a T5 text encoder"},
    {"lm_head.", "a language model"},
    {"model.embed_tokens.", "a language model"},
    {"model.1.sub.0.", "an upscaler (ESRGAN)"},
    {"RRDB_trunk.", "an upscaler (ESRGAN)"},
};

/* The rule that fits the name; the number of rules if none does. */
static size_t rule_of(const char *name, size_t before)
{
    for (size_t i = 0; i < before; i++) {
        const char *sign = signs[i].sign;
        if (*sign == '*' ? strstr(name, sign + 1) != NULL : sp_starts_with(name, sign)) return i;
    }
    return before;
}

/* "<name>", or the only tensor of a few vectors as wide as a text encoder. */
static bool is_embedding(const sp_tensor_file *file)
{
    if (sp_tensor_file_count(file) != 1) return false;
    const sp_shape shape = sp_tensor_file_at(file, 0)->shape;
    int64_t width = shape.rank ? shape.dim[shape.rank - 1] : 0;
    return sp_tensor_file_name(file, 0)[0] == '<' ||
           (shape.rank <= 2 && (width == 768 || width == 1024 || width == 1280));
}

/* By its original name; NULL if there is none. */
static const sp_tensor *unet_tensor(const sp_tensor_file *file, const char *original)
{
    char name[128];
    const sp_original_unet unet = sp_original_unet_of(file);
    if (!unet.prefix) return NULL;
    sp_original_unet_name(&unet, original, name, sizeof name);
    return sp_tensor_file_find(file, name);
}

/* Stable Diffusion XL's refiner, which is told five sizes and has the larger text encoder alone. */
static bool is_refiner(const sp_tensor_file *file)
{
    enum { REFINERS = 2560 };
    const sp_tensor *sizes = unet_tensor(file, "label_emb.0.0.weight");
    return sizes && sizes->shape.rank == 2 && sizes->shape.dim[1] == REFINERS;
}

/* Channels that the UNet takes; 0 if there is none. */
static int64_t unet_channels(const sp_tensor_file *file)
{
    const sp_tensor *first = unet_tensor(file, "input_blocks.0.0.weight");
    return first && first->shape.rank > 1 ? first->shape.dim[1] : 0;
}

static const char *other_task(int64_t channels)
{
    return channels == 9   ? "a Stable Diffusion checkpoint for inpainting (its UNet takes 9 channels)"
           : channels == 8 ? "an InstructPix2Pix checkpoint (its UNet takes 8 channels)"
           : channels == 5 ? "a checkpoint for depth to image (its UNet takes 5 channels)"
                           : NULL;
}

static const char *inception(const sp_tensor_file *file)
{
    static const char *const texts[] = {
        [SP_INCEPTION_NONE] = NULL,
        [SP_INCEPTION_PYTORCH] = "Inception's weights for FID, as pytorch-fid has them",
        [SP_INCEPTION_NVIDIA] = "Inception's weights for FID, as NVIDIA and clean-fid have them",
        [SP_INCEPTION_TORCHVISION] = "torchvision's Inception, by which FID is not measured",
    };
    return texts[sp_inception_form_of(file)];
}

static const char *tower(const sp_tensor_file *file)
{
    static const char *const texts[SP_TOWER_FORMS] = {
        [SP_TOWER_TRANSFORMERS] = "CLIP's weights, as transformers has them",
        [SP_TOWER_OPEN_CLIP] = "CLIP's weights, as OpenAI and open_clip have them",
        [SP_TOWER_OPEN_CLIP_TEXT] = "CLIP's weights, as open_clip has them with a text tower of its own",
        [SP_TOWER_DINO] = "DINOv2's weights, as Meta has them",
        [SP_TOWER_DINO_TRANSFORMERS] = "DINOv2's weights, as transformers has them",
    };
    return texts[sp_tower_form_of(file)];
}

static const char *lone_part(const sp_tensor_file *file)
{
    if (inception(file)) return inception(file);
    if (tower(file)) return tower(file);
    if (sp_aesthetic_file_is(file)) return "an aesthetic head on CLIP's vectors, as LAION has it";
    if (sp_vae_file_kind_of(file)) return "an autoencoder (VAE)";
    if (find(file, "decoder.layers.0.weight") || find(file, "encoder.layers.0.weight") ||
        find(file, "3.conv.0.weight") || find(file, "taesd_decoder.1.weight") || find(file, "taesd_encoder.0.weight"))
        return "one half of a tiny autoencoder (TAESD); both halves are needed, in one file or as diffusers has them";
    if (find(file, "decoder.conv_in.weight") && !find(file, "encoder.conv_in.weight"))
        return "the decoder of an autoencoder alone";
    if (sp_original_has(file, SP_COMPONENT_UNET)) return NULL;
    if (sp_original_has(file, SP_COMPONENT_VAE))
        return sp_original_has(file, SP_COMPONENT_TEXT_ENCODER) ? NULL : "an autoencoder (VAE)";
    if (find(file, "text_model.embeddings.token_embedding.weight") ||
        find(file, "embeddings.token_embedding.weight"))
        return "a CLIP text encoder alone";
    return NULL;
}

const char *sp_recognise_tensors(const sp_tensor_file *file)
{
    size_t rule = COUNT(signs), count = sp_tensor_file_count(file);
    const char *format = sp_tensor_file_metadata(file, "format");
    if (format && sp_starts_with(format, "splam features ")) return "features of pictures, which splam score keeps";
    if (!count) return "a file without tensors";
    if (sp_original_has(file, SP_COMPONENT_TRANSFORMER)) return NULL;
    for (size_t i = 0; i < count; i++)
        rule = rule_of(sp_tensor_file_name(file, i), rule);
    if (rule < COUNT(signs)) return signs[rule].text;
    if (is_refiner(file)) return "Stable Diffusion XL's refiner";
    const char *part = lone_part(file), *task = other_task(unet_channels(file));
    if (part || task) return task ? task : part;
    return is_embedding(file) ? "an embedding (textual inversion)" : NULL;
}

/* ---- folders ---- */

typedef struct {
    size_t pictures, checkpoints, count;
    const char *checkpoint; /* the first */
} names_count;

static bool ends_with_any(const char *name, const char *const *ends, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sp_ends_with(name, ends[i])) return true;
    return false;
}

static names_count count_names(char *const *names, size_t count)
{
    static const char *const pictures[] = {".png", ".jpg", ".jpeg", ".webp", ".PNG", ".JPG", ".JPEG"};
    static const char *const checkpoints[] = {".safetensors", ".ckpt", ".pt", ".bin"};
    names_count sum = {.count = count};
    for (size_t i = 0; i < count; i++) {
        sum.pictures += ends_with_any(names[i], pictures, COUNT(pictures));
        if (!ends_with_any(names[i], checkpoints, COUNT(checkpoints))) continue;
        if (!sum.checkpoints++) sum.checkpoint = names[i];
    }
    return sum;
}

static bool has(char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* The class that a configuration names. */
static bool describe_config(const char *folder, char *out, size_t size)
{
    char *path = sp_path_join(folder, "config.json");
    json_t *json = NULL;
    if (path && sp_json_load(path, &json)) json = NULL; /* what it is then is told by its files */
    sp_free(path);
    const json_t *class_name = json_object_get(json, "_class_name");
    if (!class_name) class_name = json_array_get(json_object_get(json, "architectures"), 0);
    const char *text = json_string_value(class_name);
    if (text) snprintf(out, size, "the folder of one component (%.64s)", text);
    json_decref(json);
    return text;
}

static void describe_names(const char *folder, char *const *names, size_t count, char *out, size_t size)
{
    const names_count sum = count_names(names, count);
    if (!count)
        snprintf(out, size, "an empty folder");
    else if (has(names, count, "adapter_config.json") || has(names, count, "pytorch_lora_weights.safetensors"))
        snprintf(out, size, "the folder of a LoRA");
    else if (has(names, count, "state.json"))
        snprintf(out, size, "a checkpoint of a training");
    else if (has(names, count, "config.json") && describe_config(folder, out, size))
        return;
    else if (has(names, count, "scheduler_config.json"))
        snprintf(out, size, "the folder of a scheduler");
    else if (has(names, count, "tokenizer.json") ||
             (has(names, count, "vocab.json") && has(names, count, "merges.txt")))
        snprintf(out, size, "the folder of a tokenizer");
    else if (sum.pictures)
        snprintf(out, size, "a folder with %zu picture%s", sum.pictures, sum.pictures == 1 ? "" : "s");
    else if (sum.checkpoints)
        snprintf(out, size, "a folder with %s%s; a checkpoint of one file is named itself", sum.checkpoint,
                 sum.checkpoints > 1 ? " and others" : "");
    else
        snprintf(out, size, "a folder with %s%s%s%s", names[0], count > 1 ? ", " : "", count > 1 ? names[1] : "",
                 count > 2 ? ", ..." : "");
}

static void recognise_folder(const char *path, char *out, size_t size)
{
    char **names;
    size_t count;
    if (sp_list_folder(path, &names, &count)) return;
    describe_names(path, names, count, out, size);
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
}

/* ---- anything ---- */

static void recognise_file(const char *path, char *out, size_t size)
{
    sp_tensor_file *file;
    sp_mapped_file bytes;
    const char *text = NULL;
    if (sp_tensor_file_open(path, &file) == SP_OK) {
        text = sp_recognise_tensors(file);
        sp_tensor_file_close(file);
    } else if (sp_mapped_file_open(path, &bytes) == SP_OK) {
        text = sp_magic_text(bytes.data, bytes.size);
        sp_mapped_file_close(&bytes);
    }
    if (text) snprintf(out, size, "%s", text);
}

void sp_recognise(const char *path, char *out, size_t size)
{
    *out = '\0';
    if (sp_path_is_folder(path))
        recognise_folder(path, out, size);
    else if (sp_path_exists(path))
        recognise_file(path, out, size);
}

/* "unet, vae"; "" if there are none. */
static void list_parts(const sp_model_folder *folder, const bool *needed, bool there, char *out, size_t size)
{
    *out = '\0';
    for (int i = 0; i < SP_COMPONENT_COUNT; i++) {
        const char *name = sp_component_folder_name((sp_component_kind)i);
        size_t length = strlen(out);
        if ((needed[i] || there) && sp_model_folder_has(folder, name) == there)
            snprintf(out + length, size - length, "%s%s", length ? ", " : "", name);
    }
}

sp_status sp_model_expect(const sp_model_folder *folder, const bool *needed)
{
    static const char expected[] =
        "a Stable Diffusion 1.x, 2.x, XL or 3 model: a folder as diffusers has it, or one file with "
        "UNet or transformer, VAE and text encoders under original names";
    char missing[96], present[96], what[256] = "";
    const char *other = folder->single ? sp_recognise_tensors(folder->single) : NULL;
    unsigned long failures = sp_alloc_failures();
    list_parts(folder, needed, false, missing, sizeof missing);
    if (sp_alloc_failures() != failures) return SP_MEMORY;
    if (!*missing && !other) return SP_OK;
    list_parts(folder, needed, true, present, sizeof present);
    if (other)
        snprintf(what, sizeof what, "%s", other);
    else if (!*present && !folder->single)
        sp_recognise(folder->path, what, sizeof what);
    if (*what) return sp_fail(SP_UNSUPPORTED, "%s: is %s, expected %s", folder->path, what, expected);
    if (folder->single && strcmp(present, "unet") == 0)
        return sp_fail(SP_FORMAT, "%s: is a UNet alone, without %s; `splam generate` and "
                       "`splam convert` take the rest from a `base`",
                       folder->path, missing);
    if (folder->single && sp_original_has(folder->single, SP_COMPONENT_TRANSFORMER))
        return sp_fail(SP_FORMAT, "%s: has a transformer, and no %s, as many files of Stable Diffusion 3; `splam "
                       "generate` and `splam convert` take all but the transformer from a `base`",
                       folder->path, missing);
    return sp_fail(SP_FORMAT, "%s: has no %s%s%s, expected %s", folder->path, missing, *present ? "; it has " : "",
                   present, expected);
}
