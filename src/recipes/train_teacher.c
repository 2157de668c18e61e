/* The teacher of the demo, and others like it: text encoders and denoiser trained together on cached latents, mean
 * squared error of epsilon, v or a flow's velocity. */
#include "backend/registry.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/output.h"
#include "base/random.h"
#include "data/caption_length.h"
#include "latents/latents.h"
#include "recipes/from_scratch.h"
#include "recipes/teacher_folder.h"
#include "distill/validation.h"
#include "train/checkpoint.h"

enum { VOCABULARY = 2200 };

/* One batch; without data: the graph has no such input. */
typedef struct {
    sp_tensor x0, noise, timestep, alpha, sigma, target_x0, target_noise;
    sp_tensor ids[SP_MAX_TEXTS], ends[SP_MAX_TEXTS];
    sp_tensor time_ids;
    sp_tensor kept; /* of the caption: 1, or 0 where it is left out */
    sp_tensor absent; /* zeros, in the place of another encoder's states */
} teacher_batch;

typedef struct {
    const splam_train_options *options;
    sp_device *device;
    const sp_callbacks *callbacks;
    sp_dataset *dataset;
    sp_dataset_order *order;
    sp_component *vae;
    sp_latents latents; /* of the training samples, in their order */
    sp_teacher made;
    teacher_batch batch;
    sp_from_scratch_options how;
    sp_model *start_model; /* NULL: it begins at random */
    sp_weights *start;     /* views of its parts' weights, PART.NAME */
    sp_claim claim;        /* of the output */
} teacher_training;

/* ---- the inputs ---- */

typedef struct {
    const char *name;
    sp_tensor *tensor;
} batch_input;
enum { BATCH_INPUTS = 10 + 2 * SP_MAX_TEXTS };

static const char *const ids_name[SP_MAX_TEXTS] = {"input_ids", "input_ids_2"};
static const char *const ends_name[SP_MAX_TEXTS] = {"end_rows", "end_rows_2"};

static void list_batch(teacher_batch *b, batch_input out[BATCH_INPUTS])
{
    const batch_input numbers[] = {
        {"x0", &b->x0},         {"noise", &b->noise},         {"timestep", &b->timestep},
        {"alpha", &b->alpha},   {"sigma", &b->sigma},         {"target_x0", &b->target_x0},
        {"kept", &b->kept},     {"time_ids", &b->time_ids},   {"target_noise", &b->target_noise},
        {"absent", &b->absent}};
    size_t count = sizeof numbers / sizeof *numbers;
    memcpy(out, numbers, sizeof numbers);
    for (int i = 0; i < SP_MAX_TEXTS; i++) {
        out[count++] = (batch_input){ids_name[i], &b->ids[i]};
        out[count++] = (batch_input){ends_name[i], &b->ends[i]};
    }
}

/* Whether the denoiser is told something beside the text. */
static bool is_told(const teacher_training *t, const char *name)
{
    sp_ports ports = {0};
    t->made.family->denoiser->inputs(sp_component_config_of(&t->made.denoiser), &ports);
    return sp_ports_find(&ports, name) != NULL;
}

static int64_t tokens_of(const teacher_training *t, int i)
{
    return (int64_t)sp_tokenizer_max_length(t->made.tokenizer[i]);
}

static sp_status make_texts(teacher_training *t)
{
    int64_t batch = t->options->train_batch_size, absent = t->made.family->absent_tokens;
    const sp_denoiser denoiser = sp_denoiser_of(&t->made.denoiser);
    if (absent)
        SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch, absent, denoiser.context_dim), &t->batch.absent));
    if (absent) memset(t->batch.absent.data, 0, sp_tensor_bytes(&t->batch.absent));
    for (int i = 0; i < t->made.family->text_count; i++) {
        SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(batch, tokens_of(t, i)), &t->batch.ids[i]));
        if (sp_teacher_pools(&t->made.family->text[i]))
            SP_TRY(sp_tensor_create(SP_I32, sp_shape_of(batch), &t->batch.ends[i]));
    }
    return SP_OK;
}

static sp_status make_batch(teacher_training *t)
{
    int64_t batch = t->options->train_batch_size;
    teacher_batch *b = &t->batch;
    sp_shape shape = sp_shape_of(batch, t->latents.channels, t->latents.height, t->latents.width);
    SP_TRY(sp_tensor_create(SP_F32, shape, &b->x0));
    SP_TRY(sp_tensor_create(SP_F32, shape, &b->noise));
    SP_TRY(make_texts(t));
    sp_tensor *numbers[] = {&b->timestep, &b->alpha, &b->sigma, &b->target_x0, &b->target_noise, &b->kept};
    int count = t->made.family->zero_negative ? 6 : 5;
    for (int i = 0; i < count; i++)
        SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(batch), numbers[i]));
    return is_told(t, "time_ids") ? sp_tensor_create(SP_F32, sp_shape_of(batch, SP_UNET_SIZES), &b->time_ids) : SP_OK;
}

