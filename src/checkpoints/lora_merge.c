/* Adapters of a file and the layers that they change. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/lora_parts.h"
#include "checkpoints/original.h"
#include "checkpoints/original_mmdit.h"

typedef sp_layer_adapter adapter;

static void underscore(char *text)
{
    for (; *text; text++)
        if (*text == '.') *text = '_';
}

/* ---- names of layers ---- */

static const char weight_end[] = ".weight", bias_end[] = ".bias";

/* What an adapter under such a name changes: a layer's weight, or of those that are one in original checkpoints each a
 * piece; where `swapped` is set, its halves stand the other way there. */
enum { MOST_PIECES = 3 };
typedef struct {
    const char *weight[MOST_PIECES]; /* NULL: none */
    int pieces;
    bool swapped;
} layer_place;

/* The component's layers by the names that files have for them, "down_blocks_0_..." and, for a denoiser, also
 * "input_blocks_1_...": places, which `room` holds. */
typedef struct {
    sp_dictionary *own, *original;
    layer_place *room;
    size_t used;
} layer_names;

static void free_names(layer_names *names)
{
    sp_dictionary_destroy(names->own);
    sp_dictionary_destroy(names->original);
    sp_free(names->room);
}

/* "x.y.weight" as "x_y". */
static void layer_of(const char *weight, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)(strlen(weight) - strlen(weight_end)), weight);
    underscore(out);
}

static sp_status add_place(layer_names *names, sp_dictionary *to, const char *layer, const char *weight, int piece,
                           int pieces, bool swapped)
{
    layer_place *place = sp_dictionary_get(to, layer);
    if (!place) {
        place = &names->room[names->used++];
        SP_TRY(sp_dictionary_put(to, layer, place));
    }
    place->weight[piece] = weight;
    place->pieces = pieces;
    place->swapped = swapped;
    return SP_OK;
}

static sp_status add_original(layer_names *names, const sp_component_config *config, const char *weight)
{
    char layer[2 * SP_LORA_MAX_NAME];
    sp_original_mmdit mmdit;
    if (config->kind == SP_COMPONENT_TRANSFORMER && sp_original_mmdit_of(weight, config->transformer.blocks, &mmdit)) {
        layer_of(mmdit.name, layer, sizeof layer);
        return add_place(names, names->original, layer, weight, mmdit.part, mmdit.parts, mmdit.swapped);
    }
    if (config->kind != SP_COMPONENT_UNET || !sp_original_name(config, false, weight, layer, sizeof layer))
        return SP_OK;
    layer[strlen(layer) - strlen(weight_end)] = 0;
    underscore(layer);
    return add_place(names, names->original, layer + strlen("model_diffusion_model_"), weight, 0, 1, false);
}

/* free_names in every case. */
static sp_status name_layers(const sp_component *component, layer_names *names)
{
    char layer[SP_LORA_MAX_NAME];
    size_t count = sp_weights_count(component->weights);
    *names = (layer_names){sp_dictionary_create(), sp_dictionary_create(),
                           sp_alloc_zero((2 * count + 1) * sizeof *names->room), 0};
    if (!names->own || !names->original || !names->room) return SP_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const char *full = sp_weights_name(component->weights, i);
        if (!sp_ends_with(full, weight_end) || strlen(full) >= sizeof layer) continue;
        layer_of(full, layer, sizeof layer);
        SP_TRY(add_place(names, names->own, layer, full, 0, 1, false));
        SP_TRY(add_original(names, &component->config, full));
    }
    return SP_OK;
}

/* ---- which adapter is for which layer ---- */

enum { SHOWN = 6 }; /* names in a message */

typedef struct {
    sp_lora *lora;
    const sp_component *component;
    layer_names layers;
    sp_dictionary *taken;       /* weight's name -> index of its adapter, from 1 */
    const layer_place **places; /* by adapter: what it changes; NULL: it is of another component, or passed over */
    size_t count;         /* adapters for the component */
    size_t passed_over;
    sp_string without; /* the first that have no layer */
    size_t without_count;
    const char *family; /* of models that the first of them may be for; NULL: nobody knows */
} matching;

static const char *path_of(const matching *m)
{
    return sp_tensor_file_path(m->lora->file);
}

