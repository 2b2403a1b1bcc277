/* clog.c - see clog.h. */
#include "dataplane/kafka/clog.h"
#include "dataplane/kafka/session.h"
#include "dataplane/shard/owner_map.h"
#include "lib/base/log.h"
#include "lib/batch/layout.h"
#include "lib/meta/image.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)
#define WRITE_CAP_MIN 1024
#define RECORD_OVERHEAD 64 /* of one record and a batch, at most */

enum { /* Kafka's codes */
       ERR_UNKNOWN = -1,
       ERR_LOADING = 14,
       ERR_NOT_AVAILABLE = 15,
       ERR_NOT_COORDINATOR = 16,
};

static void load_next(struct clog_set *set);

/* ---------------------------------------------------------------- placement */

/* Java's String.hashCode: over UTF-16 units; what is no UTF-8 counts as U+FFFD. */
static uint32_t java_hash(struct span s)
{
    uint32_t h = 0;
    for (uint32_t i = 0; i < s.len;) {
        uint8_t b = s.p[i];
        uint32_t n = b < 0x80 ? 0 : b >= 0xF0 && b < 0xF8 ? 3 : b >= 0xE0 ? 2 : b >= 0xC0 ? 1 : 4;
        uint32_t cp = n == 0 ? b : n < 4 ? b & (0x3Fu >> n) : 0xFFFD;
        if (n == 4 || b >= 0xF8) {
            cp = 0xFFFD;
            n = 0;
        }
        i++;
        for (uint32_t k = 0; k < n; k++, i++) {
            if (i >= s.len || (s.p[i] & 0xC0) != 0x80) {
                cp = 0xFFFD;
                break;
            }
            cp = cp << 6 | (s.p[i] & 0x3Fu);
        }
        if (cp >= 0x10000) {
            cp -= 0x10000;
            h = h * 31 + (0xD800 + (cp >> 10 & 0x3FF));
            cp = 0xDC00 + (cp & 0x3FF);
        }
        h = h * 31 + cp;
    }
    return h;
}

int32_t clog_partition(struct span id, uint32_t cnt)
{
    int32_t h = (int32_t)java_hash(id);
    int32_t abs = h == INT32_MIN ? 0 : h < 0 ? -h : h;
    return (int32_t)((uint32_t)abs % cnt);
}

/* ------------------------------------------------------------------- writes */

struct write_part {
    struct plog_append a;
    struct list link;
    struct clog_write *w;
    struct batch_builder b;
};

void clog_write_init(struct clog_write *w, struct clog *log)
{
    *w = (struct clog_write){
        .log = log,
        .seal = {
            .codec = CODEC_NONE, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1}};
    list_init(&w->parts);
}

void clog_write_fini(struct clog_write *w)
{
    struct list *n;
    while ((n = list_pop_head(&w->parts)) != NULL) {
        struct write_part *part = container_of(n, struct write_part, link);
        free(part->b.buf);
        free(part);
    }
}

static int part_room(struct write_part *part, uint32_t need)
{
    uint64_t want = (uint64_t)part->b.len + need;
    if (want > CLOG_BATCH_MAX)
        return -E_BATCH_TOO_LARGE;
    if (want <= part->b.cap)
        return 0;
    uint64_t cap = (uint64_t)part->b.cap * 2 > want ? (uint64_t)part->b.cap * 2 : want;
    if (cap > CLOG_BATCH_MAX)
        cap = CLOG_BATCH_MAX;
    uint8_t *buf = (uint8_t *)realloc(part->b.buf, cap);
    if (buf == NULL)
        return -ENOMEM;
    part->b.buf = buf;
    part->b.cap = (uint32_t)cap;
    return 0;
}

static struct write_part *part_new(struct clog_write *w)
{
    struct write_part *part = (struct write_part *)calloc(1, sizeof(*part));
    uint8_t *buf = (uint8_t *)malloc(WRITE_CAP_MIN);
    if (part == NULL || buf == NULL) {
        free(part);
        free(buf);
        return NULL;
    }
    part->w = w;
    batch_builder_init(&part->b, buf, WRITE_CAP_MIN);
    list_add_tail(&w->parts, &part->link);
    return part;
}

