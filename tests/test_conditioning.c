/* Conditioning: what sets do, and that a tensor which nobody between knows of passes from a latent cache and from
 * recorded draws through the feed to a network that declares it. */
#include "conditions.h"
#include "data_support.h"
#include "backend/cpu/cpu.h"
#include "distill/distill_feed.h"
#include "latents/latent_block.h"
#include "models/runner.h"

enum { BATCH = 3, LENGTH = 7, WIDTH = 24, POOLED = 80, SIZES = 6 };

static sp_tensor numbers(sp_shape shape, double first)
{
    sp_tensor t;
    assert_ok(sp_tensor_create(SP_F32, shape, &t));
    for (int64_t i = 0; i < sp_tensor_count(&t); i++)
        ((float *)t.data)[i] = (float)(first + (double)i);
    return t;
}

/* encoder_hidden_states [rows,7,24] as they are given, and two that no network of ours declares. */
static sp_conditioning made_up(int64_t rows, const sp_tensor *states)
{
    sp_conditioning set = {0};
    assert_ok(sp_conditioning_add(&set, "time_ids", numbers(sp_shape_of(rows, SIZES), 4097)));
    assert_ok(sp_conditioning_add(&set, "text_embeds", numbers(sp_shape_of(rows, POOLED), 1)));
    sp_tensor view = *states;
    view.owned = false;
    assert_ok(sp_conditioning_add(&set, "encoder_hidden_states", view));
    return set;
}

/* ---- sets ---- */

static void sets_are_in_the_order_of_names(void **state)
{
    (void)state;
    sp_tensor states = numbers(sp_shape_of(2, LENGTH, WIDTH), 0);
    sp_conditioning set = made_up(2, &states), same;
    char text[256];
    assert_int_equal(set.count, 3);
    sp_conditioning_text(&set, text, sizeof text);
    assert_string_equal(text, "encoder_hidden_states [7,24], text_embeds [80], time_ids [6]");
    assert_int_equal(sp_conditioning_rows(&set), 2);
    assert_status(sp_conditioning_add(&set, "time_ids", numbers(sp_shape_of(2, SIZES), 0)), SP_FORMAT);
    assert_message("\"time_ids\" twice");
    assert_status(sp_conditioning_add(&set, "late", numbers(sp_shape_of(3, SIZES), 0)), SP_SHAPE);
    assert_message("has 2 rows");
    for (int i = 3; i < SP_MAX_CONDITIONS; i++)
        assert_ok(sp_conditioning_add(&set, text + i, numbers(sp_shape_of(2, 1), 0)));
    assert_status(sp_conditioning_add(&set, "one more", numbers(sp_shape_of(2, 1), 0)), SP_FORMAT);
    same = sp_conditioning_shape(&set, 9);
    assert_true(sp_conditioning_same(&set, &same) && sp_conditioning_rows(&same) == 9);
    assert_int_equal(sp_conditioning_bytes(&same), 0);
    sp_conditioning_free(&set);
    sp_tensor_free(&states);
}

static void rows_are_copied_converted_and_repeated(void **state)
{
    (void)state;
    sp_tensor states = numbers(sp_shape_of(2, LENGTH, WIDTH), 0);
    sp_conditioning set = made_up(2, &states), half, copy;
    assert_ok(sp_conditioning_convert(&set, SP_F16, &half));
    assert_ok(sp_conditioning_create(&set, SP_F32, 4, &copy));
    sp_conditioning_copy(&copy, 1, 3, &half, 1); /* the last row stands for those beyond */
    const float *ids = sp_conditioning_find(&copy, "text_embeds")->data;
    for (int i = 0; i < POOLED; i++) {
        assert_true(ids[i] == 0);
        for (int row = 1; row < 4; row++)
            assert_true(ids[row * POOLED + i] == (float)(1 + POOLED + i));
    }
    sp_conditioning_free(&copy);
    sp_conditioning_free(&half);
    sp_conditioning_free(&set);
    sp_tensor_free(&states);
}

