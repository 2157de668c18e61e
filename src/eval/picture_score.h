/* What is measured of sets of pictures. A score is an sp_picture_score in a file src/eval/NAME_score.c, and a line in
 * the list below: the choice by name, what is asked of sets and networks, JSON and text all walk this list. */
#ifndef SP_EVAL_PICTURE_SCORE_H
#define SP_EVAL_PICTURE_SCORE_H
#include "eval/bootstrap.h"
#include "eval/caption_lines.h"
#include "eval/picture_set.h"
#include "options/options.h"

/* One number of a score. */
typedef struct {
    const char *key;  /* in JSON, and before it in the text: "fid" */
    double value;
    double deviation; /* NAN, or over the parts that the value is the mean of: JSON then has KEY_mean and KEY_std */
    const sp_interval *interval; /* of 95 %: room[i] of the result; NULL: none */
    bool significant; /* in text by six significant digits, else by six behind the point */
    char note[64];    /* of the text, behind it: "over 10 parts of A"; "": none */
} sp_score_value;

enum { SP_SCORE_VALUES = 4, SP_SCORE_SETTINGS = 4, SP_SCORE_WORDS = 2 };
/* What a score says. */
typedef struct {
    int value_count, setting_count, word_count;
    sp_score_value value[SP_SCORE_VALUES];
    sp_interval room[SP_SCORE_VALUES];
    struct {
        const char *key;
        int64_t value;
    } setting[SP_SCORE_SETTINGS]; /* what it was measured with, in JSON: "kid_seed" */
    struct {
        const char *key;
        char *text;
    } word[SP_SCORE_WORDS]; /* the same in words, in the text too: "clip_prefix" */
    double *terms;      /* owned: of each picture, what the first value is the mean of; NULL: it is kept of none */
} sp_score_result;
/* Returns what was added, to be filled further. */
sp_score_value *sp_score_add(sp_score_result *result, const char *key, double value);
/* The mean of the terms, with its interval by so many resamples; SPLAM_UNSET: none. SP_MEMORY. */
sp_status sp_score_add_mean(sp_score_result *result, const char *key, const double *terms, int64_t count,
                            int64_t resamples);
void sp_score_add_setting(sp_score_result *result, const char *key, int64_t value);
sp_status sp_score_add_words(sp_score_result *result, const char *key, const char *text); /* a copy; SP_MEMORY */
void sp_score_result_free(sp_score_result *result); /* zeroed is legal */
/* Where the interval of the last value goes, which it has from now on. */
sp_interval *sp_score_add_interval(sp_score_result *result);

/* What scores are measured of. */
typedef struct {
    const splam_score_options *options;
    const sp_callbacks *callbacks;
    const sp_extractor *extractors;   /* [SP_EXTRACTORS]; kind NULL: not opened */
    const sp_picture_set *a, *b;      /* b without a source: there is none */
    const sp_caption_lines *captions; /* of the pictures of a; NULL: no score asks for them */
    sp_device *device;                /* for what is not of a picture */
} sp_scored;

/* What there must be of a set. */
typedef enum {
    SP_SCORE_OF_STATISTICS, /* mean and covariance will do */
    SP_SCORE_OF_ROWS,       /* a row a picture, of a file too */
    SP_SCORE_OF_PICTURES    /* what a network says of them now */
} sp_score_needs;

typedef struct sp_picture_score sp_picture_score;
struct sp_picture_score {
    const char *name; /* "fid", as it is asked for */
    sp_extractor_index network;
    int feature; /* of the network */
    bool two_sets;   /* A is compared with B; else it is of A alone */
    const char *options; /* those of the verbs that it reads beside its network's, with commas; NULL: none */
    bool captions;   /* each picture of A is compared with its line of `captions` */
    sp_score_needs needs;
    /* Whether it can be measured of these sets, whose features are not there yet though the network is open that gives
     * them; NULL: it can. */
    sp_status (*check)(const sp_picture_score *score, const sp_scored *scored);
    /* *out is zeroed. */
    sp_status (*measure)(const sp_picture_score *score, const sp_scored *scored, sp_score_result *out);
};

#define SP_PICTURE_SCORE_LIST(X)                                                                                      \
    X(fid) X(fid_infinity) X(kid) X(is) X(prdc) X(cmmd) X(fd) X(fd_infinity) X(clip) X(aesthetic) X(pickscore) X(hps)
#define X(name) extern const sp_picture_score sp_##name##_score;
SP_PICTURE_SCORE_LIST(X)
#undef X
#define X(name) +1
enum { SP_PICTURE_SCORES = SP_PICTURE_SCORE_LIST(X) };
#undef X
/* In the order of the list, which reports keep. */
const sp_picture_score *sp_picture_score_at(int index);
/* "fid,kid" to wanted[SP_PICTURE_SCORES]. SP_ARGUMENT, naming those there are, for another word. */
sp_status sp_picture_scores_parse(const char *text, bool *wanted);
/* SP_ARGUMENT where an option is given, in the verb's struct, that only other scores or their networks read. also: more
 * that is read, with commas. */
sp_status sp_picture_scores_check_options(const bool *wanted, const char *also, const sp_verb *verb,
                                          const void *options);

/* The rows that it is measured of; NULL: there are none. */
const sp_tensor *sp_score_rows(const sp_picture_score *score, const sp_picture_set *set);

#endif
