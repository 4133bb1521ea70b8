/* Runs the compiled code on a problem from standard input, and writes all results to
   standard output: for processors that Python does not run on here.

   The input has five 64-bit integers and arrays of floats, the output arrays of floats,
   in the order in which `main` reads and writes them. */

#include "kernels.c"

#define rows sparse_rows /* a field there, a struct here */
#include "products.c"
#undef rows

#include <stdio.h>

static float *allocate(size_t n)
{
    float *values = aligned_alloc(ALIGNMENT, aligned((n + 1) * sizeof(float)));
    if (!values)
        exit(1);
    memset(values, 0, aligned((n + 1) * sizeof(float)));
    return values;
}

static float *receive(size_t n)
{
    float *values = allocate(n);
    if (fread(values, sizeof(float), n, stdin) != n)
        exit(2);
    return values;
}

static void emit(const float *values, size_t n)
{
    if (fwrite(values, sizeof(float), n, stdout) != n)
        exit(3);
}

int main(void)
{
    int64_t sizes[5];
    if (fread(sizes, sizeof(int64_t), 5, stdin) != 5 || !kernels_vlen())
        return 4;
    const int64_t n_clusters = sizes[0], n_atoms = sizes[1], n_rows = sizes[2];
    const int64_t n_layers = sizes[3], n_features = sizes[4];
    const int64_t n_tiles = (n_rows + NR - 1) / NR;
    const int64_t n_codes = n_clusters * n_atoms * n_rows;
    const struct shape shape = {n_clusters, n_atoms, n_rows,        n_tiles,
                                n_tiles,    1,       kernels_vlen()};

    /* The layers, forward and backward. */
    struct layers layers = {.shape = shape, .n_layers = n_layers};
    layers.gram = receive(n_clusters * n_atoms * n_atoms);
    layers.step = receive(n_clusters);
    layers.lower = receive(n_clusters * n_atoms);
    layers.upper = receive(n_clusters * n_atoms);
    layers.momenta = receive(n_layers - 1);
    layers.input = receive(n_codes);
    float *codes = layers.output = allocate(n_codes);
    layers.explained_energy = allocate(n_clusters * n_rows);
    layers.tape =
        allocate(n_clusters * n_tiles * (n_layers - 1) * padded(n_atoms) * NR);
    if (kernels_run_layers(&layers, 1))
        return 5;
    emit(codes, n_codes);
    emit(layers.explained_energy, n_clusters * n_rows);
    layers.codes = codes;
    layers.input = receive(n_codes);
    layers.output = allocate(n_codes);
    layers.grad_gram = allocate(n_clusters * n_atoms * n_atoms);
    layers.explained_energy = NULL;
    if (kernels_run_layers(&layers, 1))
        return 6;
    emit(layers.output, n_codes);
    emit(layers.grad_gram, n_clusters * n_atoms * n_atoms);

    /* Missing entries. */
    struct incomplete_layers incomplete = {
        .layers = layers, .n_features = n_features};
    incomplete.dictionaries = receive(n_clusters * n_atoms * n_features);
    incomplete.targets = receive(n_features * n_rows);
    incomplete.observed = receive(n_features * n_rows);
    incomplete.fractions = receive(n_rows);
    incomplete.exact = receive(n_layers - 1);
    incomplete.layers.input = receive(n_codes);
    incomplete.layers.output = allocate(n_codes);
    incomplete.layers.grad_gram = NULL;
    incomplete.correlations = allocate(n_codes);
    incomplete.squared_residuals = allocate(n_clusters * n_rows);
    incomplete.squared_norms = allocate(n_clusters * n_rows);
    if (kernels_encode_incomplete(&incomplete, 1))
        return 7;
    emit(incomplete.layers.output, n_codes);
    emit(incomplete.correlations, n_codes);
    emit(incomplete.squared_residuals, n_clusters * n_rows);
    emit(incomplete.squared_norms, n_clusters * n_rows);

    /* The gradient, from one block of all rows for each cluster. */
    const float *rows = receive(n_rows * n_features);
    int64_t *index = malloc(n_clusters * n_rows * sizeof(int64_t));
    int64_t *cluster_ids = malloc(n_clusters * sizeof(int64_t));
    for (int64_t k = 0; k < n_clusters; k++) {
        cluster_ids[k] = k;
        for (int64_t r = 0; r < n_rows; r++)
            index[k * n_rows + r] = r;
    }
    float *gradient = allocate(n_clusters * n_atoms * n_features);
    struct gradient_products products = {.rows = rows,
                                               .grad_correlations = layers.output,
                                               .index = index,
                                               .cluster_ids = cluster_ids,
                                               .gradient = gradient,
                                               .n_total_rows = n_rows,
                                               .n_features = n_features,
                                               .n_blocks = n_clusters,
                                               .n_clusters = n_clusters,
                                               .n_atoms = n_atoms,
                                               .n_rows = n_rows,
                                               .n_groups = 1,
                                               .vlen = kernels_vlen()};
    if (kernels_add_gradients(&products, 1))
        return 8;
    emit(gradient, n_clusters * n_atoms * n_features);
    products.observed = receive(n_rows * n_features);
    products.codes = codes;
    products.dictionaries = incomplete.dictionaries;
    products.intercepts = receive(n_clusters * n_features);
    if (kernels_add_gradients(&products, 1))
        return 8;
    emit(gradient, n_clusters * n_atoms * n_features);

    /* The same rows as a sparse matrix. */
    int32_t *indices = malloc(n_rows * n_features * sizeof(int32_t));
    int64_t *starts = malloc((n_rows + 1) * sizeof(int64_t));
    for (int64_t i = 0; i < n_rows * n_features; i++)
        indices[i] = (int32_t)(i % n_features);
    for (int64_t r = 0; r <= n_rows; r++)
        starts[r] = r * n_features;
    const struct sparse_rows matrix = {rows, indices, starts, n_rows, n_features};
    struct projection projection = {
        .sparse_rows = matrix,
        .atoms = incomplete.dictionaries,
        .products = allocate(n_rows * n_clusters * n_atoms),
        .n_atoms = n_clusters * n_atoms};
    if (sparse_project(&projection, 1))
        return 9;
    emit(projection.products, n_rows * n_clusters * n_atoms);
    struct gradients gradients = {.sparse_rows = matrix,
                                  .gradient =
                                      allocate(n_clusters * n_atoms * n_features),
                                  .grad_correlations = layers.output,
                                  .cluster_ids = cluster_ids,
                                  .index = index,
                                  .n_blocks = n_clusters,
                                  .n_atoms = n_atoms,
                                  .n_block = n_rows};
    sparse_add_gradients(&gradients, 1);
    emit(gradients.gradient, n_clusters * n_atoms * n_features);
    return 0;
}
