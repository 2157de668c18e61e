/* What is in a folder or file, for people. */
#include <stdio.h>
#include <string.h>

#include "report/inspect.h"
#include "report/inspect_towers.h"
#include "bench/workload.h"
#include "backend/registry.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "base/system.h"
#include "base/text.h"
#include "base/visible.h"
#include "diffusion/scheduler_config.h"
#include "graph/plan.h"
#include "checkpoints/embedding.h"
#include "checkpoints/lora.h"
#include "checkpoints/model_path.h"
#include "checkpoints/recognise.h"
#include "checkpoints/student_file.h"
#include "checkpoints/tower_weights.h"
#include "eval/picture_set.h"
#include "formats/magic.h"
#include "train/checkpoint.h"

/* ---- sizes ---- */

static const char *count_text(int64_t count)
{
    static _Thread_local char text[32];
    double n = (double)count;
    if (n >= 1e6)
        snprintf(text, sizeof text, "%.1f M", n / 1e6);
    else
        snprintf(text, sizeof text, "%.1f k", n / 1e3);
    return text;
}

/* What a set of tensors holds: counts by dtype, elements, bytes. */
typedef struct {
    size_t count[SP_DTYPE_COUNT], tensors, bytes;
    int64_t elements;
} tensor_sum;

static void add_tensor(tensor_sum *sum, const sp_tensor *tensor)
{
    sum->count[tensor->dtype]++;
    sum->tensors++;
    sum->bytes += sp_tensor_bytes(tensor);
    sum->elements += sp_tensor_count(tensor);
}

/* "F32", or "F16 (400), F32 (2)". */
static void append_dtypes(const tensor_sum *sum, sp_string *out)
{
    const char *separator = "";
    for (int i = 0; i < SP_DTYPE_COUNT; i++) {
        if (!sum->count[i]) continue;
        sp_string_say(out, "%s%s", separator, sp_dtype_name((sp_dtype)i));
        if (sum->count[i] < sum->tensors) sp_string_say(out, " (%zu)", sum->count[i]);
        separator = ", ";
    }
}

/* ---- a single file ---- */

static void describe_file(const sp_tensor_file *file, bool names, sp_string *out)
{
    enum { SHOWN = 8 };
    tensor_sum sum = {0};
    const char *path = sp_tensor_file_path(file);
    size_t count = sp_tensor_file_count(file);
    for (size_t i = 0; i < count; i++)
        add_tensor(&sum, sp_tensor_file_at(file, i));
    sp_string_say(out, "%s: %s, %zu tensors, %s elements, %s, ", path,
                            sp_tensor_file_format(file), count, count_text(sum.elements),
                            sp_bytes_text(sum.bytes));
    append_dtypes(&sum, out);
    sp_string_say(out, "\n");
    if (!names) return;
    for (size_t i = 0; i < count && i < SHOWN; i++) {
        const sp_tensor *tensor = sp_tensor_file_at(file, i);
        const char *name = sp_tensor_file_name(file, i);
        sp_string_say(out, "  %s %s %s\n", sp_shown(name, strlen(name)),
                      sp_dtype_name(tensor->dtype), sp_shape_text(tensor->shape));
    }
    if (count > SHOWN) sp_string_say(out, "  and %zu more\n", count - SHOWN);
}

/* ---- a model ---- */

static const char *family(const sp_unet_config *c)
{
    static const int64_t published[] = {320, 640, 1280, 1280};
    bool same = c->levels == 4 && memcmp(c->channels, published, sizeof published) == 0;
    if (same && c->cross_attention_dim == 768) return "Stable Diffusion 1.x";
    if (same && c->cross_attention_dim == 1024) return "Stable Diffusion 2.x";
    if (c->size_dim && c->cross_attention_dim == 2048)
        return !c->middle_attention ? "Stable Diffusion XL with fewer blocks (SSD-1B, Segmind-Vega)"
                                    : "Stable Diffusion XL";
    return "a latent diffusion model of Stable Diffusion's kind";
}

