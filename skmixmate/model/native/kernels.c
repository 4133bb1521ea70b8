/* The layers of Eq. 4, the way back through them, and what stands between them where
   entries are missing, for float32 on a CPU.

   `encoder.py` says what these are: it has them in torch, for all else, and these give
   the same up to rounding. There each product and each pass reads and writes the codes
   of all rows. Here a few rows go through all of it at once. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 16 /* in a tile */
#define TAIL 5  /* atoms are topped up to a multiple of this */
#define TILES 8 /* of features that are gathered at a time */
#define ALIGNMENT 64

/* Of torch, which has loaded it for its own threads: those of another library would
   wait, busily, beside them. Without it there is one thread. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned)
    __attribute__((weak));

/* Of all that is worked on. A unit of work is some tiles of one cluster. */
struct shape {
    int64_t n_clusters, n_atoms, n_rows;
    int64_t n_tiles, tiles_in_unit, units_in_cluster;
    int64_t n_lanes; /* in the vectors to use, 16 or 8 */
};

/* Arrays are contiguous. Codes, correlations and gradients are of shape
   (n_clusters, n_atoms, n_rows). */
struct layers {
    struct shape shape;
    const float *gram;          /* (n_clusters, n_atoms, n_atoms) */
    const float *step;          /* (n_clusters,) */
    const float *lower, *upper; /* thresholds, (n_clusters, n_atoms) */
    const float *momenta;       /* (n_layers - 1,) */
    const float *input;         /* correlations, or the gradient in the codes */
    float *output;              /* codes, or the gradient in the correlations */
    const float *codes;         /* on the way back what came out on the way forth */
    float *gains;               /* (n_clusters, n_rows), see `gain_block`; or NULL */
    float *tape;                /* see `tape_of`; or NULL */
    float *gram_slopes;         /* (n_units, n_atoms, n_atoms), to be summed */
    int64_t n_layers;
};

struct pulls {
    struct shape shape;
    const float *dictionaries; /* (n_clusters, n_atoms, n_features) */
    const float *targets;      /* (n_features, n_rows) for each cluster, or for all */
    const float *observed;     /* (n_features, n_rows) */
    const float *codes;
    float *output;
    int64_t n_features, targets_apart; /* 0 if targets are for all */
};

/* Blocks of rows, some of all, each with a cluster that has a gradient from it. */
struct products {
    const float *rows;     /* (n_all, n_features) */
    const float *slopes;   /* (n_blocks, n_atoms, n_rows) */
    const int64_t *index;  /* which rows, (n_blocks, n_rows) */
    const int64_t *owners; /* which cluster, (n_blocks,) */
    float *gradient;       /* (n_clusters, n_atoms, n_features), is added to */
    int64_t n_all, n_features, n_blocks, n_clusters, n_atoms, n_rows;
    int64_t n_groups; /* of clusters; a unit is of one, and of so many features */
    int64_t n_lanes;
};

/* Where a tile is. */
struct place {
    ptrdiff_t cluster, number;
    size_t n_rows;
};

/* What the tiles of a unit share, with atoms topped up by such as do nothing. */
struct shared {
    float *contraction; /* in panels, see `pack` */
    float *lower, *upper;
    float step;
    void *products; /* slopes times codes, in lanes that are still to be added up */
    void *buffer;
};

static ptrdiff_t padded(ptrdiff_t n_atoms) { return (n_atoms + TAIL - 1) / TAIL * TAIL; }

static ptrdiff_t row_of(const struct shape *shape, struct place at, ptrdiff_t atom)
{
    return (at.cluster * shape->n_atoms + atom) * shape->n_rows + at.number * ROWS;
}

/* The codes of a tile after each layer but the last, in units of the step size. */
static float *tape_of(const struct layers *layers, struct place at)
{
    const struct shape *shape = &layers->shape;
    const ptrdiff_t n_tile = (layers->n_layers - 1) * padded(shape->n_atoms) * ROWS;
    return layers->tape + (at.cluster * shape->n_tiles + at.number) * n_tile;
}

#define LANES 16
#define BLOCK 10
#define ACROSS 5
#define TARGET __attribute__((target("avx512f,avx512dq,fma")))
#define NAME(name) name##_avx512
#include "tiles.h"
#define LANES 8
#define BLOCK 5
#define ACROSS 1
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(name) name##_avx2
#include "tiles.h"

