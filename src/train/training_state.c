/* Training state and checkpoints. */
#include "train/training_state.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/text.h"

enum { SP_PART_COUNT = 4 };
static const char *const part_names[SP_PART_COUNT] = {"online", "ema", "first_moment",
                                                      "second_moment"};

static sp_weights **part(sp_training_state *state, int index)
{
    sp_weights **parts[SP_PART_COUNT] = {&state->online, &state->ema, &state->first_moment,
                                         &state->second_moment};
    return parts[index];
}

/* ---- making ---- */

const char *sp_optimizer_name(sp_optimizer optimizer)
{
#define X(name, text) text,
    static const char *const names[] = {SP_OPTIMIZER_LIST(X)};
#undef X
    return names[optimizer];
}

sp_status sp_optimizer_of(const char *name, sp_optimizer *out)
{
    for (int i = 0; i < SP_OPTIMIZER_COUNT; i++)
        if (strcmp(name, sp_optimizer_name((sp_optimizer)i)) == 0) {
            *out = (sp_optimizer)i;
            return SP_OK;
        }
    return sp_fail(SP_ARGUMENT, "optimizer \"%s\" is not known: adamw and adamw8bit are", name);
}

static bool is_coded(sp_optimizer optimizer, int64_t count)
{
    return optimizer == SP_OPTIMIZER_ADAMW8BIT && count >= SP_LEAST_CODED;
}

size_t sp_moment_bytes(sp_optimizer optimizer, int64_t count)
{
    if (!is_coded(optimizer, count)) return 2 * sizeof(float) * (size_t)count;
    return 2 * ((size_t)count + sizeof(float) * (size_t)sp_moment_blocks(count));
}

static const char scales_suffix[] = ".scales";

static sp_tensor *scales_of(const sp_weights *moments, const char *name)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", name, scales_suffix);
    return sp_weights_find(moments, full);
}

static sp_status add_moment(sp_weights *moments, const char *name, sp_shape shape, bool coded,
                            uint8_t zero)
{
    sp_tensor tensor;
    SP_TRY(sp_tensor_create(coded ? SP_U8 : SP_F32, shape, &tensor));
    if (coded) memset(tensor.data, zero, sp_tensor_bytes(&tensor));
    SP_TRY(sp_weights_add(moments, name, tensor));
    if (!coded) return SP_OK;
    SP_TRY(sp_tensor_create(SP_F32, sp_shape_of(sp_moment_blocks(sp_shape_count(shape))), &tensor));
    char *full = sp_format("%s%s", name, scales_suffix);
    sp_status status = full ? sp_weights_add(moments, full, tensor) : SP_MEMORY;
    if (!full) sp_tensor_free(&tensor);
    sp_free(full);
    return status;
}

static sp_status make_moments(const sp_weights *online, sp_optimizer optimizer, uint8_t zero,
                              sp_weights **out)
{
    SP_TRY(sp_weights_create(out));
    for (size_t i = 0; i < sp_weights_count(online); i++) {
        const sp_tensor *weight = sp_weights_at(online, i);
        SP_TRY(add_moment(*out, sp_weights_name(online, i), weight->shape,
                          is_coded(optimizer, sp_tensor_count(weight)), zero));
    }
    return SP_OK;
}

sp_status sp_training_state_create(sp_weights *initial, sp_optimizer optimizer,
                                   sp_training_state *out)
{
    *out = (sp_training_state){.online = initial};
    sp_status status = sp_weights_copy(initial, SP_F32, &out->ema);
    if (!status) status = make_moments(initial, optimizer, SP_MOMENT_ZERO, &out->first_moment);
    if (!status) status = make_moments(initial, optimizer, 0, &out->second_moment);
    if (status) sp_training_state_free(out);
    return status;
}

static sp_moment moment_of(const sp_weights *moments, const char *name)
{
    sp_tensor *tensor = sp_weights_find(moments, name);
    if (tensor->dtype == SP_F32) return (sp_moment){.values = tensor->data};
    return (sp_moment){.codes = tensor->data, .scales = scales_of(moments, name)->data};
}

sp_adamw_tensor sp_training_tensor(const sp_training_state *state, size_t index)
{
    const sp_tensor *weight = sp_weights_at(state->online, index);
    const char *name = sp_weights_name(state->online, index);
    return (sp_adamw_tensor){.count = sp_tensor_count(weight),
                             .weight = weight->data,
                             .first = moment_of(state->first_moment, name),
                             .second = moment_of(state->second_moment, name),
                             .ema = sp_weights_find(state->ema, name)->data};
}

