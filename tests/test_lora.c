/* Low-rank adapters: files of both namings, merging, what is refused; training's graph, and its
 * output; guidance folded away. */
#include <math.h>
#include "conditions.h"
#include "tiny_model.h"
#include "backend/registry.h"
#include "base/random.h"
#include "distill/objective.h"
#include "pipeline/pipeline.h"
#include "checkpoints/convert.h"
#include "checkpoints/fold_guidance.h"
#include "checkpoints/lora.h"
#include "distill/distill.h"

enum { LATENT = 8 };

static const char *base_model(void **state)
{
    static char model[512]; /* in_folder's buffers come round again */
    snprintf(model, sizeof model, "%s", in_folder(state, "model"));
    if (!sp_path_exists(model)) make_model(model, "unet-demo", ddim_scheduler);
    return model;
}

/* ---- drawing ---- */

/* Latents of three steps of LCM at guidance 1, from noise that is always the same. */
static sp_tensor draw(sp_pipeline *p)
{
    const char *prompt = "red apple";
    sp_philox_noise noise = {.seed = 3};
    sp_conditioning conditioning;
    sp_tensor latents;
    assert_ok(sp_pipeline_encode(p, &prompt, 1, &conditioning));
    const sp_denoise_request request = {.sampler = {.kind = SP_SAMPLER_LCM, .steps = 3},
                                        .guidance = 1,
                                        .conditioning = &conditioning,
                                        .height = LATENT,
                                        .width = LATENT,
                                        .noise = sp_noise_philox(&noise)};
    assert_ok(sp_pipeline_denoise(p, &request, NULL, &latents));
    sp_conditioning_free(&conditioning);
    return latents;
}

static sp_tensor draw_model(const char *model, const char *lora, double weight)
{
    const splam_lora source = {lora, weight};
    const sp_model_options options = {.loras = &source, .lora_count = lora ? 1 : 0};
    sp_pipeline *p;
    assert_ok(sp_pipeline_open(model, &options, &p));
    sp_tensor latents = draw(p);
    sp_pipeline_close(p);
    return latents;
}

/* Frees both. */
static double difference(sp_tensor a, sp_tensor b)
{
    double error;
    assert_ok(sp_tensor_relative_max_error(&a, &b, &error));
    sp_tensor_free(&a);
    sp_tensor_free(&b);
    return error;
}

/* ---- files ---- */

enum { MOST = 16 };
typedef struct {
    sp_named_tensor named[MOST];
    sp_tensor tensor[MOST];
    size_t count;
} file_list;

/* Normal values, scaled; `value` instead where it is not 0. */
static void put(file_list *f, const char *name, sp_dtype dtype, sp_shape shape, float value)
{
    sp_tensor full, *tensor = &f->tensor[f->count];
    assert_ok(sp_tensor_create(SP_F32, shape, &full));
    sp_random_normal((sp_random_key){.seed = 9, .sample = f->count}, full.data,
                     (size_t)sp_tensor_count(&full));
    for (int64_t i = 0; i < sp_tensor_count(&full); i++)
        ((float *)full.data)[i] = value != 0 ? value : 0.2f * ((float *)full.data)[i];
    assert_ok(sp_tensor_convert(&full, dtype, tensor));
    sp_tensor_free(&full);
    f->named[f->count++] = (sp_named_tensor){name, tensor};
}

static void save(file_list *f, const char *path, const char *metadata)
{
    const char *const pairs[][2] = {{"lora_adapter_metadata", metadata}};
    assert_ok(sp_safetensors_save(path, f->named, f->count, pairs, metadata ? 1 : 0));
    for (size_t i = 0; i < f->count; i++)
        sp_tensor_free(&f->tensor[i]);
    f->count = 0;
}

#define MID "mid_block.attentions.0.transformer_blocks.0."

/* A linear layer, a 3x3 convolution and one of the text encoder, in either naming; alpha is 6 for
 * a rank of 3, said in each file's own way. */
