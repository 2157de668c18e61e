/* Sheets of the best and the worst pictures of a row. */
#include "report/extremes.h"
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "image/sheet.h"

enum { MOST_COLUMNS = 8, SIDE = 128 };

typedef struct {
    double term;
    int64_t index;
} ranked;

/* The highest first; of equal ones the first. */
static int by_term(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->term != y->term) return x->term > y->term ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static sp_status rank_all(const double *terms, int64_t count, ranked **out)
{
    *out = sp_alloc((size_t)count * sizeof **out);
    if (!*out) return SP_MEMORY;
    for (int64_t i = 0; i < count; i++)
        (*out)[i] = (ranked){terms[i], i};
    qsort(*out, (size_t)count, sizeof **out, by_term);
    return SP_OK;
}

/* A picture, no larger than `side`, in the arena. */
static sp_status take_picture(const sp_drawn *drawn, int64_t index, int side, sp_arena *arena, const uint8_t **out)
{
    size_t bytes = (size_t)side * (size_t)side * 3;
    uint8_t *room = sp_arena_alloc(arena, bytes);
    sp_image image, small;
    *out = room;
    if (!room) return SP_MEMORY;
    if (side == drawn->size) return sp_drawn_get(drawn, index, room);
    SP_TRY(sp_image_create(drawn->size, drawn->size, &image));
    sp_status status = sp_drawn_get(drawn, index, image.pixels);
    if (!status) status = sp_image_resize(&image, side, side, SP_FILTER_BICUBIC, &small);
    sp_image_free(&image);
    SP_TRY(status);
    memcpy(room, small.pixels, bytes);
    sp_image_free(&small);
    return SP_OK;
}

static sp_status draw(const sp_evaluation *e, const sp_drawn *drawn, const ranked *all, sp_arena *arena,
                      sp_image *out)
{
    static const char *const labels[] = {"the highest", "the lowest"};
    const uint8_t *picture[2 * MOST_COLUMNS];
    const char *caption[2 * MOST_COLUMNS];
    int columns = e->count / 2 < MOST_COLUMNS ? (int)(e->count / 2) : MOST_COLUMNS;
    int side = drawn->size < SIDE ? drawn->size : SIDE;
    for (int i = 0; i < 2 * columns; i++) {
        const ranked *one = i < columns ? &all[i] : &all[e->count - 1 - (i - columns)];
        SP_TRY(take_picture(drawn, one->index, side, arena, &picture[i]));
        caption[i] = sp_arena_format(arena, "%.4f %s", one->term, e->prompt[one->index]);
        if (!caption[i]) return SP_MEMORY;
    }
    const sp_sheet sheet = {.rows = 2,
                            .columns = columns,
                            .picture_width = side,
                            .picture_height = side,
                            .pictures = picture,
                            .row_labels = labels,
                            .cell_captions = caption};
    return sp_sheet_draw(&sheet, out);
}

sp_status sp_extremes_draw(const sp_evaluation *e, const sp_drawn *drawn, const double *terms, sp_image *out)
{
    ranked *all;
    *out = (sp_image){0};
    SP_TRY(rank_all(terms, e->count, &all));
    sp_arena *arena = sp_arena_create();
    sp_status status = arena ? draw(e, drawn, all, arena, out) : SP_MEMORY;
    sp_arena_destroy(arena);
    sp_free(all);
    return status;
}
