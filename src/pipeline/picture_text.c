/* What a picture carries about how it was made: A1111's text and JSON. */
#include "pipeline/picture_text.h"

#include <inttypes.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoints/student_file.h"
#include <splam/base.h>
#include "text/unicode.h"

/* What A1111's web interface calls them. */
static const char *const a1111_schedules[] = {
    [SP_SIGMAS_KARRAS] = "Karras", [SP_SIGMAS_EXPONENTIAL] = "Exponential"};

/* A word of its own, which tells trailing timesteps too where the sampler has sigmas; NULL: the usual one. */
static const char *schedule_type(const sp_picture_facts *f)
{
    if (f->sigmas > SP_SIGMAS_NORMAL) return a1111_schedules[f->sigmas];
    return f->spacing == SP_SPACING_TRAILING && f->sampler != SP_SAMPLER_DDIM ? "SGM Uniform" : NULL;
}

/* Well-formed UTF-8, which JSON and PNG ask for; as the tokenizer reads it. A new string. */
static char *well_formed(const char *text)
{
    size_t length = strlen(text);
    int32_t *points = sp_alloc((length + 1) * sizeof *points);
    char *out = sp_alloc(4 * length + 1);
    if (points && out) out[sp_utf8_encode(points, sp_utf8_decode(text, length, points), out)] = 0;
    sp_free(points);
    return out;
}

/* The string's text, now the caller's; NULL when out of memory. */
static char *take(sp_string *s)
{
    if (s->failed) sp_string_free(s);
    return s->data;
}

/* ", KEY: TEXT"; a text that would be taken for more than one entry is written as JSON, as A1111
 * does. */
static void append_entry(sp_string *s, const char *key, const char *text)
{
    if (!strpbrk(text, ",:\n")) {
        sp_string_append_format(s, ", %s: %s", key, text);
        return;
    }
    json_t *string = json_string(text);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    s->failed |= !quoted;
    if (quoted) sp_string_append_format(s, ", %s: %s", key, quoted);
    sp_json_text_free(quoted);
    json_decref(string);
}

/* ---- the model ---- */

/* "a:0.8, b:1", names of files without their ends; NULL when out of memory. */
static char *lora_names(const splam_lora *loras, size_t count)
{
    sp_string s = {0};
    for (size_t i = 0; i < count; i++) {
        char *name = well_formed(sp_path_base(loras[i].path));
        char *end = name ? strrchr(name, '.') : NULL;
        if (end && end > name) *end = 0;
        s.failed |= !name;
        char weight[SP_NUMBER_TEXT];
        if (name)
            sp_string_append_format(&s, "%s%s:%s", i ? ", " : "", name,
                                    sp_number_text(loras[i].weight, weight));
        sp_free(name);
    }
    return take(&s);
}

/* The last part of a path, without the slashes it may end in. */
static char *folder_name(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    char *raw = sp_strndup(path + begin, length - begin), *name = raw ? well_formed(raw) : NULL;
    sp_free(raw);
    return name;
}

/* A1111 takes colons and commas out of names. */
static char *clean_name(const char *token)
{
    char *name = well_formed(token), *to = name;
    for (const char *c = name; c && *c; c++)
        if (*c != ':' && *c != ',') *to++ = *c;
    if (name) *to = 0;
    return name;
}

static sp_status read_learned(const sp_learned_list *list, sp_model_facts *out)
{
    if (!list->count) return SP_OK;
    out->learned = sp_alloc_zero(list->count * sizeof *out->learned);
    if (!out->learned) return SP_MEMORY;
    for (; out->learned_count < list->count; out->learned_count++) {
        const sp_learned *e = &list->items[out->learned_count];
        sp_learned_fact *fact = &out->learned[out->learned_count];
        char sum[SP_SHA256_TEXT];
        SP_TRY(sp_learned_sha256(e, sum));
        snprintf(fact->hash, sizeof fact->hash, "%.*s", SP_LEARNED_HASH, sum);
        fact->first = e->first;
        fact->name = clean_name(e->token);
        if (!fact->name) return SP_MEMORY;
    }
    return SP_OK;
}

sp_status sp_model_facts_read(const char *path, const sp_model_options *options, const sp_model *model,
                              sp_model_facts *out)
{
    *out = (sp_model_facts){.name = folder_name(path)};
    if (options->vae) out->vae_name = folder_name(options->vae);
    if (options->lora_count) out->loras = lora_names(options->loras, options->lora_count);
    if (!out->name || (options->vae && !out->vae_name) || (options->lora_count && !out->loras)) return SP_MEMORY;
    SP_TRY(read_learned(&model->embeddings, out));
    if (options->t5) out->t5 = folder_name(options->t5);
    if (options->t5 && !out->t5) return SP_MEMORY;
    if (options->weights && strcmp(options->weights, "q8") == 0) out->weights = "q8";
    out->t5_absent = options->t5 ? 0 : model->tokens_behind;
    out->hash = sp_tensor_file_hash(model->denoiser->file);
    return sp_student_file_read(path, &out->student);
}

