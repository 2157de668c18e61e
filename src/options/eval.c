/* The options of measuring models. */
#include <splam/eval.h>
#include "options/options.h"

#define OPTIONS splam_eval_options
static const splam_option options[] = {
    {SP_LIST(models, model_count, SPLAM_OPTION_TEXTS), .flag = "model", .letter = 'm', .argument = "DIR...",
     .required = true, .heading = "What is measured",
     .help = "model folders to measure"},
    {SP_TEXT(unet), .preset_text = "unet", .argument = "NAME",
     .help = "the UNet's folder in every model; unet_ema (transformer_ema) is a student's average"},
    {SP_TEXT(teacher), .argument = "MODEL",
     .help = "the teacher, for trajectory-error and frechet-teacher; gets a row of its own"},
    SP_T5_OPTIONS,
    {SP_TEXT(output), .argument = "DIR", .required = true,
     .help = "folder for the report, and for pictures, with which a later call goes on"},
    {SP_TEXT(data), .argument = "SPEC", .heading = "Captions",
     .help = "pictures and captions: " SP_DATA_SETS "; or --captions"},
    {SP_TEXT(captions), .argument = "FILE",
     .help = "captions alone, in their order: a line each, or COCO's annotations, of which the first of each picture "
             "is taken"},
    {SP_TEXT(caption_column), SP_CAPTION_COLUMN_HELP},
    {SP_INTEGER(count, 2, 1e6, SPLAM_UNSET), .argument = "N",
     .help = "captions to draw; of --data one in four held out, if there are so many",
     .otherwise = "128, or all there are; of --captions all"},
    {SP_SEED(seed), .help = "of the choice of captions; caption i has the noise of S + i"},
    {SP_LIST(steps, step_count, SPLAM_OPTION_INTEGERS), .argument = "LIST", .low = 1, .high = 1000,
     .heading = "Sampling",
     .help = "numbers of steps, with commas", .otherwise = "1,2,4"},
    {SP_CHOICE(sampler, SP_CHOICES(SP_SAMPLER_LIST), NULL),
     .help = "for every model; tcd with eta 0.3",
     .otherwise = "a student's own, else that of the model's scheduler, for DDIM, PNDM and DDPM dpm++2m"},
    {SP_NUMBER(guidance_scale_w, 0, 1000, SPLAM_UNSET), .argument = "W",
     .help = "CFG scale minus 1 of the teacher and of models that are no students",
     .otherwise = "what a student's splam.json says"},
    {SP_INTEGER(resolution, 8, 4096, SPLAM_UNSET), .argument = "PIXELS", .help = "side of the pictures",
     .otherwise = "what the first model was trained for"},
    {SP_TEXT(metrics), .argument = "LIST", .otherwise = "the first six; without --teacher those that need none",
     .heading = "Measures",
     .help = "of trajectory-error, frechet, frechet-teacher, kernel, precision-recall, hit, and those of `splam "
             "score`: fid, kid, prdc, clip and so on; with commas"},
    {SP_CHOICE(protocol, SP_CHOICES(SP_PROTOCOL_LIST), NULL),
     .help = "measure as others do, by one name: what captions, crop, resize, number of pictures and metrics are where "
             "nothing else is said; its results stand beside published ones in report.html"},
    {SP_TEXT(real), .argument = "SPEC",
     .help = "pictures that fid and the like compare with, as the B of `splam score`: a folder, a data set, or "
             "statistics",
     .otherwise = "those of --data"},
    {SP_CHOICE(convention, SP_CHOICES(SP_CONVENTION_LIST), NULL), .otherwise = "clean",
     .help = "how pictures are resized and scaled for Inception, as in `splam score`"},
    {SP_CHOICE(transform, SP_CHOICES(SP_TRANSFORM_LIST), NULL), .otherwise = "none",
     .help = "before that, as in `splam score`"},
    SP_SCORING_OPTIONS,
    SP_WEIGHTS_OPTION,
    SP_PRECISION_OPTION,
    SP_DEVICE_OPTION,
};
SP_TABLE(eval);
