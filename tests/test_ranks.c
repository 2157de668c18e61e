/* Distillation by several processes under mpirun against one process with all their samples: the
 * same losses and weights up to summation order, the same bits for the same number of ranks, and a
 * checkpoint left when one of them dies. Each test starts the program itself. */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include "distill_support.h"
#include "distill/distill.h"
#include "train/distributed.h"

enum { RECORDED = 10, ROWS = 3 }; /* micro-batches in the golden file, samples in each */

/* Micro-batches of `rows` samples, taken from the recorded ones one after the other, each `copies`
 * times. */
static void make_draws_of(const char *source, const char *path, int64_t rows, int64_t count, int64_t copies)
{
    static const char *const all[] = {"latents", "noise", "context", "index", "gamma", "guidance_scale_w"};
    const char *names[sizeof all / sizeof *all];
    size_t name_count = 0;
    sp_tensor_file *file;
    sp_weights *draws;
    assert_ok(sp_safetensors_open(golden(source), &file));
    assert_ok(sp_weights_create(&draws));
    for (size_t n = 0; n < sizeof all / sizeof *all; n++) {
        char name[64];
        snprintf(name, sizeof name, "%s.0", all[n]);
        if (sp_tensor_file_find(file, name)) names[name_count++] = all[n];
    }
    sp_tensor uncond = *sp_tensor_file_find(file, "uncond");
    uncond.owned = false;
    assert_ok(sp_weights_add(draws, "uncond", uncond));
    for (int64_t k = 0; k < count; k++)
        for (size_t n = 0; n < name_count; n++) {
            char name[64];
            sp_tensor tensor;
            for (int64_t i = 0; i < rows; i++) {
                int64_t sample = (k * rows + i) / copies % (RECORDED * ROWS);
                snprintf(name, sizeof name, "%s.%lld", names[n], (long long)(sample / ROWS));
                const sp_tensor *from = sp_tensor_file_find(file, name);
                size_t bytes = sp_tensor_bytes(from) / ROWS;
                if (i == 0) {
                    sp_shape shape = from->shape;
                    shape.dim[0] = rows;
                    assert_ok(sp_tensor_create(from->dtype, shape, &tensor));
                }
                memcpy((char *)tensor.data + (size_t)i * bytes,
                       (const char *)from->data + (size_t)(sample % ROWS) * bytes, bytes);
            }
            snprintf(name, sizeof name, "%s.%lld", names[n], (long long)k);
            assert_ok(sp_weights_add(draws, name, tensor));
        }
    assert_ok(sp_weights_save(draws, path, SP_F32, NULL, 0, NULL));
    sp_weights_destroy(draws);
    sp_tensor_file_close(file);
}

static void make_draws(const char *path, int64_t rows, int64_t count, int64_t copies)
{
    make_draws_of("distill-splam/draws.safetensors", path, rows, count, copies);
}

/* The command that distils with `ranks` processes of `batch` samples. */
static char *command(void *const *state, int ranks, int batch, const char *output, const char *more)
{
    static char text[4096];
    char launcher[160] = "";
    if (ranks > 1)
        snprintf(launcher, sizeof launcher, "mpirun --oversubscribe --bind-to none -n %d ", ranks);
    snprintf(text, sizeof text,
             "exec %s%s distill --teacher %s --draws %s/draws.safetensors "
             "--train-batch-size %d --mixed-precision no -t 1 --output %s/%s %s >%s/log 2>&1",
             launcher, splam_program(), golden("teacher-epsilon"), (const char *)*state, batch,
             (const char *)*state, output, more, (const char *)*state);
    return text;
}

static void print_log(void *const *state)
{
    char *text;
    if (sp_read_file(in_folder(state, "log"), &text, NULL)) return;
    print_message("%s", text);
    sp_free(text);
}

