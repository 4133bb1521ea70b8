/* Rows with missing entries: the encoder, and the rows that the codes impute. `tiles.h`
   includes this file, and documents its macros. */

/* Compute the residuals of the observed entries of `mr` features after the feature
   `start`, and add their squares to `squares`. */
INLINE void SUFFIXED(residual_block)(const struct incomplete_layers *problem,
                                     struct tile_index index, const wide *codes,
                                     wide *residuals, wide squares, ptrdiff_t start,
                                     ptrdiff_t first, int mr)
{
    const struct shape *shape = &problem->layers.shape;
    const ptrdiff_t n_atoms = shape->n_atoms, n_features = problem->n_features;
    const ptrdiff_t feature = start + first;
    const float *atoms =
        problem->dictionaries + index.cluster * n_atoms * n_features + feature;
    const ptrdiff_t row = feature * shape->n_rows + index.number * NR;
    const float *targets = problem->targets + index.cluster * problem->targets_stride;
    wide sums[MR] = {0};
    SUFFIXED(micro_kernel)(*sums, (struct matrix){atoms, 1, n_features}, *codes, n_atoms,
                           mr, WIDE);
    /* Out of the registers, before the functions that read a part of a vector. */
    residuals += first;
    memcpy(residuals, sums, mr * sizeof(wide));
    for (ptrdiff_t b = 0, i = row; b < mr; b++, i += shape->n_rows)
        for (int v = 0; v < WIDE; v++) {
            const ptrdiff_t n_rows = index.n_rows - v * VLEN;
            const vector target = SUFFIXED(read)(targets + i + v * VLEN, n_rows);
            const vector observed =
                SUFFIXED(read)(problem->observed + i + v * VLEN, n_rows);
            residuals[b][v] = (target - residuals[b][v]) * observed;
            squares[v] += residuals[b][v] * residuals[b][v];
        }
}

/* Add the products of `mr` atoms with the residuals of features. */
INLINE void SUFFIXED(correlation_block)(const struct incomplete_layers *problem,
                                        ptrdiff_t cluster, const wide *residuals,
                                        wide *correlations, ptrdiff_t feature,
                                        ptrdiff_t n_features, ptrdiff_t first, int mr)
{
    const ptrdiff_t stride = problem->n_features;
    const ptrdiff_t atom = cluster * problem->layers.shape.n_atoms + first;
    const float *atoms = problem->dictionaries + atom * stride + feature;
    wide sums[MR];
    UNROLLED
    for (int b = 0; b < mr; b++)
        for (int v = 0; v < WIDE; v++)
            sums[b][v] = correlations[first + b][v];
    SUFFIXED(micro_kernel)(*sums, (struct matrix){atoms, stride, 1}, *residuals,
                           n_features, mr, WIDE);
    UNROLLED
    for (int b = 0; b < mr; b++)
        for (int v = 0; v < WIDE; v++)
            correlations[first + b][v] = sums[b][v];
}

/* Multiply the atoms by the residuals of the observed entries. */
TARGET static void SUFFIXED(correlate_residuals)(
    const struct incomplete_layers *problem, struct tile_index index, const wide *codes,
    wide *correlations, wide squares)
{
    const ptrdiff_t n_atoms = problem->layers.shape.n_atoms;
    wide residuals[NF];
    memset(correlations, 0, padded(n_atoms) * sizeof(wide));
    memset(squares, 0, sizeof(wide));
    for (ptrdiff_t start = 0; start < problem->n_features; start += NF) {
        const ptrdiff_t n_remaining = problem->n_features - start;
        const ptrdiff_t n = n_remaining < NF ? n_remaining : NF;
        FOR_BLOCKS(n, residual_block, problem, index, codes, residuals, squares, start);
        FOR_BLOCKS(n_atoms, correlation_block, problem, index.cluster, residuals,
                   correlations, start, n);
    }
}

