/* Stable Diffusion 3 in checkpoints of one file: the published names, what comes back, whole models, and faults. */
#include "base/text.h"
#include "checkpoints/original.h"
#include "checkpoints/original_mmdit.h"
#include "checkpoints/recognise.h"
#include "convert_support.h"
#include "pipeline/pipeline.h"
#include "sd3_model.h"

static const splam_convert_options to_f32 = {.dtype = "f32", .single_file = true};

/* ---- names ---- */

/* Of 3.5 Medium, as diffusers' own converter has them. */
static void names_are_the_published_ones(void **state)
{
    char *text, *rest;
    int checked = 0;
    (void)state;
    assert_ok(sp_read_file(golden("original-sd3/names.txt"), &text, NULL));
    rest = text;
    for (char *row; (row = strsep(&rest, "\n")) && *row; checked++) {
        strsep(&row, "|");
        const char *name = strsep(&row, "|"), *original = strsep(&row, "|");
        strsep(&row, "|");
        int third = atoi(row);
        sp_original_mmdit found;
        assert_true(sp_original_mmdit_of(name, 24, &found));
        assert_string_equal(found.name, original + strlen("model.diffusion_model."));
        assert_int_equal(found.swapped, third < 0);
        assert_int_equal(found.part, third > 0 ? third : 0);
        assert_int_equal(found.parts, strstr(original, ".qkv.") ? 3 : 1);
    }
    assert_int_equal(checked, 909);
    sp_original_mmdit none;
    assert_false(sp_original_mmdit_of("transformer_blocks.0.attn.to_x.weight", 24, &none));
    assert_false(sp_original_mmdit_of("down_blocks.0.weight", 24, &none));
    sp_free(text);
}

static uint64_t fnv(const sp_tensor *tensor)
{
    uint64_t sum = 0xCBF29CE484222325;
    const unsigned char *bytes = tensor->data;
    for (size_t i = 0; i < sp_tensor_bytes(tensor); i++)
        sum = (sum ^ bytes[i]) * 0x100000001B3;
    return sum;
}

static void save_transformer(const char *model, const char *path)
{
    sp_component *transformer;
    const sp_original_prediction flow = {.type = "flow"};
    assert_ok(sp_component_open(model, "transformer", &transformer));
    assert_ok(sp_original_save(path, &transformer, 1, flow, SP_F32, NULL));
    sp_component_close(transformer);
}

/* Every tensor is the one that diffusers' converter would take for the golden's, and comes back as it was. */
static void tensors_are_the_published_ones(void **state)
{
    const char *path = keep(state, "transformer.safetensors");
    sp_tensor_file *file;
    char *text, *rest;
    size_t count = 0;
    save_transformer(golden("transformer-sd35"), path);
    assert_ok(sp_safetensors_open(path, &file));
    assert_ok(sp_read_file(golden("original-sd3/sums.txt"), &text, NULL));
    rest = text;
    for (char *row; (row = strsep(&rest, "\n")) && *row; count++) {
        const char *name = strsep(&row, "|"), *shape = strsep(&row, "|");
        const sp_tensor *found;
        char own[64] = "";
        assert_ok(sp_tensor_file_get(file, name, &found));
        for (int i = 0; i < found->shape.rank; i++)
            snprintf(own + strlen(own), sizeof own - strlen(own), "%s%lld", i ? "," : "",
                     (long long)found->shape.dim[i]);
        assert_string_equal(own, shape);
        if (fnv(found) != strtoull(row, NULL, 16)) fail_msg("%s has other numbers", name);
    }
    assert_int_equal(count, sp_tensor_file_count(file));
    sp_tensor_file_close(file);
    sp_free(text);
    sp_component *a, *b;
    assert_ok(sp_component_open(golden("transformer-sd35"), "transformer", &a));
    assert_ok(sp_component_open(path, "transformer", &b));
    assert_int_equal(sp_weights_count(a->weights), sp_weights_count(b->weights));
    for (size_t i = 0; i < sp_weights_count(a->weights); i++) {
        const sp_tensor *other = sp_weights_find(b->weights, sp_weights_name(a->weights, i));
        assert_non_null(other);
        assert_same_bits(sp_weights_at(a->weights, i), other);
    }
    sp_component_close(a);
    sp_component_close(b);
}

/* ---- whole models ---- */

static void assert_same_latents(void **state, splam_generate_options a, splam_generate_options b)
{
    sp_tensor x = latents_of(state, a), y = latents_of(state, b);
    assert_same_bits(&x, &y);
    sp_tensor_free(&x);
    sp_tensor_free(&y);
}

