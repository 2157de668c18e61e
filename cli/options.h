/* Flags: a verb's are the options that the library declares (splam/options.h), and some of the command line alone.
 * Parsing, its messages and --help follow from that. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <splam/splam.h>

typedef enum {
    OPTION_FLAG,     /* bool *: true when given */
    OPTION_TEXT,     /* const char ** */
    OPTION_CHOICE,   /* const char **: one of `choices`, "no|bf16" */
    OPTION_INTEGER,  /* int64_t *: low <= value <= high */
    OPTION_SPAN,     /* int64_t *: the same, or "FROM:TO" with *beside for TO */
    OPTION_SEED,     /* uint64_t *: 0 to 2^64 - 1, or -1 where `random` is, which that sets */
    OPTION_NUMBER,   /* double *: low <= value <= high */
    OPTION_BYTES,    /* int64_t *: "3G", "800MB" in powers of ten, "2Gi" in powers of two; >= low */
    OPTION_TEXTS,    /* option_texts *: as many words as follow, and every time it is given */
    OPTION_INTEGERS, /* option_integers *: "1,2,4", each low <= value <= high */
    OPTION_ENUM,     /* int *: the place of one of `choices` */
} option_kind;

enum { OPTION_LIST_MAX = 256 };
typedef struct {
    size_t count;
    const char *item[OPTION_LIST_MAX];
} option_texts;
typedef struct {
    size_t count;
    int64_t item[OPTION_LIST_MAX];
} option_integers;

/* The variable behind `value` holds the default when parsing starts. */
typedef struct {
    const char *name; /* without "--" */
    char letter;      /* 0: none */
    option_kind kind;
    void *value;
    const char *argument; /* what help calls the value: "DIR"; NULL for flags and choices */
    const char *help;     /* one line, lower case, no full stop */
    const char *fallback; /* the default as help shows it; NULL: nothing to show */
    bool required;
    bool suffices; /* where it is given nothing is required */
    const char *needs; /* the flag without which this one has no effect, and is refused; NULL: none */
    bool outside;  /* it needs what --sandbox takes away */
    double low, high; /* both 0: any */
    int64_t *beside; /* OPTION_SPAN: the second number; as it was where there is one */
    bool *random; /* OPTION_SEED: true for -1; NULL: -1 is refused */
    const char *choices;
    const char *heading; /* what help has above it: the first flag's of a verb, then of those that begin another group,
                            or belong to one that is there; NULL: as the one before */
} option;

/* A verb as its help shows it. */
typedef struct {
    const char *verb;
    const char *synopsis;    /* what follows the verb: "-m MODEL TEXT" */
    const char *description; /* a paragraph, wrapped by hand */
    const char *table;     /* whose options of the library it takes: "model"; NULL: the verb's own */
    const char *table_needs; /* the flag without which those of the table have no effect; NULL: none */
    void *target;          /* the verb's struct of options with its defaults; NULL: it takes none of the library's */
    const option *options; /* flags of the command line alone, behind the others in its help */
    size_t option_count;
    bool computes;       /* it takes --threads, which options_parse heeds */
    bool unconfined;     /* there is no --sandbox: it needs the network, or files that nobody names */
    const char *operand; /* what a word without a flag is, where it is no option of the library; NULL: none is taken */
    const char *const *examples; /* each "command\n# or a second line"; NULL ends the list */
} command;

typedef enum { OPTIONS_RUN, OPTIONS_HELPED, OPTIONS_WRONG, OPTIONS_FAILED } options_result;

/* --sandbox, a flag of every verb that is not unconfined, is entered here, with what the flags name (sandbox.h):
 * OPTIONS_FAILED after a sentence where that cannot be.
 *
 * Reads argv[1..]: `--name value`, `--name=value`, `-x value`, `-xvalue`; after "--" every word is an operand, and a
 * text value that begins with "-" follows `--name --`. OPTIONS_HELPED after printing --help, OPTIONS_WRONG after one
 * sentence on stderr. Lists are kept for the process. operand: receives the word of c->operand; else NULL. */
options_result options_parse(const command *c, int argc, char **argv, const char **operand);

/* What --threads said to the verb that was parsed; 0: nothing. */
int64_t options_threads(void);

/* Copies a message of the library to `out`: members in `backquotes` become the flags of the verb that was parsed. */
void options_translate(const char *message, char *out, size_t size);

/* For `return`: what to exit with when options_parse did not say OPTIONS_RUN. */
int options_exit_code(options_result result);

/* Print to stdout: help; a page for man(1); a line a flag, "--name TAB -letter TAB value TAB help", where the letter is
 * "-" if there is none, and the value is empty for flags and "a|b" for choices. */
void options_help(const command *c, const option *flags, size_t count);
void options_manual(const command *c, const option *flags, size_t count);
void options_list_flags(const option *flags, size_t count);

/* Calls each flag under its heading, headings in the order in which they come first: begin(NULL) where there are
 * none. */
void options_by_heading(const option *flags, size_t count, void (*begin)(const char *heading),
                        void (*each)(const option *flag));

/* The element of names[0..count-1] nearest to `word` by typing errors, or NULL if none is near. */
const char *options_nearest(const char *word, const char *const *names, size_t count);

/* clang-format off */

/* How data sets are named. */
#define DATA_SETS_HELP                                                                                      \
    "  emoji:               Noto Color Emoji with Unicode's names and keywords\n"                           \
    "  emoji:kinds          the same by what Unicode sorts them into, such as \"animal bird\"\n"            \
    "  folder:DIR           pictures with captions in metadata.jsonl or metadata.csv, or in a .txt,\n"      \
    "                       .caption or .json beside each\n"                                                \
    "  wds:SHARDS.tar       tar files of KEY.jpg (.png, .webp), KEY.txt (.caption), KEY.json, as img2dataset\n" \
    "                       writes them; SHARDS as in a shell: data/{00000..00012}.tar\n"                   \
    "  coco:FILE.json,DIR   captions_train2014.json and the like, and the folder of their pictures\n"
#define CAPTIONS_HELP                                                                                       \
    "Each line of a .txt beside a picture is another caption of it, and so is each text of a list in\n"           \
    "JSON: distill and caches take the first, train teacher draws among them."

/* clang-format on */

/* `--center-crop`, which says nothing more than the default does: bool *center. After parsing: OPTIONS_RUN, or
 * OPTIONS_WRONG after a sentence on stderr. */
#define OPTION_CENTER_CROP(center)                                                                          \
    {.name = "center-crop", .heading = "Pictures", .kind = OPTION_FLAG, .value = (center),                  \
     .help = "cut squares from the centre, as without this flag"}
options_result options_check_crop(const splam_picture_options *pictures, bool center);

#define OPTION_COUNT(list) (sizeof(list) / sizeof *(list))

#endif
