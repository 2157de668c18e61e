/* Routes of distillations that are watched. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "internal.h"

/* A number up to `end`; false: it is none. */
static bool read_number(const char *text, char end, int64_t *out, const char **rest)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 15 || (digits > 1 && *text == '0') || text[digits] != end) return false;
    *out = strtoll(text, NULL, 10);
    *rest = text + digits + (end != 0);
    return true;
}

static void reply_unknown(sv_exchange *x, const char *what)
{
    if (!x->server->runs)
        sv_reply_error(x, 404, NULL, "this server watches no distillation (--watch)");
    else
        sv_reply_error(x, 404, NULL, "there is no such %s", what);
}

void sv_answer_runs(sv_exchange *x)
{
    sv_runs *runs = x->server->runs;
    sv_reply_json(x, 200, json_pack("{s:o}", "data", runs ? sv_runs_list(runs) : json_array()));
}

void sv_answer_run(sv_exchange *x)
{
    int64_t i;
    const char *rest;
    sv_runs *runs = x->server->runs;
    if (runs && read_number(x->word, 0, &i, &rest) && (size_t)i < sv_runs_count(runs))
        sv_reply_json(x, 200, sv_runs_at(runs, (size_t)i));
    else
        reply_unknown(x, "run");
}

/* "RUN-STEP" */
void sv_answer_sheet(sv_exchange *x)
{
    int64_t i, step;
    const char *rest;
    size_t size;
    bool read = x->server->runs && read_number(x->word, '-', &i, &rest) && read_number(rest, 0, &step, &rest);
    int fd = read ? sv_runs_open_sheet(x->server->runs, (size_t)i, step, &size) : -1;
    if (fd < 0) {
        reply_unknown(x, "sheet");
        return;
    }
    struct MHD_Response *response = MHD_create_response_from_fd(size, fd);
    if (!response) close(fd);
    sv_reply(x, 200, "image/png", response);
}
