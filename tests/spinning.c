/* Linked into every test program: libgomp reads GOMP_SPINCOUNT before main, and without it threads that wait at
 * barriers take the time that others need on a busy machine. So a program that was started without it starts itself
 * once more. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void spin_little(int count, char **arguments)
{
    (void)count;
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", arguments);
}