void sp_model_facts_free(sp_model_facts *facts)
{
    sp_free(facts->name);
    sp_free(facts->vae_name);
    sp_free(facts->loras);
    sp_free(facts->t5);
    for (size_t i = 0; i < facts->learned_count; i++)
        sp_free(facts->learned[i].name);
    sp_free(facts->learned);
    sp_student_file_free(&facts->student);
    *facts = (sp_model_facts){0};
}

/* ---- the texts ---- */

/* What A1111 calls this way of reading brackets, where there are any; NULL: there are none. Its own way divides by the
 * mean of all states, which sd_embed and others leave out. */
static const char *emphasis(const sp_picture_facts *f, const char *prompt, const char *negative)
{
    if (!strpbrk(prompt, "([") && !(negative && strpbrk(negative, "(["))) return NULL;
    return f->syntax == SP_PROMPT_WEIGHTED ? "No norm" : "None";
}

/* An eta that A1111 writes down: other than 0. */
static bool is_ddim_drawing(const sp_picture_facts *f)
{
    return f->sampler == SP_SAMPLER_DDIM && f->eta > 0;
}

static char *write_parameters(const sp_picture_facts *f, const char *prompt, const char *negative,
                              const char *hash)
{
    sp_string s = {0};
    prompt += strspn(prompt, " \t\r\n"); /* the text begins with its first word */
    if (*prompt) sp_string_append_format(&s, "%s\n", prompt);
    if (negative && *negative) sp_string_append_format(&s, "Negative prompt: %s\n", negative);
    /* sigmas are a part of the sampler's name for older readers, and a word of their own for newer */
    const char *sigmas = f->sigmas > SP_SIGMAS_NORMAL ? a1111_schedules[f->sigmas] : NULL, *type = schedule_type(f);
    sp_string_append_format(&s, "Steps: %d, Sampler: %s%s%s", f->steps, sp_sampler_label(f->sampler),
                            sigmas ? " " : "", sigmas ? sigmas : "");
    if (type) sp_string_append_format(&s, ", Schedule type: %s", type);
    char number[SP_NUMBER_TEXT];
    sp_string_append_format(&s, ", CFG scale: %s", sp_number_text(f->guidance, number));
    if (f->has_seed) sp_string_append_format(&s, ", Seed: %" PRIu64, f->seed);
    sp_string_append_format(&s, ", Size: %lldx%lld, Model hash: %.10s", (long long)f->width,
                            (long long)f->height, hash);
    append_entry(&s, "Model", f->model->name);
    if (f->model->vae_name) append_entry(&s, "VAE", f->model->vae_name);
    if (f->model->loras) append_entry(&s, "Merged LoRA", f->model->loras);
    if (f->strength > 0)
        sp_string_append_format(&s, ", Denoising strength: %s", sp_number_text(f->strength, number));
    if (is_ddim_drawing(f)) sp_string_append_format(&s, ", Eta DDIM: %s", sp_number_text(f->eta, number));
    if (f->clip_skip)
        sp_string_append_format(&s, ", Clip skip: %d", f->clip_skip + 1); /* they count from 1 */
    if (f->learned) append_entry(&s, "TI hashes", f->learned);
    if (emphasis(f, prompt, negative)) append_entry(&s, "Emphasis", emphasis(f, prompt, negative));
    if (f->has_seed && f->torch) sp_string_append_format(&s, ", RNG: CPU");
    sp_string_append_format(&s, ", Version: splam %s", SPLAM_VERSION);
    return take(&s);
}

