/* The prompts of a request, and what is said of those that are not read as they look. */
#include "pipeline/prompts.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/text_file.h"
#include "base/visible.h"
#include "text/unicode.h"

enum { SHOWN_PROMPT = 60, SHOWN_CUT = 3000 }; /* bytes */

/* ---- reading ---- */

/* Nothing but white space, of any kind that the tokenizer knows. */
static sp_status is_blank(const char *line, bool *blank)
{
    size_t length = strlen(line);
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    if (!points) return SP_MEMORY;
    size_t count = sp_utf8_decode(line, length, points), i = 0;
    while (i < count && sp_classify(points[i]) == SP_CHARACTER_SPACE)
        i++;
    sp_free(points);
    *blank = i == count;
    return SP_OK;
}

static const char *file_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

static sp_status load_prompts(const char *path, sp_prompts *p, size_t *lines)
{
    const char *name = file_name(path);
    size_t length = 0;
    SP_TRY(name != path ? sp_read_text_stream(STDIN_FILENO, name, &p->file, &length)
                        : sp_read_text(path, &p->file, &length));
    SP_TRY(sp_check_utf8(name, p->file, length));
    *lines = 1;
    for (const char *c = p->file; *c; c++)
        *lines += *c == '\n' || *c == '\r';
    return SP_OK;
}

static sp_status add_prompt(sp_prompts *p, const char *text)
{
    SP_TRY(sp_check_utf8("a prompt", text, strlen(text)));
    p->text[p->count++] = text;
    return SP_OK;
}

sp_status sp_prompts_read(const splam_generate_options *o, sp_prompts *p)
{
    size_t lines = 0;
    *p = (sp_prompts){.negative = o->negative};
    if (o->prompts_file) SP_TRY(load_prompts(o->prompts_file, p, &lines));
    p->text = sp_alloc_zero((o->prompt_count + lines + 2) * sizeof *p->text);
    if (!p->text) return SP_MEMORY;
    if (o->negative) SP_TRY(sp_check_utf8("the negative prompt", o->negative, strlen(o->negative)));
    if (o->prompt) SP_TRY(add_prompt(p, o->prompt));
    for (size_t i = 0; i < o->prompt_count; i++)
        SP_TRY(add_prompt(p, o->prompts[i]));
    char *rest = p->file, *line;
    while (rest && (line = strsep(&rest, "\r\n")) != NULL) {
        bool blank;
        SP_TRY(is_blank(line, &blank));
        if (!blank) p->text[p->count++] = line;
    }
    if (p->count) return SP_OK;
    if (o->prompts_file)
        return sp_fail(SP_FORMAT, "%s: there is no prompt in it", file_name(o->prompts_file));
    return sp_fail(SP_ARGUMENT, "a prompt is missing");
}

void sp_prompts_free(sp_prompts *p)
{
    sp_free(p->text);
    sp_free(p->file);
    *p = (sp_prompts){0};
}

/* ---- what does not fit ---- */

/* At most `capacity` - 4 bytes of a text as people may see it, and dots if there was more. */
static void shorten(const char *text, char *out, size_t capacity)
{
    sp_clean_text(text, out, capacity - 3);
    if (strlen(text) >= capacity - 3) strcat(out, "...");
}

static sp_status warn_of_cut(const sp_tokenizer *tokenizer, const char *what, const char *prompt)
{
    char shown[SHOWN_PROMPT + 4], cut[SHOWN_CUT + 4], *left_out = NULL;
    int32_t *ids;
    size_t count, most = sp_tokenizer_max_length(tokenizer) - 2;
    SP_TRY(sp_tokenizer_encode_all(tokenizer, prompt, &ids, &count));
    sp_status status = SP_OK;
    if (count > most) status = sp_tokenizer_decode(tokenizer, ids + most, count - most, &left_out);
    sp_free(ids);
    if (!left_out) return status;
    shorten(prompt, shown, sizeof shown);
    shorten(left_out, cut, sizeof cut);
    sp_log_warn("the %s \"%s\" has %zu tokens and the text encoder takes %zu; what is cut is \"%s\"",
                what, shown, count, most, cut);
    sp_free(left_out);
    return SP_OK;
}

/* ---- what is read as words ---- */

