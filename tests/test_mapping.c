/* Files that become shorter while they are mapped: no signal ends the process, every thread goes on, and nothing
 * that was computed from one is kept or saved. */
#include "generate_support.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "backend/cpu/cpu.h"
#include "image/image.h"
#include "checkpoints/lora.h"
#include "formats/weights.h"
#include "distill/distill.h"

enum { PAGE = 4096 };

static void shorten(const char *path, size_t size)
{
    assert_int_equal(truncate(path, (off_t)size), 0);
}


static void write_bytes(const char *path, size_t size)
{
    char *bytes = sp_alloc(size);
    memset(bytes, 7, size);
    assert_ok(sp_write_file(path, bytes, size));
    sp_free(bytes);
}

#define assert_shorter(call)                                                                       \
    do {                                                                                           \
        assert_status(call, SP_IO);                                                                \
        assert_message("became shorter while it was read");                                        \
    } while (0)

/* ---- handlers around ours; before anything is mapped, in processes of their own ---- */

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    _exit(info->si_addr ? 7 : 6);
}

/* Touches a file behind its end that is not one of ours. */
static void touch_foreign(const char *path)
{
    int fd = open(path, O_RDONLY);
    volatile char *data = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    if (ftruncate(fd, 0) != 0) shorten(path, 0);
    (void)data[0];
}

/* What becomes of a child that maps a file of ours, outlives its shortening, and does something else wrong. */
static int fate(void **state, bool own_handler, void (*wrong)(const char *path))
{
    const char *ours = keep(state, "ours"), *foreign = keep(state, "foreign");
    write_bytes(ours, PAGE);
    write_bytes(foreign, PAGE);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
        sp_mapped_file file;
        if (own_handler)
            sigaction(SIGBUS, &action, NULL);
        else
            signal(SIGBUS, SIG_DFL); /* not the test framework's */
        if (sp_mapped_file_open(ours, &file) != SP_OK) _exit(1);
        shorten(ours, 0);
        if (((volatile const unsigned char *)file.data)[9] != 0) _exit(2);
        if (sp_mapped_file_check(&file) != SP_IO) _exit(3);
        sp_mapped_file_close(&file);
        if (!freopen("/dev/null", "w", stderr)) _exit(4); /* a sanitizer's report */
        wrong(foreign);
        _exit(5);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void send_signal(const char *path)
{
    (void)path;
    raise(SIGBUS);
}

static void test_other_faults_are_passed_on(void **state)
{
    int status = fate(state, true, touch_foreign);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    void (*const wrong[])(const char *) = {touch_foreign, send_signal};
    for (int i = 0; i < 2; i++) { /* nobody else's: it ends the process, as without us */
        status = fate(state, false, wrong[i]);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGBUS);
    }
}

static struct sigaction kept;
static void pass_back(int number, siginfo_t *info, void *context)
{
    kept.sa_sigaction(number, info, context);
}

/* A handler that was set over ours and passes on to it, and ours over that one: nobody asks in a circle. */
static void set_over_ours(const char *path)
{
    struct sigaction action = {.sa_sigaction = pass_back, .sa_flags = SA_SIGINFO};
    sp_mapped_file file;
    sigaction(SIGBUS, &action, &kept);
    if (!(kept.sa_flags & SA_SIGINFO) || sp_mapped_file_open(path, &file) != SP_OK) _exit(6);
    touch_foreign(path);
}

