/* controller.c - see controller.h.
 *
 * A change is prepared in memory first (records, then the next image from them), appended second
 * and installed third, so that a refused or failed append leaves everything as it was. Invariant:
 * image->offset + 1 == meta_log_next_offset, except before the first record. */
#include "ctl/controller/controller.h"
#include "ctl/controller/meta_log.h"
#include "ctl/controller/topic_edit.h"
#include "ctl/controller/topic_rules.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/iface/ctl_proto.h"
#include "lib/meta/records.h"
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_ARENA_MAX (256u << 20)
#define MESSAGE_MAX 512
#define CONFIG_SOURCE_TOPIC 1
#define CONFIG_SOURCE_STATIC 4
#define CONFIG_SOURCE_DEFAULT 5
#define KEY_CREATE_TOPICS CREATE_TOPICS_REQUEST_KEY
#define ALTER_CONFIGS_TIMEOUT_MS 30000 /* these requests carry none */

/* One admin request from its arrival to its answer. Everything it points to is in its arena. */
struct pending {
    struct pending *next;
    const struct admin_api *api;
    int16_t api_version;
    int64_t wait_offset; /* -1: nothing to wait for */
    uint64_t deadline_ns;
    admin_done_fn *done;
    void *arg;
    struct arena arena;
    union {
        struct create_topics_response create;
        struct delete_topics_response del;
        struct create_partitions_response grow;
        struct alter_configs_response alter;
        struct incremental_alter_configs_response incremental;
    } resp;
    struct uuid *topic_ids; /* by row of the response; zero where nothing changed */
};
struct controller {
    const struct conf *conf;
    struct identity id;
    controller_publish_fn *publish;
    void *publish_arg;
    struct meta_log *log;
    struct meta_image *img;
    struct uuid incarnation; /* of the registration in force */
    int64_t broker_epoch;
    int64_t applied;
    struct pending *waiting; /* oldest first */
    uint32_t waiting_cnt;
};

/* ---- records of one change ---- */

struct change {
    struct meta_batch b;
    uint32_t partitions_added;
};
static void change_init(struct change *ch)
{
    meta_batch_init(&ch->b);
    ch->partitions_added = 0;
}
static void change_fini(struct change *ch)
{
    meta_batch_fini(&ch->b);
}

/* Appends, installs, publishes. *ret_offset is the last record's offset. */
static int commit(struct controller *c, struct change *ch, int64_t *ret_offset)
{
    struct meta_image *next;
    int64_t last;
    if (ch->b.rc != 0)
        return ch->b.rc;
    ASSERT(ch->b.cnt > 0);
    int64_t expect = meta_log_next_offset(c->log) + ch->b.cnt - 1;
    int rc = image_apply(c->img, ch->b.v, ch->b.cnt, expect, &next);
    if (rc < 0) {
        LOG_ERROR("proposed metadata does not apply: %s", err_text(rc));
        return rc;
    }
    rc = meta_log_append(c->log, ch->b.v, ch->b.cnt, clock_wall_ms(), &last);
    if (rc < 0) {
        image_put(next);
        return rc;
    }
    ASSERT(last == expect);
    image_put(c->img);
    c->img = next;
    *ret_offset = last;
    c->publish(c->publish_arg, ch->b.v, ch->b.cnt, last);
    return 0;
}

/* ---- proposing: topics and partitions ---- */

/* Partitions per data directory, this request's included, so that new ones go where fewest are. */
struct placement {
    uint64_t cnt[CONF_DIRS_MAX];
};
static void placement_init(const struct controller *c, struct placement *pl)
{
    memset(pl, 0, sizeof(*pl));
    for (uint32_t i = 0; i < c->img->topic_cnt; i++) {
        const struct meta_topic *t = c->img->by_name[i];
        for (uint32_t p = 0; p < t->partition_cnt; p++)
            for (uint32_t d = 0; d < c->id.dir_cnt; d++)
                pl->cnt[d] += uuid_eq(&c->id.dir_id[d], &t->partitions[p].directory);
    }
}
static void propose_partition(const struct controller *c, struct change *ch, struct placement *pl,
                              const struct uuid *topic_id, int32_t partition)
{
    uint32_t d = 0;
    for (uint32_t i = 1; i < c->id.dir_cnt; i++)
        if (pl->cnt[i] < pl->cnt[d])
            d = i;
    pl->cnt[d]++;
    meta_put_partition(&ch->b, topic_id, partition, c->id.node_id, &c->id.dir_id[d]);
    ch->partitions_added++;
}
struct proposed_topic {
    struct span name;
    uint32_t partitions;
    const struct create_topics_request_config *configs;
    uint32_t config_cnt;
};
static struct uuid propose_topic(const struct controller *c, struct change *ch,
                                 struct placement *pl, const struct proposed_topic *t)
{
    struct uuid id;
    uuid_random(&id);
    meta_put_topic(&ch->b, &id, t->name);
    for (uint32_t i = 0; i < t->config_cnt; i++)
        meta_put_config(&ch->b, META_RESOURCE_TOPIC, t->name, t->configs[i].name,
                        t->configs[i].value);
    for (uint32_t i = 0; i < t->partitions; i++)
        propose_partition(c, ch, pl, &id, (int32_t)i);
    return id;
}
static bool room_for(const struct controller *c, const struct change *ch, uint64_t partitions)
{
    return (uint64_t)c->img->partition_cnt + ch->partitions_added + partitions <=
           c->conf->partitions_max;
}

/* ---- answers ---- */

