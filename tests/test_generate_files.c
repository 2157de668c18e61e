/* What splam_generate leaves in files: names, formats and what is said in them; prompts that are cut or foreign;
 * seeds. */
#include "generate_support.h"
#include "base/json.h"
#include "image/image.h"

/* ---- files ---- */

static void test_picture_text(void **state)
{
    static const char *const prompts[] = {"a \"small\" \xc3\xa9 house"};
    splam_generate_options o = options_for(state, "teacher");
    sp_image image;
    char *bytes;
    size_t size;
    o.prompts = prompts;
    o.negative = "blurry";
    o.sampler = "euler";
    o.steps = 2;
    o.guidance = 5;
    o.seed = 77;
    o.width = 40;
    o.height = 24;
    o.output = keep(state, "new/folder/text.png");
    generate(&o);
    assert_ok(sp_image_load(o.output, &image));
    assert_int_equal(image.width, 40);
    assert_int_equal(image.height, 24);
    sp_image_free(&image);
    assert_ok(sp_read_file(o.output, &bytes, &size));
    static const char expected[] =
        "parameters\0\0\0\0\0a \"small\" \xc3\xa9 house\nNegative prompt: blurry\n"
        "Steps: 2, Sampler: Euler, CFG scale: 5, Seed: 77, Size: 40x24, Model hash: ";
    assert_non_null(memmem(bytes, size, expected, sizeof expected - 1));
    const char *json_text = memmem(bytes, size, "{\"version\"", 10);
    assert_non_null(json_text);
    json_t *json =
        json_loadb(json_text, size - (size_t)(json_text - bytes), JSON_DISABLE_EOF_CHECK, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "model")), "teacher");
    assert_null(json_object_get(json, "objective"));
    assert_string_equal(json_string_value(json_object_get(json, "sampler")), "euler");
    assert_int_equal(json_integer_value(json_object_get(json, "steps")), 2);
    assert_int_equal(json_integer_value(json_object_get(json, "seed")), 77);
    assert_int_equal(strlen(json_string_value(json_object_get(json, "model_hash"))), 16);
    json_decref(json);
    sp_free(bytes);
}

/* A1111's names of samplers and schedules, old and new. */
static void test_sampler_names(void **state)
{
    static const struct {
        const char *sampler, *sigmas, *spacing, *expected;
    } cases[] = {{"euler-a", NULL, NULL, "Steps: 2, Sampler: Euler a, CFG"},
                 {"heun", NULL, "linspace", "Steps: 2, Sampler: Heun, CFG"},
                 {"unipc", "normal", NULL, "Steps: 2, Sampler: UniPC, CFG"},
                 {"dpm++2m", "karras", NULL, "Steps: 2, Sampler: DPM++ 2M Karras, Schedule type: Karras, CFG"},
                 {"dpm++2m-sde", "karras", NULL, "Steps: 2, Sampler: DPM++ 2M SDE Karras, Schedule type: Karras, CFG"},
                 {"euler", "exponential", "trailing",
                  "Steps: 2, Sampler: Euler Exponential, Schedule type: Exponential, CFG"},
                 {"ddim", NULL, "trailing", "Steps: 2, Sampler: DDIM, CFG"},
                 {"euler", NULL, "trailing", "Steps: 2, Sampler: Euler, Schedule type: SGM Uniform, CFG"},
                 {"euler", NULL, "trailing", "\"spacing\":\"trailing\",\"steps\":2,\"timesteps\":[999.0,499.0]"},
                 {"lcm", NULL, NULL, "\"sampler\":\"lcm\",\"steps\":2,\"timesteps\":[999.0,499.0]"}};
    splam_generate_options o = options_for(state, "teacher");
    o.steps = 2;
    o.output = keep(state, "names.png");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *bytes;
        size_t size;
        o.sampler = cases[i].sampler;
        o.sigmas = cases[i].sigmas;
        o.spacing = cases[i].spacing;
        generate(&o);
        assert_ok(sp_read_file(o.output, &bytes, &size));
        if (!memmem(bytes, size, cases[i].expected, strlen(cases[i].expected)))
            fail_msg("no \"%s\"", cases[i].expected);
        sp_free(bytes);
    }
    o.spacing = NULL;
    o.sampler = "ddim";
    o.sigmas = "karras";
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("ddim has sigmas of its own");
    o.sigmas = "beta";
    assert_int_equal(splam_generate(&o, NULL), SPLAM_ARGUMENT);
    assert_message("`sigmas` is \"beta\", one of normal|karras|exponential is expected");
}

