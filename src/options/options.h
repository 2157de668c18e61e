/* The options of all verbs, declared once: one table and one file per verb. */
#ifndef SP_OPTIONS_OPTIONS_H
#define SP_OPTIONS_OPTIONS_H
#include <splam/generate.h>
#include <splam/options.h>
#include "base/status.h"
#include "options/choices.h"

/* The verbs with options, and what opens models and sessions: X(verb). Each has its table, in VERB.c, and its struct
 * splam_VERB_options. */
#define SP_VERB_LIST(X)                                                                                          \
    X(generate) X(model) X(session) X(distill) X(eval) X(train) X(convert) X(data) X(forward) X(inspect)         \
    X(score) X(bench) X(tokenize) X(demo)

typedef struct {
    const char *verb;
    size_t size; /* of its struct */
    const splam_option *options;
    size_t count;
} sp_verb;
#define X(verb) extern const sp_verb sp_verb_##verb;
SP_VERB_LIST(X)
#undef X

/* What a public call does first. copy: `own`, a whole struct, gets the members of `given`, which may be of an earlier
 * or a later library, and defaults for the rest. check: what the table says of each. take: both. */
sp_status sp_options_copy(const sp_verb *verb, const void *given, void *own);
sp_status sp_options_check(const sp_verb *verb, const void *own);
sp_status sp_options_take(const sp_verb *verb, const void *given, void *own);

/* The same for a struct that is no options but begins with its size, `what`: members that are not given are 0. */
sp_status sp_sized_take(const char *what, const void *given, void *own, size_t own_size);

/* Members of `own`, of options of `verb`, become those of `given`, of options of `from`, where both have one of this
 * name and kind. For what one verb hands to another. */
void sp_options_share(const sp_verb *from, const void *given, const sp_verb *verb, void *own);

/* Whether two structs of the verb's options say the same, but for the options that are called by `except`. Lists are
 * the same where they are one. */
bool sp_options_same(const sp_verb *verb, const void *a, const void *b, const char *const *except, size_t excepted);

/* See splam_generate_may_batch. */
bool sp_may_batch(const splam_generate_options *a, const splam_generate_options *b);

/* Whether a member of a verb's struct says anything but its default. */
bool sp_option_is_given(const splam_option *option, const void *options);

/* The option of that name; NULL: there is none. */
const splam_option *sp_option_find(const sp_verb *verb, const char *name);

/* The place of a text among "a|b|c"; -1: it is none of them. */
int sp_choice_index(const char *choices, const char *text);

/* ---- for the tables: OPTIONS is the struct ---- */

#define SP_MEMBER(member) .name = #member, .offset = offsetof(OPTIONS, member)
#define SP_FLAG(member) SP_MEMBER(member), .kind = SPLAM_OPTION_FLAG
#define SP_TEXT(member) SP_MEMBER(member), .kind = SPLAM_OPTION_TEXT
#define SP_CHOICE(member, texts, default) \
    SP_MEMBER(member), .kind = SPLAM_OPTION_CHOICE, .choices = texts, .preset_text = default
#define SP_ENUM(member, texts, default) \
    SP_MEMBER(member), .kind = SPLAM_OPTION_ENUM, .choices = texts, .preset = default
#define SP_INTEGER(member, least, most, default) \
    SP_MEMBER(member), .kind = SPLAM_OPTION_INTEGER, .low = least, .high = most, .preset = (double)(default)
/* The forms of an average of weights: "X", "power:SIGMA_REL", "half-life:SAMPLES" (train/average.h). */
#define SP_AVERAGE(member, default)                                                                              \
    SP_TEXT(member), .preset_text = default, .high = 1, .argument = "X|power:S|half-life:N"
#define SP_SPAN(member, end, least, most)                                                                        \
    SP_MEMBER(member), .beside = offsetof(OPTIONS, end), .kind = SPLAM_OPTION_SPAN, .low = least, .high = most,  \
                       .preset = (double)SPLAM_UNSET
