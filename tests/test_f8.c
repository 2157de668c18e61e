/* Weights of eight bits: a model computes with them what it computes with the same numbers in wider types. */
#include "tiny_model.h"
#include "backend/cpu/cpu.h"
#include "base/text.h"
#include "convert_support.h"
#include "pipeline/forward.h"
#include "checkpoints/lora.h"

enum { MOST = 1024 };

/* A copy of the component's folder whose weights are `dtype`, having been F8 of `form` before. */
static void write_model(const char *from, const char *to, sp_dtype form, sp_dtype dtype, const char *extra)
{
    static sp_named_tensor named[MOST];
    static sp_tensor tensors[MOST];
    static float one = 1;
    sp_component *source;
    const sp_tensor scale = {.dtype = SP_F32, .shape = sp_shape_of(1), .data = &one};
    assert_ok(sp_component_open(from, "unet", &source));
    size_t count = sp_weights_count(source->weights);
    assert_true(count + 1 < MOST);
    for (size_t i = 0; i < count; i++) {
        sp_tensor eight;
        assert_ok(sp_tensor_convert(sp_weights_at(source->weights, i), form, &eight));
        assert_ok(sp_tensor_convert(&eight, dtype, &tensors[i]));
        sp_tensor_free(&eight);
        named[i] = (sp_named_tensor){sp_weights_name(source->weights, i), &tensors[i]};
    }
    if (extra) named[count] = (sp_named_tensor){extra, &scale};
    char *config = sp_path_join(to, "config.json"), *weights = sp_path_join(to, "diffusion_pytorch_model.safetensors");
    assert_ok(sp_make_folders(to));
    assert_ok(sp_json_save(config, source->json));
    assert_ok(sp_safetensors_save(weights, named, count + (extra != NULL), NULL, 0));
    for (size_t i = 0; i < count; i++)
        sp_tensor_free(&tensors[i]);
    sp_free(config);
    sp_free(weights);
    sp_component_close(source);
}

static sp_tensor forward(const char *folder, sp_dtype precision)
{
    sp_tensor_file *inputs;
    sp_named_outputs outputs;
    sp_tensor copy;
    assert_ok(sp_safetensors_open(golden("unet-sd1/inputs_batch3.safetensors"), &inputs));
    assert_ok(sp_component_forward(folder, "unet", inputs, precision, sp_cpu_device(), &outputs));
    assert_ok(sp_tensor_convert(&outputs.item[0].tensor, SP_F32, &copy));
    sp_named_outputs_free(&outputs);
    sp_tensor_file_close(inputs);
    return copy;
}

static void eight_bits_are_the_same_numbers(void **state)
{
    char model[512];
    snprintf(model, sizeof model, "%s", golden("unet-sd1"));
    for (int e4m3 = 0; e4m3 < 2; e4m3++) {
        sp_dtype form = e4m3 ? SP_F8_E4M3 : SP_F8_E5M2;
        char *eight = sp_strdup(in_folder(state, "eight")), *wide = sp_strdup(in_folder(state, "wide"));
        write_model(model, eight, form, form, NULL);
        write_model(model, wide, form, SP_F16, NULL);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            sp_tensor a = forward(eight, bf16 ? SP_BF16 : SP_F32), b = forward(wide, bf16 ? SP_BF16 : SP_F32);
            assert_memory_equal(a.data, b.data, sp_tensor_bytes(&a));
            sp_tensor_free(&a);
            sp_tensor_free(&b);
        }
        sp_free(eight);
        sp_free(wide);
    }
}

/* Merging rounds to BF16, as packing would, and not to eight bits again. */
static void adapters_are_not_rounded_to_eight_bits(void **state)
{
    static float down[2 * 24], up[32 * 2];
    static const char *const names[] = {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight",
                                        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight"};
    static const char weight[] = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    sp_tensor tensors[] = {{.dtype = SP_F32, .shape = sp_shape_of(2, 24), .data = down},
                           {.dtype = SP_F32, .shape = sp_shape_of(32, 2), .data = up}};
    const sp_named_tensor named[] = {{names[0], &tensors[0]}, {names[1], &tensors[1]}};
    sp_component *unet;
    sp_lora *lora;
    down[0] = up[0] = 1;
    char *eight = sp_strdup(in_folder(state, "eight")), *path = sp_strdup(in_folder(state, "lora.safetensors"));
    write_model(golden("teacher-epsilon"), eight, SP_F8_E4M3, SP_F8_E4M3, NULL);
    assert_ok(sp_safetensors_save(path, named, 2, NULL, 0));
    assert_ok(sp_component_open(eight, "unet", &unet));
    const sp_tensor *before = sp_weights_find(unet->weights, weight);
    double old = sp_load(before->data, before->dtype, 0);
    assert_int_equal(before->dtype, SP_F8_E4M3);
    assert_ok(sp_lora_open(path, &lora));
    assert_ok(sp_lora_merge(lora, 1.0 / 128, sp_cpu_device(), unet, false));
    sp_tensor after;
    assert_ok(sp_weights_take(unet->weights, weight, &after));
    assert_int_equal(after.dtype, SP_BF16);
    double moved = sp_load(after.data, after.dtype, 0) - old;
    sp_tensor_free(&after);
    assert_true(moved > 0.9 / 128 && moved < 1.1 / 128); /* BF16 has eight digits */
    sp_lora_close(lora);
    sp_component_close(unet);
    sp_free(eight);
    sp_free(path);
}

static void conversion_widens(void **state)
{
    char *folder = sp_strdup(in_folder(state, "model")), *inside = sp_strdup(in_folder(state, "model/unet"));
    char *to = sp_strdup(in_folder(state, "new"));
    sp_component *a, *b;
    write_model(golden("teacher-epsilon"), inside, SP_F8_E5M2, SP_F8_E5M2, NULL);
    assert_ok(convert_model(folder, to, &(splam_convert_options){.dtype = "f16"}));
    assert_ok(sp_component_open(folder, "unet", &a));
    assert_ok(sp_component_open(to, "unet", &b));
    for (size_t i = 0; i < sp_weights_count(a->weights); i++) {
        const sp_tensor *x = sp_weights_at(a->weights, i),
                        *y = sp_weights_find(b->weights, sp_weights_name(a->weights, i));
        assert_int_equal(y->dtype, SP_F16);
        for (int64_t k = 0; k < sp_tensor_count(x); k++)
            assert_true(sp_load(x->data, x->dtype, k) == sp_load(y->data, y->dtype, k));
    }
    sp_component_close(a);
    sp_component_close(b);
    sp_free(folder);
    sp_free(inside);
    sp_free(to);
}

static void scaled_weights_are_refused(void **state)
{
    static const char *const extra[] = {"scaled_fp8", "conv_in.scale_weight", "conv_in.weight_scale",
                                        "conv_in.weight_scale_inv", "conv_in.scale_input", "conv_in.comfy_quant"};
    for (size_t i = 0; i < sizeof extra / sizeof *extra; i++) {
        sp_component *unet;
        const char *folder = in_folder(state, "scaled");
        write_model(golden("teacher-epsilon"), folder, SP_F8_E4M3, SP_F8_E4M3, extra[i]);
        assert_status(sp_component_open(folder, "unet", &unet), SP_UNSUPPORTED);
        assert_message("is of scaled fp8, weights in eight bits with factors, which is not supported");
        assert_message(extra[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(eight_bits_are_the_same_numbers, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(adapters_are_not_rounded_to_eight_bits, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(conversion_widens, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(scaled_weights_are_refused, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
