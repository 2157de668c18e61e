/* Packed weights in files: the same pictures without packing; files that do not fit are passed over with a sentence. */
#include <sys/stat.h>
#include "packed_support.h"
#include <splam/splam.h>
#include "backend/cpu/cpu.h"
#include "base/random.h"
#include "base/text.h"
#include "checkpoints/component.h"
#include "formats/weights.h"
#include "graph/run.h"
#include "ops/ops.h"

/* ---- what is said ---- */

typedef struct {
    char text[8192];
    size_t length;
    int messages; /* about packed weights */
} listener;

static void listen(void *context, splam_log_level level, const char *message)
{
    listener *l = context;
    (void)level;
    if (!strstr(message, "packed")) return;
    l->messages++;
    l->length += (size_t)snprintf(l->text + l->length, sizeof l->text - l->length, "%s\n", message);
    assert_in_range(l->length, 0, sizeof l->text - 1);
}

static void assert_heard(const listener *l, const char *words)
{
    if (!strstr(l->text, words)) fail_msg("\"%s\" is not in \"%s\"", words, l->text);
}

/* ---- a model that is packed ---- */

static const char *const parts[] = {"text_encoder", "unet", "vae"};

/* FOLDER/model/PART/packed-SET-f32.splam */
static const char *packed_of(void **state, const char *part)
{
    char name[128];
    snprintf(name, sizeof name, "model/%s/packed-%s-f32.splam", part, sp_isa_name(sp_cpu_isa()));
    return in_folder(state, name);
}

static void pack(void **state)
{
    splam_convert_options o = splam_convert_defaults();
    o.model = in_folder(state, "model");
    o.packed = true;
    o.precision = SPLAM_F32;
    if (splam_convert(&o, NULL)) fail_msg("%s", splam_error_message());
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        assert_true(sp_path_exists(packed_of(state, parts[i])));
}

static int set_up(void **state)
{
    if (make_test_folder(state) != 0) return -1;
    assert_ok(sp_copy_tree(source_path("assets", "teacher", NULL), in_folder(state, "model"), NULL));
    pack(state);
    return 0;
}

static void unpack(void **state)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        unlink(packed_of(state, parts[i]));
}

/* A picture, how many weights were packed for it, and what was said. */
typedef struct {
    splam_pictures pictures;
    unsigned long packs;
    listener heard;
} drawing;

typedef struct {
    const char *lora; /* NULL: none */
    int64_t side;     /* 0: the model's */
    splam_precision precision;
} how;

static void draw(void **state, how h, drawing *out)
{
    splam_model_options options = splam_model_defaults();
    splam_generate_options o = splam_generate_defaults();
    splam_lora lora = {.path = h.lora, .weight = 1};
    splam_model *model;
    splam_session *session;
    *out = (drawing){0};
    options.precision = h.precision ? h.precision : SPLAM_F32;
    options.loras = &lora;
    options.lora_count = h.lora ? 1 : 0;
    o.prompt = "red apple";
    o.steps = 2;
    if (h.side) o.width = o.height = h.side;
    unsigned long before = sp_packed_count();
    splam_set_log(listen, &out->heard);
    assert_ok(splam_model_open(in_folder(state, "model"), &options, NULL, &model));
    assert_ok(splam_session_create(model, NULL, &session));
    if (splam_session_generate(session, &o, NULL, &out->pictures)) fail_msg("%s", splam_error_message());
    splam_session_destroy(session);
    splam_model_close(model);
    splam_set_log(NULL, NULL);
    out->packs = sp_packed_count() - before;
}

/* The same picture as without packed files; leaves none. */
static void assert_right(void **state, how h, drawing *drawn)
{
    drawing plain;
    unpack(state);
    draw(state, h, &plain);
    assert_true(plain.packs > 0);
    assert_int_equal(plain.pictures.width, drawn->pictures.width);
    assert_memory_equal(plain.pictures.rgb, drawn->pictures.rgb,
                        (size_t)(plain.pictures.width * plain.pictures.height * 3));
    splam_pictures_free(&plain.pictures);
    splam_pictures_free(&drawn->pictures);
}

