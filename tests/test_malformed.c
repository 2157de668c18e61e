/* Inputs that once did harm, each given to every reader: whatever it says, nothing may break, hang or be said to
 * a terminal. Sizes that no test can have as a file stand in a mapping of one page many times. */
#include "tensor_support.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/text.h"
#include "checkpoints/clip_file.h"
#include "checkpoints/dino_file.h"
#include "checkpoints/embedding.h"
#include "checkpoints/inception_file.h"
#include "checkpoints/lora.h"
#include "eval/picture_set.h"
#include "splam/splam.h"
#include "formats/pickle.h"
#include "formats/tensor_file_parts.h"
#include "train/checkpoint.h"
#include "train/checksum.h"

static const char *malformed(const char *name)
{
    return source_path("tests/malformed", name, NULL);
}

/* ---- every file to every reader ---- */

static void assert_clean(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 32 && *text != '\n') fail_msg("a control character: %s", text);
}

static sp_status read_features(const char *path)
{
    static const sp_preparation cleanly = {SP_CONVENTION_CLEAN, SP_TRANSFORM_NONE};
    const sp_extractor inception = {.kind = &sp_inception_extractor,
                                    .sha256 = "abc",
                                    .feature_count = 2,
                                    .feature = {{"features", 6}, {"logits", 3}}};
    sp_feature_store store;
    SP_TRY(sp_feature_store_open(path, &store));
    sp_status status = sp_feature_store_begin(&store, SP_EXTRACTOR_INCEPTION, &inception, &cleanly);
    if (!status) status = sp_feature_store_end(&store, SP_OK);
    sp_feature_store_close(&store);
    return status;
}

static void read_in_every_way(const char *path)
{
    sp_lora *lora;
    sp_learned learned;
    sp_inception_file inception;
    sp_clip_file clip;
    sp_dino_file dino;
    sp_picture_set set;
    sp_pickle *pickle;
    json_t *json;
    char *bytes, *text;
    size_t size;
    read_every_byte(path);
    if (sp_lora_open(path, &lora) == SP_OK) sp_lora_close(lora);
    sp_learned_open(&(splam_embedding){.path = path}, &learned);
    sp_learned_free(&learned);
    if (sp_inception_file_open(path, &inception) == SP_OK) sp_inception_file_free(&inception);
    if (sp_clip_file_open(path, "gelu", &clip) == SP_OK) sp_clip_file_free(&clip);
    if (sp_dino_file_open(path, &dino) == SP_OK) sp_dino_file_free(&dino);
    if (sp_picture_set_of_file(path, &set) == SP_OK) sp_picture_set_free(&set);
    read_features(path);
    assert_ok(sp_read_file(path, &bytes, &size));
    if (sp_pickle_read((const unsigned char *)bytes, size, path, NULL, &pickle) == SP_OK)
        sp_pickle_destroy(pickle);
    if (sp_json_parse(bytes, size, path, &json) == SP_OK) json_decref(json);
    splam_inspect_options o = splam_inspect_defaults();
    o.path = path;
    if (splam_inspect(&o, &text) == SPLAM_OK) {
        assert_clean(text);
        splam_free(text);
    }
    assert_clean(splam_error_message());
    sp_free(bytes);
}

static void test_all_files(void **state)
{
    (void)state;
    char **names;
    size_t count;
    assert_ok(sp_list_folder(malformed(""), &names, &count));
    assert_true(count > 5);
    for (size_t i = 0; i < count; i++) {
        read_in_every_way(malformed(names[i]));
        sp_free(names[i]);
    }
    sp_free(names);
}

/* ---- what some of them must be told ---- */

static void test_numbers(void **state)
{
    (void)state;
    sp_lora *lora;
    assert_ok(read_every_byte(malformed("stride.ckpt")));
    assert_status(read_every_byte(malformed("zip64place.ckpt")), SP_FORMAT);
    assert_message("\"a/data.pkl\" is not at byte 18446744073709551608");
    assert_status(sp_lora_open(malformed("lora_product.safetensors"), &lora), SP_FORMAT);
    assert_message("the shape [1099511627776,1099511627776,0] is too large");
    assert_status(sp_lora_open(malformed("lora_halves.safetensors"), &lora), SP_SHAPE);
    assert_message("do not go together");
}

