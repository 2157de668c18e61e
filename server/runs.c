/* Distillations that are watched. */
#include "runs.h"
#include <splam/base.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include "limits.h"

/* What a line of metrics may say, and is drawn. */
#define SERIES_LIST(X)                                                                                           \
    X(loss) X(loss_matching) X(loss_gan) X(loss_fake_score) X(loss_denoising) X(loss_gan_fake) X(loss_gan_real)  \
    X(trajectory_error_mean) X(grad_norm) X(learning_rate) X(seconds) X(peak_rss_bytes)
#define SERIES_INDEX(name) SERIES_##name,
enum { SERIES_LIST(SERIES_INDEX) SERIES };
#define SERIES_NAME(name) #name,
static const char *const series_names[] = {SERIES_LIST(SERIES_NAME)};

enum {
    READ_AT_ONCE = 1 << 20, /* bytes of a file, each time */
    LONGEST_LINE = 1 << 16,
    LONGEST_SETTINGS = 1 << 18,
    LONGEST_SHEET = 64 << 20,
    MOST_POINTS = 1 << 13, /* that are kept: beyond that every other one is left out */
    MOST_STEPS = 4096,     /* sheets, and checkpoints */
    MOST_ENTRIES = 1 << 16, /* of a folder */
    LATEST = 20,           /* steps that the rate is the mean of */
};

/* A step, or a validation behind one. NAN: it says nothing of that. */
typedef struct {
    int64_t step;
    double value[SERIES];
} point;

/* A file that grows. */
typedef struct {
    ino_t inode;
    off_t offset;
    char line[LONGEST_LINE];
    size_t length;
    bool skips; /* the rest of a line that is too long */
} growing;

typedef struct {
    int64_t item[MOST_STEPS];
    size_t count;
} steps;

typedef struct {
    const char *path;
    char name[256];
    growing file;
    char block[READ_AT_ONCE];
    point *points;
    size_t count, room;
    int64_t stride, seen; /* every so many lines are kept, of so many */
    point last;           /* with a loss */
    bool has_last;
    int64_t max_steps;    /* 0: not known */
    double latest[LATEST]; /* seconds of steps */
    size_t latest_count;
    steps sheets, checkpoints;
    bool there, locked, whole; /* the folder; a process writes there; a student has been written */
    time_t written;       /* when metrics were */
    json_t *settings;
    int64_t settings_of;  /* the checkpoint that they are of; -1: the student's; -2: there are none */
} run;

struct sv_runs {
    pthread_mutex_t lock; /* of all that is in them but their paths */
    run **item;
    size_t count;
};

/* ---- their lives ---- */

static void name_of(const char *path, char *out, size_t size)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    char raw[NAME_MAX + 1];
    snprintf(raw, sizeof raw, "%.*s", (int)(length - begin), path + begin);
    splam_visible_text(raw, out, size); /* of UTF-8, as JSON wants it */
}

static void free_run(run *r)
{
    if (!r) return;
    free(r->points);
    json_decref(r->settings);
    free(r);
}

void sv_runs_free(sv_runs *all)
{
    if (!all) return;
    for (size_t i = 0; i < all->count; i++)
        free_run(all->item[i]);
    free(all->item);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

sv_runs *sv_runs_create(const char *const *folders, size_t count)
{
    sv_runs *all = calloc(1, sizeof *all);
    if (!all) return NULL;
    pthread_mutex_init(&all->lock, NULL);
    all->item = calloc(count, sizeof *all->item);
    for (size_t i = 0; i < count && all->item; i++) {
        run *r = all->item[i] = calloc(1, sizeof *r);
        if (!r) break;
        r->path = folders[i];
        r->stride = 1;
        r->settings_of = -2;
        name_of(folders[i], r->name, sizeof r->name);
        all->count++;
    }
    if (all->count == count) return all;
    sv_runs_free(all);
    return NULL;
}

/* ---- metrics.jsonl ---- */

static void forget_points(run *r)
{
    r->count = 0;
    r->stride = 1;
    r->seen = 0;
    r->has_last = false;
    r->latest_count = 0;
    r->max_steps = 0;
}

/* Every other point is left out, so that any run fits. */
static void thin(run *r)
{
    size_t left = 0;
    for (size_t i = 0; i < r->count; i += 2)
        r->points[left++] = r->points[i];
    r->count = left;
    r->stride *= 2;
}

static void keep(run *r, const point *p)
{
    if (r->seen++ % r->stride) return;
    if (r->count == MOST_POINTS) thin(r);
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 256;
        point *more = realloc(r->points, room * sizeof *more);
        if (!more) return;
        r->points = more;
        r->room = room;
    }
    r->points[r->count++] = *p;
}

