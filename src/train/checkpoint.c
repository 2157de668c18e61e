/* Checkpoints: saving, finding, verifying and loading them. */
#include "train/checkpoint.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "train/checksum.h"

static const char *const part_names[SP_TRAINING_PARTS] = {"online", "ema", "first_moment",
                                                          "second_moment", "target"};

/* The sets of all networks, each the file NAME.safetensors: PART of the first, NETWORK_PART of one beside it. */
enum { SP_MOST_FILES = 4 * SP_TRAINING_PARTS };
typedef struct {
    int count;
    sp_weights *weights[SP_MOST_FILES];
    char name[SP_MOST_FILES][64];
} state_files;

static state_files files_of(sp_training_state *state)
{
    state_files files = {0};
    for (sp_training_state *network = state; network; network = network->beside)
        for (int i = 0; i < SP_TRAINING_PARTS && files.count < SP_MOST_FILES; i++) {
            if (!*sp_training_part(network, i)) continue;
            snprintf(files.name[files.count], sizeof files.name[0], "%s%s%s", network == state ? "" : network->name,
                     network == state ? "" : "_", part_names[i]);
            files.weights[files.count++] = *sp_training_part(network, i);
        }
    return files;
}

/* ---- names: output/checkpoint-STEP ---- */

static int64_t checkpoint_step(const char *name)
{
    if (!sp_starts_with(name, "checkpoint-")) return -1;
    char *end;
    long long step = strtoll(name + strlen("checkpoint-"), &end, 10);
    return *end || end == name + strlen("checkpoint-") || step < 0 ? -1 : (int64_t)step;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Steps of the checkpoints under output, newest first, in a new array. */
static sp_status list_checkpoints(const char *output, int64_t **out, size_t *count)
{
    char **names = NULL;
    size_t name_count = 0;
    *out = NULL;
    *count = 0;
    if (!sp_path_is_folder(output)) return SP_OK;
    SP_TRY(sp_list_folder(output, &names, &name_count));
    *out = sp_alloc((name_count + 1) * sizeof **out);
    for (size_t i = 0; i < name_count; i++) {
        int64_t step = checkpoint_step(names[i]);
        if (*out && step >= 0) (*out)[(*count)++] = step;
        sp_free(names[i]);
    }
    sp_free(names);
    if (!*out) return SP_MEMORY;
    qsort(*out, *count, sizeof **out, newest_first);
    return SP_OK;
}

char *sp_checkpoint_path(const char *output, int64_t step)
{
    return sp_format("%s/checkpoint-%lld", output, (long long)step);
}

/* ---- saving ---- */

static sp_status save_parts(sp_checksums *sums, const sp_training_state *state)
{
    const state_files files = files_of((sp_training_state *)state);
    for (int i = 0; i < files.count; i++)
        sums->total += (int64_t)sp_weights_bytes(files.weights[i]);
    for (int i = 0; i < files.count; i++)
        SP_TRY(sp_checksum_save(sums, files.name[i], files.weights[i]));
    return SP_OK;
}

/* {"step": s, "error": x}, the latter where it was measured. */
static json_t *validated_json(const sp_validated *validated)
{
    json_t *json = json_pack("{s:I}", "step", (json_int_t)validated->step);
    if (!json || !isfinite(validated->error) ||
        json_object_set_new(json, "error", json_real(validated->error)) == 0)
        return json;
    json_decref(json);
    return NULL;
}

static sp_status save_description(const sp_checksums *sums, const sp_training_state *state,
                                  const json_t *settings)
{
    char *path = sp_path_join(sums->folder, SP_STATE_FILE);
    json_t *description = json_pack("{s:I, s:o, s:o, s:O, s:O}", "step", (json_int_t)state->step, "validated",
                                    validated_json(&state->validated), "best", validated_json(&state->best), "settings",
                                    settings, "files", sums->files);
    sp_status status = path && description ? sp_checksum_seal(description) : SP_MEMORY;
    if (!status) status = sp_json_save(path, description);
    json_decref(description);
    sp_free(path);
    return status;
}

/* The step of the best that a checkpoint knows of; 0: of none. One that cannot be read is no one's to go on with. */
static int64_t best_of(const char *path)
{
    sp_checkpoint_facts facts;
    if (!path || sp_checkpoint_facts_read(path, &facts)) return 0;
    int64_t step = facts.best.step;
    sp_checkpoint_facts_free(&facts);
    return step;
}

/* Keeps `limit` checkpoints of those up to `step`, and the best of each. That is one more at most: a best is a
 * checkpoint of its step, so those that stay have either a best among them or all the same one. Later ones are another
 * run's: to count them would be to remove this run's own. */
static sp_status remove_oldest(const char *output, int64_t step, int limit)
{
    int64_t *steps;
    size_t count, later = 0;
    SP_TRY(list_checkpoints(output, &steps, &count));
    while (later < count && steps[later] > step)
        later++;
    sp_status status = SP_OK;
    int64_t best = 0; /* of the oldest that stays, older than it or itself */
    for (size_t i = later; i < count && !status; i++) {
        const bool stays = limit <= 0 || i < later + (size_t)limit;
        char *path = sp_checkpoint_path(output, steps[i]);
        if (!path)
            status = SP_MEMORY;
        else if (stays)
            best = limit > 0 ? best_of(path) : 0;
        else if (steps[i] != best)
            status = sp_remove_folder(path);
        sp_free(path);
    }
    sp_free(steps);
    return status;
}

/* The process that an unfinished checkpoint, checkpoint-STEP.tmp-PID, is or was of; 0: it is none. */
static pid_t process_of(const char *name)
{
    const char *tail = strstr(name, ".tmp-");
    if (!sp_starts_with(name, "checkpoint-") || !tail) return 0;
    char *end;
    long process = strtol(tail + strlen(".tmp-"), &end, 10);
    return *end || process <= 0 ? 0 : (pid_t)process;
}

/* Whether another process is this program; a number may have become another's. */
static bool is_this_program(pid_t process)
{
    char path[64];
    struct stat mine, its;
    snprintf(path, sizeof path, "/proc/%ld/exe", (long)process);
    return process != getpid() && stat("/proc/self/exe", &mine) == 0 && stat(path, &its) == 0 &&
           mine.st_dev == its.st_dev && mine.st_ino == its.st_ino;
}

/* One that is stopped with a run in several processes saves in a process of its own (trainer.c). */
static sp_status wait_for_saving(const char *path, pid_t process, const sp_callbacks *callbacks)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    if (sp_path_exists(path) && is_this_program(process))
        sp_log_info("waiting for process %ld, which is still saving %s", (long)process, path);
    while (sp_path_exists(path) && is_this_program(process)) {
        SP_TRY(sp_check_cancelled(callbacks));
        nanosleep(&moment, NULL);
    }
    return SP_OK;
}

