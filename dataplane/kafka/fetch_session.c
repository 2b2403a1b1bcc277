/* fetch_session.c - see fetch_session.h.
 *
 * A session's partitions are in a list, whose order is the order of reading: what returned data
 * goes to its end, so that the others come first next time. Two chained hash tables find a
 * session's topics and partitions. */
#include "dataplane/kafka/fetch_session.h"
#include "lib/base/assert.h"
#include "lib/base/list.h"
#include "lib/meta/image.h"
#include <stdlib.h>
#include <string.h>

enum {
    ERR_FETCH_SESSION_ID_NOT_FOUND = 70,
    ERR_INVALID_FETCH_SESSION_EPOCH = 71,
    ERR_FETCH_SESSION_TOPIC_ID = 106,
};
#define ID_SHARD_BITS 6 /* SHARD_MAX is 64 */
#define PART_BUCKETS_MIN 16u
#define IDLE_NS (FETCH_SESSION_IDLE_MS * UINT64_C(1000000))

struct stopic {
    struct stopic *next; /* in its bucket */
    uint32_t hash, part_cnt;
    struct uuid id;
    uint32_t name_len;
    uint8_t name[];
};
struct spart {
    struct list link; /* session.parts */
    struct spart *next;
    uint32_t hash;
    struct stopic *topic;
    int32_t partition;
    /* asked */
    int32_t current_leader_epoch, last_fetched_epoch, max_bytes;
    int64_t fetch_offset;
    /* answered last; -1: nothing, so that the next answer is sent */
    int64_t high_watermark, log_start_offset;
};
struct session {
    struct list link; /* fetch_sessions.sessions: least recently used first */
    int32_t id, epoch;
    bool by_id;
    uint64_t created_ns, used_ns;
    struct list parts;
    uint32_t part_cnt, topic_cnt, bucket_cnt; /* a power of two */
    struct spart **part_bucket;
    struct stopic **topic_bucket;
};
struct fetch_sessions {
    uint16_t shard;
    uint64_t rng;
    struct list sessions;
    uint32_t cnt, part_cnt;
    uint64_t steps, evictions;
    struct session *by_id[1024]; /* direct-mapped hint */
};

struct topic_key { /* how a request names a topic */
    struct span name;
    const struct uuid *id;
    bool by_id;
};

/* ------------------------------------------------------------------ tables */

static uint32_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    return (uint32_t)x ^ (uint32_t)(x >> 32);
}

static uint32_t topic_hash(const struct topic_key *k)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    const uint8_t *p = k->by_id ? k->id->b : k->name.p;
    uint32_t len = k->by_id ? sizeof(k->id->b) : k->name.len;
    for (uint32_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return mix(h);
}

static struct stopic *topic_find(const struct session *s, const struct topic_key *k, uint32_t hash)
{
    struct stopic *t = s->topic_bucket[hash & (s->bucket_cnt - 1)];
    for (; t != NULL; t = t->next) {
        if (t->hash != hash)
            continue;
        if (k->by_id ? uuid_eq(&t->id, k->id) : span_eq(span_of(t->name, t->name_len), k->name))
            return t;
    }
    return NULL;
}

static struct spart *part_find(const struct session *s, const struct stopic *t, int32_t partition)
{
    uint32_t hash = mix((uint64_t)t->hash << 32 | (uint32_t)partition);
    struct spart *p = s->part_bucket[hash & (s->bucket_cnt - 1)];
    while (p != NULL && (p->topic != t || p->partition != partition))
        p = p->next;
    return p;
}

static struct spart *find(const struct session *s, const struct topic_key *k, int32_t partition)
{
    struct stopic *t = topic_find(s, k, topic_hash(k));
    return t != NULL ? part_find(s, t, partition) : NULL;
}

