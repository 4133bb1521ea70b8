/* Runs the compiled scattering on a problem from standard input, and writes the
   coefficients to standard output: for processors that Python does not run on here.

   The input has the integers of the problem, and the arrays in the order in which
   `main` reads them, each after the number of its bytes. */

#include "scattering.c"

#include <stdio.h>

static void receive(void *values, size_t n_bytes)
{
    if (fread(values, 1, n_bytes, stdin) != n_bytes)
        exit(2);
}

static void *receive_array(void)
{
    int64_t n_bytes;
    receive(&n_bytes, sizeof(n_bytes));
    void *values = malloc(n_bytes + 1);
    if (!values)
        exit(1);
    receive(values, n_bytes);
    return values;
}

static void receive_axis(struct axis *axis)
{
    receive(&axis->size, 2 * sizeof(int64_t));
    axis->radices = receive_array();
    axis->twiddles = receive_array();
}

int main(void)
{
    struct scattering problem;
    receive(&problem.n_images, 9 * sizeof(int64_t));
    const int64_t J = problem.n_scales;
    struct level *levels = calloc(J, sizeof(struct level));
    struct wavelets *wavelets = calloc(J * J, sizeof(struct wavelets));
    const size_t n_coefficients = (size_t)problem.n_images * problem.n_paths *
                                  problem.height_out * problem.width_out;
    float *coefficients = malloc(n_coefficients * sizeof(float));
    if (!levels || !wavelets || !coefficients)
        exit(1);
    problem.images = receive_array();
    problem.rows = receive_array();
    problem.columns = receive_array();
    for (int64_t j = 0; j < J; j++) {
        receive_axis(&levels[j].x);
        receive_axis(&levels[j].y);
        levels[j].across = receive_array();
        levels[j].down = receive_array();
    }
    for (int64_t i = 0; i < J * J; i++) {
        wavelets[i].bands = receive_array();
        wavelets[i].starts = receive_array();
        wavelets[i].values = receive_array();
    }
    problem.levels = levels;
    problem.wavelets = wavelets;
    problem.coefficients = coefficients;
    if (scattering_run(&problem, 1))
        exit(3);
    fwrite(coefficients, sizeof(float), n_coefficients, stdout);
    return 0;
}
