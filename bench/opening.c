/* What a model takes before its first picture: seconds of opening it, and for each part of planning and of binding and
 * making what is made of weights; the memory of the process, where pages that several share (mapped files) count in
 * each of them whole as resident and in parts in Pss. With "wait" it holds the model until its standard
 * input ends, so that several can be looked at side by side.
 * Usage: opening MODEL [f32|bf16 [SIDE [wait]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/precision.h"
#include "backend/registry.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/system.h"
#include "pipeline/pipeline.h"

static void check(sp_status status)
{
    if (!status) return;
    fprintf(stderr, "%s\n", sp_error_message());
    exit(1);
}

static double since(double *began)
{
    double now = sp_now(), seconds = now - *began;
    *began = now;
    return seconds;
}

/* A line of /proc/self/smaps_rollup, in MB. */
static double memory(const char *key)
{
    char line[256];
    long kilobytes = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0) kilobytes = strtol(line + strlen(key), NULL, 10);
    if (file) fclose(file);
    return (double)kilobytes / 1e3;
}

int main(int argc, char **argv)
{
    sp_device *device = sp_default_device();
    splam_precision precision = argc > 2 && strcmp(argv[2], "f32") == 0 ? SPLAM_F32 : SPLAM_PRECISION_DEFAULT;
    int64_t side = argc > 3 ? atoi(argv[3]) : 512;
    const sp_model_options options = {.device = device, .precision = sp_precision_dtype(device, precision)};
    sp_pipeline *p;
    sp_plan_memory unused;
    if (argc < 2) return 2;
    double began = sp_now(), all = began, plan, make;
    check(sp_pipeline_open(argv[1], &options, &p));
    double open = since(&began);
    check(sp_pipeline_plan_text(p, 1, &unused));
    plan = since(&began);
    check(sp_pipeline_pack_text(p, 0, NULL));
    make = since(&began);
    const sp_conditioning conditioning = sp_pipeline_conditioning(p, 1);
    int64_t factor = p->vae->config.vae.factor, latent = side / factor;
    const sp_denoise_shape shape = {.batch = 1, .height = latent, .width = latent, .conditioning = &conditioning};
    check(sp_pipeline_plan_denoise(p, &shape, &unused));
    double unet_plan = since(&began);
    check(sp_pipeline_pack_denoise(p, &shape, NULL));
    double unet_make = since(&began);
    sp_shape z = sp_shape_of(1, p->facts.in_channels, latent, latent);
    check(sp_pipeline_plan_vae(p, SP_VAE_DECODE, z, &unused));
    double vae_plan = since(&began);
    check(sp_pipeline_pack_vae(p, SP_VAE_DECODE, z, NULL));
    double vae_make = since(&began);
    printf("open %.3f, plan %.3f %.3f %.3f, weights %.3f %.3f %.3f (text encoder, UNet, VAE decoder), all %.3f s; "
           "packed %lu weights, %.0f MB of them in memory; resident %.0f MB, Pss %.0f MB, private %.0f MB\n",
           open, plan, unet_plan, vae_plan, make, unet_make, vae_make, sp_now() - all, sp_packed_count(),
           (double)sp_packed_bytes() / 1e6, memory("Rss:"), memory("Pss:"), memory("Private_Dirty:"));
    fflush(stdout);
    if (argc > 4) while (getchar() != EOF) {}
    sp_pipeline_close(p);
    return 0;
}
