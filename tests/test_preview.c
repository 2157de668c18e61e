/* Small pictures of what is drawn, while it is drawn: like the picture, numbered, fitted once, and without effect. */
#include <math.h>
#include "generate_support.h"
#include "graph/bound.h"
#include "models/runner.h"

static splam_session *open_session(const char *path, splam_model **model)
{
    splam_model_options options = splam_model_defaults();
    splam_session *session;
    options.precision = SPLAM_F32;
    assert_ok(splam_model_open(path, &options, NULL, model));
    assert_ok(splam_session_create(*model, NULL, &session));
    return session;
}

/* The small pictures of picture 0, one after another, and all that was told of any. */
typedef struct {
    int64_t width, height, done, total, pictures;
    int calls;
    uint8_t rgb[64][3 * 16 * 16];
} watched;

static void look(void *context, const splam_preview *p)
{
    watched *w = context;
    w->calls++;
    if (p->number >= w->pictures) w->pictures = p->number + 1;
    w->width = p->picture.width, w->height = p->picture.height;
    w->done = p->done, w->total = p->total;
    assert_true(p->picture.width <= 16 && p->picture.height <= 16 && p->done <= 64);
    if (p->number == 0) memcpy(w->rgb[p->done - 1], p->picture.rgb, (size_t)(3 * w->width * w->height));
}

/* Root of the mean squared difference from the picture's means over squares, in 0 to 255. */
static double distance(const splam_pictures *picture, int64_t width, int64_t height, const uint8_t *rgb)
{
    int64_t factor = picture->width / width;
    double sum = 0;
    for (int64_t i = 0; i < 3 * width * height; i++) {
        int64_t c = i % 3, x = i / 3 % width, y = i / 3 / width;
        double mean = 0;
        for (int64_t k = 0; k < factor * factor; k++) {
            int64_t at = (y * factor + k / factor) * picture->width + x * factor + k % factor;
            mean += (double)picture->rgb[3 * at + c];
        }
        mean /= (double)(factor * factor);
        sum += (mean - rgb[i]) * (mean - rgb[i]);
    }
    return sqrt(sum / (double)(3 * width * height));
}

static void previews_become_the_picture(void **state)
{
    static const char *const prompts[] = {"red apple", "blue car", "green tree"};
    splam_model *model;
    splam_session *session = open_session(source_path("assets", "teacher", NULL), &model);
    (void)state;
    for (int i = 0; i < 3; i++) {
        splam_generate_options o = splam_generate_defaults();
        splam_pictures picture;
        watched w = {0};
        o.prompt = prompts[i], o.steps = 10, o.seed = 1, o.watch = look, o.watcher = &w;
        assert_ok(splam_session_generate(session, &o, NULL, &picture));
        assert_true(w.calls == 10 && w.done == 10 && w.total == 10 && w.pictures == 1);
        double first = distance(&picture, w.width, w.height, w.rgb[0]);
        double last = distance(&picture, w.width, w.height, w.rgb[9]);
        print_message("# %s: %.1f after the first step, %.1f after the last\n", prompts[i], first, last);
        /* The filter sees nothing finer than a latent pixel and is fitted to discs, not to emoji: 18 to 28. White is
         * 107 to 133 away. */
        assert_true(last < 40 && last < first / 2);
        splam_pictures_free(&picture);
    }
    splam_session_destroy(session);
    splam_model_close(model);
}

static void previews_change_nothing(void **state)
{
    splam_model *model;
    splam_session *session = open_session(keep(state, "teacher"), &model);
    splam_generate_options o = splam_generate_defaults();
    splam_pictures plain, seen;
    watched w = {0};
    o.prompt = "red apple", o.steps = 3, o.count = 3, o.seed = 5, o.sampler = "heun";
    assert_ok(splam_session_generate(session, &o, NULL, &plain));
    o.watch = look, o.watcher = &w;
    assert_ok(splam_session_generate(session, &o, NULL, &seen));
    assert_memory_equal(plain.rgb, seen.rgb, (size_t)(3 * 3 * plain.width * plain.height));
    assert_true(w.calls == 15 && w.total == 5 && w.pictures == 3); /* heun: five evaluations of three steps */
    splam_pictures_free(&plain);
    splam_pictures_free(&seen);
    unsigned long plans = sp_plans_made();
    assert_ok(splam_session_generate(session, &o, NULL, &seen));
    assert_int_equal(sp_plans_made(), plans); /* nothing is fitted again */
    splam_pictures_free(&seen);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* What fitting takes is planned with the rest. */
static void previews_keep_to_a_limit(void **state)
{
    splam_model *model;
    splam_session *session = open_session(keep(state, "teacher"), &model);
    splam_generate_options o = splam_generate_defaults();
    splam_pictures picture;
    watched w = {0};
    o.prompt = "red apple", o.steps = 1, o.watch = look, o.watcher = &w, o.memory_limit = 1 << 20;
    assert_status(splam_session_generate(session, &o, NULL, &picture), SP_MEMORY);
    assert_message("VAE encoder");
    splam_session_destroy(session);
    splam_model_close(model);
}

static void pictures_are_encoded(void **state)
{
    static const char *const formats[] = {"png", "jpg", "webp"};
    uint8_t rgb[4 * 2 * 3];
    const splam_picture picture = {4, 2, rgb};
    void *file;
    size_t size;
    (void)state;
    memset(rgb, 200, sizeof rgb);
    for (int f = 0; f < 3; f++) {
        splam_pictures read;
        assert_ok(splam_picture_encode(&picture, formats[f], SPLAM_UNSET, &file, &size));
        assert_ok(splam_picture_decode(file, size, &read));
        assert_true(read.width == 4 && read.height == 2 && abs(read.rgb[7] - 200) < 3);
        splam_pictures_free(&read);
        splam_free(file);
    }
    assert_status(splam_picture_encode(&picture, "gif", SPLAM_UNSET, &file, &size), SP_ARGUMENT);
    assert_status(splam_picture_encode(&picture, "png", 50, &file, &size), SP_ARGUMENT);
    assert_status(splam_picture_encode(&(splam_picture){4, 2, NULL}, "png", SPLAM_UNSET, &file, &size), SP_ARGUMENT);
    assert_status(splam_picture_encode(&(splam_picture){0, 2, rgb}, "png", SPLAM_UNSET, &file, &size), SP_ARGUMENT);
    assert_true(!file && !size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(previews_become_the_picture),
        cmocka_unit_test(previews_change_nothing),
        cmocka_unit_test(previews_keep_to_a_limit),
        cmocka_unit_test(pictures_are_encoded),
    };
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
