/* What is done to a tile of sixteen rows, for one instruction set. `kernels.c`
   includes this once for each, with

   LANES   floats in a vector,
   BLOCK   atoms whose sums are in registers at a time, a multiple of TAIL,
   ACROSS  with TAIL, the entries of a Gram matrix that are,
   TARGET  the attribute that asks for the instructions,
   NAME    what makes names of its own.

   A product with the contraction ends, in registers, in what comes after it, so that
   nothing passes over the codes but products, and these find them in the first level
   of the cache. */

#define vector NAME(vector)
#define mask NAME(mask)
#define tile NAME(tile)
#define VECTORS (ROWS / LANES)
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef vector tile[VECTORS]; /* what one atom has of it */

INLINE vector NAME(choose)(mask which, vector yes, vector no)
{
    return (vector)((which & (mask)yes) | (~which & (mask)no));
}

/* Take off points what they are when clamped. */
INLINE vector NAME(shrink)(vector points, float lower, float upper)
{
    const vector low = (vector){0} + lower, high = (vector){0} + upper;
    vector clamped = NAME(choose)(points < low, low, points);
    return points - NAME(choose)(clamped > high, high, clamped);
}

/* Read some rows, and zeros after them. */
INLINE void NAME(load)(tile to, const float *from, size_t n_rows)
{
    if (n_rows == ROWS) {
        memcpy(to, from, sizeof(tile));
    } else {
        memset(to, 0, sizeof(tile));
        memcpy(to, from, n_rows * sizeof(float));
    }
}

/* Read what all atoms have of some rows, and zeros for what they were topped up with. */
INLINE void NAME(load_all)(tile *to, const float *from, const struct shape *shape,
                           struct place at)
{
    const ptrdiff_t n_padded = padded(shape->n_atoms);
    for (ptrdiff_t i = 0; i < shape->n_atoms; i++)
        NAME(load)(to[i], from + row_of(shape, at, i), at.n_rows);
    memset(to + shape->n_atoms, 0, (n_padded - shape->n_atoms) * sizeof(tile));
}

INLINE void NAME(store_all)(float *to, const tile *from, const struct shape *shape,
                            struct place at)
{
    for (ptrdiff_t i = 0; i < shape->n_atoms; i++)
        memcpy(to + row_of(shape, at, i), from[i], at.n_rows * sizeof(float));
}

/* Add to some sums the products of a tile with `panel`, which has so many factors of
   each atom, the next atom's `apart` after them. Where this is inlined `n_block` is a
   constant. */
INLINE void NAME(multiply)(tile *sums, const float *panel, ptrdiff_t apart,
                           const tile *codes, ptrdiff_t n_atoms, int n_block)
{
    for (ptrdiff_t j = 0; j < n_atoms; j++, panel += apart)
        for (int b = 0; b < n_block; b++)
            for (int v = 0; v < VECTORS; v++)
                sums[b][v] += panel[b] * codes[j][v];
}

/* Do something for all atoms, some at a time. How many is a constant where it is
   inlined. */
#define BY_BLOCKS(n_padded, function, ...)                                        \
    do {                                                                          \
        ptrdiff_t first = 0;                                                      \
        for (; first + BLOCK <= (n_padded); first += BLOCK)                       \
            NAME(function)(__VA_ARGS__, first, BLOCK);                            \
        for (; first < (n_padded); first += TAIL)                                 \
            NAME(function)(__VA_ARGS__, first, TAIL);                             \
    } while (0)

/* A layer for some atoms: their new codes, and the points that the next layer
   multiplies, which are the codes with their momentum. */
INLINE void NAME(forward_block)(const struct layers *layers, const struct shared *all,
                                const tile *correlations, const tile *points,
                                tile *codes, tile *next, float momentum,
                                ptrdiff_t first, int n_block)
{
    tile sums[BLOCK];
    memcpy(sums, correlations + first, n_block * sizeof(tile));
    NAME(multiply)(sums, all->contraction + first * layers->shape.n_atoms, n_block,
                   points, layers->shape.n_atoms, n_block);
    for (int b = 0; b < n_block; b++) {
        const ptrdiff_t i = first + b;
        for (int v = 0; v < VECTORS; v++) {
            vector code = NAME(shrink)(sums[b][v], all->lower[i], all->upper[i]);
            next[i][v] = code + momentum * (code - codes[i][v]);
            codes[i][v] = code;
        }
    }
}