static void make_lora(const char *path, bool kohya, sp_dtype dtype, const sp_unet_config *c)
{
    file_list f = {.count = 0};
    int64_t top = c->channels[c->levels - 1], first = c->channels[0];
    put(&f,
        kohya ? "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
              : "unet." MID "attn2.to_k.lora_A.weight",
        dtype, sp_shape_of(3, c->cross_attention_dim), 0);
    put(&f,
        kohya ? "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight"
              : "unet." MID "attn2.to_k.lora_B.weight",
        dtype, sp_shape_of(top, 3), 0);
    put(&f,
        kohya ? "lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"
              : "unet.down_blocks.0.resnets.0.conv1.lora_A.weight",
        dtype, sp_shape_of(3, first, 3, 3), 0);
    put(&f,
        kohya ? "lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight"
              : "unet.down_blocks.0.resnets.0.conv1.lora_B.weight",
        dtype, sp_shape_of(first, 3, 1, 1), 0);
    put(&f,
        kohya ? "lora_te_text_model_encoder_layers_1_mlp_fc1.lora_down.weight"
              : "text_encoder.text_model.encoder.layers.1.mlp.fc1.lora_A.weight",
        dtype, sp_shape_of(3, 24), 0);
    put(&f,
        kohya ? "lora_te_text_model_encoder_layers_1_mlp_fc1.lora_up.weight"
              : "text_encoder.text_model.encoder.layers.1.mlp.fc1.lora_B.weight",
        dtype, sp_shape_of(48, 3), 0);
    if (kohya) {
        put(&f, "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.alpha", SP_F32,
            (sp_shape){.rank = 0}, 6);
        put(&f, "lora_unet_down_blocks_0_resnets_0_conv1.alpha", SP_F32, (sp_shape){.rank = 0}, 6);
        put(&f, "lora_te_text_model_encoder_layers_1_mlp_fc1.alpha", SP_F32, sp_shape_of(1), 6);
    }
    save(
        &f, path,
        kohya
            ? NULL
            : "{\"unet.r\": 3, \"unet.lora_alpha\": 1, \"unet.alpha_pattern\": {\"attn2.to_k\": 6, "
              "\"resnets.0.conv1\": 6}, \"text_encoder.r\": 3, \"text_encoder.lora_alpha\": 6.0}");
}

/* after = before + scale up down, element by element in double precision. */
static void check_layer(const sp_component *before, const sp_component *after,
                        const sp_tensor_file *lora, const char *layer, const char *in_file,
                        double scale)
{
    char name[256];
    snprintf(name, sizeof name, "%s.weight", layer);
    const sp_tensor *w = sp_weights_find(before->weights, name),
                    *m = sp_weights_find(after->weights, name), *up, *down;
    snprintf(name, sizeof name, "%s.lora_A.weight", in_file);
    assert_ok(sp_tensor_file_get(lora, name, &down));
    snprintf(name, sizeof name, "%s.lora_B.weight", in_file);
    assert_ok(sp_tensor_file_get(lora, name, &up));
    int64_t rank = down->shape.dim[0], columns = sp_tensor_count(w) / w->shape.dim[0];
    double moved = 0;
    for (int64_t i = 0; i < sp_tensor_count(w); i++) {
        double sum = 0;
        for (int64_t k = 0; k < rank; k++)
            sum += sp_load(up->data, up->dtype, i / columns * rank + k) *
                   sp_load(down->data, down->dtype, k * columns + i % columns);
        double want = sp_load(w->data, w->dtype, i) + scale * sum;
        /* fp32: three terms and a sum, each rounded once */
        assert_true(fabs(sp_load(m->data, m->dtype, i) - want) <= 1e-6);
        moved = fmax(moved, fabs(scale * sum));
    }
    assert_true(moved > 0.05);
}

