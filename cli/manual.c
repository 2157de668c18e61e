/* --help=man, a page for man(1), and --help=flags, a line a flag for the completion of shells: both from what a verb
 * declares. */
#include <stdio.h>
#include <string.h>

#include "options.h"

/* Text of a page: backslashes, hyphens that are meant as such, and what would begin a request. */
static void print_text(const char *text, size_t length, bool begins_line)
{
    for (size_t i = 0; i < length; i++) {
        bool first = begins_line && (i == 0 || text[i - 1] == '\n');
        if (first && (text[i] == '.' || text[i] == '\'')) fputs("\\&", stdout);
        if (text[i] == '\\')
            fputs("\\e", stdout);
        else if (text[i] == '-')
            fputs("\\-", stdout);
        else
            putchar(text[i]);
    }
}

/* Paragraphs are filled; lines that begin with a blank keep their places. */
static void print_description(const char *text)
{
    bool laid_out = false;
    while (*text) {
        size_t length = strcspn(text, "\n");
        if (length == 0 || (text[0] == ' ') != laid_out) {
            if (laid_out) puts(".fi");
            laid_out = length > 0 && text[0] == ' ';
            puts(".PP");
            if (laid_out) puts(".nf");
        }
        if (length) {
            print_text(text, length, true);
            putchar('\n');
        }
        text += length + (text[length] == '\n');
    }
    if (laid_out) puts(".fi");
}

static const char *argument_of(const option *o)
{
    return o->kind == OPTION_CHOICE || o->kind == OPTION_ENUM ? o->choices : o->argument;
}

static void print_flag(const option *o)
{
    const char *argument = argument_of(o);
    puts(".TP");
    fputs(".BR ", stdout);
    if (o->letter) printf("\\-%c \", \" ", o->letter);
    fputs("\\-\\-", stdout);
    print_text(o->name, strlen(o->name), false);
    if (argument) {
        fputs(" \" \\fI", stdout);
        print_text(argument, strlen(argument), false);
        fputs("\\fP\"", stdout);
    }
    putchar('\n');
    print_text(o->help, strlen(o->help), true);
    if (o->required) fputs(" (required)", stdout);
    if (o->fallback) {
        fputs(" [", stdout);
        print_text(o->fallback, strlen(o->fallback), false);
        putchar(']');
    }
    putchar('\n');
}

static void begin_group(const char *heading)
{
    if (heading) printf(".SS %s\n", heading);
}

void options_manual(const command *c, const option *flags, size_t count)
{
    printf(".TH SPLAM\\-%s 1 \"\" \"splam %s\"\n.SH NAME\nsplam\\-%s \\- ", c->verb, splam_version(), c->verb);
    print_text(c->description, strcspn(c->description, ".\n"), false);
    printf("\n.SH SYNOPSIS\n.B splam %s\n", c->verb);
    print_text(c->synopsis, strlen(c->synopsis), true);
    puts("\n.SH DESCRIPTION");
    print_description(c->description);
    puts(".SH OPTIONS");
    options_by_heading(flags, count, begin_group, print_flag);
    if (count && flags[0].heading) puts(".SS Help");
    print_flag(&(option){.name = "help", .letter = 'h', .help = "print this, shorter"});
    puts(".SH EXAMPLES\n.nf");
    for (const char *const *example = c->examples; *example; example++) {
        print_text(*example, strlen(*example), true);
        putchar('\n');
    }
    puts(".fi\n.SH EXIT STATUS\n0; 1 failure; 2 wrong usage; 130 interrupted, after saving.\n"
         ".SH SEE ALSO\n.BR splam (1)");
}

void options_list_flags(const option *flags, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const option *o = &flags[i];
        const char *argument = argument_of(o);
        printf("--%s\t%s%c\t%s\t%s\n", o->name, o->letter ? "-" : "", o->letter ? o->letter : '-',
               argument ? argument : "", o->help);
    }
    puts("--help\t-h\t\tprint what the verb takes");
}
