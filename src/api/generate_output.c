/* Where pictures go: their format and names, files and standard output. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "api/generation.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

static const char *const format_names[] = {
    [SP_IMAGE_PNG] = "png", [SP_IMAGE_JPEG] = "jpg", [SP_IMAGE_WEBP] = "webp"};
enum { FORMATS = sizeof format_names / sizeof *format_names };

static bool names_folder(const char *path)
{
    return !*sp_path_base(path) || sp_path_is_folder(path);
}

/* Where the name says nothing the format does: "out" in a folder, else a name without a suffix.
 * Not of what is there already and no file, as /dev/stdout. */
static sp_status complete_path(sp_generation *g, const char *path, const char *suffix)
{
    if (names_folder(path)) {
        char *name = sp_format("out.%s", suffix);
        g->output = name ? sp_path_join(path, name) : NULL;
        sp_free(name);
        return g->output ? SP_OK : SP_MEMORY;
    }
    const char *name = sp_path_base(path), *dot = strrchr(name, '.');
    if (dot && dot != name) return sp_image_format_by_name(path, &(sp_image_format){0});
    SP_TRY(sp_check_replaceable(path));
    g->output = sp_format("%s.%s", path, suffix);
    if (!g->output) return SP_MEMORY;
    sp_log_info("%s has no suffix, and pictures are written as %s", path, g->output);
    return SP_OK;
}

sp_status sp_generation_choose_output(sp_generation *g)
{
    const splam_generate_options *o = g->o;
    int format = SP_IMAGE_PNG;
    if (o->format) SP_TRY(sp_name_index("format", o->format, format_names, FORMATS, &format));
    g->encoding = (sp_image_encoding){(sp_image_format)format, o->quality};
    if (!o->output) return SP_OK;
    if (!*o->output) return sp_fail(SP_ARGUMENT, "the pictures' path is empty");
    g->to_stdout = strcmp(o->output, "-") == 0;
    sp_image_format named;
    if (g->to_stdout) {
        if (isatty(STDOUT_FILENO))
            return sp_fail(SP_ARGUMENT, "a picture is not written to a terminal: name a file, or "
                                        "lead standard output to a file or a program");
        SP_TRY(sp_check_stdout());
    } else if (!names_folder(o->output) && sp_image_format_of(o->output, &named)) {
        if (o->format && named != g->encoding.format)
            return sp_fail(SP_ARGUMENT, "%s: the name and the format %s do not agree", o->output,
                           o->format);
        g->encoding.format = named;
        g->output = sp_strdup(o->output);
        if (!g->output) return SP_MEMORY;
    } else {
        SP_TRY(complete_path(g, o->output, format_names[format]));
    }
    return sp_image_check_encoding(&g->encoding, 1, 1);
}

/* NAME.SUFFIX of a single picture, NAME-j.SUFFIX of several, with as many digits as the last one
 * has. */
static char *picture_path(const sp_generation *g, int64_t number)
{
    if (g->total == 1) return sp_strdup(g->output);
    const char *dot = strrchr(g->output, '.');
    int digits = snprintf(NULL, 0, "%lld", (long long)g->total - 1);
    return sp_format("%.*s-%0*lld%s", (int)(dot - g->output), g->output, digits, (long long)number,
                     dot);
}

/* Of the others than the first, only that no folder or device has their name. */
static sp_status check_pictures(const sp_generation *g)
{
    for (int64_t i = 0; i < g->total; i++) {
        char *path = picture_path(g, i);
        sp_status status = path ? sp_check_replaceable(path) : SP_MEMORY;
        sp_free(path);
        SP_TRY(status);
    }
    return SP_OK;
}

sp_status sp_generation_claim_output(sp_generation *g)
{
    SP_TRY(sp_image_check_encoding(&g->encoding, g->width, g->height));
    if (g->to_stdout && g->total > 1)
        return sp_fail(SP_ARGUMENT, "%lld pictures do not go to standard output, only one does",
                       (long long)g->total);
    if (g->output) SP_TRY(sp_claim_file(g->output, &g->output_claim));
    if (g->o->save_latents) SP_TRY(sp_claim_file(g->o->save_latents, &g->latents_claim));
    return g->output ? check_pictures(g) : SP_OK;
}

static sp_status to_stdout(const void *bytes, size_t size)
{
    if (fwrite(bytes, 1, size, stdout) == size && fflush(stdout) == 0) return SP_OK;
    return sp_fail(SP_IO, "standard output could not be written: %s", strerror(errno));
}

static sp_status to_file(const sp_generation *g, int64_t number, const void *bytes, size_t size)
{
    char *path = picture_path(g, number);
    sp_status status = path ? SP_OK : SP_MEMORY;
    if (!status) status = sp_write_file(path, bytes, size);
    sp_free(path);
    return status;
}

sp_status sp_generation_write(sp_generation *g, int64_t number, const sp_image *image,
                              const sp_image_texts *texts)
{
    uint8_t *bytes;
    size_t size;
    SP_TRY(sp_image_encode(image, &g->encoding, texts, &bytes, &size));
    sp_status status = g->to_stdout ? to_stdout(bytes, size) : to_file(g, number, bytes, size);
    sp_free(bytes);
    if (!status) g->written++;
    return status;
}
