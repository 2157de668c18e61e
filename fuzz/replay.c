/* What a harness is given without a fuzzer: every file of its corpus, and of the folders that the fuzzer begins with
 * too (REPLAY_FOLDERS, in the source tree: SPLAM_SOURCE). That the program is still there behind each input is all that
 * is said of it, which a sanitizer makes worth knowing. Prints TAP. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "fuzz/fuzz.h"

static int inputs;

static void fail(const char *path)
{
    printf("# %s: %s\nnot ok 1 - inputs are read\n", path, strerror(errno));
    exit(1);
}

static void give_file(const char *path, size_t size)
{
    uint8_t *data = malloc(size + 1);
    FILE *file = data ? fopen(path, "rb") : NULL;
    if (!file || fread(data, 1, size, file) != size) fail(path);
    fclose(file);
    /* No byte more than the input has, so that reading past it is seen. */
    uint8_t *exact = realloc(data, size ? size : 1);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    inputs++;
}

static void give_folder(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) fail(path);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        struct stat info;
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (stat(name, &info) != 0) fail(name);
        if (S_ISDIR(info.st_mode))
            give_folder(name);
        else
            give_file(name, (size_t)info.st_size);
    }
    closedir(folder);
}

int main(void)
{
    static const char *const folders[] = {REPLAY_FOLDERS};
    const char *source = getenv("SPLAM_SOURCE");
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..1\n");
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", source ? source : ".", folders[i]);
        give_folder(path);
    }
    printf("%s 1 - %d inputs of " REPLAY_NAME "\n", inputs ? "ok" : "not ok", inputs);
    return !inputs;
}
