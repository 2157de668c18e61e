/* Where a component's files of packed weights lie, and what is said of those that do not serve. */
#include <pthread.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/packed_file.h"

static const char beginning[] = "packed-", ending[] = ".splam";

typedef struct opened {
    struct opened *next;
    char *path;
    sp_packed_file *file; /* NULL: there is none that fits */
    bool said;            /* that it lacks something */
} opened;

struct sp_packed_place {
    char *prefix;
    const sp_tensor_file *source;
    pthread_mutex_t lock; /* of what follows */
    opened *files;
};

bool sp_packed_is_name(const char *name)
{
    const char *at = strstr(name, beginning);
    return at && (at == name || at[-1] == '-') && sp_ends_with(name, ending);
}

sp_status sp_packed_place_create(const char *prefix, const sp_tensor_file *source, sp_packed_place **out)
{
    *out = sp_alloc_zero(sizeof **out);
    if (!*out) return SP_MEMORY;
    **out = (sp_packed_place){.prefix = sp_strdup(prefix), .source = source};
    if ((*out)->prefix && pthread_mutex_init(&(*out)->lock, NULL) == 0) return SP_OK;
    sp_free((*out)->prefix);
    sp_free(*out);
    *out = NULL;
    return SP_MEMORY;
}

static void free_opened(opened *o)
{
    sp_packed_close(o->file);
    sp_free(o->path);
    sp_free(o);
}

void sp_packed_place_destroy(sp_packed_place *place)
{
    if (!place) return;
    while (place->files) {
        opened *first = place->files;
        place->files = first->next;
        free_opened(first);
    }
    pthread_mutex_destroy(&place->lock);
    sp_free(place->prefix);
    sp_free(place);
}

char *sp_packed_place_path(const sp_packed_place *place, const sp_packed_terms *terms, const char *precision)
{
    return sp_format("%s%s%s-%s%s", place->prefix, beginning, terms->pair[0][1], precision, ending);
}

/* Files for other processors or precisions are no fault, but who has them may wonder. */
static void say_others(const sp_packed_place *place, const char *path)
{
    char *folder = sp_path_beside(path, ""), **names = NULL;
    size_t count = 0;
    const char *base = sp_path_base(place->prefix);
    sp_status status = folder ? sp_list_folder(*folder ? folder : ".", &names, &count) : SP_MEMORY;
    bool said = false;
    for (size_t i = 0; i < count && !status; i++) {
        if (!said && sp_starts_with(names[i], base) && sp_starts_with(names[i] + strlen(base), beginning) &&
            sp_ends_with(names[i], ending)) {
            said = true;
            sp_log_info("%s%s is not for the instruction set and precision in use, so weights are packed as they are "
                        "loaded; splam convert --packed writes %s",
                        folder, names[i], sp_path_base(path));
        }
        sp_free(names[i]);
    }
    sp_free(names);
    sp_free(folder);
}

static void open_one(const sp_packed_place *place, const sp_packed_terms *terms, opened *o)
{
    if (!sp_path_exists(o->path)) {
        say_others(place, o->path);
        return;
    }
    if (sp_packed_open(o->path, terms, place->source, &o->file))
        sp_log_warn("%s; it is not used, and weights are packed as they are loaded: splam convert --packed writes it "
                    "anew", sp_error_message());
}

static opened *find_or_open(sp_packed_place *place, const sp_packed_terms *terms, const char *path)
{
    opened *o = place->files;
    while (o && strcmp(o->path, path) != 0)
        o = o->next;
    if (o || !(o = sp_alloc_zero(sizeof *o))) return o;
    *o = (opened){.next = place->files, .path = sp_strdup(path)};
    if (!o->path) {
        sp_free(o);
        return NULL;
    }
    open_one(place, terms, o);
    place->files = o;
    return o;
}

/* Without memory as without a file. */
const sp_packed_file *sp_packed_place_open(sp_packed_place *place, const sp_packed_terms *terms, const char *precision)
{
    char *path = sp_packed_place_path(place, terms, precision);
    pthread_mutex_lock(&place->lock);
    const opened *o = path ? find_or_open(place, terms, path) : NULL;
    pthread_mutex_unlock(&place->lock);
    sp_free(path);
    return o ? o->file : NULL;
}

void sp_packed_place_miss(sp_packed_place *place, const sp_packed_file *file, int other_layout, int changed, int all)
{
    pthread_mutex_lock(&place->lock);
    opened *o = place->files;
    while (o && o->file != file)
        o = o->next;
    bool first = o && !o->said;
    if (o) o->said = true;
    pthread_mutex_unlock(&place->lock);
    if (!first) return;
    if (changed)
        sp_log_info("%s: %d of %d weights were changed by adapters and are packed as they are loaded", o->path, changed,
                    all);
    else
        sp_log_info("%s: %d of %d weights are not in it as this size and batch want them, and are packed as they are "
                    "loaded; splam convert --packed --size names the sizes to pack for",
                    o->path, other_layout, all);
}

sp_status sp_packed_place_check(sp_packed_place *place)
{
    sp_status status = SP_OK;
    pthread_mutex_lock(&place->lock);
    for (const opened *o = place->files; o && !status; o = o->next)
        if (o->file) status = sp_packed_check(o->file);
    pthread_mutex_unlock(&place->lock);
    return status;
}