/* All weights come from the files, which are not left, and nothing is said. */
static void assert_used(void **state, how h)
{
    drawing drawn;
    draw(state, h, &drawn);
    assert_int_equal(drawn.packs, 0);
    assert_int_equal(drawn.heard.messages, 0);
    assert_right(state, h, &drawn);
}

/* ---- used ---- */

static void test_nothing_is_packed(void **state)
{
    assert_used(state, (how){0});
}

static void test_other_precision(void **state)
{
    drawing drawn;
    draw(state, (how){.precision = SPLAM_BF16}, &drawn);
    assert_true(drawn.packs > 0);
    assert_int_equal(drawn.heard.messages, 3); /* one for each part */
    assert_heard(&drawn.heard, "is not for the instruction set and precision in use");
    assert_right(state, (how){.precision = SPLAM_BF16}, &drawn);
}

/* What is cast is kept too: with bf16 the tables of tokens and positions. */
static void test_casts(void **state)
{
    splam_convert_options o = splam_convert_defaults();
    drawing drawn;
    o.model = in_folder(state, "model");
    o.packed = true;
    o.precision = SPLAM_BF16;
    assert_ok(splam_convert(&o, NULL));
    sp_component *component;
    sp_packed_file *file;
    assert_ok(sp_component_open(o.model, "text_encoder", &component));
    const sp_packed_terms *terms = sp_cpu_device()->packed_terms;
    char *path = sp_packed_place_path(sp_weights_packed(component->weights), terms, "bf16");
    assert_ok(sp_packed_open(path, terms, component->file, &file));
    assert_true(sp_packed_knows(file, "embeddings.token_embedding.weight"));
    assert_false(sp_packed_knows(file, "embeddings"));
    sp_packed_close(file);
    sp_component_close(component);
    draw(state, (how){.precision = SPLAM_BF16}, &drawn);
    assert_int_equal(drawn.packs, 0);
    assert_int_equal(drawn.heard.messages, 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[128];
        snprintf(name, sizeof name, "model/%s/%s", parts[i], sp_path_base(path));
        assert_int_equal(unlink(in_folder(state, name)), 0);
    }
    sp_free(path);
    assert_right(state, (how){.precision = SPLAM_BF16}, &drawn);
}

/* Layers of 4x4 positions are of another form than those of 8x8 and more. */
static void test_other_size(void **state)
{
    drawing drawn, large;
    draw(state, (how){0}, &large);
    splam_pictures_free(&large.pictures);
    draw(state, (how){.side = 32}, &drawn);
    assert_true(drawn.packs > 0);
    assert_heard(&drawn.heard, "as this size and batch want them");
    drawing again;
    splam_convert_options o = splam_convert_defaults();
    const char *const sizes[] = {"64x64", "32x32"};
    o.model = in_folder(state, "model");
    o.packed = true;
    o.precision = SPLAM_F32;
    o.picture_sizes = sizes;
    o.picture_size_count = 2;
    if (splam_convert(&o, NULL)) fail_msg("%s", splam_error_message());
    draw(state, (how){.side = 32}, &again);
    assert_int_equal(again.packs, 0);
    assert_int_equal(again.heard.messages, 0);
    splam_pictures_free(&again.pictures);
    assert_right(state, (how){.side = 32}, &drawn);
}

/* An adapter of one layer: that is packed, and the others are not. */
static void test_adapters(void **state)
{
    sp_tensor_file *file;
    assert_ok(sp_tensor_file_open_folder(in_folder(state, "model/unet"), "diffusion_pytorch_model", NULL, &file));
    const char *name = NULL;
    const sp_tensor *weight = NULL;
    for (size_t i = 0; i < sp_tensor_file_count(file) && !name; i++)
        if (sp_ends_with(sp_tensor_file_name(file, i), "attn1.to_q.weight")) {
            name = sp_tensor_file_name(file, i);
            weight = sp_tensor_file_at(file, i);
        }
    assert_non_null(name);
    char down_name[256], up_name[256];
    int stem = (int)(strlen(name) - strlen(".weight"));
    snprintf(down_name, sizeof down_name, "unet.%.*s.lora_A.weight", stem, name);
    snprintf(up_name, sizeof up_name, "unet.%.*s.lora_B.weight", stem, name);
    sp_tensor down, up;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(2, weight->shape.dim[1]), &down));
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(weight->shape.dim[0], 2), &up));
    sp_random_normal((sp_random_key){5, SP_STREAM_NOISE, 1, 0}, down.data, (size_t)sp_tensor_count(&down));
    sp_random_normal((sp_random_key){5, SP_STREAM_NOISE, 2, 0}, up.data, (size_t)sp_tensor_count(&up));
    const sp_named_tensor both[] = {{down_name, &down}, {up_name, &up}};
    assert_ok(sp_safetensors_save(in_folder(state, "lora.safetensors"), both, 2, NULL, 0));
    sp_tensor_free(&down);
    sp_tensor_free(&up);
    sp_tensor_file_close(file);
    drawing drawn;
    const how h = {.lora = in_folder(state, "lora.safetensors")};
    draw(state, h, &drawn);
    assert_int_equal(drawn.packs, 1);
    assert_int_equal(drawn.heard.messages, 1);
    assert_heard(&drawn.heard, "were changed by adapters");
    assert_right(state, h, &drawn);
}