static void networks_say_what_does_not_fit(void **state)
{
    (void)state;
    const sp_unet_config unet = {.cross_attention_dim = WIDTH};
    sp_conditioning good = hidden_states_of(1, LENGTH, WIDTH), narrow = hidden_states_of(1, LENGTH, 23), none = {0};
    assert_ok(sp_conditioning_check(&good, &sp_unet_network, &unet, "this"));
    assert_status(sp_conditioning_check(&narrow, &sp_unet_network, &unet, "this"), SP_SHAPE);
    assert_message("this has \"encoder_hidden_states\" [1,7,23], and the unet takes [N,L,24]");
    assert_status(sp_conditioning_check(&none, &sp_unet_network, &unet, "this"), SP_SHAPE);
    assert_message("this has no \"encoder_hidden_states\", which the unet takes as [N,L,24]");
    assert_status(sp_conditioning_expect(&narrow, &good, "that"), SP_SHAPE);
    assert_message("that is encoder_hidden_states [7,23], expected encoder_hidden_states [7,24]");
    sp_conditioning declared = sp_conditioning_declared(&sp_unet_network, &unet, 1, LENGTH);
    assert_true(sp_conditioning_same(&declared, &good));
}

/* ---- a network that declares more ---- */

static void list_ports(const void *config, sp_ports *out)
{
    (void)config;
    out->port[out->count++] = (sp_port){
        .name = "encoder_hidden_states", .shape = sp_shape_of(SP_SIZE_N, SP_SIZE_L, SP_SIZE_L), .condition = true};
    out->port[out->count++] =
        (sp_port){.name = "text_embeds", .shape = sp_shape_of(SP_SIZE_N, POOLED), .condition = true};
}

static void build_doubled(sp_builder *b, const void *config, const void *options, const sp_values *in, sp_values *out)
{
    (void)config;
    (void)options;
    for (int i = 0; i < in->count; i++)
        sp_values_add(out, in->item[i].name, sp_affine(b, in->item[i].value, 2, 0));
}

static const sp_network doubling = {
    .name = "doubling", .inputs = list_ports, .outputs = list_ports, .build = build_doubled};

/* Runs it on the set and returns twice its text_embeds. */
static sp_tensor picked(const sp_conditioning *set)
{
    const sp_network_use use = {.network = &doubling};
    sp_values in = {0}, out;
    sp_builder *b;
    sp_runner runner;
    sp_tensor result;
    assert_ok(sp_builder_create(&b));
    sp_conditioning_inputs(b, set, &doubling, NULL, "", sp_conditioning_rows(set), SP_RATE_STEP, &in);
    assert_int_equal(in.count, 2); /* time_ids are not declared */
    out = sp_network_graph(b, &use, &in);
    sp_network_outputs(b, &doubling, NULL, &out);
    assert_ok(sp_runner_create(b, sp_cpu_device(), SP_F32, &runner));
    assert_ok(sp_conditioning_set(runner.run, "", set));
    assert_ok(sp_run_execute(runner.run, NULL));
    assert_ok(sp_run_get_output(runner.run, "text_embeds", &result));
    sp_runner_free(&runner);
    return result;
}

static void assert_picked(const sp_conditioning *set)
{
    const float *given = sp_conditioning_find(set, "text_embeds")->data;
    sp_tensor found = picked(set);
    for (int64_t i = 0; i < sp_tensor_count(&found); i++)
        assert_true(((float *)found.data)[i] == 2 * given[i]);
    sp_tensor_free(&found);
}

/* ---- the feed ---- */

/* Feeds a training step of a student told by time; the feed keeps its batch. */
static void feed_once(const sp_distill_options *o, sp_distill_feed *feed)
{
    const sp_model_options parts = {.parts = sp_distill_feed_parts(o), .precision = SP_F32};
    sp_pipeline *teacher;
    sp_step_shape shape = {0};
    sp_graph *graph;
    sp_plan *plan;
    sp_run *run;
    assert_ok(sp_pipeline_open(o->given.teacher, &parts, &teacher));
    assert_ok(sp_distill_feed_create(o, teacher, &teacher->denoiser_config, NULL, feed, &shape));
    shape.teacher = shape.student = &teacher->denoiser_config;
    assert_ok(sp_objective_graph(&o->objective, &shape, &graph));
    assert_ok(sp_plan_create(graph, sp_cpu_device(), SP_F32, &plan));
    assert_ok(sp_run_create(plan, &run));
    assert_ok(sp_distill_feed_run(feed, run, 0));
    sp_run_destroy(run);
    sp_plan_destroy(plan);
    sp_pipeline_close(teacher);
}

