/* emoji:, Noto Color Emoji drawn from the font. */
#include "data/emoji.h"
#include <ft2build.h>
#include FT_FREETYPE_H
#include <hb.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "data/emoji_names.h"
#include "image/image.h"

#define CACHED_RESOLUTION 128 /* up to here all pictures are kept: 180 MB at 128, 45 MB at 64 */
#define DEFAULT_RESOLUTION 64
#define MAX_BITMAP_SIDE 1024
#define PICTURES_PER_TASK 64
#define PICTURES_PER_REPORT 512

#define DEBIAN_FILES \
    .font = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", .names = "/usr/share/unicode/emoji/emoji-test.txt", \
    .keywords = "/usr/share/unicode/cldr/common/annotations/en.xml", \
    .derived_keywords = "/usr/share/unicode/cldr/common/annotationsDerived/en.xml"
const sp_emoji_files sp_emoji_debian_files = {DEBIAN_FILES};
const sp_emoji_files sp_emoji_debian_kinds = {DEBIAN_FILES, .kinds = true};

typedef struct {
    sp_mapped_file font;
    int resolution;
    uint32_t *glyphs; /* of each sample */
    uint8_t *cache;   /* [samples, R, R, 3]; NULL when pictures are drawn each time */
} emoji_source;

/* ---- held-out combinations ---- */

static int tone_index(const char *part, size_t size)
{
    static const char *const tones[] = {"light skin tone", "medium-light skin tone",
                                        "medium skin tone", "medium-dark skin tone",
                                        "dark skin tone"};
    for (int i = 0; i < 5; i++)
        if (strlen(tones[i]) == size && !memcmp(part, tones[i], size)) return i;
    return -1;
}

static uint32_t fnv1a(uint32_t hash, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash;
}

bool sp_emoji_is_held_out(const char *name)
{
    const char *part = strstr(name, ": ");
    if (!part) return false;
    uint32_t hash = fnv1a(2166136261u, name, (size_t)(part - name));
    unsigned place = 0, weight = 1;
    const char *separator = ": ";
    for (part += 2; *part;) {
        const char *comma = strstr(part, ", ");
        size_t size = comma ? (size_t)(comma - part) : strlen(part);
        int tone = tone_index(part, size);
        if (tone >= 0) {
            place += weight * (unsigned)tone;
            weight++;
        } else {
            hash = fnv1a(fnv1a(hash, separator, 2), part, size);
            separator = ", ";
        }
        part += size + (comma ? 2 : 0);
    }
    return weight > 1 && hash % 7 < 3 && place % 5 == hash / 7 % 5;
}

/* ---- glyphs ---- */

typedef struct {
    FT_Library library;
    FT_Face face;
} font_session;

/* FreeType's objects belong to one thread, so each loop body opens its own over the one mapping. */
static sp_status session_open(const sp_mapped_file *font, font_session *session)
{
    *session = (font_session){0};
    if (FT_Init_FreeType(&session->library)) return sp_fail(SP_MEMORY, "FreeType does not start");
    FT_Error error =
        FT_New_Memory_Face(session->library, font->data, (FT_Long)font->size, 0, &session->face);
    if (!error) error = FT_Select_Size(session->face, 0);
    if (!error) return SP_OK;
    FT_Done_FreeType(session->library);
    return sp_fail(SP_FORMAT, "%s: no font with coloured bitmaps (FreeType error %d)", font->path,
                   error);
}

static void session_close(font_session *session)
{
    FT_Done_FreeType(session->library); /* closes its faces */
}

/* The glyph's bitmap on a white square. */
static sp_status draw_glyph(font_session *session, uint32_t glyph, sp_image *out)
{
    *out = (sp_image){0};
    if (FT_Load_Glyph(session->face, glyph, FT_LOAD_COLOR))
        return sp_fail(SP_FORMAT, "glyph %u has no bitmap", glyph);
    const FT_Bitmap *bitmap = &session->face->glyph->bitmap;
    if (session->face->glyph->format != FT_GLYPH_FORMAT_BITMAP ||
        bitmap->pixel_mode != FT_PIXEL_MODE_BGRA || bitmap->width < 1 || bitmap->rows < 1 ||
        bitmap->width > MAX_BITMAP_SIDE || bitmap->rows > MAX_BITMAP_SIDE || bitmap->pitch < 0)
        return sp_fail(SP_FORMAT, "glyph %u is not a coloured bitmap", glyph);
    int width = (int)bitmap->width, height = (int)bitmap->rows;
    int side = width > height ? width : height;
    SP_TRY(sp_image_create(side, side, out));
    memset(out->pixels, 255, (size_t)side * (size_t)side * 3);
    for (int y = 0; y < height; y++) {
        const uint8_t *from = bitmap->buffer + (size_t)y * (size_t)bitmap->pitch;
        uint8_t *to =
            out->pixels + ((size_t)(y + (side - height) / 2) * side + (side - width) / 2) * 3;
        for (int x = 0; x < width; x++, from += 4, to += 3)
            for (int c = 0; c < 3; c++) { /* BGRA, already multiplied by alpha */
                int value = from[2 - c] + 255 - from[3];
                to[c] = (uint8_t)(value < 255 ? value : 255);
            }
    }
    return SP_OK;
}

