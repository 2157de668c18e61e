/* Loaded before the C library (LD_PRELOAD): when the program first syncs a file, which is after it has read all that is
 * a stranger's, it does what one would that a hostile file had taken over, and says how each went:
 *   ESCAPING_READ=FILE, ESCAPING_WRITE=FILE   to read, and to make
 *   ESCAPING_SAID=DESCRIPTOR                  open for writing: a line for each, "NAME 0" or "NAME ERRNO" */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#pragma GCC visibility push(default)

static void say(const char *name, long result)
{
    char line[64];
    int size = snprintf(line, sizeof line, "%s %d\n", name, result < 0 ? errno : 0);
    if (write(atoi(getenv("ESCAPING_SAID")), line, (size_t)size) != size) _exit(99);
}

static void try_to_escape(void)
{
    char *const nothing[] = {NULL};
    say("read", open(getenv("ESCAPING_READ"), O_RDONLY));
    say("write", open(getenv("ESCAPING_WRITE"), O_WRONLY | O_CREAT, 0666));
    say("link", link("/usr/bin/env", getenv("ESCAPING_WRITE")));
    say("tcp", socket(AF_INET, SOCK_STREAM, 0));
    say("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say("signal", kill(getppid(), SIGCONT));
    say("trace", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
    say("execute", execve("/usr/bin/true", nothing, nothing));
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child > 0) waitpid(child, NULL, 0);
    say("fork", child);
}

int fsync(int descriptor)
{
    static int tried;
    if (!tried++) try_to_escape();
    return (int)syscall(SYS_fsync, descriptor);
}
