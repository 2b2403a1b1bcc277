/* desc.h - the generated field tables (wire_desc.h), and what tests do with them: fill a message
 * with random content, compare two, and name all messages. Include after test.h. */
#pragma once
#include "lib/wire/desc.h"

#include "tests/unit/wire/wire_desc.h"

#define DESC_MSG_CNT (sizeof(desc_msgs) / sizeof(desc_msgs[0]))

static inline size_t desc_elem_size(const struct desc_field *f)
{
    static const size_t sizes[] = {1,
                                   1,
                                   2,
                                   2,
                                   4,
                                   8,
                                   sizeof(double),
                                   sizeof(struct uuid),
                                   sizeof(struct span),
                                   sizeof(struct span),
                                   sizeof(struct span)};
    return f->type == DESC_STRUCT ? f->elem->size : sizes[f->type];
}

static inline void desc_init(const struct desc *d, void *m)
{
    for (size_t i = 0; i < sizeof(desc_inits) / sizeof(desc_inits[0]); i++) {
        if (desc_inits[i].desc == d) {
            desc_inits[i].init(m);
            return;
        }
    }
    abort();
}

static inline bool desc_may_null(const struct desc_field *f, int v)
{
    return v >= f->null_lo && v <= f->null_hi;
}

static void desc_fill(const struct desc *d, int v, struct test_rng *rng, struct arena *a, void *m);

static inline struct span desc_random_bytes(struct test_rng *rng, struct arena *a, uint32_t max)
{
    uint32_t len = (uint32_t)rng_below(rng, rng_below(rng, 16) == 0 ? 300 : 12);
    if (len > max)
        len = max;
    uint8_t *p = (uint8_t *)arena_alloc(a, len + 1);
    rng_fill(rng, p, len);
    return span_of(p, len);
}

/* One value that is not an array and not null. */
static inline void desc_fill_value(const struct desc_field *f, int v, struct test_rng *rng,
                                   struct arena *a, void *p)
{
    if (f->type == DESC_STRUCT) {
        desc_init(f->elem, p);
        desc_fill(f->elem, v, rng, a, p);
    } else if (f->type >= DESC_STRING) {
        *(struct span *)p = desc_random_bytes(rng, a, f->array ? 300 : f->max);
    } else if (f->type == DESC_BOOL) {
        *(bool *)p = rng_below(rng, 2) == 1;
    } else {
        rng_fill(rng, p, desc_elem_size(f));
    }
}

/* Fields that v does not have keep their default; others get a random value, sometimes null,
 * sometimes left alone. The message must have been initialised. */
static void desc_fill(const struct desc *d, int v, struct test_rng *rng, struct arena *a, void *m)
{
    for (uint32_t i = 0; i < d->field_cnt; i++) {
        const struct desc_field *f = &d->fields[i];
        uint8_t *p = (uint8_t *)m + f->off;
        if (v < f->lo || v > f->hi || rng_below(rng, 6) == 0)
            continue;
        bool null = desc_may_null(f, v) && rng_below(rng, 3) == 0;
        if (f->array) {
            struct desc_arr *arr = (struct desc_arr *)(void *)p;
            *arr = (struct desc_arr){NULL, 0, null};
            if (null)
                continue;
            arr->cnt = (uint32_t)rng_below(rng, 4);
            arr->v = arr->cnt == 0 ? NULL : arena_array(a, arr->cnt, desc_elem_size(f));
            for (uint32_t j = 0; j < arr->cnt; j++)
                desc_fill_value(f, v, rng, a, (uint8_t *)arr->v + j * desc_elem_size(f));
        } else if (f->pointer) {
            void **ptr = (void **)(void *)p;
            *ptr = null ? NULL : arena_alloc(a, f->elem->size);
            if (!null)
                desc_fill_value(f, v, rng, a, *ptr);
        } else if (null) {
            *(struct span *)(void *)p = SPAN_NULL;
        } else {
            desc_fill_value(f, v, rng, a, p);
        }
    }
}

static bool desc_equal(const struct desc *d, const void *x, const void *y);

static inline bool desc_equal_value(const struct desc_field *f, const void *x, const void *y)
{
    if (f->type == DESC_STRUCT)
        return desc_equal(f->elem, x, y);
    if (f->type >= DESC_STRING) {
        const struct span *s = (const struct span *)x, *t = (const struct span *)y;
        return span_is_null(*s) == span_is_null(*t) && span_eq(*s, *t);
    }
    return memcmp(x, y, desc_elem_size(f)) == 0;
}

static bool desc_equal(const struct desc *d, const void *x, const void *y)
{
    for (uint32_t i = 0; i < d->field_cnt; i++) {
        const struct desc_field *f = &d->fields[i];
        const uint8_t *p = (const uint8_t *)x + f->off, *q = (const uint8_t *)y + f->off;
        if (f->array) {
            const struct desc_arr *s = (const struct desc_arr *)(const void *)p;
            const struct desc_arr *t = (const struct desc_arr *)(const void *)q;
            if (s->cnt != t->cnt || s->null != t->null)
                return false;
            for (uint32_t j = 0; j < s->cnt; j++) {
                size_t at = j * desc_elem_size(f);
                if (!desc_equal_value(f, (uint8_t *)s->v + at, (uint8_t *)t->v + at))
                    return false;
            }
        } else if (f->pointer) {
            const void *s = *(void *const *)(const void *)p, *t = *(void *const *)(const void *)q;
            if ((s == NULL) != (t == NULL) || (s != NULL && !desc_equal(f->elem, s, t)))
                return false;
        } else if (!desc_equal_value(f, p, q)) {
            return false;
        }
    }
    return true;
}
