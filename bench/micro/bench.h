/* bench.h - timing for micro benchmarks: repeat a pass over prepared inputs, report the best and
 * the median round.
 *
 *     bench_x [--small]     --small: a few rounds, for the fast suite, so that it cannot rot
 * One line per case: ns/item and TSC cycles/item of the best and the median round, and a checksum
 * of the work, so that the compiler cannot leave it out and two builds can be compared. */
#pragma once
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

enum { BENCH_ROUNDS_MAX = 101 };

struct bench {
    bool small;
};

static inline struct bench bench_init(int argc, char **argv)
{
    struct bench b = {.small = argc > 1 && strcmp(argv[1], "--small") == 0};
    return b;
}

static inline uint64_t bench_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline int bench_cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Run `pass` (works on all items once, returns a checksum) in rounds of `passes` each. */
static inline void bench_run(const struct bench *b, const char *name, uint64_t (*pass)(void *arg),
                             void *arg, uint64_t items, uint32_t passes)
{
    static double ns[BENCH_ROUNDS_MAX], cyc[BENCH_ROUNDS_MAX];
    uint32_t rounds = b->small ? 3 : BENCH_ROUNDS_MAX;
    uint64_t sum = pass(arg); /* warm */
    if (b->small)
        passes = 1;
    for (uint32_t r = 0; r < rounds; r++) {
        uint64_t t0 = bench_ns(), c0 = __rdtsc();
        for (uint32_t p = 0; p < passes; p++)
            sum += pass(arg);
        uint64_t c1 = __rdtsc(), t1 = bench_ns();
        ns[r] = (double)(t1 - t0) / (double)(items * passes);
        cyc[r] = (double)(c1 - c0) / (double)(items * passes);
    }
    qsort(ns, rounds, sizeof(ns[0]), bench_cmp);
    qsort(cyc, rounds, sizeof(cyc[0]), bench_cmp);
    printf("%-28s %8.1f ns/item best %8.1f median %8.0f cycles/item  checksum %016" PRIx64 "\n",
           name, ns[0], ns[rounds / 2], cyc[0], sum);
}