static const char *part_of(const matching *m)
{
    return sp_component_folder_name(m->component->place);
}

static void add_without(matching *m, const adapter *a)
{
    if (!m->without_count) m->family = sp_lora_layer_family(a->layer);
    if (m->without_count++ < SHOWN)
        sp_string_append_format(&m->without, "%s\"%s\"", m->without.length ? ", " : "", a->base);
}

/* Of two adapters for one layer, one under its name in original checkpoints, diffusers takes the other; one that is for
 * several layers cannot be passed over for one of them. */
static sp_status take_layer(matching *m, size_t index, const layer_place *place, int piece, bool original)
{
    const char *name = place->weight[piece];
    size_t other = (size_t)(uintptr_t)sp_dictionary_get(m->taken, name);
    const adapter *a = &m->lora->adapters[index], *b = other ? &m->lora->adapters[other - 1] : NULL;
    bool before = b && !sp_dictionary_get(m->layers.own, b->layer);
    bool pieces = place->pieces > 1 || (b && m->places[other - 1]->pieces > 1);
    if (b && (before == original || pieces))
        return sp_fail(SP_FORMAT, "%s: \"%s\" and \"%s\" are both for the %s's \"%s\"", path_of(m), b->base, a->base,
                       part_of(m), name);
    m->passed_over += b != NULL;
    if (b && original) return SP_OK;
    if (b) m->places[other - 1] = NULL;
    m->places[index] = place;
    return sp_dictionary_put(m->taken, name, (void *)(uintptr_t)(index + 1));
}

static sp_status match(matching *m)
{
    for (size_t i = 0; i < m->lora->count; i++) {
        const adapter *a = &m->lora->adapters[i];
        if (a->component != m->component->place) continue;
        m->count++;
        const layer_place *own = sp_dictionary_get(m->layers.own, a->layer);
        const layer_place *place = own ? own : sp_dictionary_get(m->layers.original, a->layer);
        if (!place) add_without(m, a);
        for (int piece = 0; place && piece < place->pieces; piece++)
            SP_TRY(take_layer(m, i, place, piece, !own));
    }
    if (!m->without_count) return SP_OK;
    /* a model of that family has names of its own kind */
    bool of_it = sp_dictionary_get(m->layers.own, "add_embedding_linear_1") != NULL;
    return sp_fail(SP_FORMAT,
                   "%s: %zu of %zu adapters for the %s are for layers that the one in %s does not have: %s%s%s%s",
                   path_of(m), m->without_count, m->count, part_of(m), m->component->folder,
                   sp_string_text(&m->without), m->without_count > SHOWN ? " and others" : "",
                   m->family && !of_it ? ", a name of " : "",
                   m->family && !of_it ? m->family : "");
}

/* ---- changes ---- */

/* What an adapter does to its layer's weight or bias. */
typedef struct {
    sp_lora *lora; /* held */
    const adapter *adapter;
    sp_device *device;
    double multiplier;
    sp_layer_piece piece;
    bool swapped;
} layer_change;

/* The half of a weight or bias that a piece of the adapter's layer is, where its halves stand the other way. */
static sp_tensor other_half(const sp_tensor *whole, int piece)
{
    sp_tensor half = *whole;
    half.owned = false;
    half.shape.dim[0] /= 2;
    half.data = (char *)whole->data + (piece ? 0 : sp_tensor_bytes(&half));
    return half;
}

static sp_status apply_to_weight(const layer_change *c, sp_tensor *weight)
{
    if (!c->swapped) return sp_layer_adapter_apply(c->adapter, c->device, c->multiplier, c->piece, weight);
    for (int i = 0; i < 2; i++) {
        sp_tensor half = other_half(weight, i);
        SP_TRY(sp_layer_adapter_apply(c->adapter, c->device, c->multiplier, (sp_layer_piece){i, 2}, &half));
    }
    return SP_OK;
}

static sp_status change_weight(void *context, sp_tensor *weight)
{
    const layer_change *c = context;
    SP_TRY(apply_to_weight(c, weight));
    for (int i = 0; i < SP_LORA_PARTS; i++)
        if (c->adapter->part[i]) sp_tensor_file_drop(c->lora->file, c->adapter->part[i]);
    return sp_tensor_file_check(c->lora->file);
}