/* Exit code of a run. */
static int distil(void *const *state, int ranks, int batch, const char *output, const char *more)
{
    int code = system(command(state, ranks, batch, output, more));
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

static void must_distil(void *const *state, int ranks, int batch, const char *output,
                        const char *more)
{
    int code = distil(state, ranks, batch, output, more);
    if (code == 0) return;
    print_log(state);
    fail_msg("%d ranks ended with code %d", ranks, code);
}

static void assert_log(void *const *state, const char *words)
{
    char *text;
    assert_ok(sp_read_file(in_folder(state, "log"), &text, NULL));
    bool found = strstr(text, words) != NULL;
    sp_free(text);
    if (found) return;
    print_log(state);
    fail_msg("\"%s\" is not in the log", words);
}

static sp_tensor_file *open_file(void *const *state, const char *output, const char *name)
{
    char path[128];
    sp_tensor_file *file;
    snprintf(path, sizeof path, "%s/%s", output, name);
    assert_ok(sp_safetensors_open(in_folder(state, path), &file));
    return file;
}

/* The largest |a/b - 1| of a trace, or |a - b| of weights. */
static double difference(const sp_tensor *a, const sp_tensor *b, bool relative)
{
    double worst = 0;
    for (int64_t i = 0; i < sp_tensor_count(b); i++) {
        double x = sp_load(a->data, a->dtype, i), y = sp_load(b->data, b->dtype, i);
        worst = fmax(worst, fabs(relative ? x / y - 1 : x - y));
    }
    return worst;
}

static void assert_close(void *const *state, const char *a, const char *b, double rate, int steps)
{
    sp_tensor_file *x = open_file(state, a, "trace"), *y = open_file(state, b, "trace");
    double loss = difference(sp_tensor_file_find(x, "loss"), sp_tensor_file_find(y, "loss"), true);
    double norm =
        difference(sp_tensor_file_find(x, "grad_norm"), sp_tensor_file_find(y, "grad_norm"), true);
    sp_tensor_file_close(x);
    sp_tensor_file_close(y);
    const char *unet = "unet/diffusion_pytorch_model.safetensors";
    x = open_file(state, a, unet);
    y = open_file(state, b, unet);
    double weights = 0, sum = 0, count = 0;
    for (size_t i = 0; i < sp_tensor_file_count(y); i++) {
        const sp_tensor *u = sp_tensor_file_find(x, sp_tensor_file_name(y, i)),
                        *v = sp_tensor_file_at(y, i);
        weights = fmax(weights, difference(u, v, false));
        for (int64_t k = 0; k < sp_tensor_count(v); k++)
            sum += fabs(sp_load(u->data, u->dtype, k) - sp_load(v->data, v->dtype, k));
        count += (double)sp_tensor_count(v);
    }
    sp_tensor_file_close(x);
    sp_tensor_file_close(y);
    print_message("%s against %s: loss %.1e, grad_norm %.1e, weights %.1e of a step, mean %.1e\n",
                  a, b, loss, norm, weights / rate, sum / count / rate);
    /* The order of a sum is the kernels' choice by the batch's size. A sample's gradient in fp32 is
     * within 3.3e-4 of float64's, whoever computes it: 30 samples, PyTorch and our kernels for every
     * instruction set. Then Adam divides a gradient by its own size, so that one which is zero but
     * for rounding (1e-7 of the whole and less) moves its weight by up to a step in a direction
     * that is rounding's. One such weight can move the student's estimate, which divides by alpha
     * (.068 at the last timestep), by 1e-3; a pseudo-Huber loss makes of that up to 1e-3 / c of a
     * value's gradient. With the default c = 1e-3 and w = 8 a single weight moves the next norm by
     * 3.9e-4, in float64 too. With those of `ten` the worst seen is 9.1e-6 of a loss and 5.0e-5 of
     * a norm, batches of 1, 2 and 4 and all instruction sets taken together; there is room for five
     * and six times as much. What a rank does wrong is more: a sample left out or counted twice
     * moves losses by several per cent. */
    assert_true(loss <= 5e-5);
    assert_true(norm <= 3e-4);
    /* Single weights may be steps apart, see above; all others agree. */
    assert_true(weights <= 2 * rate * steps);
    assert_true(sum / count <= 1e-3 * rate * steps);
}

static void assert_same_bits(void *const *state, const char *a, const char *b, int step)
{
    static const char *const names[] = {
        "unet/diffusion_pytorch_model.safetensors", "unet_ema/diffusion_pytorch_model.safetensors",
        "checkpoint-%d/first_moment.safetensors", "checkpoint-%d/second_moment.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char form[128], path[2][256];
        sp_mapped_file file[2];
        for (int k = 0; k < 2; k++) {
            snprintf(form, sizeof form, "%s/%s", k ? b : a, names[i]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(path[k], sizeof path[k], form, step);
#pragma GCC diagnostic pop
            assert_ok(sp_mapped_file_open(in_folder(state, path[k]), &file[k]));
        }
        assert_int_equal(file[0].size, file[1].size);
        if (memcmp(file[0].data, file[1].data, file[0].size))
            fail_msg("%s and %s differ", path[0], path[1]);
        sp_mapped_file_close(&file[0]);
        sp_mapped_file_close(&file[1]);
    }
}

/* Losses and norms of gradients. */
static void assert_same_trace(void *const *state, const char *a, const char *b)
{
    static const char *const names[] = {"loss", "grad_norm"};
    sp_tensor_file *x = open_file(state, a, "trace"), *y = open_file(state, b, "trace");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const sp_tensor *u = sp_tensor_file_find(x, names[i]),
                        *v = sp_tensor_file_find(y, names[i]);
        assert_true(sp_shape_equal(u->shape, v->shape));
        assert_memory_equal(u->data, v->data, sp_tensor_bytes(v));
    }
    sp_tensor_file_close(x);
    sp_tensor_file_close(y);
}

#define NEEDS_MPI                                                                                  \
    if (!sp_ranks_library()) {                                                                     \
        print_message("this build has no MPI\n");                                                  \
        skip();                                                                                    \
    }

/* huber-c and w: see assert_close. */
#define TEN "--max-train-steps 10 --checkpointing-steps 4 --checkpoints-total-limit 0 --guidance-scale-w 2"
static const char ten[] = TEN " --huber-c 0.1", ten_of_squares[] = TEN;

static const char *with_trace(void *const *state, const char *output, const char *flags, const char *more)
{
    static char text[1024];
    snprintf(text, sizeof text, "%s %s --trace %s/%s/trace", flags, more, (const char *)*state, output);
    return text;
}

static const char *traced(void *const *state, const char *output, const char *more)
{
    return with_trace(state, output, ten, more);
}

static void ranks_equal_one_process(void **state)
{
    NEEDS_MPI
    make_draws(in_folder(state, "draws.safetensors"), 4, 10, 1);
    must_distil(state, 1, 4, "one", traced(state, "one", ""));
    must_distil(state, 2, 2, "two", traced(state, "two", ""));
    assert_log(state, "2 ranks, 1 threads");
    must_distil(state, 4, 1, "four", traced(state, "four", ""));
    assert_close(state, "two", "one", 8e-6, 10);
    assert_close(state, "four", "one", 8e-6, 10);
    /* Micro-batches of the ranks' size: the same kernels, and a sum of two has one order. */
    make_draws(in_folder(state, "draws.safetensors"), 2, 20, 1);
    must_distil(state, 1, 2, "in-turn",
                traced(state, "in-turn", "--gradient-accumulation-steps 2"));
    assert_same_bits(state, "two", "in-turn", 10);
    assert_same_trace(state, "two", "in-turn");
    make_draws(in_folder(state, "draws.safetensors"), 4, 10, 1);
    /* Each rank's own slice: not the whole batch twice. */
    assert_int_equal(distil(state, 2, 4, "wrong", ten), 1);
    assert_log(state, "rank 1: ");
    assert_log(state, "expected [8,C,H,W] for --train-batch-size 4 in each process");
}

/* Each sample has its own guidance, whichever rank has the sample. */
static void guidance_is_the_same(void **state)
{
    NEEDS_MPI
    static const char source[] = "distill-lcm-guidance/draws.safetensors";
    static const char flags[] = "--max-train-steps 10 --checkpointing-steps 4 --checkpoints-total-limit 0 "
                                "--huber-c 0.1 --objective lcm --guidance-range 1:4";
    char more[400];
    snprintf(more, sizeof more, "%s --trace %s", flags, in_folder(state, "two-trace"));
    make_draws_of(source, in_folder(state, "draws.safetensors"), 4, 10, 1);
    must_distil(state, 2, 2, "two", more);
    snprintf(more, sizeof more, "%s --gradient-accumulation-steps 2 --trace %s", flags,
             in_folder(state, "in-turn-trace"));
    make_draws_of(source, in_folder(state, "draws.safetensors"), 2, 20, 1);
    must_distil(state, 1, 2, "in-turn", more);
    assert_same_bits(state, "two", "in-turn", 10);
}

/* Settings that move with the step, and weights of samples: two ranks are one process that takes their samples in turn,
 * and a half-life in pictures counts those of both. */
static void settings_that_move_are_the_same(void **state)
{
    NEEDS_MPI
    static const char moving[] =
        "--skip 80:10 --lr-scheduler cosine --lr-warmup-steps 2 --ema-decay power:0.2 --target-ema-decay half-life:1 "
        "--loss-weighting min-snr";
    char more[400];
    make_draws(in_folder(state, "draws.safetensors"), 4, 10, 1);
    must_distil(state, 2, 2, "two", traced(state, "two", moving));
    make_draws(in_folder(state, "draws.safetensors"), 2, 20, 1);
    snprintf(more, sizeof more, "%s --gradient-accumulation-steps 2", moving);
    must_distil(state, 1, 2, "in-turn", traced(state, "in-turn", more));
    assert_same_bits(state, "two", "in-turn", 10);
    assert_same_trace(state, "two", "in-turn");
    assert_same_file(in_folder(state, "two/checkpoint-10/target.safetensors"),
                     in_folder(state, "in-turn/checkpoint-10/target.safetensors"));
}

/* A case's draws, each sample a micro-batch of its own; what is no micro-batch's stays. */
static void split_matching_draws(const char *name, const char *path)
{
    enum { MOST = 400, SAMPLES = 2 };
    static char text[MOST][64];
    static sp_tensor row[MOST];
    static sp_named_tensor named[MOST];
    sp_tensor_file *file;
    char draws[200];
    size_t n = 0;
    snprintf(draws, sizeof draws, "%s/draws.safetensors", name);
    assert_ok(sp_safetensors_open(golden(draws), &file));
    for (size_t i = 0; i < sp_tensor_file_count(file); i++) {
        const char *full = sp_tensor_file_name(file, i), *dot = strrchr(full, '.');
        bool split = dot && isdigit((unsigned char)dot[1]);
        for (int r = 0; r < (split ? SAMPLES : 1); r++, n++) {
            assert_true(n < MOST);
            row[n] = *sp_tensor_file_at(file, i);
            if (split) row[n].shape.dim[0] = 1;
            row[n].data = (char *)row[n].data + (size_t)r * sp_tensor_bytes(&row[n]);
            if (split)
                snprintf(text[n], sizeof text[n], "%.*s.%d", (int)(dot - full), full, SAMPLES * atoi(dot + 1) + r);
            else
                snprintf(text[n], sizeof text[n], "%s", full);
            named[n] = (sp_named_tensor){text[n], &row[n]};
        }
    }
    assert_ok(sp_safetensors_save(path, named, n, NULL, 0));
    sp_tensor_file_close(file);
}

static void assert_same_in_folders(void *const *state, const char *a, const char *b, const char *file)
{
    char path[2][600];
    snprintf(path[0], sizeof path[0], "%s/%s", in_folder(state, a), file);
    snprintf(path[1], sizeof path[1], "%s/%s", in_folder(state, b), file);
    assert_same_file(path[0], path[1]);
}

/* Both networks' gradients, and the discriminator's, are summed, in turn: the same bits as one process that takes the
 * samples one after the other, in each rank's loss too. */
static void two_networks_of_ranks_equal_one_process(void **state)
{
    NEEDS_MPI
    static const char dmd[] = "--objective dmd --fake-score-steps 2 --gan-weight 0.3 --gan-fake-score-weight 0.5";
    char more[200];
    assert_ok(sp_copy_file(golden("distill-dmd-gan/draws.safetensors"), in_folder(state, "draws.safetensors"), NULL));
    must_distil(state, 2, 1, "two", with_trace(state, "two", ten_of_squares, dmd));
    split_matching_draws("distill-dmd-gan", in_folder(state, "draws.safetensors"));
    snprintf(more, sizeof more, "%s --gradient-accumulation-steps 2", dmd);
    must_distil(state, 1, 1, "in-turn", with_trace(state, "in-turn", ten_of_squares, more));
    assert_same_bits(state, "two", "in-turn", 10);
    assert_same_trace(state, "two", "in-turn");
    assert_same_in_folders(state, "two", "in-turn", "checkpoint-10/fake_score_online.safetensors");
    assert_same_in_folders(state, "two", "in-turn", "checkpoint-10/fake_score_second_moment.safetensors");
}

static void accumulation_is_summed_once(void **state)
{
    NEEDS_MPI
    make_draws(in_folder(state, "draws.safetensors"), 2, 30, 1);
    const char *three = "--gradient-accumulation-steps 3";
    must_distil(state, 1, 2, "one", traced(state, "one", three));
    must_distil(state, 2, 1, "two", traced(state, "two", three));
    assert_close(state, "two", "one", 8e-6, 10);
    /* Two ranks with the same samples are one, bit for bit: doubling is exact. */
    make_draws(in_folder(state, "draws.safetensors"), 2, 30, 2);
    must_distil(state, 2, 1, "twins", traced(state, "twins", three));
    make_draws(in_folder(state, "draws.safetensors"), 1, 30, 1);
    must_distil(state, 1, 1, "single", traced(state, "single", three));
    assert_same_bits(state, "twins", "single", 10);
    assert_same_trace(state, "twins", "single");
}

static void remove_checkpoint(void *const *state, const char *name)
{
    assert_ok(sp_remove_tree(in_folder(state, name)));
}

static void same_ranks_give_same_bits(void **state)
{
    NEEDS_MPI
    make_draws(in_folder(state, "draws.safetensors"), 4, 10, 1);
    must_distil(state, 2, 2, "a", ten);
    must_distil(state, 2, 2, "b", ten);
    assert_same_bits(state, "a", "b", 10);
    remove_checkpoint(state, "b/checkpoint-10");
    remove_checkpoint(state, "b/checkpoint-8");
    char more[256];
    snprintf(more, sizeof more, "%s --resume latest", ten);
    must_distil(state, 2, 2, "b", more);
    assert_log(state, "resuming after step 4");
    assert_same_bits(state, "a", "b", 10);
    /* Other ranks of as many samples a step go on, with a warning; of others they do not. */
    remove_checkpoint(state, "b/checkpoint-10");
    must_distil(state, 4, 1, "b", more);
    assert_log(state, "divided the samples of a step otherwise");
    snprintf(more, sizeof more, "%s --gradient-accumulation-steps 2 --resume latest", ten);
    assert_int_equal(distil(state, 2, 2, "b", more), 2);
    assert_log(state, "was made with mpirun -n: ranks 4; resuming it with 2 would be another run");
}

/* ---- one dies ---- */

static bool file_has(const char *path, const char *words)
{
    static char text[1 << 16];
    FILE *file = fopen(path, "r");
    if (!file) return false;
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    return memmem(text, size, words, strlen(words)) != NULL;
}

/* The process that is rank 1 of the run that writes to the test's folder. */
static pid_t find_rank_one(void *const *state)
{
    DIR *folder = opendir("/proc");
    assert_non_null(folder);
    pid_t found = 0;
    for (struct dirent *e; !found && (e = readdir(folder));) {
        char arguments[300], environment[300];
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        snprintf(arguments, sizeof arguments, "/proc/%s/cmdline", e->d_name);
        snprintf(environment, sizeof environment, "/proc/%s/environ", e->d_name);
        if (file_has(arguments, *state) && file_has(environment, "OMPI_COMM_WORLD_RANK=1"))
            found = (pid_t)atoi(e->d_name);
    }
    closedir(folder);
    return found;
}

static int64_t lines(const char *path)
{
    char *text;
    if (sp_read_file(path, &text, NULL)) return 0;
    int64_t count = 0;
    for (const char *c = text; *c; c++)
        count += *c == '\n';
    sp_free(text);
    return count;
}

static pid_t start(void *const *state, const char *output, const char *more)
{
    const char *text = command(state, 2, 1, output, more);
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", text, (char *)NULL);
        _exit(127);
    }
    return child;
}

