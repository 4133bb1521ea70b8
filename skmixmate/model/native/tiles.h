/* Computations on a tile of NR rows, for one instruction set. `kernels.c` includes
   this file once for each, with

   VLEN      floats in a vector,
   MR        atoms whose sums are kept in registers, a multiple of MR_TAIL,
   NC        columns of the Gram products whose sums are, with MR_TAIL rows,
   MINIMUM and MAXIMUM  of two vectors, the second one if a lane of either is NaN,
   TARGET    the attribute that enables the instructions,
   SUFFIXED  a macro that appends the instruction set to a name.

   The operations that follow a product with the contraction are done in registers, so
   that only products pass over the codes, and find them in the first-level cache. */

#define vector SUFFIXED(vector)
#define mask SUFFIXED(mask)
#define tile SUFFIXED(tile)
#define VECTORS (NR / VLEN)
#define UNROLLED _Pragma("GCC unroll 16") /* the sums are in registers only then */
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef float vector __attribute__((vector_size(4 * VLEN)));
typedef int32_t mask __attribute__((vector_size(4 * VLEN)));
typedef vector tile[VECTORS]; /* the rows of one atom */

INLINE vector SUFFIXED(blend)(mask condition, vector if_true, vector if_false)
{
    return (vector)((condition & (mask)if_true) | (~condition & (mask)if_false));
}

/* Subtract the clamped points from the points. */
INLINE vector SUFFIXED(soft_threshold)(vector points, float lower, float upper)
{
    /* Subtracting 0 copies a number to all lanes. If a point is NaN, so is the result. */
    const vector low = lower - (vector){0}, high = upper - (vector){0};
    return points - MINIMUM(high, MAXIMUM(low, points));
}

/* Read a tile, and pad it with zeros if it has fewer than NR rows. */
INLINE void SUFFIXED(load)(tile dest, const float *src, size_t n_rows)
{
    if (n_rows == NR) {
        memcpy(dest, src, sizeof(tile));
    } else {
        memset(dest, 0, sizeof(tile));
        memcpy(dest, src, n_rows * sizeof(float));
    }
}

/* Read the tiles of all atoms, and pad them with atoms that are 0. */
INLINE void SUFFIXED(load_atoms)(tile *dest, const float *src,
                                 const struct shape *shape, struct tile_index index)
{
    const ptrdiff_t n_padded = padded(shape->n_atoms);
    for (ptrdiff_t i = 0; i < shape->n_atoms; i++)
        SUFFIXED(load)(dest[i], src + row_offset(shape, index, i), index.n_rows);
    memset(dest + shape->n_atoms, 0, (n_padded - shape->n_atoms) * sizeof(tile));
}

INLINE void SUFFIXED(store_atoms)(float *dest, const tile *src,
                                  const struct shape *shape, struct tile_index index)
{
    for (ptrdiff_t i = 0; i < shape->n_atoms; i++)
        memcpy(dest + row_offset(shape, index, i), src[i],
               index.n_rows * sizeof(float));
}

/* Add the products of a panel with codes to the sums of `mr` atoms. The panel has the
   factors of these for one atom, and those for the next one `stride` after them. `mr`
   is a constant where this is inlined. */
INLINE void SUFFIXED(micro_kernel)(tile *sums, const float *panel, ptrdiff_t stride,
                                   const tile *codes, ptrdiff_t n_atoms, int mr)
{
    for (ptrdiff_t j = 0; j < n_atoms; j++, panel += stride)
        UNROLLED
        for (int b = 0; b < mr; b++)
            for (int v = 0; v < VECTORS; v++)
                sums[b][v] += panel[b] * codes[j][v];
}

/* Call a function for blocks of MR atoms, and of MR_TAIL for the last ones; both are
   constants where it is inlined. */
