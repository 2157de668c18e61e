/* One adapter under every naming that LoRA files have: the merged weights are the same bits. Folders, PEFT's
 * configuration, and what is refused. */
#include <math.h>
#include "tiny_model.h"
#include "backend/cpu/cpu.h"
#include "base/random.h"
#include "base/text.h"
#include "checkpoints/lora.h"
#include "checkpoints/original.h"

enum { MOST = 800, ALPHA = 4, RANK = 2 }; /* the golden's */

/* ---- the adapter ---- */

/* A layer's halves; the module's name is diffusers' or transformers'. */
typedef struct {
    char module[200];
    sp_tensor down, up;
    bool text;
} layer;

typedef struct {
    layer layers[MOST];
    size_t count;
    sp_tensor_file *file;
    sp_component *unet; /* for its configuration */
} adapter;

static adapter golden_adapter;
static const char *const text_modules[] = {"text_model.encoder.layers.0.self_attn.q_proj",
                                           "text_model.encoder.layers.1.self_attn.out_proj"};
enum { WIDTH = 24 };

static sp_tensor normal(sp_shape shape, uint64_t sample)
{
    sp_tensor tensor;
    assert_ok(sp_tensor_create(SP_F32, shape, &tensor));
    sp_random_normal((sp_random_key){.seed = 4, .sample = sample}, tensor.data, (size_t)sp_tensor_count(&tensor));
    return tensor;
}

static int load_adapter(void **state)
{
    static const char down_end[] = ".lora_A.weight", prefix[] = "unet.";
    adapter *a = &golden_adapter;
    (void)state;
    *a = (adapter){.count = 0};
    assert_ok(sp_component_open(golden("teacher-epsilon"), "unet", &a->unet));
    assert_ok(sp_tensor_file_open(golden("distill-lora/start.safetensors"), &a->file));
    for (size_t i = 0; i < sp_tensor_file_count(a->file); i++) {
        const char *name = sp_tensor_file_name(a->file, i);
        char up[256];
        if (!sp_starts_with(name, prefix) || !sp_ends_with(name, down_end)) continue;
        layer *l = &a->layers[a->count++];
        int length = (int)(strlen(name) - strlen(down_end) - strlen(prefix));
        snprintf(l->module, sizeof l->module, "%.*s", length, name + strlen(prefix));
        snprintf(up, sizeof up, "%s%s.lora_B.weight", prefix, l->module);
        const sp_tensor *b = sp_tensor_file_find(a->file, up);
        l->down = *sp_tensor_file_at(a->file, i);
        l->down.owned = false;
        l->up = normal(b->shape, i); /* training begins with zeros there */
    }
    assert_true(a->count > 100);
    for (size_t i = 0; i < 2; i++) {
        layer *l = &a->layers[a->count++];
        snprintf(l->module, sizeof l->module, "%s", text_modules[i]);
        l->text = true;
        l->down = normal(sp_shape_of(RANK, WIDTH), 1000 + i);
        l->up = normal(sp_shape_of(WIDTH, RANK), 2000 + i);
    }
    return 0;
}

static int free_adapter(void **state)
{
    (void)state;
    for (size_t i = 0; i < golden_adapter.count; i++) {
        sp_tensor_free(&golden_adapter.layers[i].down);
        sp_tensor_free(&golden_adapter.layers[i].up);
    }
    sp_tensor_file_close(golden_adapter.file);
    sp_component_close(golden_adapter.unet);
    return 0;
}

/* ---- its namings ---- */

typedef struct {
    const char *title, *unet, *text; /* prefixes */
    const char *down, *up;           /* ends; alpha's is .alpha */
    bool underscores, original, alpha;
    /* of to_q, to_k, to_v and to_out, behind "processor."; NULL: as others */
    const char *attention_down, *attention_up;
    const char *text_down, *text_up;           /* NULL: as others */
    bool text_processor;                       /* to_q_lora for q_proj */
    double weight;                             /* that gives alpha/r of 2 */
    const char *metadata;
} naming;