/* A student's pictures say how it was distilled, but not where its data lay. */
static void test_student_text(void **state)
{
    splam_generate_options o = options_for(state, "student");
    char *bytes;
    size_t size;
    o.steps = 1;
    o.output = keep(state, "student.png");
    generate(&o);
    assert_ok(sp_read_file(o.output, &bytes, &size));
    const char *text = memmem(bytes, size, "{\"version\"", 10);
    assert_non_null(text);
    json_t *json = json_loadb(text, size - (size_t)(text - bytes), JSON_DISABLE_EOF_CHECK, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "objective")), "splam");
    assert_string_equal(json_string_value(json_object_get(json, "sampler")), "lcm");
    assert_float_equal(json_number_value(json_object_get(json, "guidance")), 1, 0);
    const json_t *distillation = json_object_get(json, "distillation");
    assert_int_equal(json_integer_value(json_object_get(distillation, "skip")), 100);
    assert_null(json_object_get(distillation, "data"));
    json_decref(json);
    sp_free(bytes);
}

/* A list of prompts, several pictures each; names are numbered over all of them; a drawn seed is
 * told. */
static void test_many(void **state)
{
    splam_generate_options o = options_for(state, "student");
    uint64_t seed = 0;
    write_text(keep(state, "prompts.txt"),
               "\xEF\xBB\xBFred apple\r\n\n \t \xE3\x80\x80\nwoman office worker\n a small house");
    o.prompts_file = keep(state, "prompts.txt");
    o.count = 3;
    o.steps = 1;
    o.random_seed = true;
    o.seed_used = &seed;
    o.output = keep(state, "many.png");
    sp_tensor all = latents_of(state, o);
    assert_int_equal(all.shape.dim[0], 12); /* the prompt of options_for comes first */
    assert_true(seed < UINT64_C(1) << 32);
    assert_true(sp_path_exists(keep(state, "many-00.png")) &&
                sp_path_exists(keep(state, "many-11.png")));
    assert_false(sp_path_exists(keep(state, "many-12.png")) || sp_path_exists(o.output));
    o.random_seed = false;
    o.seed = seed;
    sp_tensor again = latents_of(state, o);
    assert_same_bits(&all, &again);
    /* The seventh is the third prompt's first. */
    static const char *const third[] = {"woman office worker"};
    o = options_for(state, "student");
    o.prompts = third;
    o.steps = 1;
    o.seed = seed + 6;
    sp_tensor one = latents_of(state, o);
    sp_tensor seventh = {.shape = one.shape, .data = (float *)all.data + 6 * LATENT_COUNT};
    assert_true(difference(&seventh, &one) < 1e-5);
    sp_tensor_free(&all);
    sp_tensor_free(&again);
    sp_tensor_free(&one);
}

/* Seeds are whole 64-bit numbers and wrap: the last picture's is 0. */
static void check_wrap(void **state, splam_rng rng)
{
    splam_generate_options o = options_for(state, "student");
    o.rng = rng;
    o.steps = 1;
    o.count = 2;
    o.seed = UINT64_MAX;
    sp_tensor both = latents_of(state, o);
    o.count = 1;
    o.seed = 0;
    sp_tensor zero = latents_of(state, o);
    o.seed = UINT64_MAX;
    o.output = keep(state, "highest.png");
    sp_tensor highest = latents_of(state, o);
    sp_tensor first = {.shape = highest.shape, .data = both.data};
    sp_tensor second = {.shape = zero.shape, .data = (float *)both.data + LATENT_COUNT};
    assert_true(difference(&first, &highest) < 1e-5);
    assert_true(difference(&second, &zero) < 1e-5);
    assert_true(difference(&highest, &zero) > 1e-2);
    char *bytes;
    size_t size;
    assert_ok(sp_read_file(o.output, &bytes, &size));
    assert_non_null(memmem(bytes, size, "Seed: 18446744073709551615,", 27));
    assert_non_null(memmem(bytes, size, "\"seed\":\"18446744073709551615\"", 29));
    sp_free(bytes);
    sp_tensor_free(&both);
    sp_tensor_free(&zero);
    sp_tensor_free(&highest);
}

static void test_highest_seed(void **state)
{
    check_wrap(state, SPLAM_RNG_PHILOX);
    check_wrap(state, SPLAM_RNG_TORCH);
}

/* ---- what prompts do not do ---- */

static void generate_it(void *context)
{
    generate(context);
}

static char *warnings_of(void **state, splam_generate_options *o)
{
    o->steps = 1;
    o->save_latents = keep(state, "latents.safetensors");
    return captured(state, generate_it, o);
}

