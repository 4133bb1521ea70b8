/* The layers of the encoder (Eq. 4), their backward pass, and the products of missing
   data and of the gradient, for float32 on a CPU.

   `fista.py`, `incomplete.py` and `active_rows.py` document these computations and implement them in
   torch for all other dtypes and devices; the results are equal up to rounding. In
   torch, each product and each pass reads and writes the codes of all rows. Here, a
   tile of a few rows passes through all layers at once and stays in the cache.

   The names follow BLIS: a micro-kernel multiplies MR atoms by NR rows, in vectors of
   VLEN floats. */

#include "../../utils/threads.h"

#include <float.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

#define NR 16             /* rows in a tile */
#define MR_TAIL 5         /* the number of atoms is padded to a multiple of this */
#define NF 40             /* features whose residuals are in the first-level cache */
#define UNIT_FEATURES 128 /* in a unit of the gradient products */
#define NEGLIGIBLE 1e-6f  /* of incomplete.py */

/* Sizes of a problem. A unit of work consists of some tiles of one cluster. */
struct shape {
    int64_t n_clusters, n_atoms, n_rows;
    int64_t n_tiles, tiles_per_unit, units_per_cluster;
    int64_t vlen; /* floats in a vector: 16, 8 or, on ARM, 4 */
};

/* All arrays are contiguous. Codes, correlations and their gradients have the shape
   (n_clusters, n_atoms, n_rows). */
struct layers {
    struct shape shape;
    const float *gram;          /* (n_clusters, n_atoms, n_atoms) */
    const float *step;          /* (n_clusters,) */
    const float *lower, *upper; /* thresholds, (n_clusters, n_atoms) */
    const float *momenta;       /* (n_layers - 1,) */
    const float *input;         /* correlations; backward: gradient in the codes */
    float *output;              /* codes; backward: gradient in the correlations */
    const float *codes;         /* backward: output of the forward pass */
    float *explained_energy;    /* (n_clusters, n_rows), see `energy_block`; or NULL */
    float *tape;                /* see `tape_offset`; or NULL */
    float *grad_gram;           /* backward: (n_units, n_atoms, n_atoms), partial */
    int64_t n_layers;
};

/* The layers of rows with missing entries. */
struct incomplete_layers {
    struct layers layers;      /* `input` are the correlations of `targets` */
    const float *dictionaries; /* (n_clusters, n_atoms, n_features) */
    const float *targets;      /* (n_features, n_rows), per cluster or shared */
    const float *observed;     /* (n_features, n_rows), 1 or 0 */
    const float *fractions;    /* of observed entries, (n_rows,) */
    const float *exact;        /* 1 for exact layers, else 0, (n_layers - 1,) */
    float *correlations;       /* of the imputed rows, as the codes */
    float *squared_residuals;  /* (n_clusters, n_rows) */
    float *squared_norms;      /* of the imputed rows, (n_clusters, n_rows) */
    int64_t n_features, targets_stride; /* the stride is 0 if targets are shared */
};

/* Blocks of active rows, each with the cluster whose gradient it contributes to. If
   `observed` is not NULL, missing entries are imputed. */
struct gradient_products {
    const float *rows;              /* (n_total_rows, n_features) */
    const float *grad_correlations; /* (n_blocks, n_atoms, n_rows) */
    const int64_t *index;           /* rows of each block, (n_blocks, n_rows) */
    const int64_t *cluster_ids;     /* cluster of each block, (n_blocks,) */
    const float *observed;          /* (n_total_rows, n_features), 1 or 0; or NULL */
    const float *codes;             /* (n_blocks, n_atoms, n_rows) */
    const float *dictionaries;      /* (n_clusters, n_atoms, n_features) */
    const float *intercepts;        /* (n_clusters, n_features), or NULL */
    float *gradient;                /* (n_clusters, n_atoms, n_features), added to */
    int64_t n_total_rows, n_features, n_blocks, n_clusters, n_atoms, n_rows;
    int64_t n_groups; /* of clusters; a unit is one group and UNIT_FEATURES */
    int64_t vlen;
};

/* Position of a tile. */
struct tile_index {
    ptrdiff_t cluster, number, n_rows;
};