static const char *prediction_name(sp_prediction prediction)
{
    if (prediction == SP_PREDICTION_SAMPLE) return "the clean latent";
    if (prediction == SP_PREDICTION_FLOW) return "the velocity";
    return prediction == SP_PREDICTION_V ? "v" : "epsilon";
}

static const char *path_text(const sp_path *path)
{
    if (path->kind == SP_PATH_FLOW) return ", flow matching";
    return sp_path_ends_without_signal(path) ? ", zero terminal SNR" : "";
}

/* A scheduler that cannot be sampled with is no reason not to show the rest. */
static void describe_scheduler(const sp_model_folder *model, sp_string *out)
{
    sp_scheduler_config *scheduler = sp_alloc(sizeof *scheduler);
    json_t *json = NULL;
    if (scheduler && sp_model_folder_has(model, "scheduler")) {
        sp_status status = sp_scheduler_config_of(model, &json, scheduler);
        const char *name = json_string_value(json_object_get(json, "_class_name"));
        sp_string_say(out, "scheduler     ");
        if (scheduler->path.timesteps)
            sp_string_say(out, "%s, %d timesteps, predicts %s%s", name ? name : "(no class)",
                                    scheduler->path.timesteps,
                                    prediction_name(scheduler->path.prediction),
                                    path_text(&scheduler->path));
        if (status)
            sp_string_say(out, "%s%s", scheduler->path.timesteps ? "; cannot be sampled: " : "",
                                    sp_error_message());
        sp_string_say(out, "\n");
    }
    json_decref(json);
    sp_free(scheduler);
}

/* The last whole line's "step" of metrics.jsonl; 0 if there is none. */
static int64_t last_step(const char *folder)
{
    char *path = sp_path_join(folder, "metrics.jsonl"), *text = NULL;
    int64_t step = 0;
    if (path && sp_path_exists(path) && sp_read_text(path, &text, NULL) == SP_OK) {
        for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
            json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
            json_t *value = json_object_get(object, "step");
            if (json_is_integer(value)) step = json_integer_value(value);
            json_decref(object);
        }
    }
    sp_free(text);
    sp_free(path);
    return step;
}

static sp_status describe_student(const char *folder, sp_string *out)
{
    sp_student_file file;
    SP_TRY(sp_student_file_read(folder, &file));
    if (file.objective) {
        int64_t step = last_step(folder);
        sp_string_say(out, "student       objective %s", file.objective);
        if (file.gamma_conditioning) sp_string_say(out, ", gamma told by %s", file.gamma_conditioning);
        if (step > 0) sp_string_say(out, ", %lld training steps", (long long)step);
        sp_string_say(out, "; %lld steps of %s, no guidance\n", file.steps ? (long long)file.steps : 4,
                      file.sampler ? file.sampler : "lcm");
    }
    sp_student_file_free(&file);
    return SP_OK;
}

static void describe_component(const char *name, const sp_component *component, sp_string *out)
{
    tensor_sum sum = {0};
    if (!component) return;
    for (size_t i = 0; i < sp_weights_count(component->weights); i++)
        add_tensor(&sum, sp_weights_at(component->weights, i));
    sp_string_say(out, "%-14s %8s parameters  %9s  %4zu tensors  ", name,
                            count_text(sum.elements), sp_bytes_text(sum.bytes), sum.tensors);
    append_dtypes(&sum, out);
    const sp_component_config *config = &component->config;
    if (config->kind == SP_COMPONENT_VAE && config->vae.kind == SP_VAE_TINY)
        sp_string_say(out, "  AutoencoderTiny");
    sp_string_say(out, "\n");
}

