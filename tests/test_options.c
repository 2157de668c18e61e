/* Options as they are declared: defaults, structs of other sizes, what is refused; and that names are those that the
 * library's lists have. */
#include "support.h"
#include <math.h>
#include <splam/splam.h>
#include "base/text.h"
#include "checkpoints/lora.h"
#include "diffusion/sampler_kind.h"
#include "distill/objective.h"
#include "options/options.h"
#include "train/training_state.h"

static void assert_wrong(splam_status status, splam_status expected, const char *words)
{
    assert_int_equal(status, expected);
    assert_message(words);
}

/* ---- every table ---- */

static void check_declaration(const char *verb, const splam_option *o)
{
    bool listed = o->kind == SPLAM_OPTION_TEXTS || o->kind == SPLAM_OPTION_INTEGERS || o->kind == SPLAM_OPTION_LORAS ||
                  o->kind == SPLAM_OPTION_EMBEDDINGS;
    bool chosen = o->kind == SPLAM_OPTION_CHOICE || o->kind == SPLAM_OPTION_ENUM;
    if (o->offset < sizeof(size_t)) fail_msg("%s: %s lies on the size", verb, o->name);
    if (!o->help || !*o->help) fail_msg("%s: %s has no help", verb, o->name);
    if (listed && !o->beside) fail_msg("%s: %s has no number of elements", verb, o->name);
    if (chosen != (o->choices != NULL)) fail_msg("%s: %s has choices", verb, o->name);
    if (o->kind != SPLAM_OPTION_FLAG && !o->argument && !chosen) fail_msg("%s: %s has no argument", verb, o->name);
}

static bool has_option(const char *verb, const char *name)
{
    const splam_option *o;
    bool found = false;
    for (size_t i = 0; (o = splam_option_at(verb, i)); i++)
        found |= strcmp(o->name, name) == 0;
    return found;
}

static void tables_are_whole(void **state)
{
    (void)state;
    const char *verb;
    size_t verbs = 0;
    for (; (verb = splam_option_verb(verbs)); verbs++) {
        const splam_option *o, *other;
        for (size_t i = 0; (o = splam_option_at(verb, i)); i++) {
            check_declaration(verb, o);
            if (o->needs && !has_option(verb, o->needs)) fail_msg("%s: %s needs %s", verb, o->name, o->needs);
            for (size_t k = 0; k < i; k++) {
                other = splam_option_at(verb, k);
                if (other->offset == o->offset || (o->letter && o->letter == other->letter))
                    fail_msg("%s: %s and %s are one", verb, o->name, other->name);
            }
        }
        assert_null(splam_option_at(verb, 1000));
    }
    assert_true(verbs >= 13);
    assert_null(splam_option_at("no verb", 0));
}

/* The defaults of every verb are in the ranges that its table has, but that some are missing. */
static void defaults_are_allowed(void **state)
{
    (void)state;
    const char *verb;
    for (size_t i = 0; (verb = splam_option_verb(i)); i++) {
        _Alignas(max_align_t) char options[4096];
        assert_int_equal(splam_option_defaults(verb, options, sizeof options), SPLAM_OK);
        splam_status status = splam_option_check(verb, options);
        if (status && !strstr(splam_error_message(), "is missing")) fail_msg("%s: %s", verb, splam_error_message());
    }
}

/* ---- sizes ---- */

static void shorter_structs_have_defaults(void **state)
{
    (void)state;
    splam_distill_options o, own;
    memset(&o, 0xff, sizeof o);
    size_t size = offsetof(splam_distill_options, learning_rate);
    assert_int_equal(splam_option_defaults("distill", &o, size), SPLAM_OK);
    assert_int_equal(o.size, size);
    assert_true(isnan(o.learning_rate)); /* not touched */
    o.teacher = "teacher";
    o.max_train_steps = 7;
    assert_int_equal(sp_options_take(&sp_verb_distill, &o, &own), SPLAM_OK);
    assert_int_equal(own.max_train_steps, 7);
    assert_true(own.learning_rate == 8e-6);
    assert_int_equal(own.size, sizeof own);
}

static void longer_structs_say_nothing_new(void **state)
{
    (void)state;
    struct {
        splam_tokenize_options known;
        int64_t later;
    } o;
    splam_tokenize_options own;
    assert_int_equal(splam_option_defaults("tokenize", &o, sizeof o), SPLAM_OK);
    o.known.model = "model";
    o.known.text = "text";
    assert_int_equal(sp_options_take(&sp_verb_tokenize, &o, &own), SPLAM_OK);
    o.later = 1;
    assert_wrong(sp_options_take(&sp_verb_tokenize, &o, &own), SPLAM_UNSUPPORTED, "does not know");
}

static void no_size_is_refused(void **state)
{
    (void)state;
    splam_distill_options o = {.teacher = "teacher"};
    assert_wrong(splam_distill(&o, NULL), SPLAM_ARGUMENT, "begin with splam_distill_defaults()");
    assert_wrong(splam_distill(NULL, NULL), SPLAM_ARGUMENT, "begin with splam_distill_defaults()");
    assert_wrong(splam_option_check("distil", &o), SPLAM_ARGUMENT, "no verb \"distil\"");
    assert_wrong(splam_option_defaults("distill", &o, 3), SPLAM_ARGUMENT, "3 bytes");
}

/* ---- values ---- */