static int buckets_resize(struct session *s, uint32_t cnt)
{
    struct spart **parts = calloc(cnt, sizeof(struct spart *));
    struct stopic **topics = calloc(cnt, sizeof(struct stopic *));
    if (parts == NULL || topics == NULL) {
        free(parts);
        free(topics);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->bucket_cnt; i++) {
        for (struct spart *p = s->part_bucket[i], *next; p != NULL; p = next) {
            next = p->next;
            p->next = parts[p->hash & (cnt - 1)];
            parts[p->hash & (cnt - 1)] = p;
        }
        for (struct stopic *t = s->topic_bucket[i], *next; t != NULL; t = next) {
            next = t->next;
            t->next = topics[t->hash & (cnt - 1)];
            topics[t->hash & (cnt - 1)] = t;
        }
    }
    free(s->part_bucket);
    free(s->topic_bucket);
    s->part_bucket = parts;
    s->topic_bucket = topics;
    s->bucket_cnt = cnt;
    return 0;
}

static struct stopic *topic_get(struct session *s, const struct topic_key *k)
{
    uint32_t hash = topic_hash(k);
    struct stopic *t = topic_find(s, k, hash);
    if (t != NULL)
        return t;
    uint32_t len = k->by_id ? 0 : k->name.len;
    t = calloc(1, sizeof(*t) + len + 1);
    if (t == NULL)
        return NULL;
    t->hash = hash;
    if (k->by_id)
        t->id = *k->id;
    else if (len > 0)
        memcpy(t->name, k->name.p, len);
    t->name_len = len;
    t->next = s->topic_bucket[hash & (s->bucket_cnt - 1)];
    s->topic_bucket[hash & (s->bucket_cnt - 1)] = t;
    s->topic_cnt++;
    return t;
}

static void topic_drop(struct session *s, struct stopic *t)
{
    struct stopic **at = &s->topic_bucket[t->hash & (s->bucket_cnt - 1)];
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    s->topic_cnt--;
    free(t);
}

static void part_drop(struct fetch_sessions *fs, struct session *s, struct spart *p)
{
    struct spart **at = &s->part_bucket[p->hash & (s->bucket_cnt - 1)];
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    list_del(&p->link);
    s->part_cnt--;
    fs->part_cnt--;
    if (--p->topic->part_cnt == 0)
        topic_drop(s, p->topic);
    free(p);
}

/* Found or made; NULL: a limit, or no memory. */
static struct spart *part_get(struct fetch_sessions *fs, struct session *s,
                              const struct topic_key *k, int32_t partition)
{
    struct spart *p = find(s, k, partition);
    if (p != NULL)
        return p;
    if (fs->part_cnt == FETCH_SESSION_PARTS_MAX)
        return NULL;
    if (s->part_cnt >= s->bucket_cnt && buckets_resize(s, s->bucket_cnt * 2) < 0)
        return NULL;
    p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->topic = topic_get(s, k);
    if (p->topic == NULL) {
        free(p);
        return NULL;
    }
    p->partition = partition;
    p->hash = mix((uint64_t)p->topic->hash << 32 | (uint32_t)partition);
    p->high_watermark = p->log_start_offset = -1;
    p->next = s->part_bucket[p->hash & (s->bucket_cnt - 1)];
    s->part_bucket[p->hash & (s->bucket_cnt - 1)] = p;
    list_add_tail(&s->parts, &p->link);
    p->topic->part_cnt++;
    s->part_cnt++;
    fs->part_cnt++;
    return p;
}

static void part_ask(struct spart *p, const struct fetch_request_partition *in)
{
    p->current_leader_epoch = in->current_leader_epoch;
    p->last_fetched_epoch = in->last_fetched_epoch;
    p->max_bytes = in->partition_max_bytes;
    p->fetch_offset = in->fetch_offset;
}

/* ---------------------------------------------------------------- sessions */

static struct session **hint(struct fetch_sessions *fs, int32_t id)
{
    return &fs->by_id[((uint32_t)id >> ID_SHARD_BITS) % 1024];
}

static struct session *session_find(struct fetch_sessions *fs, int32_t id)
{
    struct session *s = *hint(fs, id);
    if (s != NULL && s->id == id)
        return s;
    list_for_each(n, &fs->sessions)
    {
        s = container_of(n, struct session, link);
        if (s->id == id) {
            *hint(fs, id) = s;
            return s;
        }
    }
    return NULL;
}

