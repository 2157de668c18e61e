/* Checkpoints of one file: names and shapes of the published ones at their full size, numbers of
 * small ones against PyTorch, and what a whole model does with them. */
#include "support.h"

#include <fcntl.h>

#include "backend/cpu/cpu.h"
#include "base/text.h"
#include "pipeline/pipeline.h"
#include "convert_support.h"
#include "pipeline/forward.h"
#include "checkpoints/original.h"

/* ---- the published names ---- */

typedef struct {
    char *component, *name, *original, *shape;
    int third;
} line;

static size_t read_lines(char *text, line *lines, size_t most)
{
    size_t count = 0;
    for (char *row; (row = strsep(&text, "\n")) && *row; count++) {
        assert_true(count < most);
        lines[count] =
            (line){strsep(&row, "|"), strsep(&row, "|"), strsep(&row, "|"), strsep(&row, "|"), 0};
        lines[count].third = atoi(row);
    }
    return count;
}

/* A file with those tensors, all of zeros that take no room on the disk. */
static void write_hollow(const char *path, const line *lines, size_t count)
{
    sp_string header = {0};
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = 2;
        if (lines[i].third) continue;
        for (const char *p = lines[i].shape; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
            bytes *= (uint64_t)atoll(p);
        sp_string_append_format(
            &header, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
            i ? "," : "{", lines[i].original, lines[i].shape, (unsigned long long)at,
            (unsigned long long)(at + bytes));
        at += bytes;
    }
    sp_string_append(&header, "}", 1);
    while (header.length % 8)
        sp_string_append(&header, " ", 1);
    uint64_t length = header.length;
    int file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, &length, 8), 8);
    assert_int_equal(write(file, header.data, length), (ssize_t)length);
    assert_int_equal(ftruncate(file, (off_t)(8 + length + at)), 0);
    close(file);
    sp_string_free(&header);
}

/* Every tensor of the graph is the one that the list says, and lies where the original lies. */
static size_t check_component(const char *path, const char *name, const line *lines, size_t count)
{
    sp_component *component;
    size_t checked = 0;
    assert_ok(sp_component_open(path, name, &component));
    for (size_t i = 0; i < count; i++) {
        if (strcmp(lines[i].component, name) != 0) continue;
        const sp_tensor *found = sp_weights_find(component->weights, lines[i].name), *original;
        if (!found) fail_msg("%s is missing", lines[i].name);
        assert_ok(sp_tensor_file_get(component->file, lines[i].original, &original));
        if (strcmp(lines[i].name, "text_projection.weight") == 0) { /* its sides are changed: no view */
            assert_true(sp_shape_equal(found->shape, original->shape));
            checked++;
            continue;
        }
        const char *expected =
            (const char *)original->data + (size_t)lines[i].third * sp_tensor_bytes(found);
        if (found->data != expected) fail_msg("%s is not %s", lines[i].name, lines[i].original);
        checked++;
    }
    assert_int_equal(checked, sp_weights_count(component->weights));
    sp_component_close(component);
    return checked;
}

static void check_published(void **state, const char *names, bool second)
{
    enum { MOST = 3000 };
    static line lines[MOST];
    char *text;
    const char *path = in_folder(state, "hollow.safetensors");
    assert_ok(sp_read_file(golden(names), &text, NULL));
    size_t count = read_lines(text, lines, MOST);
    write_hollow(path, lines, count);
    size_t checked = check_component(path, "unet", lines, count);
    checked += check_component(path, "vae", lines, count);
    checked += check_component(path, "text_encoder", lines, count);
    assert_int_equal(checked, count);

    sp_model_folder model;
    sp_component *unet, *vae, *clip;
    assert_ok(sp_model_folder_open(path, &model));
    assert_ok(sp_component_open(path, "unet", &unet));
    assert_ok(sp_component_open(path, "vae", &vae));
    assert_ok(sp_component_open(path, "text_encoder", &clip));
    const sp_unet_config *c = &unet->config.unet;
    assert_int_equal(c->sample_size, second ? 96 : 64);
    assert_int_equal(c->cross_attention_dim, second ? 1024 : 768);
    assert_int_equal(c->heads[0], second ? 5 : 8);
    assert_int_equal(c->heads[3], second ? 20 : 8);
    assert_int_equal(c->linear_projection, second);
    assert_int_equal(vae->config.vae.kl.levels, 4);
    assert_true(vae->config.vae.scaling_factor == 0.18215);
    assert_int_equal(clip->config.text.layers, second ? 23 : 12);
    assert_int_equal(clip->config.text.heads, second ? 16 : 12);
    assert_int_equal(clip->config.text.activation, second ? SP_UNARY_GELU : SP_UNARY_QUICK_GELU);
    sp_scheduler_config scheduler;
    assert_ok(sp_scheduler_config_of(&model, NULL, &scheduler));
    assert_int_equal(scheduler.path.prediction,
                     second ? SP_PREDICTION_V : SP_PREDICTION_EPSILON);
    assert_int_equal(scheduler.steps_offset, 1);
    assert_false(scheduler.alpha_to_one);
    sp_component_close(unet);
    sp_component_close(vae);
    sp_component_close(clip);
    sp_model_folder_close(&model);
    sp_free(text);
}

