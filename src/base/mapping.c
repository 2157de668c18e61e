/* Mapped files, and what happens when one becomes shorter: touching a page behind its end raises SIGBUS. The
 * handler knows all mappings, puts zeros in the place of what is gone, so that every thread goes on, and marks
 * the mapping; sp_mapped_file_check makes an error of the mark. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

/* ---- all mappings of the process ----
 * The handler reads the list in any thread at any moment, so places are never freed, only used again; the lock
 * is for those who add and remove. */

struct sp_mapping {
    _Atomic uintptr_t begin; /* 0: free. Set last, cleared first */
    _Atomic size_t size;
    atomic_bool shrunk;
    const char *path;
    dev_t device;
    ino_t inode;
};

enum { PLACES = 64 };
typedef struct places {
    struct sp_mapping place[PLACES];
    struct places *_Atomic next;
} places;

static places first_places;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The mapping that holds the address; NULL: none does. Safe in a signal handler. */
static struct sp_mapping *find(uintptr_t address)
{
    for (places *p = &first_places; p; p = atomic_load(&p->next))
        for (int i = 0; i < PLACES; i++) {
            uintptr_t begin = atomic_load(&p->place[i].begin);
            if (begin && address >= begin && address - begin < atomic_load(&p->place[i].size))
                return &p->place[i];
        }
    return NULL;
}

static struct sp_mapping *free_place(void)
{
    for (places *p = &first_places;; p = atomic_load(&p->next)) {
        for (int i = 0; i < PLACES; i++)
            if (!atomic_load(&p->place[i].begin)) return &p->place[i];
        if (atomic_load(&p->next)) continue;
        places *more = calloc(1, sizeof *more); /* of the process, and so no test's leak */
        if (!more) return NULL;
        atomic_store(&p->next, more);
    }
}

/* ---- the signal ---- */

/* What the program or a library around us had, each once: the handler may read any of them at any moment. A test
 * framework, for one, sets and takes back its own around each test, so ours is looked for at every mapping. */
enum { OTHERS = 16 };
static struct sigaction others[OTHERS];
static atomic_int other_count, other; /* the one to call */
static uintptr_t page_size;

/* Zeros from the page of `address` to the mapping's end: all behind a file's end is gone at once. */
static bool cover(struct sp_mapping *m, uintptr_t address)
{
    uintptr_t from = address / page_size * page_size;
    uintptr_t end = atomic_load(&m->begin) + atomic_load(&m->size);
    atomic_store(&m->shrunk, true);
    return mmap((void *)from, end - from, PROT_READ,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

/* As if we were not there. By default the access is repeated, without a handler. */
static void pass_on(const struct sigaction *to, int number, siginfo_t *info, void *context)
{
    bool sent = info->si_code <= 0; /* by kill and the like: nothing would be repeated */
    if (to->sa_flags & SA_SIGINFO) {
        to->sa_sigaction(number, info, context);
    } else if (to->sa_handler == SIG_DFL || (to->sa_handler == SIG_IGN && !sent)) {
        signal(number, SIG_DFL);
        if (sent) raise(number);
    } else if (to->sa_handler != SIG_IGN) {
        to->sa_handler(number);
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    static _Thread_local volatile sig_atomic_t passing __attribute__((tls_model("initial-exec")));
    int error = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    struct sp_mapping *m = info->si_code > 0 ? find(address) : NULL;
    if (!m || !cover(m, address)) {
        /* One that was set after ours may pass on to us, and we to it: then the first of all has the word. */
        const struct sigaction *to = &others[passing ? 0 : atomic_load(&other)];
        passing = true;
        pass_on(to, number, info, context);
        passing = false;
    }
    errno = error;
}

static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
    bool plain = !(a->sa_flags & SA_SIGINFO);
    return (a->sa_flags & SA_SIGINFO) == (b->sa_flags & SA_SIGINFO) &&
           (plain ? a->sa_handler == b->sa_handler : a->sa_sigaction == b->sa_sigaction);
}

/* Holding the lock. What was there is known before a signal can come to ours. */
static void install(void)
{
    struct sigaction now, ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, NULL, &now) != 0 || same_action(&now, &ours)) return;
    int count = atomic_load(&other_count), i = 0;
    while (i < count && !same_action(&now, &others[i]))
        i++;
    if (i == OTHERS) return; /* somebody changes his mind without end */
    if (i == count) {
        others[i] = now;
        atomic_store(&other_count, count + 1);
    }
    atomic_store(&other, i);
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigaction(SIGBUS, &ours, NULL);
}

