/* The teacher of the demo: text encoder and UNet trained together on cached latents, mean squared
 * error of epsilon or v. */
#include "backend/registry.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/random.h"
#include "data/caption_length.h"
#include "latents/latents.h"
#include "diffusion/path.h"
#include "text/tokenizer.h"
#include "recipes/from_scratch.h"
#include "distill/validation.h"

enum { SP_TEACHER_TOKENS = 24, SP_TEACHER_VOCABULARY = 2200, SP_TEACHER_WIDTH = 128 };

/* Stable Diffusion's schedule. */
static const char beta_schedule[] = "scaled_linear";
static const double beta_start = 0.00085, beta_end = 0.012;
enum { SP_TRAIN_TIMESTEPS = 1000 };

static sp_unet_config unet_config(const sp_latents *latents)
{
    sp_unet_config config = {
        .levels = 3,
        .sample_size = latents->height,
        .in_channels = latents->channels,
        .out_channels = latents->channels,
        .channels = {64, 128, 144},
        .layers = {1, 1, 1},
        .heads = {4, 4, 4},
        .down_attention = {false, true, true},
        .up_attention = {false, true, true},
        .middle_attention = true,
        .cross_attention_dim = SP_TEACHER_WIDTH,
        .time_dim = 256,
        .groups = 16,
        .epsilon = 1e-5,
        .downsample_padding = 1,
        .cos_first = true,
    };
    sp_unet_config_set_depth(&config, 1);
    return config;
}

static sp_clip_text_config text_config(const sp_tokenizer *tokenizer)
{
    return (sp_clip_text_config){
        .vocabulary = (int64_t)sp_tokenizer_vocabulary_size(tokenizer),
        .width = SP_TEACHER_WIDTH,
        .feed_forward = 4 * SP_TEACHER_WIDTH,
        .layers = 2,
        .heads = 4,
        .max_tokens = SP_TEACHER_TOKENS,
        .projection = SP_TEACHER_WIDTH,
        .epsilon = 1e-5,
        .activation = SP_UNARY_QUICK_GELU,
        .begin_id = sp_tokenizer_bos(tokenizer),
        .end_id = sp_tokenizer_eos(tokenizer),
        .pad_id = sp_tokenizer_pad(tokenizer),
    };
}

typedef struct {
    const splam_train_options *options;
    sp_device *device;
    const sp_callbacks *callbacks;
    sp_dataset *dataset;
    sp_dataset_order *order;
    sp_component *vae;
    sp_latents latents; /* of the training samples, in their order */
    sp_tokenizer *tokenizer;
    sp_path path;
    sp_unet_config unet;
    sp_clip_text_config text;
    sp_tensor x0, noise, ids, timestep, alpha, sigma, target_x0, target_noise; /* one batch */
    sp_from_scratch_options how;
    sp_weights *start; /* views of the two components; NULL: there are none */
    sp_component *start_text, *start_unet;
    sp_claim claim; /* of the output */
} teacher_training;

/* ---- the graph ---- */

static sp_value *per_sample(sp_builder *b, const char *name, int64_t batch)
{
    return sp_input(b, name, SP_F32, sp_shape_of(batch), SP_RATE_STEP);
}

/* z = alpha x0 + sigma noise; target = target_x0 x0 + target_noise noise (epsilon: 0, 1;
 * v: -sigma, alpha). */
static sp_value *teacher_loss(sp_builder *b, const teacher_training *t)
{
    int64_t batch = t->options->train_batch_size;
    const sp_latents *l = &t->latents;
    sp_shape shape = sp_shape_of(batch, l->channels, l->height, l->width);
    sp_value *x0 = sp_nchw_to_nhwc(b, sp_input(b, "x0", SP_F32, shape, SP_RATE_STEP));
    sp_value *noise = sp_nchw_to_nhwc(b, sp_input(b, "noise", SP_F32, shape, SP_RATE_STEP));
    sp_value *ids =
        sp_input(b, "input_ids", SP_I32, sp_shape_of(batch, t->text.max_tokens), SP_RATE_STEP);
    sp_value *noisy[] = {per_sample(b, "alpha", batch), x0, per_sample(b, "sigma", batch),
                         noise};
    sp_value *target[] = {per_sample(b, "target_x0", batch), x0,
                          per_sample(b, "target_noise", batch), noise};
    const sp_weight_set set = {.name = "online", .rate = SP_RATE_STEP};
    const sp_network_use text = {
        .network = &sp_clip_text_network, .config = &t->text, .set = &set, .scope = "text_encoder"};
    const sp_network_use unet = {.network = &sp_unet_network, .config = &t->unet, .set = &set, .scope = "unet"};
    sp_values words = {0}, in = {0};
    sp_values_add(&words, "input_ids", ids);
    sp_values_add(&in, "encoder_hidden_states", sp_network_value(b, &text, &words));
    sp_values_add(&in, "sample", sp_sample_combine(b, 2, noisy));
    sp_values_add(&in, "timestep", per_sample(b, "timestep", batch));
    sp_value *prediction = sp_network_value(b, &unet, &in);
    sp_value *loss = sp_loss(b, sp_cast(b, prediction, SP_F32), sp_sample_combine(b, 2, target),
                             NULL, (sp_loss_options){.kind = SP_LOSS_L2});
    sp_output(b, "loss", loss);
    return loss;
}