void clog_write_add(struct clog_write *w, struct span key, struct span value)
{
    if (w->rc < 0)
        return;
    if ((uint64_t)key.len + value.len + RECORD_OVERHEAD + BATCH_HEADER_LEN > CLOG_BATCH_MAX) {
        w->rc = -E_BATCH_TOO_LARGE;
        return;
    }
    uint32_t need = key.len + value.len + RECORD_OVERHEAD;
    struct write_part *part =
        list_is_empty(&w->parts) ? NULL : container_of(w->parts.prev, struct write_part, link);
    int rc = part != NULL ? part_room(part, need) : -E_BATCH_TOO_LARGE;
    if (rc == -E_BATCH_TOO_LARGE) {
        part = part_new(w);
        rc = part != NULL ? part_room(part, need) : -ENOMEM;
    }
    if (rc == 0) {
        struct rec r = {.key = key, .value = value, .timestamp_ms = w->log->set->s->wall_ms};
        rc = batch_builder_add(&part->b, &r);
    }
    w->rc = rc;
}

/* What a client of a coordinator sees when the append failed (gotchas 11.6). */
static int16_t append_error(int rc)
{
    switch (err_kafka_code(rc)) {
    case 0:
        return 0;
    case 3:  /* UNKNOWN_TOPIC_OR_PARTITION */
    case 7:  /* REQUEST_TIMED_OUT */
    case 19: /* NOT_ENOUGH_REPLICAS */
    case 20:
        return ERR_NOT_AVAILABLE;
    case 6:  /* NOT_LEADER_OR_FOLLOWER */
    case 56: /* KAFKA_STORAGE_ERROR */
        return ERR_NOT_COORDINATOR;
    default:
        return ERR_UNKNOWN;
    }
}

static void on_part_done(struct plog_append *a)
{
    struct write_part *part = container_of(a, struct write_part, a);
    struct clog_write *w = part->w;
    struct clog_set *set = w->log->set;
    if (a->rc < 0 && w->rc == 0)
        w->rc = a->rc;
    if (--w->pending > 0)
        return;
    if (w->rc < 0)
        LOG_WARN("%s-%d: an append failed: %s", set->ops->topic, w->log->index, err_text(w->rc));
    set->writes--;
    w->log->writes--;
    w->done(w, append_error(w->rc)); /* w is gone */
    load_next(set);                  /* a reload may have waited for this */
}

void clog_write_submit(struct clog_write *w)
{
    struct clog *l = w->log;
    struct clog_set *set = l->set;
    struct plog *log = plog_set_find(set->s->plogs, &l->topic_id, l->index);
    ASSERT(!list_is_empty(&w->parts));
    set->writes++;
    l->writes++;
    int rc = w->rc;
    list_for_each(n, &w->parts)
    {
        struct write_part *part = container_of(n, struct write_part, link);
        part->a.topic_id = l->topic_id;
        part->a.partition = l->index;
        part->a.origin = PLOG_COORDINATOR;
        part->a.wait_durable = true;
        part->a.max_timestamp_ms = part->b.max_timestamp;
        part->a.done = on_part_done;
        if (rc == 0)
            rc = batch_seal(&part->b, NULL, &w->seal, NULL, 0, &part->a.batch);
        w->pending++;
    }
    if (rc == 0 && log == NULL)
        rc = -E_NOT_OWNER;
    if (rc < 0) { /* through the mailbox, so that done never runs inside this call */
        w->rc = rc;
        w->pending = 1;
        struct write_part *part = container_of(w->parts.next, struct write_part, link);
        part->a.msg.type = MSG_CLOG_WRITE_FAILED;
        part->a.msg.origin = set->s->id;
        mbox_send(set->s->mbox, set->s->id, &part->a.msg);
        return;
    }
    list_for_each_safe(n, tmp, &w->parts)
    {
        plog_append(log, &container_of(n, struct write_part, link)->a);
    }
}

void clog_on_write_failed(struct shard *s, struct msg *m)
{
    msg_reply(s->mbox, m, 0);
}

void clog_on_write_failed_reply(struct shard *s, struct msg *m)
{
    (void)s;
    on_part_done(container_of(m, struct plog_append, msg));
}

/* ------------------------------------------------------------------- reading */

/* One batch: a record that cannot be read costs that record only. -ENOMEM: try again later. */
static int replay_batch(struct clog *l, const struct batch_info *info, struct span batch)
{
    struct clog_set *set = l->set;
    struct record_iter it;
    struct record_view rec;
    struct arena a;
    arena_init(&a, CLOG_ARENA_MAX);
    int rc = record_iter_init(&it, set->s->codecs, batch, set->k->scratch, KAFKA_INFLATE_MAX);
    while (rc == 0 && (rc = record_iter_next(&it, &rec)) == 1) {
        rc = set->ops->replay(l, info, &rec, &a);
        if (rc < 0 && rc != -ENOMEM) {
            LOG_ERROR("%s-%d: record %lld cannot be read: %s", set->ops->topic, l->index,
                      (long long)rec.offset, err_text(rc));
            rc = 0;
        }
        arena_reset(&a);
    }
    arena_fini(&a);
    if (rc < 0 && rc != -ENOMEM) {
        LOG_ERROR("%s-%d: batch at %lld cannot be read: %s", set->ops->topic, l->index,
                  (long long)info->base_offset, err_text(rc));
        rc = 0;
    }
    return rc;
}

