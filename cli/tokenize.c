/* splam tokenize */
#include <stdio.h>

#include "options.h"
#include "verbs.h"

static const char description[] =
    "Prints one JSON array: the ids of a text as the model's text encoder takes them, with the begin\n"
    "and end tokens, cut and padded to its length.";

static const char *const examples[] = {
    "splam tokenize -m sd15 \"a photograph of an astronaut riding a horse\"",
    "splam tokenize -m sd15/tokenizer \"\"",
    "splam tokenize -m sd15 -- \"-5 degrees\"",
    NULL,
};

int cli_tokenize(int argc, char **argv)
{
    splam_tokenize_options o = splam_tokenize_defaults();
    const command c = {.verb = "tokenize",
                       .synopsis = "-m MODEL TEXT",
                       .description = description,
                       .target = &o,
                       .examples = examples};
    options_result result = options_parse(&c, argc, argv, NULL);
    if (result != OPTIONS_RUN) return options_exit_code(result);
    if (cli_check_stdout() != CLI_OK) return CLI_FAILURE;
    int32_t *ids;
    size_t count;
    splam_status status = splam_tokenize(&o, &ids, &count);
    if (status != SPLAM_OK) return cli_finish(status);
    for (size_t i = 0; i < count; i++)
        printf("%s%d", i ? ", " : "[", ids[i]);
    printf("]\n");
    splam_free(ids);
    return CLI_OK;
}
