/* What a disk may hold after a power cut: power_cut BEFORE LOG FOLDER OUT [POINTS]. BEFORE is a copy of FOLDER as a
 * program found it, with the inodes that it had then in BEFORE.inodes ("-": it was not there), LOG what it did
 * (tests/logged_writes.c). After each line of the log, for each way in which what was not forced to the disk may be
 * lost, what is left becomes OUT/NUMBER, once for each that is different, and OUT/NUMBER.txt says how it came about and
 * what must have lasted:
 *
 *   cut after LINE of LINES: WAY
 *   lasts NAME        a name in FOLDER that was there when the folder was forced to the disk
 *
 * The ways: names and data as they were forced to the disk, and nothing else; all names, but of the data only what was
 * forced there, or half of the rest, or zeros in its place; everything but one change of names. POINTS: so many of
 * them, evenly; else all. Prints how many were made, and how many there are. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_NODES = 4096, MOST_LINES = 20000, MOST_STATES = 20000, PATH = 4096, NAME = 256,
       MOST_DEPTH = 8 };

typedef enum { FILE_NEW, DATA, SYNC, FOLDER_NEW, NAMES, RENAME, EXCHANGE, REMOVE } kind;
typedef struct {
    kind kind;
    uint64_t inode;
    long data;
    char *path, *to;
} change;

/* A file or folder: what it holds and is called, now and on the disk. data 0: nothing. */
typedef struct {
    uint64_t inode;
    bool is_folder;
    long data, data_on_disk;
    int parent, parent_on_disk; /* -1: it has no name there */
    char name[NAME], name_on_disk[NAME];
} node;

typedef enum { FORCED, NO_DATA, HALF_DATA, ZEROS, ALL_BUT_ONE, WAYS } way;
static const char *const way_names[WAYS] = {"what was forced to the disk", "all names, data that was forced",
                                            "all names, half of other data", "all names, zeros for other data",
                                            "all but line"};

static change lines[MOST_LINES];
static int line_count;
static node nodes[MOST_NODES], first_nodes[MOST_NODES];
static int node_count, first_count;
static long data_count; /* numbers of data beyond the log's are BEFORE's files */
static char *before_path[MOST_NODES];
static const char *log_folder, *root, *before;

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "power_cut: %s: %s\n", what, path);
    exit(1);
}

/* ---- names ---- */

static int child_of(int parent, const char *name, size_t length)
{
    for (int i = 1; i < node_count; i++)
        if (nodes[i].parent == parent && strlen(nodes[i].name) == length && memcmp(nodes[i].name, name, length) == 0)
            return i;
    return -1;
}

/* The node at a path below the root, and the folder and name that it has or would have; -1: there is none. */
static int find(const char *path, int *parent, const char **name)
{
    int at = 0;
    const char *rest = path + strlen(root);
    *parent = -1;
    *name = "";
    while (at >= 0 && *rest == '/') {
        while (*rest == '/')
            rest++;
        size_t length = strcspn(rest, "/");
        if (!length) break;
        *parent = at;
        *name = rest;
        at = child_of(at, rest, length);
        rest += length;
    }
    return *rest ? -1 : at;
}

static int node_of(uint64_t inode)
{
    for (int i = 0; i < node_count; i++)
        if (nodes[i].inode == inode) return i;
    return -1;
}

static int add_node(uint64_t inode, bool is_folder, int parent, const char *name)
{
    if (node_count == MOST_NODES) fail("too many files", root);
    node *n = &nodes[node_count];
    *n = (node){.inode = inode, .is_folder = is_folder, .parent = parent, .parent_on_disk = -1};
    snprintf(n->name, sizeof n->name, "%s", name);
    return node_count++;
}

static void set_name(int at, int parent, const char *name)
{
    nodes[at].parent = parent;
    memmove(nodes[at].name, name, strlen(name) + 1);
}

/* ---- a change ---- */

/* Inodes are used again: one that is another's now is no longer this one's. Where the removal of a file was lost, one
 * of its name is not new, but empty again. */
static void create(const change *c)
{
    int parent, old = node_of(c->inode);
    const char *name;
    int at = find(c->path, &parent, &name);
    if (old >= 0 && old != at) nodes[old].inode = 0;
    if (at < 0) at = parent < 0 ? 0 : add_node(c->inode, c->kind == FOLDER_NEW, parent, name);
    nodes[at].inode = c->inode;
    nodes[at].data = 0;
}

