/* Converting models. */
#include "checkpoints/convert.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/parallel.h"
#include "base/text.h"
#include "checkpoints/fold_guidance.h"
#include "models/guidance.h"
#include "checkpoints/original.h"
#include "checkpoints/recognise.h"

static const float f16_largest = 65504;

typedef struct {
    const sp_tensor *tensor;
    atomic_bool beyond; /* some element is too large, or not finite */
} range_check;

static void check_elements(void *context, int64_t begin, int64_t end)
{
    enum { AT_ONCE = 4096 };
    range_check *check = context;
    const sp_tensor *tensor = check->tensor;
    size_t size = sp_dtype_size(tensor->dtype);
    float values[AT_ONCE];
    for (int64_t at = begin; at < end; at += AT_ONCE) {
        int64_t count = end - at < AT_ONCE ? end - at : AT_ONCE;
        int beyond = 0;
        sp_convert_elements(values, SP_F32, (const char *)tensor->data + (size_t)at * size, tensor->dtype,
                            count);
        for (int64_t i = 0; i < count; i++)
            beyond |= !(fabsf(values[i]) <= f16_largest);
        if (beyond) atomic_store(&check->beyond, true);
    }
}

static sp_status fail_beyond(const sp_component *component, const char *name,
                             const sp_tensor *tensor)
{
    double value = 0;
    for (int64_t i = 0; i < sp_tensor_count(tensor) && fabs(value) <= (double)f16_largest; i++)
        value = sp_load(tensor->data, tensor->dtype, i);
    return sp_fail(SP_NUMERIC, "%s: tensor \"%s\" has %g, which F16 cannot hold; take BF16",
                   component->folder, name, value);
}

typedef struct {
    const splam_convert_options *o;
    sp_dtype dtype; /* of the weights: SP_F32, SP_F16, SP_BF16 */
    sp_device *device;
    const sp_callbacks *callbacks; /* may be NULL */
    bool keep_dtype;
    sp_lora_list loras;
} conversion;

static sp_status check_range(const sp_component *component, const conversion *c)
{
    enum { GRAIN = 1 << 16 };
    for (size_t i = 0; i < sp_weights_count(component->weights) && c->dtype == SP_F16; i++) {
        SP_TRY(sp_check_cancelled(c->callbacks));
        const char *name = sp_weights_name(component->weights, i);
        sp_tensor tensor;
        SP_TRY(sp_weights_take(component->weights, name, &tensor));
        range_check check = {.tensor = &tensor};
        sp_parallel_for(sp_tensor_count(&tensor), GRAIN, check_elements, &check);
        sp_status status = atomic_load(&check.beyond) ? fail_beyond(component, name, &tensor) : SP_OK;
        sp_tensor_free(&tensor);
        sp_weights_drop(component->weights, name);
        SP_TRY(status);
    }
    return SP_OK;
}

/* One that is asked for is 1 or more, as the table of options says. */
static bool asks_guidance(const splam_convert_options *o)
{
    return o->guidance >= 1;
}

static double fold_at(const conversion *c, const sp_component *unet)
{
    return asks_guidance(c->o) ? c->o->guidance : sp_usual_guidance(&unet->config.unet.guidance);
}

/* The component with all that is asked for done to it, but for the rounding. */
static sp_status open_component(const sp_model_folder *model, const char *name, const conversion *c,
                                sp_component **out)
{
    SP_TRY(sp_model_folder_component(model, name, out));
    sp_component *component = *out;
    sp_status status = sp_lora_list_merge(&c->loras, c->device, component, true);
    if (!status && c->o->fold_guidance && component->config.kind == SP_COMPONENT_UNET)
        status = sp_fold_guidance(component, fold_at(c, component));
    if (!status && !c->keep_dtype) status = check_range(component, c);
    if (status) {
        sp_component_close(component);
        *out = NULL;
    }
    return status;
}

/* The type of the first tensor that is not F8, which is for files of others alone; F16, which holds it, if all are. */
static sp_dtype kept_type(const sp_weights *weights)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++)
        if (!sp_dtype_is_f8(sp_weights_at(weights, i)->dtype)) return sp_weights_at(weights, i)->dtype;
    return SP_F16;
}