static sp_status change_bias(void *context, sp_tensor *bias)
{
    const layer_change *c = context;
    for (int i = 0; i < 2 && c->swapped; i++) {
        sp_tensor half = other_half(bias, i);
        sp_layer_adapter_apply_bias(c->adapter, c->multiplier, (sp_layer_piece){i, 2}, &half);
    }
    if (!c->swapped) sp_layer_adapter_apply_bias(c->adapter, c->multiplier, c->piece, bias);
    return sp_tensor_file_check(c->lora->file);
}

static void release_change(void *context)
{
    sp_lora_close(((layer_change *)context)->lora);
    sp_free(context);
}

typedef struct {
    sp_lora *lora;
    sp_weights *weights;
    sp_device *device;
    double multiplier;
    bool exact;
} merging;

/* How the layer that an adapter is for lies in a weight. */
typedef struct {
    sp_layer_piece piece;
    bool swapped;
} layer_form;

static sp_status change_tensor(const merging *m, const adapter *a, const char *name, layer_form form,
                               sp_status (*apply)(void *context, sp_tensor *weight))
{
    sp_dtype stored = sp_weights_find(m->weights, name)->dtype;
    if (sp_dtype_is_f8(stored)) stored = SP_BF16; /* F8 would lose the adapter */
    layer_change *change = sp_alloc(sizeof *change);
    if (!change) return SP_MEMORY;
    *change = (layer_change){m->lora, a, m->device, m->multiplier, form.piece, form.swapped};
    m->lora->holders++;
    return sp_weights_change(m->weights, name, m->exact ? SP_F32 : stored,
                             (sp_weight_change){apply, release_change, change});
}

static sp_status merge_bias(const merging *m, const adapter *a, const char *weight, layer_form form)
{
    const char *path = sp_tensor_file_path(m->lora->file);
    char *name = sp_format("%.*s%s", (int)(strlen(weight) - strlen(weight_end)), weight, bias_end);
    const sp_tensor *bias = name ? sp_weights_find(m->weights, name) : NULL, *diff = a->part[SP_LORA_DIFF_B];
    sp_status status = name ? SP_OK : SP_MEMORY;
    if (!status && !bias)
        status = sp_fail(SP_FORMAT, "%s: \"%s\" has a diff_b, and the model's layer has no bias", path, a->base);
    if (!status && form.piece.parts * sp_tensor_count(bias) != sp_tensor_count(diff))
        status = sp_fail(SP_SHAPE, "%s: \"%s\" has a diff_b %s, and the model's \"%s\" is %s", path, a->base,
                         sp_shape_text(diff->shape), name, sp_shape_text(bias->shape));
    if (!status) status = change_tensor(m, a, name, form, change_bias);
    sp_free(name);
    return status;
}

static sp_status merge_piece(const merging *m, const adapter *a, const char *name, layer_form form)
{
    sp_shape shape = sp_weights_find(m->weights, name)->shape;
    shape.dim[0] *= form.piece.parts;
    SP_TRY(sp_layer_adapter_fits(sp_tensor_file_path(m->lora->file), a, name, shape,
                                 form.swapped ? 2 : form.piece.parts));
    if (a->kind != SP_ADAPTER_DIFF || a->part[SP_LORA_DIFF]) SP_TRY(change_tensor(m, a, name, form, change_weight));
    return a->part[SP_LORA_DIFF_B] ? merge_bias(m, a, name, form) : SP_OK;
}

static sp_status merge_layer(const merging *m, const adapter *a, const layer_place *place)
{
    for (int i = 0; i < place->pieces; i++)
        SP_TRY(merge_piece(m, a, place->weight[i], (layer_form){{i, place->pieces}, place->swapped}));
    return SP_OK;
}

