/* Runs of splam eval: pictures that are kept, stops, what is refused, and what reports say. */
#include "eval_support.h"
#include "fontconfig_leak.h"
#include "eval/drawn.h"
#include "models/runner.h"

static const char *report_of(void *const *state, const char *folder)
{
    static char path[2][700];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/report.json", in_folder(state, folder));
    return path[turn];
}

static char *picture(const char *output, int steps, int index)
{
    return sp_format("%s/pictures/model-euler-a-%d/%06d.png", output, steps, index);
}

/* ---- stops ---- */

typedef struct {
    int64_t drawn, stop_at; /* pictures by this call */
    int64_t first;
} watcher;

static void watch(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    watcher *w = context;
    (void)total, (void)detail;
    if (!strstr(task, "euler-a")) return;
    if (w->first < 0) w->first = done;
    w->drawn = done - w->first;
}

static bool stops(void *context)
{
    const watcher *w = context;
    return w->drawn >= w->stop_at;
}

/* A run that draws, then one that is stopped after each batch, loses a picture to a cut and another altogether, and
 * goes on: the same bytes of report.json, pictures and captions. */
static void test_resumed_equals_undisturbed(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    splam_eval_options o = eval_options(&p, &model);
    must_eval(&o);
    char output[600];
    snprintf(output, sizeof output, "%s", in_folder(state, "stopped"));
    o.output = output;
    int stopped = 0;
    for (splam_status status = SPLAM_CANCELLED; status == SPLAM_CANCELLED; stopped++) {
        char *table;
        watcher w = {.stop_at = 4, .first = -1};
        const splam_callbacks callbacks = {.context = &w, .report = watch, .cancelled = stops};
        assert_in_range(stopped, 0, 9);
        status = splam_eval(&o, &callbacks, &table);
        splam_free(table);
        if (stopped == 1) { /* as a disk may leave them */
            char *cut = picture(output, 1, 0), *gone = picture(output, 1, 2), *bytes;
            size_t size;
            assert_ok(sp_read_file(cut, &bytes, &size));
            overwrite(cut, bytes, size - 30);
            assert_ok(sp_remove_tree(gone));
            sp_free(bytes);
            sp_free(cut);
            sp_free(gone);
        }
    }
    assert_true(stopped > 4);
    assert_same_file(report_of(state, "whole"), report_of(state, "stopped"));
    for (int steps = 1; steps <= 2; steps++)
        for (int i = 0; i < COUNT; i++) {
            char *a = picture(p.output, steps, i), *b = picture(output, steps, i);
            assert_same_file(a, b);
            sp_free(a);
            sp_free(b);
        }
    char captions[700];
    snprintf(captions, sizeof captions, "%s/captions.txt", p.output);
    assert_same_file(captions, in(output, "captions.txt"));
}

/* ---- seeds ---- */

static char *caption_of(const char *output, int index)
{
    char *text, *line;
    assert_ok(sp_read_file(in(output, "captions.txt"), &text, NULL));
    line = text;
    for (int i = 0; i < index; i++)
        line = strchr(line, '\n') + 1;
    char *copy = sp_strndup(line, strcspn(line, "\n"));
    sp_free(text);
    return copy;
}

/* Picture k is what `splam generate` draws of caption k with seed + k, but for the last bits, for it draws one at once:
 * in the second batch, and in the last, which begins in the one before. */
static void test_picture_k_has_seed_k(void **state)
{
    eval_places p = make_places(state);
    for (int k = 5; k < COUNT; k += 4) {
        splam_generate_options g = splam_generate_defaults();
        char *prompt = caption_of(p.output, k), *path = picture(p.output, 2, k);
        sp_image drawn, wanted;
        double apart = 0;
        g.model = p.model;
        g.prompt = prompt;
        g.sampler = "euler-a";
        g.steps = 2;
        g.guidance = 2;
        g.width = g.height = SIDE;
        g.seed = 3 + (uint64_t)k;
        g.precision = SPLAM_F32;
        g.output = in_folder(state, "alone.png");
        assert_int_equal(splam_generate(&g, NULL), SPLAM_OK);
        assert_ok(sp_image_load(path, &drawn));
        assert_ok(sp_image_load(g.output, &wanted));
        for (int i = 0; i < SIDE * SIDE * 3; i++)
            apart += abs(drawn.pixels[i] - wanted.pixels[i]);
        assert_true(apart < SIDE * SIDE * 3 * 0.01);
        sp_image_free(&drawn);
        sp_image_free(&wanted);
        sp_free(prompt);
        sp_free(path);
    }
}

