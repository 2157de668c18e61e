/* Files of packed weights as hostile bytes: each is refused by a sentence, or gives nothing beside what it has. */
#include "packed_support.h"

static const char *const pairs[][2] = {{"instruction_set", "avx9"}, {"kernels", "0123456789abcdef"}};
static const sp_packed_terms terms = {pairs, 2};
enum { SMALL = 100, LARGE = 70000 }; /* bytes of two packs; the latter begins with a page */

typedef struct {
    char source[256], packed[256];
    sp_tensor_file *file; /* the source */
} place;

/* A file of weights, and one of its packs. */
static void make_place(void **state, place *p)
{
    static unsigned char bytes[LARGE];
    sp_tensor tensor;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7);
    snprintf(p->source, sizeof p->source, "%s", in_folder(state, "weights.safetensors"));
    snprintf(p->packed, sizeof p->packed, "%s", in_folder(state, "packed-avx9-f32.splam"));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(5, 5), &tensor));
    assert_ok(sp_safetensors_save(p->source, &(sp_named_tensor){"matrix", &tensor}, 1, NULL, 0));
    sp_tensor_free(&tensor);
    assert_ok(sp_tensor_file_open(p->source, &p->file));
    const sp_packed_weight weights[] = {{"matrix", 1, SMALL, bytes}, {"matrix", 2, LARGE, bytes}};
    assert_ok(sp_packed_save(p->packed, weights, 2, &terms, p->file, NULL));
}

static sp_status open_packed(const place *p)
{
    sp_packed_file *file;
    sp_status status = sp_packed_open(p->packed, &terms, p->file, &file);
    assert_int_equal(status == SP_OK, file != NULL);
    sp_packed_close(file);
    return status;
}

static void what_was_written_is_found(void **state)
{
    place p;
    sp_packed_file *file;
    make_place(state, &p);
    assert_ok(sp_packed_open(p.packed, &terms, p.file, &file));
    const unsigned char *small = sp_packed_find(file, "matrix", 1, SMALL),
                        *large = sp_packed_find(file, "matrix", 2, LARGE);
    assert_true(small && large);
    assert_int_equal((uintptr_t)small % 64, 0);
    assert_int_equal((uintptr_t)large % 4096, 0);
    for (int i = 0; i < LARGE; i++)
        if (large[i] != (unsigned char)(i * 7) || (i < SMALL && small[i] != large[i])) fail_msg("other bytes at %d", i);
    assert_true(sp_packed_knows(file, "matrix"));
    assert_false(sp_packed_knows(file, "vector"));
    assert_null(sp_packed_find(file, "matrix", 3, SMALL));
    assert_null(sp_packed_find(file, "matrix", 1, LARGE));
    assert_null(sp_packed_find(file, "vector", 1, SMALL));
    sp_packed_close(file);
    sp_tensor_file_close(p.file);
}

static void refuse(const place *p, sp_status status, const char *words)
{
    assert_status(open_packed(p), status);
    assert_message(p->packed);
    assert_message(words);
}

static void other_tensors(void **state)
{
    place p;
    sp_tensor tensor;
    char name[256];
    make_place(state, &p);
    size_t at = a_weight(p.packed, &tensor, name);
    sp_tensor other = tensor;
    other.shape = sp_shape_of(1, SMALL);
    save_changed(p.packed, NULL, NULL, at, &other, NULL);
    refuse(&p, SP_FORMAT, "packed weights are U8 [bytes]");
    other.shape = sp_shape_of(SMALL - 1);
    save_changed(p.packed, NULL, NULL, at, &other, NULL);
    refuse(&p, SP_FORMAT, "is not called KEY:BYTES:NAME");
    static const char *const names[] = {"matrix", "", ":", "0000000000000001", "0000000000000001:",
                                        "000000000000001:99:m", "0000000000000001:99:", "0000000000000001:-99:m",
                                        "0000000000000001: 99:m",
                                        "0000000000000001:18446744073709551715:m", "000000000000000G:99:m"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        save_changed(p.packed, NULL, NULL, at, NULL, names[i]);
        refuse(&p, SP_FORMAT, "is not called KEY:BYTES:NAME");
    }
    sp_tensor_free(&tensor);
    sp_tensor_file_close(p.file);
}

static void other_weights(void **state)
{
    place p;
    make_place(state, &p);
    save_changed(p.packed, "kernels", "0", 0, NULL, NULL);
    refuse(&p, SP_UNSUPPORTED, "was written for kernels \"0\", and here it is \"0123456789abcdef\"");
    sp_tensor_file_close(p.file);
    make_place(state, &p);
    save_changed(p.packed, "source_hash", "0", 0, NULL, NULL);
    refuse(&p, SP_UNSUPPORTED, "was written of other weights than");
    sp_tensor_file_close(p.file);
}

/* Cut off anywhere in its header or data, and each byte of the header changed: whatever is still well formed opens. */
static void damaged_bytes(void **state)
{
    place p;
    char *good;
    size_t size;
    make_place(state, &p);
    assert_ok(sp_read_file(p.packed, &good, &size));
    size_t header = 8 + (unsigned char)good[0] + 256 * (size_t)(unsigned char)good[1];
    assert_in_range(header, 100, size - LARGE);
    for (size_t length = 0; length < size; length += length < header ? 7 : 4001) {
        overwrite(p.packed, good, length);
        refuse(&p, SP_FORMAT, p.packed);
    }
    for (size_t i = 0; i < header; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            good[i] ^= (char)(1 << bit);
            overwrite(p.packed, good, size);
            sp_status status = open_packed(&p);
            if (status && status != SP_FORMAT && status != SP_UNSUPPORTED && status != SP_MEMORY)
                fail_msg("byte %zu: %s: %s", i, sp_status_text(status), sp_error_message());
            if (status) assert_message(p.packed);
            good[i] ^= (char)(1 << bit);
        }
    sp_free(good);
    sp_tensor_file_close(p.file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_test_folder, remove_test_folder)
    const struct CMUnitTest tests[] = {
        CASE(what_was_written_is_found),
        CASE(other_tensors),
        CASE(other_weights),
        CASE(damaged_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