static sp_status merge_matched(const matching *m, const merging *how)
{
    size_t applied = 0;
    for (size_t i = 0; i < m->lora->count; i++) {
        if (!m->places[i]) continue;
        SP_TRY(merge_layer(how, &m->lora->adapters[i], m->places[i]));
        applied++;
    }
    SP_TRY(sp_tensor_file_check(m->lora->file));
    if (m->passed_over)
        sp_log_warn("%s: %zu adapters under names of original checkpoints are passed over, since their layers have "
                    "others under diffusers' names", path_of(m), m->passed_over);
    if (applied)
        sp_log_info("%s: %zu adapter%s applied to the %s", path_of(m), applied, applied == 1 ? "" : "s", part_of(m));
    return SP_OK;
}

sp_status sp_lora_merge(sp_lora *lora, double weight, sp_device *device, sp_component *component, bool exact)
{
    const merging how = {lora, component->weights, device, weight, exact};
    matching m = {.lora = lora,
                  .component = component,
                  .taken = sp_dictionary_create(),
                  .places = sp_alloc_zero((lora->count + 1) * sizeof *m.places)};
    sp_status status = m.taken && m.places ? SP_OK : SP_MEMORY;
    if (!status) status = name_layers(component, &m.layers);
    if (!status) status = match(&m);
    if (!status) status = merge_matched(&m, &how);
    free_names(&m.layers);
    sp_dictionary_destroy(m.taken);
    sp_free((void *)m.places);
    sp_string_free(&m.without);
    return status;
}

/* ---- starting from a file ---- */

static const adapter *adapter_of(const sp_lora *lora, const char *layer)
{
    for (size_t i = 0; i < lora->count; i++)
        if (sp_component_is_denoiser(lora->adapters[i].component) &&
            strcmp(lora->adapters[i].layer, layer) == 0)
            return &lora->adapters[i];
    return NULL;
}

static bool is_plain(const adapter *a)
{
    return a->kind == SP_ADAPTER_LORA && !a->part[SP_LORA_MID] && !a->part[SP_LORA_DORA_SCALE] &&
           !a->part[SP_LORA_MAGNITUDE];
}

/* factor times the file's half, in the shape that the graph has. */
static sp_status start_half(const sp_lora *lora, const adapter *a, const sp_tensor *half,
                            double factor, sp_tensor *to)
{
    if (!sp_shape_equal(sp_without_ones(half->shape), sp_without_ones(to->shape)))
        return sp_fail(SP_SHAPE, "%s: a half of \"%s\" is %s, and %s is trained",
                       sp_tensor_file_path(lora->file), a->base, sp_shape_text(half->shape),
                       sp_shape_text(to->shape));
    for (int64_t i = 0; i < sp_tensor_count(to); i++)
        ((float *)to->data)[i] = (float)(factor * sp_load(half->data, half->dtype, i));
    return SP_OK;
}

sp_status sp_lora_start(const sp_lora *lora, const sp_lora_settings *settings, sp_weights *adapters)
{
    static const char down[] = ".lora_A.weight", up[] = ".lora_B.weight";
    char layer[SP_LORA_MAX_NAME];
    size_t used = 0;
    for (size_t i = 0; i < sp_weights_count(adapters); i++) {
        const char *name = sp_weights_name(adapters, i);
        bool is_down = sp_ends_with(name, down);
        if (!is_down && !sp_ends_with(name, up)) continue;
        snprintf(layer, sizeof layer, "%.*s", (int)(strlen(name) - strlen(down)), name);
        underscore(layer);
        const adapter *a = adapter_of(lora, layer);
        if (!a)
            return sp_fail(SP_FORMAT, "%s: has no adapter for \"%s\", which is to be trained",
                           sp_tensor_file_path(lora->file), name);
        if (!is_plain(a))
            return sp_fail(SP_UNSUPPORTED, "%s: \"%s\" is more than a LoRA's two halves, which alone are trained",
                           sp_tensor_file_path(lora->file), a->base);
        double factor = is_down ? 1 : sp_layer_adapter_scale(a) * (double)settings->rank / settings->alpha;
        SP_TRY(start_half(lora, a, a->part[is_down ? SP_LORA_DOWN : SP_LORA_UP], factor, sp_weights_at(adapters, i)));
        used += is_down;
    }
    if (used == lora->count) return sp_tensor_file_check(lora->file);
    return sp_fail(SP_FORMAT,
                   "%s: has %zu adapters, and %zu are trained; what is left over would be lost",
                   sp_tensor_file_path(lora->file), lora->count, used);
}
