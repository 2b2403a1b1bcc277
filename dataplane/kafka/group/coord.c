/* coord.c - partitions, the table of groups, reading and writing of records. coord.h has the rules.
 *
 * Memory follows the log: what a request changes is installed when its records are durable (offset
 * commits, assignments), or at once where later requests must see it (deletions); when the append
 * of the latter fails, the partition is read again. */
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/group/offsets.h"
#include "dataplane/shard/owner_map.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/batch/layout.h"
#include "lib/batch/seal.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)
#define BUCKETS_MIN 64
#define WRITE_CAP_MIN 1024
#define RECORD_OVERHEAD 64 /* of one record and a batch, at most */

static void load_next(struct coord *c);

/* ------------------------------------------------------------------- memory */

void *coord_alloc(struct coord *c, size_t size)
{
    if (c->bytes + size > COORD_BYTES_MAX)
        return NULL;
    void *p = calloc(1, size > 0 ? size : 1);
    if (p != NULL)
        c->bytes += size;
    return p;
}

void coord_free(struct coord *c, void *p, size_t size)
{
    if (p == NULL)
        return;
    c->bytes -= size;
    free(p);
}

bool coord_keep(struct coord *c, struct span s, struct span *to)
{
    *to = SPAN_NULL;
    if (span_is_null(s))
        return true;
    uint8_t *p = coord_alloc(c, s.len);
    if (p == NULL)
        return false;
    if (s.len > 0)
        memcpy(p, s.p, s.len);
    *to = span_of(p, s.len);
    return true;
}

void coord_drop(struct coord *c, struct span *s)
{
    coord_free(c, (void *)(uintptr_t)s->p, s->len);
    *s = SPAN_NULL;
}

/* -------------------------------------------------------------------- calls */

void call_reply(struct group_call *call)
{
    msg_reply(call->coord->s->mbox, &call->msg, 0);
}

void call_fail(struct group_call *call, int16_t error)
{
    call->error = error;
    call_reply(call);
}

struct span call_keep_nullable(struct group_call *call, struct span s)
{
    return span_is_null(s) ? SPAN_NULL : call_keep(call, s);
}

struct span call_keep(struct group_call *call, struct span s)
{
    uint8_t *p = s.len > 0 ? arena_alloc(&call->arena, s.len) : NULL;
    if (p == NULL)
        return WIRE_EMPTY;
    memcpy(p, s.p, s.len);
    return span_of(p, s.len);
}

/* ------------------------------------------------------------------- groups */

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

int32_t coord_partition(struct span group, uint32_t cnt)
{
    int32_t h = (int32_t)java_hash(group);
    int32_t abs = h == INT32_MIN ? 0 : h < 0 ? -h : h;
    return (int32_t)((uint32_t)abs % cnt);
}

struct group *coord_find(struct coord *c, struct span id)
{
    uint64_t hash = hash_span(id);
    list_for_each(n, &c->buckets[hash & (c->bucket_cnt - 1)])
    {
        struct group *g = container_of(n, struct group, bucket);
        if (g->hash == hash && span_eq(g->id, id))
            return g;
    }
    return NULL;
}

static void buckets_grow(struct coord *c)
{
    uint32_t cnt = c->bucket_cnt * 2;
    struct list *b = (struct list *)malloc(cnt * sizeof(*b));
    if (b == NULL)
        return; /* longer chains */
    for (uint32_t i = 0; i < cnt; i++)
        list_init(&b[i]);
    for (uint32_t i = 0; i < c->bucket_cnt; i++) {
        struct list *n;
        while ((n = list_pop_head(&c->buckets[i])) != NULL)
            list_add_tail(&b[container_of(n, struct group, bucket)->hash & (cnt - 1)], n);
    }
    free(c->buckets);
    c->buckets = b;
    c->bucket_cnt = cnt;
}

