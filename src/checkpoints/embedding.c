/* Learned tokens put into a text encoder's table. */
#include "checkpoints/embedding.h"

#include <string.h>

static const char table_name[] = "embeddings.token_embedding.weight";

/* ---- what fits ---- */

static sp_status check_encoders(const sp_learned *e, const sp_learned_place *place)
{
    bool two = e->vectors[1].data;
    if (two == (place->encoders > 1)) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: has vectors for %s, and the model has %s", e->path,
                   two ? "two text encoders, clip_l and clip_g" : "one text encoder",
                   two ? "one" : "two, which take clip_l and clip_g");
}

static sp_status check_width(const sp_learned *e, const sp_learned_place *place)
{
    int64_t width = place->text->config.text.width;
    const sp_tensor *vectors = &e->vectors[place->number];
    if (vectors->shape.dim[1] == width) return SP_OK;
    return sp_fail(SP_SHAPE, "%s: its vectors have %lld numbers, and the text encoder takes %lld", e->path,
                   (long long)vectors->shape.dim[1], (long long)width);
}

static sp_status add_token(sp_learned *e, const sp_learned_place *place)
{
    int32_t first;
    sp_status status = sp_tokenizer_add_vectors(place->tokenizer, e->token, (size_t)e->count, &first);
    if (status == SP_ARGUMENT) return sp_fail_within(status, "%s", e->path);
    SP_TRY(status);
    if (place->number == 0) e->first = first;
    return SP_OK;
}

/* ---- the table ---- */

static bool holds(sp_dtype table, sp_dtype vectors)
{
    return table == SP_F32 || table == vectors;
}

static sp_dtype table_dtype(const sp_learned_list *list, const sp_learned_place *place, sp_dtype now, bool exact)
{
    bool all = true;
    for (size_t i = 0; i < list->count; i++)
        all = all && holds(now, list->items[i].vectors[place->number].dtype);
    if (all || now == SP_BF16 || now == SP_F16) return all || !exact ? now : SP_F32;
    return exact ? SP_F32 : SP_BF16;
}

static char *row_of(const sp_tensor *table, int64_t row)
{
    return (char *)table->data + (size_t)(row * table->shape.dim[1]) * sp_dtype_size(table->dtype);
}

static void copy_rows(const sp_tensor *table, int64_t row, const sp_tensor *from)
{
    sp_convert_elements(row_of(table, row), table->dtype, from->data, from->dtype, sp_tensor_count(from));
}

/* The table with the vectors behind the ids that the tokenizer had; rows that no token has stay. */
static sp_status extend(const sp_learned_list *list, const sp_learned_place *place, int64_t first, bool exact)
{
    sp_clip_text_config *config = &place->text->config.text;
    const sp_tensor *now = sp_weights_find(place->text->weights, table_name);
    int64_t ids = (int64_t)sp_tokenizer_vocabulary_size(place->tokenizer);
    if (!now) return sp_fail(SP_INTERNAL, "%s: the text encoder has no table", place->text->folder);
    sp_shape shape = now->shape;
    if (ids > shape.dim[0]) shape.dim[0] = ids;
    sp_tensor table;
    SP_TRY(sp_tensor_create(table_dtype(list, place, now->dtype, exact), shape, &table));
    copy_rows(&table, 0, now);
    for (size_t i = 0; i < list->count; i++) {
        copy_rows(&table, first, &list->items[i].vectors[place->number]);
        first += list->items[i].count;
    }
    sp_weights_drop(place->text->weights, table_name);
    SP_TRY(sp_weights_add(place->text->weights, table_name, table));
    config->vocabulary = shape.dim[0];
    /* Older files say 2 and mean the largest id, which is a learned one now. */
    if (config->end_id == 2) config->end_id = sp_tokenizer_eos(place->tokenizer);
    return SP_OK;
}

sp_status sp_learned_list_add(sp_learned_list *list, const sp_learned_place *place, bool exact)
{
    int64_t first = (int64_t)sp_tokenizer_vocabulary_size(place->tokenizer);
    for (size_t i = 0; i < list->count; i++) {
        SP_TRY(check_encoders(&list->items[i], place));
        SP_TRY(check_width(&list->items[i], place));
        SP_TRY(add_token(&list->items[i], place));
    }
    return list->count ? extend(list, place, first, exact) : SP_OK;
}
