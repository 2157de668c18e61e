/* Options: every verb of the command line, and what opens models and sessions, is a struct of options and a call, and
 * what their members may be is declared once, in tables that the library checks by and the command line reads.
 *
 * Each struct of options begins with its size, as it was when the caller was compiled, and is made by its function
 * splam_VERB_defaults(); so a program runs with a later library whose structs have more members, which then have their
 * defaults. Texts and lists that a struct points to are the caller's, and are needed until the call returns. */
#ifndef SPLAM_OPTIONS_H
#define SPLAM_OPTIONS_H
#include <splam/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A number that is not given, of int64_t and double members alike: the member's comment says in brackets what is taken
 * then. A text that is not given is NULL, a list that is not given has no elements. */
#define SPLAM_UNSET INT64_MIN
static inline bool splam_is_given(double number)
{
    return number != (double)SPLAM_UNSET;
}

typedef enum {
    SPLAM_OPTION_FLAG,     /* bool */
    SPLAM_OPTION_TEXT,     /* const char *; with a range that is not 0 one that may be a number of it */
    SPLAM_OPTION_CHOICE,   /* const char *, one of `choices` */
    SPLAM_OPTION_ENUM,     /* an enumeration whose values 0, 1, ... have the names in `choices` */
    SPLAM_OPTION_INTEGER,  /* int64_t, low..high */
    SPLAM_OPTION_SPAN,     /* int64_t, low..high; `beside`: an int64_t of the same range, what it becomes over a run, or
                              SPLAM_UNSET: it stays; "FROM:TO" in words */
    SPLAM_OPTION_SEED,     /* uint64_t; `beside`: a bool that asks for a drawn one */
    SPLAM_OPTION_NUMBER,   /* double, low..high */
    SPLAM_OPTION_BYTES,    /* int64_t, 1 or more */
    SPLAM_OPTION_TEXTS,    /* const char *const *; `beside`: size_t, how many */
    SPLAM_OPTION_INTEGERS, /* const int64_t *, each low..high; `beside`: size_t, how many */
    SPLAM_OPTION_LORAS,    /* const splam_lora *; `beside`: size_t, how many */
    SPLAM_OPTION_EMBEDDINGS /* const splam_embedding *; `beside`: size_t, how many */
} splam_option_kind;

/* One member of a verb's struct. Constant, and valid as long as the library. */
typedef struct {
    const char *name;  /* the member's, "gamma_power"; messages have it in `backquotes` */
    const char *flag;  /* what the command line calls it; NULL: the name with - for _ */
    char letter;       /* its short flag; 0: none */
    splam_option_kind kind;
    bool required;     /* without it the call is SPLAM_ARGUMENT */
    bool operand;      /* on the command line a word without a flag */
    size_t offset, beside; /* of the member, and of what belongs to it, in the struct */
    double low, high;      /* both included; both 0: any */
    const char *choices;   /* "huber|l2" */
    double preset;           /* default of FLAG, ENUM, INTEGER, SEED, NUMBER, BYTES; may be SPLAM_UNSET */
    const char *preset_text; /* of TEXT and CHOICE; may be NULL */
    const char *otherwise;   /* what is taken where it is not given, for people; NULL: nothing, or the default above */
    const char *argument;    /* what help calls the value, "DIR"; NULL where choices say it */
    const char *help;        /* one line, lower case, no full stop */
    const char *needs;       /* the member without which this one has no effect and is SPLAM_ARGUMENT; NULL: none */
    const char *heading;     /* what help has above it and those that follow, "Sampling"; NULL: what stands above */
} splam_option;

/* The name of the i-th verb that has options (and "model", "session"), from 0; NULL after the last. Any thread. */
SPLAM_API const char *splam_option_verb(size_t i);
/* The i-th option of a verb, from 0, in the order of its help; NULL after the last, and of a verb that there is not.
 * Any thread. */
SPLAM_API const splam_option *splam_option_at(const char *verb, size_t i);

/* Fills the first `size` bytes of a verb's struct with defaults, `size` among them. SPLAM_ARGUMENT for a verb that
 * there is not or a size that is none of its struct. What splam_VERB_defaults() call; for other languages. Any
 * thread. */
SPLAM_API splam_status splam_option_defaults(const char *verb, void *options, size_t size);
/* Declares splam_VERB_defaults(): the verb's struct with its defaults, of the caller's size. */
#define SPLAM_DEFAULTS(verb)                                                                                     \
    static inline splam_##verb##_options splam_##verb##_defaults(void)                                           \
    {                                                                                                            \
        splam_##verb##_options options;                                                                          \
        splam_option_defaults(#verb, &options, sizeof options);                                                  \
        return options;                                                                                          \
    }

/* What every call with options does first: SPLAM_ARGUMENT, naming the member in `backquotes`, what it is and what is
 * expected, for a required member that is missing, a number out of its range or a text that is none of the choices, and
 * for a size of 0; SPLAM_UNSUPPORTED where a member that this library does not know is set. Any thread. */
SPLAM_API splam_status splam_option_check(const char *verb, const void *options);

#ifdef __cplusplus
}
#endif
#endif