struct group *coord_get(struct cpart *p, struct span id)
{
    struct coord *c = p->c;
    struct group *g = coord_find(c, id);
    if (g != NULL)
        return g;
    g = group_new(p, id, hash_span(id));
    if (g == NULL)
        return NULL;
    if (c->group_cnt >= 2 * c->bucket_cnt)
        buckets_grow(c);
    list_add_tail(&c->buckets[g->hash & (c->bucket_cnt - 1)], &g->bucket);
    list_add_tail(&p->groups, &g->part_link);
    c->group_cnt++;
    return g;
}

/* -------------------------------------------------------------------- writes */

struct write_part {
    struct plog_append a;
    struct list link;
    struct coord_write *w;
    struct batch_builder b;
};

struct coord_write *coord_write_new(struct cpart *p, struct group *g)
{
    struct coord_write *w = (struct coord_write *)calloc(1, sizeof(*w));
    if (w == NULL)
        return NULL;
    w->p = p;
    w->g = g;
    if (g != NULL)
        g->refs++;
    list_init(&w->parts);
    return w;
}

static int part_room(struct write_part *part, uint32_t need)
{
    uint64_t want = (uint64_t)part->b.len + need;
    if (want > COORD_BATCH_MAX)
        return -E_BATCH_TOO_LARGE;
    if (want <= part->b.cap)
        return 0;
    uint64_t cap = (uint64_t)part->b.cap * 2 > want ? (uint64_t)part->b.cap * 2 : want;
    if (cap > COORD_BATCH_MAX)
        cap = COORD_BATCH_MAX;
    uint8_t *buf = (uint8_t *)realloc(part->b.buf, cap);
    if (buf == NULL)
        return -ENOMEM;
    part->b.buf = buf;
    part->b.cap = (uint32_t)cap;
    return 0;
}

static struct write_part *part_new(struct coord_write *w)
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

void coord_write_add(struct coord_write *w, struct span key, struct span value)
{
    if (w->rc < 0)
        return;
    if ((uint64_t)key.len + value.len + RECORD_OVERHEAD + BATCH_HEADER_LEN > COORD_BATCH_MAX) {
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
        struct rec r = {.key = key, .value = value, .timestamp_ms = w->p->c->s->wall_ms};
        rc = batch_builder_add(&part->b, &r);
    }
    w->rc = rc;
}

void coord_write_drop(struct coord_write *w)
{
    struct list *n;
    while ((n = list_pop_head(&w->parts)) != NULL) {
        struct write_part *part = container_of(n, struct write_part, link);
        free(part->b.buf);
        free(part);
    }
    if (w->g != NULL)
        group_put(w->g);
    free(w);
}

/* What a client of any group API sees when the append failed (gotchas 11.6). */
static int16_t append_error(int rc)
{
    switch (err_kafka_code(rc)) {
    case 0:
        return 0;
    case 3:  /* UNKNOWN_TOPIC_OR_PARTITION */
    case 7:  /* REQUEST_TIMED_OUT */
    case 19: /* NOT_ENOUGH_REPLICAS */
    case 20:
        return KE_NOT_AVAILABLE;
    case 6:  /* NOT_LEADER_OR_FOLLOWER */
    case 56: /* KAFKA_STORAGE_ERROR */
        return KE_NOT_COORDINATOR;
    default:
        return KE_UNKNOWN;
    }
}

static void on_part_done(struct plog_append *a)
{
    struct write_part *part = container_of(a, struct write_part, a);
    struct coord_write *w = part->w;
    struct coord *c = w->p->c;
    if (a->rc < 0 && w->rc == 0)
        w->rc = a->rc;
    if (--w->pending > 0)
        return;
    if (w->rc < 0)
        LOG_WARN("%s-%d: an append failed: %s", OFFSETS_TOPIC, w->p->index, err_text(w->rc));
    w->error = append_error(w->rc);
    c->writes--;
    w->p->writes--;
    w->done(w, w->error);
    coord_write_drop(w);
    load_next(c); /* a reload may have waited for this */
}

static const struct seal_opts plain_seal = {
    .codec = CODEC_NONE, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};