/* Memory of a thread. The arrays are padded with atoms that are 0. */
struct workspace {
    float *contraction; /* in panels, see `pack_contraction` */
    float *lower, *upper;
    float step;
    void *gram_products; /* gradients times codes, a vector for each entry */
    void *buffer;
};

/* A matrix, or a part of one. */
struct matrix {
    const float *entries;
    ptrdiff_t row_stride, column_stride;
};

static ptrdiff_t padded(ptrdiff_t n_atoms)
{
    return (n_atoms + MR_TAIL - 1) / MR_TAIL * MR_TAIL;
}

static ptrdiff_t row_offset(const struct shape *shape, struct tile_index index,
                            ptrdiff_t atom)
{
    return (index.cluster * shape->n_atoms + atom) * shape->n_rows + index.number * NR;
}

/* `mr` rows of the contraction, from `first` on; see `pack_contraction`. */
static struct matrix contraction_panel(const struct workspace *ws,
                                       const struct shape *shape, ptrdiff_t first,
                                       ptrdiff_t mr)
{
    return (struct matrix){ws->contraction + first * shape->n_atoms, 1, mr};
}

/* Offset of a tile in the tape: its codes after each layer but the last, in units of
   the step size. */
static ptrdiff_t tape_offset(const struct layers *layers, struct tile_index index)
{
    const struct shape *shape = &layers->shape;
    const ptrdiff_t n_tile = (layers->n_layers - 1) * padded(shape->n_atoms) * NR;
    return (index.cluster * shape->n_tiles + index.number) * n_tile;
}

/* The functions of `tiles.h` for one instruction set. */
struct kernel_table {
    ptrdiff_t vlen, mr;
    ptrdiff_t n_wide; /* floats in a tile of WIDE vectors */
    void (*forward)(const struct layers *, const struct workspace *, struct tile_index);
    void (*backward)(const struct layers *, const struct workspace *,
                     struct tile_index);
    void (*encode_incomplete)(const struct incomplete_layers *,
                              const struct workspace *, struct tile_index);
    void (*add_gradients)(const struct gradient_products *, void *, ptrdiff_t,
                          ptrdiff_t, ptrdiff_t);
};

#ifdef __x86_64__
#define VLEN 16
#define MINIMUM _mm512_min_ps
#define MAXIMUM _mm512_max_ps
#define MR 10
#define WIDE 2
#define NC 5
#define TARGET __attribute__((target("avx512f,avx512dq,fma")))
#define SUFFIXED(name) name##_avx512
#include "tiles.h"
#define VLEN 8
#define MINIMUM _mm256_min_ps
#define MAXIMUM _mm256_max_ps
#define MR 5
#define WIDE 2
#define NC 1
#define TARGET __attribute__((target("avx2,fma")))
#define SUFFIXED(name) name##_avx2
#include "tiles.h"
#else /* ARM of 64 bits, all of which have these vectors */
#define VLEN 4
#define MINIMUM vminq_f32
#define MAXIMUM vmaxq_f32
#define MR 5
#define WIDE 4
#define NC 1
#define TARGET
#define SUFFIXED(name) name##_neon
#include "tiles.h"
#endif

static struct kernel_table kernels_for(int64_t vlen)
{
#ifdef __x86_64__
    if (vlen == 16)
        return kernels_avx512;
    return kernels_avx2;
#else
    return kernels_neon;
#endif
}

/* Return the number of floats in the widest vector of this processor, or 0 if its
   vectors are too short. */
int kernels_vlen(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return 16;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 8 : 0;
#else
    return 4;
#endif
}

/* Return whether there are several threads. */
int kernels_has_threads(void) { return GOMP_parallel != 0; }

/* Write the sizes of the structs in the interface, which the caller compares with its
   own definitions. */
void kernels_struct_sizes(int64_t sizes[4])
{
    sizes[0] = sizeof(struct shape);
    sizes[1] = sizeof(struct layers);
    sizes[2] = sizeof(struct incomplete_layers);
    sizes[3] = sizeof(struct gradient_products);
}