#define FOR_ATOM_BLOCKS(n_padded, function, ...)                                      \
    do {                                                                              \
        ptrdiff_t first = 0;                                                          \
        for (; first + MR <= (n_padded); first += MR)                                 \
            SUFFIXED(function)(__VA_ARGS__, first, MR);                               \
        for (; first < (n_padded); first += MR_TAIL)                                  \
            SUFFIXED(function)(__VA_ARGS__, first, MR_TAIL);                          \
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
    SUFFIXED(micro_kernel)(sums, ws->contraction + first * layers->shape.n_atoms, mr,
                           points, layers->shape.n_atoms, mr);
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
    SUFFIXED(micro_kernel)(sums, ws->contraction + first * layers->shape.n_atoms, mr,
                           codes, layers->shape.n_atoms, mr);
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
    SUFFIXED(load_atoms)(correlations, layers->input, shape, index);
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < VECTORS; v++)
            codes[i][v] = SUFFIXED(soft_threshold)(correlations[i][v], ws->lower[i],
                                                   ws->upper[i]);
    memcpy(points, codes, n_padded * sizeof(tile));
    for (int layer = 1; layer <= n_last; layer++) {
        const float momentum = layer < n_last ? layers->momenta[layer] : 0;
        if (layers->tape)
            memcpy(tape + (layer - 1) * n_padded, codes, n_padded * sizeof(tile));
        FOR_ATOM_BLOCKS(n_padded, forward_block, layers, ws, correlations, points,
                        codes, next_points, momentum);
        tile *scratch = points;
        points = next_points;
        next_points = scratch;
    }
    if (layers->explained_energy) {
        tile explained_energy = {0};
        FOR_ATOM_BLOCKS(n_padded, energy_block, layers, ws, correlations, codes,
                        explained_energy);
        memcpy(layers->explained_energy + index.cluster * shape->n_rows +
                   index.number * NR,
               explained_energy, index.n_rows * sizeof(float));
    }
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < VECTORS; v++)
            codes[i][v] *= ws->step;
    SUFFIXED(store_atoms)(layers->output, codes, shape, index);
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
        vector grad = SUFFIXED(blend)(codes[v] != 0, grad_codes[v], (vector){0});
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
    SUFFIXED(micro_kernel)(sums, ws->contraction + first * layers->shape.n_atoms, mr,
                           grad_points, layers->shape.n_atoms, mr);
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
    SUFFIXED(load_atoms)(codes, layers->codes, &layers->shape, index);
    /* The buffer of grad_correlations first holds the input. */
    SUFFIXED(load_atoms)(grad_correlations, layers->input, &layers->shape, index);
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
        FOR_ATOM_BLOCKS(n_padded, backward_block, layers, ws, layer_grad, layer_codes,
                        grad_correlations, next_grad, previous_grad, layer);
    }
    SUFFIXED(add_gram_products)(ws->gram_products, grad_points, tape, n_padded, n_last);
    SUFFIXED(store_atoms)(layers->output, grad_correlations, &layers->shape, index);
}

/* Add the products of the atoms with the residuals of `mr` features to the sums. */
INLINE void SUFFIXED(residual_block)(const struct residual_correlations *problem,
                                     struct tile_index index, const tile *codes,
                                     tile *sums, ptrdiff_t first, int mr)
{
    const struct shape *shape = &problem->shape;
    const ptrdiff_t n_atoms = shape->n_atoms, stride = problem->n_features;
    const float *atoms =
        problem->dictionaries + index.cluster * n_atoms * stride + first;
    const ptrdiff_t row = first * shape->n_rows + index.number * NR;
    const float *targets =
        problem->targets + index.cluster * problem->targets_stride + row;
    tile residual[MR] = {0}, target, observed;
    SUFFIXED(micro_kernel)(residual, atoms, stride, codes, n_atoms, mr);
    UNROLLED
    for (int b = 0; b < mr; b++) {
        SUFFIXED(load)(target, targets + b * shape->n_rows, index.n_rows);
        SUFFIXED(load)(observed, problem->observed + row + b * shape->n_rows,
                       index.n_rows);
        for (int v = 0; v < VECTORS; v++)
            residual[b][v] = (target[v] - residual[b][v]) * observed[v];
    }
    for (ptrdiff_t i = 0; i < n_atoms; i++, atoms += stride)
        for (int v = 0; v < VECTORS; v++) {
            vector sum = sums[i][v];
            UNROLLED
            for (int b = 0; b < mr; b++)
                sum += atoms[b] * residual[b][v];
            sums[i][v] = sum;
        }
}