/* ---- what is known ---- */

/* Pictures that are there are not drawn: another takes the place of one, and stays. */
static void test_another_metric_draws_nothing(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    splam_eval_options o = eval_options(&p, &model);
    char output[600];
    snprintf(output, sizeof output, "%s", in_folder(state, "more"));
    o.output = output;
    o.step_count = 1;
    o.metrics = "fid";
    must_eval(&o);
    char *first = picture(output, 1, 0), *second = picture(output, 1, 1);
    assert_ok(sp_copy_file(second, first, NULL));
    unsigned long runners = sp_runners_made();
    o.metrics = "fid,kid,prdc,is";
    must_eval(&o);
    assert_same_file(first, second);
    assert_int_equal(sp_runners_made(), runners + 1); /* the text encoder's, of "", for the manifest */
    char clean[700], again[700];
    snprintf(clean, sizeof clean, "%s", report_of(state, "more"));
    snprintf(again, sizeof again, "%s", in_folder(state, "clean.json"));
    assert_ok(sp_copy_file(clean, again, NULL));
    o.convention = "pytorch"; /* whose features are other ones, and kept beside */
    must_eval(&o);
    runners = sp_runners_made();
    o.convention = NULL;
    must_eval(&o);
    assert_int_equal(sp_runners_made(), runners + 1);
    assert_same_file(clean, again);
    sp_free(first);
    sp_free(second);
}

/* ---- the same as splam score ---- */

static void test_scores_are_those_of_score(void **state)
{
    eval_places p = make_places(state);
    json_t *report;
    assert_ok(sp_json_load(report_of(state, "whole"), &report));
    char folder[700], *text;
    snprintf(folder, sizeof folder, "%s/pictures/model-euler-a-2", p.output);
    splam_score_options s = splam_score_defaults();
    s.a = folder;
    s.b = p.data;
    s.metrics = "fid,kid";
    s.inception = p.inception;
    s.json = true;
    assert_int_equal(splam_score(&s, NULL, &text), SPLAM_OK);
    json_t *wanted = json_loads(text, 0, NULL);
    const json_t *row = json_array_get(json_object_get(report, "rows"), 1);
    assert_true(json_equal(wanted, json_object_get(row, "scores")));
    assert_int_equal(json_integer_value(json_object_get(wanted, "count_a")), COUNT);
    assert_null(json_object_get(row, "seconds_per_image"));
    splam_free(text);
    json_decref(wanted);
    json_decref(report);
    assert_ok(sp_json_load(in(p.output, "times.json"), &report));
    row = json_array_get(json_object_get(report, "rows"), 1);
    assert_true(json_number_value(json_object_get(row, "seconds_per_image")) > 0);
    json_decref(report);
}

/* ---- a real side without files ---- */

/* The pictures of the folder, as a program would give them. */
static sp_image given[REAL];

static int64_t given_count(void *unused)
{
    (void)unused;
    return REAL;
}

static const char *given_caption(void *folder, int64_t picture, int variant)
{
    static char text[64];
    char name[32];
    snprintf(name, sizeof name, "%02d.txt", (int)picture);
    char *bytes;
    if (variant) return NULL;
    assert_ok(sp_read_file(in(folder, name), &bytes, NULL));
    snprintf(text, sizeof text, "%s", bytes);
    sp_free(bytes);
    return text;
}

static bool given_pixels(void *unused, int64_t picture, splam_picture *out)
{
    const sp_image *image = &given[picture];
    (void)unused;
    *out = (splam_picture){.width = image->width, .height = image->height, .rgb = image->pixels};
    return true;
}

