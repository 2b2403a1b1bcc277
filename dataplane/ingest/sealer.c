/* sealer.c - see sealer.h.
 *
 * A batch is compressed from its buffer into a spare one, and keeps that; the old buffer becomes a
 * spare. One spare is always left for sealing here. The device needs none: it works on copies. */
#include "dataplane/ingest/sealer.h"
#include "accel/offload.h"
#include "dataplane/counters.h"
#include "dataplane/ingest/auto.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/batch/layout.h"
#include <sys/mman.h>

#define SPARES (1 + SEAL_ELSEWHERE_MAX)
#define DEVICE_BURST 16u

struct sealer {
    struct shard *s;
    seal_done_fn *done;
    void *arg;
    struct auto_share auto_share;
    uint8_t *spares[SPARES]; /* a stack */
    uint32_t spare_cnt, buf_bytes;
    struct list at_device; /* oldest first */
    struct list helping;   /* of other shards */
    uint32_t helping_cnt, elsewhere_cnt;
    uint16_t next_helper;
    struct {
        uint32_t cnt; /* of ours that it has */
        uint64_t not_before_ns;
    } helper[SHARD_MAX];
    void *mem;
    size_t mem_len;
};

int sealer_create(struct shard *s, uint32_t buf_bytes, seal_done_fn *done, void *arg,
                  struct sealer **ret)
{
    struct sealer *z = calloc(1, sizeof(*z));
    if (z == NULL)
        return -ENOMEM;
    z->s = s;
    z->done = done;
    z->arg = arg;
    z->buf_bytes = buf_bytes;
    auto_init(&z->auto_share);
    list_init(&z->at_device);
    list_init(&z->helping);
    z->mem_len = (size_t)buf_bytes * SPARES;
    z->mem = mmap(NULL, z->mem_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (z->mem == MAP_FAILED) {
        int rc = -errno;
        free(z);
        return rc;
    }
    for (uint32_t i = SPARES; i > 0; i--)
        z->spares[z->spare_cnt++] = (uint8_t *)z->mem + (size_t)(i - 1) * buf_bytes;
    *ret = z;
    return 0;
}

void sealer_destroy(struct sealer *z)
{
    if (z == NULL)
        return;
    ASSERT(sealer_is_idle(z));
    (void)munmap(z->mem, z->mem_len);
    free(z);
}

/* ---- here */
static void seal_into(struct seal_job *j, struct codec_ctx *codecs, uint8_t *dst, uint32_t cap)
{
    uint64_t began = j->opts.codec != CODEC_NONE ? clock_mono_ns() : 0;
    j->rc = batch_seal(j->b, codecs, &j->opts, dst, cap, &j->out);
    if (j->opts.codec != CODEC_NONE)
        j->ns += clock_mono_ns() - began;
}

/* The buffer that the sealed batch is not in becomes a spare; dst was taken from the spares. */
static void spare_back(struct sealer *z, struct seal_job *j, uint8_t *dst)
{
    if (j->rc == 0 && j->out.p == dst) {
        uint8_t *was = j->buf;
        j->buf = dst;
        dst = was;
    }
    z->spares[z->spare_cnt++] = dst;
}

static void seal_here(struct sealer *z, struct seal_job *j)
{
    uint8_t *dst = z->spares[--z->spare_cnt];
    seal_into(j, z->s->codecs, dst, z->buf_bytes);
    spare_back(z, j, dst);
}

/* Nobody else did it. */
static void seal_after_all(struct sealer *z, struct seal_job *j)
{
    if (j->is_auto) {
        j->starved = true;
        j->opts.codec = CODEC_NONE;
    }
    seal_here(z, j);
}

/* ---- the device */
static bool device_takes(struct sealer *z, struct seal_job *j)
{
    struct offload_queue *q = z->s->offload;
    if (q == NULL || j->opts.codec != CODEC_GZIP)
        return false;
    uint8_t *records = j->b->buf + BATCH_HEADER_LEN;
    uint32_t len = j->b->len - BATCH_HEADER_LEN;
    uint64_t began = clock_mono_ns();
    /* one byte less than plain: what does not get smaller stays as it is */
    if (q->ops->submit(q, j->opts.level, records, len, records, len - 1, j) < 0)
        return false;
    j->since_ns = clock_mono_ns();
    j->ns += j->since_ns - began; /* a device in software does all of its work in that call */
    list_add_tail(&z->at_device, &j->link);
    return true;
}

static void device_done(struct sealer *z, struct seal_job *j, int64_t len)
{
    struct shard_stats *st = &z->s->counters->shard;
    list_del(&j->link);
    if (len > 0) {
        st->seals_device++;
        j->rc = 0;
        j->out = batch_seal_packed(j->b, &j->opts, (uint32_t)len);
    } else if (len == -E_LIMIT) {
        j->opts.codec = CODEC_NONE;
        seal_here(z, j);
    } else {
        st->seals_device_failed++;
        seal_here(z, j);
    }
    z->done(z->arg, j);
}

/* A device that is gone must not hold events back. */
static void device_watch(struct sealer *z)
{
    struct seal_job *oldest = container_of(z->at_device.next, struct seal_job, link);
    if (z->s->now_ns < oldest->since_ns + SEAL_DEVICE_NS)
        return;
    LOG_ERROR("shard %u: the compression device has not answered for %llu ms and is given up; the "
              "shard compresses by itself until the next start",
              z->s->id, (unsigned long long)(SEAL_DEVICE_NS / 1000000));
    z->s->offload->ops->give_up(z->s->offload);
    while (!list_is_empty(&z->at_device))
        device_done(z, container_of(z->at_device.next, struct seal_job, link), -EIO);
}

static uint32_t device_poll(struct sealer *z)
{
    struct offload_result r[DEVICE_BURST];
    if (list_is_empty(&z->at_device))
        return 0;
    uint32_t n = z->s->offload->ops->poll(z->s->offload, r, DEVICE_BURST);
    for (uint32_t i = 0; i < n; i++)
        device_done(z, r[i].user, r[i].len);
    if (n == 0)
        device_watch(z);
    return n;
}

/* ---- other shards */
static bool helper_find(struct sealer *z, uint16_t *ret)
{
    if (z->elsewhere_cnt == SEAL_ELSEWHERE_MAX || z->spare_cnt == 1)
        return false;
    for (uint16_t i = 0; i < z->s->cnt; i++) {
        uint16_t id = (uint16_t)((z->next_helper + i) % z->s->cnt);
        if (id == z->s->id || z->helper[id].cnt == SEAL_EACH_MAX ||
            z->s->now_ns < z->helper[id].not_before_ns)
            continue;
        z->next_helper = (uint16_t)(id + 1);
        *ret = id;
        return true;
    }
    return false;
}

static bool helper_takes(struct sealer *z, struct seal_job *j)
{
    if (z->s->stopping || !helper_find(z, &j->helper))
        return false;
    j->dst = z->spares[--z->spare_cnt];
    j->dst_cap = z->buf_bytes;
    j->msg.type = MSG_SEAL;
    z->elsewhere_cnt++;
    z->helper[j->helper].cnt++;
    mbox_send(z->s->mbox, j->helper, &j->msg);
    return true;
}

void sealer_on_seal_reply(struct sealer *z, struct msg *m)
{
    struct seal_job *j = container_of(m, struct seal_job, msg);
    z->elsewhere_cnt--;
    z->helper[j->helper].cnt--;
    if (m->rc == -EBUSY) {
        z->helper[j->helper].not_before_ns = z->s->now_ns + SEAL_BACKOFF_NS;
        z->spares[z->spare_cnt++] = j->dst;
        seal_after_all(z, j);
    } else {
        z->s->counters->shard.seals_elsewhere++;
        spare_back(z, j, j->dst);
    }
    z->done(z->arg, j);
}

/* On the helper: the job's memory is ours until the reply. */
void sealer_on_seal(struct sealer *z, struct msg *m)
{
    struct seal_job *j = container_of(m, struct seal_job, msg);
    if (z->s->stopping || !auto_take(&z->auto_share, z->s->turns)) {
        z->s->counters->shard.seals_for_others_refused++;
        msg_reply(z->s->mbox, m, -EBUSY);
        return;
    }
    list_add_tail(&z->helping, &j->link);
    z->helping_cnt++;
}

static uint32_t help_one(struct sealer *z)
{
    struct list *n = list_pop_head(&z->helping);
    if (n == NULL)
        return 0;
    struct seal_job *j = container_of(n, struct seal_job, link);
    z->helping_cnt--;
    z->s->counters->shard.seals_for_others++;
    seal_into(j, z->s->codecs, j->dst, j->dst_cap);
    msg_reply(z->s->mbox, &j->msg, 0);
    return 1;
}

/* ---- which */
bool sealer_seal(struct sealer *z, struct seal_job *j)
{
    j->rc = 0;
    j->ns = 0;
    j->starved = false;
    if (j->opts.codec == CODEC_NONE) {
        seal_here(z, j);
        return true;
    }
    if (device_takes(z, j))
        return false;
    bool here = j->is_auto ? auto_take(&z->auto_share, z->s->turns)
                           : auto_has_cycles(&z->auto_share, z->s->turns);
    if (here) {
        seal_here(z, j);
        return true;
    }
    if (helper_takes(z, j))
        return false;
    seal_after_all(z, j);
    return true;
}

void sealer_events(struct sealer *z, uint32_t n)
{
    auto_events(&z->auto_share, z->s->turns, n);
}

uint32_t sealer_poll(struct sealer *z)
{
    auto_look(&z->auto_share, z->s->now_ns, z->s->busy_cycles, z->s->idle_cycles);
    z->s->counters->shard.auto_compression_percent = z->auto_share.share * 100 / AUTO_SHARE_ALL;
    return device_poll(z) + help_one(z);
}

bool sealer_has_work(const struct sealer *z)
{
    return !list_is_empty(&z->at_device) || !list_is_empty(&z->helping);
}

bool sealer_is_idle(const struct sealer *z)
{
    return !sealer_has_work(z) && z->elsewhere_cnt == 0;
}
