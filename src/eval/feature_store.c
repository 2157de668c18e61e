/* Features of pictures by the pictures' bytes, and the file that keeps them. */
#include "eval/feature_store.h"
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/safetensors.h"

#define FORMAT "splam features 1"
enum { NAME_BYTES = 64, KEY_BYTES = sizeof(sp_picture_key) };
static const char picture_part[] = "picture", checksum_part[] = "checksum";
/* Saving takes at most a twentieth of the time. */
static const double save_seconds = 60, save_share = 20;

sp_picture_key sp_picture_key_of(const void *bytes, size_t size)
{
    XXH128_canonical_t canonical;
    sp_picture_key key;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, size));
    memcpy(key.bytes, canonical.digest, sizeof key.bytes);
    return key;
}

/* ---- rows by key ---- */

/* Where the key's number stands, or the free slot for it. */
static int64_t *slot_of(const sp_feature_store *s, const sp_picture_key *key)
{
    uint64_t mask = (uint64_t)s->slot_count - 1, at = XXH3_64bits(key, sizeof *key) & mask;
    while (s->slots[at] && memcmp(&s->keys[s->slots[at] - 1], key, sizeof *key) != 0)
        at = (at + 1) & mask;
    return &s->slots[at];
}

int64_t sp_feature_store_find(const sp_feature_store *s, const sp_picture_key *key)
{
    return s->slot_count ? *slot_of(s, key) - 1 : -1;
}

int64_t sp_feature_store_claim(sp_feature_store *s, const sp_picture_key *key)
{
    s->keys[s->count] = *key;
    *slot_of(s, key) = ++s->count;
    return s->count - 1;
}

/* Twice as many slots as rows at least. */
static sp_status make_slots(sp_feature_store *s)
{
    int64_t count = 16;
    while (count < 2 * s->capacity)
        count *= 2;
    int64_t *slots = sp_alloc_zero((size_t)count * sizeof *slots);
    if (!slots) return SP_MEMORY;
    sp_free(s->slots);
    s->slots = slots;
    s->slot_count = count;
    for (int64_t i = 0; i < s->count; i++)
        *slot_of(s, &s->keys[i]) = i + 1;
    return SP_OK;
}

static int64_t width_of(const sp_feature_store *s, int feature)
{
    return s->extractor->feature[feature].width;
}

static sp_status grow_values(sp_feature_store *s, int feature, int64_t capacity)
{
    size_t row = (size_t)width_of(s, feature) * sizeof(float);
    float *grown = sp_realloc(s->values[feature], (size_t)s->count * row, (size_t)capacity * row);
    if (grown) s->values[feature] = grown;
    return grown ? SP_OK : SP_MEMORY;
}

sp_status sp_feature_store_reserve(sp_feature_store *s, int64_t rows)
{
    int64_t capacity = s->count + rows;
    if (capacity <= s->capacity) return SP_OK;
    sp_picture_key *keys = sp_realloc(s->keys, (size_t)s->count * sizeof *keys, (size_t)capacity * sizeof *keys);
    if (!keys) return SP_MEMORY;
    s->keys = keys;
    for (int k = 0; k < s->extractor->feature_count; k++)
        SP_TRY(grow_values(s, k, capacity));
    s->capacity = capacity;
    return make_slots(s);
}

float *sp_feature_store_values(const sp_feature_store *s, int feature, int64_t row)
{
    return s->values[feature] + row * width_of(s, feature);
}

void sp_feature_store_fill(sp_feature_store *s)
{
    s->filled = s->count;
}

sp_status sp_feature_store_gather(const sp_feature_store *s, int feature, const int64_t *row, int64_t count,
                                  sp_tensor *out)
{
    int64_t width = width_of(s, feature), rows = 0;
    for (int64_t i = 0; i < count; i++)
        rows += row[i] >= 0;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(rows, width), out));
    float *to = out->data;
    for (int64_t i = 0; i < count; i++) {
        if (row[i] < 0) continue;
        memcpy(to, sp_feature_store_values(s, feature, row[i]), (size_t)width * sizeof *to);
        to += width;
    }
    return SP_OK;
}

static void drop_rows(sp_feature_store *s)
{
    sp_free(s->keys);
    sp_free(s->slots);
    for (int k = 0; k < SP_FEATURES_MOST; k++) {
        sp_free(s->values[k]);
        s->values[k] = NULL;
    }
    s->keys = NULL, s->slots = NULL;
    s->count = s->filled = s->saved = s->capacity = s->slot_count = 0;
}

/* ---- names in the file ---- */