static void load_finish(struct clog *l)
{
    struct clog_set *set = l->set;
    l->state = CLOG_READY;
    list_del(&l->loading);
    set->ops->loaded(l);
    if (list_is_empty(&set->loading)) {
        free(set->load_buf);
        set->load_buf = NULL;
        set->load_cap = 0;
    }
}

static void on_retry(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    load_next(container_of(t, struct clog_set, retry));
}

static void load_retry(struct clog *l, int rc)
{
    struct clog_set *set = l->set;
    LOG_WARN("%s-%d: cannot be loaded now: %s", set->ops->topic, l->index, err_text(rc));
    set->ops->clear(l, ERR_LOADING);
    l->load_offset = -1;
    timer_arm(set->s->timers, &set->retry, set->s->now_ns + CLOG_RETRY_MS * MS_NS, on_retry);
}

static void on_read(struct plog_read *r)
{
    struct clog_set *set = container_of(r, struct clog_set, read);
    struct clog *l = container_of(set->loading.next, struct clog, loading);
    ASSERT(l->reading);
    l->reading = false;
    if (l->state != CLOG_LOADING || set->draining) { /* not ours any more */
        list_del(&l->loading);
        load_next(set);
        return;
    }
    if (r->rc == -E_DST_SMALL && r->need > set->load_cap) {
        uint8_t *buf = (uint8_t *)realloc(set->load_buf, r->need);
        if (buf != NULL) {
            set->load_buf = buf;
            set->load_cap = r->need;
            load_next(set);
            return;
        }
        r->rc = -ENOMEM;
    }
    if (r->rc == -E_CORRUPT_BATCH && r->damaged_to > l->load_offset) { /* the others still count */
        LOG_ERROR("%s-%d: records %lld to %lld are lost to damage of the disk; loading goes on "
                  "behind them",
                  set->ops->topic, l->index, (long long)l->load_offset,
                  (long long)(r->damaged_to - 1));
        l->load_offset = r->damaged_to;
        load_next(set);
        return;
    }
    if (r->rc < 0) {
        load_retry(l, r->rc);
        return;
    }
    uint32_t pos = 0;
    while (r->len - pos >= BATCH_HEADER_LEN) {
        struct batch_info info;
        int rc = batch_verify(set->load_buf + pos, r->len - pos, &info);
        if (rc == 0)
            rc = replay_batch(l, &info, span_of(set->load_buf + pos, info.total_len));
        if (rc < 0) {
            load_retry(l, rc);
            return;
        }
        l->load_offset = info.base_offset + info.last_offset_delta + 1;
        pos += info.total_len;
    }
    if (r->len == 0)
        load_finish(l);
    load_next(set);
}

/* Reads on with the first partition in line. Nothing when a read is under way. */
static void load_next(struct clog_set *set)
{
    while (!list_is_empty(&set->loading) && !set->draining && !timer_is_armed(&set->retry)) {
        struct clog *l = container_of(set->loading.next, struct clog, loading);
        if (l->reading || l->writes > 0) /* on_read and on_part_done come back here */
            return;
        struct plog *log = plog_set_find(set->s->plogs, &l->topic_id, l->index);
        if (l->state != CLOG_LOADING || log == NULL) {
            l->state = CLOG_NONE;
            list_del(&l->loading);
            continue;
        }
        struct plog_offsets off;
        plog_offsets_get(log, &off);
        if (l->load_offset < off.log_start)
            l->load_offset = off.log_start;
        if (l->load_offset >= off.next) {
            load_finish(l);
            continue;
        }
        if (set->load_buf == NULL) {
            set->load_buf = (uint8_t *)malloc(CLOG_READ_BYTES);
            if (set->load_buf == NULL) {
                load_retry(l, -ENOMEM);
                return;
            }
            set->load_cap = CLOG_READ_BYTES;
        }
        set->read = (struct plog_read){.topic_id = l->topic_id,
                                       .partition = l->index,
                                       .offset = l->load_offset,
                                       .current_leader_epoch = -1,
                                       .last_fetched_epoch = -1,
                                       .max_bytes = set->load_cap,
                                       .min_one_batch = true,
                                       .isolation = PLOG_READ_UNCOMMITTED,
                                       .dst = set->load_buf,
                                       .dst_cap = set->load_cap,
                                       .done = on_read};
        l->reading = true;
        plog_read(log, &set->read);
        return;
    }
}

