#include "bench/load/bench_load.h"
#include <inttypes.h>
#include <stdio.h>

/* Values below LATENCY_SUB have a bucket each; above, the 5 bits after the leading one choose. */
static uint32_t bucket_of(uint64_t v)
{
    if (v < LATENCY_SUB)
        return (uint32_t)v;
    uint32_t top = 63 - (uint32_t)__builtin_clzll(v); /* >= 5 */
    return (top - 4) * LATENCY_SUB + (uint32_t)((v >> (top - 5)) & (LATENCY_SUB - 1));
}
static uint64_t bucket_end(uint32_t i)
{
    if (i < LATENCY_SUB)
        return i;
    uint32_t top = i / LATENCY_SUB + 4;
    return ((UINT64_C(1) << 5 | (i % LATENCY_SUB)) + 1) * (UINT64_C(1) << (top - 5)) - 1;
}

void latency_add(struct latency *h, uint64_t v)
{
    h->bucket[bucket_of(v)]++;
    h->cnt++;
    h->sum += v;
    if (v > h->max)
        h->max = v;
}
void latency_merge(struct latency *to, const struct latency *from)
{
    for (uint32_t i = 0; i < LATENCY_LEN; i++)
        to->bucket[i] += from->bucket[i];
    to->cnt += from->cnt;
    to->sum += from->sum;
    if (from->max > to->max)
        to->max = from->max;
}
uint64_t latency_quantile(const struct latency *h, double q)
{
    uint64_t seen = 0, want = (uint64_t)(q * (double)h->cnt + 0.5);
    if (want == 0)
        want = 1;
    for (uint32_t i = 0; i < LATENCY_LEN; i++) {
        seen += h->bucket[i];
        if (seen >= want && h->cnt > 0)
            return bucket_end(i) < h->max ? bucket_end(i) : h->max;
    }
    return h->max;
}

static double us(uint64_t ns)
{
    return (double)ns / 1000;
}
json_t *latency_json(const struct latency *h)
{
    return json_pack("{s:I,s:f,s:f,s:f,s:f,s:f}", "count", (json_int_t)h->cnt, "mean",
                     h->cnt > 0 ? us(h->sum) / (double)h->cnt : 0.0, "p50",
                     us(latency_quantile(h, 0.5)), "p99", us(latency_quantile(h, 0.99)), "p999",
                     us(latency_quantile(h, 0.999)), "max", us(h->max));
}
void latency_print(const char *label, const struct latency *h)
{
    printf("  %-22s p50 %.0f us, p99 %.0f us, p99.9 %.0f us, longest %.0f us (%" PRIu64
           " values)\n",
           label, us(latency_quantile(h, 0.5)), us(latency_quantile(h, 0.99)),
           us(latency_quantile(h, 0.999)), us(h->max), h->cnt);
}
