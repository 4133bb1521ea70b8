/* Computations on a tile of NR rows, for one instruction set. `kernels.c` includes
   this file once for each, with

   VLEN      floats in a vector,
   MR        atoms whose sums are kept in registers, a multiple of MR_TAIL,
   WIDE      vectors in a tile of incomplete rows, or of features: as many as there are
             registers for, because the other factor is beyond the first-level cache,
   NC        columns of the Gram products whose sums are, with MR_TAIL rows,
   MINIMUM and MAXIMUM  of two vectors, the second one if a lane of either is NaN,
   TARGET    the attribute that enables the instructions,
   SUFFIXED  a macro that appends the instruction set to a name.

   The operations that follow a product with the contraction are done in registers, so
   that only products pass over the codes, and find them in the first-level cache. */

#define vector SUFFIXED(vector)
#define mask SUFFIXED(mask)
#define tile SUFFIXED(tile)
#define wide SUFFIXED(wide)
#define VECTORS (NR / VLEN)
#define UNROLLED _Pragma("GCC unroll 16") /* the sums are in registers only then */
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef float vector __attribute__((vector_size(4 * VLEN)));
typedef int32_t mask __attribute__((vector_size(4 * VLEN)));
typedef vector tile[VECTORS]; /* the rows of one atom */
typedef vector wide[WIDE];

/* Subtract the clamped points from the points. */
INLINE vector SUFFIXED(soft_threshold)(vector points, float lower, float upper)
{
    /* Subtracting 0 copies a number to all lanes. If a point is NaN, so is the result. */
    const vector low = lower - (vector){0}, high = upper - (vector){0};
    return points - MINIMUM(high, MAXIMUM(low, points));
}

/* Read a vector; lanes from `n_rows` on are 0. */
INLINE vector SUFFIXED(read)(const float *src, ptrdiff_t n_rows)
{
    vector values = {0};
    if (n_rows >= VLEN)
        memcpy(&values, src, sizeof(vector));
    else
        for (int lane = 0; lane < n_rows; lane++)
            values[lane] = src[lane];
    return values;
}

/* Read the vectors of one atom. `n_vectors` is a constant where this and the functions
   below are inlined. */
INLINE void SUFFIXED(load)(vector *dest, const float *src, ptrdiff_t n_rows,
                           int n_vectors)
{
    for (int v = 0; v < n_vectors; v++)
        dest[v] = SUFFIXED(read)(src + v * VLEN, n_rows - v * VLEN);
}

/* Read the rows of all atoms, and pad them with atoms that are 0. */
INLINE void SUFFIXED(load_atoms)(vector *dest, const float *src,
                                 const struct shape *shape, struct tile_index index,
                                 int n_vectors)
{
    const ptrdiff_t n_padding = padded(shape->n_atoms) - shape->n_atoms;
    for (ptrdiff_t i = 0; i < shape->n_atoms; i++, dest += n_vectors)
        SUFFIXED(load)(dest, src + row_offset(shape, index, i), index.n_rows,
                       n_vectors);
    memset(dest, 0, n_padding * n_vectors * sizeof(vector));
}

INLINE void SUFFIXED(store_atoms)(float *dest, const vector *src,
                                  const struct shape *shape, struct tile_index index,
                                  int n_vectors)
{
    for (ptrdiff_t i = 0; i < shape->n_atoms; i++, src += n_vectors)
        memcpy(dest + row_offset(shape, index, i), src, index.n_rows * sizeof(float));
}

/* Add the products of `mr` rows of a matrix with a tile to their sums. `mr` is a
   constant, too. */
INLINE void SUFFIXED(micro_kernel)(vector *sums, struct matrix matrix,
                                   const vector *factors, ptrdiff_t n, int mr,
                                   int n_vectors)
{
    for (ptrdiff_t j = 0; j < n; j++, factors += n_vectors)
        UNROLLED
        for (int b = 0; b < mr; b++)
            for (int v = 0; v < n_vectors; v++)
                sums[b * n_vectors + v] +=
                    matrix.entries[b * matrix.row_stride + j * matrix.column_stride] *
                    factors[v];
}

/* Call a function for blocks of MR, MR_TAIL and single atoms, features or rows. The
   size of the block, its last argument, is a constant where it is inlined. */
#define FOR_BLOCKS(n, function, ...)                                                   \
    do {                                                                               \
        ptrdiff_t first = 0;                                                           \
        for (; first + MR <= (n); first += MR)                                         \
            SUFFIXED(function)(__VA_ARGS__, first, MR);                                \
        for (; first + MR_TAIL <= (n); first += MR_TAIL)                               \
            SUFFIXED(function)(__VA_ARGS__, first, MR_TAIL);                           \
        for (; first < (n); first++)                                                   \
            SUFFIXED(function)(__VA_ARGS__, first, 1);                                 \
    } while (0)