/* Both namings and all types; at generation and by convert, bit for bit the same. */
static void merged_equals_applied(void **state)
{
    const char *model = base_model(state);
    sp_component *unet, *text;
    assert_ok(sp_component_open(model, "unet", &unet));
    assert_ok(sp_component_open(model, "text_encoder", &text));
    const sp_unet_config *c = &unet->config.unet;
    make_lora(in_folder(state, "peft.safetensors"), false, SP_F32, c);
    make_lora(in_folder(state, "kohya.safetensors"), true, SP_F32, c);
    const double weight = 0.7;
    for (int kohya = 0; kohya < 2; kohya++) {
        char *file = sp_strdup(in_folder(state, kohya ? "kohya.safetensors" : "peft.safetensors"));
        char *merged = sp_strdup(in_folder(state, kohya ? "merged-kohya" : "merged-peft"));
        const splam_lora source = {file, weight};
        assert_ok(sp_convert_model(
            model, merged,
            &(sp_convert_options){
                .dtype = SP_F32, .loras = &source, .lora_count = 1, .device = sp_default_device()}));
        sp_component *new_unet, *new_text;
        sp_tensor_file *lora;
        assert_ok(sp_component_open(merged, "unet", &new_unet));
        assert_ok(sp_component_open(merged, "text_encoder", &new_text));
        assert_ok(sp_safetensors_open(in_folder(state, "peft.safetensors"), &lora));
        check_layer(unet, new_unet, lora, MID "attn2.to_k", "unet." MID "attn2.to_k", weight * 2);
        check_layer(unet, new_unet, lora, "down_blocks.0.resnets.0.conv1",
                    "unet.down_blocks.0.resnets.0.conv1", weight * 2);
        check_layer(text, new_text, lora, "encoder.layers.1.mlp.fc1",
                    "text_encoder.text_model.encoder.layers.1.mlp.fc1", weight * 2);
        assert_true(difference(draw_model(merged, NULL, 0), draw_model(model, file, weight)) == 0);
        assert_true(difference(draw_model(model, NULL, 0), draw_model(model, file, weight)) > 1e-3);
        assert_true(difference(draw_model(model, NULL, 0), draw_model(model, file, 0)) == 0);
        sp_tensor_file_close(lora);
        sp_component_close(new_unet);
        sp_component_close(new_text);
        sp_free(file);
        sp_free(merged);
    }
    make_lora(in_folder(state, "f16.safetensors"), true, SP_F16, c);
    make_lora(in_folder(state, "bf16.safetensors"), false, SP_BF16, c);
    /* halves rounded to 8 and 11 bits */
    char full[512];
    snprintf(full, sizeof full, "%s", in_folder(state, "kohya.safetensors"));
    assert_true(difference(draw_model(model, in_folder(state, "bf16.safetensors"), 1),
                           draw_model(model, full, 1)) < 2e-2);
    assert_true(difference(draw_model(model, in_folder(state, "f16.safetensors"), 1),
                           draw_model(model, full, 1)) < 2e-3);
    sp_component_close(unet);
    sp_component_close(text);
}

/* Original names, and a 1x1 convolution's halves with and without their kernel's ones. */
static void other_names_and_shapes(void **state)
{
    const char *model = base_model(state);
    sp_component *a, *b;
    file_list f = {.count = 0};
    assert_ok(sp_component_open(model, "unet", &a));
    int64_t top = a->config.unet.channels[a->config.unet.levels - 1];
    put(&f, "lora_unet_middle_block_1_proj_in.lora_down.weight", SP_F32, sp_shape_of(2, top), 0);
    put(&f, "lora_unet_middle_block_1_proj_in.lora_up.weight", SP_F32, sp_shape_of(top, 2), 0);
    save(&f, in_folder(state, "original.safetensors"), NULL);
    put(&f, "unet.mid_block.attentions.0.proj_in.lora.down.weight", SP_F32,
        sp_shape_of(2, top, 1, 1), 0);
    put(&f, "unet.mid_block.attentions.0.proj_in.lora.up.weight", SP_F32, sp_shape_of(top, 2, 1, 1),
        0);
    save(&f, in_folder(state, "old.safetensors"), NULL);
    sp_lora *lora;
    assert_ok(sp_component_open(model, "unet", &b));
    assert_ok(sp_lora_open(in_folder(state, "original.safetensors"), &lora));
    assert_int_equal(sp_lora_count(lora, SP_COMPONENT_UNET), 1);
    assert_ok(sp_lora_merge(lora, 1, sp_default_device(), a, true, NULL));
    sp_lora_close(lora);
    assert_ok(sp_lora_open(in_folder(state, "old.safetensors"), &lora));
    assert_ok(sp_lora_merge(lora, 1, sp_default_device(), b, true, NULL));
    sp_lora_close(lora);
    double error;
    const char *name = "mid_block.attentions.0.proj_in.weight";
    assert_ok(sp_tensor_relative_max_error(sp_weights_find(a->weights, name),
                                           sp_weights_find(b->weights, name), &error));
    assert_true(error == 0);
    sp_component_close(a);
    sp_component_close(b);
}

/* ---- what is refused ---- */

