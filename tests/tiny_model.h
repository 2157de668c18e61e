/* A tiny but complete model: goldens' UNet and VAE, a text encoder with starting values, a
 * tokenizer learned from a few words. Pictures of 32 x 32 pixels, latents of 8 x 8. */
#ifndef SP_TESTS_TINY_MODEL_H
#define SP_TESTS_TINY_MODEL_H
#include "support.h"
#include "checkpoints/component.h"
#include "models/initialize.h"
#include "text/tokenizer.h"

enum { TINY_MODEL_TOKENS = 8 };

static const char ddim_scheduler[] =
    "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
    " \"beta_schedule\": \"scaled_linear\", \"clip_sample\": false, \"set_alpha_to_one\": false, \"steps_offset\": 1}";
static inline void write_text(const char *path, const char *text)
{
    assert_ok(sp_write_file(path, text, strlen(text)));
}

static inline void make_text_encoder(const char *folder, int64_t vocabulary, int64_t width)
{
    sp_component_config config = {.kind = SP_COMPONENT_TEXT_ENCODER,
                                  .text = {.vocabulary = vocabulary,
                                           .width = width,
                                           .feed_forward = 48,
                                           .layers = 2,
                                           .heads = 2,
                                           .max_tokens = TINY_MODEL_TOKENS,
                                           .projection = width,
                                           .epsilon = 1e-5,
                                           .activation = SP_UNARY_QUICK_GELU,
                                           .end_id = vocabulary - 1,
                                           .begin_id = vocabulary - 2,
                                           .pad_id = vocabulary - 1}};
    sp_graph *graph;
    sp_weights *weights;
    assert_ok(sp_component_graph(&config, &graph));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_initialize(graph, "", &(sp_initialize_options){.seed = 5}, weights));
    json_t *json = sp_clip_text_config_write(&config.text);
    assert_ok(sp_component_save(folder, SP_COMPONENT_TEXT_ENCODER, json, weights, SP_F32, NULL));
    json_decref(json);
    sp_weights_destroy(weights);
    sp_graph_destroy(graph);
}

static inline void make_model(const char *folder, const char *unet, const char *scheduler)
{
    static const char *const captions[] = {"red apple", "green apple", "a small house",
                                           "woman office worker"};
    char path[640];
    sp_tokenizer *tokenizer;
    assert_ok(sp_tokenizer_train(captions, 4, 560, TINY_MODEL_TOKENS, false, &tokenizer));
    snprintf(path, sizeof path, "%s/tokenizer", folder);
    assert_ok(sp_tokenizer_save(tokenizer, path));
    snprintf(path, sizeof path, "%s/text_encoder", folder);
    make_text_encoder(path, (int64_t)sp_tokenizer_vocabulary_size(tokenizer), 24);
    sp_tokenizer_destroy(tokenizer);
    snprintf(path, sizeof path, "%s/unet", folder);
    assert_ok(sp_copy_tree(golden(unet), path, NULL));
    snprintf(path, sizeof path, "%s/vae", folder);
    assert_ok(sp_copy_tree(golden("vae-demo"), path, NULL));
    snprintf(path, sizeof path, "%s/scheduler", folder);
    assert_ok(sp_make_folders(path));
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", folder);
    write_text(path, scheduler);
    snprintf(path, sizeof path, "%s/model_index.json", folder);
    write_text(
        path,
        "{\"_class_name\": \"StableDiffusionPipeline\", \"unet\": [\"diffusers\", \"UNet2DConditionModel\"]}");
}

#endif
