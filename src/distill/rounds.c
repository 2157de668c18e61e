/* Progressive distillation's rounds, each with half the steps. */
#include "distill/rounds.h"
#include <string.h>
#include "base/file.h"
#include "base/memory.h"

static char *teacher_path(const char *folder, int round)
{
    return sp_format("%s/round-%d.safetensors", folder, round);
}

static sp_status keep(const char *path, const char *settings, const sp_weights *teacher)
{
    const char *const metadata[][2] = {{"format", "pt"}, {"settings", settings}};
    return sp_weights_save(teacher, path, SP_F32, metadata, 2, NULL);
}

/* From a file of this very run. */
static sp_status load(const char *path, const char *settings, sp_weights **out)
{
    sp_tensor_file *file;
    sp_weights *views = NULL;
    SP_TRY(sp_safetensors_open(path, &file));
    const char *own = sp_tensor_file_metadata(file, "settings");
    sp_status status =
        own && strcmp(own, settings) == 0
            ? sp_weights_create(&views)
            : sp_fail(SP_ARGUMENT,
                      "%s is of a run with other flags, and this one cannot go on with it as its "
                      "teacher",
                      path);
    if (!status) status = sp_weights_add_file(views, file);
    if (!status) status = sp_weights_copy(views, SP_F32, out);
    sp_weights_destroy(views);
    sp_tensor_file_close(file);
    return status;
}

/* Beside the checkpoint that --resume names; NULL in *out if it names none. */
static sp_status path_beside(const sp_distill_options *o, int round, char **out)
{
    *out = NULL;
    if (!o->given.resume || strcmp(o->given.resume, "latest") == 0) return SP_OK;
    char *folder = sp_format("%s/..", o->given.resume);
    *out = folder ? teacher_path(folder, round) : NULL;
    sp_free(folder);
    return *out ? SP_OK : SP_MEMORY;
}

static sp_status find(const sp_distill_options *o, const char *path, const char *settings,
                      int round, sp_weights **out)
{
    char *beside;
    SP_TRY(path_beside(o, round, &beside));
    bool elsewhere = beside && sp_path_exists(beside);
    sp_status status = load(elsewhere ? beside : path, settings, out);
    if (!status && elsewhere) status = keep(path, settings, *out); /* for the next resume */
    sp_free(beside);
    return status;
}

sp_status sp_round_teacher(const sp_distill_options *o, const json_t *settings,
                           const sp_training_state *state, int round, sp_weights **out)
{
    *out = NULL;
    char *path = teacher_path(o->given.output, round);
    char *text = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS);
    sp_status status = path && text ? SP_OK : SP_MEMORY;
    bool first = state->step == sp_round_begin(&o->objective, round, o->given.max_train_steps);
    if (!status && first) status = sp_weights_copy(state->online, SP_F32, out);
    if (!status && first) status = keep(path, text, *out);
    if (!status && !first) status = find(o, path, text, round, out);
    if (status) {
        sp_weights_destroy(*out);
        *out = NULL;
    }
    sp_json_text_free(text);
    sp_free(path);
    return status;
}