struct kind {
    ptrdiff_t n_lanes, n_block;
    void (*forward)(const struct layers *, const struct shared *, struct place);
    void (*backward)(const struct layers *, const struct shared *, struct place);
    void (*pull)(const struct pulls *, void *, struct place);
    void (*gather)(const struct products *, void *, ptrdiff_t, ptrdiff_t, ptrdiff_t);
};

static struct kind kind_of(int64_t n_lanes)
{
    if (n_lanes == 16)
        return (struct kind){16,          10,          forward_avx512, backward_avx512,
                             pull_avx512, gather_avx512};
    return (struct kind){8, 5, forward_avx2, backward_avx2, pull_avx2, gather_avx2};
}

/* Floats in the widest vector of this processor; 0 if that is too short. */
int layers_lanes(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return 16;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 8 : 0;
}

/* A job is done by threads that take one unit after the other. */
struct job {
    struct kind kind;
    const void *what; /* struct layers, pulls or products */
    ptrdiff_t n_units;
    size_t n_bytes; /* that each thread works with */
    void (*run)(const struct job *, ptrdiff_t unit, char *memory);
    atomic_ptrdiff_t next;
    atomic_int has_failed;
};

static size_t aligned(size_t n_bytes)
{
    return (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void work(void *data)
{
    struct job *job = data;
    char *memory = aligned_alloc(ALIGNMENT, aligned(job->n_bytes));
    if (!memory) {
        job->has_failed = 1;
        return;
    }
    for (ptrdiff_t unit; (unit = atomic_fetch_add(&job->next, 1)) < job->n_units;)
        job->run(job, unit, memory);
    free(memory);
}

static int run(struct job *job, int n_threads)
{
    if (n_threads > 1 && GOMP_parallel)
        GOMP_parallel(work, job, (unsigned)n_threads, 0);
    else
        work(job);
    return job->has_failed ? -1 : 0;
}

/* Go to one of the tiles of a unit; 0 if there are no more. */
static int is_at(const struct shape *shape, ptrdiff_t unit, ptrdiff_t tile,
                 struct place *at)
{
    at->cluster = unit / shape->units_in_cluster;
    at->number = unit % shape->units_in_cluster * shape->tiles_in_unit + tile;
    const ptrdiff_t n_left = shape->n_rows - at->number * ROWS;
    at->n_rows = n_left < ROWS ? n_left : ROWS;
    return tile < shape->tiles_in_unit && n_left > 0;
}

/* Write 1 - step * gram in panels of as many rows as a block has atoms, and in these
   column by column, in the order in which they are multiplied. */
static void pack(float *contraction, const float *gram, float step, ptrdiff_t n_atoms,
                 ptrdiff_t n_block)
{
    for (ptrdiff_t first = 0; first < n_atoms; first += n_block) {
        if (first + n_block > padded(n_atoms))
            n_block = TAIL;
        for (ptrdiff_t j = 0; j < n_atoms; j++)
            for (ptrdiff_t i = first; i < first + n_block; i++)
                *contraction++ =
                    i < n_atoms ? (float)(i == j) - step * gram[j * n_atoms + i] : 0;
    }
}

/* Add up lanes, and give what the contraction hands on to the Gram matrix. */
static void unpack(float *gram_slopes, const float *products, float step,
                   ptrdiff_t n_atoms, ptrdiff_t n_lanes)
{
    for (ptrdiff_t i = 0; i < n_atoms; i++)
        for (ptrdiff_t j = 0; j < n_atoms; j++) {
            const float *lanes = products + (i * padded(n_atoms) + j) * n_lanes;
            float sum = 0;
            for (ptrdiff_t lane = 0; lane < n_lanes; lane++)
                sum += lanes[lane];
            *gram_slopes++ = -step * sum;
        }
}

/* Bytes of what is shared, each part on a boundary of its own. */
static size_t part_up(struct shared *all, char *memory, const struct layers *layers)
{
    const size_t n_padded = padded(layers->shape.n_atoms);
    const size_t rates = aligned(n_padded * sizeof(float));
    const size_t matrix = aligned(n_padded * n_padded * sizeof(float));
    const size_t lanes = layers->gram_slopes ? ROWS * matrix : 0;
    const size_t planes = layers->gram_slopes ? layers->n_layers + 3 : 4;
    all->contraction = (float *)memory;
    all->lower = (float *)(memory + matrix);
    all->upper = (float *)(memory + matrix + rates);
    all->products = memory + matrix + 2 * rates;
    all->buffer = memory + matrix + 2 * rates + lanes;
    return matrix + 2 * rates + lanes + planes * n_padded * ROWS * sizeof(float);
}

static void run_layers(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct layers *layers = job->what;
    const ptrdiff_t n_atoms = layers->shape.n_atoms, n_padded = padded(n_atoms);
    const ptrdiff_t cluster = unit / layers->shape.units_in_cluster;
    struct shared all;
    struct place at;
    part_up(&all, memory, layers);
    all.step = layers->step[cluster];
    memset(all.lower, 0, n_padded * sizeof(float));
    memset(all.upper, 0, n_padded * sizeof(float));
    memcpy(all.lower, layers->lower + cluster * n_atoms, n_atoms * sizeof(float));
    memcpy(all.upper, layers->upper + cluster * n_atoms, n_atoms * sizeof(float));
    pack(all.contraction, layers->gram + cluster * n_atoms * n_atoms, all.step, n_atoms,
         job->kind.n_block);
    if (!layers->gram_slopes) {
        for (ptrdiff_t t = 0; is_at(&layers->shape, unit, t, &at); t++)
            job->kind.forward(layers, &all, at);
        return;
    }
    memset(all.products, 0, n_padded * n_padded * job->kind.n_lanes * sizeof(float));
    for (ptrdiff_t t = 0; is_at(&layers->shape, unit, t, &at); t++)
        job->kind.backward(layers, &all, at);
    unpack(layers->gram_slopes + unit * n_atoms * n_atoms, all.products, all.step,
           n_atoms, job->kind.n_lanes);
}

static void run_pulls(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct pulls *pulls = job->what;
    struct place at;
    for (ptrdiff_t t = 0; is_at(&pulls->shape, unit, t, &at); t++)
        job->kind.pull(pulls, memory, at);
}

static void run_products(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct products *products = job->what;
    const ptrdiff_t first = unit / products->n_groups * ROWS * TILES;
    const ptrdiff_t group = unit % products->n_groups;
    job->kind.gather(products, memory, first,
                     group * products->n_clusters / products->n_groups,
                     (group + 1) * products->n_clusters / products->n_groups);
}

static ptrdiff_t units_of(const struct shape *shape)
{
    return shape->n_clusters * shape->units_in_cluster;
}

/* Go forward, or back if there is room for the gradient in the Gram matrices.
   Returns 0, or -1 if there was no memory; so do the others. */
int layers_run(const struct layers *layers, int n_threads)
{
    struct shared all;
    struct job job = {.kind = kind_of(layers->shape.n_lanes),
                      .what = layers,
                      .n_units = units_of(&layers->shape),
                      .n_bytes = part_up(&all, NULL, layers),
                      .run = run_layers};
    return run(&job, n_threads);
}

/* Give what codes leave of observed entries, times the atoms. */
int layers_pull(const struct pulls *pulls, int n_threads)
{
    const size_t n_padded = padded(pulls->shape.n_atoms);
    struct job job = {.kind = kind_of(pulls->shape.n_lanes),
                      .what = pulls,
                      .n_units = units_of(&pulls->shape),
                      .n_bytes = 2 * n_padded * ROWS * sizeof(float),
                      .run = run_pulls};
    return run(&job, n_threads);
}

/* Add the slopes of blocks, times their rows, to the gradient of their clusters. */
int layers_add_products(const struct products *products, int n_threads)
{
    const ptrdiff_t n_wide = ROWS * TILES;
    struct job job = {.kind = kind_of(products->n_lanes),
                      .what = products,
                      .n_units = (products->n_features + n_wide - 1) / n_wide *
                                 products->n_groups,
                      .n_bytes = products->n_all * n_wide * sizeof(float),
                      .run = run_products};
    return run(&job, n_threads);
}
