/* space.c - see space.h. */
#include "dataplane/store/space.h"
#include "dataplane/store/catalog.h"

int space_check(struct data_dir *d, const struct space_check *c)
{
    struct space *s = &d->space;
    uint64_t avail, total;
    /* Read before measuring: what is written or removed meanwhile counts as not seen yet. */
    uint64_t written = atomic_load(&s->written), removed = atomic_load(&s->removed);
    int rc = d->io->ops->space(d->io, d->path, &avail, &total);
    if (rc < 0)
        return rc;
    uint64_t left = avail < INT64_MAX / 2 ? avail : INT64_MAX / 2; /* room for what is added */
    atomic_store(&s->left_mark, (int64_t)(left + written));
    atomic_store(&s->coming_mark, (int64_t)(left + written - removed));
    atomic_store(&s->free_bytes, avail);
    atomic_store(&s->total_bytes, total);
    bool low = avail < c->min_free_bytes, full = low;
    if (!low)
        atomic_store(&s->low_checks, 0);
    else if (!atomic_load(&s->read_only))
        full =
            c->make_room && c->is_tick && atomic_fetch_add(&s->low_checks, 1) >= SPACE_LOW_CHECKS;
    return atomic_exchange(&s->read_only, full) != full;
}
