/* Scores by CLIP's vectors against transformers, open_clip and the head's own layers; captions of pictures that cannot
 * be read; weights that two scores share. */
#include "tower_support.h"
#include "backend/registry.h"
#include "checkpoints/aesthetic_file.h"
#include "eval/caption_lines.h"
#include "eval/extractor.h"
#include "graph/bound.h"
#include "models/runner.h"

enum { PICTURES = 5, WIDTH = 24 };
static const double logit_scale = 4.5; /* make_towers.py's */

/* ---- files ---- */

static char set[512], captions[512], clip[512], pickscore[512], hps[512], head[512];

static void save_formula_picture(const char *path, int width, int height)
{
    sp_image image = formula_picture(width, height);
    assert_ok(sp_image_save_png(&image, path, NULL, 0));
    sp_image_free(&image);
}

static void write_kind(const char *path, const char *name)
{
    const sp_tensor *bytes;
    assert_ok(sp_tensor_file_get(pictures, name, &bytes));
    assert_ok(sp_write_file(path, bytes->data, sp_tensor_bytes(bytes)));
}

static void make_pictures(void)
{
    assert_ok(sp_make_folders(set));
    save_formula_picture(in(set, "0.png"), 40, 45);
    save_formula_picture(in(set, "1.png"), 31, 24);
    save_formula_picture(in(set, "2.png"), 101, 57);
    write_kind(in(set, "3.png"), "file.rgba.png");
    write_kind(in(set, "4.jpg"), "file.grey.jpg");
}

/* Without a scale where it is NAN. */
static void save_pickscore(double scale)
{
    sp_weights *weights = weights_of("pickscore");
    sp_tensor number;
    assert_ok(sp_tensor_create(SP_F32, (sp_shape){0}, &number));
    *(float *)number.data = (float)scale;
    if (isnan(scale))
        sp_tensor_free(&number);
    else
        assert_ok(sp_weights_add(weights, "logit_scale", number));
    save(weights, in(pickscore, "model.safetensors"), SP_F32);
}

static int make_files(void **state)
{
    if (open_goldens(state)) return -1;
    const sp_tensor *text = expected("preferred", "captions");
    snprintf(set, sizeof set, "%s", in_folder(state, "pictures"));
    snprintf(captions, sizeof captions, "%s", in_folder(state, "captions.txt"));
    snprintf(clip, sizeof clip, "%s",
             write_case(state, "score", "open_clip_model.safetensors", "open_clip_config.json"));
    snprintf(pickscore, sizeof pickscore, "%s", write_case(state, "pickscore", "model.safetensors", "config.json"));
    snprintf(hps, sizeof hps, "%s", in(write_case(state, "hps", "hps.safetensors", NULL), "hps.safetensors"));
    snprintf(head, sizeof head, "%s", in(write_case(state, "aesthetic", "head.safetensors", NULL),
                                         "head.safetensors"));
    save_pickscore(logit_scale);
    assert_ok(sp_write_file(captions, text->data, sp_tensor_bytes(text)));
    make_pictures();
    return 0;
}

/* Of networks and captions what METRICS need: the rest would be refused. */
static void want(splam_score_options *o, const char *metrics)
{
    bool scores = strstr(metrics, "clip"), aesthetic = strstr(metrics, "aesthetic");
    o->metrics = metrics;
    o->clip = scores || aesthetic || strstr(metrics, "cmmd") ? clip : NULL;
    o->aesthetic = aesthetic ? head : NULL;
    o->pickscore = strstr(metrics, "pickscore") ? pickscore : NULL;
    o->hps = strstr(metrics, "hps") ? hps : NULL;
    o->captions = scores || o->pickscore || o->hps ? captions : NULL;
}

static splam_score_options options_of(const char *metrics)
{
    splam_score_options o = splam_score_defaults();
    o.a = set, o.json = true;
    want(&o, metrics);
    return o;
}

/* ---- against other programs ---- */