static void session_drop(struct fetch_sessions *fs, struct session *s)
{
    if (*hint(fs, s->id) == s)
        *hint(fs, s->id) = NULL;
    while (!list_is_empty(&s->parts))
        part_drop(fs, s, container_of(s->parts.next, struct spart, link));
    ASSERT(s->topic_cnt == 0);
    list_del(&s->link);
    fs->cnt--;
    free(s->part_bucket);
    free(s->topic_bucket);
    free(s);
}

static void session_touch(struct fetch_sessions *fs, struct session *s, uint64_t now_ns)
{
    s->used_ns = now_ns;
    list_del(&s->link);
    list_add_tail(&fs->sessions, &s->link);
}

/* Room for one more session of `parts` partitions. */
static bool make_room(struct fetch_sessions *fs, uint64_t now_ns, uint64_t parts)
{
    bool is_full = fs->cnt >= FETCH_SESSIONS_MAX || fs->part_cnt + parts > FETCH_SESSION_PARTS_MAX;
    if (!is_full)
        return true;
    if (list_is_empty(&fs->sessions) || parts > FETCH_SESSION_PARTS_MAX)
        return false;
    struct session *victim = container_of(fs->sessions.next, struct session, link);
    if (now_ns - victim->used_ns < IDLE_NS) {
        victim = NULL;
        list_for_each(n, &fs->sessions)
        {
            struct session *s = container_of(n, struct session, link);
            bool old = now_ns - s->created_ns >= IDLE_NS;
            if (old && s->part_cnt < parts && (victim == NULL || s->part_cnt < victim->part_cnt))
                victim = s;
        }
    }
    if (victim == NULL)
        return false;
    session_drop(fs, victim);
    fs->evictions++;
    return fs->cnt < FETCH_SESSIONS_MAX && fs->part_cnt + parts <= FETCH_SESSION_PARTS_MAX;
}

/* Positive, unused, with our shard in its low bits. */
static int32_t id_new(struct fetch_sessions *fs)
{
    for (;;) {
        fs->rng ^= fs->rng << 13;
        fs->rng ^= fs->rng >> 7;
        fs->rng ^= fs->rng << 17;
        uint32_t id = (uint32_t)(fs->rng >> 20) & 0x7fffffffu & ~((1u << ID_SHARD_BITS) - 1);
        id |= fs->shard;
        if (id > fs->shard && session_find(fs, (int32_t)id) == NULL)
            return (int32_t)id;
    }
}

static struct session *session_create(struct fetch_sessions *fs, uint64_t now_ns, bool by_id)
{
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    list_init(&s->parts);
    if (buckets_resize(s, PART_BUCKETS_MIN) < 0) {
        free(s);
        return NULL;
    }
    s->id = id_new(fs);
    s->epoch = 1;
    s->by_id = by_id;
    s->created_ns = s->used_ns = now_ns;
    list_add_tail(&fs->sessions, &s->link);
    fs->cnt++;
    return s;
}

struct fetch_sessions *fetch_sessions_create(uint16_t shard, uint64_t seed)
{
    struct fetch_sessions *fs = calloc(1, sizeof(*fs));
    if (fs == NULL)
        return NULL;
    ASSERT(shard < 1u << ID_SHARD_BITS);
    fs->shard = shard;
    fs->rng = (seed ^ UINT64_C(0x9e3779b97f4a7c15)) | 1;
    list_init(&fs->sessions);
    return fs;
}

void fetch_sessions_destroy(struct fetch_sessions *fs)
{
    if (fs == NULL)
        return;
    while (!list_is_empty(&fs->sessions))
        session_drop(fs, container_of(fs->sessions.next, struct session, link));
    ASSERT(fs->part_cnt == 0);
    free(fs);
}

void fetch_sessions_stats(const struct fetch_sessions *fs, struct fetch_session_stats *ret)
{
    *ret = (struct fetch_session_stats){fs->cnt, fs->part_cnt, fs->steps, fs->evictions};
}

/* ------------------------------------------------------------------- begin */