typedef struct {
    const char *first, *second; /* tensors [2,24], [32,2] unless a shape is given */
    sp_shape shape;             /* of the second */
    float value;                /* all values of the second */
    const char *metadata;
    sp_status status;
    const char *message;
} wrong_file;

static void wrong_files_are_refused(void **state)
{
#define LAYER "unet." MID "attn2.to_k"
    const wrong_file files[] = {
        {"unet." MID "attn2.to_k.lora_A.weight",
         "conv_in.weight",
         {0},
         0,
         NULL,
         SP_FORMAT,
         "\"conv_in.weight\" is not of a LoRA"},
        {LAYER ".lora_A.weight", NULL, {0}, 0, NULL, SP_FORMAT, "has no up half"},
        {LAYER ".lora_A.weight", LAYER ".lora_B.weight", sp_shape_of(32, 3), 0, NULL, SP_SHAPE,
         "do not go together"},
        {LAYER ".lora_A.weight", LAYER ".lora_B.weight", sp_shape_of(31, 2), 0, NULL, SP_SHAPE,
         "of another model"},
        {LAYER ".lora_A.weight", LAYER ".lora_B.weight", {0}, NAN, NULL, SP_NUMERIC, "nan"},
        {LAYER ".lora_A.weight",
         LAYER ".lora_B.weight",
         {0},
         0,
         "{\"unet.use_dora\": true}",
         SP_UNSUPPORTED,
         "use_dora"},
        {LAYER ".lora_A.weight", LAYER ".lora_B.weight", {0}, 0, "{", SP_FORMAT, ""},
        {LAYER ".lora_A.weight",
         LAYER ".lora_magnitude_vector",
         {0},
         0,
         NULL,
         SP_UNSUPPORTED,
         "DoRA"},
        {"lora_unet_conv_in.hada_w1_a", NULL, {0}, 0, NULL, SP_UNSUPPORTED, "LoHa"},
        {"lora_unet_conv_in.lokr_w1", NULL, {0}, 0, NULL, SP_UNSUPPORTED, "LoKr"},
        {"lora_unet_conv_in.diff_b", NULL, {0}, 0, NULL, SP_UNSUPPORTED, "difference"},
        {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
         NULL,
         {0},
         0,
         NULL,
         SP_UNSUPPORTED,
         "XL"},
        {"unet.no.such.layer.lora_A.weight",
         "unet.no.such.layer.lora_B.weight",
         {0},
         0,
         NULL,
         SP_FORMAT,
         "does not have"},
        {"unet.conv_norm_out.lora_A.weight",
         "unet.conv_norm_out.lora_B.weight",
         {0},
         0,
         NULL,
         SP_FORMAT,
         "does not have"},
    };
    const char *model = base_model(state);
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "wrong.safetensors"));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const wrong_file *w = &files[i];
        file_list f = {.count = 0};
        put(&f, w->first, SP_F32, sp_shape_of(2, 24), 0);
        if (w->second)
            put(&f, w->second, SP_F32, w->shape.rank ? w->shape : sp_shape_of(32, 2), w->value);
        save(&f, path, w->metadata);
        const splam_lora source = {path, 1};
        const sp_convert_options options = {
            .dtype = SP_F32, .loras = &source, .lora_count = 1, .device = sp_default_device()};
        sp_status status = sp_convert_model(model, in_folder(state, "none"), &options);
        if (status != w->status)
            fail_msg("file %zu: \"%s\": %s", i, sp_status_text(status), sp_error_message());
        assert_message(w->message);
        assert_false(sp_path_exists(in_folder(state, "none")));
    }
    sp_lora *lora;
    assert_status(sp_lora_open(in_folder(state, "model"), &lora), SP_IO);
    assert_status(sp_lora_open(in_folder(state, "nowhere"), &lora), SP_IO);
    /* adapters for a part that is not there */
    make_lora(path, true, SP_F32,
              &(sp_unet_config){.levels = 1, .channels = {32}, .cross_attention_dim = 24});
    const splam_lora source = {path, 1};
    const sp_model_options options = {.parts = SP_PART_UNET, .loras = &source, .lora_count = 1};
    sp_pipeline *p;
    assert_status(sp_pipeline_open(model, &options, &p), SP_ARGUMENT);
    assert_message("1 adapter for the text_encoder");
}

typedef struct {
    const char *path;
    sp_component *unet;
} attempt;

