/* The options of scoring sets of pictures. */
#include <splam/eval.h>
#include "options/options.h"

#define OPTIONS splam_score_options
static const splam_option options[] = {
    {SP_TEXT(a), .required = true, .operand = true, .argument = "A",
     .heading = "What is measured",
     .help = "a folder of pictures, or folder:DIR, wds:SHARDS.tar, coco:FILE.json,DIR or emoji:; or a .npz or "
             ".safetensors of mu and sigma, or of feats or reps; or a .npy"},
    {SP_TEXT(b), .operand = true, .argument = "B", .help = "what they are compared with, likewise"},
    {SP_INTEGER(count, 2, 1e9, SPLAM_UNSET), .argument = "N",
     .help = "pictures of each set, the first: of a folder by name; rows of a file of features", .otherwise = "all"},
    {SP_TEXT(captions), .argument = "FILE",
     .help = "for clip, pickscore and hps: a line for each picture of A, in their order"},
    {SP_FLAG(strict), .help = "fail if a picture cannot be read, as otherwise if more than one in 100 cannot"},
    {SP_INTEGER(resolution, 8, 4096, SPLAM_UNSET), .argument = "PIXELS", .otherwise = "64",
     .help = "side of the pictures of emoji:, which has no files"},
    {SP_TEXT(metrics), .argument = "LIST",
     .heading = "Measures",
     .help = "of fid, fid_infinity, kid, is, prdc, cmmd, fd, fd_infinity, clip, aesthetic, pickscore and hps, with "
             "commas",
     .otherwise = "fid, of two sets"},
    {SP_CHOICE(convention, SP_CHOICES(SP_CONVENTION_LIST), "clean"),
     .help = "how pictures are resized and scaled: as clean-fid, pytorch-fid, torch-fidelity (and StyleGAN), "
             "torchmetrics"},
    {SP_CHOICE(transform, SP_CHOICES(SP_TRANSFORM_LIST), "none"),
     .help = "before that: center-crop-256 cuts the middle square out and makes it 256 pixels wide by Lanczos, as "
             "GigaGAN, DMD and DMD2 do for COCO; center-crop-512 likewise"},
    SP_SCORING_OPTIONS,
    {SP_TEXT(features), .argument = "FILE.safetensors",
     .heading = "Output",
     .help = "keep what the network gives for each picture, and take from there what is known: a stopped run goes on, "
             "and other metrics cost no network"},
    {SP_TEXT(save_stats), .argument = "FILE.npz",
     .help = "write A's mu and sigma, as pytorch-fid does, to be A or B another time"},
    {SP_FLAG(json), .help = "print a JSON object"},
    SP_DEVICE_OPTION_UNDER("Computing"),
};
SP_TABLE(score);
