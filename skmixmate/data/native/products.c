/* Products of dictionaries and gradients with sparse rows, in float32.

   The rows are those of a CSR matrix whose column indices ascend within each row.
   `sparse_batch.py` documents these products, and computes them with scipy where this
   library was not built. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Features whose atoms are transposed at a time, so that they stay in the cache, and a
   number that the atoms of a thread are a multiple of. */
#define TILE 64
#define ALIGNED_ATOMS 16

/* The instructions of the processor are chosen when the library is loaded; ARM of 64
   bits has one set of vectors. */
#ifdef __x86_64__
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

/* torch has loaded this function for its own threads; the threads of another library
   would compete with them. Without it, there is a single thread. */
extern void GOMP_parallel(void (*function)(void *), void *data, unsigned n_threads,
                          unsigned flags) __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));

struct rows {
    const float *entries;
    const int32_t *indices;
    const int64_t *starts; /* (n_rows + 1,) */
    int64_t n_rows, n_features;
};

/* A range of atoms, one for each thread. */
struct part {
    int64_t first, last;
};

static struct part part_of(int64_t n_atoms, int64_t multiple, int thread, int n_threads)
{
    const int64_t n_units = (n_atoms + multiple - 1) / multiple;
    struct part part = {n_units * thread / n_threads * multiple,
                        n_units * (thread + 1) / n_threads * multiple};
    if (part.last > n_atoms)
        part.last = n_atoms;
    return part;
}

struct projection {
    struct rows rows;
    const float *atoms; /* (n_atoms, n_features) */
    float *products;    /* (n_rows, n_atoms) */
    int64_t n_atoms;
    int n_threads, has_failed;
};

struct gradients {
    struct rows rows;
    float *gradient;                    /* (n_clusters, n_atoms, n_features) */
    const float *grad_correlations;     /* (n_blocks, n_atoms, n_block) */
    const int64_t *cluster_ids, *index; /* (n_blocks,) and (n_blocks, n_block) */
    int64_t n_blocks, n_atoms, n_block;
    int n_threads, has_failed;
};

/* Lay out some features of some atoms with the atoms last. */
CLONES
static void transpose(const float *atoms, int64_t n_features, int64_t n_tile,
                      struct part part, float *tile)
{
    const int64_t n_atoms = part.last - part.first;
    for (int64_t a = 0; a < n_atoms; a++) {
        const float *atom = atoms + (part.first + a) * n_features;
        for (int64_t j = 0; j < n_tile; j++)
            tile[j * n_atoms + a] = atom[j];
    }
}

CLONES
static void add_multiple(float *restrict sum, const float *restrict terms, float factor,
                         int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += factor * terms[i];
}

static void project_part(struct projection *problem, int thread)
{
    const struct rows *rows = &problem->rows;
    const struct part part =
        part_of(problem->n_atoms, ALIGNED_ATOMS, thread, problem->n_threads);
    const int64_t n_atoms = part.last - part.first;
    if (n_atoms <= 0)
        return;
    float *tile = malloc(TILE * n_atoms * sizeof(float));
    int64_t *next = malloc((rows->n_rows + 1) * sizeof(int64_t));
    if (!tile || !next) {
        problem->has_failed = 1;
        free(tile);
        free(next);
        return;
    }
    memcpy(next, rows->starts, rows->n_rows * sizeof(int64_t));
    for (int64_t r = 0; r < rows->n_rows; r++)
        memset(problem->products + r * problem->n_atoms + part.first, 0,
               n_atoms * sizeof(float));
    for (int64_t first = 0; first < rows->n_features; first += TILE) {
        const int64_t last =
            first + TILE < rows->n_features ? first + TILE : rows->n_features;
        int is_transposed = 0;
        for (int64_t r = 0; r < rows->n_rows; r++) {
            float *sum = problem->products + r * problem->n_atoms + part.first;
            int64_t i = next[r];
            for (; i < rows->starts[r + 1] && rows->indices[i] < last; i++) {
                if (!is_transposed) {
                    transpose(problem->atoms + first, rows->n_features, last - first,
                              part, tile);
                    is_transposed = 1;
                }
                add_multiple(sum, tile + (rows->indices[i] - first) * n_atoms,
                             rows->entries[i], n_atoms);
            }
            next[r] = i;
        }
    }
    free(tile);
    free(next);
}

static void add_gradients_part(struct gradients *problem, int thread)
{
    const struct rows *rows = &problem->rows;
    const struct part part = part_of(problem->n_atoms, 1, thread, problem->n_threads);
    for (int64_t b = 0; b < problem->n_blocks; b++) {
        const int64_t *index = problem->index + b * problem->n_block;
        for (int64_t a = part.first; a < part.last; a++) {
            const float *grad = problem->grad_correlations +
                                (b * problem->n_atoms + a) * problem->n_block;
            float *gradient =
                problem->gradient +
                (problem->cluster_ids[b] * problem->n_atoms + a) * rows->n_features;
            for (int64_t j = 0; j < problem->n_block; j++) {
                const float factor = grad[j];
                if (factor == 0)
                    continue;
                for (int64_t i = rows->starts[index[j]]; i < rows->starts[index[j] + 1];
                     i++)
                    gradient[rows->indices[i]] += factor * rows->entries[i];
            }
        }
    }
}

static int thread_number(void)
{
    return omp_get_thread_num ? omp_get_thread_num() : 0;
}

static void run_projection(void *data)
{
    project_part(data, thread_number());
}

static void run_gradients(void *data)
{
    add_gradients_part(data, thread_number());
}

static int n_usable_threads(int n_threads)
{
    return GOMP_parallel && omp_get_thread_num ? n_threads : 1;
}

int sparse_project(struct projection *problem)
{
    problem->n_threads = n_usable_threads(problem->n_threads);
    if (problem->n_threads > 1)
        GOMP_parallel(run_projection, problem, (unsigned)problem->n_threads, 0);
    else
        project_part(problem, 0);
    return problem->has_failed;
}

int sparse_add_gradients(struct gradients *problem)
{
    problem->n_threads = n_usable_threads(problem->n_threads);
    if (problem->n_threads > 1)
        GOMP_parallel(run_gradients, problem, (unsigned)problem->n_threads, 0);
    else
        add_gradients_part(problem, 0);
    return 0;
}

void sparse_struct_sizes(int64_t *sizes)
{
    sizes[0] = sizeof(struct projection);
    sizes[1] = sizeof(struct gradients);
}