static sp_status teacher_graph(const teacher_training *t, sp_graph **out)
{
    sp_builder *b;
    SP_TRY(sp_builder_create(&b));
    return sp_finish_training_graph(b, teacher_loss(b, t), out);
}

/* ---- feeding ---- */

/* Mostly the official name; now and then one of the other captions, or none at all. */
static const char *draw_caption(const teacher_training *t, int64_t sample, int64_t micro, int64_t i)
{
    float u[3];
    sp_random_key key = {t->options->seed, SP_STREAM_DROPOUT, (uint64_t)micro, (uint64_t)i};
    sp_random_uniform(key, u, 3);
    if ((double)u[0] < t->options->caption_dropout) return "";
    int others = sp_dataset_caption_count(t->dataset, sample) - 1;
    if (others == 0 || (double)u[1] >= t->options->caption_variety)
        return sp_dataset_caption(t->dataset, sample, 0);
    int variant = 1 + (int)(u[2] * (float)others);
    return sp_dataset_caption(t->dataset, sample, variant);
}

static sp_status feed_sample(teacher_training *t, int64_t micro, int64_t i)
{
    const splam_train_options *o = t->options;
    size_t one = (size_t)(t->latents.channels * t->latents.height * t->latents.width);
    int64_t k = sp_dataset_order_at(t->order, (uint64_t)(micro * o->train_batch_size + i));
    memcpy((float *)t->x0.data + (size_t)i * one, sp_latent_at(&t->latents, k),
           one * sizeof(float));
    sp_random_key key = {o->seed, SP_STREAM_NOISE, (uint64_t)micro, (uint64_t)i};
    sp_random_normal(key, (float *)t->noise.data + (size_t)i * one, one);
    key.stream = SP_STREAM_TIMESTEP;
    int timestep = (int)sp_random_below(key, SP_TRAIN_TIMESTEPS);
    sp_pair at = sp_path_at(&t->path, timestep), target = sp_prediction_target(t->path.prediction, at);
    ((float *)t->timestep.data)[i] = (float)timestep;
    ((float *)t->alpha.data)[i] = (float)at.alpha;
    ((float *)t->sigma.data)[i] = (float)at.sigma;
    ((float *)t->target_x0.data)[i] = (float)target.alpha;
    ((float *)t->target_noise.data)[i] = (float)target.sigma;
    const char *caption = draw_caption(t, sp_dataset_training_sample(t->dataset, k), micro, i);
    return sp_tokenizer_encode(t->tokenizer, caption,
                               (int32_t *)t->ids.data + i * t->text.max_tokens, NULL);
}

static sp_status feed(void *context, sp_run *run, int64_t micro)
{
    teacher_training *t = context;
    for (int64_t i = 0; i < t->options->train_batch_size; i++)
        SP_TRY(feed_sample(t, micro, i));
    const struct {
        const char *name;
        const sp_tensor *tensor;
    } inputs[] = {{"x0", &t->x0},
                  {"noise", &t->noise},
                  {"input_ids", &t->ids},
                  {"timestep", &t->timestep},
                  {"alpha", &t->alpha},
                  {"sigma", &t->sigma},
                  {"target_x0", &t->target_x0},
                  {"target_noise", &t->target_noise}};
    for (size_t k = 0; k < sizeof inputs / sizeof *inputs; k++)
        SP_TRY(sp_run_set_input(run, inputs[k].name, inputs[k].tensor));
    return SP_OK;
}

/* ---- the finished model ---- */

/* Views of the weights under `prefix`, without it. */
static sp_status without_prefix(const sp_weights *weights, const char *prefix, sp_weights **out)
{
    SP_TRY(sp_weights_create(out));
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        const char *name = sp_weights_name(weights, i);
        if (!sp_starts_with(name, prefix)) continue;
        sp_tensor view = *sp_weights_at((sp_weights *)weights, i);
        view.owned = false;
        SP_TRY(sp_weights_add(*out, name + strlen(prefix), view));
    }
    return SP_OK;
}

