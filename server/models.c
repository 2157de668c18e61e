/* Models, adapters and learned tokens by name, and those that are open. */
#include "models.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "json.h"

/* A file of a folder: its name without the suffix, where it is, and what tells it from one that takes its place. */
typedef struct {
    char *name, *path;
    ino_t inode;
    off_t bytes;
    struct timespec written;
} entry;
typedef struct {
    size_t count;
    entry *item; /* by name */
} entries;

/* Which learned tokens a model is opened with. */
typedef struct {
    bool *with; /* of each of the folder's */
} fitting;

typedef struct opened opened;
struct opened {
    size_t model;
    sv_adapters adapters;
    unsigned generation; /* of the list of learned tokens that it was opened with */
    splam_model *open;
    splam_session *session;
    opened *next;
};

struct sv_models {
    sv_models_settings settings;
    splam_model_facts *facts; /* of each */
    atomic_size_t chosen, open_count;
    pthread_mutex_t lock;
    /* guarded */
    entries adapters, embeddings;
    fitting *fits; /* of each model */
    unsigned generation;
    /* the drawing thread's */
    opened *first; /* the last used first */
};

/* So many are open at once: each model of the list, and two more for adapters. */
static size_t most_open(const sv_models *m)
{
    return m->settings.model_count + 2;
}

void sv_adapters_free(sv_adapters *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->item[i].path);
    *a = (sv_adapters){0};
}

/* ---- folders ---- */

static void free_entries(entries *e)
{
    for (size_t i = 0; i < e->count; i++) {
        free(e->item[i].name);
        free(e->item[i].path);
    }
    free(e->item);
    *e = (entries){0};
}

/* Of a file's name, where it ends in one of "a|b"; 0: it does not, or nothing is before it. */
static size_t stem_of(const char *name, const char *suffixes)
{
    size_t length = strlen(name);
    for (const char *s = suffixes; *s;) {
        size_t size = strcspn(s, "|");
        if (length > size && memcmp(name + length - size, s, size) == 0) return length - size;
        s += size + (s[size] == '|');
    }
    return 0;
}

