/* Philox: random numbers as a function of (seed, stream, place). */
#include "base/random.h"

#include <math.h>
#include <string.h>

#include "base/parallel.h"

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"). */
void sp_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xd2511f53u * c0;
        uint64_t product1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* Four words at position 4*block of the draw that `key` names. */
static void draw_block(sp_random_key key, uint64_t block, uint32_t out[4])
{
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)key.sample, (uint32_t)key.step,
                           (uint32_t)key.stream << 8 | (uint32_t)(key.step >> 32 & 0xff)};
    /* A draw of more than 2^34 words goes on in the otherwise unused top of the last word. */
    counter[3] ^= (uint32_t)(block >> 32) << 16;
    uint32_t words[2] = {(uint32_t)key.seed, (uint32_t)(key.seed >> 32)};
    sp_philox(counter, words, out);
}

typedef struct {
    sp_random_key key;
    void *out;
    size_t count;
} draw;

/* Blocks of four words are the unit of the loops, so that each item has its own place in the
 * counter. */
#define BLOCKS_PER_TASK 16384

static size_t block_items(const draw *d, int64_t block)
{
    size_t left = d->count - (size_t)block * 4;
    return left < 4 ? left : 4;
}

static void bits_range(void *context, int64_t begin, int64_t end)
{
    const draw *d = context;
    for (int64_t block = begin; block < end; block++) {
        uint32_t words[4];
        draw_block(d->key, (uint64_t)block, words);
        memcpy((uint32_t *)d->out + block * 4, words, block_items(d, block) * sizeof *words);
    }
}

static void uniform_range(void *context, int64_t begin, int64_t end)
{
    const draw *d = context;
    for (int64_t block = begin; block < end; block++) {
        uint32_t words[4];
        float values[4];
        draw_block(d->key, (uint64_t)block, words);
        for (int i = 0; i < 4; i++)
            values[i] = (float)(words[i] >> 8) * 0x1p-24f;
        memcpy((float *)d->out + block * 4, values, block_items(d, block) * sizeof *values);
    }
}

static void normal_range(void *context, int64_t begin, int64_t end)
{
    const draw *d = context;
    for (int64_t block = begin; block < end; block++) {
        uint32_t words[4];
        float values[4];
        draw_block(d->key, (uint64_t)block, words);
        for (int i = 0; i < 4; i += 2) {
            double radius = sqrt(-2 * log(((double)words[i] + 1) * 0x1p-32));
            double angle = 2 * M_PI * ((double)words[i + 1] * 0x1p-32);
            values[i] = (float)(radius * cos(angle));
            values[i + 1] = (float)(radius * sin(angle));
        }
        memcpy((float *)d->out + block * 4, values, block_items(d, block) * sizeof *values);
    }
}

static void run_draw(sp_random_key key, void *out, size_t count, sp_range_function *body)
{
    draw d = {key, out, count};
    sp_parallel_for((int64_t)(count / 4 + (count % 4 != 0)), BLOCKS_PER_TASK, body, &d);
}

void sp_random_bits(sp_random_key key, uint32_t *out, size_t count)
{
    run_draw(key, out, count, bits_range);
}

void sp_random_uniform(sp_random_key key, float *out, size_t count)
{
    run_draw(key, out, count, uniform_range);
}

void sp_random_normal(sp_random_key key, float *out, size_t count)
{
    run_draw(key, out, count, normal_range);
}

/* A draw read word by word, for loops that may reject. */
typedef struct {
    sp_random_key key;
    uint64_t position; /* in 64-bit words */
    uint32_t words[4];
} word_source;

static uint64_t next_word(word_source *source)
{
    if (source->position % 2 == 0) draw_block(source->key, source->position / 2, source->words);
    const uint32_t *pair = source->words + source->position++ % 2 * 2;
    return (uint64_t)pair[1] << 32 | pair[0];
}

/* Lemire 2019, "Fast random integer generation in an interval": the high word of a product,
 * rejecting the low words that would make some values likelier. */
static uint64_t below(word_source *source, uint64_t bound)
{
    unsigned __int128 product = (unsigned __int128)next_word(source) * bound;
    if ((uint64_t)product < bound) {
        uint64_t threshold = -bound % bound;
        while ((uint64_t)product < threshold)
            product = (unsigned __int128)next_word(source) * bound;
    }
    return (uint64_t)(product >> 64);
}

uint64_t sp_random_below(sp_random_key key, uint64_t bound)
{
    word_source source = {.key = key};
    return below(&source, bound);
}

void sp_random_permutation(sp_random_key key, uint32_t *out, size_t count)
{
    word_source source = {.key = key};
    for (size_t i = 0; i < count; i++)
        out[i] = (uint32_t)i;
    for (size_t i = count; i > 1; i--) {
        size_t j = (size_t)below(&source, i);
        uint32_t swapped = out[i - 1];
        out[i - 1] = out[j];
        out[j] = swapped;
    }
}