/* ---- the graph ---- */

static const sp_weight_set online = {.name = "online", .rate = SP_RATE_STEP};

static sp_value *per_sample(sp_builder *b, const char *name, int64_t batch)
{
    return sp_input(b, name, SP_F32, sp_shape_of(batch), SP_RATE_STEP);
}

/* The states of text encoder i, [N,L,width], and the pooled text; NULL: it makes none. */
static sp_value *text_states(sp_builder *b, const teacher_training *t, int i, sp_value *kept, sp_value **pooled)
{
    const sp_teacher_text *text = &t->made.family->text[i];
    int64_t batch = t->options->train_batch_size;
    const sp_network_use use = {.network = text->network,
                                .config = &t->made.text[i].text,
                                .options = &text->states,
                                .set = &online,
                                .scope = text->folder};
    sp_values words = {0};
    sp_values_add(&words, "input_ids",
                  sp_input(b, ids_name[i], SP_I32, sp_shape_of(batch, tokens_of(t, i)), SP_RATE_STEP));
    bool pools = sp_teacher_pools(text);
    if (pools)
        sp_values_add(&words, "end_rows", sp_input(b, ends_name[i], SP_I32, sp_shape_of(batch), SP_RATE_STEP));
    const sp_values out = sp_network_graph(b, &use, &words);
    *pooled = pools ? sp_values_get(&out, "text_embeds") : NULL;
    if (pools && kept) *pooled = sp_sample_combine(b, 1, (sp_value *[]){kept, *pooled});
    return sp_values_get(&out, "last_hidden_state");
}

