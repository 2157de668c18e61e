/* Adapters of all kinds against LyCORIS and PEFT; Stable Diffusion XL's layers under the names of each spelling. */
#include <math.h>
#include "support.h"
#include "backend/cpu/cpu.h"
#include "checkpoints/lora.h"
#include "checkpoints/original.h"

/* ---- goldens ---- */

/* The weights of a golden, as a component whose layers have these names. */
static sp_component component_of(const sp_tensor_file *file, sp_component_kind kind)
{
    sp_component c = {.place = kind, .config = {.kind = kind}};
    static char here[] = "here";
    c.folder = here;
    assert_ok(sp_weights_create(&c.weights));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        sp_tensor view = *sp_tensor_file_at(file, i);
        view.owned = false;
        if (strncmp(name, "lora_te_", 8) == 0 || strstr(name, "changed")) continue;
        assert_ok(sp_weights_add(c.weights, name, view));
    }
    return c;
}

/* Every number that the golden has is weight + multiplier (changed - weight); how many tensors there were. */
static int check_changed(const sp_tensor_file *file, const sp_weights *weights, double multiplier)
{
    int count = 0;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i), *end = strstr(name, ".bias_changed"), *as = ".bias";
        if (!end) end = strstr(name, ".changed"), as = ".weight";
        if (!end) continue;
        char weight[128];
        snprintf(weight, sizeof weight, "%.*s%s", (int)(end - name), name, as);
        const sp_tensor *want = sp_tensor_file_at(file, i), *before = sp_tensor_file_find(file, weight);
        sp_tensor found;
        assert_ok(sp_weights_take(weights, weight, &found));
        assert_true(sp_shape_equal(found.shape, want->shape));
        double largest = 0, moved = 0;
        for (int64_t k = 0; k < sp_tensor_count(want); k++)
            largest = fmax(largest, fabs(sp_load(want->data, SP_F32, k)));
        for (int64_t k = 0; k < sp_tensor_count(want); k++) {
            double b = sp_load(before->data, SP_F32, k), w = b + multiplier * (sp_load(want->data, SP_F32, k) - b);
            /* f32: sums of a few terms of at most this size, each rounded */
            if (fabs(sp_load(found.data, SP_F32, k) - w) > 1e-6 * fmax(largest, 1))
                fail_msg("%s [%lld]: %g, expected %g", weight, (long long)k, sp_load(found.data, SP_F32, k), w);
            moved = fmax(moved, fabs(w - b));
        }
        assert_true(multiplier == 0 ? moved == 0 : moved > 0.1 * multiplier);
        sp_tensor_free(&found);
        count++;
    }
    return count;
}

/* The adapters alone, as a file of their own. */
static void write_adapters(const sp_tensor_file *file, const char *path)
{
    static sp_named_tensor named[200];
    size_t count = 0;
    for (size_t i = 0; i < sp_tensor_file_count(file); i++)
        if (strncmp(sp_tensor_file_name(file, i), "lora_te_", 8) == 0)
            named[count++] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
    assert_in_range(count, 60, 200);
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
}

static void kinds_are_lycoris(void **state)
{
    sp_tensor_file *file;
    sp_lora *lora;
    assert_ok(sp_tensor_file_open(golden_file("lycoris", "lycoris.safetensors"), &file));
    write_adapters(file, in_folder(state, "kinds.safetensors"));
    static const double multipliers[] = {1, 0.7, 0};
    for (size_t i = 0; i < sizeof multipliers / sizeof *multipliers; i++) {
        sp_component c = component_of(file, SP_COMPONENT_TEXT_ENCODER);
        assert_ok(sp_lora_open(in_folder(state, "kinds.safetensors"), &lora));
        assert_int_equal(sp_lora_count(lora, SP_COMPONENT_TEXT_ENCODER), 22);
        assert_ok(sp_lora_merge(lora, multipliers[i], sp_cpu_device(), &c, true));
        sp_lora_close(lora);
        assert_int_equal(check_changed(file, c.weights, multipliers[i]), 24);
        sp_weights_destroy(c.weights);
    }
    sp_tensor_file_close(file);
}

