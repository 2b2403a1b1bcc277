/* dgram_handover.c - see dgram_handover.h. */
#include "dataplane/net/dgram_handover.h"
#include "dataplane/shard/shard.h"
#include "lib/base/assert.h"
#include <stdlib.h>

#define DGRAMS_PER_MSG 64u

struct dgram_msg {
    struct msg m; /* first */
    struct list free;
    uint16_t listener;
    uint32_t cnt, used;
    struct dgram dg[DGRAMS_PER_MSG];
    uint8_t *bytes;
};

struct dgram_handover {
    struct dgram_handover_cfg cfg;
    struct dgram_msg *msgs;
    uint8_t *mem;
    struct list free;
    uint32_t free_cnt;
    struct list held; /* other shards' messages, delivered, given back by turn_end */
    struct dgram_msg *open[SHARD_MAX]; /* being filled, during one split */
    struct dgram_handover_stats st;
};

int dgram_handover_create(const struct dgram_handover_cfg *cfg, struct dgram_handover **ret)
{
    ASSERT(cfg->shard_cnt <= SHARD_MAX);
    struct dgram_handover *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return -ENOMEM;
    h->cfg = *cfg;
    if (h->cfg.msg_cnt == 0)
        h->cfg.msg_cnt = 64;
    if (h->cfg.msg_bytes == 0)
        h->cfg.msg_bytes = 65536;
    list_init(&h->free);
    list_init(&h->held);
    h->msgs = calloc(h->cfg.msg_cnt, sizeof(*h->msgs));
    h->mem = malloc((size_t)h->cfg.msg_cnt * h->cfg.msg_bytes);
    if (h->msgs == NULL || h->mem == NULL) {
        dgram_handover_destroy(h);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < h->cfg.msg_cnt; i++) {
        h->msgs[i].bytes = h->mem + (size_t)i * h->cfg.msg_bytes;
        list_add_tail(&h->free, &h->msgs[i].free);
    }
    h->free_cnt = h->cfg.msg_cnt;
    *ret = h;
    return 0;
}

void dgram_handover_destroy(struct dgram_handover *h)
{
    if (h == NULL)
        return;
    ASSERT(h->msgs == NULL || h->mem == NULL || h->free_cnt == h->cfg.msg_cnt);
    free(h->msgs);
    free(h->mem);
    free(h);
}

static void open_send(struct dgram_handover *h, uint16_t to)
{
    struct dgram_msg *dm = h->open[to];
    h->open[to] = NULL;
    dm->m.type = MSG_DGRAMS;
    h->st.sent += dm->cnt;
    mbox_send(h->cfg.mbox, to, &dm->m);
}

/* A message for `to` with room for len more bytes, or NULL. */
static struct dgram_msg *open_get(struct dgram_handover *h, uint16_t to, uint16_t listener,
                                  uint32_t len)
{
    struct dgram_msg *dm = h->open[to];
    if (dm != NULL && (dm->cnt == DGRAMS_PER_MSG || h->cfg.msg_bytes - dm->used < len)) {
        open_send(h, to);
        dm = NULL;
    }
    if (dm == NULL && len <= h->cfg.msg_bytes && h->free_cnt > 0) {
        dm = container_of(list_pop_head(&h->free), struct dgram_msg, free);
        h->free_cnt--;
        dm->cnt = dm->used = 0;
        dm->listener = listener;
        h->open[to] = dm;
    }
    return dm;
}

uint32_t dgram_handover_split(struct dgram_handover *h, uint16_t listener, struct dgram *dg,
                              uint32_t n)
{
    uint32_t kept = 0;
    if (h->cfg.shard_cnt <= 1)
        return n;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t to = source_shard(&dg[i].peer, h->cfg.shard_cnt);
        if (to == h->cfg.shard) {
            dg[kept++] = dg[i];
            continue;
        }
        struct dgram_msg *dm = open_get(h, to, listener, dg[i].bytes.len);
        if (dm == NULL) {
            h->st.dropped++;
            h->st.dropped_bytes += dg[i].bytes.len;
            if (h->cfg.dropped != NULL)
                h->cfg.dropped(h->cfg.arg, listener, 1);
            continue;
        }
        uint8_t *p = dm->bytes + dm->used;
        if (dg[i].bytes.len > 0)
            memcpy(p, dg[i].bytes.p, dg[i].bytes.len);
        dm->dg[dm->cnt] = dg[i];
        dm->dg[dm->cnt++].bytes.p = p;
        dm->used += dg[i].bytes.len;
    }
    if (kept < n)
        for (uint16_t to = 0; to < h->cfg.shard_cnt; to++)
            if (h->open[to] != NULL)
                open_send(h, to);
    return kept;
}

void dgram_handover_on_request(struct dgram_handover *h, struct msg *m)
{
    struct dgram_msg *dm = container_of(m, struct dgram_msg, m);
    h->st.received += dm->cnt;
    (void)h->cfg.deliver(h->cfg.arg, dm->listener, dm->dg, dm->cnt); /* it counts what it refuses */
    list_add_tail(&h->held, &m->link);
}

void dgram_handover_on_reply(struct dgram_handover *h, struct msg *m)
{
    struct dgram_msg *dm = container_of(m, struct dgram_msg, m);
    list_add_head(&h->free, &dm->free);
    h->free_cnt++;
}

void dgram_handover_turn_end(struct dgram_handover *h)
{
    for (struct list *l; (l = list_pop_head(&h->held)) != NULL;)
        msg_reply(h->cfg.mbox, container_of(l, struct msg, link), 0);
}

uint32_t dgram_handover_free_cnt(const struct dgram_handover *h)
{
    return h->free_cnt;
}

uint32_t dgram_handover_in_flight(const struct dgram_handover *h)
{
    return h->cfg.msg_cnt - h->free_cnt;
}

const struct dgram_handover_stats *dgram_handover_stats(const struct dgram_handover *h)
{
    return &h->st;
}