TARGET static void SUFFIXED(correlate_residuals)(
    const struct residual_correlations *problem, void *buffer, struct tile_index index)
{
    const ptrdiff_t n_padded = padded(problem->shape.n_atoms);
    tile *codes = buffer, *sums = codes + n_padded;
    SUFFIXED(load_atoms)(codes, problem->codes, &problem->shape, index);
    memset(sums, 0, n_padded * sizeof(tile));
    ptrdiff_t first = 0;
    for (; first + MR <= problem->n_features; first += MR)
        SUFFIXED(residual_block)(problem, index, codes, sums, first, MR);
    for (; first < problem->n_features; first++)
        SUFFIXED(residual_block)(problem, index, codes, sums, first, 1);
    SUFFIXED(store_atoms)(problem->output, sums, &problem->shape, index);
}

/* Add the products of a block with a tile of features to the gradient of `mr` atoms. */
INLINE void SUFFIXED(gradient_block)(const struct gradient_products *problem,
                                     ptrdiff_t block, const tile *rows, ptrdiff_t atom,
                                     ptrdiff_t feature, size_t n_features, int mr)
{
    const ptrdiff_t n_atoms = problem->n_atoms, n_rows = problem->n_rows;
    const float *grad = problem->grad_correlations + (block * n_atoms + atom) * n_rows;
    const int64_t *index = problem->index + block * n_rows;
    float *gradient =
        problem->gradient + feature +
        (problem->cluster_ids[block] * n_atoms + atom) * problem->n_features;
    tile sums[MR] = {0};
    for (ptrdiff_t row = 0; row < n_rows; row++)
        UNROLLED
        for (int b = 0; b < mr; b++)
            for (int v = 0; v < VECTORS; v++)
                sums[b][v] += grad[b * n_rows + row] * rows[index[row]][v];
    UNROLLED
    for (int b = 0; b < mr; b++, gradient += problem->n_features) {
        tile total;
        SUFFIXED(load)(total, gradient, n_features);
        for (int v = 0; v < VECTORS; v++)
            total[v] += sums[b][v];
        memcpy(gradient, total, n_features * sizeof(float));
    }
}

/* Add the products with up to FEATURE_TILES tiles of features, from `first_feature` on,
   to the gradients of a group of clusters. The rows are read once and stay in the
   cache. */
TARGET static void SUFFIXED(add_gradients)(const struct gradient_products *problem,
                                           void *buffer, ptrdiff_t first_feature,
                                           ptrdiff_t first_cluster,
                                           ptrdiff_t end_cluster)
{
    const ptrdiff_t n_atoms = problem->n_atoms, n_all = problem->n_total_rows;
    const ptrdiff_t n_remaining = problem->n_features - first_feature;
    const int n_tiles = n_remaining < NR * FEATURE_TILES ? (n_remaining + NR - 1) / NR
                                                         : FEATURE_TILES;
    tile *rows = buffer; /* (n_tiles, n_all) */
    size_t widths[FEATURE_TILES];
    for (int t = 0; t < n_tiles; t++) {
        const float *features = problem->rows + first_feature + t * NR;
        widths[t] = n_remaining - t * NR < NR ? n_remaining - t * NR : NR;
        for (ptrdiff_t row = 0; row < n_all; row++)
            SUFFIXED(load)(rows[t * n_all + row], features + row * problem->n_features,
                           widths[t]);
    }
    for (ptrdiff_t block = 0; block < problem->n_blocks; block++) {
        const ptrdiff_t cluster = problem->cluster_ids[block];
        if (cluster < first_cluster || cluster >= end_cluster)
            continue;
        ptrdiff_t atom = 0;
        for (int mr = MR; atom < n_atoms; atom += mr) {
            if (atom + mr > n_atoms)
                mr = atom + MR_TAIL <= n_atoms ? MR_TAIL : 1;
            for (int t = 0; t < n_tiles; t++) {
                const tile *features = rows + t * n_all;
                const ptrdiff_t feature = first_feature + t * NR;
                const size_t width = widths[t];
                if (mr == MR)
                    SUFFIXED(gradient_block)(problem, block, features, atom, feature,
                                             width, MR);
                else if (mr == MR_TAIL)
                    SUFFIXED(gradient_block)(problem, block, features, atom, feature,
                                             width, MR_TAIL);
                else
                    SUFFIXED(gradient_block)(problem, block, features, atom, feature,
                                             width, 1);
            }
        }
    }
}

#undef FOR_ATOM_BLOCKS
#undef vector
#undef mask
#undef tile
#undef VECTORS
#undef UNROLLED
#undef INLINE
#undef VLEN
#undef MR
#undef NC
#undef MINIMUM
#undef MAXIMUM
#undef TARGET
#undef SUFFIXED