static bool add_entry(entries *e, const char *folder, const char *file, size_t stem)
{
    entry *more = realloc(e->item, (e->count + 1) * sizeof *more);
    if (!more) return false;
    e->item = more;
    entry *added = &more[e->count];
    *added = (entry){.name = strndup(file, stem)};
    if (asprintf(&added->path, "%s/%s", folder, file) < 0) added->path = NULL;
    e->count++;
    return added->name && added->path;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

/* Two files of one name with other suffixes are one too many, and so is one that no request can name. */
static bool check_names(const entries *e, const char *folder, char *error, size_t size)
{
    for (size_t i = 0; i < e->count; i++) {
        const char *name = e->item[i].name;
        bool twice = i > 0 && strcmp(e->item[i - 1].name, name) == 0;
        if (!twice && sv_json_can_carry(name)) continue;
        snprintf(error, size, twice ? "%s: two files are called \"%s\"" : "%s: the name \"%s\" is no UTF-8", folder,
                 name);
        return false;
    }
    return true;
}

/* False: it is no file. */
static bool look_at(entry *e)
{
    struct stat s;
    if (stat(e->path, &s) != 0 || !S_ISREG(s.st_mode)) return false;
    e->inode = s.st_ino;
    e->bytes = s.st_size;
    e->written = s.st_mtim;
    return true;
}

/* NULL: no folder, and no entries. False after a sentence. */
static bool read_folder(const char *folder, const char *suffixes, entries *out, char *error, size_t size)
{
    *out = (entries){0};
    if (!folder) return true;
    DIR *dir = opendir(folder);
    if (!dir) {
        snprintf(error, size, "%s: cannot be opened: %s", folder, strerror(errno));
        return false;
    }
    bool good = true;
    for (const struct dirent *d; good && (d = readdir(dir));) {
        size_t stem = d->d_name[0] == '.' ? 0 : stem_of(d->d_name, suffixes);
        if (!stem || stem >= SV_NAME_BYTES) continue;
        good = add_entry(out, folder, d->d_name, stem);
        if (good && !look_at(&out->item[out->count - 1])) {
            entry *last = &out->item[--out->count];
            free(last->name);
            free(last->path);
        }
    }
    closedir(dir);
    if (!good) snprintf(error, size, "out of memory for the files of %s", folder);
    if (out->count) qsort(out->item, out->count, sizeof *out->item, by_name);
    if (good && check_names(out, folder, error, size)) return true;
    free_entries(out);
    return false;
}

/* ---- opening ---- */

/* The options of all models, with the learned tokens that fit one and a request's adapters behind those of all. */
typedef struct {
    splam_model_options options;
    splam_lora *loras;
    splam_embedding *embeddings;
} opening;

static void free_opening(opening *o)
{
    free(o->loras);
    free(o->embeddings);
}

/* with NULL: no token of the folder. */
static splam_status make_opening(const sv_models *m, const entries *tokens, const bool *with,
                                 const sv_adapters *adapters, opening *out)
{
    const splam_model_options *o = m->settings.options;
    size_t loras = o->lora_count, embeddings = o->embedding_count, more = adapters ? adapters->count : 0;
    *out = (opening){.options = *o};
    out->loras = calloc(loras + more + 1, sizeof *out->loras);
    out->embeddings = calloc(embeddings + tokens->count + 1, sizeof *out->embeddings);
    if (!out->loras || !out->embeddings) return SPLAM_MEMORY;
    for (size_t i = 0; i < loras; i++)
        out->loras[i] = o->loras[i];
    for (size_t i = 0; i < more; i++)
        out->loras[loras++] = (splam_lora){adapters->item[i].path, adapters->item[i].weight};
    for (size_t i = 0; i < embeddings; i++)
        out->embeddings[i] = o->embeddings[i];
    for (size_t i = 0; i < tokens->count && with; i++)
        if (with[i]) out->embeddings[embeddings++] = (splam_embedding){tokens->item[i].path, tokens->item[i].name};
    out->options.loras = out->loras;
    out->options.lora_count = loras;
    out->options.embeddings = out->embeddings;
    out->options.embedding_count = embeddings;
    return SPLAM_OK;
}

static splam_status open_with(const sv_models *m, size_t model, const entries *tokens, const bool *with,
                              const sv_adapters *adapters, const splam_callbacks *callbacks, splam_model **out)
{
    opening o;
    *out = NULL;
    splam_status status = make_opening(m, tokens, with, adapters, &o);
    if (!status) status = splam_model_open(m->settings.models[model], &o.options, callbacks, out);
    free_opening(&o);
    return status;
}

static void say(const sv_models *m, size_t model, const char *token, const char *why)
{
    char text[1024];
    snprintf(text, sizeof text, "%s is drawn with without the learned token %s: %s", m->settings.models[model], token,
             why);
    if (m->settings.log) m->settings.log(m->settings.logger, text);
}

static bool is_final(splam_status status)
{
    return status == SPLAM_CANCELLED || status == SPLAM_MEMORY;
}

/* Opens a model with the tokens that it takes: all of them, or else one after another. with[] has room for all. */
static splam_status find_fitting(const sv_models *m, size_t model, const entries *tokens, bool *with,
                                 splam_model **out)
{
    const splam_callbacks *callbacks = m->settings.opening;
    for (size_t i = 0; i < tokens->count; i++)
        with[i] = true;
    splam_status status = open_with(m, model, tokens, with, NULL, callbacks, out);
    if (!status || !tokens->count || is_final(status)) return status;
    memset(with, 0, tokens->count * sizeof *with);
    status = open_with(m, model, tokens, with, NULL, callbacks, out);
    for (size_t i = 0; i < tokens->count && !status; i++) {
        splam_model *more;
        with[i] = true;
        splam_status found = open_with(m, model, tokens, with, NULL, callbacks, &more);
        splam_model_close(found ? NULL : *out);
        if (!found) *out = more;
        if (is_final(found)) return found;
        with[i] = !found;
        if (found) say(m, model, tokens->item[i].name, splam_error_message());
    }
    return status;
}

static void free_fits(fitting *fits, size_t count)
{
    for (size_t i = 0; i < count && fits; i++)
        free(fits[i].with);
    free(fits);
}

static splam_status describe(const splam_model *open, splam_model_facts *out)
{
    splam_model_facts facts = {.size = sizeof facts};
    splam_status status = splam_model_describe(open, &facts);
    if (status) return status;
    facts.name = strdup(facts.name);
    *out = facts;
    return facts.name ? SPLAM_OK : SPLAM_MEMORY;
}

/* Becomes one that is open, with the tokens that there are. */
static splam_status adopt(sv_models *m, splam_model *open)
{
    opened *o = calloc(1, sizeof *o);
    if (!o) {
        splam_model_close(open);
        return SPLAM_MEMORY;
    }
    *o = (opened){.open = open, .generation = m->generation};
    m->open_count++;
    m->first = o;
    return splam_session_create(open, NULL, &o->session);
}

/* The tokens of each model. start: what it is, too, and the first one stays open. NULL after a failure, with its
 * sentence. */
static fitting *find_fits(sv_models *m, const entries *tokens, bool start, splam_status *status, char *error,
                          size_t size)
{
    size_t count = m->settings.model_count;
    fitting *fits = calloc(count, sizeof *fits);
    *status = fits ? SPLAM_OK : SPLAM_MEMORY;
    for (size_t i = 0; i < count && !*status; i++) {
        splam_model *open = NULL;
        fits[i].with = calloc(tokens->count + 1, sizeof *fits[i].with);
        *status = fits[i].with ? find_fitting(m, i, tokens, fits[i].with, &open) : SPLAM_MEMORY;
        if (!*status && start) *status = describe(open, &m->facts[i]);
        if (!*status && start && i == 0)
            *status = adopt(m, open);
        else
            splam_model_close(open);
    }
    if (!*status) return fits;
    snprintf(error, size, "%s", *status == SPLAM_MEMORY ? "out of memory for models" : splam_error_message());
    free_fits(fits, count);
    return NULL;
}

/* ---- the start and the end ---- */

static splam_status check_model_names(const sv_models *m, char *error, size_t size)
{
    for (size_t i = 1; i < m->settings.model_count; i++)
        for (size_t k = 0; k < i; k++) {
            if (strcmp(m->facts[k].name, m->facts[i].name)) continue;
            snprintf(error, size, "`model`: %s and %s are both called \"%s\", and requests name models by that",
                     m->settings.models[k], m->settings.models[i], m->facts[i].name);
            return SPLAM_ARGUMENT;
        }
    return SPLAM_OK;
}

static const char adapter_suffixes[] = ".safetensors", embedding_suffixes[] = ".safetensors|.pt|.bin";

static splam_status fill(sv_models *m, char *error, size_t size)
{
    const sv_models_settings *s = &m->settings;
    splam_status status;
    if (!read_folder(s->lora_folder, adapter_suffixes, &m->adapters, error, size) ||
        !read_folder(s->embedding_folder, embedding_suffixes, &m->embeddings, error, size))
        return SPLAM_IO;
    m->fits = find_fits(m, &m->embeddings, true, &status, error, size);
    return status ? status : check_model_names(m, error, size);
}

splam_status sv_models_create(const sv_models_settings *settings, sv_models **out, char *error, size_t size)
{
    sv_models *m = calloc(1, sizeof *m);
    *out = NULL;
    snprintf(error, size, "out of memory for models");
    if (!m) return SPLAM_MEMORY;
    pthread_mutex_init(&m->lock, NULL);
    m->settings = *settings;
    m->facts = calloc(settings->model_count, sizeof *m->facts);
    splam_status status = m->facts ? fill(m, error, size) : SPLAM_MEMORY;
    if (status)
        sv_models_free(m);
    else
        *out = m;
    return status;
}

static void close_opened(sv_models *m, opened *o)
{
    splam_session_destroy(o->session);
    splam_model_close(o->open);
    sv_adapters_free(&o->adapters);
    free(o);
    m->open_count--;
}

void sv_models_free(sv_models *m)
{
    if (!m) return;
    for (opened *next; m->first; m->first = next) {
        next = m->first->next;
        close_opened(m, m->first);
    }
    free_entries(&m->adapters);
    free_entries(&m->embeddings);
    free_fits(m->fits, m->settings.model_count);
    for (size_t i = 0; m->facts && i < m->settings.model_count; i++)
        free((char *)(uintptr_t)m->facts[i].name);
    free(m->facts);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- lists ---- */

size_t sv_models_count(const sv_models *m)
{
    return m->settings.model_count;
}

const splam_model_facts *sv_models_facts(const sv_models *m, size_t i)
{
    return &m->facts[i];
}

void sv_model_hash(const splam_model_facts *facts, char out[11])
{
    snprintf(out, 11, "%.10" PRIx64, facts->hash >> 24);
}

void sv_model_title(const splam_model_facts *facts, char *out, size_t size)
{
    char hash[11];
    sv_model_hash(facts, hash);
    snprintf(out, size, "%s [%s]", facts->name, hash);
}

bool sv_models_find(const sv_models *m, const char *name, size_t *out)
{
    for (size_t i = 0; i < m->settings.model_count; i++) {
        const char *own = m->facts[i].name;
        size_t whole = strlen(own), stem = stem_of(own, ".safetensors|.ckpt");
        bool same = strncmp(name, own, whole) == 0 && (!name[whole] || strncmp(name + whole, " [", 2) == 0);
        if (!same && !(stem && strlen(name) == stem && memcmp(name, own, stem) == 0)) continue;
        *out = i;
        return true;
    }
    return false;
}

size_t sv_models_default(const sv_models *m)
{
    return m->chosen;
}

void sv_models_set_default(sv_models *m, size_t i)
{
    m->chosen = i;
}

size_t sv_models_open_count(const sv_models *m)
{
    return m->open_count;
}

char *sv_models_find_adapter(sv_models *m, const char *name)
{
    char *path = NULL;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->adapters.count && !path; i++)
        if (strcmp(m->adapters.item[i].name, name) == 0) path = strdup(m->adapters.item[i].path);
    pthread_mutex_unlock(&m->lock);
    return path;
}

json_t *sv_models_adapters(sv_models *m)
{
    json_t *list = json_array();
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->adapters.count; i++)
        json_array_append_new(list, json_string(m->adapters.item[i].name));
    pthread_mutex_unlock(&m->lock);
    return list;
}

