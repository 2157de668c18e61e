/* Errors, memory, texts, threads, files, log and progress. */
#include "support.h"

#include <fcntl.h>
#include <math.h>
#include <omp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/text.h"

/* ---- status ---- */

static void test_messages(void **state)
{
    (void)state;
    assert_int_equal(sp_fail(SP_FORMAT, "%s: line %d", "a.json", 3), SP_FORMAT);
    assert_string_equal(sp_error_message(), "a.json: line 3");
    assert_int_equal(sp_fail_within(SP_FORMAT, "unet"), SP_FORMAT);
    assert_string_equal(sp_error_message(), "unet: a.json: line 3");
    sp_fail(SP_IO, "again: %s", sp_error_message());
    assert_string_equal(sp_error_message(), "again: unet: a.json: line 3");
    assert_string_equal(sp_status_text(SP_MEMORY), "out of memory");
    assert_string_equal(sp_status_text((sp_status)999), "unknown status");
}

static void test_long_messages_are_cut(void **state)
{
    (void)state;
    char words[5000];
    memset(words, 'x', sizeof words);
    words[sizeof words - 1] = '\0';
    sp_fail(SP_IO, "%s", words);
    size_t length = strlen(sp_error_message());
    assert_in_range(length, 500, sizeof words);
    sp_fail_within(SP_IO, "prefix");
    assert_true(sp_starts_with(sp_error_message(), "prefix: xxx"));
    assert_int_equal(strlen(sp_error_message()), length);
    sp_fail_within(SP_IO, "%s", words);
    assert_int_equal(strlen(sp_error_message()), length);
}

/* ---- memory ---- */

static void test_allocation(void **state)
{
    (void)state;
    long live = sp_alloc_live();
    unsigned char *bytes = sp_alloc_zero(100);
    assert_int_equal((uintptr_t)bytes % SP_ALIGNMENT, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(bytes[i], 0);
    memset(bytes, 7, 100);
    bytes = sp_realloc(bytes, 100, 1000);
    assert_int_equal(bytes[99], 7);
    bytes = sp_realloc(bytes, 1000, 10);
    assert_int_equal(bytes[9], 7);
    void *empty = sp_alloc(0), *other = sp_alloc(0);
    assert_non_null(empty);
    assert_ptr_not_equal(empty, other);
    char *text = sp_format("%d-%s", 12, "ab");
    assert_string_equal(text, "12-ab");
    sp_free(NULL);
    sp_free(text);
    sp_free(empty);
    sp_free(other);
    sp_free(bytes);
    assert_int_equal(sp_alloc_live(), live);
}

static void test_allocation_failure(void **state)
{
    (void)state;
    assert_null(sp_alloc(SIZE_MAX));
    assert_message("out of memory");
    assert_null(sp_alloc(SIZE_MAX - 10));
    sp_alloc_fail_after(1);
    void *first = sp_alloc(8);
    assert_non_null(first);
    assert_null(sp_alloc(8));
    assert_null(sp_realloc(first, 8, 16)); /* `first` stays */
    assert_null(sp_strdup("x"));
    sp_alloc_fail_after(-1);
    memset(first, 1, 8);
    sp_free(first);
}

static void test_arena(void **state)
{
    (void)state;
    sp_arena *arena = sp_arena_create();
    char *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        size_t size = i * i;
        blocks[i] = sp_arena_alloc(arena, size);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t j = 0; j < size; j++)
            assert_int_equal(blocks[i][j], 0);
        memset(blocks[i], (int)i, size);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j < i * i; j++)
            assert_int_equal((unsigned char)blocks[i][j], i);
    assert_string_equal(sp_arena_strdup(arena, "unet"), "unet");
    assert_string_equal(sp_arena_format(arena, "%s.%d", "down_blocks", 2), "down_blocks.2");
    assert_null(sp_arena_alloc(arena, SIZE_MAX));
    sp_arena_destroy(arena);
    sp_arena_destroy(NULL);
}

/* ---- text ---- */

static void test_string(void **state)
{
    (void)state;
    sp_string s = {0};
    assert_string_equal(sp_string_text(&s), "");
    for (int i = 0; i < 1000; i++)
        sp_string_append_format(&s, "%d,", i % 10);
    assert_int_equal(s.length, 2000);
    assert_true(sp_starts_with(s.data, "0,1,2,"));
    assert_true(sp_ends_with(s.data, "8,9,"));
    sp_string_append(&s, "\0x", 2);
    assert_int_equal(s.length, 2002);
    assert_false(s.failed);
    sp_alloc_fail_after(0);
    char large[4000] = "";
    sp_string_append(&s, large, sizeof large);
    sp_alloc_fail_after(-1);
    assert_true(s.failed);
    sp_string_append(&s, "more", 4);
    assert_int_equal(s.length, 2002);
    sp_string_free(&s);
    assert_false(sp_ends_with("ab", "cab"));
}

