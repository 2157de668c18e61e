/* What several test programs share: cmocka in its required order, temporary folders, failing
 * allocations. */
#ifndef SP_TESTS_SUPPORT_H
#define SP_TESTS_SUPPORT_H
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        sp_status test_status = (call);                                                            \
        if (test_status != SP_OK)                                                                  \
            fail_msg("%s: %s: %s", #call, sp_status_text(test_status), sp_error_message());        \
    } while (0)
#define assert_status(call, expected)                                                              \
    assert_string_equal(sp_status_text(call), sp_status_text(expected))
#define assert_message(words)                                                                      \
    do {                                                                                           \
        if (!strstr(sp_error_message(), words))                                                    \
            fail_msg("\"%s\" is not in \"%s\"", words, sp_error_message());                        \
    } while (0)

/* cmocka set-up and tear-down: *state is the path of a new empty folder. */
static inline int make_test_folder(void **state)
{
    const char *parent = getenv("TMPDIR");
    char *path = sp_format("%s/splam-test-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!path || !mkdtemp(path)) return -1;
    *state = path;
    return 0;
}
static inline int remove_test_folder(void **state)
{
    sp_status status = sp_remove_tree(*state);
    sp_free(*state);
    return status == SP_OK ? 0 : -1;
}

/* FOLDER/NAME, in one of a few rotating buffers. */
static inline const char *in(const char *folder, const char *name)
{
    static char paths[8][700];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* The same of the test's folder. */
static inline const char *in_folder(void *const *state, const char *name)
{
    return in(*state, name);
}

/* FOLDER/NAME or FOLDER/NAME/FILE of the source tree (file NULL: the former), in one of a few rotating buffers. */
static inline const char *source_path(const char *folder, const char *name, const char *file)
{
    static char paths[8][1024];
    static unsigned next;
    char *path = paths[next++ % 8];
    const char *source = getenv("SPLAM_SOURCE");
    snprintf(path, sizeof paths[0], "%s/%s/%s%s%s", source ? source : ".", folder, name, file ? "/" : "",
             file ? file : "");
    return path;
}
static inline const char *shipped_teacher(void)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s", source_path("assets", "teacher", NULL));
    return path;
}
static inline const char *golden(const char *name)
{
    return source_path("tests/golden", name, NULL);
}
static inline const char *golden_file(const char *folder, const char *file)
{
    return source_path("tests/golden", folder, file);
}

/* Fails each allocation of `attempt` in turn, Jansson's too: every failure must come back as
 * SP_MEMORY with nothing left allocated, until the attempt has all that it needs and succeeds.
 * Returns how many it needs. */
static inline long fail_every_allocation(sp_status (*attempt)(void *context), void *context)
{
    long live = sp_alloc_live(), count = 0;
    sp_status status;
    do {
        assert_in_range(count, 0, 1000000);
        sp_alloc_fail_after(count++);
        status = attempt(context);
        sp_alloc_fail_after(-1);
        if (status != SP_OK && status != SP_MEMORY)
            fail_msg("allocation %ld failed, the status is \"%s\": %s", count,
                     sp_status_text(status), sp_error_message());
        if (sp_alloc_live() != live)
            fail_msg("allocation %ld failed, %ld blocks leaked", count, sp_alloc_live() - live);
    } while (status != SP_OK);
    return count - 1;
}

/* Runs `body` with stderr in a file of the test's folder and returns what it wrote (sp_free). */
static inline char *captured(void *const *state, void (*body)(void *context), void *context)
{
    const char *path = in_folder(state, "stderr");
    int saved = dup(STDERR_FILENO), file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(file, STDERR_FILENO);
    body(context);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(file);
    char *text;
    assert_ok(sp_read_file(path, &text, NULL));
    return text;
}

/* In place: renaming a file thousands of times waits for the disk. */
static inline void overwrite(const char *path, const void *data, size_t size)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(data, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
}

static inline void assert_same_file(const char *a, const char *b)
{
    sp_mapped_file x, y;
    assert_ok(sp_mapped_file_open(a, &x));
    assert_ok(sp_mapped_file_open(b, &y));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    sp_mapped_file_close(&x);
    sp_mapped_file_close(&y);
}

#endif