#define SP_NUMBER(member, least, most, default) \
    SP_MEMBER(member), .kind = SPLAM_OPTION_NUMBER, .low = least, .high = most, .preset = (double)(default)
#define SP_BYTES(member)                                                                                               \
    SP_MEMBER(member), .kind = SPLAM_OPTION_BYTES, .low = 1, .high = 9e15, .preset = (double)SPLAM_UNSET
#define SP_SEED(member) SP_MEMBER(member), .kind = SPLAM_OPTION_SEED, .letter = 's', .argument = "S"
#define SP_LIST(member, how_many, list_kind) SP_MEMBER(member), .beside = offsetof(OPTIONS, how_many), .kind = list_kind
#define SP_TABLE(name)                                                                                            \
    const sp_verb sp_verb_##name = {#name, sizeof(OPTIONS), options, sizeof options / sizeof *options}

#define SP_PRECISION_OPTION SP_PRECISION_OPTION_UNDER(NULL)
#define SP_PRECISION_OPTION_UNDER(title)                                                                          \
    {SP_ENUM(precision, "auto|f32|bf16", SPLAM_PRECISION_DEFAULT), .heading = title,                              \
     .help = "of products and activations; weights of 16 bits stay so",                                           \
     .otherwise = "auto: bf16 where the processor has it"}
#define SP_WEIGHTS_OPTION                                                                                         \
    {SP_CHOICE(weights, "stored|q8", NULL), .heading = "Computing",                                               \
     .help = "how weights are held in memory: in the file's type, or those of linear layers and 1x1 convolutions " \
             "in 8 bits with a scale for each 32 (Q8_0), which takes half of what 16 bits do",                    \
     .otherwise = "stored"}
#define SP_MIXED_PRECISION_OPTION                                                                                 \
    {SP_ENUM(precision, "auto|no|bf16", SPLAM_PRECISION_DEFAULT), .flag = "mixed-precision",                      \
     .heading = "Computing",                                                                                      \
     .help = "products and activations; weights of 16 bits stay so",                                              \
     .otherwise = "auto: bf16 where the processor has it"}
#define SP_DEVICE_OPTION SP_DEVICE_OPTION_UNDER(NULL)
#define SP_DEVICE_OPTION_UNDER(title)                                                                             \
    {SP_TEXT(device), .argument = "DEVICE", .heading = title, .help = "to compute with", .otherwise = "cpu"}
#define SP_MODEL_OPTION SP_MODEL_OPTION_UNDER(NULL)
#define SP_MODEL_OPTION_UNDER(title)                                                                              \
    {SP_TEXT(model), .letter = 'm', .argument = "MODEL", .required = true, .heading = title,                      \
     .help = "a diffusers folder, or a .safetensors or .ckpt file"}
#define SP_PREDICTION_OPTION                                                                                      \
    {SP_CHOICE(prediction_type, SP_CHOICES(SP_PREDICTION_TYPE_LIST), NULL),                                       \
     .help = "what the UNet predicts, whatever the model says; sample is the clean latent, as SDXL Lightning's "  \
             "model for one step does",                                                                           \
     .otherwise = "what it says"}
/* What of a model is chosen: OPTIONS's members unet, prediction_type, vae, loras, lora_count, embeddings,
 * embedding_count, t5, t5_absent, precision, device. */
/* The third text encoder, or what stands for it: OPTIONS's members t5, t5_absent. */
#define SP_T5_OPTIONS                                                                                             \
    {SP_CHOICE(t5_absent, "256|77", NULL),                                                                        \
     .help = "Stable Diffusion 3: tokens of zeros that stand for the third text encoder's; 256 as in diffusers, 77 "  \
             "as in ComfyUI and stable-diffusion.cpp, which takes less time",                                     \
     .otherwise = "what a student's splam.json says, or 256"},                                                    \
    {SP_TEXT(t5), .argument = "PATH",                                                                             \
     .help = "instead: encode prompts with T5 too: a model's folder with text_encoder_3 and tokenizer_3, or a " \
             "file of T5's weights, with tokenizer.json beside it or in the model's tokenizer_3",                 \
     .otherwise = "zeros stand for it"}
