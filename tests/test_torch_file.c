/* What torch.save writes, read as data: equal to the same tensors as safetensors, and harmless
 * whatever its bytes are. */
#include "tensor_support.h"

#include "base/text.h"
#include "formats/pickle.h"
#include "formats/safetensors.h"

/* ---- good files ---- */

static const char *checkpoint(const char *name)
{
    return golden_file("checkpoints", name);
}

static void assert_equal_files(const char *path, const char *reference_path)
{
    sp_tensor_file *file, *reference;
    assert_ok(sp_tensor_file_open(path, &file));
    assert_ok(sp_safetensors_open(reference_path, &reference));
    assert_int_equal(sp_tensor_file_count(file), sp_tensor_file_count(reference));
    for (size_t i = 0; i < sp_tensor_file_count(reference); i++) {
        const sp_tensor *expected = sp_tensor_file_at(reference, i), *found;
        assert_ok(sp_tensor_file_get(file, sp_tensor_file_name(reference, i), &found));
        assert_string_equal(sp_dtype_name(found->dtype), sp_dtype_name(expected->dtype));
        assert_true(sp_shape_equal(found->shape, expected->shape));
        assert_int_equal((uintptr_t)found->data % sp_dtype_size(found->dtype), 0);
        if (sp_tensor_bytes(expected))
            assert_memory_equal(found->data, expected->data, sp_tensor_bytes(expected));
        sp_tensor_file_drop(file, found);
    }
    sp_tensor_file_close(reference);
    sp_tensor_file_close(file);
}

static void test_formats(void **state)
{
    (void)state;
    assert_equal_files(checkpoint("zip.ckpt"), checkpoint("tensors.safetensors"));
    assert_equal_files(checkpoint("legacy.ckpt"), checkpoint("tensors.safetensors"));
    assert_equal_files(checkpoint("protocol4.ckpt"), checkpoint("tensors.safetensors"));
    assert_equal_files(checkpoint("float8.ckpt"), checkpoint("float8.safetensors"));
    assert_equal_files(checkpoint("float8_legacy.ckpt"), checkpoint("float8.safetensors"));
    assert_equal_files(checkpoint("bare.bin"), checkpoint("tensors.safetensors"));
    assert_equal_files(checkpoint("tensors.safetensors"), checkpoint("tensors.safetensors"));
    sp_tensor_file *file;
    assert_ok(sp_tensor_file_open(checkpoint("zip.ckpt"), &file));
    assert_string_equal(sp_tensor_file_metadata(file, "global_step"), "875000");
    assert_string_equal(sp_tensor_file_metadata(file, "name"), "tiny");
    assert_null(sp_tensor_file_metadata(file, "callbacks"));
    assert_string_equal(sp_tensor_file_format(file), "PyTorch archive");
    sp_tensor_file_close(file);
    /* What must be safetensors is nothing else. */
    assert_status(sp_safetensors_open(checkpoint("zip.ckpt"), &file), SP_FORMAT);
}

/* ---- archives made here ---- */

typedef struct {
    const char *name;
    const void *data;
    size_t size;
    unsigned method;
    uint32_t claimed; /* bytes that the directory claims; 0: the truth */
} member;

static void put(sp_string *s, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        char byte = i < 8 ? (char)(number >> 8 * i) : 0;
        sp_string_append(s, &byte, 1);
    }
}

/* The directory's entry, or the header before the data; 64: with the numbers in a zip64 field. */
static void put_header(sp_string *s, const member *m, uint64_t place, bool central, bool wide)
{
    uint64_t size = m->claimed ? m->claimed : m->size;
    uint32_t none = UINT32_MAX;
    sp_string_append(s, central ? "PK\1\2" : "PK\3\4", 4);
    put(s, 45, central ? 4 : 2); /* versions */
    put(s, 0, 2);                /* flags */
    put(s, m->method, 2);
    put(s, 0, 8); /* time, checksum */
    put(s, wide && central ? none : size, 4);
    put(s, wide && central ? none : size, 4);
    put(s, strlen(m->name), 2);
    put(s, wide && central ? 28 : 0, 2);
    if (central) {
        put(s, 0, 10);
        put(s, wide ? none : place, 4);
    }
    sp_string_append(s, m->name, strlen(m->name));
    if (!wide || !central) return;
    put(s, 1, 2);
    put(s, 24, 2);
    put(s, size, 8);
    put(s, size, 8);
    put(s, place, 8);
}

