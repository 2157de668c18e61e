/* Jansson's allocator, which notes what it had no memory for, and texts of whole values. */
#include "json.h"
#include <pthread.h>
#include <stdlib.h>
#include "base64.h"

static _Thread_local bool failed;
static json_malloc_t make;

static void *make_or_note(size_t size)
{
    void *made = make(size);
    failed |= !made;
    return made;
}

static void set_allocator(void)
{
    json_free_t release;
    json_get_alloc_funcs(&make, &release);
    json_set_alloc_funcs(make_or_note, release);
}

void sv_json_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_allocator);
}

void sv_json_begin(void)
{
    failed = false;
}

bool sv_json_failed(void)
{
    return failed;
}

char *sv_json_text(json_t *value)
{
    char *text = value && !failed ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    if (!failed) return text;
    free(text); /* it may lack a part, too */
    return NULL;
}

bool sv_json_can_carry(const char *text)
{
    const bool before = failed;
    failed = false;
    json_t *value = json_string(text);
    bool can = value || failed; /* what there is no memory for is no fault of the text */
    failed |= before;
    json_decref(value);
    return can;
}

json_t *sv_json_base64(const uint8_t *bytes, size_t size)
{
    char *text = sv_base64_encode(bytes, size);
    json_t *value = text ? json_string(text) : NULL;
    failed |= !text;
    free(text);
    return value;
}