void coord_write_submit(struct coord_write *w)
{
    struct cpart *p = w->p;
    struct coord *c = p->c;
    struct plog *log = plog_set_find(c->s->plogs, &p->topic_id, p->index);
    ASSERT(!list_is_empty(&w->parts));
    c->writes++;
    p->writes++;
    int rc = w->rc;
    list_for_each(n, &w->parts)
    {
        struct write_part *part = container_of(n, struct write_part, link);
        part->a.topic_id = p->topic_id;
        part->a.partition = p->index;
        part->a.origin = PLOG_COORDINATOR;
        part->a.wait_durable = true;
        part->a.max_timestamp_ms = part->b.max_timestamp;
        part->a.done = on_part_done;
        if (rc == 0)
            rc = batch_seal(&part->b, NULL, &plain_seal, NULL, 0, &part->a.batch);
        w->pending++;
    }
    if (rc == 0 && log == NULL)
        rc = -E_NOT_OWNER;
    if (rc < 0) { /* through the mailbox, so that done never runs inside this call */
        w->rc = rc;
        w->pending = 1;
        struct write_part *part = container_of(w->parts.next, struct write_part, link);
        part->a.msg.type = MSG_GROUP_WRITE_FAILED;
        part->a.msg.origin = c->s->id;
        mbox_send(c->s->mbox, c->s->id, &part->a.msg);
        return;
    }
    list_for_each_safe(n, tmp, &w->parts)
    {
        plog_append(log, &container_of(n, struct write_part, link)->a);
    }
}

void coord_on_write_failed(struct shard *s, struct msg *m)
{
    msg_reply(s->mbox, m, 0);
}

void coord_on_write_failed_reply(struct shard *s, struct msg *m)
{
    (void)s;
    on_part_done(container_of(m, struct plog_append, msg));
}

/* ------------------------------------------------------------------- reading */

static int replay_record(struct cpart *p, const struct record_view *rec, struct arena *a)
{
    struct wire_reader k, v;
    wire_reader_init(&k, rec->key);
    wire_reader_init(&v, rec->value);
    int16_t type = wire_get_i16(&k);
    bool deleted = span_is_null(rec->value);
    int16_t version = deleted ? 0 : wire_get_i16(&v);
    if (k.err != 0)
        return k.err;
    int rc;
    if (type == 0 || type == OFFSET_COMMIT_KEY_KEY) {
        struct offset_commit_key key;
        struct offset_commit_value value;
        rc = offset_commit_key_read(&k, 0, a, &key);
        if (rc == 0 && !deleted)
            rc = offset_commit_value_read(&v, version, a, &value);
        return rc < 0 ? rc : offsets_replay(p, &key, deleted ? NULL : &value);
    }
    if (type == GROUP_METADATA_KEY_KEY) {
        struct group_metadata_key key;
        struct group_metadata_value value;
        rc = group_metadata_key_read(&k, 0, a, &key);
        if (rc == 0 && !deleted)
            rc = group_metadata_value_read(&v, version, a, &value);
        return rc < 0 ? rc : group_replay(p, key.group, deleted ? NULL : &value);
    }
    return 0; /* of a newer kind of group */
}

/* One batch: a record that cannot be read costs that record only. -ENOMEM: try again later. */
static int replay_batch(struct cpart *p, struct span batch)
{
    struct coord *c = p->c;
    struct record_iter it;
    struct record_view rec;
    if ((batch_attributes(batch.p) & BATCH_ATTR_CONTROL) != 0)
        return 0;
    int rc = record_iter_init(&it, c->s->codecs, batch, c->k->scratch, KAFKA_INFLATE_MAX);
    struct arena a;
    arena_init(&a, COORD_CALL_BYTES_MAX);
    while (rc == 0 && (rc = record_iter_next(&it, &rec)) == 1) {
        rc = replay_record(p, &rec, &a);
        if (rc < 0 && rc != -ENOMEM) {
            LOG_ERROR("%s-%d: record %lld cannot be read: %s", OFFSETS_TOPIC, p->index,
                      (long long)rec.offset, err_text(rc));
            rc = 0;
        }
        arena_reset(&a);
    }
    arena_fini(&a);
    if (rc < 0 && rc != -ENOMEM) {
        LOG_ERROR("%s-%d: batch at %lld cannot be read: %s", OFFSETS_TOPIC, p->index,
                  (long long)batch_base_offset(batch.p), err_text(rc));
        rc = 0;
    }
    return rc;
}