static sp_status convert_component(const sp_model_folder *model, const char *name, const conversion *c,
                                   const char *to)
{
    sp_component *component;
    SP_TRY(open_component(model, name, c, &component));
    sp_dtype dtype = c->keep_dtype ? kept_type(component->weights) : c->dtype;
    sp_status status = sp_component_save(to, (sp_component_kind)sp_component_kind_of(name),
                                         component->json, component->weights, dtype, c->callbacks);
    sp_component_close(component);
    return status;
}

/* ---- folders ---- */

/* A UNet without cond_proj is not for LatentConsistencyModelPipeline, which embeds the guidance. */
static sp_status convert_index(const char *from, const char *to)
{
    json_t *index;
    SP_TRY(sp_json_load(from, &index));
    sp_status status = SP_OK;
    bool xl = json_object_get(index, "text_encoder_2");
    const char *class_name = xl ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline";
    if (json_object_set_new(index, "_class_name", json_string(class_name)))
        status = sp_fail(SP_FORMAT, "%s: must hold a JSON object", from);
    if (!status) status = sp_json_save(to, index);
    json_decref(index);
    return status;
}

/* What is not copied: a training's, and a UNet that another one takes the place of. */
static bool is_left_out(const sp_model_folder *model, const char *name)
{
    return sp_starts_with(name, "checkpoint-") || strcmp(name, "metrics.jsonl") == 0 ||
           (model->unet && sp_component_kind_of(name) == (int)model->unet_kind);
}

/* That of a base is what the UNet's marks make of it. */
static sp_status write_scheduler(const sp_model_folder *model, const char *to)
{
    json_t *json;
    char *where, *path = sp_path_join(to, "scheduler_config.json");
    sp_status status = path ? sp_model_folder_scheduler(model, &json, &where) : SP_MEMORY;
    if (!status) {
        status = sp_make_folders(to);
        if (!status) status = sp_json_save(path, json);
        json_decref(json);
        sp_free(where);
    }
    sp_free(path);
    return status;
}

static sp_status convert_entry(const sp_model_folder *model, const char *name, const char *output,
                               const conversion *c)
{
    if (is_left_out(model, name)) return SP_OK;
    char *from = sp_path_join(model->path, name), *to = sp_path_join(output, name);
    sp_status status = from && to ? SP_OK : SP_MEMORY;
    if (!status && c->o->fold_guidance && strcmp(name, "model_index.json") == 0)
        status = convert_index(from, to);
    else if (!status && !sp_path_is_folder(from))
        status = sp_copy_file(from, to, c->callbacks);
    else if (!status && sp_component_kind_of(name) >= 0)
        status = convert_component(model, name, c, to);
    else if (!status && model->unet && strcmp(name, "scheduler") == 0)
        status = write_scheduler(model, to);
    else if (!status)
        status = sp_copy_tree(from, to, c->callbacks);
    sp_free(from);
    sp_free(to);
    return status;
}

static sp_status convert_entries(const sp_model_folder *model, char *const *names, size_t count,
                                 const char *output, const conversion *c)
{
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any |= sp_component_kind_of(names[i]) >= 0;
    if (!any) {
        char what[256];
        sp_recognise(model->path, what, sizeof what);
        return sp_fail(SP_FORMAT, "%s: is %s, and holds no model: no folder unet, vae or text_encoder", model->path,
                       *what ? what : "a folder");
    }
    SP_TRY(sp_make_folders(output));
    for (size_t i = 0; i < count; i++)
        SP_TRY(convert_entry(model, names[i], output, c));
    if (!model->unet) return SP_OK;
    const char *denoiser = sp_component_folder_name(model->unet_kind);
    char *to = sp_path_join(output, denoiser);
    sp_status status = to ? convert_component(model, denoiser, c, to) : SP_MEMORY;
    sp_free(to);
    return status;
}

static sp_status convert_folder(const sp_model_folder *model, const char *output, const conversion *c)
{
    char **names;
    size_t count;
    SP_TRY(sp_list_folder(model->path, &names, &count));
    sp_status status = convert_entries(model, names, count, output, c);
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    return status;
}

/* ---- single files ---- */

static const struct {
    const char *name, *library, *class_name;
} parts[] = {
    {"scheduler", "diffusers", NULL}, /* whose class its own file says */
    {"text_encoder", "transformers", "CLIPTextModel"},
    {"text_encoder_2", "transformers", "CLIPTextModelWithProjection"},
    {"tokenizer", "transformers", "CLIPTokenizer"},
    {"tokenizer_2", "transformers", "CLIPTokenizer"},
    {"transformer", "diffusers", "SD3Transformer2DModel"},
    {"unet", "diffusers", "UNet2DConditionModel"},
    {"vae", "diffusers", "AutoencoderKL"},
};
enum { PARTS = sizeof parts / sizeof *parts };

