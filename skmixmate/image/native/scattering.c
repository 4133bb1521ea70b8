/* Wavelet scattering of images, in float32 on a CPU.

   `_torch_scattering.py` documents the computation, and does it for all other dtypes
   and devices; the results are equal up to rounding. There, each pass of an operation
   reads and writes the images of a batch. Here, a block of LANES images passes through
   the whole transform and stays in the cache: a vector has the same pixel of each of
   them, so that a fast Fourier transform of any length needs no shuffles.

   Only forward transforms are computed: the modulus of an inverse transform is that of
   the forward transform of the conjugate. Names of axes are those of the images: x
   across, y down. */

#include "../../utils/threads.h"

#include <math.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef struct {
    vector re, im;
} number;

/* Fourier transforms of one length, the product of the radices. */
struct axis {
    const int64_t *radices;
    const float *twiddles; /* by pass: factors of its outputs, see `pass`, and roots */
    int64_t size, n_radices;
};

/* Images subsampled by a power of two. */
struct level {
    struct axis x, y;
    const float *across, *down; /* average: (width_out, width), (height_out, height) */
};

/* Successive frequencies of one row at which a wavelet is not 0, as offsets. Where the
   spectrum is stored at the opposite frequency, `is_mirrored`, they descend. */
struct band {
    int64_t source, target, first_value, length, is_mirrored;
};

/* Wavelets of one scale, applied to images of one level. */
struct wavelets {
    const struct band *bands;
    const int64_t *starts; /* of the bands of each angle and row, and their end */
    const float *values;
};

struct scattering {
    const float *images;             /* (n_images, height, width) */
    float *coefficients;             /* (n_images, n_paths, height_out, width_out) */
    const int64_t *rows, *columns;   /* of the image, at each place of the padded one */
    const struct level *levels;      /* (n_scales,) */
    const struct wavelets *wavelets; /* (n_scales, n_scales): level and scale */
    int64_t n_images, height, width, n_paths, height_out, width_out;
    int64_t n_scales, n_angles, order;
};

/* Memory of a thread. */
struct workspace {
    number *pixels;   /* pairs of columns of real images, (width / 2, height) */
    number *spectrum; /* of the images: (height / 2 + 1, width) */
    number *spectrum_of_moduli;
    number *work;
    number *scratch;  /* rows, or columns */
    vector *averages; /* (height_out, width_out) */
};

INLINE number add(number a, number b) { return (number){a.re + b.re, a.im + b.im}; }

INLINE number subtract(number a, number b)
{
    return (number){a.re - b.re, a.im - b.im};
}

INLINE number scaled(number a, float factor)
{
    return (number){a.re * factor, a.im * factor};
}

/* Add -i times a number. */
INLINE number add_turned(number a, number b)
{
    return (number){a.re + b.im, a.im - b.re};
}

INLINE number subtract_turned(number a, number b)
{
    return (number){a.re - b.im, a.im + b.re};
}

INLINE number multiply(number a, const float *factor)
{
    return (number){a.re * factor[0] - a.im * factor[1],
                    a.re * factor[1] + a.im * factor[0]};
}

/* Discrete Fourier transforms of 2 to 5 numbers, in place. */
INLINE void butterfly_2(number *z)
{
    const number a = z[0];
    z[0] = add(a, z[1]);
    z[1] = subtract(a, z[1]);
}

INLINE void butterfly_3(number *z)
{
    const float sin60 = 0.86602540378443865f;
    const number sum = add(z[1], z[2]);
    const number difference = scaled(subtract(z[1], z[2]), sin60);
    const number a = add(z[0], scaled(sum, -0.5f));
    z[0] = add(z[0], sum);
    z[1] = add_turned(a, difference);
    z[2] = subtract_turned(a, difference);
}

INLINE void butterfly_4(number *z)
{
    const number a = add(z[0], z[2]), b = subtract(z[0], z[2]);
    const number c = add(z[1], z[3]), d = subtract(z[1], z[3]);
    z[0] = add(a, c);
    z[1] = add_turned(b, d);
    z[2] = subtract(a, c);
    z[3] = subtract_turned(b, d);
}

