/* Contact sheets drawn with cairo. */
#include "image/sheet.h"
#include <cairo.h>
#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "base/visible.h"

/* Pixels. */
#define MARGIN 28
#define GAP 10
#define LABEL_WIDTH 190
#define LABEL_GAP 18
#define TITLE_SIZE 22.0
#define SUBTITLE_SIZE 13.0
#define LABEL_SIZE 14.0
#define CAPTION_SIZE 11.0
#define LINE_HEIGHT 1.3
#define CELL_AIM 128
#define MAX_SCALE 64
#define MAX_LINES 3
#define MAX_LINE_BYTES 256

#define INK 0.10
#define GREY 0.42
#define FRAME 0.86

/* ---- text ---- */

typedef struct {
    char line[MAX_LINES][MAX_LINE_BYTES];
    int count;
} wrapped;

static void set_font(cairo_t *c, double size, bool bold)
{
    cairo_select_font_face(c, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, size);
}

static double text_width(cairo_t *c, const char *text)
{
    cairo_text_extents_t extents;
    cairo_text_extents(c, text, &extents);
    return extents.x_advance;
}

/* Shortens `line` (MAX_LINE_BYTES) until it fits with an ellipsis. */
static void add_ellipsis(cairo_t *c, char *line, double width)
{
    static const char dots[] = "\xE2\x80\xA6";
    size_t length = strlen(line);
    for (;;) {
        while (length > 0 && strchr(" ,:;", line[length - 1]))
            length--;
        if (length + sizeof dots <= MAX_LINE_BYTES) {
            memcpy(line + length, dots, sizeof dots);
            if (text_width(c, line) <= width || length == 0) return;
        }
        do
            length--;
        while (length > 0 && ((unsigned char)line[length] & 0xC0) == 0x80);
    }
}

/* How many bytes of `text` fit in one line: whole words, or part of a word that alone is too wide. */
static size_t fitting(cairo_t *c, const char *text, double width)
{
    char trial[MAX_LINE_BYTES];
    size_t words = 0, characters = 0, length = strlen(text);
    for (size_t end = 1; end <= length && end < sizeof trial; end++) {
        if (((unsigned char)text[end] & 0xC0) == 0x80) continue; /* inside a character */
        memcpy(trial, text, end);
        trial[end] = 0;
        if (text_width(c, trial) > width) break;
        characters = end;
        if (text[end] == ' ' || text[end] == 0) words = end;
    }
    if (characters == length) return length;
    return words ? words : characters ? characters : length;
}

static void wrap(cairo_t *c, const char *text, double width, int max_lines, wrapped *out)
{
    char buffer[MAX_LINES * MAX_LINE_BYTES];
    out->count = 0;
    sp_clean_text(text ? text : "", buffer, sizeof buffer);
    const char *at = buffer;
    while (*at && out->count < max_lines) {
        char *line = out->line[out->count++];
        size_t size = fitting(c, at, width);
        bool cut = at[size] && out->count == max_lines;
        size_t copied = size < MAX_LINE_BYTES ? size : MAX_LINE_BYTES - 1;
        memcpy(line, at, copied);
        line[copied] = 0;
        if (cut || text_width(c, line) > width) add_ellipsis(c, line, width);
        at += size;
        while (*at == ' ')
            at++;
    }
}

typedef enum { ALIGN_LEFT, ALIGN_CENTER, ALIGN_RIGHT } alignment;

/* Lines from `top` down, x being the left edge, centre or right edge. */
static void show(cairo_t *c, const wrapped *text, double x, double top, double size, double shade,
                 alignment align)
{
    cairo_set_source_rgb(c, shade, shade, shade);
    for (int i = 0; i < text->count; i++) {
        double width = text_width(c, text->line[i]);
        double left = align == ALIGN_LEFT ? x : align == ALIGN_CENTER ? x - width / 2 : x - width;
        cairo_move_to(c, round(left), round(top + size * (LINE_HEIGHT * i + 1.0)));
        cairo_show_text(c, text->line[i]);
    }
}

static double lines_height(int lines, double size)
{
    return lines > 0 ? size * (LINE_HEIGHT * (lines - 1) + 1.25) : 0.0;
}

/* ---- layout ---- */

typedef struct {
    int scale;
    double cell_width, cell_height;
    double left, top;      /* of the grid */
    double label_width;    /* 0 without labels */
    double column_height;  /* captions above the grid */
    double caption_height; /* below each picture */
    double width, height;
} layout;

static int most_lines(cairo_t *c, const char *const *texts, int64_t count, double width, int limit)
{
    int most = 0;
    wrapped text;
    for (int64_t i = 0; texts && i < count; i++) {
        wrap(c, texts[i], width, limit, &text);
        most = text.count > most ? text.count : most;
    }
    return most;
}