static sp_distill_options options_for(const char *teacher)
{
    sp_distill_options o = sp_distill_defaults();
    o.given.teacher = teacher;
    o.given.train_batch_size = BATCH;
    o.ranks = 1;
    o.objective.conditioning = SP_GAMMA_TIME;
    return o;
}

/* ---- recorded draws ---- */

/* Draw 0 of distill-splam, its conditioning under names. */
static void write_named_draws(const char *path, const sp_tensor_file *old, const sp_conditioning *set,
                              const sp_conditioning *negative)
{
    static const char *const kept[] = {"latents.0", "noise.0", "index.0", "gamma.0"};
    sp_named_tensor named[4 + 2 * SP_MAX_CONDITIONS];
    char names[SP_MAX_CONDITIONS][256];
    sp_condition_names negative_names;
    size_t count = 0;
    for (; count < 4; count++)
        named[count] = (sp_named_tensor){kept[count], sp_tensor_file_find(old, kept[count])};
    for (int i = 0; i < set->count; i++) {
        snprintf(names[i], sizeof names[i], "conditioning.%s.0", set->item[i].name);
        named[count++] = (sp_named_tensor){names[i], &set->item[i].tensor};
    }
    count += (size_t)sp_conditioning_named(negative, SP_NEGATIVE, &negative_names, named + count);
    assert_ok(sp_safetensors_save(path, named, count, NULL, 0));
}

static void assert_same_states(const sp_conditioning *a, const sp_conditioning *b)
{
    const sp_tensor *x = sp_conditioning_find(a, "encoder_hidden_states"),
                    *y = sp_conditioning_find(b, "encoder_hidden_states");
    assert_true(sp_shape_equal(x->shape, y->shape));
    assert_memory_equal(x->data, y->data, sp_tensor_bytes(x));
}

static void draws_pass_what_they_do_not_know(void **state)
{
    char *teacher = sp_strdup(golden("teacher-epsilon"));
    char *before = sp_strdup(golden_file("distill-splam", "draws.safetensors"));
    sp_tensor_file *old;
    sp_distill_feed known, more;
    sp_distill_options o = options_for(teacher);
    assert_ok(sp_safetensors_open(before, &old));
    sp_conditioning set = made_up(BATCH, sp_tensor_file_find(old, "context.0")),
                    negative = made_up(1, sp_tensor_file_find(old, "uncond"));
    char *after = sp_strdup(in_folder(state, "draws.safetensors"));
    write_named_draws(after, old, &set, &negative);
    o.given.draws = before;
    feed_once(&o, &known);
    o.given.draws = after;
    feed_once(&o, &more);
    assert_int_equal(known.conditioning.count, 1); /* files from before sets had names */
    assert_int_equal(more.conditioning.count, 3);
    assert_same_states(&known.conditioning, &more.conditioning);
    assert_same_states(&known.negative, &more.negative);
    assert_memory_equal(sp_conditioning_find(&more.conditioning, "text_embeds")->data,
                        sp_conditioning_find(&set, "text_embeds")->data, sizeof(float) * BATCH * POOLED);
    assert_picked(&more.conditioning);
    assert_picked(&more.negative);
    sp_distill_feed_free(&known);
    sp_distill_feed_free(&more);
    sp_conditioning_free(&set);
    sp_conditioning_free(&negative);
    sp_tensor_file_close(old);
    sp_free(teacher);
    sp_free(before);
    sp_free(after);
}

/* ---- latent caches ---- */

