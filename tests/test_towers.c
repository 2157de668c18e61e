/* CLIP's towers and DINOv2 against open_clip and transformers: pictures as they take them, files of every naming, the
 * vectors that they give. */
#include "tower_support.h"
#include "backend/registry.h"
#include "checkpoints/clip_file.h"
#include "checkpoints/dino_file.h"
#include "eval/cmmd.h"
#include "eval/frechet.h"
#include "graph/graph.h"
#include "image/tower_input.h"
#include "models/runner.h"

/* ---- pictures ---- */

enum { SIDE = 24, STEP = 11 };

/* Equal to the last bit where numpy's and torch's divisions are in the same order; resizes of floats sum in f32 there
 * and in f64 here. Numbers are up to 2.2; a wrong offset of a crop moves them by some tenths. */
static const struct {
    const char *name;
    sp_tower_input kind;
    double most;
} ways[] = {{"clip", SP_TOWER_INPUT_CLIP, 0},
            {"cmmd", SP_TOWER_INPUT_CMMD, 0},
            {"dino", SP_TOWER_INPUT_DINO, 0},
            {"pickscore", SP_TOWER_INPUT_PICKSCORE, 1e-6},
            {"hps", SP_TOWER_INPUT_HPS, 5e-6}};
enum { WAYS = sizeof ways / sizeof *ways };

static void check_input(int way, const char *name, const sp_image *image)
{
    char key[64];
    float out[3 * SIDE * SIDE];
    snprintf(key, sizeof key, "input.%s", ways[way].name);
    const sp_tensor *values = expected(key, name);
    assert_ok(sp_image_to_tower(image, ways[way].kind, SIDE, out));
    for (int64_t i = 0; i < sp_tensor_count(values); i++) {
        double found = (double)out[i * STEP], wanted = (double)((const float *)values->data)[i];
        if (!(fabs(found - wanted) <= ways[way].most))
            fail_msg("%s of %s: number %d is %.9g, expected %.9g", ways[way].name, name, (int)i * STEP, found, wanted);
    }
}

static const int sizes[3][2] = {{40, 45}, {31, 24}, {101, 57}};

/* Surpluses of 3 and 7 tell apart how offsets are rounded. */
static void test_pictures_are_pillows(void **state)
{
    static const char *const kinds[] = {"rgba.png", "la.png", "palette.png", "grey16.png", "grey.jpg", "turned.jpg",
                                        "cmyk.jpg"};
    char name[32];
    (void)state;
    for (int w = 0; w < WAYS; w++) {
        for (size_t i = 0; i < 3; i++) {
            sp_image image = formula_picture(sizes[i][0], sizes[i][1]);
            snprintf(name, sizeof name, "%dx%d", sizes[i][0], sizes[i][1]);
            check_input(w, name, &image);
            sp_image_free(&image);
        }
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            const sp_tensor *bytes;
            sp_image image;
            snprintf(name, sizeof name, "file.%s", kinds[i]);
            assert_ok(sp_tensor_file_get(pictures, name, &bytes));
            assert_ok(sp_image_decode_plain(bytes->data, sp_tensor_bytes(bytes), name, &image));
            check_input(w, kinds[i], &image);
            sp_image_free(&image);
        }
    }
}

static void test_long_pictures(void **state)
{
    sp_image image;
    float *out = sp_alloc(3 * 336 * 336 * sizeof *out);
    (void)state;
    assert_ok(sp_image_create(3, 3000, &image));
    static const sp_tower_input whole[] = {SP_TOWER_INPUT_CLIP, SP_TOWER_INPUT_PICKSCORE, SP_TOWER_INPUT_HPS};
    for (int i = 0; i < 3; i++) {
        assert_status(sp_image_to_tower(&image, whole[i], 336, out), SP_ARGUMENT);
        assert_message("too long");
    }
    assert_ok(sp_image_to_tower(&image, SP_TOWER_INPUT_CMMD, 336, out));
    sp_image_free(&image);
    sp_free(out);
}

/* ---- vectors ---- */

