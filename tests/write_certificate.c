/* write_certificate CERTIFICATE KEY: a certificate for localhost and its key, for scripts. */
#include "tls_support.h"

int main(int argc, char **argv)
{
    return argc == 3 && make_certificate("localhost", argv[1], argv[2]) ? 0 : 1;
}
