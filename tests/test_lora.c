/* Low-rank adapters in files of both namings: merging them, what is refused, folding cond_proj. */
#include <math.h>
#include "lora_support.h"
#include "backend/registry.h"
#include "base/random.h"
#include "convert_support.h"
#include "checkpoints/fold_guidance.h"

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
        assert_ok(convert_with(
            model, merged, &(splam_convert_options){.dtype = "f32", .loras = &source, .lora_count = 1},
            sp_default_device()));
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
    assert_ok(sp_lora_merge(lora, 1, sp_default_device(), a, true));
    sp_lora_close(lora);
    assert_ok(sp_lora_open(in_folder(state, "old.safetensors"), &lora));
    assert_ok(sp_lora_merge(lora, 1, sp_default_device(), b, true));
    sp_lora_close(lora);
    double error;
    const char *name = "mid_block.attentions.0.proj_in.weight";
    sp_tensor one, other;
    assert_ok(sp_weights_take(a->weights, name, &one));
    assert_ok(sp_weights_take(b->weights, name, &other));
    assert_ok(sp_tensor_relative_max_error(&one, &other, &error));
    assert_true(error == 0);
    sp_tensor_free(&one);
    sp_tensor_free(&other);
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
         SP_FORMAT,
         "use_dora\", and \"unet."},
        {LAYER ".lora_A.weight", LAYER ".lora_B.weight", {0}, 0, "{", SP_FORMAT, ""},
        {LAYER ".lora_A.weight",
         LAYER ".lora_magnitude_vector",
         {0},
         0,
         NULL,
         SP_FORMAT,
         "has no up half"},
        {"lora_unet_conv_in.hada_w1_a", NULL, {0}, 0, NULL, SP_FORMAT, "no hada_w1_b, which a LoHa needs"},
        {"lora_unet_conv_in.lokr_w1", NULL, {0}, 0, NULL, SP_FORMAT, "no lokr_w2_a, which a LoKr needs"},
        {"lora_unet_conv_in.diff_b", NULL, {0}, 0, NULL, SP_SHAPE, "has a diff_b [2,24]"},
        {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
         NULL,
         {0},
         0,
         NULL,
         SP_FORMAT,
         "no up half"},
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
         SP_SHAPE,
         "of another model"},
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
        const splam_convert_options options = {
            .dtype = "f32", .loras = &source, .lora_count = 1};
        sp_status status = convert_with(model, in_folder(state, "none"), &options, sp_default_device());
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

/* A student with a cond_proj that matters, as a whole folder; and the same folded. */
static void folded_equals_unfolded(void **state)
{
    const char *model = base_model(state);
    sp_component *unet;
    sp_weights *adapters, *student;
    const sp_lora_settings lora = {.rank = 2, .alpha = 2};
    assert_ok(sp_component_open(model, "unet", &unet));
    sp_component_config config = unet->config;
    config.unet.time_cond_dim = 256;
    assert_ok(sp_lora_create(&config, &lora, 5, true, &adapters));
    assert_ok(sp_lora_merged(sp_default_device(), unet->weights, adapters, &lora, &student));
    json_t *json = sp_component_config_write(&config);
    assert_ok(sp_component_save(in_folder(state, "model/unet_ema"), SP_COMPONENT_UNET, json,
                                student, SP_F32, NULL));
    assert_ok(sp_component_save(in_folder(state, "model/unet"), SP_COMPONENT_UNET, json, student,
                                SP_F32, NULL));
    json_decref(json);
    assert_ok(convert_model(model, in_folder(state, "folded"),
                            &(splam_convert_options){.dtype = "f32", .fold_guidance = true}));
    sp_tensor unfolded = draw_model(model, NULL, 0), plain;
    plain = draw_model(in_folder(state, "folded"), NULL, 0);
    assert_true(difference(unfolded, plain) <= 1e-5);
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
    assert_status(sp_fold_guidance(folded, 1), SP_ARGUMENT);
    sp_component_close(folded);
    sp_weights_destroy(student);
    sp_weights_destroy(adapters);
    sp_component_close(unet);
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
    };
    return cmocka_run_group_tests_name("lora", tests, NULL, NULL);
}