static void magnitudes_and_root_scales_are_peft(void **state)
{
    (void)state;
    sp_tensor_file *file;
    sp_lora *lora;
    assert_ok(sp_tensor_file_open(golden_file("lycoris", "peft.safetensors"), &file));
    sp_component c = component_of(file, SP_COMPONENT_UNET);
    assert_ok(sp_lora_open(golden_file("lycoris", "peft"), &lora));
    assert_ok(sp_lora_merge(lora, 1, sp_cpu_device(), &c, true));
    sp_lora_close(lora);
    assert_int_equal(check_changed(file, c.weights, 1), 2);
    sp_weights_destroy(c.weights);
    sp_tensor_file_close(file);
}

/* In turn: each change is of what the one before left. */
static void two_files_follow_each_other(void **state)
{
    sp_tensor_file *file;
    sp_lora *lora;
    assert_ok(sp_tensor_file_open(golden_file("lycoris", "lycoris.safetensors"), &file));
    write_adapters(file, in_folder(state, "kinds.safetensors"));
    assert_ok(sp_lora_open(in_folder(state, "kinds.safetensors"), &lora));
    sp_component c = component_of(file, SP_COMPONENT_TEXT_ENCODER);
    for (int i = 0; i < 2; i++)
        assert_ok(sp_lora_merge(lora, i ? 0.5 : 1, sp_cpu_device(), &c, true));
    sp_lora_close(lora);
    sp_tensor found;
    assert_ok(sp_weights_take(c.weights, "full.weight", &found));
    const sp_tensor *before = sp_tensor_file_find(file, "full.weight"),
                    *diff = sp_tensor_file_find(file, "lora_te_full.diff");
    for (int64_t i = 0; i < sp_tensor_count(&found); i++)
        assert_true(fabs(sp_load(found.data, SP_F32, i) - sp_load(before->data, SP_F32, i) -
                         1.5 * sp_load(diff->data, SP_F32, i)) < 1e-5);
    sp_tensor_free(&found);
    sp_weights_destroy(c.weights);
    sp_tensor_file_close(file);
}

/* ---- what is refused ---- */

typedef struct {
    const char *name;
    sp_shape shape;
} part;
typedef struct {
    part parts[6];
    sp_status status;
    const char *words;
} wrong_file;