/* ---- other weights ---- */

static const char *weights_of(void **state)
{
    return in_folder(state, "model/unet/diffusion_pytorch_model.safetensors");
}

/* Writes `value` over one byte of the UNet's file, so far from its end. The time of its change becomes another one. */
static void change_byte(void **state, long from_end, int value)
{
    struct stat before;
    assert_int_equal(stat(weights_of(state), &before), 0);
    FILE *f = fopen(weights_of(state), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    assert_int_equal(fputc(value, f), value);
    fclose(f);
    const struct timespec times[] = {before.st_atim, {.tv_sec = before.st_mtim.tv_sec + 5}};
    assert_int_equal(utimensat(AT_FDCWD, weights_of(state), times, 0), 0);
}

static void assert_other_weights(void **state)
{
    drawing drawn;
    draw(state, (how){0}, &drawn);
    assert_true(drawn.packs > 0);
    assert_int_equal(drawn.heard.messages, 1);
    assert_heard(&drawn.heard, "was written of other weights than");
    assert_heard(&drawn.heard, "splam convert --packed writes it anew");
    assert_right(state, (how){0}, &drawn);
}

/* The last tensor has more than the 4,096 bytes that are hashed: only the sum of all tells. */
static void test_changed_deep_inside(void **state)
{
    sp_tensor_file *file;
    assert_ok(sp_tensor_file_open(weights_of(state), &file));
    const sp_tensor *last = sp_tensor_file_at(file, sp_tensor_file_count(file) - 1);
    assert_true(sp_tensor_bytes(last) > 0);
    uint64_t hash = sp_tensor_file_hash(file);
    size_t deep = 0; /* from the end: beyond the first 4,096 bytes of some tensor */
    size_t end = 0;
    for (size_t i = sp_tensor_file_count(file); i-- > 0 && !deep;) {
        size_t bytes = sp_tensor_bytes(sp_tensor_file_at(file, i));
        if (bytes > 8192) deep = end + 2;
        end += bytes;
    }
    sp_tensor_file_close(file);
    assert_true(deep > 0);
    change_byte(state, (long)deep, 0x11);
    assert_ok(sp_tensor_file_open(weights_of(state), &file));
    assert_true(sp_tensor_file_hash(file) == hash);
    sp_tensor_file_close(file);
    assert_other_weights(state);
}

static void test_replaced(void **state)
{
    sp_tensor_file *file;
    sp_weights *weights;
    assert_ok(sp_tensor_file_open(weights_of(state), &file));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add_file(weights, file));
    assert_ok(sp_weights_save(weights, in_folder(state, "f32.safetensors"), SP_F32, NULL, 0, NULL));
    sp_weights_destroy(weights);
    sp_tensor_file_close(file);
    assert_int_equal(rename(in_folder(state, "f32.safetensors"), weights_of(state)), 0);
    change_byte(state, 3, 0x12);
    assert_other_weights(state);
}

/* A copy has other times: all of it is compared, and it serves. */
static void test_copied(void **state)
{
    assert_ok(sp_copy_tree(in_folder(state, "model"), in_folder(state, "copy"), NULL));
    assert_ok(sp_remove_tree(in_folder(state, "model")));
    assert_int_equal(rename(in_folder(state, "copy"), in_folder(state, "model")), 0);
    drawing drawn;
    draw(state, (how){0}, &drawn);
    assert_int_equal(drawn.packs, 0);
    assert_int_equal(drawn.heard.messages, 3);
    assert_heard(&drawn.heard, "has another time than when it was packed");
    assert_right(state, (how){0}, &drawn);
}