static void make_run(const sp_network *network, const void *config, const sp_weights *weights, sp_network_sizes sizes,
                     sp_runner *out)
{
    const sp_weight_set set = {.name = "tower", .rate = SP_RATE_RUN, .weights = weights};
    const sp_network_use use = {.network = network, .config = config, .set = &set};
    sp_builder *b;
    assert_ok(sp_builder_create(&b));
    sp_network_alone(b, &use, &sizes);
    assert_ok(sp_runner_create(b, sp_default_device(), SP_F32, out));
    assert_ok(sp_bind(sp_run_bound(out->run), set.name, weights));
}

static void check_output(sp_run *run, const char *output, const char *name, const char *part, double tolerance)
{
    sp_tensor found;
    double error;
    assert_ok(sp_run_execute(run, NULL));
    assert_ok(sp_run_get_output(run, output, &found));
    assert_ok(sp_tensor_relative_max_error(&found, expected(name, part), &error));
    print_message("%s %s: relative max error %.2e\n", name, part, error);
    if (!(error <= tolerance)) fail_msg("%s %s: error %g, allowed %g", name, part, error, tolerance);
    sp_tensor_free(&found);
}

static void check_image(const sp_vit_config *c, const sp_weights *weights, const char *name, double tolerance)
{
    sp_runner runner;
    sp_tensor x;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(2, 3, c->image_size, c->image_size), &x));
    for (int64_t i = 0; i < sp_tensor_count(&x); i++)
        ((float *)x.data)[i] = (float)(4 * formula_number("pixels", (uint32_t)i));
    make_run(&sp_vit_network, c, weights, (sp_network_sizes){.batch = 2}, &runner);
    assert_ok(sp_run_set_input(runner.run, "image", &x));
    check_output(runner.run, "image_embeds", name, "image", tolerance);
    sp_runner_free(&runner);
    sp_tensor_free(&x);
}

static void check_text(const sp_clip_text_config *c, const sp_weights *weights, const char *name, double tolerance)
{
    enum { TEXTS = 3, LENGTH = 20, VOCABULARY = 600 };
    static const int64_t ends[TEXTS] = {5, LENGTH - 1, 1};
    sp_runner runner;
    sp_tensor ids, rows;
    assert_ok(sp_tensor_create(SP_I64, sp_shape_of(TEXTS, LENGTH), &ids));
    assert_ok(sp_tensor_create(SP_I64, sp_shape_of(TEXTS), &rows));
    int64_t *id = ids.data;
    for (int i = 0; i < TEXTS * LENGTH; i++)
        id[i] = (int64_t)((formula_number("ids", (uint32_t)i) + 0.5) * (VOCABULARY - 2));
    for (int i = 0; i < TEXTS; i++) {
        id[i * LENGTH] = VOCABULARY - 2;
        id[i * LENGTH + ends[i]] = VOCABULARY - 1;
        ((int64_t *)rows.data)[i] = i * LENGTH + ends[i];
    }
    make_run(&sp_clip_text_tower_network, c, weights,
             (sp_network_sizes){.batch = TEXTS, .tokens = LENGTH, .ids = SP_I64}, &runner);
    assert_ok(sp_run_set_input(runner.run, "input_ids", &ids));
    assert_ok(sp_run_set_input(runner.run, "end_rows", &rows));
    check_output(runner.run, "text_embeds", name, "text", tolerance);
    sp_runner_free(&runner);
    sp_tensor_free(&ids);
    sp_tensor_free(&rows);
}

/* How many of the graph's values are [1,rows,width]. */
static int values_of(const sp_graph *graph, int64_t rows, int64_t width)
{
    int count = 0;
    for (int i = 0; i < graph->value_count; i++)
        count += sp_shape_equal(graph->values[i]->shape, sp_shape_of(1, rows, width));
    return count;
}

/* Of the last layer's MLP, which is wider than all else, there is one row. */
static void test_last_layer_is_of_one_token(void **state)
{
    const sp_encoder_layer layer = {64, 1, 200, 1e-5, SP_UNARY_GELU, false};
    const sp_vit_config c = {.image_size = 28, .patch_size = 14, .layer = layer, .layers = 3, .projection = 8};
    sp_graph *graph;
    (void)state;
    assert_ok(sp_network_least_graph(&sp_vit_network, &c, &graph));
    int whole = values_of(graph, 5, 200), one = values_of(graph, 1, 200);
    assert_true(one > 0);
    assert_int_equal(whole, 2 * one);
    sp_graph_destroy(graph);
}

/* f32 against float64, a few layers: some 1e-6 were seen. */
#define TOLERANCE 1e-5

