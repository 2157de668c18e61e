/* Prompts with weights: the parts and their weights that sd_embed finds, BREAK, chunks, what is refused, and hostile
 * text. */
#include <math.h>
#include "support.h"
#include "base/json.h"
#include "text/chunks.h"
#include "text/weighted_prompt.h"

/* ---- parts ---- */

static void parts_are_those_of_sd_embed(void **state)
{
    (void)state;
    json_t *cases, *c, *part;
    size_t i, k;
    assert_ok(sp_json_load(golden_file("prompts", "cases.json"), &cases));
    assert_true(json_array_size(json_object_get(cases, "parse")) > 40);
    json_array_foreach(json_object_get(cases, "parse"), i, c)
    {
        const char *text = json_string_value(json_object_get(c, "text"));
        const json_t *expected = json_object_get(c, "parts");
        sp_weighted_prompt prompt;
        assert_ok(sp_weighted_prompt_parse(text, &prompt));
        if (prompt.count != json_array_size(expected)) fail_msg("\"%s\" has %zu parts", text, prompt.count);
        json_array_foreach(expected, k, part)
        {
            assert_string_equal(prompt.parts[k].text, json_string_value(json_array_get(part, 0)));
            if (prompt.parts[k].weight != json_number_value(json_array_get(part, 1))) /* to the last bit */
                fail_msg("\"%s\": \"%s\" weighs %.17g", text, prompt.parts[k].text, prompt.parts[k].weight);
        }
        sp_weighted_prompt_free(&prompt);
    }
    json_decref(cases);
}

/* "a|BREAK|b:1.3", the weights that are not 1 with two digits. */
static const char *shown(const char *text)
{
    static char out[512];
    sp_weighted_prompt prompt;
    size_t length = 0;
    assert_ok(sp_weighted_prompt_parse(text, &prompt));
    *out = 0;
    for (size_t i = 0; i < prompt.count; i++) {
        const sp_prompt_part *part = &prompt.parts[i];
        length += (size_t)snprintf(out + length, sizeof out - length, "%s%s", i ? "|" : "",
                                   part->text ? part->text : "BREAK");
        if (part->text && part->weight != 1)
            length += (size_t)snprintf(out + length, sizeof out - length, ":%.2f", part->weight);
    }
    sp_weighted_prompt_free(&prompt);
    return out;
}