/* Of kept features: those that were first met are the first pictures. */
static void check_vectors(const char *kept, const char *network)
{
    char name[64];
    sp_tensor_file *features;
    const sp_tensor *found;
    double error;
    snprintf(name, sizeof name, "%s.image_embeds", network);
    assert_ok(sp_tensor_file_open(kept, &features));
    assert_ok(sp_tensor_file_get(features, name, &found));
    assert_ok(sp_tensor_relative_max_error(found, expected(network, "image"), &error));
    print_message("%s: relative max error of vectors %.2e\n", network, error);
    assert_true(error <= 1e-5); /* f32 against float64; some 1e-6 were seen */
    sp_tensor_file_close(features);
}

static void check_mean(const splam_score_options *o, const char *key, const char *name, double tolerance)
{
    const sp_tensor *t = expected(name, "scores");
    double sum = 0, count = (double)sp_tensor_count(t);
    for (int64_t i = 0; i < sp_tensor_count(t); i++)
        sum += ((const double *)t->data)[i] / count;
    double found = number_of(o, key);
    print_message("%s %.9g, expected %.9g\n", key, found, sum);
    if (!(fabs(found - sum) <= tolerance)) fail_msg("%s is %.9g, expected %.9g", key, found, sum);
}

static void test_pickscore_is_transformers(void **state)
{
    splam_score_options o = options_of("pickscore");
    o.features = in_folder(state, "pickscore.safetensors");
    check_mean(&o, "pickscore", "pickscore", 1e-5 * exp(logit_scale));
    check_vectors(o.features, "pickscore");
    o.bootstrap = 20;
    assert_true(number_of(&o, "pickscore_low") < number_of(&o, "pickscore_high"));
}

static void test_hps_is_open_clips(void **state)
{
    splam_score_options o = options_of("hps");
    o.features = in_folder(state, "hps_kept.safetensors");
    check_mean(&o, "hps", "hps", 1e-5);
    check_vectors(o.features, "hps");
    assert_true(number_of(&o, "hps_scale") == 1);
}

/* Of pictures, and of their vectors in a file. */
static void test_aesthetic_is_its_layers(void **state)
{
    splam_score_options o = options_of("aesthetic");
    o.count = 3;
    o.captions = NULL;
    check_mean(&o, "aesthetic", "aesthetic", 1e-5);
    sp_weights *weights;
    sp_tensor vectors;
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_tensor_convert(expected("score", "image"), SP_F32, &vectors));
    assert_ok(sp_weights_add(weights, "feats", vectors));
    o.a = in_folder(state, "vectors.safetensors");
    o.clip = NULL;
    o.count = SPLAM_UNSET;
    save(weights, o.a, SP_F32);
    check_mean(&o, "aesthetic", "aesthetic", 1e-6);
    o.bootstrap = 20;
    assert_true(number_of(&o, "aesthetic_low") < number_of(&o, "aesthetic_high"));
}

/* torchmetrics' figure is not below 0, whatever pictures and captions are. */
static void test_clip_score_100_has_a_floor(void **state)
{
    static const char *const words[] = {"a", "cat", "two dogs", "red", "seven houses", "blue", "night", "of"};
    splam_score_options o = options_of("clip");
    int below = 0, above = 0;
    o.captions = in_folder(state, "words.txt");
    o.count = 2;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char lines[64];
        int length = snprintf(lines, sizeof lines, "%s\n%s\n", words[i], words[i]);
        assert_ok(sp_write_file(o.captions, lines, (size_t)length));
        double score = number_of(&o, "clip_score"), floored = number_of(&o, "clip_score_100");
        assert_true(fabs(floored - (score < 0 ? 0 : 100 * score)) < 1e-9);
        below += score < 0, above += score > 0;
    }
    assert_true(below && above);
}

/* ---- what is refused ---- */

static void refuse(const splam_score_options *o, splam_status status, const char *words)
{
    char *text = NULL;
    unsigned long runners = sp_runners_made();
    assert_int_equal(splam_score(o, NULL, &text), status);
    assert_message(words);
    assert_null(text);
    assert_int_equal(sp_runners_made(), runners); /* before anything is computed */
}