static void test_handlers_over_ours(void **state)
{
    int status = fate(state, true, set_over_ours);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    status = fate(state, false, set_over_ours);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

/* ---- one mapping, many, and threads ---- */

static void test_zeros(void **state)
{
    const char *path = keep(state, "file"), *other = keep(state, "other");
    sp_mapped_file file, again, untouched;
    write_bytes(path, 5 * PAGE + 100);
    write_bytes(other, 2 * PAGE);
    assert_ok(sp_mapped_file_open(path, &file));
    assert_ok(sp_mapped_file_open(path, &again));
    assert_ok(sp_mapped_file_open(other, &untouched));
    assert_int_equal(file.data[4 * PAGE], 7);
    shorten(path, PAGE);
    assert_int_equal(file.data[PAGE - 1], 7);
    for (size_t at = PAGE; at < file.size; at += 50)
        assert_int_equal(file.data[at], 0);
    assert_shorter(sp_mapped_file_check(&file));
    assert_message("/file: became shorter");
    assert_message("20580 bytes were there, now 4096");
    assert_shorter(sp_mapped_check(file.data + 3 * PAGE));
    assert_shorter(sp_mapped_file_check(&again)); /* by its size, untouched as it is */
    assert_int_equal(again.data[4 * PAGE], 0);
    assert_ok(sp_mapped_file_check(&untouched));
    assert_ok(sp_mapped_check(&file)); /* no file's */
    /* once is enough, whatever the file is later */
    write_bytes(keep(state, "new"), 5 * PAGE + 100);
    assert_int_equal(rename(keep(state, "new"), path), 0);
    assert_shorter(sp_mapped_file_check(&file));
    sp_mapped_file_drop(&file, 0, file.size);
    assert_int_equal(file.data[2 * PAGE], 0);
    sp_mapped_file_close(&file);
    sp_mapped_file_close(&again);
    sp_mapped_file_close(&untouched);
    assert_ok(sp_mapped_file_open(path, &file)); /* a place that was used by the shortened one is as new */
    assert_ok(sp_mapped_file_check(&file));
    sp_mapped_file_close(&file);
}

/* Within the last page there is no signal. */
static void test_within_a_page(void **state)
{
    const char *path = keep(state, "file");
    sp_mapped_file file;
    write_bytes(path, 1000);
    assert_ok(sp_mapped_file_open(path, &file));
    assert_ok(sp_mapped_file_check(&file));
    shorten(path, 500);
    assert_int_equal(file.data[700], 0);
    assert_shorter(sp_mapped_file_check(&file));
    sp_mapped_file_close(&file);
}

/* More mappings than one list of places has, ended out of order. */
static void test_many(void **state)
{
    enum { MANY = 200 };
    const char *path = keep(state, "file");
    sp_mapped_file file[MANY];
    write_bytes(path, 2 * PAGE);
    for (int i = 0; i < MANY; i++)
        assert_ok(sp_mapped_file_open(path, &file[i]));
    for (int i = 0; i < MANY; i += 3) {
        sp_mapped_file_close(&file[i]);
        assert_ok(sp_mapped_file_open(path, &file[i]));
    }
    shorten(path, PAGE);
    for (int i = MANY; i-- > 0;) {
        assert_int_equal(file[i].data[PAGE + 1], 0);
        assert_shorter(sp_mapped_file_check(&file[i]));
        sp_mapped_file_close(&file[i]);
    }
}

static void *add_up(void *data)
{
    const sp_mapped_file *file = data;
    size_t sum = 0;
    for (size_t at = 0; at < file->size; at += 64)
        sum += file->data[at];
    return (void *)sum;
}

static void test_threads(void **state)
{
    enum { THREADS = 8, PAGES = 256 };
    const char *path = keep(state, "file");
    pthread_t thread[THREADS];
    sp_mapped_file file;
    write_bytes(path, PAGES * PAGE);
    assert_ok(sp_mapped_file_open(path, &file));
    shorten(path, PAGE);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, add_up, &file), 0);
    for (int i = 0; i < THREADS; i++) {
        void *sum;
        assert_int_equal(pthread_join(thread[i], &sum), 0);
        assert_int_equal((size_t)sum, PAGE / 64 * 7);
    }
    assert_shorter(sp_mapped_file_check(&file));
    sp_mapped_file_close(&file);
}

/* ---- every kind of file ---- */

static void test_tensors(void **state)
{
    static const char *const names[] = {"zip.ckpt", "legacy.ckpt", "tensors.safetensors"};
    const char *path = keep(state, "file"), *copy = keep(state, "copy.safetensors");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        sp_tensor_file *file;
        sp_tensor converted;
        sp_weights *weights, *owned;
        snprintf(name, sizeof name, "checkpoints/%s", names[i]);
        assert_ok(sp_copy_file(golden(name), path, NULL));
        assert_ok(sp_tensor_file_open(path, &file));
        assert_ok(sp_weights_create(&weights));
        assert_ok(sp_weights_add_file(weights, file));
        const sp_tensor *tensor = sp_weights_find(weights, "f32");
        assert_non_null(tensor);
        assert_ok(sp_weights_check(weights));
        shorten(path, 100);
        assert_shorter(sp_weights_check(weights));
        assert_shorter(sp_tensor_file_check(file));
        assert_shorter(sp_weights_copy(weights, SP_F32, &owned));
        if (i == 2) { /* the others' may have been copied when they were opened */
            assert_shorter(sp_tensor_convert(tensor, SP_F64, &converted));
            assert_shorter(sp_weights_save(weights, copy, SP_F32, NULL, 0, NULL));
            assert_false(sp_path_exists(copy));
        }
        sp_weights_destroy(weights);
        sp_tensor_file_close(file);
    }
}

static void test_picture(void **state)
{
    const char *path = keep(state, "file.png");
    sp_mapped_file file;
    sp_image image;
    uint8_t *png;
    size_t size;
    int width, height;
    assert_ok(sp_image_create(128, 128, &image));
    for (unsigned i = 0; i < 128 * 128 * 3; i++)
        image.pixels[i] = (uint8_t)(i * i / 7);
    assert_ok(sp_image_encode_png(&image, NULL, 0, &png, &size));
    assert_ok(sp_write_file(path, png, size));
    sp_image_free(&image);
    sp_free(png);
    assert_ok(sp_mapped_file_open(path, &file));
    shorten(path, 20);
    assert_shorter(sp_image_decode(file.data, file.size, "a.png", &image));
    assert_null(image.pixels);
    assert_shorter(sp_image_probe(file.data, file.size, "a.png", &width, &height));
    sp_mapped_file_close(&file);
}