static void breaks_stand_alone(void **state)
{
    static const char *const cases[][2] = {
        {"a BREAK b", "a |BREAK| b"},
        {"BREAK", "|BREAK|"},
        {"a BREAK BREAK b", "a |BREAK| |BREAK| b"},
        {"(a BREAK b:1.3) c", "a :1.30|BREAK| b:1.30| c"},
        {"(a)BREAK[b]", "a:1.10||BREAK||b:0.91"},
        {"a BREAKfast", "a BREAKfast"},
        {"OUTBREAK, BREAK_ 1BREAK BREAK2 break Break", "OUTBREAK, BREAK_ 1BREAK BREAK2 break Break"},
        {"BREAK\xc3\xa9 \xc3\xa9" "BREAK", "BREAK\xc3\xa9 \xc3\xa9" "BREAK"},
        {"\xe2\x80\x94" "BREAK\xe2\x80\x94", "\xe2\x80\x94|BREAK|\xe2\x80\x94"},
        {"a:BREAK,b", "a:|BREAK|,b"},
        {"\\(BREAK\\)", "(|BREAK|)"},
        {"BREA", "BREA"},
        {"(a: 1.3 ) b", "a:1.30| b"},
        {"(a:\t+1.3\n) b", "a:1.30| b"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(shown(cases[i][0]), cases[i][1]);
}

/* BEGIN, COUNT times PIECE, END; sp_free. */
static char *repeated(const char *begin, const char *piece, size_t count, const char *end)
{
    size_t first = strlen(begin), length = strlen(piece);
    char *text = sp_alloc(first + length * count + strlen(end) + 1);
    memcpy(text, begin, first);
    for (size_t i = 0; i < count; i++)
        memcpy(text + first + i * length, piece, length);
    strcpy(text + first + count * length, end);
    return text;
}

static void what_is_no_weight_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *begin, *piece;
        size_t count;
        const char *end, *message;
    } cases[] = {
        {"(a:1.2.3)", "", 0, "", "the prompt \"(a:1.2.3)\": a weight is \"1.2.3\", a number such as 1.3 is expected"},
        {"(a:...)", "", 0, "", "a weight is \"...\""},
        {"(a:-.)", "", 0, "", "a weight is \"-.\""},
        {"(a:1001)", "", 0, "", "a weight comes to 1001, and 1000 is the most"},
        {"(a:-1000.5)", "", 0, "", "a weight comes to -1000.5"},
        {"", "(", 200, "a", "a weight comes to 1.89"},
        {"", "(", 9000, "a", "a weight comes to inf"},
        {"(a:", "9", 400, ")", "a weight comes to inf"},
        {"((a:0):", "9", 400, ")", "nan, and"}, /* 0 times what no double holds */
        {"", "x", SP_MAX_WEIGHTED_BYTES + 1, "", "has 16385 bytes, and with weights 16384 are the most"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_weighted_prompt prompt;
        char *text = repeated(cases[i].begin, cases[i].piece, cases[i].count, cases[i].end);
        assert_status(sp_weighted_prompt_parse(text, &prompt), SP_ARGUMENT);
        assert_message(cases[i].message);
        assert_null(prompt.parts);
        sp_free(text);
    }
}

static void brackets_may_be_as_deep_as_the_text_is_long(void **state)
{
    (void)state;
    sp_weighted_prompt prompt;
    char *alternating = repeated("", "([", 3000, "a"), *empty = repeated("", "(", SP_MAX_WEIGHTED_BYTES, "");
    assert_ok(sp_weighted_prompt_parse(alternating, &prompt));
    assert_int_equal(prompt.count, 1);
    assert_true(fabs(prompt.parts[0].weight - 1) < 1e-9);
    sp_weighted_prompt_free(&prompt);
    assert_ok(sp_weighted_prompt_parse(empty, &prompt));
    assert_int_equal(prompt.count, 1);
    assert_string_equal(prompt.parts[0].text, "");
    sp_weighted_prompt_free(&prompt);
    sp_free(alternating);
    sp_free(empty);
}

/* Whatever is thrown together: a list of parts with finite weights and no brackets' bytes lost, or a refusal. */
static void any_text_is_read_or_refused(void **state)
{
    static const char *const pieces[] = {"(", ")", "[", "]", ":", "\\", "1.3", ":1.3)", ":-2 )", ":.)", "1e999", "nan",
                                         "BREAK", " ", "\n", "a", "_", "\xff", "\xe6\x97\xa5", "\xe6\x97", ":9999)",
                                         ","};
    (void)state;
    uint32_t random = 1;
    for (int round = 0; round < 20000; round++) {
        char text[128] = "";
        sp_weighted_prompt prompt;
        for (int i = 0; i < 12; i++) {
            random = random * 1664525 + 1013904223;
            strcat(text, pieces[(random >> 16) % (sizeof pieces / sizeof *pieces)]);
        }
        sp_status status = sp_weighted_prompt_parse(text, &prompt);
        assert_true(status == SP_OK || status == SP_ARGUMENT);
        assert_true(status || prompt.count > 0);
        size_t bytes = 0;
        for (size_t i = 0; i < prompt.count; i++) {
            assert_true(fabs(prompt.parts[i].weight) <= SP_MAX_PROMPT_WEIGHT);
            bytes += prompt.parts[i].text ? strlen(prompt.parts[i].text) : strlen("BREAK");
        }
        assert_true(bytes <= strlen(text));
        sp_weighted_prompt_free(&prompt);
    }
}

/* ---- chunks ---- */

enum { LENGTH = 8, ROOM = LENGTH - 2 };

static int make_tokenizer(void **state)
{
    static const char *const captions[] = {"red apple", "green apple", "a small house"};
    sp_tokenizer *tokenizer = NULL;
    int32_t first;
    if (sp_tokenizer_train(captions, 3, 600, LENGTH, false, &tokenizer)) return -1;
    if (sp_tokenizer_add_vectors(tokenizer, "<toy>", 3, &first)) return -1;
    *state = tokenizer;
    return 0;
}

static int free_tokenizer(void **state)
{
    sp_tokenizer_destroy(*state);
    return 0;
}

/* "b r a e p p p p|b g ...": first letters of tokens, b, e and p for begin, end and padding (which is the end), the
 * weights that are not 1 behind them. */
static const char *letters(const sp_tokenizer *tokenizer, const sp_prompt_chunks *c)
{
    static char out[1024];
    size_t length = 0;
    *out = 0;
    for (size_t i = 0; i < c->count * c->length; i++) {
        int32_t id = c->ids[i];
        char *text, sign;
        assert_ok(sp_tokenizer_decode(tokenizer, &id, 1, &text));
        sign = id == sp_tokenizer_bos(tokenizer) ? '^' : id == sp_tokenizer_eos(tokenizer) ? '$' : *text;
        length += (size_t)snprintf(out + length, sizeof out - length, "%s%c", i && i % LENGTH == 0 ? "|" : "", sign);
        if (c->weights[i] != 1)
            length += (size_t)snprintf(out + length, sizeof out - length, "%g", (double)c->weights[i]);
        sp_free(text);
    }
    return out;
}

static void prompts_are_cut_into_chunks(void **state)
{
    static const struct {
        sp_prompt_syntax syntax;
        const char *prompt, *expected;
    } cases[] = {
        {SP_PROMPT_PLAIN, "red apple", "^ra$$$$$"},
        {SP_PROMPT_PLAIN, "red red red red red red apple", "^rrrrrr$"},
        {SP_PROMPT_PLAIN, "a <toy> a a a a", "^a<<<aa$"},
        {SP_PROMPT_PLAIN, "a a a a <toy> a", "^aaaa<<$"},
        {SP_PROMPT_WEIGHTED, "red apple", "^ra$$$$$"},
        {SP_PROMPT_WEIGHTED, "", "^$$$$$$$"},
        {SP_PROMPT_WEIGHTED, "(red:1.5) apple", "^r1.5a$$$$$"},
        {SP_PROMPT_WEIGHTED, "red red red red red red", "^rrrrrr$"},
        {SP_PROMPT_WEIGHTED, "red red red red red (red apple:2)", "^rrrrrr2$|^a2$$$$$$"},
        /* where A1111 would go back to the comma; and its chunks */
        {SP_PROMPT_WEIGHTED, "red red red, red red apple", "^rrr,rr$|^a$$$$$$"},
        {SP_PROMPT_WEIGHTED, "red red red, BREAK red red apple", "^rrr,$$$|^rra$$$$"},
        {SP_PROMPT_WEIGHTED, "red BREAK apple", "^r$$$$$$|^a$$$$$$"},
        {SP_PROMPT_WEIGHTED, "red red red red red red BREAK apple", "^rrrrrr$|^a$$$$$$"},
        {SP_PROMPT_WEIGHTED, "BREAK red BREAK BREAK apple BREAK", "^$$$$$$$|^r$$$$$$|^$$$$$$$|^a$$$$$$"},
        {SP_PROMPT_WEIGHTED, "a a a <toy> a", "^aaa<<<$|^a$$$$$$"},
        {SP_PROMPT_WEIGHTED, "a a a a (<TOY>:2) a", "^aaaa$$$|^<2<2<2a$$$"},
        {SP_PROMPT_WEIGHTED, "<toy> <toy> <toy>", "^<<<<<<$|^<<<$$$$"},
    };
    sp_tokenizer *tokenizer = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_prompt_chunks chunks;
        assert_ok(sp_prompt_chunks_make(tokenizer, cases[i].syntax, cases[i].prompt, &chunks));
        assert_string_equal(letters(tokenizer, &chunks), cases[i].expected);
        sp_prompt_chunks_free(&chunks);
    }
}