static sp_status draw_picture(font_session *session, uint32_t glyph, int resolution, uint8_t *rgb)
{
    sp_image drawn, scaled;
    SP_TRY(draw_glyph(session, glyph, &drawn));
    sp_status status = sp_image_resize(&drawn, resolution, resolution, SP_FILTER_LANCZOS, &scaled);
    sp_image_free(&drawn);
    if (status != SP_OK) return status;
    memcpy(rgb, scaled.pixels, (size_t)resolution * (size_t)resolution * 3);
    sp_image_free(&scaled);
    return SP_OK;
}

/* ---- the data set ---- */

static size_t picture_size(int resolution)
{
    return (size_t)resolution * (size_t)resolution * 3;
}

static sp_status emoji_image(const sp_dataset *dataset, int64_t sample, uint8_t *rgb)
{
    const emoji_source *source = dataset->source;
    size_t size = picture_size(source->resolution);
    if (source->cache) {
        memcpy(rgb, source->cache + (size_t)sample * size, size);
        return SP_OK;
    }
    font_session session;
    SP_TRY(session_open(&source->font, &session));
    sp_status status = draw_picture(&session, source->glyphs[sample], source->resolution, rgb);
    session_close(&session);
    return status;
}

static void emoji_close(void *opaque)
{
    emoji_source *source = opaque;
    sp_mapped_file_close(&source->font);
    sp_free(source->glyphs);
    sp_free(source->cache);
    sp_free(source);
}

static const sp_source_kind emoji_kind = {.image = emoji_image, .close = emoji_close};

/* glyphs[i]: the one glyph that emoji i is shaped to; 0 when there is none. */
static sp_status shape_all(const sp_mapped_file *font, const sp_emoji *list, int64_t count,
                           uint32_t *glyphs)
{
    hb_blob_t *blob = hb_blob_create((const char *)font->data, (unsigned)font->size,
                                     HB_MEMORY_MODE_READONLY, NULL, NULL);
    hb_face_t *face = hb_face_create(blob, 0);
    hb_font_t *shaper = hb_font_create(face);
    hb_buffer_t *buffer = hb_buffer_create();
    for (int64_t i = 0; i < count; i++) {
        hb_buffer_clear_contents(buffer);
        hb_buffer_add_utf32(buffer, list[i].codepoints, list[i].codepoint_count, 0,
                            list[i].codepoint_count);
        hb_buffer_set_direction(buffer, HB_DIRECTION_LTR);
        hb_buffer_set_script(buffer, HB_SCRIPT_COMMON);
        hb_buffer_set_language(buffer, hb_language_from_string("en", -1));
        hb_buffer_set_flags(buffer, HB_BUFFER_FLAG_REMOVE_DEFAULT_IGNORABLES);
        hb_shape(shaper, buffer, NULL, 0);
        unsigned length;
        const hb_glyph_info_t *info = hb_buffer_get_glyph_infos(buffer, &length);
        glyphs[i] = length == 1 ? info[0].codepoint : 0;
    }
    bool complete = hb_buffer_allocation_successful(buffer);
    hb_buffer_destroy(buffer);
    hb_font_destroy(shaper);
    hb_face_destroy(face);
    hb_blob_destroy(blob);
    return complete ? SP_OK : sp_fail(SP_MEMORY, "out of memory for shaping emoji");
}

typedef struct {
    const emoji_source *source;
    const uint32_t *glyphs;
    uint8_t *pictures; /* NULL: only look whether each glyph can be drawn */
    sp_status *status; /* of each emoji */
    int64_t offset;
} draw_task;