/* The changes of one step. False: a limit; the session must go. */
static bool session_update(struct fetch_sessions *fs, struct session *s,
                           const struct fetch_request *in)
{
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct fetch_request_topic *t = &in->topics.v[i];
        struct topic_key k = {t->topic, &t->topic_id, s->by_id};
        for (uint32_t j = 0; j < t->partitions.cnt; j++) {
            struct spart *p = part_get(fs, s, &k, t->partitions.v[j].partition);
            if (p == NULL)
                return false;
            part_ask(p, &t->partitions.v[j]);
        }
    }
    for (uint32_t i = 0; i < in->forgotten_topics_data.cnt; i++) {
        const struct fetch_request_forgotten_topic *t = &in->forgotten_topics_data.v[i];
        struct topic_key k = {t->topic, &t->topic_id, s->by_id};
        for (uint32_t j = 0; j < t->partitions.cnt; j++) {
            struct spart *p = find(s, &k, t->partitions.v[j]);
            if (p != NULL)
                part_drop(fs, s, p);
        }
    }
    return true;
}

/* All of the session's partitions as a request would name them: neighbours of one topic together.
 * The arena may grow by that; it was bounded when the session was. */
static int session_expand(const struct session *s, struct fetch_request *in, struct arena *a)
{
    uint32_t runs = 0;
    const struct stopic *last = NULL;
    list_for_each(n, &s->parts)
    {
        const struct spart *p = container_of(n, struct spart, link);
        runs += p->topic != last;
        last = p->topic;
    }
    a->bytes_max += runs * (sizeof(struct fetch_request_topic) + TOPIC_NAME_MAX + 1) +
                    s->part_cnt * sizeof(struct fetch_request_partition) + 8192;
    struct fetch_request_topic *topics = arena_array(a, runs + 1, sizeof(*topics));
    struct fetch_request_partition *parts = arena_array(a, s->part_cnt + 1, sizeof(*parts));
    if (topics == NULL || parts == NULL)
        return -E_LIMIT;
    struct fetch_request_topic *t = topics;
    uint32_t cnt = 0;
    last = NULL;
    list_for_each(n, &s->parts)
    {
        const struct spart *p = container_of(n, struct spart, link);
        if (p->topic != last) {
            t = &topics[cnt++];
            fetch_request_topic_init(t);
            uint8_t *name = arena_alloc(a, p->topic->name_len + 1);
            if (name == NULL)
                return -E_LIMIT;
            memcpy(name, p->topic->name, p->topic->name_len);
            t->topic = span_of(name, p->topic->name_len);
            t->topic_id = p->topic->id;
            t->partitions.v = parts;
            last = p->topic;
        }
        fetch_request_partition_init(parts);
        parts->partition = p->partition;
        parts->current_leader_epoch = p->current_leader_epoch;
        parts->last_fetched_epoch = p->last_fetched_epoch;
        parts->fetch_offset = p->fetch_offset;
        parts->partition_max_bytes = p->max_bytes;
        t->partitions.cnt++;
        parts++;
    }
    in->topics.v = topics;
    in->topics.cnt = cnt;
    return 0;
}

int fetch_session_begin(struct fetch_sessions *fs, uint64_t now_ns, int16_t version,
                        struct fetch_request *in, struct arena *a, struct fetch_session_use *ret)
{
    *ret = (struct fetch_session_use){.kind = SESSION_NONE, .by_id = version >= 13};
    if (version < 7)
        return 0;
    struct session *s = in->session_id != 0 ? session_find(fs, in->session_id) : NULL;
    if (in->session_epoch <= 0) { /* whole: what it was before ends */
        if (s != NULL)
            session_drop(fs, s);
        ret->kind = in->session_epoch == 0 ? SESSION_NEW : SESSION_NONE;
        return 0;
    }
    if (s == NULL)
        return ERR_FETCH_SESSION_ID_NOT_FOUND;
    if (in->session_epoch != s->epoch)
        return ERR_INVALID_FETCH_SESSION_EPOCH;
    if (s->by_id != ret->by_id)
        return ERR_FETCH_SESSION_TOPIC_ID;
    if (!session_update(fs, s, in)) {
        session_drop(fs, s);
        return ERR_FETCH_SESSION_ID_NOT_FOUND; /* the client goes on without one */
    }
    session_touch(fs, s, now_ns);
    s->epoch = s->epoch == INT32_MAX ? 1 : s->epoch + 1;
    int rc = session_expand(s, in, a);
    if (rc < 0 || s->part_cnt == 0) { /* Kafka: a session of nothing ends */
        session_drop(fs, s);
        return rc;
    }
    fs->steps++;
    ret->kind = SESSION_STEP;
    ret->id = s->id;
    return 0;
}