static double number_of(const json_t *value)
{
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    return isfinite(number) ? number : NAN;
}

/* A step of another network than the student has its loss in a series of its own. */
static void read_values(const json_t *line, point *p)
{
    const char *network = json_string_value(json_object_get(line, "network"));
    for (int i = 0; i < SERIES; i++)
        p->value[i] = number_of(json_object_get(line, series_names[i]));
    if (!network || strcmp(network, "fake_score") != 0) return;
    p->value[SERIES_loss_fake_score] = p->value[SERIES_loss];
    p->value[SERIES_loss] = NAN;
}

static void take_line(run *r, const char *text, size_t length)
{
    json_t *line = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
    double step = number_of(json_object_get(line, "step")), most = number_of(json_object_get(line, "max_train_steps"));
    if (step >= 0 && step < 1e15) {
        point p = {.step = (int64_t)step};
        read_values(line, &p);
        keep(r, &p);
        if (most >= 1 && most < 1e15) r->max_steps = (int64_t)most;
        if (p.value[SERIES_seconds] > 0) {
            r->latest[r->latest_count++ % LATEST] = p.value[SERIES_seconds];
            r->last = p;
            r->has_last = true;
        }
    }
    json_decref(line);
}

static void take_bytes(run *r, const char *bytes, size_t size)
{
    growing *f = &r->file;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n') {
            if (!f->skips) take_line(r, f->line, f->length);
            f->length = 0;
            f->skips = false;
        } else if (f->length == sizeof f->line) {
            f->skips = true;
        } else {
            f->line[f->length++] = bytes[i];
        }
    }
}

/* A plain file of the folder; -1: it is none. */
static int open_file(int folder, const char *name, struct stat *about)
{
    int fd = openat(folder, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, about) == 0 && S_ISREG(about->st_mode)) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* A file that was written anew, as by a run that goes on from a checkpoint, is read anew. */
static void begin_if_other(run *r, const struct stat *about)
{
    if (r->file.inode == about->st_ino && r->file.offset <= about->st_size) return;
    r->file.inode = about->st_ino;
    r->file.offset = 0;
    r->file.length = 0;
    r->file.skips = false;
    forget_points(r);
}

static void read_metrics(sv_runs *all, run *r, int folder)
{
    struct stat about;
    int fd = open_file(folder, "metrics.jsonl", &about);
    if (fd < 0) return;
    pthread_mutex_lock(&all->lock);
    begin_if_other(r, &about);
    r->written = about.st_mtime;
    pthread_mutex_unlock(&all->lock);
    ssize_t got = pread(fd, r->block, sizeof r->block, r->file.offset);
    close(fd);
    if (got <= 0) return;
    pthread_mutex_lock(&all->lock);
    take_bytes(r, r->block, (size_t)got);
    r->file.offset += got;
    pthread_mutex_unlock(&all->lock);
}

/* ---- what else lies there ---- */

/* PREFIX NUMBER SUFFIX, the number as the run writes it; -1: it is not called so. */
static int64_t step_in(const char *name, const char *prefix, const char *suffix)
{
    size_t head = strlen(prefix), digits;
    if (strncmp(name, prefix, head) != 0) return -1;
    digits = strspn(name + head, "0123456789");
    bool right = digits > 0 && digits < 16 && (digits == 1 || name[head] != '0');
    return right && strcmp(name + head + digits, suffix) == 0 ? strtoll(name + head, NULL, 10) : -1;
}

static void add_step(steps *to, int64_t step)
{
    if (step >= 0 && to->count < MOST_STEPS) to->item[to->count++] = step;
}

static int by_step(const void *a, const void *b)
{
    int64_t one = *(const int64_t *)a, other = *(const int64_t *)b;
    return (one > other) - (one < other);
}

static void sort(steps *all)
{
    qsort(all->item, all->count, sizeof *all->item, by_step);
}

typedef struct {
    steps sheets, checkpoints;
    bool whole;
} listing;

