/* recover_swap.c - what a rewrite left when it was cut off (seg_out.h has the steps). Kafka's
 * rules, so that either side can end what the other began:
 *
 *     a .cleaned file       the rewrite was not finished: it and every .swap at or above its base
 *                           are removed; the .swap first, for without a .cleaned they would count
 *     .log.swap             finished: segments that begin within its offsets are removed, then it
 *                           gets its name, then its indexes
 *     other .swap           its log has its name already */
#include "dataplane/store/recover_int.h"
#include <inttypes.h>
#include <stdlib.h>

static const char *const sfx[] = {SFX_LOG, SFX_INDEX, SFX_TIMEINDEX, SFX_TXNINDEX, SFX_SNAPSHOT};
#define SFX_CNT (sizeof(sfx) / sizeof(sfx[0]))

struct swap {
    struct file_io *io;
    const char *dir;
    struct names names;
    bool touched;
};

static int base_and_suffix(const char *name, int64_t *ret_base, const char **ret_suffix)
{
    *ret_base = recover_name_base(name, ret_suffix);
    return *ret_base >= 0;
}

static int name_unlink(struct swap *s, const char *name)
{
    char path[STORE_PATH_MAX];
    int rc = path_join(path, s->dir, name);
    if (rc == 0)
        rc = s->io->ops->unlink(s->io, path);
    s->touched = true;
    return rc == -ENOENT ? 0 : rc;
}

static int sync(struct swap *s)
{
    bool touched = s->touched;
    s->touched = false;
    return touched ? s->io->ops->dir_sync(s->io, s->dir) : 0;
}

/* Every name that ends in `end` with a base in [from, to). A name is emptied when it is gone. */
static int names_remove(struct swap *s, const char *end, int64_t from, int64_t to)
{
    for (uint32_t i = 0; i < s->names.cnt; i++) {
        char *name = s->names.name[i];
        const char *suffix;
        int64_t base;
        if (!base_and_suffix(name, &base, &suffix) || !ends_with(name, end) || base < from ||
            base >= to)
            continue;
        int rc = name_unlink(s, name);
        if (rc < 0)
            return rc;
        name[0] = 0;
    }
    return sync(s);
}

static int64_t first_cleaned(const struct swap *s)
{
    int64_t first = INT64_MAX, base;
    const char *suffix;
    for (uint32_t i = 0; i < s->names.cnt; i++)
        if (base_and_suffix(s->names.name[i], &base, &suffix) &&
            ends_with(s->names.name[i], SFX_CLEANED) && base < first)
            first = base;
    return first;
}

/* One past the last offset in it, also behind damage. */
static int log_end(struct swap *s, const char *name, int64_t base, int64_t *ret)
{
    char path[STORE_PATH_MAX];
    struct walk w = {0};
    uint64_t pos = 0;
    *ret = base;
    int rc = path_join(path, s->dir, name);
    if (rc == 0)
        rc = walk_open(&w, s->io, path, FILE_RDONLY);
    while (rc == 0 && pos < w.size) {
        struct batch_info b;
        const uint8_t *bytes;
        rc = walk_batch(&w, pos, &b, &bytes);
        if (rc == 0)
            rc = walk_resync(&w, pos, *ret, INT64_MAX, &pos, &b);
        if (rc <= 0)
            break;
        if (b.base_offset + b.last_offset_delta >= *ret)
            *ret = b.base_offset + b.last_offset_delta + 1;
        pos += b.total_len;
        rc = 0;
    }
    walk_close(&w);
    return rc;
}

/* The segments whose records it holds; its own .log is replaced by the rename. */
static int sources_remove(struct swap *s, int64_t first, int64_t end)
{
    for (uint32_t i = 0; i < s->names.cnt; i++) {
        const char *name = s->names.name[i], *suffix;
        int64_t base;
        if (!base_and_suffix(name, &base, &suffix) || base < first || base >= end)
            continue;
        bool mine =
            base == first && (strcmp(suffix, SFX_LOG) == 0 || strcmp(suffix, SFX_SNAPSHOT) == 0);
        for (uint32_t k = 0; k < SFX_CNT && !mine; k++) {
            int rc = strcmp(suffix, sfx[k]) == 0 ? name_unlink(s, name) : 0;
            if (rc < 0)
                return rc;
        }
    }
    return sync(s);
}

static int final_name(struct swap *s, const char *name)
{
    char from[STORE_PATH_MAX], to[STORE_PATH_MAX];
    int rc = path_join(from, s->dir, name);
    if (rc < 0)
        return rc;
    strcpy(to, from);
    to[strlen(to) - (sizeof(SFX_SWAP) - 1)] = 0;
    s->touched = true;
    return s->io->ops->rename(s->io, from, to);
}

static int finish(struct swap *s, struct recover_report *rep)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < s->names.cnt; i++) {
        char *name = s->names.name[i];
        const char *suffix;
        int64_t base, end;
        if (!base_and_suffix(name, &base, &suffix) || strcmp(suffix, SFX_LOG SFX_SWAP) != 0)
            continue;
        rc = log_end(s, name, base, &end);
        if (rc == 0)
            rc = sources_remove(s, base, end);
        if (rc == 0)
            rc = final_name(s, name);
        if (rc == 0)
            rc = sync(s);
        name[0] = 0;
        if (rc == 0)
            recover_note(rep, RC_REWRITE_DONE,
                         "%s: offsets %" PRId64 " to %" PRId64 " are in segment %" PRId64, s->dir,
                         base, end - 1, base);
    }
    for (uint32_t i = 0; rc == 0 && i < s->names.cnt; i++) {
        const char *suffix;
        int64_t base;
        if (base_and_suffix(s->names.name[i], &base, &suffix) && ends_with(suffix, SFX_SWAP))
            rc = final_name(s, s->names.name[i]);
    }
    return rc == 0 ? sync(s) : rc;
}

int recover_swap(struct file_io *io, const char *dir, struct recover_report *rep)
{
    struct swap s = {.io = io, .dir = dir};
    int rc = io->ops->list(io, dir, recover_names_add, &s.names);
    int64_t cleaned = rc == 0 ? first_cleaned(&s) : INT64_MAX;
    if (cleaned < INT64_MAX) {
        recover_note(rep, RC_REWRITE_UNDONE, "%s from segment %" PRId64 " on", dir, cleaned);
        rc = names_remove(&s, SFX_SWAP, cleaned, INT64_MAX);
        if (rc == 0)
            rc = names_remove(&s, SFX_CLEANED, 0, INT64_MAX);
    }
    if (rc == 0)
        rc = finish(&s, rep);
    free(s.names.name);
    return rc;
}
