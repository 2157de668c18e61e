/* A data set of the program's own, looked at as splam data does: own_data SHEET.png. Here the pictures are made up;
 * they could come from a database or a camera. */
#include <splam/splam.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 48, HEIGHT = 32, PICTURES = 6 };

/* All pictures at once, for the whole life of the source: nothing to release. */
typedef struct {
    uint8_t rgb[PICTURES][HEIGHT][WIDTH][3];
} album;

static int64_t how_many(void *context)
{
    (void)context;
    return PICTURES;
}

static const char *caption_of(void *context, int64_t picture, int variant)
{
    static const char *const first[PICTURES] = {"dawn", "morning", "noon", "afternoon", "dusk", NULL};
    (void)context;
    if (variant == 1 && picture == 2) return "the middle of the day";
    return variant == 0 ? first[picture] : NULL; /* the last has none, and is rejected */
}

static bool pixels_of(void *context, int64_t picture, splam_picture *out)
{
    const album *a = context;
    *out = (splam_picture){.width = WIDTH, .height = HEIGHT, .rgb = &a->rgb[picture][0][0][0]};
    return true;
}

static void fill(album *a)
{
    for (int p = 0; p < PICTURES; p++)
        memset(a->rgb[p], 40 * (p + 1), sizeof a->rgb[p]);
}

int main(int count, char **arguments)
{
    static album pictures;
    const splam_source source = {.size = sizeof source,
                                 .context = &pictures,
                                 .count = how_many,
                                 .caption = caption_of,
                                 .pixels = pixels_of};
    char *summary = NULL;
    if (count != 2) return 2;
    fill(&pictures);
    splam_status status = splam_source_add("album", &source);
    splam_data_options options = splam_data_defaults();
    options.spec = "source:album";
    options.pictures.resolution = 32;
    options.sheet = arguments[1];
    options.count = PICTURES;
    if (!status) status = splam_data(&options, NULL, &summary);
    if (status)
        fprintf(stderr, "%s: %s\n", splam_status_text(status), splam_error_message());
    else
        printf("%s", summary);
    splam_free(summary);
    splam_source_remove("album");
    return status ? 1 : 0;
}