static void a_rank_that_dies_stops_all(void **state)
{
    NEEDS_MPI
    enum { STEPS = 300 };
    char more[160], path[512];
    make_draws(in_folder(state, "draws.safetensors"), 2, STEPS, 1);
    snprintf(more, sizeof more, "--max-train-steps %d --checkpointing-steps 0 --resume latest",
             STEPS);
    must_distil(state, 2, 1, "whole", more);
    snprintf(path, sizeof path, "%s/killed/metrics.jsonl", (const char *)*state);
    static const int signals[] = {SIGKILL, SIGTERM};
    int64_t before = 0;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t launcher = start(state, "killed", more), victim = 0;
        for (int wait = 0; wait < 3000 && (lines(path) < before + 5 || !victim); wait++) {
            usleep(10000);
            victim = find_rank_one(state);
        }
        assert_true(victim > 0);
        assert_int_equal(kill(victim, signals[i]), 0);
        int code;
        assert_int_equal(waitpid(launcher, &code, 0), launcher);
        assert_true(WIFEXITED(code) && WEXITSTATUS(code) != 0);
        assert_log(state, "saving checkpoint-");
        before = lines(path);
        assert_in_range(before, 5, STEPS - 1);
        char saved[64];
        snprintf(saved, sizeof saved, "killed/checkpoint-%lld/state.json", (long long)before);
        for (int wait = 0; wait < 1000 && !sp_path_exists(in_folder(state, saved)); wait++)
            usleep(10000); /* mpirun need not wait for it */
        if (!sp_path_exists(in_folder(state, saved))) {
            print_log(state);
            fail_msg("there is no %s", saved);
        }
    }
    must_distil(state, 2, 1, "killed", more);
    assert_same_bits(state, "whole", "killed", STEPS);
}