static void check_clip(const char *path, const char *name, sp_unary_kind activation, int64_t heads)
{
    sp_clip_file clip;
    assert_ok(sp_clip_file_open(path, NULL, &clip));
    assert_int_equal(clip.image.layer.activation, activation);
    assert_int_equal(clip.text.activation, activation);
    assert_int_equal(clip.image.layer.heads, heads);
    check_image(&clip.image, clip.image_weights, name, TOLERANCE);
    check_text(&clip.text, clip.text_weights, name, TOLERANCE);
    sp_clip_file_free(&clip);
}

static void test_clip_is_transformers(void **state)
{
    const char *folder = write_case(state, "transformers", "model.safetensors", "config.json");
    check_clip(folder, "transformers", SP_UNARY_QUICK_GELU, 2);
    check_clip(in(folder, "model.safetensors"), "transformers", SP_UNARY_QUICK_GELU, 2);
    folder = write_case(state, "transformers.104", "model.safetensors", "config.json");
    check_clip(folder, "transformers.104", SP_UNARY_GELU, 2);
}

static void test_clip_is_open_clips(void **state)
{
    const char *folder = write_case(state, "open_clip", "open_clip_model.safetensors", "open_clip_config.json");
    check_clip(folder, "open_clip", SP_UNARY_GELU, 2);
    folder = write_case(state, "open_clip.text", "any.safetensors", "open_clip_config.json");
    check_clip(in(folder, "any.safetensors"), "open_clip.text", SP_UNARY_QUICK_GELU, 2);
}

static void test_dino_is_transformers(void **state)
{
    static const char *const names[] = {"dino", "dino.transformers"};
    for (int i = 0; i < 2; i++) {
        sp_dino_file dino;
        const char *folder = write_case(state, names[i], "model.safetensors", NULL);
        assert_ok(sp_dino_file_open(in(folder, "model.safetensors"), &dino));
        assert_string_equal(dino.name, "DINOv2 ViT/14");
        check_image(&dino.config, dino.weights, names[i], TOLERANCE);
        sp_dino_file_free(&dino);
    }
}

/* Files in F16 are as exact as F16 is. */
static void test_half_precision_is_read(void **state)
{
    const char *path = in_folder(state, "half.safetensors");
    sp_weights *weights = weights_of("open_clip");
    sp_clip_file clip;
    save(weights, path, SP_F16);
    assert_ok(sp_write_file(in_folder(state, "open_clip_config.json"), expected("open_clip", "config")->data,
                            sp_tensor_bytes(expected("open_clip", "config"))));
    assert_ok(sp_clip_file_open(path, NULL, &clip));
    check_image(&clip.image, clip.image_weights, "open_clip", 5e-3);
    check_text(&clip.text, clip.text_weights, "open_clip", 5e-3);
    sp_clip_file_free(&clip);
    assert_ok(sp_remove_tree(in_folder(state, "open_clip_config.json")));
}

/* ---- what shapes do not tell ---- */

static void test_activation_is_never_guessed(void **state)
{
    const char *path = in_folder(state, "alone.safetensors");
    sp_clip_file clip;
    sp_weights *weights = weights_of("open_clip");
    sp_tensor resolution;
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    assert_status(sp_clip_file_open(path, "gelu", &clip), SP_FORMAT);
    assert_message("width 176 cannot be split into heads of 64"); /* they have 88 */
    sp_weights_destroy(weights);
    weights = weights_of("transformers");
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    assert_status(sp_clip_file_open(path, NULL, &clip), SP_ARGUMENT);
    assert_message("config.json");
    assert_message("`clip_activation`");
    assert_status(sp_clip_file_open(path, "relu", &clip), SP_UNSUPPORTED);
    assert_ok(sp_clip_file_open(path, "gelu", &clip));
    assert_int_equal(clip.image.layer.activation, SP_UNARY_GELU);
    assert_int_equal(clip.text.activation, SP_UNARY_GELU);
    assert_string_equal(clip.name, "ViT, width 128, 2 layers");
    sp_clip_file_free(&clip);
    assert_ok(sp_tensor_create(SP_I64, (sp_shape){0}, &resolution));
    assert_ok(sp_weights_add(weights, "input_resolution", resolution));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    assert_ok(sp_clip_file_open(path, NULL, &clip));
    assert_int_equal(clip.image.layer.activation, SP_UNARY_QUICK_GELU);
    sp_clip_file_free(&clip);
    sp_weights_destroy(weights);
}

