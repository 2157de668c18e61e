/* Checksums of files and of JSON objects. */
#include "train/checksum.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "base/file.h"
#include "base/memory.h"

#define PIECE ((size_t)4 << 20)   /* bytes read at once */
#define SECONDS_WITHOUT_A_BAR 2.0 /* what is done sooner needs none */
#define MEGABYTE ((int64_t)1000000)

enum { SP_DIGITS = 16 };

/* One file's sum as it grows. */
typedef struct {
    sp_checksums *all;
    XXH3_state_t *state;
    int64_t bytes;
} growing;

static sp_status begin(sp_checksums *all, growing *g)
{
    *g = (growing){.all = all, .state = XXH3_createState()};
    if (!g->state) return sp_fail(SP_MEMORY, "out of memory for a checksum");
    XXH3_64bits_reset(g->state);
    return SP_OK;
}

static sp_status add(void *context, const void *data, size_t size)
{
    growing *g = context;
    sp_checksums *all = g->all;
    XXH3_64bits_update(g->state, data, size);
    g->bytes += (int64_t)size;
    int64_t before = all->done / MEGABYTE;
    all->done += (int64_t)size;
    bool moved = all->done / MEGABYTE > before; /* the last line is written once */
    if (moved && sp_now() - all->started > SECONDS_WITHOUT_A_BAR)
        sp_report(all->callbacks, all->task, all->done / MEGABYTE, all->total / MEGABYTE, "MB");
    return SP_OK;
}

static void digits(XXH64_hash_t hash, char out[SP_DIGITS + 1])
{
    snprintf(out, SP_DIGITS + 1, "%016llx", (unsigned long long)hash);
}

/* ---- writing ---- */

sp_status sp_checksum_save(sp_checksums *sums, const char *name, const sp_weights *weights)
{
    size_t count = sp_weights_count(weights);
    sp_named_tensor *list = sp_alloc((count + 1) * sizeof *list);
    sp_tensor *stored = sp_alloc((count + 1) * sizeof *stored);
    char *path = sp_format("%s/%s.safetensors", sums->folder, name);
    growing g = {0};
    sp_status status = list && stored && path ? begin(sums, &g) : SP_MEMORY;
    if (!status) {
        for (size_t i = 0; i < count; i++) {
            stored[i] = sp_tensor_stored(sp_weights_at(weights, i));
            list[i] = (sp_named_tensor){sp_weights_name(weights, i), &stored[i]};
        }
        const sp_write_watch watch = {.wrote = add, .context = &g};
        status = sp_safetensors_save_watched(path, list, count, NULL, 0, &watch);
    }
    if (!status) {
        char text[SP_DIGITS + 1];
        digits(XXH3_64bits_digest(g.state), text);
        json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)g.bytes, "xxh3", text);
        if (json_object_set_new(sums->files, sp_path_base(path), entry)) status = SP_MEMORY;
    }
    XXH3_freeState(g.state);
    sp_free(path);
    sp_free(stored);
    sp_free(list);
    return status;
}

/* ---- verifying ---- */

/* Not mapped: a sector that cannot be read must be an error, not a signal. */
static sp_status read_through(const char *path, int file, growing *g)
{
    char *piece = sp_alloc(PIECE);
    sp_status status = piece ? SP_OK : SP_MEMORY;
    while (!status && !(status = sp_check_cancelled(g->all->callbacks))) {
        ssize_t got = read(file, piece, PIECE);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = sp_fail(SP_IO, "%s: cannot read: %s", path, strerror(errno));
        if (got <= 0) break;
        add(g, piece, (size_t)got);
    }
    sp_free(piece);
    return status;
}

static sp_status compare_sum(const char *path, const growing *g, const char *wanted)
{
    char found[SP_DIGITS + 1];
    digits(XXH3_64bits_digest(g->state), found);
    if (strcmp(found, wanted) == 0) return SP_OK;
    return sp_fail(SP_FORMAT, "%s has the checksum %s, and what was written had %s", path, found,
                   wanted);
}

/* What the object says of a file. */
typedef struct {
    uint64_t bytes;
    const char *sum;
} description;