/* Multiply codes by the step size, whose unit they have. */
INLINE void SUFFIXED(scale)(const struct workspace *ws, const wide *codes, wide *scaled,
                            ptrdiff_t n_padded)
{
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < WIDE; v++)
            scaled[i][v] = ws->step * codes[i][v];
}

/* Multiply `mr` atoms of the Gram matrix, times the step size, by codes. */
INLINE void SUFFIXED(gram_block)(const struct incomplete_layers *problem,
                                 const struct workspace *ws, const wide *codes,
                                 wide *products, ptrdiff_t first, int mr)
{
    const struct shape *shape = &problem->layers.shape;
    wide sums[MR] = {0};
    SUFFIXED(micro_kernel)(*sums, contraction_panel(ws, shape, first, mr), *codes,
                           shape->n_atoms, mr, WIDE);
    UNROLLED
    for (int b = 0; b < mr; b++)
        for (int v = 0; v < WIDE; v++)
            products[first + b][v] = codes[first + b][v] - sums[b][v];
}

/* Multiply the atoms by the residuals at the points of an exact layer, and compute what
   the layers after it need: the correction and the projection. */
INLINE void SUFFIXED(correct)(const struct incomplete_layers *problem,
                              const struct workspace *ws, struct tile_index index,
                              const wide *linear_term, const wide *points,
                              const wide *products, const wide damping,
                              wide *correction, wide *projection)
{
    const ptrdiff_t n_padded = padded(problem->layers.shape.n_atoms);
    wide norms = {0}, smallest = {0}, squares;
    SUFFIXED(scale)(ws, points, projection, n_padded);
    SUFFIXED(correlate_residuals)(problem, index, projection, correction, squares);
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < WIDE; v++) {
            correction[i][v] += damping[v] * products[i][v] - linear_term[i][v];
            norms[v] += points[i][v] * products[i][v];
            smallest[v] += NEGLIGIBLE * points[i][v] * points[i][v];
        }
    for (int v = 0; v < WIDE; v++)
        norms[v] = MAXIMUM(FLT_MIN + smallest[v], norms[v]);
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < WIDE; v++)
            projection[i][v] = products[i][v] / norms[v];
}

/* Encode rows, as `encode_incomplete` in incomplete.py documents it. Codes are in units of
   the step size; `products` is the scaled Gram matrix times the points. */