static sp_status open_and_merge(void *context)
{
    attempt *a = context;
    sp_lora *lora;
    SP_TRY(sp_lora_open(a->path, &lora));
    sp_lora_close(lora);
    return SP_OK;
}

static void allocations_fail(void **state)
{
    sp_component *unet;
    assert_ok(sp_component_open(base_model(state), "unet", &unet));
    make_lora(in_folder(state, "a.safetensors"), false, SP_F16, &unet->config.unet);
    attempt a = {in_folder(state, "a.safetensors"), unet};
    assert_true(fail_every_allocation(open_and_merge, &a) > 20);
    sp_component_close(unet);
}

/* ---- folding ---- */

static void set_random(sp_weights *weights, const char *end, float scale)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        sp_tensor *tensor = sp_weights_at(weights, i);
        if (!strstr(sp_weights_name(weights, i), end)) continue;
        sp_random_normal((sp_random_key){.seed = 21, .sample = i}, tensor->data,
                         (size_t)sp_tensor_count(tensor));
        for (int64_t k = 0; k < sp_tensor_count(tensor); k++)
            ((float *)tensor->data)[k] *= scale;
    }
}

/* A student with a cond_proj that matters, as a whole folder; and the same folded. */
static void folded_equals_unfolded(void **state)
{
    const char *model = base_model(state);
    sp_component *unet;
    sp_weights *adapters, *student;
    const sp_lora_settings lora = {.rank = 2, .alpha = 2};
    assert_ok(sp_component_open(model, "unet", &unet));
    sp_unet_config config = unet->config.unet;
    config.time_cond_dim = 256;
    assert_ok(sp_lora_create(&config, &lora, 5, true, &adapters));
    assert_ok(sp_lora_merged(sp_default_device(), unet->weights, adapters, &lora, &student));
    json_t *json = sp_unet_config_write(&config);
    assert_ok(sp_component_save(in_folder(state, "model/unet_ema"), SP_COMPONENT_UNET, json,
                                student, SP_F32, NULL));
    assert_ok(sp_component_save(in_folder(state, "model/unet"), SP_COMPONENT_UNET, json, student,
                                SP_F32, NULL));
    json_decref(json);
    assert_ok(sp_convert_model(model, in_folder(state, "folded"),
                               &(sp_convert_options){.dtype = SP_F32, .fold_guidance = true}));
    sp_tensor told = draw_model(model, NULL, 0), plain;
    plain = draw_model(in_folder(state, "folded"), NULL, 0);
    assert_true(difference(told, plain) <= 1e-5);
    /* without the bias it is another model */
    assert_ok(sp_remove_tree(in_folder(state, "model")));
    assert_true(difference(draw_model(base_model(state), NULL, 0),
                           draw_model(in_folder(state, "folded"), NULL, 0)) > 1e-3);
    char *text;
    assert_ok(sp_read_file(in_folder(state, "folded/model_index.json"), &text, NULL));
    assert_non_null(strstr(text, "\"StableDiffusionPipeline\""));
    sp_free(text);
    sp_component *folded;
    assert_ok(sp_component_open(in_folder(state, "folded"), "unet_ema", &folded));
    assert_int_equal(folded->config.unet.time_cond_dim, 0);
    assert_null(sp_weights_find(folded->weights, "time_embedding.cond_proj.weight"));
    assert_status(sp_fold_guidance(folded), SP_ARGUMENT);
    sp_component_close(folded);
    sp_weights_destroy(student);
    sp_weights_destroy(adapters);
    sp_component_close(unet);
}

/* ---- what training writes ---- */

/* A student of adapters and cond_proj, drawn with its merged weights, is what its files are in both
 * namings. */