static sp_status export_tokenizer(const sp_model_folder *single, sp_component_kind text, const char *to)
{
    sp_tokenizer *tokenizer;
    SP_TRY(sp_model_folder_tokenizer(single, text, &tokenizer));
    sp_status status = sp_tokenizer_save(tokenizer, to);
    sp_tokenizer_destroy(tokenizer);
    return status;
}

static sp_status export_part(const sp_model_folder *single, const char *part, const conversion *c,
                             const char *to)
{
    if (strcmp(part, "scheduler") == 0) return write_scheduler(single, to);
    if (strcmp(part, "tokenizer") == 0) return export_tokenizer(single, SP_COMPONENT_TEXT_ENCODER, to);
    if (strcmp(part, "tokenizer_2") == 0) return export_tokenizer(single, SP_COMPONENT_TEXT_ENCODER_2, to);
    return convert_component(single, part, c, to);
}

sp_status sp_export_part(const sp_model_folder *single, const char *part, const char *to)
{
    const splam_convert_options as_it_is = {.prediction_type = single->prediction};
    return export_part(single, part, &(conversion){.o = &as_it_is, .keep_dtype = true}, to);
}

static sp_status export_index(const sp_model_folder *single, const char *output)
{
    bool sd3 = sp_model_folder_has(single, "transformer"), xl = !sd3 && sp_model_folder_has(single, "text_encoder_2");
    json_t *index = sd3  ? json_pack("{s:s, s:s, s:[n,n], s:[n,n], s:[n,n], s:[n,n]}", "_class_name",
                                     "StableDiffusion3Pipeline", "_diffusers_version", "0.30.0", "feature_extractor",
                                     "image_encoder", "text_encoder_3", "tokenizer_3")
                    : xl ? json_pack("{s:s, s:s, s:[n,n], s:[n,n], s:b}", "_class_name", "StableDiffusionXLPipeline",
                                   "_diffusers_version", "0.30.0", "feature_extractor", "image_encoder",
                                   "force_zeros_for_empty_prompt", 1)
                       : json_pack("{s:s, s:s, s:[n,n], s:[n,n], s:b}", "_class_name", "StableDiffusionPipeline",
                                   "_diffusers_version", "0.30.0", "feature_extractor", "safety_checker",
                                   "requires_safety_checker", 0);
    json_t *scheduler = NULL;
    sp_status status = index ? sp_original_scheduler(single->single, NULL, &scheduler) : SP_MEMORY;
    for (int i = 0; i < PARTS && !status; i++) {
        const char *name = parts[i].class_name;
        if (!xl && !sd3 && sp_ends_with(parts[i].name, "_2")) continue;
        if (strcmp(parts[i].name, sd3 ? "unet" : "transformer") == 0) continue;
        if (sd3 && strcmp(parts[i].name, "text_encoder") == 0) name = "CLIPTextModelWithProjection";
        if (!name) name = json_string_value(json_object_get(scheduler, "_class_name"));
        json_t *entry = sp_model_folder_has(single, parts[i].name)
                            ? json_pack("[s,s]", parts[i].library, name)
                            : json_pack("[n,n]");
        if (json_object_set_new(index, parts[i].name, entry)) status = SP_MEMORY;
    }
    char *path = sp_path_join(output, "model_index.json");
    if (!status) status = path ? sp_json_save(path, index) : SP_MEMORY;
    sp_free(path);
    json_decref(scheduler);
    json_decref(index);
    return status;
}

static sp_status export_parts(const sp_model_folder *single, const char *output,
                              const conversion *c)
{
    for (int i = 0; i < PARTS; i++) {
        if (!sp_model_folder_has(single, parts[i].name)) continue;
        char *to = sp_path_join(output, parts[i].name);
        sp_status status = to ? export_part(single, parts[i].name, c, to) : SP_MEMORY;
        sp_free(to);
        if (status) return status;
    }
    return export_index(single, output);
}

static sp_status convert_file(const sp_model_folder *single, const char *output,
                              const conversion *c)
{
    SP_TRY(sp_make_folders(output));
    return export_parts(single, output, c);
}

