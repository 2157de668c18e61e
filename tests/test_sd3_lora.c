/* Adapters for Stable Diffusion 3 under the names of original checkpoints, where queries, keys and values are one layer
 * and halves of some norms stand the other way; and those of its two text encoders. */
#include <math.h>
#include "backend/cpu/cpu.h"
#include "base/random.h"
#include "base/text.h"
#include "checkpoints/lora.h"
#include "checkpoints/model_folder.h"
#include "sd3_model.h"

enum { RANK = 2, WIDTH = 32, MOST = 64 };

/* A layer of transformer-sd35: in a file of original names, and what it is in diffusers' names, by rows. */
typedef struct {
    const char *original, *own[3];
    int64_t in, out; /* of the original layer */
    bool swapped;
} layer;
#define QKV(original, q, k, v)                                                                     \
    {                                                                                              \
        original, {q, k, v}, WIDTH, 3 * WIDTH, false                                               \
    }
static const layer layers[] = {
    QKV("joint_blocks.0.x_block.attn.qkv", "transformer_blocks.0.attn.to_q",
        "transformer_blocks.0.attn.to_k", "transformer_blocks.0.attn.to_v"),
    QKV("joint_blocks.2.context_block.attn.qkv", "transformer_blocks.2.attn.add_q_proj",
        "transformer_blocks.2.attn.add_k_proj", "transformer_blocks.2.attn.add_v_proj"),
    QKV("joint_blocks.1.x_block.attn2.qkv", "transformer_blocks.1.attn2.to_q",
        "transformer_blocks.1.attn2.to_k", "transformer_blocks.1.attn2.to_v"),
    {"joint_blocks.0.context_block.attn.proj",
     {"transformer_blocks.0.attn.to_add_out"},
     WIDTH,
     WIDTH,
     false},
    {"joint_blocks.0.x_block.mlp.fc1",
     {"transformer_blocks.0.ff.net.0.proj"},
     WIDTH,
     4 * WIDTH,
     false},
    {"joint_blocks.0.context_block.adaLN_modulation.1",
     {"transformer_blocks.0.norm1_context.linear"},
     WIDTH,
     6 * WIDTH,
     false},
    {"joint_blocks.2.context_block.adaLN_modulation.1",
     {"transformer_blocks.2.norm1_context.linear"},
     WIDTH,
     2 * WIDTH,
     true},
    {"final_layer.adaLN_modulation.1", {"norm_out.linear"}, WIDTH, 2 * WIDTH, true},
    {"t_embedder.mlp.2", {"time_text_embed.timestep_embedder.linear_2"}, WIDTH, WIDTH, false},
};
enum { LAYERS = sizeof layers / sizeof *layers };

static sp_tensor normal(sp_shape shape, uint64_t seed)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, shape, &t));
    sp_random_normal((sp_random_key){.seed = 6, .sample = seed}, t.data,
                     (size_t)sp_tensor_count(&t));
    return t;
}

/* ---- files ---- */

typedef struct {
    sp_named_tensor named[4 * MOST];
    sp_tensor tensors[4 * MOST];
    char names[4 * MOST][256];
    size_t count;
} file;

/* Takes the tensor. */
static void add(file *f, const char *name, const char *end, bool underscores, const char *prefix,
                sp_tensor tensor)
{
    char text[200];
    snprintf(text, sizeof text, "%s", name);
    for (char *p = text; *p && underscores; p++)
        if (*p == '.') *p = '_';
    snprintf(f->names[f->count], sizeof f->names[0], "%s%s%s", prefix, text, end);
    f->tensors[f->count] = tensor;
    f->named[f->count] = (sp_named_tensor){f->names[f->count], &f->tensors[f->count]};
    f->count++;
}

static void save(file *f, const char *path)
{
    assert_ok(sp_safetensors_save(path, f->named, f->count, NULL, 0));
    for (size_t i = 0; i < f->count; i++)
        sp_tensor_free(&f->tensors[i]);
    f->count = 0;
}

/* Rows of one of the pieces; with halves exchanged if it is all of a layer that has them so. */
static sp_tensor rows(const layer *l, const sp_tensor *whole, int piece, int pieces)
{
    sp_shape shape = whole->shape;
    sp_tensor out;
    shape.dim[0] /= pieces;
    assert_ok(sp_tensor_create(SP_F32, shape, &out));
    size_t bytes = sp_tensor_bytes(&out);
    memcpy(out.data, (const char *)whole->data + (size_t)piece * bytes, bytes);
    if (!l->swapped) return out;
    memcpy(out.data, (const char *)whole->data + bytes / 2, bytes / 2);
    memcpy((char *)out.data + bytes / 2, whole->data, bytes / 2);
    return out;
}