/* "(WORDS:1.3)": the length of one that begins here, or 0. */
static size_t weight_length(const char *text)
{
    if (*text != '(') return 0;
    size_t words = 1 + strcspn(text + 1, "():\r\n");
    if (text[words] != ':') return 0;
    const char *at = text + words + 1;
    at += strspn(at, " ");
    at += *at == '-' || *at == '+';
    size_t digits = strspn(at, ".0123456789");
    const char *end = at + digits;
    end += strspn(end, " ");
    return digits && strpbrk(at, "0123456789") < at + digits && *end == ')'
               ? (size_t)(end + 1 - text)
               : 0;
}

/* "<lora:NAME:1>" and the like. */
static size_t network_length(const char *text)
{
    static const char *const kinds[] = {"<lora:", "<lyco:", "<hypernet:"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (sp_starts_with(text, kinds[i])) {
            size_t length = 1 + strcspn(text + 1, "<>\r\n");
            return text[length] == '>' ? length + 1 : 0;
        }
    return 0;
}

static size_t break_length(const char *text, const char *at)
{
    static const char word[] = "BREAK";
    size_t length = sizeof word - 1;
    bool whole = sp_starts_with(at, word) && !isalnum((unsigned char)at[length]) &&
                 (at == text || !isalnum((unsigned char)at[-1]));
    return whole ? length : 0;
}

/* "[FROM:TO:0.5]", "[TO:10]", "[ONE|OTHER]". */
static size_t editing_length(const char *text)
{
    size_t length = 1 + strcspn(text + (*text == '['), "[]\r\n");
    if (*text != '[' || text[length] != ']') return 0;
    const char *colon = memrchr(text, ':', length), *bar = memchr(text, '|', length);
    size_t digits = colon ? strspn(colon + 1, " .0123456789") : 0;
    return bar || (digits && colon + 1 + digits == text + length) ? length + 1 : 0;
}

enum { WEIGHTS, BREAKS, EDITING, NETWORKS, SYNTAXES };

typedef struct {
    sp_prompt_syntax known;
    const char *at[SYNTAXES]; /* the first of each that is not known, or NULL */
    size_t length[SYNTAXES];
} found_syntax;

/* Nothing is said of editing in plain prompts, which are no A1111's at all. */
static bool is_known(sp_prompt_syntax syntax, int kind)
{
    return kind != NETWORKS && (syntax == SP_PROMPT_WEIGHTED) == (kind != EDITING);
}

static void look_for_syntax(const char *prompt, found_syntax *found)
{
    for (const char *at = prompt; (at = strpbrk(at, "([<B")) != NULL; at++) {
        const size_t lengths[SYNTAXES] = {weight_length(at), break_length(prompt, at), editing_length(at),
                                          network_length(at)};
        for (int i = 0; i < SYNTAXES; i++)
            if (lengths[i] && !found->at[i] && !is_known(found->known, i)) {
                found->at[i] = at;
                found->length[i] = lengths[i];
            }
    }
}

static void hint_at_syntax(const found_syntax *found)
{
    char list[SYNTAXES * SHOWN_PROMPT + 32] = "";
    for (int i = 0; i < SYNTAXES; i++) {
        char one[SHOWN_PROMPT], shown[SHOWN_PROMPT];
        size_t length = found->length[i], used = strlen(list);
        if (!found->at[i]) continue;
        snprintf(one, sizeof one, "%.*s", (int)(length < sizeof one ? length : sizeof one), found->at[i]);
        shorten(one, shown, sizeof shown);
        snprintf(list + used, sizeof list - used, "%s\"%s\"", used ? ", " : "", shown);
    }
    bool weights = found->at[WEIGHTS] || found->at[BREAKS];
    if (*list)
        sp_log_warn("%s in a prompt is read as words%s%s%s", list,
                    weights ? ": weights and BREAK are for `prompt_syntax` weighted" : "",
                    found->at[EDITING] ? ": prompts do not change from step to step here" : "",
                    found->at[NETWORKS] ? ", and LoRA files have an option of their own, `loras`" : "");
}

sp_status sp_prompts_warn(const sp_prompts *p, sp_prompt_syntax syntax, const sp_tokenizer *tokenizer, bool guided)
{
    found_syntax found = {.known = syntax};
    bool cuts = syntax == SP_PROMPT_PLAIN, negative = guided && p->negative;
    for (size_t i = 0; i < p->count; i++) {
        if (cuts) SP_TRY(warn_of_cut(tokenizer, "prompt", p->text[i]));
        look_for_syntax(p->text[i], &found);
    }
    if (negative && cuts) SP_TRY(warn_of_cut(tokenizer, "negative prompt", p->negative));
    if (negative) look_for_syntax(p->negative, &found);
    hint_at_syntax(&found);
    return SP_OK;
}