static void describe_unet(const sp_work_model *model, sp_string *out)
{
    const sp_unet_config *c = &model->unet->config.unet;
    sp_string_say(out, "family        %s", family(c));
    if (c->time_cond_dim) sp_string_say(out, ", consistency model with cond_proj");
    sp_string_say(out, "\nlatent        %lld x %lld x %lld", (long long)c->in_channels,
                            (long long)model->height, (long long)model->width);
    if (model->vae) {
        int64_t factor = model->vae->config.vae.factor;
        sp_string_say(out, ", pictures of %lld x %lld",
                                (long long)(factor * model->width),
                                (long long)(factor * model->height));
    }
    if (model->vae && sp_unet_is_megapixel(c)) sp_string_say(out, "\ntrained on    " SP_XL_SIZES);
    sp_string_say(out, "\ncontext       %lld tokens of %lld\n", (long long)model->tokens,
                            (long long)c->cross_attention_dim);
}

static void describe_transformer(const sp_work_model *model, sp_string *out)
{
    const sp_mmdit_config *c = &model->transformer->config.transformer;
    int dual = 0;
    for (int64_t i = 0; i < c->blocks; i++)
        dual += c->dual[i];
    sp_string_say(out, "family        Stable Diffusion %s, transformer of %lld blocks", c->qk_norm ? "3.5" : "3",
                  (long long)c->blocks);
    if (dual) sp_string_say(out, ", %d of them with attention of the picture alone", dual);
    sp_string_say(out, "\nlatent        %lld x %lld x %lld, in patches of %lld", (long long)c->in_channels,
                  (long long)model->height, (long long)model->width, (long long)c->patch_size);
    sp_string_say(out, "\ncontext       tokens of %lld\n", (long long)c->context_dim);
}

/* ---- memory ---- */

static sp_status plan_memory(const sp_work_model *model, sp_work work, int64_t batch,
                             sp_plan_memory *out)
{
    sp_graph *graph;
    sp_plan *plan;
    sp_device *device = model->device;
    SP_TRY(sp_work_graph(model, work, batch, &graph));
    SP_TRY(sp_plan_create(graph, device, device->preferred_dtype, &plan));
    *out = sp_plan_get_memory(plan);
    sp_plan_destroy(plan);
    return SP_OK;
}

static void append_row(const char *name, size_t weights, const sp_plan_memory *m, sp_string *out)
{
    size_t sum = weights + m->arena + m->persistent + m->boundary;
    sp_string_say(out, "  %-28s %10s %10s %12s %10s\n", name, sp_bytes_text(weights),
                            sp_bytes_text(m->persistent), sp_bytes_text(m->arena + m->boundary),
                            sp_bytes_text(sum));
}

/* Stages of generating follow each other and give back what they took. */
static sp_status describe_generate(const sp_work_model *model, sp_string *out)
{
    const struct {
        const char *name;
        sp_work work;
        int64_t batch;
    } stages[] = {{"generate: text encoder", SP_WORK_TEXT, 1},
                  {"generate: second text encoder", SP_WORK_TEXT_2, 1},
                  {"generate: unet", SP_WORK_UNET, 1},
                  {"generate: unet with guidance", SP_WORK_UNET, 2},
                  {"one evaluation: transformer", SP_WORK_TRANSFORMER, 1},
                  {"generate: vae decoder", SP_WORK_DECODE, 1}};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        sp_plan_memory memory;
        if (!sp_work_possible(model, stages[i].work)) continue;
        if (stages[i].batch == 2 && model->unet->config.unet.time_cond_dim) continue;
        SP_TRY(plan_memory(model, stages[i].work, stages[i].batch, &memory));
        append_row(stages[i].name, memory.parameters, &memory, out);
    }
    return SP_OK;
}