/* ---- other terms, and files that are none ---- */

static void test_other_terms(void **state)
{
    static const struct {
        const char *key, *value, *sentence;
    } cases[] = {
        {"format", "splam packed weights 0", "was written for format \"splam packed weights 0\", and here it is"},
        {"instruction_set", "avx9", "was written for instruction_set \"avx9\", and here it is"},
        {"onednn", "9.9.9 avx9", "was written for onednn \"9.9.9 avx9\", and here it is"},
        {"kernels", "0123456789abcdef", "was written for kernels \"0123456789abcdef\", and here it is"},
        {"source_hash", "0123456789abcdef", "was written of other weights than"},
        {"kernels", NULL, "the metadata have no \"kernels\""},
    };
    drawing drawn;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pack(state);
        save_changed(packed_of(state, "unet"), cases[i].key, cases[i].value, 0, NULL, NULL);
        draw(state, (how){0}, &drawn);
        assert_true(drawn.packs > 0);
        assert_int_equal(drawn.heard.messages, 1);
        assert_heard(&drawn.heard, cases[i].sentence);
        assert_heard(&drawn.heard, packed_of(state, "unet"));
        assert_right(state, (how){0}, &drawn);
    }
}

static void assert_passed_over(void **state, const char *sentence)
{
    drawing drawn;
    draw(state, (how){0}, &drawn);
    assert_true(drawn.packs > 0);
    assert_heard(&drawn.heard, sentence);
    assert_right(state, (how){0}, &drawn);
    pack(state);
}

static void test_malformed_tensors(void **state)
{
    const char *path = packed_of(state, "unet");
    char file[512], name[256];
    snprintf(file, sizeof file, "%s", path);
    sp_tensor tensor;
    size_t at = a_weight(file, &tensor, name);
    sp_tensor other = tensor;
    other.shape = sp_shape_of(1, tensor.shape.dim[0]);
    save_changed(file, NULL, NULL, at, &other, NULL);
    assert_passed_over(state, "packed weights are U8 [bytes]");
    other.shape = sp_shape_of(tensor.shape.dim[0] - 64);
    save_changed(file, NULL, NULL, at, &other, NULL);
    assert_passed_over(state, "is not called KEY:BYTES:NAME");
    save_changed(file, NULL, NULL, at, NULL, "conv_in.weight");
    assert_passed_over(state, "is not called KEY:BYTES:NAME");
    name[3] = 'G';
    save_changed(file, NULL, NULL, at, NULL, name);
    assert_passed_over(state, "is not called KEY:BYTES:NAME");
    other.shape = sp_shape_of(1);
    save_changed(file, NULL, NULL, at, &other, "padding:0x");
    assert_passed_over(state, "does not begin at a multiple of 64 bytes");
    sp_tensor_free(&tensor);
}

static void test_malformed_bytes(void **state)
{
    char path[512], *good;
    size_t size;
    snprintf(path, sizeof path, "%s", packed_of(state, "vae"));
    assert_ok(sp_read_file(path, &good, &size));
    const size_t lengths[] = {0, 1, 8, 9, 100, 4096, size / 2, size - 1};
    drawing drawn;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_ok(sp_write_file(path, good, lengths[i]));
        draw(state, (how){0}, &drawn);
        assert_true(drawn.packs > 0);
        assert_int_equal(drawn.heard.messages, 1);
        assert_heard(&drawn.heard, path);
        splam_pictures_free(&drawn.pictures);
    }
    char *offset = strstr(good + 8, "\"data_offsets\":[");
    assert_non_null(offset);
    offset[strlen("\"data_offsets\":[")] = '9'; /* tensors overlap or leave a gap */
    assert_ok(sp_write_file(path, good, size));
    sp_free(good);
    assert_passed_over(state, path);
}