static void move(const change *c)
{
    int parent, to_parent;
    const char *name, *to_name;
    int from = find(c->path, &parent, &name), to = find(c->to, &to_parent, &to_name);
    if (from < 0 || to_parent < 0) return; /* what made it was lost */
    char other[NAME];
    snprintf(other, sizeof other, "%s", nodes[from].name);
    if (to >= 0 && c->kind == EXCHANGE) set_name(to, parent, other);
    else if (to >= 0) nodes[to].parent = -1;
    set_name(from, to_parent, to_name);
}

static void force_names(int folder)
{
    for (int i = 1; i < node_count; i++) {
        node *n = &nodes[i];
        if (n->parent != folder && n->parent_on_disk != folder) continue;
        n->parent_on_disk = n->parent == folder ? folder : -1;
        memcpy(n->name_on_disk, n->name, NAME);
    }
}

static void apply(const change *c)
{
    int parent, at = c->path ? -1 : node_of(c->inode);
    const char *name;
    switch (c->kind) {
    case FILE_NEW:
    case FOLDER_NEW: create(c); break;
    case DATA:
    case SYNC:
        if (at < 0) return;
        nodes[at].data = c->data;
        if (c->kind == SYNC) nodes[at].data_on_disk = c->data;
        break;
    case NAMES:
        if (at >= 0) force_names(at);
        break;
    case RENAME:
    case EXCHANGE: move(c); break;
    case REMOVE:
        at = find(c->path, &parent, &name);
        if (at > 0) nodes[at].parent = -1;
        break;
    }
}

static bool changes_names(const change *c)
{
    return c->kind != DATA && c->kind != SYNC && c->kind != NAMES;
}

/* ---- what is left ---- */

typedef struct {
    way way;
    int line, lost; /* applied up to line; lost: of ALL_BUT_ONE */
} cut;

static void replay(const cut *c)
{
    memcpy(nodes, first_nodes, sizeof(node) * (size_t)first_count);
    node_count = first_count;
    for (int i = 0; i < c->line; i++)
        if (c->way != ALL_BUT_ONE || i != c->lost) apply(&lines[i]);
}

static const char *data_path(long data)
{
    static char path[PATH];
    if (data > data_count) return before_path[data - data_count];
    snprintf(path, sizeof path, "%s/%ld", log_folder, data);
    return path;
}

static int parent_in(const cut *c, int at)
{
    return c->way == FORCED ? nodes[at].parent_on_disk : nodes[at].parent;
}

static const char *name_in(const cut *c, int at)
{
    return c->way == FORCED ? nodes[at].name_on_disk : nodes[at].name;
}

/* Below the root's place: "" for the root; false: it has no name. */
static bool path_in(const cut *c, int at, char path[PATH])
{
    char below[PATH];
    if (at == 0) return *path = 0, true;
    if (parent_in(c, at) < 0 || !path_in(c, parent_in(c, at), below)) return false;
    return snprintf(path, PATH, "%.3800s/%.250s", below, name_in(c, at)) > 0;
}

/* ---- writing it ---- */

static char *read_whole(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    if (!file || fstat(fileno(file), &info) != 0) fail("cannot read", path);
    *size = (size_t)info.st_size;
    char *bytes = calloc(*size + 1, 1);
    if (!bytes || fread(bytes, 1, *size, file) != *size) fail("cannot read", path);
    fclose(file);
    return bytes;
}

/* What of a file's data is there: as on the disk, and of what was added since all, half, or zeros. */
static char *data_in(const cut *c, const node *n, size_t *size)
{
    const bool all = c->way == ALL_BUT_ONE;
    const long data = all ? n->data : n->data_on_disk;
    if (n->data == n->data_on_disk || all || c->way == FORCED || c->way == NO_DATA) {
        *size = 0;
        return data ? read_whole(data_path(data), size) : calloc(1, 1);
    }
    size_t old = 0, new = 0;
    if (n->data_on_disk) free(read_whole(data_path(n->data_on_disk), &old));
    char *bytes = n->data ? read_whole(data_path(n->data), &new) : calloc(1, 1);
    if (old > new) old = new;
    *size = c->way == ZEROS ? new : old + (new - old) / 2;
    if (c->way == ZEROS) memset(bytes + old, 0, new - old);
    return bytes;
}

