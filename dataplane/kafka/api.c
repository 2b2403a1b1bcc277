/* api.c - the table of APIs, the binding of messages, and the shard's producer ids. */
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/handlers.h"
#include "dataplane/kafka/owner.h"
#include "dataplane/kafka/txn/txn.h"
#include "lib/base/log.h"

static const struct api apis[] = {
#define API(id, key, name, lo, hi, flags, start, resume, cancel)                                   \
    {key, name, lo, hi, flags, start, resume, cancel},
#include "dataplane/kafka/api.def"
#undef API
};
#define API_CNT (sizeof(apis) / sizeof(apis[0]))

const struct api *api_at(uint32_t idx)
{
    return idx < API_CNT ? &apis[idx] : NULL;
}

const struct api *api_find(int16_t key)
{
    for (uint32_t i = 0; i < API_CNT; i++)
        if (apis[i].key == key)
            return &apis[i];
    return NULL;
}

void kafka_bind_handlers(struct msg_handlers *handlers)
{
    handlers[MSG_PRODUCE] = (struct msg_handlers){owner_on_produce, kafka_on_produce_reply};
    handlers[MSG_FETCH] = (struct msg_handlers){owner_on_fetch, kafka_on_fetch_reply};
    handlers[MSG_FETCH_WAIT] =
        (struct msg_handlers){owner_on_fetch_wait, kafka_on_fetch_wait_reply};
    handlers[MSG_FETCH_CANCEL] =
        (struct msg_handlers){owner_on_fetch_cancel, kafka_on_fetch_cancel_reply};
    handlers[MSG_LIST_OFFSETS] =
        (struct msg_handlers){owner_on_list_offsets, kafka_on_list_offsets_reply};
    handlers[MSG_PARTITION_ASK] = (struct msg_handlers){owner_on_ask, kafka_on_ask_reply};
    handlers[MSG_GROUP] = (struct msg_handlers){coord_on_call, kafka_on_group_reply};
    handlers[MSG_GROUP_CANCEL] =
        (struct msg_handlers){coord_on_cancel, kafka_on_group_cancel_reply};
    handlers[MSG_TXN] = (struct msg_handlers){txn_on_call, kafka_on_txn_reply};
    handlers[MSG_TXN_MARKER] = (struct msg_handlers){txn_on_marker, txn_on_marker_reply};
    handlers[MSG_CLOG_WRITE_FAILED] =
        (struct msg_handlers){clog_on_write_failed, clog_on_write_failed_reply};
    /* requests of these two run on the control thread, which binds them itself */
    handlers[MSG_ADMIN].reply = kafka_on_admin_reply;
    handlers[MSG_PRODUCER_IDS].reply = kafka_on_producer_ids_reply;
}

void admin_send(struct admin_op *op)
{
    kreq_send(op->req, op->req->k->s->cnt, &op->m.msg, MSG_ADMIN);
}

void kafka_on_admin_reply(struct shard *s, struct msg *m)
{
    (void)s;
    struct admin_op *op = container_of(m, struct admin_op, m.msg);
    struct kreq *req = op->req;
    op->done(op);
    free(op->m.reply);
    op->m.reply = NULL;
    kreq_put(req);
}

void asks_begin(struct asks *a, struct kreq *req, void (*home)(struct asks *a))
{
    *a = (struct asks){.req = req, .pending = 1, .home = home};
}

static void ask_post(struct ask_op *ask, uint16_t owner)
{
    ask->of->pending++;
    kreq_send(ask->of->req, owner, &ask->m.msg, MSG_PARTITION_ASK);
}

int16_t ask_send(struct asks *a, struct ask_op *ask, const struct meta_topic *t, int32_t partition)
{
    enum { ERR_UNKNOWN_TOPIC = 3, ERR_NOT_LEADER = 6 };
    if (t == NULL || partition < 0 || (uint32_t)partition >= t->partition_cnt)
        return ERR_UNKNOWN_TOPIC;
    uint16_t owner = partition_owner(a->req->k->s, t, partition);
    if (owner == OWNER_NONE)
        return ERR_NOT_LEADER;
    ask->of = a;
    ask->m.topic_id = t->id;
    ask->m.partition = partition;
    ask_post(ask, owner);
    return 0;
}