#define SP_BASE_OPTION                                                                                            \
    {SP_TEXT(base), .argument = "PATH", .heading = "The model's parts",                                           \
     .help = "take all but the UNet or transformer from this model, a folder or a checkpoint of one file; the " \
             "model itself may be one alone",                                                                      \
     .otherwise = "the model is whole"}
#define SP_MODEL_PART_OPTIONS                                                                                     \
    SP_BASE_OPTION,                                                                                               \
    {SP_TEXT(unet), .argument = "NAME",                                                                           \
     .help = "the UNet's folder; unet_ema (transformer_ema) is a student's average", .otherwise = "unet"},        \
    SP_PREDICTION_OPTION,                                                                                         \
    {SP_TEXT(vae), .argument = "PATH",                                                                            \
     .help = "another autoencoder, AutoencoderKL or AutoencoderTiny (TAESD): its folder or its file, or a model " \
             "with one",                                                                                          \
     .otherwise = "the model's own"},                                                                             \
    {SP_LIST(loras, lora_count, SPLAM_OPTION_LORAS), .flag = "lora", .argument = "PATH[:WEIGHT]...",              \
     .help = "low-rank adapters (a file or its folder; names of diffusers, PEFT, kohya, ComfyUI), merged into "   \
             "UNet and text encoder as they are loaded; WEIGHT is 1 where none is given"},                        \
    {SP_LIST(embeddings, embedding_count, SPLAM_OPTION_EMBEDDINGS), .flag = "embedding",                          \
     .argument = "FILE[:TOKEN]...",                                                                               \
     .help = "learned tokens for prompts (textual inversion): A1111's .pt, diffusers' .bin and .safetensors; "    \
             "TOKEN is what the file calls it where none is given, or else the file's name"},                     \
    SP_T5_OPTIONS,                                                                                                \
    SP_WEIGHTS_OPTION,                                                                                            \
    SP_PRECISION_OPTION,                                                                                          \
    SP_DEVICE_OPTION
#define SP_RESUME_OPTION                                                                                          \
    {SP_TEXT(resume), .argument = "latest|DIR",                                                                   \
     .help = "go on from the newest checkpoint in the output, or from this one"}
/* Where captions stand. */
#define SP_CAPTION_COLUMN_HELP                                                                                    \
    .argument = "NAME",                                                                                           \
    .help = "take captions from this key of a picture's json, of metadata.jsonl or of COCO's annotations, or this " \
            "column of metadata.csv, and from nowhere else",                                                      \
    .otherwise = "a .txt or .caption, else text, caption, prompt or additional_feature"
/* The names of data sets, where pictures are wanted. */
#define SP_DATA_SETS "emoji:, emoji:kinds, folder:DIR, wds:SHARDS.tar or coco:FILE.json,DIR"

