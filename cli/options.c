/* Flags read as they are declared, with their messages and --help. */
#include "options.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "named_files.h"
#include "option_values.h"
#include "sandbox.h"
#include "verbs.h"

enum { FLAGS_MAX = 80, OPERANDS_MAX = 2 };

/* All flags of a verb, and what its words without a flag are. */
typedef struct {
    option flag[FLAGS_MAX];
    size_t count;
    char name[FLAGS_MAX][48]; /* of those that the library declares */
    const splam_option *declared[FLAGS_MAX];
    const splam_option *operand[OPERANDS_MAX]; /* of the library's; none: c->operand */
    size_t operand_count, operands_max;
} flag_list;

typedef struct {
    const command *c;
    flag_list *flags;
    int argc, next; /* the word to read next */
    char **argv;
    bool given[FLAGS_MAX];
    const char *operand[OPERANDS_MAX];
    size_t operand_count;
} parser;

/* The verb that was parsed, for the messages that follow. */
static flag_list parsed;

/* ---- the library's options as flags ---- */

/* Lists that are given; a verb has few, and a process runs one verb. */
static option_texts texts[2];
static option_integers integers[2];
static splam_lora loras[OPTION_LIST_MAX];
static splam_embedding embeddings[OPTION_LIST_MAX];
static size_t texts_used, integers_used;

/* "gamma-power" of "gamma_power", "min-size" of "pictures.min_size". */
static void name_flag(const splam_option *o, char name[48])
{
    const char *dot = strrchr(o->name, '.');
    snprintf(name, 48, "%s", o->flag ? o->flag : dot ? dot + 1 : o->name);
    for (char *c = name; *c; c++)
        if (*c == '_') *c = '-';
}

static const option_kind kinds[] = {
    [SPLAM_OPTION_FLAG] = OPTION_FLAG,         [SPLAM_OPTION_TEXT] = OPTION_TEXT,
    [SPLAM_OPTION_CHOICE] = OPTION_CHOICE,     [SPLAM_OPTION_ENUM] = OPTION_ENUM,
    [SPLAM_OPTION_INTEGER] = OPTION_INTEGER,   [SPLAM_OPTION_SEED] = OPTION_SEED,
    [SPLAM_OPTION_SPAN] = OPTION_SPAN,
    [SPLAM_OPTION_NUMBER] = OPTION_NUMBER,     [SPLAM_OPTION_BYTES] = OPTION_BYTES,
    [SPLAM_OPTION_TEXTS] = OPTION_TEXTS,       [SPLAM_OPTION_INTEGERS] = OPTION_INTEGERS,
    [SPLAM_OPTION_LORAS] = OPTION_TEXTS,
    [SPLAM_OPTION_EMBEDDINGS] = OPTION_TEXTS,
};

/* Where the values of a list go until it is complete. */
static void *list_of(const splam_option *o)
{
    return o->kind == SPLAM_OPTION_INTEGERS ? (void *)&integers[integers_used++] : &texts[texts_used++];
}

static void add_declared(flag_list *f, const splam_option *o, char *target)
{
    bool list = kinds[o->kind] == OPTION_TEXTS || kinds[o->kind] == OPTION_INTEGERS;
    size_t i = f->count++;
    name_flag(o, f->name[i]);
    f->declared[i] = o;
    f->flag[i] = (option){
        .name = f->name[i],
        .letter = o->letter,
        .kind = kinds[o->kind],
        .value = list ? list_of(o) : target + o->offset,
        .random = o->kind == SPLAM_OPTION_SEED && o->beside ? (bool *)(target + o->beside) : NULL,
        .beside = o->kind == SPLAM_OPTION_SPAN ? (int64_t *)(void *)(target + o->beside) : NULL,
        .argument = o->argument,
        .help = o->help,
        .fallback = o->otherwise,
        .required = o->required,
        .low = o->low,
        .high = o->high,
        .choices = o->choices,
        .heading = o->heading,
    };
}