static sp_status save_part(const teacher_training *t, const sp_weights *weights,
                           sp_component_kind kind, json_t *config)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.", sp_component_folder_name(kind));
    char *folder = sp_path_join(t->options->output, sp_component_folder_name(kind));
    sp_weights *part = NULL;
    sp_status status = folder && config ? without_prefix(weights, prefix, &part) : SP_MEMORY;
    if (!status) status = sp_component_save(folder, kind, config, part, SP_F32, NULL);
    sp_weights_destroy(part);
    json_decref(config);
    sp_free(folder);
    return status;
}

static sp_status save_json(const char *folder, const char *name, json_t *value)
{
    char *path = sp_format("%s/%s", folder, name);
    sp_status status = path && value ? SP_OK : SP_MEMORY;
    char *slash = path ? strrchr(path, '/') : NULL;
    if (slash) {
        *slash = 0;
        if (!status) status = sp_make_folders(path);
        *slash = '/';
    }
    if (!status) status = sp_json_save(path, value);
    json_decref(value);
    sp_free(path);
    return status;
}

static sp_status save_pipeline_files(const teacher_training *t)
{
    const char *output = t->options->output;
    SP_TRY(save_json(
        output, "scheduler/scheduler_config.json",
        json_pack("{s:s, s:s, s:f, s:f, s:s, s:s, s:i, s:b, s:b, s:i, s:s}", "_class_name",
                  "DDIMScheduler", "_diffusers_version", "0.30.0", "beta_start", beta_start,
                  "beta_end", beta_end, "beta_schedule", beta_schedule, "prediction_type",
                  sp_prediction_name(t->path.prediction), "num_train_timesteps",
                  (int)SP_TRAIN_TIMESTEPS, "clip_sample", 0, "set_alpha_to_one", 0, "steps_offset",
                  1, "timestep_spacing", "leading")));
    SP_TRY(save_json(
        output, "model_index.json",
        json_pack("{s:s, s:s, s:[n,n], s:[n,n], s:b, s:[s,s], s:[s,s], s:[s,s], s:[s,s], s:[s,s]}",
                  "_class_name", "StableDiffusionPipeline", "_diffusers_version", "0.30.0",
                  "feature_extractor", "safety_checker", "requires_safety_checker", 0, "scheduler",
                  "diffusers", "DDIMScheduler", "text_encoder", "transformers", "CLIPTextModel",
                  "tokenizer", "transformers", "CLIPTokenizer", "unet", "diffusers",
                  "UNet2DConditionModel", "vae", "diffusers", "AutoencoderKL")));
    return SP_OK;
}

static sp_status save_model(const teacher_training *t, const sp_weights *weights)
{
    char *tokenizer = sp_path_join(t->options->output, "tokenizer");
    char *vae = sp_path_join(t->options->output, "vae");
    sp_status status = tokenizer && vae ? SP_OK : SP_MEMORY;
    if (!status) status = save_part(t, weights, SP_COMPONENT_UNET, sp_unet_config_write(&t->unet));
    if (!status)
        status =
            save_part(t, weights, SP_COMPONENT_TEXT_ENCODER, sp_clip_text_config_write(&t->text));
    if (!status) status = sp_tokenizer_save(t->tokenizer, tokenizer);
    if (!status)
        status = sp_component_save(vae, SP_COMPONENT_VAE, t->vae->json, t->vae->weights, SP_F32, NULL);
    if (!status) status = save_pipeline_files(t);
    sp_free(tokenizer);
    sp_free(vae);
    return status;
}

static sp_status validate(void *context, const sp_training_state *state, sp_validation_result *result)
{
    (void)result;
    const teacher_training *t = context;
    SP_TRY(save_model(t, state->ema));
    return sp_teacher_sheet(t->options->output, t->dataset, t->device,
                            sp_precision_dtype(t->device, t->options->precision), t->options->seed,
                            state->step);
}

/* ---- beginning as another model ---- */

/* Its weights under the names of this training's graph, as views. */
static sp_status add_start(teacher_training *t, const sp_component *part)
{
    const char *prefix = sp_component_folder_name(part->config.kind);
    sp_status status = SP_OK;
    for (size_t i = 0; i < sp_weights_count(part->weights) && !status; i++) {
        sp_tensor view = *sp_weights_at(part->weights, i);
        view.owned = false;
        char *name = sp_format("%s.%s", prefix, sp_weights_name(part->weights, i));
        status = name ? sp_weights_add(t->start, name, view) : SP_MEMORY;
        sp_free(name);
    }
    return status;
}