static void test_dictionary(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static int values[COUNT];
    sp_dictionary *dictionary = sp_dictionary_create();
    assert_null(sp_dictionary_get(dictionary, "absent"));
    for (int i = 0; i < COUNT; i++) {
        char key[32];
        snprintf(key, sizeof key, "layer.%d.weight", i);
        assert_ok(sp_dictionary_put(dictionary, key, &values[i]));
    }
    assert_ok(sp_dictionary_put(dictionary, "layer.7.weight", &values[8]));
    assert_int_equal(sp_dictionary_count(dictionary), COUNT);
    assert_ptr_equal(sp_dictionary_get(dictionary, "layer.7.weight"), &values[8]);
    assert_null(sp_dictionary_get(dictionary, "layer.3000.weight"));
    size_t index = 0;
    const char *key;
    void *value;
    for (int i = 0; sp_dictionary_next(dictionary, &index, &key, &value); i++) {
        char expected[32];
        snprintf(expected, sizeof expected, "layer.%d.weight", i);
        assert_string_equal(key, expected);
        assert_ptr_equal(value, &values[i == 7 ? 8 : i]);
    }
    assert_int_equal(index, COUNT);
    sp_dictionary_destroy(dictionary);
}

static sp_status build_map(void *context)
{
    (void)context;
    sp_dictionary *dictionary = sp_dictionary_create();
    if (!dictionary) return SP_MEMORY;
    sp_status status = SP_OK;
    for (int i = 0; i < 200 && status == SP_OK; i++) {
        char key[32];
        snprintf(key, sizeof key, "%d", i);
        status = sp_dictionary_put(dictionary, key, dictionary);
        /* A failed insertion leaves the dictionary as it was. */
        assert_int_equal(sp_dictionary_count(dictionary), status == SP_OK ? i + 1 : i);
        assert_ptr_equal(sp_dictionary_get(dictionary, key), status == SP_OK ? dictionary : NULL);
    }
    sp_dictionary_destroy(dictionary);
    return status;
}

static void test_dictionary_allocation_failure(void **state)
{
    (void)state;
    assert_in_range(fail_every_allocation(build_map, NULL), 5, 1000);
}

/* ---- parallel ---- */

typedef struct {
    int64_t count, grain;
    unsigned char seen[5000];
    int calls, bad_edges;
} coverage;

static void mark(void *context, int64_t begin, int64_t end)
{
    coverage *c = context;
    __atomic_add_fetch(&c->calls, 1, __ATOMIC_RELAXED);
    if (begin % c->grain != 0 || (end % c->grain != 0 && end != c->count))
        __atomic_add_fetch(&c->bad_edges, 1, __ATOMIC_RELAXED);
    for (int64_t i = begin; i < end; i++)
        c->seen[i]++;
}

static void test_parallel_covers_once(void **state)
{
    (void)state;
    static const int64_t counts[] = {0, 1, 7, 8, 9, 63, 1000, 4999};
    for (int threads = 1; threads <= 7; threads += 2) {
        sp_set_threads(threads);
        assert_int_equal(sp_threads(), threads);
        for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
            for (int64_t grain = 1; grain <= 64; grain *= 8) {
                coverage c = {.count = counts[n], .grain = grain};
                sp_parallel_for(c.count, grain, mark, &c);
                assert_int_equal(c.bad_edges, 0);
                assert_true(c.calls <= threads);
                if (c.count > 0 && c.count <= grain) assert_int_equal(c.calls, 1);
                for (int64_t i = 0; i < 5000; i++)
                    assert_int_equal(c.seen[i], i < c.count);
            }
        }
    }
    sp_set_threads(0);
    assert_true(sp_threads() >= 1);
}

static void nested(void *context, int64_t begin, int64_t end)
{
    (void)context;
    for (int64_t i = begin; i < end; i++) {
        coverage *c = (coverage *)context + i;
        sp_parallel_for(c->count, 1, mark, c);
    }
}

static void test_parallel_nested(void **state)
{
    (void)state;
    static coverage inner[4];
    sp_set_threads(2);
    omp_set_max_active_levels(4); /* OpenMP itself would not nest otherwise */
    for (int i = 0; i < 4; i++)
        inner[i] = (coverage){.count = 100, .grain = 1};
    sp_parallel_for(4, 1, nested, inner);
    sp_set_threads(0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(inner[i].calls, 1);
        for (int j = 0; j < 100; j++)
            assert_int_equal(inner[i].seen[j], 1);
    }
}

