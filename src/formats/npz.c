/* numpy's archives of arrays, through libarchive, with numpy's own header before each array's elements. */
#include "formats/npz.h"
#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "base/text.h"
#include "base/visible.h"

/* Most elements of one array: a covariance of 16384 features. Headers are about a hundred bytes. */
#define MOST_ELEMENTS (INT64_C(1) << 28)
/* Deflate makes at most so many bytes of one: 258 of two bits. */
#define MOST_INFLATED 1032
enum { PREAMBLE = 10, LONGEST_HEADER = 4096, ALIGNED = 64 };
static const char magic[] = "\x93NUMPY";

static const struct {
    const char *descr;
    sp_dtype dtype;
} types[] = {{"<f8", SP_F64}, {"<f4", SP_F32}, {"|u1", SP_U8}};
enum { TYPES = sizeof types / sizeof *types };

/* ---- reading ---- */

typedef struct {
    struct archive *archive;
    const char *path, *name; /* of the archive, of the array */
    size_t most;             /* bytes that can be in it at all */
} reader;

static sp_status damaged(const reader *r, const char *what)
{
    return sp_fail(SP_FORMAT, "%s: array \"%s\" %s", r->path, sp_shown(r->name, strlen(r->name)), what);
}

static sp_status read_bytes(const reader *r, void *out, size_t size)
{
    for (size_t done = 0; done < size;) {
        la_ssize_t got = archive_read_data(r->archive, (char *)out + done, size - done);
        if (got < 0) {
            const char *reason = archive_error_string(r->archive);
            return sp_fail(SP_FORMAT, "%s: array \"%s\" cannot be unpacked: %s", r->path,
                           sp_shown(r->name, strlen(r->name)), reason ? reason : "it is damaged");
        }
        if (got == 0) return damaged(r, "ends before its last element");
        done += (size_t)got;
    }
    return SP_OK;
}

/* What stands behind 'KEY': in Python's dictionary; NULL if there is none. */
static const char *after_key(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at) return NULL;
    at += strlen(key);
    at += strspn(at, " ");
    if (*at != ':') return NULL;
    at++;
    return at + strspn(at, " ");
}

static sp_status read_shape(const reader *r, const char *at, sp_shape *out)
{
    *out = (sp_shape){0};
    if (!at || *at++ != '(') return damaged(r, "has no shape in its header");
    for (at += strspn(at, " "); *at != ')'; at += strspn(at, ", ")) {
        char *end;
        long long size = isdigit((unsigned char)*at) ? strtoll(at, &end, 10) : -1;
        if (size < 0 || out->rank == SP_MAX_RANK) return damaged(r, "has a shape that cannot be read");
        out->dim[out->rank++] = size;
        at = end;
    }
    int64_t count = sp_shape_count(*out);
    if (count < 0 || count > MOST_ELEMENTS) return damaged(r, "has a shape that is too large");
    return SP_OK;
}

static sp_status read_description(const reader *r, const char *header, sp_tensor *out)
{
    const char *descr = after_key(header, "'descr'"), *order = after_key(header, "'fortran_order'");
    sp_shape shape;
    int type = 0;
    while (type < TYPES && !(descr && descr[0] == '\'' && strncmp(descr + 1, types[type].descr, 3) == 0 &&
                             descr[4] == '\''))
        type++;
    if (type == TYPES)
        return sp_fail(SP_UNSUPPORTED, "%s: array \"%s\" has another type than '<f8', '<f4' and '|u1'", r->path,
                       sp_shown(r->name, strlen(r->name)));
    if (!order || strncmp(order, "False", 5) != 0)
        return sp_fail(SP_UNSUPPORTED, "%s: array \"%s\" is not in C order", r->path,
                       sp_shown(r->name, strlen(r->name)));
    SP_TRY(read_shape(r, after_key(header, "'shape'"), &shape));
    if ((size_t)sp_shape_count(shape) > r->most / sp_dtype_size(types[type].dtype))
        return damaged(r, "is said to have more elements than the file can hold");
    return sp_tensor_create(types[type].dtype, shape, out);
}

