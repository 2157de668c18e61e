/* wds:SHARDS.tar, pictures and captions in tar files. */
#include "data/wds.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text_file.h"
#include "base/visible.h"
#include "data/picture.h"
#include "data/shard_names.h"

enum {
    MAX_TEXT = 1 << 16,   /* bytes of a .txt */
    MAX_FIELDS = 1 << 20, /* of a .json */
    MAX_PICTURE = 1 << 30,
};

/* Where a sample's picture lies. */
typedef struct {
    int64_t offset;
    uint32_t size, shard;
} location;

typedef struct {
    char **shards;
    size_t shard_count;
    location *locations; /* [samples] */
    int64_t capacity;
} wds_source;

/* ---- one sample's files ---- */

typedef struct {
    const unsigned char *data; /* in the mapped shard; NULL: there is none */
    size_t size;
} bytes;

typedef struct {
    char *key; /* NULL: no sample has begun */
    char *picture_name;
    bytes picture, text, caption, fields; /* of .txt and .caption the first is taken */
} group;

typedef struct {
    sp_dataset *dataset;
    wds_source *source;
    uint32_t shard;
    sp_mapped_file file;
    group group;
    int64_t files; /* that belong to samples */
} scan;

static void reject(const scan *s, const char *reason, const char *name, const char *detail)
{
    char *full = sp_format("%s/%s", s->file.path, name);
    sp_dataset_reject(s->dataset, reason, full ? full : name, detail);
    sp_free(full);
}

static sp_status locate(wds_source *source, int64_t sample, location at)
{
    if (sample >= source->capacity) {
        int64_t capacity = source->capacity ? source->capacity * 2 : 1024;
        location *grown = sp_realloc(source->locations, (size_t)source->capacity * sizeof *grown,
                                     (size_t)capacity * sizeof *grown);
        if (!grown) return SP_MEMORY;
        source->locations = grown;
        source->capacity = capacity;
    }
    source->locations[sample] = at;
    return SP_OK;
}

/* SP_FORMAT for what makes the sample unusable. */
static sp_status read_group(const scan *s, sp_captions *captions, json_t **fields)
{
    const group *g = &s->group;
    const char *column = s->dataset->options.caption_column;
    const bytes *words = g->text.data ? &g->text : &g->caption;
    const char *json = (const char *)g->fields.data, *text = (const char *)words->data;
    size_t json_size = g->fields.size, text_size = words->size;
    if (json_size > MAX_FIELDS || text_size > MAX_TEXT)
        return sp_fail(SP_FORMAT, "%zu bytes of text", json_size + text_size);
    if (json) {
        SP_TRY(sp_skip_byte_order_mark(g->key, &json, &json_size));
        SP_TRY(sp_json_parse_lenient(json, json_size, g->key, fields));
        if (!json_is_object(*fields)) return sp_fail(SP_FORMAT, "%s.json is no object", g->key);
    }
    if (text && !column) {
        SP_TRY(sp_skip_byte_order_mark(g->key, &text, &text_size));
        SP_TRY(sp_captions_add(captions, text, text_size, g->key));
    }
    if (captions->count) return SP_OK;
    return sp_captions_add_json(captions, sp_find_caption(*fields, column, SP_SIDECAR_COLUMNS));
}

static sp_status consider(scan *s, const sp_captions *captions, const json_t *fields)
{
    const group *g = &s->group;
    char *name = sp_format("%s/%s", s->file.path, g->picture_name);
    if (!name) return SP_MEMORY;
    const sp_candidate picture = {.name = name,
                                  .fields = fields,
                                  .picture = g->picture.data,
                                  .size = g->picture.size,
                                  .captions = captions};
    int64_t at = s->dataset->count;
    sp_sample *sample;
    sp_status status = sp_picture_consider(s->dataset, &picture, &sample);
    sp_free(name);
    SP_TRY(status);
    if (!sample) return SP_OK;
    return locate(s->source, at,
                  (location){g->picture.data - s->file.data, (uint32_t)g->picture.size, s->shard});
}

static sp_status finish_group(scan *s)
{
    group *g = &s->group;
    sp_captions captions = {0};
    json_t *fields = NULL;
    sp_status status = SP_OK;
    if (g->key && !g->picture.data && (g->text.data || g->caption.data || g->fields.data)) {
        reject(s, "no picture", g->key, NULL);
    } else if (g->picture.data && g->picture.size > MAX_PICTURE) {
        reject(s, "too large", g->picture_name, NULL);
    } else if (g->picture.data) {
        status = read_group(s, &captions, &fields);
        bool words = status == SP_FORMAT; /* that cannot be read */
        if (words && !s->dataset->options.all_pictures) {
            reject(s, "unreadable caption or .json", g->key, sp_error_message());
            status = SP_OK;
        } else if (words || status == SP_OK) {
            status = consider(s, &captions, fields);
        }
    }
    json_decref(fields);
    sp_captions_free(&captions);
    sp_free(g->key);
    sp_free(g->picture_name);
    *g = (group){0};
    return status;
}

