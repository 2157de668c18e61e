/* The file of where sub-paths end. */
#include "distill/subpath_file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "base/file.h"
#include "base/memory.h"

#define FORMAT "splam sub-paths 1\n"
enum { FORMAT_BYTES = 24, HEADER_BYTES = 32 };

struct sp_subpath_file {
    char *path;
    int descriptor;
    int64_t values;
    size_t place_bytes;
    unsigned char *place; /* one, as it stands in the file */
};

static sp_status failed(const sp_subpath_file *f, const char *what)
{
    return sp_fail(sp_system_status(errno), "%s: cannot be %s: %s", f->path, what, strerror(errno));
}

/* *done: fewer than `size` bytes where the file ends. */
static sp_status read_at(const sp_subpath_file *f, void *data, size_t size, size_t at, size_t *done)
{
    for (*done = 0; *done < size;) {
        ssize_t n = pread(f->descriptor, (char *)data + *done, size - *done, (off_t)(at + *done));
        if (n == 0) return SP_OK;
        if (n < 0 && errno != EINTR) return failed(f, "read");
        if (n > 0) *done += (size_t)n;
    }
    return SP_OK;
}

static sp_status write_at(const sp_subpath_file *f, const void *data, size_t size, size_t at)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(f->descriptor, (const char *)data + done, size - done, (off_t)(at + done));
        if (n == 0) errno = ENOSPC;
        if (n == 0 || (n < 0 && errno != EINTR)) return failed(f, "written");
        if (n > 0) done += (size_t)n;
    }
    return SP_OK;
}

static void make_header(int64_t values, unsigned char out[HEADER_BYTES])
{
    memset(out, 0, HEADER_BYTES);
    memcpy(out, FORMAT, sizeof FORMAT - 1);
    memcpy(out + FORMAT_BYTES, &values, sizeof values);
}

/* Of a file that was cut off in its header nothing else is there, and it is written anew. */
static sp_status check_header(sp_subpath_file *f)
{
    unsigned char wanted[HEADER_BYTES], found[HEADER_BYTES];
    size_t size;
    int64_t values;
    make_header(f->values, wanted);
    SP_TRY(read_at(f, found, sizeof found, 0, &size));
    if (memcmp(found, wanted, size < FORMAT_BYTES ? size : FORMAT_BYTES) != 0)
        return sp_fail(SP_FORMAT, "%s: is not a file of sub-paths, which begins with \"splam sub-paths 1\"", f->path);
    if (size < HEADER_BYTES) return write_at(f, wanted, sizeof wanted, 0);
    memcpy(&values, found + FORMAT_BYTES, sizeof values);
    if (values == f->values) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: has sub-paths of micro-batches of %lld values, and this run's have %lld", f->path,
                   (long long)values, (long long)f->values);
}

static sp_status open_file(sp_subpath_file *f)
{
    struct stat st;
    SP_TRY(sp_check_replaceable(f->path));
    f->descriptor = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (f->descriptor < 0) return failed(f, "opened");
    if (fstat(f->descriptor, &st)) return failed(f, "opened");
    if (!S_ISREG(st.st_mode)) return sp_fail(SP_IO, "%s: is not a regular file", f->path);
    return check_header(f);
}

sp_status sp_subpath_file_open(const char *path, int64_t values, sp_subpath_file **out)
{
    sp_subpath_file *f = sp_alloc_zero(sizeof *f);
    *out = NULL;
    if (!f) return SP_MEMORY;
    f->descriptor = -1;
    f->values = values;
    f->place_bytes = (size_t)values * sizeof(float) + 2 * sizeof(uint64_t);
    f->path = sp_strdup(path);
    f->place = sp_alloc(f->place_bytes);
    sp_status status = f->path && f->place ? open_file(f) : SP_MEMORY;
    if (status)
        sp_subpath_file_close(f);
    else
        *out = f;
    return status;
}

void sp_subpath_file_close(sp_subpath_file *f)
{
    if (!f) return;
    if (f->descriptor >= 0) close(f->descriptor);
    sp_free(f->path);
    sp_free(f->place);
    sp_free(f);
}

static size_t place_at(const sp_subpath_file *f, int64_t micro)
{
    return HEADER_BYTES + (size_t)micro * f->place_bytes;
}

static uint64_t place_sum(const sp_subpath_file *f, int64_t micro)
{
    return XXH3_64bits_withSeed(f->place, f->place_bytes - sizeof(uint64_t), (XXH64_hash_t)micro);
}

sp_status sp_subpath_file_read(sp_subpath_file *f, int64_t micro, uint64_t given, float *values, bool *found)
{
    uint64_t was_given, sum;
    size_t size;
    *found = false;
    SP_TRY(read_at(f, f->place, f->place_bytes, place_at(f, micro), &size));
    if (size < f->place_bytes) return SP_OK;
    memcpy(&sum, f->place + f->place_bytes - sizeof sum, sizeof sum);
    if (sum != place_sum(f, micro)) return SP_OK;
    memcpy(&was_given, f->place, sizeof was_given);
    if (was_given != given)
        return sp_fail(SP_ARGUMENT,
                       "%s: is of another run: its sub-paths of micro-batch %lld have another teacher, precision, "
                       "data, seed, batch, guidance, or other ends; name another file",
                       f->path, (long long)micro);
    memcpy(values, f->place + sizeof was_given, (size_t)f->values * sizeof *values);
    *found = true;
    return SP_OK;
}

sp_status sp_subpath_file_write(sp_subpath_file *f, int64_t micro, uint64_t given, const float *values)
{
    memcpy(f->place, &given, sizeof given);
    memcpy(f->place + sizeof given, values, (size_t)f->values * sizeof *values);
    uint64_t sum = place_sum(f, micro);
    memcpy(f->place + f->place_bytes - sizeof sum, &sum, sizeof sum);
    return write_at(f, f->place, f->place_bytes, place_at(f, micro));
}