static const naming namings[] = {
    {.title = "diffusers", .unet = "unet.", .text = "text_encoder.", .down = ".lora_A.weight", .up = ".lora_B.weight",
     .weight = 1, .metadata = "{\"unet.r\": 2, \"unet.lora_alpha\": 4.0, \"text_encoder.lora_alpha\": 4}"},
    {.title = "kohya", .unet = "lora_unet_", .text = "lora_te_", .down = ".lora_down.weight", .up = ".lora_up.weight",
     .underscores = true, .alpha = true, .weight = 1},
    {.title = "kohya, original names", .unet = "lora_unet_", .text = "lora_te1_", .down = ".lora_down.weight",
     .up = ".lora_up.weight", .underscores = true, .original = true, .alpha = true, .weight = 1},
    {.title = "lycoris", .unet = "lycoris_", .text = "lycoris_", .down = ".lora_down.weight", .up = ".lora_up.weight",
     .underscores = true, .alpha = true, .weight = 1},
    {.title = "attention processors", .unet = "unet.", .text = "text_encoder.", .down = ".lora.down.weight",
     .up = ".lora.up.weight", .attention_down = "_lora.down.weight", .attention_up = "_lora.up.weight",
     .text_down = ".lora_linear_layer.down.weight", .text_up = ".lora_linear_layer.up.weight", .weight = 2},
    {.title = "attention processors without prefixes", .unet = "", .text = "", .down = ".lora.down.weight",
     .up = ".lora.up.weight", .attention_down = "_lora.down.weight", .attention_up = "_lora.up.weight",
     .text_down = "_lora.down.weight", .text_up = "_lora.up.weight", .text_processor = true, .weight = 2},
    {.title = "PEFT", .unet = "base_model.model.", .text = "base_model.model.", .down = ".lora_A.weight",
     .up = ".lora_B.weight", .weight = 2},
    {.title = "PEFT with the adapter's name", .unet = "base_model.model.unet.",
     .text = "base_model.model.text_encoder.", .down = ".lora_A.default.weight", .up = ".lora_B.default.weight",
     .weight = 2},
    {.title = "ComfyUI", .unet = "diffusion_model.", .text = "text_encoders.clip_l.transformer.",
     .down = ".lora_down.weight", .up = ".lora_up.weight", .original = true, .alpha = true, .weight = 1},
    {.title = "ComfyUI, PEFT's halves", .unet = "model.diffusion_model.", .text = "text_encoders.clip_l.transformer.",
     .down = ".lora_A.weight", .up = ".lora_B.weight", .original = true, .weight = 2},
};
enum { NAMINGS = sizeof namings / sizeof *namings };

static void replace(char *text, size_t size, const char *from, const char *to)
{
    char copy[512];
    char *at = strstr(text, from);
    if (!at) return;
    snprintf(copy, sizeof copy, "%s", at + strlen(from));
    snprintf(at, size - (size_t)(at - text), "%s%s", to, copy);
}

static bool is_attention(const char *module)
{
    return strstr(module, ".to_q") || strstr(module, ".to_k") || strstr(module, ".to_v") ||
           strstr(module, ".to_out.0");
}

/* The adapter's name without its ends. */
static void base_name(const naming *n, const layer *l, char *out, size_t size)
{
    char module[512];
    snprintf(module, sizeof module, "%s", l->module);
    if (n->original && !l->text) {
        char weight[256];
        snprintf(weight, sizeof weight, "%s.weight", l->module);
        assert_true(sp_original_name(&golden_adapter.unet->config, false, weight, module, sizeof module));
        module[strlen(module) - strlen(".weight")] = 0;
        replace(module, sizeof module, "model.diffusion_model.", "");
    }
    if (n->attention_down && !l->text && is_attention(module)) {
        replace(module, sizeof module, ".to_out.0", ".to_out");
        replace(module, sizeof module, ".to_", ".processor.to_");
    }
    if (n->text_processor && l->text) {
        replace(module, sizeof module, "q_proj", "to_q");
        replace(module, sizeof module, "out_proj", "to_out");
    }
    for (char *p = module; n->underscores && *p; p++)
        if (*p == '.') *p = '_';
    snprintf(out, size, "%s%s", l->text ? n->text : n->unet, module);
}

