/* Weights where files have them: safetensors whose tensors begin at odd multiples of their elements' size, in
 * every component and type, give the bits of aligned ones. */
#include "support.h"
#include "backend/cpu/cpu.h"
#include "pipeline/forward.h"

/* The file's tensors as `dtype` at `to`, whose data begin `shift` bytes behind a multiple of 64: spaces may
 * follow a header. */
static void save_shifted(const char *from, const char *to, sp_dtype dtype, size_t shift)
{
    enum { MOST = 1024, LENGTH_BYTES = 8, LINE = 64 };
    static sp_named_tensor named[MOST];
    static sp_tensor tensors[MOST];
    sp_tensor_file *file;
    assert_ok(sp_safetensors_open(from, &file));
    size_t count = sp_tensor_file_count(file);
    assert_in_range(count, 1, MOST);
    for (size_t i = 0; i < count; i++) {
        assert_ok(sp_tensor_convert(sp_tensor_file_at(file, i), dtype, &tensors[i]));
        named[i] = (sp_named_tensor){sp_tensor_file_name(file, i), &tensors[i]};
    }
    assert_ok(sp_safetensors_save(to, named, count, NULL, 0));
    for (size_t i = 0; i < count; i++)
        sp_tensor_free(&tensors[i]);
    sp_tensor_file_close(file);

    sp_mapped_file saved;
    uint64_t header;
    assert_ok(sp_mapped_file_open(to, &saved));
    memcpy(&header, saved.data, LENGTH_BYTES);
    size_t end = LENGTH_BYTES + (size_t)header, spaces = (shift + LINE - end % LINE) % LINE;
    unsigned char *bytes = sp_alloc(saved.size + spaces);
    assert_non_null(bytes);
    header += spaces;
    memcpy(bytes, &header, LENGTH_BYTES);
    memcpy(bytes + LENGTH_BYTES, saved.data + LENGTH_BYTES, end - LENGTH_BYTES);
    memset(bytes + end, ' ', spaces);
    memcpy(bytes + end + spaces, saved.data + end, saved.size - end);
    size_t size = saved.size + spaces;
    sp_mapped_file_close(&saved);
    assert_ok(sp_write_file(to, bytes, size));
    sp_free(bytes);
}

typedef struct {
    const char *folder, *weights, *component, *inputs;
} place_case;

static const place_case cases[] = {
    {"unet-sd1", "diffusion_pytorch_model.safetensors", "unet", "inputs_square.safetensors"},
    {"unet-demo", "diffusion_pytorch_model.safetensors", "unet", NULL},
    {"vae-demo", "diffusion_pytorch_model.safetensors", "vae-decoder", NULL},
    {"vae-sd", "diffusion_pytorch_model.safetensors", "vae-decoder", "inputs_decode_square.safetensors"},
    {"vae-tiny", "diffusion_pytorch_model.safetensors", "vae-decoder", NULL},
    {"text-sd1", "model.safetensors", "text-encoder", NULL},
    {"vae-tiny", "diffusion_pytorch_model.safetensors", "vae-encoder", "inputs_encode_odd.safetensors"},
};

/* The first inputs that the folder has for the component, where the case names none. */
static void open_inputs(const place_case *c, sp_tensor_file **out)
{
    const char *prefix = strcmp(c->component, "vae-decoder") == 0 ? "inputs_decode" : "inputs_";
    char **names, file[256] = "";
    size_t count;
    if (c->inputs) {
        assert_ok(sp_safetensors_open(golden_file(c->folder, c->inputs), out));
        return;
    }
    assert_ok(sp_list_folder(golden(c->folder), &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (!*file && strncmp(names[i], prefix, strlen(prefix)) == 0) snprintf(file, sizeof file, "%s", names[i]);
        sp_free(names[i]);
    }
    sp_free(names);
    assert_ok(sp_safetensors_open(golden_file(c->folder, file), out));
}

static void check_case(void **state, const place_case *c, sp_dtype dtype, sp_dtype precision)
{
    sp_named_outputs outputs[2];
    sp_tensor_file *inputs;
    char path[512];
    open_inputs(c, &inputs);
    for (int odd = 0; odd < 2; odd++) {
        snprintf(path, sizeof path, "%s/%s-%d", (const char *)*state, c->folder, odd);
        assert_ok(sp_make_folders(path));
        snprintf(path, sizeof path, "%s/%s-%d/config.json", (const char *)*state, c->folder, odd);
        assert_ok(sp_copy_file(golden_file(c->folder, "config.json"), path, NULL));
        snprintf(path, sizeof path, "%s/%s-%d/%s", (const char *)*state, c->folder, odd, c->weights);
        save_shifted(golden_file(c->folder, c->weights), path, dtype, odd ? sp_dtype_size(dtype) : 0);
        snprintf(path, sizeof path, "%s/%s-%d", (const char *)*state, c->folder, odd);
        assert_ok(sp_component_forward(path, c->component, inputs, precision, sp_cpu_device(), &outputs[odd]));
    }
    for (int i = 0; i < outputs[0].count; i++) {
        const sp_tensor *aligned = &outputs[0].item[i].tensor, *odd = &outputs[1].item[i].tensor;
        if (memcmp(aligned->data, odd->data, sp_tensor_bytes(odd)) != 0)
            fail_msg("%s %s, weights in %s, computed in %s: other bits from a file with tensors at odd places",
                     c->folder, outputs[0].item[i].name, sp_dtype_name(dtype), sp_dtype_name(precision));
    }
    sp_named_outputs_free(&outputs[0]);
    sp_named_outputs_free(&outputs[1]);
    sp_tensor_file_close(inputs);
}

static void test_odd_places(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case(state, &cases[i], SP_F32, SP_F32);
        check_case(state, &cases[i], SP_F16, SP_F32);
        check_case(state, &cases[i], SP_BF16, SP_BF16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_odd_places, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests_name("places", tests, NULL, NULL);
}