static void check_there_and_back(void **state, const char *transformer)
{
    const char *folder = keep(state, "folder"), *file = keep(state, "one.safetensors"),
               *again = keep(state, "again");
    make_sd3(folder, transformer);
    assert_ok(convert_model(folder, file, &to_f32));
    assert_ok(convert_model(file, again, &(splam_convert_options){.dtype = "f32"}));
    assert_same_latents(state, fox_request(folder, NULL), fox_request(file, NULL));
    assert_same_latents(state, fox_request(folder, NULL), fox_request(again, NULL));
}

/* Folder, file and folder draw the same latents, bit for bit. */
static void folder_file_folder(void **state)
{
    check_there_and_back(state, sd3_dual);
}

/* Stable Diffusion 3's own: no norms of queries and keys, and nothing doubled; 64 channels a head. */
static void first_version(void **state)
{
    check_there_and_back(state, "{\"_class_name\": \"SD3Transformer2DModel\", \"num_layers\": 2,"
                                " \"num_attention_heads\": 2, \"attention_head_dim\": 64,"
                                " \"caption_projection_dim\": 128, \"joint_attention_dim\": 192,"
                                " \"pooled_projection_dim\": 192, \"pos_embed_max_size\": 192}");
}

/* The picture too: factor and shift of latents. */
static void pictures_are_the_same(void **state)
{
    const char *const models[] = {keep(state, "folder"), keep(state, "one.safetensors")};
    sp_tensor pictures[2], latents;
    make_sd3(models[0], sd3_dual);
    assert_ok(convert_model(models[0], models[1], &to_f32));
    latents = latents_of(state, fox_request(models[0], NULL));
    for (int i = 0; i < 2; i++) {
        sp_pipeline *p;
        assert_ok(sp_pipeline_open(models[i], &(sp_model_options){.parts = SP_PART_VAE}, &p));
        assert_ok(sp_pipeline_decode(p, &latents, NULL, &pictures[i]));
        sp_pipeline_close(p);
    }
    assert_same_bits(&pictures[0], &pictures[1]);
    sp_tensor_free(&pictures[0]);
    sp_tensor_free(&pictures[1]);
    sp_tensor_free(&latents);
}

/* What lies in a file beside what is used, as in the published ones with T5. */
static void rewrite(const char *from, const char *to, const char *without, const char *prefix,
                    size_t cut, const sp_named_tensor *more)
{
    enum { MOST = 600 };
    static sp_named_tensor named[MOST];
    sp_tensor_file *file;
    size_t count = 0;
    assert_ok(sp_safetensors_open(from, &file));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        if ((without && sp_starts_with(name, without)) || (prefix && !sp_starts_with(name, prefix)))
            continue;
        assert_true(count < MOST - 1);
        named[count++] = (sp_named_tensor){name + cut, sp_tensor_file_at(file, i)};
    }
    if (more) named[count++] = *more;
    assert_ok(sp_safetensors_save(to, named, count, NULL, 0));
    sp_tensor_file_close(file);
}

static void with_t5_inside(void **state)
{
    const char *folder = keep(state, "folder"), *file = keep(state, "one.safetensors"),
               *more = keep(state, "t5");
    float zeros[4] = {0};
    const sp_tensor tensor = {.dtype = SP_F32, .shape = sp_shape_of(2, 2), .data = zeros};
    const sp_named_tensor t5 = {
        "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight", &tensor};
    make_sd3(folder, sd3_dual);
    assert_ok(convert_model(folder, file, &to_f32));
    rewrite(file, more, NULL, NULL, 0, &t5);
    assert_same_latents(state, fox_request(folder, NULL), fox_request(more, NULL));
}

