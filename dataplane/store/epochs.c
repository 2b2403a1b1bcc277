/* epochs.c - see epochs.h. */
#include "dataplane/store/epochs.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void epochs_fini(struct epochs *ep)
{
    free(ep->e);
    *ep = (struct epochs){0};
}

int32_t epochs_latest(const struct epochs *ep)
{
    return ep->cnt ? ep->e[ep->cnt - 1].epoch : -1;
}

int epochs_assign(struct epochs *ep, int32_t epoch, int64_t start)
{
    if (epoch < 0 || epoch <= epochs_latest(ep))
        return 0;
    epochs_truncate_end(ep, start);
    if (ep->cnt == EPOCHS_MAX) {
        memmove(ep->e, ep->e + 1, (ep->cnt - 1) * sizeof(*ep->e));
        ep->cnt--;
    }
    if (ep->cnt == ep->cap) {
        uint32_t cap = ep->cap ? ep->cap * 2 : 4;
        struct epoch_entry *e = realloc(ep->e, cap * sizeof(*e));
        if (e == NULL)
            return -ENOMEM;
        ep->e = e;
        ep->cap = cap;
    }
    ep->e[ep->cnt++] = (struct epoch_entry){epoch, start};
    return 1;
}

void epochs_truncate_end(struct epochs *ep, int64_t end)
{
    while (ep->cnt > 0 && ep->e[ep->cnt - 1].start >= end)
        ep->cnt--;
}

void epochs_truncate_start(struct epochs *ep, int64_t start)
{
    uint32_t drop = 0;
    while (drop + 1 < ep->cnt && ep->e[drop + 1].start <= start)
        drop++;
    if (drop > 0) {
        ep->cnt -= drop;
        memmove(ep->e, ep->e + drop, ep->cnt * sizeof(*ep->e));
    }
    if (ep->cnt > 0 && ep->e[0].start < start)
        ep->e[0].start = start;
}

void epochs_end_offset(const struct epochs *ep, int32_t asked, int64_t leo, int32_t *ret_epoch,
                       int64_t *ret_end)
{
    *ret_epoch = -1;
    *ret_end = -1;
    if (asked < 0 || ep->cnt == 0 || asked > epochs_latest(ep))
        return;
    if (asked == epochs_latest(ep)) {
        *ret_epoch = asked;
        *ret_end = leo;
        return;
    }
    uint32_t next = 0; /* first entry above `asked`; exists, as the latest is above it */
    while (ep->e[next].epoch <= asked)
        next++;
    *ret_epoch = next == 0 ? asked : ep->e[next - 1].epoch;
    *ret_end = ep->e[next].start;
}

int32_t epochs_at(const struct epochs *ep, int64_t offset)
{
    for (uint32_t i = ep->cnt; i > 0; i--)
        if (ep->e[i - 1].start <= offset)
            return ep->e[i - 1].epoch;
    return -1;
}

int epochs_encode(const struct epochs *ep, char **ret, size_t *ret_len)
{
    size_t cap = 32 + (size_t)ep->cnt * 34;
    char *p = malloc(cap);
    if (p == NULL)
        return -ENOMEM;
    int n = snprintf(p, cap, "0\n%" PRIu32 "\n", ep->cnt);
    for (uint32_t i = 0; i < ep->cnt; i++)
        n += snprintf(p + n, cap - (size_t)n, "%" PRId32 " %" PRId64 "\n", ep->e[i].epoch,
                      ep->e[i].start);
    *ret = p;
    *ret_len = (size_t)n;
    return 0;
}

int epochs_decode(struct epochs *ep, const char *text, size_t len)
{
    char *end;
    if (len == 0 || text[len] != 0 || strlen(text) != len)
        return -E_MALFORMED;
    if (strtol(text, &end, 10) != 0 || *end != '\n')
        return -E_MALFORMED;
    unsigned long cnt = strtoul(end + 1, &end, 10);
    if (*end != '\n' || cnt > len)
        return -E_MALFORMED;
    end++;
    epochs_fini(ep);
    for (unsigned long i = 0; i < cnt; i++) {
        long long epoch = strtoll(end, &end, 10);
        if (*end != ' ')
            return -E_MALFORMED;
        long long start = strtoll(end + 1, &end, 10);
        if (*end != '\n')
            return -E_MALFORMED;
        end++;
        bool sane = epoch >= 0 && epoch <= INT32_MAX && start >= 0 && epoch > epochs_latest(ep) &&
                    (ep->cnt == 0 || start > ep->e[ep->cnt - 1].start);
        if (!sane)
            return -E_MALFORMED;
        int rc = epochs_assign(ep, (int32_t)epoch, start);
        if (rc < 0)
            return rc;
    }
    return *end == 0 ? 0 : -E_MALFORMED;
}
