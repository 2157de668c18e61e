/* Loaded before the C library (LD_PRELOAD): one allocation of a program fails, whoever asks for it, libraries included.
 *   FAILING_MALLOC_FROM=TEXT   counting begins when a file is opened whose path contains TEXT
 *   FAILING_MALLOC_AT=N        the N-th allocation from there on finds no memory; 0: none
 *   FAILING_MALLOC_COUNT=FILE  how many there were is written there at the end
 *   FAILING_MALLOC_WHO=FILE    whose call failed is written there when it does: libraries and functions, inner first */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#pragma GCC visibility push(default)

/* The C library's own, which dlsym must not be asked for: it allocates. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_bool counting;
static atomic_long count;
static long fails_at;

static void write_to(const char *path, const char *text)
{
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (fd < 0) return;
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) _exit(99);
    close(fd);
}

static void say_who(void)
{
    void *callers[24];
    const char *path = getenv("FAILING_MALLOC_WHO");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (fd < 0) return;
    backtrace_symbols_fd(callers, backtrace(callers, sizeof callers / sizeof *callers), fd);
    close(fd);
}

static bool fails(void)
{
    if (!atomic_load(&counting) || atomic_fetch_add(&count, 1) + 1 != fails_at) return false;
    say_who(); /* what it allocates is beyond the one that fails */
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t items, size_t size)
{
    return fails() ? NULL : __libc_calloc(items, size);
}

void *realloc(void *block, size_t size)
{
    return fails() ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block = fails() ? NULL : __libc_memalign(alignment, size);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

static void look_at(const char *path)
{
    const char *from = getenv("FAILING_MALLOC_FROM"), *at = getenv("FAILING_MALLOC_AT");
    if (atomic_load(&counting) || !from || !strstr(path, from)) return;
    fails_at = at ? atol(at) : 0;
    atomic_store(&counting, true);
}

typedef int open_function(const char *, int, ...);

int open64(const char *path, int flags, ...)
{
    static open_function *next;
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (!next) next = (open_function *)dlsym(RTLD_NEXT, "open64");
    look_at(path);
    return next(path, flags, mode);
}

/* What open becomes with _FORTIFY_SOURCE where it is given no mode. */
int __open64_2(const char *path, int flags)
{
    return open64(path, flags);
}

__attribute__((destructor)) static void write_count(void)
{
    char text[32];
    if (!atomic_load(&counting)) return; /* a shell ahead of the program that counts */
    snprintf(text, sizeof text, "%ld\n", atomic_load(&count));
    write_to(getenv("FAILING_MALLOC_COUNT"), text);
}