static void test_published(void **state)
{
    check_published(state, "original-sd1/names.txt", false);
    check_published(state, "original-sd2/names.txt", true);
}

static const sp_unet_config *check_xl_unet(void **state, const char *names, sp_component **unet)
{
    enum { MOST = 3000 };
    static line lines[MOST];
    static char *text;
    const char *path = in_folder(state, "hollow.safetensors");
    sp_free(text);
    assert_ok(sp_read_file(golden(names), &text, NULL));
    size_t count = read_lines(text, lines, MOST), all = 0;
    write_hollow(path, lines, count);
    static const char *const components[] = {"unet", "vae", "text_encoder", "text_encoder_2"};
    for (int i = 0; i < 4 && (i == 0 || strstr(names, "names.txt")); i++)
        all += check_component(path, components[i], lines, count);
    assert_int_equal(all, count);
    sp_free(text);
    text = NULL;
    assert_ok(sp_component_open(path, "unet", unet));
    return &(*unet)->config.unet;
}

/* What the file alone tells of Stable Diffusion XL: depths by counting, the scale of its latents, how it is sampled. */
static void test_published_xl(void **state)
{
    sp_component *unet, *vae, *second;
    sp_model_folder model;
    sp_scheduler_config scheduler;
    const sp_unet_config *c = check_xl_unet(state, "original-sdxl/names.txt", &unet);
    const char *path = in_folder(state, "hollow.safetensors");
    assert_int_equal(c->levels, 3);
    assert_int_equal(c->sample_size, 128);
    assert_int_equal(c->down_depth[1][0], 2);
    assert_int_equal(c->down_depth[2][1], 10);
    assert_int_equal(c->middle_depth, 10);
    assert_int_equal(c->up_depth[1][2], 2);
    assert_int_equal(c->heads[2], 20);
    assert_int_equal(c->cross_attention_dim, 2048);
    assert_int_equal(c->text_dim, 1280);
    assert_int_equal(c->size_dim, 256);
    assert_ok(sp_component_open(path, "vae", &vae));
    assert_true(vae->config.vae.scaling_factor == 0.13025);
    assert_ok(sp_component_open(path, "text_encoder_2", &second));
    assert_int_equal(second->config.text.layers, 32);
    assert_int_equal(second->config.text.projection, 1280);
    assert_int_equal(second->config.text.activation, SP_UNARY_GELU);
    assert_ok(sp_model_folder_open(path, &model));
    assert_ok(sp_scheduler_config_of(&model, NULL, &scheduler));
    assert_int_equal(scheduler.path.prediction, SP_PREDICTION_EPSILON);
    assert_int_equal(scheduler.spacing, SP_SPACING_LEADING);
    assert_int_equal(sp_sampler_for(&scheduler), SP_SAMPLER_EULER);
    sp_model_folder_close(&model);
    sp_component_close(second);
    sp_component_close(vae);
    sp_component_close(unet);
}