static void test_what_is_missing_is_said(void **state)
{
    splam_score_options o = options_of("aesthetic,pickscore,hps");
    (void)state;
    o.pickscore = NULL;
    refuse(&o, SPLAM_ARGUMENT, "`pickscore` is missing");
    o = options_of("aesthetic,pickscore,hps");
    o.hps = NULL;
    refuse(&o, SPLAM_ARGUMENT, "`hps` is missing");
    o = options_of("aesthetic,pickscore,hps");
    o.aesthetic = NULL;
    refuse(&o, SPLAM_ARGUMENT, "`aesthetic` is missing");
    o = options_of("aesthetic");
    o.clip = NULL;
    refuse(&o, SPLAM_ARGUMENT, "`clip` is missing");
    for (int i = 0; i < 2; i++) {
        o = options_of(i ? "pickscore" : "hps");
        o.captions = NULL;
        o.a = "nowhere"; /* later */
        refuse(&o, SPLAM_ARGUMENT, "`captions` is missing");
        o.captions = "no_captions.txt";
        refuse(&o, SPLAM_IO, "no_captions.txt");
    }
}

static void test_wrong_weights_are_refused(void **state)
{
    splam_score_options o = options_of("pickscore");
    const double bad[] = {NAN, 1e30, INFINITY};
    for (int i = 0; i < 3; i++) {
        save_pickscore(bad[i]);
        refuse(&o, SPLAM_FORMAT, "\"logit_scale\"");
    }
    save_pickscore(logit_scale);
    o.pickscore = hps;
    refuse(&o, SPLAM_ARGUMENT, "which activation");
    o = options_of("hps");
    o.hps = head;
    refuse(&o, SPLAM_UNSUPPORTED, "is an aesthetic head on CLIP's vectors");
    o = options_of("aesthetic");
    o.aesthetic = hps;
    refuse(&o, SPLAM_UNSUPPORTED, "no aesthetic head");
    sp_weights *weights = weights_of("aesthetic");
    o.aesthetic = in_folder(state, "wide.safetensors");
    assert_ok(add_named(weights, "layers.0.weight", sp_shape_of(32, WIDTH + 1)));
    save(weights, o.aesthetic, SP_F32);
    refuse(&o, SPLAM_SHAPE, "takes vectors of 25 numbers, and CLIP's have 24");
}