static void shorter_prompts_are_filled_up(void **state)
{
    sp_tokenizer *tokenizer = *state;
    sp_prompt_chunks chunks;
    assert_ok(sp_prompt_chunks_make(tokenizer, SP_PROMPT_WEIGHTED, "(red:2)", &chunks));
    assert_ok(sp_prompt_chunks_pad(tokenizer, 3, &chunks));
    assert_string_equal(letters(tokenizer, &chunks), "^r2$$$$$$|^$$$$$$$|^$$$$$$$");
    assert_ok(sp_prompt_chunks_pad(tokenizer, 2, &chunks));
    assert_int_equal(chunks.count, 3);
    sp_prompt_chunks_free(&chunks);
}

static void chunks_have_a_limit(void **state)
{
    sp_tokenizer *tokenizer = *state;
    sp_prompt_chunks chunks;
    char *most = repeated("", "red ", ROOM * SP_MAX_CHUNKS, "");
    char *more = repeated("", "red ", ROOM * SP_MAX_CHUNKS, "a");
    char *breaks = repeated("", "BREAK ", SP_MAX_CHUNKS + 1, "");
    assert_ok(sp_prompt_chunks_make(tokenizer, SP_PROMPT_WEIGHTED, most, &chunks));
    assert_int_equal(chunks.count, SP_MAX_CHUNKS);
    sp_prompt_chunks_free(&chunks);
    assert_status(sp_prompt_chunks_make(tokenizer, SP_PROMPT_WEIGHTED, more, &chunks), SP_ARGUMENT);
    assert_message("the prompt \"red red red");
    assert_message("takes more than 32 chunks of 6 tokens");
    assert_status(sp_prompt_chunks_make(tokenizer, SP_PROMPT_WEIGHTED, breaks, &chunks), SP_ARGUMENT);
    assert_status(sp_prompt_chunks_make(tokenizer, SP_PROMPT_WEIGHTED, "(a:1.2.3)", &chunks), SP_ARGUMENT);
    assert_null(chunks.ids);
    sp_free(most);
    sp_free(more);
    sp_free(breaks);
}