/* How pictures are scored, of two verbs: OPTIONS's members of these names. */
#define SP_SCORING_OPTIONS                                                                                       \
    {SP_TEXT(inception), .argument = "FILE", .heading = "Measures",                                              \
     .help = "Inception's weights: pt_inception-2015-12-05-6726825d.pth, as pytorch-fid and torch-fidelity fetch " \
             "it, or inception-2015-12-05.pt, clean-fid's, or their tensors as safetensors"},                    \
    {SP_TEXT(clip), .argument = "PATH",                                                                          \
     .help = "CLIP, for clip, aesthetic and cmmd: a file of open_clip or OpenAI, or a folder as transformers or " \
             "open_clip have it, or of a Hugging Face cache"},                                                   \
    {SP_TEXT(clip_activation), .argument = "NAME", .otherwise = "what the configuration beside it says",         \
     .help = "its activation, quick_gelu (OpenAI, MetaCLIP, DFN) or gelu (LAION, DataComp)"},                    \
    {SP_TEXT(clip_prefix), .argument = "TEXT", .otherwise = "nothing",                                           \
     .help = "put before each caption; GigaGAN's and DMD2's figures have \"A photo depicts \""},                 \
    {SP_TEXT(aesthetic), .argument = "FILE",                                                                     \
     .help = "LAION's head, for aesthetic: sac+logos+ava1-l14-linearMSE.pth, with OpenAI's ViT-L/14 as --clip"}, \
    {SP_TEXT(pickscore), .argument = "PATH",                                                                     \
     .help = "for pickscore: the folder of yuvalkirstain/PickScore_v1, or of a Hugging Face cache"},             \
    {SP_TEXT(hps), .argument = "FILE",                                                                           \
     .help = "for hps: HPS_v2.1_compressed.pt or HPS_v2_compressed.pt"},                                         \
    {SP_TEXT(dino), .argument = "PATH",                                                                          \
     .help = "DINOv2, for fd: dinov2_vitl14_pretrain.pth, or a folder as transformers has it"},                  \
    {SP_INTEGER(kid_subsets, 1, 1e6, 100), .argument = "N", .help = "subsets that kid is the mean over"},        \
    {SP_INTEGER(kid_subset_size, 2, 1e6, SPLAM_UNSET), .argument = "N", .help = "pictures of each of them",      \
     .otherwise = "1000, or all there are"},                                                                     \
    {SP_INTEGER(kid_seed, 0, 4294967295.0, 2020), .argument = "S",                                               \
     .help = "of their draw, as of numpy's RandomState"},                                                        \
    {SP_INTEGER(nearest_k, 1, 1000, 5), .argument = "K", .help = "neighbours that prdc's radii reach to"},       \
    {SP_INTEGER(bootstrap, 10, 1e6, SPLAM_UNSET), .argument = "N", .otherwise = "no intervals",                  \
     .help = "give fid, fd, prdc, clip, aesthetic, pickscore and hps intervals of 95 %: means by N resamples, fid " \
             "and fd, whatever N, by what each picture moves them by"}
/* Which pictures of a set are taken and how they are cut: OPTIONS's member `pictures`. */
#define SP_PICTURE_OPTIONS                                                                                        \
    {SP_INTEGER(pictures.resolution, 8, 4096, SPLAM_UNSET), .argument = "N", .heading = "Pictures",               \
     .help = "side of the pictures in pixels", .otherwise = "emoji 64, else 512"},                                \
    {SP_INTEGER(pictures.min_size, 1, 32768, SPLAM_UNSET), .argument = "N",                                       \
     .help = "reject pictures with a shorter side: width and height, or original_width and original_height, of the " \
             "json, or else of the picture",                                                                      \
     .otherwise = "half the resolution"},                                                                         \
    {SP_NUMBER(pictures.min_aesthetic, 1e-9, 1e9, SPLAM_UNSET), .argument = "X",                                  \
     .help = "reject lower scores, and pictures without one: aesthetic, aesthetic_score or "                      \
             "aesthetic_score_laion_v2 of the json, in either case; so with the next two"},                       \
    {SP_NUMBER(pictures.max_watermark, 1e-9, 1, SPLAM_UNSET), .argument = "X",                                       \
     .help = "reject higher probabilities: pwatermark, watermark or watermark_score"},                            \
    {SP_NUMBER(pictures.min_similarity, 1e-9, 1, SPLAM_UNSET), .argument = "X",                                     \
     .help = "reject lower ones: similarity, clip_similarity_vitb32 or clip_similarity_vitl14"},                  \
    {SP_TEXT(pictures.caption_column), SP_CAPTION_COLUMN_HELP},                                                   \
    {SP_FLAG(pictures.random_crop), .help = "cut each picture's square at a place drawn from the seed"},          \
    {SP_FLAG(pictures.random_flip), .help = "mirror half of the pictures, drawn anew in every epoch"}

#endif
