/* Autoencoders that are one file: every naming opens as the same one, and what is wrong with a file is said. */
#include "tiny_model.h"
#include "base/text.h"

enum { MOST = 512 };

/* A file made of another's tensors under other names, and of some more. */
typedef struct {
    sp_named_tensor named[MOST];
    char names[MOST][160];
    sp_tensor tensors[MOST];
    size_t count;
} listing;

static void add(listing *l, const char *name, sp_tensor tensor)
{
    assert_true(l->count < MOST);
    size_t i = l->count++;
    snprintf(l->names[i], sizeof l->names[i], "%s", name);
    l->tensors[i] = tensor;
    l->tensors[i].owned = false;
    l->named[i] = (sp_named_tensor){l->names[i], &l->tensors[i]};
}

static void save(const listing *l, const char *path)
{
    assert_ok(sp_safetensors_save(path, l->named, l->count, NULL, 0));
}

/* Tensors of the file whose names begin with `from`, with `to` instead. */
static void take(listing *l, const sp_tensor_file *file, const char *from, const char *to)
{
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        char changed[160];
        if (!sp_starts_with(name, from)) continue;
        snprintf(changed, sizeof changed, "%s%s", to, name + strlen(from));
        add(l, changed, *sp_tensor_file_at(file, i));
    }
}

static size_t place_of(const listing *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->names[i], name) == 0) return i;
    fail_msg("no tensor %s", name);
    return 0;
}

static void drop(listing *l, const char *name)
{
    size_t i = place_of(l, name);
    l->count--;
    memmove(l->names[i], l->names[l->count], sizeof l->names[i]);
    l->tensors[i] = l->tensors[l->count];
}

/* The same tensors under the same names, and the same configuration but for `sample_size`. */
static void assert_same_vae(const char *path, const sp_component *expected)
{
    sp_component *found;
    assert_ok(sp_component_open(path, "vae", &found));
    assert_int_equal(sp_weights_count(found->weights), sp_weights_count(expected->weights));
    for (size_t i = 0; i < sp_weights_count(expected->weights); i++) {
        const char *name = sp_weights_name(expected->weights, i);
        const sp_tensor *a = sp_weights_at(expected->weights, i), *b = sp_weights_find(found->weights, name);
        if (!b) fail_msg("%s: no %s", path, name);
        assert_int_equal(a->dtype, b->dtype);
        assert_true(sp_shape_equal(a->shape, b->shape));
        assert_memory_equal(a->data, b->data, sp_tensor_bytes(a));
    }
    assert_int_equal(found->config.vae.kind, expected->config.vae.kind);
    assert_int_equal(found->config.vae.factor, expected->config.vae.factor);
    assert_true(found->config.vae.scaling_factor == expected->config.vae.scaling_factor);
    sp_component_close(found);
}

static void assert_refused(const char *path, sp_status status, const char *words)
{
    sp_component *component;
    assert_status(sp_component_open(path, "vae", &component), status);
    assert_message(words);
}

/* ---- original names ---- */

#define WHOLE "first_stage_model."

static void original_names_open(void **state)
{
    static listing l;
    const char *path = in_folder(state, "vae.safetensors");
    sp_component *expected;
    sp_tensor_file *file;
    assert_ok(sp_component_open(golden("original-sd1/model.safetensors"), "vae", &expected));
    assert_ok(sp_tensor_file_open(golden("original-sd1/model.safetensors"), &file));
    static const char *const prefixes[] = {"", "vae.", WHOLE};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        l.count = 0;
        take(&l, file, WHOLE, prefixes[i]);
        save(&l, path);
        assert_same_vae(path, expected);
    }
    /* what the training leaves in a file */
    static float numbers[4];
    const sp_tensor extra = {.dtype = SP_F32, .shape = sp_shape_of(4), .data = numbers};
    l.count = 0;
    take(&l, file, WHOLE, "");
    add(&l, "loss.discriminator.main.0.weight", extra);
    add(&l, "model_ema.decay", extra);
    save(&l, path);
    assert_same_vae(path, expected);
    drop(&l, "decoder.conv_in.weight");
    save(&l, path);
    assert_refused(path, SP_FORMAT, "there is no tensor \"decoder.conv_in.weight\"");
    sp_component_close(expected);
    sp_tensor_file_close(file);
}

/* ---- diffusers' names ---- */

static void write_diffusers(const char *path, const char *folder, bool old)
{
    static const char *const attention[][2] = {{".to_q.", ".query."}, {".to_k.", ".key."},
                                               {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
    static listing l;
    sp_component *source;
    assert_ok(sp_component_open(folder, "vae", &source));
    l.count = 0;
    for (size_t i = 0; i < sp_weights_count(source->weights); i++) {
        const char *name = sp_weights_name(source->weights, i);
        sp_tensor tensor = *sp_weights_at(source->weights, i);
        char changed[160];
        snprintf(changed, sizeof changed, "%s", name);
        for (int k = 0; k < 4 && old; k++) {
            const char *at = strstr(name, attention[k][0]);
            if (!at) continue;
            snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - name), name, attention[k][1],
                     at + strlen(attention[k][0]));
            if (tensor.shape.rank == 2) tensor.shape = sp_shape_of(tensor.shape.dim[0], tensor.shape.dim[1], 1, 1);
        }
        add(&l, changed, tensor);
    }
    save(&l, path);
    sp_component_close(source);
}

