/* Knowing files by their first bytes. */
#include "formats/magic.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const struct {
    size_t at; /* bytes before it */
    const char *bytes;
    size_t count;
    const char *text;
} magics[] = {
#define M(at, bytes, text) {at, bytes, sizeof(bytes) - 1, text}
    M(0, "version https://git-lfs.github.com/spec",
      "a Git LFS pointer, which stands for a file that was not downloaded"),
    M(0, "lmgg", "a GGML file"),
    M(0, "tjgg", "a GGML file"),
    M(0, "\xff\xd8\xff", "a JPEG picture"),
    M(0, "\x89PNG", "a PNG picture"),
    M(8, "WEBP", "a WebP picture"),
    M(0, "GIF8", "a GIF picture"),
    M(0, "\x89HDF", "an HDF5 file"),
    M(0, "\x93NUMPY", "a NumPy array"),
    M(4, "TFL3", "a TensorFlow Lite model"),
    M(0, "%PDF", "a PDF document"),
    M(0, "PK\5\6", "an empty zip archive"),
    M(0, "\x1f\x8b", "a gzip archive"),
    M(0, "BZh", "a bzip2 archive"),
    M(0, "\xfd"
         "7zXZ",
      "an xz archive"),
    M(0, "\x28\xb5\x2f\xfd", "a Zstandard archive"),
    M(0, "7z\xbc\xaf", "a 7-Zip archive"),
    M(0, "Rar!", "a RAR archive"),
    M(257, "ustar", "a tar archive"),
    M(0, "\x7f"
         "ELF",
      "a program"),
    M(0, "MZ\x90", "a program"),
#undef M
};

static const char *markup(const char *text, size_t size)
{
    static const char *const starts[] = {"<!doctype html", "<html", "<head"};
    for (size_t i = 0; i < COUNT(starts); i++)
        if (size >= strlen(starts[i]) && strncasecmp(text, starts[i], strlen(starts[i])) == 0)
            return "an HTML page";
    if (size >= 5 && memcmp(text, "<?xml", 5) == 0) return "an XML document";
    return NULL;
}

/* Printable bytes and those of UTF-8, which is as far as telling a text takes. */
static const char *text_kind(const char *text, size_t size)
{
    enum { LOOKED_AT = 512 };
    size_t begin = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0, end = size < LOOKED_AT ? size : LOOKED_AT;
    for (size_t i = begin; i < end; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\n' && c != '\r' && c != '\t') || c == 0x7f) return NULL;
    }
    while (begin < end && strchr(" \n\r\t", text[begin]))
        begin++;
    const char *known = markup(text + begin, size - begin);
    if (known) return known;
    return begin < end && (text[begin] == '{' || text[begin] == '[') ? "a JSON text" : "a text";
}

static bool all_zero(const unsigned char *data, size_t size)
{
    enum { LOOKED_AT = 4096 };
    for (size_t i = 0; i < size && i < LOOKED_AT; i++)
        if (data[i]) return false;
    return true;
}

const char *sp_magic_text(const unsigned char *data, size_t size)
{
    if (!size) return "an empty file";
    for (size_t i = 0; i < COUNT(magics); i++)
        if (size >= magics[i].at + magics[i].count &&
            memcmp(data + magics[i].at, magics[i].bytes, magics[i].count) == 0)
            return magics[i].text;
    if (all_zero(data, size)) return "a file that begins with zeros (is the download complete?)";
    return text_kind((const char *)data, size);
}