static void test_published_ssd1b(void **state)
{
    sp_component *unet;
    const sp_unet_config *c = check_xl_unet(state, "original-sdxl/ssd1b.txt", &unet);
    static const int64_t lowest[] = {4, 4, 10}, middle[] = {2, 1, 1};
    assert_false(c->middle_attention);
    assert_int_equal(c->down_depth[2][0], 4);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(c->up_depth[2][i], lowest[i]);
        assert_int_equal(c->up_depth[1][i], middle[i]);
    }
    assert_int_equal(c->cross_attention_dim, 2048);
    sp_component_close(unet);
}

/* ---- numbers ---- */

static void check_forward(const char *folder, const char *file, const char *component,
                          const char *output)
{
    char path[512], inputs_path[512], outputs_path[512];
    sp_tensor_file *inputs, *expected;
    const sp_tensor *wanted;
    sp_named_outputs outputs;
    double error;
    snprintf(path, sizeof path, "%s/%s", golden(folder), file);
    snprintf(inputs_path, sizeof inputs_path, "%s/inputs_%s.safetensors", golden(folder),
             component);
    snprintf(outputs_path, sizeof outputs_path, "%s/outputs_%s.safetensors", golden(folder),
             component);
    assert_ok(sp_safetensors_open(inputs_path, &inputs));
    assert_ok(sp_safetensors_open(outputs_path, &expected));
    assert_ok(sp_tensor_file_get(expected, output, &wanted));
    assert_ok(sp_component_forward(path, component, inputs, SP_F32, sp_cpu_device(), &outputs));
    assert_ok(sp_tensor_relative_max_error(&outputs.item[0].tensor, wanted, &error));
    if (!(error < 1e-4)) /* the design's bound for one forward pass in f32 */
        fail_msg("%s, %s: relative max error %g", path, component, error);
    sp_named_outputs_free(&outputs);
    sp_tensor_file_close(expected);
    sp_tensor_file_close(inputs);
}

static void test_forward(void **state)
{
    (void)state;
    static const char *const components[][2] = {
        {"unet", "sample"}, {"vae-decoder", "image"}, {"text-encoder", "last_hidden_state"}};
    for (int i = 0; i < 3; i++) {
        check_forward("original-sd1", "model.safetensors", components[i][0], components[i][1]);
        check_forward("original-sd2", "model.ckpt", components[i][0], components[i][1]);
    }
}

/* ---- whole models ---- */

/* The small checkpoint with CLIP's whole vocabulary, as the built-in tokenizer needs it. */
static void write_whole(const char *from, const char *to, const char *embedding,
                        const char *const (*metadata)[2])
{
    enum { TOKENS = 49408, WIDTH = 64, MOST = 1000 };
    static sp_named_tensor named[MOST];
    sp_tensor_file *file;
    sp_tensor tokens;
    assert_ok(sp_tensor_file_open(from, &file));
    assert_ok(sp_tensor_create(SP_F16, sp_shape_of(TOKENS, WIDTH), &tokens));
    for (int64_t i = 0; i < TOKENS * WIDTH; i++)
        sp_store(tokens.data, SP_F16, i, (double)(i * 7919 % 1009) / 500 - 1);
    size_t count = sp_tensor_file_count(file);
    assert_true(count < MOST);
    for (size_t i = 0; i < count; i++) {
        named[i] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
        if (strcmp(named[i].name, embedding) == 0) named[i].tensor = &tokens;
    }
    assert_ok(sp_safetensors_save(to, named, count, metadata, metadata ? 1 : 0));
    sp_tensor_free(&tokens);
    sp_tensor_file_close(file);
}

static sp_conditioning conditioning_of(const char *model, sp_prediction *prediction)
{
    static const char *const prompts[] = {"a lighthouse at dawn!"};
    const sp_model_options options = {.precision = SP_F32};
    sp_pipeline *pipeline;
    sp_conditioning conditioning;
    assert_ok(sp_pipeline_open(model, &options, &pipeline));
    assert_ok(sp_pipeline_encode(pipeline, prompts, 1, &conditioning));
    *prediction = pipeline->scheduler.path.prediction;
    sp_pipeline_close(pipeline);
    return conditioning;
}