/* What the denoiser is told of captions and pictures. */
static void add_conditioning(sp_builder *b, const teacher_training *t, sp_values *in)
{
    int64_t batch = t->options->train_batch_size;
    int count = t->made.family->text_count, pools = 0;
    sp_value *kept = t->made.family->zero_negative ? per_sample(b, "kept", batch) : NULL, *states[SP_MAX_TEXTS];
    sp_value *pooled[SP_MAX_TEXTS];
    for (int i = 0; i < count; i++) {
        states[i] = text_states(b, t, i, kept, &pooled[pools]);
        pools += pooled[pools] != NULL;
    }
    if (pools)
        sp_values_add(in, is_told(t, "pooled_projections") ? "pooled_projections" : "text_embeds",
                      pools > 1 ? sp_concat(b, pools, pooled, -1) : pooled[0]);
    sp_value *context = count > 1 ? sp_concat(b, count, states, -1) : states[0];
    if (t->batch.absent.data)
        context = sp_concat(
            b, 2, (sp_value *[]){context, sp_input(b, "absent", SP_F32, t->batch.absent.shape, SP_RATE_STEP)}, 1);
    sp_values_add(in, "encoder_hidden_states",
                  kept ? sp_sample_combine(b, 1, (sp_value *[]){kept, context}) : context);
    if (is_told(t, "time_ids"))
        sp_values_add(in, "time_ids",
                      sp_input(b, "time_ids", SP_F32, sp_shape_of(batch, SP_UNET_SIZES), SP_RATE_STEP));
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
    sp_value *noisy[] = {per_sample(b, "alpha", batch), x0, per_sample(b, "sigma", batch),
                         noise};
    sp_value *target[] = {per_sample(b, "target_x0", batch), x0,
                          per_sample(b, "target_noise", batch), noise};
    const sp_block_options options = {.unmarked = true, .same_tokens = t->made.family->absent_tokens};
    const sp_network_use denoiser = {.network = t->made.family->denoiser,
                                     .config = sp_component_config_of(&t->made.denoiser),
                                     .options = &options,
                                     .set = &online,
                                     .scope = sp_component_folder_name(t->made.denoiser.kind)};
    sp_values in = {0};
    add_conditioning(b, t, &in);
    sp_values_add(&in, "sample", sp_sample_combine(b, 2, noisy));
    sp_values_add(&in, "timestep", per_sample(b, "timestep", batch));
    sp_value *prediction = sp_network_value(b, &denoiser, &in);
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

/* Mostly the official name; now and then one of the other captions, or none at all, NULL. */
static const char *draw_caption(const teacher_training *t, int64_t sample, int64_t micro, int64_t i)
{
    float u[3];
    sp_random_key key = {t->options->seed, SP_STREAM_DROPOUT, (uint64_t)micro, (uint64_t)i};
    sp_random_uniform(key, u, 3);
    if ((double)u[0] < t->options->caption_dropout) return NULL;
    int others = sp_dataset_caption_count(t->dataset, sample) - 1;
    if (others == 0 || (double)u[1] >= t->options->caption_variety)
        return sp_dataset_caption(t->dataset, sample, 0);
    int variant = 1 + (int)(u[2] * (float)others);
    return sp_dataset_caption(t->dataset, sample, variant);
}

static sp_status feed_caption(teacher_training *t, const char *caption, int64_t i)
{
    teacher_batch *b = &t->batch;
    if (b->kept.data) ((float *)b->kept.data)[i] = caption ? 1 : 0;
    for (int k = 0; k < t->made.family->text_count; k++) {
        int64_t length = tokens_of(t, k);
        int32_t *ids = (int32_t *)b->ids[k].data + i * length;
        SP_TRY(sp_tokenizer_encode(t->made.tokenizer[k], caption ? caption : "", ids, NULL));
        if (b->ends[k].data)
            ((int32_t *)b->ends[k].data)[i] =
                (int32_t)(i * length + sp_clip_text_end(&t->made.text[k].text, ids, length));
    }
    return SP_OK;
}

/* What was cut, where, and what it was made to. */
static void feed_sizes(teacher_training *t, int64_t sample, int64_t i)
{
    sp_dataset_cut_place cut;
    int side = sp_dataset_resolution(t->dataset);
    if (!t->batch.time_ids.data) return;
    sp_dataset_cut(t->dataset, sample, &cut);
    const int sizes[SP_UNET_SIZES] = {cut.original_height, cut.original_width, cut.top, cut.left, side, side};
    for (int k = 0; k < SP_UNET_SIZES; k++)
        ((float *)t->batch.time_ids.data)[i * SP_UNET_SIZES + k] = (float)sizes[k];
}

/* Any of a table alike; of a flow as such models are trained. */
static double draw_timestep(const sp_path *path, sp_random_key key)
{
    float x;
    if (path->kind != SP_PATH_FLOW) return (double)sp_random_below(key, (uint32_t)path->timesteps);
    sp_random_normal(key, &x, 1);
    return sp_path_timestep(path, sp_path_logit_normal_tick(path, (double)x));
}

static sp_status feed_sample(teacher_training *t, int64_t micro, int64_t i)
{
    const splam_train_options *o = t->options;
    teacher_batch *b = &t->batch;
    size_t one = (size_t)(t->latents.channels * t->latents.height * t->latents.width);
    int64_t k = sp_dataset_order_at(t->order, (uint64_t)(micro * o->train_batch_size + i));
    int64_t sample = sp_dataset_training_sample(t->dataset, k);
    memcpy((float *)b->x0.data + (size_t)i * one, sp_latent_at(&t->latents, k),
           one * sizeof(float));
    sp_random_key key = {o->seed, SP_STREAM_NOISE, (uint64_t)micro, (uint64_t)i};
    sp_random_normal(key, (float *)b->noise.data + (size_t)i * one, one);
    key.stream = SP_STREAM_TIMESTEP;
    double timestep = draw_timestep(&t->made.path, key);
    sp_pair at = sp_path_at(&t->made.path, timestep), target = sp_prediction_target(t->made.path.prediction, at);
    ((float *)b->timestep.data)[i] = (float)timestep;
    ((float *)b->alpha.data)[i] = (float)at.alpha;
    ((float *)b->sigma.data)[i] = (float)at.sigma;
    ((float *)b->target_x0.data)[i] = (float)target.alpha;
    ((float *)b->target_noise.data)[i] = (float)target.sigma;
    feed_sizes(t, sample, i);
    return feed_caption(t, draw_caption(t, sample, micro, i), i);
}

static sp_status feed(void *context, sp_run *run, int64_t micro)
{
    teacher_training *t = context;
    batch_input inputs[BATCH_INPUTS];
    for (int64_t i = 0; i < t->options->train_batch_size; i++)
        SP_TRY(feed_sample(t, micro, i));
    list_batch(&t->batch, inputs);
    for (int k = 0; k < BATCH_INPUTS; k++)
        if (inputs[k].tensor->data) SP_TRY(sp_run_set_input(run, inputs[k].name, inputs[k].tensor));
    return SP_OK;
}

/* ---- the finished model ---- */

static sp_status save_model(const teacher_training *t, const sp_weights *weights)
{
    return sp_teacher_save(&t->made, t->options->output, weights, t->start, t->options->seed);
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
static sp_status add_start(teacher_training *t, const char *prefix, const sp_component *part)
{
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

static sp_status check_start(const teacher_training *t)
{
    const splam_train_options *o = t->options;
    const sp_model *start = t->start_model;
    if (o->family && sp_teacher_family_of(o->family) != t->made.family)
        return sp_fail(SP_ARGUMENT, "`start` %s is of the family %s, and %s is asked for", o->start,
                       sp_teacher_family_name(t->made.family), o->family);
    if (start->scheduler.path.prediction != t->made.path.prediction)
        return sp_fail(SP_ARGUMENT, "`start` %s predicts %s, and %s is asked for", o->start,
                       sp_prediction_name(start->scheduler.path.prediction),
                       sp_prediction_name(t->made.path.prediction));
    int64_t channels = sp_denoiser_of(&start->denoiser->config).in_channels;
    if (channels != t->latents.channels)
        return sp_fail(SP_SHAPE, "`start` %s is for latents of %lld channels, and those of `vae` %s have %lld",
                       o->start, (long long)channels, o->vae, (long long)t->latents.channels);
    return SP_OK;
}

static bool predicts_v(const splam_train_options *o)
{
    return o->prediction_type && strcmp(o->prediction_type, "v_prediction") == 0;
}

static sp_status set_path(teacher_training *t)
{
    const splam_train_options *o = t->options;
    if (t->made.family->shift > 0 && o->prediction_type)
        return sp_fail(SP_ARGUMENT, "`prediction_type` is %s, and a teacher of the family %s predicts the velocity",
                       o->prediction_type, sp_teacher_family_name(t->made.family));
    return sp_teacher_path(t->made.family, predicts_v(o) ? SP_PREDICTION_V : SP_PREDICTION_EPSILON, &t->made.path);
}

static sp_status begin_as_start(teacher_training *t)
{
    const sp_model_options options = {.parts = SP_PART_UNET | SP_PART_TEXT, .device = t->device};
    if (t->options->width != SPLAM_UNSET)
        return sp_fail(SP_ARGUMENT, "`width` is of a teacher that begins at random, and `start` %s has its own",
                       t->options->start);
    SP_TRY(sp_model_open(t->options->start, &options, &t->start_model));
    const sp_model *m = t->start_model;
    SP_TRY(sp_teacher_family_of_model(&m->folder, &t->made.family));
    SP_TRY(set_path(t));
    SP_TRY(check_start(t));
    SP_TRY(sp_weights_create(&t->start));
    SP_TRY(add_start(t, sp_component_folder_name(m->denoiser->config.kind), m->denoiser));
    t->made.denoiser = m->denoiser->config;
    t->made.zero_negative = m->zero_negative;
    for (int i = 0; i < m->text_count; i++) {
        SP_TRY(add_start(t, t->made.family->text[i].folder, m->text[i].encoder));
        t->made.text[i] = m->text[i].encoder->config;
        t->made.tokenizer[i] = m->text[i].tokenizer;
    }
    t->how.start = t->start;
    return SP_OK;
}

/* ---- putting it together ---- */

static sp_status learn_tokenizers(teacher_training *t)
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
    sp_status status = SP_OK;
    for (int i = 0; i < t->made.family->text_count && !status; i++)
        status = sp_tokenizer_train(captions, (size_t)filled, VOCABULARY, SP_TEACHER_TOKENS,
                                    t->made.family->text[i].pads_with_zero, &t->made.tokenizer[i]);
    sp_free(captions);
    return status;
}

/* A transformer's table is not random. */
static sp_status begin_positions(teacher_training *t)
{
    sp_tensor table;
    SP_TRY(sp_weights_create(&t->start));
    SP_TRY(sp_mmdit_positions(&t->made.denoiser.transformer, &table));
    t->how.start = t->start;
    return sp_weights_add(t->start, "transformer.pos_embed.pos_embed", table);
}

static sp_status begin_anew(teacher_training *t)
{
    const splam_train_options *o = t->options;
    const sp_teacher_family *family = sp_teacher_family_of(o->family ? o->family : "sd");
    int64_t width = o->width == SPLAM_UNSET ? SP_TEACHER_WIDTH : o->width;
    const int64_t latent[] = {t->latents.channels, t->latents.height};
    t->made.family = family;
    t->made.zero_negative = family->zero_negative;
    SP_TRY(set_path(t));
    SP_TRY(learn_tokenizers(t));
    t->made.denoiser = family->denoiser_config(family, width, latent);
    for (int i = 0; i < family->text_count; i++)
        t->made.text[i] = sp_teacher_text_config(family, i, width, t->made.tokenizer[i]);
    return family->denoiser_kind == SP_COMPONENT_TRANSFORMER ? begin_positions(t) : SP_OK;
}

static sp_status check_options(const splam_train_options *o)
{
    if (!o->vae)
        return sp_fail(SP_ARGUMENT,
                       "`vae` is missing: a teacher needs an autoencoder");
    if (o->width != SPLAM_UNSET && o->width % SP_TEACHER_UNITS)
        return sp_fail(SP_ARGUMENT, "`width` is %lld, and must be a multiple of %d", (long long)o->width,
                       SP_TEACHER_UNITS);
    return SP_OK;
}

static sp_status encode_pictures(teacher_training *t)
{
    int64_t count = sp_dataset_training_count(t->dataset);
    int64_t *samples = sp_alloc((size_t)count * sizeof *samples);
    if (!samples) return SP_MEMORY;
    for (int64_t k = 0; k < count; k++)
        samples[k] = sp_dataset_training_sample(t->dataset, k);
    sp_status status = sp_latents_encode(t->dataset, samples, count, t->vae, t->device,
                                         SP_F32, t->callbacks, &t->latents);
    sp_free(samples);
    return status;
}

static sp_status prepare(teacher_training *t)
{
    static const char *const written[] = {"metrics.jsonl",
                                          "model_index.json",
                                          "scheduler/scheduler_config.json",
                                          "vae/config.json",
                                          "tokenizer/vocab.json",
                                          "tokenizer_2/vocab.json",
                                          "text_encoder/config.json",
                                          "text_encoder_2/config.json",
                                          "unet/config.json",
                                          "transformer/config.json",
                                          NULL};
    const splam_train_options *o = t->options;
    SP_TRY(check_options(o));
    SP_TRY(sp_component_open(o->vae, "vae", &t->vae));
    t->made.vae = t->vae;
    SP_TRY(sp_claim_folder(o->output, written, &t->claim));
    SP_TRY(sp_checkpoint_check_output(o->output, o->resume, written));
    SP_TRY(sp_from_scratch_dataset(o, t->vae->config.vae.factor, t->callbacks, &t->dataset));
    SP_TRY(encode_pictures(t));
    SP_TRY(sp_dataset_order_create(o->seed, sp_dataset_training_count(t->dataset), &t->order));
    SP_TRY(o->start ? begin_as_start(t) : begin_anew(t));
    sp_caption_cuts cuts;
    SP_TRY(sp_warn_of_cut_captions(t->dataset, t->made.tokenizer[0], false, &cuts));
    return make_batch(t);
}

static sp_status run_settings(const teacher_training *t, json_t **out)
{
    const splam_train_options *o = t->options;
    const char *family = sp_teacher_family_name(t->made.family);
    if (t->made.family == sp_teacher_family_of("sd")) family = NULL; /* not said, as by runs before there were two */
    SP_TRY(sp_train_settings(o, &t->how, out));
    json_t *own =
        json_pack("{s:b, s:f, s:f}", "v-prediction", (int)predicts_v(o), "caption-dropout",
                  o->caption_dropout, "caption-variety", o->caption_variety);
    sp_status status = own && json_object_update(*out, own) == 0 ? SP_OK : SP_MEMORY;
    json_decref(own);
    if (!status)
        status = SP_SETTINGS_ADD(*out, sp_setting_text("start", o->start), sp_setting_text("family", family));
    if (!status && o->width != SPLAM_UNSET) status = SP_SETTINGS_ADD(*out, sp_setting_whole("width", o->width));
    if (!status) return SP_OK;
    json_decref(*out);
    *out = NULL;
    return status;
}

static sp_status train(teacher_training *t)
{
    t->how.device = t->device;
    t->how.name = "train teacher";
    t->how.zero = t->made.family->zero;
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
    batch_input inputs[BATCH_INPUTS];
    list_batch(&t->batch, inputs);
    for (int i = 0; i < BATCH_INPUTS; i++)
        sp_tensor_free(inputs[i].tensor);
    for (int i = 0; i < SP_MAX_TEXTS && !t->start_model; i++)
        sp_tokenizer_destroy(t->made.tokenizer[i]);
    sp_weights_destroy(t->start);
    sp_model_close(t->start_model);
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