static void draw_range(void *context, int64_t begin, int64_t end)
{
    const draw_task *task = context;
    font_session session;
    sp_status opened = session_open(&task->source->font, &session);
    size_t size = picture_size(task->source->resolution);
    for (int64_t i = begin + task->offset; i < end + task->offset; i++) {
        task->status[i] = opened;
        if (opened != SP_OK || !task->glyphs[i]) continue;
        if (task->pictures) {
            task->status[i] = draw_picture(&session, task->glyphs[i], task->source->resolution,
                                           task->pictures + (size_t)i * size);
        } else {
            sp_image drawn;
            task->status[i] = draw_glyph(&session, task->glyphs[i], &drawn);
            sp_image_free(&drawn);
        }
    }
    if (opened == SP_OK) session_close(&session);
}

static sp_status draw_all(draw_task *task, int64_t count, const sp_callbacks *callbacks)
{
    for (; task->offset < count; task->offset += PICTURES_PER_REPORT) {
        int64_t left = count - task->offset;
        int64_t now = left < PICTURES_PER_REPORT ? left : PICTURES_PER_REPORT;
        sp_parallel_for(now, PICTURES_PER_TASK, draw_range, task);
        sp_report(callbacks, "emoji", task->offset + now, count, NULL);
        SP_TRY(sp_check_cancelled(callbacks));
    }
    return SP_OK;
}

/* Appends what could be drawn and moves its picture and glyph to the front. */
static sp_status accept(sp_dataset *dataset, const sp_emoji *list, int64_t count,
                        const sp_status *status)
{
    emoji_source *source = dataset->source;
    size_t size = picture_size(source->resolution);
    for (int64_t i = 0; i < count; i++) {
        const sp_emoji *emoji = &list[i];
        if (status[i] == SP_MEMORY) return sp_fail(SP_MEMORY, "out of memory for drawing emoji");
        if (status[i] != SP_OK || !source->glyphs[i]) {
            sp_dataset_reject(dataset,
                              source->glyphs[i] ? "no coloured bitmap in the font"
                                                : "not one glyph in the font",
                              emoji->id, emoji->name);
            continue;
        }
        int64_t at = dataset->count;
        sp_sample *sample;
        SP_TRY(sp_dataset_append(dataset, emoji->id, emoji->caption_count, &sample));
        for (int k = 0; k < emoji->caption_count; k++)
            sample->captions[sample->caption_count++] = emoji->captions[k];
        sample->held_out = sp_emoji_is_held_out(emoji->name);
        source->glyphs[at] = source->glyphs[i];
        if (source->cache && at != i)
            memcpy(source->cache + (size_t)at * size, source->cache + (size_t)i * size, size);
    }
    return SP_OK;
}

static sp_status shape_and_draw(sp_dataset *dataset, const sp_emoji *list, int64_t count,
                                const sp_callbacks *callbacks)
{
    emoji_source *source = dataset->source;
    bool cached = source->resolution <= CACHED_RESOLUTION;
    source->glyphs = sp_alloc((size_t)(count + 1) * sizeof(uint32_t));
    if (cached) source->cache = sp_alloc((size_t)count * picture_size(source->resolution));
    sp_status *statuses = sp_alloc((size_t)(count + 1) * sizeof *statuses);
    sp_status status = SP_MEMORY;
    if (source->glyphs && statuses && (source->cache || !cached)) {
        draw_task task = {source, source->glyphs, source->cache, statuses, 0};
        status = shape_all(&source->font, list, count, source->glyphs);
        if (status == SP_OK) status = draw_all(&task, count, callbacks);
        if (status == SP_OK) status = accept(dataset, list, count, statuses);
    }
    sp_free(statuses);
    return status;
}

sp_status sp_emoji_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks)
{
    const sp_emoji_files *files = context;
    if (!dataset->options.resolution) dataset->options.resolution = DEFAULT_RESOLUTION;
    emoji_source *source = sp_alloc_zero(sizeof *source);
    if (!source) return SP_MEMORY;
    source->resolution = dataset->options.resolution;
    dataset->source = source;
    dataset->kind = &emoji_kind;
    SP_TRY(sp_emoji_require(files->font, "fonts-noto-color-emoji"));
    SP_TRY(sp_mapped_file_open(files->font, &source->font));
    font_session probe; /* a broken font is one clear error, not thousands of rejections */
    SP_TRY(session_open(&source->font, &probe));
    session_close(&probe);
    sp_emoji *list;
    int64_t count;
    SP_TRY(sp_emoji_names(files, dataset->arena, &list, &count));
    sp_status status = shape_and_draw(dataset, list, count, callbacks);
    sp_free(list);
    return status;
}
