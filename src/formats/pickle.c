/* The pickle machine: a stack, marks on it, and a memo. */
#include "formats/pickle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { MOST_VALUES = 1 << 20, LONGEST_NUMBER = 64, LONGEST_GLOBAL = 1024 };

typedef sp_pickle_value value;

typedef struct {
    value **items;
    size_t count, capacity;
} value_list;

struct sp_pickle {
    sp_arena *arena;
    value *result;
    value_list persistent;
    size_t values;
};

typedef struct {
    const unsigned char *data;
    size_t size, at;
    size_t start; /* of the operation being done */
    const char *where;
    sp_pickle *pickle;
    value_list stack, memo; /* the memo has NULL where nothing was put */
} machine;

/* ---- values ---- */

static sp_status list_reserve(value_list *list, size_t wanted)
{
    if (wanted <= list->capacity) return SP_OK;
    size_t larger = list->capacity ? list->capacity : 64;
    while (larger < wanted)
        larger *= 2;
    value **items = sp_realloc(list->items, list->capacity * sizeof *items, larger * sizeof *items);
    if (!items) return SP_MEMORY;
    list->items = items;
    list->capacity = larger;
    return SP_OK;
}

static sp_status list_add(value_list *list, value *v)
{
    SP_TRY(list_reserve(list, list->count + 1));
    list->items[list->count++] = v;
    return SP_OK;
}

static sp_status broken(const machine *m, const char *what)
{
    sp_fail(SP_FORMAT, "%s: byte %zu of the pickle %s", m->where, m->start, what);
    return SP_FORMAT; /* the compiler sees that it is not SP_OK */
}

static sp_status count_values(machine *m, size_t more)
{
    m->pickle->values += more;
    if (m->pickle->values <= MOST_VALUES) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: the pickle has more than %d values", m->where, MOST_VALUES);
}

static sp_status push(machine *m, value template, value **out)
{
    SP_TRY(count_values(m, 1));
    value *v = sp_arena_alloc(m->pickle->arena, sizeof *v);
    if (!v) return SP_MEMORY;
    *v = template;
    if (out) *out = v;
    return list_add(&m->stack, v);
}

static sp_status push_kind(machine *m, sp_pickle_kind kind)
{
    return push(m, (value){.kind = kind}, NULL);
}

static sp_status push_int(machine *m, int64_t integer)
{
    return push(m, (value){.kind = SP_PICKLE_INT, .integer = integer}, NULL);
}

static sp_status push_text(machine *m, const unsigned char *text, size_t length)
{
    return push(m, (value){.kind = SP_PICKLE_TEXT, .text = (const char *)text, .length = length},
                NULL);
}

/* Items grow in the arena, where outgrown ones stay: at most as much again. */
static sp_status append_items(machine *m, value *to, value *const *items, size_t count)
{
    if (to->count + count > to->capacity) {
        size_t larger = 2 * (to->count + count);
        value **grown = sp_arena_alloc(m->pickle->arena, larger * sizeof *grown);
        if (!grown) return SP_MEMORY;
        if (to->count) memcpy(grown, to->items, to->count * sizeof *grown);
        to->items = grown;
        to->capacity = larger;
    }
    if (count) memcpy(to->items + to->count, items, count * sizeof *items);
    to->count += count;
    return SP_OK;
}

/* ---- the stack ---- */

static sp_status pop(machine *m, value **out)
{
    if (!m->stack.count) return broken(m, "takes from an empty stack");
    *out = m->stack.items[--m->stack.count];
    if ((*out)->kind == SP_PICKLE_MARK) return broken(m, "takes a mark for a value");
    return SP_OK;
}

static sp_status top(const machine *m, value **out)
{
    if (!m->stack.count) return broken(m, "looks at an empty stack");
    *out = m->stack.items[m->stack.count - 1];
    if ((*out)->kind == SP_PICKLE_MARK) return broken(m, "takes a mark for a value");
    return SP_OK;
}