/* ---- file ---- */

static void test_atomic_file(void **state)
{
    const char *path = in_folder(state, "weights.bin");
    assert_ok(sp_write_file(path, "first", 5));
    sp_atomic_file file;
    assert_ok(sp_atomic_open(path, &file));
    fputs("half", file.stream);
    sp_atomic_abandon(&file);
    char *text;
    size_t size;
    assert_ok(sp_read_file(path, &text, &size));
    assert_int_equal(size, 5);
    assert_string_equal(text, "first");
    sp_free(text);
    assert_ok(sp_write_file(path, "second", 6));
    assert_ok(sp_read_file(path, &text, NULL));
    assert_string_equal(text, "second");
    sp_free(text);
    char **names;
    size_t count;
    assert_ok(sp_list_folder(*state, &names, &count));
    assert_int_equal(count, 1); /* nothing temporary stays */
    sp_free(names[0]);
    sp_free(names);
    assert_status(sp_write_file(in_folder(state, "absent/x"), "x", 1), SP_IO);
    assert_message("absent/x");
    assert_status(sp_write_file(*state, "x", 1), SP_IO);
    assert_message("it is a folder");
    const char *pipe = in_folder(state, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0); /* stands for /dev/null, which no test may risk */
    assert_status(sp_write_file(pipe, "x", 1), SP_IO);
    assert_message("it is a device or a pipe");
}

static void test_full_disk(void **state)
{
    const char *path = in_folder(state, "state.bin");
    assert_ok(sp_write_file(path, "old", 3));
    /* A limit on the file size makes writes fail as a full disk does. */
    struct rlimit before, small = {4096, 4096};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    char *large = sp_alloc_zero(100000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    sp_status status = sp_write_file(path, large, 100000);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_status(status, SP_IO);
    assert_message("cannot write");
    sp_free(large);
    char *text;
    assert_ok(sp_read_file(path, &text, NULL));
    assert_string_equal(text, "old");
    sp_free(text);
    char **names;
    size_t count;
    assert_ok(sp_list_folder(*state, &names, &count));
    assert_int_equal(count, 1);
    sp_free(names[0]);
    sp_free(names);
}

static void test_mapping(void **state)
{
    enum { SIZE = 50000 };
    static unsigned char bytes[SIZE];
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (unsigned char)(i * 7);
    const char *path = in_folder(state, "data");
    assert_ok(sp_write_file(path, bytes, SIZE));
    sp_mapped_file file;
    assert_ok(sp_mapped_file_open(path, &file));
    assert_int_equal(file.size, SIZE);
    assert_memory_equal(file.data, bytes, SIZE);
    sp_mapped_file_drop(&file, 100, 30000);
    sp_mapped_file_drop(&file, 100, SIZE_MAX); /* outside: nothing happens */
    assert_memory_equal(file.data, bytes, SIZE);
    sp_mapped_file_close(&file);
    sp_mapped_file_close(&file);
    assert_ok(sp_write_file(path, NULL, 0));
    assert_ok(sp_mapped_file_open(path, &file));
    assert_null(file.data);
    sp_mapped_file_close(&file);
    assert_status(sp_mapped_file_open(in_folder(state, "none"), &file), SP_IO);
    assert_status(sp_mapped_file_open(*state, &file), SP_IO);
    assert_message("folder");
}

static void test_paths(void **state)
{
    (void)state;
    char *joined = sp_path_join("models", "unet"), *slash = sp_path_join("models/", "unet");
    char *bare = sp_path_join("", "unet");
    assert_string_equal(joined, "models/unet");
    assert_string_equal(slash, "models/unet");
    assert_string_equal(bare, "unet");
    sp_free(joined);
    sp_free(slash);
    sp_free(bare);
    assert_string_equal(sp_path_base("a/b.c"), "b.c");
    assert_string_equal(sp_path_base("b.c"), "b.c");
}

static void test_trees(void **state)
{
    assert_ok(sp_make_folders(in_folder(state, "a/b/c")));
    assert_ok(sp_make_folders(in_folder(state, "a/b/c/")));
    assert_ok(sp_write_file(in_folder(state, "a/b/z"), "z", 1));
    assert_ok(sp_write_file(in_folder(state, "a/b/c/y"), "y", 1));
    assert_status(sp_make_folders(in_folder(state, "a/b/z/d")), SP_IO);
    assert_ok(sp_copy_tree(in_folder(state, "a"), in_folder(state, "copy"), NULL));
    char *text;
    assert_ok(sp_read_file(in_folder(state, "copy/b/c/y"), &text, NULL));
    assert_string_equal(text, "y");
    sp_free(text);
    char **names;
    size_t count;
    assert_ok(sp_list_folder(in_folder(state, "copy/b"), &names, &count));
    assert_int_equal(count, 2);
    assert_string_equal(names[0], "c");
    assert_string_equal(names[1], "z");
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    /* A link is removed, not what it points to. */
    assert_int_equal(symlink(in_folder(state, "a"), in_folder(state, "copy/link")), 0);
    assert_ok(sp_remove_tree(in_folder(state, "copy")));
    assert_ok(sp_remove_tree(in_folder(state, "copy")));
    assert_false(sp_path_exists(in_folder(state, "copy")));
    assert_int_equal(symlink("nowhere", in_folder(state, "link")), 0);
    assert_true(sp_path_exists(in_folder(state, "link")));
    assert_false(sp_path_exists(in_folder(state, "link/below")));
    assert_true(sp_path_is_folder(in_folder(state, "a/b/c")));
    assert_status(sp_list_folder(in_folder(state, "copy"), &names, &count), SP_IO);
}

static void test_listing_is_sorted(void **state)
{
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "%02d", i * 37 % 100);
        assert_ok(sp_write_file(in_folder(state, name), "", 0));
    }
    char **names;
    size_t count;
    assert_ok(sp_list_folder(*state, &names, &count));
    assert_int_equal(count, 100);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(atoi(names[i]), i);
        sp_free(names[i]);
    }
    sp_free(names);
}

