/* Addresses, names, origins and keys. */
#include "guard.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SV_KEY_LINE = 1001 }; /* room for a line of a file of keys */

/* ---- addresses ---- */

static bool read_port(const char *text, in_port_t *out)
{
    char *end;
    errno = 0;
    unsigned long port = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || port > 65535) return false;
    *out = htons((uint16_t)port);
    return true;
}

bool sv_address_read(const char *text, sv_address *out)
{
    char host[INET6_ADDRSTRLEN + 1];
    bool six = *text == '[';
    const char *end = six ? strchr(text, ']') : strrchr(text, ':');
    const char *begin = text + six, *port = end ? end + six : NULL;
    *out = (sv_address){0};
    if (!end || *port != ':' || (size_t)(end - begin) >= sizeof host) return false;
    snprintf(host, sizeof host, "%.*s", (int)(end - begin), begin);
    if (six) {
        struct sockaddr_in6 *to = (struct sockaddr_in6 *)&out->storage;
        to->sin6_family = AF_INET6;
        out->length = sizeof *to;
        return inet_pton(AF_INET6, host, &to->sin6_addr) == 1 && read_port(port + 1, &to->sin6_port);
    }
    struct sockaddr_in *to = (struct sockaddr_in *)&out->storage;
    to->sin_family = AF_INET;
    out->length = sizeof *to;
    return inet_pton(AF_INET, host, &to->sin_addr) == 1 && read_port(port + 1, &to->sin_port);
}

void sv_address_write(const sv_address *address, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (address->storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *from = (const struct sockaddr_in6 *)&address->storage;
        inet_ntop(AF_INET6, &from->sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%u", host, ntohs(from->sin6_port));
    } else {
        const struct sockaddr_in *from = (const struct sockaddr_in *)&address->storage;
        inet_ntop(AF_INET, &from->sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%u", host, ntohs(from->sin_port));
    }
}

bool sv_address_is_loopback(const sv_address *address)
{
    if (address->storage.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&address->storage)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)&address->storage)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

uint64_t sv_address_number(const struct sockaddr *address)
{
    uint64_t half = 0;
    if (address->sa_family == AF_INET) return ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr;
    if (address->sa_family == AF_INET6)
        memcpy(&half, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, sizeof half);
    return half;
}

uint64_t sv_user_number(int socket)
{
    struct ucred user;
    socklen_t length = sizeof user;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &user, &length) == 0 ? (uint64_t)user.uid + 1 : 0;
}

/* ---- names and origins ---- */

/* The name in "NAME:PORT", "[ADDRESS]:PORT" or either without a port; false: it is none of these. */
static bool split_host(const char *host, char *name, size_t size)
{
    size_t length = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    in_port_t port;
    if (length == 0 || length >= size || length > strlen(host)) return false;
    if (host[length] && (host[length] != ':' || !read_port(host + length + 1, &port))) return false;
    snprintf(name, size, "%.*s", (int)length, host);
    return true;
}

bool sv_host_is_ours(const char *host, const char *const *names, size_t count)
{
    char name[256];
    struct in_addr four;
    struct in6_addr six;
    if (!host || !split_host(host, name, sizeof name)) return false;
    if (*name == '[') {
        name[strlen(name) - 1] = 0;
        return inet_pton(AF_INET6, name + 1, &six) == 1;
    }
    if (strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &four) == 1) return true;
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(name, names[i]) == 0) return true;
    return false;
}

bool sv_origin_is_ours(const char *origin, const char *host)
{
    const char *scheme = strstr(origin, "://");
    return scheme && host && strcasecmp(scheme + 3, host) == 0;
}

/* ---- keys ---- */

/* A key that is there already, or was before, keeps its number. */
static bool add_key(sv_keys *keys, const sv_keys *before, const char *text)
{
    char *copy = strdup(text);
    sv_key *more = realloc(keys->key, (keys->count + 1) * sizeof *more);
    if (more) keys->key = more;
    if (!copy || !more) {
        free(copy);
        return false;
    }
    uint64_t number = sv_keys_find(keys, text);
    if (!number && before) number = sv_keys_find(before, text);
    if (!number) number = ++keys->last;
    keys->key[keys->count++] = (sv_key){number, copy};
    return true;
}

/* What is wrong with a line that is to be a key; NULL: nothing. */
static const char *fault_of(const char *line)
{
    size_t length = strlen(line);
    if (length < 16 || length > SV_KEY_BYTES) return "a key has 16 to 512 characters";
    for (size_t i = 0; i < length; i++)
        if (line[i] <= ' ' || line[i] > '~') return "a key is of visible ASCII characters, without blanks";
    return NULL;
}

/* The next line without its end; false: there is none, or `fault` says what is wrong with it. */
static bool read_line(FILE *file, char line[SV_KEY_LINE], const char **fault)
{
    size_t length = 0;
    int c;
    while ((c = getc(file)) != EOF && c != '\n' && !*fault) {
        if (c == 0 || length + 1 == SV_KEY_LINE) *fault = "it has a zero byte, or more than 1000 characters";
        else line[length++] = (char)c;
    }
    if (length && line[length - 1] == '\r') length--;
    line[length] = 0;
    return !*fault && (c != EOF || length);
}

static bool read_keys(FILE *file, const char *path, const sv_keys *before, sv_keys *out, char *error, size_t size)
{
    char line[SV_KEY_LINE];
    const char *fault = NULL;
    int number = 1;
    for (; read_line(file, line, &fault); number++) {
        if (!*line || *line == '#') continue;
        fault = fault_of(line);
        if (!fault && out->count == SV_KEYS) fault = "256 keys are the most";
        if (!fault && !add_key(out, before, line)) fault = "out of memory";
        if (fault) break;
    }
    explicit_bzero(line, sizeof line);
    if (fault) snprintf(error, size, "%s: line %d: %s", path, number, fault);
    else if (ferror(file)) snprintf(error, size, "%s: cannot be read: %s", path, strerror(errno));
    else if (!out->count) snprintf(error, size, "%s: has no key, one a line is expected", path);
    return !fault && !ferror(file) && out->count;
}

bool sv_keys_read(const char *path, const sv_keys *before, sv_keys *out, char *error, size_t size)
{
    *out = (sv_keys){.last = before ? before->last : 0};
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(error, size, "%s: cannot be opened: %s", path, strerror(errno));
        return false;
    }
    bool read = read_keys(file, path, before, out, error, size);
    fclose(file);
    return read;
}

void sv_keys_free(sv_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        explicit_bzero(keys->key[i].text, strlen(keys->key[i].text));
        free(keys->key[i].text);
    }
    free(keys->key);
    *keys = (sv_keys){0};
}

/* Every byte of the key is looked at, and of a shorter text its NUL instead. */
static unsigned differs(const char *key, const char *text, size_t length)
{
    size_t own = strlen(key);
    unsigned difference = own != length;
    for (size_t i = 0; i < own; i++)
        difference |= (unsigned char)key[i] ^ (unsigned char)text[i < length ? i : length];
    return difference;
}

uint64_t sv_keys_find(const sv_keys *keys, const char *text)
{
    uint64_t found = 0;
    size_t length = strlen(text);
    for (size_t i = 0; i < keys->count; i++)
        found |= keys->key[i].number & -(uint64_t)!differs(keys->key[i].text, text, length);
    return found;
}