static sp_status check_start(const teacher_training *t, const sp_scheduler_config *scheduler)
{
    const char *start = t->options->start;
    if (scheduler->path.prediction != t->path.prediction)
        return sp_fail(SP_ARGUMENT, "`start` %s predicts %s, and %s is asked for", start,
                       sp_prediction_name(scheduler->path.prediction), sp_prediction_name(t->path.prediction));
    if (t->start_unet->config.unet.in_channels != t->latents.channels)
        return sp_fail(SP_SHAPE, "`start` %s is for latents of %lld channels, and those of `vae` %s have %lld", start,
                       (long long)t->start_unet->config.unet.in_channels, t->options->vae,
                       (long long)t->latents.channels);
    return SP_OK;
}

static sp_status open_start(teacher_training *t, const sp_model_folder *folder)
{
    const char *start = t->options->start;
    sp_scheduler_config *scheduler = sp_alloc(sizeof *scheduler);
    sp_status status = scheduler ? sp_scheduler_config_of(folder, NULL, scheduler) : SP_MEMORY;
    if (!status) status = sp_component_open(start, "text_encoder", &t->start_text);
    if (!status) status = sp_component_open(start, "unet", &t->start_unet);
    if (!status) status = check_start(t, scheduler);
    sp_free(scheduler);
    SP_TRY(status);
    SP_TRY(sp_model_folder_tokenizer(folder, SP_COMPONENT_TEXT_ENCODER, &t->tokenizer));
    SP_TRY(sp_weights_create(&t->start));
    SP_TRY(add_start(t, t->start_text));
    SP_TRY(add_start(t, t->start_unet));
    t->text = t->start_text->config.text;
    t->unet = t->start_unet->config.unet;
    t->how.start = t->start;
    return SP_OK;
}

static sp_status begin_as_start(teacher_training *t)
{
    sp_model_folder folder;
    SP_TRY(sp_model_folder_open(t->options->start, &folder));
    sp_status status = open_start(t, &folder);
    sp_model_folder_close(&folder);
    return status;
}

/* ---- putting it together ---- */

static sp_status learn_tokenizer(teacher_training *t)
{
    int64_t count = sp_dataset_training_count(t->dataset), total = 0, filled = 0;
    for (int64_t k = 0; k < count; k++)
        total += sp_dataset_caption_count(t->dataset, sp_dataset_training_sample(t->dataset, k));
    const char **captions = sp_alloc((size_t)total * sizeof *captions);
    if (!captions) return SP_MEMORY;
    for (int64_t k = 0; k < count; k++) {
        int64_t sample = sp_dataset_training_sample(t->dataset, k);
        for (int v = 0; v < sp_dataset_caption_count(t->dataset, sample); v++)
            captions[filled++] = sp_dataset_caption(t->dataset, sample, v);
    }
    sp_status status = sp_tokenizer_train(captions, (size_t)filled, SP_TEACHER_VOCABULARY,
                                          SP_TEACHER_TOKENS, &t->tokenizer);
    sp_free(captions);
    return status;
}

static sp_status begin_anew(teacher_training *t)
{
    SP_TRY(learn_tokenizer(t));
    t->text = text_config(t->tokenizer);
    t->unet = unet_config(&t->latents);
    return SP_OK;
}

static sp_status make_batch(teacher_training *t)
{
    int64_t batch = t->options->train_batch_size;
    sp_shape shape = sp_shape_of(batch, t->latents.channels, t->latents.height, t->latents.width);
    SP_TRY(sp_tensor_create(SP_F32, shape, &t->x0));
    SP_TRY(sp_tensor_create(SP_F32, shape, &t->noise));
    SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(batch, t->text.max_tokens), &t->ids));
    sp_tensor *numbers[] = {&t->timestep, &t->alpha, &t->sigma, &t->target_x0, &t->target_noise};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch), numbers[i]));
    return SP_OK;
}

static bool predicts_v(const splam_train_options *o)
{
    return strcmp(o->prediction_type, "v_prediction") == 0;
}