/* ---- to a single file ---- */

/* What the model's UNet predicts. */
static sp_status read_prediction(const json_t *scheduler, const char *path, sp_original_prediction *out)
{
    const char *said;
    SP_TRY(sp_json_text(scheduler, "prediction_type", "epsilon", path, &said));
    out->type = sp_prediction_type(said);
    if (!out->type)
        return sp_fail(SP_UNSUPPORTED, "%s: \"prediction_type\" is \"%s\", which is not supported", path, said);
    return sp_json_bool(scheduler, "rescale_betas_zero_snr", false, path, &out->zero_snr);
}

static sp_status find_prediction(const sp_model_folder *folder, sp_original_prediction *out)
{
    json_t *json;
    char *where;
    *out = (sp_original_prediction){.type = "flow"};
    if (sp_model_folder_has(folder, "transformer")) return SP_OK;
    SP_TRY(sp_model_folder_scheduler(folder, &json, &where));
    sp_status status = read_prediction(json, where, out);
    json_decref(json);
    sp_free(where);
    return status;
}

/* Readers of such a file use CLIP's vocabulary; the model's must be that. */
static sp_status check_tokenizer(const sp_model_folder *folder, const sp_component *text)
{
    static const char *const probes[] = {
        "", "a photograph of an astronaut riding a horse",
        "Caf\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac 1234, it's (trending:1.2) on ArtStation!",
        "zyzzyva qwertyuiop \xf0\x9f\x99\x82"};
    sp_tokenizer *own, *builtin = NULL;
    SP_TRY(sp_model_folder_tokenizer(folder, text->place, &own));
    sp_status status = sp_tokenizer_clip(text->config.text.activation == SP_UNARY_GELU, &builtin);
    size_t length = sp_tokenizer_max_length(own);
    bool same = !status && length == sp_tokenizer_max_length(builtin) &&
                sp_tokenizer_vocabulary_size(own) == sp_tokenizer_vocabulary_size(builtin);
    int32_t *ids = sp_alloc(2 * length * sizeof *ids);
    if (!ids) status = SP_MEMORY;
    for (size_t i = 0; i < sizeof probes / sizeof *probes && same && !status; i++) {
        status = sp_tokenizer_encode(own, probes[i], ids, NULL);
        if (!status) status = sp_tokenizer_encode(builtin, probes[i], ids + length, NULL);
        same = memcmp(ids, ids + length, length * sizeof *ids) == 0;
    }
    if (!status && !same)
        status =
            sp_fail(SP_UNSUPPORTED,
                    "%s: the tokenizer is not CLIP's, and a single file has no room for another",
                    folder->path);
    sp_free(ids);
    sp_tokenizer_destroy(own);
    sp_tokenizer_destroy(builtin);
    return status;
}

static sp_status write_single(const sp_model_folder *folder, const char *output,
                              const conversion *c)
{
    bool usual = !c->o->unet || strcmp(c->o->unet, "unet") == 0;
    const char *const denoiser = !usual                                         ? c->o->unet
                                 : sp_model_folder_has(folder, "transformer") ? "transformer"
                                                                              : "unet";
    const char *const names[] = {denoiser, "vae", "text_encoder", "text_encoder_2"};
    enum { MOST = sizeof names / sizeof *names };
    sp_component *components[MOST] = {NULL};
    size_t count = 0;
    sp_original_prediction prediction;
    sp_status status = find_prediction(folder, &prediction);
    for (size_t i = 0; i < MOST && !status; i++) {
        if (i > 0 && !sp_model_folder_has(folder, names[i])) continue;
        status = open_component(folder, names[i], c, &components[count]);
        if (!status && sp_component_is_text(components[count]->config.kind))
            status = check_tokenizer(folder, components[count]);
        if (!status) count++;
    }
    if (!status) status = sp_original_save(output, components, count, prediction, c->dtype, c->callbacks);
    if (!status && strcmp(prediction.type, "sample") == 0)
        sp_log_warn("%s: predicts the clean latent, which other programs have to be told; in ComfyUI the node "
                    "ModelSamplingDiscrete does, with x0", output);
    for (size_t i = 0; i < MOST; i++)
        sp_component_close(components[i]);
    return status;
}

