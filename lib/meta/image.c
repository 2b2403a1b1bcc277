/* image.c - versions of the metadata image. See image.h.
 *
 * A build (struct build) starts as a copy of the old image that shares every topic with it, applies
 * the records one by one to topics it cloned first, and becomes the new image only when all of them
 * were understood. A topic with one reference is the build's own; the old image, which the caller
 * holds during the call, keeps every shared one at two or more. */
#include "lib/meta/image.h"
#include "lib/base/hash.h"
#include "lib/meta/records.h"
#include <stdlib.h>

enum { ARENA_MAX = 4 << 20, HASH_MIN = 16 };
#define HASH_FREE UINT32_MAX

struct build {
    struct meta_image *img; /* in the making; by_name has room for name_cap topics */
    uint32_t name_cap;
    struct meta_topic **by_id; /* open addressing; NULL free, `gone` deleted */
    uint32_t id_cap, id_used;  /* a power of two; slots that are not NULL */
    struct arena arena;        /* decoded record */
};
static struct meta_topic gone;

/* ---- references ---- */

static void *ref_get(uint32_t *refs, void *object)
{
    __atomic_fetch_add(refs, 1, __ATOMIC_RELAXED); /* the caller already has one */
    return object;
}

/* True for the last one. The release pairs with the acquire of whoever frees. */
static bool ref_put(uint32_t *refs)
{
    return __atomic_sub_fetch(refs, 1, __ATOMIC_ACQ_REL) == 0;
}

static void topic_put(struct meta_topic *t)
{
    if (t == NULL || !ref_put(&t->refs))
        return;
    config_list_free(t->configs, t->config_cnt);
    free(t->partitions);
    free(t);
}

static void broker_put(struct meta_broker *br)
{
    if (br == NULL || !ref_put(&br->refs))
        return;
    free(br->record);
    free(br);
}

struct meta_image *image_get(struct meta_image *img)
{
    return ref_get(&img->refs, img);
}

void image_put(struct meta_image *img)
{
    if (img == NULL || !ref_put(&img->refs))
        return;
    for (uint32_t i = 0; i < img->topic_cnt; i++)
        topic_put(img->by_name[i]);
    free(img->by_name);
    free(img->id_hash);
    config_list_free(img->broker_configs, img->broker_config_cnt);
    config_list_free(img->default_configs, img->default_config_cnt);
    quotas_put(img->quotas);
    groups_put(img->groups);
    broker_put(img->broker);
    free(img);
}

int image_create_empty(struct meta_image **ret)
{
    struct meta_image *img = calloc(1, sizeof(*img));
    if (img == NULL)
        return -ENOMEM;
    img->refs = 1;
    img->offset = -1;
    img->node_id = -1;
    img->broker_epoch = -1;
    *ret = img;
    return 0;
}

/* ---- look-ups ---- */

static uint32_t id_hash(const struct uuid *id)
{
    return (uint32_t)hash_bytes(id->b, sizeof(id->b));
}