static uint64_t add_bytes(uint64_t hash, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash;
}

/* What tells data apart, from its number. */
static uint64_t sum_of_data(long data)
{
    static uint64_t known[MOST_LINES + MOST_NODES];
    size_t size;
    if (!data || known[data]) return data ? known[data] : 1;
    char *bytes = read_whole(data_path(data), &size);
    known[data] = add_bytes(14695981039346656037u, bytes, size);
    free(bytes);
    return known[data];
}

static uint64_t sum_of_file(const cut *c, const node *n)
{
    const uint64_t now = sum_of_data(n->data), on_disk = sum_of_data(n->data_on_disk);
    if (c->way == ALL_BUT_ONE) return now;
    if (now == on_disk || c->way == FORCED || c->way == NO_DATA) return on_disk;
    return now + 31 * on_disk + 1009 * (uint64_t)c->way;
}

static uint64_t sum_of_state(const cut *c)
{
    uint64_t sum = 0;
    char path[PATH];
    for (int i = 0; i < node_count; i++)
        if (path_in(c, i, path)) {
            const uint64_t own = nodes[i].is_folder ? 7 : sum_of_file(c, &nodes[i]);
            sum += add_bytes(own * 0x9e3779b97f4a7c15u, path, strlen(path));
        }
    return sum;
}

static void write_node(const cut *c, int i, const char *path)
{
    size_t size;
    if (nodes[i].is_folder) {
        if (mkdir(path, 0777)) fail("cannot make", path);
        return;
    }
    char *bytes = data_in(c, &nodes[i], &size);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) fail("cannot write", path);
    free(bytes);
}

static int depth_of(const char *path)
{
    int depth = 0;
    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

/* A folder comes before what is in it. */
static void write_state(const cut *c, const char *to)
{
    for (int depth = 0; depth < MOST_DEPTH; depth++)
        for (int i = 0; i < node_count; i++) {
            char path[PATH], full[2 * PATH];
            if (!path_in(c, i, path) || depth_of(path) != depth) continue;
            snprintf(full, sizeof full, "%s%s", to, path);
            write_node(c, i, full);
        }
}

/* Names in the root that were there when it was last forced to the disk, and that nobody has changed since. */
static void write_lasting(FILE *file)
{
    for (int i = 1; i < node_count; i++)
        if (nodes[i].parent == 0 && nodes[i].parent_on_disk == 0 && strcmp(nodes[i].name, nodes[i].name_on_disk) == 0)
            fprintf(file, "lasts %s\n", nodes[i].name);
}

static void write_cut(const cut *c, const char *out, int number)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%d.txt", out, number);
    FILE *file = fopen(path, "w");
    if (!file) fail("cannot write", path);
    fprintf(file, "cut after %d of %d: %s", c->line, line_count, way_names[c->way]);
    if (c->way == ALL_BUT_ONE) fprintf(file, " %d", c->lost + 1);
    fprintf(file, "\n");
    const cut all = {.way = FORCED, .line = c->line};
    replay(&all);
    write_lasting(file);
    fclose(file);
    replay(c);
    path[strlen(path) - strlen(".txt")] = 0;
    write_state(c, path);
}

/* ---- reading ---- */

/* BEFORE.inodes has what `find FOLDER -printf '%i %P\\n'` said of it. */
static uint64_t inode_before(const char *path)
{
    char list[PATH], line[2 * PATH];
    uint64_t inode = 0, found = 0;
    int at;
    snprintf(list, sizeof list, "%s.inodes", before);
    FILE *file = fopen(list, "r");
    if (!file) fail("cannot read", list);
    const char *below = path + strlen(before);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%" SCNu64 " %n", &inode, &at) == 1 && strcmp(line + at, below + (*below == '/')) == 0)
            found = inode;
    }
    fclose(file);
    return found;
}