/* --------------------------------------------------------------------- end */

/* Is there something in this answer that the client does not know? Remembers that it does now. */
static bool part_answer(struct session *s, struct spart *p,
                        const struct fetch_response_partition *out)
{
    bool news = out->records.len > 0 || out->error_code != 0 || out->preferred_read_replica >= 0 ||
                out->diverging_epoch.epoch >= 0 || p->high_watermark != out->high_watermark ||
                p->log_start_offset != out->log_start_offset;
    p->high_watermark = out->error_code != 0 ? -1 : out->high_watermark;
    p->log_start_offset = out->log_start_offset;
    if (out->records.len > 0) { /* the others first next time */
        list_del(&p->link);
        list_add_tail(&s->parts, &p->link);
    }
    return news;
}

static void answer_filter(struct session *s, const struct fetch_request *in,
                          struct fetch_response *resp)
{
    uint32_t topics = 0;
    for (uint32_t i = 0; i < resp->responses.cnt; i++) {
        struct fetch_response_topic *t = &resp->responses.v[i];
        struct topic_key k = {in->topics.v[i].topic, &in->topics.v[i].topic_id, s->by_id};
        uint32_t parts = 0;
        for (uint32_t j = 0; j < t->partitions.cnt; j++) {
            struct spart *p = find(s, &k, t->partitions.v[j].partition_index);
            if (p == NULL || part_answer(s, p, &t->partitions.v[j]))
                t->partitions.v[parts++] = t->partitions.v[j];
        }
        t->partitions.cnt = parts;
        if (parts > 0)
            resp->responses.v[topics++] = *t;
    }
    resp->responses.cnt = topics;
}

static int32_t answer_new(struct fetch_sessions *fs, uint64_t now_ns, bool by_id,
                          const struct fetch_request *in, const struct fetch_response *resp)
{
    uint64_t parts = 0;
    for (uint32_t i = 0; i < in->topics.cnt; i++)
        parts += in->topics.v[i].partitions.cnt;
    struct session *s = NULL;
    if (make_room(fs, now_ns, parts))
        s = session_create(fs, now_ns, by_id);
    if (s == NULL)
        return 0;
    for (uint32_t i = 0; i < in->topics.cnt; i++) {
        const struct fetch_request_topic *t = &in->topics.v[i];
        struct topic_key k = {t->topic, &t->topic_id, by_id};
        for (uint32_t j = 0; j < t->partitions.cnt; j++) {
            struct spart *p = part_get(fs, s, &k, t->partitions.v[j].partition);
            if (p == NULL) {
                session_drop(fs, s);
                return 0;
            }
            part_ask(p, &t->partitions.v[j]);
            (void)part_answer(s, p, &resp->responses.v[i].partitions.v[j]); /* all of it is sent */
        }
    }
    return s->id;
}

void fetch_session_end(struct fetch_sessions *fs, uint64_t now_ns,
                       const struct fetch_session_use *use, const struct fetch_request *in,
                       struct fetch_response *resp)
{
    struct session *s;
    switch (use->kind) {
    case SESSION_NONE:
        break;
    case SESSION_NEW:
        resp->session_id = answer_new(fs, now_ns, use->by_id, in, resp);
        break;
    case SESSION_STEP:
        resp->session_id = use->id;
        s = session_find(fs, use->id);
        if (s != NULL)
            answer_filter(s, in, resp);
        break;
    }
}