json_t *sv_models_embeddings(sv_models *m)
{
    json_t *loaded = json_object(), *skipped = json_object();
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->embeddings.count; i++)
        json_object_set_new(m->fits[m->chosen].with[i] ? loaded : skipped, m->embeddings.item[i].name,
                            json_pack("{s:n, s:n, s:n, s:n, s:n}", "step", "sd_checkpoint", "sd_checkpoint_name",
                                      "shape", "vectors"));
    pthread_mutex_unlock(&m->lock);
    return json_pack("{s:o, s:o}", "loaded", loaded, "skipped", skipped);
}

static bool same_file(const entry *a, const entry *b)
{
    return strcmp(a->path, b->path) == 0 && a->inode == b->inode && a->bytes == b->bytes &&
           a->written.tv_sec == b->written.tv_sec && a->written.tv_nsec == b->written.tv_nsec;
}

static bool same_entries(const entries *a, const entries *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++)
        same = same_file(&a->item[i], &b->item[i]);
    return same;
}

/* Whether a file is now another one, under the name that it had. */
static bool were_replaced(const entries *old, const entries *now)
{
    bool replaced = false;
    for (size_t i = 0; i < old->count; i++)
        for (size_t k = 0; k < now->count; k++)
            replaced |= strcmp(old->item[i].path, now->item[k].path) == 0 && !same_file(&old->item[i], &now->item[k]);
    return replaced;
}

