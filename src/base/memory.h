/* Memory: one allocator, which tests can make fail on demand, and arenas for things that die
 * together. */
#ifndef SP_BASE_MEMORY_H
#define SP_BASE_MEMORY_H
#include <stddef.h>

#define SP_ALIGNMENT 64 /* bytes; a cache line and a 512-bit register */

/* 64-byte aligned; NULL (with SP_MEMORY message set) when out of memory, or when a large block would leave less
 * than SP_RESERVE_BYTES (system.h). size 0 gives a unique pointer. */
void *sp_alloc(size_t size);
void *sp_alloc_zero(size_t size);
void *sp_realloc(void *pointer, size_t old_size,
                 size_t new_size); /* keeps min(old,new) bytes; on failure the old block stays */
void sp_free(void *pointer);       /* sp_free(NULL) is legal */
/* Plainly aligned, for libraries that let their allocator be chosen; sp_free, or free, releases it. */
void *sp_alloc_plain(size_t size);
char *sp_strdup(const char *text);
/* The same of `length` bytes, none of which is a NUL: not "%.*s", whose length is an int. */
char *sp_strndup(const char *text, size_t length);
char *sp_format(const char *format, ...)
    __attribute__((format(printf, 1, 2))); /* a new string; sp_free */

/* How many allocations failed on this thread so far: tells want of memory from bad input where a
 * library does not. */
unsigned long sp_alloc_failures(void);
/* Tests only: the allocation after the next `count` ones fails (count < 0: never). Per thread. */
void sp_alloc_fail_after(long count);
/* Tests only: blocks that this thread allocated less those it freed. */
long sp_alloc_live(void);

/* An arena: allocations live until it is destroyed. Not thread-safe. */
typedef struct sp_arena sp_arena;
sp_arena *sp_arena_create(void);        /* NULL when out of memory */
void sp_arena_destroy(sp_arena *arena); /* NULL is legal */
void *sp_arena_alloc(
    sp_arena *arena,
    size_t size); /* zeroed, 16-byte aligned; NULL when out of memory. Red zones under ASan */
char *sp_arena_strdup(sp_arena *arena, const char *text);
char *sp_arena_strndup(sp_arena *arena, const char *text, size_t length);
char *sp_arena_format(sp_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
