/* tpset.c - see tpset.h. All but sorting and finding is one merge of two sorted arrays. */
#include "dataplane/kafka/group/tpset.h"
#include <stdlib.h>
#include <string.h>

int tp_order(const struct tp *a, const struct tp *b)
{
    int d = memcmp(a->topic.b, b->topic.b, sizeof(a->topic.b));
    return d != 0 ? d : (a->partition > b->partition) - (a->partition < b->partition);
}

static int order(const void *a, const void *b)
{
    return tp_order((const struct tp *)a, (const struct tp *)b);
}

void tpset_sort(struct tpset *s)
{
    uint32_t kept = 0;
    if (s->cnt > 1)
        qsort(s->v, s->cnt, sizeof(*s->v), order);
    for (uint32_t i = 0; i < s->cnt; i++)
        if (kept == 0 || tp_order(&s->v[kept - 1], &s->v[i]) != 0)
            s->v[kept++] = s->v[i];
    s->cnt = kept;
}

enum { ONLY_X = 1, ONLY_Y = 2, BOTH = 4 };

/* The merge: calls for elements of the kinds in `want`; with out == NULL it only counts them. */
static uint32_t merge(const struct tpset *x, const struct tpset *y, int want, struct tp *out)
{
    uint32_t i = 0, k = 0, n = 0;
    while (i < x->cnt || k < y->cnt) {
        int d = i == x->cnt ? 1 : k == y->cnt ? -1 : tp_order(&x->v[i], &y->v[k]);
        int kind = d < 0 ? ONLY_X : d > 0 ? ONLY_Y : BOTH;
        if ((want & kind) != 0) {
            if (out != NULL)
                out[n] = d <= 0 ? x->v[i] : y->v[k];
            n++;
        }
        i += d <= 0;
        k += d >= 0;
    }
    return n;
}

static bool build(struct arena *a, const struct tpset *x, const struct tpset *y, int want,
                  struct tpset *ret)
{
    uint32_t cnt = merge(x, y, want, NULL);
    struct tp *v = arena_array(a, cnt, sizeof(*v));
    if (v == NULL)
        return false;
    merge(x, y, want, v);
    *ret = (struct tpset){v, cnt};
    return true;
}

bool tpset_and(struct arena *a, const struct tpset *x, const struct tpset *y, struct tpset *ret)
{
    return build(a, x, y, BOTH, ret);
}

bool tpset_minus(struct arena *a, const struct tpset *x, const struct tpset *y, struct tpset *ret)
{
    return build(a, x, y, ONLY_X, ret);
}

bool tpset_or(struct arena *a, const struct tpset *x, const struct tpset *y, struct tpset *ret)
{
    return build(a, x, y, ONLY_X | ONLY_Y | BOTH, ret);
}

bool tpset_meets(const struct tpset *x, const struct tpset *y)
{
    return merge(x, y, BOTH, NULL) > 0;
}

bool tpset_is_subset(const struct tpset *x, const struct tpset *of)
{
    return merge(x, of, ONLY_X, NULL) == 0;
}

bool tpset_eq(const struct tpset *x, const struct tpset *y)
{
    return x->cnt == y->cnt && merge(x, y, ONLY_X, NULL) == 0;
}

const struct tp *tpset_find(const struct tpset *s, const struct uuid *topic, int32_t partition)
{
    struct tp key = {.topic = *topic, .partition = partition};
    return s->cnt == 0 ? NULL : bsearch(&key, s->v, s->cnt, sizeof(*s->v), order);
}

uint32_t tpset_run(const struct tpset *s, uint32_t at)
{
    uint32_t n = 1;
    while (at + n < s->cnt && uuid_eq(&s->v[at + n].topic, &s->v[at].topic))
        n++;
    return n;
}