static sp_status read_array(const reader *r, sp_tensor *out)
{
    unsigned char begin[PREAMBLE + 2], extra;
    char header[LONGEST_HEADER + 1];
    SP_TRY(read_bytes(r, begin, PREAMBLE));
    if (memcmp(begin, magic, 6) != 0 || begin[6] < 1 || begin[6] > 3) return damaged(r, "is not numpy's");
    size_t length = begin[8] | (size_t)begin[9] << 8;
    if (begin[6] > 1) SP_TRY(read_bytes(r, begin + PREAMBLE, 2));
    if (begin[6] > 1) length |= (size_t)begin[10] << 16 | (size_t)begin[11] << 24;
    if (length > LONGEST_HEADER) return damaged(r, "has a header that is too long");
    SP_TRY(read_bytes(r, header, length));
    header[length] = 0;
    SP_TRY(read_description(r, header, out));
    SP_TRY(read_bytes(r, out->data, sp_tensor_bytes(out)));
    la_ssize_t more = archive_read_data(r->archive, &extra, 1); /* the checksum is looked at behind the last byte */
    if (more < 0) return damaged(r, "does not have the checksum that it should have");
    return more ? damaged(r, "goes on behind its last element") : SP_OK;
}

/* The index of "NAME.npy" among the names; -1 if it is none of them. */
static int find_name(const char *entry, const char *const *names, size_t count)
{
    for (size_t i = 0; entry && i < count; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(entry, names[i], length) == 0 && strcmp(entry + length, ".npy") == 0) return (int)i;
    }
    return -1;
}

static sp_status read_all(reader *r, const char *const *names, size_t count, sp_tensor *out)
{
    struct archive_entry *entry;
    int result;
    while ((result = archive_read_next_header(r->archive, &entry)) == ARCHIVE_OK || result == ARCHIVE_WARN) {
        int i = find_name(archive_entry_pathname(entry), names, count);
        if (i < 0) continue;
        r->name = names[i];
        if (out[i].data) return damaged(r, "is there twice");
        SP_TRY(read_array(r, &out[i]));
    }
    if (result == ARCHIVE_EOF) return SP_OK;
    const char *reason = archive_error_string(r->archive);
    return sp_fail(SP_FORMAT, "%s: is no archive of numpy's, or a damaged one: %s", r->path,
                   reason ? reason : "no reason is known");
}

/* A file that is one array, which an archive of the raw form is. */
static sp_status read_alone(reader *r, const char *const *names, size_t count, sp_tensor *out)
{
    struct archive_entry *entry;
    (void)count;
    r->name = names[0];
    if (archive_read_next_header(r->archive, &entry) != ARCHIVE_OK) return damaged(r, "cannot be read");
    return read_array(r, out);
}

static const struct form {
    size_t inflates; /* bytes that one of the file's becomes at most */
    int (*support)(struct archive *archive);
    sp_status (*read)(reader *r, const char *const *names, size_t count, sp_tensor *out);
} zipped = {MOST_INFLATED, archive_read_support_format_zip_seekable, read_all},
  alone = {1, archive_read_support_format_raw, read_alone};

static sp_status load(const char *path, const struct form *form, const char *const *names, size_t count,
                      sp_tensor *out)
{
    sp_mapped_file file;
    memset(out, 0, count * sizeof *out);
    SP_TRY(sp_mapped_file_open(path, &file));
    size_t most = file.size > SIZE_MAX / form->inflates ? SIZE_MAX : file.size * form->inflates;
    reader r = {.archive = archive_read_new(), .path = path, .name = "", .most = most};
    sp_status status = r.archive ? SP_OK : SP_MEMORY;
    if (!status) form->support(r.archive);
    if (!status && archive_read_open_memory(r.archive, file.data, file.size) != ARCHIVE_OK)
        status = sp_fail(SP_FORMAT, "%s: is no archive of numpy's: %s", path, archive_error_string(r.archive));
    if (!status) status = form->read(&r, names, count, out);
    archive_read_free(r.archive);
    sp_status whole = sp_mapped_file_check(&file);
    sp_mapped_file_close(&file);
    if (whole) status = whole;
    for (size_t i = 0; i < count && status; i++)
        sp_tensor_free(&out[i]);
    return status;
}

