/* Text for people's eyes. What a file, a name or a caption holds may be meant for the terminal: escape
 * sequences that change its title or colours, newlines that forge a line, characters that turn the
 * direction of reading. sp_fail, sp_log_..., the progress bar and sp_string_say put all they print through
 * here, so that no caller can forget. */
#ifndef SP_BASE_VISIBLE_H
#define SP_BASE_VISIBLE_H
#include <stddef.h>

/* Copies `size` bytes to `out`, at most `capacity` - 1 and a NUL, cut between characters; returns the
 * length. Control characters (newlines and tabs too) and bytes that are no UTF-8 become "\x1b", byte by
 * byte; characters that are invisible, break lines or change the direction of reading become "\u202e".
 * Joiners, which captions and names need, stay. */
size_t sp_visible(const char *bytes, size_t size, char *out, size_t capacity);
#define SP_VISIBLE_GROWTH 4 /* most bytes that one becomes */

/* A piece of such text for a message, at most 128 bytes of it and then "...", in one of a few per-thread
 * rotating buffers: bytes need no NUL behind them. */
const char *sp_shown(const char *bytes, size_t size);

/* Copies at most capacity-1 bytes of whole UTF-8 characters; malformed bytes and control characters
 * become '?'. For names out of files, which may hold anything, before people or JSON see them. */
void sp_clean_text(const char *text, char *out, size_t capacity);

#endif
