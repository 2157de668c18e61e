/* JSON that is sent whole or not at all. Where memory ends Jansson makes no value, and leaves one that was not made out
 * of its list; so its allocations are watched, thread by thread, and a text is made only where none has failed. */
#ifndef SERVER_JSON_H
#define SERVER_JSON_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From now on. Again: nothing happens. */
void sv_json_watch(void);
/* What failed in this thread until now is forgotten: a value is begun. */
void sv_json_begin(void);
/* Whether something has failed in this thread since. */
bool sv_json_failed(void);
/* The value, which is freed, as a text on one line (free); NULL: there is none, or a part of it could not be made. */
char *sv_json_text(json_t *value);
/* Whether JSON can carry it: it is UTF-8. */
bool sv_json_can_carry(const char *text);
/* Bytes in base64, as a value; NULL: out of memory. */
json_t *sv_json_base64(const uint8_t *bytes, size_t size);

#endif