/* What has no files is drawn as large as the models' pictures. */
static void test_real_side_without_files(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    splam_eval_options o = eval_options(&p, &model);
    const splam_source source = {.size = sizeof source, .context = p.real, .count = given_count,
                                 .caption = given_caption, .pixels = given_pixels};
    json_t *files, *drawn;
    char output[600], name[32];
    for (int i = 0; i < REAL; i++) {
        snprintf(name, sizeof name, "%02d.png", i);
        assert_ok(sp_image_load(in(p.real, name), &given[i]));
    }
    snprintf(output, sizeof output, "%s", in_folder(state, "given"));
    o.output = output;
    o.data = "source:real";
    assert_ok(splam_source_add("real", &source));
    must_eval(&o);
    splam_source_remove("real");
    for (int i = 0; i < REAL; i++)
        sp_image_free(&given[i]);
    assert_ok(sp_json_load(report_of(state, "whole"), &files));
    assert_ok(sp_json_load(report_of(state, "given"), &drawn));
    for (size_t i = 0; i < 2; i++) {
        const json_t *a = json_array_get(json_object_get(files, "rows"), i);
        const json_t *b = json_array_get(json_object_get(drawn, "rows"), i);
        assert_true(json_equal(json_object_get(a, "scores"), json_object_get(b, "scores")));
    }
    json_decref(files);
    json_decref(drawn);
}

/* ---- refusals ---- */

static void test_other_settings_are_refused(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    splam_eval_options o = eval_options(&p, &model);
    o.seed = 4; /* of captions too */
    assert_eval(&o, SPLAM_ARGUMENT, "were drawn with the seed 3, and these would be with 4");
    o.seed = 3;
    o.guidance_scale_w = 2;
    assert_eval(&o, SPLAM_ARGUMENT, "were drawn with the guidance 2.0, and these would be with 3.0");
    o.guidance_scale_w = 1;
    o.resolution = 64;
    assert_eval(&o, SPLAM_ARGUMENT, "were drawn with the size 128, and these would be with 64");
    o.resolution = SIDE;
    char other[600];
    snprintf(other, sizeof other, "%s", in_folder(state, "other/model"));
    assert_ok(sp_make_folders(in_folder(state, "other")));
    assert_ok(sp_copy_tree(p.model, other, NULL));
    char *path = sp_path_join(other, "scheduler/scheduler_config.json");
    write_text(path, "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.0009, \"beta_end\": 0.012,"
                     " \"beta_schedule\": \"scaled_linear\", \"clip_sample\": false}");
    sp_free(path);
    model = other;
    assert_eval(&o, SPLAM_ARGUMENT, "were drawn with the model_hash");
    const char *both[] = {p.model, other};
    o.models = both;
    o.model_count = 2;
    assert_eval(&o, SPLAM_ARGUMENT, "two of `models` are called model");
}

static void test_what_scores_need(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    splam_eval_options o = eval_options(&p, &model);
    o.output = in_folder(state, "never");
    o.inception = NULL;
    assert_eval(&o, SPLAM_ARGUMENT, "pt_inception-2015-12-05-6726825d.pth");
    o.inception = p.inception;
    o.captions = in(p.real, "00.txt");
    o.data = NULL;
    assert_eval(&o, SPLAM_ARGUMENT, "`real` is missing: fid compares");
    o.captions = NULL;
    o.data = p.data;
    o.metrics = "clip";
    assert_eval(&o, SPLAM_ARGUMENT, "`clip` is missing");
    o.metrics = "fid,beauty";
    assert_eval(&o, SPLAM_ARGUMENT, "no metric \"beauty\"; there are trajectory-error, frechet");
    assert_false(sp_path_exists(o.output));
}

static void test_damaged_pictures(void **state)
{
    eval_places p = make_places(state);
    const char *model = p.model;
    splam_eval_options o = eval_options(&p, &model);
    char output[600], *path, *bytes;
    size_t size;
    snprintf(output, sizeof output, "%s", in_folder(state, "damaged"));
    o.output = output;
    o.step_count = 1;
    o.metrics = "frechet", o.inception = NULL;
    must_eval(&o);
    path = picture(output, 1, 5);
    assert_ok(sp_read_file(path, &bytes, &size));
    bytes[size / 2] ^= 0x55;
    overwrite(path, bytes, size);
    assert_eval(&o, SPLAM_FORMAT, "000005.png");
    assert_eval(&o, SPLAM_FORMAT, "delete it and it will be drawn again");
    o.metrics = "is", o.inception = p.inception;
    assert_eval(&o, SPLAM_FORMAT, "000005.png");
    assert_ok(sp_remove_tree(path));
    must_eval(&o);
    sp_free(bytes);
    sp_free(path);
}

