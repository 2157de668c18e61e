/* Pictures and captions of the caller's as a data set. */
#ifndef SPLAM_SOURCE_H
#define SPLAM_SOURCE_H
#include <splam/base.h>
#include <splam/generate.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A source is given a name, and "source:NAME" is a data set from then on, wherever one is named: splam_distill,
 * splam_train_vae, splam_train_teacher, splam_data, splam_eval. */
typedef struct {
    size_t size;   /* sizeof(splam_source), all that is not needed being NULL */
    void *context; /* handed to the calls below, and used until splam_source_remove returns */
    /* Pictures, numbered from 0. Asked once, when the data set is opened, as are captions. */
    int64_t (*count)(void *context);
    /* Caption `variant` of a picture, UTF-8, copied; NULL: there are no more. Variant 0 is asked for first, and a
     * picture without it is rejected, and counted. */
    const char *(*caption)(void *context, int64_t picture, int variant);
    /* Fills *out with pixels of any size, of which the square in the middle is taken, scaled to the resolution; they
     * stay until `release`. Called by several threads at once. False: this one cannot be had; another stands in for
     * it. */
    bool (*pixels)(void *context, int64_t picture, splam_picture *out);
    void (*release)(void *context, int64_t picture, splam_picture *pixels); /* may be NULL */
    /* True: never trained on, kept for tests; may be NULL: none is. */
    bool (*held_out)(void *context, int64_t picture);
} splam_source;

/* The struct is copied. SPLAM_ARGUMENT for a name that is taken, empty or longer than 63 bytes, and without count,
 * caption or pixels. Any thread. */
SPLAM_API splam_status splam_source_add(const char *name, const splam_source *source);
/* When no call uses it any more; unknown names are ignored. */
SPLAM_API void splam_source_remove(const char *name);

#ifdef __cplusplus
}
#endif
#endif