static sp_status tidy_one(const char *output, const char *name, const sp_callbacks *callbacks)
{
    pid_t process = process_of(name);
    char *path = process ? sp_path_join(output, name) : NULL;
    if (!path) return process ? SP_MEMORY : SP_OK;
    sp_status status = wait_for_saving(path, process, callbacks);
    if (!status && kill(process, 0) != 0 && errno == ESRCH) status = sp_remove_tree(path);
    sp_free(path);
    return status;
}

sp_status sp_checkpoint_tidy(const char *output, const sp_callbacks *callbacks)
{
    char **names;
    size_t count;
    SP_TRY(sp_list_folder(output, &names, &count));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count; i++) {
        if (!status) status = tidy_one(output, names[i], callbacks);
        sp_free(names[i]);
    }
    sp_free(names);
    return status;
}

static sp_status write_folder(const char *folder, const sp_training_state *state,
                              const json_t *settings, const sp_callbacks *callbacks)
{
    sp_checksums sums = {.folder = folder,
                         .files = json_object(),
                         .callbacks = callbacks,
                         .task = "saving a checkpoint",
                         .started = sp_now()};
    sp_status status = sums.files ? sp_make_folders(folder) : SP_MEMORY;
    if (!status) status = save_parts(&sums, state);
    if (!status) status = save_description(&sums, state, settings);
    json_decref(sums.files);
    return status;
}

sp_status sp_checkpoint_save(const char *output, const sp_training_state *state,
                             const json_t *settings, int limit, const sp_callbacks *callbacks)
{
    char *path = sp_checkpoint_path(output, state->step);
    char *beside = path ? sp_format("%s.tmp-%ld", path, (long)getpid()) : NULL;
    sp_status status = beside ? write_folder(beside, state, settings, callbacks) : SP_MEMORY;
    if (!status)
        status = sp_replace_folder(beside, path);
    else if (beside)
        status = sp_give_up_folder(beside, status);
    sp_free(beside);
    sp_free(path);
    /* Older ones go only now that the new one is on disk. */
    return status ? status : remove_oldest(output, state->step, limit);
}

