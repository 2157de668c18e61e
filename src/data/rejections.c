/* Counting what is left out, by reason. */
#include "data/rejections.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "base/visible.h"

struct sp_rejections {
    pthread_mutex_t lock;
    sp_rejection reasons[SP_MAX_REASONS];
    size_t count;
};

sp_rejections *sp_rejections_create(void)
{
    sp_rejections *r = sp_alloc_zero(sizeof *r);
    if (r) pthread_mutex_init(&r->lock, NULL);
    return r;
}

void sp_rejections_destroy(sp_rejections *r)
{
    if (r) pthread_mutex_destroy(&r->lock);
    sp_free(r);
}

/* Under the lock: the entry of the reason, which is new with this example if there is none; NULL: there is no room. */
static sp_rejection *entry_of(sp_rejections *r, const char *reason, const char *example)
{
    size_t i = 0;
    while (i < r->count && strcmp(r->reasons[i].reason, reason))
        i++;
    if (i == SP_MAX_REASONS) return NULL;
    sp_rejection *entry = &r->reasons[i];
    if (i < r->count) return entry;
    snprintf(entry->reason, sizeof entry->reason, "%s", reason);
    sp_clean_text(example, entry->example, sizeof entry->example);
    r->count++;
    return entry;
}

static void add(sp_rejections *r, const char *reason, const char *example, int64_t count)
{
    pthread_mutex_lock(&r->lock);
    sp_rejection *entry = entry_of(r, reason, example);
    if (entry) entry->count += count;
    pthread_mutex_unlock(&r->lock);
}

void sp_rejections_add(sp_rejections *r, const char *reason, const char *name, const char *detail)
{
    char example[2 * sizeof r->reasons->example];
    snprintf(example, sizeof example, "%s%s%s", name, detail ? ": " : "", detail ? detail : "");
    add(r, reason, example, 1);
}

void sp_rejections_add_list(sp_rejections *r, const sp_rejection *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add(r, list[i].reason, list[i].example, list[i].count);
}

size_t sp_rejections_list(sp_rejections *r, sp_rejection *out, size_t capacity)
{
    pthread_mutex_lock(&r->lock);
    size_t count = r->count, copied = count < capacity ? count : capacity;
    if (copied) memcpy(out, r->reasons, copied * sizeof *out);
    pthread_mutex_unlock(&r->lock);
    return count;
}

int64_t sp_rejections_sum(const sp_rejection *list, size_t count)
{
    int64_t all = 0;
    for (size_t i = 0; i < count; i++)
        all += list[i].count;
    return all;
}

void sp_rejections_append(const sp_rejection *list, size_t count, sp_string *out)
{
    sp_string_say(out, "%lld rejected\n", (long long)sp_rejections_sum(list, count));
    for (size_t i = 0; i < count; i++)
        sp_string_say(out, "  %lld %s (%s)\n", (long long)list[i].count, list[i].reason, list[i].example);
}