#define M(...) sp_shape_of(__VA_ARGS__)
static void wrong_files_are_refused(void **state)
{
    static float values[4096];
    /* the layer is "x", [12,8,3,3] with a bias of 12 */
    const wrong_file files[] = {
        {{{"hada_w1_a", M(12, 2)}, {"hada_w1_b", M(2, 72)}, {"hada_w2_a", M(12, 2)}}, SP_FORMAT, "no hada_w2_b"},
        {{{"hada_w1_a", M(12, 2)}, {"hada_w1_b", M(3, 72)}, {"hada_w2_a", M(12, 2)}, {"hada_w2_b", M(2, 72)}},
         SP_SHAPE,
         "the factors [12,2] and [3,72], which do not go together"},
        {{{"hada_w1_a", M(12, 2)}, {"hada_w1_b", M(2, 72)}, {"hada_w2_a", M(11, 2)}, {"hada_w2_b", M(2, 72)}},
         SP_SHAPE,
         "hada_w2_a [11,2]"},
        {{{"hada_w1_a", M(2, 12)},
          {"hada_w1_b", M(2, 8)},
          {"hada_w2_a", M(2, 12)},
          {"hada_w2_b", M(2, 8)},
          {"hada_t1", M(2, 2, 3, 3)}},
         SP_FORMAT,
         "no hada_t2"},
        {{{"hada_w1_a", M(2, 12)},
          {"hada_w1_b", M(2, 8)},
          {"hada_w2_a", M(2, 12)},
          {"hada_w2_b", M(2, 8)},
          {"hada_t1", M(2, 2, 3, 3)},
          {"hada_t2", M(2, 2, 3, 1)}},
         SP_SHAPE,
         "hada_t2 [2,2,3,1]"},
        {{{"lokr_w1", M(5, 2)}, {"lokr_w2", M(4, 4, 3, 3)}}, SP_SHAPE, "lokr_w1 [5,2]"},
        {{{"lokr_w1", M(3, 2)}, {"lokr_w2", M(4, 3, 3, 3)}}, SP_SHAPE, "lokr_w2 [4,3,3,3]"},
        {{{"lokr_w1", M(3, 2)}, {"lokr_w1_a", M(3, 2)}, {"lokr_w1_b", M(2, 2)}, {"lokr_w2", M(4, 4, 3, 3)}},
         SP_FORMAT,
         "both lokr_w1 and its factors"},
        {{{"lokr_w1", M(0, 2)}, {"lokr_w2", M(4, 4, 3, 3)}}, SP_SHAPE, "lokr_w1 [0,2]"},
        {{{"lokr_w1", M(3, 2)}, {"lokr_w2", M(4, 4, 3, 3)}, {"lokr_t2", M(2, 2, 3, 3)}}, SP_FORMAT, "no lokr_w2_a"},
        {{{"lora_down.weight", M(2, 8, 1, 1)}, {"lora_up.weight", M(12, 2, 1, 1)}, {"lora_mid.weight", M(2, 3, 3, 3)}},
         SP_SHAPE,
         "between them [2,3,3,3]"},
        {{{"lora_down.weight", M(2, 8, 1, 1)}, {"lora_up.weight", M(12, 2, 1, 1)}, {"lora_mid.weight", M(2, 2, 5, 5)}},
         SP_SHAPE,
         "lora_mid [2,2,5,5]"},
        {{{"lora_down.weight", M(2, 8, 3, 3)}, {"lora_up.weight", M(12, 2)}, {"lokr_w1", M(3, 2)}},
         SP_FORMAT,
         "of a LoRA and a LoKr"},
        {{{"lora_down.weight", M(2, 8, 3, 3)}, {"lora_up.weight", M(12, 2)}, {"dora_scale", M(11, 1, 1, 1)}},
         SP_SHAPE,
         "dora_scale [11,1,1,1]"},
        {{{"lora_down.weight", M(2, 8, 3, 3)},
          {"lora_up.weight", M(12, 2)},
          {"dora_scale", M(12, 1, 1, 1)},
          {"lora_magnitude_vector", M(12)}},
         SP_FORMAT,
         "both a dora_scale and"},
        {{{"diff", M(12, 8, 3, 2)}}, SP_SHAPE, "diff [12,8,3,2]"},
        {{{"diff", M(12, 8, 3, 3)}, {"dora_scale", M(12, 1, 1, 1)}}, SP_FORMAT, "a magnitude and no factors"},
        {{{"diff_b", M(11)}}, SP_SHAPE, "a diff_b [11]"},
        {{{"dora_scale", M(12, 1, 1, 1)}}, SP_FORMAT, "no down half"},
        {{{"set_weight", M(12, 8, 3, 3)}}, SP_UNSUPPORTED, "a replacement"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        sp_named_tensor named[6];
        sp_tensor tensors[6];
        char names[6][80];
        size_t count = 0;
        for (; count < 6 && files[i].parts[count].name; count++) {
            snprintf(names[count], sizeof names[0], "lora_te_x.%s", files[i].parts[count].name);
            tensors[count] = (sp_tensor){.dtype = SP_F32, .shape = files[i].parts[count].shape, .data = values};
            named[count] = (sp_named_tensor){names[count], &tensors[count]};
        }
        const char *path = in_folder(state, "wrong.safetensors");
        assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
        sp_component c = {.place = SP_COMPONENT_TEXT_ENCODER, .config = {.kind = SP_COMPONENT_TEXT_ENCODER}};
        sp_tensor weight, bias;
        sp_lora *lora;
        assert_ok(sp_weights_create(&c.weights));
        assert_ok(sp_tensor_create(SP_F32, M(12, 8, 3, 3), &weight));
        assert_ok(sp_tensor_create(SP_F32, M(12), &bias));
        assert_ok(sp_weights_add(c.weights, "x.weight", weight));
        assert_ok(sp_weights_add(c.weights, "x.bias", bias));
        sp_status status = sp_lora_open(path, &lora);
        if (!status) {
            status = sp_lora_merge(lora, 1, sp_cpu_device(), &c, true);
            sp_lora_close(lora);
        }
        if (status != files[i].status)
            fail_msg("%s: \"%s\": %s", names[0], sp_status_text(status), sp_error_message());
        assert_message(files[i].words);
        sp_weights_destroy(c.weights);
    }
}

static sp_status open_and_use(void *context)
{
    const sp_tensor_file *file = ((void **)context)[0];
    const char *path = ((void **)context)[1];
    sp_component c = {.place = SP_COMPONENT_TEXT_ENCODER, .config = {.kind = SP_COMPONENT_TEXT_ENCODER}};
    sp_lora *lora;
    SP_TRY(sp_weights_create(&c.weights));
    sp_status status = SP_OK;
    for (size_t i = 0; i < sp_tensor_file_count(file) && !status; i++) {
        const char *name = sp_tensor_file_name(file, i);
        sp_tensor view = *sp_tensor_file_at(file, i);
        view.owned = false;
        if (strncmp(name, "lora_te_", 8) && !strstr(name, "changed")) status = sp_weights_add(c.weights, name, view);
    }
    if (!status) status = sp_lora_open(path, &lora);
    if (!status) {
        status = sp_lora_merge(lora, 1, sp_cpu_device(), &c, false);
        sp_lora_close(lora);
    }
    static const char *const used[] = {"dora_tucker.weight", "loha_tucker.weight", "lokr_tucker.weight", "full.bias"};
    for (size_t i = 0; i < sizeof used / sizeof *used && !status; i++) {
        sp_tensor taken;
        status = sp_weights_take(c.weights, used[i], &taken);
        sp_tensor_free(&taken);
    }
    sp_weights_destroy(c.weights);
    return status;
}

static void allocations_fail(void **state)
{
    sp_tensor_file *file;
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "kinds.safetensors"));
    assert_ok(sp_tensor_file_open(golden_file("lycoris", "lycoris.safetensors"), &file));
    write_adapters(file, path);
    void *context[] = {file, path};
    assert_true(fail_every_allocation(open_and_use, context) > 300);
    sp_tensor_file_close(file);
}

