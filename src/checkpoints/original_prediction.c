/* What the UNet of an original checkpoint predicts: told by marks in the file or by the
 * configuration of CompVis' program that lies beside it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "options/choices.h"
#include "checkpoints/original_parts.h"

enum {
    BASE_STEPS = 875000,  /* training steps of the published 2.0 base, the one 2.x that predicts epsilon */
    MOST_BYTES = 1 << 16, /* of a configuration; the published ones have 2,000 */
};

const char *sp_prediction_type(const char *name)
{
#define X(kind, text) text,
    static const char *const types[] = {SP_PREDICTION_TYPE_LIST(X)};
#undef X
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i]) == 0) return types[i];
    return NULL;
}

/* diffusers' name of what CompVis' program, ModelSpec or diffusers call so; NULL for anything else. */
static const char *type_of(const char *name)
{
    static const char *const others[][2] = {{"eps", "epsilon"}, {"v", "v_prediction"}, {"x0", "sample"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i][0]) == 0) return others[i][1];
    return sp_prediction_type(name);
}

/* ---- NAME.yaml ---- */

/* NAME.yaml beside NAME.safetensors. */
static char *yaml_path(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    size_t length = dot && (!slash || dot > slash + 1) ? (size_t)(dot - path) : strlen(path);
    return sp_format("%.*s.yaml", (int)length, path);
}

/* The first MOST_BYTES of a regular file as text; *out stays empty where there is none. */
static sp_status read_beginning(const char *path, char *out)
{
    struct stat about;
    ssize_t got = 0, length = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    out[0] = 0;
    if (file < 0) return SP_OK;
    bool regular = fstat(file, &about) == 0 && S_ISREG(about.st_mode);
    while (regular && length < MOST_BYTES && (got = read(file, out + length, (size_t)(MOST_BYTES - length))) > 0)
        length += got;
    close(file);
    if (got < 0) return sp_fail(SP_IO, "%s could not be read", path);
    out[length] = 0;
    return SP_OK;
}

/* A line "KEY: VALUE" of a block mapping, in place; a comment and quotes are taken off the value. */
typedef struct {
    size_t indent;
    char *key, *value;
} yaml_line;

static bool read_line(char *text, yaml_line *out)
{
    out->indent = strspn(text, " ");
    out->key = text + out->indent;
    char *colon = strchr(out->key, ':');
    if (!colon || strchr("#-\t\r", *out->key) || (colon[1] && !strchr(" \t\r", colon[1]))) return false;
    *colon = 0;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    char quote = *value == '"' || *value == '\'' ? *value : 0, *end;
    if (quote)
        end = strchr(++value, quote);
    else
        end = *value == '#' ? value : strstr(value, " #");
    if (!end) end = value + strlen(value);
    while (!quote && end > value && strchr(" \t\r", end[-1]))
        end--;
    *end = 0;
    out->value = value;
    return true;
}

/* Looks for model: params: parameterization: in block mappings. *found: the value, "" if there are
 * parameters and it is not among them, NULL if there are none. */
static void find_parameterization(char *text, const char **found)
{
    static const char *const path[] = {"model", "params", "parameterization"};
    enum { DEPTH = 3 };
    size_t indent[DEPTH] = {0}; /* of the keys among which path[i] is looked for; 0: not seen yet, or the outermost */
    int depth = 0;              /* so many of the path are entered */
    yaml_line line;
    *found = NULL;
    for (char *row; (row = strsep(&text, "\n"));) {
        if (!read_line(row, &line)) continue;
        while (depth > 0 && line.indent <= indent[depth - 1])
            depth--;
        if (depth > 0 && !indent[depth]) indent[depth] = line.indent;
        if (line.indent != indent[depth] || strcmp(line.key, path[depth]) != 0) continue;
        if (depth == DEPTH - 1) {
            *found = line.value;
        } else if (!*line.value) {
            indent[++depth] = 0;
            if (depth == DEPTH - 1 && !*found) *found = "";
        }
    }
}

static sp_status read_yaml(const char *path, char *text, sp_original_prediction *out)
{
    const char *found;
    SP_TRY(read_beginning(path, text));
    find_parameterization(text, &found);
    if (!found) return SP_OK;
    out->said = true;
    out->type = type_of(*found ? found : "eps"); /* LatentDiffusion's own */
    if (out->type) return SP_OK;
    return sp_fail(SP_UNSUPPORTED, "%s: \"parameterization\" is \"%.32s\", which is not supported (eps, v or x0)", path,
                   found);
}

static sp_status ask_yaml(const sp_tensor_file *file, sp_original_prediction *out)
{
    char *path = yaml_path(sp_tensor_file_path(file)), *text = sp_alloc(MOST_BYTES + 1);
    sp_status status = path && text ? read_yaml(path, text, out) : SP_MEMORY;
    sp_free(path);
    sp_free(text);
    return status;
}

/* ---- the file ---- */

static void ask_metadata(const sp_tensor_file *file, sp_original_prediction *out)
{
    const char *said = sp_tensor_file_metadata(file, "modelspec.prediction_type");
    out->type = said ? type_of(said) : NULL;
    out->said = out->type != NULL;
}

/* As diffusers guesses. */
static bool probably_v(const sp_tensor_file *file)
{
    const char *steps = sp_tensor_file_metadata(file, "global_step");
    char base[16];
    snprintf(base, sizeof base, "%d", BASE_STEPS);
    return sp_original_pads_with_zero(file) && !(steps && strcmp(steps, base) == 0);
}

sp_status sp_original_predicts(const sp_tensor_file *file, const char *prediction, sp_original_prediction *out)
{
    *out = (sp_original_prediction){.zero_snr = sp_tensor_file_find(file, SP_ORIGINAL_ZERO_SNR)};
    if (prediction) {
        out->type = sp_prediction_type(prediction);
        return out->type ? SP_OK : sp_fail(SP_ARGUMENT, "prediction type \"%.64s\" is not known", prediction);
    }
    out->said = sp_tensor_file_find(file, SP_ORIGINAL_V);
    out->type = "v_prediction";
    if (!out->said) SP_TRY(ask_yaml(file, out));
    if (!out->said) ask_metadata(file, out);
    if (!out->said) out->type = probably_v(file) ? "v_prediction" : "epsilon";
    return SP_OK;
}