/* Row by row with fp32 moments; the total with moments in 8 bits beside it. */
static sp_status describe_distill(const sp_work_model *model, sp_string *out)
{
    if (!sp_work_possible(model, SP_WORK_STEP)) return SP_OK;
    for (int optimizer = 0; optimizer < SP_OPTIMIZER_COUNT; optimizer++) {
        sp_step_memory memory;
        sp_plan *plan;
        SP_TRY(sp_work_step_plan(model, 1, model->device->preferred_dtype,
                                 (sp_optimizer)optimizer, 0, &memory, &plan));
        sp_plan_destroy(plan);
        if (optimizer == SP_OPTIMIZER_ADAMW) {
            sp_string_say(out, "memory of one step of distilling\n");
            sp_step_memory_append(&memory, 0, out);
        } else {
            sp_string_say(out, "  %-28s %10s  moments %s\n", "with optimizer adamw8bit",
                                    sp_bytes_text(sp_step_memory_total(&memory)),
                                    sp_bytes_text(memory.moments));
        }
    }
    return SP_OK;
}

static sp_status describe_memory(const sp_work_model *model, sp_string *out)
{
    sp_dtype precision = model->device->preferred_dtype;
    sp_string_say(out, "memory at this size, batch 1, %s, from the plans\n",
                            precision == SP_BF16 ? "bf16" : "f32");
    sp_string_say(out, "  %-28s %10s %10s %12s %10s\n", "", "weights", "packed",
                            "activations", "sum");
    SP_TRY(describe_generate(model, out));
    return describe_distill(model, out);
}

static sp_status inspect_model(const sp_model_folder *folder, sp_device *device, sp_string *out)
{
    sp_work_model model;
    SP_TRY(sp_work_model_open(folder->path, folder->prediction, device, &model));
    if (folder->single)
        describe_file(folder->single, false, out);
    else
        sp_string_say(out, "%s\n", folder->path);
    if (model.unet) describe_unet(&model, out);
    if (model.transformer) describe_transformer(&model, out);
    sp_status status = describe_student(folder->path, out);
    if (!status) describe_scheduler(folder, out); /* its fault is text, and would take the place of the message */
    describe_component("unet", model.unet, out);
    describe_component("transformer", model.transformer, out);
    describe_component("vae", model.vae, out);
    describe_component("text_encoder", model.text, out);
    describe_component("text_encoder_2", model.text_2, out);
    if (!status) status = describe_memory(&model, out);
    sp_work_model_close(&model);
    return status;
}

static void describe_lora(const sp_lora *lora, sp_string *out)
{
    const char *before = ": ";
    for (int i = 0; i < SP_COMPONENT_COUNT; i++) {
        size_t count = sp_lora_count(lora, (sp_component_kind)i);
        if (!count) continue;
        sp_string_say(out, "%s%zu adapter%s for the %s", before, count, count == 1 ? "" : "s",
                                sp_component_folder_name((sp_component_kind)i));
        before = ", ";
    }
}

/* The token that it gives a model, and its vectors. */
static void describe_learned(const char *path, sp_string *out)
{
    sp_learned e;
    const char *before = " of";
    if (sp_learned_open(&(splam_embedding){.path = path}, &e) == SP_OK) {
        sp_string_say(out, ": \"%s\", %lld vector%s", e.token, (long long)e.count, e.count == 1 ? "" : "s");
        for (int i = 0; i < SP_LEARNED_ENCODERS && e.vectors[i].data; i++, before = " and")
            sp_string_say(out, "%s %lld", before, (long long)e.vectors[i].shape.dim[1]);
    } else {
        sp_string_say(out, " that cannot be used: %s", sp_error_message());
    }
    sp_learned_free(&e);
}

/* What the file is that is no model; of a LoRA what it would change, or why it cannot be used. */
static void describe_kind(const sp_model_folder *folder, const char *kind, sp_string *out)
{
    sp_lora *lora;
    sp_string_say(out, "  %s", kind);
    if (sp_starts_with(kind, "a LoRA") && sp_lora_open(folder->path, &lora) == SP_OK) {
        describe_lora(lora, out);
        sp_lora_close(lora);
    } else if (sp_starts_with(kind, "a LoRA")) {
        sp_string_say(out, " that cannot be used: %s", sp_error_message());
    }
    if (sp_starts_with(kind, "an embedding")) describe_learned(folder->path, out);
    sp_string_say(out, "\n");
}

