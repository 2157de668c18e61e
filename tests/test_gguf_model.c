/* Models whose weights are in few bits: a checkpoint as GGUF computes what the same numbers in f32 do, and --weights q8
 * draws nearly the same picture, and says so in it. */
#include <math.h>
#include <splam/splam.h>
#include "tensor_support.h"
#include "base/json.h"
#include "checkpoints/component.h"
#include "formats/safetensors.h"
#include "image/image.h"
#include "image/image_text.h"

/* ---- a GGUF file of a safetensors one ---- */

enum { ALIGNMENT = 32 };

static void put(FILE *f, const void *bytes, size_t count)
{
    assert_int_equal(fwrite(bytes, 1, count, f), count);
}

static void put_u32(FILE *f, uint32_t value)
{
    put(f, &value, sizeof value);
}

static void put_u64(FILE *f, uint64_t value)
{
    put(f, &value, sizeof value);
}

static size_t padded(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool becomes_q8_0(const sp_tensor *tensor)
{
    return tensor->shape.rank == 2 && tensor->shape.dim[1] % 32 == 0 && sp_dtype_is_float(tensor->dtype);
}

/* Matrices of whole blocks as Q8_0, others in their type: F32, F16 or I64. */
static void write_gguf(const char *from, const char *to)
{
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(from, &file));
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    const size_t count = sp_tensor_file_count(file);
    size_t at = 0;
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, count);
    put_u64(f, 0);
    for (size_t i = 0; i < count; i++) {
        sp_tensor t = *sp_tensor_file_at(file, i);
        const char *name = sp_tensor_file_name(file, i);
        if (becomes_q8_0(&t)) t.dtype = SP_Q8_0;
        put_u64(f, strlen(name));
        put(f, name, strlen(name));
        put_u32(f, (uint32_t)t.shape.rank);
        for (int k = t.shape.rank - 1; k >= 0; k--)
            put_u64(f, (uint64_t)t.shape.dim[k]);
        put_u32(f, t.dtype == SP_Q8_0 ? 8 : t.dtype == SP_F16 ? 1 : t.dtype == SP_I64 ? 27 : 0);
        put_u64(f, at);
        at += padded(sp_tensor_bytes(&t));
    }
    long header = ftell(f);
    static const char zeros[ALIGNMENT];
    put(f, zeros, padded((size_t)header) - (size_t)header);
    for (size_t i = 0; i < count; i++) {
        sp_tensor t = *sp_tensor_file_at(file, i), own = {0};
        if (becomes_q8_0(&t)) {
            assert_ok(sp_tensor_convert(&t, SP_Q8_0, &own));
            t = own;
        }
        put(f, t.data, sp_tensor_bytes(&t));
        put(f, zeros, padded(sp_tensor_bytes(&t)) - sp_tensor_bytes(&t));
        sp_tensor_free(&own);
    }
    assert_int_equal(fclose(f), 0);
    sp_tensor_file_close(file);
}