INLINE void butterfly_5(number *z)
{
    const float cos72 = 0.30901699437494742f, cos144 = -0.80901699437494742f;
    const float sin72 = 0.95105651629515357f, sin144 = 0.58778525229247313f;
    const number a = add(z[1], z[4]), b = add(z[2], z[3]);
    const number c = subtract(z[1], z[4]), d = subtract(z[2], z[3]);
    const number e = add(z[0], add(scaled(a, cos72), scaled(b, cos144)));
    const number f = add(z[0], add(scaled(a, cos144), scaled(b, cos72)));
    const number g = add(scaled(c, sin72), scaled(d, sin144));
    const number h = subtract(scaled(c, sin144), scaled(d, sin72));
    z[0] = add(z[0], add(a, b));
    z[1] = add_turned(e, g);
    z[2] = add_turned(f, h);
    z[3] = subtract_turned(f, h);
    z[4] = subtract_turned(e, g);
}

/* One pass of a Stockham transform: butterflies of `radix` numbers, for each of
   `n_factors` factors and `n_repeats` repeats. Numbers of the output are `stride`
   apart. The last pass has no factors. */
INLINE void pass(int radix, const number *src, number *dst, ptrdiff_t n_factors,
                 ptrdiff_t n_repeats, ptrdiff_t stride, const float *twiddles)
{
    for (ptrdiff_t p = 0; p < n_factors; p++, twiddles += 2 * (radix - 1))
        for (ptrdiff_t q = 0; q < n_repeats; q++) {
            const number *in = src + p * n_repeats + q;
            number *out = dst + (p * radix * n_repeats + q) * stride;
            number z[5];
            for (int k = 0; k < radix; k++)
                z[k] = in[k * n_factors * n_repeats];
            if (radix == 2)
                butterfly_2(z);
            else if (radix == 3)
                butterfly_3(z);
            else if (radix == 4)
                butterfly_4(z);
            else
                butterfly_5(z);
            out[0] = z[0];
            for (int k = 1; k < radix; k++)
                out[k * n_repeats * stride] =
                    n_factors > 1 ? multiply(z[k], twiddles + 2 * (k - 1)) : z[k];
        }
}

/* A pass of any radix, whose roots follow its factors. */
INLINE void pass_of_any(ptrdiff_t radix, const number *src, number *dst,
                        ptrdiff_t n_factors, ptrdiff_t n_repeats, ptrdiff_t stride,
                        const float *twiddles)
{
    const float *roots = twiddles + 2 * n_factors * (radix - 1);
    for (ptrdiff_t p = 0; p < n_factors; p++, twiddles += 2 * (radix - 1))
        for (ptrdiff_t q = 0; q < n_repeats; q++) {
            const number *in = src + p * n_repeats + q;
            number *out = dst + (p * radix * n_repeats + q) * stride;
            for (ptrdiff_t k = 0; k < radix; k++) {
                number sum = in[0];
                for (ptrdiff_t j = 1; j < radix; j++)
                    sum = add(sum, multiply(in[j * n_factors * n_repeats],
                                            roots + 2 * (j * k % radix)));
                out[k * n_repeats * stride] =
                    k > 0 ? multiply(sum, twiddles + 2 * (k - 1)) : sum;
            }
        }
}

/* Transform numbers along an axis. */
CLONES
static void fourier(const struct axis *axis, const number *src, number *dst,
                    ptrdiff_t stride, number *scratch)
{
    const float *twiddles = axis->twiddles;
    ptrdiff_t n_factors = axis->size, n_repeats = 1;
    for (int64_t i = 0; i < axis->n_radices; i++) {
        const ptrdiff_t radix = axis->radices[i];
        const int is_last = i == axis->n_radices - 1;
        number *out = is_last ? dst : scratch + i % 2 * axis->size;
        const ptrdiff_t step = is_last ? stride : 1;
        n_factors /= radix;
        if (radix == 2)
            pass(2, src, out, n_factors, n_repeats, step, twiddles);
        else if (radix == 3)
            pass(3, src, out, n_factors, n_repeats, step, twiddles);
        else if (radix == 4)
            pass(4, src, out, n_factors, n_repeats, step, twiddles);
        else if (radix == 5)
            pass(5, src, out, n_factors, n_repeats, step, twiddles);
        else {
            pass_of_any(radix, src, out, n_factors, n_repeats, step, twiddles);
            twiddles += 2 * radix;
        }
        twiddles += 2 * n_factors * (radix - 1);
        n_repeats *= radix;
        src = out;
    }
}

/* Separate the spectra of two real columns, times 2, from that of the complex column
   that they are the parts of. */
CLONES
static void separate(const number *both, number *first, ptrdiff_t height,
                     ptrdiff_t width)
{
    for (ptrdiff_t y = 0; y <= height / 2; y++, first += width) {
        const number a = both[y], b = both[y > 0 ? height - y : 0];
        first[0] = (number){a.re + b.re, a.im - b.im};
        first[1] = (number){a.im + b.im, b.re - a.re};
    }
}

