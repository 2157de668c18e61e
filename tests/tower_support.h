/* What tests of image towers share: the golden file of other programs' numbers, files with weights by the formula. */
#ifndef SP_TESTS_TOWER_SUPPORT_H
#define SP_TESTS_TOWER_SUPPORT_H
#include "support.h"
#include <math.h>
#include <splam/splam.h>
#include "base/json.h"
#include "base/text.h"
#include "formula.h"

static sp_tensor_file *file, *pictures; /* towers.safetensors, inception.safetensors */

static inline int open_goldens(void **state)
{
    if (sp_tensor_file_open(golden("towers.safetensors"), &file)) return -1;
    if (sp_tensor_file_open(golden("inception.safetensors"), &pictures)) return -1;
    return make_test_folder(state);
}

static inline int close_goldens(void **state)
{
    sp_tensor_file_close(file), sp_tensor_file_close(pictures);
    return remove_test_folder(state);
}

static inline const sp_tensor *expected(const char *name, const char *part)
{
    char whole[96];
    const sp_tensor *t;
    snprintf(whole, sizeof whole, "%s.%s", name, part);
    assert_ok(sp_tensor_file_get(file, whole, &t));
    return t;
}

/* As make_towers.py has it. */
static inline sp_status add_named(sp_weights *weights, const char *name, sp_shape shape)
{
    int64_t fan = shape.rank == 4 ? shape.dim[1] * shape.dim[2] * shape.dim[3] : shape.dim[shape.rank - 1];
    if (shape.rank > 1) return add_formula(weights, name, shape, 2 * sqrt(6 / (double)fan), 0);
    bool bias = sp_ends_with(name, "bias");
    return add_formula(weights, name, shape, bias ? 0.2 : 0.5, bias ? 0 : 1);
}

static inline sp_weights *weights_of(const char *name)
{
    const sp_tensor *text = expected(name, "names");
    sp_weights *weights;
    json_t *list, *entry, *size;
    size_t i, k;
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_json_parse(text->data, sp_tensor_bytes(text), name, &list));
    json_array_foreach(list, i, entry)
    {
        sp_shape shape = {0};
        json_array_foreach(json_array_get(entry, 1), k, size) shape.dim[shape.rank++] = json_integer_value(size);
        assert_ok(add_named(weights, json_string_value(json_array_get(entry, 0)), shape));
    }
    json_decref(list);
    return weights;
}

static inline void save(sp_weights *weights, const char *path, sp_dtype dtype)
{
    assert_ok(sp_weights_save(weights, path, dtype, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

/* FOLDER/FILE and the configuration beside it; the folder, until the next call. */
static inline const char *write_case(void **state, const char *name, const char *weights, const char *config)
{
    static char folder[512];
    snprintf(folder, sizeof folder, "%s", in_folder(state, name));
    assert_ok(sp_make_folders(folder));
    save(weights_of(name), in(folder, weights), SP_F32);
    if (config) {
        const sp_tensor *text = expected(name, "config");
        assert_ok(sp_write_file(in(folder, config), text->data, sp_tensor_bytes(text)));
    }
    return folder;
}

static inline double number_of(const splam_score_options *o, const char *key)
{
    char *text;
    json_t *json;
    if (splam_score(o, NULL, &text) != SPLAM_OK) fail_msg("%s", splam_error_message());
    assert_ok(sp_json_parse(text, strlen(text), "report", &json));
    splam_free(text);
    double number = json_number_value(json_object_get(json, key));
    json_decref(json);
    return number;
}

static inline void assert_inspected(const char *path, const char *const *words)
{
    splam_inspect_options o = splam_inspect_defaults();
    char *text;
    o.path = path;
    if (splam_inspect(&o, &text) != SPLAM_OK) fail_msg("%s", splam_error_message());
    for (; *words; words++)
        if (!strstr(text, *words)) fail_msg("\"%s\" is not in:\n%s", *words, text);
    splam_free(text);
}

#endif
