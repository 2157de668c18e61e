/* What tests of scores share: the golden file of other tools' numbers, formulas for pictures and features, files. */
#ifndef SP_TESTS_SCORE_SUPPORT_H
#define SP_TESTS_SCORE_SUPPORT_H
#include "support.h"
#include "checkpoints/inception_file.h"
#include "eval/picture_set.h"
#include "formats/npz.h"
#include "inception_support.h"

static sp_tensor_file *file; /* the golden one */

static inline int open_golden(void **state)
{
    if (sp_tensor_file_open(golden("inception.safetensors"), &file)) return -1;
    return make_test_folder(state);
}

static inline int close_golden(void **state)
{
    sp_tensor_file_close(file);
    return remove_test_folder(state);
}

static inline const sp_tensor *expected(const char *name)
{
    const sp_tensor *t;
    assert_ok(sp_tensor_file_get(file, name, &t));
    return t;
}

/* factor u + v^2 of the numbers of NAME and NAME'. */
static inline sp_tensor rows(const char *name, int64_t count, int64_t width, double factor)
{
    char other[32];
    sp_tensor t;
    snprintf(other, sizeof other, "%s'", name);
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(count, width), &t));
    for (int64_t i = 0; i < count * width; i++) {
        double v = formula_number(other, (uint32_t)i);
        ((float *)t.data)[i] = (float)(factor * formula_number(name, (uint32_t)i) + v * v);
    }
    return t;
}

static inline int open_distances(void **state)
{
    if (sp_tensor_file_open(golden("distances.safetensors"), &file)) return -1;
    return make_test_folder(state);
}

/* Of distances.safetensors. */
static inline double number(const char *name)
{
    return *(const double *)expected(name)->data;
}

static inline bool stop(void *unused)
{
    (void)unused;
    return true;
}
static const sp_callbacks stopping = {.cancelled = stop};

/* factor of the numbers of NAME, over the divisor. */
static inline sp_tensor formula(const char *name, sp_shape shape, double factor, double divisor)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, shape, &t));
    for (int64_t i = 0; i < sp_tensor_count(&t); i++)
        ((float *)t.data)[i] = (float)(factor * formula_number(name, (uint32_t)i) / divisor);
    return t;
}

static inline void assert_near(double found, double wanted, double tolerance)
{
    if (!(fabs(found - wanted) <= tolerance)) fail_msg("%.15g is not %.15g within %g", found, wanted, tolerance);
}

static const sp_preparation cleanly = {SP_CONVENTION_CLEAN, SP_TRANSFORM_NONE};

static const sp_feature_origin clean_origin = {"inception", "clean", "none", "abc"};

static inline sp_status open_set(const char *path, sp_picture_set *out)
{
    return sp_picture_set_open(path, 0, 0, NULL, out);
}

static inline void save_arrays(const char *path, const char *one, sp_tensor *x, const char *two, sp_tensor *y)
{
    const sp_named_tensor named[] = {{one, x}, {two, y}};
    assert_ok(sp_npz_save(path, named, 2));
}

#endif