/* ---- log and progress ---- */

static void write_logs(void *context)
{
    (void)context;
    sp_log_info("seed %d", 42);
    sp_log_debug("hidden");
    sp_log_set_level(SP_LOG_WARN);
    sp_log_info("hidden");
    sp_log_warn("%d samples rejected", 3);
    sp_log_set_level(SP_LOG_QUIET);
    sp_log_warn("hidden");
    sp_log_set_level(SP_LOG_DEBUG);
    sp_log_debug("plan");
    sp_log_set_level(SP_LOG_INFO);
}

static void test_log(void **state)
{
    char *text = captured(state, write_logs, NULL);
    assert_string_equal(text, "seed 42\nwarning: 3 samples rejected\ndebug: plan\n");
    sp_free(text);
}

static void report_lines(void *context)
{
    (void)context;
    sp_progress progress;
    sp_progress_init(&progress);
    assert_false(progress.terminal);
    sp_callbacks callbacks = {.context = &progress, .report = sp_progress_report};
    for (int i = 10; i <= 12; i++)
        sp_report(&callbacks, "training", i, 12, i == 12 ? "loss 0.5" : NULL);
    sp_report(NULL, "training", 1, 2, NULL);
    progress.terminal = true;
    sp_report(&callbacks, "sampling", 1, 4, NULL);
}

static void test_progress(void **state)
{
    char *text = captured(state, report_lines, NULL);
    assert_true(sp_starts_with(text, "training 12/12"));
    assert_non_null(strstr(text, "loss 0.5"));
    assert_non_null(strstr(text, "\n\rsampling [######------------------] 1/4\033[K"));
    sp_free(text);
}

static bool always(void *context)
{
    (void)context;
    return true;
}

static void test_cancelling(void **state)
{
    (void)state;
    assert_ok(sp_check_cancelled(NULL));
    assert_ok(sp_check_cancelled(&(sp_callbacks){0}));
    assert_status(sp_check_cancelled(&(sp_callbacks){.cancelled = always}), SP_CANCELLED);
    assert_true(sp_now() > 0);
    assert_true(sp_peak_rss() > 1 << 20);
}

static void test_interrupt(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        sp_install_interrupt();
        if (sp_interrupted(NULL)) _exit(1);
        raise(SIGINT);
        if (!sp_interrupted(NULL)) _exit(2);
        raise(SIGINT);
        _exit(3); /* the second signal ends the process before this */
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
}

#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_allocation),
        cmocka_unit_test(test_allocation_failure),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_string),
        cmocka_unit_test(test_dictionary),
        cmocka_unit_test(test_dictionary_allocation_failure),
        cmocka_unit_test(test_parallel_covers_once),
        cmocka_unit_test(test_parallel_nested),
        with_folder(test_atomic_file),
        with_folder(test_full_disk),
        with_folder(test_mapping),
        cmocka_unit_test(test_paths),
        with_folder(test_trees),
        with_folder(test_listing_is_sorted),
        with_folder(test_log),
        with_folder(test_progress),
        cmocka_unit_test(test_cancelling),
        cmocka_unit_test(test_interrupt),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