__attribute__((format(printf, 2, 3))) static struct span say(struct arena *a, const char *fmt, ...)
{
    char text[MESSAGE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    uint32_t len = (uint32_t)strlen(text);
    char *p = arena_alloc(a, len + 1);
    if (p == NULL)
        return SPAN_NULL; /* an answer without its sentence */
    memcpy(p, text, len + 1);
    return span_of(p, len);
}
/* One row of any response, as far as they are alike. */
struct row {
    int16_t *error;
    struct span *message;
};
/* What is the same for every API: its rows and its encoding. */
struct admin_api {
    int16_t key, min, max;
    uint32_t (*row_cnt)(const struct pending *p);
    struct row (*row_at)(struct pending *p, uint32_t i);
    size_t (*size)(const struct pending *p);
    void (*write)(struct wire_writer *w, const struct pending *p);
    /* 0, or the error that answers everything in the request */
    int16_t (*propose)(struct controller *c, struct pending *p, struct wire_reader *r,
                       struct change *ch, int32_t *ret_timeout_ms, bool *ret_validate_only);
};
#define ADMIN_API_ROWS(name, member, list)                                                         \
    static uint32_t name##_row_cnt(const struct pending *p)                                        \
    {                                                                                              \
        return p->resp.member.list.cnt;                                                            \
    }                                                                                              \
    static struct row name##_row_at(struct pending *p, uint32_t i)                                 \
    {                                                                                              \
        return (struct row){&p->resp.member.list.v[i].error_code,                                  \
                            &p->resp.member.list.v[i].error_message};                              \
    }                                                                                              \
    static size_t name##_answer_size(const struct pending *p)                                      \
    {                                                                                              \
        return name##_response_size(&p->resp.member, p->api_version);                              \
    }                                                                                              \
    static void name##_answer_write(struct wire_writer *w, const struct pending *p)                \
    {                                                                                              \
        name##_response_write(w, p->api_version, &p->resp.member);                                 \
    }
ADMIN_API_ROWS(create_topics, create, topics)
ADMIN_API_ROWS(delete_topics, del, responses)
ADMIN_API_ROWS(create_partitions, grow, results)
ADMIN_API_ROWS(alter_configs, alter, responses)
ADMIN_API_ROWS(incremental_alter_configs, incremental, responses)
static uint32_t row_cnt(const struct pending *p)
{
    return p->api->row_cnt(p);
}
static struct row row_at(struct pending *p, uint32_t i)
{
    return p->api->row_at(p, i);
}
/* Every row that was to change fails with this. */
static void rows_fail(struct pending *p, int16_t error, const char *message)
{
    for (uint32_t i = 0; i < row_cnt(p); i++) {
        struct row r = row_at(p, i);
        if (*r.error == 0 && !uuid_is_zero(&p->topic_ids[i])) {
            *r.error = error;
            *r.message = say(&p->arena, "%s", message);
        }
    }
}
static void pending_free(struct pending *p)
{
    arena_fini(&p->arena);
    free(p);
}
static void refuse(struct pending *p, int16_t error, const char *message)
{
    p->done(p->arg, error, message, SPAN_NULL);
    pending_free(p);
}
/* Encodes and answers; p is gone. */
static void answer(struct pending *p)
{
    struct wire_writer w;
    size_t len = p->api->size(p);
    uint8_t *buf = malloc(len + 1);
    if (buf == NULL) {
        refuse(p, -1, "out of memory");
        return;
    }
    wire_writer_init(&w, buf, len);
    p->api->write(&w, p);
    ASSERT(w.err == 0);
    p->done(p->arg, 0, NULL, span_of(buf, (uint32_t)w.len));
    free(buf);
    pending_free(p);
}

/* ---- CreateTopics ---- */

static const struct meta_topic *topic_by_name(const struct controller *c, struct span name)
{
    return image_topic_by_name(c->img, name);
}
static int name_order(const void *a, const void *b)
{
    const struct span *x = *(const struct span *const *)a, *y = *(const struct span *const *)b;
    uint32_t n = x->len < y->len ? x->len : y->len;
    int d = n == 0 ? 0 : memcmp(x->p, y->p, n);
    if (d != 0)
        return d;
    return x->len < y->len ? -1 : x->len > y->len;
}
/* Marks every name that occurs more than once. NULL: out of the request's memory. */
static bool *repeats(struct arena *a, const struct span *names, uint32_t cnt)
{
    bool *rep = arena_array(a, cnt + 1, sizeof(*rep));
    const struct span **order = arena_array(a, cnt + 1, sizeof(*order));
    if (rep == NULL || order == NULL)
        return NULL;
    for (uint32_t i = 0; i < cnt; i++)
        order[i] = &names[i];
    qsort(order, cnt, sizeof(*order), name_order);
    for (uint32_t i = 1; i < cnt; i++)
        if (name_order(&order[i - 1], &order[i]) == 0)
            rep[order[i - 1] - names] = rep[order[i] - names] = true;
    return rep;
}
static bool name_may_collide(struct span n)
{
    return memchr(n.p, '.', n.len) != NULL || memchr(n.p, '_', n.len) != NULL;
}
static const char *collides(const struct controller *c, struct span name)
{
    if (!name_may_collide(name))
        return NULL;
    for (uint32_t i = 0; i < c->img->topic_cnt; i++)
        if (topic_names_collide(name, span_str(c->img->by_name[i]->name)))
            return c->img->by_name[i]->name;
    return NULL;
}
/* Number of partitions of a valid row, or 0 with error and message set. */
static uint32_t create_count(const struct controller *c, struct arena *a,
                             const struct create_topics_request_topic *in, int16_t *error,
                             struct span *msg)
{
    if (in->assignments.cnt > 0) {
        if (in->num_partitions != -1 || in->replication_factor != -1) {
            *error = KERR_INVALID_REQUEST;
            *msg = say(a, "A manual partition assignment was specified, but numPartitions or "
                          "replicationFactor was not set to -1.");
            return 0;
        }
        uint8_t *seen = arena_alloc(a, in->assignments.cnt);
        for (uint32_t i = 0; i < in->assignments.cnt; i++) {
            const struct create_topics_request_assignment *as = &in->assignments.v[i];
            bool place = seen != NULL && as->partition_index >= 0 &&
                         (uint32_t)as->partition_index < in->assignments.cnt &&
                         !seen[as->partition_index];
            bool us = as->broker_ids.cnt == 1 && as->broker_ids.v[0] == c->id.node_id;
            if (!place || !us) {
                *error = KERR_INVALID_ASSIGNMENT;
                *msg = place
                           ? say(a, "Partition %d must be assigned to broker %d, the only one.",
                                 as->partition_index, c->id.node_id)
                           : say(a, "Partitions should be a consecutive 0-based integer sequence.");
                return 0;
            }
            seen[as->partition_index] = 1;
        }
        return in->assignments.cnt;
    }
    if (in->replication_factor < -1 || in->replication_factor == 0) {
        *error = KERR_INVALID_RF;
        *msg = say(a, "Replication factor must be larger than 0, or -1 to use the default value.");
        return 0;
    }
    if (in->replication_factor > 1) {
        *error = KERR_INVALID_RF;
        *msg = say(a,
                   "Unable to replicate the partition %d time(s): this appliance is one broker; "
                   "use replication factor 1 or -1.",
                   in->replication_factor);
        return 0;
    }
    if (in->num_partitions < -1 || in->num_partitions == 0) {
        *error = KERR_INVALID_PARTITIONS;
        *msg = say(a, "Number of partitions was set to an invalid non-positive value.");
        return 0;
    }
    return in->num_partitions == -1 ? (uint32_t)c->conf->num_partitions
                                    : (uint32_t)in->num_partitions;
}
static bool create_configs_ok(struct arena *a, const struct create_topics_request_topic *in,
                              int16_t *error, struct span *msg)
{
    char why[MESSAGE_MAX];
    for (uint32_t i = 0; i < in->configs.cnt; i++) {
        *error =
            topic_config_check(in->configs.v[i].name, in->configs.v[i].value, why, sizeof(why));
        for (uint32_t j = 0; j < i && *error == 0; j++)
            if (span_eq(in->configs.v[i].name, in->configs.v[j].name)) {
                *error = KERR_INVALID_CONFIG;
                snprintf(why, sizeof(why), "Config %.*s is given twice",
                         (int)in->configs.v[i].name.len, (const char *)in->configs.v[i].name.p);
            }
        if (*error != 0) {
            *msg = say(a, "%s", why);
            return false;
        }
    }
    return true;
}
/* The effective configuration for the answer (v5+). */
static void create_configs_out(const struct controller *c, struct arena *a,
                               const struct create_topics_request_topic *in,
                               struct create_topics_response_topic *out)
{
    uint32_t cnt = topic_config_cnt();
    out->configs.v = arena_array(a, cnt, sizeof(*out->configs.v));
    if (out->configs.v == NULL) {
        out->configs.null = true;
        return;
    }
    out->configs.cnt = cnt;
    out->configs.null = false;
    for (uint32_t i = 0; i < cnt; i++) {
        struct create_topics_response_config *o = &out->configs.v[i];
        struct topic_config_row row;
        create_topics_response_config_init(o);
        topic_config_row(c->conf, i, &row);
        o->name = span_str(row.key);
        o->value = span_str(row.def);
        o->config_source = CONFIG_SOURCE_DEFAULT;
        if (row.broker_value[0] != '\0') {
            o->value = say(a, "%s", row.broker_value);
            if (strcmp(row.broker_value, row.def) != 0)
                o->config_source = CONFIG_SOURCE_STATIC;
        }
        for (uint32_t j = 0; j < in->configs.cnt; j++)
            if (span_eq(in->configs.v[j].name, o->name)) {
                o->value = in->configs.v[j].value;
                o->config_source = CONFIG_SOURCE_TOPIC;
            }
    }
}
/* Is the name taken, or nearly, by what exists or by an earlier row of this request? */
static bool create_name_free(const struct controller *c, struct pending *p, uint32_t i)
{
    struct create_topics_response_topic *out = &p->resp.create.topics.v[i];
    int n = (int)out->name.len;
    const char *name = (const char *)out->name.p;
    if (topic_by_name(c, out->name) != NULL) {
        out->error_code = KERR_TOPIC_EXISTS;
        out->error_message = say(&p->arena, "Topic '%.*s' already exists.", n, name);
        return false;
    }
    const char *near = collides(c, out->name);
    if (near != NULL) {
        out->error_code = KERR_INVALID_TOPIC;
        out->error_message =
            say(&p->arena, "Topic '%.*s' collides with existing topic: %s", n, name, near);
        return false;
    }
    for (uint32_t j = 0; j < i && name_may_collide(out->name); j++) {
        const struct create_topics_response_topic *o = &p->resp.create.topics.v[j];
        if (o->error_code == 0 && topic_names_collide(o->name, out->name)) {
            out->error_code = KERR_INVALID_TOPIC;
            out->error_message = say(&p->arena,
                                     "Topic '%.*s' collides with another of the request: "
                                     "%.*s",
                                     n, name, (int)o->name.len, (const char *)o->name.p);
            return false;
        }
    }
    return true;
}
static void create_one(struct controller *c, struct pending *p, struct change *ch,
                       struct placement *pl, const struct create_topics_request_topic *in,
                       uint32_t i)
{
    struct create_topics_response_topic *out = &p->resp.create.topics.v[i];
    char why[MESSAGE_MAX];
    out->error_code = topic_name_check(in->name, why, sizeof(why));
    if (out->error_code != 0) {
        out->error_message = say(&p->arena, "%s", why);
        return;
    }
    if (span_eq_str(in->name, "__cluster_metadata")) {
        out->error_code = KERR_INVALID_TOPIC;
        out->error_message = say(&p->arena, "__cluster_metadata is the appliance's own log");
        return;
    }
    if (!create_name_free(c, p, i))
        return;
    uint32_t partitions = create_count(c, &p->arena, in, &out->error_code, &out->error_message);
    if (partitions == 0 || !create_configs_ok(&p->arena, in, &out->error_code, &out->error_message))
        return;
    if (!room_for(c, ch, partitions)) {
        out->error_code = KERR_POLICY_VIOLATION;
        out->error_message =
            say(&p->arena,
                "%u partitions would pass the limit of %u on this appliance "
                "(topic_defaults.partitions_max, %u in use)",
                partitions, c->conf->partitions_max, c->img->partition_cnt + ch->partitions_added);
        return;
    }
    struct proposed_topic t = {.name = in->name,
                               .partitions = partitions,
                               .configs = in->configs.v,
                               .config_cnt = in->configs.cnt};
    p->topic_ids[i] = propose_topic(c, ch, pl, &t);
    out->topic_id = p->topic_ids[i];
    out->num_partitions = (int32_t)partitions;
    out->replication_factor = 1;
    create_configs_out(c, &p->arena, in, out);
}
static int16_t create_topics(struct controller *c, struct pending *p, struct wire_reader *r,
                             struct change *ch, int32_t *ret_timeout_ms, bool *ret_validate_only)
{
    struct create_topics_request req;
    if (create_topics_request_read(r, p->api_version, &p->arena, &req) < 0)
        return KERR_INVALID_REQUEST;
    uint32_t cnt = req.topics.cnt;
    struct create_topics_response *resp = &p->resp.create;
    create_topics_response_init(resp);
    struct span *names = arena_array(&p->arena, cnt + 1, sizeof(*names));
    resp->topics.v = arena_array(&p->arena, cnt + 1, sizeof(*resp->topics.v));
    p->topic_ids = arena_array(&p->arena, cnt + 1, sizeof(*p->topic_ids));
    if (names == NULL || resp->topics.v == NULL || p->topic_ids == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++)
        names[i] = req.topics.v[i].name;
    bool *rep = repeats(&p->arena, names, cnt);
    if (rep == NULL)
        return KERR_INVALID_REQUEST;
    struct placement pl;
    placement_init(c, &pl);
    for (uint32_t i = 0; i < cnt; i++) {
        struct create_topics_response_topic *out = &resp->topics.v[i];
        create_topics_response_topic_init(out);
        out->name = names[i];
        out->error_message = SPAN_NULL;
        out->configs.null = true;
        resp->topics.cnt = i + 1;
        if (rep[i]) {
            out->error_code = KERR_INVALID_REQUEST;
            out->error_message = say(&p->arena, "Duplicate topic name.");
        } else {
            create_one(c, p, ch, &pl, &req.topics.v[i], i);
        }
    }
    *ret_timeout_ms = req.timeout_ms;
    *ret_validate_only = req.validate_only;
    return 0;
}

/* ---- DeleteTopics ---- */

/* Who still writes a topic, or NULL: deleting it would only make it come back. */
static const char *writer_of(const struct controller *c, const char *name)
{
    if (strcmp(name, "_sluice.gaps") == 0)
        return "the loss ledger";
    if (strcmp(name, "__consumer_offsets") == 0)
        return "the group coordinator";
    for (uint32_t i = 0; i < c->conf->listener_cnt; i++) {
        const struct conf_listener *l = &c->conf->listeners[i];
        size_t n = strlen(l->topic);
        if (strncmp(name, l->topic, n) == 0 && (name[n] == '\0' || strcmp(name + n, ".dlq") == 0))
            return l->name;
    }
    return NULL;
}
static void delete_one(struct controller *c, struct pending *p, struct change *ch,
                       const struct meta_topic *t, uint32_t i)
{
    struct delete_topics_response_topic *out = &p->resp.del.responses.v[i];
    const char *writer = writer_of(c, t->name);
    if (writer != NULL) {
        out->error_code = KERR_POLICY_VIOLATION;
        out->error_message =
            say(&p->arena, "'%s' is written by %s: remove that listener first", t->name, writer);
        return;
    }
    for (uint32_t j = 0; j < i; j++) {
        if (uuid_eq(&p->topic_ids[j], &t->id)) {
            out->error_code = KERR_INVALID_REQUEST;
            out->error_message = say(&p->arena, "The topic is named twice in the request.");
            return;
        }
    }
    meta_put_remove_topic(&ch->b, &t->id);
    p->topic_ids[i] = t->id;
    out->topic_id = t->id;
    out->name = say(&p->arena, "%s", t->name);
}
static void delete_row(struct controller *c, struct pending *p, struct change *ch, struct span name,
                       const struct uuid *id, bool repeated, uint32_t i)
{
    struct delete_topics_response_topic *out = &p->resp.del.responses.v[i];
    bool by_id = !uuid_is_zero(id);
    out->name = name;
    out->topic_id = *id;
    if (by_id && !span_is_null(name)) {
        out->error_code = KERR_INVALID_REQUEST;
        out->error_message = say(&p->arena, "You may not specify both topic name and topic id.");
    } else if (!by_id && span_is_null(name)) {
        out->error_code = KERR_INVALID_REQUEST;
        out->error_message = say(&p->arena, "Neither topic name nor id were specified.");
    } else if (repeated) {
        out->error_code = KERR_INVALID_REQUEST;
        out->error_message = say(&p->arena, "Duplicate topic name.");
    } else {
        const struct meta_topic *t = by_id ? image_topic_by_id(c->img, id) : topic_by_name(c, name);
        if (t != NULL) {
            delete_one(c, p, ch, t, i);
            return;
        }
        out->error_code = by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC;
        out->error_message = say(&p->arena, by_id ? "This server does not host this topic ID."
                                                  : "This server does not host this topic.");
    }
}
static int16_t delete_topics(struct controller *c, struct pending *p, struct wire_reader *r,
                             struct change *ch, int32_t *ret_timeout_ms, bool *ret_validate_only)
{
    struct delete_topics_request req;
    if (delete_topics_request_read(r, p->api_version, &p->arena, &req) < 0)
        return KERR_INVALID_REQUEST;
    bool v6 = p->api_version >= 6;
    uint32_t cnt = v6 ? req.topics.cnt : req.topic_names.cnt;
    struct delete_topics_response *resp = &p->resp.del;
    delete_topics_response_init(resp);
    struct span *names = arena_array(&p->arena, cnt + 1, sizeof(*names));
    resp->responses.v = arena_array(&p->arena, cnt + 1, sizeof(*resp->responses.v));
    p->topic_ids = arena_array(&p->arena, cnt + 1, sizeof(*p->topic_ids));
    if (names == NULL || resp->responses.v == NULL || p->topic_ids == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++)
        names[i] = v6 ? req.topics.v[i].name : req.topic_names.v[i];
    bool *rep = repeats(&p->arena, names, cnt);
    if (rep == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++) {
        struct uuid id = {{0}};
        if (v6)
            id = req.topics.v[i].topic_id;
        delete_topics_response_topic_init(&resp->responses.v[i]);
        resp->responses.cnt = i + 1;
        delete_row(c, p, ch, names[i], &id, rep[i] && !span_is_null(names[i]), i);
    }
    *ret_timeout_ms = req.timeout_ms;
    *ret_validate_only = false;
    return 0;
}

/* ---- CreatePartitions ---- */

static void grow_one(struct controller *c, struct pending *p, struct change *ch,
                     struct placement *pl, const struct create_partitions_request_topic *in,
                     uint32_t i)
{
    struct create_partitions_response_result *out = &p->resp.grow.results.v[i];
    const struct meta_topic *t = topic_by_name(c, in->name);
    if (t == NULL) {
        out->error_code = KERR_UNKNOWN_TOPIC;
        out->error_message = say(&p->arena, "This server does not host this topic.");
        return;
    }
    if (in->count <= 0 || (uint32_t)in->count <= t->partition_cnt) {
        out->error_code = KERR_INVALID_PARTITIONS;
        out->error_message =
            in->count > 0 && (uint32_t)in->count == t->partition_cnt
                ? say(&p->arena, "Topic already has %u partition(s).", t->partition_cnt)
                : say(&p->arena,
                      "The topic %s currently has %u partition(s); %d would not be an increase.",
                      t->name, t->partition_cnt, in->count);
        return;
    }
    uint32_t add = (uint32_t)in->count - t->partition_cnt;
    if (!in->assignments.null && in->assignments.cnt != add) {
        out->error_code = KERR_INVALID_ASSIGNMENT;
        out->error_message = say(&p->arena,
                                 "Attempted to add %u additional partition(s), but only %u "
                                 "assignment(s) were specified.",
                                 add, in->assignments.cnt);
        return;
    }
    for (uint32_t k = 0; k < in->assignments.cnt; k++) {
        const struct wire_i32s *ids = &in->assignments.v[k].broker_ids;
        if (ids->cnt != 1 || ids->v[0] != c->id.node_id) {
            out->error_code = KERR_INVALID_ASSIGNMENT;
            out->error_message =
                say(&p->arena, "Every partition must be assigned to broker %d, the only one.",
                    c->id.node_id);
            return;
        }
    }
    if (!room_for(c, ch, add)) {
        out->error_code = KERR_POLICY_VIOLATION;
        out->error_message =
            say(&p->arena,
                "%u more partitions would pass the limit of %u on this appliance "
                "(topic_defaults.partitions_max, %u in use)",
                add, c->conf->partitions_max, c->img->partition_cnt + ch->partitions_added);
        return;
    }
    for (uint32_t k = 0; k < add; k++)
        propose_partition(c, ch, pl, &t->id, (int32_t)(t->partition_cnt + k));
    p->topic_ids[i] = t->id;
}
static int16_t create_partitions(struct controller *c, struct pending *p, struct wire_reader *r,
                                 struct change *ch, int32_t *ret_timeout_ms,
                                 bool *ret_validate_only)
{
    struct create_partitions_request req;
    if (create_partitions_request_read(r, p->api_version, &p->arena, &req) < 0)
        return KERR_INVALID_REQUEST;
    uint32_t cnt = req.topics.cnt;
    struct create_partitions_response *resp = &p->resp.grow;
    create_partitions_response_init(resp);
    struct span *names = arena_array(&p->arena, cnt + 1, sizeof(*names));
    resp->results.v = arena_array(&p->arena, cnt + 1, sizeof(*resp->results.v));
    p->topic_ids = arena_array(&p->arena, cnt + 1, sizeof(*p->topic_ids));
    if (names == NULL || resp->results.v == NULL || p->topic_ids == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++)
        names[i] = req.topics.v[i].name;
    bool *rep = repeats(&p->arena, names, cnt);
    if (rep == NULL)
        return KERR_INVALID_REQUEST;
    struct placement pl;
    placement_init(c, &pl);
    for (uint32_t i = 0; i < cnt; i++) {
        create_partitions_response_result_init(&resp->results.v[i]);
        resp->results.v[i].name = names[i];
        resp->results.cnt = i + 1;
        if (rep[i]) {
            resp->results.v[i].error_code = KERR_INVALID_REQUEST;
            resp->results.v[i].error_message = say(&p->arena, "Duplicate topic in request.");
        } else {
            grow_one(c, p, ch, &pl, &req.topics.v[i], i);
        }
    }
    *ret_timeout_ms = req.timeout_ms;
    *ret_validate_only = req.validate_only;
    return 0;
}

/* ---- AlterConfigs, IncrementalAlterConfigs ---- */

struct alter_row { /* of either response */
    struct row out;
    struct topic_edits in;
};
static void alter_one(struct controller *c, struct pending *p, struct change *ch,
                      const struct alter_row *row, bool repeated, uint32_t i)
{
    char why[MESSAGE_MAX];
    const struct meta_topic *t = NULL;
    if (repeated) {
        *row->out.error = KERR_INVALID_REQUEST;
        *row->out.message = say(&p->arena, "Each resource must appear at most once.");
        return;
    }
    uint32_t before = ch->b.cnt;
    *row->out.error = topic_edit(c->img, &row->in, &p->arena, &ch->b, &t, why, sizeof(why));
    if (*row->out.error != 0)
        *row->out.message = say(&p->arena, "%s", why);
    else if (ch->b.cnt > before)
        p->topic_ids[i] = t->id;
}
/* The two APIs differ in the operation of a key, which op_of reads. Resources of several types may
 * have one name: a row is a repetition when both are the same. */
#define ALTER_CONFIGS(api, member, op_of, is_replace)                                              \
    static int16_t api(struct controller *c, struct pending *p, struct wire_reader *r,             \
                       struct change *ch, int32_t *ret_timeout_ms, bool *ret_validate_only)        \
    {                                                                                              \
        struct api##_request req;                                                                  \
        struct api##_response *resp = &p->resp.member;                                             \
        if (api##_request_read(r, p->api_version, &p->arena, &req) < 0)                            \
            return KERR_INVALID_REQUEST;                                                           \
        uint32_t cnt = req.resources.cnt;                                                          \
        api##_response_init(resp);                                                                 \
        resp->responses.v = arena_array(&p->arena, cnt + 1, sizeof(*resp->responses.v));           \
        p->topic_ids = arena_array(&p->arena, cnt + 1, sizeof(*p->topic_ids));                     \
        struct span *names = arena_array(&p->arena, cnt + 1, sizeof(*names));                      \
        if (resp->responses.v == NULL || p->topic_ids == NULL || names == NULL)                    \
            return KERR_INVALID_REQUEST;                                                           \
        for (uint32_t i = 0; i < cnt; i++)                                                         \
            names[i] = req.resources.v[i].resource_name;                                           \
        bool *rep = repeats(&p->arena, names, cnt);                                                \
        if (rep == NULL)                                                                           \
            return KERR_INVALID_REQUEST;                                                           \
        for (uint32_t i = 0; i < cnt; i++) {                                                       \
            const struct api##_request_resource *in = &req.resources.v[i];                         \
            struct api##_response_resource *out = &resp->responses.v[i];                           \
            uint32_t keys = in->configs.cnt;                                                       \
            struct topic_edit *edits = arena_array(&p->arena, keys + 1, sizeof(*edits));           \
            if (edits == NULL)                                                                     \
                return KERR_INVALID_REQUEST;                                                       \
            for (uint32_t k = 0; k < keys; k++)                                                    \
                edits[k] = (struct topic_edit){in->configs.v[k].name, op_of(&in->configs.v[k]),    \
                                               in->configs.v[k].value};                            \
            bool repeated = false;                                                                 \
            for (uint32_t k = 0; rep[i] && !repeated && k < cnt; k++)                              \
                repeated = k != i && span_eq(names[k], names[i]) &&                                \
                           req.resources.v[k].resource_type == in->resource_type;                  \
            api##_response_resource_init(out);                                                     \
            out->resource_type = in->resource_type;                                                \
            out->resource_name = in->resource_name;                                                \
            out->error_message = SPAN_NULL;                                                        \
            resp->responses.cnt = i + 1;                                                           \
            struct alter_row row = {{&out->error_code, &out->error_message},                       \
                                    {in->resource_type, names[i], edits, keys, is_replace}};       \
            alter_one(c, p, ch, &row, repeated, i);                                                \
        }                                                                                          \
        *ret_timeout_ms = ALTER_CONFIGS_TIMEOUT_MS;                                                \
        *ret_validate_only = req.validate_only;                                                    \
        return 0;                                                                                  \
    }
#define OP_SET(config) EDIT_SET
#define OP_ASKED(config) (config)->config_operation
ALTER_CONFIGS(alter_configs, alter, OP_SET, true)
ALTER_CONFIGS(incremental_alter_configs, incremental, OP_ASKED, false)

/* ---- admin requests: arrival, waiting, end ---- */

#define ADMIN_API(name, KEY)                                                                       \
    {                                                                                              \
        KEY##_KEY, KEY##_MIN, KEY##_MAX, name##_row_cnt, name##_row_at, name##_answer_size,        \
            name##_answer_write, name                                                              \
    }
static const struct admin_api admin_apis[] = {
    ADMIN_API(create_topics, CREATE_TOPICS_REQUEST),
    ADMIN_API(delete_topics, DELETE_TOPICS_REQUEST),
    ADMIN_API(create_partitions, CREATE_PARTITIONS_REQUEST),
    ADMIN_API(alter_configs, ALTER_CONFIGS_REQUEST),
    ADMIN_API(incremental_alter_configs, INCREMENTAL_ALTER_CONFIGS_REQUEST),
};
/* NULL: not an API or version of the controller. */
static const struct admin_api *api_find(int16_t key, int16_t version)
{
    for (size_t i = 0; i < sizeof(admin_apis) / sizeof(admin_apis[0]); i++)
        if (admin_apis[i].key == key)
            return version >= admin_apis[i].min && version <= admin_apis[i].max ? &admin_apis[i]
                                                                                : NULL;
    return NULL;
}
static void wait_add(struct controller *c, struct pending *p)
{
    struct pending **at = &c->waiting;
    while (*at != NULL)
        at = &(*at)->next;
    *at = p;
    c->waiting_cnt++;
}
static void change_failed(struct pending *p, int rc)
{
    char text[MESSAGE_MAX];
    snprintf(text, sizeof(text), "the metadata log could not take the change: %s", err_text(rc));
    if (rc == -E_LIMIT)
        rows_fail(p, KERR_POLICY_VIOLATION, "too many changes in one request");
    else
        rows_fail(p, KERR_STORAGE, text);
}
void controller_admin(struct controller *c, const struct admin_request *req)
{
    struct pending *p = calloc(1, sizeof(*p));
    const struct admin_api *api = api_find(req->api_key, req->api_version);
    if (p == NULL || api == NULL || c->waiting_cnt >= CONTROLLER_PENDING_MAX) {
        bool served = api != NULL;
        req->done(req->arg, served ? KERR_TIMED_OUT : KERR_UNSUPPORTED_VERSION,
                  served ? "too many admin requests are waiting" : "not an API of the controller",
                  SPAN_NULL);
        free(p);
        return;
    }
    p->api = api;
    p->api_version = req->api_version;
    p->done = req->done;
    p->arg = req->arg;
    arena_init(&p->arena, REQUEST_ARENA_MAX);
    uint8_t *body = arena_alloc(&p->arena, req->body.len + 1);
    if (body == NULL) {
        refuse(p, -1, "out of memory");
        return;
    }
    if (req->body.len > 0)
        memcpy(body, req->body.p, req->body.len);
    struct change ch;
    change_init(&ch);
    int32_t timeout_ms = 0;
    bool validate_only = false;
    struct wire_reader r;
    wire_reader_init(&r, span_of(body, req->body.len));
    int16_t error = api->propose(c, p, &r, &ch, &timeout_ms, &validate_only);
    if (error != 0) {
        refuse(p, error, "the request does not follow its schema");
        change_fini(&ch);
        return;
    }
    if (validate_only || (ch.b.cnt == 0 && ch.b.rc == 0)) {
        if (api->key == KEY_CREATE_TOPICS && validate_only)
            for (uint32_t i = 0; i < p->resp.create.topics.cnt; i++)
                memset(&p->resp.create.topics.v[i].topic_id, 0, sizeof(struct uuid));
        answer(p);
        change_fini(&ch);
        return;
    }
    p->wait_offset = INT64_MAX; /* until commit says which: publish may report at once */
    p->deadline_ns = clock_mono_ns() + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0) * 1000000;
    int rc = commit(c, &ch, &p->wait_offset);
    change_fini(&ch);
    if (rc < 0) {
        change_failed(p, rc);
        answer(p);
        return;
    }
    if (c->applied >= p->wait_offset)
        answer(p);
    else
        wait_add(c, p);
}
void controller_on_applied(struct controller *c, const struct ctl_metadata_applied *m)
{
    char text[MESSAGE_MAX];
    if (m->error_code != 0)
        LOG_ERROR("the dataplane refused metadata up to offset %" PRId64 ": %.*s", m->offset,
                  (int)m->error_message.len, (const char *)m->error_message.p);
    if (m->offset > c->applied)
        c->applied = m->offset;
    struct pending **at = &c->waiting;
    while (*at != NULL) {
        struct pending *p = *at;
        for (uint32_t e = 0; e < m->topics.cnt; e++)
            for (uint32_t i = 0; i < row_cnt(p); i++)
                if (uuid_eq(&p->topic_ids[i], &m->topics.v[e].topic_id)) {
                    struct row r = row_at(p, i);
                    *r.error = m->topics.v[e].error_code;
                    *r.message = say(&p->arena, "%.*s", (int)m->topics.v[e].error_message.len,
                                     (const char *)m->topics.v[e].error_message.p);
                }
        if (p->wait_offset > c->applied) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        c->waiting_cnt--;
        if (m->error_code != 0) {
            snprintf(text, sizeof(text), "the dataplane refused the change: %.*s",
                     (int)m->error_message.len, (const char *)m->error_message.p);
            rows_fail(p, m->error_code, text);
        }
        answer(p);
    }
}
int controller_tick(struct controller *c)
{
    uint64_t now = clock_mono_ns(), next = UINT64_MAX;
    struct pending **at = &c->waiting;
    while (*at != NULL) {
        struct pending *p = *at;
        if (p->deadline_ns > now) {
            next = p->deadline_ns < next ? p->deadline_ns : next;
            at = &p->next;
            continue;
        }
        *at = p->next;
        c->waiting_cnt--;
        rows_fail(p, KERR_TIMED_OUT,
                  "the change is recorded, but the dataplane has not applied it in time");
        answer(p);
    }
    if (next == UINT64_MAX)
        return -1;
    uint64_t ms = (next - now + 999999) / 1000000;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
void controller_lost(struct controller *c)
{
    c->applied = -1;
}

/* ---- producer ids, registration ---- */

int controller_producer_ids(struct controller *c, int64_t *ret_first, int32_t *ret_cnt)
{
    struct change ch;
    int64_t offset, first = c->img->next_producer_id < 0 ? 0 : c->img->next_producer_id;
    change_init(&ch);
    meta_put_producer_ids(&ch.b, c->id.node_id, c->broker_epoch, first + PRODUCER_ID_BLOCK);
    int rc = commit(c, &ch, &offset);
    change_fini(&ch);
    if (rc < 0)
        return rc;
    *ret_first = first;
    *ret_cnt = PRODUCER_ID_BLOCK;
    return 0;
}
static void propose_registration(struct controller *c, struct change *ch,
                                 const struct ctl_hello *hello, int64_t *ret_epoch)
{
    struct register_broker_record r;
    struct register_broker_record_feature feature;
    register_broker_record_init(&r);
    register_broker_record_feature_init(&feature);
    if (c->img->feature_cnt == 0)
        meta_put_feature(&ch->b, "metadata.version", META_VERSION_LEVEL);
    feature.name = span_str("metadata.version");
    feature.min_supported_version = 7;
    feature.max_supported_version = META_VERSION_LEVEL;
    *ret_epoch = meta_log_next_offset(c->log) + ch->b.cnt;
    r.broker_id = c->id.node_id;
    r.incarnation_id = hello->incarnation;
    r.broker_epoch = *ret_epoch;
    r.fenced = false; /* the one broker there is: nothing would unfence it */
    r.features.v = &feature;
    r.features.cnt = 1;
    r.log_dirs = (struct wire_uuids){.v = c->id.dir_id, .cnt = c->id.dir_cnt};
    struct register_broker_record_end_point ends[CONF_KAFKA_MAX];
    r.end_points.v = ends;
    for (uint32_t i = 0; i < hello->listeners.cnt; i++) {
        const struct ctl_hello_listener *l = &hello->listeners.v[i];
        if (l->kind != CTL_LISTENER_KAFKA || r.end_points.cnt == CONF_KAFKA_MAX)
            continue;
        struct register_broker_record_end_point *e = &r.end_points.v[r.end_points.cnt++];
        register_broker_record_end_point_init(e);
        e->name = l->name;
        e->host = l->advertised_host.len > 0 ? l->advertised_host : l->host;
        e->port = l->advertised_port != 0 ? l->advertised_port : l->port;
        e->security_protocol = 0;
    }
    meta_put_register_broker_record(&ch->b, &r);
}
/* The leader set again raises the leader epoch. */
static uint32_t propose_epochs(struct controller *c, struct change *ch,
                               const struct ctl_hello *hello)
{
    uint32_t raised = 0;
    for (uint32_t i = 0; i < hello->unclean.cnt; i++) {
        const struct ctl_hello_unclean_topic *u = &hello->unclean.v[i];
        const struct meta_topic *t = image_topic_by_id(c->img, &u->topic_id);
        for (uint32_t k = 0; t != NULL && k < u->partitions.cnt; k++) {
            int32_t id = u->partitions.v[k];
            if (id < 0 || (uint32_t)id >= t->partition_cnt)
                continue;
            meta_put_leader(&ch->b, &u->topic_id, id, c->id.node_id);
            raised++;
        }
    }
    return raised;
}
/* Topics the appliance itself needs, as far as they are missing. */
struct own_topics {
    struct placement pl;
    uint32_t cnt;
    char name[CONF_LISTENERS_MAX * 2 + 2][TOPIC_NAME_MAX + 8]; /* what this change creates */
};
static void propose_own(struct controller *c, struct change *ch, struct own_topics *own,
                        const char *name, uint32_t partitions,
                        const struct create_topics_request_config *configs, uint32_t config_cnt)
{
    if (topic_by_name(c, span_str(name)) != NULL)
        return;
    for (uint32_t i = 0; i < own->cnt; i++)
        if (strcmp(own->name[i], name) == 0)
            return;
    if (!room_for(c, ch, partitions)) {
        LOG_ERROR("topic '%s' cannot be created: %u partitions would pass the limit of %u", name,
                  partitions, c->conf->partitions_max);
        return;
    }
    snprintf(own->name[own->cnt], sizeof(own->name[0]), "%s", name);
    struct proposed_topic t = {.name = span_str(own->name[own->cnt]),
                               .partitions = partitions,
                               .configs = configs,
                               .config_cnt = config_cnt};
    own->cnt++;
    (void)propose_topic(c, ch, &own->pl, &t); /* nobody asks for the id */
}
static int propose_own_topics(struct controller *c, struct change *ch, int32_t shard_cnt)
{
    struct own_topics *own = calloc(1, sizeof(*own));
    struct create_topics_request_config compression = {SPAN_NULL, SPAN_NULL};
    struct create_topics_request_config forever = {span_str("retention.ms"), span_str("-1")};
    const struct create_topics_request_config offsets[] = {
        /* as Kafka creates it */
        {span_str("cleanup.policy"), span_str("compact")},
        {span_str("compression.type"), span_str("producer")},
        {span_str("segment.bytes"), span_str("104857600")}};
    enum conf_compression how = c->conf->listener_compression;
    if (own == NULL)
        return -ENOMEM;
    placement_init(c, &own->pl);
    compression.name = span_str(how == CONF_COMP_AUTO ? "sluice.compression" : "compression.type");
    compression.value =
        span_str(how == CONF_COMP_NONE ? "uncompressed" : conf_compression_name(how));
    for (uint32_t i = 0; i < c->conf->listener_cnt; i++) {
        const struct conf_listener *l = &c->conf->listeners[i];
        char dlq[TOPIC_NAME_MAX + 8];
        int32_t n = l->topic_partitions > 0 ? l->topic_partitions : shard_cnt;
        propose_own(c, ch, own, l->topic, n > 0 ? (uint32_t)n : 1, &compression, 1);
        snprintf(dlq, sizeof(dlq), "%s.dlq", l->topic);
        propose_own(c, ch, own, dlq, 1, &compression, 1);
    }
    propose_own(c, ch, own, "_sluice.gaps", 1, &forever, 1);
    propose_own(c, ch, own, "__consumer_offsets", c->conf->offsets_partitions, offsets,
                sizeof(offsets) / sizeof(offsets[0]));
    free(own);
    return 0;
}
int controller_register(struct controller *c, const struct ctl_hello *hello,
                        int64_t *ret_broker_epoch)
{
    struct change ch;
    uint32_t raised = 0;
    int64_t epoch = c->broker_epoch, offset;
    change_init(&ch);
    /* The same process again (sluiced came back): its registration and the epochs raised with it
     * are one batch, so they are all in force already. */
    if (c->broker_epoch < 0 || !uuid_eq(&c->incarnation, &hello->incarnation)) {
        propose_registration(c, &ch, hello, &epoch);
        raised = propose_epochs(c, &ch, hello);
    }
    int rc = propose_own_topics(c, &ch, hello->shard_cnt);
    if (rc == 0 && (ch.b.cnt > 0 || ch.b.rc != 0))
        rc = commit(c, &ch, &offset);
    change_fini(&ch);
    if (rc < 0)
        return rc;
    if (raised > 0)
        LOG_INFO("raised the leader epoch of %u partitions that were not closed cleanly", raised);
    c->incarnation = hello->incarnation;
    c->broker_epoch = epoch;
    c->applied = -1;
    *ret_broker_epoch = epoch;
    return 0;
}

/* ---- life ---- */

/* The registration in force, so that a dataplane that outlived sluiced keeps its broker epoch. */
static void note_registration(struct controller *c, struct span frame)
{
    struct meta_record rec;
    struct wire_reader r;
    struct arena a;
    struct register_broker_record m;
    if (meta_record_parse(frame, &rec) < 0 || rec.type != META_REGISTER_BROKER)
        return;
    wire_reader_init(&r, rec.body);
    arena_init(&a, 1 << 20);
    if (register_broker_record_read(&r, rec.version, &a, &m) == 0) {
        c->incarnation = m.incarnation_id;
        c->broker_epoch = m.broker_epoch;
    }
    arena_fini(&a);
}
static int replay_batch(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    struct controller *c = arg;
    struct meta_image *next;
    int rc = image_apply(c->img, records, cnt, last_offset, &next);
    if (rc < 0)
        return rc;
    image_put(c->img);
    c->img = next;
    for (uint32_t i = 0; i < cnt; i++)
        note_registration(c, records[i]);
    return 0;
}
int controller_open(const struct controller_opts *opts, struct controller **ret_c, char *err,
                    size_t err_cap)
{
    char dir[CONF_PATH_MAX + 32];
    struct controller *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    c->conf = opts->conf;
    c->id = *opts->identity;
    c->publish = opts->publish;
    c->publish_arg = opts->publish_arg;
    c->applied = -1;
    c->broker_epoch = -1;
    int rc = image_create_empty(&c->img);
    if (rc < 0) {
        snprintf(err, err_cap, "out of memory");
        goto undo;
    }
    c->img->cluster_id = c->id.cluster_id;
    c->img->node_id = c->id.node_id;
    snprintf(dir, sizeof(dir), "%s/" META_LOG_DIR, opts->conf->data_dirs[0]);
    struct meta_log_opts lo = {.dir = dir, .node_id = c->id.node_id, .directory = c->id.dir_id[0]};
    rc = meta_log_open(&lo, replay_batch, c, &c->log, err, err_cap);
    if (rc < 0)
        goto undo;
    *ret_c = c;
    return 0;
undo:
    controller_close(c);
    return rc;
}
void controller_close(struct controller *c)
{
    if (c == NULL)
        return;
    while (c->waiting != NULL) {
        struct pending *p = c->waiting;
        c->waiting = p->next;
        rows_fail(p, KERR_TIMED_OUT, "sluiced is stopping");
        answer(p);
    }
    meta_log_close(c->log);
    image_put(c->img);
    free(c);
}
int64_t controller_applied(const struct controller *c)
{
    return c->applied;
}
struct meta_image *controller_image(struct controller *c)
{
    return c->img;
}
int64_t controller_last_offset(const struct controller *c)
{
    return meta_log_next_offset(c->log) - 1;
}
uint64_t controller_log_bytes(const struct controller *c)
{
    return meta_log_size(c->log);
}
uint32_t controller_pending(const struct controller *c)
{
    return c->waiting_cnt;
}
const struct identity *controller_identity(const struct controller *c)
{
    return &c->id;
}
int64_t controller_broker_epoch(const struct controller *c)
{
    return c->broker_epoch;
}
