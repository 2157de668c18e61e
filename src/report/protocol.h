/* How the field measures models, by name: what a protocol says where options say nothing, and what others published by
 * it. */
#ifndef SP_REPORT_PROTOCOL_H
#define SP_REPORT_PROTOCOL_H
#include <splam/eval.h>
#include "base/status.h"

/* Where the captions of a protocol come from. */
typedef enum {
    SP_PROTOCOL_LINES, /* a text file: line k is picture k's */
    SP_PROTOCOL_COCO,  /* COCO's annotations: the first caption of each picture, see eval/prompt_list.h */
    SP_PROTOCOL_DATA   /* a data set: the first caption of its samples, each for as many pictures as `repeats` says */
} sp_protocol_captions;

/* A number that a paper or a model card has, of that many pictures of that data set. */
typedef struct {
    const char *work; /* "SPLAM (Xu et al. 2024)" */
    int steps;
    double fid, clip; /* NaN: not said */
} sp_published;

typedef struct {
    const char *name;
    int64_t count;   /* pictures */
    int64_t repeats; /* of each caption */
    sp_protocol_captions captions;
    const char *captions_sha256; /* of the one file that figures are of; NULL: any */
    const char *convention, *transform;
    const char *other_transform; /* that may be asked for; NULL: none */
    const char *clip_prefix;     /* NULL: none */
    int64_t real_count;          /* pictures of the real side; 0: any number */
    const char *words;           /* a sentence for people */
    const sp_published *published; /* [published_count] */
    size_t published_count;
} sp_protocol;

/* NULL: there is none of that name. */
const sp_protocol *sp_protocol_find(const char *name);
/* Fills in what the options leave open. SP_ARGUMENT where they say something else than the protocol, or lack what it
 * needs: captions or data, real. */
sp_status sp_protocol_apply(const sp_protocol *protocol, splam_eval_options *options);

#endif