/* The place of a file with this extension in its group; NULL: it belongs to none. */
static bytes *place_of(group *g, const char *name, const char *extension)
{
    if (!strcasecmp(extension, "txt")) return &g->text;
    if (!strcasecmp(extension, "caption")) return &g->caption;
    if (!strcasecmp(extension, "json")) return &g->fields;
    return sp_is_picture_name(name) && !strchr(extension, '.') ? &g->picture : NULL;
}

static sp_status add_file(scan *s, const char *name, bytes data)
{
    const char *base = strrchr(name, '/');
    const char *dot = strchr(base ? base + 1 : name, '.');
    if (!dot || dot == (base ? base + 1 : name)) return SP_OK;
    group *g = &s->group;
    size_t length = (size_t)(dot - name);
    if (!g->key || strlen(g->key) != length || strncmp(g->key, name, length)) {
        SP_TRY(finish_group(s));
        g->key = sp_format("%.*s", (int)length, name);
        if (!g->key) return SP_MEMORY;
    }
    bytes *place = place_of(g, name, dot + 1);
    if (!place) return SP_OK;
    s->files++;
    if (place->data) {
        reject(s, "second file of a kind in one sample", name, NULL);
        return SP_OK;
    }
    *place = data;
    if (place != &g->picture) return SP_OK;
    g->picture_name = sp_strdup(name);
    return g->picture_name ? SP_OK : SP_MEMORY;
}

/* ---- one shard ---- */

static const char *entry_name(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname_utf8(entry);
    return name ? name : archive_entry_pathname(entry);
}

static bool lies_in(const sp_mapped_file *file, const void *data, size_t size)
{
    uintptr_t begin = (uintptr_t)file->data, at = (uintptr_t)data;
    return at >= begin && at - begin <= file->size && size <= file->size - (at - begin);
}

/* Where the entry's bytes lie in the mapped file. They are there in one piece, unless the entry is
 * sparse or the file is cut. */
static bool entry_bytes(const scan *s, struct archive *tar, struct archive_entry *entry, bytes *out)
{
    static const unsigned char nothing[1];
    const void *block;
    size_t size;
    la_int64_t offset, all = archive_entry_size(entry);
    *out = (bytes){nothing, 0};
    if (all == 0) return true;
    if (all < 0 || archive_read_data_block(tar, &block, &size, &offset) != ARCHIVE_OK) return false;
    *out = (bytes){block, size};
    return offset == 0 && size == (size_t)all && lies_in(&s->file, block, size);
}

static sp_status read_entry(scan *s, struct archive *tar, struct archive_entry *entry)
{
    bytes data;
    const char *name = entry_name(entry);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry)) return SP_OK;
    if (!name) {
        reject(s, "file without a readable name", "?", NULL);
        return SP_OK;
    }
    if (!entry_bytes(s, tar, entry, &data)) {
        reject(s, "sparse or incomplete file", name, archive_error_string(tar));
        return SP_OK;
    }
    return add_file(s, name, data);
}

static sp_status reject_shard(const scan *s, const char *reason, const char *path, const char *detail)
{
    if (s->dataset->options.all_pictures)
        return sp_fail(SP_FORMAT, "%s: %s%s%s", path, reason, detail ? ": " : "", detail ? detail : "");
    sp_dataset_reject(s->dataset, reason, path, detail);
    char clean[512];
    sp_clean_text(path, clean, sizeof clean);
    sp_log_warn("%s is rejected: %s%s%s", clean, reason, detail ? ": " : "", detail ? detail : "");
    return SP_OK;
}

static sp_status read_entries(scan *s, struct archive *tar)
{
    struct archive_entry *entry;
    sp_status status = SP_OK;
    int code;
    while ((code = archive_read_next_header(tar, &entry)) != ARCHIVE_EOF && !status) {
        if (code == ARCHIVE_FATAL || code == ARCHIVE_FAILED) break;
        if (code != ARCHIVE_RETRY) status = read_entry(s, tar, entry);
    }
    if (!status) status = finish_group(s);
    if (status) return status;
    const char *problem = archive_error_string(tar);
    if (code != ARCHIVE_EOF && archive_errno(tar) == ENOMEM)
        return sp_fail(SP_MEMORY, "out of memory for %s", s->file.path);
    if (code != ARCHIVE_EOF && !s->files)
        return reject_shard(s, "shard that is no plain tar file", s->file.path, problem);
    if (code != ARCHIVE_EOF)
        return reject_shard(s, "damaged shard (what stands before is kept)", s->file.path, problem);
    return s->files ? SP_OK : reject_shard(s, "empty shard", s->file.path, NULL);
}

