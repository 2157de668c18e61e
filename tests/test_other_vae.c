/* Another autoencoder than the model's own: what its latents are scaled by, and what is said of one that does not fit
 * or makes no pictures. */
#include <math.h>
#include "tiny_model.h"
#include "base/text.h"
#include "pipeline/pipeline.h"

static const char scheduler[] = "{\"_class_name\": \"DDIMScheduler\", \"clip_sample\": false}";

/* A model whose latents are scaled as Stable Diffusion XL's are. */
static const char *scaled_model(void **state)
{
    static char model[512];
    json_t *json;
    snprintf(model, sizeof model, "%s", in_folder(state, "model"));
    make_model(model, "unet-demo", scheduler);
    assert_ok(sp_json_load(in(model, "vae/config.json"), &json));
    json_object_set_new(json, "scaling_factor", json_real(0.13025));
    assert_ok(sp_json_save(in(model, "vae/config.json"), json));
    json_decref(json);
    return model;
}

/* ---- scales ---- */

/* The autoencoder of an original checkpoint as a file of its own, under original names. */
static void write_alone(const char *path)
{
    static sp_named_tensor named[600];
    sp_tensor_file *file;
    size_t count = 0;
    assert_ok(sp_tensor_file_open(golden("original-sd1/model.safetensors"), &file));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++)
        if (sp_starts_with(sp_tensor_file_name(file, i), "first_stage_model."))
            named[count++] = (sp_named_tensor){sp_tensor_file_name(file, i), sp_tensor_file_at(file, i)};
    assert_in_range(count, 50, 600);
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
    sp_tensor_file_close(file);
}

static void a_file_alone_is_scaled_as_the_model_is(void **state)
{
    const char *model = scaled_model(state);
    char path[512];
    sp_model *m;
    snprintf(path, sizeof path, "%s", in_folder(state, "vae.safetensors"));
    write_alone(path);
    assert_ok(sp_model_open(model, &(sp_model_options){.vae = path, .precision = SP_F32}, &m));
    assert_true(m->vae->config.vae.scaling_factor == 0.13025);
    sp_model_close(m);
    sp_component *vae; /* without a model, as of old */
    assert_ok(sp_component_open(path, "vae", &vae));
    assert_true(vae->config.vae.scaling_factor == 0.18215);
    sp_component_close(vae);
}

typedef struct {
    const char *model, *vae;
    double scale; /* that it has then */
} choice;

static void open_with(void *context)
{
    choice *c = context;
    sp_model *m;
    assert_ok(sp_model_open(c->model, &(sp_model_options){.vae = c->vae, .precision = SP_F32}, &m));
    c->scale = m->vae->config.vae.scaling_factor;
    sp_model_close(m);
}

static void another_scale_is_said(void **state)
{
    choice c = {scaled_model(state), golden("vae-sd"), 0};
    char *text = captured(state, open_with, &c);
    assert_non_null(strstr(text, "scaled by 0.18215, and those of the model's own autoencoder by 0.13025"));
    assert_true(c.scale == 0.18215);
    sp_free(text);
    c.vae = in(c.model, "vae");
    text = captured(state, open_with, &c);
    assert_null(strstr(text, "scaled by"));
    assert_true(c.scale == 0.13025);
    sp_free(text);
}

static void names_of_tiny_autoencoders_are_looked_at(void **state)
{
    static const struct {
        const char *folder;
        bool warns;
    } cases[] = {{"taesdxl", true}, {"my-TAESDXL", true}, {"taesd", false}, {"sketch", false}};
    choice c = {scaled_model(state), NULL, 0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char folder[512];
        snprintf(folder, sizeof folder, "%s", in_folder(state, cases[i].folder));
        assert_ok(sp_copy_tree(golden("vae-tiny"), folder, NULL));
        c.vae = folder;
        char *text = captured(state, open_with, &c);
        assert_int_equal(strstr(text, "is by its name for Stable Diffusion XL") != NULL, cases[i].warns);
        assert_true(c.scale == 1);
        sp_free(text);
    }
}

/* ---- pictures that are not finite ---- */

static void decode_with(const char *model, const char *tensor, float value, float latent, const char *words)
{
    sp_pipeline *p;
    assert_ok(sp_pipeline_open(model, &(sp_model_options){.precision = SP_F32}, &p));
    sp_tensor latents, images, changed;
    if (tensor) {
        assert_ok(sp_tensor_convert(sp_weights_find(p->vae->weights, tensor), SP_F32, &changed));
        for (int64_t i = 0; i < sp_tensor_count(&changed); i++)
            ((float *)changed.data)[i] = value;
        assert_ok(sp_weights_add(p->vae->weights, tensor, changed));
    }
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 4, 5, 6), &latents));
    ((float *)latents.data)[7] = latent;
    assert_status(sp_pipeline_decode(p, &latents, NULL, &images), SP_NUMERIC);
    assert_message(words);
    assert_message("expected a finite number");
    if (tensor) assert_message("model/vae: ");
    if (tensor) assert_message("`vae` can name others");
    sp_tensor_free(&latents);
    sp_pipeline_close(p);
}

static void pictures_that_are_not_finite_are_explained(void **state)
{
    const char *model = scaled_model(state);
    decode_with(model, "decoder.conv_out.weight", NAN, 1, "weights are damaged");
    decode_with(model, "decoder.mid_block.resnets.0.conv1.bias", INFINITY, 1,
                "decoder.mid_block.resnets.0.conv1.bias: element 0");
    decode_with(model, "decoder.conv_out.weight", 3e38f, 1, "the decoded pictures: element");
    decode_with(model, NULL, 0, NAN, "what the autoencoder is given: element 7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_alone_is_scaled_as_the_model_is, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(another_scale_is_said, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(names_of_tiny_autoencoders_are_looked_at, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(pictures_that_are_not_finite_are_explained, make_test_folder,
                                        remove_test_folder),
    };
    return cmocka_run_group_tests_name("another autoencoder", tests, NULL, NULL);
}