/* Add what some atoms take off the squared norms of rows, x.(2 C - G x), to that of the
   others. Codes are in units of the step size, and step * G is 1 less the contraction. */
INLINE void NAME(gain_block)(const struct layers *layers, const struct shared *all,
                             const tile *correlations, const tile *codes, tile gains,
                             ptrdiff_t first, int n_block)
{
    tile sums[BLOCK];
    memset(sums, 0, n_block * sizeof(tile));
    NAME(multiply)(sums, all->contraction + first * layers->shape.n_atoms, n_block,
                   codes, layers->shape.n_atoms, n_block);
    for (int b = 0; b < n_block; b++)
        for (int v = 0; v < VECTORS; v++) {
            const vector code = codes[first + b][v];
            gains[v] += all->step * code *
                        (2 * correlations[first + b][v] - (code - sums[b][v]));
        }
}

TARGET static void NAME(forward)(const struct layers *layers,
                                 const struct shared *all, struct place at)
{
    const ptrdiff_t n_padded = padded(layers->shape.n_atoms);
    const int n_last = (int)layers->n_layers - 1;
    tile *correlations = all->buffer, *codes = correlations + n_padded;
    tile *points = codes + n_padded, *next = points + n_padded;
    tile *tape = (tile *)tape_of(layers, at);
    NAME(load_all)(correlations, layers->input, &layers->shape, at);
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < VECTORS; v++)
            codes[i][v] =
                NAME(shrink)(correlations[i][v], all->lower[i], all->upper[i]);
    memcpy(points, codes, n_padded * sizeof(tile));
    for (int layer = 1; layer <= n_last; layer++) {
        const float momentum = layer < n_last ? layers->momenta[layer] : 0;
        if (layers->tape)
            memcpy(tape + (layer - 1) * n_padded, codes, n_padded * sizeof(tile));
        BY_BLOCKS(n_padded, forward_block, layers, all, correlations, points, codes,
                  next, momentum);
        tile *spent = points;
        points = next;
        next = spent;
    }
    if (layers->gains) {
        tile gains = {0};
        BY_BLOCKS(n_padded, gain_block, layers, all, correlations, codes, gains);
        memcpy(layers->gains + at.cluster * layers->shape.n_rows + at.number * ROWS,
               gains, at.n_rows * sizeof(float));
    }
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < VECTORS; v++)
            codes[i][v] *= all->step;
    NAME(store_all)(layers->output, codes, &layers->shape, at);
}

/* Cut the gradient in some codes where these are 0, and give that in what their layer
   multiplied; the momentum of the layer after, `later`, had a part in that. */
INLINE void NAME(cut)(const tile gradient, const tile codes, tile total, tile later,
                      tile slopes, float momentum, float momentum_later)
{
    for (int v = 0; v < VECTORS; v++) {
        vector slope = NAME(choose)(codes[v] != 0, gradient[v], (vector){0});
        total[v] += slope;
        slopes[v] = (1 + momentum) * slope - momentum_later * later[v];
        later[v] = slope;
    }
}

INLINE void NAME(backward_block)(const struct layers *layers, const struct shared *all,
                                 const tile *after, const tile *codes, tile *totals,
                                 tile *later, tile *slopes, int layer,
                                 ptrdiff_t first, int n_block)
{
    const float momentum = layer > 0 ? layers->momenta[layer - 1] : 0;
    tile sums[BLOCK];
    memset(sums, 0, n_block * sizeof(tile));
    /* The contraction is symmetric. */
    NAME(multiply)(sums, all->contraction + first * layers->shape.n_atoms, n_block,
                   after, layers->shape.n_atoms, n_block);
    for (int b = 0; b < n_block; b++) {
        const ptrdiff_t i = first + b;
        NAME(cut)(sums[b], codes[i], totals[i], later[i], slopes[i], momentum,
                  layers->momenta[layer]);
    }
}

