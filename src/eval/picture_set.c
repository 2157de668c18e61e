/* Sets of pictures, and files of their statistics. */
#include "eval/picture_set.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/npz.h"
#include "formats/tensor_file.h"

/* ---- files ---- */

enum { MU, SIGMA, FEATS, REPS, COUNT, CONVENTION, TRANSFORM, WEIGHTS, ARRAYS };
static const char *const array_names[ARRAYS] = {
    "mu", "sigma", "feats", "reps", "splam_count", "splam_convention", "splam_transform", "splam_weights",
};

/* A word of letters; "" if it is none, or longer than there is room. */
static void take_word(const sp_tensor *array, char *out, size_t size)
{
    size_t length = array->data && array->dtype == SP_U8 ? sp_tensor_bytes(array) : 0;
    snprintf(out, size, "%.*s", length < size ? (int)length : 0, length ? (const char *)array->data : "");
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
    char where[1024];
    snprintf(where, sizeof where, "%s: array \"%s\"", set->source, array_names[SIGMA]);
    return sp_gaussian_check(&set->gaussian, where);
}

/* The first `most` rows; 0: all. */
static sp_status take_features(sp_picture_set *set, const sp_tensor *feats, const char *name, int64_t most)
{
    if (feats->shape.rank != 2 || feats->shape.dim[0] < 2 || feats->shape.dim[1] < 1)
        return sp_fail(SP_SHAPE, "%s: \"%s\" has the shape %s, expected [N,D] of two rows at least", set->source, name,
                       sp_shape_text(feats->shape));
    SP_TRY(sp_tensor_convert(feats, SP_F32, &set->feats));
    if (most && most < feats->shape.dim[0]) set->feats.shape.dim[0] = most;
    set->count = set->feats.shape.dim[0];
    return check_finite(set, &set->feats, name);
}

/* What stands under these names in a .safetensors file, or another of named tensors. */
static sp_status load_tensors(const char *path, sp_tensor *array)
{
    sp_tensor_file *file;
    memset(array, 0, ARRAYS * sizeof *array);
    SP_TRY(sp_tensor_file_open(path, &file));
    sp_status status = SP_OK;
    for (int i = 0; i < ARRAYS && !status; i++) {
        const sp_tensor *found = sp_tensor_file_find(file, array_names[i]);
        if (found) status = sp_tensor_convert(found, found->dtype, &array[i]);
    }
    if (!status) status = sp_tensor_file_check(file);
    sp_tensor_file_close(file);
    for (int i = 0; i < ARRAYS && status; i++)
        sp_tensor_free(&array[i]);
    return status;
}

/* A .npy file is features without a name. */
static sp_status load_arrays(const char *path, sp_tensor *array)
{
    if (sp_ends_with(path, ".safetensors")) return load_tensors(path, array);
    if (!sp_ends_with(path, ".npy")) return sp_npz_load(path, array_names, ARRAYS, array);
    memset(array, 0, ARRAYS * sizeof *array);
    return sp_npy_load(path, &array[FEATS]);
}

static sp_status open_file(sp_picture_set *set, int64_t most)
{
    sp_tensor array[ARRAYS];
    SP_TRY(load_arrays(set->source, array));
    take_word(&array[CONVENTION], set->convention, sizeof set->convention);
    take_word(&array[TRANSFORM], set->transform, sizeof set->transform);
    take_word(&array[WEIGHTS], set->weights, sizeof set->weights);
    int feats = array[FEATS].data || !array[REPS].data ? FEATS : REPS;
    sp_status status = array[feats].data ? take_features(set, &array[feats], array_names[feats], most)
                                         : take_statistics(set, array);
    for (int i = 0; i < ARRAYS; i++)
        sp_tensor_free(&array[i]);
    return status;
}

sp_status sp_picture_set_of_file(const char *path, sp_picture_set *out)
{
    *out = (sp_picture_set){.source = path};
    sp_status status = open_file(out, 0);
    if (status) sp_picture_set_free(out);
    return status;
}

/* Weights may be the same in two forms of file, so that another file is no error. */
sp_status sp_picture_set_check(const sp_picture_set *set, const sp_feature_origin *origin)
{
    if (*set->weights && origin->weights && strcmp(set->weights, origin->weights) != 0)
        sp_log_warn("%s: its features are of another file of weights than %s: compare them only if both hold the same "
                    "network", set->source, origin->weights);
    if (*set->transform && strcmp(set->transform, origin->transform) != 0)
        return sp_fail(SP_ARGUMENT, "%s: its features are of pictures with the transform \"%s\", not \"%s\", and such "
                       "sets cannot be compared", set->source, set->transform, origin->transform);
    if (!*set->convention || strcmp(set->convention, origin->convention) == 0) return SP_OK;
    return sp_fail(SP_ARGUMENT, "%s: its features are of the convention \"%s\", not \"%s\", and such sets cannot be "
                   "compared", set->source, set->convention, origin->convention);
}

/* ---- both ---- */

static sp_status open_pictures(sp_picture_set *set, int64_t most, int resolution, const sp_callbacks *callbacks)
{
    SP_TRY(sp_pictures_open(set->source, most, resolution, callbacks, &set->pictures));
    set->count = set->pictures.count;
    return SP_OK;
}

