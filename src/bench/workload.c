/* The graphs that stand for a kind of work: a denoising step, a training step. */
#include "bench/workload.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/system.h"
#include "ops/autodiff.h"
#include "checkpoints/recognise.h"

/* ---- opening ---- */

/* The kind that a folder's own config.json names, or -1 if there is none or it names nothing known. */
static int own_kind(const char *folder)
{
    char *path = sp_path_join(folder, "config.json");
    json_t *config = NULL;
    int kind = -1;
    if (path && sp_path_exists(path) && sp_json_load(path, &config) == SP_OK) {
        const char *name = json_string_value(json_object_get(config, "_class_name"));
        if (!name)
            name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
        if (name) kind = sp_component_kind_of_class(name);
    }
    json_decref(config);
    sp_free(path);
    return kind;
}

static sp_component **place(sp_work_model *model, sp_component_kind kind)
{
    return kind == SP_COMPONENT_UNET             ? &model->unet
           : kind == SP_COMPONENT_VAE            ? &model->vae
           : kind == SP_COMPONENT_TEXT_ENCODER_2 ? &model->text_2
           : kind == SP_COMPONENT_TRANSFORMER    ? &model->transformer
                                                 : &model->text;
}

static sp_status fail_unknown(const char *path)
{
    char what[256];
    sp_recognise(path, what, sizeof what);
    return sp_fail(SP_FORMAT, "%s: %s%s%sholds neither a model nor a component of one", path, *what ? "is " : "",
                   what, *what ? ", and " : "");
}

static sp_status open_components(const char *path, const char *prediction, sp_work_model *model)
{
    sp_model_folder folder;
    SP_TRY(sp_model_folder_open(path, &folder));
    folder.prediction = prediction;
    int own = folder.index ? -1 : own_kind(folder.path), found = 0;
    sp_status status = SP_OK;
    for (int i = 0; i < SP_COMPONENT_COUNT && !status; i++) {
        const char *name = sp_component_folder_name((sp_component_kind)i);
        if (own >= 0 ? own != i : !sp_model_folder_has(&folder, name)) continue;
        status = own >= 0 ? sp_component_open_as(path, name, prediction, place(model, (sp_component_kind)i))
                          : sp_model_folder_component(&folder, name, place(model, (sp_component_kind)i));
        found++;
    }
    sp_model_folder_close(&folder);
    if (!status && !found) status = fail_unknown(path);
    return status;
}

sp_status sp_work_model_open(const char *folder, const char *prediction, sp_device *device,
                             sp_work_model *out)
{
    *out = (sp_work_model){.device = device, .height = 64, .width = 64, .tokens = 77};
    sp_status status = open_components(folder, prediction, out);
    if (status) {
        sp_work_model_close(out);
        return status;
    }
    int64_t size = out->unet          ? out->unet->config.unet.sample_size
                   : out->transformer ? out->transformer->config.transformer.sample_size
                                      : 0;
    if (!size && out->vae) size = out->vae->config.vae.sample_size / out->vae->config.vae.factor;
    if (size > 0) out->height = out->width = size;
    if (out->text) out->tokens = out->text->config.text.max_tokens;
    out->context_tokens = out->tokens + (out->transformer ? SP_MMDIT_TOKENS_BEHIND : 0);
    return SP_OK;
}

static sp_status resize(const char *name, int64_t pixels, int64_t factor, int64_t *latent)
{
    if (pixels == SPLAM_UNSET) return SP_OK;
    if (pixels < factor || pixels % factor)
        return sp_fail(SP_ARGUMENT, "`%s` is %lld, and must be a multiple of %lld", name, (long long)pixels,
                       (long long)factor);
    *latent = pixels / factor;
    return SP_OK;
}

sp_status sp_work_model_resize(sp_work_model *model, int64_t width, int64_t height)
{
    enum { USUAL = 8 };
    int64_t factor = model->vae ? model->vae->config.vae.factor : USUAL;
    SP_TRY(resize("width", width, factor, &model->width));
    return resize("height", height, factor, &model->height);
}

