/* The pages for people: page.html and watch.html, with a nonce of its own in each answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "internal.h"

extern const char sv_page_text[], sv_watch_text[]; /* which make-pages.sh makes of them */

/* Stands in the page wherever the nonce is to stand. */
#define MARK "@NONCE@"
enum { NONCE_BYTES = 16, NONCE = 2 * NONCE_BYTES };

static bool make_nonce(char out[NONCE + 1])
{
    uint8_t bytes[NONCE_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return false;
    for (int i = 0; i < NONCE_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

/* The page with every mark replaced; NULL: out of memory. */
static char *page_with(const char *page, const char *nonce)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    const char *at = page;
    for (const char *mark; (mark = strstr(at, MARK)); at = mark + strlen(MARK)) {
        fwrite(at, 1, (size_t)(mark - at), out);
        fputs(nonce, out);
    }
    fputs(at, out);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

/* Nothing runs, is loaded or is asked of another host but what the page itself has; nothing shows it in a frame. */
static void reply_page(sv_exchange *x, const char *page)
{
    char nonce[NONCE + 1], policy[512];
    if (!make_nonce(nonce)) {
        sv_reply_error(x, 503, NULL, "no random numbers");
        return;
    }
    snprintf(policy, sizeof policy,
             "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; img-src data: blob:; connect-src 'self' "
             "data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
             nonce, nonce);
    sv_reply_text(x, 200, "text/html; charset=utf-8", page_with(page, nonce));
    sv_reply_header(x, "Content-Security-Policy", policy);
    sv_reply_header(x, "Referrer-Policy", "no-referrer");
}

/* Where nothing can be drawn, the page is that of what is watched. */
void sv_answer_page(sv_exchange *x)
{
    reply_page(x, x->server->settings.model_count ? sv_page_text : sv_watch_text);
}

void sv_answer_watch_page(sv_exchange *x)
{
    reply_page(x, sv_watch_text);
}
