/* An interval of a score: how far it would lie elsewhere with other pictures of the same kind and number. */
#ifndef SP_EVAL_INTERVAL_H
#define SP_EVAL_INTERVAL_H

typedef struct {
    double low, high; /* 95 % */
} sp_interval;

#endif
