/* Folders of pictures and files of statistics. */
#include "eval/picture_set.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "formats/npz.h"

/* ---- folders ---- */

enum { MOST_DEPTH = 16 };
static const char *const pictures[] = {".png", ".jpg", ".jpeg", ".webp", NULL};
static const char *const foreign[] = {".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".avif", ".heic", ".jxl", NULL};

static bool ends_in(const char *name, const char *const *list)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *list; list++)
        if (strcasecmp(dot, *list) == 0) return true;
    return false;
}

static sp_status add_path(sp_picture_set *set, int64_t *capacity, char *path)
{
    if (set->count == *capacity) {
        int64_t wanted = *capacity ? 2 * *capacity : 256;
        char **grown = sp_realloc(set->paths, (size_t)*capacity * sizeof *grown, (size_t)wanted * sizeof *grown);
        if (!grown) {
            sp_free(path);
            return SP_MEMORY;
        }
        set->paths = grown;
        *capacity = wanted;
    }
    set->paths[set->count++] = path;
    return SP_OK;
}

static sp_status scan(sp_picture_set *set, int64_t *capacity, const char *folder, int depth);

static sp_status scan_name(sp_picture_set *set, int64_t *capacity, const char *folder, const char *name, int depth)
{
    char *path = sp_path_join(folder, name);
    if (!path) return SP_MEMORY;
    sp_status status = SP_OK;
    if (sp_path_is_folder(path))
        status = scan(set, capacity, path, depth + 1);
    else if (ends_in(name, foreign))
        status = sp_fail(SP_UNSUPPORTED, "%s: pictures are read from .png, .jpg, .jpeg and .webp, and one left out "
                         "would be missing in the score", path);
    else if (ends_in(name, pictures))
        return add_path(set, capacity, path);
    sp_free(path);
    return status;
}

static sp_status scan(sp_picture_set *set, int64_t *capacity, const char *folder, int depth)
{
    char **names;
    size_t count;
    if (depth > MOST_DEPTH) return sp_fail(SP_IO, "%s: is more than %d folders deep", folder, MOST_DEPTH);
    SP_TRY(sp_list_folder(folder, &names, &count));
    sp_status status = SP_OK;
    for (size_t i = 0; i < count; i++) {
        if (!status) status = scan_name(set, capacity, folder, names[i], depth);
        sp_free(names[i]);
    }
    sp_free(names);
    return status;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static sp_status open_folder(sp_picture_set *set, int64_t most)
{
    int64_t capacity = 0;
    SP_TRY(scan(set, &capacity, set->source, 0));
    if (set->count < 2)
        return sp_fail(SP_IO, "%s: holds %lld pictures, and a score is of two at least", set->source,
                       (long long)set->count);
    qsort(set->paths, (size_t)set->count, sizeof *set->paths, by_bytes);
    if (most > set->count)
        return sp_fail(SP_ARGUMENT, "%s: holds %lld pictures, and %lld are asked for", set->source,
                       (long long)set->count, (long long)most);
    for (; most && set->count > most; set->count--)
        sp_free(set->paths[set->count - 1]);
    return SP_OK;
}

/* ---- files ---- */

enum { MU, SIGMA, FEATS, COUNT, CONVENTION, TRANSFORM, WEIGHTS, ARRAYS };
static const char *const array_names[ARRAYS] = {
    "mu", "sigma", "feats", "splam_count", "splam_convention", "splam_transform", "splam_weights",
};

/* A word of letters; "" if it is none, or longer than there is room. */
static void take_word(const sp_tensor *array, char *out, size_t size)
{
    size_t length = array->data && array->dtype == SP_U8 ? sp_tensor_bytes(array) : 0;
    snprintf(out, size, "%.*s", length < size ? (int)length : 0, length ? (const char *)array->data : "");
}

/* Weights may be the same in two forms of file, so that another file is no error. */
static sp_status check_words(const sp_picture_set *set, const sp_preparation *preparation, const char *sha256)
{
    const char *name = sp_convention_name(preparation->convention);
    const char *transform = sp_transform_name(preparation->transform);
    if (*set->weights && sha256 && strcmp(set->weights, sha256) != 0)
        sp_log_warn("%s: its features are of another file of weights than %s: compare them only if both hold the same "
                    "network", set->source, sha256);
    if (*set->transform && strcmp(set->transform, transform) != 0)
        return sp_fail(SP_ARGUMENT, "%s: its features are of pictures with the transform \"%s\", not \"%s\", and such "
                       "sets cannot be compared", set->source, set->transform, transform);
    if (!*set->convention || strcmp(set->convention, name) == 0) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: its features are of the convention \"%s\", not \"%s\", and such sets cannot be "
                   "compared", set->source, set->convention, name);
}

static sp_status check_finite(const sp_picture_set *set, const sp_tensor *tensor, const char *name)
{
    char where[1024];
    snprintf(where, sizeof where, "%s: array \"%s\"", set->source, name);
    return sp_tensor_check_finite(tensor, where);
}