sp_status sp_work_model_quantise(sp_work_model *model)
{
    sp_component *const components[] = {model->unet, model->transformer, model->vae, model->text, model->text_2};
    for (size_t i = 0; i < sizeof components / sizeof *components; i++)
        if (components[i]) SP_TRY(sp_component_quantise(components[i]));
    return SP_OK;
}

void sp_work_model_close(sp_work_model *model)
{
    sp_component_close(model->unet);
    sp_component_close(model->transformer);
    sp_component_close(model->vae);
    sp_component_close(model->text);
    sp_component_close(model->text_2);
    *model = (sp_work_model){0};
}

/* ---- graphs ---- */

/* What evaluates one network. */
static const struct {
    const sp_network *network;
    const char *set;
} works[] = {[SP_WORK_TEXT] = {&sp_clip_text_network, "text"},
             [SP_WORK_TEXT_2] = {&sp_clip_text_projection_network, "text 2"},
             [SP_WORK_UNET] = {&sp_unet_network, "online"},
             [SP_WORK_TRANSFORMER] = {&sp_mmdit_network, "transformer"},
             [SP_WORK_UNET_BACKWARD] = {&sp_unet_network, "online"},
             [SP_WORK_DECODE] = {&sp_vae_decoder_network, "vae"},
             [SP_WORK_STEP] = {&sp_unet_network, "online"}};

sp_component *sp_work_component(const sp_work_model *model, sp_work work)
{
    if (work == SP_WORK_TEXT) return model->text;
    if (work == SP_WORK_TEXT_2) return model->text_2;
    if (work == SP_WORK_TRANSFORMER) return model->transformer;
    return work == SP_WORK_DECODE ? model->vae : model->unet;
}

const char *sp_work_set(sp_work work)
{
    return works[work].set;
}

bool sp_work_possible(const sp_work_model *model, sp_work work)
{
    const sp_component *component = sp_work_component(model, work);
    return component && (work != SP_WORK_STEP || !component->config.unet.time_cond_dim);
}

sp_component_config sp_work_student(const sp_work_model *model)
{
    enum { GAMMA_EMBEDDING = 256 }; /* the paper's */
    sp_component_config student = model->unet->config;
    student.unet.time_cond_dim = GAMMA_EMBEDDING;
    return student;
}

/* The network that a work runs, whole: weights are read as they lie in the file. */
static void build_alone(sp_builder *b, const sp_work_model *model, sp_work work, int64_t batch)
{
    const sp_component *of = sp_work_component(model, work);
    const sp_weight_set set = {.name = sp_work_set(work), .rate = SP_RATE_RUN, .weights = of->weights};
    bool text = work == SP_WORK_TEXT || work == SP_WORK_TEXT_2;
    /* of Stable Diffusion 3 both encoders project */
    bool projects = text && of->config.kind == SP_COMPONENT_TEXT_ENCODER_2;
    const sp_block_options without_t5 = {.unmarked = true, .same_tokens = SP_MMDIT_TOKENS_BEHIND};
    const sp_network_use use = {.network = projects ? &sp_clip_text_projection_network : works[work].network,
                                .config = sp_component_config_of(&of->config),
                                .options = work == SP_WORK_TRANSFORMER ? &without_t5 : NULL,
                                .set = &set};
    const sp_network_sizes sizes = {.batch = batch,
                                    .height = model->height,
                                    .width = model->width,
                                    .tokens = text ? model->tokens : model->context_tokens,
                                    .ids = SP_I32};
    sp_network_alone(b, &use, &sizes);
}