/* As many as evaluations; NULL when out of memory. */
static json_t *timestep_list(const sp_sampler *table)
{
    json_t *list = json_array();
    for (int i = 0; i < table->count; i++)
        if (json_array_append_new(list, json_real(table->step[i].timestep))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *facts_object(const sp_picture_facts *f, const char *prompt, const char *negative,
                            const char *hash)
{
    const sp_model_facts *m = f->model;
    json_t *objective = json_object_get(m->student.json, "objective");
    json_t *o = json_object();
    int bad = json_object_set_new(o, "version", json_string(SPLAM_VERSION));
    bad |= json_object_set_new(o, "model", json_string(m->name));
    bad |= json_object_set_new(o, "model_hash", json_string(hash));
    bad |= json_object_set_new(
        o, "model_hash_of",
        json_string(
            "names, types, shapes, first 4096 bytes of the UNet's tensors; FNV-1a, 64 bits"));
    if (m->vae_name) bad |= json_object_set_new(o, "vae", json_string(m->vae_name));
    if (m->loras) bad |= json_object_set_new(o, "lora", json_string(m->loras));
    if (m->t5) bad |= json_object_set_new(o, "t5", json_string(m->t5));
    if (m->weights) bad |= json_object_set_new(o, "weights", json_string(m->weights));
    if (m->t5_absent) bad |= json_object_set_new(o, "t5_absent", json_integer(m->t5_absent));
    if (objective) bad |= json_object_set(o, "objective", objective);
    if (m->student.json) {
        json_t *distillation = json_copy((json_t *)(uintptr_t)m->student.json);
        json_object_del(distillation, "data"); /* a picture need not tell of the maker's folders */
        bad |= json_object_set_new(o, "distillation", distillation);
    }
    if (f->learned) bad |= json_object_set_new(o, "embeddings", json_string(f->learned));
    bad |= json_object_set_new(o, "prompt", json_string(prompt));
    if (f->syntax == SP_PROMPT_WEIGHTED) bad |= json_object_set_new(o, "prompt_syntax", json_string("weighted"));
    if (negative) bad |= json_object_set_new(o, "negative_prompt", json_string(negative));
    bad |= json_object_set_new(o, "sampler", json_string(sp_sampler_name(f->sampler)));
    if (f->sigmas) bad |= json_object_set_new(o, "sigmas", json_string(sp_sigmas_name(f->sigmas)));
    if (f->spacing) bad |= json_object_set_new(o, "spacing", json_string(sp_spacing_name(f->spacing)));
    bad |= json_object_set_new(o, "steps", json_integer(f->steps));
    bad |= json_object_set_new(o, "timesteps", timestep_list(f->table));
    if (f->sampler == SP_SAMPLER_TCD || is_ddim_drawing(f)) bad |= json_object_set_new(o, "eta", json_real(f->eta));
    bad |= json_object_set_new(o, "guidance", json_real(f->guidance));
    if (f->skip_layers.blocks) {
        const sp_skip_layers *skip = &f->skip_layers;
        bad |= json_object_set_new(o, "skip_layers",
                                   json_pack("{s:s, s:f, s:f, s:f}", "blocks", f->skipped, "scale", skip->scale,
                                             "start", skip->start, "stop", skip->stop));
    }
    if (f->strength > 0) {
        bad |= json_object_set_new(o, "init_image", json_string(f->init_image));
        bad |= json_object_set_new(o, "strength", json_real(f->strength));
    }
    if (f->has_seed) bad |= json_object_set_new(o, "seed", sp_json_seed(f->seed));
    bad |= json_object_set_new(o, "noise",
                               json_string(!f->has_seed ? "given"
                                           : f->torch   ? "torch"
                                                        : "philox"));
    bad |= json_object_set_new(o, "width", json_integer(f->width));
    bad |= json_object_set_new(o, "height", json_integer(f->height));
    if (f->vae_tile) bad |= json_object_set_new(o, "vae_tile", json_integer(f->vae_tile));
    bad |= json_object_set_new(o, "clip_skip", json_integer(f->clip_skip));
    bad |= json_object_set_new(o, "precision", json_string(f->precision == SP_BF16 ? "bf16" : "f32"));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

static char *write_json(const sp_picture_facts *f, const char *prompt, const char *negative,
                        const char *hash)
{
    json_t *object = facts_object(f, prompt, negative, hash);
    char *text = object ? sp_json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

sp_status sp_picture_texts(const sp_picture_facts *facts, char **parameters, char **json)
{
    char hash[17];
    char *prompt = well_formed(facts->prompt);
    char *negative = facts->negative ? well_formed(facts->negative) : NULL;
    char *image = facts->init_image ? well_formed(facts->init_image) : NULL;
    sp_picture_facts f = *facts;
    f.init_image = image;
    snprintf(hash, sizeof hash, "%016" PRIx64, facts->model->hash);
    bool ready = prompt && (negative || !facts->negative) && (image || !facts->init_image);
    *parameters = ready ? write_parameters(&f, prompt, negative, hash) : NULL;
    *json = ready ? write_json(&f, prompt, negative, hash) : NULL;
    sp_free(prompt);
    sp_free(negative);
    sp_free(image);
    if (*parameters && *json) return SP_OK;
    sp_free(*parameters);
    sp_free(*json);
    *parameters = *json = NULL;
    return sp_fail(SP_MEMORY, "out of memory for a picture's text");
}
