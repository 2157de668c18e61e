/* Models that are held: sessions that plan, pack and read once; threads that share; pictures in memory; one forward on
 * arrays; messages for the program around the library. */
#include <pthread.h>
#include "generate_support.h"
#include "data/dataset.h"
#include "graph/bound.h"
#include "image/image.h"
#include "models/runner.h"

static splam_model *open_model(void **state, const char *name)
{
    splam_model_options options = splam_model_defaults();
    options.precision = SPLAM_F32;
    splam_model *model;
    assert_ok(splam_model_open(keep(state, name), &options, NULL, &model));
    return model;
}

static splam_session *open_session(const splam_model *model)
{
    splam_session *session;
    assert_ok(splam_session_create(model, NULL, &session));
    return session;
}

static splam_generate_options request(uint64_t seed)
{
    splam_generate_options o = splam_generate_defaults();
    o.prompt = "red apple";
    o.steps = 2;
    o.seed = seed;
    return o;
}

static void draw(splam_session *session, const splam_generate_options *o, splam_pictures *out)
{
    splam_status status = splam_session_generate(session, o, NULL, out);
    if (status) fail_msg("%s", splam_error_message());
}

/* ---- what is kept ---- */

typedef struct {
    unsigned long plans, runs, packed;
    long read;
} counters;

/* Bytes that this process has asked files for. */
static long bytes_read(void)
{
    char text[256];
    long bytes = -1;
    int file = open("/proc/self/io", O_RDONLY);
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size > 0) text[size] = '\0';
    assert_true(size > 0 && sscanf(text, "rchar: %ld", &bytes) == 1);
    return bytes;
}

static counters count(void)
{
    return (counters){sp_plans_made(), sp_runners_made(), sp_packed_count(), bytes_read()};
}

/* What the reading of the counter itself adds, and of the memory that is free. */
enum { COUNTING = 4096 };

