/* Allocation, arenas and the dictionary. */
#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/system.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

static _Thread_local long allocations_left = -1;
static _Thread_local long live_blocks;
static _Thread_local unsigned long failures;

void sp_alloc_fail_after(long count)
{
    allocations_left = count;
}

long sp_alloc_live(void)
{
    return live_blocks;
}

unsigned long sp_alloc_failures(void)
{
    return failures;
}

#define LARGE ((size_t)1 << 20)

/* alignment 0: as malloc aligns. */
static void *allocate(size_t size, size_t alignment)
{
    void *pointer = NULL;
    int refused = allocations_left == 0 || size > PTRDIFF_MAX - SP_ALIGNMENT;
    if (allocations_left > 0) allocations_left--;
    if (size == 0) size = 1;
    if (!refused && alignment == 0) pointer = malloc(size);
    if (!refused && alignment != 0)
        pointer = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (pointer && size >= LARGE && !sp_has_memory(SP_RESERVE_BYTES)) {
        free(pointer);
        pointer = NULL;
    }
    if (pointer) {
        live_blocks++;
    } else {
        failures++;
        sp_fail(SP_MEMORY, "out of memory: %zu bytes could not be allocated", size);
    }
    return pointer;
}

void *sp_alloc(size_t size)
{
    return allocate(size, SP_ALIGNMENT);
}

void *sp_alloc_plain(size_t size)
{
    return allocate(size, 0);
}

void *sp_alloc_zero(size_t size)
{
    void *pointer = sp_alloc(size);
    if (pointer) memset(pointer, 0, size);
    return pointer;
}

void *sp_realloc(void *pointer, size_t old_size, size_t new_size)
{
    void *grown = sp_alloc(new_size);
    if (!grown) return NULL;
    size_t kept = old_size < new_size ? old_size : new_size;
    if (pointer && kept) memcpy(grown, pointer, kept);
    sp_free(pointer);
    return grown;
}

void sp_free(void *pointer)
{
    live_blocks -= pointer != NULL;
    free(pointer);
}

static char *copy_text(char *copy, const char *text, size_t length)
{
    if (!copy) return NULL;
    if (length) memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *sp_strndup(const char *text, size_t length)
{
    return copy_text(sp_alloc(length + 1), text, length);
}

char *sp_strdup(const char *text)
{
    return sp_strndup(text, strlen(text));
}

/* Prints into memory of `allocate`; the arguments are walked twice, once for the length. */
static char *format_with(void *(*allocate)(void *context, size_t size), void *context,
                         const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) {
        sp_fail(SP_INTERNAL, "a message could not be formatted");
        return NULL;
    }
    char *text = allocate(context, (size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, arguments);
    return text;
}

static void *allocate_plain(void *context, size_t size)
{
    (void)context;
    return sp_alloc(size);
}

char *sp_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = format_with(allocate_plain, NULL, format, arguments);
    va_end(arguments);
    return text;
}

/* A chunk's bytes follow its header. */
typedef struct chunk {
    struct chunk *next;
    size_t used, capacity;
} chunk;

#define CHUNK_HEADER 64 /* keeps the bytes aligned as sp_alloc made them */
#define FIRST_CHUNK ((size_t)4096)
#define LARGEST_CHUNK ((size_t)1 << 20)
#define RED_ZONE ((size_t)16) /* between neighbours; poisoned under AddressSanitizer */

struct sp_arena {
    chunk *chunks; /* newest first */
};

sp_arena *sp_arena_create(void)
{
    return sp_alloc_zero(sizeof(sp_arena));
}

void sp_arena_destroy(sp_arena *arena)
{
    if (!arena) return;
    for (chunk *c = arena->chunks; c;) {
        chunk *next = c->next;
        ASAN_UNPOISON_MEMORY_REGION((char *)c + CHUNK_HEADER, c->capacity);
        sp_free(c);
        c = next;
    }
    sp_free(arena);
}

static chunk *new_chunk(sp_arena *arena, size_t least)
{
    size_t capacity = arena->chunks ? arena->chunks->capacity * 2 : FIRST_CHUNK;
    if (capacity > LARGEST_CHUNK) capacity = LARGEST_CHUNK;
    if (capacity < least) capacity = least;
    chunk *c = sp_alloc(CHUNK_HEADER + capacity);
    if (!c) return NULL;
    *c = (chunk){.next = arena->chunks, .capacity = capacity};
    ASAN_POISON_MEMORY_REGION((char *)c + CHUNK_HEADER, capacity);
    arena->chunks = c;
    return c;
}

void *sp_arena_alloc(sp_arena *arena, size_t size)
{
    if (size > PTRDIFF_MAX / 2) {
        sp_fail(SP_MEMORY, "out of memory: %zu bytes could not be allocated", size);
        return NULL;
    }
    size_t taken = (size + 15) / 16 * 16 + RED_ZONE;
    chunk *c = arena->chunks;
    if (!c || c->capacity - c->used < taken) c = new_chunk(arena, taken);
    if (!c) return NULL;
    char *pointer = (char *)c + CHUNK_HEADER + c->used;
    c->used += taken;
    ASAN_UNPOISON_MEMORY_REGION(pointer, size);
    return memset(pointer, 0, size);
}

char *sp_arena_strdup(sp_arena *arena, const char *text)
{
    return sp_arena_strndup(arena, text, strlen(text));
}

char *sp_arena_strndup(sp_arena *arena, const char *text, size_t length)
{
    return copy_text(sp_arena_alloc(arena, length + 1), text, length);
}

static void *allocate_in_arena(void *context, size_t size)
{
    return sp_arena_alloc(context, size);
}

char *sp_arena_format(sp_arena *arena, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = format_with(allocate_in_arena, arena, format, arguments);
    va_end(arguments);
    return text;
}