static sp_status verify_file(sp_checksums *sums, const char *path, const description *told)
{
    growing g = {0};
    int file;
    size_t size;
    SP_TRY(sp_open_regular(path, false, &file, &size));
    sp_status status = size == told->bytes
                           ? begin(sums, &g)
                           : sp_fail(SP_FORMAT, "%s has %zu bytes, and %llu were written", path,
                                     size, (unsigned long long)told->bytes);
    if (!status) status = read_through(path, file, &g);
    close(file);
    if (!status) status = compare_sum(path, &g, told->sum);
    XXH3_freeState(g.state);
    return status;
}

static sp_status describe(const sp_checksums *sums, const char *name, description *out)
{
    char key[64];
    snprintf(key, sizeof key, "%s.safetensors", name);
    const json_t *entry = json_object_get(sums->files, key);
    const json_t *bytes = json_object_get(entry, "bytes"), *sum = json_object_get(entry, "xxh3");
    if (!entry) return sp_fail(SP_FORMAT, "%s/" SP_STATE_FILE " has no checksum of %s", sums->folder, key);
    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0 || !json_is_string(sum))
        return sp_fail(SP_FORMAT, "%s/" SP_STATE_FILE " has no \"bytes\" and \"xxh3\" of %s", sums->folder,
                       key);
    *out = (description){(uint64_t)json_integer_value(bytes), json_string_value(sum)};
    return SP_OK;
}

sp_status sp_checksum_verify(sp_checksums *sums, const char *const *names, size_t count)
{
    description told;
    if (json_object_size(sums->files) > count)
        return sp_fail(SP_FORMAT, "%s/" SP_STATE_FILE " names %zu files, and a checkpoint has %zu",
                       sums->folder, json_object_size(sums->files), count);
    sums->total = 0;
    for (size_t i = 0; i < count; i++) {
        SP_TRY(describe(sums, names[i], &told));
        if (__builtin_add_overflow(sums->total, told.bytes, &sums->total))
            return sp_fail(SP_FORMAT, "%s/" SP_STATE_FILE " names more bytes than there can be",
                           sums->folder);
    }
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && !status; i++) {
        char *path = sp_format("%s/%s.safetensors", sums->folder, names[i]);
        status = path ? describe(sums, names[i], &told) : SP_MEMORY;
        if (!status) status = verify_file(sums, path, &told);
        sp_free(path);
    }
    return status;
}

/* ---- objects ---- */

static int add_text(const char *text, size_t size, void *state)
{
    return XXH3_64bits_update(state, text, size) == XXH_OK ? 0 : -1;
}

/* Of the object without its seal. */
static sp_status sum_of(const json_t *object, char out[SP_DIGITS + 1])
{
    json_t *rest = json_copy((json_t *)object);
    XXH3_state_t *state = XXH3_createState();
    sp_status status = SP_MEMORY;
    if (rest && state) {
        XXH3_64bits_reset(state);
        json_object_del(rest, "xxh3");
        if (json_dump_callback(rest, add_text, state, JSON_COMPACT | JSON_SORT_KEYS) == 0)
            status = SP_OK;
        digits(XXH3_64bits_digest(state), out);
    }
    XXH3_freeState(state);
    json_decref(rest);
    return status;
}

sp_status sp_checksum_seal(json_t *object)
{
    char sum[SP_DIGITS + 1];
    SP_TRY(sum_of(object, sum));
    return json_object_set_new(object, "xxh3", json_string(sum)) ? SP_MEMORY : SP_OK;
}

sp_status sp_checksum_check_seal(const char *folder, json_t *object)
{
    char sum[SP_DIGITS + 1];
    const char *seal = json_string_value(json_object_get(object, "xxh3"));
    SP_TRY(sum_of(object, sum));
    if (!seal) return sp_fail(SP_FORMAT, "%s/" SP_STATE_FILE " has no checksum \"xxh3\"", folder);
    if (strcmp(seal, sum) == 0) return SP_OK;
    return sp_fail(SP_FORMAT, "%s/" SP_STATE_FILE " has the checksum %s, and what was written had %s", folder, sum,
                   seal);
}