static void write_zip(const char *path, const member *members, size_t count, bool wide)
{
    sp_string s = {0};
    uint64_t places[8];
    for (size_t i = 0; i < count; i++) {
        places[i] = s.length;
        put_header(&s, &members[i], 0, false, false);
        sp_string_append(&s, members[i].data, members[i].size);
    }
    uint64_t directory = s.length;
    for (size_t i = 0; i < count; i++)
        put_header(&s, &members[i], places[i], true, wide);
    uint64_t size = s.length - directory, end = s.length;
    if (wide) {
        sp_string_append(&s, "PK\6\6", 4);
        put(&s, 44, 8);
        put(&s, 0, 12);
        put(&s, count, 8);
        put(&s, count, 8);
        put(&s, size, 8);
        put(&s, directory, 8);
        sp_string_append(&s, "PK\6\7", 4);
        put(&s, 0, 4);
        put(&s, end, 8);
        put(&s, 1, 4);
    }
    sp_string_append(&s, "PK\5\6", 4);
    put(&s, 0, 4);
    put(&s, wide ? 0xffff : count, 2);
    put(&s, wide ? 0xffff : count, 2);
    put(&s, wide ? UINT32_MAX : size, 4);
    put(&s, wide ? UINT32_MAX : directory, 4);
    put(&s, 0, 2);
    assert_false(s.failed);
    assert_ok(sp_write_file(path, s.data, s.length));
    sp_string_free(&s);
}

static const float storage[] = {0, 1, 2, 3, 4, 5};

/* An archive of that pickle and one storage of six floats. */
static void write_checkpoint(const char *path, const char *pickle)
{
    member members[] = {{"a/data.pkl", pickle, strlen(pickle), 0, 0},
                        {"a/data/0", storage, sizeof storage, 0, 0}};
    write_zip(path, members, 2, false);
}

#define STORAGE "(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQ"
#define TENSOR(layout) "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE layout "I00\nNtR"
#define HOLDING(value) "}Vw\n" value "s."

static sp_status open_pickle(void **state, const char *pickle)
{
    sp_tensor_file *file;
    write_checkpoint(in_folder(state, "a.ckpt"), pickle);
    sp_status status = sp_tensor_file_open(in_folder(state, "a.ckpt"), &file);
    if (!status) sp_tensor_file_close(file);
    return status;
}

static void test_layouts(void **state)
{
    static const struct {
        const char *layout;
        int64_t count;
        float values[6];
    } good[] = {
        {"I0\n(I6\nt(I1\nt", 6, {0, 1, 2, 3, 4, 5}},
        {"I2\n(I2\nt(I1\nt", 2, {2, 3}},
        {"I0\n(I3\nI2\nt(I1\nI3\nt", 6, {0, 3, 1, 4, 2, 5}},
        {"I1\n(I3\nt(I2\nt", 3, {1, 3, 5}},
        {"I5\n))", 1, {5}},
        {"I0\n(I0\nI9\nt(I9\nI9\nt", 0, {0}},
        {"I4\n(I3\nt(I0\nt", 3, {4, 4, 4}},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char *pickle = sp_format("}Vw\nctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "%sI00\nNtRs.",
                                 good[i].layout);
        sp_tensor_file *file;
        const sp_tensor *found;
        write_checkpoint(in_folder(state, "a.ckpt"), pickle);
        assert_ok(sp_tensor_file_open(in_folder(state, "a.ckpt"), &file));
        assert_ok(sp_tensor_file_get(file, "w", &found));
        assert_int_equal(sp_tensor_count(found), good[i].count);
        assert_memory_equal(found->data, good[i].values, (size_t)good[i].count * sizeof(float));
        sp_tensor_file_close(file);
        sp_free(pickle);
    }
}