static void test_second_picture(void **state)
{
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    splam_generate_options o = request(1);
    splam_pictures first, second;
    counters at_first = count();
    draw(session, &o, &first);
    counters before = count();
    assert_int_equal(before.plans - at_first.plans, 3); /* text encoder, UNet, decoder */
    assert_int_equal(before.runs - at_first.runs, 3);
    assert_true(before.packed > at_first.packed);
    o.seed = 2;
    draw(session, &o, &second);
    counters after = count();
    assert_int_equal(after.plans, before.plans);
    assert_int_equal(after.runs, before.runs);
    assert_int_equal(after.packed, before.packed);
    assert_in_range(after.read - before.read, 0, COUNTING);
    size_t bytes = (size_t)(first.width * first.height * 3);
    assert_int_equal(first.count, 1);
    assert_true(memcmp(first.rgb, second.rgb, bytes) != 0);
    splam_pictures_free(&first);
    splam_pictures_free(&second);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* Sizes that take turns are planned once each, and the weights packed alike are there once. */
static void test_sizes_take_turns(void **state)
{
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    splam_generate_options small = request(1), large = request(1);
    splam_pictures pictures;
    large.width = large.height = 2 * SIDE;
    draw(session, &small, &pictures);
    splam_pictures_free(&pictures);
    size_t packed = sp_packed_bytes();
    draw(session, &large, &pictures);
    splam_pictures_free(&pictures);
    /* Winograd's form depends on the size for some layers; most are shared. */
    assert_true(sp_packed_bytes() < packed + packed / 2);
    counters before = count();
    for (int i = 0; i < 2; i++) {
        draw(session, i ? &large : &small, &pictures);
        splam_pictures_free(&pictures);
    }
    assert_int_equal(count().plans, before.plans);
    assert_int_equal(count().packed, before.packed);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* ---- the same bits ---- */

static void test_bits_of_generate(void **state)
{
    static const char *const models[] = {"teacher", "student"};
    for (int i = 0; i < 2; i++) {
        splam_model *model = open_model(state, models[i]);
        splam_session *session = open_session(model);
        splam_generate_options o = request(7), once = options_for(state, models[i]);
        splam_pictures pictures;
        o.count = 2;
        once.steps = 2;
        once.seed = 7;
        once.count = 2;
        once.output = keep(state, "once.png");
        generate(&once);
        o.output = keep(state, "held.png"); /* files and pixels */
        draw(session, &o, &pictures);
        for (int j = 0; j < 2; j++) {
            sp_image image;
            const char *name = j ? "once-1.png" : "once-0.png";
            assert_same_file(keep(state, name), keep(state, j ? "held-1.png" : "held-0.png"));
            assert_ok(sp_image_load(keep(state, name), &image));
            size_t bytes = (size_t)image.width * (size_t)image.height * 3;
            assert_int_equal(pictures.width, image.width);
            assert_memory_equal(pictures.rgb + (size_t)j * bytes, image.pixels, bytes);
            sp_image_free(&image);
        }
        assert_int_equal(pictures.count, 2);
        assert_int_equal(pictures.seed, 7);
        splam_pictures_free(&pictures);
        splam_session_destroy(session);
        splam_model_close(model);
    }
}

static void test_image_from_memory(void **state)
{
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    sp_image image;
    splam_pictures from_file, from_memory;
    assert_ok(sp_image_create(40, 36, &image));
    for (int i = 0; i < 40 * 36 * 3; i++)
        image.pixels[i] = (uint8_t)(i * 7);
    assert_ok(sp_image_save_png(&image, keep(state, "start.png"), NULL, 0));
    splam_generate_options o = request(3);
    const splam_picture picture = {image.width, image.height, image.pixels};
    o.init_image = keep(state, "start.png");
    draw(session, &o, &from_file);
    o.init_image = NULL;
    o.init_pixels = &picture;
    draw(session, &o, &from_memory);
    assert_int_equal(from_file.height, 36);
    assert_int_equal(from_memory.height, 36);
    assert_memory_equal(from_file.rgb, from_memory.rgb, 40 * 36 * 3);
    o.init_image = keep(state, "start.png");
    splam_pictures none;
    assert_status(splam_session_generate(session, &o, NULL, &none), SP_ARGUMENT);
    assert_message("two pictures");
    splam_pictures_free(&from_file);
    splam_pictures_free(&from_memory);
    sp_image_free(&image);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* ---- threads ---- */

typedef struct {
    const splam_model *model;
    uint64_t seed;
    splam_pictures pictures[3];
    splam_status status;
} worker;

static void *work(void *context)
{
    worker *w = context;
    splam_session *session;
    w->status = splam_session_create(w->model, NULL, &session);
    for (int i = 0; i < 3 && !w->status; i++) {
        splam_generate_options o = request(w->seed + (uint64_t)i);
        w->status = splam_session_generate(session, &o, NULL, &w->pictures[i]);
    }
    if (!w->status) splam_session_destroy(session);
    return NULL;
}

/* Two sessions at once draw what one after the other draws, and pack the weights once between them. */
static void test_two_threads(void **state)
{
    splam_model *model = open_model(state, "teacher");
    worker alone = {.model = model, .seed = 20}, pair[2] = {{.model = model, .seed = 20}, {.model = model, .seed = 20}};
    unsigned long before = sp_packed_count();
    work(&alone);
    assert_ok(alone.status);
    unsigned long once = sp_packed_count() - before;
    pthread_t thread[2];
    splam_session *holder = open_session(model); /* the packed weights stay, whoever ends first */
    splam_generate_options o = request(1);
    splam_pictures first;
    before = sp_packed_count();
    draw(holder, &o, &first);
    splam_pictures_free(&first);
    size_t bytes = sp_packed_bytes();
    assert_true(bytes > 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, work, &pair[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(sp_packed_count() - before, once);
    assert_int_equal(sp_packed_bytes(), bytes);
    for (int i = 0; i < 2; i++) {
        assert_ok(pair[i].status);
        for (int j = 0; j < 3; j++) {
            const splam_pictures *a = &alone.pictures[j], *b = &pair[i].pictures[j];
            assert_memory_equal(a->rgb, b->rgb, (size_t)(a->width * a->height * 3));
            splam_pictures_free(&pair[i].pictures[j]);
        }
    }
    for (int j = 0; j < 3; j++)
        splam_pictures_free(&alone.pictures[j]);
    splam_session_destroy(holder);
    assert_int_equal(sp_packed_bytes(), 0);
    splam_model_close(model);
}

/* ---- batches ---- */

/* One request of a batch, and what becomes of it. */
typedef struct {
    splam_generate_options options;
    const char *prompt;
    int ended, pictures, previews, warnings;
    int64_t stop_after; /* reports of denoising; 0: never */
    bool starves;       /* from its first preview on there is no memory, until a request has ended */
    int64_t steps;
    splam_status status;
    char message[200];
    uint8_t rgb[2][SIDE * SIDE * 3];
} asked;

static void note_steps(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    asked *a = context;
    (void)total, (void)detail;
    assert_false(a->ended);
    a->steps += strcmp(task, "denoising") == 0 && done > 0;
}

static bool stops(void *context)
{
    const asked *a = context;
    return a->stop_after && a->steps >= a->stop_after;
}

static void note_warning(void *context, const char *text)
{
    ((asked *)context)->warnings += strstr(text, "tokens") != NULL;
}

static void note_end(void *context, splam_status status, const char *message)
{
    asked *a = context;
    sp_alloc_fail_after(-1);
    a->ended++;
    a->status = status;
    snprintf(a->message, sizeof a->message, "%s", message);
}

static void note_picture(void *context, const splam_drawn *drawn)
{
    asked *a = context;
    assert_false(a->ended);
    assert_int_equal(drawn->number, a->pictures);
    memcpy(a->rgb[a->pictures++], drawn->picture.rgb, sizeof a->rgb[0]);
}

static void note_preview(void *context, const splam_preview *preview)
{
    asked *a = context;
    assert_in_range(preview->number, 0, 1);
    if (a->starves && !a->previews) sp_alloc_fail_after(0);
    a->previews++;
}

/* Not moved afterwards. */
static splam_session_request ask(asked *a)
{
    a->options.prompt = a->prompt;
    a->options.receive = note_picture;
    a->options.watch = note_preview;
    a->options.receiver = a->options.watcher = a;
    a->options.width = a->options.height = SIDE;
    return (splam_session_request){&a->options, {a, note_steps, stops}, note_warning, note_end};
}

static void expect_alone(splam_session *session, const asked *a)
{
    splam_generate_options o = a->options;
    splam_pictures alone;
    o.receive = NULL;
    o.watch = NULL;
    draw(session, &o, &alone);
    assert_int_equal(a->pictures, alone.count);
    assert_memory_equal(a->rgb, alone.rgb, (size_t)alone.count * sizeof a->rgb[0]);
    splam_pictures_free(&alone);
}

enum { ASKED = 5 };
static void make_wishes(asked *a, splam_rng rng, const char *sampler)
{
    static const char *const prompts[ASKED] = {"red apple", "green apple", "red apple red apple red apple red apple",
                                               "house", "red apple"};
    for (int i = 0; i < ASKED; i++) {
        a[i] = (asked){.options = request((uint64_t)i), .prompt = prompts[i]};
        a[i].options.rng = rng;
        a[i].options.sampler = sampler;
        a[i].options.steps = 3;
        a[i].options.negative = i % 2 ? "house" : NULL;
        a[i].options.guidance = 1 + i; /* of the first there is none */
        a[i].options.count = i == 1 ? 2 : 1;
    }
}

static void test_batches(void **state)
{
    static const char *const models[] = {"teacher", "student"};
    static asked a[ASKED];
    for (int m = 0; m < 2; m++) {
        splam_model *model = open_model(state, models[m]);
        splam_session *session = open_session(model);
        splam_session_request requests[ASKED];
        make_wishes(a, m ? SPLAM_RNG_PHILOX : SPLAM_RNG_TORCH, m ? "lcm" : "euler-a");
        for (int i = 0; i < ASKED; i++)
            requests[i] = ask(&a[i]);
        assert_ok(splam_session_generate_batch(session, requests, ASKED));
        for (int i = 0; i < ASKED; i++) {
            assert_int_equal(a[i].ended, 1);
            assert_int_equal(a[i].status, SPLAM_OK);
            assert_int_equal(a[i].previews, 3 * a[i].options.count);
            assert_int_equal(a[i].warnings, i == 2);
            expect_alone(session, &a[i]);
        }
        splam_session_destroy(session);
        splam_model_close(model);
    }
}

/* Pictures of 64 channels and more, whose convolutions have a form for each number of positions. */
static void test_batches_of_the_teacher(void **state)
{
    enum { COUNT = 8, TEACHER_SIDE = 64 };
    char path[600];
    splam_model *model;
    splam_pictures all, one;
    (void)state;
    snprintf(path, sizeof path, "%s/assets/teacher", getenv("SPLAM_SOURCE"));
    assert_ok(splam_model_open(path, NULL, NULL, &model));
    splam_session *session = open_session(model);
    splam_generate_options o = request(5);
    o.steps = 1;
    o.count = COUNT;
    draw(session, &o, &all);
    o.count = 1;
    for (size_t i = 0; i < COUNT; i += 3) {
        o.seed = 5 + i;
        draw(session, &o, &one);
        size_t bytes = sizeof(uint8_t[TEACHER_SIDE][TEACHER_SIDE][3]);
        assert_int_equal(one.width, TEACHER_SIDE);
        assert_memory_equal(all.rgb + i * bytes, one.rgb, bytes);
        splam_pictures_free(&one);
    }
    splam_pictures_free(&all);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* One stops on the way, one cannot begin: the others do not notice. */
static void test_one_of_a_batch_stops(void **state)
{
    static asked a[ASKED];
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    splam_session_request requests[ASKED];
    make_wishes(a, SPLAM_RNG_PHILOX, "ddim");
    for (int i = 0; i < ASKED; i++)
        requests[i] = ask(&a[i]);
    a[2].stop_after = 1;
    a[3].options.prompt = NULL;
    assert_ok(splam_session_generate_batch(session, requests, ASKED));
    for (int i = 0; i < ASKED; i++) {
        assert_int_equal(a[i].ended, 1);
        assert_int_equal(a[i].status, i == 2 ? SPLAM_CANCELLED : i == 3 ? SPLAM_ARGUMENT : SPLAM_OK);
        if (i != 2 && i != 3) expect_alone(session, &a[i]);
    }
    assert_int_equal(a[2].steps, 1);
    assert_int_equal(a[2].pictures, 0);
    assert_non_null(strstr(a[3].message, "prompt"));
    assert_true(splam_generate_may_batch(&a[0].options, &a[1].options));
    a[1].options.steps = 4;
    assert_false(splam_generate_may_batch(&a[0].options, &a[1].options));
    a[1].ended = 0;
    assert_status(splam_session_generate_batch(session, requests, 2), SP_ARGUMENT);
    assert_int_equal(a[1].ended, 0);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* What a batch cannot do is done for each: numbers that overflow are those of one prompt alone. */
static void test_one_of_a_batch_overflows(void **state)
{
    enum { WIDTH = 24, HUGE = 1 };
    static asked a[ASKED];
    float huge[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        huge[i] = 3e38f;
    const sp_tensor vector = {.shape = sp_shape_of(1, WIDTH), .data = huge};
    const splam_embedding embedding = {keep(state, "huge.safetensors"), "<huge>"};
    assert_ok(sp_safetensors_save(embedding.path, &(sp_named_tensor){"emb_params", &vector}, 1, NULL, 0));
    splam_model_options options = splam_model_defaults();
    options.precision = SPLAM_F32;
    options.embeddings = &embedding;
    options.embedding_count = 1;
    splam_model *model;
    assert_ok(splam_model_open(keep(state, "teacher"), &options, NULL, &model));
    splam_session *session = open_session(model);
    splam_session_request requests[ASKED];
    make_wishes(a, SPLAM_RNG_TORCH, "euler-a");
    a[HUGE].prompt = "<huge>";
    for (int i = 0; i < ASKED; i++)
        requests[i] = ask(&a[i]);
    assert_ok(splam_session_generate_batch(session, requests, ASKED));
    for (int i = 0; i < ASKED; i++) {
        assert_int_equal(a[i].ended, 1);
        assert_int_equal(a[i].status, i == HUGE ? SPLAM_NUMERIC : SPLAM_OK);
        if (i != HUGE) expect_alone(session, &a[i]);
    }
    assert_int_equal(a[HUGE].pictures, 0);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* A batch that fails on the way is drawn again one by one, from the beginning of each one's random numbers, of which
 * PyTorch's generators have given some by then. */
static void test_a_batch_that_fails_begins_anew(void **state)
{
    enum { FIRST = 1 }; /* of the batch: nothing goes with what has no guidance */
    static asked a[ASKED];
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    splam_session_request requests[ASKED];
    make_wishes(a, SPLAM_RNG_TORCH, "euler-a");
    a[FIRST].starves = true;
    for (int i = 0; i < ASKED; i++)
        requests[i] = ask(&a[i]);
    assert_ok(splam_session_generate_batch(session, requests, ASKED));
    for (int i = 0; i < ASKED; i++) {
        assert_int_equal(a[i].ended, 1);
        assert_int_equal(a[i].status, i == FIRST ? SPLAM_MEMORY : SPLAM_OK);
        if (i > FIRST) assert_true(a[i].previews > a[i].options.steps); /* in the batch, and alone */
        if (i != FIRST) expect_alone(session, &a[i]);
    }
    splam_session_destroy(session);
    splam_model_close(model);
}

/* Wherever memory ends, each request ends once. */
static void test_a_batch_without_memory(void **state)
{
    asked wishes[ASKED], *a = &wishes[2];
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    unsigned long before;
    long k = 0;
    do {
        splam_session_request requests[2];
        make_wishes(wishes, SPLAM_RNG_TORCH, "euler-a");
        for (int i = 0; i < 2; i++)
            requests[i] = ask(&a[i]);
        before = sp_alloc_failures();
        sp_alloc_fail_after(k);
        splam_status status = splam_session_generate_batch(session, requests, 2);
        sp_alloc_fail_after(-1);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(a[i].ended, !status);
            assert_true(status == SPLAM_MEMORY || a[i].status == SPLAM_MEMORY || a[i].status == SPLAM_OK);
            if (!status && a[i].status == SPLAM_OK) expect_alone(session, &a[i]);
        }
        k += 1 + k / 6;
    } while (sp_alloc_failures() != before);
    assert_true(k > 100);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* ---- refusals ---- */

static bool at_once(void *context)
{
    (void)context;
    return true;
}

static void test_refusals(void **state)
{
    splam_model *model = open_model(state, "teacher"), *other;
    splam_session *session = open_session(model);
    splam_generate_options o = request(1);
    splam_pictures pictures;
    o.unet = "unet_ema";
    assert_status(splam_session_generate(session, &o, NULL, &pictures), SP_ARGUMENT);
    assert_message("unet");
    o.unet = NULL;
    assert_status(splam_session_generate(session, &o, NULL, NULL), SP_ARGUMENT);
    const splam_callbacks stop = {.cancelled = at_once};
    assert_status(splam_session_generate(session, &o, &stop, &pictures), SP_CANCELLED);
    assert_int_equal(pictures.count, 0);
    splam_pictures_free(&pictures);
    draw(session, &o, &pictures); /* it can be used again */
    splam_pictures_free(&pictures);
    assert_status(splam_model_open(NULL, NULL, NULL, &other), SP_ARGUMENT);
    assert_status(splam_model_open(keep(state, "nothing"), NULL, NULL, &other), SP_IO);
    assert_null(other);
    struct {
        splam_model_options known;
        long long unknown; /* nothing behind it is left unset */
    } newer = {splam_model_defaults(), 0};
    newer.known.size = sizeof newer;
    assert_ok(splam_model_open(keep(state, "teacher"), &newer.known, NULL, &other));
    splam_model_close(other);
    newer.unknown = 1;
    assert_status(splam_model_open(keep(state, "teacher"), &newer.known, NULL, &other), SP_UNSUPPORTED);
    newer.known.size = 0;
    assert_status(splam_model_open(keep(state, "teacher"), &newer.known, NULL, &other), SP_ARGUMENT);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* ---- arrays ---- */

static void test_forward(void **state)
{
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    static float ids[8] = {0, 1, 2, 3};
    splam_tensor in = {.name = "input_ids", .rank = 2, .shape = {1, 8}, .data = ids};
    splam_tensors first, again;
    assert_ok(splam_session_forward(session, "text-encoder", &in, 1, NULL, &first));
    unsigned long plans = sp_plans_made();
    assert_ok(splam_session_forward(session, "text-encoder", &in, 1, NULL, &again));
    assert_int_equal(sp_plans_made(), plans);
    assert_int_equal(first.count, 1);
    assert_string_equal(first.item[0].name, "last_hidden_state");
    assert_int_equal(first.item[0].shape[1], 8);
    assert_memory_equal(first.item[0].data, again.item[0].data, sizeof(float) * 8 * (size_t)first.item[0].shape[2]);
    splam_tensors_free(&first);
    splam_tensors_free(&again);
    in.name = "ids";
    assert_status(splam_session_forward(session, "text-encoder", &in, 1, NULL, &first), SP_FORMAT);
    assert_message("input_ids");
    assert_status(splam_session_forward(session, "brain", &in, 1, NULL, &first), SP_ARGUMENT);
    splam_session_destroy(session);
    splam_model_close(model);
}

/* ---- messages ---- */

typedef struct {
    int messages;
    splam_log_level level;
    char text[200];
} listener;

static void listen(void *context, splam_log_level level, const char *text)
{
    listener *l = context;
    l->messages++;
    l->level = level;
    snprintf(l->text, sizeof l->text, "%s", text);
}

static void talk(void *context)
{
    void **state = context;
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    splam_generate_options o = request(1);
    splam_pictures pictures;
    o.prompt = "a (red:1.2) apple";
    draw(session, &o, &pictures);
    splam_pictures_free(&pictures);
    splam_session_destroy(session);
    splam_model_close(model);
}

static void test_log(void **state)
{
    listener heard = {0};
    splam_set_log(listen, &heard);
    char *text = captured(state, talk, state);
    splam_set_log(NULL, NULL);
    assert_string_equal(text, "");
    assert_true(heard.messages > 0);
    assert_int_equal(heard.level, SPLAM_LOG_WARN);
    assert_non_null(strstr(heard.text, "(red:1.2)"));
    sp_free(text);
    text = captured(state, talk, state);
    assert_non_null(strstr(text, "warning: "));
    sp_free(text);
}

/* ---- data of the program's own ---- */

typedef struct {
    int asked, released;
    uint8_t rgb[20 * 10 * 3];
} album;

static int64_t album_count(void *context)
{
    (void)context;
    return 4;
}

/* Picture 1 has none; picture 2 has two. */
static const char *album_caption(void *context, int64_t picture, int variant)
{
    (void)context;
    if (picture == 1 || variant > (picture == 2)) return NULL;
    return variant ? "another" : "a picture";
}

static bool album_pixels(void *context, int64_t picture, splam_picture *out)
{
    album *a = context;
    a->asked++;
    *out = (splam_picture){.width = 20, .height = 10, .rgb = a->rgb};
    return picture != 0; /* which is lost */
}

static void album_release(void *context, int64_t picture, splam_picture *pixels)
{
    (void)picture;
    (void)pixels;
    ((album *)context)->released++;
}

static bool album_held_out(void *context, int64_t picture)
{
    (void)context;
    return picture == 3;
}

static void test_source(void **state)
{
    (void)state;
    album a = {0};
    sp_dataset *data;
    uint8_t rgb[8 * 8 * 3];
    int64_t used;
    splam_source source = {.size = sizeof source,
                           .context = &a,
                           .count = album_count,
                           .caption = album_caption,
                           .release = album_release,
                           .held_out = album_held_out};
    const sp_dataset_options options = {.resolution = 8};
    memset(a.rgb, 77, sizeof a.rgb);
    assert_status(splam_source_add("album", &source), SP_ARGUMENT);
    assert_message("pixels");
    source.pixels = album_pixels;
    assert_ok(splam_source_add("album", &source));
    assert_status(splam_source_add("album", &source), SP_ARGUMENT);
    assert_ok(sp_dataset_open("source:album", &options, NULL, &data));
    assert_int_equal(sp_dataset_count(data), 3);
    assert_int_equal(sp_dataset_training_count(data), 2);
    assert_int_equal(sp_dataset_rejected(data), 1);
    assert_int_equal(sp_dataset_caption_count(data, 1), 2);
    assert_string_equal(sp_dataset_caption(data, 1, 1), "another");
    assert_ok(sp_dataset_image(data, 0, rgb, &used));
    assert_int_equal(used, 1); /* stands in for the lost one, which is not released */
    assert_int_equal(rgb[8 * 8 * 3 - 1], 77);
    assert_int_equal(a.asked, 2);
    assert_int_equal(a.released, 1);
    sp_dataset_close(data);
    splam_source_remove("album");
    assert_status(sp_dataset_open("source:album", &options, NULL, &data), SP_ARGUMENT);
    assert_message("album");
}

/* ---- room ---- */

typedef struct {
    int asked, gives; /* how often it was, and gives something */
    int64_t bytes;
} giver;

static bool give(void *keeper, int64_t bytes)
{
    giver *g = keeper;
    g->bytes = bytes;
    return ++g->asked <= g->gives;
}

/* As long as something is given back, and before less is made do with. */
static void test_room(void **state)
{
    splam_model *model = open_model(state, "teacher");
    splam_session *session = open_session(model);
    splam_generate_options o = request(1);
    splam_pictures pictures;
    for (int gives = 0; gives < 3; gives++) {
        giver g = {.gives = gives};
        o.make_room = give, o.keeper = &g, o.memory_limit = 1 << 20;
        assert_status(splam_session_generate(session, &o, NULL, &pictures), SP_MEMORY);
        assert_true(g.asked == gives + 1 && g.bytes > 1 << 20);
    }
    giver g = {0};
    o.make_room = give, o.keeper = &g, o.memory_limit = INT64_C(1) << 34;
    draw(session, &o, &pictures);
    assert_int_equal(g.asked, 0);
    splam_pictures_free(&pictures);
    splam_session_destroy(session);
    splam_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_picture),   cmocka_unit_test(test_sizes_take_turns),
        cmocka_unit_test(test_bits_of_generate), cmocka_unit_test(test_image_from_memory),
        cmocka_unit_test(test_batches),          cmocka_unit_test(test_batches_of_the_teacher),
        cmocka_unit_test(test_one_of_a_batch_stops),
        cmocka_unit_test(test_one_of_a_batch_overflows), cmocka_unit_test(test_a_batch_that_fails_begins_anew),
        cmocka_unit_test(test_a_batch_without_memory),
        cmocka_unit_test(test_two_threads),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_forward),          cmocka_unit_test(test_log),
        cmocka_unit_test(test_source),            cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, set_up, remove_test_folder);
}