/* Becomes shorter while it is mapped: an error, not a wrong picture. */
static void test_shrinking(void **state)
{
    splam_model_options options = splam_model_defaults();
    splam_generate_options o = splam_generate_defaults();
    splam_model *model;
    splam_session *session;
    splam_pictures pictures;
    options.precision = SPLAM_F32;
    o.prompt = "red apple";
    o.steps = 2;
    assert_ok(splam_model_open(in_folder(state, "model"), &options, NULL, &model));
    assert_ok(splam_session_create(model, NULL, &session));
    assert_ok(splam_session_generate(session, &o, NULL, &pictures));
    splam_pictures_free(&pictures);
    assert_int_equal(truncate(packed_of(state, "unet"), 8192), 0);
    assert_status(splam_session_generate(session, &o, NULL, &pictures), SP_IO);
    assert_non_null(strstr(splam_error_message(), "became shorter"));
    assert_non_null(strstr(splam_error_message(), packed_of(state, "unet")));
    splam_session_destroy(session);
    splam_model_close(model);
}

/* ---- without a model: weights that change ---- */

enum { CHANNELS = 64, SIDE = 16 };

static sp_run *run_of(const sp_weights *weights, sp_plan **plan)
{
    sp_builder *b;
    sp_graph *graph;
    sp_run *run;
    assert_ok(sp_builder_create(&b));
    sp_set_enter(b, "model", SP_RATE_RUN, NULL, NULL);
    sp_value *matrix = sp_parameter(b, "matrix", sp_shape_of(CHANNELS, CHANNELS));
    sp_set_leave(b);
    sp_value *x = sp_input(b, "x", SP_F32, sp_shape_of(SIDE, CHANNELS), SP_RATE_STEP);
    sp_output(b, "y", sp_linear(b, x, matrix, NULL, NULL));
    assert_ok(sp_builder_finish(b, &graph));
    sp_builder_destroy(b);
    assert_ok(sp_plan_create(graph, sp_cpu_device(), SP_F32, plan));
    assert_ok(sp_run_create(*plan, &run));
    assert_ok(sp_bind(sp_run_bound(run), "model", weights));
    sp_tensor input;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(SIDE, CHANNELS), &input));
    sp_random_normal((sp_random_key){5, SP_STREAM_NOISE, 3, 0}, input.data, (size_t)sp_tensor_count(&input));
    assert_ok(sp_run_set_input(run, "x", &input));
    sp_tensor_free(&input);
    return run;
}

static void end(sp_run *run, sp_plan *plan)
{
    sp_run_destroy(run);
    sp_plan_destroy(plan);
}

static sp_tensor output_of(sp_run *run)
{
    sp_tensor y;
    assert_ok(sp_run_execute(run, NULL));
    assert_ok(sp_run_get_output(run, "y", &y));
    return y;
}

/* A weight that changes after it was mapped gets a pack of its own: the file's pages are not written. */
static void test_change_after_mapping(void **state)
{
    sp_tensor matrix;
    assert_ok(sp_tensor_create(SP_F32, sp_shape_of(CHANNELS, CHANNELS), &matrix));
    sp_random_normal((sp_random_key){5, SP_STREAM_NOISE, 4, 0}, matrix.data, (size_t)sp_tensor_count(&matrix));
    const sp_named_tensor one[] = {{"matrix", &matrix}};
    assert_ok(sp_safetensors_save(in_folder(state, "weights.safetensors"), one, 1, NULL, 0));
    sp_tensor_free(&matrix);
    sp_tensor_file *file;
    sp_weights *weights;
    assert_ok(sp_tensor_file_open(in_folder(state, "weights.safetensors"), &file));
    assert_ok(sp_weights_create(&weights));
    assert_ok(sp_weights_add_file(weights, file));
    sp_plan *plan;
    sp_run *run = run_of(weights, &plan);
    sp_tensor plain = output_of(run);
    sp_packed_weight *list;
    size_t count;
    assert_ok(sp_packs_list(weights, &list, &count));
    assert_int_equal(count, 1);
    assert_string_equal(list[0].name, "matrix");
    const sp_packed_terms *terms = sp_cpu_device()->packed_terms;
    assert_ok(sp_weights_set_packed(weights, in_folder(state, "")));
    char *path = sp_packed_place_path(sp_weights_packed(weights), terms, "f32");
    assert_true(sp_packed_is_name(sp_path_base(path)));
    assert_ok(sp_packed_save(path, list, count, terms, file, NULL));
    sp_free(list);
    end(run, plan);
    size_t held = sp_packed_bytes();
    unsigned long before = sp_packed_count();
    run = run_of(weights, &plan);
    sp_tensor mapped = output_of(run);
    assert_int_equal(sp_packed_count(), before);
    assert_int_equal(sp_packed_bytes(), held);
    sp_bound_weights_changed(sp_run_bound(run));
    sp_tensor again = output_of(run);
    assert_int_equal(sp_packed_count(), before + 1);
    assert_true(sp_packed_bytes() > held);
    assert_memory_equal(plain.data, mapped.data, sp_tensor_bytes(&plain));
    assert_memory_equal(plain.data, again.data, sp_tensor_bytes(&plain));
    end(run, plan);
    sp_tensor_free(&plain);
    sp_tensor_free(&mapped);
    sp_tensor_free(&again);
    sp_free(path);
    sp_weights_destroy(weights);
    sp_tensor_file_close(file);
}