static int pieces_of(const layer *l)
{
    return l->own[1] ? 3 : 1;
}

typedef enum { PLAIN, MAGNITUDES, DIFFERENCES, KINDS } kind;

static sp_tensor positive(int64_t count, uint64_t seed)
{
    sp_tensor t = normal(sp_shape_of(count, 1), seed);
    for (int64_t i = 0; i < count; i++)
        ((float *)t.data)[i] = 1 + fabsf(((float *)t.data)[i]);
    return t;
}

/* The tensors of a layer, whose rows go to one layer or several. */
static size_t parts_of(const layer *l, kind k, uint64_t seed, sp_tensor out[3], const char *ends[3])
{
    if (k == DIFFERENCES) {
        out[0] = normal(sp_shape_of(l->out, l->in), seed);
        out[1] = normal(sp_shape_of(l->out), seed + 1);
        ends[0] = ".diff", ends[1] = ".diff_b";
        return 2;
    }
    out[0] = normal(sp_shape_of(l->out, RANK), seed);
    out[1] = normal(sp_shape_of(RANK, l->in), seed + 1);
    ends[0] = ".lora_up.weight", ends[1] = ".lora_down.weight";
    if (k == PLAIN) return 2;
    out[2] = positive(l->out, seed + 2);
    ends[2] = ".dora_scale";
    return 3;
}

/* The same adapters in both namings. */
static void write_both(kind k, const char *prefix, bool underscores, const char *original,
                       const char *own)
{
    static file a, b;
    for (int i = 0; i < LAYERS; i++) {
        const layer *l = &layers[i];
        sp_tensor parts[3];
        const char *ends[3];
        size_t count = parts_of(l, k, 100 + 10 * (uint64_t)i, parts, ends);
        for (size_t p = 0; p < count; p++) {
            bool down = strstr(ends[p], "down");
            for (int piece = 0; piece < pieces_of(l); piece++) {
                static const layer plain;
                sp_tensor part =
                    rows(down ? &plain : l, &parts[p], down ? 0 : piece, down ? 1 : pieces_of(l));
                add(&b, l->own[piece], ends[p], false, "transformer.", part);
            }
            add(&a, l->original, ends[p], underscores, prefix, parts[p]);
        }
    }
    save(&a, original);
    save(&b, own);
}

/* ---- merging ---- */

static sp_weights *merged(const char *path, sp_component **transformer)
{
    sp_lora *lora;
    sp_weights *made;
    assert_ok(sp_component_open(golden("transformer-sd35"), "transformer", transformer));
    assert_ok(sp_lora_open(path, &lora));
    assert_ok(sp_lora_merge(lora, 0.7, sp_cpu_device(), *transformer, true));
    sp_lora_close(lora);
    assert_ok(sp_weights_copy((*transformer)->weights, SP_F32, &made));
    return made;
}

/* Whether two files make the same weights: bits of plain adapters, whose rows are the same sums. */
static size_t compare(const char *a, const char *b, double tolerance)
{
    sp_component *first, *second;
    sp_weights *x = merged(a, &first), *y = merged(b, &second);
    size_t changed = 0;
    for (size_t i = 0; i < sp_weights_count(x); i++) {
        const sp_tensor *one = sp_weights_at(x, i),
                        *other = sp_weights_find(y, sp_weights_name(x, i)),
                        *base = sp_weights_find(first->weights, sp_weights_name(x, i));
        if (!tolerance) assert_same_bits(one, other);
        if (difference(one, other) > tolerance) fail_msg("%s", sp_weights_name(x, i));
        changed += base->data == NULL;
    }
    sp_weights_destroy(x);
    sp_weights_destroy(y);
    sp_component_close(first);
    sp_component_close(second);
    return changed;
}

static void test_fused(void **state)
{
    static const struct {
        const char *prefix;
        bool underscores;
    } spellings[] = {
        {"lora_unet_", true}, {"diffusion_model.", false}, {"model.diffusion_model.", false},
        {"", false},          {"lycoris_", true},          {"transformer.", false}};
    const char *original = keep(state, "original.safetensors"),
               *own = keep(state, "own.safetensors");
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        for (int k = 0; k < KINDS; k++) {
            write_both((kind)k, spellings[i].prefix, spellings[i].underscores, original, own);
            size_t changed = compare(original, own, k == MAGNITUDES ? 1e-6 : 0);
            assert_int_equal(changed, (k == DIFFERENCES ? 2 : 1) * (3 * 3 + LAYERS - 3));
        }
}