/* ---- Stable Diffusion XL's layers ---- */

/* Three levels of two layers; attention at the lower two, of 2 and 10 transformer blocks. */
static const sp_unet_config sdxl = {.levels = 3,
                                    .channels = {320, 640, 1280},
                                    .layers = {2, 2, 2},
                                    .down_attention = {false, true, true},
                                    .up_attention = {false, true, true}};

typedef struct {
    const char *own, *original;
    int blocks;    /* of a transformer; 0: a resnet; -1: a convolution */
    bool shortcut; /* of a resnet */
} place;
static const place places[] = {
    {"down_blocks.0.resnets.0", "input_blocks.1.0", 0, false},
    {"down_blocks.0.resnets.1", "input_blocks.2.0", 0, false},
    {"down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op", -1, false},
    {"down_blocks.1.resnets.0", "input_blocks.4.0", 0, true},
    {"down_blocks.1.attentions.0", "input_blocks.4.1", 2, false},
    {"down_blocks.1.resnets.1", "input_blocks.5.0", 0, false},
    {"down_blocks.1.attentions.1", "input_blocks.5.1", 2, false},
    {"down_blocks.1.downsamplers.0.conv", "input_blocks.6.0.op", -1, false},
    {"down_blocks.2.resnets.0", "input_blocks.7.0", 0, true},
    {"down_blocks.2.attentions.0", "input_blocks.7.1", 10, false},
    {"down_blocks.2.resnets.1", "input_blocks.8.0", 0, false},
    {"down_blocks.2.attentions.1", "input_blocks.8.1", 10, false},
    {"mid_block.resnets.0", "middle_block.0", 0, false},
    {"mid_block.attentions.0", "middle_block.1", 10, false},
    {"mid_block.resnets.1", "middle_block.2", 0, false},
    {"up_blocks.0.resnets.0", "output_blocks.0.0", 0, true},
    {"up_blocks.0.attentions.0", "output_blocks.0.1", 10, false},
    {"up_blocks.0.resnets.1", "output_blocks.1.0", 0, true},
    {"up_blocks.0.attentions.1", "output_blocks.1.1", 10, false},
    {"up_blocks.0.resnets.2", "output_blocks.2.0", 0, true},
    {"up_blocks.0.attentions.2", "output_blocks.2.1", 10, false},
    {"up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv", -1, false},
    {"up_blocks.1.resnets.0", "output_blocks.3.0", 0, true},
    {"up_blocks.1.attentions.0", "output_blocks.3.1", 2, false},
    {"up_blocks.1.resnets.1", "output_blocks.4.0", 0, true},
    {"up_blocks.1.attentions.1", "output_blocks.4.1", 2, false},
    {"up_blocks.1.resnets.2", "output_blocks.5.0", 0, true},
    {"up_blocks.1.attentions.2", "output_blocks.5.1", 2, false},
    {"up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv", -1, false},
    {"up_blocks.2.resnets.0", "output_blocks.6.0", 0, true},
    {"up_blocks.2.resnets.1", "output_blocks.7.0", 0, true},
    {"up_blocks.2.resnets.2", "output_blocks.8.0", 0, true},
};
static const char *const outside[][2] = {{"conv_in", "input_blocks.0.0"},
                                         {"conv_out", "out.2"},
                                         {"time_embedding.linear_1", "time_embed.0"},
                                         {"time_embedding.linear_2", "time_embed.2"},
                                         {"add_embedding.linear_1", "label_emb.0.0"},
                                         {"add_embedding.linear_2", "label_emb.0.2"}};