/* ---- asking for it ---- */

static void assert_refused(splam_convert_options o, const char *words)
{
    assert_status(splam_convert(&o, NULL), SP_ARGUMENT);
    if (!strstr(splam_error_message(), words)) fail_msg("\"%s\" is not in \"%s\"", words, splam_error_message());
}

static void test_requests(void **state)
{
    static const char *const crooked[] = {"64"}, *const odd[] = {"63x64"};
    splam_convert_options o = splam_convert_defaults(), with = o;
    o.model = with.model = in_folder(state, "model");
    assert_refused(o, "`output` is missing");
    o.precision = SPLAM_F32;
    assert_refused(o, "`precision` is of packed weights");
    with.packed = true;
    o = with;
    o.dtype = "f16";
    assert_refused(o, "`dtype` makes another model");
    o = with;
    o.picture_sizes = crooked;
    o.picture_size_count = 1;
    assert_refused(o, "expected WIDTHxHEIGHT");
    o.picture_sizes = odd;
    assert_refused(o, "not a multiple of");
}

/* A new model is packed where it is written, and one file has its packed weights beside it. */
static void test_outputs(void **state)
{
    splam_convert_options o = splam_convert_defaults();
    char name[128];
    o.model = in_folder(state, "model");
    o.output = in_folder(state, "other");
    o.dtype = "f16";
    o.packed = true;
    o.precision = SPLAM_F32;
    assert_ok(splam_convert(&o, NULL));
    snprintf(name, sizeof name, "other/unet/packed-%s-f32.splam", sp_isa_name(sp_cpu_isa()));
    assert_true(sp_path_exists(in_folder(state, name)));
    assert_ok(sp_remove_tree(in_folder(state, "model")));
    assert_int_equal(rename(in_folder(state, "other"), in_folder(state, "model")), 0);
    assert_used(state, (how){0});
}

/* Beside a file of several parts each has its own name. */
static void test_one_file(void **state)
{
    char expected[512];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        sp_component *component;
        assert_ok(sp_component_open(golden_file("original-sd1", "model.safetensors"), parts[i], &component));
        char *path =
            sp_packed_place_path(sp_weights_packed(component->weights), sp_cpu_device()->packed_terms, "bf16");
        snprintf(expected, sizeof expected, "%s.%s-packed-%s-bf16.splam",
                 golden_file("original-sd1", "model.safetensors"), parts[i], sp_isa_name(sp_cpu_isa()));
        assert_string_equal(path, expected);
        assert_true(sp_packed_is_name(sp_path_base(path)));
        sp_free(path);
        sp_component_close(component);
    }
    assert_false(sp_packed_is_name("model.safetensors"));
    assert_false(sp_packed_is_name("unpacked-f32.splam"));
    (void)state;
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, remove_test_folder)
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_is_packed),   CASE(test_other_precision), CASE(test_other_size),
        CASE(test_casts),
        CASE(test_adapters),            CASE(test_changed_deep_inside), CASE(test_replaced),
        CASE(test_copied),              CASE(test_other_terms),     CASE(test_malformed_tensors),
        CASE(test_malformed_bytes),     CASE(test_shrinking),       CASE(test_change_after_mapping),
        CASE(test_requests),            CASE(test_outputs),         CASE(test_one_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