/* ---- files ---- */

static sp_status enter(sp_mapped_file *file, const struct stat *info)
{
    pthread_mutex_lock(&lock);
    install();
    struct sp_mapping *m = free_place();
    if (m) {
        m->path = file->path;
        m->device = info->st_dev;
        m->inode = info->st_ino;
        atomic_store(&m->shrunk, false);
        atomic_store(&m->size, file->size);
        atomic_store(&m->begin, (uintptr_t)file->data);
    }
    pthread_mutex_unlock(&lock);
    file->mapping = m;
    return m ? SP_OK : sp_fail(SP_MEMORY, "out of memory for mapping %s", file->path);
}

static sp_status map(const char *path, int fd, sp_mapped_file *out)
{
    struct stat info;
    out->path = sp_strdup(path);
    if (!out->path) return SP_MEMORY;
    if (fstat(fd, &info) != 0)
        return sp_fail(SP_IO, "%s: cannot read its size: %s", path, strerror(errno));
    out->modified = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    if (info.st_size == 0) return SP_OK;
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return sp_fail(sp_system_status(errno), "%s: cannot map: %s", path, strerror(errno));
    out->data = data;
    out->size = (size_t)info.st_size;
    return enter(out, &info);
}

sp_status sp_mapped_file_open(const char *path, sp_mapped_file *out)
{
    *out = (sp_mapped_file){0};
    int fd;
    size_t size;
    SP_TRY(sp_open_regular(path, true, &fd, &size));
    sp_status status = map(path, fd, out);
    close(fd);
    if (status) sp_mapped_file_close(out);
    return status;
}

void sp_mapped_file_close(sp_mapped_file *file)
{
    if (file->mapping) atomic_store(&file->mapping->begin, 0);
    if (file->data) munmap((void *)(uintptr_t)file->data, file->size);
    sp_free(file->path);
    *file = (sp_mapped_file){0};
}

void sp_mapped_file_drop(const sp_mapped_file *file, size_t begin, size_t size)
{
    if (begin > file->size || size > file->size - begin) return;
    /* Only whole pages inside the range: the edges belong to the neighbours too. */
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (begin + page - 1) / page * page;
    size_t last = (begin + size) / page * page;
    if (first < last) madvise((void *)(uintptr_t)(file->data + first), last - first, MADV_DONTNEED);
}

/* No signal tells of a file that ends earlier within the same page, where zeros stand now: its size does, as
 * long as the path leads to it. */
static sp_status check(struct sp_mapping *m)
{
    struct stat info;
    size_t size = atomic_load(&m->size);
    bool same = stat(m->path, &info) == 0 && info.st_dev == m->device && info.st_ino == m->inode;
    if (same && (size_t)info.st_size < size) atomic_store(&m->shrunk, true);
    if (!atomic_load(&m->shrunk)) return SP_OK;
    if (same && (size_t)info.st_size < size)
        return sp_fail(SP_IO, "%s: became shorter while it was read: %zu bytes were there, now %lld",
                       m->path, size, (long long)info.st_size);
    return sp_fail(SP_IO, "%s: became shorter while it was read, or a part of it cannot be read",
                   m->path);
}

sp_status sp_mapped_file_check(const sp_mapped_file *file)
{
    return file->mapping ? check(file->mapping) : SP_OK;
}

sp_status sp_mapped_check(const void *data)
{
    struct sp_mapping *m = find((uintptr_t)data);
    return m ? check(m) : SP_OK;
}