/* ---- wrong files ---- */

/* Replaces, or without a shape removes, a tensor of a case. */
static void save_changed(const char *name, const char *tensor, sp_shape shape, const char *path)
{
    sp_weights *weights = weights_of(name);
    assert_ok(sp_weights_remove(weights, tensor));
    if (shape.rank) assert_ok(add_named(weights, tensor, shape));
    save(weights, path, SP_F32);
}

static void test_wrong_tensors_are_named(void **state)
{
    static const struct {
        const char *name, *tensor;
        sp_shape shape;
        sp_status status;
        const char *message;
    } cases[] = {
        {"open_clip", "visual.transformer.resblocks.1.attn.in_proj_weight", {0}, SP_FORMAT, "is missing"},
        {"open_clip", "visual.transformer.resblocks.1.attn.in_proj_bias", {1, {176}}, SP_SHAPE, "[528]"},
        {"open_clip", "visual.proj", {2, {24, 176}}, SP_SHAPE, "[24,176]"},
        {"open_clip", "visual.positional_embedding", {2, {6, 176}}, SP_SHAPE, "square number"},
        {"open_clip", "transformer.resblocks.0.mlp.c_fc.weight", {0}, SP_FORMAT, "is missing"},
        {"open_clip", "text_projection", {0}, SP_FORMAT, "is missing"},
        {"open_clip", "visual.conv1.weight", {3, {176, 3, 14}}, SP_SHAPE, "expected 4 dimensions"},
        {"transformers", "vision_model.encoder.layers.0.mlp.fc1.bias", {1, {3}}, SP_SHAPE, "[512]"},
        {"transformers", "text_model.final_layer_norm.weight", {0}, SP_FORMAT, "is missing"},
    };
    const sp_tensor *config = expected("open_clip", "config");
    const char *path = in_folder(state, "wrong.safetensors"), *beside = in_folder(state, "open_clip_config.json");
    assert_ok(sp_write_file(beside, config->data, sp_tensor_bytes(config)));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_clip_file clip;
        save_changed(cases[i].name, cases[i].tensor, cases[i].shape, path);
        if (sp_clip_file_open(path, "gelu", &clip) != cases[i].status) fail_msg("%s", sp_error_message());
        assert_message(cases[i].tensor);
        assert_message(cases[i].message);
        assert_message("wrong.safetensors");
    }
    assert_ok(sp_remove_tree(beside));
}

static void test_wrong_dinos_are_refused(void **state)
{
    const char *path = in_folder(state, "wrong.safetensors");
    sp_dino_file dino;
    save_changed("dino", "blocks.1.ls2.gamma", (sp_shape){0}, path);
    assert_status(sp_dino_file_open(path, &dino), SP_FORMAT);
    assert_message("\"blocks.1.ls2.gamma\" is missing");
    save_changed("dino", "blocks.1.ls2.gamma", sp_shape_of(2), path);
    assert_status(sp_dino_file_open(path, &dino), SP_SHAPE);
    assert_message("expected [64]");
    save_changed("dino", "pos_embed", sp_shape_of(1, 1370, 63), path);
    assert_status(sp_dino_file_open(path, &dino), SP_SHAPE);
    assert_message("\"pos_embed\"");
    sp_weights *weights = weights_of("dino");
    assert_ok(add_named(weights, "register_tokens", sp_shape_of(1, 4, 64)));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    assert_status(sp_dino_file_open(path, &dino), SP_UNSUPPORTED);
    assert_message("registers");
    assert_ok(add_named(weights, "blocks.0.mlp.w12.weight", sp_shape_of(8, 64)));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    assert_status(sp_dino_file_open(path, &dino), SP_UNSUPPORTED);
    assert_message("SwiGLU");
    sp_weights_destroy(weights);
}