static double widest_label(cairo_t *c, const sp_sheet *sheet)
{
    double widest = 0;
    wrapped text;
    set_font(c, LABEL_SIZE, false);
    for (int i = 0; sheet->row_labels && i < sheet->rows; i++) {
        wrap(c, sheet->row_labels[i], LABEL_WIDTH, MAX_LINES, &text);
        for (int k = 0; k < text.count; k++)
            widest = fmax(widest, text_width(c, text.line[k]));
    }
    return ceil(widest);
}

static layout make_layout(cairo_t *c, const sp_sheet *sheet)
{
    layout l = {.scale = sheet->scale};
    int side =
        sheet->picture_width > sheet->picture_height ? sheet->picture_width : sheet->picture_height;
    if (l.scale < 1) l.scale = CELL_AIM / side > 1 ? CELL_AIM / side : 1;
    l.cell_width = (double)sheet->picture_width * l.scale;
    l.cell_height = (double)sheet->picture_height * l.scale;
    l.label_width = widest_label(c, sheet);
    set_font(c, CAPTION_SIZE, false);
    int64_t cells = (int64_t)sheet->rows * sheet->columns;
    int above = most_lines(c, sheet->column_captions, sheet->columns, l.cell_width, MAX_LINES);
    int below = most_lines(c, sheet->cell_captions, cells, l.cell_width, MAX_LINES);
    l.column_height = above ? lines_height(above, CAPTION_SIZE) + 6 : 0;
    l.caption_height = below ? ceil(lines_height(below, CAPTION_SIZE)) + 10 : 0; /* whole pixels */
    l.left = MARGIN + (l.label_width > 0 ? l.label_width + LABEL_GAP : 0);
    l.top = MARGIN + (sheet->title ? TITLE_SIZE * 1.4 : 0) +
            (sheet->subtitle ? SUBTITLE_SIZE * 1.5 : 0) +
            (sheet->title || sheet->subtitle ? 12 : 0) + l.column_height;
    l.top = ceil(l.top);
    l.width = l.left + sheet->columns * (l.cell_width + GAP) - GAP + MARGIN;
    l.height = ceil(l.top + sheet->rows * (l.cell_height + l.caption_height + GAP) - GAP + MARGIN);
    return l;
}

/* ---- drawing ---- */

static void draw_texts(cairo_t *c, const sp_sheet *sheet, const layout *l)
{
    wrapped text;
    double inside = l->width - 2 * MARGIN, top = MARGIN;
    if (sheet->title) {
        set_font(c, TITLE_SIZE, true);
        wrap(c, sheet->title, inside, 1, &text);
        show(c, &text, MARGIN, top - 4, TITLE_SIZE, INK, ALIGN_LEFT);
        top += TITLE_SIZE * 1.4;
    }
    if (sheet->subtitle) {
        set_font(c, SUBTITLE_SIZE, false);
        wrap(c, sheet->subtitle, inside, 1, &text);
        show(c, &text, MARGIN, top - 4, SUBTITLE_SIZE, GREY, ALIGN_LEFT);
    }
    set_font(c, CAPTION_SIZE, false);
    for (int x = 0; sheet->column_captions && x < sheet->columns; x++) {
        wrap(c, sheet->column_captions[x], l->cell_width, MAX_LINES, &text);
        double height = lines_height(text.count, CAPTION_SIZE); /* stands on the grid */
        show(c, &text, l->left + x * (l->cell_width + GAP) + l->cell_width / 2, l->top - 6 - height,
             CAPTION_SIZE, GREY, ALIGN_CENTER);
    }
    set_font(c, LABEL_SIZE, false);
    for (int y = 0; sheet->row_labels && y < sheet->rows; y++) {
        wrap(c, sheet->row_labels[y], LABEL_WIDTH, MAX_LINES, &text);
        double middle =
            l->top + y * (l->cell_height + l->caption_height + GAP) + l->cell_height / 2;
        show(c, &text, l->left - LABEL_GAP, middle - lines_height(text.count, LABEL_SIZE) / 2,
             LABEL_SIZE, INK, ALIGN_RIGHT);
    }
}

static void draw_cell(cairo_t *c, const sp_sheet *sheet, const layout *l, int x, int y)
{
    double left = l->left + x * (l->cell_width + GAP);
    double top = l->top + y * (l->cell_height + l->caption_height + GAP);
    int64_t i = (int64_t)y * sheet->columns + x;
    cairo_set_source_rgb(c, FRAME, FRAME, FRAME);
    cairo_set_line_width(c, 1.0);
    cairo_rectangle(c, left - 0.5, top - 0.5, l->cell_width + 1, l->cell_height + 1);
    cairo_stroke(c);
    if (!sheet->cell_captions || !sheet->cell_captions[i]) return;
    wrapped text;
    set_font(c, CAPTION_SIZE, false);
    wrap(c, sheet->cell_captions[i], l->cell_width, MAX_LINES, &text);
    show(c, &text, left + l->cell_width / 2, top + l->cell_height + 4, CAPTION_SIZE, GREY,
         ALIGN_CENTER);
}