static const char *compression(const sp_mapped_file *file)
{
    static const struct {
        const char *magic;
        size_t size;
        const char *name;
    } known[] = {{"\x1f\x8b", 2, "compressed by gzip; unpack it"},
                 {"\x28\xb5\x2f\xfd", 4, "compressed by zstd; unpack it"},
                 {"BZh", 3, "compressed by bzip2; unpack it"},
                 {"\xfd"
                  "7zXZ",
                  5, "compressed by xz; unpack it"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (file->size >= known[i].size && !memcmp(file->data, known[i].magic, known[i].size))
            return known[i].name;
    return NULL;
}

static sp_status read_tar(scan *s)
{
    struct archive *tar = archive_read_new();
    if (!tar) return sp_fail(SP_MEMORY, "out of memory for %s", s->file.path);
    archive_read_support_format_tar(tar);
    sp_status status = SP_OK;
    if (archive_read_open_memory(tar, s->file.data, s->file.size) == ARCHIVE_OK)
        status = read_entries(s, tar);
    else
        status = reject_shard(s, "shard that is no plain tar file", s->file.path, archive_error_string(tar));
    archive_read_free(tar);
    return status;
}

static sp_status read_shard(scan *s, const char *path)
{
    sp_status status = sp_mapped_file_open(path, &s->file);
    if (status == SP_IO) return reject_shard(s, "shard that cannot be opened", path, sp_error_message());
    SP_TRY(status);
    const char *packed = compression(&s->file);
    s->files = 0;
    if (!s->file.size)
        status = reject_shard(s, "empty shard", path, NULL);
    else if (packed)
        status = reject_shard(s, "shard that is no plain tar file", path, packed);
    else
        status = read_tar(s);
    if (!status && sp_mapped_file_check(&s->file)) /* zeros look like the end of an archive */
        status = reject_shard(s, "shard that became shorter", path, NULL);
    sp_free(s->group.key);
    sp_free(s->group.picture_name);
    s->group = (group){0};
    sp_mapped_file_close(&s->file);
    return status;
}

/* ---- the data set ---- */

static sp_status read_at(const char *path, int64_t offset, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return sp_fail(sp_system_status(errno), "%s: cannot open: %s", path, strerror(errno));
    ssize_t got = 1;
    size_t done = 0;
    while (done < size && got > 0) {
        got = pread(fd, to + done, size - done, offset + (int64_t)done);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            done += (size_t)got;
    }
    int reason = errno;
    close(fd);
    if (done == size) return SP_OK;
    return sp_fail(SP_IO, "%s: cannot read: %s", path,
                   got < 0 ? strerror(reason) : "it ends too early");
}

static sp_status wds_bytes(const sp_dataset *dataset, int64_t sample, char **bytes, size_t *size)
{
    const wds_source *source = dataset->source;
    const location *at = &source->locations[sample];
    *size = at->size;
    *bytes = sp_alloc(at->size);
    if (!*bytes) return SP_MEMORY;
    sp_status status = read_at(source->shards[at->shard], at->offset, *bytes, at->size);
    if (!status) return SP_OK;
    sp_free(*bytes);
    *bytes = NULL;
    return status;
}

static sp_status wds_image(const sp_dataset *dataset, int64_t sample, uint8_t *rgb)
{
    char *file;
    size_t size;
    SP_TRY(wds_bytes(dataset, sample, &file, &size));
    sp_status status = sp_picture_square(dataset, sample, file, size, dataset->samples[sample].name, rgb);
    sp_free(file);
    return status;
}

static void wds_close(void *opaque)
{
    wds_source *source = opaque;
    for (size_t i = 0; i < source->shard_count; i++)
        sp_free(source->shards[i]);
    sp_free(source->shards);
    sp_free(source->locations);
    sp_free(source);
}

static const sp_source_kind wds_kind = {wds_image, wds_close, wds_bytes};

sp_status sp_wds_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks)
{
    sp_picture_defaults(&dataset->options);
    wds_source *source = sp_alloc_zero(sizeof *source);
    if (!source) return SP_MEMORY;
    dataset->source = source;
    dataset->kind = &wds_kind;
    SP_TRY(sp_shard_names(context, &source->shards, &source->shard_count));
    scan s = {.dataset = dataset, .source = source};
    for (size_t i = 0; i < source->shard_count; i++) {
        s.shard = (uint32_t)i;
        SP_TRY(read_shard(&s, source->shards[i]));
        sp_report(callbacks, "shards", (int64_t)i + 1, (int64_t)source->shard_count, NULL);
        SP_TRY(sp_check_cancelled(callbacks));
    }
    return SP_OK;
}