static const char *part_name(char name[NAME_BYTES], const char *network, const char *part)
{
    snprintf(name, NAME_BYTES, "%s.%s", network, part);
    return name;
}

/* The number of the network whose tensor this is; -1: it is not known. */
static int network_of(const char *name)
{
    for (int i = 0; i < SP_EXTRACTORS; i++) {
        const char *own = sp_extractor_kind_at((sp_extractor_index)i)->name;
        size_t length = strlen(own);
        if (strncmp(name, own, length) == 0 && name[length] == '.') return i;
    }
    return -1;
}

static const char *const origin_parts[] = {"weights", "convention", "transform"};
enum { ORIGIN_PARTS = sizeof origin_parts / sizeof *origin_parts };

static const char *origin_word(const sp_feature_origin *origin, int part)
{
    return part == 0 ? origin->weights : part == 1 ? origin->convention : origin->transform;
}

/* What goes into the file of one network, and of all. */
enum { PARTS = SP_FEATURES_MOST + 2, MOST_TENSORS = SP_EXTRACTORS * PARTS, MOST_WORDS = SP_EXTRACTORS * ORIGIN_PARTS };

/* ---- reading ---- */

static sp_status check_names(const sp_tensor_file *file)
{
    int count[SP_EXTRACTORS] = {0};
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *name = sp_tensor_file_name(file, i);
        int network = network_of(name);
        if (network < 0)
            return sp_fail(SP_UNSUPPORTED, "%s: tensor \"%s\" is of no network that is known",
                           sp_tensor_file_path(file), name);
        if (++count[network] > PARTS)
            return sp_fail(SP_FORMAT, "%s: holds more than %d tensors of %s", sp_tensor_file_path(file), PARTS,
                           sp_extractor_kind_at((sp_extractor_index)network)->name);
    }
    return SP_OK;
}

static sp_status check_file(const sp_tensor_file *file)
{
    const char *format = sp_tensor_file_metadata(file, "format"), *path = sp_tensor_file_path(file);
    if (!format || !sp_starts_with(format, "splam features "))
        return sp_fail(SP_FORMAT, "%s: is no file of features, whose metadata have the format \"" FORMAT "\"", path);
    if (strcmp(format, FORMAT) != 0)
        return sp_fail(SP_UNSUPPORTED, "%s: has the format \"%s\", expected \"" FORMAT "\"", path, format);
    return check_names(file);
}

static const char *word_of(const sp_tensor_file *file, const char *network, int part)
{
    char name[NAME_BYTES];
    return sp_tensor_file_metadata(file, part_name(name, network, origin_parts[part]));
}

bool sp_feature_file_facts(const sp_tensor_file *file, sp_extractor_index network, sp_feature_facts *out)
{
    const char *own = sp_extractor_kind_at(network)->name, *format = sp_tensor_file_metadata(file, "format");
    char name[NAME_BYTES];
    const sp_tensor *picture = sp_tensor_file_find(file, part_name(name, own, picture_part));
    if (!format || strcmp(format, FORMAT) != 0 || !picture || !picture->shape.rank) return false;
    out->rows = picture->shape.dim[0];
    out->origin = (sp_feature_origin){own, word_of(file, own, 1), word_of(file, own, 2), word_of(file, own, 0)};
    return out->origin.convention && out->origin.transform && out->origin.weights;
}

sp_status sp_feature_store_open(const char *path, sp_feature_store *out)
{
    *out = (sp_feature_store){.path = path};
    if (!path || !sp_path_exists(path)) return SP_OK;
    SP_TRY(sp_safetensors_open(path, &out->file));
    sp_status status = check_file(out->file);
    if (status) sp_feature_store_close(out);
    return status;
}

void sp_feature_store_close(sp_feature_store *s)
{
    drop_rows(s);
    sp_tensor_file_close(s->file);
    *s = (sp_feature_store){0};
}

/* They came about as these would. */
static sp_status check_origin(const sp_feature_store *s)
{
    for (int i = 0; i < ORIGIN_PARTS; i++) {
        const char *network = s->origin.network, *wanted = origin_word(&s->origin, i);
        const char *found = word_of(s->file, network, i);
        if (!found) return sp_fail(SP_FORMAT, "%s: the metadata lack \"%s.%s\"", s->path, network, origin_parts[i]);
        if (strcmp(found, wanted) != 0)
            return sp_fail(SP_ARGUMENT, "%s: has features of %s with the %s %s, and these would be with %s: give "
                           "`features` another file", s->path, network, origin_parts[i], found, wanted);
    }
    return SP_OK;
}