sp_status sp_picture_set_open(const char *source, int64_t most, int resolution, const sp_callbacks *callbacks,
                              sp_picture_set *out)
{
    *out = (sp_picture_set){.source = source};
    bool there = sp_path_exists(source);
    if (!there && !sp_dataset_is_spec(source)) return sp_fail(SP_IO, "%s: no such file or folder", source);
    bool file = there && !sp_path_is_folder(source);
    sp_status status = file ? open_file(out, most) : open_pictures(out, most, resolution, callbacks);
    if (status) sp_picture_set_free(out);
    return status;
}

void sp_picture_set_free(sp_picture_set *set)
{
    sp_pictures_close(&set->pictures);
    for (int i = 0; i < SP_EXTRACTORS; i++)
        for (int k = 0; k < SP_FEATURES_MOST; k++)
            sp_tensor_free(&set->features[i][k]);
    sp_free(set->place);
    sp_tensor_free(&set->feats);
    sp_gaussian_free(&set->gaussian);
    *set = (sp_picture_set){0};
}

static sp_status take_places(sp_picture_set *set, const int64_t *row)
{
    int64_t *place = sp_alloc((size_t)set->pictures.count * sizeof *place);
    if (!place) return SP_MEMORY;
    set->count = 0;
    for (int64_t i = 0; i < set->pictures.count; i++)
        if (row[i] >= 0) place[set->count++] = i;
    set->place = place;
    set->computed = true;
    return SP_OK;
}

/* Each network has to read the same pictures. */
static sp_status compare_places(const sp_picture_set *set, const int64_t *row)
{
    int64_t k = 0;
    for (int64_t i = 0; i < set->pictures.count; i++) {
        bool before = k < set->count && set->place[k] == i;
        if (before != (row[i] >= 0))
            return sp_fail(SP_IO, "%s: could be read, and then not, or the other way round",
                           sp_pictures_name(&set->pictures, i));
        k += before;
    }
    return SP_OK;
}

sp_status sp_picture_set_extract(sp_picture_set *set, sp_extraction *e, sp_feature_store *store,
                                 const bool wanted[SP_FEATURES_MOST])
{
    const sp_pictures *pictures = &set->pictures;
    int64_t *row = sp_alloc((size_t)pictures->count * sizeof *row);
    if (!row) return SP_MEMORY;
    sp_status status = sp_extract(e, pictures, store, row, set->computed ? NULL : pictures->left_out);
    if (!status) status = set->computed ? compare_places(set, row) : take_places(set, row);
    for (int k = 0; k < SP_FEATURES_MOST && !status; k++)
        if (wanted[k])
            status = sp_feature_store_gather(store, k, row, pictures->count, &set->features[store->network][k]);
    sp_free(row);
    return status;
}

static void list_reasons(const sp_rejection *list, size_t count, sp_string *out)
{
    for (size_t i = 0; i < count; i++)
        sp_string_append_format(out, "%s%lld %s (%s)", i ? ", " : "", (long long)list[i].count, list[i].reason,
                                list[i].example);
}

sp_status sp_picture_set_check_left_out(const sp_picture_set *set, bool strict)
{
    enum { ONE_IN = 100 };
    sp_rejection list[SP_MAX_REASONS];
    if (!set->pictures.left_out) return SP_OK;
    size_t reasons = sp_rejections_list(set->pictures.left_out, list, SP_MAX_REASONS);
    int64_t out = sp_rejections_sum(list, reasons), all = out + set->count;
    if (!out || (!strict && ONE_IN * out <= all)) return SP_OK;
    sp_string why = {0};
    list_reasons(list, reasons, &why);
    sp_fail(SP_FORMAT, "%s: %lld of %lld pictures cannot be scored, and %s: %s", set->source, (long long)out,
            (long long)all, strict ? "`strict` allows none" : "1 in 100 may be", sp_string_text(&why));
    sp_string_free(&why);
    return SP_FORMAT;
}

const sp_tensor *sp_picture_set_rows(const sp_picture_set *set, sp_extractor_index network, int feature)
{
    if (set->feats.data) return &set->feats;
    return set->features[network][feature].data ? &set->features[network][feature] : NULL;
}

sp_status sp_picture_set_fit(sp_picture_set *set, sp_extractor_index network)
{
    return set->gaussian.mean ? SP_OK : sp_gaussian_fit(sp_picture_set_rows(set, network, 0), &set->gaussian);
}

static sp_tensor letters(const char *word)
{
    return (sp_tensor){SP_U8, sp_shape_of((int64_t)strlen(word)), (void *)(uintptr_t)word, false};
}

sp_status sp_picture_set_save(const sp_picture_set *set, const sp_feature_origin *origin, const char *path)
{
    const sp_gaussian *g = &set->gaussian;
    double how_many = (double)set->count;
    const sp_tensor mu = {SP_F64, sp_shape_of(g->dim), g->mean, false};
    const sp_tensor sigma = {SP_F64, sp_shape_of(g->dim, g->dim), g->covariance, false};
    const sp_tensor count = {SP_F64, sp_shape_of(1), &how_many, false};
    const sp_tensor convention = letters(origin->convention), transform = letters(origin->transform);
    const sp_tensor weights = letters(origin->weights);
    const sp_named_tensor all[] = {{array_names[MU], &mu},
                                   {array_names[SIGMA], &sigma},
                                   {array_names[COUNT], &count},
                                   {array_names[CONVENTION], &convention},
                                   {array_names[TRANSFORM], &transform},
                                   {array_names[WEIGHTS], &weights}};
    return sp_npz_save(path, all, sizeof all / sizeof *all);
}
