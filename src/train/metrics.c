/* metrics.jsonl */
#include "train/metrics.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text_file.h"

static sp_status cut_back(const char *path, int64_t last_step)
{
    char *text;
    size_t size;
    SP_TRY(sp_read_text(path, &text, &size));
    sp_atomic_file file;
    sp_status status = sp_atomic_open(path, &file);
    if (!status) {
        /* A last line without its end was being written when the program was killed. */
        for (char *line = text, *end; (end = memchr(line, '\n', size - (size_t)(line - text)));
             line = end + 1) {
            json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
            json_t *step = json_object_get(object, "step");
            if (json_is_integer(step) && json_integer_value(step) <= last_step)
                fwrite(line, 1, (size_t)(end - line) + 1, file.stream);
            json_decref(object);
        }
        status = sp_atomic_commit(&file);
    }
    sp_free(text);
    return status;
}

sp_status sp_metrics_open(const char *output, int64_t last_step, FILE **out)
{
    char *path = sp_path_join(output, "metrics.jsonl");
    if (!path) return SP_MEMORY;
    sp_status status = sp_path_exists(path) ? cut_back(path, last_step) : SP_OK;
    if (!status && !(*out = fopen(path, "a")))
        status = sp_fail(SP_IO, "%s could not be opened: %s", path, strerror(errno));
    sp_free(path);
    return status;
}

sp_status sp_metrics_write(FILE *file, json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    if (!line) return SP_MEMORY;
    bool written = fprintf(file, "%s\n", line) > 0 && fflush(file) == 0;
    sp_json_text_free(line);
    return written ? SP_OK
                   : sp_fail(SP_IO, "metrics.jsonl could not be written: %s", strerror(errno));
}

sp_status sp_metrics_force(FILE *file)
{
    if (fdatasync(fileno(file)) == 0 || errno == EINVAL) return SP_OK;
    return sp_fail(SP_IO, "metrics.jsonl could not be written: %s", strerror(errno));
}
