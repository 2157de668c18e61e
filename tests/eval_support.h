/* What tests of splam eval share: a tiny model, a folder of pictures with captions, weights of Inception and CLIP. */
#ifndef SP_TESTS_EVAL_SUPPORT_H
#define SP_TESTS_EVAL_SUPPORT_H
#include "tiny_model.h"
#include <splam/splam.h>
#include "base/json.h"
#include "formula.h"
#include "image/image.h"
#include "inception_support.h"

/* Pictures of SIDE pixels are drawn in batches of 4. */
enum { REAL = 12, SIDE = 128, COUNT = 10 };

/* Paths in the test's folder. */
typedef struct {
    char model[600], data[640], real[600], inception[600], output[600];
} eval_places;

static inline void make_real_pictures(const char *folder)
{
    static const char *const colours[] = {"red", "green", "blue", "grey"};
    char name[32], caption[64];
    assert_ok(sp_make_folders(folder));
    for (int i = 0; i < REAL; i++) {
        sp_image image = formula_picture(SIDE, SIDE);
        for (int k = 0; k < SIDE * SIDE * 3; k += 1 + i % 5)
            image.pixels[k] = (uint8_t)(image.pixels[k] / 2 + 9 * i);
        snprintf(name, sizeof name, "%02d.png", i);
        assert_ok(sp_image_save_png(&image, in(folder, name), NULL, 0));
        sp_image_free(&image);
        snprintf(name, sizeof name, "%02d.txt", i);
        snprintf(caption, sizeof caption, "%s apple %d", colours[i % 4], i);
        write_text(in(folder, name), caption);
    }
}

/* Made once in a program. */
static inline eval_places make_places(void *const *state)
{
    eval_places p;
    snprintf(p.model, sizeof p.model, "%s", in_folder(state, "model"));
    snprintf(p.real, sizeof p.real, "%s", in_folder(state, "real"));
    snprintf(p.data, sizeof p.data, "folder:%s", p.real);
    snprintf(p.inception, sizeof p.inception, "%s", in_folder(state, "inception.safetensors"));
    snprintf(p.output, sizeof p.output, "%s", in_folder(state, "whole"));
    if (sp_path_exists(p.inception)) return p;
    make_model(p.model, "unet-demo", ddim_scheduler);
    make_real_pictures(p.real);
    assert_ok(write_formula_inception(p.inception));
    return p;
}

static const int64_t two_steps[] = {1, 2};

static inline splam_eval_options eval_options(const eval_places *p, const char *const *model)
{
    splam_eval_options o = splam_eval_defaults();
    o.models = model;
    o.model_count = 1;
    o.data = p->data;
    o.output = p->output;
    o.metrics = "frechet,fid,kid";
    o.inception = p->inception;
    o.steps = two_steps;
    o.step_count = 2;
    o.count = COUNT;
    o.resolution = SIDE;
    o.sampler = "euler-a"; /* draws noise between steps */
    o.guidance_scale_w = 1;
    o.precision = SPLAM_F32;
    o.seed = 3;
    return o;
}

static inline void must_eval(const splam_eval_options *o)
{
    char *table;
    if (splam_eval(o, NULL, &table)) fail_msg("%s", splam_error_message());
    splam_free(table);
}

static inline void assert_eval(const splam_eval_options *o, splam_status wanted, const char *words)
{
    char *table;
    assert_int_equal(splam_eval(o, NULL, &table), wanted);
    assert_null(table);
    if (!strstr(splam_error_message(), words)) fail_msg("\"%s\" is not in: %s", words, splam_error_message());
}

#endif