/* The same numbers in f32. */
static void write_plain(const char *gguf, const char *to)
{
    sp_tensor_file *file;
    sp_weights *weights;
    assert_ok(sp_tensor_file_open(gguf, &file));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add_file(weights, file));
    assert_ok(sp_weights_save(weights, to, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
    sp_tensor_file_close(file);
}

/* ---- what it computes ---- */

static void run_forward(void *const *state, const char *model, const char *component, const char *output)
{
    char inputs[1100];
    snprintf(inputs, sizeof inputs, "%s/inputs_%s.safetensors", golden("original-sd1"), component);
    splam_forward_options o = splam_forward_defaults();
    o.model = model;
    o.component = component;
    o.inputs = inputs;
    o.outputs = in_folder(state, output);
    o.precision = SPLAM_F32;
    if (splam_forward(&o)) fail_msg("%s: %s", component, splam_error_message());
}

static double difference(const char *a, const char *b)
{
    sp_tensor_file *file_a, *file_b;
    double error;
    assert_ok(sp_safetensors_open(a, &file_a));
    assert_ok(sp_safetensors_open(b, &file_b));
    const sp_tensor *other;
    assert_ok(sp_tensor_file_get(file_b, sp_tensor_file_name(file_a, 0), &other));
    assert_ok(sp_tensor_relative_max_error(sp_tensor_file_at(file_a, 0), other, &error));
    sp_tensor_file_close(file_a);
    sp_tensor_file_close(file_b);
    return error;
}

static void a_checkpoint_as_gguf(void **state)
{
    static const char *const components[] = {"unet", "text-encoder", "vae-decoder"};
    char gguf[700], plain[700], expected[1100];
    snprintf(gguf, sizeof gguf, "%s", in_folder(state, "model.gguf"));
    snprintf(plain, sizeof plain, "%s", in_folder(state, "plain.safetensors"));
    write_gguf(golden_file("original-sd1", "model.safetensors"), gguf);
    write_plain(gguf, plain);
    for (int i = 0; i < 3; i++) {
        run_forward(state, gguf, components[i], "of_gguf.safetensors");
        run_forward(state, plain, components[i], "of_plain.safetensors");
        double off = difference(in_folder(state, "of_gguf.safetensors"), in_folder(state, "of_plain.safetensors"));
        if (!(off <= 1e-5)) fail_msg("%s: GGUF is off by %g from the same numbers in f32", components[i], off);
        snprintf(expected, sizeof expected, "%s/outputs_%s.safetensors", golden("original-sd1"), components[i]);
        double loss = difference(in_folder(state, "of_gguf.safetensors"), expected);
        print_message("%s: Q8_0 is off by %.2g of the largest\n", components[i], loss);
        assert_true(loss <= 0.03);
    }
}

/* Which become Q8_0: linear layers' weights of whole blocks, from a file or where it is asked for; tables do not. */
static void what_is_held_in_eight_bits(void **state)
{
    char gguf[700];
    sp_component *component;
    snprintf(gguf, sizeof gguf, "%s", in_folder(state, "model.gguf"));
    write_gguf(golden_file("original-sd1", "model.safetensors"), gguf);
    assert_ok(sp_component_open(gguf, "text_encoder", &component));
    const char *layer = "encoder.layers.0.self_attn.q_proj.weight", *table = "embeddings.token_embedding.weight";
    assert_int_equal(sp_weights_find(component->weights, layer)->dtype, SP_Q8_0);
    assert_true(sp_weights_is_view(component->weights, layer));
    assert_int_equal(sp_weights_find(component->weights, table)->dtype, SP_F32);
    uint64_t hash = sp_component_hash(component);
    sp_component_close(component);
    assert_ok(sp_component_open(golden_file("original-sd1", "model.safetensors"), "text_encoder", &component));
    assert_int_equal(sp_weights_find(component->weights, layer)->dtype, SP_F16);
    assert_true(sp_component_hash(component) != hash);
    hash = sp_component_hash(component);
    assert_ok(sp_component_quantise(component));
    assert_int_equal(sp_weights_find(component->weights, layer)->dtype, SP_Q8_0);
    assert_int_equal(sp_weights_find(component->weights, table)->dtype, SP_F16);
    assert_true(sp_component_hash(component) == hash);
    sp_component_close(component);
    assert_ok(sp_component_open(golden_file("original-sd1", "model.safetensors"), "unet", &component));
    assert_ok(sp_component_quantise(component));
    assert_int_equal(sp_weights_find(component->weights, "mid_block.attentions.0.proj_in.weight")->dtype, SP_Q8_0);
    assert_int_equal(sp_weights_find(component->weights, "conv_out.weight")->dtype, SP_F16);
    sp_component_close(component);
}

/* ---- pictures ---- */

static void draw(void *const *state, const char *weights, const char *name, sp_image *out)
{
    splam_generate_options o = splam_generate_defaults();
    const char *prompt = "animal bird";
    o.model = shipped_teacher();
    o.prompt = prompt;
    o.steps = 4;
    o.seed = 3;
    o.weights = weights;
    o.precision = SPLAM_F32;
    o.output = in_folder(state, name);
    if (splam_generate(&o, NULL)) fail_msg("%s", splam_error_message());
    assert_ok(sp_image_load(in_folder(state, name), out));
}

static void a_picture_of_eight_bits(void **state)
{
    sp_image plain, same, small;
    draw(state, NULL, "plain.png", &plain);
    draw(state, "stored", "same.png", &same);
    draw(state, "q8", "small.png", &small);
    size_t bytes = (size_t)(plain.width * plain.height * 3);
    assert_memory_equal(plain.pixels, same.pixels, bytes);
    double sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum += pow((double)plain.pixels[i] - (double)small.pixels[i], 2);
    assert_true(sum > 0);
    double psnr = 10 * log10(255.0 * 255 * (double)bytes / sum);
    print_message("q8: %.1f dB\n", psnr);
    assert_true(psnr > 30);
    char *text;
    size_t size;
    assert_ok(sp_read_file(in_folder(state, "small.png"), &text, &size));
    assert_non_null(memmem(text, size, "\"weights\":\"q8\"", 14));
    sp_free(text);
    sp_image_free(&plain);
    sp_image_free(&same);
    sp_image_free(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_checkpoint_as_gguf, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(what_is_held_in_eight_bits, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(a_picture_of_eight_bits, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests_name("gguf_model", tests, NULL, NULL);
}