/* Takes all above the last mark, and the mark: *items stays valid until the next push. */
static sp_status pop_mark(machine *m, value ***items, size_t *count)
{
    size_t place = m->stack.count;
    while (place && m->stack.items[place - 1]->kind != SP_PICKLE_MARK)
        place--;
    if (!place) return broken(m, "asks for a mark that is not there");
    *items = m->stack.items + place;
    *count = m->stack.count - place;
    m->stack.count = place - 1;
    return SP_OK;
}

/* Values above the mark become one value. */
static sp_status collect(machine *m, sp_pickle_kind kind)
{
    value **items, collected = {.kind = kind};
    size_t count;
    SP_TRY(pop_mark(m, &items, &count));
    if (kind == SP_PICKLE_DICT && count % 2) return broken(m, "has a key without a value");
    SP_TRY(append_items(m, &collected, items, count));
    return push(m, collected, NULL);
}

static sp_status collect_tuple(machine *m, size_t count)
{
    value tuple = {.kind = SP_PICKLE_TUPLE}, *ignored;
    if (m->stack.count < count) return broken(m, "takes from an empty stack");
    SP_TRY(append_items(m, &tuple, m->stack.items + m->stack.count - count, count));
    for (size_t i = 0; i < count; i++)
        SP_TRY(pop(m, &ignored));
    return push(m, tuple, NULL);
}

/* Adds to what is on top now. Lists remember items, dicts and objects remember pairs. */
static sp_status add(machine *m, value *const *items, size_t count, bool pairs)
{
    value *to;
    SP_TRY(top(m, &to));
    for (size_t i = 0; i < count; i++)
        if (items[i]->kind == SP_PICKLE_MARK) return broken(m, "takes a mark for a value");
    if (pairs && count % 2) return broken(m, "has a key without a value");
    bool remembers = pairs ? to->kind == SP_PICKLE_DICT || to->kind == SP_PICKLE_OBJECT
                           : to->kind == SP_PICKLE_LIST;
    if (remembers) return append_items(m, to, items, count);
    return to->kind == SP_PICKLE_OBJECT ? SP_OK : broken(m, "adds items to what takes none");
}

static sp_status add_marked(machine *m, bool pairs)
{
    value **items;
    size_t count;
    SP_TRY(pop_mark(m, &items, &count));
    return add(m, items, count, pairs);
}

static sp_status add_last(machine *m, bool pairs)
{
    size_t count = pairs ? 2 : 1;
    if (m->stack.count < count) return broken(m, "takes from an empty stack");
    m->stack.count -= count;
    return add(m, m->stack.items + m->stack.count, count, pairs);
}

/* ---- arguments of operations ---- */

static sp_status take_bytes(machine *m, uint64_t count, const unsigned char **out)
{
    if (count > m->size - m->at) return broken(m, "asks for more bytes than there are");
    *out = m->data + m->at;
    m->at += (size_t)count;
    return SP_OK;
}

static sp_status take_unsigned(machine *m, int bytes, uint64_t *out)
{
    const unsigned char *data;
    SP_TRY(take_bytes(m, (uint64_t)bytes, &data));
    *out = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *out = *out << 8 | data[i];
    return SP_OK;
}

/* Up to a newline, which is not part of it. */
static sp_status take_line(machine *m, const unsigned char **line, size_t *length)
{
    *line = m->data + m->at;
    const unsigned char *end = memchr(*line, '\n', m->size - m->at);
    if (!end) return broken(m, "begins a line that does not end");
    *length = (size_t)(end - *line);
    m->at += *length + 1;
    return SP_OK;
}

/* A line as a short C string. */
static sp_status take_number(machine *m, char text[LONGEST_NUMBER])
{
    const unsigned char *line;
    size_t length;
    SP_TRY(take_line(m, &line, &length));
    if (!length || length >= LONGEST_NUMBER) return broken(m, "should be followed by a number");
    memcpy(text, line, length);
    text[length] = 0;
    return SP_OK;
}

