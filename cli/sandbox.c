/* The sandbox: Landlock for files, seccomp for everything else. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "verbs.h"

/* ---- files ---- */

/* Rights that came after the first version of Landlock, by the version that knows them. */
enum { REFER_VERSION = 2, TRUNCATE_VERSION = 3, NETWORK_VERSION = 4, DEVICE_VERSION = 5 };
static const uint64_t refer = 1u << 13, truncate_file = 1u << 14, control_device = 1u << 15;
static const uint64_t network = 3; /* bind and connect of TCP */
static const uint64_t read_file = LANDLOCK_ACCESS_FS_READ_FILE, read_folder = LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t first_rights = ((uint64_t)1 << 13) - 1;
/* Of a folder that output goes to: all but running what lies there and making devices, sockets and pipes. */
static const uint64_t never = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                              LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                              LANDLOCK_ACCESS_FS_MAKE_FIFO;

/* The kernel's struct as version 4 has it; an older one takes the first member alone. */
typedef struct {
    uint64_t files, network;
} ruleset_attributes;

typedef struct {
    int descriptor;
    uint64_t handled; /* what no rule allows is refused */
} ruleset;

/* nftw has no word for the caller. */
static ruleset rules;

static int refused(const char *what)
{
    return cli_fail(CLI_FAILURE, "--sandbox: %s: %s", what, strerror(errno));
}

static int create_rules(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1)
        return cli_fail(CLI_FAILURE, "--sandbox needs Landlock, which this kernel lacks or has switched off: %s",
                        strerror(errno));
    rules.handled = first_rights | (version >= REFER_VERSION ? refer : 0) |
                    (version >= TRUNCATE_VERSION ? truncate_file : 0) |
                    (version >= DEVICE_VERSION ? control_device : 0);
    const ruleset_attributes attributes = {rules.handled, network};
    size_t size = version >= NETWORK_VERSION ? sizeof attributes : sizeof attributes.files;
    rules.descriptor = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    return rules.descriptor < 0 ? refused("no rules for files can be made") : CLI_OK;
}

/* What is not there needs no rule. A file has no use for rights of folders. */
static void allow(const char *path, uint64_t rights)
{
    struct stat info;
    int descriptor = open(path, O_PATH | O_CLOEXEC);
    if (descriptor < 0) return;
    if (fstat(descriptor, &info) == 0) {
        const uint64_t of_files = read_file | LANDLOCK_ACCESS_FS_WRITE_FILE | truncate_file;
        const struct landlock_path_beneath_attr rule = {
            .allowed_access = (S_ISDIR(info.st_mode) ? rights : rights & of_files) & rules.handled,
            .parent_fd = descriptor};
        if (rule.allowed_access)
            syscall(SYS_landlock_add_rule, rules.descriptor, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    }
    close(descriptor);
}

/* Where a link in a folder leads, as in caches that keep files elsewhere by their hash. */
static int allow_link(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    char target[PATH_MAX];
    (void)info;
    if (kind == FTW_SL && realpath(path, target)) allow(target, read_file);
    return place->level > 8; /* deeper than any model */
}

static void allow_reading(const char *path)
{
    struct stat info;
    char folder[PATH_MAX];
    if (stat(path, &info) != 0) return;
    if (S_ISDIR(info.st_mode)) {
        allow(path, read_file | read_folder);
        nftw(path, allow_link, 16, FTW_PHYS);
        return;
    }
    /* The file, and what may lie beside it: an index's other files, a configuration, captions. */
    if (!realpath(path, folder)) return;
    allow(folder, read_file);
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
    allow(slash ? *folder ? folder : "/" : ".", read_file | read_folder);
}

/* "coco:FILE,DIR", "wds:DIR/{0..9}.tar", "--vae=FILE", "FILE:0.7": each part that may be a name, and of a pattern the
 * folder before it. */
static void allow_word(const char *word)
{
    char text[PATH_MAX], *rest;
    allow_reading(word);
    snprintf(text, sizeof text, "%s", word);
    for (char *part = strtok_r(text, ":,=", &rest); part; part = strtok_r(NULL, ":,=", &rest)) {
        char *pattern = strpbrk(part, "*?[{"), *slash;
        if (pattern) {
            *pattern = 0;
            slash = strrchr(part, '/');
            if (slash) slash[1] = 0;
            allow_reading(slash ? part : ".");
        } else {
            allow_reading(part);
        }
    }
}

/* The nearest folder of `path` that is there: the output may be folders to be made. */
static void allow_writing(const char *path)
{
    char folder[PATH_MAX];
    struct stat info;
    snprintf(folder, sizeof folder, "%s", path);
    while (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode)) {
        char *slash = strrchr(folder, '/');
        if (!slash) {
            snprintf(folder, sizeof folder, ".");
            break;
        }
        *(slash == folder ? slash + 1 : slash) = 0;
    }
    allow(folder, rules.handled & ~never);
}

