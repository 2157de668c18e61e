/* The verbs: one line here and one file each. X(name, summary) */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H
#include <splam/splam.h>

#define CLI_VERB_LIST(X)                                                                           \
    X(demo, "distil, draw and measure a small model of emoji, all at once")                        \
    X(generate, "draw pictures from prompts")                                                      \
    X(serve, "hold a model and draw over HTTP, as A1111's and OpenAI's interfaces do")              \
    X(distill, "turn a teacher into a few-step student")                                           \
    X(eval, "measure models: trajectory error, FID, CLIP score and others")                    \
    X(score, "score pictures against others: FID, KID, Inception score")                           \
    X(train, "train an autoencoder or a teacher from scratch")                                     \
    X(convert, "write a model in another form: type, folder or file, adapters merged")             \
    X(data, "look at a data set: what is accepted, what is rejected and why")                      \
    X(forward, "run one component from file to file")                                              \
    X(inspect, "say what a model or file holds and what memory it needs")                          \
    X(bench, "measure operators and a model's parts")                                              \
    X(tokenize, "print the token ids of a text")

/* argv[0] is the verb. Returns the exit code. */
#define X(name, summary) int cli_##name(int argc, char **argv);
CLI_VERB_LIST(X)
#undef X

enum { CLI_OK, CLI_FAILURE, CLI_USAGE, CLI_INTERRUPTED = 130 };

/* The exit code for a call of the library, after its sentence on stderr if it failed. */
int cli_finish(splam_status status);
/* The same of one that makes a text, which is printed and freed. */
int cli_print(splam_status status, char *text);
/* Before work whose result is printed: CLI_OK, or CLI_FAILURE after a sentence where standard output
 * takes nothing. */
int cli_check_stdout(void);
/* One sentence on stderr, after "splam: "; returns `code`. */
int cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