static const char *const in_resnet[][2] = {{"conv1", "in_layers.2"},
                                           {"conv2", "out_layers.3"},
                                           {"time_emb_proj", "emb_layers.1"},
                                           {"conv_shortcut", "skip_connection"}};
static const char *const in_block[] = {"attn1.to_q", "attn1.to_k",     "attn1.to_v", "attn1.to_out.0", "attn2.to_q",
                                       "attn2.to_k", "attn2.to_v",     "attn2.to_out.0", "ff.net.0.proj", "ff.net.2"};

enum { MODULES = 794, NAME = 160 }; /* those that LCM-LoRA has adapters for, and six outside the blocks */
static struct {
    char own[NAME], original[NAME];
} modules[MODULES + 1];
static int module_count;

/* The name of a module's weight, in a buffer that the next call uses again. */
static const char *weight_of(int module)
{
    static char name[NAME + 8];
    strcpy(name, modules[module].own);
    strcat(name, ".weight");
    return name;
}

static void add_module(const char *own, const char *own_inside, const char *original, const char *original_inside)
{
    assert_in_range(module_count, 0, MODULES - 1);
    const char *dot = *own_inside ? "." : "";
    snprintf(modules[module_count].own, NAME, "%s%s%s", own, dot, own_inside);
    snprintf(modules[module_count++].original, NAME, "%s%s%s", original, dot, original_inside);
}

static void add_transformer(const place *p)
{
    add_module(p->own, "proj_in", p->original, "proj_in");
    add_module(p->own, "proj_out", p->original, "proj_out");
    for (int i = 0; i < p->blocks; i++)
        for (size_t k = 0; k < sizeof in_block / sizeof *in_block; k++) {
            char inside[64];
            snprintf(inside, sizeof inside, "transformer_blocks.%d.%s", i, in_block[k]);
            add_module(p->own, inside, p->original, inside);
        }
}

static int list_modules(void **state)
{
    (void)state;
    module_count = 0;
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        add_module(outside[i][0], "", outside[i][1], "");
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const place *p = &places[i];
        if (p->blocks > 0) add_transformer(p);
        if (p->blocks < 0) add_module(p->own, "", p->original, "");
        for (int k = 0; k < 3 + p->shortcut && p->blocks == 0; k++)
            add_module(p->own, in_resnet[k][0], p->original, in_resnet[k][1]);
    }
    assert_int_equal(module_count, MODULES);
    return 0;
}

static void names_follow_the_layout(void **state)
{
    (void)state;
    const sp_component_config config = {.kind = SP_COMPONENT_UNET, .unet = sdxl};
    for (int i = 0; i < MODULES; i++) {
        char found[512], want[512];
        snprintf(want, sizeof want, "model.diffusion_model.%.*s.weight", NAME, modules[i].original);
        assert_true(sp_original_name(&config, true, weight_of(i), found, sizeof found));
        assert_string_equal(found, want);
    }
}

typedef enum { KOHYA, KOHYA_ORIGINAL, PEFT, PROCESSORS, SPELLINGS, MIXED = SPELLINGS } spelling;

static void replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from), rest[256];
    if (!at) return;
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    snprintf(at, 256 - (size_t)(at - text), "%s%s", to, rest);
}