static void list_folder(int folder, listing *out)
{
    int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = own >= 0 ? fdopendir(own) : NULL;
    if (own >= 0 && !entries) close(own);
    if (!entries) return;
    const struct dirent *entry;
    for (int i = 0; i < MOST_ENTRIES && (entry = readdir(entries)); i++) {
        add_step(&out->sheets, step_in(entry->d_name, "validation-", ".png"));
        add_step(&out->checkpoints, step_in(entry->d_name, "checkpoint-", ""));
        out->whole |= strcmp(entry->d_name, "splam.json") == 0;
    }
    closedir(entries);
    sort(&out->sheets);
    sort(&out->checkpoints);
}

/* Whether a process holds the folder, as a run does until it ends. Asking the kernel for the lock itself would keep a
 * run that begins at that moment from it. */
static bool is_locked(const struct stat *about)
{
    char wanted[64], line[256];
    bool found = false;
    FILE *locks = fopen("/proc/locks", "re");
    if (!locks) return false;
    snprintf(wanted, sizeof wanted, " %02x:%02x:%llu ", major(about->st_dev), minor(about->st_dev),
             (unsigned long long)about->st_ino);
    while (!found && fgets(line, sizeof line, locks))
        found = strstr(line, " FLOCK ") && strstr(line, wanted);
    fclose(locks);
    return found;
}

/* ---- settings ---- */

static json_t *read_object(int folder, const char *name)
{
    struct stat about;
    int fd = open_file(folder, name, &about);
    char *text = fd >= 0 && about.st_size <= LONGEST_SETTINGS ? malloc(LONGEST_SETTINGS) : NULL;
    ssize_t got = text ? read(fd, text, LONGEST_SETTINGS) : -1;
    json_t *json = got > 0 ? json_loadb(text, (size_t)got, 0, NULL) : NULL;
    if (fd >= 0) close(fd);
    free(text);
    if (json_is_object(json)) return json;
    json_decref(json);
    return NULL;
}

/* Numbers and short texts; of a path the last part, for where things lie is nobody's business. */
static json_t *plain_settings(const json_t *from)
{
    enum { MOST = 64, LONGEST = 200 };
    json_t *out = json_object();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)from, key, value) {
        const char *text = json_string_value(value), *slash = text ? strrchr(text, '/') : NULL;
        if (json_object_size(out) == MOST || strlen(key) > LONGEST || (text && strlen(text) > LONGEST)) continue;
        if (text)
            json_object_set_new(out, key, json_string(slash && slash[1] ? slash + 1 : text));
        else if (json_is_number(value) || json_is_boolean(value))
            json_object_set(out, key, value);
    }
    return out;
}

/* Of the student, where there is one, else of the last checkpoint. */
static void read_settings(sv_runs *all, run *r, int folder)
{
    char name[64] = "splam.json";
    int64_t of = r->whole ? -1 : r->checkpoints.count ? r->checkpoints.item[r->checkpoints.count - 1] : -2;
    if (of == r->settings_of || of == -2) return;
    if (of >= 0) snprintf(name, sizeof name, "checkpoint-%lld/state.json", (long long)of);
    json_t *file = read_object(folder, name), *settings = of >= 0 ? json_object_get(file, "settings") : file;
    json_t *own = settings ? plain_settings(settings) : NULL;
    json_decref(file);
    if (!own) return; /* it is being written: the next time */
    pthread_mutex_lock(&all->lock);
    json_t *old = r->settings;
    r->settings = own;
    r->settings_of = of;
    pthread_mutex_unlock(&all->lock);
    json_decref(old);
}

/* ---- reading ---- */

static void read_run(sv_runs *all, run *r)
{
    listing *found = calloc(1, sizeof *found);
    struct stat about;
    int folder = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool there = found && folder >= 0 && fstat(folder, &about) == 0;
    bool locked = there && is_locked(&about);
    if (there) list_folder(folder, found);
    pthread_mutex_lock(&all->lock);
    r->there = there;
    r->locked = locked;
    if (there) {
        r->sheets = found->sheets;
        r->checkpoints = found->checkpoints;
        r->whole = found->whole;
    }
    pthread_mutex_unlock(&all->lock);
    if (there) read_metrics(all, r, folder);
    if (there) read_settings(all, r, folder);
    if (folder >= 0) close(folder);
    free(found);
}