static void write_naming(const naming *n, const char *path)
{
    static sp_named_tensor named[3 * MOST];
    static char names[3 * MOST][512];
    static const float alpha_value = ALPHA;
    const sp_tensor alpha = {.dtype = SP_F32, .data = (void *)(uintptr_t)&alpha_value};
    size_t count = 0;
    for (size_t i = 0; i < golden_adapter.count; i++) {
        const layer *l = &golden_adapter.layers[i];
        char base[480];
        base_name(n, l, base, sizeof base);
        const char *down = n->down, *up = n->up;
        if (n->attention_down && !l->text && is_attention(l->module)) down = n->attention_down, up = n->attention_up;
        if (n->text_down && l->text) down = n->text_down, up = n->text_up;
        snprintf(names[count], sizeof names[0], "%s%s", base, down);
        named[count] = (sp_named_tensor){names[count], &l->down};
        count++;
        snprintf(names[count], sizeof names[0], "%s%s", base, up);
        named[count] = (sp_named_tensor){names[count], &l->up};
        count++;
        if (!n->alpha) continue;
        snprintf(names[count], sizeof names[0], "%s.alpha", base);
        named[count] = (sp_named_tensor){names[count], &alpha};
        count++;
    }
    const char *const metadata[][2] = {{"lora_adapter_metadata", n->metadata}};
    assert_ok(sp_safetensors_save(path, named, count, metadata, n->metadata ? 1 : 0));
}

/* ---- merging ---- */

typedef struct {
    uint64_t unet, text;
    size_t count;
} merged;

static const char *text_model(void **state)
{
    static char folder[512];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "text"));
    if (!sp_path_exists(folder)) make_text_encoder(folder, 300, WIDTH);
    return folder;
}

/* Of the weights as they are used. */
static uint64_t hash_of(const sp_component *component)
{
    sp_weights *made;
    assert_ok(sp_weights_copy(component->weights, SP_F32, &made));
    uint64_t hash = sp_component_hash(&(sp_component){.weights = made});
    sp_weights_destroy(made);
    return hash;
}

static merged merge(void **state, const char *path, double weight)
{
    merged m = {0};
    sp_component *unet, *text;
    sp_lora *lora;
    assert_ok(sp_component_open(golden("teacher-epsilon"), "unet", &unet));
    assert_ok(sp_component_open(text_model(state), "text_encoder", &text));
    assert_ok(sp_lora_open(path, &lora));
    m.count = sp_lora_count(lora, SP_COMPONENT_UNET) + sp_lora_count(lora, SP_COMPONENT_TEXT_ENCODER);
    assert_ok(sp_lora_merge(lora, weight, sp_cpu_device(), unet, true));
    assert_ok(sp_lora_merge(lora, weight, sp_cpu_device(), text, true));
    sp_lora_close(lora); /* the weights hold it */
    m.unet = hash_of(unet);
    m.text = hash_of(text);
    sp_component_close(unet);
    sp_component_close(text);
    return m;
}

static void namings_give_the_same_bits(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "lora.safetensors"));
    merged expected = {0};
    for (size_t i = 0; i < NAMINGS; i++) {
        write_naming(&namings[i], path);
        merged m = merge(state, path, namings[i].weight);
        if (!i) expected = m;
        if (m.unet != expected.unet || m.text != expected.text) fail_msg("\"%s\" is another adapter", namings[i].title);
        assert_int_equal(m.count, golden_adapter.count);
    }
    merged none = merge(state, path, 0);
    assert_true(none.unet != expected.unet && none.text != expected.text);
}

static const naming *naming_of(const char *title)
{
    for (size_t i = 0; i < NAMINGS; i++)
        if (strcmp(namings[i].title, title) == 0) return &namings[i];
    fail_msg("no naming \"%s\"", title);
    return NULL;
}

/* ---- PEFT's configuration ---- */

