/* Starts from a picture in memory, and ends with one: image_to_image MODEL. Nothing touches a file but the model. */
#include <splam/splam.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 64 };

/* A red disc on white. */
static void paint(uint8_t *rgb)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int dx = x - SIDE / 2, dy = y - SIDE / 2;
            bool inside = dx * dx + dy * dy < SIDE * SIDE / 9;
            uint8_t *pixel = rgb + 3 * (y * SIDE + x);
            pixel[0] = inside ? 200 : 255;
            pixel[1] = pixel[2] = inside ? 20 : 255;
        }
}

static double mean_difference(const uint8_t *a, const uint8_t *b)
{
    double sum = 0;
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        sum += abs(a[i] - b[i]);
    return sum / (SIDE * SIDE * 3);
}

/* The more strength, the further from where it began. */
static splam_status redraw(splam_session *session, const splam_picture *start, double strength, double *away)
{
    splam_generate_options options = splam_generate_defaults();
    options.prompt = "red apple";
    options.steps = 8;
    options.guidance = 3; /* with more, a little strength is enough for an apple */
    options.init_pixels = start;
    options.strength = strength;
    splam_pictures pictures;
    splam_status status = splam_session_generate(session, &options, NULL, &pictures);
    if (status) return status;
    *away = mean_difference(start->rgb, pictures.rgb);
    printf("strength %.2f: %lldx%lld, %.1f of 255 away\n", strength, (long long)pictures.width,
           (long long)pictures.height, *away);
    splam_pictures_free(&pictures);
    return SPLAM_OK;
}

int main(int count, char **arguments)
{
    static uint8_t rgb[SIDE * SIDE * 3];
    const splam_picture start = {.width = SIDE, .height = SIDE, .rgb = rgb};
    splam_model *model = NULL;
    splam_session *session = NULL;
    double little = 0, much = 0;
    if (count != 2) return 2;
    paint(rgb);
    splam_status status = splam_model_open(arguments[1], NULL, NULL, &model);
    if (!status) status = splam_session_create(model, NULL, &session);
    if (!status) status = redraw(session, &start, 0.25, &little);
    if (!status) status = redraw(session, &start, 0.9, &much);
    if (status) fprintf(stderr, "%s: %s\n", splam_status_text(status), splam_error_message());
    splam_session_destroy(session);
    splam_model_close(model);
    return status || little >= much;
}