/* The default as help shows it, in new text: "8e-6", without the zero that printf puts there. */
static const char *show_default(const splam_option *o)
{
    char text[32];
    bool number = o->kind == SPLAM_OPTION_INTEGER || o->kind == SPLAM_OPTION_NUMBER || o->kind == SPLAM_OPTION_SEED;
    if (o->otherwise || o->required) return o->otherwise;
    if (o->kind == SPLAM_OPTION_TEXT || o->kind == SPLAM_OPTION_CHOICE) return o->preset_text;
    if (!number || o->preset == (double)SPLAM_UNSET) return NULL;
    snprintf(text, sizeof text, "%.12g", o->preset);
    char *zero = strstr(text, "e-0");
    if (zero) memmove(zero + 2, zero + 3, strlen(zero + 2));
    return strdup(text);
}

static const char computing[] = "Computing"; /* as the library's tables have it */
static int64_t threads;
static const option threads_flag = {
    .name = "threads",
    .letter = 't',
    .kind = OPTION_INTEGER,
    .value = &threads,
    .argument = "N",
    .low = 1,
    .high = 1024,
    .help = "threads to compute with",
    .fallback = "one per core",
    .heading = computing,
};

static void add_own(const command *c, flag_list *f)
{
    for (size_t i = 0; i < c->option_count; i++)
        f->flag[f->count++] = c->options[i];
    if (c->computes) f->flag[f->count++] = threads_flag;
}

static bool sandboxed;
static const option sandbox_flag = {
    .name = "sandbox",
    .kind = OPTION_FLAG,
    .value = &sandboxed,
    .help = "for files of strangers: no network, no other program, no file but those that are named and the output",
    .heading = computing,
};

/* What has no heading stands under the one before; a verb whose first flag has none has no headings. */
static void spread_headings(flag_list *f)
{
    bool any = f->count && f->flag[0].heading;
    for (size_t i = 0; i < f->count; i++)
        if (!any)
            f->flag[i].heading = NULL;
        else if (!f->flag[i].heading)
            f->flag[i].heading = f->flag[i - 1].heading;
}

/* A verb's own flags stand behind the library's, but before those that are another's. */
static void list_flags(const command *c, flag_list *f)
{
    *f = (flag_list){.operands_max = c->operand ? 1 : 0};
    const splam_option *o;
    const char *table = c->table ? c->table : c->verb, *heading = NULL; /* of an operand, for what follows */
    if (c->table) add_own(c, f);
    for (size_t i = 0; c->target && (o = splam_option_at(table, i)); i++) {
        if (o->operand) {
            f->operand[f->operand_count++] = o;
            f->operands_max = f->operand_count;
            if (o->heading) heading = o->heading;
            continue;
        }
        add_declared(f, o, c->target);
        option *flag = &f->flag[f->count - 1];
        flag->needs = c->table_needs;
        flag->fallback = show_default(o);
        if (!flag->heading) flag->heading = heading;
        heading = NULL;
    }
    if (!c->table) add_own(c, f);
    if (!c->unconfined) f->flag[f->count++] = sandbox_flag;
    spread_headings(f);
}

/* The colon behind a file's name; NULL if the text is that name alone. A name may have colons, too: a file of the whole
 * name is meant where there is none of the part before a colon. *part: the part is one. */
static char *name_colon(char *text, bool *part)
{
    char *colon = strrchr(text, ':');
    *part = false;
    if (!colon || strchr(colon, '/')) return NULL; /* a folder's name may have one */
    *colon = 0;
    *part = access(text, F_OK) == 0;
    *colon = ':';
    return *part || access(text, F_OK) != 0 ? colon : NULL;
}

/* The one before a weight. */
static char *weight_colon(char *text)
{
    bool part;
    char *colon = name_colon(text, &part), *stop;
    bool number = colon && (strtod(colon + 1, &stop), stop != colon + 1 && !*stop);
    return part || number ? colon : NULL;
}

/* "FILE" or "FILE:TOKEN" each. Kept for the process. */
static int read_embeddings(const option_texts *texts, splam_embedding *out)
{
    for (size_t i = 0; i < texts->count; i++) {
        bool part;
        char *path = strdup(texts->item[i]), *colon = path ? name_colon(path, &part) : NULL;
        if (!path) return cli_fail(CLI_FAILURE, "out of memory");
        if (colon) *colon = 0;
        out[i] = (splam_embedding){path, colon ? colon + 1 : NULL};
    }
    return CLI_OK;
}