/* Set the position of up to `n_joint` tiles of a unit, which are processed as one;
   return 0 if the unit has no such tile. */
static int next_tile(const struct shape *shape, ptrdiff_t unit, ptrdiff_t tile,
                     ptrdiff_t n_joint, struct tile_index *index)
{
    const ptrdiff_t n_left = shape->tiles_per_unit - tile;
    index->cluster = unit / shape->units_per_cluster;
    index->number = unit % shape->units_per_cluster * shape->tiles_per_unit + tile;
    const ptrdiff_t n_remaining = shape->n_rows - index->number * NR;
    index->n_rows = (n_left < n_joint ? n_left : n_joint) * NR;
    if (n_remaining < index->n_rows)
        index->n_rows = n_remaining;
    return n_left > 0 && n_remaining > 0;
}

/* Write 1 - step * gram in panels of MR rows, each column by column: the order in which
   the micro-kernel reads it. */
static void pack_contraction(float *contraction, const float *gram, float step,
                             ptrdiff_t n_atoms, ptrdiff_t mr)
{
    for (ptrdiff_t first = 0; first < n_atoms; first += mr) {
        if (first + mr > padded(n_atoms))
            mr = MR_TAIL;
        for (ptrdiff_t j = 0; j < n_atoms; j++)
            for (ptrdiff_t i = first; i < first + mr; i++)
                *contraction++ =
                    i < n_atoms ? (float)(i == j) - step * gram[j * n_atoms + i] : 0;
    }
}

/* Sum the vectors of the gradient in the contraction, and multiply by -step, which is
   the derivative of the contraction in the Gram matrix. */
static void reduce_grad_gram(float *grad_gram, const float *gram_products, float step,
                             ptrdiff_t n_atoms, ptrdiff_t vlen)
{
    for (ptrdiff_t i = 0; i < n_atoms; i++)
        for (ptrdiff_t j = 0; j < n_atoms; j++) {
            const float *lanes = gram_products + (i * padded(n_atoms) + j) * vlen;
            float sum = 0;
            for (ptrdiff_t lane = 0; lane < vlen; lane++)
                sum += lanes[lane];
            *grad_gram++ = -step * sum;
        }
}

/* Number of floats in the buffer of a workspace, for each atom. */
static size_t buffer_width(const struct layers *layers)
{
    return NR * (layers->grad_gram ? layers->n_layers + 3 : 4);
}

/* Set the pointers of a workspace in aligned memory; return its size in bytes. */
static size_t layout_workspace(struct workspace *ws, char *memory,
                               const struct layers *layers, size_t n_buffer)
{
    const size_t n_padded = padded(layers->shape.n_atoms);
    const size_t thresholds = aligned(n_padded * sizeof(float));
    const size_t matrix = aligned(n_padded * n_padded * sizeof(float));
    const size_t gram_products = layers->grad_gram ? NR * matrix : 0;
    ws->contraction = (float *)memory;
    ws->lower = (float *)(memory + matrix);
    ws->upper = (float *)(memory + matrix + thresholds);
    ws->gram_products = memory + matrix + 2 * thresholds;
    ws->buffer = memory + matrix + 2 * thresholds + gram_products;
    return matrix + 2 * thresholds + gram_products + n_padded * n_buffer * sizeof(float);
}

/* Set the pointers of a workspace, and what it contains of a cluster. */
static void prepare_workspace(struct workspace *ws, char *memory,
                              const struct layers *layers, ptrdiff_t cluster)
{
    const ptrdiff_t n_atoms = layers->shape.n_atoms, n_padded = padded(n_atoms);
    layout_workspace(ws, memory, layers, 0);
    ws->step = layers->step[cluster];
    memset(ws->lower, 0, n_padded * sizeof(float));
    memset(ws->upper, 0, n_padded * sizeof(float));
    memcpy(ws->lower, layers->lower + cluster * n_atoms, n_atoms * sizeof(float));
    memcpy(ws->upper, layers->upper + cluster * n_atoms, n_atoms * sizeof(float));
    pack_contraction(ws->contraction, layers->gram + cluster * n_atoms * n_atoms,
                     ws->step, n_atoms, kernels_for(layers->shape.vlen).mr);
}

