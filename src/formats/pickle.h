/* Python's pickles, read as data: nothing is imported, called or built, whatever the bytes ask for.
 * Where Python would call something, there is an object that remembers what and with which
 * arguments; who reads the result decides what it means. */
#ifndef SP_FORMATS_PICKLE_H
#define SP_FORMATS_PICKLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef enum {
    SP_PICKLE_NONE,
    SP_PICKLE_BOOL,
    SP_PICKLE_INT,  /* that 64 bits hold */
    SP_PICKLE_LONG, /* wider: its bytes or digits in `text` */
    SP_PICKLE_FLOAT,
    SP_PICKLE_TEXT, /* a string of any kind, or bytes */
    SP_PICKLE_TUPLE,
    SP_PICKLE_LIST,   /* or a set */
    SP_PICKLE_DICT,   /* items are key, value, key, value, ... */
    SP_PICKLE_GLOBAL, /* a name in a module: text is "module name" */
    SP_PICKLE_OBJECT, /* what calling `callee` with `arguments` would give; items: as a dict's */
    SP_PICKLE_PERSISTENT, /* something outside the pickle, which `arguments` identifies */
    SP_PICKLE_MARK        /* only while reading */
} sp_pickle_kind;

/* Values may be shared and may contain themselves: bound every walk. */
typedef struct sp_pickle_value sp_pickle_value;
struct sp_pickle_value {
    sp_pickle_kind kind;
    bool truth;
    int64_t integer;
    double number;
    const char *text; /* not NUL-terminated; in the pickle or in the pickle's memory */
    size_t length;
    sp_pickle_value **items;
    size_t count, capacity;
    const sp_pickle_value *callee, *arguments;
    const sp_pickle_value *state; /* what was set on an object after it was made (BUILD); else NULL */
};

typedef struct sp_pickle sp_pickle;
/* Reads one pickle (protocols 0 to 5) from the beginning of `data`, which must outlive *out; *used
 * (may be NULL) receives its length. `where` names the file in messages. Time and memory are
 * bounded by the size. SP_FORMAT for what is no pickle; SP_UNSUPPORTED for one of more than a
 * million values; SP_MEMORY. */
sp_status sp_pickle_read(const unsigned char *data, size_t size, const char *where, size_t *used,
                         sp_pickle **out);
void sp_pickle_destroy(sp_pickle *pickle); /* its values too; NULL is legal */
const sp_pickle_value *sp_pickle_result(const sp_pickle *pickle);
/* All persistent values in the order of appearance. */
size_t sp_pickle_persistent_count(const sp_pickle *pickle);
const sp_pickle_value *sp_pickle_persistent(const sp_pickle *pickle, size_t index);

/* False for NULL and for another kind. */
bool sp_pickle_is_text(const sp_pickle_value *value, const char *text);
bool sp_pickle_is_global(const sp_pickle_value *value, const char *name); /* "torch FloatStorage" */
/* Item `index` of a tuple or list; NULL if there is none. */
const sp_pickle_value *sp_pickle_item(const sp_pickle_value *value, size_t index);
/* The last value under the text `key` among the items of a dict or an object; NULL if there is
 * none. */
const sp_pickle_value *sp_pickle_find(const sp_pickle_value *value, const char *key);

#endif
