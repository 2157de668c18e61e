/* Scores of single embeddings, by the aesthetic head and by cosines, against the head's layers and numpy. */
#include "score_support.h"
#include <math.h>
#include "eval/embedding_scores.h"

enum { LAYERS = 5 };
static const int head_widths[LAYERS + 1] = {768, 1024, 128, 64, 16, 1}, head_numbers[LAYERS] = {0, 2, 4, 6, 7};

/* A head's file, of which layer `spoilt` (-1: none) has another name, or value `bad` in its bias. */
static void save_head(const char *path, int spoilt, float bad)
{
    sp_weights *weights;
    char name[64];
    assert_ok(sp_weights_create(&weights));
    for (int i = 0; i < LAYERS; i++) {
        int number = head_numbers[i] + (i == spoilt && bad == 0);
        snprintf(name, sizeof name, "layers.%d.weight", number);
        assert_ok(sp_weights_add(weights, name, formula(name, sp_shape_of(head_widths[i + 1], head_widths[i]), 4,
                                                        sqrt(head_widths[i]))));
        snprintf(name, sizeof name, "layers.%d.bias", number);
        sp_tensor bias = formula(name, sp_shape_of(head_widths[i + 1]), 1, 1);
        if (i == spoilt && bad != 0) ((float *)bias.data)[0] = bad;
        assert_ok(sp_weights_add(weights, name, bias));
    }
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

static void test_aesthetic_head_is_its_layers(void **state)
{
    const char *path = in_folder(state, "head.safetensors");
    sp_tensor embeddings = rows("embeddings", 5, 768, 1), other = rows("embeddings", 5, 512, 1);
    sp_aesthetic_file head;
    double scores[5];
    save_head(path, -1, 0);
    assert_ok(sp_aesthetic_file_open(path, &head));
    assert_int_equal(head.dim, 768);
    assert_int_equal(strlen(head.sha256), 64);
    assert_ok(sp_aesthetic_scores(&head, &embeddings, scores));
    for (int i = 0; i < 5; i++)
        assert_near(scores[i], ((const double *)expected("aesthetic")->data)[i], 1e-13);
    assert_status(sp_aesthetic_scores(&head, &other, scores), SP_SHAPE);
    ((float *)embeddings.data)[768 * 2] = NAN;
    assert_status(sp_aesthetic_scores(&head, &embeddings, scores), SP_NUMERIC);
    assert_message("embedding 2");
    sp_aesthetic_file_free(&head);
    sp_tensor_free(&embeddings);
    sp_tensor_free(&other);
}

static void save_single(const char *path, sp_shape weight, sp_shape bias)
{
    sp_weights *weights;
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add(weights, "weight", formula("w", weight, 1, 1)));
    assert_ok(sp_weights_add(weights, "bias", formula("b", bias, 1, 1)));
    assert_ok(sp_weights_save(weights, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
}

static void test_aesthetic_head_of_one_layer(void **state)
{
    const char *path = in_folder(state, "single.safetensors");
    sp_tensor embedding = rows("embeddings", 1, 2, 1);
    sp_aesthetic_file head;
    double score;
    save_single(path, sp_shape_of(1, 2), sp_shape_of(1));
    assert_ok(sp_aesthetic_file_open(path, &head));
    memcpy(embedding.data, (float[]){3, 4}, 2 * sizeof(float));
    assert_ok(sp_aesthetic_scores(&head, &embedding, &score));
    assert_near(score, 0.6 * formula_number("w", 0) + 0.8 * formula_number("w", 1) + formula_number("b", 0), 1e-15);
    sp_aesthetic_file_free(&head);
    save_single(path, sp_shape_of(1, 2), sp_shape_of(2));
    assert_status(sp_aesthetic_file_open(path, &head), SP_SHAPE);
    save_single(path, sp_shape_of(2, 2), sp_shape_of(2));
    assert_status(sp_aesthetic_file_open(path, &head), SP_UNSUPPORTED);
    sp_tensor_free(&embedding);
}

static sp_status open_head(void *path)
{
    sp_aesthetic_file head;
    SP_TRY(sp_aesthetic_file_open(path, &head));
    sp_aesthetic_file_free(&head);
    return SP_OK;
}

static void test_other_heads_are_refused(void **state)
{
    char path[600];
    snprintf(path, sizeof path, "%s", in_folder(state, "spoilt.safetensors"));
    save_head(path, 0, 0);
    assert_status(open_head(path), SP_UNSUPPORTED);
    assert_message("activations");
    save_head(path, LAYERS - 1, 0);
    assert_status(open_head(path), SP_UNSUPPORTED);
    save_head(path, 1, 0);
    assert_status(open_head(path), SP_FORMAT);
    assert_message("layers.2.weight");
    save_head(path, 2, NAN);
    assert_status(open_head(path), SP_NUMERIC);
    assert_message("layers.4.bias");
    save_single(path, sp_shape_of(1, 2), sp_shape_of(1));
    assert_true(fail_every_allocation(open_head, path) > 10);
}

static void test_cosines_are_scores(void **state)
{
    (void)state;
    sp_tensor images = rows("images", 6, 40, 1), texts = rows("texts", 6, 40, 1), fewer = rows("texts", 5, 40, 1);
    double scores[6];
    assert_ok(sp_cosine_scores(&images, &texts, exp(4.6052), scores));
    for (int i = 0; i < 6; i++)
        assert_near(scores[i], exp(4.6052) * ((const double *)expected("cosines")->data)[i], 1e-12);
    assert_status(sp_cosine_scores(&images, &fewer, 1, scores), SP_SHAPE);
    memset((float *)texts.data + 40 * 4, 0, 40 * sizeof(float));
    assert_status(sp_cosine_scores(&images, &texts, 1, scores), SP_NUMERIC);
    assert_message("embedding 4");
    sp_tensor_free(&images);
    sp_tensor_free(&texts);
    sp_tensor_free(&fewer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aesthetic_head_is_its_layers),
        cmocka_unit_test(test_aesthetic_head_of_one_layer),
        cmocka_unit_test(test_other_heads_are_refused),
        cmocka_unit_test(test_cosines_are_scores),
    };
    return cmocka_run_group_tests(tests, open_distances, close_golden);
}