/* NETWORK.PART, [rows] or [rows,width] (width 0: the former); *rows < 0: whatever there are. */
static sp_status take(const sp_feature_store *s, const char *part, sp_dtype dtype, int64_t width, int64_t *rows,
                      const sp_tensor **out)
{
    char name[NAME_BYTES];
    SP_TRY(sp_tensor_file_get(s->file, part_name(name, s->origin.network, part), out));
    const sp_shape found = (*out)->shape;
    if (*rows < 0 && found.rank > 0) *rows = found.dim[0];
    const sp_shape wanted = width ? sp_shape_of(*rows, width) : sp_shape_of(*rows);
    if ((*out)->dtype == dtype && sp_shape_equal(found, wanted)) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: tensor \"%s\" is %s %s, expected %s %s", s->path, name, sp_dtype_name((*out)->dtype),
                   sp_shape_text(found), sp_dtype_name(dtype), sp_shape_text(wanted));
}

/* XXH3 of a row, its key first. */
static int64_t checksum(const sp_feature_store *s, int64_t row)
{
    uint64_t sum = XXH3_64bits(&s->keys[row], sizeof *s->keys);
    for (int k = 0; k < s->extractor->feature_count; k++)
        sum = XXH3_64bits_withSeed(sp_feature_store_values(s, k, row), (size_t)width_of(s, k) * sizeof(float), sum);
    return (int64_t)sum;
}

/* Copies are checked: the file itself may be changed at any time. */
static sp_status take_rows(sp_feature_store *s, int64_t rows, const sp_tensor *picture, const sp_tensor *sums)
{
    const char *keys = picture->data, *written = sums->data;
    for (int64_t i = 0; i < rows; i++) {
        sp_picture_key key;
        int64_t sum;
        memcpy(&key, keys + i * KEY_BYTES, sizeof key);
        memcpy(&sum, written + i * (int64_t)sizeof sum, sizeof sum);
        if (sp_feature_store_find(s, &key) >= 0)
            return sp_fail(SP_FORMAT, "%s: two rows of %s are of one picture", s->path, s->origin.network);
        sp_feature_store_claim(s, &key);
        if (checksum(s, i) != sum)
            return sp_fail(SP_FORMAT, "%s: is damaged: row %lld of %s has another checksum than it was written with",
                           s->path, (long long)i, s->origin.network);
    }
    s->filled = s->saved = rows;
    return SP_OK;
}

static sp_status take_values(sp_feature_store *s, int feature, int64_t rows)
{
    const sp_feature *f = &s->extractor->feature[feature];
    const sp_tensor *values;
    char name[NAME_BYTES], where[1024];
    SP_TRY(take(s, f->name, SP_F32, f->width, &rows, &values));
    memcpy(s->values[feature], values->data, sp_tensor_bytes(values));
    snprintf(where, sizeof where, "%s: tensor \"%s\"", s->path, part_name(name, s->origin.network, f->name));
    return sp_tensor_check_finite(&(sp_tensor){SP_F32, values->shape, s->values[feature], false}, where);
}

static sp_status load(sp_feature_store *s)
{
    const sp_tensor *picture, *sums;
    int64_t rows = -1;
    char name[NAME_BYTES];
    if (!sp_tensor_file_find(s->file, part_name(name, s->origin.network, picture_part))) return SP_OK;
    SP_TRY(check_origin(s));
    SP_TRY(take(s, picture_part, SP_U8, KEY_BYTES, &rows, &picture));
    SP_TRY(take(s, checksum_part, SP_I64, 0, &rows, &sums));
    for (int k = 0; k < s->extractor->feature_count; k++) { /* before there is room for what they claim to be */
        const sp_tensor *values;
        SP_TRY(take(s, s->extractor->feature[k].name, SP_F32, width_of(s, k), &rows, &values));
    }
    if (!rows) return SP_OK;
    SP_TRY(sp_feature_store_reserve(s, rows));
    for (int k = 0; k < s->extractor->feature_count; k++)
        SP_TRY(take_values(s, k, rows));
    SP_TRY(take_rows(s, rows, picture, sums));
    return sp_tensor_file_check(s->file);
}

sp_status sp_feature_store_begin(sp_feature_store *s, sp_extractor_index network, const sp_extractor *extractor,
                                 const sp_preparation *preparation)
{
    s->network = network;
    s->extractor = extractor;
    s->origin = sp_feature_origin_of(network, extractor, preparation);
    s->next_save = 0;
    if (s->path) SP_TRY(sp_check_replaceable(s->path));
    sp_status status = s->file ? load(s) : SP_OK;
    if (status) drop_rows(s);
    return status;
}

/* ---- writing ---- */