/* Add the products of slopes with codes, of all layers, lane by lane. */
INLINE void NAME(add_products)(vector *products, const tile *slopes, const tile *codes,
                               ptrdiff_t n_padded, int n_planes)
{
    for (ptrdiff_t i = 0; i < n_padded; i += TAIL)
        for (ptrdiff_t j = 0; j < n_padded; j += ACROSS) {
            tile sums[TAIL][ACROSS];
            memset(sums, 0, sizeof(sums));
            for (int plane = 0; plane < n_planes; plane++)
                for (int b = 0; b < TAIL; b++)
                    for (int c = 0; c < ACROSS; c++)
                        for (int v = 0; v < VECTORS; v++)
                            sums[b][c][v] += slopes[plane * n_padded + i + b][v] *
                                             codes[plane * n_padded + j + c][v];
            for (int b = 0; b < TAIL; b++)
                for (int c = 0; c < ACROSS; c++)
                    for (int v = 0; v < VECTORS; v++)
                        products[(i + b) * n_padded + j + c] += sums[b][c][v];
        }
}

TARGET static void NAME(backward)(const struct layers *layers,
                                  const struct shared *all, struct place at)
{
    const ptrdiff_t n_padded = padded(layers->shape.n_atoms);
    const int n_last = (int)layers->n_layers - 1;
    tile *totals = all->buffer, *later = totals + n_padded, *codes = later + n_padded;
    tile *slopes = codes + n_padded; /* a plane for what each layer but 0 multiplied */
    tile *spare = slopes + n_last * n_padded; /* layer 0 multiplied nothing */
    const tile *tape = (const tile *)tape_of(layers, at);
    memset(later, 0, n_padded * sizeof(tile));
    NAME(load_all)(codes, layers->codes, &layers->shape, at);
    /* In place of the totals, which begin as 0 once it is read. */
    NAME(load_all)(totals, layers->input, &layers->shape, at);
    for (ptrdiff_t i = 0; i < n_padded; i++) {
        tile gradient;
        for (int v = 0; v < VECTORS; v++) {
            gradient[v] = all->step * totals[i][v];
            totals[i][v] = (vector){0};
        }
        NAME(cut)(gradient, codes[i], totals[i], later[i],
                  (n_last > 0 ? spare - n_padded : spare)[i],
                  n_last > 0 ? layers->momenta[n_last - 1] : 0, 0);
    }
    for (int layer = n_last - 1; layer >= 0; layer--) {
        const tile *after = slopes + layer * n_padded;
        const tile *before = tape + layer * n_padded;
        tile *next = layer > 0 ? slopes + (layer - 1) * n_padded : spare;
        BY_BLOCKS(n_padded, backward_block, layers, all, after, before, totals, later,
                  next, layer);
    }
    NAME(add_products)(all->products, slopes, tape, n_padded, n_last);
    NAME(store_all)(layers->output, totals, &layers->shape, at);
}

/* Add what codes leave of some features to what pulls at them. */
INLINE void NAME(pull_block)(const struct pulls *pulls, struct place at,
                             const tile *codes, tile *sums, ptrdiff_t first, int n_block)
{
    const ptrdiff_t n_atoms = pulls->shape.n_atoms, apart = pulls->n_features;
    const float *atoms = pulls->dictionaries + at.cluster * n_atoms * apart + first;
    const ptrdiff_t row = first * pulls->shape.n_rows + at.number * ROWS;
    const float *targets = pulls->targets + at.cluster * pulls->targets_apart + row;
    tile left[BLOCK], target, observed;
    memset(left, 0, n_block * sizeof(tile));
    NAME(multiply)(left, atoms, apart, codes, n_atoms, n_block);
    for (int b = 0; b < n_block; b++) {
        NAME(load)(target, targets + b * pulls->shape.n_rows, at.n_rows);
        NAME(load)(observed, pulls->observed + row + b * pulls->shape.n_rows, at.n_rows);
        for (int v = 0; v < VECTORS; v++)
            left[b][v] = (target[v] - left[b][v]) * observed[v];
    }
    for (ptrdiff_t i = 0; i < n_atoms; i++, atoms += apart)
        for (int v = 0; v < VECTORS; v++) {
            vector sum = sums[i][v];
            for (int b = 0; b < n_block; b++)
                sum += atoms[b] * left[b][v];
            sums[i][v] = sum;
        }
}