bool sv_models_reload(sv_models *m, char *error, size_t size)
{
    entries adapters, embeddings;
    splam_status status;
    if (!read_folder(m->settings.lora_folder, adapter_suffixes, &adapters, error, size)) return false;
    bool read = read_folder(m->settings.embedding_folder, embedding_suffixes, &embeddings, error, size);
    fitting *fits = read ? find_fits(m, &embeddings, false, &status, error, size) : NULL;
    if (fits) {
        pthread_mutex_lock(&m->lock);
        const entries old_adapters = m->adapters, old_embeddings = m->embeddings;
        fitting *old_fits = m->fits;
        if (!same_entries(&embeddings, &m->embeddings) || were_replaced(&m->adapters, &adapters)) m->generation++;
        m->adapters = adapters;
        m->embeddings = embeddings;
        m->fits = fits;
        adapters = old_adapters;
        embeddings = old_embeddings;
        fits = old_fits;
        pthread_mutex_unlock(&m->lock);
        read = true;
    } else {
        read = false;
    }
    free_fits(fits, m->settings.model_count);
    free_entries(&adapters);
    free_entries(&embeddings);
    return read;
}

/* ---- those that are open ---- */

bool sv_adapters_same(const sv_adapters *a, const sv_adapters *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++)
        same = strcmp(a->item[i].path, b->item[i].path) == 0 && a->item[i].weight == b->item[i].weight;
    return same;
}