static void wrong_values_name_the_member(void **state)
{
    (void)state;
    splam_distill_options good = splam_distill_defaults(), o;
    good.teacher = "teacher";
    assert_int_equal(splam_option_check("distill", &good), SPLAM_OK);
#define WRONG(member, value, words)                                                                \
    do {                                                                                           \
        o = good;                                                                                  \
        o.member = value;                                                                          \
        assert_wrong(splam_option_check("distill", &o), SPLAM_ARGUMENT, words);                    \
    } while (0)
    WRONG(teacher, NULL, "`teacher` is missing");
    WRONG(objective, NULL, "`objective` is missing");
    WRONG(objective, "spam", "`objective` is \"spam\", one of splam|lcm|pcm|tcd|progressive|dmd is expected");
    WRONG(gamma_power, 0, "`gamma_power` is 0, a number from 1e-06 to 100 is expected");
    WRONG(gamma_power, NAN, "`gamma_power` is nan");
    WRONG(learning_rate, (double)SPLAM_UNSET, "`learning_rate` is -9");
    WRONG(max_train_steps, 0, "`max_train_steps` is 0, a whole number from 1 to 1000000000 is expected");
    WRONG(memory_limit, -1, "`memory_limit` is -1");
    WRONG(precision, (splam_precision)7, "`precision` is 7, expected 0 to 2 (auto|no|bf16)");
    WRONG(pictures.min_size, -5, "`pictures.min_size` is -5");
    splam_eval_options e = splam_eval_defaults();
    const int64_t steps[] = {1, 0};
    const char *models[] = {NULL};
    e.data = e.output = "x";
    assert_wrong(splam_option_check("eval", &e), SPLAM_ARGUMENT, "`models` is missing");
    e.model_count = 1;
    assert_wrong(splam_option_check("eval", &e), SPLAM_ARGUMENT, "`models` is NULL");
    e.models = models;
    assert_wrong(splam_option_check("eval", &e), SPLAM_ARGUMENT, "`models` has no text at place 0");
    models[0] = "model";
    e.steps = steps;
    e.step_count = 2;
    assert_wrong(splam_option_check("eval", &e), SPLAM_ARGUMENT, "`steps` is 0");
}

static void what_has_no_effect_is_refused(void **state)
{
    (void)state;
    splam_distill_options good = splam_distill_defaults(), o;
    good.teacher = "teacher";
    WRONG(lora_alpha, 4, "`lora_alpha` has no effect without `lora_rank`");
    WRONG(lora_targets, "attention", "`lora_targets` has no effect without `lora_rank`");
    WRONG(lora_merged, true, "`lora_merged` has no effect without `lora_rank`");
    WRONG(keep, "best", "`keep` has no effect without `validation_metrics`");
    WRONG(validation_prompts, 8, "`validation_prompts` has no effect without `validation_metrics`");
    WRONG(validation_metrics, "trajectory-error", "`validation_metrics` has no effect without `validation_steps`");
    o = good;
    o.lora_rank = 4;
    o.lora_alpha = 8;
    assert_int_equal(splam_option_check("distill", &o), SPLAM_OK);
    splam_generate_options g = splam_generate_defaults();
    g.model = g.prompt = "x";
    g.skip_layer_stop = 0.5;
    assert_wrong(splam_option_check("generate", &g), SPLAM_ARGUMENT, "without `skip_layers`");
}

/* ---- names ---- */

static void choices_are_the_lists(void **state)
{
    (void)state;
    assert_string_equal(SP_CHOICES(SP_LORA_TARGETS_LIST), "all|attention");
    assert_string_equal(SP_CHOICES(SP_SAMPLER_LIST), "lcm|ddim|dpm++2m|dpm++2m-sde|unipc|euler|euler-a|heun|tcd");
    assert_string_equal(SP_CHOICES(SP_OBJECTIVE_LIST), "splam|lcm|pcm|tcd|progressive|dmd");
}

/* The defaults in the table are the settings that were published, which the engine has. */
static void distill_defaults_are_the_published_ones(void **state)
{
    (void)state;
    const splam_distill_options o = splam_distill_defaults();
    const sp_objective_settings s = sp_objective_defaults(SP_OBJECTIVE_SPLAM);
    assert_true(!splam_is_given(o.guidance_scale_w) && s.guidance_scale_w == 8);
    assert_string_equal(sp_option_find(&sp_verb_distill, "guidance_scale_w")->otherwise, "8");
    assert_string_equal(sp_option_find(&sp_verb_distill, "huber_c")->otherwise, "0.001");
    assert_true(!splam_is_given(o.huber_c) && s.loss.huber_c == 0.001);
    assert_string_equal(o.objective, "splam");
}

static void every_status_has_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < SPLAM_STATUS_COUNT; i++)
        assert_true(strlen(splam_status_text((splam_status)i)) > 1);
    assert_string_equal(splam_status_text(SPLAM_MEMORY), "out of memory");
    assert_string_equal(splam_status_text((splam_status)99), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_whole),
        cmocka_unit_test(defaults_are_allowed),
        cmocka_unit_test(shorter_structs_have_defaults),
        cmocka_unit_test(longer_structs_say_nothing_new),
        cmocka_unit_test(no_size_is_refused),
        cmocka_unit_test(wrong_values_name_the_member),
        cmocka_unit_test(choices_are_the_lists),
        cmocka_unit_test(distill_defaults_are_the_published_ones),
        cmocka_unit_test(what_has_no_effect_is_refused),
        cmocka_unit_test(every_status_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