void sp_training_state_free(sp_training_state *state)
{
    for (int i = 0; i < SP_PART_COUNT; i++)
        sp_weights_destroy(*part(state, i));
    *state = (sp_training_state){0};
}

/* ---- settings ---- */

sp_status sp_settings_set_text(json_t *settings, const char *flag, const char *text)
{
    unsigned long failures = sp_alloc_failures();
    if (json_object_set_new(settings, flag, json_string(text)) == 0) return SP_OK;
    return sp_alloc_failures() != failures
               ? SP_MEMORY
               : sp_fail(SP_ARGUMENT, "--%s \"%s\" is not UTF-8", flag, text);
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

static char *checkpoint_path(const char *output, int64_t step)
{
    return sp_format("%s/checkpoint-%lld", output, (long long)step);
}

/* ---- saving ---- */

static sp_status save_parts(const char *folder, const sp_training_state *state)
{
    for (int i = 0; i < SP_PART_COUNT; i++) {
        char *path = sp_format("%s/%s.safetensors", folder, part_names[i]);
        if (!path) return SP_MEMORY;
        sp_status status =
            sp_weights_save(*part((sp_training_state *)state, i), path, SP_F32, NULL, 0);
        sp_free(path);
        SP_TRY(status);
    }
    return SP_OK;
}

static sp_status save_description(const char *folder, const sp_training_state *state,
                                  const json_t *settings)
{
    char *path = sp_path_join(folder, "state.json");
    json_t *description = json_pack("{s:I, s:i, s:O}", "step", (json_int_t)state->step, "threads",
                                    sp_threads(), "settings", settings);
    sp_status status = path && description ? sp_json_save(path, description) : SP_MEMORY;
    json_decref(description);
    sp_free(path);
    return status;
}

/* Keeps `limit` checkpoints of those up to `step`. Later ones are another run's: to count them
 * would be to remove this run's own. */
static sp_status remove_oldest(const char *output, int64_t step, int limit)
{
    int64_t *steps;
    size_t count, later = 0;
    SP_TRY(list_checkpoints(output, &steps, &count));
    while (later < count && steps[later] > step)
        later++;
    sp_status status = SP_OK;
    for (size_t i = later + (size_t)limit; i < count && limit > 0 && !status; i++) {
        char *path = checkpoint_path(output, steps[i]);
        status = path ? sp_remove_tree(path) : SP_MEMORY;
        sp_free(path);
    }
    sp_free(steps);
    return status;
}

/* What a killed process left of a checkpoint: checkpoint-STEP.tmp-PID of a process that is no more.
 */
static bool is_left_over(const char *name)
{
    const char *tail = strstr(name, ".tmp-");
    if (!sp_starts_with(name, "checkpoint-") || !tail) return false;
    char *end;
    long process = strtol(tail + strlen(".tmp-"), &end, 10);
    return !*end && process > 0 && kill((pid_t)process, 0) != 0 && errno == ESRCH;
}

sp_status sp_checkpoint_tidy(const char *output, int64_t *newest)
{
    char **names;
    size_t count;
    *newest = -1;
    SP_TRY(sp_list_folder(output, &names, &count));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count; i++) {
        int64_t step = checkpoint_step(names[i]);
        if (step > *newest) *newest = step;
        char *path = !status && is_left_over(names[i]) ? sp_path_join(output, names[i]) : NULL;
        if (path) status = sp_remove_tree(path);
        sp_free(path);
        sp_free(names[i]);
    }
    sp_free(names);
    return status;
}

sp_status sp_checkpoint_save(const char *output, const sp_training_state *state,
                             const json_t *settings, int limit)
{
    char *path = checkpoint_path(output, state->step);
    char *beside = path ? sp_format("%s.tmp-%ld", path, (long)getpid()) : NULL;
    sp_status status = beside ? sp_make_folders(beside) : SP_MEMORY;
    if (!status) status = save_parts(beside, state);
    if (!status) status = save_description(beside, state, settings);
    if (!status) status = sp_remove_tree(path);
    if (!status && rename(beside, path) != 0)
        status = sp_fail(SP_IO, "%s could not be renamed to %s: %s", beside, path, strerror(errno));
    if (status && beside) {
        char *message = sp_strdup(sp_error_message());
        sp_remove_tree(beside);
        status = sp_fail(status, "%s", message ? message : "out of memory");
        sp_free(message);
    }
    sp_free(beside);
    sp_free(path);
    return status ? status : remove_oldest(output, state->step, limit);
}

