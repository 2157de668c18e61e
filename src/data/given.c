/* The program's own data sources, by name, and data sets of them. */
#include "data/given.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/text_file.h"
#include "data/picture.h"
#include "image/image.h"

/* ---- the sources ---- */

enum { NAME = 64 };

typedef struct given {
    struct given *next;
    char name[NAME];
    splam_source source;
} given;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static given *sources;

/* Under the lock: where the pointer to it is; to NULL if there is none. */
static given **place_of(const char *name)
{
    given **at = &sources;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static sp_status check(const char *name, const splam_source *source)
{
    if (!name || !*name || strlen(name) >= NAME)
        return sp_fail(SP_ARGUMENT, "a data source's name is missing, empty or longer than %d bytes", NAME - 1);
    const char *missing = !source->count     ? "count"
                          : !source->caption ? "caption"
                          : !source->pixels  ? "pixels"
                                             : NULL;
    return missing ? sp_fail(SP_ARGUMENT, "the data source \"%s\" has no %s", name, missing) : SP_OK;
}

sp_status sp_source_add(const char *name, const splam_source *source)
{
    SP_TRY(check(name, source));
    given *new = sp_alloc_zero(sizeof *new);
    if (!new) return SP_MEMORY;
    snprintf(new->name, sizeof new->name, "%s", name);
    new->source = *source;
    pthread_mutex_lock(&lock);
    given **at = place_of(name);
    bool taken = *at;
    if (!taken) *at = new;
    pthread_mutex_unlock(&lock);
    if (!taken) return SP_OK;
    sp_free(new);
    return sp_fail(SP_ARGUMENT, "there is a data source \"%s\" already", name);
}

void sp_source_remove(const char *name)
{
    pthread_mutex_lock(&lock);
    given **at = place_of(name), *found = *at;
    if (found) *at = found->next;
    pthread_mutex_unlock(&lock);
    sp_free(found);
}

static bool find(const char *name, splam_source *out)
{
    pthread_mutex_lock(&lock);
    const given *found = *place_of(name);
    if (found) *out = found->source;
    pthread_mutex_unlock(&lock);
    return found;
}

/* ---- a data set of one ---- */

/* A picture's number in the source; samples are those that have a caption. */
typedef struct {
    splam_source source;
    int64_t *picture; /* by sample */
} given_data;

static sp_status take_pixels(const sp_dataset *dataset, const char *name, const splam_picture *from, uint8_t *rgb)
{
    int side = dataset->options.resolution;
    if (!from->rgb || from->width < 1 || from->height < 1 || from->width > SP_IMAGE_MAX_SIDE ||
        from->height > SP_IMAGE_MAX_SIDE)
        return sp_fail(SP_FORMAT, "picture %s of data \"%s\" has %lld x %lld pixels%s", name, dataset->spec,
                       (long long)from->width, (long long)from->height, from->rgb ? "" : ", and they are missing");
    const sp_image image = {(int)from->width, (int)from->height, (uint8_t *)(uintptr_t)from->rgb};
    sp_image square = {0};
    sp_status status = sp_image_fit_square(&image, side, SP_FILTER_BILINEAR, NULL, &square);
    if (status == SP_OK) memcpy(rgb, square.pixels, (size_t)side * (size_t)side * 3);
    sp_image_free(&square);
    return status == SP_ARGUMENT ? SP_FORMAT : status;
}

static sp_status given_image(const sp_dataset *dataset, int64_t sample, uint8_t *rgb)
{
    const given_data *data = dataset->source;
    const splam_source *s = &data->source;
    const char *name = dataset->samples[sample].name;
    splam_picture pixels = {0};
    if (!s->pixels(s->context, data->picture[sample], &pixels))
        return sp_fail(SP_IO, "picture %s of data \"%s\" cannot be had", name, dataset->spec);
    sp_status status = take_pixels(dataset, name, &pixels, rgb);
    if (s->release) s->release(s->context, data->picture[sample], &pixels);
    return status;
}

static void given_close(void *source)
{
    given_data *data = source;
    sp_free(data->picture);
    sp_free(data);
}

static const sp_source_kind given_kind = {.image = given_image, .close = given_close};

static sp_status add_captions(const splam_source *s, int64_t picture, const char *name, sp_captions *out)
{
    const char *text;
    for (int i = 0; i < SP_MAX_CAPTIONS && (text = s->caption(s->context, picture, i)) != NULL; i++)
        SP_TRY(sp_captions_add(out, text, strlen(text), name));
    return SP_OK;
}

static sp_status add_picture(sp_dataset *dataset, int64_t picture)
{
    given_data *data = dataset->source;
    sp_captions captions = {0};
    char name[32];
    snprintf(name, sizeof name, "%lld", (long long)picture);
    sp_sample *sample = NULL;
    sp_status status = add_captions(&data->source, picture, name, &captions);
    if (status == SP_FORMAT) {
        sp_dataset_reject(dataset, "caption that is not UTF-8", name, NULL);
        status = SP_OK;
    } else if (!status && !captions.count) {
        sp_dataset_reject(dataset, "no caption", name, NULL);
    } else if (!status) {
        data->picture[dataset->count] = picture;
        status = sp_dataset_append(dataset, name, captions.count, &sample);
    }
    for (int i = 0; i < captions.count && sample && !status; i++)
        status = sp_sample_add_caption(dataset, sample, captions.text[i]);
    if (sample && data->source.held_out) sample->held_out = data->source.held_out(data->source.context, picture);
    sp_captions_free(&captions);
    return status;
}

sp_status sp_given_fill(sp_dataset *dataset, const void *context, const sp_callbacks *callbacks)
{
    given_data *data = sp_alloc_zero(sizeof *data);
    if (!data) return SP_MEMORY;
    dataset->source = data;
    dataset->kind = &given_kind;
    sp_picture_defaults(&dataset->options);
    if (!find(context, &data->source))
        return sp_fail(SP_ARGUMENT, "data \"%s\": there is no such source: splam_source_add gives one its name",
                       dataset->spec);
    int64_t count = data->source.count(data->source.context);
    if (count < 0 || count >= UINT32_MAX)
        return sp_fail(SP_ARGUMENT, "data \"%s\" says that it has %lld pictures", dataset->spec, (long long)count);
    data->picture = sp_alloc((size_t)(count + 1) * sizeof *data->picture);
    if (!data->picture) return SP_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        SP_TRY(sp_check_cancelled(callbacks));
        SP_TRY(add_picture(dataset, i));
    }
    return SP_OK;
}