/* "FILE" or "FILE:WEIGHT" each, a weight of 1 where none is said. Kept for the process. CLI_OK or an exit code after a
 * message. */
static int read_loras(const option_texts *texts, splam_lora *out)
{
    for (size_t i = 0; i < texts->count; i++) {
        char *path = strdup(texts->item[i]), *colon = path ? weight_colon(path) : NULL, *stop;
        out[i] = (splam_lora){path, 1};
        if (!path) return cli_fail(CLI_FAILURE, "out of memory");
        if (!colon) continue;
        out[i].weight = strtod(colon + 1, &stop);
        if (stop == colon + 1 || *stop || !isfinite(out[i].weight))
            return cli_fail(CLI_USAGE, "\"%s\" is no LoRA: FILE or FILE:WEIGHT is expected",
                            texts->item[i]);
        *colon = 0;
    }
    return CLI_OK;
}

/* Puts what the lists hold into the verb's struct. */
static int finish_lists(const flag_list *f, char *target)
{
    for (size_t i = 0; i < f->count; i++) {
        const splam_option *o = f->declared[i];
        const option_texts *text = f->flag[i].value;
        const option_integers *numbers = f->flag[i].value;
        if (!o || (kinds[o->kind] != OPTION_TEXTS && kinds[o->kind] != OPTION_INTEGERS)) continue;
        bool integer = o->kind == SPLAM_OPTION_INTEGERS, lora = o->kind == SPLAM_OPTION_LORAS,
             embedding = o->kind == SPLAM_OPTION_EMBEDDINGS;
        if (lora && read_loras(text, loras) != CLI_OK) return CLI_USAGE;
        if (embedding && read_embeddings(text, embeddings) != CLI_OK) return CLI_USAGE;
        *(const void **)(target + o->offset) = lora        ? (const void *)loras
                                               : embedding ? (const void *)embeddings
                                               : integer   ? (const void *)numbers->item
                                                           : text->item;
        *(size_t *)(target + o->beside) = integer ? numbers->count : text->count;
    }
    return CLI_OK;
}

/* ---- words ---- */

static bool looks_like_flag(const char *word)
{
    return word[0] == '-' && word[1] && !isdigit((unsigned char)word[1]) && word[1] != '.';
}

static bool takes_text(const option *o)
{
    return o->kind == OPTION_TEXT || o->kind == OPTION_TEXTS;
}

/* The word after a flag, or NULL after a message. */
static const char *following_word(parser *p, const option *o)
{
    bool here = p->next < p->argc, text = takes_text(o);
    if (here && text && strcmp(p->argv[p->next], "--") == 0 && p->next + 1 < p->argc) {
        p->next += 2;
        return p->argv[p->next - 1];
    }
    if (here && !(text && p->argv[p->next][0] == '-' && p->argv[p->next][1]) &&
        !looks_like_flag(p->argv[p->next]))
        return p->argv[p->next++];
    if (here && text)
        cli_fail(CLI_USAGE,
                 "--%s needs a value, and \"%s\" is next; a text that begins with - follows --",
                 o->name, p->argv[p->next]);
    else
        cli_fail(CLI_USAGE, "--%s needs a value", o->name);
    return NULL;
}

/* attached: the value that came in the same word, or NULL. */
static int read_option(parser *p, const option *o, const char *attached)
{
    p->given[o - p->flags->flag] = true;
    if (o->kind == OPTION_FLAG) {
        if (attached) return cli_fail(CLI_USAGE, "--%s takes no value", o->name);
        *(bool *)o->value = true;
        return CLI_OK;
    }
    const char *value = attached ? attached : following_word(p, o);
    if (!value) return CLI_USAGE;
    int code = option_read(o, value);
    while (code == CLI_OK && o->kind == OPTION_TEXTS && !attached && p->next < p->argc &&
           p->argv[p->next][0] != '-')
        code = option_read(o, p->argv[p->next++]);
    return code;
}