/* Run a layer for `mr` atoms: compute their new codes, and the points that the next
   layer multiplies, which are the codes with momentum. */
INLINE void SUFFIXED(forward_block)(const struct layers *layers,
                                    const struct workspace *ws,
                                    const tile *correlations, const tile *points,
                                    tile *codes, tile *next_points, float momentum,
                                    ptrdiff_t first, int mr)
{
    tile sums[MR];
    UNROLLED
    for (int b = 0; b < mr; b++)
        for (int v = 0; v < VECTORS; v++)
            sums[b][v] = correlations[first + b][v];
    SUFFIXED(micro_kernel)(*sums, contraction_panel(ws, &layers->shape, first, mr),
                           *points, layers->shape.n_atoms, mr, VECTORS);
    UNROLLED
    for (int b = 0; b < mr; b++) {
        const ptrdiff_t i = first + b;
        for (int v = 0; v < VECTORS; v++) {
            vector code =
                SUFFIXED(soft_threshold)(sums[b][v], ws->lower[i], ws->upper[i]);
            next_points[i][v] = code + momentum * (code - codes[i][v]);
            codes[i][v] = code;
        }
    }
}

/* Add the energy that `mr` atoms explain, x.(2 C - G x). Codes are in units of the step
   size, and step * G is 1 minus the contraction. */
INLINE void SUFFIXED(energy_block)(const struct layers *layers,
                                   const struct workspace *ws,
                                   const tile *correlations, const tile *codes,
                                   tile explained_energy, ptrdiff_t first, int mr)
{
    tile sums[MR] = {0};
    SUFFIXED(micro_kernel)(*sums, contraction_panel(ws, &layers->shape, first, mr),
                           *codes, layers->shape.n_atoms, mr, VECTORS);
    UNROLLED
    for (int b = 0; b < mr; b++)
        for (int v = 0; v < VECTORS; v++) {
            const vector code = codes[first + b][v];
            explained_energy[v] += ws->step * code *
                                   (2 * correlations[first + b][v] -
                                    (code - sums[b][v]));
        }
}

TARGET static void SUFFIXED(forward)(const struct layers *layers,
                                     const struct workspace *ws,
                                     struct tile_index index)
{
    const struct shape *shape = &layers->shape;
    const ptrdiff_t n_padded = padded(shape->n_atoms);
    const int n_last = (int)layers->n_layers - 1;
    tile *correlations = ws->buffer, *codes = correlations + n_padded;
    tile *points = codes + n_padded, *next_points = points + n_padded;
    tile *tape = (tile *)(layers->tape + tape_offset(layers, index));
    SUFFIXED(load_atoms)(*correlations, layers->input, shape, index, VECTORS);
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < VECTORS; v++)
            codes[i][v] = SUFFIXED(soft_threshold)(correlations[i][v], ws->lower[i],
                                                   ws->upper[i]);
    memcpy(points, codes, n_padded * sizeof(tile));
    for (int layer = 1; layer <= n_last; layer++) {
        const float momentum = layer < n_last ? layers->momenta[layer] : 0;
        if (layers->tape)
            memcpy(tape + (layer - 1) * n_padded, codes, n_padded * sizeof(tile));
        FOR_BLOCKS(n_padded, forward_block, layers, ws, correlations, points,
                   codes, next_points, momentum);
        tile *scratch = points;
        points = next_points;
        next_points = scratch;
    }
    if (layers->explained_energy) {
        tile explained_energy = {0};
        FOR_BLOCKS(n_padded, energy_block, layers, ws, correlations, codes,
                   explained_energy);
        memcpy(layers->explained_energy + index.cluster * shape->n_rows +
                   index.number * NR,
               explained_energy, index.n_rows * sizeof(float));
    }
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < VECTORS; v++)
            codes[i][v] *= ws->step;
    SUFFIXED(store_atoms)(layers->output, *codes, shape, index, VECTORS);
}

/* Mask the gradient in the codes of an atom, and write the gradient in the points that
   its layer multiplied. The momentum of the next layer, whose masked gradient is
   `next_grad`, contributes to it. */
INLINE void SUFFIXED(masked_grad)(const tile grad_codes, const tile codes,
                                  tile grad_correlations, tile next_grad,
                                  tile grad_points, float momentum,
                                  float next_momentum)
{
    for (int v = 0; v < VECTORS; v++) {
        const vector grad = (vector)((codes[v] != 0) & (mask)grad_codes[v]);
        grad_correlations[v] += grad;
        grad_points[v] = (1 + momentum) * grad - next_momentum * next_grad[v];
        next_grad[v] = grad;
    }
}