static void test_other_files_are_refused(void **state)
{
    static const struct {
        const char *tensor, *message;
    } cases[] = {{"visual.layer1.0.conv1.weight", "a ResNet"},
                 {"visual.trunk.patch_embed.proj.weight", "timm"},
                 {"Mixed_7c.branch1x1.conv.weight", "Inception"},
                 {"something", "another thing"}};
    const char *path = in_folder(state, "other.safetensors"), *folder = in_folder(state, "empty");
    sp_clip_file clip;
    sp_dino_file dino;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_weights *weights;
        assert_ok(sp_weights_create(&weights));
        assert_ok(add_named(weights, cases[i].tensor, sp_shape_of(2, 2)));
        save(weights, path, SP_F32);
        assert_status(sp_clip_file_open(path, NULL, &clip), SP_UNSUPPORTED);
        assert_message(cases[i].message);
        assert_status(sp_dino_file_open(path, &dino), SP_UNSUPPORTED);
    }
    assert_ok(sp_make_folders(folder));
    assert_status(sp_clip_file_open(folder, NULL, &clip), SP_UNSUPPORTED);
    assert_message("an empty folder");
    assert_status(sp_clip_file_open(in_folder(state, "nothing"), NULL, &clip), SP_IO);
}

static void test_configurations_are_checked(void **state)
{
    static const struct {
        const char *text, *message;
        sp_status status;
    } cases[] = {
        {"{\"vision_config\": {\"num_attention_heads\": 2, \"hidden_act\": \"silu\"}}", "\"silu\"", SP_UNSUPPORTED},
        {"{\"vision_config\": {\"num_attention_heads\": 2, \"hidden_act\": 7}}", "hidden_act", SP_FORMAT},
        {"{\"vision_config\": {\"num_attention_heads\": 5}}", "5 heads", SP_FORMAT},
        {"{\"vision_config\": {\"num_attention_heads\": -1}}", "num_attention_heads", SP_FORMAT},
        {"{\"vision_config\": {\"num_attention_heads\": 2}, \"text_config\": {\"num_attention_heads\": 3}}", "3 heads",
         SP_FORMAT},
        {"{\"vision_config\": {\"num_attention_heads\": 2, \"layer_norm_eps\": \"x\"}}", "layer_norm_eps", SP_FORMAT},
        {"{", "line 1", SP_FORMAT},
        {"{\"architectures\": [\"Another\"]}", "`clip_activation`", SP_ARGUMENT},
    };
    const char *folder = write_case(state, "transformers", "model.safetensors", NULL);
    sp_clip_file clip;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_ok(sp_write_file(in(folder, "config.json"), cases[i].text, strlen(cases[i].text)));
        assert_status(sp_clip_file_open(folder, NULL, &clip), cases[i].status);
        assert_message(cases[i].message);
    }
}

/* ---- without memory, and for people ---- */

static sp_status open_clip(void *path)
{
    sp_clip_file clip;
    SP_TRY(sp_clip_file_open(path, NULL, &clip));
    sp_clip_file_free(&clip);
    return SP_OK;
}

static sp_status open_dino(void *path)
{
    sp_dino_file dino;
    SP_TRY(sp_dino_file_open(path, &dino));
    sp_dino_file_free(&dino);
    return SP_OK;
}

static sp_status to_towers(void *image)
{
    float out[3 * SIDE * SIDE];
    for (int i = 0; i < WAYS; i++)
        SP_TRY(sp_image_to_tower(image, ways[i].kind, SIDE, out));
    return SP_OK;
}

static void test_they_starve(void **state)
{
    char path[700];
    snprintf(path, sizeof path, "%s", write_case(state, "open_clip", "open_clip_model.safetensors",
                                                 "open_clip_config.json"));
    assert_true(fail_every_allocation(open_clip, path) > 50);
    snprintf(path, sizeof path, "%s", in(write_case(state, "dino", "model.safetensors", NULL), "model.safetensors"));
    assert_true(fail_every_allocation(open_dino, path) > 50);
    sp_image image = formula_picture(40, 45);
    assert_true(fail_every_allocation(to_towers, &image) > 10);
    sp_image_free(&image);
}

static void test_they_are_inspected(void **state)
{
    const char *folder = write_case(state, "transformers", "model.safetensors", "config.json");
    const char *clip[] = {"as transformers has them", "ViT, width 128, 2 layers: pictures of 42 pixels", "600",
                          "quick_gelu, by config.json", NULL};
    const char *alone[] = {"as OpenAI and open_clip have them", "cannot be split into heads of 64", NULL};
    const char *dino[] = {"DINOv2's weights, as Meta has them", "patches of 14", NULL};
    assert_inspected(folder, clip);
    assert_inspected(in(folder, "model.safetensors"), clip);
    folder = write_case(state, "dino", "dino.safetensors", NULL);
    assert_inspected(in(folder, "dino.safetensors"), dino);
    const char *path = in(folder, "open_clip.safetensors"); /* no configuration beside it */
    save(weights_of("open_clip"), path, SP_F32);
    assert_inspected(path, alone);
}

