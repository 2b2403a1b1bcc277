/* owner.c - the owner's side: a message arrives, the partition log does the work, the reply leaves
 * from its done callback. */
#include "dataplane/kafka/owner.h"
#include "dataplane/kafka/api.h"

static void on_append_done(struct plog_append *a)
{
    struct produce_msg *m = container_of(a, struct produce_msg, a);
    msg_reply(m->owner->mbox, &a->msg, a->rc);
}

void owner_on_produce(struct shard *s, struct msg *msg)
{
    struct produce_msg *m = container_of(msg, struct produce_msg, a.msg);
    m->owner = s;
    struct plog *p = plog_set_find(s->plogs, &m->a.topic_id, m->a.partition);
    if (p == NULL) {
        m->a.rc = plog_set_absent_rc(s->plogs);
        msg_reply(s->mbox, msg, m->a.rc);
        return;
    }
    m->a.done = on_append_done;
    plog_append(p, &m->a);
}

static void on_read_done(struct plog_read *r)
{
    struct fetch_msg *m = container_of(r, struct fetch_msg, r);
    msg_reply(m->owner->mbox, &r->msg, r->rc);
}

void owner_on_fetch(struct shard *s, struct msg *msg)
{
    struct fetch_msg *m = container_of(msg, struct fetch_msg, r.msg);
    m->owner = s;
    struct plog *p = plog_set_find(s->plogs, &m->r.topic_id, m->r.partition);
    if (p == NULL) {
        m->r.rc = plog_set_absent_rc(s->plogs);
        msg_reply(s->mbox, msg, m->r.rc);
        return;
    }
    m->r.done = on_read_done;
    plog_read(p, &m->r);
}

static void on_wait_done(struct plog_wait *w)
{
    struct fetch_wait_msg *m = container_of(w, struct fetch_wait_msg, w);
    m->waiting = false;
    msg_reply(m->owner->mbox, &w->msg, 0);
}

void owner_on_fetch_wait(struct shard *s, struct msg *msg)
{
    struct fetch_wait_msg *m = container_of(msg, struct fetch_wait_msg, w.msg);
    m->owner = s;
    struct plog *p = plog_set_find(s->plogs, &m->w.topic_id, m->w.partition);
    if (p == NULL) { /* deleted meanwhile: the re-read finds out */
        m->waiting = false;
        msg_reply(s->mbox, msg, 0);
        return;
    }
    m->waiting = true;
    m->w.done = on_wait_done;
    plog_wait(p, &m->w);
}

void owner_on_fetch_cancel(struct shard *s, struct msg *msg)
{
    struct fetch_cancel_msg *c = container_of(msg, struct fetch_cancel_msg, msg);
    if (c->wait->waiting) {
        plog_wait_cancel(&c->wait->w); /* done() will not run any more */
        on_wait_done(&c->wait->w);
    }
    msg_reply(s->mbox, msg, 0);
}

static void on_list_done(struct plog_list_offsets *q)
{
    struct list_offsets_msg *m = container_of(q, struct list_offsets_msg, q);
    msg_reply(m->owner->mbox, &q->msg, q->rc);
}

void owner_on_list_offsets(struct shard *s, struct msg *msg)
{
    struct list_offsets_msg *m = container_of(msg, struct list_offsets_msg, q.msg);
    m->owner = s;
    struct plog *p = plog_set_find(s->plogs, &m->q.topic_id, m->q.partition);
    if (p == NULL) {
        m->q.rc = plog_set_absent_rc(s->plogs);
        msg_reply(s->mbox, msg, m->q.rc);
        return;
    }
    m->q.done = on_list_done;
    plog_list_offsets(p, &m->q);
}

static int answer_epoch_end(const struct plog *p, struct ask_msg *m)
{
    struct plog_offsets o;
    plog_offsets_get(p, &o);
    if (m->epoch.current_leader_epoch >= 0 && m->epoch.current_leader_epoch < o.leader_epoch)
        return -E_FENCED_LEADER_EPOCH;
    if (m->epoch.current_leader_epoch > o.leader_epoch)
        return -E_UNKNOWN_LEADER_EPOCH;
    plog_epoch_end_offset(p, m->epoch.epoch, &m->epoch.ret_epoch, &m->epoch.ret_end_offset);
    return 0;
}

static int answer_delete_records(struct plog *p, struct ask_msg *m)
{
    struct plog_offsets o;
    if (!plog_is_writable(p))
        return -E_STORAGE;
    plog_offsets_get(p, &o);
    int64_t offset = m->del.offset == -1 ? o.durable : m->del.offset;
    int rc = plog_set_log_start(p, offset);
    if (rc < 0)
        return rc;
    m->del.ret_low_watermark = offset > o.log_start ? offset : o.log_start;
    return 0;
}

void owner_on_ask(struct shard *s, struct msg *msg)
{
    struct ask_msg *m = container_of(msg, struct ask_msg, msg);
    struct plog *p = plog_set_find(s->plogs, &m->topic_id, m->partition);
    int rc = p == NULL ? plog_set_absent_rc(s->plogs) : 0;
    if (rc == 0) {
        struct plog_offsets o;
        switch (m->kind) {
        case ASK_EPOCH_END:
            rc = answer_epoch_end(p, m);
            break;
        case ASK_DELETE_RECORDS:
            rc = answer_delete_records(p, m);
            break;
        case ASK_SIZE:
            plog_offsets_get(p, &o);
            m->size.ret_bytes = o.size_bytes;
            m->size.ret_dir = plog_dir_idx(p);
            break;
        case ASK_PRODUCERS:
            m->producers.cnt = plog_producers(p, m->producers.v, m->producers.cap);
            break;
        }
    }
    msg_reply(s->mbox, msg, rc);
}