/* The tokenizer takes eight tokens, begin and end among them. */
static void test_cut_prompts(void **state)
{
    static const char *const prompts[] = {"red apple red apple red apple",
                                          "red apple red apple red apple small, HOUSE red",
                                          "red apple red apple red apple red"};
    const double guided = 5;
    splam_generate_options o = options_for(state, "teacher");
    o.prompts = prompts;
    o.prompt_count = 3;
    o.negative = "red apple red apple red apple a\x1B[2J";
    char *said = warnings_of(state, &o);
    static const char expected[] =
        "warning: the prompt \"red apple red apple red apple small, HOUSE red\" has 10 tokens and the "
        "text encoder takes 6; what is cut is \"small , house red\"\n"
        "warning: the prompt \"red apple red apple red apple red\" has 7 tokens and the text encoder "
        "takes 6; what is cut is \"red\"\n"
        "warning: the negative prompt \"red apple red apple red apple a?[2J\"";
    if (!strstr(said, expected)) fail_msg("said: %s", said);
    assert_null(strchr(said, 0x1B));
    sp_free(said);
    o.guidance = guided;
    o.negative = "red";
    o.prompt_count = 1;
    said = warnings_of(state, &o);
    assert_string_equal(said, "");
    sp_free(said);
    o = options_for(state, "student"); /* has no use for a negative prompt: that is said, and not how long it is */
    o.negative = prompts[1];
    said = warnings_of(state, &o);
    assert_string_equal(said, "warning: the negative prompt is left out: only guidance in two passes draws away from "
                              "one\n");
    sp_free(said);
}

static void test_foreign_syntax(void **state)
{
    static const char *const prompts[] = {"(red:1.3) apple", "red BREAK <lora:x:.8>", "(red: -2 )"};
    static const char *const plain[] = {"(red) apple", "BREAKFAST at 9:30 (red: apple)", "a < b <lora"};
    splam_generate_options o = options_for(state, "student");
    o.prompts = prompts;
    o.prompt_count = 3;
    char *said = warnings_of(state, &o), *hint = strstr(said, "warning: \"(red:1.3)\"");
    if (!hint ||
        !sp_starts_with(hint, "warning: \"(red:1.3)\", \"BREAK\", \"<lora:x:.8>\" in a prompt is read as words"))
        fail_msg("said: %s", said);
    assert_non_null(strstr(hint, "and LoRA files have an option of their own, `loras`"));
    assert_null(strstr(strstr(hint, "read as words") + 1, "read as words")); /* once */
    sp_free(said);
    o.prompts = plain;
    said = warnings_of(state, &o);
    assert_null(strstr(said, "read as words"));
    sp_free(said);
}

/* What `path` begins with, after it has been decoded. */
static void assert_starts(const char *path, const char *first, size_t count)
{
    char *bytes;
    size_t size;
    sp_image image;
    assert_ok(sp_image_load(path, &image));
    assert_int_equal(image.width, SIDE);
    sp_image_free(&image);
    assert_ok(sp_read_file(path, &bytes, &size));
    assert_true(size > count);
    assert_memory_equal(bytes, first, count);
    sp_free(bytes);
}

/* A picture is what its name says, in files of one and of several; a name without a suffix gets
 * one, a folder gets "out". Each is read back as a picture to start from. */
static void test_formats(void **state)
{
    splam_generate_options o = options_for(state, "student");
    o.steps = 1;
    o.output = keep(state, "one.JPG");
    generate(&o);
    assert_starts(o.output, "\xFF\xD8\xFF", 3);
    o.output = keep(state, "two.webp");
    o.quality = 100;
    generate(&o);
    assert_starts(o.output, "RIFF", 4);
    o.count = 2;
    o.quality = SPLAM_UNSET;
    o.output = keep(state, "dir.d/bare");
    generate(&o);
    assert_starts(keep(state, "dir.d/bare-1.png"), "\x89PNG", 4);
    o.output = keep(state, "new/");
    o.format = "jpg";
    generate(&o);
    assert_starts(keep(state, "new/out-0.jpg"), "\xFF\xD8\xFF", 3);
    o.count = 1;
    o.output = keep(state, "new"); /* which is there now */
    o.format = "webp";
    generate(&o);
    assert_starts(keep(state, "new/out.webp"), "RIFF", 4);

    static const char *const names[] = {"one.JPG", "two.webp", "new/out.webp", "dir.d/bare-0.png"};
    o = options_for(state, "teacher");
    o.steps = 2;
    o.output = keep(state, "from.jpeg");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        o.init_image = keep(state, names[i]);
        generate(&o);
        assert_starts(o.output, "\xFF\xD8\xFF", 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_highest_seed),
        cmocka_unit_test(test_cut_prompts),
        cmocka_unit_test(test_foreign_syntax),
        cmocka_unit_test(test_picture_text),
        cmocka_unit_test(test_sampler_names),
        cmocka_unit_test(test_student_text),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
