/* offload_compressdev.c - see offload.h. A compressdev gives raw DEFLATE (RFC 1951); the gzip
 * header and trailer (RFC 1952) are written here, its CRC32 by the device where it has one. */
#include "accel/offload.h"
#include "lib/base/assert.h"
#include <isa-l/crc.h>
#include <rte_compressdev.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <stdlib.h>

#define HEADER_LEN 10u
#define TRAILER_LEN 8u
#define LEVELS 9
#define BURST 16u
static_assert(OFFLOAD_SEG_BYTES + RTE_PKTMBUF_HEADROOM <= UINT16_MAX, "a DPDK buffer's length");

struct offload {
    uint8_t dev;
    int socket;
    bool has_crc;
    uint32_t seg_cnt, len_max;
    void *xforms[LEVELS + 1];
    char text[160];
};
struct slot {
    struct rte_comp_op *op;
    struct rte_mbuf *src[OFFLOAD_SEGS_MAX], *dst[OFFLOAD_SEGS_MAX];
    void *user; /* NULL: given up */
    uint8_t *to;
    uint32_t cap, len, crc;
};
struct compressdev_queue {
    struct offload_queue q; /* first */
    struct offload *o;
    uint16_t idx;
    bool gone;
    uint32_t free_cnt, under_way;
    struct slot *free[OFFLOAD_SLOTS];
    struct slot slots[OFFLOAD_SLOTS];
    struct rte_mempool *ops, *bufs;
};

static struct slot **slot_of(struct rte_comp_op *op)
{
    return (struct slot **)(op + 1);
}

/* ---- the bytes */
static void segs_link(struct rte_mbuf **segs, uint32_t cnt, uint32_t len)
{
    segs[0]->pkt_len = len;
    segs[0]->nb_segs = (uint16_t)cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        uint32_t n = len < OFFLOAD_SEG_BYTES ? len : OFFLOAD_SEG_BYTES;
        segs[i]->data_len = (uint16_t)n;
        segs[i]->next = i + 1 < cnt ? segs[i + 1] : NULL;
        len -= n;
    }
}

static void copy_in(struct rte_mbuf **segs, const uint8_t *src, uint32_t len)
{
    segs_link(segs, (len + OFFLOAD_SEG_BYTES - 1) / OFFLOAD_SEG_BYTES, len);
    for (struct rte_mbuf *m = segs[0]; m != NULL; m = m->next) {
        memcpy(rte_pktmbuf_mtod(m, void *), src, m->data_len);
        src += m->data_len;
    }
}

static void copy_out(uint8_t *dst, struct rte_mbuf *const *segs, uint32_t len)
{
    for (uint32_t i = 0; len > 0; i++) {
        uint32_t n = len < OFFLOAD_SEG_BYTES ? len : OFFLOAD_SEG_BYTES;
        memcpy(dst, rte_pktmbuf_mtod(segs[i], void *), n);
        dst += n;
        len -= n;
    }
}

static void store_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static int64_t result_of(const struct slot *s)
{
    static const uint8_t header[HEADER_LEN] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff};
    const struct rte_comp_op *op = s->op;
    if (op->status == RTE_COMP_OP_STATUS_OUT_OF_SPACE_TERMINATED ||
        op->status == RTE_COMP_OP_STATUS_OUT_OF_SPACE_RECOVERABLE)
        return -E_LIMIT;
    if (op->status != RTE_COMP_OP_STATUS_SUCCESS || op->consumed != s->len)
        return -EIO;
    uint64_t len = (uint64_t)HEADER_LEN + op->produced + TRAILER_LEN;
    if (len > s->cap)
        return -E_LIMIT;
    memcpy(s->to, header, HEADER_LEN);
    copy_out(s->to + HEADER_LEN, s->dst, op->produced);
    store_le32(s->to + HEADER_LEN + op->produced, s->crc);
    store_le32(s->to + HEADER_LEN + op->produced + 4, s->len);
    return (int64_t)len;
}

/* ---- the queue */
static int queue_submit(struct offload_queue *oq, int level, const uint8_t *src, uint32_t len,
                        uint8_t *dst, uint32_t dst_cap, void *user)
{
    struct compressdev_queue *q = (struct compressdev_queue *)oq;
    struct offload *o = q->o;
    DASSERT(user != NULL);
    if (q->gone)
        return -ENODEV;
    if (len == 0 || len > o->len_max)
        return -E_LIMIT;
    if (q->free_cnt == 0)
        return -EAGAIN;
    struct slot *s = q->free[q->free_cnt - 1];
    struct rte_comp_op *op = s->op;
    copy_in(s->src, src, len);
    segs_link(s->dst, o->seg_cnt, o->seg_cnt * OFFLOAD_SEG_BYTES);
    op->op_type = RTE_COMP_OP_STATELESS;
    op->private_xform = o->xforms[level < 1 ? 1 : level > LEVELS ? LEVELS : level];
    op->m_src = s->src[0];
    op->m_dst = s->dst[0];
    op->src.offset = op->dst.offset = 0;
    op->src.length = len;
    op->flush_flag = RTE_COMP_FLUSH_FINAL;
    op->input_chksum = op->output_chksum = 0;
    op->consumed = op->produced = 0;
    op->status = RTE_COMP_OP_STATUS_NOT_PROCESSED;
    s->user = user;
    s->to = dst;
    s->cap = dst_cap;
    s->len = len;
    s->crc = o->has_crc ? 0 : crc32_gzip_refl(0, src, len);
    if (rte_compressdev_enqueue_burst(o->dev, q->idx, &op, 1) != 1)
        return -EAGAIN;
    q->free_cnt--;
    q->under_way++;
    return 0;
}

