/* Where pictures go: their format and names, files and standard output. */
#include "pipeline/picture_output.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
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
static sp_status complete_path(sp_picture_output *out, const char *path, const char *suffix)
{
    if (names_folder(path)) {
        char *name = sp_format("out.%s", suffix);
        out->path = name ? sp_path_join(path, name) : NULL;
        sp_free(name);
        return out->path ? SP_OK : SP_MEMORY;
    }
    const char *name = sp_path_base(path), *dot = strrchr(name, '.');
    if (dot && dot != name) return sp_image_format_by_name(path, &(sp_image_format){0});
    SP_TRY(sp_check_replaceable(path));
    out->path = sp_format("%s.%s", path, suffix);
    if (!out->path) return SP_MEMORY;
    sp_log_info("%s has no suffix, and pictures are written as %s", path, out->path);
    return SP_OK;
}

sp_status sp_picture_encoding_choose(const char *format, int64_t quality, sp_image_encoding *out)
{
    int kind = SP_IMAGE_PNG;
    if (format) SP_TRY(sp_name_index("format", format, format_names, FORMATS, &kind));
    *out = (sp_image_encoding){(sp_image_format)kind, quality == SPLAM_UNSET ? 0 : (int)quality};
    return SP_OK;
}

const char *sp_picture_encoding_name(const sp_image_encoding *encoding)
{
    return format_names[encoding->format];
}

sp_status sp_picture_output_choose(const splam_generate_options *o, sp_picture_output *out)
{
    *out = (sp_picture_output){0};
    SP_TRY(sp_picture_encoding_choose(o->format, o->quality, &out->encoding));
    if (!o->output) return SP_OK;
    if (!*o->output) return sp_fail(SP_ARGUMENT, "the pictures' path is empty");
    out->to_stdout = strcmp(o->output, "-") == 0;
    sp_image_format named;
    if (out->to_stdout) {
        if (isatty(STDOUT_FILENO))
            return sp_fail(SP_ARGUMENT, "a picture is not written to a terminal: name a file, or "
                                        "lead standard output to a file or a program");
        SP_TRY(sp_check_stdout());
    } else if (!names_folder(o->output) && sp_image_format_of(o->output, &named)) {
        if (o->format && named != out->encoding.format)
            return sp_fail(SP_ARGUMENT, "%s: the name and the format %s do not agree", o->output,
                           o->format);
        out->encoding.format = named;
        out->path = sp_strdup(o->output);
        if (!out->path) return SP_MEMORY;
    } else {
        SP_TRY(complete_path(out, o->output, format_names[out->encoding.format]));
    }
    return sp_image_check_encoding(&out->encoding, 1, 1);
}

/* NAME.SUFFIX of a single picture, NAME-j.SUFFIX of several, with as many digits as the last one
 * has. */
static char *picture_path(const sp_picture_output *out, int64_t number)
{
    if (out->total == 1) return sp_strdup(out->path);
    const char *dot = strrchr(out->path, '.');
    int digits = snprintf(NULL, 0, "%lld", (long long)out->total - 1);
    return sp_format("%.*s-%0*lld%s", (int)(dot - out->path), out->path, digits, (long long)number,
                     dot);
}

/* Of the others than the first, only that no folder or device has their name. */
static sp_status check_pictures(const sp_picture_output *out)
{
    for (int64_t i = 0; i < out->total; i++) {
        char *path = picture_path(out, i);
        sp_status status = path ? sp_check_replaceable(path) : SP_MEMORY;
        sp_free(path);
        SP_TRY(status);
    }
    return SP_OK;
}

sp_status sp_picture_output_claim(sp_picture_output *out, int64_t total, int64_t width, int64_t height)
{
    out->total = total;
    SP_TRY(sp_image_check_encoding(&out->encoding, width, height));
    if (out->to_stdout && total > 1)
        return sp_fail(SP_ARGUMENT, "%lld pictures do not go to standard output, only one does", (long long)total);
    if (out->path) SP_TRY(sp_claim_file(out->path, &out->claim));
    return out->path ? check_pictures(out) : SP_OK;
}

static sp_status to_stdout(const void *bytes, size_t size)
{
    if (fwrite(bytes, 1, size, stdout) == size && fflush(stdout) == 0) return SP_OK;
    return sp_fail(SP_IO, "standard output could not be written: %s", strerror(errno));
}

static sp_status to_file(const sp_picture_output *out, int64_t number, const void *bytes, size_t size)
{
    char *path = picture_path(out, number);
    sp_status status = path ? SP_OK : SP_MEMORY;
    if (!status) status = sp_write_file(path, bytes, size);
    sp_free(path);
    return status;
}

sp_status sp_picture_output_write(sp_picture_output *out, int64_t number, const uint8_t *file, size_t size)
{
    sp_status status = out->to_stdout ? to_stdout(file, size) : to_file(out, number, file, size);
    if (!status) out->written++;
    return status;
}

void sp_picture_output_free(sp_picture_output *out)
{
    sp_claim_end(&out->claim);
    sp_free(out->path);
    *out = (sp_picture_output){0};
}