/* ---- scores ---- */

static double mean_of(const char *part)
{
    const sp_tensor *t = expected("score", part);
    double sum = 0;
    for (int64_t i = 0; i < sp_tensor_count(t); i++)
        sum += ((const double *)t->data)[i] / (double)sp_tensor_count(t);
    return sum;
}

/* Options on three pictures, their captions and a CLIP. */
static splam_score_options score_case(void **state)
{
    static char captions[512], set[512];
    const sp_tensor *text = expected("score", "captions");
    splam_score_options o = splam_score_defaults();
    o.clip = write_case(state, "score", "open_clip_model.safetensors", "open_clip_config.json");
    snprintf(captions, sizeof captions, "%s", in_folder(state, "captions.txt"));
    snprintf(set, sizeof set, "%s", in_folder(state, "pictures"));
    assert_ok(sp_make_folders(set));
    assert_ok(sp_write_file(captions, text->data, sp_tensor_bytes(text)));
    for (int i = 0; i < 3; i++) {
        char name[8];
        sp_image image = formula_picture(sizes[i][0], sizes[i][1]);
        snprintf(name, sizeof name, "%d.png", i);
        assert_ok(sp_image_save_png(&image, in(set, name), NULL, 0));
        sp_image_free(&image);
    }
    o.a = set, o.metrics = "clip", o.captions = captions, o.json = true;
    return o;
}

static void test_clip_score_is_open_clips(void **state)
{
    splam_score_options o = score_case(state);
    double plain = mean_of("cosines"), prefixed = mean_of("prefixed"); /* far apart */
    assert_true(fabs(number_of(&o, "clip_score") - plain) < 1e-6);
    assert_true(fabs(number_of(&o, "clip_score_100") - fmax(100 * plain, 0)) < 1e-4);
    o.clip_prefix = "A photo depicts ";
    assert_true(fabs(number_of(&o, "clip_score") - prefixed) < 1e-6);
    o.bootstrap = 20;
    assert_true(number_of(&o, "clip_score_low") < prefixed);
}

/* What a tower says of pictures of these sizes, [2,width], prepared as `how` says. */
static sp_tensor embeds_of(const sp_vit_config *c, const sp_weights *weights, sp_tower_input how, const int sides[2][2])
{
    sp_runner runner;
    sp_tensor x, out;
    int64_t one = 3 * c->image_size * c->image_size;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(2, 3, c->image_size, c->image_size), &x));
    for (int i = 0; i < 2; i++) {
        sp_image image = formula_picture(sides[i][0], sides[i][1]);
        assert_ok(sp_image_to_tower(&image, how, (int)c->image_size, (float *)x.data + i * one));
        sp_image_free(&image);
    }
    make_run(&sp_vit_network, c, weights, (sp_network_sizes){.batch = 2}, &runner);
    assert_ok(sp_run_set_input(runner.run, "image", &x));
    assert_ok(sp_run_execute(runner.run, NULL));
    assert_ok(sp_run_get_output(runner.run, "image_embeds", &out));
    sp_runner_free(&runner);
    sp_tensor_free(&x);
    return out;
}

static const int two_sets[2][2][2] = {{{40, 45}, {31, 24}}, {{50, 33}, {29, 47}}};

static double frechet_of_rows(const sp_tensor *a, const sp_tensor *b)
{
    const sp_frechet_side x = {.features = a}, y = {.features = b};
    double found;
    assert_ok(sp_frechet_of_sides(&x, &y, &found));
    return found;
}

