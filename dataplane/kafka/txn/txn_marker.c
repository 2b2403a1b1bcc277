/* txn_marker.c - the outcome of a transaction goes to its partitions: one marker each, appended by
 * the partition's owner, again until it is durable. */
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/txn/txn.h"
#include "dataplane/shard/owner_map.h"
#include "lib/base/log.h"
#include "lib/meta/image.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)
enum { ERR_UNKNOWN_TOPIC = 3, ERR_NOT_LEADER = 6 };

/* ------------------------------------------------------------ any sender's */

int16_t marker_send(struct shard *s, struct marker_msg *mm, const struct meta_topic *t,
                    int32_t partition, const struct batch_marker *marker, struct span batch,
                    bool txn_v2)
{
    if (t == NULL || partition < 0 || (uint32_t)partition >= t->partition_cnt)
        return ERR_UNKNOWN_TOPIC;
    uint16_t owner = partition_owner(s, t, partition);
    if (owner == OWNER_NONE)
        return ERR_NOT_LEADER;
    mm->is_offsets = strcmp(t->name, OFFSETS_TOPIC) == 0;
    mm->commit = marker->commit;
    mm->producer_id = marker->producer_id;
    mm->m.a = (struct plog_append){.msg = {.type = MSG_TXN_MARKER, .origin = s->id},
                                   .topic_id = t->id,
                                   .partition = partition,
                                   .origin = PLOG_COORDINATOR,
                                   .wait_durable = true,
                                   .txn_v2 = txn_v2,
                                   .batch = batch,
                                   .max_timestamp_ms = marker->timestamp_ms};
    mbox_send(s->mbox, owner, &mm->m.a.msg);
    return 0;
}

static void on_appended(struct plog_append *a)
{
    struct marker_msg *mm = container_of(a, struct marker_msg, m.a);
    struct shard *s = mm->m.owner;
    if (a->rc == 0 && mm->is_offsets)
        coord_on_marker(s->kafka->coord, a->partition, mm->producer_id, mm->commit);
    msg_reply(s->mbox, &a->msg, a->rc);
}

/* On the owner of the partition. */
void txn_on_marker(struct shard *s, struct msg *m)
{
    struct marker_msg *mm = container_of(m, struct marker_msg, m.a.msg);
    mm->m.owner = s;
    struct plog *p = plog_set_find(s->plogs, &mm->m.a.topic_id, mm->m.a.partition);
    if (p == NULL) {
        msg_reply(s->mbox, m, -E_UNKNOWN_TOPIC);
        return;
    }
    mm->m.a.done = on_appended;
    plog_append(p, &mm->m.a);
}

void txn_on_marker_reply(struct shard *s, struct msg *m)
{
    struct marker_msg *mm = container_of(m, struct marker_msg, m.a.msg);
    mm->done(s, mm);
}

/* ----------------------------------------------------------- of a transaction */

struct round_part {
    struct marker_msg mm;
    struct txn_round *round;
    struct span topic; /* in t->v.parts, which stays while t is prepared */
};
struct txn_round { /* holds a reference to t */
    struct txn *t;
    uint32_t pending;
    uint32_t batch_len;
    uint8_t batch[MARKER_BATCH_MAX];
    struct round_part part[];
};

static void on_retry(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    txn_markers_send(container_of(timer, struct txn, timer));
}

static void round_end(struct txn_round *r)
{
    struct txn *t = r->t;
    struct txn_coord *c = t->p->c;
    free(r);
    c->rounds--;
    t->round = NULL;
    if (!t->gone && !c->draining) {
        if (t->left.part_cnt == 0)
            txn_marked(t);
        else
            timer_arm(c->s->timers, &t->timer, c->s->now_ns + TXN_MARKER_RETRY_MS * MS_NS,
                      on_retry);
    }
    txn_put(t);
}

static void on_marker_done(struct shard *s, struct marker_msg *mm)
{
    struct round_part *p = container_of(mm, struct round_part, mm);
    struct txn_round *r = p->round;
    struct txn *t = r->t;
    int rc = mm->m.a.msg.rc;
    s->kafka->st.txn_markers += rc == 0;
    if (rc == -E_INVALID_PRODUCER_EPOCH || rc == -E_COORDINATOR_FENCED) {
        LOG_WARN("marker of '%.*s' is not wanted by %.*s-%d: %s", (int)t->id.len,
                 (const char *)t->id.p, (int)p->topic.len, (const char *)p->topic.p,
                 mm->m.a.partition, err_text(rc));
        rc = 0; /* a later transaction is at work there: this one has ended */
    }
    if (rc == 0 && !t->gone)
        txn_parts_remove(&t->left, p->topic, mm->m.a.partition);
    if (--r->pending == 0)
        round_end(r);
}

static int32_t coordinator_epoch(const struct tpart *p)
{
    const struct meta_topic *t = image_topic_by_name(p->c->s->image, span_str(TXN_TOPIC));
    bool known = t != NULL && (uint32_t)p->log.index < t->partition_cnt;
    return known ? t->partitions[p->log.index].leader_epoch : 0;
}

static struct txn_round *round_create(struct txn *t)
{
    struct txn_round *r =
        (struct txn_round *)calloc(1, sizeof(*r) + t->left.part_cnt * sizeof(r->part[0]));
    if (r == NULL)
        return NULL;
    r->t = t;
    t->refs++;
    t->round = r;
    t->p->c->rounds++;
    return r;
}

void txn_markers_send(struct txn *t)
{
    struct shard *s = t->p->c->s;
    if (t->left.part_cnt == 0) {
        txn_marked(t);
        return;
    }
    struct txn_round *r = round_create(t);
    if (r == NULL) {
        timer_arm(s->timers, &t->timer, s->now_ns + TXN_MARKER_RETRY_MS * MS_NS, on_retry);
        return;
    }
    struct batch_marker marker = {.commit = t->v.state == TXN_PREPARE_COMMIT,
                                  .coordinator_epoch = coordinator_epoch(t->p),
                                  .producer_id = t->v.producer_id,
                                  .producer_epoch = t->v.epoch,
                                  .timestamp_ms = s->wall_ms};
    r->batch_len = marker_write(&marker, r->batch);
    r->pending = 1; /* ours, until all are sent */
    uint32_t cnt = 0;
    for (uint32_t i = 0; i < t->v.parts.cnt; i++) {
        const struct txn_topic *row = &t->v.parts.v[i];
        const struct meta_topic *mt = image_topic_by_name(s->image, row->name);
        for (uint32_t k = 0; k < row->cnt; k++) {
            if (!txn_parts_has(&t->left, row->name, row->v[k]))
                continue;
            struct round_part *p = &r->part[cnt];
            p->round = r;
            p->topic = row->name;
            p->mm.done = on_marker_done;
            int16_t error = marker_send(s, &p->mm, mt, row->v[k], &marker,
                                        span_of(r->batch, r->batch_len), t->v.client_version == 2);
            if (error == 0) {
                cnt++;
                r->pending++;
            } else if (error == ERR_UNKNOWN_TOPIC) { /* deleted: nothing left to mark */
                txn_parts_remove(&t->left, row->name, row->v[k]);
            }
        }
    }
    if (--r->pending == 0)
        round_end(r);
}