/* diffusers reads two words of every part, [null, null] where there is none. */
static void check_index(const char *folder)
{
    char *path = sp_path_join(folder, "model_index.json");
    json_t *index, *entry;
    const char *key;
    size_t parts = 0;
    assert_ok(sp_json_load(path, &index));
    json_object_foreach(index, key, entry)
    {
        if (key[0] == '_' || json_is_boolean(entry)) continue;
        assert_int_equal(json_array_size(entry), 2);
        parts++;
    }
    assert_int_equal(parts, 7);
    json_decref(index);
    sp_free(path);
}

/* A pipeline opens the file, and the folder that it is converted to does the same. */
static void check_whole(void **state, const char *file, bool second)
{
    char *folder = sp_strdup(in_folder(state, second ? "folder2" : "folder1"));
    sp_prediction own, converted;
    double error;
    sp_conditioning a = conditioning_of(file, &own), b;
    assert_ok(convert_model(file, folder, &(splam_convert_options){.dtype = "f16"}));
    check_index(folder);
    b = conditioning_of(folder, &converted);
    assert_ok(sp_tensor_relative_max_error(&a.item[0].tensor, &b.item[0].tensor, &error));
    assert_true(error == 0);
    assert_int_equal(own, converted);
    assert_int_equal(own, second ? SP_PREDICTION_V : SP_PREDICTION_EPSILON);
    static const char *const files[] = {"model_index.json", "tokenizer/vocab.json",
                                        "tokenizer/merges.txt", "unet/config.json",
                                        "scheduler/scheduler_config.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = sp_path_join(folder, files[i]);
        assert_true(sp_path_exists(path));
        sp_free(path);
    }
    sp_conditioning_free(&a);
    sp_conditioning_free(&b);
    sp_free(folder);
}

static void test_whole(void **state)
{
    char *first = sp_strdup(in_folder(state, "first.safetensors"));
    char *second = sp_strdup(in_folder(state, "second.safetensors"));
    write_whole(golden("original-sd1/model.safetensors"), first,
                "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", NULL);
    write_whole(golden("original-sd2/model.ckpt"), second,
                "cond_stage_model.model.token_embedding.weight", NULL);
    check_whole(state, first, false);
    check_whole(state, second, true);
    sp_free(second);
    sp_free(first);
}

static sp_prediction prediction_of(const char *path)
{
    sp_model_folder model;
    sp_scheduler_config scheduler;
    assert_ok(sp_model_folder_open(path, &model));
    assert_ok(sp_scheduler_config_of(&model, NULL, &scheduler));
    sp_model_folder_close(&model);
    return scheduler.path.prediction;
}

/* What 2.x predicts: the step of the base checkpoint, the metadata, the caller. */
static void test_prediction(void **state)
{
    static const char *const says_epsilon[][2] = {{"modelspec.prediction_type", "epsilon"}},
                             *const says_v[][2] = {{"modelspec.prediction_type", "v"}};
    static const char embedding[] = "cond_stage_model.model.token_embedding.weight";
    char *path = sp_strdup(in_folder(state, "second.safetensors"));
    char *folder = sp_strdup(in_folder(state, "folder"));
    assert_int_equal(prediction_of(golden("original-sd2/model.ckpt")), SP_PREDICTION_EPSILON);
    write_whole(golden("original-sd2/model.ckpt"), path, embedding, says_v);
    assert_int_equal(prediction_of(path), SP_PREDICTION_V);
    write_whole(golden("original-sd2/model.ckpt"), path, embedding, says_epsilon);
    assert_int_equal(prediction_of(path), SP_PREDICTION_EPSILON);
    write_whole(golden("original-sd2/model.ckpt"), path, embedding, NULL);
    assert_int_equal(prediction_of(path), SP_PREDICTION_V);
    assert_ok(convert_model(path, folder,
                            &(splam_convert_options){.dtype = "bf16", .prediction_type = "epsilon"}));
    assert_int_equal(prediction_of(folder), SP_PREDICTION_EPSILON);
    sp_component *unet;
    assert_ok(sp_component_open(folder, "unet", &unet));
    assert_int_equal(unet->config.unet.sample_size, 64);
    sp_component_close(unet);
    assert_status(
        convert_model(folder, in_folder(state, "again"),
                      &(splam_convert_options){.dtype = "bf16", .prediction_type = "epsilon"}),
        SP_ARGUMENT);
    assert_message("a prediction type is for checkpoints of one file");
    sp_free(folder);
    sp_free(path);
}

