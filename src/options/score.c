/* The options of scoring sets of pictures. */
#include <splam/eval.h>
#include "options/options.h"

#define OPTIONS splam_score_options
static const splam_option options[] = {
    {SP_TEXT(a), .required = true, .operand = true, .argument = "A",
     .help = "a folder of pictures, or folder:DIR, wds:SHARDS.tar or coco:FILE.json,DIR; or a .npz or .safetensors of "
             "mu and sigma, or of feats or reps; or a .npy"},
    {SP_TEXT(b), .operand = true, .argument = "B", .help = "what they are compared with, likewise"},
    {SP_TEXT(metrics), .argument = "LIST",
     .help = "of fid, fid_infinity, kid, is, prdc, cmmd, fd, fd_infinity, clip, aesthetic, pickscore and hps, with "
             "commas",
     .otherwise = "fid, of two sets"},
    {SP_TEXT(inception), .argument = "FILE",
     .help = "Inception's weights: pt_inception-2015-12-05-6726825d.pth, as pytorch-fid and torch-fidelity fetch it, "
             "or inception-2015-12-05.pt, clean-fid's, or their tensors as safetensors"},
    {SP_TEXT(clip), .argument = "PATH",
     .help = "CLIP, for clip, aesthetic and cmmd: a file of open_clip or OpenAI, or a folder as transformers or "
             "open_clip have it, or of a Hugging Face cache"},
    {SP_TEXT(clip_activation), .argument = "NAME", .otherwise = "what the configuration beside it says",
     .help = "its activation, quick_gelu (OpenAI, MetaCLIP, DFN) or gelu (LAION, DataComp)"},
    {SP_TEXT(clip_prefix), .argument = "TEXT", .otherwise = "nothing",
     .help = "put before each caption; GigaGAN's and DMD2's figures have \"A photo depicts \""},
    {SP_TEXT(aesthetic), .argument = "FILE",
     .help = "LAION's head, for aesthetic: sac+logos+ava1-l14-linearMSE.pth, with OpenAI's ViT-L/14 as --clip"},
    {SP_TEXT(pickscore), .argument = "PATH",
     .help = "for pickscore: the folder of yuvalkirstain/PickScore_v1, or of a Hugging Face cache"},
    {SP_TEXT(hps), .argument = "FILE", .help = "for hps: HPS_v2.1_compressed.pt or HPS_v2_compressed.pt"},
    {SP_TEXT(captions), .argument = "FILE",
     .help = "for clip, pickscore and hps: a line for each picture of A, in their order"},
    {SP_TEXT(dino), .argument = "PATH",
     .help = "DINOv2, for fd: dinov2_vitl14_pretrain.pth, or a folder as transformers has it"},
    {SP_CHOICE(convention, SP_CHOICES(SP_CONVENTION_LIST), "clean"),
     .help = "how pictures are resized and scaled: as clean-fid, pytorch-fid, torch-fidelity (and StyleGAN), "
             "torchmetrics"},
    {SP_CHOICE(transform, SP_CHOICES(SP_TRANSFORM_LIST), "none"),
     .help = "before that: center-crop-256 cuts the middle square out and makes it 256 pixels wide by Lanczos, as "
             "GigaGAN, DMD and DMD2 do for COCO"},
    {SP_INTEGER(count, 2, 1e9, SPLAM_UNSET), .argument = "N",
     .help = "pictures of each set, the first: of a folder by name", .otherwise = "all"},
    {SP_FLAG(strict), .help = "fail if a picture cannot be read, as otherwise if more than one in 100 cannot"},
    {SP_TEXT(features), .argument = "FILE.safetensors",
     .help = "keep what the network gives for each picture, and take from there what is known: a stopped run goes on, "
             "and other metrics cost no network"},
    {SP_INTEGER(kid_subsets, 1, 1e6, 100), .argument = "N", .help = "subsets that kid is the mean over"},
    {SP_INTEGER(kid_subset_size, 2, 1e6, SPLAM_UNSET), .argument = "N", .help = "pictures of each of them",
     .otherwise = "1000, or all there are"},
    {SP_INTEGER(kid_seed, 0, 4294967295.0, 2020), .argument = "S", .help = "of their draw, as of numpy's RandomState"},
    {SP_INTEGER(nearest_k, 1, 1000, 5), .argument = "K", .help = "neighbours that prdc's radii reach to"},
    {SP_INTEGER(bootstrap, 10, 1e6, SPLAM_UNSET), .argument = "N", .otherwise = "no intervals",
     .help = "give fid, fd, prdc, clip, aesthetic, pickscore and hps intervals of 95 %: means by N resamples, fid and "
             "fd, whatever N, by what each picture moves them by"},
    {SP_TEXT(save_stats), .argument = "FILE.npz",
     .help = "write A's mu and sigma, as pytorch-fid does, to be A or B another time"},
    {SP_FLAG(json), .help = "print a JSON object"},
    SP_DEVICE_OPTION,
};
SP_TABLE(score);