static sp_status take_integer(machine *m, int64_t *out)
{
    char text[LONGEST_NUMBER], *end;
    SP_TRY(take_number(m, text));
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno || end == text || *end ? broken(m, "should be followed by an integer") : SP_OK;
}

static sp_status counted_text(machine *m, int bytes)
{
    uint64_t length;
    const unsigned char *text;
    SP_TRY(take_unsigned(m, bytes, &length));
    SP_TRY(take_bytes(m, length, &text));
    return push_text(m, text, (size_t)length);
}

/* Escapes stay as they are: no name in a checkpoint needs them. */
static sp_status line_text(machine *m, bool quoted)
{
    const unsigned char *line;
    size_t length;
    SP_TRY(take_line(m, &line, &length));
    if (quoted) {
        bool quotes = length >= 2 && line[0] == line[length - 1] && strchr("'\"", line[0]);
        if (!quotes) return broken(m, "should be followed by a quoted text");
        line++;
        length -= 2;
    }
    return push_text(m, line, length);
}

static sp_status push_long(machine *m, int bytes)
{
    uint64_t length, bits = 0;
    const unsigned char *data;
    SP_TRY(take_unsigned(m, bytes, &length));
    SP_TRY(take_bytes(m, length, &data));
    if (length > 8)
        return push(
            m,
            (value){.kind = SP_PICKLE_LONG, .text = (const char *)data, .length = (size_t)length},
            NULL);
    if (length && data[length - 1] & 0x80) bits = UINT64_MAX;
    for (size_t i = (size_t)length; i-- > 0;)
        bits = bits << 8 | data[i];
    return push_int(m, (int64_t)bits);
}

static sp_status push_real(machine *m)
{
    const unsigned char *data;
    uint64_t bits = 0;
    double number;
    SP_TRY(take_bytes(m, 8, &data));
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | data[i];
    memcpy(&number, &bits, sizeof number);
    return push(m, (value){.kind = SP_PICKLE_FLOAT, .number = number}, NULL);
}

static sp_status push_real_line(machine *m)
{
    char text[LONGEST_NUMBER], *end;
    SP_TRY(take_number(m, text));
    double number = strtod(text, &end);
    if (*end || end == text) return broken(m, "should be followed by a number");
    return push(m, (value){.kind = SP_PICKLE_FLOAT, .number = number}, NULL);
}

/* Protocol 0 writes True as "01" and False as "00", and an "L" behind a long. What is no 64-bit
 * integer is kept as its digits. */