int ask_again(struct ask_op *ask)
{
    const struct shard *s = ask->of->req->k->s;
    uint16_t owner = owner_map_find(s->owners, &ask->m.topic_id, ask->m.partition);
    if (owner == OWNER_NONE)
        return -E_NOT_OWNER;
    ask_post(ask, owner);
    return 0;
}

void asks_sent(struct asks *a)
{
    if (--a->pending == 0)
        a->home(a);
}

void kafka_on_ask_reply(struct shard *s, struct msg *m)
{
    (void)s;
    struct ask_op *ask = container_of(m, struct ask_op, m.msg);
    struct asks *a = ask->of;
    struct kreq *req = a->req;
    if (req->conn != NULL)
        ask->done(ask);
    a->pending--;
    if (a->pending == 0 && req->conn != NULL)
        a->home(a);
    kreq_put(req);
}

/* -------------------------------------------------------------- producer ids */

int kafka_take_producer_id(struct kafka *k, int64_t *ret_id)
{
    if (k->ids[0].next >= k->ids[0].end) {
        k->ids[0] = k->ids[1];
        k->ids[1] = (struct producer_block){0, 0};
    }
    int rc = -E_NO_PRODUCER_IDS;
    if (k->ids[0].next < k->ids[0].end) {
        *ret_id = k->ids[0].next++;
        rc = 0;
    }
    kafka_ids_refill(k);
    return rc;
}

static void on_ids_retry(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    kafka_ids_refill(container_of(t, struct kafka, ids_retry));
}

void kafka_ids_refill(struct kafka *k)
{
    if (k->ids_asked || k->draining)
        return;
    if (k->ids[0].next < k->ids[0].end && k->ids[1].next < k->ids[1].end)
        return;
    k->ids_asked = true;
    k->ids_msg = (struct producer_ids_msg){.msg = {.type = MSG_PRODUCER_IDS, .origin = k->s->id}};
    mbox_send(k->s->mbox, k->s->cnt, &k->ids_msg.msg);
}

void kafka_on_producer_ids_reply(struct shard *s, struct msg *m)
{
    struct kafka *k = s->kafka;
    k->ids_asked = false;
    if (m->rc < 0 || k->ids_msg.cnt <= 0) {
        LOG_INFO("no producer ids from the control plane: %s", err_text(m->rc));
        timer_arm(s->timers, &k->ids_retry, s->now_ns + PRODUCER_ID_RETRY_MS * UINT64_C(1000000),
                  on_ids_retry);
        return;
    }
    struct producer_block *b = k->ids[0].next < k->ids[0].end ? &k->ids[1] : &k->ids[0];
    b->next = k->ids_msg.first;
    b->end = k->ids_msg.first + k->ids_msg.cnt;
    kafka_ids_refill(k);
}

/* ------------------------------------------------------------------- topics */

bool topic_name_is_valid(struct span name)
{
    if (name.p == NULL || name.len == 0 || name.len > TOPIC_NAME_MAX)
        return false;
    if (span_eq_str(name, ".") || span_eq_str(name, ".."))
        return false;
    for (uint32_t i = 0; i < name.len; i++) {
        uint8_t c = name.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return true;
}

bool topic_name_is_internal(struct span name)
{
    return (name.len >= 2 && memcmp(name.p, "__", 2) == 0) ||
           (name.len >= 8 && memcmp(name.p, "_sluice.", 8) == 0);
}

bool topic_is_internal(const struct meta_topic *t)
{
    return t->internal || topic_name_is_internal(span_str(t->name));
}

int64_t topic_config_int(const struct meta_image *img, const struct meta_topic *t, const char *key,
                         int64_t def)
{
    const char *text = config_of_topic(img, t, key, NULL);
    if (text == NULL)
        return def;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' ? v : def; /* sluiced has validated it */
}

bool topic_config_is(const struct meta_image *img, const struct meta_topic *t, const char *key,
                     const char *value, bool def)
{
    const char *text = config_of_topic(img, t, key, NULL);
    return text == NULL ? def : strcmp(text, value) == 0;
}
