/* Any bytes as a segment: the audit ends, what it can heal it heals in a few rounds, and what then
 * stands there can be read from end to end. First byte: options; the rest: the segment, behind a
 * sound batch if the options say so. */
#include "accel/accel.h"
#include "dataplane/store/seg_heal.h"
#include "lib/base/assert.h"
#include "lib/batch/lost.h"
#include "tests/support/fake_file.h"
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_seed(uint32_t i, uint8_t *buf, size_t cap);

#define FOUND_MAX 64
struct found {
    struct seg_damage d[FOUND_MAX];
    uint32_t cnt, repairable;
};
static int on_damage(void *arg, const struct seg_damage *d)
{
    struct found *f = arg;
    ASSERT(d->to == -1 || d->to >= d->from);
    f->repairable += damage_is_repairable(d->kind);
    if (f->cnt < FOUND_MAX)
        f->d[f->cnt++] = *d;
    return 0;
}
static int on_batch(void *arg, uint64_t pos, const struct batch_info *b, const uint8_t *bytes)
{
    (void)arg;
    (void)pos;
    ASSERT(b->base_offset >= 0);
    ASSERT(b->last_offset_delta >= 0);
    ASSERT(bytes[BATCH_MAGIC] == 2);
    return 0;
}

static int look(struct file_io *io, bool gaps, int64_t end, struct found *f)
{
    struct seg_audit a;
    struct seg_audit_opts o = {.io = io,
                               .path = "/d/00000000000000000000.log",
                               .end = end,
                               .has_gaps = gaps,
                               .is_closed = true,
                               .on_batch = on_batch,
                               .on_damage = on_damage,
                               .arg = f};
    *f = (struct found){.cnt = 0};
    int rc = seg_audit_init(&a, &o);
    while (rc >= 0 && (rc = seg_audit_step(&a, 777)) == 1) {
    }
    ASSERT(rc < 0 || a.pos == a.w.size);
    seg_audit_fini(&a);
    return rc;
}

/* Sound segments of some batches, for mutations to damage. */
size_t fuzz_seed(uint32_t i, uint8_t *buf, size_t cap)
{
    size_t at = 1;
    accel_init(false);
    buf[0] = (uint8_t)(i & 6);
    for (int64_t k = 0; k < 2 + i; k++) {
        uint32_t len = BATCH_HEADER_LEN + 7 * (uint32_t)k + i;
        struct batch_lost l = {.from = 3 * k, .to = 3 * k + 3, .leader_epoch = 1, .text = "seed"};
        if (len > cap - at || batch_lost_build(buf + at, len, &l) < 0)
            break;
        at += len;
    }
    return i < 12 ? at : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t head[96];
    struct found f;
    struct seg_healed h;
    struct batch_lost l = {.from = 0, .to = 3, .leader_epoch = 1, .text = "sound"};
    if (size < 2 || size > 1u << 16)
        return 0;
    accel_init(false);
    struct fake_disk *disk = fake_disk_new(1);
    struct file_io io = {.ops = &fake_file_ops, .arg = disk};
    int rc = io.ops->mkdir(&io, "/d");
    ASSERT(rc == 0);
    rc = batch_lost_build(head, sizeof(head), &l);
    ASSERT(rc == 0);
    size_t sound = data[0] & 1 ? sizeof(head) : 0;
    uint8_t *bytes = malloc(sound + size);
    ASSERT(bytes != NULL);
    memcpy(bytes, head, sound);
    memcpy(bytes + sound, data + 1, size - 1);
    fake_disk_put(disk, "/d/00000000000000000000.log", bytes, sound + size - 1);
    int64_t end = data[0] & 2 ? 1000 : -1;
    bool gaps = data[0] & 4;
    rc = look(&io, gaps, end, &f);
    ASSERT(rc == 0);
    for (uint32_t i = 0; i < f.cnt; i++) {
        rc = seg_heal(&io, "/d", 0, &f.d[i], &h);
        ASSERT(rc == 0 || rc == -E_LIMIT);
    }
    rc = look(&io, gaps, end, &f);
    ASSERT(rc == 0);
    free(bytes);
    fake_disk_free(disk);
    return 0;
}