static sp_status convert_to_single(const sp_model_folder *folder, const char *output,
                                   const conversion *c)
{
    if (!sp_ends_with(output, ".safetensors"))
        return sp_fail(SP_ARGUMENT, "%s: a single file's name must end in .safetensors", output);
    if (sp_path_exists(output))
        return sp_fail(SP_ARGUMENT, "%s is there already; converting writes a new file", output);
    sp_claim claim;
    SP_TRY(sp_claim_file(output, &claim));
    sp_status status = write_single(folder, output, c);
    sp_claim_end(&claim);
    return status;
}

/* ---- all ---- */

static sp_status check_request(const sp_model_folder *folder, const conversion *c)
{
    bool has[SP_COMPONENT_COUNT], any = false;
    for (int i = 0; i < SP_COMPONENT_COUNT; i++) {
        has[i] = sp_model_folder_has(folder, sp_component_folder_name((sp_component_kind)i));
        any |= has[i];
    }
    if (folder->single && !any)
        return sp_model_expect(folder, (const bool[SP_COMPONENT_COUNT]){[SP_COMPONENT_UNET] = true});
    if (!folder->single && !folder->unet && c->o->prediction_type)
        return sp_fail(SP_ARGUMENT,
                       "%s: is a folder, whose scheduler says what the model predicts; "
                       "a prediction type is for checkpoints of one file",
                       folder->path);
    if (c->o->unet && strcmp(c->o->unet, "unet") != 0 && !c->o->single_file)
        return sp_fail(SP_ARGUMENT, "a UNet's folder is chosen for a single file alone");
    if (c->o->fold_guidance && !has[SP_COMPONENT_UNET])
        return sp_fail(SP_ARGUMENT, "%s: has no UNet to fold guidance into", folder->path);
    return sp_lora_list_check(&c->loras, has);
}

static sp_status check_output(const char *output)
{
    char **names;
    size_t count;
    if (!sp_path_is_folder(output)) return SP_OK;
    SP_TRY(sp_list_folder(output, &names, &count));
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    if (!count) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s is not empty; converting writes a new folder", output);
}

/* Half a model must not look like one, nor be in the way of the next attempt: it is written beside. */
static sp_status convert_to_folder(const sp_model_folder *folder, const char *output, const conversion *c)
{
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/')
        length--;
    SP_TRY(check_output(output));
    char *beside = sp_format("%.*s.part-%ld", (int)length, output, (long)getpid());
    char *place = sp_format("%.*s", (int)length, output);
    sp_status status = beside && place ? SP_OK : SP_MEMORY;
    if (!status)
        status = folder->single ? convert_file(folder, beside, c) : convert_folder(folder, beside, c);
    if (beside) status = status ? sp_give_up_folder(beside, status) : sp_replace_folder(beside, place);
    sp_free(beside);
    sp_free(place);
    return status;
}

static sp_status convert_model(const sp_model_folder *folder, const char *output,
                               const conversion *c)
{
    SP_TRY(check_request(folder, c));
    if (c->o->single_file && sp_model_folder_has(folder, "text_encoder_3"))
        sp_log_warn("%s: its third text encoder (T5) is left out of the file", folder->path);
    if (c->o->single_file) return convert_to_single(folder, output, c);
    sp_claim claim;
    SP_TRY(sp_claim_folder(output, NULL, &claim));
    sp_status status = convert_to_folder(folder, output, c);
    sp_claim_end(&claim);
    return status;
}

static sp_dtype dtype_of(const char *text)
{
    return !text ? SP_F32 : strcmp(text, "f16") == 0 ? SP_F16 : strcmp(text, "bf16") == 0 ? SP_BF16 : SP_F32;
}

sp_status sp_convert_model(const splam_convert_options *o, sp_device *device, const sp_callbacks *callbacks)
{
    conversion c = {.o = o, .dtype = dtype_of(o->dtype), .device = device, .callbacks = callbacks};
    sp_model_folder folder;
    SP_TRY(sp_model_folder_open_unet(o->model, o->base, &folder));
    folder.prediction = o->prediction_type;
    sp_status status = sp_prediction_fits(&folder);
    if (!status) status = sp_lora_list_open(o->loras, o->lora_count, c.callbacks, &c.loras);
    if (!status) status = convert_model(&folder, o->output, &c);
    sp_lora_list_close(&c.loras);
    sp_model_folder_close(&folder);
    return status;
}