static sp_status take_statistics(sp_picture_set *set, sp_tensor *array)
{
    const sp_tensor *mu = &array[MU], *sigma = &array[SIGMA];
    int64_t dim = mu->data && mu->shape.rank == 1 ? mu->shape.dim[0] : 0;
    sp_tensor wide[2] = {{0}};
    if (!sigma->data || dim < 1 || !sp_shape_equal(sigma->shape, sp_shape_of(dim, dim)))
        return sp_fail(SP_SHAPE, "%s: must hold \"mu\" [D] and \"sigma\" [D,D], or \"feats\" [N,D], and has mu %s and "
                       "sigma %s", set->source, mu->data ? sp_shape_text(mu->shape) : "missing",
                       sigma->data ? sp_shape_text(sigma->shape) : "missing");
    sp_status status = sp_tensor_convert(mu, SP_F64, &wide[0]);
    if (!status) status = sp_tensor_convert(sigma, SP_F64, &wide[1]);
    if (!status) status = check_finite(set, &wide[0], "mu");
    if (!status) status = check_finite(set, &wide[1], "sigma");
    if (status) {
        sp_tensor_free(&wide[0]);
        sp_tensor_free(&wide[1]);
        return status;
    }
    const sp_tensor *count = &array[COUNT];
    double said = count->data && sp_tensor_count(count) == 1 ? sp_load(count->data, count->dtype, 0) : 0;
    set->count = said >= 2 && said < 1e15 ? (int64_t)said : 0;
    set->statistics = true;
    set->gaussian = (sp_gaussian){dim, set->count, wide[0].data, wide[1].data};
    return SP_OK;
}

static sp_status take_features(sp_picture_set *set, const sp_tensor *feats)
{
    if (feats->shape.rank != 2 || feats->shape.dim[0] < 2 || feats->shape.dim[1] < 1)
        return sp_fail(SP_SHAPE, "%s: \"feats\" has the shape %s, expected [N,D] of two rows at least", set->source,
                       sp_shape_text(feats->shape));
    SP_TRY(sp_tensor_convert(feats, SP_F32, &set->features.features));
    set->count = feats->shape.dim[0];
    return check_finite(set, &set->features.features, "feats");
}

static sp_status open_file(sp_picture_set *set)
{
    sp_tensor array[ARRAYS];
    SP_TRY(sp_npz_load(set->source, array_names, ARRAYS, array));
    take_word(&array[CONVENTION], set->convention, sizeof set->convention);
    take_word(&array[TRANSFORM], set->transform, sizeof set->transform);
    take_word(&array[WEIGHTS], set->weights, sizeof set->weights);
    sp_status status = array[FEATS].data ? take_features(set, &array[FEATS]) : take_statistics(set, array);
    for (int i = 0; i < ARRAYS; i++)
        sp_tensor_free(&array[i]);
    return status;
}

sp_status sp_picture_set_of_file(const char *path, sp_picture_set *out)
{
    *out = (sp_picture_set){.source = path};
    sp_status status = open_file(out);
    if (status) sp_picture_set_free(out);
    return status;
}

/* ---- both ---- */

sp_status sp_picture_set_open(const char *source, int64_t most, const sp_preparation *preparation,
                              const char *sha256, sp_picture_set *out)
{
    *out = (sp_picture_set){.source = source};
    if (!sp_path_exists(source)) return sp_fail(SP_IO, "%s: no such file or folder", source);
    sp_status status = sp_path_is_folder(source) ? open_folder(out, most) : open_file(out);
    if (!status) status = check_words(out, preparation, sha256);
    if (status) sp_picture_set_free(out);
    return status;
}

void sp_picture_set_free(sp_picture_set *set)
{
    for (int64_t i = 0; set->paths && i < set->count; i++)
        sp_free(set->paths[i]);
    sp_free(set->paths);
    sp_gaussian_free(&set->gaussian);
    sp_inception_features_free(&set->features);
    *set = (sp_picture_set){0};
}

sp_status sp_picture_set_fit(sp_picture_set *set)
{
    return set->gaussian.mean ? SP_OK : sp_gaussian_fit(&set->features.features, &set->gaussian);
}

static sp_tensor letters(const char *word)
{
    return (sp_tensor){SP_U8, sp_shape_of((int64_t)strlen(word)), (void *)(uintptr_t)word, false};
}

sp_status sp_picture_set_save(const sp_picture_set *set, const sp_preparation *preparation, const char *sha256,
                              const char *path)
{
    const sp_gaussian *g = &set->gaussian;
    double how_many = (double)set->count;
    const sp_tensor mu = {SP_F64, sp_shape_of(g->dim), g->mean, false};
    const sp_tensor sigma = {SP_F64, sp_shape_of(g->dim, g->dim), g->covariance, false};
    const sp_tensor count = {SP_F64, sp_shape_of(1), &how_many, false};
    const sp_tensor name = letters(sp_convention_name(preparation->convention)), weights = letters(sha256);
    const sp_tensor transform = letters(sp_transform_name(preparation->transform));
    const sp_named_tensor all[] = {{array_names[MU], &mu},
                                   {array_names[SIGMA], &sigma},
                                   {array_names[COUNT], &count},
                                   {array_names[CONVENTION], &name},
                                   {array_names[TRANSFORM], &transform},
                                   {array_names[WEIGHTS], &weights}};
    return sp_npz_save(path, all, sizeof all / sizeof *all);
}