static void write_cache(void **state, const char *teacher)
{
    enum { R = 32 };
    sp_string tar = {0};
    for (int i = 0; i < BATCH; i++) {
        char name[32];
        uint8_t *png;
        size_t size;
        sp_image image;
        assert_ok(sp_image_create(R, R, &image));
        memset(image.pixels, 40 * i, R * R * 3);
        assert_ok(sp_image_encode_png(&image, NULL, 0, &png, &size));
        snprintf(name, sizeof name, "%d.png", i);
        tar_add(&tar, name, '0', png, size);
        snprintf(name, sizeof name, "%d.txt", i);
        tar_text(&tar, name, "grey");
        sp_free(png);
        sp_image_free(&image);
    }
    tar_write(&tar, in_folder(state, "data.tar"));
    char *spec = sp_format("wds:%s", in_folder(state, "data.tar"));
    sp_dataset *dataset;
    sp_pipeline *pipeline;
    assert_ok(sp_dataset_open(spec, &(sp_dataset_options){.resolution = R}, NULL, &dataset));
    assert_ok(sp_pipeline_open(teacher, &(sp_model_options){.parts = SP_PART_TEXT | SP_PART_VAE}, &pipeline));
    const sp_latent_cache_options options = {.teacher = teacher, .dtype = SP_F16};
    assert_ok(sp_latent_cache_write(dataset, pipeline, &options, in_folder(state, "cache"), NULL));
    sp_pipeline_close(pipeline);
    sp_dataset_close(dataset);
    sp_free(spec);
}

/* The only block of the cache, with members that the encoder does not make. */
static void add_to_cache(void **state)
{
    char *path = sp_strdup(in_folder(state, "cache/latents-00000.safetensors"));
    char *beside = sp_strdup(in_folder(state, "cache/more.safetensors"));
    sp_latent_cache *cache;
    sp_latent_block block;
    assert_ok(sp_latent_cache_open(in_folder(state, "cache"), &cache));
    uint64_t key = strtoull(sp_latent_cache_key(cache), NULL, 16);
    sp_latent_cache_close(cache);
    assert_ok(sp_latent_block_open(path, BATCH, false, false, &block));
    sp_conditioning set = made_up(BATCH, sp_conditioning_find(&block.conditioning, "encoder_hidden_states")),
                    negative = made_up(1, sp_conditioning_find(&block.negative, "encoder_hidden_states"));
    sp_latent_block more = block;
    more.conditioning = set;
    more.negative = negative;
    more.checksums = (sp_tensor){0};
    assert_ok(sp_latent_block_save(&more, beside, key, 0));
    sp_conditioning_free(&set);
    sp_conditioning_free(&negative);
    sp_latent_block_free(&block);
    assert_int_equal(rename(beside, path), 0);
    sp_free(path);
    sp_free(beside);
}

static void caches_pass_what_they_do_not_know(void **state)
{
    char *teacher = sp_strdup(source_path("assets", "teacher", NULL));
    char *data = sp_format("latents:%s", in_folder(state, "cache"));
    sp_latent_cache *cache;
    sp_distill_feed feed;
    sp_distill_options o = options_for(teacher);
    write_cache(state, teacher);
    add_to_cache(state);
    assert_ok(sp_latent_cache_open(in_folder(state, "cache"), &cache));
    assert_ok(sp_latent_cache_verify(cache, NULL));
    assert_int_equal(sp_latent_cache_conditioning(cache)->count, 3);
    assert_int_equal(sp_latent_cache_negative(cache)->count, 3);
    sp_latent_cache_close(cache);
    o.given.data = data;
    feed_once(&o, &feed);
    assert_picked(&feed.conditioning);
    assert_picked(&feed.negative);
    const float *rows = sp_conditioning_find(&feed.conditioning, "text_embeds")->data;
    float sum = 0; /* every sample once, in the order of the epoch */
    for (int i = 0; i < BATCH; i++)
        sum += rows[i * POOLED];
    assert_true(sum == BATCH * (1 + POOLED * (BATCH - 1) / 2.0f));
    sp_distill_feed_free(&feed);
    sp_free(teacher);
    sp_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_are_in_the_order_of_names),
        cmocka_unit_test(rows_are_copied_converted_and_repeated),
        cmocka_unit_test(networks_say_what_does_not_fit),
        cmocka_unit_test_setup_teardown(draws_pass_what_they_do_not_know, make_test_folder, remove_test_folder),
        cmocka_unit_test_setup_teardown(caches_pass_what_they_do_not_know, make_test_folder, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