/* Run a layer backward for `mr` atoms. */
INLINE void SUFFIXED(backward_block)(const struct layers *layers,
                                     const struct workspace *ws,
                                     const tile *grad_points, const tile *codes,
                                     tile *grad_correlations, tile *next_grad,
                                     tile *previous_grad_points, int layer,
                                     ptrdiff_t first, int mr)
{
    const float momentum = layer > 0 ? layers->momenta[layer - 1] : 0;
    tile sums[MR] = {0};
    /* The contraction is symmetric. */
    SUFFIXED(micro_kernel)(*sums, contraction_panel(ws, &layers->shape, first, mr),
                           *grad_points, layers->shape.n_atoms, mr, VECTORS);
    UNROLLED
    for (int b = 0; b < mr; b++) {
        const ptrdiff_t i = first + b;
        SUFFIXED(masked_grad)(sums[b], codes[i], grad_correlations[i], next_grad[i],
                              previous_grad_points[i], momentum,
                              layers->momenta[layer]);
    }
}

/* Add the products of gradients with codes, summed over the layers, to the gradient in
   the contraction. Its lanes are summed by `reduce_grad_gram`. */
INLINE void SUFFIXED(add_gram_products)(vector *gram_products, const tile *grad_points,
                                        const tile *codes, ptrdiff_t n_padded,
                                        int n_planes)
{
    for (ptrdiff_t i = 0; i < n_padded; i += MR_TAIL)
        for (ptrdiff_t j = 0; j < n_padded; j += NC) {
            tile sums[MR_TAIL][NC];
            memset(sums, 0, sizeof(sums));
            for (int plane = 0; plane < n_planes; plane++)
                for (int b = 0; b < MR_TAIL; b++)
                    for (int c = 0; c < NC; c++)
                        for (int v = 0; v < VECTORS; v++)
                            sums[b][c][v] += grad_points[plane * n_padded + i + b][v] *
                                             codes[plane * n_padded + j + c][v];
            for (int b = 0; b < MR_TAIL; b++)
                for (int c = 0; c < NC; c++)
                    for (int v = 0; v < VECTORS; v++)
                        gram_products[(i + b) * n_padded + j + c] += sums[b][c][v];
        }
}

TARGET static void SUFFIXED(backward)(const struct layers *layers,
                                      const struct workspace *ws,
                                      struct tile_index index)
{
    const ptrdiff_t n_padded = padded(layers->shape.n_atoms);
    const int n_last = (int)layers->n_layers - 1;
    tile *grad_correlations = ws->buffer, *next_grad = grad_correlations + n_padded;
    tile *codes = next_grad + n_padded;
    tile *grad_points = codes + n_padded; /* one plane for each layer except layer 0 */
    tile *scratch = grad_points + n_last * n_padded; /* layer 0 multiplies nothing */
    const tile *tape = (const tile *)(layers->tape + tape_offset(layers, index));
    memset(next_grad, 0, n_padded * sizeof(tile));
    SUFFIXED(load_atoms)(*codes, layers->codes, &layers->shape, index, VECTORS);
    /* The buffer of grad_correlations first holds the input. */
    SUFFIXED(load_atoms)(*grad_correlations, layers->input, &layers->shape, index,
                         VECTORS);
    for (ptrdiff_t i = 0; i < n_padded; i++) {
        tile grad_codes;
        for (int v = 0; v < VECTORS; v++) {
            grad_codes[v] = ws->step * grad_correlations[i][v];
            grad_correlations[i][v] = (vector){0};
        }
        SUFFIXED(masked_grad)(grad_codes, codes[i], grad_correlations[i], next_grad[i],
                              (n_last > 0 ? scratch - n_padded : scratch)[i],
                              n_last > 0 ? layers->momenta[n_last - 1] : 0, 0);
    }
    for (int layer = n_last - 1; layer >= 0; layer--) {
        const tile *layer_codes = tape + layer * n_padded;
        const tile *layer_grad = grad_points + layer * n_padded;
        tile *previous_grad =
            layer > 0 ? grad_points + (layer - 1) * n_padded : scratch;
        FOR_BLOCKS(n_padded, backward_block, layers, ws, layer_grad, layer_codes,
                   grad_correlations, next_grad, previous_grad, layer);
    }
    SUFFIXED(add_gram_products)(ws->gram_products, grad_points, tape, n_padded, n_last);
    SUFFIXED(store_atoms)(layers->output, *grad_correlations, &layers->shape, index,
                          VECTORS);
}

#include "incomplete.h"