/* ---- a run begins ---- */

sp_status sp_checkpoint_check_output(const char *output, const char *resume, const char *const *names)
{
    int64_t *steps;
    size_t count;
    SP_TRY(list_checkpoints(output, &steps, &count));
    int64_t newest = count ? steps[0] : -1;
    sp_free(steps);
    if (resume) return SP_OK;
    if (newest >= 0)
        return sp_fail(SP_ARGUMENT, "`output` is %s, which has checkpoint-%lld of an earlier run: `resume` latest goes "
                       "on with that, and another folder begins anew", output, (long long)newest);
    char *metrics = sp_path_join(output, "metrics.jsonl");
    bool own = metrics && sp_path_exists(metrics);
    sp_status status = metrics ? SP_OK : SP_MEMORY;
    sp_free(metrics);
    for (; *names && !own && !status; names++) {
        char *path = sp_path_join(output, *names);
        if (!path) status = SP_MEMORY;
        if (path && sp_path_exists(path))
            status = sp_fail(SP_ARGUMENT, "`output` is %s, which has a %s that is of no earlier run and would be "
                             "overwritten; give another folder", output, *names);
        sp_free(path);
    }
    return status;
}

/* ---- loading ---- */

static sp_status another_run(const char *path, const char *flag, const json_t *before,
                             const json_t *now)
{
    char *old = before ? sp_json_dumps(before, 0) : NULL,
         *new = now ? sp_json_dumps(now, 0) : NULL;
    const char *format = strcmp(flag, "ranks") == 0
                             ? "%s was made with mpirun -n: %s %s; resuming it with %s would be another run"
                             : "%s was made with `%s` %s; resuming it with %s would be another run";
    char member[64];
    sp_status status = sp_fail(SP_ARGUMENT, format, path, sp_setting_member(flag, member), old ? old : "(none)",
                               new ? new : "(none)");
    sp_free(old);
    sp_free(new);
    return status;
}

/* How the samples of a step are divided: what counts for a run is their product. */
static const char *const divisions[] = {"ranks", "train-batch-size", "gradient-accumulation-steps"};
enum { SP_DIVISIONS = sizeof divisions / sizeof *divisions };

static bool is_division(const char *key)
{
    bool found = false;
    for (int i = 0; i < SP_DIVISIONS; i++)
        found |= strcmp(key, divisions[i]) == 0;
    return found;
}

static json_int_t samples_of_step(const json_t *settings)
{
    json_int_t product = 1;
    for (int i = 0; i < SP_DIVISIONS; i++) {
        json_t *value = json_object_get(settings, divisions[i]);
        if (value && __builtin_mul_overflow(product, json_integer_value(value), &product))
            return -1;
    }
    return product;
}

static sp_status same_division(const char *path, const json_t *saved, const json_t *wanted)
{
    bool same_samples = samples_of_step(saved) == samples_of_step(wanted), same = true;
    for (int i = 0; i < SP_DIVISIONS; i++) {
        json_t *before = json_object_get(saved, divisions[i]),
               *now = json_object_get(wanted, divisions[i]);
        if (before == now || json_equal(before, now)) continue;
        if (!same_samples) return another_run(path, divisions[i], before, now);
        same = false;
    }
    if (!same)
        sp_log_warn("%s divided the samples of a step otherwise into ranks and micro-batches: sums "
                    "may differ in the last bit",
                    path);
    return SP_OK;
}

/* A model is the same one, however its path is spelled. */
static bool same_model(const char *key, const json_t *before, const json_t *now)
{
    const char *a = json_string_value(before), *b = json_string_value(now);
    bool names_one = strcmp(key, "teacher") == 0 || strcmp(key, "student-start") == 0;
    char *own = names_one && a ? realpath(a, NULL) : NULL, *other = names_one && b ? realpath(b, NULL) : NULL;
    bool same = own && other && strcmp(own, other) == 0;
    free(own);
    free(other);
    return same;
}

static sp_status same_settings(const char *path, const json_t *saved, const json_t *wanted)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)wanted, key, value)
    {
        json_t *before = json_object_get(saved, key);
        if (is_division(key)) continue;
        if (before && (json_equal(before, value) || same_model(key, before, value))) continue;
        return another_run(path, key, before, value);
    }
    json_object_foreach((json_t *)saved, key, value)
    {
        if (!is_division(key) && !json_object_get(wanted, key))
            return another_run(path, key, value, NULL);
    }
    return same_division(path, saved, wanted);
}