/* Where the name is, or where it belongs. */
static uint32_t name_pos(const struct meta_image *img, struct span name, bool *ret_found)
{
    uint32_t lo = 0, hi = img->topic_cnt;
    *ret_found = false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = config_name_cmp(name, img->by_name[mid]->name);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

const struct meta_topic *image_topic_by_name(const struct meta_image *img, struct span name)
{
    bool found;
    uint32_t i = name_pos(img, name, &found);
    return found ? img->by_name[i] : NULL;
}

const struct meta_topic *image_topic_by_id(const struct meta_image *img, const struct uuid *id)
{
    if (img->id_hash_cap == 0)
        return NULL;
    uint32_t mask = img->id_hash_cap - 1;
    for (uint32_t i = id_hash(id) & mask; img->id_hash[i] != HASH_FREE; i = (i + 1) & mask) {
        const struct meta_topic *t = img->by_name[img->id_hash[i]];
        if (uuid_eq(&t->id, id))
            return t;
    }
    return NULL;
}

const char *meta_topic_config(const struct meta_topic *t, const char *key)
{
    return meta_config_find(t->configs, t->config_cnt, key);
}

const char *image_group_config(const struct meta_image *img, struct span group, const char *key)
{
    const struct meta_group *g = groups_find(img->groups, group);
    return g != NULL ? meta_config_find(g->v, g->cnt, key) : NULL;
}

const char *image_broker_config(const struct meta_image *img, const char *key)
{
    const char *value = meta_config_find(img->broker_configs, img->broker_config_cnt, key);
    if (value != NULL)
        return value;
    return meta_config_find(img->default_configs, img->default_config_cnt, key);
}

const struct meta_feature_range meta_features[] = {
#define FEATURE(name, min, max, level) {name, min, max, level},
#include "lib/meta/features.def"
#undef FEATURE
};
const uint32_t meta_feature_cnt = sizeof(meta_features) / sizeof(meta_features[0]);

int16_t image_feature(const struct meta_image *img, const char *name)
{
    for (uint32_t i = 0; i < img->feature_cnt; i++) {
        if (strcmp(img->features[i].name, name) == 0)
            return img->features[i].level;
    }
    return 0;
}

bool meta_topic_name_ok(struct span name)
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

bool meta_topic_name_internal(struct span name)
{
    return span_eq_str(name, "__consumer_offsets") || span_eq_str(name, "__transaction_state") ||
           span_eq_str(name, "__share_group_state");
}

/* ---- the build's own index by id ---- */

static uint32_t id_slot(const struct build *b, const struct uuid *id)
{
    uint32_t mask = b->id_cap - 1, i = id_hash(id) & mask;
    while (b->by_id[i] != NULL && (b->by_id[i] == &gone || !uuid_eq(&b->by_id[i]->id, id)))
        i = (i + 1) & mask;
    return i;
}

static int ids_rebuild(struct build *b, uint32_t topic_cnt)
{
    uint32_t cap = HASH_MIN;
    while (cap < 4 * (uint64_t)topic_cnt)
        cap *= 2;
    struct meta_topic **by_id = calloc(cap, sizeof(*by_id));
    if (by_id == NULL)
        return -ENOMEM;
    free(b->by_id);
    b->by_id = by_id;
    b->id_cap = cap;
    b->id_used = b->img->topic_cnt;
    for (uint32_t i = 0; i < b->img->topic_cnt; i++)
        b->by_id[id_slot(b, &b->img->by_name[i]->id)] = b->img->by_name[i];
    return 0;
}

/* ---- records, one function each ---- */

/* The topic in slot `slot` of by_id, made the build's own. */
static int topic_own(struct build *b, uint32_t slot, struct meta_topic **ret)
{
    struct meta_topic *old = b->by_id[slot];
    if (__atomic_load_n(&old->refs, __ATOMIC_ACQUIRE) == 1) {
        *ret = old;
        return 0;
    }
    struct meta_topic *t = malloc(sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    memcpy(t, old, sizeof(*t));
    t->refs = 1;
    t->config_cnt = 0;
    t->configs = NULL;
    t->partitions = NULL;
    if (old->partition_cnt > 0) {
        t->partitions = malloc(old->partition_cnt * sizeof(*t->partitions));
        if (t->partitions == NULL)
            goto undo_topic;
        memcpy(t->partitions, old->partitions, old->partition_cnt * sizeof(*t->partitions));
    }
    if (config_list_dup(old->configs, old->config_cnt, &t->configs) < 0)
        goto undo_topic;
    t->config_cnt = old->config_cnt;
    bool found;
    uint32_t pos = name_pos(b->img, span_str(t->name), &found);
    ASSERT(found);
    b->img->by_name[pos] = t;
    b->by_id[slot] = t;
    topic_put(old);
    *ret = t;
    return 0;
undo_topic:
    topic_put(t);
    return -ENOMEM;
}

static int topic_find_own(struct build *b, const struct uuid *id, struct meta_topic **ret)
{
    uint32_t slot = id_slot(b, id);
    if (b->by_id[slot] == NULL)
        return -E_MALFORMED;
    return topic_own(b, slot, ret);
}

static int on_topic(struct build *b, const struct topic_record *m)
{
    struct meta_image *img = b->img;
    bool found;
    uint32_t pos = name_pos(img, m->name, &found);
    if (found || !meta_topic_name_ok(m->name) || uuid_is_zero(&m->topic_id))
        return -E_MALFORMED;
    if (2 * (uint64_t)(b->id_used + 1) > b->id_cap) {
        int rc = ids_rebuild(b, img->topic_cnt + 1);
        if (rc < 0)
            return rc;
    }
    uint32_t slot = id_slot(b, &m->topic_id);
    if (b->by_id[slot] != NULL)
        return -E_MALFORMED;
    if (img->topic_cnt == b->name_cap) {
        uint32_t cap = b->name_cap < 8 ? 16 : b->name_cap * 2;
        struct meta_topic **by_name = realloc(img->by_name, cap * sizeof(*by_name));
        if (by_name == NULL)
            return -ENOMEM;
        img->by_name = by_name;
        b->name_cap = cap;
    }
    struct meta_topic *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    t->refs = 1;
    t->id = m->topic_id;
    memcpy(t->name, m->name.p, m->name.len);
    t->internal = meta_topic_name_internal(m->name);
    memmove(&img->by_name[pos + 1], &img->by_name[pos],
            (img->topic_cnt - pos) * sizeof(*img->by_name));
    img->by_name[pos] = t;
    img->topic_cnt++;
    b->by_id[slot] = t;
    b->id_used++;
    return 0;
}

static int on_remove_topic(struct build *b, const struct remove_topic_record *m)
{
    struct meta_image *img = b->img;
    uint32_t slot = id_slot(b, &m->topic_id);
    struct meta_topic *t = b->by_id[slot];
    if (t == NULL)
        return -E_MALFORMED;
    bool found;
    uint32_t pos = name_pos(img, span_str(t->name), &found);
    ASSERT(found);
    img->topic_cnt--;
    memmove(&img->by_name[pos], &img->by_name[pos + 1],
            (img->topic_cnt - pos) * sizeof(*img->by_name));
    img->partition_cnt -= t->partition_cnt;
    b->by_id[slot] = &gone; /* still counted in id_used, until the next rebuild */
    topic_put(t);
    return 0;
}

/* A partition that a later one made room for and no record has filled: see holes_check. */
static bool is_hole(const struct meta_partition *p)
{
    return p->leader_epoch < 0;
}

/* Does any other node have a replica of it, or this one none? */
static bool is_elsewhere(const struct meta_image *img, const struct wire_i32s *replicas)
{
    return img->node_id >= 0 && (replicas->cnt != 1 || replicas->v[0] != img->node_id);
}

static int on_partition(struct build *b, const struct partition_record *m)
{
    struct meta_topic *t;
    int rc = topic_find_own(b, &m->topic_id, &t);
    if (rc < 0)
        return rc;
    if (m->partition_id < 0 || m->leader_epoch < 0 || m->partition_epoch < 0)
        return -E_MALFORMED;
    if (m->partition_id >= META_PARTITIONS_MAX)
        return -E_LIMIT;
    uint32_t need = (uint32_t)m->partition_id + 1;
    if (need > t->partition_cnt) {
        uint32_t more = need - t->partition_cnt;
        if (more > META_PARTITIONS_MAX - b->img->partition_cnt)
            return -E_LIMIT;
        /* allocated in powers of two: partitions come one by one */
        uint32_t cap = 1;
        while (cap < need)
            cap *= 2;
        struct meta_partition *p = realloc(t->partitions, cap * sizeof(*p));
        if (p == NULL)
            return -ENOMEM;
        t->partitions = p;
        for (uint32_t i = t->partition_cnt; i < need; i++)
            t->partitions[i] = (struct meta_partition){.leader = -1, .leader_epoch = -1};
        t->partition_cnt = need;
        b->img->partition_cnt += more;
    }
    struct meta_partition *p = &t->partitions[m->partition_id];
    p->leader = m->leader;
    p->leader_epoch = m->leader_epoch;
    p->partition_epoch = m->partition_epoch;
    p->is_elsewhere = is_elsewhere(b->img, &m->replicas);
    p->directory = m->directories.cnt > 0 ? m->directories.v[0] : (struct uuid){{0}};
    return 0;
}

static int on_partition_change(struct build *b, const struct partition_change_record *m)
{
    struct meta_topic *t;
    int rc = topic_find_own(b, &m->topic_id, &t);
    if (rc < 0)
        return rc;
    if (m->partition_id < 0 || (uint32_t)m->partition_id >= t->partition_cnt)
        return -E_MALFORMED;
    struct meta_partition *p = &t->partitions[m->partition_id];
    if (is_hole(p) || p->leader_epoch == INT32_MAX || p->partition_epoch == INT32_MAX)
        return -E_MALFORMED;
    if (m->leader != -2) { /* -2: leader unchanged; else a new epoch, even for the same leader */
        p->leader = m->leader;
        p->leader_epoch++;
    }
    if (m->replicas.cnt > 0)
        p->is_elsewhere = is_elsewhere(b->img, &m->replicas);
    if (m->directories.cnt > 0)
        p->directory = m->directories.v[0];
    p->partition_epoch++;
    return 0;
}

static bool has_nul(struct span s)
{
    return s.len > 0 && memchr(s.p, 0, s.len) != NULL;
}

static int on_group_config(struct build *b, const struct config_record *m)
{
    struct meta_groups *next;
    if (m->resource_name.len == 0 || has_nul(m->resource_name))
        return -E_MALFORMED;
    int rc = groups_set(b->img->groups, m->resource_name, m->name, m->value, &next);
    if (rc < 0)
        return rc;
    groups_put(b->img->groups);
    b->img->groups = next;
    return 0;
}

static int on_config(struct build *b, const struct config_record *m)
{
    struct meta_image *img = b->img;
    if (m->name.len == 0 || has_nul(m->name) || has_nul(m->value))
        return -E_MALFORMED;
    if (m->resource_type == META_RESOURCE_TOPIC) {
        bool found;
        uint32_t pos = name_pos(img, m->resource_name, &found);
        if (!found)
            return -E_MALFORMED;
        struct meta_topic *t;
        int rc = topic_own(b, id_slot(b, &img->by_name[pos]->id), &t);
        return rc < 0 ? rc : config_list_set(&t->configs, &t->config_cnt, m->name, m->value);
    }
    if (m->resource_type == META_RESOURCE_GROUP)
        return on_group_config(b, m);
    if (m->resource_type != META_RESOURCE_BROKER)
        return 0; /* of client metrics: kept in the log */
    if (m->resource_name.len == 0)
        return config_list_set(&img->default_configs, &img->default_config_cnt, m->name, m->value);
    char node[16];
    snprintf(node, sizeof(node), "%d", img->node_id);
    if (!span_eq_str(m->resource_name, node))
        return 0; /* of a broker that was here once */
    return config_list_set(&img->broker_configs, &img->broker_config_cnt, m->name, m->value);
}

static int on_feature(struct build *b, const struct feature_level_record *m)
{
    struct meta_image *img = b->img;
    const uint32_t max = sizeof(img->features) / sizeof(img->features[0]);
    if (m->name.len == 0 || m->name.len >= sizeof(img->features[0].name) || has_nul(m->name) ||
        m->feature_level < 0)
        return -E_MALFORMED;
    uint32_t i = 0;
    while (i < img->feature_cnt && !span_eq_str(m->name, img->features[i].name))
        i++;
    if (m->feature_level == 0) {
        if (i < img->feature_cnt)
            img->features[i] = img->features[--img->feature_cnt];
        return 0;
    }
    if (i == max)
        return -E_LIMIT;
    struct meta_feature *f = &img->features[i];
    memset(f, 0, sizeof(*f));
    memcpy(f->name, m->name.p, m->name.len);
    f->level = m->feature_level;
    if (i == img->feature_cnt)
        img->feature_cnt++;
    return 0;
}

/* Replaces the registration by what m says, kept as a record of the version we write. */
static int broker_set(struct build *b, const struct register_broker_record *m)
{
    int rc = -ENOMEM;
    struct meta_batch batch;
    meta_batch_init(&batch);
    meta_put_register_broker_record(&batch, m);
    if (batch.rc < 0) {
        rc = batch.rc;
        goto undo_batch;
    }
    struct meta_broker *br = calloc(1, sizeof(*br));
    if (br == NULL)
        goto undo_batch;
    br->refs = 1;
    br->incarnation = m->incarnation_id;
    br->fenced = m->fenced;
    br->in_controlled_shutdown = m->in_controlled_shutdown;
    br->record = malloc(batch.v[0].len);
    if (br->record == NULL)
        goto undo_broker;
    memcpy(br->record, batch.v[0].p, batch.v[0].len);
    br->record_len = batch.v[0].len;
    meta_batch_fini(&batch);
    broker_put(b->img->broker);
    b->img->broker = br;
    return 0;
undo_broker:
    broker_put(br);
undo_batch:
    meta_batch_fini(&batch);
    return rc;
}

/* One of a cluster that this node was in. What it still holds is_elsewhere says. */
static bool is_other_broker(const struct meta_image *img, int32_t id)
{
    return img->node_id >= 0 && id != img->node_id;
}

static int on_register_broker(struct build *b, const struct register_broker_record *m)
{
    struct meta_image *img = b->img;
    if (m->broker_id < 0)
        return -E_MALFORMED;
    if (is_other_broker(img, m->broker_id))
        return 0;
    int rc = broker_set(b, m);
    if (rc < 0)
        return rc;
    img->node_id = m->broker_id;
    img->broker_epoch = m->broker_epoch;
    return 0;
}

static bool is_our_broker(const struct meta_image *img, int32_t id, int64_t epoch)
{
    return img->broker != NULL && id == img->node_id && epoch == img->broker_epoch;
}

static int on_unregister_broker(struct build *b, const struct unregister_broker_record *m)
{
    if (is_other_broker(b->img, m->broker_id))
        return 0;
    if (!is_our_broker(b->img, m->broker_id, m->broker_epoch))
        return -E_MALFORMED;
    broker_put(b->img->broker);
    b->img->broker = NULL;
    b->img->broker_epoch = -1;
    return 0;
}

static int on_registration_change(struct build *b,
                                  const struct broker_registration_change_record *m)
{
    struct meta_broker *br = b->img->broker;
    if (is_other_broker(b->img, m->broker_id))
        return 0;
    if (!is_our_broker(b->img, m->broker_id, m->broker_epoch))
        return -E_MALFORMED;
    if (m->fenced < -1 || m->fenced > 1 || m->in_controlled_shutdown < 0 ||
        m->in_controlled_shutdown > 1)
        return -E_MALFORMED;
    struct meta_record rec;
    struct register_broker_record reg;
    struct wire_reader r;
    int rc = meta_record_parse(span_of(br->record, br->record_len), &rec);
    if (rc < 0)
        return rc;
    wire_reader_init(&r, rec.body);
    rc = register_broker_record_read(&r, rec.version, &b->arena, &reg);
    if (rc < 0)
        return rc;
    if (m->fenced != 0)
        reg.fenced = m->fenced > 0;
    if (m->in_controlled_shutdown != 0)
        reg.in_controlled_shutdown = true;
    if (m->log_dirs.cnt > 0)
        reg.log_dirs = m->log_dirs;
    return broker_set(b, &reg);
}

static int on_producer_ids(struct build *b, const struct producer_ids_record *m)
{
    if (m->next_producer_id < b->img->next_producer_id)
        return -E_MALFORMED; /* ids would be handed out twice */
    b->img->next_producer_id = m->next_producer_id;
    return 0;
}

/* Sets *to from one part of an entity; a part may come once. */
static int quota_name_set(struct quota_name *to, struct span name)
{
    if (to->kind != QUOTA_ABSENT || (!span_is_null(name) && name.len == 0))
        return -E_MALFORMED;
    *to = (struct quota_name){span_is_null(name) ? QUOTA_DEFAULT : QUOTA_NAMED, name};
    return 0;
}

static int on_client_quota(struct build *b, const struct client_quota_record *m)
{
    struct quota_entity e = {0};
    enum quota_type type;
    if (!quota_type_of(m->key, &type))
        return 0; /* request_percentage and the like: not enforced here, kept in the log */
    for (uint32_t i = 0; i < m->entity.cnt; i++) {
        const struct client_quota_record_entity *part = &m->entity.v[i];
        bool user = span_eq_str(part->entity_type, "user");
        if (!user && !span_eq_str(part->entity_type, "client-id"))
            return 0; /* by address: the same */
        int rc = quota_name_set(user ? &e.user : &e.client, part->entity_name);
        if (rc < 0)
            return rc;
    }
    if (m->entity.cnt == 0 || (!m->remove && !(m->value > 0)))
        return -E_MALFORMED;
    struct meta_quotas *next;
    int rc = quotas_set(b->img->quotas, &e, type, m->remove ? 0 : m->value, &next);
    if (rc < 0)
        return rc;
    quotas_put(b->img->quotas);
    b->img->quotas = next;
    return 0;
}

/* Decodes the body as `message` and hands it to `fn`. */
#define APPLY(message, fn)                                                                         \
    do {                                                                                           \
        struct message m;                                                                          \
        rc = message##_read(&r, rec->version, &b->arena, &m);                                      \
        if (rc == 0)                                                                               \
            rc = fn(b, &m);                                                                        \
    } while (0)

static int apply_record(struct build *b, const struct meta_record *rec)
{
    int rc = 0;
    struct wire_reader r;
    wire_reader_init(&r, rec->body);
    arena_reset(&b->arena);
    if (meta_type_is_kept(rec->type))
        return 0;
    switch (rec->type) {
    case META_REGISTER_BROKER:
        APPLY(register_broker_record, on_register_broker);
        break;
    case META_UNREGISTER_BROKER:
        APPLY(unregister_broker_record, on_unregister_broker);
        break;
    case META_TOPIC:
        APPLY(topic_record, on_topic);
        break;
    case META_PARTITION:
        APPLY(partition_record, on_partition);
        break;
    case META_CONFIG:
        APPLY(config_record, on_config);
        break;
    case META_PARTITION_CHANGE:
        APPLY(partition_change_record, on_partition_change);
        break;
    case META_REMOVE_TOPIC:
        APPLY(remove_topic_record, on_remove_topic);
        break;
    case META_FEATURE_LEVEL:
        APPLY(feature_level_record, on_feature);
        break;
    case META_CLIENT_QUOTA:
        APPLY(client_quota_record, on_client_quota);
        break;
    case META_PRODUCER_IDS:
        APPLY(producer_ids_record, on_producer_ids);
        break;
    case META_BROKER_REGISTRATION_CHANGE:
        APPLY(broker_registration_change_record, on_registration_change);
        break;
    case META_NO_OP:
        return 0; /* moves the offset only */
    case META_BEGIN_TRANSACTION:
    case META_END_TRANSACTION:
    case META_ABORT_TRANSACTION:
    default:
        UNREACHABLE(); /* apply_all handles them */
    }
    if (rc == 0 && wire_left(&r) != 0)
        return -E_MALFORMED;
    return rc;
}

/* Where the transaction that begins at records[at] ends; *ret_abort: its records do not count. */
static int txn_end(const struct span *records, uint32_t cnt, uint32_t at, uint32_t *ret_end,
                   bool *ret_abort)
{
    for (uint32_t i = at + 1; i < cnt; i++) {
        struct meta_record rec;
        int rc = meta_record_parse(records[i], &rec);
        if (rc < 0)
            return rc;
        if (rec.type == META_BEGIN_TRANSACTION)
            return -E_MALFORMED; /* they do not nest */
        if (rec.type == META_END_TRANSACTION || rec.type == META_ABORT_TRANSACTION) {
            *ret_end = i;
            *ret_abort = rec.type == META_ABORT_TRANSACTION;
            return 0;
        }
    }
    return -EAGAIN;
}

static int apply_all(struct build *b, const struct span *records, uint32_t cnt)
{
    uint32_t txn_ends_at = 0; /* record number of the open transaction's end */
    bool in_txn = false;
    for (uint32_t i = 0; i < cnt; i++) {
        struct meta_record rec;
        int rc = meta_record_parse(records[i], &rec);
        if (rc < 0)
            return rc;
        if (in_txn && i == txn_ends_at) {
            in_txn = false;
            continue;
        }
        if (rec.type == META_BEGIN_TRANSACTION) {
            bool abort;
            rc = txn_end(records, cnt, i, &txn_ends_at, &abort);
            if (rc < 0)
                return rc;
            if (abort)
                i = txn_ends_at;
            else
                in_txn = true;
            continue;
        }
        if (rec.type == META_END_TRANSACTION || rec.type == META_ABORT_TRANSACTION)
            return -E_MALFORMED;
        rc = apply_record(b, &rec);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- from image to image ---- */

static int build_init(struct build *b, const struct meta_image *old)
{
    *b = (struct build){0};
    arena_init(&b->arena, ARENA_MAX);
    int rc = image_create_empty(&b->img);
    if (rc < 0)
        return rc;
    struct meta_image *img = b->img;
    img->cluster_id = old->cluster_id;
    img->node_id = old->node_id;
    img->broker_epoch = old->broker_epoch;
    img->next_producer_id = old->next_producer_id;
    img->partition_cnt = old->partition_cnt;
    img->quotas = quotas_get(old->quotas);
    img->groups = groups_get(old->groups);
    img->feature_cnt = old->feature_cnt;
    memcpy(img->features, old->features, sizeof(img->features));
    if (old->broker != NULL)
        img->broker = ref_get(&old->broker->refs, old->broker);
    rc = config_list_dup(old->broker_configs, old->broker_config_cnt, &img->broker_configs);
    if (rc < 0)
        return rc;
    img->broker_config_cnt = old->broker_config_cnt;
    rc = config_list_dup(old->default_configs, old->default_config_cnt, &img->default_configs);
    if (rc < 0)
        return rc;
    img->default_config_cnt = old->default_config_cnt;
    b->name_cap = old->topic_cnt + 8;
    img->by_name = malloc(b->name_cap * sizeof(*img->by_name));
    if (img->by_name == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < old->topic_cnt; i++)
        img->by_name[i] = ref_get(&old->by_name[i]->refs, old->by_name[i]);
    img->topic_cnt = old->topic_cnt;
    return ids_rebuild(b, img->topic_cnt);
}

static void build_fini(struct build *b)
{
    free(b->by_id);
    arena_fini(&b->arena);
    image_put(b->img);
}

/* Partitions are dense: whoever indexes them relies on it. Only the build's own can have changed.
 */
static int holes_check(const struct meta_image *img)
{
    for (uint32_t i = 0; i < img->topic_cnt; i++) {
        struct meta_topic *t = img->by_name[i];
        if (__atomic_load_n(&t->refs, __ATOMIC_ACQUIRE) != 1)
            continue;
        for (uint32_t p = 0; p < t->partition_cnt; p++) {
            if (is_hole(&t->partitions[p]))
                return -E_MALFORMED;
        }
    }
    return 0;
}

static int id_hash_fill(struct meta_image *img)
{
    uint32_t cap = HASH_MIN;
    while (cap < 2 * (uint64_t)img->topic_cnt)
        cap *= 2;
    img->id_hash = malloc(cap * sizeof(*img->id_hash));
    if (img->id_hash == NULL)
        return -ENOMEM;
    img->id_hash_cap = cap;
    memset(img->id_hash, 0xff, cap * sizeof(*img->id_hash)); /* HASH_FREE */
    for (uint32_t t = 0; t < img->topic_cnt; t++) {
        uint32_t i = id_hash(&img->by_name[t]->id) & (cap - 1);
        while (img->id_hash[i] != HASH_FREE)
            i = (i + 1) & (cap - 1);
        img->id_hash[i] = t;
    }
    return 0;
}

int image_apply(const struct meta_image *img, const struct span *records, uint32_t cnt,
                int64_t last_offset, struct meta_image **ret)
{
    struct build b;
    int rc = build_init(&b, img);
    if (rc < 0)
        goto out;
    rc = apply_all(&b, records, cnt);
    if (rc < 0)
        goto out;
    rc = holes_check(b.img);
    if (rc < 0)
        goto out;
    rc = id_hash_fill(b.img);
    if (rc < 0)
        goto out;
    b.img->offset = last_offset;
    *ret = b.img;
    b.img = NULL;
out:
    build_fini(&b);
    return rc;
}