sp_status sp_npz_load(const char *path, const char *const *names, size_t count, sp_tensor *out)
{
    return load(path, &zipped, names, count, out);
}

sp_status sp_npy_load(const char *path, sp_tensor *out)
{
    static const char *const name = "of the file";
    return load(path, &alone, &name, 1, out);
}

/* ---- writing ---- */

/* numpy's version 1: magic, length, dictionary, blanks up to a multiple of 64 bytes, a newline. */
static size_t write_header(const sp_tensor *tensor, char *out)
{
    char shape[SP_MAX_RANK * 24] = "";
    int type = 0;
    while (type < TYPES - 1 && types[type].dtype != tensor->dtype)
        type++;
    for (int i = 0; i < tensor->shape.rank; i++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%lld,%s", (long long)tensor->shape.dim[i],
                 i + 1 < tensor->shape.rank ? " " : "");
    int length = snprintf(out + PREAMBLE, LONGEST_HEADER, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                          types[type].descr, shape);
    size_t size = (size_t)(PREAMBLE + length + 1 + ALIGNED - 1) / ALIGNED * ALIGNED, dictionary = size - PREAMBLE;
    memset(out + PREAMBLE + length, ' ', dictionary - (size_t)length);
    out[size - 1] = '\n';
    memcpy(out, magic, 6);
    out[6] = 1, out[7] = 0;
    out[8] = (char)(dictionary & 255), out[9] = (char)(dictionary >> 8);
    return size;
}

/* SP_IO: the archive knows why. */
static sp_status write_array(struct archive *archive, const sp_named_tensor *named)
{
    char header[PREAMBLE + LONGEST_HEADER + ALIGNED], *name = sp_format("%s.npy", named->name);
    struct archive_entry *entry = name ? archive_entry_new() : NULL;
    size_t size = write_header(named->tensor, header), bytes = sp_tensor_bytes(named->tensor);
    sp_status status = SP_MEMORY;
    if (entry) {
        archive_entry_set_pathname(entry, name);
        archive_entry_set_size(entry, (la_int64_t)(size + bytes));
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_mtime(entry, 315532800, 0); /* 1980, as numpy */
        bool written = archive_write_header(archive, entry) == ARCHIVE_OK &&
                       archive_write_data(archive, header, size) == (la_ssize_t)size;
        for (size_t done = 0; written && done < bytes;) {
            la_ssize_t put = archive_write_data(archive, (const char *)named->tensor->data + done, bytes - done);
            written = put > 0;
            done += (size_t)(put > 0 ? put : 0);
        }
        status = written ? SP_OK : SP_IO;
        archive_entry_free(entry);
    }
    sp_free(name);
    return status;
}

sp_status sp_npz_save(const char *path, const sp_named_tensor *tensors, size_t count)
{
    sp_atomic_file file;
    SP_TRY(sp_atomic_open(path, &file));
    struct archive *archive = archive_write_new();
    sp_status status = archive ? SP_OK : SP_MEMORY;
    if (!status && (archive_write_set_format_zip(archive) != ARCHIVE_OK ||
                    archive_write_set_bytes_in_last_block(archive, 1) != ARCHIVE_OK ||
                    archive_write_open_FILE(archive, file.stream) != ARCHIVE_OK))
        status = SP_IO;
    for (size_t i = 0; i < count && !status; i++)
        status = write_array(archive, &tensors[i]);
    if (!status && archive_write_close(archive) != ARCHIVE_OK) status = SP_IO;
    if (status == SP_IO) {
        const char *reason = archive_error_string(archive);
        sp_fail(SP_IO, "%s: cannot be written: %s", path, reason ? reason : "no reason is known");
    }
    archive_write_free(archive);
    if (!status) return sp_atomic_commit(&file);
    sp_atomic_abandon(&file);
    return status;
}