static bool copy_adapters(const sv_adapters *from, sv_adapters *to)
{
    *to = *from;
    bool copied = true;
    for (size_t i = 0; i < from->count; i++) {
        to->item[i].path = strdup(from->item[i].path);
        copied &= to->item[i].path != NULL;
    }
    return copied;
}

/* A copy of what the list of learned tokens is now. */
static bool copy_tokens(sv_models *m, size_t model, entries *out, bool **with, unsigned *generation)
{
    pthread_mutex_lock(&m->lock);
    size_t count = m->embeddings.count;
    *generation = m->generation;
    *out = (entries){.item = calloc(count + 1, sizeof *out->item)};
    *with = calloc(count + 1, sizeof **with);
    bool copied = out->item && *with;
    for (size_t i = 0; i < count && copied; i++) {
        entry *e = &out->item[out->count++];
        *e = (entry){.name = strdup(m->embeddings.item[i].name), .path = strdup(m->embeddings.item[i].path)};
        (*with)[i] = m->fits[model].with[i];
        copied = e->name && e->path;
    }
    pthread_mutex_unlock(&m->lock);
    return copied;
}

static splam_status open_new(sv_models *m, size_t model, const sv_adapters *adapters,
                             const splam_callbacks *callbacks)
{
    entries tokens;
    bool *with;
    opened *o = calloc(1, sizeof *o);
    if (!o) return SPLAM_MEMORY;
    m->open_count++;
    o->model = model;
    splam_status status = copy_adapters(adapters, &o->adapters) ? SPLAM_OK : SPLAM_MEMORY;
    if (!copy_tokens(m, model, &tokens, &with, &o->generation)) status = SPLAM_MEMORY;
    if (!status) status = open_with(m, model, &tokens, with, adapters, callbacks, &o->open);
    if (!status) status = splam_session_create(o->open, NULL, &o->session);
    free_entries(&tokens);
    free(with);
    if (status) {
        close_opened(m, o);
        return status;
    }
    o->next = m->first;
    m->first = o;
    return SPLAM_OK;
}

/* Moves it to the front; false: it is not open. */
static bool find_opened(sv_models *m, size_t model, const sv_adapters *adapters)
{
    for (opened **at = &m->first; *at; at = &(*at)->next) {
        opened *o = *at;
        if (o->model != model || !sv_adapters_same(&o->adapters, adapters)) continue;
        *at = o->next;
        o->next = m->first;
        m->first = o;
        return true;
    }
    return false;
}

/* Those with other learned tokens than there are now. */
static void close_outdated(sv_models *m)
{
    pthread_mutex_lock(&m->lock);
    unsigned generation = m->generation;
    pthread_mutex_unlock(&m->lock);
    for (opened **at = &m->first; *at;) {
        opened *o = *at;
        if (o->generation == generation) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        close_opened(m, o);
    }
}

splam_status sv_models_take(sv_models *m, size_t model, const sv_adapters *adapters, const splam_callbacks *callbacks,
                            splam_session **out)
{
    close_outdated(m);
    if (!find_opened(m, model, adapters)) {
        while (m->open_count >= most_open(m) && sv_models_drop(m))
            ;
        splam_status status = open_new(m, model, adapters, callbacks);
        if (status) return status;
    }
    *out = m->first->session;
    return SPLAM_OK;
}

bool sv_models_drop(sv_models *m)
{
    opened **at = m->first ? &m->first->next : NULL;
    if (!at || !*at) return false;
    while ((*at)->next)
        at = &(*at)->next;
    opened *last = *at;
    *at = NULL;
    close_opened(m, last);
    return true;
}
