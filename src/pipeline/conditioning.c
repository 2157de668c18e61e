/* Named sets of tensors that say what is to be drawn. */
#include "pipeline/conditioning.h"
#include <stdio.h>
#include <string.h>
#include "base/text.h"

/* ---- sets ---- */

sp_status sp_conditioning_add(sp_conditioning *set, const char *name, sp_tensor tensor)
{
    sp_status status = SP_OK;
    int at = 0;
    while (at < set->count && strcmp(set->item[at].name, name) < 0)
        at++;
    if (set->count == SP_MAX_CONDITIONS || strlen(name) >= SP_CONDITION_NAME)
        status = sp_fail(SP_FORMAT,
                         "\"%.64s\" is one tensor more than the %d, or a name longer than the %d characters, that a "
                         "conditioning has room for",
                         name, SP_MAX_CONDITIONS, SP_CONDITION_NAME - 1);
    else if (at < set->count && strcmp(set->item[at].name, name) == 0)
        status = sp_fail(SP_FORMAT, "the conditioning has \"%s\" twice", name);
    else if (tensor.shape.rank < 1 || (set->count && tensor.shape.dim[0] != sp_conditioning_rows(set)))
        status = sp_fail(SP_SHAPE, "\"%s\" is %s, and the conditioning has %lld rows", name,
                         sp_shape_text(tensor.shape), (long long)sp_conditioning_rows(set));
    if (status) {
        sp_tensor_free(&tensor);
        return status;
    }
    memmove(&set->item[at + 1], &set->item[at], (size_t)(set->count - at) * sizeof *set->item);
    snprintf(set->item[at].name, sizeof set->item[at].name, "%s", name);
    set->item[at].tensor = tensor;
    set->count++;
    return SP_OK;
}

void sp_conditioning_free(sp_conditioning *set)
{
    for (int i = 0; i < set->count; i++)
        sp_tensor_free(&set->item[i].tensor);
    *set = (sp_conditioning){0};
}

const sp_tensor *sp_conditioning_find(const sp_conditioning *set, const char *name)
{
    for (int i = 0; i < set->count; i++)
        if (strcmp(set->item[i].name, name) == 0) return &set->item[i].tensor;
    return NULL;
}

int64_t sp_conditioning_rows(const sp_conditioning *set)
{
    return set->count ? set->item[0].tensor.shape.dim[0] : 0;
}

size_t sp_conditioning_bytes(const sp_conditioning *set)
{
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++)
        if (set->item[i].tensor.data) bytes += sp_tensor_bytes(&set->item[i].tensor);
    return bytes;
}

static sp_shape row_of(sp_shape shape)
{
    sp_shape row = {.rank = shape.rank - 1};
    for (int i = 0; i < row.rank; i++)
        row.dim[i] = shape.dim[i + 1];
    return row;
}

void sp_conditioning_text(const sp_conditioning *set, char *out, size_t size)
{
    size_t length = 0;
    *out = 0;
    for (int i = 0; i < set->count && length < size; i++)
        length += (size_t)snprintf(out + length, size - length, "%s%s %s", i ? ", " : "", set->item[i].name,
                                   sp_shape_text(row_of(set->item[i].tensor.shape)));
}

/* ---- descriptions ---- */

sp_conditioning sp_conditioning_shape(const sp_conditioning *set, int64_t rows)
{
    sp_conditioning shape = *set;
    for (int i = 0; i < shape.count; i++) {
        sp_tensor *tensor = &shape.item[i].tensor;
        tensor->shape.dim[0] = rows;
        *tensor = (sp_tensor){.dtype = SP_F32, .shape = tensor->shape};
    }
    return shape;
}

sp_conditioning sp_conditioning_declared(const sp_network *network, const void *config, int64_t rows, int64_t tokens)
{
    sp_ports ports = {0};
    sp_conditioning out = {0};
    network->inputs(config, &ports);
    for (int i = 0; i < ports.count; i++) {
        sp_tensor tensor = {.dtype = SP_F32, .shape = ports.port[i].shape};
        if (!ports.port[i].condition) continue;
        for (int k = 0; k < tensor.shape.rank; k++) {
            int64_t *dim = &tensor.shape.dim[k];
            *dim = *dim == SP_SIZE_N ? rows : *dim == SP_SIZE_L ? tokens : *dim;
        }
        sp_conditioning_add(&out, ports.port[i].name, tensor); /* a network has no more ports than a set members */
    }
    return out;
}

static bool same_rows(sp_shape a, sp_shape b)
{
    return sp_shape_equal(row_of(a), row_of(b));
}

bool sp_conditioning_same(const sp_conditioning *a, const sp_conditioning *b)
{
    bool same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++)
        same = strcmp(a->item[i].name, b->item[i].name) == 0 &&
               same_rows(a->item[i].tensor.shape, b->item[i].tensor.shape);
    return same;
}

sp_status sp_conditioning_expect(const sp_conditioning *set, const sp_conditioning *like, const char *where)
{
    char found[512], expected[512];
    if (sp_conditioning_same(set, like)) return SP_OK;
    sp_conditioning_text(set, found, sizeof found);
    sp_conditioning_text(like, expected, sizeof expected);
    return sp_fail(SP_SHAPE, "%s is %s, expected %s", where, found, expected);
}