static void test_lora(void **state)
{
    const char *path = keep(state, "lora.safetensors");
    const sp_lora_settings settings = {.rank = 1, .alpha = 1};
    sp_tensor half;
    sp_lora *lora;
    sp_weights *none;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(1, 4096), &half));
    sp_tensor up = half;
    up.shape = sp_shape_of(4096, 1);
    const sp_named_tensor named[] = {{"lora_unet_x.lora_down.weight", &half},
                                     {"lora_unet_x.lora_up.weight", &up}};
    assert_ok(sp_safetensors_save(path, named, 2, NULL, 0));
    assert_ok(sp_lora_open(path, &lora));
    shorten(path, 300);
    sp_component component = {.place = SP_COMPONENT_TEXT_ENCODER, .config = {.kind = SP_COMPONENT_TEXT_ENCODER}};
    assert_ok(sp_weights_create(&component.weights));
    assert_shorter(sp_lora_merge(lora, 1, sp_cpu_device(), &component, false));
    assert_ok(sp_weights_create(&none));
    assert_status(sp_lora_start(lora, &settings, none), SP_FORMAT);
    sp_weights_destroy(none);
    sp_weights_destroy(component.weights);
    sp_lora_close(lora);
    sp_tensor_free(&half);
}

/* ---- in the midst of work ---- */

typedef struct {
    const char *path, *task;
    int64_t after;
} saboteur;

static void sabotage(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    const saboteur *s = context;
    (void)total;
    (void)detail;
    if (strcmp(task, s->task) == 0 && done == s->after) shorten(s->path, 2000);
}

static void test_generating(void **state)
{
    static const char *const parts[] = {"unet", "vae"};
    for (int i = 0; i < 2; i++) {
        splam_generate_options o = options_for(state, "teacher");
        char path[512], before[600];
        snprintf(path, sizeof path, "%s/%s/diffusion_pytorch_model.safetensors", o.model, parts[i]);
        snprintf(before, sizeof before, "%s.whole", path);
        assert_ok(sp_copy_file(path, before, NULL));
        saboteur s = {path, "denoising", 2};
        const splam_callbacks callbacks = {.context = &s, .report = sabotage};
        o.steps = 4;
        o.output = keep(state, "picture.png");
        assert_int_equal(splam_generate(&o, &callbacks), SPLAM_IO);
        assert_message("became shorter while it was read");
        assert_message(parts[i]);
        assert_false(sp_path_exists(o.output));
        assert_int_equal(rename(before, path), 0);
        generate(&o);
        assert_true(sp_path_exists(o.output));
        assert_int_equal(unlink(o.output), 0);
    }
}

static void test_distilling(void **state)
{
    char teacher[512], unet[600], draws[512];
    snprintf(teacher, sizeof teacher, "%s", keep(state, "epsilon"));
    assert_ok(sp_copy_tree(golden("teacher-epsilon"), teacher, NULL));
    snprintf(unet, sizeof unet, "%s/unet/diffusion_pytorch_model.safetensors", teacher);
    snprintf(draws, sizeof draws, "%s", golden("distill-splam/draws.safetensors"));
    sp_distill_options o = sp_distill_defaults();
    o.given.teacher = teacher;
    o.given.draws = draws;
    o.given.output = keep(state, "output");
    o.precision = SP_F32;
    o.given.train_batch_size = 3;
    o.given.max_train_steps = 4;
    o.given.checkpointing_steps = 1;
    saboteur s = {unet, "distill splam", 2};
    const sp_callbacks callbacks = {.context = &s, .report = sabotage};
    assert_shorter(sp_distill(&o, &callbacks));
    assert_message(unet);
    assert_true(sp_path_exists(keep(state, "output/checkpoint-1/state.json")));
    assert_false(sp_path_exists(keep(state, "output/checkpoint-3")));
    assert_false(sp_path_exists(keep(state, "output/unet")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define X(test) cmocka_unit_test_setup_teardown(test, make_test_folder, remove_test_folder)
        X(test_other_faults_are_passed_on), /* the first: nothing may be mapped before */
        X(test_handlers_over_ours),
        X(test_zeros),
        X(test_within_a_page),
        X(test_many),
        X(test_threads),
        X(test_tensors),
        X(test_picture),
        X(test_lora),
        X(test_distilling),
#undef X
        cmocka_unit_test_setup_teardown(test_generating, set_up, remove_test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