/* A transformer with and without prefix, under diffusers' names and as a folder, with the rest from a base. */
static void transformers_alone(void **state)
{
    static const char prefix[] = "model.diffusion_model.";
    char own[600], inside[600];
    const char *whole = keep(state, "whole"), *base = keep(state, "base"),
               *one = keep(state, "one.safetensors"), *alone = keep(state, "alone.safetensors"),
               *made = keep(state, "made"), *base_file = keep(state, "base.safetensors"),
               *both = keep(state, "both.safetensors");
    make_sd3(whole, sd3_dual);
    assert_ok(sp_copy_tree(whole, base, NULL));
    snprintf(inside, sizeof inside, "%s/transformer", base);
    make_component(inside, SP_COMPONENT_TRANSFORMER, sd3_dual, 99);
    assert_ok(convert_model(whole, one, &to_f32));
    assert_ok(convert_model(base, base_file, &to_f32));
    assert_same_latents(state, fox_request(whole, NULL), fox_request(one, base));
    rewrite(one, alone, NULL, prefix, 0, NULL);
    assert_same_latents(state, fox_request(whole, NULL), fox_request(alone, base));
    rewrite(one, alone, NULL, prefix, strlen(prefix), NULL);
    assert_same_latents(state, fox_request(whole, NULL), fox_request(alone, base_file));
    snprintf(own, sizeof own, "%s/transformer/diffusion_pytorch_model.safetensors", whole);
    assert_same_latents(state, fox_request(whole, NULL), fox_request(own, base));
    snprintf(own, sizeof own, "%s/transformer", whole);
    assert_same_latents(state, fox_request(whole, NULL), fox_request(own, base));
    assert_same_latents(state, fox_request(whole, NULL), fox_request(whole, base));
    assert_ok(convert_model(alone, made, &(splam_convert_options){.dtype = "f32", .base = base}));
    assert_same_latents(state, fox_request(whole, NULL), fox_request(made, NULL));
    splam_convert_options single = to_f32;
    single.base = base;
    assert_ok(convert_model(alone, both, &single));
    assert_same_latents(state, fox_request(whole, NULL), fox_request(both, NULL));
}

/* ---- faults ---- */

static void refuse(splam_generate_options o, splam_status status, const char *words)
{
    o.save_latents = "/nowhere/latents.safetensors";
    splam_status found = splam_generate(&o, NULL);
    if (found != status || !strstr(splam_error_message(), words))
        fail_msg("%d: %s", found, splam_error_message());
}

static void what_is_missing_is_named(void **state)
{
    const char *folder = keep(state, "folder"), *file = keep(state, "one.safetensors"),
               *less = keep(state, "less");
    const splam_generate_options o = fox_request(less, NULL);
    make_sd3(folder, sd3_dual);
    assert_ok(convert_model(folder, file, &to_f32));
    rewrite(file, less, "text_encoders.", NULL, 0, NULL);
    refuse(
        o, SPLAM_FORMAT,
        "has a transformer, and no text_encoder, text_encoder_2, as many files of Stable Diffusion 3");
    rewrite(file, less, "text_encoders.clip_g.", NULL, 0, NULL);
    refuse(o, SPLAM_FORMAT, "no text_encoder_2");
    rewrite(file, less, "first_stage_model.", NULL, 0, NULL);
    refuse(o, SPLAM_FORMAT, "no vae");
    rewrite(file, less, "model.diffusion_model.joint_blocks.1.x_block.mlp.fc1.", NULL, 0, NULL);
    refuse(o, SPLAM_FORMAT, "\"transformer_blocks.1.ff.net.0.proj.weight\" is missing");
    rewrite(file, less, "model.diffusion_model.pos_embed", NULL, 0, NULL);
    refuse(o, SPLAM_FORMAT, "pos_embed");
    rewrite(file, less, "model.diffusion_model.final_layer.", NULL, 0, NULL);
    refuse(o, SPLAM_UNSUPPORTED, "a part of a Stable Diffusion 3 model");
}

/* A tensor in another's place. */
static void replace(const char *from, const char *to, const char *name, const sp_tensor *tensor)
{
    rewrite(from, to, name, NULL, 0, &(sp_named_tensor){name, tensor});
}