/* "[N,L,768]" */
static void pattern_text(sp_shape shape, char *out, size_t size)
{
    size_t length = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < shape.rank && length < size; i++) {
        const char *comma = i ? "," : "";
        if (shape.dim[i] < 0)
            length += (size_t)snprintf(out + length, size - length, "%s%s", comma,
                                       shape.dim[i] == SP_SIZE_N ? "N" : "L");
        else
            length += (size_t)snprintf(out + length, size - length, "%s%lld", comma, (long long)shape.dim[i]);
    }
    if (length < size) snprintf(out + length, size - length, "]");
}

static bool fits(sp_shape shape, sp_shape pattern)
{
    bool good = shape.rank == pattern.rank;
    for (int i = 0; good && i < shape.rank; i++)
        good = shape.dim[i] > 0 && (pattern.dim[i] < 0 || shape.dim[i] == pattern.dim[i]);
    return good;
}

sp_status sp_conditioning_check(const sp_conditioning *set, const sp_network *network, const void *config,
                                const char *where)
{
    sp_ports ports = {0};
    network->inputs(config, &ports);
    for (int i = 0; i < ports.count; i++) {
        const sp_port *port = &ports.port[i];
        const sp_tensor *tensor = port->condition ? sp_conditioning_find(set, port->name) : NULL;
        char pattern[128];
        pattern_text(port->shape, pattern, sizeof pattern);
        if (!port->condition || (!tensor && port->optional)) continue;
        if (!tensor)
            return sp_fail(SP_SHAPE, "%s has no \"%s\", which the %s takes as %s", where, port->name, network->name,
                           pattern);
        if (!fits(tensor->shape, port->shape))
            return sp_fail(SP_SHAPE, "%s has \"%s\" %s, and the %s takes %s", where, port->name,
                           sp_shape_text(tensor->shape), network->name, pattern);
    }
    return SP_OK;
}

sp_status sp_conditioning_check_finite(const sp_conditioning *set, const char *what)
{
    char name[2 * SP_CONDITION_NAME];
    for (int i = 0; i < set->count; i++) {
        snprintf(name, sizeof name, "%.60s's %s", what, set->item[i].name);
        SP_TRY(sp_tensor_check_finite(&set->item[i].tensor, name));
    }
    return SP_OK;
}

/* ---- copies ---- */

sp_status sp_conditioning_create(const sp_conditioning *like, sp_dtype dtype, int64_t rows, sp_conditioning *out)
{
    *out = (sp_conditioning){0};
    for (int i = 0; i < like->count; i++) {
        sp_shape shape = like->item[i].tensor.shape;
        sp_tensor tensor = {0};
        shape.dim[0] = rows;
        sp_status status = sp_tensor_create(dtype, shape, &tensor);
        if (!status) status = sp_conditioning_add(out, like->item[i].name, tensor);
        if (status) {
            sp_conditioning_free(out);
            return status;
        }
    }
    return SP_OK;
}

sp_status sp_conditioning_convert(const sp_conditioning *set, sp_dtype dtype, sp_conditioning *out)
{
    SP_TRY(sp_conditioning_create(set, dtype, sp_conditioning_rows(set), out));
    sp_conditioning_copy(out, 0, sp_conditioning_rows(set), set, 0);
    return SP_OK;
}

/* Where a member lies. */
typedef struct {
    char *data;
    sp_dtype dtype;
    sp_shape shape;
} place;

/* What is inside dimension `k` of one place; elements of the other that are not there are zeros. */
static void copy_inside(const place *to, int64_t to_at, const place *from, int64_t from_at, int k)
{
    int64_t to_size = 1, from_size = 1;
    for (int i = k; i < to->shape.rank; i++) {
        to_size *= to->shape.dim[i];
        from_size *= from->shape.dim[i];
    }
    char *out = to->data + (size_t)to_at * sp_dtype_size(to->dtype);
    if (to_size == from_size) {
        sp_convert_elements(out, to->dtype, from->data + (size_t)from_at * sp_dtype_size(from->dtype), from->dtype,
                            to_size);
        return;
    }
    memset(out, 0, (size_t)to_size * sp_dtype_size(to->dtype));
    if (k + 1 == to->shape.rank) {
        sp_convert_elements(out, to->dtype, from->data + (size_t)from_at * sp_dtype_size(from->dtype), from->dtype,
                            from_size);
        return;
    }
    for (int64_t i = 0; i < from->shape.dim[k]; i++)
        copy_inside(to, to_at + i * (to_size / to->shape.dim[k]), from, from_at + i * (from_size / from->shape.dim[k]),
                    k + 1);
}

static void copy_member(sp_tensor *a, int64_t at, int64_t count, const sp_tensor *b, int64_t first)
{
    const place to = {a->data, a->dtype, row_of(a->shape)}, from = {b->data, b->dtype, row_of(b->shape)};
    int64_t rows = b->shape.dim[0];
    for (int64_t i = 0; i < count; i++) {
        int64_t row = first + i < rows ? first + i : rows - 1;
        copy_inside(&to, (at + i) * sp_shape_count(to.shape), &from, row * sp_shape_count(from.shape), 0);
    }
}