static void peft_configuration_says_alpha(void **state)
{
    char path[512], config[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "adapter_model.safetensors"));
    snprintf(config, sizeof config, "%s", in_folder(state, "adapter_config.json"));
    write_naming(&namings[0], path);
    merged expected = merge(state, path, 1);
    write_naming(naming_of("PEFT"), path);
    write_text(config,
               "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"use_dora\": false, \"bias\": \"none\"}");
    merged m = merge(state, path, 1);
    assert_true(m.unet == expected.unet && m.text == expected.text);
    /* everything has alpha 8, but the text encoder's two, one by its whole name */
    write_text(config, "{\"lora_alpha\": 8, \"alpha_pattern\": {\"layers.0.self_attn.q_proj\": 4, "
                       "\"^text_model.encoder.layers.1.self_attn.out_proj\": 4, \"^self_attn.out_proj\": 9}}");
    m = merge(state, path, 1);
    assert_true(m.unet != expected.unet && m.text == expected.text);
    m = merge(state, path, 0.5);
    assert_true(m.unet == expected.unet && m.text != expected.text);
    static const struct {
        const char *text;
        sp_status status;
        const char *words;
    } wrong[] = {
        {"{", SP_FORMAT, "adapter_config.json: line 1"},
        {"{\"peft_type\": \"LOHA\"}", SP_UNSUPPORTED, "\"peft_type\" is \"LOHA\", and only LORA is supported"},
        {"{\"peft_type\": 7}", SP_FORMAT, "peft_type"},
        {"{\"use_dora\": true}", SP_FORMAT, "\"use_dora\", and \"base_model.model."},
        {"{\"lora_alpha\": 4, \"alpha_pattern\": {\"layers.*.q_proj\": 1}}", SP_UNSUPPORTED, "layers.*.q_proj"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sp_lora *lora;
        write_text(config, wrong[i].text);
        assert_status(sp_lora_open(path, &lora), wrong[i].status);
        assert_message(wrong[i].words);
    }
}

/* ---- folders ---- */

static void folders_have_one_file(void **state)
{
    char folder[512];
    sp_lora *lora;
    snprintf(folder, sizeof folder, "%s", in_folder(state, "lora"));
    assert_ok(sp_make_folders(folder));
    assert_status(sp_lora_open(folder, &lora), SP_IO);
    assert_message("lora: is a folder with no LoRA, expected pytorch_lora_weights.safetensors, "
                   "adapter_model.safetensors or one .safetensors; there is nothing");
    write_text(in_folder(state, "lora/README.md"), "style");
    assert_status(sp_lora_open(folder, &lora), SP_IO);
    assert_message("there is README.md");
    write_naming(&namings[1], in_folder(state, "lora/b.safetensors"));
    merged expected = merge(state, in_folder(state, "lora/b.safetensors"), 1), m = merge(state, folder, 1);
    assert_true(m.unet == expected.unet);
    write_text(in_folder(state, "lora/a.safetensors"), "not one");
    assert_status(sp_lora_open(folder, &lora), SP_IO);
    assert_message("is a folder with several .safetensors");
    assert_message("there are a.safetensors, b.safetensors");
    write_naming(&namings[0], in_folder(state, "lora/adapter_model.safetensors"));
    m = merge(state, folder, 1);
    assert_true(m.unet == expected.unet);
    write_naming(&namings[0], in_folder(state, "lora/pytorch_lora_weights.safetensors"));
    m = merge(state, folder, 0.5);
    assert_true(m.unet != expected.unet);
}

/* ---- what is refused ---- */

typedef struct {
    const char *names[4]; /* each a [2,24], or [32,2] where "up" or "lora_B" is in it */
    sp_status status;
    const char *words;
} wrong_file;

#define MID "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
#define MID_KOHYA "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"

static const wrong_file wrong_files[] = {
    {{"unet." MID ".lora_A.weight", "unet." MID ".lora_B.weight", MID_KOHYA ".lora_down.weight",
      MID_KOHYA ".lora_up.weight"},
     SP_FORMAT,
     "\"unet." MID "\" and \"" MID_KOHYA "\" are both for the unet's \"" MID ".weight\""},
    {{"unet." MID ".lora_A.weight", "unet." MID ".lora_B.weight", "unet.no.such.lora_A.weight",
      "unet.no.such.lora_B.weight"},
     SP_FORMAT,
     "1 of 2 adapters for the unet are for layers that the one in"},
    {{"lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_down.weight",
      "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_up.weight"},
     SP_FORMAT,
     "a name of Stable Diffusion XL"},
    {{"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight",
      "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight"},
     SP_FORMAT,
     "a name of Flux"},
    {{MID_KOHYA ".lora_down.weight", MID_KOHYA ".lora_up.weight", MID_KOHYA ".dora_scale"}, SP_SHAPE,
     "dora_scale [2,24], and the model's"},
    {{MID_KOHYA ".lora_down.weight", MID_KOHYA ".lora_up.weight", MID_KOHYA ".lora_mid.weight"},
     SP_SHAPE,
     "between them [2,24], which do not go together"},
    {{MID_KOHYA ".a1.weight"}, SP_UNSUPPORTED, "GLoRA"},
    {{"base_model.model." MID ".lora_B.default.bias"}, SP_UNSUPPORTED, "biases"},
    {{"base_model.model.conv_in.modules_to_save.default.weight"}, SP_UNSUPPORTED, "trained whole"},
    {{"base_model.model.roberta.encoder.layer.0.query.lora_A.weight"}, SP_FORMAT, "is not of a LoRA"},
    {{"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"}, SP_UNSUPPORTED, "of Flux"},
    {{"diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight"}, SP_FORMAT, "has no up half"},
    {{"text_encoders.clip_g.transformer.text_model.x.lora_up.weight"}, SP_FORMAT, "has no down half"},
    {{".lora_A.weight"}, SP_FORMAT, "is not of a LoRA"},
    {{"unet..lora_A.weight", "unet.lora_A.weight"}, SP_FORMAT, "is not of a LoRA"},
    {{"unet._lora.down.weight"}, SP_FORMAT, "is not of a LoRA"},
};

