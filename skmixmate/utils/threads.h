/* What the compiled parts share: instructions of the processor, and the division of
   work among the threads of torch. */

#ifndef SKMIXMATE_THREADS_H
#define SKMIXMATE_THREADS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ALIGNMENT 64

/* The instructions are chosen when a library is loaded; ARM of 64 bits has one set of
   vectors. */
#ifdef __x86_64__
#define CLONES                                                                         \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

/* torch has loaded this function for its own threads; the threads of another library
   would compete with them. Without it, there is a single thread. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned)
    __attribute__((weak));

/* Units of work, which the threads take one after the other. */
struct job {
    const void *problem;
    void (*run_unit)(const struct job *, ptrdiff_t unit, char *memory);
    ptrdiff_t n_units;
    size_t n_bytes; /* memory of each thread */
    atomic_ptrdiff_t next_unit;
    atomic_int has_failed;
};

static size_t aligned(size_t n_bytes)
{
    return (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void run_thread(void *data)
{
    struct job *job = data;
    char *memory = aligned_alloc(ALIGNMENT, aligned(job->n_bytes));
    if (!memory) {
        job->has_failed = 1;
        return;
    }
    for (ptrdiff_t unit; (unit = atomic_fetch_add(&job->next_unit, 1)) < job->n_units;)
        job->run_unit(job, unit, memory);
    free(memory);
}

/* Run all units; return 0, or -1 if memory could not be allocated. */
static int run(struct job *job, int n_threads)
{
    if (n_threads > 1 && GOMP_parallel)
        GOMP_parallel(run_thread, job, (unsigned)n_threads, 0);
    else
        run_thread(job);
    return job->has_failed ? -1 : 0;
}

#endif