/* fd and cmmd of folders are the distances of what the networks say of their pictures, prepared as these take them. */
static void test_distances_of_pictures(void **state)
{
    char paths[2][512], name[8];
    splam_score_options o = score_case(state);
    for (int s = 0; s < 2; s++) {
        snprintf(paths[s], sizeof paths[s], "%s", in_folder(state, s ? "real" : "drawn"));
        assert_ok(sp_make_folders(paths[s]));
        for (int i = 0; i < 2; i++) {
            sp_image image = formula_picture(two_sets[s][i][0], two_sets[s][i][1]);
            snprintf(name, sizeof name, "%d.png", i);
            assert_ok(sp_image_save_png(&image, in(paths[s], name), NULL, 0));
            sp_image_free(&image);
        }
    }
    sp_clip_file clip;
    sp_dino_file dino;
    sp_tensor row[2];
    double wanted;
    assert_ok(sp_clip_file_open(o.clip, NULL, &clip));
    for (int s = 0; s < 2; s++)
        row[s] = embeds_of(&clip.image, clip.image_weights, SP_TOWER_INPUT_CMMD, two_sets[s]);
    assert_ok(sp_cmmd(&row[0], &row[1], NULL, &wanted));
    o.a = paths[0], o.b = paths[1], o.captions = NULL, o.metrics = "cmmd";
    assert_true(wanted > 0 && fabs(number_of(&o, "cmmd") / wanted - 1) < 1e-6);
    sp_tensor_free(&row[0]);
    sp_tensor_free(&row[1]);
    o.dino = in(write_case(state, "dino", "model.safetensors", NULL), "model.safetensors");
    assert_ok(sp_dino_file_open(o.dino, &dino));
    for (int s = 0; s < 2; s++)
        row[s] = embeds_of(&dino.config, dino.weights, SP_TOWER_INPUT_DINO, two_sets[s]);
    o.metrics = "fd", o.clip = NULL;
    wanted = frechet_of_rows(&row[0], &row[1]);
    assert_true(wanted > 0 && fabs(number_of(&o, "fd_dino") / wanted - 1) < 1e-5);
    for (int s = 0; s < 2; s++)
        sp_tensor_free(&row[s]);
    sp_clip_file_free(&clip);
    sp_dino_file_free(&dino);
}

static void assert_score_fails(const splam_score_options *o, splam_status status, const char *words)
{
    char *text;
    assert_int_equal(splam_score(o, NULL, &text), status);
    assert_message(words);
}

static void test_captions_are_checked(void **state)
{
    splam_score_options o = score_case(state);
    char kept[512];
    snprintf(kept, sizeof kept, "%s", in_folder(state, "other.txt"));
    o.captions = NULL;
    assert_score_fails(&o, SPLAM_ARGUMENT, "`captions` is missing");
    o.captions = kept;
    assert_score_fails(&o, SPLAM_IO, "other.txt");
    assert_ok(sp_write_file(kept, "a\nb\n", 4));
    assert_score_fails(&o, SPLAM_ARGUMENT, "2 captions");
    assert_ok(sp_write_file(kept, "a\n \nb\n", 6));
    assert_score_fails(&o, SPLAM_FORMAT, "line 2: is blank");
    assert_ok(sp_write_file(kept, "a\nb\xff\nc", 6));
    assert_score_fails(&o, SPLAM_FORMAT, "line 2");
    assert_ok(sp_write_file(kept, "a\nb\nc\nd", 7));
    assert_score_fails(&o, SPLAM_ARGUMENT, "4 captions");
    o.clip = NULL;
    assert_score_fails(&o, SPLAM_ARGUMENT, "`clip` is missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pictures_are_pillows),
        cmocka_unit_test(test_long_pictures),
        cmocka_unit_test(test_last_layer_is_of_one_token),
        cmocka_unit_test(test_clip_is_transformers),
        cmocka_unit_test(test_clip_is_open_clips),
        cmocka_unit_test(test_dino_is_transformers),
        cmocka_unit_test(test_half_precision_is_read),
        cmocka_unit_test(test_activation_is_never_guessed),
        cmocka_unit_test(test_wrong_tensors_are_named),
        cmocka_unit_test(test_wrong_dinos_are_refused),
        cmocka_unit_test(test_other_files_are_refused),
        cmocka_unit_test(test_configurations_are_checked),
        cmocka_unit_test(test_they_starve),
        cmocka_unit_test(test_they_are_inspected),
        cmocka_unit_test(test_clip_score_is_open_clips),
        cmocka_unit_test(test_distances_of_pictures),
        cmocka_unit_test(test_captions_are_checked),
    };
    return cmocka_run_group_tests(tests, open_goldens, close_goldens);
}