/* ---- folders in shards ---- */

/* Splits FOLDER/BASE.safetensors into two shards with an index. */
static void split(const char *folder, const char *base)
{
    enum { MOST = 1000 };
    static sp_named_tensor named[MOST];
    sp_tensor_file *file;
    char *whole = sp_format("%s/%s.safetensors", folder, base);
    assert_ok(sp_safetensors_open(whole, &file));
    size_t count = sp_tensor_file_count(file), half = count / 2;
    json_t *map = json_object(), *index = json_pack("{s:o}", "weight_map", map);
    assert_true(count > 1 && count < MOST);
    for (size_t i = 0; i < count; i++) {
        named[i] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
        json_object_set_new(map, named[i].name,
                            json_string(i < half ? "a.safetensors" : "b.safetensors"));
    }
    char *first = sp_path_join(folder, "a.safetensors"),
         *second = sp_path_join(folder, "b.safetensors"),
         *list = sp_format("%s/%s.safetensors.index.json", folder, base);
    assert_ok(sp_safetensors_save(first, named, half, NULL, 0));
    assert_ok(sp_safetensors_save(second, named + half, count - half, NULL, 0));
    assert_ok(sp_json_save(list, index));
    sp_tensor_file_close(file);
    assert_ok(sp_remove_tree(whole));
    json_decref(index);
    sp_free(whole);
    sp_free(first);
    sp_free(second);
    sp_free(list);
}

static void test_shards(void **state)
{
    static const sp_dtype dtypes[] = {SP_F32, SP_F16, SP_BF16};
    static const char *const dtype_names[] = {"f32", "f16", "bf16"};
    static const char *const parts[][2] = {{"unet", "diffusion_pytorch_model"},
                                           {"vae", "diffusion_pytorch_model"},
                                           {"text_encoder", "model"}};
    const char *checkpoint = golden("original-sd1/model.safetensors");
    for (int d = 0; d < 3; d++)
        for (int i = 0; i < 3; i++) {
            char *folder = sp_format("%s/%d", (const char *)*state, d);
            char *part = sp_path_join(folder, parts[i][0]);
            sp_component *single, *sharded;
            if (i == 0)
                assert_ok(convert_model(checkpoint, folder,
                                        &(splam_convert_options){.dtype = dtype_names[d]}));
            split(part, parts[i][1]);
            assert_ok(sp_component_open(checkpoint, parts[i][0], &single));
            assert_ok(sp_component_open(folder, parts[i][0], &sharded));
            assert_int_equal(sp_weights_count(single->weights), sp_weights_count(sharded->weights));
            for (size_t k = 0; k < sp_weights_count(single->weights); k++) {
                const char *name = sp_weights_name(single->weights, k);
                const sp_tensor *a = sp_weights_find(sharded->weights, name);
                double error;
                assert_non_null(a);
                assert_int_equal(a->dtype, dtypes[d]);
                assert_ok(
                    sp_tensor_relative_max_error(a, sp_weights_at(single->weights, k), &error));
                /* f16 is held exactly but by bf16, whose numbers are up to 2^-8 apart */
                assert_true(error <= (dtypes[d] == SP_BF16 ? 0x1p-8 : 0));
            }
            sp_component_close(single);
            sp_component_close(sharded);
            sp_free(part);
            sp_free(folder);
        }
}

/* ---- what is refused ---- */

typedef struct {
    const char *from, *to; /* a tensor renamed; to NULL: left out */
    sp_shape shape;        /* another shape, if its rank is not 0 */
    sp_status status;
    const char *component, *message;
} change;

