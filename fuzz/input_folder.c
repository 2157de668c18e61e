/* A folder in memory for readers that want several files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fuzz/fuzz.h"

enum { NAME = 64, PATH = 160 };
static char folder[64];
static char written[FUZZ_NAMES][NAME]; /* since the folder was last emptied */
static int written_count;

const char *fuzz_path(const char *name)
{
    static char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void empty_folder(void)
{
    while (written_count)
        unlink(fuzz_path(written[--written_count]));
}

static void remove_folder(void)
{
    char command[PATH];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) fprintf(stderr, "%s is left\n", folder);
}

static void make_folder(void)
{
    if (*folder) return;
    fuzz_quiet();
    snprintf(folder, sizeof folder, "/dev/shm/splam-fuzz-%ld", (long)getpid());
    if (mkdir(folder, 0700)) abort();
    atexit(remove_folder);
}

void fuzz_write(const char *name, const void *data, size_t size)
{
    make_folder();
    FILE *file = fopen(fuzz_path(name), "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file)) abort();
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static void keep(const char *name, const uint8_t *data, size_t size)
{
    if (ends_with(name, ".safetensors")) data = fuzz_tensors(data, &size);
    fuzz_write(name, data, size);
    if (written_count < FUZZ_NAMES) snprintf(written[written_count++], NAME, "%s", name);
}

/* The name that a line "=== NAME" at `data` begins a file of, one of `names`, "" for another; NULL: it is no such line.
 * *length: of the line. */
static const char *name_at(const uint8_t *data, size_t size, const char *const *names, size_t *length)
{
    const uint8_t *end = memchr(data, '\n', size);
    *length = end ? (size_t)(end - data) + 1 : size;
    if (size < 4 || memcmp(data, "=== ", 4) != 0 || !end) return NULL;
    for (; *names; names++)
        if (strlen(*names) == *length - 5 && memcmp(*names, data + 4, *length - 5) == 0) return *names;
    return "";
}

const char *fuzz_folder(const uint8_t *data, size_t size, const char *const *names)
{
    make_folder();
    empty_folder();
    const char *name = NULL, *next;
    const uint8_t *begin = data;
    for (size_t at = 0, length = 0; at <= size; at += length) {
        next = at < size ? name_at(data + at, size - at, names, &length) : "";
        if (!next) continue;
        if (name && *name) keep(name, begin, (size_t)(data + at - begin));
        if (at == size) break;
        name = next;
        begin = data + at + length;
    }
    return folder;
}