TARGET static void NAME(pull)(const struct pulls *pulls, void *buffer, struct place at)
{
    const ptrdiff_t n_padded = padded(pulls->shape.n_atoms);
    tile *codes = buffer, *sums = codes + n_padded;
    NAME(load_all)(codes, pulls->codes, &pulls->shape, at);
    memset(sums, 0, n_padded * sizeof(tile));
    ptrdiff_t first = 0;
    for (; first + BLOCK <= pulls->n_features; first += BLOCK)
        NAME(pull_block)(pulls, at, codes, sums, first, BLOCK);
    for (; first < pulls->n_features; first++)
        NAME(pull_block)(pulls, at, codes, sums, first, 1);
    NAME(store_all)(pulls->output, sums, &pulls->shape, at);
}

/* Add products of slopes with the same features of rows to some atoms' gradient. */
INLINE void NAME(gather_block)(const struct products *products, ptrdiff_t block,
                               const tile *rows, ptrdiff_t atom, ptrdiff_t feature,
                               size_t n_features, int n_block)
{
    const ptrdiff_t n_atoms = products->n_atoms, n_rows = products->n_rows;
    const float *slopes = products->slopes + (block * n_atoms + atom) * n_rows;
    const int64_t *index = products->index + block * n_rows;
    float *gradient = products->gradient + feature +
                      (products->owners[block] * n_atoms + atom) * products->n_features;
    tile sums[BLOCK];
    memset(sums, 0, n_block * sizeof(tile));
    for (ptrdiff_t row = 0; row < n_rows; row++)
        for (int b = 0; b < n_block; b++)
            for (int v = 0; v < VECTORS; v++)
                sums[b][v] += slopes[b * n_rows + row] * rows[index[row]][v];
    for (int b = 0; b < n_block; b++, gradient += products->n_features) {
        tile total;
        NAME(load)(total, gradient, n_features);
        for (int v = 0; v < VECTORS; v++)
            total[v] += sums[b][v];
        memcpy(gradient, total, n_features * sizeof(float));
    }
}

/* What some features of rows, from `first` on, add to the gradient of some clusters.
   The rows are read once, and stay in the cache. */
TARGET static void NAME(gather)(const struct products *products, void *buffer,
                                ptrdiff_t first, ptrdiff_t first_cluster,
                                ptrdiff_t end_cluster)
{
    const ptrdiff_t n_atoms = products->n_atoms, n_left = products->n_features - first;
    const int n_tiles = n_left < ROWS * TILES ? (n_left + ROWS - 1) / ROWS : TILES;
    tile *rows = buffer; /* (n_tiles, n_all) */
    size_t widths[TILES];
    for (int t = 0; t < n_tiles; t++) {
        const float *features = products->rows + first + t * ROWS;
        widths[t] = n_left - t * ROWS < ROWS ? n_left - t * ROWS : ROWS;
        for (ptrdiff_t row = 0; row < products->n_all; row++)
            NAME(load)(rows[t * products->n_all + row],
                       features + row * products->n_features, widths[t]);
    }
    for (ptrdiff_t block = 0; block < products->n_blocks; block++) {
        const ptrdiff_t owner = products->owners[block];
        if (owner < first_cluster || owner >= end_cluster)
            continue;
        ptrdiff_t atom = 0;
        for (int n_block = BLOCK; atom < n_atoms; atom += n_block) {
            if (atom + n_block > n_atoms)
                n_block = atom + TAIL <= n_atoms ? TAIL : 1;
            for (int t = 0; t < n_tiles; t++) {
                const tile *some = rows + t * products->n_all;
                const ptrdiff_t at = first + t * ROWS;
                if (n_block == BLOCK)
                    NAME(gather_block)(products, block, some, atom, at, widths[t], BLOCK);
                else if (n_block == TAIL)
                    NAME(gather_block)(products, block, some, atom, at, widths[t], TAIL);
                else
                    NAME(gather_block)(products, block, some, atom, at, widths[t], 1);
            }
        }
    }
}

#undef BY_BLOCKS
#undef vector
#undef mask
#undef tile
#undef VECTORS
#undef INLINE
#undef LANES
#undef BLOCK
#undef ACROSS
#undef TARGET
#undef NAME