static void allow_system(void)
{
    static const char *const folders[] = {"/usr", "/lib", "/lib64", "/etc", "/proc", "/sys"};
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"};
    char program[PATH_MAX];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        allow(folders[i], read_file | read_folder);
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        allow(devices[i], read_file | LANDLOCK_ACCESS_FS_WRITE_FILE);
    /* The program's own folder and those beside it: its libraries. */
    if (!realpath("/proc/self/exe", program)) return;
    for (int up = 0; up < 2; up++)
        if (strrchr(program, '/')) *strrchr(program, '/') = 0;
    allow(*program ? program : "/", read_file | read_folder);
}

/* ---- everything else ---- */

/* What a program that computes has no use for: it fails with EPERM. Filters of what is allowed would fail with every
 * library that calls something new. */
static const int forbidden[] = {
    SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept),
    SCMP_SYS(accept4), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg), SCMP_SYS(execve), SCMP_SYS(execveat),
    SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_open), SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_send_signal), SCMP_SYS(tkill), SCMP_SYS(kcmp),
    SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
    SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen), SCMP_SYS(fsmount),
    SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(init_module),
    SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
    SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime), SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(quotactl), SCMP_SYS(acct),
    SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at), SCMP_SYS(mknod), SCMP_SYS(mknodat), SCMP_SYS(chown),
    SCMP_SYS(fchown), SCMP_SYS(lchown), SCMP_SYS(fchownat), SCMP_SYS(shmget), SCMP_SYS(shmat), SCMP_SYS(msgget),
    SCMP_SYS(semget), SCMP_SYS(mq_open),
};

static int load_filter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int error = filter ? 0 : -ENOMEM;
    for (size_t i = 0; !error && i < sizeof forbidden / sizeof *forbidden; i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), forbidden[i], 0);
    /* Signal 0 asks whether a process is there, as checkpoints do of who left half of one. */
    if (!error)
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(kill), 1, SCMP_A1(SCMP_CMP_NE, 0));
    /* Threads are made by the same call as processes, which differ by one flag. */
    const unsigned long long thread = 0x10000; /* CLONE_THREAD */
    if (!error)
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                 SCMP_A0(SCMP_CMP_MASKED_EQ, thread, 0));
    /* Its flags lie in memory, where a filter cannot look: glibc takes clone where there is none. */
    if (!error) error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (!error) error = seccomp_load(filter);
    seccomp_release(filter);
    errno = -error;
    return error ? refused("no filter of system calls can be set") : CLI_OK;
}

int sandbox_enter(const char *const *read, size_t read_count, const char *const *written, size_t written_count)
{
    int code = create_rules();
    if (code != CLI_OK) return code;
    allow_system();
    for (size_t i = 0; i < read_count; i++)
        allow_word(read[i]);
    for (size_t i = 0; i < written_count; i++)
        allow_writing(written[i]);
    bool kept = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                syscall(SYS_landlock_restrict_self, rules.descriptor, 0) == 0;
    code = kept ? CLI_OK : refused("the rules for files cannot be kept");
    close(rules.descriptor);
    return code == CLI_OK ? load_filter() : code;
}