/* Add the products of a block with a tile of features to the gradient of `mr` atoms. */
INLINE void SUFFIXED(gradient_block)(const struct gradient_products *problem,
                                     ptrdiff_t block, const wide *rows,
                                     ptrdiff_t feature, size_t n_features,
                                     ptrdiff_t atom, int mr)
{
    const ptrdiff_t n_atoms = problem->n_atoms, n_rows = problem->n_rows;
    const float *grad = problem->grad_correlations + (block * n_atoms + atom) * n_rows;
    const int64_t *index = problem->index + block * n_rows;
    float *gradient =
        problem->gradient + feature +
        (problem->cluster_ids[block] * n_atoms + atom) * problem->n_features;
    wide sums[MR] = {0};
    for (ptrdiff_t row = 0; row < n_rows; row++)
        UNROLLED
        for (int b = 0; b < mr; b++)
            for (int v = 0; v < WIDE; v++)
                sums[b][v] += grad[b * n_rows + row] * rows[index[row]][v];
    /* Out of the registers, before a function is called. */
    wide products[MR], total;
    memcpy(products, sums, mr * sizeof(wide));
    for (int b = 0; b < mr; b++, gradient += problem->n_features) {
        SUFFIXED(load)(total, gradient, n_features, WIDE);
        for (int v = 0; v < WIDE; v++)
            total[v] += products[b][v];
        memcpy(gradient, total, n_features * sizeof(float));
    }
}

/* Read a tile of features of all rows. */
INLINE void SUFFIXED(load_rows)(wide *dest, const float *src,
                                const struct gradient_products *problem,
                                size_t n_features)
{
    for (ptrdiff_t row = 0; row < problem->n_total_rows; row++)
        SUFFIXED(load)(dest[row], src + row * problem->n_features, n_features, WIDE);
}

/* Add the products with up to UNIT_FEATURES features, from `first_feature` on, to the
   gradients of a group of clusters. The rows are read once and stay in the cache. */
TARGET static void SUFFIXED(add_gradients)(const struct gradient_products *problem,
                                           void *buffer, ptrdiff_t first_feature,
                                           ptrdiff_t first_cluster,
                                           ptrdiff_t end_cluster)
{
    enum { N_TILES = UNIT_FEATURES / (WIDE * VLEN) };
    const ptrdiff_t n_all = problem->n_total_rows;
    wide *all_rows = buffer, *all_observed = all_rows + N_TILES * n_all;
    wide *imputed = all_observed + N_TILES * n_all, *atoms = imputed + n_all;
    size_t widths[N_TILES];
    int n_tiles = 0;
    for (; n_tiles < N_TILES; n_tiles++) {
        const ptrdiff_t feature = first_feature + n_tiles * WIDE * VLEN;
        const ptrdiff_t n_remaining = problem->n_features - feature;
        if (n_remaining <= 0)
            break;
        widths[n_tiles] = n_remaining < WIDE * VLEN ? n_remaining : WIDE * VLEN;
        SUFFIXED(load_rows)(all_rows + n_tiles * n_all, problem->rows + feature,
                            problem, widths[n_tiles]);
        if (problem->observed)
            SUFFIXED(load_rows)(all_observed + n_tiles * n_all,
                                problem->observed + feature, problem, widths[n_tiles]);
    }
    for (ptrdiff_t block = 0; block < problem->n_blocks; block++) {
        const ptrdiff_t cluster = problem->cluster_ids[block];
        if (cluster < first_cluster || cluster >= end_cluster)
            continue;
        for (int t = 0; t < n_tiles; t++) {
            const ptrdiff_t feature = first_feature + t * WIDE * VLEN;
            const wide *rows = all_rows + t * n_all;
            if (problem->observed) {
                SUFFIXED(impute)(problem, block, rows, all_observed + t * n_all,
                                 feature, widths[t], atoms, imputed);
                rows = imputed;
            }
            FOR_BLOCKS(problem->n_atoms, gradient_block, problem, block, rows, feature,
                       widths[t]);
        }
    }
}

/* The functions above. */
static const struct kernel_table SUFFIXED(kernels) = {
    .vlen = VLEN,
    .mr = MR,
    .n_wide = WIDE * VLEN,
    .forward = SUFFIXED(forward),
    .backward = SUFFIXED(backward),
    .encode_incomplete = SUFFIXED(encode_incomplete),
    .add_gradients = SUFFIXED(add_gradients)};

#undef FOR_BLOCKS
#undef vector
#undef mask
#undef tile
#undef wide
#undef VECTORS
#undef UNROLLED
#undef INLINE
#undef VLEN
#undef MR
#undef WIDE
#undef NC
#undef MINIMUM
#undef MAXIMUM
#undef TARGET
#undef SUFFIXED