static void check_change(void **state, const change *c)
{
    enum { MOST = 1000 };
    static sp_named_tensor named[MOST];
    sp_tensor_file *file;
    sp_tensor changed = {0};
    size_t count = 0;
    const char *path = in_folder(state, "changed.safetensors");
    assert_ok(sp_tensor_file_open(golden("original-sd2/model.ckpt"), &file));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        sp_named_tensor one = {sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
        if (strcmp(one.name, c->from) == 0) {
            if (!c->to) continue;
            one.name = c->to;
            if (c->shape.rank) {
                assert_ok(sp_tensor_create(SP_F16, c->shape, &changed));
                one.tensor = &changed;
            }
        }
        named[count++] = one;
    }
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
    sp_component *component;
    sp_status status = sp_component_open(path, c->component, &component);
    assert_status(status, c->status);
    if (status)
        assert_message(c->message);
    else
        sp_component_close(component);
    sp_tensor_free(&changed);
    sp_tensor_file_close(file);
}

#define UNET "model.diffusion_model."
#define TEXT "cond_stage_model.model."
#define VAE "first_stage_model."

static void test_refused(void **state)
{
    const change changes[] = {
        {UNET "out.2.weight", NULL, {0}, SP_FORMAT, "unet", "no tensor \"" UNET "out.2.weight\""},
        {UNET "input_blocks.0.0.weight",
         NULL,
         {0},
         SP_FORMAT,
         "unet",
         "has no unet under the names"},
        {UNET "input_blocks.0.0.bias", NULL, {0}, SP_FORMAT, "unet", "\"conv_in.bias\" is missing"},
        {UNET "input_blocks.0.0.weight", UNET "input_blocks.0.0.weight", sp_shape_of(3), SP_FORMAT,
         "unet", "too few dimensions"},
        {UNET "input_blocks.1.0.in_layers.0.weight", NULL, {0}, SP_FORMAT, "unet", "no resnet"},
        {UNET "out.2.bias", UNET "label_emb.0.0.weight", sp_shape_of(8, 768), SP_UNSUPPORTED, "unet",
         "conditioned on 768 numbers"},
        {UNET "out.2.bias", UNET "label_emb.0.0.weight", sp_shape_of(8), SP_FORMAT, "unet", "too few dimensions"},
        {UNET "out.2.bias", UNET "conv_out.bias", {0}, SP_OK, "unet", ""},
        {VAE "encoder.conv_in.weight", NULL, {0}, SP_FORMAT, "vae", "has no vae"},
        {VAE "encoder.down.0.block.0.conv2.weight", NULL, {0}, SP_FORMAT, "vae", "0 resolutions"},
        {VAE "encoder.conv_in.bias", VAE "encoder.conv_in.bias", sp_shape_of(7), SP_SHAPE, "vae",
         "[7]"},
        {TEXT "token_embedding.weight",
         NULL,
         {0},
         SP_FORMAT,
         "text_encoder",
         "has no text_encoder"},
        {TEXT "transformer.resblocks.0.attn.in_proj_bias",
         TEXT "transformer.resblocks.0.attn.in_proj_bias", sp_shape_of(100), SP_FORMAT,
         "text_encoder", "divisible by 3"},
        {TEXT "transformer.resblocks.1.ln_1.weight", NULL, {0}, SP_FORMAT, "text_encoder", ""},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        check_change(state, &changes[i]);
    sp_component *component;
    assert_status(sp_component_open(golden("original-sd2/model.ckpt"), "unet_ema", &component),
                  SP_IO);
    assert_message("is one file, which has no unet_ema");
    assert_status(convert_model(golden("checkpoints/zip.ckpt"), in_folder(state, "new"),
                                &(splam_convert_options){.dtype = "f16"}),
                  SP_FORMAT);
    assert_message("has no unet, expected a Stable Diffusion 1.x, 2.x, XL or 3 model");
    assert_false(sp_path_exists(in_folder(state, "new")));
}

static sp_status open_all(void *path)
{
    static const char *const names[] = {"unet", "vae", "text_encoder"};
    for (int i = 0; i < 3; i++) {
        sp_component *component;
        SP_TRY(sp_component_open(path, names[i], &component));
        sp_component_close(component);
    }
    return SP_OK;
}

static void test_allocation_failures(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", golden("original-sd2/model.ckpt"));
    assert_true(fail_every_allocation(open_all, path) > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_published, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_published_xl, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_published_ssd1b, make_test_folder, remove_test_folder),
        cmocka_unit_test(test_forward),
        cmocka_unit_test_setup_teardown(test_whole, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_prediction, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_shards, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_refused, make_test_folder, remove_test_folder),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