/* The UNet's output [N,C,H,W], its weights trained. */
static sp_value *build_trained(sp_builder *b, const sp_work_model *model, int64_t batch)
{
    const sp_weight_set set = {.name = "online", .rate = SP_RATE_STEP};
    const sp_network_use unet = {
        .network = &sp_unet_network, .config = &model->unet->config.unet, .set = &set};
    const sp_network_sizes sizes = {.batch = batch,
                                    .height = model->height,
                                    .width = model->width,
                                    .tokens = model->tokens,
                                    .training = true};
    sp_values in = {0};
    sp_network_inputs(b, unet.network, unet.config, &sizes, &in);
    return sp_nhwc_to_nchw(b, sp_network_value(b, &unet, &in));
}

static sp_status build_backward(sp_builder *b, const sp_work_model *model, int64_t batch)
{
    sp_value *y = sp_cast(b, build_trained(b, model, batch), SP_F32);
    sp_value *target = y ? sp_input(b, "target", SP_F32, y->shape, SP_RATE_STEP) : NULL;
    sp_value *loss = sp_loss(b, y, target, NULL, (sp_loss_options){.kind = SP_LOSS_L2});
    sp_output(b, "loss", loss);
    if (sp_builder_failed(b)) return SP_OK; /* finishing tells */
    SP_TRY(sp_pass_fuse(sp_builder_graph(b)));
    return sp_output_gradients(b, loss, "online");
}

static sp_status build(sp_builder *b, const sp_work_model *model, sp_work work, int64_t batch)
{
    if (work == SP_WORK_UNET_BACKWARD) return build_backward(b, model, batch);
    build_alone(b, model, work, batch);
    if (sp_builder_failed(b)) return SP_OK;
    SP_TRY(sp_pass_fuse(sp_builder_graph(b)));
    return sp_pass_fuse_inference(sp_builder_graph(b));
}

sp_status sp_work_step_graph(const sp_work_model *model, int64_t batch, uint64_t recompute,
                             sp_graph **out)
{
    *out = NULL;
    const sp_component_config *teacher = &model->unet->config;
    const sp_denoiser facts = sp_denoiser_of(teacher);
    const sp_component_config student = sp_work_student(model);
    const sp_objective_settings settings = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    const sp_conditioning conditioning = sp_conditioning_declared(facts.network, facts.config, batch, model->tokens);
    const sp_step_shape shape = {.batch = batch,
                                 .channels = facts.in_channels,
                                 .height = model->height,
                                 .width = model->width,
                                 .conditioning = &conditioning,
                                 .teacher = teacher,
                                 .teacher_weights = model->unet->weights,
                                 .student = &student,
                                 .recompute = recompute};
    return sp_objective_graph(&settings, &shape, out);
}

sp_status sp_work_graph(const sp_work_model *model, sp_work work, int64_t batch, sp_graph **out)
{
    *out = NULL;
    if (work == SP_WORK_STEP) return sp_work_step_graph(model, batch, 0, out);
    sp_builder *b;
    SP_TRY(sp_builder_create(&b));
    sp_status status = build(b, model, work, batch);
    if (!status) status = sp_builder_finish(b, out);
    sp_builder_destroy(b);
    return status;
}

typedef struct {
    const sp_work_model *model;
    int64_t batch;
} step_context;

static sp_status build_step(void *context, uint64_t recompute, sp_graph **out)
{
    const step_context *step = context;
    return sp_work_step_graph(step->model, step->batch, recompute, out);
}

sp_status sp_work_step_plan(const sp_work_model *model, int64_t batch, sp_dtype precision,
                            sp_optimizer optimizer, size_t limit, sp_step_memory *memory,
                            sp_plan **plan)
{
    enum { UNPLANNED = 32 << 20 }; /* generated code, buffers of files */
    step_context context = {model, batch};
    int64_t own = sp_resident_memory();
    const sp_step_request request = {.build = build_step,
                                     .context = &context,
                                     .device = model->device,
                                     .precision = precision,
                                     .limit = limit};
    *memory = (sp_step_memory){.optimizer = optimizer,
                               .program = UNPLANNED + (own > 0 ? (size_t)own : 0)};
    return sp_step_plan(&request, memory, plan);
}
