/* The optimiser's moments in 8 bits: their memory, and their files. */
#include "support.h"
#include "base/json.h"
#include "train/checkpoint.h"

/* What is allocated: codes in whole blocks, and their scales. */
static void moments_are_counted_in_blocks(void **state)
{
    (void)state;
    assert_int_equal(sp_moment_bytes(SP_OPTIMIZER_ADAMW, 4097), 2 * 4 * 4097);
    assert_int_equal(sp_moment_bytes(SP_OPTIMIZER_ADAMW8BIT, 4095), 2 * 4 * 4095);
    assert_int_equal(sp_moment_bytes(SP_OPTIMIZER_ADAMW8BIT, 4096), 2 * (4096 + 16 * 4));
    assert_int_equal(sp_moment_bytes(SP_OPTIMIZER_ADAMW8BIT, 4097), 2 * (4352 + 17 * 4));
}

static const sp_tensor *file_tensor(const sp_tensor_file *file, const char *name, sp_dtype dtype, int64_t count)
{
    const sp_tensor *tensor;
    assert_ok(sp_tensor_file_get(file, name, &tensor));
    assert_int_equal(tensor->dtype, dtype);
    assert_true(sp_shape_equal(tensor->shape, sp_shape_of(count)));
    return tensor;
}

/* Files of 8-bit moments have each element's code as U8, and nothing of what fills the last block up. */
static void coded_moments_are_saved_by_element(void **state)
{
    enum { N = 17 * 256 + 1, FULL = 18 * 256 };
    char output[512];
    snprintf(output, sizeof output, "%s", in_folder(state, "run"));
    json_t *settings = json_pack("{s:i}", "seed", 1);
    sp_training_state saved, loaded;
    bool found;
    for (int k = 0; k < 2; k++) {
        sp_weights *initial;
        sp_tensor tensor;
        assert_ok(sp_weights_create(&initial));
        assert_ok(sp_tensor_create(SP_F32, sp_shape_of(N), &tensor));
        assert_ok(sp_weights_add(initial, "w", tensor));
        assert_ok(sp_training_state_create(initial, SP_OPTIMIZER_ADAMW8BIT, k ? &loaded : &saved));
    }
    for (int part = 2; part < 4; part++) {
        uint8_t *code = sp_weights_find(*sp_training_part(&saved, part), "w")->data;
        float *scale = sp_weights_find(*sp_training_part(&saved, part), "w.scales")->data;
        for (int i = 0; i < N; i++)
            code[i] = (uint8_t)(i * 7 + part);
        for (int i = 0; i < 18; i++)
            scale[i] = (float)(i + part);
    }
    assert_ok(sp_checkpoint_save(output, &saved, settings, 0, NULL));
    assert_ok(sp_checkpoint_load(output, "latest", settings, &loaded, NULL, &found));
    assert_true(found);
    for (int part = 2; part < 4; part++) {
        sp_tensor_file *file;
        const char *name = part == 2 ? "run/checkpoint-0/first_moment.safetensors"
                                     : "run/checkpoint-0/second_moment.safetensors";
        assert_ok(sp_safetensors_open(in_folder(state, name), &file));
        assert_int_equal(sp_tensor_file_count(file), 2);
        const uint8_t *codes = file_tensor(file, "w", SP_U8, N)->data;
        const float *scales = file_tensor(file, "w.scales", SP_F32, 18)->data;
        const sp_tensor *taken = sp_weights_find(*sp_training_part(&loaded, part), "w");
        assert_int_equal(sp_tensor_bytes(taken), FULL);
        for (int i = 0; i < FULL; i++) {
            uint8_t expected = i < N ? (uint8_t)(i * 7 + part) : part == 2 ? SP_DYNAMIC8_ZERO : 0;
            if (i < N) assert_int_equal(codes[i], expected);
            assert_int_equal(((const uint8_t *)taken->data)[i], expected);
        }
        taken = sp_weights_find(*sp_training_part(&loaded, part), "w.scales");
        assert_memory_equal(taken->data, scales, 18 * sizeof *scales);
        assert_true(scales[17] == (float)(17 + part));
        sp_tensor_file_close(file);
    }
    sp_training_state_free(&saved);
    sp_training_state_free(&loaded);
    json_decref(settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_counted_in_blocks),
        cmocka_unit_test_setup_teardown(coded_moments_are_saved_by_element, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests_name("moments", tests, NULL, NULL);
}
