/* Contact sheets: a grid of pictures with a title, row labels and captions, on white. */
#ifndef SP_IMAGE_SHEET_H
#define SP_IMAGE_SHEET_H
#include "image/image.h"

/* Texts are UTF-8, wrapped and cut with an ellipsis where they do not fit; every pointer may be
 * NULL, and so may be every element of a list. Nothing is owned. */
typedef struct {
    const char *title, *subtitle;
    int rows, columns;
    int picture_width, picture_height; /* pixels of every picture */
    int scale; /* each pixel becomes scale x scale; 0: so that a cell has about 128 pixels */
    const uint8_t *const
        *pictures; /* [rows*columns], each rgb [height,width,3]; NULL: an empty cell */
    const char *const *row_labels;      /* [rows], left of the row */
    const char *const *column_captions; /* [columns], above the grid: up to three lines */
    const char *const *cell_captions;   /* [rows*columns], below each picture: up to three lines */
} sp_sheet;

/* *out is new. SP_ARGUMENT for an empty grid or one larger than an image may be. */
sp_status sp_sheet_draw(const sp_sheet *sheet, sp_image *out);
sp_status sp_sheet_save(const sp_sheet *sheet, const char *path); /* as sp_image_save */

#endif