static void written_files_are_the_student(void **state)
{
    const char *model = base_model(state);
    for (int told = 0; told < 2; told++) {
        sp_pipeline *p;
        sp_weights *adapters, *merged;
        const sp_lora_settings lora = {.rank = 3, .alpha = told ? 4 : 3};
        assert_ok(sp_pipeline_open(model, &(sp_model_options){0}, &p));
        sp_unet_config config = p->unet->config.unet;
        if (told) config.time_cond_dim = 256;
        assert_ok(sp_lora_create(&config, &lora, 5, false, &adapters));
        set_random(adapters, "lora_B", 0.1f);
        set_random(adapters, "cond_proj", 0.1f);
        assert_ok(sp_lora_merged(sp_default_device(), p->unet->weights, adapters, &lora, &merged));
        for (int i = 0; i < 2; i++)
            assert_ok(sp_lora_save(in_folder(state, i ? "k.safetensors" : "d.safetensors"),
                                   (sp_lora_naming)i, &config, p->unet->weights, adapters, &lora));
        assert_ok(sp_pipeline_set_unet(p, &config, merged));
        for (int i = 0; i < 2; i++) {
            const char *file = in_folder(state, i ? "k.safetensors" : "d.safetensors");
            assert_true(difference(draw_model(model, file, 1), draw(p)) <= 1e-5);
        }
        assert_true(difference(draw_model(model, NULL, 0), draw(p)) > 1e-3);
        sp_weights_destroy(merged);
        sp_weights_destroy(adapters);
        sp_pipeline_close(p);
    }
    /* eight channels cannot make a constant */
    sp_component *tiny;
    assert_ok(sp_component_open(golden("unet-guided"), "unet", &tiny));
    assert_status(sp_lora_check_guidance(&tiny->config.unet), SP_UNSUPPORTED);
    assert_message("`gamma_conditioning` time");
    sp_component_close(tiny);
}

/* ---- the graph of training ---- */

/* Gradients are those of adapters and cond_proj; the base is bound once and has none. */
static void only_adapters_have_gradients(void **state)
{
    (void)state;
    sp_component *teacher;
    sp_weights *adapters;
    const sp_lora_settings lora = {.rank = 2, .alpha = 2, .targets = SP_LORA_ALL};
    assert_ok(sp_component_open(golden("teacher-epsilon"), "unet", &teacher));
    sp_unet_config config = teacher->config.unet;
    config.time_cond_dim = 256;
    assert_ok(sp_lora_create(&config, &lora, 1, false, &adapters));
    const sp_objective_settings settings = sp_distill_defaults().objective;
    const sp_conditioning conditioning = hidden_states_of(1, 7, 24);
    const sp_step_shape shape = {.batch = 1,
                                 .channels = 4,
                                 .height = 8,
                                 .width = 8,
                                 .conditioning = &conditioning,
                                 .teacher = &teacher->config.unet,
                                 .student = &config,
                                 .teacher_weights = teacher->weights,
                                 .lora = &lora};
    sp_graph *graph;
    assert_ok(sp_objective_graph(&settings, &shape, &graph));
    size_t gradients = 0, base = 0;
    for (int i = 0; i < graph->output_count; i++) {
        const char *name = graph->outputs[i].name;
        if (strncmp(name, "gradient.", 9) != 0) continue;
        assert_non_null(sp_weights_find(adapters, name + 9));
        gradients++;
    }
    assert_int_equal(gradients, sp_weights_count(adapters));
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind != SP_VALUE_PARAMETER) continue;
        bool teachers = strcmp(value->set, "teacher") == 0;
        base += teachers;
        assert_true(teachers || sp_weights_find(adapters, value->name));
        assert_false(teachers && (value->needs_gradient || value->rate != SP_RATE_RUN));
    }
    assert_int_equal(base, sp_weights_count(teacher->weights)); /* one copy for three networks */
    sp_graph_destroy(graph);
    sp_weights_destroy(adapters);
    sp_component_close(teacher);
}

static sp_distill_options short_run(void)
{
    static char draws[1024], teacher[1024];
    snprintf(draws, sizeof draws, "%s", golden("distill-splam/draws.safetensors"));
    snprintf(teacher, sizeof teacher, "%s", golden("teacher-epsilon"));
    sp_distill_options o = sp_distill_defaults();
    o.teacher = teacher;
    o.draws = draws;
    o.batch = 3;
    o.max_train_steps = 6;
    o.learning_rate = 1e-3;
    o.lora = (sp_lora_settings){.rank = 4, .alpha = 8, .targets = SP_LORA_ALL};
    return o;
}

static double first_loss(const char *path)
{
    sp_tensor_file *file;
    const sp_tensor *loss;
    assert_ok(sp_safetensors_open(path, &file));
    assert_ok(sp_tensor_file_get(file, "loss", &loss));
    double value = sp_load(loss->data, loss->dtype, 0);
    sp_tensor_file_close(file);
    return value;
}