/* A file of another thing than a model or an autoencoder is shown as tensors. */
static const char *other_kind(const sp_model_folder *folder)
{
    const char *kind = folder->single ? sp_recognise_tensors(folder->single) : NULL;
    return kind && !sp_model_folder_has(folder, "unet") && sp_model_folder_has(folder, "vae") ? NULL : kind;
}

/* Of each network that a file of features has rows of. */
static void describe_features(const sp_tensor_file *file, sp_string *out)
{
    for (int i = 0; i < SP_EXTRACTORS; i++) {
        sp_feature_facts facts;
        if (!sp_feature_file_facts(file, (sp_extractor_index)i, &facts)) continue;
        sp_string_say(out, "  %s: %lld pictures, convention %s, transform %s\n", facts.origin.network,
                      (long long)facts.rows, facts.origin.convention, facts.origin.transform);
        sp_string_say(out, "    sha256 %s\n", facts.origin.weights);
    }
}

/* A file that has no component of a model is shown as tensors. */
static sp_status inspect_folder_or_file(const char *path, const char *prediction, sp_device *device, sp_string *out)
{
    sp_model_folder folder;
    SP_TRY(sp_model_folder_open(path, &folder));
    folder.prediction = prediction;
    bool has = !folder.single;
    for (int i = 0; i < SP_COMPONENT_COUNT; i++)
        has |= sp_model_folder_has(&folder, sp_component_folder_name((sp_component_kind)i));
    sp_status status = SP_OK;
    if (prediction && !sp_model_folder_has(&folder, "scheduler"))
        status = sp_fail(SP_ARGUMENT, "%s: has no scheduler, and a prediction type is for one", path);
    if (!status) status = sp_prediction_check(&folder);
    const char *kind = other_kind(&folder);
    if (!status && has && !kind) {
        status = inspect_model(&folder, device, out);
    } else if (!status) {
        describe_file(folder.single, true, out);
        if (kind) describe_kind(&folder, kind, out);
        if (folder.single) describe_features(folder.single, out);
        status = sp_inspect_tower(folder.single, out);
    }
    sp_model_folder_close(&folder);
    return status;
}

static sp_status inspect_tower_folder(const char *path, sp_string *out)
{
    sp_tensor_file *file;
    SP_TRY(sp_tower_open(path, &file));
    const char *kind = sp_recognise_tensors(file);
    describe_file(file, true, out);
    if (kind) sp_string_say(out, "  %s\n", kind);
    sp_status status = sp_inspect_tower(file, out);
    sp_tensor_file_close(file);
    return status;
}

/* ---- a checkpoint of a training ---- */

static sp_status inspect_checkpoint(const char *path, sp_string *out)
{
    sp_checkpoint_facts facts;
    const char *key;
    json_t *value;
    SP_TRY(sp_checkpoint_facts_read(path, &facts));
    sp_string_say(out, "%s: checkpoint after %lld steps\n", path, (long long)facts.step);
    sp_status status = SP_OK;
    json_object_foreach(json_object_get(facts.json, "settings"), key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        if (text)
            sp_string_say(out, "  %s %s\n", key, text);
        else
            status = sp_fail(SP_MEMORY, "%s: out of memory for \"%s\"", path, key);
        sp_json_text_free(text);
    }
    sp_checkpoint_facts_free(&facts);
    return status;
}

/* ---- statistics for scores ---- */

static sp_status inspect_statistics(const char *path, sp_string *out)
{
    sp_picture_set set;
    SP_TRY(sp_picture_set_of_file(path, &set));
    int64_t width = set.statistics ? set.gaussian.dim : set.feats.shape.dim[1];
    sp_string_say(out, "%s: for splam score: %s %lld features", path,
                  set.statistics ? "mean and covariance of" : "rows of", (long long)width);
    if (set.count) sp_string_say(out, ", of %lld pictures", (long long)set.count);
    sp_string_say(out, "\n");
    if (*set.convention) sp_string_say(out, "  convention %s\n", set.convention);
    if (*set.transform) sp_string_say(out, "  transform %s\n", set.transform);
    if (*set.weights) sp_string_say(out, "  of weights with sha256 %s\n", set.weights);
    sp_picture_set_free(&set);
    return SP_OK;
}

