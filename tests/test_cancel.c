/* Stopping a call at any moment it asks: SPLAM_CANCELLED, and what it writes is whole or not there, nothing lies beside
 * it, and the next call does the work. */
#include "generate_support.h"
#include "backend/host/host.h"
#include "models/runner.h"
#include "ops/ops.h"

/* Says stop at ask number `stop_at`, from 0. */
typedef struct {
    int asked, stop_at;
} stopper;

static bool stops(void *context)
{
    stopper *s = context;
    return s->asked++ >= s->stop_at;
}

typedef splam_status work(void **state, const splam_callbacks *callbacks);

static splam_status draw(void **state, const splam_callbacks *callbacks)
{
    splam_generate_options o = options_for(state, "teacher");
    o.steps = 2;
    o.output = keep(state, "work/picture.png");
    o.save_latents = keep(state, "work/latents.safetensors");
    return splam_generate(&o, callbacks);
}

static splam_status convert(void **state, const splam_callbacks *callbacks)
{
    splam_convert_options o = splam_convert_defaults();
    o.model = keep(state, "teacher");
    o.output = keep(state, "work/new/");
    o.dtype = "f16";
    return splam_convert(&o, callbacks);
}

static splam_status convert_to_file(void **state, const splam_callbacks *callbacks)
{
    splam_convert_options o = splam_convert_defaults();
    o.model = golden("original-sd1/model.safetensors");
    o.output = keep(state, "work/new.safetensors");
    o.dtype = "f16";
    o.single_file = true;
    return splam_convert(&o, callbacks);
}

static size_t entries(const char *folder)
{
    char **names;
    size_t count = 0;
    if (!sp_path_is_folder(folder)) return 0;
    assert_ok(sp_list_folder(folder, &names, &count));
    for (size_t i = 0; i < count; i++)
        sp_free(names[i]);
    sp_free(names);
    return count;
}

/* Stops it at its first asks, and then at ever later ones, until it is done before it is stopped. */
static void stop_everywhere(void **state, work *body, size_t files, int least)
{
    char folder[512]; /* what `keep` returns is overwritten by and by */
    snprintf(folder, sizeof folder, "%s/work", (const char *)*state);
    int stopped = 0, at = 0;
    for (;; at += 1 + at / 8) {
        stopper s = {.stop_at = at};
        splam_callbacks callbacks = {.context = &s, .cancelled = stops};
        assert_ok(sp_make_folders(folder));
        splam_status status = body(state, &callbacks);
        if (status == SPLAM_OK) break;
        if (status != SPLAM_CANCELLED) fail_msg("ask %d: status %d: %s", at, (int)status, splam_error_message());
        assert_message("interrupted");
        /* A picture may be written when its latents are not yet. */
        if (entries(folder) >= files) fail_msg("ask %d: everything is there", at);
        stopped++;
        assert_ok(sp_remove_tree(folder));
    }
    assert_int_equal(entries(folder), files);
    assert_in_range(stopped, least, 100000);
    print_message("stopped at %d of up to %d asks\n", stopped, at);
    assert_ok(sp_remove_tree(folder));
}

static void test_generate(void **state)
{
    stop_everywhere(state, draw, 2, 20);
}

static void test_convert(void **state)
{
    stop_everywhere(state, convert, 1, 20);
}

static void test_convert_to_file(void **state)
{
    stop_everywhere(state, convert_to_file, 1, 20);
}

/* A run that was stopped between steps of its plan can be executed again, and gives the bits of one that was not. */
static void test_run_again(void **state)
{
    (void)state;
    for (int at = 0; at < 4; at++) {
        sp_builder *b;
        sp_runner runner;
        float x[] = {1, 2, 3, 4};
        const sp_tensor in = {.shape = sp_shape_of(2, 2), .data = x};
        sp_tensor out;
        stopper s = {.stop_at = at};
        const sp_callbacks callbacks = {.context = &s, .cancelled = stops};
        assert_ok(sp_builder_create(&b));
        sp_value *slow = sp_input(b, "slow", SP_F32, sp_shape_of(2, 2), SP_RATE_RUN),
                 *fast = sp_input(b, "fast", SP_F32, sp_shape_of(2, 2), SP_RATE_STEP);
        sp_output(b, "y", sp_affine(b, sp_mul(b, sp_affine(b, slow, 2, 1), fast), 3, 0));
        assert_ok(sp_runner_create(b, sp_reference_device(), SP_F32, &runner));
        assert_ok(sp_run_set_input(runner.run, "slow", &in));
        assert_ok(sp_run_set_input(runner.run, "fast", &in));
        sp_status status = sp_run_execute(runner.run, &callbacks);
        assert_int_equal(status, at < 3 ? SP_CANCELLED : SP_OK);
        assert_ok(sp_run_execute(runner.run, NULL));
        assert_ok(sp_run_get_output(runner.run, "y", &out));
        for (int i = 0; i < 4; i++)
            assert_float_equal(((float *)out.data)[i], 3 * (2 * x[i] + 1) * x[i], 0);
        sp_tensor_free(&out);
        sp_runner_free(&runner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_again),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_convert_to_file),
    };
    return cmocka_run_group_tests_name("cancel", tests, set_up, remove_test_folder);
}
