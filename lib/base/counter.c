/* counter.c - the cold side of counter.h. */
#include "lib/base/counter.h"

uint64_t hist_quantile(const uint64_t *hist, uint32_t cnt, uint32_t permille)
{
    uint64_t total = 0, seen = 0;
    for (uint32_t i = 0; i < cnt; i++)
        total += hist[i];
    if (total == 0)
        return 0;
    /* rank of the sample asked for, rounded up, at least the first */
    uint64_t rank = total / 1000 * permille + (total % 1000 * permille + 999) / 1000;
    if (rank == 0)
        rank = 1;
    for (uint32_t i = 0; i < cnt; i++) {
        seen += hist[i];
        if (seen >= rank)
            return i == 0 ? 0 : i >= 64 ? UINT64_MAX : (UINT64_C(1) << i) - 1;
    }
    return UINT64_MAX;
}
