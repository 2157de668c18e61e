/* Holds a model and draws ten pictures: draw_ten MODEL OUTPUT.ppm. Compiles as C and as C++. */
#include <splam/splam.h>
#include <stdio.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The first picture of the set as a file that every viewer opens. */
static bool save(const char *path, const splam_pictures *pictures)
{
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    size_t bytes = (size_t)(pictures->width * pictures->height * 3);
    fprintf(file, "P6\n%lld %lld\n255\n", (long long)pictures->width, (long long)pictures->height);
    bool written = fwrite(pictures->rgb, 1, bytes, file) == bytes;
    return fclose(file) == 0 && written;
}

static splam_status draw(splam_session *session, int number, const char *path)
{
    static const char *const prompts[] = {"red apple", "blue car", "yellow star", "green tree", "cat face"};
    splam_generate_options options = splam_generate_defaults();
    splam_pictures pictures;
    double began = now();
    options.prompt = prompts[number % 5];
    options.steps = 4;
    options.seed = (uint64_t)number;
    splam_status status = splam_session_generate(session, &options, NULL, &pictures);
    if (status) return status;
    printf("picture %d, %s: %.3f s\n", number, prompts[number % 5], now() - began);
    if (number == 9 && !save(path, &pictures)) fprintf(stderr, "%s could not be written\n", path);
    splam_pictures_free(&pictures);
    return SPLAM_OK;
}

int main(int count, char **arguments)
{
    splam_model *model = NULL;
    splam_session *session = NULL;
    if (count != 3) return 2;
    splam_status status = splam_model_open(arguments[1], NULL, NULL, &model);
    if (!status) status = splam_session_create(model, NULL, &session);
    for (int i = 0; i < 10 && !status; i++)
        status = draw(session, i, arguments[2]);
    if (status) fprintf(stderr, "%s: %s\n", splam_status_text(status), splam_error_message());
    splam_session_destroy(session);
    splam_model_close(model);
    return status ? 1 : 0;
}