static uint32_t queue_poll(struct offload_queue *oq, struct offload_result *ret, uint32_t max)
{
    struct compressdev_queue *q = (struct compressdev_queue *)oq;
    struct rte_comp_op *ops[BURST];
    uint32_t n = 0;
    if (q->under_way == 0)
        return 0;
    uint16_t got = rte_compressdev_dequeue_burst(q->o->dev, q->idx, ops,
                                                 (uint16_t)(max < BURST ? max : BURST));
    for (uint16_t i = 0; i < got; i++) {
        struct slot *s = *slot_of(ops[i]);
        if (q->o->has_crc)
            s->crc = (uint32_t)ops[i]->output_chksum;
        if (s->user != NULL)
            ret[n++] = (struct offload_result){.user = s->user, .len = result_of(s)};
        s->user = NULL;
        q->free[q->free_cnt++] = s;
        q->under_way--;
    }
    return n;
}

static void queue_give_up(struct offload_queue *oq)
{
    struct compressdev_queue *q = (struct compressdev_queue *)oq;
    q->gone = true;
    for (uint32_t i = 0; i < OFFLOAD_SLOTS; i++)
        q->slots[i].user = NULL;
}

static const struct offload_ops compressdev_ops = {queue_submit, queue_poll, queue_give_up};

static int slots_make(struct compressdev_queue *q)
{
    struct offload *o = q->o;
    for (uint32_t i = 0; i < OFFLOAD_SLOTS; i++) {
        struct slot *s = &q->slots[i];
        s->op = rte_comp_op_alloc(q->ops);
        if (s->op == NULL)
            return -ENOMEM;
        *slot_of(s->op) = s;
        if (rte_pktmbuf_alloc_bulk(q->bufs, s->src, o->seg_cnt) != 0 ||
            rte_pktmbuf_alloc_bulk(q->bufs, s->dst, o->seg_cnt) != 0)
            return -ENOMEM;
        q->free[q->free_cnt++] = s;
    }
    return 0;
}

int offload_queue_open(struct offload *o, uint16_t idx, struct offload_queue **ret)
{
    char name[32];
    struct compressdev_queue *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return -ENOMEM;
    q->q.ops = &compressdev_ops;
    q->o = o;
    q->idx = idx;
    snprintf(name, sizeof(name), "comp_ops_%u_%u", o->dev, idx);
    q->ops = rte_comp_op_pool_create(name, OFFLOAD_SLOTS, 0, sizeof(struct slot *), o->socket);
    snprintf(name, sizeof(name), "comp_bufs_%u_%u", o->dev, idx);
    q->bufs = rte_pktmbuf_pool_create(name, OFFLOAD_SLOTS * 2 * o->seg_cnt, 0, 0,
                                      OFFLOAD_SEG_BYTES + RTE_PKTMBUF_HEADROOM, o->socket);
    if (q->ops == NULL || q->bufs == NULL || slots_make(q) < 0) {
        offload_queue_close(&q->q);
        return -ENOMEM;
    }
    *ret = &q->q;
    return 0;
}

/* The pools go with everything taken from them; a device that still writes there was stopped by
 * offload_close, or never answered. */
void offload_queue_close(struct offload_queue *oq)
{
    struct compressdev_queue *q = (struct compressdev_queue *)oq;
    if (q == NULL)
        return;
    if (q->under_way == 0) { /* else they stay the device's until the process ends */
        rte_mempool_free(q->ops);
        rte_mempool_free(q->bufs);
    }
    free(q);
}

/* ---- the device */
static int refuse(char *err, size_t cap, const char *name, const char *why)
{
    snprintf(err, cap, "compression_device \"%s\": %s", name, why);
    return -E_CONFIG;
}

/* The device called `name`, or whose name begins with it: drivers append to a PCI address. */
static int dev_find(const char *name)
{
    size_t n = strcspn(name, ",");
    for (int id = 0; id < rte_compressdev_count(); id++)
        if (strncmp(rte_compressdev_name_get((uint8_t)id), name, n) == 0)
            return id;
    return -ENODEV;
}

