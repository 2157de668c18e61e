/* Distils a student and shows how far it is: distill TEACHER OUTPUT [STEPS]. The pictures are the program's own,
 * coloured squares drawn when they are asked for. */
#include <splam/splam.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the data ---- */

enum { SIDE = 64, PICTURES = 24 };

static const struct {
    const char *caption;
    uint8_t rgb[3];
} colours[] = {{"red square", {220, 30, 30}}, {"green square", {30, 160, 60}}, {"blue square", {40, 60, 220}}};

static int64_t how_many(void *context)
{
    (void)context;
    return PICTURES;
}

static const char *caption_of(void *context, int64_t picture, int variant)
{
    (void)context;
    return variant == 0 ? colours[picture % 3].caption : NULL;
}

/* Asked for by several threads at once, so each picture has memory of its own. */
static bool draw(void *context, int64_t picture, splam_picture *out)
{
    (void)context;
    uint8_t *rgb = malloc(SIDE * SIDE * 3);
    int from = (int)(picture / 3) + 4;
    for (int i = 0; rgb && i < SIDE * SIDE; i++) {
        int x = i % SIDE, y = i / SIDE;
        bool inside = x >= from && y >= from && x < from + 40 && y < from + 40;
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = inside ? colours[picture % 3].rgb[c] : 255;
    }
    *out = (splam_picture){.width = SIDE, .height = SIDE, .rgb = rgb};
    return rgb;
}

static void give_back(void *context, int64_t picture, splam_picture *pixels)
{
    (void)context;
    (void)picture;
    free((void *)(uintptr_t)pixels->rgb);
}

/* ---- the training ---- */

typedef struct {
    int64_t steps; /* the last that was told */
} progress;

static void show(void *context, const char *task, int64_t done, int64_t total, const char *detail)
{
    progress *p = context;
    p->steps = done;
    printf("%s: %lld of %lld%s%s\n", task, (long long)done, (long long)total, detail ? ", " : "", detail ? detail : "");
}

/* What the library has to say goes where the program wants it. */
static void note(void *context, splam_log_level level, const char *text)
{
    (void)context;
    printf("[%s] %s\n", level == SPLAM_LOG_WARN ? "warning" : "note", text);
}

int main(int count, char **arguments)
{
    const splam_source squares = {
        .size = sizeof squares, .count = how_many, .caption = caption_of, .pixels = draw, .release = give_back};
    progress at = {0};
    const splam_callbacks callbacks = {.context = &at, .report = show};
    splam_distill_options options = splam_distill_defaults();
    if (count < 3) return 2;
    splam_set_log(note, NULL);
    splam_status status = splam_source_add("squares", &squares);
    options.teacher = arguments[1];
    options.output = arguments[2];
    options.data = "source:squares";
    options.pictures.resolution = SIDE;
    options.max_train_steps = count > 3 ? atoi(arguments[3]) : 100;
    options.train_batch_size = 4;
    if (!status) status = splam_distill(&options, &callbacks);
    if (status) fprintf(stderr, "%s: %s\n", splam_status_text(status), splam_error_message());
    splam_source_remove("squares");
    return status ? 1 : 0;
}
