/* --sandbox: before anything of a stranger is read, the process gives up what a hostile file could make it do. From
 * then on, for all its threads:
 *
 *   files    it may read what its command line names (a folder and all below, also where links in it lead; a file and
 *            those beside it), the system's programs, fonts and settings, and what says of the machine; it may write
 *            below the folders that its output goes to, and nowhere else (Landlock, Linux 5.13)
 *   network  none: no sockets of any kind (seccomp)
 *   others   it starts no program, looks into no other process, and changes nothing of the system (seccomp) */
#ifndef CLI_SANDBOX_H
#define CLI_SANDBOX_H
#include <stddef.h>

/* read: words that may name files, as data sets do too ("folder:DIR", "coco:FILE,DIR", "wds:DIR/{00..12}.tar"); what is
 * none is passed over. written: files or folders, which need not be there: their nearest folder that is. Called before
 * there is a second thread. CLI_OK; CLI_FAILURE after a sentence where the kernel has none of it or refuses. */
int sandbox_enter(const char *const *read, size_t read_count, const char *const *written, size_t written_count);

#endif