static int xforms_make(struct offload *o, const struct rte_compressdev_capabilities *cap)
{
    for (int level = 1; level <= LEVELS; level++) {
        struct rte_comp_xform x = {
            .type = RTE_COMP_COMPRESS,
            .compress = {.algo = RTE_COMP_ALGO_DEFLATE,
                         .deflate.huffman = cap->comp_feature_flags & RTE_COMP_FF_HUFFMAN_DYNAMIC
                                                ? RTE_COMP_HUFFMAN_DYNAMIC
                                                : RTE_COMP_HUFFMAN_FIXED,
                         .level = level,
                         .window_size = cap->window_size.max,
                         .chksum = o->has_crc ? RTE_COMP_CHECKSUM_CRC32 : RTE_COMP_CHECKSUM_NONE,
                         .hash_algo = RTE_COMP_HASH_ALGO_NONE}};
        int rc = rte_compressdev_private_xform_create(o->dev, &x, &o->xforms[level]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int dev_start(struct offload *o, uint16_t queue_cnt,
                     const struct rte_compressdev_capabilities *cap)
{
    struct rte_compressdev_config c = {
        .socket_id = o->socket, .nb_queue_pairs = queue_cnt, .max_nb_priv_xforms = LEVELS + 1};
    int rc = rte_compressdev_configure(o->dev, &c);
    for (uint16_t i = 0; rc == 0 && i < queue_cnt; i++)
        rc = rte_compressdev_queue_pair_setup(o->dev, i, OFFLOAD_SLOTS * 2, o->socket);
    if (rc == 0)
        rc = rte_compressdev_start(o->dev);
    return rc == 0 ? xforms_make(o, cap) : rc;
}

static int dev_check(const char *name, uint8_t dev, uint16_t queue_cnt, uint32_t seg_cnt,
                     const struct rte_compressdev_info *info,
                     const struct rte_compressdev_capabilities **ret, char *err, size_t cap)
{
    const struct rte_compressdev_capabilities *c =
        rte_compressdev_capability_get(dev, RTE_COMP_ALGO_DEFLATE);
    if (c == NULL)
        return refuse(err, cap, name, "it does not compress DEFLATE");
    if (!(c->comp_feature_flags & RTE_COMP_FF_SHAREABLE_PRIV_XFORM))
        return refuse(err, cap, name, "its driver cannot have several operations under way");
    if (seg_cnt > OFFLOAD_SEGS_MAX ||
        (seg_cnt > 1 && !(c->comp_feature_flags & RTE_COMP_FF_OOP_SGL_IN_SGL_OUT)))
        return refuse(err, cap, name, "batches are too long for it: lower storage.batch_bytes");
    if (info->max_nb_queue_pairs != 0 && queue_cnt > info->max_nb_queue_pairs)
        return refuse(err, cap, name, "it has fewer queues than there are shards");
    *ret = c;
    return 0;
}

int offload_open(const char *name, uint16_t queue_cnt, uint32_t len_max, struct offload **ret,
                 char *err, size_t err_cap)
{
    const struct rte_compressdev_capabilities *cap;
    struct rte_compressdev_info info;
    int id = dev_find(name);
    if (id < 0)
        return refuse(err, err_cap, name, "no such compression device came up");
    uint32_t seg_cnt = (len_max + len_max / 16 + 512) / OFFLOAD_SEG_BYTES + 1;
    rte_compressdev_info_get((uint8_t)id, &info);
    int rc = dev_check(name, (uint8_t)id, queue_cnt, seg_cnt, &info, &cap, err, err_cap);
    if (rc < 0)
        return rc;
    struct offload *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return refuse(err, err_cap, name, "out of memory");
    o->dev = (uint8_t)id;
    o->socket = rte_compressdev_socket_id(o->dev);
    o->has_crc = cap->comp_feature_flags & RTE_COMP_FF_CRC32_CHECKSUM;
    o->seg_cnt = seg_cnt;
    o->len_max = len_max;
    snprintf(o->text, sizeof(o->text), "%s, device %s, %u operations a shard", info.driver_name,
             rte_compressdev_name_get(o->dev), OFFLOAD_SLOTS);
    rc = dev_start(o, queue_cnt, cap);
    if (rc < 0) {
        offload_close(o);
        return refuse(err, err_cap, name, rte_strerror(-rc));
    }
    *ret = o;
    return 0;
}

void offload_close(struct offload *o)
{
    if (o == NULL)
        return;
    for (int level = 1; level <= LEVELS; level++)
        if (o->xforms[level] != NULL)
            (void)rte_compressdev_private_xform_free(o->dev, o->xforms[level]);
    rte_compressdev_stop(o->dev);
    (void)rte_compressdev_close(o->dev); /* the process ends */
    free(o);
}

const char *offload_describe(const struct offload *o)
{
    return o->text;
}