static void refuse(void **state, const char *path, sp_status status, const char *words)
{
    sp_component *transformer;
    sp_lora *lora;
    (void)state;
    assert_ok(sp_component_open(golden("transformer-sd35"), "transformer", &transformer));
    assert_ok(sp_lora_open(path, &lora));
    sp_status found = sp_lora_merge(lora, 1, sp_cpu_device(), transformer, true);
    if (found != status) fail_msg("%s: %s", sp_status_text(found), sp_error_message());
    assert_message(words);
    sp_lora_close(lora);
    sp_component_close(transformer);
}

static void add_plain(file *f, const char *prefix, const char *name, int64_t out, int64_t in)
{
    add(f, name, ".lora_up.weight", true, prefix, normal(sp_shape_of(out, RANK), 1));
    add(f, name, ".lora_down.weight", true, prefix, normal(sp_shape_of(RANK, in), 2));
}

static void test_refusals(void **state)
{
    static file f;
    const char *path = keep(state, "lora.safetensors");
    add_plain(&f, "lora_unet_", "joint_blocks_0_x_block_attn_qkv", 3 * WIDTH, WIDTH);
    add_plain(&f, "lora_unet_", "joint_blocks_7_x_block_attn_qkv", 3 * WIDTH, WIDTH);
    add_plain(&f, "lora_unet_", "joint_blocks_2_context_block_mlp_fc1", WIDTH, WIDTH);
    save(&f, path);
    refuse(state, path, SP_FORMAT,
           "2 of 3 adapters for the transformer are for layers that the one in");
    assert_message("\"lora_unet_joint_blocks_7_x_block_attn_qkv\"");
    add_plain(&f, "lora_unet_", "joint_blocks_0_x_block_attn_qkv", WIDTH, WIDTH);
    save(&f, path);
    refuse(state, path, SP_SHAPE, "the LoRA is of another model");
    /* to_k cannot be left to the other one */
    add_plain(&f, "lora_unet_", "joint_blocks_0_x_block_attn_qkv", 3 * WIDTH, WIDTH);
    add_plain(&f, "lora_transformer_", "transformer_blocks_0_attn_to_q", WIDTH, WIDTH);
    save(&f, path);
    refuse(state, path, SP_FORMAT,
           "are both for the transformer's \"transformer_blocks.0.attn.to_q.weight\"");
    /* but one for a layer that is one in both */
    add_plain(&f, "lora_unet_", "joint_blocks_0_x_block_attn_proj", WIDTH, WIDTH);
    add_plain(&f, "lora_transformer_", "transformer_blocks_0_attn_to_out_0", WIDTH, WIDTH);
    save(&f, path);
    sp_component *transformer;
    sp_weights_destroy(merged(path, &transformer));
    sp_component_close(transformer);
    add_plain(&f, "lora_unet_", "joint_blocks_0_x_block_attn_qkv", 3 * WIDTH, WIDTH);
    add(&f, "joint_blocks_0_x_block_attn_qkv", ".dora_scale", true, "lora_unet_",
        normal(sp_shape_of(1, WIDTH), 3));
    save(&f, path);
    refuse(state, path, SP_UNSUPPORTED, "a dora_scale of columns");
}

/* ---- text encoders ---- */

static uint64_t hash_of(const sp_component *component)
{
    sp_weights *made;
    assert_ok(sp_weights_copy(component->weights, SP_F32, &made));
    uint64_t hash = sp_component_hash(&(sp_component){.weights = made});
    sp_weights_destroy(made);
    return hash;
}

/* Both are of one kind, and each takes its own. */
static void test_texts(void **state)
{
    static file f;
    const char *folder = keep(state, "model"), *path = keep(state, "lora.safetensors");
    static const char *const names[] = {"text_encoder", "text_encoder_2"};
    static const char *const prefixes[] = {"lora_te1_", "lora_te2_"};
    make_sd3(folder, sd3_dual);
    for (int which = 0; which < 2; which++) {
        add_plain(&f, prefixes[which], "text_model_encoder_layers_0_self_attn_q_proj",
                  which ? 128 : 64, which ? 128 : 64);
        save(&f, path);
        for (int i = 0; i < 2; i++) {
            sp_model_folder model;
            sp_component *text;
            sp_lora *lora;
            assert_ok(sp_model_folder_open(folder, &model));
            assert_ok(sp_model_folder_component(&model, names[i], &text));
            assert_ok(sp_lora_open(path, &lora));
            uint64_t before = hash_of(text);
            assert_ok(sp_lora_merge(lora, 1, sp_cpu_device(), text, true));
            assert_int_equal(hash_of(text) != before, i == which);
            sp_lora_close(lora);
            sp_component_close(text);
            sp_model_folder_close(&model);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_test_folder, remove_test_folder)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_fused), TEST(test_refusals), TEST(test_texts)};
    return cmocka_run_group_tests_name("adapters for Stable Diffusion 3", tests, NULL, NULL);
}