static void wrong_files_are_refused(void **state)
{
    static float values[2 * 32];
    for (size_t i = 0; i < sizeof wrong_files / sizeof *wrong_files; i++) {
        const wrong_file *w = &wrong_files[i];
        sp_named_tensor named[4];
        sp_tensor tensors[4];
        size_t count = 0;
        for (; count < 4 && w->names[count]; count++) {
            bool up = strstr(w->names[count], "up") || strstr(w->names[count], "lora_B");
            tensors[count] = (sp_tensor){
                .dtype = SP_F32, .shape = up ? sp_shape_of(32, 2) : sp_shape_of(2, 24), .data = values};
            named[count] = (sp_named_tensor){w->names[count], &tensors[count]};
        }
        const char *path = in_folder(state, "wrong.safetensors");
        assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
        sp_lora *lora;
        sp_component *unet;
        assert_ok(sp_component_open(golden("teacher-epsilon"), "unet", &unet));
        sp_status status = sp_lora_open(path, &lora);
        if (!status) {
            status = sp_lora_merge(lora, 1, sp_cpu_device(), unet, true);
            sp_lora_close(lora);
        }
        sp_component_close(unet);
        if (status != w->status) fail_msg("%s: \"%s\": %s", w->names[0], sp_status_text(status), sp_error_message());
        assert_message(w->words);
    }
}

/* Names as long as a file's header may have them. */
static void long_names_are_refused(void **state)
{
    static float values[2 * 24];
    static char name[2000];
    const sp_tensor tensor = {.dtype = SP_F32, .shape = sp_shape_of(2, 24), .data = values};
    for (size_t length = 480; length < 540; length++) {
        memset(name, 'x', length);
        memcpy(name, "unet.", 5);
        snprintf(name + length, sizeof name - length, "_to_out_lora.down.weight");
        const sp_named_tensor named = {name, &tensor};
        assert_ok(sp_safetensors_save(in_folder(state, "long.safetensors"), &named, 1, NULL, 0));
        sp_lora *lora;
        assert_status(sp_lora_open(in_folder(state, "long.safetensors"), &lora), SP_FORMAT);
    }
}

static sp_status open_lora(void *path)
{
    sp_lora *lora;
    SP_TRY(sp_lora_open(path, &lora));
    sp_lora_close(lora);
    return SP_OK;
}

static void allocations_fail(void **state)
{
    float value = 1;
    const sp_tensor one = {.dtype = SP_F32, .shape = sp_shape_of(1, 1), .data = &value};
    const sp_named_tensor named[] = {{"base_model.model." MID ".lora_A.weight", &one},
                                     {"base_model.model." MID ".lora_B.weight", &one}};
    assert_ok(sp_make_folders(in_folder(state, "few")));
    assert_ok(sp_safetensors_save(in_folder(state, "few/one.safetensors"), named, 2, NULL, 0));
    write_text(in_folder(state, "few/adapter_config.json"), "{\"lora_alpha\": 4, \"alpha_pattern\": {\"to_k\": 4}}");
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "few"));
    assert_true(fail_every_allocation(open_lora, path) > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(namings_give_the_same_bits, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(peft_configuration_says_alpha, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(folders_have_one_file, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(wrong_files_are_refused, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(long_names_are_refused, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(allocations_fail, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, load_adapter, free_adapter);
}