typedef struct {
    size_t count, word_count;
    sp_named_tensor tensors[MOST_TENSORS];
    const char *words[MOST_WORDS + 1][2];
    char names[PARTS][NAME_BYTES], word_names[MOST_WORDS][NAME_BYTES];
    sp_tensor own[PARTS];
} contents;

static void add_word(contents *c, const char *network, int part, const char *word)
{
    if (!word) return;
    size_t at = c->word_count++;
    c->words[at][0] = part_name(c->word_names[at - 1], network, origin_parts[part]);
    c->words[at][1] = word;
}

/* Of other networks, as the file has them. */
static void add_others(const sp_feature_store *s, contents *c)
{
    for (size_t i = 0; s->file && i < sp_tensor_file_count(s->file); i++) {
        const char *name = sp_tensor_file_name(s->file, i);
        if (network_of(name) == (int)s->network) continue;
        c->tensors[c->count++] = (sp_named_tensor){name, sp_tensor_file_at(s->file, i)};
    }
    for (int i = 0; i < SP_EXTRACTORS * ORIGIN_PARTS && s->file; i++) {
        const char *network = sp_extractor_kind_at((sp_extractor_index)(i / ORIGIN_PARTS))->name;
        if (i / ORIGIN_PARTS != (int)s->network)
            add_word(c, network, i % ORIGIN_PARTS, word_of(s->file, network, i % ORIGIN_PARTS));
    }
}

static void add_own(const sp_feature_store *s, contents *c, int part, const char *name, sp_tensor tensor)
{
    c->own[part] = tensor;
    part_name(c->names[part], s->origin.network, name);
    c->tensors[c->count++] = (sp_named_tensor){c->names[part], &c->own[part]};
}

static sp_status add_rows(const sp_feature_store *s, contents *c)
{
    sp_tensor sums;
    int64_t n = s->filled;
    for (int i = 0; i < ORIGIN_PARTS; i++)
        add_word(c, s->origin.network, i, origin_word(&s->origin, i));
    SP_TRY(sp_tensor_create(SP_I64, sp_shape_of(n), &sums));
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)sums.data)[i] = checksum(s, i);
    add_own(s, c, 0, checksum_part, sums);
    add_own(s, c, 1, picture_part, (sp_tensor){SP_U8, sp_shape_of(n, KEY_BYTES), s->keys, false});
    for (int k = 0; k < s->extractor->feature_count; k++)
        add_own(s, c, 2 + k, s->extractor->feature[k].name,
                (sp_tensor){SP_F32, sp_shape_of(n, width_of(s, k)), s->values[k], false});
    return SP_OK;
}

static sp_status save(sp_feature_store *s)
{
    contents *c = sp_alloc_zero(sizeof *c);
    if (!c) return SP_MEMORY;
    double began = sp_now();
    c->words[c->word_count][0] = "format";
    c->words[c->word_count++][1] = FORMAT;
    add_others(s, c);
    sp_status status = add_rows(s, c);
    if (!status)
        status = sp_safetensors_save(s->path, c->tensors, c->count, (const char *const(*)[2])c->words, c->word_count);
    sp_tensor_free(&c->own[0]);
    sp_free(c);
    SP_TRY(status);
    double seconds = save_share * (sp_now() - began);
    s->next_save = sp_now() + (seconds > save_seconds ? seconds : save_seconds);
    s->saved = s->filled;
    s->stale = true;
    return SP_OK;
}

sp_status sp_feature_store_keep(sp_feature_store *s)
{
    return s->path && s->filled > s->saved && sp_now() >= s->next_save ? save(s) : SP_OK;
}

/* The file as it is now, for the next network. */
static sp_status open_again(sp_feature_store *s)
{
    sp_tensor_file_close(s->file);
    s->file = NULL;
    s->stale = false;
    SP_TRY(sp_safetensors_open(s->path, &s->file));
    return check_file(s->file);
}

static sp_status save_rest(sp_feature_store *s)
{
    int64_t filled = s->filled;
    if (s->path && filled != s->saved) SP_TRY(save(s));
    if (!s->stale) return SP_OK;
    sp_log_info("%s: has features of %lld pictures now", s->path, (long long)filled);
    return open_again(s);
}

sp_status sp_feature_store_end(sp_feature_store *s, sp_status status)
{
    char message[1024];
    snprintf(message, sizeof message, "%s", sp_error_message());
    sp_status saved = save_rest(s);
    drop_rows(s);
    if (!status || !saved) return saved ? saved : status;
    sp_log_warn("%s", sp_error_message());
    return sp_fail(status, "%s", message);
}
