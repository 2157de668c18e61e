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

void options_help(const command *c, const option *flags, size_t count)
{
    printf("Usage: splam %s %s\n\n%s\n\nOptions:\n", c->verb, c->synopsis, c->description);
    for (size_t i = 0; i < count; i++)
        print_option(&flags[i]);
    print_option(&(option){.name = "help", .letter = 'h', .help = "print this"});
    printf("\nExamples:\n");
    for (const char *const *example = c->examples; *example; example++)
        printf("  %s\n", *example);
}
