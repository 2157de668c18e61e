/* The memory of a distillation step: its table, and blocks recomputed to keep within a limit. */
#include "support.h"
#include "bench/workload.h"
#include "backend/cpu/cpu.h"
#include "tagged_device.h"

static void open_teacher(sp_work_model *model)
{
    char *path = sp_format("%s/assets/teacher", getenv("SPLAM_SOURCE"));
    assert_non_null(path);
    assert_ok(sp_work_model_open(path, NULL, sp_cpu_device(), model));
    sp_free(path);
}

static sp_status build(void *model, uint64_t recompute, sp_graph **out)
{
    return sp_work_step_graph(model, 8, recompute, out);
}

/* The table for a batch of 8, the program itself apart, whose size is not the test's; false: it
 * cannot be done within the limit. */
static bool plan_on(sp_device *device, sp_work_model *model, sp_optimizer optimizer, size_t limit,
                    sp_step_memory *memory)
{
    const sp_step_request request = {.build = build,
                                     .context = model,
                                     .device = device,
                                     .precision = SP_F32,
                                     .limit = limit};
    sp_plan *made;
    *memory = (sp_step_memory){.optimizer = optimizer};
    assert_ok(sp_step_plan(&request, memory, &made));
    sp_plan_destroy(made);
    return made != NULL;
}

static bool plan(sp_work_model *model, sp_optimizer optimizer, size_t limit, sp_step_memory *memory)
{
    return plan_on(sp_cpu_device(), model, optimizer, limit, memory);
}

static void parts_are_what_they_must_be(void **state)
{
    (void)state;
    sp_work_model model;
    sp_step_memory full, coded;
    open_teacher(&model);
    assert_true(plan(&model, SP_OPTIMIZER_ADAMW, 0, &full));
    assert_true(plan(&model, SP_OPTIMIZER_ADAMW8BIT, 0, &coded));
    size_t parameters = full.online / sizeof(float);
    assert_int_equal(full.ema, full.online);
    assert_int_equal(full.moments, 2 * full.online);
    /* Places of gradients are aligned. */
    assert_in_range(full.gradients, full.online, full.online + 64 * 400);
    /* Two bytes and a little for scales; what is small stays whole. */
    assert_in_range(coded.moments, 2 * parameters + parameters / 32, full.moments * 3 / 10);
    assert_true(full.arena >= full.arena_bound && full.arena < full.arena_bound * 105 / 100);
    assert_int_equal(full.recomputed, 0);
    assert_int_equal(full.blocks, 11);
    size_t sum = 0;
#define X(field, words, where) sum += coded.field;
    SP_STEP_MEMORY_LIST(X)
#undef X
    assert_int_equal(sum, sp_step_memory_total(&coded));
    sp_string text = {0};
    sp_step_memory_append(&coded, 123000000, &text);
    assert_non_null(strstr(sp_string_text(&text), "adamw8bit"));
    assert_non_null(strstr(sp_string_text(&text), "of 123.0 MB"));
    sp_string_free(&text);
    sp_work_model_close(&model);
}

/* An average of the target's own is another set of weights, and a row. */
static void a_target_takes_another_set(void **state)
{
    (void)state;
    sp_work_model model;
    sp_step_memory plain, apart = {.optimizer = SP_OPTIMIZER_ADAMW, .keeps_target = true};
    sp_plan *made;
    open_teacher(&model);
    assert_true(plan(&model, SP_OPTIMIZER_ADAMW, 0, &plain));
    const sp_step_request request = {
        .build = build, .context = &model, .device = sp_cpu_device(), .precision = SP_F32};
    assert_ok(sp_step_plan(&request, &apart, &made));
    sp_plan_destroy(made);
    assert_int_equal(plain.target_average, 0);
    assert_int_equal(apart.target_average, plain.ema);
    assert_int_equal(sp_step_memory_total(&apart), sp_step_memory_total(&plain) + plain.ema);
    sp_string text = {0};
    sp_step_memory_append(&apart, 0, &text);
    assert_non_null(strstr(sp_string_text(&text), "averaged weights, target's"));
    sp_string_free(&text);
    sp_work_model_close(&model);
}

/* Between none and all, the fewest blocks that fit: one fewer would not. */
static void blocks_follow_the_limit(void **state)
{
    (void)state;
    sp_work_model model;
    sp_step_memory none, some, all;
    open_teacher(&model);
    assert_true(plan(&model, SP_OPTIMIZER_ADAMW, 0, &none));
    assert_false(plan(&model, SP_OPTIMIZER_ADAMW, 1, &all));
    assert_int_equal(all.recomputed, all.blocks);
    assert_true(all.arena < none.arena * 3 / 4);
    size_t most = none.arena, least = all.arena, beside = sp_step_memory_total(&all) - least;
    int before = 0;
    for (int k = 1; k < 4; k++) {
        size_t limit = beside + most - (most - least) * (size_t)k / 4;
        assert_true(plan(&model, SP_OPTIMIZER_ADAMW, limit, &some));
        assert_true(sp_step_memory_total(&some) <= limit);
        assert_true(some.recomputed >= before && some.recomputed < some.blocks);
        before = some.recomputed;
    }
    assert_true(before > 0);
    sp_work_model_close(&model);
}

/* A device with memory of its own: weights and moments are in both, activations there, the program here. */
static void memories_apart_are_two_columns(void **state)
{
    (void)state;
    sp_work_model model;
    sp_step_memory near, far;
    open_teacher(&model);
    assert_true(plan(&model, SP_OPTIMIZER_ADAMW, 0, &near));
    assert_true(plan_on(tagged_device(), &model, SP_OPTIMIZER_ADAMW, 0, &far));
    near.data = far.data = 1000;
    near.program = far.program = 2000;
    assert_int_equal(sp_step_memory_on_host(&near), sp_step_memory_total(&near));
    assert_int_equal(sp_step_memory_on_host(&far), 3000 + far.online + far.ema + far.moments);
    assert_int_equal(sp_step_memory_total(&far), far.teacher + far.packed + far.online + far.ema + far.moments +
                                                     far.gradients + far.arena + far.inputs);
    sp_string text = {0};
    sp_step_memory_append(&far, 0, &text);
    assert_non_null(strstr(sp_string_text(&text), "device       host\n"));
    assert_non_null(strstr(sp_string_text(&text), "the program itself                          2.0 kB\n"));
    sp_string_free(&text);
    sp_work_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_what_they_must_be),
        cmocka_unit_test(a_target_takes_another_set),
        cmocka_unit_test(blocks_follow_the_limit),
        cmocka_unit_test(memories_apart_are_two_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
