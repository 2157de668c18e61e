/* The options of training from scratch. */
#include <splam/train.h>
#include "options/options.h"

#define OPTIONS splam_train_options
static const splam_option options[] = {
    {SP_TEXT(data), .argument = "SPEC", .required = true,
     .help = "pictures and captions: " SP_DATA_SETS "; each line of a .txt is a caption of its picture"},
    {SP_TEXT(caption_column), SP_CAPTION_COLUMN_HELP},
    {SP_TEXT(output), .argument = "DIR", .required = true,
     .help = "folder for the model, checkpoint-N/ and metrics.jsonl"},
    {SP_TEXT(vae), .argument = "PATH", .help = "teacher: the autoencoder's folder or file, or a model with one"},
    {SP_INTEGER(resolution, 8, 4096, SPLAM_UNSET), .argument = "N",
     .help = "side of the pictures in pixels, a multiple of the autoencoder's factor (vae: 4)",
     .otherwise = "emoji 64, else 512"},
    {SP_CHOICE(family, SP_CHOICES(SP_TEACHER_FAMILY_LIST), NULL),
     .help = "teacher: what it is made like; sdxl has two text encoders, whose states before the last layers stand "
             "side by side, and a UNet that is told the pooled text, the pictures' sizes and where they were cut",
     .otherwise = "what start is, or sd"},
    {SP_INTEGER(width, 16, 1024, SPLAM_UNSET), .argument = "N",
     .help = "teacher: channels of the UNet's first level, or of each of sd3's four heads, a multiple of 16, to which "
             "all other sizes are in proportion; not with start",
     .otherwise = "64"},
    {SP_TEXT(start), .argument = "MODEL",
     .help = "teacher: go on from this model's text encoder, UNet and tokenizer; it must predict what is asked for",
     .otherwise = "random weights, and a tokenizer learned from the captions"},
    {SP_INTEGER(max_train_steps, 1, 1e9, SPLAM_UNSET), .argument = "N", .help = "optimiser steps",
     .otherwise = "vae 2000, teacher 8000"},
    {SP_INTEGER(train_batch_size, 1, 4096, SPLAM_UNSET), .argument = "N", .help = "pictures per step",
     .otherwise = "vae 32, teacher 64"},
    {SP_NUMBER(learning_rate, 1e-12, 1, SPLAM_UNSET), .argument = "X", .help = "of AdamW, at its highest",
     .otherwise = "vae 1e-3, teacher 8e-4"},
    {SP_CHOICE(lr_scheduler, SP_CHOICES(SP_LR_SCHEDULER_LIST), NULL),
     .help = "how the learning rate moves; linear and cosine fall to 0 at the end, after a warm-up if there is one",
     .otherwise = "cosine after a warm-up of 50 (vae) or 100 steps (teacher), whose first is not 0"},
    {SP_INTEGER(lr_warmup_steps, 0, 1e9, SPLAM_UNSET), .argument = "N",
     .help = "steps over which the learning rate rises from 0; with a scheduler other than constant",
     .otherwise = "0; constant_with_warmup needs one"},
    {SP_AVERAGE(ema_decay, NULL),
     .help = "of the averaged weights, which are the result: a rate, a power function as wide as the share S of the "
             "run so far, or a half-life of N pictures", .otherwise = "vae 0.995, teacher 0.999"},
    {SP_CHOICE(prediction_type, "epsilon|v_prediction", NULL), .help = "teacher: what the UNet predicts",
     .otherwise = "epsilon; of sd3 the velocity"},
    {SP_NUMBER(caption_dropout, 0, 1, 0.1), .argument = "P", .help = "teacher: share of empty captions, for guidance"},
    {SP_NUMBER(caption_variety, 0, 1, 0.25), .argument = "P",
     .help = "teacher: share of captions other than the first (or the official name)"},
    {SP_INTEGER(checkpointing_steps, 0, 1e9, 500), .argument = "N",
     .help = "steps between checkpoints; 0: only at the end and when stopped"},
    {SP_INTEGER(validation_steps, 0, 1e9, 0), .argument = "N",
     .help = "teacher: steps between sheets of samples; 0: none"},
    SP_RESUME_OPTION,
    {SP_SEED(seed), .help = "of initial weights, data order and draws"},
    SP_MIXED_PRECISION_OPTION,
    SP_DEVICE_OPTION,
};
SP_TABLE(train);
