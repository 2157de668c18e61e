/* What tests of teachers share that the program's own recipe makes of a few emoji: the pictures, and runs of distilling
 * such a teacher that are killed or dealt out to processes. */
#ifndef SP_TESTS_TEACHER_SUPPORT_H
#define SP_TESTS_TEACHER_SUPPORT_H
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "distill_support.h"
#include "data/dataset.h"

enum { PICTURES = 24, SIDE = 32 };

static inline int original_height(int64_t i)
{
    return SIDE + 3 * (int)i;
}

/* As a picture that was twice as wide as high, and larger, before it was cut. */
static inline void write_emoji(void **state, const sp_dataset *emoji, int64_t i, sp_string *metadata)
{
    char *png, name[64];
    size_t size;
    int64_t sample = sp_dataset_training_sample(emoji, i * sp_dataset_training_count(emoji) / PICTURES);
    assert_ok(sp_dataset_bytes(emoji, sample, &png, &size));
    snprintf(name, sizeof name, "pictures/%02d.png", (int)i);
    assert_ok(sp_write_file(in_folder(state, name), png, size));
    sp_string_append_format(metadata,
                            "{\"file_name\": \"%02d.png\", \"text\": \"%s\", \"original_width\": %d,"
                            " \"original_height\": %d}\n",
                            (int)i, sp_dataset_caption(emoji, sample, 0), 2 * original_height(i), original_height(i));
    sp_free(png);
}

/* Evenly spread over all of them. */
static inline void write_pictures(void **state)
{
    sp_string metadata = {0};
    const sp_dataset_options options = {.resolution = SIDE};
    sp_dataset *emoji;
    assert_ok(sp_dataset_open("emoji:", &options, NULL, &emoji));
    assert_ok(sp_make_folders(in_folder(state, "pictures")));
    for (int64_t i = 0; i < PICTURES; i++)
        write_emoji(state, emoji, i, &metadata);
    assert_ok(sp_write_file(in_folder(state, "pictures/metadata.jsonl"), metadata.data, metadata.length));
    sp_string_free(&metadata);
    sp_dataset_close(emoji);
}

static inline const char *pictures_of(void **state)
{
    static char spec[700];
    snprintf(spec, sizeof spec, "folder:%s", in_folder(state, "pictures"));
    return spec;
}

/* ---- runs that are killed, and several processes ---- */

#define TEACHER_FLAGS                                                                                            \
    " --resolution 32 --validation-steps 0 --mixed-precision no -t 1 --objective splam --gamma-conditioning time"

static inline void run_program(void **state, const char *before, const char *arguments)
{
    sp_string line = {0};
    char *log;
    sp_string_append_format(&line, "exec %s %s distill --teacher %s --data \"%s\" %s" TEACHER_FLAGS " >%s 2>&1",
                            before, splam_program(), in_folder(state, "teacher"), pictures_of(state), arguments,
                            in_folder(state, "log"));
    int code = system(line.data);
    assert_ok(sp_read_file(in_folder(state, "log"), &log, NULL));
    if (code != 0) fail_msg("%s ended with %d: %s", line.data, code, log);
    sp_free(log);
    sp_string_free(&line);
}

/* The same in a child, which gets SIGKILL once it has written `file`. */
static inline void run_and_kill(void **state, const char *arguments, const char *file)
{
    sp_string line = {0};
    int code = 0;
    sp_string_append_format(&line, "exec %s distill --teacher %s --data \"%s\" %s" TEACHER_FLAGS " >%s 2>&1",
                            splam_program(), in_folder(state, "teacher"), pictures_of(state), arguments,
                            in_folder(state, "log"));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", line.data, (char *)NULL);
        _exit(127);
    }
    while (!sp_path_exists(file) && waitpid(child, &code, WNOHANG) == 0)
        usleep(500);
    kill(child, SIGKILL);
    waitpid(child, &code, 0);
    assert_true(WIFSIGNALED(code));
    sp_string_free(&line);
}

static inline void assert_same_output(void **state, const char *a, const char *b, const char *file)
{
    char first[700], second[700];
    snprintf(first, sizeof first, "%s/%s", in_folder(state, a), file);
    snprintf(second, sizeof second, "%s/%s", in_folder(state, b), file);
    assert_same_file(first, second);
}

/* 30 steps, each followed by a checkpoint, of which the tenth is the end. */
static inline void check_killed(void **state, const char *flags, const char *file)
{
    static const char run[] = "%s --output %s --max-train-steps 30 --train-batch-size 2 --checkpointing-steps 1"
                              " --learning-rate 1e-4 %s";
    char arguments[1600];
    setenv("GOMP_SPINCOUNT", "1000", 1); /* so that the program does not start itself again */
    snprintf(arguments, sizeof arguments, run, flags, in_folder(state, "whole"), "");
    run_program(state, "", arguments);
    snprintf(arguments, sizeof arguments, run, flags, in_folder(state, "killed"), "");
    run_and_kill(state, arguments, in_folder(state, "killed/checkpoint-10/state.json"));
    assert_false(sp_path_exists(in_folder(state, "killed/checkpoint-30")));
    snprintf(arguments, sizeof arguments, "%s/%s", in_folder(state, "killed"), file);
    assert_false(sp_path_exists(arguments));
    snprintf(arguments, sizeof arguments, run, flags, in_folder(state, "killed"), "--resume latest");
    run_program(state, "", arguments);
    assert_same_output(state, "whole", "killed", file);
    assert_same_output(state, "whole", "killed", "checkpoint-30/second_moment.safetensors");
    assert_ok(sp_remove_tree(in_folder(state, "whole")));
    assert_ok(sp_remove_tree(in_folder(state, "killed")));
}

/* Two ranks of one picture are two micro-batches of one: sums have one order only. */
static inline void check_two_processes(void **state, const char *file)
{
    static const char run[] = "--output %s --max-train-steps 3 --train-batch-size 1 --gradient-accumulation-steps %d";
    char arguments[1600];
    allow_mpirun();
    snprintf(arguments, sizeof arguments, run, in_folder(state, "one"), 2);
    run_program(state, "", arguments);
    snprintf(arguments, sizeof arguments, run, in_folder(state, "two"), 1);
    run_program(state, "mpirun --oversubscribe -n 2", arguments);
    assert_same_output(state, "one", "two", file);
}

#endif