/* ---- loading ---- */

static sp_status another_run(const char *path, const char *flag, const json_t *before,
                             const json_t *now)
{
    char *old = before ? json_dumps(before, JSON_ENCODE_ANY) : NULL,
         *new = now ? json_dumps(now, JSON_ENCODE_ANY) : NULL;
    sp_status status =
        sp_fail(SP_ARGUMENT, "%s was made with --%s %s; resuming it with %s would be another run",
                path, flag, old ? old : "(none)", new ? new : "(none)");
    sp_free(old);
    sp_free(new);
    return status;
}

static sp_status same_settings(const char *path, const json_t *saved, const json_t *wanted)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)wanted, key, value)
    {
        json_t *before = json_object_get(saved, key);
        if (!before || !json_equal(before, value)) return another_run(path, key, before, value);
    }
    json_object_foreach((json_t *)saved, key,
                        value) if (!json_object_get(wanted, key)) return another_run(path, key,
                                                                                     value, NULL);
    return SP_OK;
}

/* Opens one set and sees that it has every tensor. */
static sp_status open_part(const char *folder, const char *name, const sp_weights *weights,
                           sp_tensor_file **file)
{
    char *path = sp_format("%s/%s.safetensors", folder, name);
    if (!path) return SP_MEMORY;
    sp_status status = sp_safetensors_open(path, file);
    for (size_t i = 0; i < sp_weights_count(weights) && !status; i++) {
        const sp_tensor *tensor = sp_weights_at(weights, i), *saved;
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
        sp_tensor *tensor = sp_weights_at(weights, i);
        const sp_tensor *saved = sp_tensor_file_find(file, sp_weights_name(weights, i));
        memcpy(tensor->data, saved->data, sp_tensor_bytes(tensor));
        sp_tensor_file_drop(file, saved); /* or the state would be in memory twice */
    }
}

/* All sets or none: a state that is half a damaged checkpoint's must not go on. */
static sp_status load_parts(const char *folder, sp_training_state *state)
{
    sp_tensor_file *files[SP_PART_COUNT] = {NULL};
    sp_status status = SP_OK;
    for (int i = 0; i < SP_PART_COUNT && !status; i++)
        status = open_part(folder, part_names[i], *part(state, i), &files[i]);
    for (int i = 0; i < SP_PART_COUNT && !status; i++)
        take_part(files[i], *part(state, i));
    for (int i = 0; i < SP_PART_COUNT; i++)
        sp_tensor_file_close(files[i]);
    return status;
}

static sp_status load_folder(const char *folder, const json_t *settings, sp_training_state *state)
{
    char *path = sp_path_join(folder, "state.json");
    json_t *description = NULL;
    int64_t step = 0, threads = 0;
    sp_status status = path ? sp_json_load(path, &description) : SP_MEMORY;
    if (!status) status = sp_json_int(description, "step", -1, path, &step);
    if (!status) status = sp_json_int(description, "threads", 0, path, &threads);
    if (!status && step < 0)
        status = sp_fail(SP_FORMAT, "%s: \"step\" is missing or negative", path);
    if (!status) status = same_settings(folder, json_object_get(description, "settings"), settings);
    if (!status) status = load_parts(folder, state);
    if (!status) {
        state->step = step;
        if (threads != sp_threads())
            sp_log_warn(
                "%s was made with %d threads and goes on with %d: sums may differ in the last bit",
                folder, (int)threads, sp_threads());
    }
    json_decref(description);
    sp_free(path);
    return status;
}

sp_status sp_checkpoint_load(const char *output, const char *which, const json_t *settings,
                             sp_training_state *state, bool *found)
{
    *found = true;
    if (strcmp(which, "latest") != 0) return load_folder(which, settings, state);
    int64_t *steps;
    size_t count;
    SP_TRY(list_checkpoints(output, &steps, &count));
    *found = false;
    sp_status status = SP_OK;
    for (size_t i = 0; i < count && !*found && !status; i++) {
        char *path = checkpoint_path(output, steps[i]);
        sp_status tried = path ? load_folder(path, settings, state) : SP_MEMORY;
        if (!tried)
            *found = true;
        else if (tried == SP_FORMAT || tried == SP_IO)
            sp_log_warn("skipping a damaged checkpoint: %s", sp_error_message());
        else
            status = tried;
        sp_free(path);
    }
    sp_free(steps);
    return status;
}