static void diffusers_names_open(void **state)
{
    const char *whole = golden("original-sd1/model.safetensors");
    const char *path = in_folder(state, "diffusion_pytorch_model.safetensors");
    const char *config = in_folder(state, "config.json");
    sp_component *expected;
    assert_ok(sp_component_open(whole, "vae", &expected));
    for (int old = 0; old < 2; old++) {
        write_diffusers(path, whole, old);
        assert_same_vae(path, expected);
    }
    /* a config beside it is another part's, the VAE's, or unreadable */
    write_text(config, "{\"architectures\": [\"CLIPTextModel\"]}");
    assert_same_vae(path, expected);
    json_object_set_new(expected->json, "scaling_factor", json_real(0.5));
    assert_ok(sp_json_save(config, expected->json));
    expected->config.vae.scaling_factor = 0.5;
    assert_same_vae(path, expected);
    json_object_set_new(expected->json, "latent_channels", json_integer(7));
    assert_ok(sp_json_save(config, expected->json));
    assert_refused(path, SP_SHAPE, "the config asks for");
    write_text(config, "{");
    assert_refused(path, SP_FORMAT, "config.json: line 1");
    sp_component_close(expected);
    /* groups that are not 32 are told by a config alone */
    assert_ok(sp_component_open(golden("vae-legacy"), "vae", &expected));
    assert_same_vae(golden("vae-legacy/diffusion_pytorch_model.safetensors"), expected);
    sp_component_close(expected);
}

/* ---- TAESD ---- */

/* The autoencoder in `folder`, under the names of TAESD's author. */
static void list_halves(listing *l, const sp_component *source)
{
    l->count = 0;
    for (size_t i = 0; i < sp_weights_count(source->weights); i++) {
        const char *name = sp_weights_name(source->weights, i);
        char changed[160];
        int place, length;
        bool decoder = sp_starts_with(name, "decoder.");
        assert_int_equal(sscanf(name + strlen("decoder.layers."), "%d.%n", &place, &length), 1);
        snprintf(changed, sizeof changed, "taesd_%s.%d.%s", decoder ? "decoder" : "encoder", place + decoder,
                 name + strlen("decoder.layers.") + length);
        add(l, changed, *sp_weights_at(source->weights, i));
    }
}

static void tiny_files_open(void **state)
{
    static listing l;
    const char *path = in_folder(state, "taesd.safetensors");
    static const char *const folders[] = {"vae-tiny", "vae-tiny-other"};
    for (int i = 0; i < 2; i++) {
        sp_component *expected;
        assert_ok(sp_component_open(golden(folders[i]), "vae", &expected));
        bool published = expected->config.vae.tiny.upscale == 2 && expected->config.vae.scaling_factor == 1;
        list_halves(&l, expected);
        save(&l, path);
        if (published) {
            assert_same_vae(path, expected);
            write_diffusers(path, golden(folders[i]), false);
            assert_same_vae(path, expected);
        }
        sp_component_close(expected);
    }
    assert_int_equal(sp_path_exists(in_folder(state, "config.json")), 0);
}

static void broken_files_are_refused(void **state)
{
    static listing l;
    const char *path = in_folder(state, "broken.safetensors");
    sp_component *tiny;
    assert_ok(sp_component_open(golden("vae-tiny"), "vae", &tiny));
    list_halves(&l, tiny);
    drop(&l, "taesd_decoder.11.bias");
    save(&l, path);
    assert_refused(path, SP_FORMAT, "the layers \"taesd_decoder....\" do not end with a convolution");
    list_halves(&l, tiny);
    drop(&l, "taesd_encoder.1.conv.2.weight");
    save(&l, path);
    assert_refused(path, SP_FORMAT, "tensor \"encoder.layers.1.conv.2.weight\" is missing");
    list_halves(&l, tiny);
    l.tensors[place_of(&l, "taesd_encoder.0.weight")].shape = sp_shape_of(12 * 27);
    save(&l, path);
    assert_refused(path, SP_FORMAT, "too few dimensions");
    list_halves(&l, tiny);
    add(&l, "decoder.layers.0.bias", l.tensors[place_of(&l, "taesd_decoder.1.bias")]);
    save(&l, path);
    assert_refused(path, SP_FORMAT, "two tensors stand for \"decoder.layers.0.bias\"");
    sp_component_close(tiny);
}

static sp_status open_file(void *path)
{
    sp_component *component;
    SP_TRY(sp_component_open(path, "vae", &component));
    sp_component_close(component);
    return SP_OK;
}

static void allocations_fail(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", golden("vae-tiny/diffusion_pytorch_model.safetensors"));
    assert_true(fail_every_allocation(open_file, path) > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(original_names_open, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(diffusers_names_open, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(tiny_files_open, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(broken_files_are_refused, make_test_folder, remove_test_folder),
        cmocka_unit_test(allocations_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