void sp_conditioning_copy(sp_conditioning *to, int64_t at, int64_t count, const sp_conditioning *from, int64_t first)
{
    for (int k = 0; k < to->count; k++)
        copy_member(&to->item[k].tensor, at, count, &from->item[k].tensor, first);
}

void sp_conditioning_copy_picture(sp_conditioning *to, int64_t at, int64_t count, const sp_conditioning *from,
                                  int64_t first, const sp_network *network, const void *config)
{
    sp_ports ports = {0};
    network->inputs(config, &ports);
    for (int k = 0; k < to->count; k++) {
        const sp_port *port = sp_ports_find(&ports, to->item[k].name);
        if (port && port->picture) copy_member(&to->item[k].tensor, at, count, &from->item[k].tensor, first);
    }
}

/* ---- in graphs ---- */

void sp_conditioning_inputs(sp_builder *b, const sp_conditioning *set, const sp_network *network, const void *config,
                            const char *prefix, int64_t rows, sp_rate rate, sp_values *in)
{
    sp_ports ports = {0};
    network->inputs(config, &ports);
    for (int i = 0; i < ports.count; i++) {
        const sp_port *port = &ports.port[i];
        const sp_tensor *tensor = port->condition ? sp_conditioning_find(set, port->name) : NULL;
        if (!tensor) continue;
        char name[2 * SP_CONDITION_NAME];
        sp_shape shape = tensor->shape;
        shape.dim[0] = rows;
        snprintf(name, sizeof name, "%s%s", prefix, port->name);
        sp_values_add(in, port->name, sp_input(b, name, SP_F32, shape, rate));
    }
}

sp_status sp_conditioning_set(sp_run *run, const char *prefix, const sp_conditioning *set)
{
    char name[2 * SP_CONDITION_NAME];
    for (int i = 0; i < set->count; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, set->item[i].name);
        if (sp_plan_input(sp_run_plan(run), name)) SP_TRY(sp_run_set_input(run, name, &set->item[i].tensor));
    }
    return SP_OK;
}

/* ---- in files ---- */

/* What sets were called when they were one tensor. */
static const struct {
    const char *prefix, *old, *name;
} before[] = {
    {SP_CONDITIONING, "context", "encoder_hidden_states"},
    {SP_NEGATIVE, "uncond", "encoder_hidden_states"},
};

/* The member that a tensor of this name is; false: it is none of that prefix and suffix. */
static bool member_of(const char *full, const char *prefix, const char *suffix, char name[SP_CONDITION_NAME])
{
    size_t begin = strlen(prefix), length = strlen(full);
    if (!sp_ends_with(full, suffix)) return false;
    length -= strlen(suffix);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        if (strcmp(prefix, before[i].prefix) == 0 && length == strlen(before[i].old) &&
            strncmp(full, before[i].old, length) == 0) {
            snprintf(name, SP_CONDITION_NAME, "%s", before[i].name);
            return true;
        }
    if (!sp_starts_with(full, prefix) || full[begin] != '.' || length < begin + 2) return false;
    length -= begin + 1;
    if (length >= SP_CONDITION_NAME || memchr(full + begin + 1, '.', length)) return false;
    memcpy(name, full + begin + 1, length);
    name[length] = 0;
    return true;
}

sp_status sp_conditioning_read(const sp_tensor_file *file, const char *prefix, const char *suffix, int64_t rows,
                               sp_conditioning *out)
{
    char name[SP_CONDITION_NAME];
    *out = (sp_conditioning){0};
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *full = sp_tensor_file_name(file, i);
        if (!member_of(full, prefix, suffix, name)) continue;
        sp_tensor tensor = *sp_tensor_file_at(file, i);
        tensor.owned = false;
        if (!sp_dtype_is_float(tensor.dtype) || tensor.shape.rank < 1 || tensor.shape.dim[0] != rows ||
            sp_tensor_count(&tensor) < 1)
            return sp_fail(SP_SHAPE, "%s: \"%s\" is %s %s, expected floats in %lld row%s", sp_tensor_file_path(file),
                           full, sp_dtype_name(tensor.dtype), sp_shape_text(tensor.shape), (long long)rows,
                           rows == 1 ? "" : "s");
        sp_status status = sp_conditioning_add(out, name, tensor);
        if (status) return sp_fail_within(status, "%s", sp_tensor_file_path(file));
    }
    if (out->count) return SP_OK;
    return sp_fail(SP_FORMAT, "%s: there is no tensor \"%s.NAME%s\"", sp_tensor_file_path(file), prefix, suffix);
}

int sp_conditioning_named(const sp_conditioning *set, const char *prefix, sp_condition_names *names,
                          sp_named_tensor out[SP_MAX_CONDITIONS])
{
    for (int i = 0; i < set->count; i++) {
        snprintf(names->text[i], sizeof names->text[i], "%s.%s", prefix, set->item[i].name);
        out[i] = (sp_named_tensor){names->text[i], &set->item[i].tensor};
    }
    return set->count;
}
