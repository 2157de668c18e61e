/* write_inception FILE: Inception's weights by the formula, for scripts that run the program. */
#include <stdio.h>
#include <string.h>
#include "inception_support.h"

int main(int argc, char **argv)
{
    if (argc != 2 || write_formula_inception(argv[1]) != SP_OK) {
        fprintf(stderr, "write_inception FILE: %s\n", sp_error_message());
        return 1;
    }
    return 0;
}