static void test_hostile_layouts(void **state)
{
    static const struct {
        const char *pickle;
        sp_status status;
        const char *message;
    } bad[] = {
        {HOLDING(TENSOR("I0\n(I7\nt(I1\nt")), SP_FORMAT, "reaches beyond its storage"},
        {HOLDING(TENSOR("I6\n(I1\nt(I1\nt")), SP_FORMAT, "reaches beyond its storage"},
        {HOLDING(TENSOR("I0\n(I2\nt(I6\nt")), SP_FORMAT, "reaches beyond its storage"},
        {HOLDING(TENSOR("I-1\n(I1\nt(I1\nt")), SP_FORMAT, "an offset that is not a natural number"},
        {HOLDING(TENSOR("I5\n(I2\nt(I-1\nt")), SP_FORMAT, "a size or a stride"},
        {HOLDING(TENSOR("I0\n(I-2\nt(I1\nt")), SP_FORMAT, "a size or a stride"},
        {HOLDING(TENSOR("I0\n(I2\nI2\nt(I1\nt")), SP_FORMAT, "tuples of sizes and strides"},
        {HOLDING(TENSOR("I9223372036854775807\n(I2\nt(I9223372036854775807\nt")), SP_FORMAT,
         "reaches beyond its storage"},
        {HOLDING(TENSOR("I0\n(I3\nI9223372036854775807\nt(I9223372036854775807\nI1\nt")), SP_FORMAT,
         "a shape that is too large"},
        {HOLDING(TENSOR("I0\n(I4611686018427387904\nt(I0\nt")), SP_FORMAT, "too large"},
        {HOLDING(TENSOR("I0\n(I1000000000\nt(I0\nt")), SP_UNSUPPORTED,
         "copies of such tensors would take more than the file's"},
        {HOLDING(TENSOR("I0\n(I1\nI1\nI1\nI1\nI1\nI1\nI1\nt(I1\nI1\nI1\nI1\nI1\nI1\nI1\nt")),
         SP_UNSUPPORTED, "7 dimensions"},
        {HOLDING(
             "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV1\nVcpu\nI6\n"
             "tQI0\n(I1\nt(I1\ntI00\nNtR"),
         SP_FORMAT, "its storage \"1\" is not in the file"},
        {HOLDING(
             "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI7\n"
             "tQI0\n(I1\nt(I1\ntI00\nNtR"),
         SP_FORMAT, "should have 7 elements of F32, but has 24 bytes"},
        {HOLDING("ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\n"
                 "I4611686018427387905\ntQI0\n(I1\nt(I1\ntI00\nNtR"),
         SP_FORMAT, "should have 4611686018427387905 elements"},
        {HOLDING(
             "ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nQInt8Storage\nV0\nVcpu\nI6\n"
             "tQI0\n(I1\nt(I1\ntI00\nNtR"),
         SP_UNSUPPORTED, "the unsupported type \"torch QInt8Storage\""},
        {HOLDING("ctorch._utils\n_rebuild_tensor_v2\n(NI0\n(I1\nt(I1\ntI00\nNtR"), SP_FORMAT,
         "made of something that is no storage"},
        {HOLDING("ctorch._utils\n_rebuild_tensor_v2\nNR"), SP_FORMAT, "is no storage"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_status(open_pickle(state, bad[i].pickle), bad[i].status);
        assert_message(bad[i].message);
        assert_message("a.ckpt: ");
    }
}

/* ---- what would run in Python ---- */

static void test_code_is_inert(void **state)
{
    char *victim = sp_strdup(in_folder(state, "victim"));
    char *system_call = sp_format("cos\nsystem\n(Vtouch %s\ntR", victim), *pickle;
    /* in place of the dictionary */
    pickle = sp_format("%s.", system_call);
    assert_status(open_pickle(state, pickle), SP_FORMAT);
    assert_message("holds os system where a dictionary of tensors was expected");
    sp_free(pickle);
    /* in place of a storage */
    pickle = sp_format("}Vw\nctorch._utils\n_rebuild_tensor_v2\n(%sI0\n(I1\nt(I1\ntI00\nNtRs.",
                       system_call);
    assert_status(open_pickle(state, pickle), SP_FORMAT);
    assert_message("tensor \"w\" is made of something that is no storage");
    sp_free(pickle);
    /* beside the tensors: nothing depends on it */
    pickle = sp_format("}Vx\n%ssVw\n" TENSOR("I0\n(I6\nt(I1\nt") "sVy\n(ibuiltins\neval\ns.",
                       system_call);
    assert_ok(open_pickle(state, pickle));
    sp_free(pickle);
    /* as the class of an object, its state, an extension, a name from the stack */
    assert_ok(open_pickle(state, "}Vx\n(cposix\nsystem\nVls\nosVy\ncos\nsystem\n)\x81}bs."));
    assert_ok(open_pickle(state, "}Vx\n\x82\x01sVy\nVos\nVsystem\n\x93s."));
    assert_false(sp_path_exists(victim));
    sp_free(system_call);
    sp_free(victim);
}

static void test_damaged_pickles(void **state)
{
    static const struct {
        const char *pickle, *message;
    } bad[] = {
        {"", "does not end"},
        {"}", "does not end"},
        {".", "takes from an empty stack"},
        {"(.", "takes a mark for a value"},
        {"}Vx\n(s.", "takes a mark for a value"},
        {"t.", "a mark that is not there"},
        {"}(Vx\nu.", "a key without a value"},
        {"(Vx\nd.", "a key without a value"},
        {"}Vx\nNNa.", "adds items to what takes none"},
        {"}p99999999\n.", "a memo number that is too large"},
        {"}p-1\n.", "a memo number that is too large"},
        {"g7\n.", "a memo that was never put"},
        {"Vabc", "begins a line that does not end"},
        {"X\xff\xff\xff\xff.", "asks for more bytes"},
        {"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "asks for more bytes"},
        {"Sabc\n.", "a quoted text"},
        {"S\n.", "a quoted text"},
        {"Fx\n.", "a number"},
        {"g\n.", "a number"},
        {"(o.", "an object of no class"},
        {"\x86.", "takes from an empty stack"},
        {"NN\x93.", "names a global by what is no text"},
        {"\x7f.", "(0x7f) is no operation"},
        {"I3\n.", "another thing where a dictionary"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_status(open_pickle(state, bad[i].pickle), SP_FORMAT);
        assert_message(bad[i].message);
    }
}

/* Values that contain themselves, many texts, numbers of all kinds. */
static void test_odd_pickles(void **state)
{
    assert_ok(open_pickle(state, "}p0\nVstate_dict\ng0\ns."));
    assert_ok(open_pickle(state, "}Vx\n]p0\ng0\nas."));
    assert_ok(open_pickle(state, "}Vx\nL123456789012345678901234567890L\nsVy\nI01\nsVz\nF1.5\ns."));
    assert_ok(open_pickle(state, "}Vx\n(lp1\n0g1\nI1\na2(I1\nI2\ne0s."));
    assert_ok(open_pickle(state, "}Vw\nctorch._utils\n_rebuild_parameter\n(" TENSOR(
                                     "I0\n(I6\nt(I1\nt") "I00\nNtRs."));
    /* More values than any checkpoint has are refused before they take memory. */
    enum { COUNT = 3 << 20 };
    char *many = sp_alloc(COUNT + 2);
    memset(many, 'N', COUNT);
    memcpy(many + COUNT, ".", 2);
    assert_status(open_pickle(state, many), SP_UNSUPPORTED);
    assert_message("more than 1048576 values");
    memset(many, '2', COUNT);
    many[0] = '}';
    assert_status(open_pickle(state, many), SP_UNSUPPORTED);
    sp_free(many);
}

/* Reading all tensors takes no more than some times the file: of 4,000 bytes that ten or forty tensors share. */
static void test_shared_storages(void **state)
{
    static const float thousand[1000];
    for (int many = 0; many < 2; many++) {
        sp_string s = {0};
        sp_tensor_file *file;
        sp_string_append_format(&s, "}Vfirst\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\n"
                                    "V0\nVcpu\nI1000\ntQI0\n(I1000\nt(I1\ntI00\nNtRp0\ns");
        for (int i = 1; i < (many ? 40 : 10); i++)
            sp_string_append_format(&s, "Vn%d\ng0\ns", i);
        while (s.length % 4 != 1)
            sp_string_append_format(&s, "\x98"); /* does nothing, but puts the storage where floats may lie */
        sp_string_append_format(&s, ".");
        const member members[] = {{"a/data.pkl", s.data, s.length, 0, 0},
                                  {"a/data/0", thousand, sizeof thousand, 0, 0}};
        write_zip(in_folder(state, "a.ckpt"), members, 2, false);
        sp_status status = sp_tensor_file_open(in_folder(state, "a.ckpt"), &file);
        assert_status(status, many ? SP_UNSUPPORTED : SP_OK);
        if (many) assert_message("share their storages so much");
        if (!status) sp_tensor_file_close(file);
        sp_string_free(&s);
    }
}

/* ---- archives ---- */

static void test_zip64(void **state)
{
    const char pickle[] = HOLDING(TENSOR("I0\n(I6\nt(I1\nt"));
    member members[] = {{"a/data.pkl", pickle, sizeof pickle - 1, 0, 0},
                        {"a/data/0", storage, sizeof storage, 0, 0}};
    sp_tensor_file *file;
    const sp_tensor *found;
    const char *path = in_folder(state, "wide.ckpt");
    write_zip(path, members, 2, true);
    assert_ok(sp_tensor_file_open(path, &file));
    assert_ok(sp_tensor_file_get(file, "w", &found));
    assert_memory_equal(found->data, storage, sizeof storage);
    sp_tensor_file_close(file);
}

static sp_status open_members(void **state, const member *members, size_t count)
{
    sp_tensor_file *file;
    write_zip(in_folder(state, "b.ckpt"), members, count, false);
    sp_status status = sp_tensor_file_open(in_folder(state, "b.ckpt"), &file);
    if (!status) sp_tensor_file_close(file);
    return status;
}

static void test_hostile_archives(void **state)
{
    static const char text[] = HOLDING(TENSOR("I0\n(I6\nt(I1\nt"));
    const member pickle = {"a/data.pkl", text, sizeof text - 1, 0, 0},
                 data = {"a/data/0", storage, sizeof storage, 0, 0};
    enum { DEFLATED = 8 };
    member packed = data, long_one = data, bomb = pickle;
    packed.method = DEFLATED;
    long_one.claimed = 1000;
    bomb.method = DEFLATED; /* compressed data are never unpacked, so none can burst */
    bomb.claimed = 0xfffffffe;
    assert_ok(open_members(state, (member[]){pickle, data}, 2));
    assert_status(open_members(state, (member[]){pickle, packed}, 2), SP_UNSUPPORTED);
    assert_message("its storage is compressed or encrypted");
    assert_status(open_members(state, (member[]){bomb, data}, 2), SP_FORMAT);
    assert_message("should have 4294967294 bytes");
    bomb.claimed = 0;
    assert_status(open_members(state, (member[]){bomb, data}, 2), SP_UNSUPPORTED);
    assert_message("data.pkl is compressed");
    assert_status(open_members(state, (member[]){pickle, long_one}, 2), SP_FORMAT);
    assert_message("\"a/data/0\" should have 1000 bytes");
    assert_status(open_members(state, (member[]){pickle, data, data}, 3), SP_FORMAT);
    assert_message("two entries \"a/data/0\"");
    assert_status(open_members(state, (member[]){data}, 1), SP_FORMAT);
    assert_message("without the data.pkl");
    assert_status(open_members(state, (member[]){pickle, data, {"a/byteorder", "big", 3, 0, 0}}, 3),
                  SP_UNSUPPORTED);
    assert_message("big-endian");
    assert_ok(open_members(state, (member[]){pickle, data, {"a/byteorder", "little", 6, 0, 0}}, 3));
}

/* ---- damage ---- */

static void damage(void **state, const char *name, bool is_whole)
{
    static const unsigned char masks[] = {0x01, 0x80, 0xff};
    char *data;
    size_t size;
    const char *path = in_folder(state, "damaged");
    assert_ok(sp_read_file(checkpoint(name), &data, &size));
    for (size_t length = 0; length < size; length++) {
        overwrite(path, data, length);
        sp_status status = read_every_byte(path);
        if (is_whole) assert_int_not_equal(status, SP_OK);
        assert_true(status == SP_OK || status == SP_FORMAT || status == SP_UNSUPPORTED);
    }
    for (size_t i = 0; i < size; i++)
        for (size_t k = 0; k < sizeof masks; k++) {
            data[i] = (char)(data[i] ^ masks[k]);
            overwrite(path, data, size);
            sp_status status = read_every_byte(path);
            assert_true(status == SP_OK || status == SP_FORMAT || status == SP_UNSUPPORTED);
            data[i] = (char)(data[i] ^ masks[k]);
        }
    sp_free(data);
}

static void test_damage(void **state)
{
    damage(state, "zip.ckpt", true);
    damage(state, "legacy.ckpt", true);
    damage(state, "protocol4.ckpt", true);
}

static sp_status attempt(void *context)
{
    return read_every_byte(checkpoint(context));
}

static void test_allocation_failures(void **state)
{
    (void)state;
    char zip[] = "zip.ckpt", legacy[] = "legacy.ckpt";
    assert_true(fail_every_allocation(attempt, zip) > 20);
    assert_true(fail_every_allocation(attempt, legacy) > 20);
}

/* ---- folders of pickles ---- */

static void test_folders(void **state)
{
    sp_tensor_file *file;
    assert_status(sp_tensor_file_open_folder(*state, "model", "pytorch_model", &file), SP_IO);
    assert_message("no model.safetensors");
    const char *index = "{\"weight_map\": {\"f32\": \"x.bin\", \"f16\": \"x.bin\"}}";
    assert_ok(sp_copy_file(checkpoint("bare.bin"), in_folder(state, "x.bin"), NULL));
    assert_ok(
        sp_write_file(in_folder(state, "pytorch_model.bin.index.json"), index, strlen(index)));
    assert_ok(sp_tensor_file_open_folder(*state, "model", "pytorch_model", &file));
    assert_non_null(sp_tensor_file_find(file, "bf16"));
    sp_tensor_file_close(file);
    assert_status(sp_tensor_file_open_folder(*state, "model", NULL, &file), SP_IO);
    assert_ok(sp_remove_tree(in_folder(state, "pytorch_model.bin.index.json")));
    assert_ok(sp_copy_file(checkpoint("bare.bin"), in_folder(state, "pytorch_model.fp16.bin"), NULL));
    assert_ok(sp_tensor_file_open_folder(*state, "model", "pytorch_model", &file));
    assert_non_null(sp_tensor_file_find(file, "bf16"));
    sp_tensor_file_close(file);
    /* safetensors come first */
    assert_ok(sp_copy_file(checkpoint("tensors.safetensors"), in_folder(state, "model.safetensors"), NULL));
    assert_ok(sp_tensor_file_open_folder(*state, "model", "pytorch_model", &file));
    assert_string_equal(sp_tensor_file_format(file), "safetensors");
    sp_tensor_file_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test_setup_teardown(test_layouts, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_hostile_layouts, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_code_is_inert, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_damaged_pickles, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_odd_pickles, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_shared_storages, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_zip64, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(test_hostile_archives, make_test_folder,
                                        remove_test_folder),
        cmocka_unit_test_setup_teardown(test_damage, make_test_folder, remove_test_folder),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test_setup_teardown(test_folders, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
