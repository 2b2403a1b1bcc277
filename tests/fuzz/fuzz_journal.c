/* Journal replay from arbitrary bytes: no crash, every run lies within the input. The input may
 * also be made a well-formed entry around the fuzzer's bytes, so that the table behind the checksum
 * is reached. */
#include "accel/accel.h"
#include "accel/crc32c.h"
#include "dataplane/store/epochs.h"
#include "dataplane/store/journal.h"
#include "dataplane/store/producer.h"
#include "lib/base/assert.h"
#include "lib/batch/check.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

/* Entries of 0 to 7 runs; the checksum is added by the target. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    if (i >= 8)
        return 0;
    size_t len = sizeof(struct journal_head) + i * 100;
    struct journal_head h = {.run_cnt = i, .seq = 1};
    memset(buf, 0, len);
    memcpy(buf, &h, sizeof(h));
    for (unsigned k = 0; k < i; k++) {
        struct journal_run r = {.len = 100, .base_offset = k};
        memcpy(buf + len, &r, sizeof(r));
        len += sizeof(r);
    }
    ASSERT(len <= cap);
    return len;
}

struct bounds {
    const uint8_t *p;
    size_t len;
};
static int on_run(void *arg, const struct journal_found *f)
{
    const struct bounds *b = arg;
    ASSERT(f->bytes >= b->p);
    ASSERT(f->run.len <= b->len);
    ASSERT((size_t)(f->bytes - b->p) <= b->len - f->run.len);
    for (uint32_t at = 0; at < f->run.len;) { /* as replay does */
        struct batch_info i;
        if (batch_header_read(f->bytes + at, f->run.len - at, &i) < 0)
            break;
        at += i.total_len;
    }
    return 0;
}

static int on_damage(void *arg, const struct journal_damage *d)
{
    const struct bounds *b = arg;
    ASSERT(d->pos <= b->len);
    ASSERT(d->len <= b->len - d->pos);
    return 0;
}

static void walk(const uint8_t *data, size_t size)
{
    uint8_t *p = malloc(size + 1);
    ASSERT(p != NULL);
    memcpy(p, data, size);
    struct bounds b = {p, size};
    const struct journal_reader r = {on_run, on_damage, &b};
    ASSERT(journal_walk(p, size, &r) >= 0);
    free(p);
}

static void rows_sign(uint8_t *p, const struct journal_head *h)
{
    uint64_t rows = (h->len - sizeof(*h)) / sizeof(struct journal_run);
    for (uint64_t i = 0; i < h->run_cnt && i < rows; i++) {
        uint8_t *row = p + h->len - (i + 1) * sizeof(struct journal_run);
        struct journal_run run;
        memcpy(&run, row, sizeof(run));
        run.crc = journal_run_crc(&run, h->generation);
        memcpy(row, &run, sizeof(run));
    }
}

/* The entry, twice more behind it, in sequence: then parts of the first two damaged. What the first
 * bit hits is not the first entry's use or number: its head alone says those, and when it says
 * others what follows is taken for another use's. */
static void walk_damaged(const uint8_t *entry, size_t len)
{
    size_t room = (len + FILE_BLOCK - 1) & ~(size_t)(FILE_BLOCK - 1);
    uint8_t *p = calloc(3, room);
    struct journal_head h;
    ASSERT(p != NULL);
    memcpy(&h, entry, sizeof(h));
    h.seq &= UINT64_MAX >> 1; /* never used up */
    for (uint32_t i = 0; i < 3; i++) {
        memcpy(p + i * room, entry, len);
        h.seq++;
        rows_sign(p + i * room, &h);
        h.crc = 0;
        memcpy(p + i * room, &h, sizeof(h));
        h.crc = crc32c(0, p + i * room, len);
        memcpy(p + i * room, &h, sizeof(h));
    }
    struct bounds b = {p, 3 * room};
    const struct journal_reader r = {on_run, on_damage, &b};
    size_t hit = h.crc % len;
    if (hit >= offsetof(struct journal_head, generation) &&
        hit < offsetof(struct journal_head, len))
        hit += sizeof(h.generation) + sizeof(h.seq);
    p[hit] ^= (uint8_t)(1u << h.crc / len % 8);
    int64_t got = journal_walk(p, 3 * room, &r); /* 3: the bit was put right, in p too */
    ASSERT(got == 2 || got == 3);
    memset(p + room + h.crc % len, 0x5a, len - h.crc % len < 9 ? len - h.crc % len : 9);
    ASSERT(journal_walk(p, 3 * room, &r) >= got - 1);
    free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready)
        accel_init(false);
    ready = true;
    walk(data, size);

    uint8_t *copy = malloc(size + 1);
    ASSERT(copy != NULL);
    memcpy(copy, data, size);
    copy[size] = 0;
    if (size >= sizeof(struct journal_head)) {
        struct journal_head h;
        memcpy(&h, copy, sizeof(h));
        h.magic = JOURNAL_MAGIC;
        h.version = JOURNAL_VERSION;
        h.len = (uint32_t)size;
        h.run_cnt %= (uint32_t)(size / sizeof(struct journal_run) + 2);
        h.crc = h.zero = 0;
        memcpy(copy, &h, sizeof(h));
        h.crc = crc32c(0, copy, size);
        memcpy(copy, &h, sizeof(h));
        walk(copy, size);
        if (h.run_cnt <= (size - sizeof(h)) / sizeof(struct journal_run))
            walk_damaged(copy, size);
    }
    struct producers t = {0};
    struct epochs ep = {0};
    ASSERT(producers_decode(&t, data, size) <= 0);
    producers_fini(&t);
    memcpy(copy, data, size);
    ASSERT(epochs_decode(&ep, (char *)copy, size) <= 0);
    epochs_fini(&ep);
    free(copy);
    return 0;
}