TARGET static void SUFFIXED(encode_incomplete)(const struct incomplete_layers *problem,
                                               const struct workspace *ws,
                                               struct tile_index index)
{
    const struct layers *layers = &problem->layers;
    const struct shape *shape = &layers->shape;
    const ptrdiff_t n_padded = padded(shape->n_atoms);
    const int n_last = (int)layers->n_layers - 1;
    wide *linear_term = ws->buffer, *codes = linear_term + n_padded;
    wide *points = codes + n_padded, *products = points + n_padded;
    wide *projection = products + n_padded, *correction = projection + n_padded;
    wide fractions, damping, squares, norms;
    SUFFIXED(load)(fractions, problem->fractions + index.number * NR, index.n_rows,
                   WIDE);
    SUFFIXED(load_atoms)(*linear_term, layers->input, shape, index, WIDE);
    memset(projection, 0, 2 * n_padded * sizeof(wide)); /* and the correction */
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < WIDE; v++)
            points[i][v] = codes[i][v] = SUFFIXED(soft_threshold)(
                linear_term[i][v], ws->lower[i], ws->upper[i]);
    for (int layer = 1; layer <= n_last; layer++) {
        const float previous = layers->momenta[layer - 1]; /* of the points */
        const vector stable = (1 + 2 * previous) / (2 + 2 * previous) - (vector){0};
        const float momentum = layer < n_last ? layers->momenta[layer] : 0;
        wide shares = {0};
        for (int v = 0; v < WIDE; v++)
            damping[v] = MAXIMUM(stable, fractions[v]);
        FOR_BLOCKS(n_padded, gram_block, problem, ws, points, products);
        if (problem->exact[layer - 1])
            SUFFIXED(correct)(problem, ws, index, linear_term, points, products,
                              damping, correction, projection);
        for (ptrdiff_t i = 0; i < n_padded; i++)
            for (int v = 0; v < WIDE; v++)
                shares[v] += projection[i][v] * points[i][v];
        for (ptrdiff_t i = 0; i < n_padded; i++)
            for (int v = 0; v < WIDE; v++) {
                const vector moved = points[i][v] + linear_term[i][v] -
                                     damping[v] * products[i][v] +
                                     shares[v] * correction[i][v];
                const vector code =
                    SUFFIXED(soft_threshold)(moved, ws->lower[i], ws->upper[i]);
                points[i][v] = code + momentum * (code - codes[i][v]);
                codes[i][v] = code;
            }
    }
    wide *scaled = projection, *correlations = correction;
    /* An imputed row is A^T x + r, with the residual r of the observed entries. */
    SUFFIXED(scale)(ws, codes, scaled, n_padded);
    SUFFIXED(correlate_residuals)(problem, index, scaled, correlations, squares);
    FOR_BLOCKS(n_padded, gram_block, problem, ws, codes, products);
    memcpy(norms, squares, sizeof(wide));
    for (ptrdiff_t i = 0; i < n_padded; i++)
        for (int v = 0; v < WIDE; v++) {
            const vector imputed = correlations[i][v] + products[i][v];
            norms[v] += scaled[i][v] * (correlations[i][v] + imputed);
            correlations[i][v] = imputed;
        }
    const ptrdiff_t row = index.cluster * shape->n_rows + index.number * NR;
    const size_t n_bytes = index.n_rows * sizeof(float);
    memcpy(problem->squared_residuals + row, squares, n_bytes);
    memcpy(problem->squared_norms + row, norms, n_bytes);
    SUFFIXED(store_atoms)(layers->output, *scaled, shape, index, WIDE);
    SUFFIXED(store_atoms)(problem->correlations, *correlations, shape, index, WIDE);
}

/* Impute a tile of features of `mr` rows of a block. The imputed rows have the
   positions of these rows among all. */
INLINE void SUFFIXED(impute_rows)(const struct gradient_products *problem,
                                  ptrdiff_t block, const wide *rows,
                                  const wide *observed, const wide intercept,
                                  const wide *atoms, wide *imputed, ptrdiff_t first,
                                  int mr)
{
    const ptrdiff_t n_rows = problem->n_rows;
    const float *codes = problem->codes + block * problem->n_atoms * n_rows + first;
    const int64_t *index = problem->index + block * n_rows + first;
    wide sums[MR] = {0};
    SUFFIXED(micro_kernel)(*sums, (struct matrix){codes, 1, n_rows}, *atoms,
                           problem->n_atoms, mr, WIDE);
    UNROLLED
    for (int b = 0; b < mr; b++)
        for (int v = 0; v < WIDE; v++) {
            const vector centered = rows[index[b]][v] - intercept[v];
            imputed[index[b]][v] =
                sums[b][v] + observed[index[b]][v] * (centered - sums[b][v]);
        }
}

/* Impute a tile of features of the rows of a block, and subtract the intercept. */
INLINE void SUFFIXED(impute)(const struct gradient_products *problem, ptrdiff_t block,
                             const wide *rows, const wide *observed, ptrdiff_t feature,
                             size_t n_features, wide *atoms, wide *imputed)
{
    const ptrdiff_t cluster = problem->cluster_ids[block], n_atoms = problem->n_atoms;
    const float *dictionary =
        problem->dictionaries + cluster * n_atoms * problem->n_features + feature;
    wide intercept = {0};
    if (problem->intercepts)
        SUFFIXED(load)(intercept,
                       problem->intercepts + cluster * problem->n_features + feature,
                       n_features, WIDE);
    for (ptrdiff_t i = 0; i < n_atoms; i++)
        SUFFIXED(load)(atoms[i], dictionary + i * problem->n_features, n_features,
                       WIDE);
    FOR_BLOCKS(problem->n_rows, impute_rows, problem, block, rows, observed, intercept,
               atoms, imputed);
}