static void what_does_not_fit_is_refused(void **state)
{
    static float zeros[4096];
    const char *folder = keep(state, "folder"), *file = keep(state, "one.safetensors"),
               *bad = keep(state, "bad");
    splam_generate_options o = fox_request(bad, NULL);
    make_sd3(folder, sd3_dual);
    assert_ok(convert_model(folder, file, &to_f32));
    const struct {
        const char *name, *words;
        sp_shape shape;
        splam_status status;
    } faults[] = {
        {"joint_blocks.0.x_block.attn.qkv.bias", "divisible by 3", sp_shape_of(191), SPLAM_FORMAT},
        {"joint_blocks.0.x_block.attn.qkv.weight", "has the shape", sp_shape_of(3, 64),
         SPLAM_SHAPE},
        {"final_layer.adaLN_modulation.1.bias", "divisible by 2", sp_shape_of(127), SPLAM_FORMAT},
        {"pos_embed", "no square", sp_shape_of(1, 60, 64), SPLAM_FORMAT},
        {"pos_embed", "too few dimensions", sp_shape_of(64), SPLAM_FORMAT},
        {"x_embedder.proj.weight", "whose side is 0", sp_shape_of(64, 16, 0, 0), SPLAM_FORMAT},
        {"x_embedder.proj.weight", "too few dimensions", sp_shape_of(64, 16), SPLAM_FORMAT},
        {"final_layer.linear.weight", "gives 63 numbers a patch", sp_shape_of(63, 64),
         SPLAM_FORMAT},
        {"joint_blocks.0.x_block.attn.ln_q.weight", "no multiple of its heads", sp_shape_of(7),
         SPLAM_FORMAT},
        {"joint_blocks.0.x_block.attn.ln_q.weight", "no multiple of its heads", sp_shape_of(0),
         SPLAM_FORMAT},
        {"context_embedder.weight", "joint_attention_dim", sp_shape_of(64, 0), SPLAM_FORMAT},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char name[128];
        const sp_tensor tensor = {.dtype = SP_F32, .shape = faults[i].shape, .data = zeros};
        snprintf(name, sizeof name, "model.diffusion_model.%s", faults[i].name);
        replace(file, bad, name, &tensor);
        refuse(o, faults[i].status, faults[i].words);
    }
    o = fox_request(file, NULL);
    o.prediction_type = "v_prediction";
    refuse(o, SPLAM_ARGUMENT, "predicts a velocity");
    /* a UNet's model cannot have the rest */
    make_xl(bad = keep(state, "xl"), XL_UNET("\"transformer_layers_per_block\": [1, 2]"));
    refuse(fox_request(file, bad), SPLAM_UNSUPPORTED, "has a unet");
    refuse(fox_request(bad, folder), SPLAM_UNSUPPORTED, "has a transformer");
}

static void expect(const char *model, const char *output, const splam_convert_options *options,
                   sp_status status, const char *message)
{
    sp_status found = convert_model(model, output, options);
    if (found != status) fail_msg("\"%s\" expected, found \"%s\"", message, sp_error_message());
    assert_message(message);
    assert_false(sp_path_exists(output));
}

static void what_a_file_cannot_carry_is_refused(void **state)
{
    const char *folder = keep(state, "folder"), *file = keep(state, "one.safetensors");
    char path[600];
    make_sd3(folder, sd3_dual);
    splam_convert_options o = to_f32;
    o.prediction_type = "epsilon";
    expect(folder, file, &o, SP_ARGUMENT, "predicts a velocity");
    snprintf(path, sizeof path, "%s/text_encoder", folder);
    make_component(path, SP_COMPONENT_TEXT_ENCODER_2,
                   XL_TEXT("CLIPTextModelWithProjection",
                           "\"hidden_size\": 64, \"intermediate_size\": 64,"
                           " \"num_attention_heads\": 1, \"projection_dim\": 64"),
                   61);
    expect(folder, file, &to_f32, SP_UNSUPPORTED, "is not the identity");
    make_first_text(path);
    snprintf(path, sizeof path, "%s/transformer", folder);
    make_component(path, SP_COMPONENT_TRANSFORMER, SD3_TRANSFORMER("\"qk_norm\": null"), 60);
    expect(folder, file, &to_f32, SP_UNSUPPORTED, "\"attention_head_dim\" is 16");
    /* those of Stable Diffusion XL's kind are not CLIP's */
    expect(golden("sd3"), file, &to_f32, SP_UNSUPPORTED, "the tokenizer is not CLIP's");
}

static sp_status open_transformer(void *context)
{
    sp_component *transformer;
    SP_TRY(sp_component_open(context, "transformer", &transformer));
    sp_component_close(transformer);
    return SP_OK;
}

static void every_allocation_is_seen(void **state)
{
    const char *path = keep(state, "transformer.safetensors");
    save_transformer(golden("transformer-sd35"), path);
    assert_true(fail_every_allocation(open_transformer, (void *)(uintptr_t)path) > 10);
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_the_published_ones),
        with_folder(tensors_are_the_published_ones),
        with_folder(folder_file_folder),
        with_folder(first_version),
        with_folder(pictures_are_the_same),
        with_folder(with_t5_inside),
        with_folder(transformers_alone),
        with_folder(what_is_missing_is_named),
        with_folder(what_does_not_fit_is_refused),
        with_folder(what_a_file_cannot_carry_is_refused),
        with_folder(every_allocation_is_seen),
    };
    return cmocka_run_group_tests_name("Stable Diffusion 3 in one file", tests, NULL, NULL);
}