static void run_layers_unit(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct layers *layers = job->problem;
    const ptrdiff_t n_atoms = layers->shape.n_atoms, n_padded = padded(n_atoms);
    const struct kernel_table kernels = kernels_for(layers->shape.vlen);
    struct workspace ws;
    struct tile_index index;
    prepare_workspace(&ws, memory, layers, unit / layers->shape.units_per_cluster);
    if (!layers->grad_gram) {
        for (ptrdiff_t t = 0; next_tile(&layers->shape, unit, t, 1, &index); t++)
            kernels.forward(layers, &ws, index);
        return;
    }
    memset(ws.gram_products, 0,
           n_padded * n_padded * kernels.vlen * sizeof(float));
    for (ptrdiff_t t = 0; next_tile(&layers->shape, unit, t, 1, &index); t++)
        kernels.backward(layers, &ws, index);
    reduce_grad_gram(layers->grad_gram + unit * n_atoms * n_atoms, ws.gram_products,
                     ws.step, n_atoms, kernels.vlen);
}

static void run_incomplete_unit(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct incomplete_layers *problem = job->problem;
    const struct shape *shape = &problem->layers.shape;
    const struct kernel_table kernels = kernels_for(shape->vlen);
    const ptrdiff_t n_joint = kernels.n_wide / NR;
    struct workspace ws;
    struct tile_index index;
    prepare_workspace(&ws, memory, &problem->layers, unit / shape->units_per_cluster);
    for (ptrdiff_t t = 0; next_tile(shape, unit, t, n_joint, &index); t += n_joint)
        kernels.encode_incomplete(problem, &ws, index);
}

static void run_gradients_unit(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct gradient_products *problem = job->problem;
    const ptrdiff_t first_feature = unit / problem->n_groups * UNIT_FEATURES;
    const ptrdiff_t group = unit % problem->n_groups;
    kernels_for(problem->vlen)
        .add_gradients(problem, memory, first_feature,
                       group * problem->n_clusters / problem->n_groups,
                       (group + 1) * problem->n_clusters / problem->n_groups);
}

static ptrdiff_t count_units(const struct shape *shape)
{
    return shape->n_clusters * shape->units_per_cluster;
}

/* Run the forward pass, or the backward pass if `grad_gram` is not NULL. Like the
   functions below, return 0, or -1 if memory could not be allocated. */
int kernels_run_layers(const struct layers *layers, int n_threads)
{
    struct workspace ws;
    struct job job = {.problem = layers,
                      .n_units = count_units(&layers->shape),
                      .n_bytes = layout_workspace(&ws, NULL, layers,
                                                  buffer_width(layers)),
                      .run_unit = run_layers_unit};
    return run(&job, n_threads);
}

/* Encode rows with missing entries. */
int kernels_encode_incomplete(const struct incomplete_layers *problem, int n_threads)
{
    const struct shape *shape = &problem->layers.shape;
    const struct kernel_table kernels = kernels_for(shape->vlen);
    struct workspace ws;
    struct job job = {.problem = problem,
                      .n_units = count_units(shape),
                      .n_bytes = layout_workspace(&ws, NULL, &problem->layers,
                                                  6 * kernels.n_wide),
                      .run_unit = run_incomplete_unit};
    return run(&job, n_threads);
}

/* Add the gradients of blocks times their rows to the gradients of their clusters. */
int kernels_add_gradients(const struct gradient_products *problem, int n_threads)
{
    const struct kernel_table kernels = kernels_for(problem->vlen);
    /* The rows; and if entries are missing, the mask, imputed rows and atoms. */
    size_t n_floats = problem->n_total_rows * UNIT_FEATURES;
    if (problem->observed)
        n_floats = 2 * n_floats +
                   (problem->n_total_rows + problem->n_atoms) * kernels.n_wide;
    struct job job = {.problem = problem,
                      .n_units = (problem->n_features + UNIT_FEATURES - 1) /
                                 UNIT_FEATURES * problem->n_groups,
                      .n_bytes = n_floats * sizeof(float),
                      .run_unit = run_gradients_unit};
    return run(&job, n_threads);
}