static void test_hostile_manifests(void **state)
{
    static const struct {
        const char *text, *words;
        splam_status status;
    } cases[] = {
        {"", "manifest.json", SPLAM_FORMAT},
        {"[1, 2]", "has the format \"\"", SPLAM_UNSUPPORTED},
        {"{\"format\": 7}", "manifest.json", SPLAM_FORMAT},
        {"{\"format\": \"splam pictures 2\"}", "expected \"splam pictures 1\"", SPLAM_UNSUPPORTED},
        {"{\"format\": \"splam pictures 1\", \"count\": 10}", "an object \"settings\"", SPLAM_FORMAT},
        {"{\"format\": \"splam pictures 1\", \"settings\": {}, \"count\": -3}", "of 1 or more", SPLAM_FORMAT},
        {"{\"format\": \"splam pictures 1\", \"settings\": {}, \"count\": 10}", "with the sampler unknown",
         SPLAM_ARGUMENT},
        {"{\"format\": \"splam pictures 1\", \"settings\": {\"sampler\": [[]]}, \"count\": 10}",
         "with the sampler [[]], and these would be with \"euler-a\"", SPLAM_ARGUMENT},
    };
    eval_places p = make_places(state);
    char *folder = sp_format("%s/pictures/model-euler-a-1", p.output), *manifest;
    manifest = sp_path_join(folder, "manifest.json");
    json_t *settings = json_pack("{s:s}", "sampler", "euler-a");
    const char *captions[] = {"red apple"};
    const sp_drawn_origin origin = {.settings = settings, .captions = captions, .count = 1, .known = 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(manifest, cases[i].text);
        if (sp_drawn_settle(folder, &origin) != (sp_status)cases[i].status) fail_msg("case %zu", i);
        if (!strstr(sp_error_message(), cases[i].words)) fail_msg("case %zu: %s", i, sp_error_message());
    }
    const char *known = "{\"format\": \"splam pictures 1\", \"settings\": {\"sampler\": \"euler-a\"}, \"count\": 9}";
    write_text(manifest, known);
    assert_int_equal(sp_drawn_settle(folder, &origin), SP_ARGUMENT);
    assert_message("has pictures of 9 captions, and there are 1");
    const char *more[] = {"red apple", "green apple", "pear"};
    const sp_drawn_origin grown = {.settings = settings, .captions = more, .count = 2, .known = 3};
    assert_ok(sp_remove_tree(manifest));
    char *elsewhere = sp_format("%s-elsewhere", folder);
    assert_ok(sp_drawn_settle(elsewhere, &origin));
    assert_ok(sp_drawn_settle(elsewhere, &grown)); /* more captions of the same list */
    assert_ok(sp_drawn_settle(elsewhere, &grown));
    more[1] = "plum";
    assert_int_equal(sp_drawn_settle(elsewhere, &grown), SP_ARGUMENT);
    assert_message("its 2 pictures are of other captions");
    sp_free(elsewhere);
    assert_int_equal(sp_drawn_settle(folder, &origin), SP_ARGUMENT);
    assert_message("holds 10 pictures and no manifest.json");
    assert_ok(sp_make_folders(manifest));
    assert_true(sp_drawn_settle(folder, &origin) != SP_OK);
    json_decref(settings);
    sp_free(folder);
    sp_free(manifest);
}

static sp_status settle_and_look(void *context)
{
    const char *captions[] = {"red apple", "green"};
    json_t *settings = json_pack("{s:s, s:i}", "sampler", "lcm", "steps", 4);
    const sp_drawn_origin origin = {.settings = settings, .captions = captions, .count = 2, .known = 2};
    sp_drawn drawn;
    double seconds;
    sp_status status = settings ? sp_drawn_settle(context, &origin) : SP_MEMORY;
    if (!status) status = sp_drawn_seconds(context, &seconds);
    if (!status) status = sp_drawn_open(context, 2, 16, &drawn);
    if (!status) sp_drawn_close(&drawn);
    json_decref(settings);
    return status;
}

static void test_every_allocation_may_fail(void **state)
{
    char folder[600];
    snprintf(folder, sizeof folder, "%s", in_folder(state, "hungry"));
    assert_true(fail_every_allocation(settle_and_look, folder) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resumed_equals_undisturbed),
        cmocka_unit_test(test_picture_k_has_seed_k),
        cmocka_unit_test(test_another_metric_draws_nothing),
        cmocka_unit_test(test_scores_are_those_of_score),
        cmocka_unit_test(test_real_side_without_files),
        cmocka_unit_test(test_other_settings_are_refused),
        cmocka_unit_test(test_what_scores_need),
        cmocka_unit_test(test_damaged_pictures),
        cmocka_unit_test(test_hostile_manifests),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
