/* A safetensors file of lines that name its tensors. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"

enum { HEADER = 1 << 15, LINE = 512, DIMENSIONS = 10 };
static uint8_t file[8 + HEADER + FUZZ_TENSORS];

typedef struct {
    char text[HEADER]; /* so far, without what ends it */
    size_t used;
    uint64_t end; /* of the data so far */
    bool full;
} header;

static void say(header *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(header *h, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(h->text + h->used, sizeof h->text - h->used, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length + 64 > sizeof h->text - h->used)
        h->full = true;
    else
        h->used += (size_t)length;
}

/* As JSON; bytes that are no letters or signs of ASCII stand as they are. */
static void say_text(header *h, const char *text)
{
    say(h, "\"");
    for (; *text; text++)
        say(h, *text == '"' || *text == '\\' ? "\\%c" : (unsigned char)*text < 32 ? "\\u%04x" : "%c", *text);
    say(h, "\"");
}

/* Bytes of an element, from its name: "BF16" has 2. */
static uint64_t width_of(const char *dtype)
{
    const char *digits = strpbrk(dtype, "0123456789");
    uint64_t bits = digits ? strtoull(digits, NULL, 10) : 8;
    return bits / 8 ? bits / 8 : 1;
}

static void say_tensor(header *h, const char *name, const char *dtype, char *sizes)
{
    uint64_t bytes = width_of(dtype);
    say(h, ",");
    say_text(h, name);
    say(h, ":{\"dtype\":");
    say_text(h, dtype);
    say(h, ",\"shape\":[");
    char *size = strtok(sizes, ",");
    for (int i = 0; size && i < DIMENSIONS; i++, size = strtok(NULL, ",")) {
        uint64_t n = strtoull(size, NULL, 10);
        say(h, "%s%" PRIu64, i ? "," : "", n);
        bytes *= n;
    }
    say(h, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", h->end, h->end + bytes);
    h->end += bytes;
}

/* The lines up to an empty one, in two passes: tensors or metadata. Returns where the data begin. */
static size_t say_lines(header *h, const uint8_t *data, size_t size, bool metadata)
{
    size_t at = 0;
    bool first = true;
    while (at < size && !h->full) {
        char line[LINE] = "";
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        memcpy(line, data + at, length < LINE ? length : LINE - 1);
        at += length + (end ? 1 : 0);
        if (!length) break;
        char *word[3] = {line, strchr(line, ' '), NULL};
        for (int i = 1; i < 3 && word[i]; i++) {
            *word[i]++ = 0;
            if (i < 2) word[2] = *line == '@' ? NULL : strchr(word[1], ' ');
        }
        if (metadata && *line == '@' && word[1]) {
            if (!first) say(h, ",");
            say_text(h, line + 1);
            say(h, ":");
            say_text(h, word[1]);
            first = false;
        } else if (!metadata && *line != '@' && word[1]) {
            char none[1] = "";
            say_tensor(h, line, word[1], word[2] ? word[2] : none);
        }
    }
    return at;
}

const uint8_t *fuzz_tensors(const uint8_t *data, size_t *size)
{
    static header h;
    if (*size > 8 && data[8] == '{') return data;
    h.used = h.end = 0;
    h.full = false;
    say(&h, "{\"__metadata__\":{");
    say_lines(&h, data, *size, true);
    say(&h, "}");
    size_t begin = say_lines(&h, data, *size, false), left = *size - begin;
    h.text[h.used++] = '}';
    uint64_t length = h.used, bytes = h.end < FUZZ_TENSORS ? h.end : FUZZ_TENSORS;
    memcpy(file, &length, 8);
    memcpy(file + 8, h.text, h.used);
    for (uint64_t i = 0; i < bytes; i++)
        file[8 + length + i] = left ? data[begin + i % left] : 0;
    *size = 8 + length + bytes;
    return file;
}
