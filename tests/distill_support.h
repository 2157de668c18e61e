/* What tests of distillation share: the cases in golden/distill-*, whose case.json has the flags by
 * name, and the comparison of a trace with PyTorch's. */
#ifndef SP_TESTS_DISTILL_SUPPORT_H
#define SP_TESTS_DISTILL_SUPPORT_H
#include <math.h>
#include "tiny_model.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "distill/distill.h"
#include "formats/weights.h"

/* For what starts mpirun: as any user, root in a container too, and without reports of what Open MPI itself leaks. */
static inline void allow_mpirun(void)
{
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
}

/* The splam program of the build folder that this test lies in, or the one that runs on the tests' devices. */
static inline const char *splam_program(void)
{
    static char path[512];
    ssize_t length = readlink("/proc/self/exe", path, 400);
    assert_true(length > 0);
    path[length] = 0;
    for (int up = 0; up < 2; up++)
        *strrchr(path, '/') = 0;
    strcat(path, getenv("SPLAM_TEST_DEVICE") ? "/tests/splam_on_devices" : "/cli/splam");
    return path;
}

/* A run's callbacks that stop it: `context` is the int of steps left. They count steps of training, which alone
 * report a loss: a wish to stop is asked for far more often. */
static inline void count_step(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    (void)task;
    (void)done;
    (void)total;
    int *left = context;
    if (detail && strncmp(detail, "loss ", 5) == 0) --*left;
}

static inline bool stop_after(void *context)
{
    const int *left = context;
    return *left <= 0;
}

/* {"teacher": a folder beside the case, "flags": {NAME: value}, "draws": a case's folder beside it}; json_decref */
static inline json_t *golden_case_json(const char *name)
{
    char path[1100];
    json_t *description;
    snprintf(path, sizeof path, "%s/case.json", golden(name));
    assert_ok(sp_json_load(path, &description));
    return description;
}

static inline double case_number(const json_t *flags, const char *key)
{
    return json_number_value(json_object_get(flags, key));
}

static inline const char *case_text(const json_t *flags, const char *key)
{
    return json_string_value(json_object_get(flags, key));
}

/* Draws, or adapters to start from: the case's, or those of the case that it takes them from. */
static inline const char *case_file(const char *name, const json_t *description, const char *file)
{
    static char path[1200];
    const char *other = case_text(description, "draws");
    snprintf(path, sizeof path, "%s/%s/%s", golden(name), other ? other : ".", file);
    return path;
}

static inline double trace_at(const sp_tensor_file *file, const char *name, int64_t i)
{
    const sp_tensor *tensor;
    assert_ok(sp_tensor_file_get(file, name, &tensor));
    assert_in_range(i, 0, sp_tensor_count(tensor) - 1);
    return sp_load(tensor->data, tensor->dtype, i);
}

/* The first `steps` steps of the trace at `found_path` are those of the golden case. */
static inline void compare_traces(const char *name, const char *found_path, int64_t steps)
{
    char path[1100];
    sp_tensor_file *found, *want;
    snprintf(path, sizeof path, "%s/trace.safetensors", golden(name));
    assert_ok(sp_safetensors_open(found_path, &found));
    assert_ok(sp_safetensors_open(path, &want));
    double worst_loss = 0, worst_norm = 0, error;
    for (int64_t i = 0; i < steps; i++) {
        worst_loss =
            fmax(worst_loss, fabs(trace_at(found, "loss", i) / trace_at(want, "loss", i) - 1));
        worst_norm = fmax(
            worst_norm, fabs(trace_at(found, "grad_norm", i) / trace_at(want, "grad_norm", i) - 1));
    }
    for (size_t i = 0; i < sp_tensor_file_count(want); i++) {
        const char *key = sp_tensor_file_name(want, i);
        if (strncmp(key, "prediction.", 11) != 0 && strncmp(key, "target.", 7) != 0) continue;
        const sp_tensor *mine;
        assert_ok(sp_tensor_file_get(found, key, &mine));
        assert_ok(sp_tensor_relative_max_error(mine, sp_tensor_file_at(want, i), &error));
        if (error > 1e-4) fail_msg("%s: %s is off by %g", name, key, error);
    }
    print_message("%s: loss %.1e, grad_norm %.1e\n", name, worst_loss, worst_norm);
    /* Ten steps in fp32: PyTorch's own losses are within 1.6e-5 of float64's, its norms within
     * 5e-4; a learning rate that is a tenth too large moves losses by 9.7e-4. */
    if (worst_loss > 1e-4) fail_msg("%s: losses are off by %g", name, worst_loss);
    if (worst_norm > 2e-3) fail_msg("%s: norms of gradients are off by %g", name, worst_norm);
    sp_tensor_file_close(found);
    sp_tensor_file_close(want);
}

/* A distillation into a folder that is emptied before, with every allocation after the first `count` refused. */
static inline sp_status starved(const sp_distill_options *options, long count)
{
    assert_ok(sp_remove_tree(options->given.output));
    long live = sp_alloc_live();
    sp_alloc_fail_after(count);
    sp_status status = sp_distill(options, NULL);
    sp_alloc_fail_after(-1);
    if (status != SP_OK && status != SP_MEMORY)
        fail_msg("after %ld allocations: %s: %s", count, sp_status_text(status), sp_error_message());
    if (sp_alloc_live() != live)
        fail_msg("after %ld allocations: %ld blocks leaked", count, sp_alloc_live() - live);
    return status;
}

#endif
