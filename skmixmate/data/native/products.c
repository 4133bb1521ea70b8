/* Products of dictionaries and gradients with sparse rows, in float32.

   The rows are those of a CSR matrix whose column indices ascend within each row.
   `sparse_batch.py` documents these products, and computes them with scipy where this
   library was not built. */

#include "../../utils/threads.h"

#include <string.h>

/* Features whose atoms are transposed at a time, so that they stay in the cache, and a
   number that the atoms of a thread are a multiple of. */
#define TILE 64
#define ALIGNED_ATOMS 16

struct rows {
    const float *entries;
    const int32_t *indices;
    const int64_t *starts; /* (n_rows + 1,) */
    int64_t n_rows, n_features;
};

/* A range of atoms, which is a unit of work. */
struct part {
    int64_t first, last;
};

static struct part part_of(int64_t n_atoms, int64_t multiple, ptrdiff_t unit,
                           ptrdiff_t n_units)
{
    const int64_t n_groups = (n_atoms + multiple - 1) / multiple;
    struct part part = {n_groups * unit / n_units * multiple,
                        n_groups * (unit + 1) / n_units * multiple};
    if (part.last > n_atoms)
        part.last = n_atoms;
    return part;
}

struct projection {
    struct rows rows;
    const float *atoms; /* (n_atoms, n_features) */
    float *products;    /* (n_rows, n_atoms) */
    int64_t n_atoms;
};

struct gradients {
    struct rows rows;
    float *gradient;                    /* (n_clusters, n_atoms, n_features) */
    const float *grad_correlations;     /* (n_blocks, n_atoms, n_block) */
    const int64_t *cluster_ids, *index; /* (n_blocks,) and (n_blocks, n_block) */
    int64_t n_blocks, n_atoms, n_block;
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

static void project_part(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct projection *problem = job->problem;
    const struct rows *rows = &problem->rows;
    const struct part part =
        part_of(problem->n_atoms, ALIGNED_ATOMS, unit, job->n_units);
    const int64_t n_atoms = part.last - part.first;
    if (n_atoms <= 0)
        return;
    int64_t *next = (int64_t *)memory;
    float *tile = (float *)(next + rows->n_rows);
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
}

static void add_gradients_part(const struct job *job, ptrdiff_t unit, char *memory)
{
    (void)memory;
    const struct gradients *problem = job->problem;
    const struct rows *rows = &problem->rows;
    const struct part part = part_of(problem->n_atoms, 1, unit, job->n_units);
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

/* Like the function below, return 0, or -1 if memory could not be allocated. */
int sparse_project(const struct projection *problem, int n_threads)
{
    const size_t n_largest = problem->n_atoms / n_threads + 2 * ALIGNED_ATOMS;
    struct job job = {.problem = problem,
                      .run_unit = project_part,
                      .n_units = n_threads,
                      .n_bytes = problem->rows.n_rows * sizeof(int64_t) +
                                 TILE * n_largest * sizeof(float)};
    return run(&job, n_threads);
}

int sparse_add_gradients(const struct gradients *problem, int n_threads)
{
    struct job job = {.problem = problem,
                      .run_unit = add_gradients_part,
                      .n_units = n_threads,
                      .n_bytes = ALIGNMENT};
    return run(&job, n_threads);
}

void sparse_struct_sizes(int64_t *sizes)
{
    sizes[0] = sizeof(struct projection);
    sizes[1] = sizeof(struct gradients);
}