/* Opens one set and sees that it has every tensor. */
static sp_status open_part(const char *folder, const char *name, const sp_weights *weights,
                           sp_tensor_file **file)
{
    char *path = sp_format("%s/%s.safetensors", folder, name);
    if (!path) return SP_MEMORY;
    sp_status status = sp_safetensors_open(path, file);
    for (size_t i = 0; i < sp_weights_count(weights) && !status; i++) {
        const sp_tensor stored = sp_tensor_stored(sp_weights_at(weights, i)), *tensor = &stored, *saved;
        status = sp_tensor_file_get(*file, sp_weights_name(weights, i), &saved);
        if (!status &&
            (saved->dtype != tensor->dtype || !sp_shape_equal(saved->shape, tensor->shape)))
            status = sp_fail(SP_FORMAT, "%s: tensor \"%s\" is %s %s, expected %s %s", path,
                             sp_weights_name(weights, i), sp_dtype_name(saved->dtype),
                             sp_shape_text(saved->shape), sp_dtype_name(tensor->dtype),
                             sp_shape_text(tensor->shape));
    }
    sp_free(path);
    return status;
}

static void take_part(const sp_tensor_file *file, sp_weights *weights)
{
    for (size_t i = 0; i < sp_weights_count(weights); i++) {
        sp_tensor tensor = sp_tensor_stored(sp_weights_at(weights, i)); /* the same data */
        const sp_tensor *saved = sp_tensor_file_find(file, sp_weights_name(weights, i));
        memcpy(tensor.data, saved->data, sp_tensor_bytes(&tensor));
        sp_tensor_file_drop(file, saved); /* or the state would be in memory twice */
    }
}

/* All sets or none: a state that is half a damaged checkpoint's must not go on. *taken is set as soon as the
 * state is no longer what it was: a file may become shorter while it is copied. */
static sp_status load_parts(const char *folder, sp_training_state *state, bool *taken)
{
    const state_files sets = files_of(state);
    sp_tensor_file *files[SP_MOST_FILES] = {NULL};
    sp_status status = SP_OK;
    for (int i = 0; i < sets.count && !status; i++)
        status = open_part(folder, sets.name[i], sets.weights[i], &files[i]);
    *taken |= !status;
    for (int i = 0; i < sets.count && !status; i++) {
        take_part(files[i], sets.weights[i]);
        status = sp_tensor_file_check(files[i]);
    }
    for (int i = 0; i < sets.count; i++)
        sp_tensor_file_close(files[i]);
    return status;
}

static sp_status verify_parts(const char *folder, const json_t *description, sp_training_state *state,
                              const sp_callbacks *callbacks)
{
    const state_files sets = files_of(state);
    const char *names[SP_MOST_FILES];
    for (int i = 0; i < sets.count; i++)
        names[i] = sets.name[i];
    sp_checksums sums = {.folder = folder,
                         .files = json_object_get(description, "files"),
                         .callbacks = callbacks,
                         .task = "verifying a checkpoint",
                         .started = sp_now()};
    return sp_checksum_verify(&sums, names, (size_t)sets.count);
}

sp_status sp_is_checkpoint(const char *folder, bool *out)
{
    char *path = sp_path_join(folder, SP_STATE_FILE);
    *out = path && sp_path_exists(path);
    sp_free(path);
    return path ? SP_OK : SP_MEMORY;
}

/* *out stays where there is none. */
static sp_status read_validated(const json_t *json, const char *key, const char *path, sp_validated *out)
{
    const json_t *found = json_object_get(json, key);
    if (!found) return SP_OK;
    const json_t *error = json_object_get(found, "error");
    SP_TRY(sp_json_int(found, "step", -1, path, &out->step));
    if (out->step < 0) return sp_fail(SP_FORMAT, "%s: \"step\" of \"%s\" is missing or negative", path, key);
    if (error && !json_is_number(error)) return sp_fail(SP_FORMAT, "%s: \"error\" of \"%s\" is no number", path, key);
    out->error = error ? json_number_value(error) : NAN;
    return SP_OK;
}

static sp_status read_step(const char *path, sp_checkpoint_facts *out)
{
    SP_TRY(sp_json_load(path, &out->json));
    SP_TRY(sp_json_int(out->json, "step", -1, path, &out->step));
    if (out->step < 0) return sp_fail(SP_FORMAT, "%s: \"step\" is missing or negative", path);
    out->validated = (sp_validated){out->step, NAN};
    out->best = (sp_validated){0, NAN};
    SP_TRY(read_validated(out->json, "validated", path, &out->validated));
    return read_validated(out->json, "best", path, &out->best);
}