static void remove_text(sp_weights *weights)
{
    static const char *const names[] = {"token_embedding.weight", "positional_embedding", "text_projection"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_ok(sp_weights_remove(weights, names[i]));
}

static void test_texts_have_to_be_comparable(void **state)
{
    splam_score_options o = options_of("hps");
    sp_weights *weights = weights_of("hps");
    o.hps = in_folder(state, "narrow.safetensors");
    assert_ok(add_named(weights, "text_projection", sp_shape_of(64, 8)));
    save(weights, o.hps, SP_F32);
    refuse(&o, SPLAM_SHAPE, "gives texts 8 numbers and pictures 24");
    weights = weights_of("hps");
    remove_text(weights);
    save(weights, o.hps, SP_F32);
    refuse(&o, SPLAM_UNSUPPORTED, "has no text tower");
}

/* ---- HPSv2's kind of file ---- */

static void test_checkpoints_are_read(void **state)
{
    const char *path = in_folder(state, "HPS.pt");
    const sp_tensor *bytes = expected("hps", "file");
    const char *const tower[] = {"CLIP's weights, as OpenAI and open_clip have them", NULL};
    const char *const folder[] = {"CLIP's weights, as transformers has them", "gelu, by config.json",
                                  "cosines times 90.0", NULL};
    const char *const linear[] = {"an aesthetic head on CLIP's vectors", NULL};
    sp_extractor extractor;
    assert_ok(sp_write_file(path, bytes->data, sp_tensor_bytes(bytes)));
    assert_ok(sp_extractor_open(SP_EXTRACTOR_HPS, path, NULL, &extractor));
    assert_int_equal(extractor.side, 4);
    assert_int_equal(extractor.feature[0].width, WIDTH);
    sp_extractor_close(&extractor);
    assert_inspected(path, tower);
    assert_inspected(pickscore, folder);
    assert_inspected(head, linear);
}

/* Cut short, or with a byte changed, it is read or refused. */
static void test_damaged_checkpoints(void **state)
{
    const char *path = in_folder(state, "damaged.pt");
    const sp_tensor *bytes = expected("hps", "file");
    size_t size = sp_tensor_bytes(bytes);
    char *changed = sp_alloc(size);
    sp_extractor extractor;
    memcpy(changed, bytes->data, size);
    for (size_t i = 0; i < size; i += 101) {
        overwrite(path, changed, i);
        assert_true(sp_extractor_open(SP_EXTRACTOR_HPS, path, NULL, &extractor) != SP_OK);
        changed[i] ^= 0x15;
        overwrite(path, changed, size);
        if (sp_extractor_open(SP_EXTRACTOR_HPS, path, NULL, &extractor) == SP_OK) sp_extractor_close(&extractor);
        changed[i] ^= 0x15;
    }
    sp_free(changed);
}

/* ---- captions ---- */

static sp_status load_captions(void *path)
{
    sp_caption_lines lines;
    SP_TRY(sp_caption_lines_load(path, &lines));
    sp_caption_lines_free(&lines);
    return SP_OK;
}

static void test_captions_starve(void **state)
{
    (void)state;
    assert_true(fail_every_allocation(load_captions, captions) > 1);
}

enum { COPIES = 120 };

/* Two pictures in turn, of which `broken` (-1: none) cannot be read, and their lines. */
static void write_turns(const char *folder, const char *lines, int broken)
{
    sp_string text = {0};
    char name[16];
    assert_ok(sp_make_folders(folder));
    for (int i = 0; i < COPIES; i++) {
        snprintf(name, sizeof name, "%03d.png", i);
        if (i == broken)
            assert_ok(sp_write_file(in(folder, name), "words", 5));
        else
            save_formula_picture(in(folder, name), i % 2 ? 40 : 31, i % 2 ? 45 : 24);
        sp_string_append_format(&text, "%s\n", i == broken ? "of nothing" : i % 2 ? "A cat" : "two dogs");
    }
    assert_ok(sp_write_file(lines, text.data, text.length));
    sp_string_free(&text);
}

/* The mean is that of the others: a caption at the next picture would show, for they take turns. */
static void test_captions_of_broken_pictures_are_left_out(void **state)
{
    splam_score_options o = options_of("clip,pickscore");
    char folder[512], lines[512], *report;
    snprintf(folder, sizeof folder, "%s", in_folder(state, "turns"));
    snprintf(lines, sizeof lines, "%s", in_folder(state, "turns.txt"));
    o.a = folder, o.captions = lines;
    write_turns(folder, lines, -1);
    double whole = number_of(&o, "clip_score"), picked = number_of(&o, "pickscore");
    assert_true(number_of(&o, "captions_left_out") == 0);
    write_turns(folder, lines, 30);
    double one = 1.0 / (COPIES - 1);
    double found = number_of(&o, "clip_score"), even = number_of(&o, "pickscore");
    assert_true(number_of(&o, "captions_left_out") == 1);
    assert_true(number_of(&o, "count_a") == COPIES - 1);
    assert_ok(sp_write_file(lines, "two dogs\nA cat\n", 15));
    o.count = 2;
    want(&o, "clip");
    o.captions = lines;
    double pair = number_of(&o, "clip_score"); /* one of each: what all of them together are */
    assert_true(fabs(whole - pair) < 1e-9);
    o.count = SPLAM_UNSET;
    write_turns(folder, lines, 31);
    double other = number_of(&o, "clip_score"); /* one of the other kind less */
    assert_true(fabs(found - pair) > 1e-5 && fabs((found + other) / 2 - pair) < 1e-9);
    assert_true(fabs(even - picked) < 200 * one);
    o.json = false;
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_OK);
    assert_non_null(strstr(report, "captions, left out: 1, of the pictures that are left out"));
    assert_non_null(strstr(report, "A, left out: 1 damaged, or no picture ("));
    splam_free(report);
    o.strict = true;
    assert_int_equal(splam_score(&o, NULL, &report), SPLAM_FORMAT);
}