static int unknown(const parser *p, const char *word, size_t length)
{
    const char *names[FLAGS_MAX + 1];
    size_t count = 0;
    for (size_t i = 0; i < p->flags->count && count < FLAGS_MAX; i++)
        names[count++] = p->flags->flag[i].name;
    names[count++] = "help";
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(length < 63 ? length : 63), word);
    const char *near = options_nearest(name, names, count);
    if (near)
        return cli_fail(CLI_USAGE, "%s has no flag --%.*s; did you mean --%s?", p->c->verb,
                        (int)length, word, near);
    return cli_fail(CLI_USAGE, "%s has no flag --%.*s; see splam %s --help", p->c->verb,
                    (int)length, word, p->c->verb);
}

static int read_long(parser *p, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word) : strlen(word);
    if (length == 4 && memcmp(word, "help", 4) == 0)
        return cli_fail(CLI_USAGE, "--help stands alone, or is --help=man or --help=flags");
    for (size_t i = 0; i < p->flags->count; i++) {
        const option *o = &p->flags->flag[i];
        if (strlen(o->name) == length && memcmp(o->name, word, length) == 0)
            return read_option(p, o, equals ? equals + 1 : NULL);
    }
    return unknown(p, word, length);
}

static int read_short(parser *p, const char *word)
{
    for (size_t i = 0; i < p->flags->count; i++)
        if (p->flags->flag[i].letter == word[0])
            return read_option(p, &p->flags->flag[i], word[1] ? word + 1 : NULL);
    return cli_fail(CLI_USAGE, "%s has no flag -%s; see splam %s --help", p->c->verb, word,
                    p->c->verb);
}

static int add_operand(parser *p, const char *word)
{
    if (p->operand_count == p->flags->operands_max)
        return cli_fail(CLI_USAGE, "\"%s\" is one word too many; see splam %s --help", word,
                        p->c->verb);
    p->operand[p->operand_count++] = word;
    return CLI_OK;
}

static int read_words(parser *p)
{
    while (p->next < p->argc) {
        const char *word = p->argv[p->next++];
        int code = CLI_OK;
        if (strcmp(word, "--") == 0) {
            while (code == CLI_OK && p->next < p->argc)
                code = add_operand(p, p->argv[p->next++]);
        } else if (word[0] == '-' && word[1] == '-') {
            code = read_long(p, word + 2);
        } else if (looks_like_flag(word)) {
            code = read_short(p, word + 1);
        } else {
            code = add_operand(p, word);
        }
        if (code) return code;
    }
    return CLI_OK;
}

static bool is_given(const parser *p, const char *name)
{
    for (size_t i = 0; i < p->flags->count; i++)
        if (p->given[i] && strcmp(p->flags->flag[i].name, name) == 0) return true;
    return false;
}

static int check_needs(const parser *p)
{
    for (size_t i = 0; i < p->flags->count; i++) {
        const option *o = &p->flags->flag[i];
        if (p->given[i] && o->needs && !is_given(p, o->needs))
            return cli_fail(CLI_USAGE, "--%s has no effect without --%s", o->name, o->needs);
    }
    return CLI_OK;
}

static int check_complete(const parser *p)
{
    bool suffices = false;
    for (size_t i = 0; i < p->flags->count; i++)
        suffices |= p->flags->flag[i].suffices && p->given[i];
    for (size_t i = 0; i < p->flags->count; i++)
        if (p->flags->flag[i].required && !p->given[i] && !suffices)
            return cli_fail(CLI_USAGE, "%s needs --%s; see splam %s --help", p->c->verb,
                            p->flags->flag[i].name, p->c->verb);
    if (p->flags->operands_max && !p->operand_count)
        return cli_fail(CLI_USAGE, "%s needs %s; see splam %s --help", p->c->verb,
                        p->flags->operand_count ? p->flags->operand[0]->help : p->c->operand, p->c->verb);
    return CLI_OK;
}

