/* Starting values of a network that is trained from scratch. */
#include "models/initialize.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "base/text.h"

#define EMBEDDING_DEVIATION 0.02f

typedef enum { FILL_ZERO, FILL_ONE, FILL_UNIFORM, FILL_NORMAL } fill_kind;
typedef struct {
    fill_kind kind;
    float scale;
} fill;

static const sp_value *find_parameter(const sp_graph *graph, const char *set, const char *name)
{
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind == SP_VALUE_PARAMETER && strcmp(value->set, set) == 0 &&
            strcmp(value->name, name) == 0)
            return value;
    }
    return NULL;
}

/* U(-1/sqrt(fan_in), 1/sqrt(fan_in)), where fan_in counts the inputs of one output of the layer. */
static fill uniform_for(sp_shape weight)
{
    int64_t fan_in = weight.dim[0] > 0 ? sp_shape_count(weight) / weight.dim[0] : 1;
    return (fill){FILL_UNIFORM, 1 / sqrtf((float)(fan_in > 0 ? fan_in : 1))};
}

/* "a.b.bias" -> "a.b.weight" */
static bool sibling_weight(const char *bias, char *out, size_t size)
{
    if (!sp_ends_with(bias, "bias")) return false;
    return (size_t)snprintf(out, size, "%.*sweight", (int)(strlen(bias) - strlen("bias")), bias) <
           size;
}

static bool is_zeroed(const char *name, const char *zero)
{
    if (!zero) return false;
    char end[256];
    snprintf(end, sizeof end, "%s.weight", zero);
    if (sp_ends_with(name, end)) return true;
    snprintf(end, sizeof end, "%s.bias", zero);
    return sp_ends_with(name, end);
}

static fill fill_of(const sp_graph *graph, const sp_value *value, const char *const *zero)
{
    char weight_name[512];
    for (int i = 0; i < SP_INITIALIZE_ZEROS; i++)
        if (is_zeroed(value->name, zero[i])) return (fill){FILL_ZERO, 0};
    if (sp_ends_with(value->name, "token_embedding.weight") ||
        sp_ends_with(value->name, "position_embedding.weight"))
        return (fill){FILL_NORMAL, EMBEDDING_DEVIATION};
    if (value->shape.rank > 1) return uniform_for(value->shape);
    if (!sibling_weight(value->name, weight_name, sizeof weight_name)) return (fill){FILL_ONE, 1};
    const sp_value *weight = find_parameter(graph, value->set, weight_name);
    if (!weight || weight->shape.rank < 2) return (fill){FILL_ZERO, 0};
    return uniform_for(weight->shape);
}

static void fill_values(float *data, size_t count, fill f, sp_random_key key)
{
    if (f.kind == FILL_UNIFORM) sp_random_uniform(key, data, count);
    if (f.kind == FILL_NORMAL) sp_random_normal(key, data, count);
    for (size_t i = 0; i < count; i++) {
        switch (f.kind) {
        case FILL_ZERO:
            data[i] = 0;
            break;
        case FILL_ONE:
            data[i] = 1;
            break;
        case FILL_UNIFORM:
            data[i] = (2 * data[i] - 1) * f.scale;
            break;
        case FILL_NORMAL:
            data[i] *= f.scale;
            break;
        }
    }
}

sp_status sp_initialize(const sp_graph *graph, const char *set,
                        const sp_initialize_options *options, sp_weights *weights)
{
    uint64_t index = 0;
    for (int i = 0; i < graph->value_count; i++) {
        const sp_value *value = graph->values[i];
        if (value->kind != SP_VALUE_PARAMETER || strcmp(value->set, set) != 0) continue;
        sp_random_key key = {options->seed, SP_STREAM_INIT, 0, index++};
        if (sp_weights_find(weights, value->name)) continue;
        sp_tensor tensor;
        SP_TRY(sp_tensor_create(SP_F32, value->shape, &tensor));
        fill_values(tensor.data, (size_t)sp_tensor_count(&tensor),
                    fill_of(graph, value, options->zero), key);
        SP_TRY(sp_weights_add(weights, value->name, tensor));
    }
    return SP_OK;
}