/* ---- tokens that stand for vectors ---- */

static void vectors_get_tokens_of_their_own(void **state)
{
    static const char *const captions[] = {"red apple"};
    (void)state;
    sp_tokenizer *tokenizer;
    int32_t first, *ids;
    size_t count;
    char longest[SP_VECTOR_NAME + 1];
    memset(longest, 'x', SP_VECTOR_NAME);
    longest[SP_VECTOR_NAME] = 0;
    assert_ok(sp_tokenizer_train(captions, 1, 600, LENGTH, false, &tokenizer));
    size_t size = sp_tokenizer_vocabulary_size(tokenizer);
    assert_ok(sp_tokenizer_add_vectors(tokenizer, "Toy", 2, &first));
    assert_int_equal(first, size);
    assert_int_equal(sp_tokenizer_vocabulary_size(tokenizer), size + 2);
    assert_ok(sp_tokenizer_encode_all(tokenizer, "TOYs toy_1", &ids, &count));
    assert_int_equal(count, 4);
    assert_true(ids[0] == first && ids[1] == first + 1 && ids[3] == first + 1);
    sp_free(ids);
    assert_true(sp_tokenizer_run(tokenizer, first) == 2 && sp_tokenizer_run(tokenizer, first + 1) == 1);
    assert_true(sp_tokenizer_run(tokenizer, 3) == 1 && sp_tokenizer_run(tokenizer, -1) == 1);
    static const char *const refused[] = {"Toy", "Toy_1", "red</w>", "", " \t", "a"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_status(sp_tokenizer_add_vectors(tokenizer, refused[i], 1, &first), SP_ARGUMENT);
    assert_status(sp_tokenizer_add_vectors(tokenizer, longest, 1, &first), SP_ARGUMENT);
    assert_message("is no token");
    assert_ok(sp_tokenizer_add_vectors(tokenizer, "other_1", 1, &first));
    assert_status(sp_tokenizer_add_vectors(tokenizer, "other", 2, &first), SP_ARGUMENT);
    assert_message("the tokenizer has the token \"other_1\" already");
    assert_int_equal(sp_tokenizer_vocabulary_size(tokenizer), size + 3);
    sp_tokenizer_destroy(tokenizer);
}

/* ---- memory ---- */

static sp_status make_chunks(void *tokenizer)
{
    sp_prompt_chunks chunks;
    SP_TRY(sp_prompt_chunks_make(tokenizer, SP_PROMPT_WEIGHTED, "(red [apple BREAK a:1.3) \\(house\\)", &chunks));
    sp_status status = sp_prompt_chunks_pad(tokenizer, 40, &chunks);
    sp_prompt_chunks_free(&chunks);
    return status;
}

static sp_status add_vectors(void *context)
{
    static const char *const captions[] = {"red apple"};
    (void)context;
    sp_tokenizer *tokenizer;
    int32_t first;
    SP_TRY(sp_tokenizer_train(captions, 1, 600, LENGTH, false, &tokenizer));
    sp_status status = sp_tokenizer_add_vectors(tokenizer, "<toy>", 100, &first);
    sp_tokenizer_destroy(tokenizer);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    assert_true(fail_every_allocation(make_chunks, *state) > 10);
    assert_true(fail_every_allocation(add_vectors, NULL) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_those_of_sd_embed),
        cmocka_unit_test(breaks_stand_alone),
        cmocka_unit_test(what_is_no_weight_is_refused),
        cmocka_unit_test(brackets_may_be_as_deep_as_the_text_is_long),
        cmocka_unit_test(any_text_is_read_or_refused),
        cmocka_unit_test(prompts_are_cut_into_chunks),
        cmocka_unit_test(shorter_prompts_are_filled_up),
        cmocka_unit_test(chunks_have_a_limit),
        cmocka_unit_test(vectors_get_tokens_of_their_own),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_tokenizer, free_tokenizer);
}