/* Folders without a model, and files that are none of tensors: what they are, if that is known. */
static bool describe_other(const char *path, sp_string *out)
{
    char *own = sp_path_join(path, "config.json"), *index = sp_path_join(path, "model_index.json"), what[256] = "";
    sp_mapped_file bytes;
    bool model = !own || !index || sp_path_exists(own) || sp_path_exists(index);
    for (int i = 0; i < SP_COMPONENT_COUNT && !model && sp_path_is_folder(path); i++) {
        char *part = sp_path_join(path, sp_component_folder_name((sp_component_kind)i));
        model = !part || sp_path_is_folder(part);
        sp_free(part);
    }
    sp_free(own);
    sp_free(index);
    if (model) return false;
    if (sp_path_is_folder(path)) {
        sp_recognise(path, what, sizeof what);
    } else if (sp_mapped_file_open(path, &bytes) == SP_OK) {
        const char *known = sp_magic_text(bytes.data, bytes.size);
        if (known) snprintf(what, sizeof what, "%s, %s", known, sp_bytes_text(bytes.size));
        sp_mapped_file_close(&bytes);
    }
    if (*what) sp_string_say(out, "%s: %s\n", path, what);
    return *what;
}

static sp_status inspect_at(const char *path, const char *prediction, sp_device *device, sp_string *out)
{
    if (!sp_path_exists(path)) return sp_fail(SP_IO, "%s: no such file or folder", path);
    bool checkpoint;
    SP_TRY(sp_is_checkpoint(path, &checkpoint));
    if (checkpoint && prediction)
        return sp_fail(SP_ARGUMENT, "%s: is a checkpoint of a training, and a prediction type is for a model", path);
    if (checkpoint) return inspect_checkpoint(path, out);
    if (!prediction && sp_ends_with(path, ".npz") && !sp_path_is_folder(path)) return inspect_statistics(path, out);
    if (!prediction && sp_tower_is_folder(path)) return inspect_tower_folder(path, out);
    if (!prediction && describe_other(path, out)) return SP_OK;
    return inspect_folder_or_file(path, prediction, device, out);
}

/* A file of weights as diffusers and transformers call them is its folder's, whose config.json says what it is: the
 * folder, new; else the path itself. */
static sp_status whole_component(char **place)
{
    const char *name = sp_path_base(*place);
    bool weights = sp_starts_with(name, "diffusion_pytorch_model") || strcmp(name, "model.safetensors") == 0;
    if (!weights || sp_path_is_folder(*place)) return SP_OK;
    char *config = sp_path_beside(*place, "config.json");
    if (!config) return SP_MEMORY;
    bool told = sp_path_exists(config);
    sp_free(config);
    if (!told) return SP_OK;
    int length = (int)(name - *place); /* up to the slash, which stays where it is all there is */
    char *folder = length ? sp_format("%.*s", length > 1 ? length - 1 : 1, *place) : sp_strdup(".");
    if (!folder) return SP_MEMORY;
    sp_free(*place);
    *place = folder;
    return SP_OK;
}

static sp_status describe(const splam_inspect_options *o, sp_string *out)
{
    char *place;
    sp_device *device;
    SP_TRY(sp_device_of(o->device, &device));
    SP_TRY(sp_model_path(o->path, &place));
    sp_status status = whole_component(&place);
    if (!status) status = inspect_at(place, o->prediction_type, device, out);
    sp_free(place);
    return status;
}

sp_status sp_inspect(const splam_inspect_options *o, char **text)
{
    sp_string out = {0};
    sp_status status = describe(o, &out);
    if (!status && out.failed) status = SP_MEMORY;
    if (status)
        sp_string_free(&out);
    else
        *text = out.data;
    return status;
}