/* Before its first step a student of adapters is the teacher, as a whole one is. */
static void starts_as_the_teacher(void **state)
{
    sp_distill_options o = short_run();
    o.max_train_steps = 1;
    o.trace = in_folder(state, "lora-trace");
    o.output = in_folder(state, "lora");
    assert_ok(sp_distill(&o, NULL));
    o.lora.rank = 0;
    o.trace = in_folder(state, "whole-trace");
    o.output = in_folder(state, "whole");
    assert_ok(sp_distill(&o, NULL));
    double a = first_loss(in_folder(state, "lora-trace")),
           b = first_loss(in_folder(state, "whole-trace"));
    assert_true(fabs(a / b - 1) < 1e-5); /* adapters add zeros in another order of sums */
    o.lora_merged = true;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`lora_rank`");
}

/* Steps of training, which alone report a loss: a wish to stop is asked for far more often. */
static void count_step(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    (void)task;
    (void)done;
    (void)total;
    int *left = context;
    if (detail && strncmp(detail, "loss ", 5) == 0) --*left;
}

static bool stop_after(void *context)
{
    const int *left = context;
    return *left <= 0;
}

/* Stopped and resumed: the same files, bit for bit; checkpoints and output have adapters alone. */
static void resumed_equals_undisturbed(void **state)
{
    sp_distill_options o = short_run();
    o.output = in_folder(state, "whole");
    assert_ok(sp_distill(&o, NULL));
    o.output = in_folder(state, "resumed");
    int left = 3;
    const sp_callbacks callbacks = {.context = &left, .report = count_step, .cancelled = stop_after};
    assert_status(sp_distill(&o, &callbacks), SP_CANCELLED);
    o.resume = "latest";
    o.lora_merged = true; /* of the output alone, so no other run */
    assert_ok(sp_distill(&o, NULL));
    static const char *const files[] = {
        "pytorch_lora_weights.safetensors",     "kohya.safetensors",
        "ema/pytorch_lora_weights.safetensors", "ema/kohya.safetensors",
        "checkpoint-6/online.safetensors",      "checkpoint-6/ema.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *a = sp_format("%s/whole/%s", (char *)*state, files[i]),
             *b = sp_format("%s/resumed/%s", (char *)*state, files[i]);
        assert_same_file(a, b);
        sp_free(a);
        sp_free(b);
    }
    assert_false(sp_path_exists(in_folder(state, "whole/unet")));
    assert_true(sp_path_exists(in_folder(state, "resumed/unet_ema/config.json")));
    sp_tensor_file *file;
    assert_ok(
        sp_safetensors_open(in_folder(state, "whole/checkpoint-6/online.safetensors"), &file));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        assert_true(strstr(name, ".lora_") || strstr(name, "cond_proj"));
    }
    sp_tensor_file_close(file);
    o.lora.alpha = 4;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("`lora_alpha`");
    o.lora.alpha = -1;
    assert_status(sp_distill(&o, NULL), SP_ARGUMENT);
    assert_message("alpha");
}

/* A file to start from must be what is trained. */
static void wrong_starts_are_refused(void **state)
{
    sp_distill_options o = short_run();
    o.output = in_folder(state, "run");
    char *start = sp_strdup(golden("distill-lora/start.safetensors"));
    o.lora_start = start;
    assert_status(sp_distill(&o, NULL), SP_SHAPE); /* another rank */
    o.lora.rank = 2;
    o.lora.targets = SP_LORA_ATTENTION;
    assert_status(sp_distill(&o, NULL), SP_FORMAT);
    assert_message("would be lost");
    o.lora.targets = SP_LORA_ALL;
    sp_free(start);
    o.lora_start = start = sp_strdup(golden("distill-lora-attention-time-v/start.safetensors"));
    assert_status(sp_distill(&o, NULL), SP_FORMAT);
    assert_message("has no adapter for");
    sp_free(start);
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(merged_equals_applied),
        with_folder(other_names_and_shapes),
        with_folder(wrong_files_are_refused),
        with_folder(allocations_fail),
        with_folder(folded_equals_unfolded),
        with_folder(written_files_are_the_student),
        cmocka_unit_test(only_adapters_have_gradients),
        with_folder(starts_as_the_teacher),
        with_folder(resumed_equals_undisturbed),
        with_folder(wrong_starts_are_refused),
    };
    return cmocka_run_group_tests_name("lora", tests, NULL, NULL);
}