static void what_does_not_run_so_says_so(void **state)
{
    (void)state;
    sp_callbacks callbacks = {0};
    sp_ranks *ranks;
    assert_ok(sp_ranks_start(&callbacks, &ranks));
    assert_null(ranks);
    assert_int_equal(sp_ranks_rank(ranks), 0);
    assert_int_equal(sp_ranks_count(ranks), 1);
    assert_ok(sp_ranks_broadcast(ranks, &callbacks, sizeof callbacks));
    assert_ok(sp_ranks_end(ranks, SP_OK));
    /* The launcher of another MPI would start so many runs into one folder. */
    setenv("PMI_SIZE", "3", 1);
    assert_status(sp_ranks_must_be_alone("demo"), SP_UNSUPPORTED);
    assert_message("demo runs in one process, and mpirun started 3");
    assert_status(sp_ranks_start(&callbacks, &ranks), SP_UNSUPPORTED);
    assert_message("3 processes");
    unsetenv("PMI_SIZE");
}

int main(void)
{
    allow_mpirun();
    const struct CMUnitTest tests[] = {
#define with_folder(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)
        with_folder(ranks_equal_one_process),           with_folder(accumulation_is_summed_once),
        with_folder(two_networks_of_ranks_equal_one_process),
        with_folder(same_ranks_give_same_bits),         with_folder(a_rank_that_dies_stops_all),
        with_folder(settings_that_move_are_the_same),   with_folder(guidance_is_the_same),
        cmocka_unit_test(what_does_not_run_so_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