/* ---- what scores share ---- */

static void assert_same_number(const splam_score_options *o, const char *metrics, const char *key)
{
    splam_score_options one = *o;
    want(&one, metrics);
    assert_true(number_of(&one, key) == number_of(o, key));
}

/* The image tower is packed once for four scores, the text tower once; of either alone it is the same number. */
static void test_weights_are_packed_once(void **state)
{
    splam_score_options o = options_of("clip");
    (void)state;
    o.b = set;
    unsigned long packs = sp_packed_count(), runners = sp_runners_made();
    number_of(&o, "clip_score");
    unsigned long alone = sp_packed_count() - packs;
    assert_true(alone > 0);
    assert_int_equal(sp_runners_made() - runners, 2);
    want(&o, "clip,aesthetic,cmmd");
    packs = sp_packed_count(), runners = sp_runners_made();
    number_of(&o, "cmmd");
    assert_int_equal(sp_packed_count() - packs, alone);
    assert_int_equal(sp_runners_made() - runners, 2);
    assert_same_number(&o, "clip", "clip_score");
    assert_same_number(&o, "cmmd", "cmmd");
    assert_same_number(&o, "aesthetic", "aesthetic");
}

/* Each network's rows stay when another's are added: what is known costs the text tower alone. */
static void test_features_of_several_networks_are_kept(void **state)
{
    splam_score_options o = options_of("pickscore");
    o.features = in_folder(state, "several.safetensors");
    double alone = number_of(&o, "pickscore");
    want(&o, "hps");
    double other = number_of(&o, "hps");
    want(&o, "pickscore,hps");
    unsigned long runners = sp_runners_made();
    assert_true(number_of(&o, "pickscore") == alone);
    assert_int_equal(sp_runners_made() - runners, 2);
    assert_true(number_of(&o, "hps") == other);
    o.features = in_folder(state, "at once.safetensors");
    assert_true(number_of(&o, "hps") == other);
    runners = sp_runners_made();
    assert_true(number_of(&o, "pickscore") == alone);
    assert_int_equal(sp_runners_made() - runners, 2);
}

/* It is Inception's. */
static void test_convention_is_said_of_inception(void **state)
{
    splam_score_options o = options_of("clip");
    char *report;
    (void)state;
    for (int json = 0; json < 2; json++) {
        o.json = json;
        assert_int_equal(splam_score(&o, NULL, &report), SPLAM_OK);
        assert_null(strstr(report, "convention"));
        assert_non_null(strstr(report, json ? "\"clip_sha256\"" : "clip: sha256"));
        splam_free(report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pickscore_is_transformers),
        cmocka_unit_test(test_hps_is_open_clips),
        cmocka_unit_test(test_aesthetic_is_its_layers),
        cmocka_unit_test(test_clip_score_100_has_a_floor),
        cmocka_unit_test(test_what_is_missing_is_said),
        cmocka_unit_test(test_wrong_weights_are_refused),
        cmocka_unit_test(test_texts_have_to_be_comparable),
        cmocka_unit_test(test_checkpoints_are_read),
        cmocka_unit_test(test_damaged_checkpoints),
        cmocka_unit_test(test_captions_starve),
        cmocka_unit_test(test_captions_of_broken_pictures_are_left_out),
        cmocka_unit_test(test_weights_are_packed_once),
        cmocka_unit_test(test_features_of_several_networks_are_kept),
        cmocka_unit_test(test_convention_is_said_of_inception),
    };
    return cmocka_run_group_tests(tests, make_files, close_goldens);
}