static sp_status push_integer_line(machine *m)
{
    const unsigned char *line;
    size_t length;
    char text[LONGEST_NUMBER], *end;
    SP_TRY(take_line(m, &line, &length));
    if (length == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1'))
        return push(m, (value){.kind = SP_PICKLE_BOOL, .truth = line[1] == '1'}, NULL);
    size_t kept = length < sizeof text ? length : 0;
    memcpy(text, line, kept);
    text[kept] = 0;
    errno = 0;
    int64_t integer = strtoll(text, &end, 10);
    if (!errno && end != text && (!*end || strcmp(end, "L") == 0)) return push_int(m, integer);
    return push(m, (value){.kind = SP_PICKLE_LONG, .text = (const char *)line, .length = length},
                NULL);
}

/* ---- memo ---- */

static sp_status memo_put(machine *m, uint64_t index)
{
    value *v;
    SP_TRY(top(m, &v));
    if (index >= MOST_VALUES) return broken(m, "has a memo number that is too large");
    size_t place = (size_t)index;
    if (place >= m->memo.count) {
        SP_TRY(list_reserve(&m->memo, place + 1));
        memset(m->memo.items + m->memo.count, 0,
               (place + 1 - m->memo.count) * sizeof *m->memo.items);
        m->memo.count = place + 1;
    }
    m->memo.items[place] = v;
    return SP_OK;
}

static sp_status memo_get(machine *m, uint64_t index)
{
    if (index >= m->memo.count || !m->memo.items[index])
        return broken(m, "asks for a memo that was never put");
    SP_TRY(count_values(m, 1)); /* bounds the stack */
    return list_add(&m->stack, m->memo.items[index]);
}

static sp_status memo_numbered(machine *m, int bytes, sp_status (*act)(machine *, uint64_t))
{
    uint64_t index;
    SP_TRY(take_unsigned(m, bytes, &index));
    return act(m, index);
}

static sp_status memo_line(machine *m, sp_status (*act)(machine *, uint64_t))
{
    int64_t index;
    SP_TRY(take_integer(m, &index));
    return act(m, (uint64_t)index);
}

/* ---- what Python would import or call ---- */

static sp_status push_global(machine *m, const char *module, size_t module_length, const char *name,
                             size_t name_length)
{
    if (module_length > LONGEST_GLOBAL || name_length > LONGEST_GLOBAL)
        return broken(m, "names a global by a text that is too long");
    size_t length = module_length + 1 + name_length;
    char *text = sp_arena_alloc(m->pickle->arena, length + 1);
    if (!text) return SP_MEMORY;
    memcpy(text, module, module_length);
    text[module_length] = ' ';
    memcpy(text + module_length + 1, name, name_length);
    return push(m, (value){.kind = SP_PICKLE_GLOBAL, .text = text, .length = length}, NULL);
}

static sp_status global_lines(machine *m)
{
    const unsigned char *module, *name;
    size_t module_length, name_length;
    SP_TRY(take_line(m, &module, &module_length));
    SP_TRY(take_line(m, &name, &name_length));
    return push_global(m, (const char *)module, module_length, (const char *)name, name_length);
}

static sp_status global_stack(machine *m)
{
    value *module, *name;
    SP_TRY(pop(m, &name));
    SP_TRY(pop(m, &module));
    if (module->kind != SP_PICKLE_TEXT || name->kind != SP_PICKLE_TEXT)
        return broken(m, "names a global by what is no text");
    return push_global(m, module->text, module->length, name->text, name->length);
}

static sp_status push_object(machine *m, const value *callee, const value *arguments)
{
    return push(m, (value){.kind = SP_PICKLE_OBJECT, .callee = callee, .arguments = arguments},
                NULL);
}

/* REDUCE, NEWOBJ: callee, arguments. With keywords (NEWOBJ_EX) these are dropped. */
static sp_status call(machine *m, bool keywords)
{
    value *callee, *arguments, *dropped;
    if (keywords) SP_TRY(pop(m, &dropped));
    SP_TRY(pop(m, &arguments));
    SP_TRY(pop(m, &callee));
    return push_object(m, callee, arguments);
}

/* OBJ: a mark, the class, its arguments. INST: the class is named by lines. */
static sp_status call_marked(machine *m, bool named)
{
    value *callee = NULL;
    if (named) {
        SP_TRY(global_lines(m));
        SP_TRY(pop(m, &callee));
    }
    SP_TRY(collect(m, SP_PICKLE_TUPLE));
    value *arguments;
    SP_TRY(pop(m, &arguments));
    if (!named) {
        if (!arguments->count) return broken(m, "makes an object of no class");
        callee = arguments->items[0];
        arguments->items++;
        arguments->count--;
    }
    return push_object(m, callee, arguments);
}

/* The extension registry is another program's: an object of no class. */
static sp_status extension(machine *m, int bytes)
{
    uint64_t code;
    SP_TRY(take_unsigned(m, bytes, &code));
    return push_object(m, NULL, NULL);
}

static sp_status push_persistent(machine *m, const value *id)
{
    value *v;
    SP_TRY(push(m, (value){.kind = SP_PICKLE_PERSISTENT, .arguments = id}, &v));
    return list_add(&m->pickle->persistent, v);
}

static sp_status persistent(machine *m, bool line)
{
    value *id;
    if (line) SP_TRY(line_text(m, false));
    SP_TRY(pop(m, &id));
    return push_persistent(m, id);
}

/* BUILD: what is set on an object after it was made. */
static sp_status set_state(machine *m)
{
    value *state, *of;
    SP_TRY(pop(m, &state));
    SP_TRY(top(m, &of));
    of->state = state;
    return SP_OK;
}

static sp_status drop_marked(machine *m)
{
    value **items;
    size_t count;
    return pop_mark(m, &items, &count);
}

static sp_status drop_last(machine *m)
{
    if (!m->stack.count) return broken(m, "takes from an empty stack");
    m->stack.count--;
    return SP_OK;
}

static sp_status duplicate(machine *m)
{
    value *v;
    SP_TRY(top(m, &v));
    SP_TRY(count_values(m, 1));
    return list_add(&m->stack, v);
}

static sp_status skip(machine *m, int bytes)
{
    uint64_t ignored;
    return take_unsigned(m, bytes, &ignored);
}

static sp_status push_small(machine *m, int bytes, bool is_signed)
{
    uint64_t bits;
    SP_TRY(take_unsigned(m, bytes, &bits));
    return push_int(m, is_signed ? (int64_t)(int32_t)(uint32_t)bits : (int64_t)bits);
}

static sp_status push_bool(machine *m, bool truth)
{
    return push(m, (value){.kind = SP_PICKLE_BOOL, .truth = truth}, NULL);
}

/* ---- operations ---- */

static sp_status operate(machine *m, unsigned char code)
{
    switch (code) {
    case '(':
        return push_kind(m, SP_PICKLE_MARK);
    case '0':
        return drop_last(m);
    case '1':
        return drop_marked(m);
    case '2':
        return duplicate(m);
    case 'F':
        return push_real_line(m);
    case 'I':
    case 'L':
        return push_integer_line(m);
    case 'J':
        return push_small(m, 4, true);
    case 'K':
        return push_small(m, 1, false);
    case 'M':
        return push_small(m, 2, false);
    case 'N':
        return push_kind(m, SP_PICKLE_NONE);
    case 'P':
        return persistent(m, true);
    case 'Q':
        return persistent(m, false);
    case 'R':
    case 0x81:
        return call(m, false);
    case 0x92:
        return call(m, true);
    case 'S':
        return line_text(m, true);
    case 'V':
        return line_text(m, false);
    case 'U':
    case 'C':
    case 0x8c:
        return counted_text(m, 1);
    case 'T':
    case 'X':
    case 'B':
        return counted_text(m, 4);
    case 0x8d:
    case 0x8e:
    case 0x96:
        return counted_text(m, 8);
    case 'a':
        return add_last(m, false);
    case 's':
        return add_last(m, true);
    case 'e':
    case 0x90:
        return add_marked(m, false);
    case 'u':
        return add_marked(m, true);
    case 'b':
        return set_state(m);
    case 'c':
        return global_lines(m);
    case 0x93:
        return global_stack(m);
    case 'd':
        return collect(m, SP_PICKLE_DICT);
    case 'l':
    case 0x91:
        return collect(m, SP_PICKLE_LIST);
    case 't':
        return collect(m, SP_PICKLE_TUPLE);
    case '}':
        return push_kind(m, SP_PICKLE_DICT);
    case ']':
    case 0x8f:
        return push_kind(m, SP_PICKLE_LIST);
    case ')':
        return push_kind(m, SP_PICKLE_TUPLE);
    case 0x85:
    case 0x86:
    case 0x87:
        return collect_tuple(m, (size_t)(code - 0x84));
    case 'g':
        return memo_line(m, memo_get);
    case 'h':
        return memo_numbered(m, 1, memo_get);
    case 'j':
        return memo_numbered(m, 4, memo_get);
    case 'p':
        return memo_line(m, memo_put);
    case 'q':
        return memo_numbered(m, 1, memo_put);
    case 'r':
        return memo_numbered(m, 4, memo_put);
    case 0x94:
        return memo_put(m, m->memo.count);
    case 'i':
        return call_marked(m, true);
    case 'o':
        return call_marked(m, false);
    case 'G':
        return push_real(m);
    case 0x80:
        return skip(m, 1);
    case 0x95:
        return skip(m, 8);
    case 0x82:
        return extension(m, 1);
    case 0x83:
        return extension(m, 2);
    case 0x84:
        return extension(m, 4);
    case 0x88:
    case 0x89:
        return push_bool(m, code == 0x88);
    case 0x8a:
        return push_long(m, 1);
    case 0x8b:
        return push_long(m, 4);
    case 0x97: /* a buffer outside the pickle, read-only or not */
        return push_object(m, NULL, NULL);
    case 0x98:
        return SP_OK;
    default:
        return sp_fail(SP_FORMAT, "%s: byte %zu of the pickle (0x%02x) is no operation", m->where,
                       m->start, code);
    }
}

static sp_status run(machine *m)
{
    while (m->at < m->size) {
        m->start = m->at;
        unsigned char code = m->data[m->at++];
        if (code == '.') return pop(m, &m->pickle->result);
        SP_TRY(operate(m, code));
    }
    return sp_fail(SP_FORMAT, "%s: the pickle does not end (is the file truncated?)", m->where);
}

sp_status sp_pickle_read(const unsigned char *data, size_t size, const char *where, size_t *used,
                         sp_pickle **out)
{
    machine m = {.data = data, .size = size, .where = where};
    *out = NULL;
    m.pickle = sp_alloc_zero(sizeof *m.pickle);
    if (m.pickle) m.pickle->arena = sp_arena_create();
    sp_status status = m.pickle && m.pickle->arena ? run(&m) : SP_MEMORY;
    sp_free(m.stack.items);
    sp_free(m.memo.items);
    if (status) {
        sp_pickle_destroy(m.pickle);
        return status;
    }
    if (used) *used = m.at;
    *out = m.pickle;
    return SP_OK;
}

/* ---- looking ---- */

void sp_pickle_destroy(sp_pickle *pickle)
{
    if (!pickle) return;
    sp_free(pickle->persistent.items);
    sp_arena_destroy(pickle->arena);
    sp_free(pickle);
}

const sp_pickle_value *sp_pickle_result(const sp_pickle *pickle)
{
    return pickle->result;
}

size_t sp_pickle_persistent_count(const sp_pickle *pickle)
{
    return pickle->persistent.count;
}

const sp_pickle_value *sp_pickle_persistent(const sp_pickle *pickle, size_t index)
{
    return pickle->persistent.items[index];
}

static bool has_words(const value *v, sp_pickle_kind kind, const char *text)
{
    return v && v->kind == kind && v->length == strlen(text) &&
           memcmp(v->text, text, v->length) == 0;
}

bool sp_pickle_is_text(const sp_pickle_value *v, const char *text)
{
    return has_words(v, SP_PICKLE_TEXT, text);
}

bool sp_pickle_is_global(const sp_pickle_value *v, const char *name)
{
    return has_words(v, SP_PICKLE_GLOBAL, name);
}

const sp_pickle_value *sp_pickle_item(const sp_pickle_value *v, size_t index)
{
    bool has = v && (v->kind == SP_PICKLE_TUPLE || v->kind == SP_PICKLE_LIST) && index < v->count;
    return has ? v->items[index] : NULL;
}

const sp_pickle_value *sp_pickle_find(const sp_pickle_value *v, const char *key)
{
    if (!v || (v->kind != SP_PICKLE_DICT && v->kind != SP_PICKLE_OBJECT)) return NULL;
    for (size_t i = v->count; i >= 2; i -= 2)
        if (sp_pickle_is_text(v->items[i - 2], key)) return v->items[i - 1];
    return NULL;
}