/* Prints what was asked for instead of running; false: nothing was. */
static bool print_help(const command *c, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            options_help(c, parsed.flag, parsed.count);
        else if (strcmp(argv[i], "--help=man") == 0)
            options_manual(c, parsed.flag, parsed.count);
        else if (strcmp(argv[i], "--help=flags") == 0)
            options_list_flags(parsed.flag, parsed.count);
        else
            continue;
        return true;
    }
    return false;
}

/* ---- the sandbox ---- */

static options_result enter_sandbox(const parser *p)
{
    named_files files = {0};
    for (size_t i = 0; i < p->flags->count; i++) {
        const option *o = &p->flags->flag[i];
        if (o->outside && p->given[i]) {
            cli_fail(CLI_USAGE, "--sandbox leaves no network, which --%s needs", o->name);
            return OPTIONS_WRONG;
        }
        named_files_add_flag(&files, o);
    }
    for (size_t i = 0; i < p->operand_count; i++) {
        const splam_option *o = p->flags->operand[i];
        if (!o || strcmp(o->argument, "TEXT") != 0) named_files_add_word(&files, p->operand[i]);
    }
    if (getenv("OMPI_COMM_WORLD_SIZE")) {
        cli_fail(CLI_USAGE, "--sandbox leaves no network, which processes of mpirun need");
        return OPTIONS_WRONG;
    }
    int code = sandbox_enter(files.read, files.read_count, files.written, files.written_count);
    return code == CLI_OK ? OPTIONS_RUN : OPTIONS_FAILED;
}

options_result options_parse(const command *c, int argc, char **argv, const char **operand)
{
    list_flags(c, &parsed);
    if (print_help(c, argc, argv)) return OPTIONS_HELPED;
    parser p = {.c = c, .flags = &parsed, .argc = argc, .next = 1, .argv = argv};
    int code = read_words(&p);
    if (!code) code = check_complete(&p);
    if (!code) code = check_needs(&p);
    if (!code) code = finish_lists(&parsed, c->target);
    if (operand) *operand = p.operand[0];
    for (size_t i = 0; i < parsed.operand_count; i++)
        *(const char **)((char *)c->target + parsed.operand[i]->offset) = p.operand[i];
    if (code) return OPTIONS_WRONG;
    splam_set_threads((int)threads);
    return sandboxed ? enter_sandbox(&p) : OPTIONS_RUN;
}

int64_t options_threads(void)
{
    return threads;
}

/* The flag of a member, or of the last part of its name, or of its own name with _ for -; NULL: there is none. */
static const char *flag_of(const char *member, size_t length)
{
    for (size_t i = 0; i < parsed.count; i++) {
        const char *name = parsed.declared[i] ? parsed.declared[i]->name : "", *dot = strrchr(name, '.');
        const char *flag = parsed.flag[i].name;
        size_t same = 0;
        while (same < length && (flag[same] == member[same] || (flag[same] == '-' && member[same] == '_')))
            same++;
        if ((strlen(name) == length && memcmp(name, member, length) == 0) ||
            (dot && strlen(dot + 1) == length && memcmp(dot + 1, member, length) == 0) ||
            (same == length && !flag[length]))
            return flag;
    }
    return NULL;
}

void options_translate(const char *message, char *out, size_t size)
{
    size_t used = 0;
    while (*message && used + 64 < size) {
        const char *end = *message == '`' ? strchr(message + 1, '`') : NULL;
        const char *flag = end ? flag_of(message + 1, (size_t)(end - message - 1)) : NULL;
        if (flag) {
            used += (size_t)snprintf(out + used, size - used, "--%s", flag);
            message = end + 1;
        } else {
            out[used++] = *message++;
        }
    }
    out[used] = 0;
}

options_result options_check_crop(const splam_picture_options *pictures, bool center)
{
    if (!center || !pictures->random_crop) return OPTIONS_RUN;
    cli_fail(CLI_USAGE, "--center-crop and --random-crop are two ways to cut; give one");
    return OPTIONS_WRONG;
}

int options_exit_code(options_result result)
{
    return result == OPTIONS_WRONG ? CLI_USAGE : result == OPTIONS_FAILED ? CLI_FAILURE : CLI_OK;
}