/* Compute twice the spectra of real images, at non-negative frequencies of y. */
static void transform(const struct level *level, const struct workspace *ws,
                      number *spectrum)
{
    const ptrdiff_t height = level->y.size, width = level->x.size;
    number *column = ws->scratch, *scratch = column + height;
    for (ptrdiff_t x = 0; x < width; x += 2) {
        fourier(&level->y, ws->pixels + x / 2 * height, column, 1, scratch);
        separate(column, ws->work + x, height, width);
    }
    for (ptrdiff_t y = 0; y <= height / 2; y++)
        fourier(&level->x, ws->work + y * width, spectrum + y * width, 1, ws->scratch);
}

/* Multiply the conjugate of a spectrum by a row of a wavelet. Frequencies that become
   aliases of each other add up. */
CLONES
static void multiply_row(const struct wavelets *wavelets, ptrdiff_t index,
                         const number *spectrum, number *row, ptrdiff_t width)
{
    memset(row, 0, width * sizeof(number));
    for (int64_t b = wavelets->starts[index]; b < wavelets->starts[index + 1]; b++) {
        const struct band *band = wavelets->bands + b;
        const float *values = wavelets->values + band->first_value;
        const number *src = spectrum + band->source;
        number *dst = row + band->target;
        if (band->is_mirrored)
            for (int64_t i = 0; i < band->length; i++) {
                dst[i].re += values[i] * src[-i].re;
                dst[i].im += values[i] * src[-i].im;
            }
        else
            for (int64_t i = 0; i < band->length; i++) {
                dst[i].re += values[i] * src[i].re;
                dst[i].im -= values[i] * src[i].im;
            }
    }
}

/* Replace the real part of a column of numbers by the moduli. */
CLONES
static void take_moduli(number *column, ptrdiff_t height)
{
    for (ptrdiff_t y = 0; y < height; y++) {
        const vector squares =
            column[y].re * column[y].re + column[y].im * column[y].im;
        for (int lane = 0; lane < LANES; lane++)
            column[y].re[lane] = sqrtf(squares[lane]);
    }
}

/* Add the contribution of a real column, the values of which are two vectors apart, to
   the averages. */
CLONES
static void add_to_averages(const struct scattering *problem, const struct level *level,
                            const vector *column, ptrdiff_t x, vector *averages)
{
    for (ptrdiff_t i = 0; i < problem->height_out; i++) {
        const float *down = level->down + i * level->y.size;
        vector sum = {0};
        for (ptrdiff_t y = 0; y < level->y.size; y++)
            sum += down[y] * column[2 * y];
        for (ptrdiff_t j = 0; j < problem->width_out; j++)
            *averages++ += level->across[j * level->x.size + x] * sum;
    }
}

CLONES
static void store_moduli(const number *column, vector *pixels, ptrdiff_t height)
{
    for (ptrdiff_t y = 0; y < height; y++)
        pixels[2 * y] = column[y].re;
}

/* Convolve images with a wavelet, and average the moduli. These are written to the
   pixels of the workspace, unless `is_last`. */
static void convolve(const struct scattering *problem, ptrdiff_t first_scale,
                     ptrdiff_t scale, ptrdiff_t angle, const number *spectrum,
                     const struct workspace *ws, int is_last)
{
    const struct level *level = problem->levels + scale;
    const struct wavelets *wavelets =
        problem->wavelets + first_scale * problem->n_scales + scale;
    const ptrdiff_t height = level->y.size, width = level->x.size;
    const ptrdiff_t stride = height + 1; /* odd, so that columns use the whole cache */
    number *row = ws->scratch;
    for (ptrdiff_t y = 0; y < height; y++) {
        multiply_row(wavelets, angle * height + y, spectrum, row, width);
        fourier(&level->x, row, ws->work + y, stride, row + width);
    }
    number *column = ws->scratch;
    memset(ws->averages, 0,
           problem->height_out * problem->width_out * sizeof(vector));
    for (ptrdiff_t x = 0; x < width; x++) {
        fourier(&level->y, ws->work + x * stride, column, 1, column + height);
        take_moduli(column, height);
        add_to_averages(problem, level, &column->re, x, ws->averages);
        if (!is_last)
            store_moduli(column, &ws->pixels[x / 2 * height].re + x % 2, height);
    }
}

/* The images of a block, and a path of theirs. */
struct block {
    ptrdiff_t first_image, n_images, path;
};

