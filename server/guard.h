/* Who may speak with the server: addresses, names, origins, keys. */
#ifndef SERVER_GUARD_H
#define SERVER_GUARD_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

typedef struct {
    struct sockaddr_storage storage;
    socklen_t length;
} sv_address;
/* "127.0.0.1:7860" or "[::1]:7860", numbers alone. */
bool sv_address_read(const char *text, sv_address *out);
void sv_address_write(const sv_address *address, char *out, size_t size);
/* Whether only this machine reaches it. */
bool sv_address_is_loopback(const sv_address *address);

/* A number of an address, of IPv6 of its first half, which one client has all of; 0 of any other. */
uint64_t sv_address_number(const struct sockaddr *address);
/* A number of the user at the other end of a socket of Unix; 0: it is not known. */
uint64_t sv_user_number(int socket);

/* Whether a Host header names this server: localhost, an address in numbers, or one of `names`, in letters of either
 * case, with any port. A site whose name was led to this machine (DNS rebinding) comes with its own name. */
bool sv_host_is_ours(const char *host, const char *const *names, size_t count);
/* Whether an Origin header is the page's that this server itself gave: scheme://HOST. */
bool sv_origin_is_ours(const char *origin, const char *host);

/* Keys that clients may have, each with a number that tells its clients from others. */
typedef struct {
    uint64_t number; /* from 1 */
    char *text;
} sv_key;
typedef struct {
    size_t count;
    uint64_t last; /* the largest number that was given so far */
    sv_key *key;
} sv_keys;
enum { SV_KEY_BYTES = 512, SV_KEYS = 256 };
/* One key a line, 16 to SV_KEY_BYTES characters that may stand in a header; blank lines and those that begin with # are
 * left out. before: what was read of the file earlier, whose keys keep their numbers; NULL: nothing was. False after a
 * sentence in `error`. sv_keys_free in every case. */
bool sv_keys_read(const char *path, const sv_keys *before, sv_keys *out, char *error, size_t size);
void sv_keys_free(sv_keys *keys);
/* The number of the key that the text is; 0: it is none. The time it takes depends on the text's length and the file
 * alone. */
uint64_t sv_keys_find(const sv_keys *keys, const char *text);

#endif