static sp_status prepare(teacher_training *t)
{
    static const char *const written[] = {"metrics.jsonl",
                                          "model_index.json",
                                          "scheduler/scheduler_config.json",
                                          "vae/config.json",
                                          "tokenizer/vocab.json",
                                          "text_encoder/config.json",
                                          "unet/config.json",
                                          NULL};
    const splam_train_options *o = t->options;
    if (!o->vae)
        return sp_fail(SP_ARGUMENT,
                       "`vae` is missing: a teacher needs an autoencoder");
    SP_TRY(sp_path_of_betas(beta_schedule, beta_start, beta_end, SP_TRAIN_TIMESTEPS,
                            predicts_v(o) ? SP_PREDICTION_V : SP_PREDICTION_EPSILON, &t->path));
    SP_TRY(sp_component_open(o->vae, "vae", &t->vae));
    SP_TRY(sp_claim_folder(o->output, written, &t->claim));
    const sp_dataset_options data = {.caption_column = o->caption_column};
    SP_TRY(sp_dataset_open(o->data, &data, t->callbacks, &t->dataset));
    int64_t count = sp_dataset_training_count(t->dataset);
    int64_t *samples = sp_alloc((size_t)count * sizeof *samples);
    if (!samples) return SP_MEMORY;
    for (int64_t k = 0; k < count; k++)
        samples[k] = sp_dataset_training_sample(t->dataset, k);
    sp_status status = sp_latents_encode(t->dataset, samples, count, t->vae, t->device,
                                         SP_F32, t->callbacks, &t->latents);
    sp_free(samples);
    SP_TRY(status);
    SP_TRY(sp_dataset_order_create(o->seed, count, &t->order));
    SP_TRY(o->start ? begin_as_start(t) : begin_anew(t));
    sp_caption_cuts cuts;
    SP_TRY(sp_warn_of_cut_captions(t->dataset, t->tokenizer, false, &cuts));
    return make_batch(t);
}

static sp_status run_settings(const teacher_training *t, json_t **out)
{
    const splam_train_options *o = t->options;
    SP_TRY(sp_train_settings(o, &t->how, out));
    json_t *own =
        json_pack("{s:b, s:f, s:f}", "v-prediction", (int)predicts_v(o), "caption-dropout",
                  o->caption_dropout, "caption-variety", o->caption_variety);
    sp_status status = own && json_object_update(*out, own) == 0 ? SP_OK : SP_MEMORY;
    json_decref(own);
    if (!status) status = SP_SETTINGS_ADD(*out, sp_setting_text("start", o->start));
    if (!status) return SP_OK;
    json_decref(*out);
    *out = NULL;
    return status;
}

static sp_status train(teacher_training *t)
{
    t->how.device = t->device;
    t->how.name = "train teacher";
    t->how.zero = "conv_out";
    const sp_training_task task = {.context = t, .feed = feed, .validate = validate};
    sp_graph *graph;
    json_t *settings;
    sp_training_state state = {0};
    SP_TRY(run_settings(t, &settings));
    sp_status status = teacher_graph(t, &graph);
    if (!status)
        status =
            sp_train_from_scratch(graph, t->options, &t->how, settings, &task, t->callbacks, &state);
    if (!status) status = save_model(t, state.ema);
    sp_training_state_free(&state);
    json_decref(settings);
    return status;
}

static void release(teacher_training *t)
{
    sp_tensor *tensors[] = {&t->x0, &t->noise, &t->ids,          &t->timestep,
                            &t->alpha, &t->sigma, &t->target_x0, &t->target_noise};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        sp_tensor_free(tensors[i]);
    sp_tokenizer_destroy(t->tokenizer);
    sp_weights_destroy(t->start);
    sp_component_close(t->start_text);
    sp_component_close(t->start_unet);
    sp_latents_free(&t->latents);
    sp_component_close(t->vae);
    sp_dataset_order_destroy(t->order);
    sp_dataset_close(t->dataset);
    sp_claim_end(&t->claim);
}

sp_status sp_train_teacher(const splam_train_options *options, const sp_callbacks *callbacks)
{
    splam_train_options o = *options;
    sp_device *device;
    SP_TRY(sp_ranks_must_be_alone("train teacher"));
    SP_TRY(sp_device_of(o.device, &device));
    if (o.max_train_steps == SPLAM_UNSET) o.max_train_steps = 8000;
    if (o.train_batch_size == SPLAM_UNSET) o.train_batch_size = 64;
    if (o.learning_rate == (double)SPLAM_UNSET) o.learning_rate = 8e-4;
    if (!o.ema_decay) o.ema_decay = "0.999";
    teacher_training t = {.options = &o, .device = device, .callbacks = callbacks};
    SP_TRY(sp_from_scratch_read(&o, 100, &t.how));
    sp_status status = prepare(&t);
    if (!status) status = train(&t);
    release(&t);
    return status;
}