static void load_begin(struct clog *l, const struct uuid *topic_id)
{
    l->topic_id = *topic_id;
    l->state = CLOG_LOADING;
    l->load_offset = -1;
    if (!list_is_linked(&l->loading))
        list_add_tail(&l->set->loading, &l->loading);
}

void clog_reload(struct clog *l)
{
    if (l->state != CLOG_READY || l->set->draining)
        return;
    LOG_WARN("%s-%d: reading it again", l->set->ops->topic, l->index);
    l->set->ops->clear(l, ERR_NOT_COORDINATOR);
    load_begin(l, &l->topic_id);
    load_next(l->set);
}

/* -------------------------------------------------------------------- image */

static int logs_room(struct clog_set *set, uint32_t cnt)
{
    if (cnt <= set->cnt)
        return 0;
    struct clog **v = (struct clog **)realloc(set->v, cnt * sizeof(struct clog *));
    if (v == NULL)
        return -ENOMEM;
    set->v = v;
    for (; set->cnt < cnt; set->cnt++) {
        struct clog *l = set->ops->create(set);
        if (l == NULL)
            return -ENOMEM;
        l->set = set;
        l->index = (int32_t)set->cnt;
        set->v[set->cnt] = l;
    }
    return 0;
}

static void log_follow(struct clog *l, const struct meta_topic *t)
{
    struct shard *s = l->set->s;
    bool ours = t != NULL && (uint32_t)l->index < t->partition_cnt &&
                partition_owner(s, t, l->index) == s->id &&
                plog_set_find(s->plogs, &t->id, l->index) != NULL;
    if (l->state != CLOG_NONE && (!ours || !uuid_eq(&l->topic_id, &t->id))) {
        l->state = CLOG_NONE;
        l->set->ops->clear(l, ERR_NOT_COORDINATOR);
    }
    if (l->state == CLOG_NONE && ours && !l->reading && l->writes == 0)
        load_begin(l, &t->id);
}

bool clog_set_poll(struct clog_set *set)
{
    const struct meta_image *img = set->s->image;
    if (likely(img == NULL || img->offset == set->image_offset) || set->draining)
        return false;
    set->image_offset = img->offset;
    const struct meta_topic *t = image_topic_by_name(img, span_str(set->ops->topic));
    if (t != NULL && logs_room(set, t->partition_cnt) < 0) {
        LOG_ERROR("no memory to follow %s", set->ops->topic);
        set->image_offset = -1; /* again next turn */
        return false;
    }
    for (uint32_t i = 0; i < set->cnt; i++)
        log_follow(set->v[i], t);
    load_next(set);
    return true;
}

int16_t clog_find(struct clog_set *set, int32_t partition, struct clog **ret)
{
    if (set->draining)
        return ERR_NOT_AVAILABLE;
    *ret = NULL;
    if (partition < 0)
        return list_is_empty(&set->loading) ? 0 : ERR_LOADING;
    if ((uint32_t)partition >= set->cnt)
        return ERR_NOT_COORDINATOR;
    struct clog *l = set->v[partition];
    if (l->state != CLOG_READY)
        return l->state == CLOG_LOADING ? ERR_LOADING : ERR_NOT_COORDINATOR;
    *ret = l;
    return 0;
}

/* --------------------------------------------------------------------- life */

void clog_set_init(struct clog_set *set, struct kafka *k, const struct clog_ops *ops)
{
    *set = (struct clog_set){.k = k, .s = k->s, .ops = ops, .image_offset = -1};
    list_init(&set->loading);
}

void clog_set_drain(struct clog_set *set)
{
    set->draining = true;
}

bool clog_set_is_idle(const struct clog_set *set)
{
    for (uint32_t i = 0; i < set->cnt; i++)
        if (set->v[i]->reading)
            return false;
    return set->writes == 0;
}

void clog_set_fini(struct clog_set *set)
{
    for (uint32_t i = 0; i < set->cnt; i++) {
        set->ops->clear(set->v[i], ERR_NOT_AVAILABLE);
        set->ops->destroy(set->v[i]);
    }
    timer_cancel(set->s->timers, &set->retry);
    free(set->load_buf);
    free(set->v);
}
