/* --help, from what a verb declares. */
#include <stdio.h>
#include <string.h>

#include "options.h"

enum { HELP_COLUMN = 36, LINE_WIDTH = 98 };

/* Prints words from column HELP_COLUMN on, `at` being the column now. */
static void print_wrapped(const char *text, int at)
{
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (at > HELP_COLUMN && at + 1 + length > LINE_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        } else if (at > HELP_COLUMN) {
            putchar(' ');
            at++;
        }
        printf("%.*s", length, text);
        at += length;
        text += length;
        text += strspn(text, " ");
    }
}

static void print_option(const option *o)
{
    char left[128], right[512];
    char letter[8] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    const char *argument = o->kind == OPTION_CHOICE || o->kind == OPTION_ENUM ? o->choices : o->argument;
    snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, argument ? " " : "",
             argument ? argument : "");
    snprintf(right, sizeof right, "%s%s%s%s%s", o->help, o->required ? " (required)" : "",
             o->fallback ? " [" : "", o->fallback ? o->fallback : "", o->fallback ? "]" : "");
    int at = printf("%s", left);
    if (at > HELP_COLUMN - 2)
        printf("\n%*s", HELP_COLUMN, "");
    else
        printf("%*s", HELP_COLUMN - at, "");
    print_wrapped(right, HELP_COLUMN);
    putchar('\n');
}

void options_by_heading(const option *flags, size_t count, void (*begin)(const char *heading),
                        void (*each)(const option *flag))
{
    for (size_t i = 0; i < count; i++) {
        const char *heading = flags[i].heading;
        size_t first = 0;
        while (flags[first].heading != heading && strcmp(flags[first].heading, heading) != 0)
            first++;
        if (first < i) continue;
        begin(heading);
        for (size_t k = i; k < count; k++)
            if (flags[k].heading == heading || strcmp(flags[k].heading, heading) == 0) each(&flags[k]);
    }
}

static void begin_group(const char *heading)
{
    printf("\n%s:\n", heading ? heading : "Options");
}

void options_help(const command *c, const option *flags, size_t count)
{
    printf("Usage: splam %s %s\n\n%s\n", c->verb, c->synopsis, c->description);
    options_by_heading(flags, count, begin_group, print_option);
    if (count && flags[0].heading) putchar('\n');
    print_option(&(option){.name = "help", .letter = 'h', .help = "print this"});
    printf("\nExamples:\n");
    for (const char *const *example = c->examples; *example; example++)
        printf("  %s\n", *example);
}
