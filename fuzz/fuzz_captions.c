/* What says which pictures there are and what they show: metadata.jsonl, metadata.csv, files beside a picture, COCO's
 * annotations, lists of prompts; "=== NAME" a line begins a file (fuzz/input_folder.c). a.png and b.png are there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "eval/caption_lines.h"
#include "eval/prompt_list.h"
#include "image/image.h"
#include "fuzz/fuzz.h"

static const char *const names[] = {"metadata.jsonl", "metadata.csv", "a.txt", "a.json", "b.caption", "coco.json",
                                    "lines.txt", NULL};
enum { SIDE = 16 };

static void write_pictures(void)
{
    static bool written;
    sp_image image;
    uint8_t *png;
    size_t size;
    if (written) return;
    if (sp_image_create(SIDE, SIDE, &image) || sp_image_encode_png(&image, NULL, 0, &png, &size)) abort();
    memset(image.pixels, 90, SIDE * SIDE * 3);
    fuzz_write("a.png", png, size);
    fuzz_write("b.png", png, size);
    sp_free(png);
    sp_image_free(&image);
    written = true;
}

static void read_set(const char *spec, const char *column)
{
    const sp_dataset_options options = {.resolution = SIDE, .min_size = 1, .caption_column = column,
                                        .min_similarity = column ? 0.1 : 0};
    sp_dataset *dataset;
    if (sp_dataset_open(spec, &options, NULL, &dataset) != SP_OK) return;
    for (int64_t i = 0; i < sp_dataset_count(dataset); i++)
        for (int k = 0; k < sp_dataset_caption_count(dataset, i); k++)
            (void)strlen(sp_dataset_caption(dataset, i, k));
    sp_dataset_close(dataset);
}

static void read_lists(void)
{
    sp_prompt_list prompts;
    sp_caption_lines lines;
    if (sp_prompt_list_load(fuzz_path("coco.json"), &prompts) == SP_OK) sp_prompt_list_free(&prompts);
    if (sp_caption_lines_load(fuzz_path("lines.txt"), &lines) == SP_OK) sp_caption_lines_free(&lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char spec[256];
    const char *folder = fuzz_folder(data, size, names);
    write_pictures();
    snprintf(spec, sizeof spec, "folder:%s", folder);
    read_set(spec, NULL);
    read_set(spec, "text");
    if (!sp_path_exists(fuzz_path("coco.json")) && !sp_path_exists(fuzz_path("lines.txt"))) return 0;
    snprintf(spec, sizeof spec, "coco:%s/coco.json,%s", folder, folder);
    read_set(spec, NULL);
    read_lists();
    return 0;
}
