/* clock.c - time sources: clock_gettime through the vDSO, and the TSC. */
#include "lib/base/clock.h"
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>
#include <x86intrin.h>

static struct clock_source source;

void clock_set_source(const struct clock_source *src)
{
    source = src != NULL ? *src : (struct clock_source){0};
}

static uint64_t mono_ns_real(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
    return source.mono_ns != NULL ? source.mono_ns(source.arg) : mono_ns_real();
}

int64_t clock_wall_ms(void)
{
    if (source.wall_ms != NULL)
        return source.wall_ms(source.arg);
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint64_t clock_tsc(void)
{
    return __rdtsc();
}

/* Measured once against the monotonic clock over 20 ms (error below 0.1 %). Two threads may both
 * measure at first; either result is right. */
uint64_t clock_tsc_hz(void)
{
    static _Atomic uint64_t hz_cached;
    uint64_t hz = atomic_load_explicit(&hz_cached, memory_order_relaxed);
    if (hz != 0)
        return hz;
    uint64_t ns0 = mono_ns_real(), tsc0 = __rdtsc();
    struct timespec wait = {.tv_nsec = 20000000};
    nanosleep(&wait, NULL); /* a signal only shortens the measurement */
    uint64_t ns1 = mono_ns_real(), tsc1 = __rdtsc();
    uint64_t ns = ns1 > ns0 ? ns1 - ns0 : 1;
    hz = (uint64_t)((double)(tsc1 - tsc0) * 1e9 / (double)ns);
    if (hz == 0)
        hz = 1;
    atomic_store_explicit(&hz_cached, hz, memory_order_relaxed);
    return hz;
}