static void store_averages(const struct scattering *problem,
                           const struct workspace *ws, struct block *block)
{
    const ptrdiff_t n_positions = problem->height_out * problem->width_out;
    for (ptrdiff_t lane = 0; lane < block->n_images; lane++) {
        float *coefficients =
            problem->coefficients +
            ((block->first_image + lane) * problem->n_paths + block->path) *
                n_positions;
        for (ptrdiff_t i = 0; i < n_positions; i++)
            coefficients[i] = ws->averages[i][lane];
    }
    block->path++;
}

/* Read images, with their margins; average them. */
static void load_images(const struct scattering *problem, const struct workspace *ws,
                        const struct block *block)
{
    const struct level *level = problem->levels;
    const ptrdiff_t n_pixels = problem->height * problem->width;
    const ptrdiff_t height = level->y.size, width = level->x.size;
    memset(ws->pixels, 0, height * width * sizeof(vector));
    memset(ws->averages, 0,
           problem->height_out * problem->width_out * sizeof(vector));
    for (ptrdiff_t x = 0; x < width; x++) {
        vector *column = &ws->pixels[x / 2 * height].re + x % 2;
        for (ptrdiff_t lane = 0; lane < block->n_images; lane++) {
            const float *image =
                problem->images + (block->first_image + lane) * n_pixels;
            for (ptrdiff_t y = 0; y < height; y++)
                column[2 * y][lane] =
                    image[problem->rows[y] * problem->width + problem->columns[x]];
        }
        add_to_averages(problem, level, column, x, ws->averages);
    }
}

/* Compute the coefficients of a block of images. */
static void scatter(const struct scattering *problem, const struct workspace *ws,
                    struct block block)
{
    const ptrdiff_t n_scales = problem->n_scales, n_angles = problem->n_angles;
    load_images(problem, ws, &block);
    store_averages(problem, ws, &block);
    transform(problem->levels, ws, ws->spectrum);
    struct block second = block;
    second.path += n_scales * n_angles;
    for (ptrdiff_t j = 0; j < n_scales; j++)
        for (ptrdiff_t angle = 0; angle < n_angles; angle++) {
            const int is_last = problem->order == 1 || j == n_scales - 1;
            convolve(problem, 0, j, angle, ws->spectrum, ws, is_last);
            store_averages(problem, ws, &block);
            if (is_last)
                continue;
            transform(problem->levels + j, ws, ws->spectrum_of_moduli);
            for (ptrdiff_t k = j + 1; k < n_scales; k++)
                for (ptrdiff_t l = 0; l < n_angles; l++) {
                    convolve(problem, j, k, l, ws->spectrum_of_moduli, ws, 1);
                    store_averages(problem, ws, &second);
                }
        }
}

/* Set the pointers of a workspace in aligned memory; return its size in bytes. */
static size_t layout_workspace(struct workspace *ws, char *memory,
                               const struct scattering *problem)
{
    const size_t height = problem->levels[0].y.size, width = problem->levels[0].x.size;
    const size_t n_pixels = height * width * sizeof(vector);
    const size_t n_spectrum = (height / 2 + 1) * width * sizeof(number);
    const size_t n_longest = (height > width ? height : width) * sizeof(number);
    ws->pixels = (number *)memory;
    ws->spectrum = (number *)(memory += n_pixels);
    ws->spectrum_of_moduli = (number *)(memory += n_spectrum);
    ws->work = (number *)(memory += n_spectrum);
    ws->scratch = (number *)(memory += (height + 1) * width * sizeof(number));
    ws->averages = (vector *)(memory += 3 * n_longest);
    return (size_t)memory +
           problem->height_out * problem->width_out * sizeof(vector);
}

static void run_block(const struct job *job, ptrdiff_t unit, char *memory)
{
    const struct scattering *problem = job->problem;
    const ptrdiff_t first = unit * LANES, n_left = problem->n_images - first;
    struct workspace ws;
    layout_workspace(&ws, memory, problem);
    scatter(problem, &ws, (struct block){first, n_left < LANES ? n_left : LANES, 0});
}

/* Compute the coefficients of all images; return 0, or -1 if memory could not be
   allocated. */
int scattering_run(const struct scattering *problem, int n_threads)
{
    struct workspace ws;
    struct job job = {.problem = problem,
                      .run_unit = run_block,
                      .n_units = (problem->n_images + LANES - 1) / LANES,
                      .n_bytes = layout_workspace(&ws, NULL, problem)};
    return run(&job, n_threads);
}

void scattering_struct_sizes(int64_t *sizes)
{
    sizes[0] = sizeof(struct level);
    sizes[1] = sizeof(struct band);
    sizes[2] = sizeof(struct wavelets);
    sizes[3] = sizeof(struct scattering);
}