static void test_features(void **state)
{
    static const struct {
        const char *name, *message;
        sp_status status;
    } cases[] = {
        {"features_sum.safetensors", "row 0 of inception has another checksum", SP_FORMAT},
        {"features_nan.safetensors", "\"inception.features\": element 0", SP_NUMERIC},
        {"features_rows.safetensors", "U8 [1099511627776,0], expected U8 [1099511627776,16]", SP_SHAPE},
        {"features_words.safetensors", "with the weights \\x1b]0;pwned\\x07, and these would be with abc", SP_ARGUMENT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_status(read_features(malformed(cases[i].name)), cases[i].status);
        assert_message(cases[i].message);
    }
}

static void test_escapes(void **state)
{
    (void)state;
    char *text;
    splam_inspect_options o = splam_inspect_defaults();
    o.path = malformed("escape.safetensors");
    assert_int_equal(splam_inspect(&o, &text), SPLAM_OK);
    assert_clean(text);
    assert_non_null(strstr(text, "\n  \\x1b]0;pwned\\x07\\x1b[31mred\\x0a second line F32 [1]\n"));
    splam_free(text);
}

/* ---- lengths beyond an int ---- */

enum { PAGE = 4096, BLOCK = 2 << 20 };

/* `head`, which ends a page, `count` times the block of 'a', and a page that begins with `tail`. */
static const unsigned char *map_huge(const char *head, size_t head_size, size_t count,
                                     const char *tail, size_t tail_size, size_t *size)
{
    *size = PAGE + count * BLOCK + PAGE;
    char *all = mmap(NULL, *size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(all != MAP_FAILED);
    int memory = memfd_create("block", MFD_CLOEXEC);
    assert_true(memory >= 0 && ftruncate(memory, BLOCK) == 0);
    for (size_t i = 0; i < count; i++)
        assert_true(mmap(all + PAGE + i * BLOCK, BLOCK, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_FIXED, memory, 0) != MAP_FAILED);
    close(memory);
    memset(all + PAGE, 'a', BLOCK);
    memset(all, 'N', PAGE); /* None, again and again */
    memcpy(all + PAGE - head_size, head, head_size);
    memcpy(all + PAGE + count * BLOCK, tail, tail_size);
    return (const unsigned char *)all;
}

static sp_status read_torch(const unsigned char *data, size_t size)
{
    char path[] = "huge.ckpt";
    const sp_mapped_file shard = {.data = data, .size = size, .path = path};
    sp_tensor_file file = {.arena = sp_arena_create(),
                           .by_name = sp_dictionary_create(),
                           .metadata = sp_dictionary_create(),
                           .path = path};
    sp_status status = sp_torch_read(&file, &shard);
    sp_free(file.entries);
    sp_dictionary_destroy(file.by_name);
    sp_dictionary_destroy(file.metadata);
    sp_arena_destroy(file.arena);
    return status;
}

#define PREAMBLE "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.I1001\n.}.(" /* protocol, machine */

/* An old checkpoint's object: {KEY: value}, KEY of 2^31 bytes. */
static void test_huge_key(void **state)
{
    (void)state;
    static const char head[] = "1}X\0\0\0\x80";
    static const char tensor[] =
        "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI1\ntQ"
        "I0\n(I1\nt(I1\ntI00\nNtRs.(V0\nl.\1\0\0\0\0\0\0\0\0\0\0\0";
    static const char number[] = "I3\ns.(l.";
    size_t size;
    const unsigned char *data =
        map_huge(head, sizeof head - 1, 1024, tensor, sizeof tensor - 1, &size);
    memcpy((char *)(uintptr_t)data, PREAMBLE, sizeof PREAMBLE - 1);
    assert_status(read_torch(data, size), SP_FORMAT);
    assert_message("huge.ckpt: a tensor's name has 2147483648 bytes, \"aaaa");
    assert_message("aaa...\"");
    memcpy((char *)(uintptr_t)data + size - PAGE, number, sizeof number);
    assert_ok(read_torch(data, size)); /* a word beside the tensors: not one that anybody asks for */
    assert_int_equal(munmap((void *)(uintptr_t)data, size), 0);
}

/* A global whose module is a text of 2^31 bytes: nothing of that size is copied. */
static void test_huge_global(void **state)
{
    (void)state;
    static const char head[] = "1X\0\0\0\x80", tail[] = "Vx\n\x93.(l.";
    size_t size;
    const unsigned char *data = map_huge(head, sizeof head - 1, 1024, tail, sizeof tail - 1, &size);
    memcpy((char *)(uintptr_t)data, PREAMBLE, sizeof PREAMBLE - 1);
    assert_status(read_torch(data, size), SP_FORMAT);
    assert_message("names a global by a text that is too long");
    assert_int_equal(munmap((void *)(uintptr_t)data, size), 0);
}

/* ---- modules that are in many places ---- */

static sp_string repeated(const char *begin, const char *item, int count, const char *end)
{
    sp_string s = {0};
    sp_string_append(&s, begin, strlen(begin));
    for (int i = 0; i < count; i++)
        sp_string_append(&s, item, strlen(item));
    sp_string_append(&s, end, strlen(end));
    return s;
}

/* A module of a thousand tensors within one a thousand times over: a million of a few kilobytes. */
static void test_shared_modules(void **state)
{
    (void)state;
    static const char tensor[] = "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI0\ntQ"
                                 "I0\n(I0\nt(I1\ntI00\nNtRp9\n0";
    static const char module[] = "c__torch__\nM\n)\x81}(", end[] = "ub";
    sp_string inner = repeated(module, "Vx\ng9\n", 1000, end), all = {0};
    sp_string outer = repeated(module, "Vm\ng8\n", 1000, end);
    sp_string_append(&all, PREAMBLE, sizeof PREAMBLE - 2); /* without its last mark */
    sp_string_append(&all, tensor, sizeof tensor - 1);
    sp_string_append(&all, inner.data, inner.length);
    sp_string_append(&all, "p8\n0", 4);
    sp_string_append(&all, outer.data, outer.length);
    sp_string_append(&all, ".(V0\nl.\0\0\0\0\0\0\0\0", 15);
    assert_false(inner.failed || outer.failed || all.failed);
    assert_status(read_torch((const unsigned char *)all.data, all.length), SP_FORMAT);
    assert_message("its modules are nested too deep, or contain themselves");
    sp_string_free(&inner);
    sp_string_free(&outer);
    sp_string_free(&all);
}

/* ---- headers that take hundreds of times their size ---- */

static void test_dense_headers(void **state)
{
    enum { OBJECTS = 1 << 20 };
    static const char begin[] = "{\"x\":[", end[] = "{}]}";
    sp_string s = {0};
    sp_tensor_file *file;
    uint64_t length = sizeof begin - 1 + 3 * (uint64_t)OBJECTS + sizeof end - 1;
    sp_string_append(&s, (const char *)&length, sizeof length); /* on a little-endian machine */
    sp_string_append(&s, begin, sizeof begin - 1);
    for (int i = 0; i < OBJECTS; i++)
        sp_string_append(&s, "{},", 3);
    sp_string_append(&s, end, sizeof end - 1);
    assert_false(s.failed);
    assert_ok(sp_write_file(in_folder(state, "dense.safetensors"), s.data, s.length));
    sp_string_free(&s);
    assert_status(sp_tensor_file_open(in_folder(state, "dense.safetensors"), &file), SP_UNSUPPORTED);
    assert_message("the header has 1048579 brackets and 1048576 commas");
}

/* ---- a checkpoint's description ---- */

static json_t *file_entry(json_int_t bytes)
{
    return json_pack("{s:I, s:s}", "bytes", bytes, "xxh3", "0123456789abcdef");
}

static sp_status verify(const char *folder, json_t *files, const sp_callbacks *callbacks)
{
    static const char *const names[] = {"a", "b"};
    sp_checksums sums = {
        .folder = folder, .files = files, .callbacks = callbacks, .task = "verifying"};
    sp_status status = sp_checksum_verify(&sums, names, 2);
    json_decref(files);
    return status;
}

static bool yes(void *asked)
{
    ++*(int *)asked;
    return true;
}

static void test_described_files(void **state)
{
    const char *folder = *state;
    const json_int_t most = INT64_MAX;
#define FILES(a, b) json_pack("{s:o, s:o}", "a.safetensors", file_entry(a), "b.safetensors", file_entry(b))
    /* sums that overflow; what is not a number of bytes */
    assert_status(verify(folder, FILES(most, most), NULL), SP_FORMAT);
    assert_message("more bytes than there can be");
    assert_status(verify(folder, FILES(4, -1), NULL), SP_FORMAT);
    assert_message("no \"bytes\" and \"xxh3\" of b.safetensors");
    /* other names are not looked at, wherever they lead */
    json_t *files = FILES(4, 4);
    json_object_set_new(files, "../../../../dev/zero", file_entry(4));
    assert_status(verify(folder, files, NULL), SP_FORMAT);
    assert_message("names 3 files, and a checkpoint has 2");
    files = json_pack("{s:o, s:o}", "a.safetensors", file_entry(4), "/dev/zero", file_entry(4));
    assert_status(verify(folder, files, NULL), SP_FORMAT);
    assert_message("no checksum of b.safetensors");
    /* neither pipes nor links nor folders nor what has another size */
    assert_int_equal(mkfifo(in_folder(state, "a.safetensors"), 0600), 0);
    assert_status(verify(folder, FILES(4, 4), NULL), SP_IO);
    assert_message("a.safetensors: expected a file");
    assert_int_equal(unlink(in_folder(state, "a.safetensors")), 0);
    assert_int_equal(symlink("/dev/zero", in_folder(state, "a.safetensors")), 0);
    assert_status(verify(folder, FILES(4, 4), NULL), SP_IO);
    assert_message("a.safetensors: expected a file, found a symbolic link");
    assert_int_equal(unlink(in_folder(state, "a.safetensors")), 0);
    assert_ok(sp_write_file(in_folder(state, "a.safetensors"), "12345", 5));
    assert_status(verify(folder, FILES(4, 4), NULL), SP_FORMAT);
    assert_message("has 5 bytes, and 4 were written");
    /* the wish to stop is heard before anything is read */
    int asked = 0;
    const sp_callbacks callbacks = {.context = &asked, .cancelled = yes};
    assert_status(verify(folder, FILES(5, 5), &callbacks), SP_CANCELLED);
    assert_int_equal(asked, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_files),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_huge_key),
        cmocka_unit_test(test_huge_global),
        cmocka_unit_test(test_shared_modules),
        cmocka_unit_test_setup_teardown(test_dense_headers, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_described_files, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