sp_status sp_checkpoint_facts_read(const char *folder, sp_checkpoint_facts *out)
{
    *out = (sp_checkpoint_facts){0};
    char *path = sp_path_join(folder, SP_STATE_FILE);
    sp_status status = path ? read_step(path, out) : SP_MEMORY;
    if (status) sp_checkpoint_facts_free(out);
    sp_free(path);
    return status;
}

void sp_checkpoint_facts_free(sp_checkpoint_facts *facts)
{
    json_decref(facts->json);
    *facts = (sp_checkpoint_facts){0};
}

static sp_status load_described(const char *folder, const sp_checkpoint_facts *facts, const json_t *settings,
                                sp_training_state *state, const sp_callbacks *callbacks, bool *taken)
{
    SP_TRY(sp_checksum_check_seal(folder, facts->json));
    SP_TRY(same_settings(folder, json_object_get(facts->json, "settings"), settings));
    SP_TRY(verify_parts(folder, facts->json, state, callbacks));
    SP_TRY(load_parts(folder, state, taken));
    state->step = facts->step;
    state->validated = facts->validated;
    state->best = facts->best;
    return SP_OK;
}

static sp_status load_folder(const char *folder, const json_t *settings, sp_training_state *state,
                             const sp_callbacks *callbacks, bool *taken)
{
    sp_checkpoint_facts facts;
    SP_TRY(sp_checkpoint_facts_read(folder, &facts));
    sp_status status = load_described(folder, &facts, settings, state, callbacks, taken);
    sp_checkpoint_facts_free(&facts);
    return status;
}

/* The checkpoint of that step beside `which`, written anew in output. */
static sp_status copy_from_beside(const char *output, const char *which, int64_t step)
{
    char *folder = sp_format("%s/..", which), *from = folder ? sp_checkpoint_path(folder, step) : NULL,
         *to = sp_checkpoint_path(output, step), *beside = to ? sp_format("%s.tmp-%ld", to, (long)getpid()) : NULL;
    struct stat theirs, ours;
    sp_status status = from && beside ? SP_OK : SP_MEMORY;
    bool elsewhere = !status && stat(folder, &theirs) == 0 && stat(output, &ours) == 0 &&
                     (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino) && sp_path_exists(from);
    if (elsewhere) {
        status = sp_copy_tree(from, beside, NULL);
        status = status ? sp_give_up_folder(beside, status) : sp_replace_folder(beside, to);
    }
    sp_free(beside);
    sp_free(to);
    sp_free(from);
    sp_free(folder);
    return status;
}

sp_status sp_checkpoint_find_best(const char *output, const char *which, const sp_training_state *state)
{
    int64_t step = state->best.step;
    if (step == 0) return SP_OK;
    if (strcmp(which, "latest") != 0 && step != state->step) SP_TRY(copy_from_beside(output, which, step));
    char *path = sp_checkpoint_path(output, step);
    bool there = path && (step == state->step || best_of(path) == step);
    sp_status status = there ? SP_OK : path ? sp_fail(SP_IO, "%s is missing, the best so far of the run that goes on",
                                                      path) : SP_MEMORY;
    sp_free(path);
    return status;
}

sp_status sp_checkpoint_load(const char *output, const char *which, const json_t *settings,
                             sp_training_state *state, const sp_callbacks *callbacks, bool *found)
{
    bool taken = false;
    *found = true;
    if (strcmp(which, "latest") != 0)
        return load_folder(which, settings, state, callbacks, &taken);
    int64_t *steps;
    size_t count;
    SP_TRY(list_checkpoints(output, &steps, &count));
    *found = false;
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && !*found && !status; i++) {
        char *path = sp_checkpoint_path(output, steps[i]);
        sp_status tried = path ? load_folder(path, settings, state, callbacks, &taken) : SP_MEMORY;
        if (!tried)
            *found = true;
        else if (tried == SP_FORMAT || tried == SP_IO)
            sp_log_warn("skipping a damaged checkpoint: %s", sp_error_message());
        else
            status = tried;
        sp_free(path);
    }
    sp_free(steps);
    /* Who resumes does not mean to begin anew, over what is there. */
    if (!status && !*found && (taken || count > 0))
        status = sp_fail_within(SP_IO, "%s: no checkpoint could be read whole", output);
    return status;
}