void sv_runs_read(sv_runs *all)
{
    for (size_t i = 0; i < all->count; i++)
        read_run(all, all->item[i]);
}

/* ---- telling ---- */

size_t sv_runs_count(const sv_runs *all)
{
    return all->count;
}

static json_t *number_or_null(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

static json_t *steps_json(const steps *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->count; i++)
        json_array_append_new(list, json_integer((json_int_t)s->item[i]));
    return list;
}

static double seconds_of_step(const run *r)
{
    size_t count = r->latest_count < LATEST ? r->latest_count : LATEST;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += r->latest[i];
    return count ? sum / (double)count : NAN;
}

/* Under the lock. */
static json_t *about(const run *r, size_t i)
{
    char id[24];
    const char *state = !r->there ? "absent" : r->locked ? "running" : r->whole ? "finished" : "stopped";
    double each = seconds_of_step(r), left = r->max_steps ? (double)(r->max_steps - r->last.step) * each : NAN;
    double silent = r->written ? difftime(time(NULL), r->written) : NAN;
    snprintf(id, sizeof id, "%zu", i);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O?}", "id", id, "name", r->name,
                     "state", state, "step", r->has_last ? json_integer((json_int_t)r->last.step) : json_null(),
                     "max_train_steps", r->max_steps ? json_integer((json_int_t)r->max_steps) : json_null(), "loss",
                     number_or_null(r->has_last ? r->last.value[SERIES_loss] : NAN), "steps_per_second",
                     number_or_null(1 / each), "seconds_left", number_or_null(r->locked && left >= 0 ? left : NAN),
                     "peak_rss_bytes", number_or_null(r->has_last ? r->last.value[SERIES_peak_rss_bytes] : NAN),
                     "silent_seconds", number_or_null(silent), "sheets", steps_json(&r->sheets), "checkpoints",
                     steps_json(&r->checkpoints), "settings", r->settings);
}

/* Under the lock. */
static bool has_series(const run *r, int k)
{
    bool has = false;
    for (size_t i = 0; i < r->count && !has; i++)
        has = isfinite(r->points[i].value[k]);
    return has;
}

/* Under the lock: the last one is always among them. */
static json_t *series(const run *r)
{
    size_t every = (r->count + SV_RUN_POINTS - 1) / SV_RUN_POINTS, first = every ? (r->count - 1) % every : 0;
    json_t *all = json_object(), *list = json_array();
    for (size_t i = first; i < r->count; i += every)
        json_array_append_new(list, json_integer((json_int_t)r->points[i].step));
    json_object_set_new(all, "step", list);
    for (int k = 0; k < SERIES; k++) {
        if (!has_series(r, k)) continue;
        list = json_array();
        for (size_t i = first; i < r->count; i += every)
            json_array_append_new(list, number_or_null(r->points[i].value[k]));
        json_object_set_new(all, series_names[k], list);
    }
    return all;
}

json_t *sv_runs_list(sv_runs *all)
{
    json_t *list = json_array();
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->count; i++)
        json_array_append_new(list, about(all->item[i], i));
    pthread_mutex_unlock(&all->lock);
    return list;
}

json_t *sv_runs_at(sv_runs *all, size_t i)
{
    if (i >= all->count) return NULL;
    pthread_mutex_lock(&all->lock);
    json_t *json = about(all->item[i], i);
    if (json) json_object_set_new(json, "series", series(all->item[i]));
    pthread_mutex_unlock(&all->lock);
    return json;
}

/* ---- sheets ---- */

static bool is_png(int fd)
{
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    uint8_t begin[8];
    return pread(fd, begin, sizeof begin, 0) == sizeof begin && memcmp(begin, signature, sizeof begin) == 0;
}

int sv_runs_open_sheet(const sv_runs *all, size_t i, int64_t step, size_t *size)
{
    char name[64];
    struct stat about;
    int folder = i < all->count ? open(all->item[i]->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder < 0) return -1;
    snprintf(name, sizeof name, "validation-%lld.png", (long long)step);
    int fd = open_file(folder, name, &about);
    close(folder);
    if (fd < 0) return -1;
    *size = (size_t)about.st_size;
    if (about.st_size > 0 && about.st_size <= LONGEST_SHEET && is_png(fd)) return fd;
    close(fd);
    return -1;
}