static void spell(spelling s, int module, bool up, char out[256])
{
    static const char *const ends[][2] = {[KOHYA] = {".lora_down.weight", ".lora_up.weight"},
                                          [KOHYA_ORIGINAL] = {".lora_down.weight", ".lora_up.weight"},
                                          [PEFT] = {".lora_A.weight", ".lora_B.weight"},
                                          [PROCESSORS] = {".lora.down.weight", ".lora.up.weight"}};
    bool kohya = s == KOHYA || s == KOHYA_ORIGINAL;
    char layer[200];
    snprintf(layer, sizeof layer, "%s", s == KOHYA_ORIGINAL ? modules[module].original : modules[module].own);
    for (char *p = layer; kohya && *p; p++)
        if (*p == '.') *p = '_';
    bool attention = strstr(layer, ".to_") != NULL;
    if (s == PROCESSORS && attention) {
        replace(layer, ".to_out.0", ".to_out");
        replace(layer, ".to_", ".processor.to_");
    }
    snprintf(out, 256, "%s%s%s", kohya ? "lora_unet_" : "unet.", layer,
             s == PROCESSORS && attention ? (up ? "_lora.up.weight" : "_lora.down.weight") : ends[s][up]);
}

/* One adapter a module, which adds its number from 1; MIXED: each in another spelling than the one before. */
static void write_spelling(spelling s, const char *path)
{
    static char names[2 * MODULES][256];
    static sp_named_tensor named[2 * MODULES];
    static sp_tensor tensors[2 * MODULES];
    static float values[2 * MODULES];
    for (int i = 0; i < 2 * MODULES; i++) {
        spell(s == MIXED ? (spelling)(i / 2 % SPELLINGS) : s, i / 2, i % 2, names[i]);
        values[i] = i % 2 ? (float)(i / 2 + 1) : 1;
        tensors[i] = (sp_tensor){.dtype = SP_F32, .shape = sp_shape_of(1, 1), .data = &values[i]};
        named[i] = (sp_named_tensor){names[i], &tensors[i]};
    }
    assert_ok(sp_safetensors_save(path, named, 2 * MODULES, NULL, 0));
}

static sp_component sdxl_component(void)
{
    static char folder[] = "sdxl";
    sp_component c = {.config = {.kind = SP_COMPONENT_UNET, .unet = sdxl}, .folder = folder};
    assert_ok(sp_weights_create(&c.weights));
    for (int i = 0; i < MODULES; i++) {
        sp_tensor zero;
        assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 1), &zero));
        assert_ok(sp_weights_add(c.weights, weight_of(i), zero));
    }
    return c;
}

static float value_of(const sp_component *c, int module)
{
    sp_tensor taken;
    assert_ok(sp_weights_take(c->weights, weight_of(module), &taken));
    float value = *(const float *)taken.data;
    sp_tensor_free(&taken);
    return value;
}

static void spellings_are_the_same(void **state)
{
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder(state, "sdxl.safetensors"));
    for (int s = 0; s <= MIXED; s++) {
        sp_component c = sdxl_component();
        sp_lora *lora;
        write_spelling((spelling)s, path);
        assert_ok(sp_lora_open(path, &lora));
        assert_int_equal(sp_lora_count(lora, SP_COMPONENT_UNET), MODULES);
        assert_ok(sp_lora_merge(lora, 1, sp_cpu_device(), &c, true));
        sp_lora_close(lora);
        for (int i = 0; i < MODULES; i++)
            if (value_of(&c, i) != (float)(i + 1))
                fail_msg("spelling %d of \"%s\" is another layer's", s, modules[i].own);
        sp_weights_destroy(c.weights);
    }
}

/* A file of these adapters, rank 1, that add `value`. */
static sp_lora *few(void **state, const char *const *bases, const float *value, size_t count)
{
    sp_named_tensor named[40];
    sp_tensor tensors[40];
    char names[40][256];
    float one = 1;
    sp_lora *lora;
    for (size_t i = 0; i < 2 * count; i++) {
        snprintf(names[i], sizeof names[0], "%s.lora_%s.weight", bases[i / 2], i % 2 ? "up" : "down");
        tensors[i] = (sp_tensor){.dtype = SP_F32, .shape = sp_shape_of(1, 1),
                                 .data = i % 2 ? (void *)(uintptr_t)&value[i / 2] : (void *)&one};
        named[i] = (sp_named_tensor){names[i], &tensors[i]};
    }
    assert_ok(sp_safetensors_save(in_folder(state, "few.safetensors"), named, 2 * count, NULL, 0));
    assert_ok(sp_lora_open(in_folder(state, "few.safetensors"), &lora));
    return lora;
}