static void cpart_clear(struct cpart *p, int16_t error)
{
    while (!list_is_empty(&p->groups))
        group_remove(container_of(p->groups.next, struct group, part_link), error);
}

static void load_finish(struct cpart *p)
{
    struct coord *c = p->c;
    p->state = CPART_READY;
    list_del(&p->loading);
    list_for_each_safe(n, tmp, &p->groups)
    {
        group_loaded(container_of(n, struct group, part_link));
    }
    if (list_is_empty(&c->loading)) {
        free(c->load_buf);
        c->load_buf = NULL;
        c->load_cap = 0;
    }
}

static void on_retry(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    load_next(container_of(t, struct coord, retry));
}

static void load_retry(struct coord *c, struct cpart *p, int rc)
{
    LOG_WARN("%s-%d: cannot be loaded now: %s", OFFSETS_TOPIC, p->index, err_text(rc));
    cpart_clear(p, KE_LOADING);
    p->load_offset = -1;
    timer_arm(c->s->timers, &c->retry, c->s->now_ns + COORD_RETRY_MS * MS_NS, on_retry);
}

static void on_read(struct plog_read *r)
{
    struct coord *c = container_of(r, struct coord, read);
    struct cpart *p = container_of(c->loading.next, struct cpart, loading);
    ASSERT(p->reading);
    p->reading = false;
    if (p->state != CPART_LOADING || c->draining) { /* not ours any more */
        list_del(&p->loading);
        load_next(c);
        return;
    }
    if (r->rc == -E_DST_SMALL && r->need > c->load_cap) {
        uint8_t *buf = (uint8_t *)realloc(c->load_buf, r->need);
        if (buf != NULL) {
            c->load_buf = buf;
            c->load_cap = r->need;
            load_next(c);
            return;
        }
        r->rc = -ENOMEM;
    }
    if (r->rc < 0) {
        load_retry(c, p, r->rc);
        return;
    }
    uint32_t pos = 0;
    while (r->len - pos >= BATCH_HEADER_LEN) {
        struct batch_info info;
        int rc = batch_verify(c->load_buf + pos, r->len - pos, &info);
        if (rc == 0)
            rc = replay_batch(p, span_of(c->load_buf + pos, info.total_len));
        if (rc < 0) {
            load_retry(c, p, rc);
            return;
        }
        p->load_offset = info.base_offset + info.last_offset_delta + 1;
        pos += info.total_len;
    }
    if (r->len == 0)
        load_finish(p);
    load_next(c);
}

/* Reads on with the first partition in line. Nothing when a read is under way. */
static void load_next(struct coord *c)
{
    while (!list_is_empty(&c->loading) && !c->draining && !timer_is_armed(&c->retry)) {
        struct cpart *p = container_of(c->loading.next, struct cpart, loading);
        if (p->reading || p->writes > 0) /* on_read and on_part_done come back here */
            return;
        struct plog *log = plog_set_find(c->s->plogs, &p->topic_id, p->index);
        if (p->state != CPART_LOADING || log == NULL) {
            p->state = CPART_NONE;
            list_del(&p->loading);
            continue;
        }
        struct plog_offsets off;
        plog_offsets_get(log, &off);
        if (p->load_offset < off.log_start)
            p->load_offset = off.log_start;
        if (p->load_offset >= off.next) {
            load_finish(p);
            continue;
        }
        if (c->load_buf == NULL) {
            c->load_buf = (uint8_t *)malloc(COORD_READ_BYTES);
            if (c->load_buf == NULL) {
                load_retry(c, p, -ENOMEM);
                return;
            }
            c->load_cap = COORD_READ_BYTES;
        }
        c->read = (struct plog_read){.topic_id = p->topic_id,
                                     .partition = p->index,
                                     .offset = p->load_offset,
                                     .current_leader_epoch = -1,
                                     .last_fetched_epoch = -1,
                                     .max_bytes = c->load_cap,
                                     .min_one_batch = true,
                                     .isolation = PLOG_READ_UNCOMMITTED,
                                     .dst = c->load_buf,
                                     .dst_cap = c->load_cap,
                                     .done = on_read};
        p->reading = true;
        plog_read(log, &c->read);
        return;
    }
}