static void read_before(const char *path, int parent, const char *name)
{
    struct stat info;
    if (lstat(path, &info) != 0) fail("cannot look at", path);
    int at = add_node(inode_before(path), S_ISDIR(info.st_mode), parent, name);
    nodes[at].parent_on_disk = parent;
    memcpy(nodes[at].name_on_disk, nodes[at].name, NAME);
    before_path[at] = strdup(path);
    if (!nodes[at].is_folder) {
        nodes[at].data = nodes[at].data_on_disk = data_count + at;
        return;
    }
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char child[PATH];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(child, sizeof child, "%.3800s/%.250s", path, entry->d_name);
        read_before(child, at, entry->d_name);
    }
    closedir(folder);
}

static void read_line(char *text, change *c)
{
    static const char *const words[] = {"file", "data", "sync", "folder", "names", "rename", "exchange", "remove"};
    char *word = strtok(text, " \n"), *a = strtok(NULL, " \n"), *b = strtok(NULL, " \n");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], word) == 0) c->kind = (kind)i;
    if (c->kind >= RENAME) {
        c->path = strdup(a);
        c->to = b ? strdup(b) : NULL;
        return;
    }
    c->inode = strtoull(a, NULL, 10);
    if (c->kind == DATA || c->kind == SYNC) c->data = atol(b);
    if (c->kind == FILE_NEW || c->kind == FOLDER_NEW) c->path = strdup(b);
    if (c->data > data_count) data_count = c->data;
}

static void read_log(void)
{
    char path[PATH], text[2 * PATH];
    snprintf(path, sizeof path, "%s/log", log_folder);
    FILE *file = fopen(path, "r");
    if (!file) fail("cannot read", path);
    while (fgets(text, sizeof text, file) && line_count < MOST_LINES)
        read_line(text, &lines[line_count++]);
    fclose(file);
}

/* Whether the folder that a change of names is in was forced to the disk between it and the cut. */
static bool is_forced(int line, int end)
{
    int parent;
    const char *name;
    const cut c = {.way = FORCED, .line = line};
    replay(&c);
    find(lines[line].to ? lines[line].to : lines[line].path, &parent, &name);
    for (int i = line + 1; i < end; i++)
        if (lines[i].kind == NAMES && parent >= 0 && lines[i].inode == nodes[parent].inode) return true;
    return false;
}

/* ---- all of them ---- */

static uint64_t sums[MOST_STATES];
static cut cuts[MOST_STATES];
static int state_count;

static void consider(cut c)
{
    replay(&c);
    uint64_t sum = sum_of_state(&c);
    /* A state that is the same, but of which more must last, is another. */
    const cut forced = {.way = FORCED, .line = c.line};
    replay(&forced);
    for (int i = 1; i < node_count; i++)
        if (nodes[i].parent == 0 && nodes[i].parent_on_disk == 0)
            sum += add_bytes(1, nodes[i].name_on_disk, strlen(nodes[i].name_on_disk));
    for (int i = 0; i < state_count; i++)
        if (sums[i] == sum) return;
    if (state_count == MOST_STATES) fail("too many states", root);
    sums[state_count] = sum;
    cuts[state_count++] = c;
}

int main(int argc, char **argv)
{
    if (argc < 5) fail("expected", "BEFORE LOG FOLDER OUT [POINTS]");
    before = argv[1];
    log_folder = argv[2];
    root = argv[3];
    read_log();
    if (strcmp(argv[1], "-") == 0)
        add_node(0, true, -1, "");
    else
        read_before(argv[1], -1, "");
    first_count = node_count;
    memcpy(first_nodes, nodes, sizeof nodes);
    for (int line = 0; line <= line_count; line++) {
        for (way w = FORCED; w < ALL_BUT_ONE; w++)
            consider((cut){.way = w, .line = line});
        for (int lost = line - 1; lost >= 0 && lost > line - 40; lost--)
            if (changes_names(&lines[lost]) && !is_forced(lost, line))
                consider((cut){.way = ALL_BUT_ONE, .line = line, .lost = lost});
    }
    int points = argc > 5 ? atoi(argv[5]) : state_count, number = 0;
    if (points > state_count) points = state_count;
    for (int i = 0; i < points; i++)
        write_cut(&cuts[points == 1 ? state_count - 1 : (int)((long)i * (state_count - 1) / (points - 1))], argv[4],
                  number++);
    printf("%d %d\n", number, state_count);
    return 0;
}