/* Pictures go straight into the result: nearest neighbour, no colour conversion. */
static void put_picture(const sp_sheet *sheet, const layout *l, int x, int y, sp_image *out)
{
    const uint8_t *picture =
        sheet->pictures ? sheet->pictures[(int64_t)y * sheet->columns + x] : NULL;
    if (!picture) return;
    int left = (int)(l->left + x * (l->cell_width + GAP));
    int top = (int)(l->top + y * (l->cell_height + l->caption_height + GAP));
    for (int row = 0; row < sheet->picture_height * l->scale; row++) {
        const uint8_t *from = picture + (size_t)(row / l->scale) * sheet->picture_width * 3;
        uint8_t *to = out->pixels + ((size_t)(top + row) * out->width + left) * 3;
        for (int column = 0; column < sheet->picture_width * l->scale; column++, to += 3)
            memcpy(to, from + (size_t)(column / l->scale) * 3, 3);
    }
}

static sp_status cairo_problem(cairo_status_t status)
{
    return sp_fail(status == CAIRO_STATUS_NO_MEMORY ? SP_MEMORY : SP_INTERNAL, "sheet: %s",
                   cairo_status_to_string(status));
}

static sp_status paint(const sp_sheet *sheet, const layout *l, sp_image *out)
{
    SP_TRY(sp_image_create((int)l->width, (int)l->height, out));
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, out->width, out->height);
    cairo_t *c = cairo_create(surface);
    cairo_set_source_rgb(c, 1, 1, 1);
    cairo_paint(c);
    draw_texts(c, sheet, l);
    for (int i = 0; i < sheet->rows * sheet->columns; i++)
        draw_cell(c, sheet, l, i % sheet->columns, i / sheet->columns);
    cairo_status_t status = cairo_status(c);
    cairo_surface_flush(surface);
    const uint8_t *data = cairo_image_surface_get_data(surface);
    int stride = cairo_image_surface_get_stride(surface);
    for (int y = 0; status == CAIRO_STATUS_SUCCESS && y < out->height; y++)
        for (int x = 0; x < out->width; x++) {
            uint32_t pixel;
            memcpy(&pixel, data + (size_t)y * stride + (size_t)x * 4, 4);
            uint8_t *to = out->pixels + ((size_t)y * out->width + x) * 3;
            to[0] = (uint8_t)(pixel >> 16), to[1] = (uint8_t)(pixel >> 8), to[2] = (uint8_t)pixel;
        }
    cairo_destroy(c);
    cairo_surface_destroy(surface);
    if (status != CAIRO_STATUS_SUCCESS) {
        sp_image_free(out);
        return cairo_problem(status);
    }
    for (int i = 0; i < sheet->rows * sheet->columns; i++)
        put_picture(sheet, l, i % sheet->columns, i / sheet->columns, out);
    return SP_OK;
}

static sp_status check(const sp_sheet *sheet)
{
    if (sheet->rows < 1 || sheet->columns < 1 || sheet->picture_width < 1 ||
        sheet->picture_height < 1 || sheet->scale < 0 || sheet->scale > MAX_SCALE ||
        sheet->rows > SP_IMAGE_MAX_SIDE || sheet->columns > SP_IMAGE_MAX_SIDE ||
        sheet->picture_width > SP_IMAGE_MAX_SIDE || sheet->picture_height > SP_IMAGE_MAX_SIDE)
        return sp_fail(
            SP_ARGUMENT, "a sheet of %dx%d pictures of %dx%d pixels at scale %d is not possible",
            sheet->columns, sheet->rows, sheet->picture_width, sheet->picture_height, sheet->scale);
    return SP_OK;
}

sp_status sp_sheet_draw(const sp_sheet *sheet, sp_image *out)
{
    *out = (sp_image){0};
    SP_TRY(check(sheet));
    /* Text is measured before the size of the sheet is known. */
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 1, 1);
    cairo_t *c = cairo_create(surface);
    layout l = make_layout(c, sheet);
    cairo_status_t status = cairo_status(c);
    cairo_destroy(c);
    cairo_surface_destroy(surface);
    if (status != CAIRO_STATUS_SUCCESS) return cairo_problem(status);
    if (l.width > SP_IMAGE_MAX_SIDE || l.height > SP_IMAGE_MAX_SIDE)
        return sp_fail(SP_ARGUMENT, "a sheet of %.0fx%.0f pixels is too large", l.width, l.height);
    return paint(sheet, &l, out);
}

sp_status sp_sheet_save(const sp_sheet *sheet, const char *path)
{
    sp_image image;
    sp_status status = sp_sheet_draw(sheet, &image);
    if (status != SP_OK) return sp_fail_within(status, "%s", path);
    status = sp_image_save(&image, path, NULL);
    sp_image_free(&image);
    return status;
}
