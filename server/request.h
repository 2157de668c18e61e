/* What a client asks to be drawn, read from JSON. */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H
#include <jansson.h>
#include <splam/splam.h>
#include "models.h"
#include "names.h"

/* Owned by its job. Texts of `options` are those of `body`, or constants. */
typedef struct {
    splam_generate_options options;
    json_t *body;
    size_t model;         /* its place in the list */
    sv_adapters adapters; /* merged into it */
    char *prompt;         /* without A1111's <lora:NAME:WEIGHT>; NULL: there were none */
    bool saves;           /* sdapi's save_images */
    char sampler[SV_SAMPLER_BYTES]; /* by A1111's name */
    uint8_t *image; /* the file to start from, as it came; NULL: none */
    size_t image_size;
    size_t batch;        /* it may be drawn with others, so many in all; 1: alone */
    int64_t rounds;      /* the pictures are drawn in so many calls, of equal numbers: sdapi's n_iter */
    double deadline;     /* seconds that it may take, waiting included; 0: any */
    bool without_images; /* sdapi's send_images is false */
    bool streams;        /* OpenAI's stream, with so many partial images */
    int64_t partial_images;
} sv_request;
void sv_request_free(sv_request *request); /* NULL is legal */
/* Whether the two may be drawn in one batch. */
bool sv_request_may_batch(const sv_request *a, const sv_request *b);

/* One field of an interface: what it is called, and which option of splam_generate it is. */
typedef struct sv_reading sv_reading;
typedef struct sv_field sv_field;
struct sv_field {
    const char *name;
    const char *option; /* of generate; NULL: none */
    /* Reads the value, which is never null. false: it is refused, as sv_refuse says. NULL: by the option's kind and
     * range, or by `neutral`. */
    bool (*read)(sv_reading *reading, const sv_field *field, const json_t *value);
    const char *original; /* JSON: what A1111 takes where nobody says; NULL: it is no field of A1111's */
    const char *neutral;  /* a list, JSON: the values that ask for nothing, where a field means nothing else here, so
                             that others are refused. "*": all of them do; NULL: it does mean something */
};
#define SV_COUNT_OF(list) (sizeof(list) / sizeof *(list))

/* An interface: its fields, and what becomes of those that it does not have. */
typedef struct sv_interface {
    struct {
        const sv_field *item;
        size_t count;
    } fields[2];     /* its own, and those that it shares */
    bool strict;     /* an unknown field is refused; else it is ignored, as the original does */
    int refusal;     /* the HTTP status of a refused request */
    const char *prompt;         /* where none is given; NULL: one is required */
    splam_prompt_syntax syntax; /* where none is given */
    bool (*complete)(sv_reading *reading); /* after all fields, as a field's `read`; may be NULL */
} sv_interface;
/* All fields, one after the other; NULL: there are no more. */
const sv_field *sv_field_at(const sv_interface *interface, size_t i);

struct sv_reading {
    const sv_interface *interface;
    sv_models *models;
    bool may_save; /* the server has a folder for pictures */
    sv_request *request;
    bool stretches;       /* sdapi's resize_mode 0 */
    const sv_scheduler_name *scheduler; /* sdapi's; NULL: none is given */
    int code;             /* of the refusal */
    const char *field;    /* that is refused; NULL: the request as a whole */
    char message[1024];
};

/* Reads a whole body, which becomes the request's. NULL: `reading` has code, field and message. */
sv_request *sv_request_read(sv_reading *reading, json_t *body);

/* ---- for the interfaces ---- */

/* The option of splam_generate of that name; NULL: there is none. */
const splam_option *sv_find_option(const char *name);
/* Is false. */
#define sv_refuse(...) (sv_note_refusal(__VA_ARGS__), false)
void sv_note_refusal(sv_reading *reading, int code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The place of a text among "a|b|c"; -1: it is none of them. */
int sv_place_of(const char *choices, const char *text);
/* The value as the option of that name takes it. */
bool sv_read_option(sv_reading *reading, const char *field, const char *option, const json_t *value);
/* The value as the field takes it. */
bool sv_read_field(sv_reading *reading, const sv_field *field, const json_t *value);
/* For `read`: seconds until the request is given up. */
bool sv_read_deadline(sv_reading *reading, const sv_field *field, const json_t *value);
/* For `read`: the name of a model of the list. */
bool sv_read_model(sv_reading *reading, const sv_field *field, const json_t *value);
/* Adds an adapter of the list. */
bool sv_read_adapter(sv_reading *reading, const char *field, const char *name, double weight);
/* For `read`: a list of {"name", "weight"}. */
bool sv_read_adapters(sv_reading *reading, const sv_field *field, const json_t *value);
/* For `read`: a prompt in which <lora:NAME:WEIGHT> adds an adapter, and is no part of the text. */
bool sv_read_tagged_prompt(sv_reading *reading, const sv_field *field, const json_t *value);
/* For `read`: a picture to start from, in base64. */
bool sv_read_image(sv_reading *reading, const sv_field *field, const json_t *value);

/* The interfaces: /v1/jobs, /sdapi/v1/txt2img and img2img, /v1/images/generations. */
extern const sv_interface sv_own_interface, sv_txt2img_interface, sv_img2img_interface, sv_openai_interface;

/* The library's sentence about a request in the interface's words: members in `backquotes` become its fields. */
void sv_translate(const sv_interface *interface, const char *message, char *out, size_t size);

#endif