/* What stands before a layer says which of the text encoders it is of; without a number it is the first. */
static void text_encoders_are_told_apart(void **state)
{
    static const char *const bases[] = {
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj",
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
        "text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc2",
        "lora_te2_text_projection",
        "lora_te_text_model_encoder_layers_0_mlp_fc1"};
    static const char *const layers[] = {"encoder.layers.0.self_attn.q_proj.weight", "encoder.layers.0.mlp.fc1.weight",
                                         "encoder.layers.0.mlp.fc2.weight", "text_projection.weight"};
    static const float values[] = {1, 2, 3, 4, 5, 6};
    static const float want[2][4] = {{1, 6, 0, 0}, {2, 3, 4, 5}};
    sp_lora *lora = few(state, bases, values, 6);
    assert_int_equal(sp_lora_count(lora, SP_COMPONENT_TEXT_ENCODER), 2);
    for (int second = 0; second < 2; second++) {
        const sp_component_kind kind = second ? SP_COMPONENT_TEXT_ENCODER_2 : SP_COMPONENT_TEXT_ENCODER;
        sp_component c = {.place = kind, .config = {.kind = kind}};
        assert_ok(sp_weights_create(&c.weights));
        for (int i = 0; i < 4; i++) {
            sp_tensor zero;
            assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 1), &zero));
            assert_ok(sp_weights_add(c.weights, layers[i], zero));
        }
        assert_ok(sp_lora_merge(lora, 1, sp_cpu_device(), &c, true));
        for (int i = 0; i < 4; i++) {
            sp_tensor taken;
            assert_ok(sp_weights_take(c.weights, layers[i], &taken));
            assert_true(*(const float *)taken.data == want[second][i]);
            sp_tensor_free(&taken);
        }
        sp_weights_destroy(c.weights);
    }
    sp_lora_close(lora);
}

/* As diffusers: where a file has a layer under both names, diffusers' own counts. */
static void original_names_give_way(void **state)
{
    static const char *const bases[][2] = {
        {"lora_unet_input_blocks_0_0", "lora_unet_conv_in"}, {"lora_unet_conv_in", "lora_unet_input_blocks_0_0"}};
    static const float values[][2] = {{3, 4}, {4, 3}};
    for (int i = 0; i < 2; i++) {
        sp_component c = sdxl_component();
        sp_lora *lora = few(state, bases[i], values[i], 2);
        assert_ok(sp_lora_merge(lora, 1, sp_cpu_device(), &c, true));
        sp_lora_close(lora);
        assert_true(value_of(&c, 0) == 4);
        sp_weights_destroy(c.weights);
    }
}

static void layers_that_are_not_there_are_named(void **state)
{
    static const char *const bases[] = {"lora_unet_conv_in",        "lora_unet_no_1", "lora_unet_no_2",
                                        "lora_unet_input_blocks_4_1_transformer_blocks_2_attn1_to_q",
                                        "lora_unet_no_4",           "lora_unet_no_5", "lora_unet_no_6",
                                        "lora_unet_no_7"};
    static const float values[8] = {0};
    sp_component c = sdxl_component();
    sp_lora *lora = few(state, bases, values, 8);
    assert_status(sp_lora_merge(lora, 1, sp_cpu_device(), &c, true), SP_FORMAT);
    assert_message("7 of 8 adapters for the unet are for layers that the one in sdxl does not have: "
                   "\"lora_unet_no_1\", \"lora_unet_no_2\", "
                   "\"lora_unet_input_blocks_4_1_transformer_blocks_2_attn1_to_q\"");
    assert_message("\"lora_unet_no_6\" and others");
    assert_false(sp_weights_is_changed(c.weights, "conv_in.weight"));
    sp_lora_close(lora);
    sp_weights_destroy(c.weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kinds_are_lycoris, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(magnitudes_and_root_scales_are_peft, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(two_files_follow_each_other, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(wrong_files_are_refused, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(allocations_fail, make_test_folder, remove_test_folder),
        cmocka_unit_test(names_follow_the_layout),
        cmocka_unit_test_setup_teardown(spellings_are_the_same, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(text_encoders_are_told_apart, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(original_names_give_way, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(layers_that_are_not_there_are_named, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests_name("kinds of adapters", tests, list_modules, NULL);
}