static void load_begin(struct cpart *p, const struct uuid *topic_id)
{
    p->topic_id = *topic_id;
    p->state = CPART_LOADING;
    p->load_offset = -1;
    if (!list_is_linked(&p->loading))
        list_add_tail(&p->c->loading, &p->loading);
}

void coord_reload(struct cpart *p)
{
    if (p->state != CPART_READY || p->c->draining)
        return;
    LOG_WARN("%s-%d: reading the groups again", OFFSETS_TOPIC, p->index);
    cpart_clear(p, KE_NOT_COORDINATOR);
    load_begin(p, &p->topic_id);
    load_next(p->c);
}

/* -------------------------------------------------------------------- image */

static int parts_room(struct coord *c, uint32_t cnt)
{
    if (cnt <= c->part_cnt)
        return 0;
    struct cpart **v = (struct cpart **)realloc(c->parts, cnt * sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    c->parts = v;
    for (; c->part_cnt < cnt; c->part_cnt++) {
        struct cpart *p = (struct cpart *)calloc(1, sizeof(*p));
        if (p == NULL)
            return -ENOMEM;
        p->c = c;
        p->index = (int32_t)c->part_cnt;
        list_init(&p->groups);
        c->parts[c->part_cnt] = p;
    }
    return 0;
}

static void part_follow(struct cpart *p, const struct meta_topic *t)
{
    struct coord *c = p->c;
    bool ours = t != NULL && (uint32_t)p->index < t->partition_cnt &&
                partition_owner(c->s, t, p->index) == c->s->id &&
                plog_set_find(c->s->plogs, &t->id, p->index) != NULL;
    if (p->state != CPART_NONE && (!ours || !uuid_eq(&p->topic_id, &t->id))) {
        p->state = CPART_NONE;
        cpart_clear(p, KE_NOT_COORDINATOR);
    }
    if (p->state == CPART_NONE && ours && !p->reading && p->writes == 0)
        load_begin(p, &t->id);
}

void coord_poll(struct coord *c)
{
    const struct meta_image *img = c->s->image;
    if (likely(img == NULL || img->offset == c->image_offset) || c->draining)
        return;
    c->image_offset = img->offset;
    const struct meta_topic *t = image_topic_by_name(img, span_str(OFFSETS_TOPIC));
    if (t != NULL && parts_room(c, t->partition_cnt) < 0) {
        LOG_ERROR("no memory to follow %s", OFFSETS_TOPIC);
        c->image_offset = -1; /* again next turn */
        return;
    }
    for (uint32_t i = 0; i < c->part_cnt; i++)
        part_follow(c->parts[i], t);
    load_next(c);
    offsets_on_image(c);
}

/* ----------------------------------------------------------------- requests */

static int16_t call_place(struct coord *c, struct group_call *call, struct cpart **ret_part)
{
    if (c->draining)
        return KE_NOT_AVAILABLE;
    *ret_part = NULL;
    if (call->partition < 0)
        return list_is_empty(&c->loading) ? 0 : KE_LOADING;
    if ((uint32_t)call->partition >= c->part_cnt)
        return KE_NOT_COORDINATOR;
    struct cpart *p = c->parts[call->partition];
    if (p->state != CPART_READY)
        return p->state == CPART_LOADING ? KE_LOADING : KE_NOT_COORDINATOR;
    *ret_part = p;
    return 0;
}

void coord_on_call(struct shard *s, struct msg *m)
{
    struct group_call *call = container_of(m, struct group_call, msg);
    struct coord *c = s->kafka->coord;
    struct cpart *p;
    call->coord = c;
    call->parked = NULL;
    coord_poll(c);
    int16_t error = call_place(c, call, &p);
    if (error != 0) {
        call_fail(call, error);
        return;
    }
    switch (call->api_key) {
    case JOIN_GROUP_REQUEST_KEY:
        group_on_join(p, call);
        break;
    case SYNC_GROUP_REQUEST_KEY:
        group_on_sync(p, call);
        break;
    case HEARTBEAT_REQUEST_KEY:
        group_on_heartbeat(p, call);
        break;
    case LEAVE_GROUP_REQUEST_KEY:
        group_on_leave(p, call);
        break;
    case DESCRIBE_GROUPS_REQUEST_KEY:
        group_on_describe(p, call);
        break;
    case DELETE_GROUPS_REQUEST_KEY:
        group_on_delete(p, call);
        break;
    case LIST_GROUPS_REQUEST_KEY:
        group_on_list(c, call);
        break;
    case OFFSET_COMMIT_REQUEST_KEY:
        offsets_on_commit(p, call);
        break;
    case OFFSET_FETCH_REQUEST_KEY:
        offsets_on_fetch(p, call);
        break;
    case OFFSET_DELETE_REQUEST_KEY:
        offsets_on_delete(p, call);
        break;
    default:
        UNREACHABLE();
    }
}

void coord_on_cancel(struct shard *s, struct msg *m)
{
    struct group_cancel_msg *cancel = container_of(m, struct group_cancel_msg, msg);
    if (cancel->call->parked != NULL) {
        group_unpark(cancel->call);
        call_fail(cancel->call, KE_NOT_AVAILABLE);
    }
    msg_reply(s->mbox, m, 0);
}

/* ------------------------------------------------------------------- module */

static void on_expiry(struct timer *t, uint64_t now_ns)
{
    struct coord *c = container_of(t, struct coord, expiry);
    timer_arm(c->s->timers, t, now_ns + COORD_EXPIRY_MS * MS_NS, on_expiry);
    if (!c->draining)
        offsets_expire(c);
}

int coord_create(struct kafka *k, struct coord **ret)
{
    struct coord *c = (struct coord *)calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->buckets = (struct list *)malloc(BUCKETS_MIN * sizeof(*c->buckets));
    if (c->buckets == NULL) {
        free(c);
        return -ENOMEM;
    }
    c->k = k;
    c->s = k->s;
    c->image_offset = -1;
    c->bucket_cnt = BUCKETS_MIN;
    for (uint32_t i = 0; i < BUCKETS_MIN; i++)
        list_init(&c->buckets[i]);
    list_init(&c->loading);
    list_init(&c->topics);
    timer_arm(c->s->timers, &c->expiry, c->s->now_ns + COORD_EXPIRY_MS * MS_NS, on_expiry);
    *ret = c;
    return 0;
}

void coord_drain(struct coord *c)
{
    c->draining = true;
    for (uint32_t i = 0; i < c->part_cnt; i++)
        list_for_each_safe(n, tmp, &c->parts[i]->groups)
        {
            group_fail_parked(container_of(n, struct group, part_link), KE_NOT_AVAILABLE);
        }
}

bool coord_is_idle(const struct coord *c)
{
    for (uint32_t i = 0; i < c->part_cnt; i++)
        if (c->parts[i]->reading)
            return false;
    return c->writes == 0;
}

void coord_destroy(struct coord *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->part_cnt; i++) {
        cpart_clear(c->parts[i], KE_NOT_AVAILABLE);
        free(c->parts[i]);
    }
    timer_cancel(c->s->timers, &c->retry);
    timer_cancel(c->s->timers, &c->expiry);
    free(c->load_buf);
    free(c->parts);
    free(c->buckets);
    free(c);
}
