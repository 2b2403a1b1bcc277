/* admin_topics.c - CreateTopics, DeleteTopics, CreatePartitions: each row is checked by Kafka's
 * rules, answered on its own, and adds its records to the one change of the request. */
#include "ctl/controller/controller_int.h"
#include "ctl/controller/topic_rules.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- CreateTopics ---- */

/* Names that are one when '.' is '_' collide: at most one topic may have any of them. Item i below
 * topic_cnt is topic i of the image, the others are the rows of the request; sorted once, as both
 * may be many. */
struct collisions {
    struct span *name;
    uint32_t *set;    /* by item: which names collide with its */
    uint32_t *holder; /* by set: the item that has the name, plus 1; 0: it is free */
    uint32_t topic_cnt;
};

static int collision_order(const void *a, const void *b)
{
    return topic_name_order(**(const struct span *const *)a, **(const struct span *const *)b);
}
static bool collisions_find(const struct controller *c, struct pending *p,
                            const struct row_names *rows, uint32_t cnt, struct collisions *ret)
{
    uint32_t topics = c->img->topic_cnt, all = topics + cnt;
    ret->topic_cnt = topics;
    ret->name = arena_array(&p->arena, all + 1, sizeof(*ret->name));
    ret->set = arena_array(&p->arena, all + 1, sizeof(*ret->set));
    ret->holder = arena_array(&p->arena, all + 1, sizeof(*ret->holder));
    const struct span **order = arena_array(&p->arena, all + 1, sizeof(*order));
    if (ret->name == NULL || ret->set == NULL || ret->holder == NULL || order == NULL)
        return false;
    for (uint32_t i = 0; i < all; i++) {
        ret->name[i] = i < topics ? span_str(c->img->by_name[i]->name) : rows->v[i - topics];
        order[i] = &ret->name[i];
    }
    qsort(order, all, sizeof(*order), collision_order);
    for (uint32_t i = 0, set = 0; i < all; i++) {
        if (i > 0 && collision_order(&order[i - 1], &order[i]) != 0)
            set = i;
        uint32_t item = (uint32_t)(order[i] - ret->name);
        ret->set[item] = set;
        if (item < topics)
            ret->holder[set] = item + 1;
    }
    return true;
}
/* Kafka's manual assignment: it can only name this broker. */
static bool create_assignment_ok(const struct controller *c, struct pending *p, uint32_t row,
                                 const struct create_topics_request_topic *in)
{
    if (in->num_partitions != -1 || in->replication_factor != -1) {
        row_fail(p, row, KERR_INVALID_REQUEST,
                 "A manual partition assignment was specified, but numPartitions or "
                 "replicationFactor was not set to -1.");
        return false;
    }
    uint8_t *seen = arena_alloc(&p->arena, in->assignments.cnt);
    for (uint32_t i = 0; i < in->assignments.cnt; i++) {
        const struct create_topics_request_assignment *as = &in->assignments.v[i];
        if (seen == NULL || as->partition_index < 0 ||
            (uint32_t)as->partition_index >= in->assignments.cnt || seen[as->partition_index]) {
            row_fail(p, row, KERR_INVALID_ASSIGNMENT,
                     "Partitions should be a consecutive 0-based integer sequence.");
            return false;
        }
        if (as->broker_ids.cnt != 1 || as->broker_ids.v[0] != c->id.node_id) {
            row_fail(p, row, KERR_INVALID_ASSIGNMENT,
                     "Partition %d must be assigned to broker %d, the only one.",
                     as->partition_index, c->id.node_id);
            return false;
        }
        seen[as->partition_index] = 1;
    }
    return true;
}
/* Number of partitions of a valid row, or 0: it failed. */
static uint32_t create_count(const struct controller *c, struct pending *p, uint32_t row,
                             const struct create_topics_request_topic *in)
{
    if (in->assignments.cnt > 0)
        return create_assignment_ok(c, p, row, in) ? in->assignments.cnt : 0;
    if (in->replication_factor < -1 || in->replication_factor == 0) {
        row_fail(p, row, KERR_INVALID_RF,
                 "Replication factor must be larger than 0, or -1 to use the default value.");
        return 0;
    }
    if (in->replication_factor > 1 && !c->conf->replicas_clamp) {
        row_fail(p, row, KERR_INVALID_RF,
                 "Unable to replicate the partition %d time(s): this appliance is one broker; "
                 "use replication factor 1 or -1, or set topic_defaults.replicas_above_one to "
                 "clamp.",
                 in->replication_factor);
        return 0;
    }
    if (in->num_partitions < -1 || in->num_partitions == 0) {
        row_fail(p, row, KERR_INVALID_PARTITIONS,
                 "Number of partitions was set to an invalid non-positive value.");
        return 0;
    }
    return in->num_partitions == -1 ? (uint32_t)c->conf->num_partitions
                                    : (uint32_t)in->num_partitions;
}
static bool create_configs_ok(struct pending *p, uint32_t row,
                              const struct create_topics_request_topic *in)
{
    char why[ADMIN_MESSAGE_MAX];
    for (uint32_t i = 0; i < in->configs.cnt; i++) {
        struct span key = in->configs.v[i].name;
        int16_t error = topic_config_check(key, in->configs.v[i].value, why, sizeof(why));
        if (error != 0) {
            row_fail(p, row, error, "%s", why);
            return false;
        }
        for (uint32_t j = 0; j < i; j++)
            if (span_eq(key, in->configs.v[j].name)) {
                row_fail(p, row, KERR_INVALID_CONFIG, "Config %.*s is given twice", (int)key.len,
                         (const char *)key.p);
                return false;
            }
    }
    return true;
}
/* The effective configuration for the answer (v5+). */
static void create_configs_out(const struct controller *c, struct pending *p,
                               const struct create_topics_request_topic *in,
                               struct create_topics_response_topic *out)
{
    uint32_t cnt = config_topic_cnt();
    char value[1024];
    out->configs.v = arena_array(&p->arena, cnt, sizeof(*out->configs.v));
    if (out->configs.v == NULL) {
        out->configs.null = true;
        return;
    }
    out->configs.cnt = cnt;
    out->configs.null = false;
    for (uint32_t i = 0; i < cnt; i++) {
        struct create_topics_response_config *o = &out->configs.v[i];
        const struct config_key *k = config_topic_at(i);
        create_topics_response_config_init(o);
        o->name = span_str(k->key);
        o->config_source = (int8_t)topic_default(c->conf, c->img, k, value, sizeof(value));
        o->value = say(p, "%s", value);
        for (uint32_t j = 0; j < in->configs.cnt; j++)
            if (span_eq(in->configs.v[j].name, o->name)) {
                o->value = in->configs.v[j].value;
                o->config_source = CONFIG_SOURCE_TOPIC;
            }
    }
}
/* Is the name taken, or nearly, by what exists or by an earlier row of this request? */
static bool create_name_free(const struct controller *c, struct pending *p, uint32_t i,
                             const struct collisions *col)
{
    struct span topic = col->name[col->topic_cnt + i];
    int n = (int)topic.len;
    const char *name = (const char *)topic.p;
    if (image_topic_by_name(c->img, topic) != NULL) {
        row_fail(p, i, KERR_TOPIC_EXISTS, "Topic '%.*s' already exists.", n, name);
        return false;
    }
    uint32_t holder = col->holder[col->set[col->topic_cnt + i]];
    if (holder == 0)
        return true;
    struct span near = col->name[holder - 1];
    row_fail(p, i, KERR_INVALID_TOPIC, "Topic '%.*s' collides with %s: %.*s", n, name,
             holder <= col->topic_cnt ? "existing topic" : "another of the request", (int)near.len,
             (const char *)near.p);
    return false;
}
static void create_one(struct controller *c, struct pending *p, struct change *ch, uint32_t i,
                       const struct create_topics_request_topic *in, struct collisions *col)
{
    struct create_topics_response_topic *out = &p->resp.create.topics.v[i];
    char why[ADMIN_MESSAGE_MAX];
    int16_t error = topic_name_check(in->name, why, sizeof(why));
    if (error != 0) {
        row_fail(p, i, error, "%s", why);
        return;
    }
    if (span_eq_str(in->name, "__cluster_metadata")) {
        row_fail(p, i, KERR_INVALID_TOPIC, "__cluster_metadata is the appliance's own log");
        return;
    }
    if (!create_name_free(c, p, i, col))
        return;
    uint32_t partitions = create_count(c, p, i, in);
    if (partitions == 0 || !create_configs_ok(p, i, in) || !row_room_for(c, p, ch, i, partitions))
        return;
    struct proposed_topic t = {.name = in->name,
                               .partitions = partitions,
                               .configs = in->configs.v,
                               .config_cnt = in->configs.cnt};
    out->topic_id = p->topic_ids[i] = change_add_topic(c, ch, &t);
    col->holder[col->set[col->topic_cnt + i]] = col->topic_cnt + i + 1;
    if (p->validate_only) /* there will be no such topic */
        memset(&out->topic_id, 0, sizeof(out->topic_id));
    out->num_partitions = (int32_t)partitions;
    out->replication_factor = 1;
    create_configs_out(c, p, in, out);
}
static int16_t create_topics(struct controller *c, struct pending *p, struct wire_reader *r,
                             struct change *ch)
{
    struct create_topics_request req;
    struct create_topics_response *resp = &p->resp.create;
    struct row_names names;
    struct collisions col;
    if (create_topics_request_read(r, p->api_version, &p->arena, &req) < 0)
        return KERR_INVALID_REQUEST;
    p->timeout_ms = req.timeout_ms;
    p->validate_only = req.validate_only;
    uint32_t cnt = req.topics.cnt;
    create_topics_response_init(resp);
    resp->topics.v = rows_alloc(p, cnt, sizeof(*resp->topics.v), &names);
    if (resp->topics.v == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++)
        names.v[i] = req.topics.v[i].name;
    names_mark_repeats(&names, cnt);
    if (!collisions_find(c, p, &names, cnt, &col))
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++) {
        struct create_topics_response_topic *out = &resp->topics.v[i];
        create_topics_response_topic_init(out);
        out->name = names.v[i];
        out->error_message = SPAN_NULL;
        out->configs.null = true;
        resp->topics.cnt = i + 1;
        if (names.repeated[i])
            row_fail(p, i, KERR_INVALID_REQUEST, "Duplicate topic name.");
        else
            create_one(c, p, ch, i, &req.topics.v[i], &col);
    }
    return 0;
}
ADMIN_API(create_topics, CREATE_TOPICS_REQUEST, create, topics)

/* ---- DeleteTopics ---- */

/* The appliance's own writer of a topic, or NULL. */
static const char *own_writer_of(const char *name)
{
    if (strcmp(name, "_sluice.gaps") == 0)
        return "the loss ledger";
    if (strcmp(name, "__consumer_offsets") == 0)
        return "the group coordinator";
    if (strcmp(name, "__transaction_state") == 0)
        return "the transaction coordinator";
    return NULL;
}
/* The listener that writes a topic, or NULL. */
static const char *listener_of(const struct controller *c, const char *name)
{
    for (uint32_t i = 0; i < c->conf->listener_cnt; i++) {
        const struct conf_listener *l = &c->conf->listeners[i];
        size_t n = strlen(l->topic);
        if (strncmp(name, l->topic, n) == 0 && (name[n] == '\0' || strcmp(name + n, ".dlq") == 0))
            return l->name;
    }
    return NULL;
}
static bool is_of_a_rule(const struct controller *c, const char *name)
{
    for (uint32_t i = 0; i < c->conf->rule_cnt; i++)
        if (strcmp(name, c->conf->rules[i].topic) == 0)
            return true;
    return false;
}
static void delete_one(struct controller *c, struct pending *p, struct change *ch, uint32_t i,
                       const struct meta_topic *t)
{
    struct delete_topics_response_topic *out = &p->resp.del.responses.v[i];
    /* What is still written to would only come back. */
    const char *own = own_writer_of(t->name), *listener = listener_of(c, t->name);
    if (own != NULL || listener != NULL) {
        if (own != NULL)
            row_fail(p, i, KERR_POLICY_VIOLATION, "'%s' belongs to the appliance: %s writes it",
                     t->name, own);
        else
            row_fail(p, i, KERR_POLICY_VIOLATION,
                     "'%s' is written by listener %s: remove that from the configuration first",
                     t->name, listener);
        return;
    }
    if (is_of_a_rule(c, t->name)) {
        row_fail(p, i, KERR_POLICY_VIOLATION,
                 "'%s' is the topic of a routing rule: remove that from the configuration first",
                 t->name);
        return;
    }
    for (uint32_t j = 0; j < i; j++) {
        if (uuid_eq(&p->topic_ids[j], &t->id)) {
            row_fail(p, i, KERR_INVALID_REQUEST, "The topic is named twice in the request.");
            return;
        }
    }
    meta_put_remove_topic(&ch->b, &t->id);
    p->topic_ids[i] = t->id;
    out->topic_id = t->id;
    out->name = say(p, "%s", t->name);
}
/* The row's name and id are in its answer already. */
static void delete_row(struct controller *c, struct pending *p, struct change *ch, uint32_t i,
                       bool repeated)
{
    const struct delete_topics_response_topic *row = &p->resp.del.responses.v[i];
    bool by_id = !uuid_is_zero(&row->topic_id), by_name = !span_is_null(row->name);
    if (by_id && by_name) {
        row_fail(p, i, KERR_INVALID_REQUEST, "You may not specify both topic name and topic id.");
    } else if (!by_id && !by_name) {
        row_fail(p, i, KERR_INVALID_REQUEST, "Neither topic name nor id were specified.");
    } else if (by_name && repeated) {
        row_fail(p, i, KERR_INVALID_REQUEST, "Duplicate topic name.");
    } else {
        const struct meta_topic *t = by_id ? image_topic_by_id(c->img, &row->topic_id)
                                           : image_topic_by_name(c->img, row->name);
        if (t != NULL)
            delete_one(c, p, ch, i, t);
        else if (by_id)
            row_fail(p, i, KERR_UNKNOWN_TOPIC_ID, "This server does not host this topic ID.");
        else
            row_fail(p, i, KERR_UNKNOWN_TOPIC, "This server does not host this topic.");
    }
}
static int16_t delete_topics(struct controller *c, struct pending *p, struct wire_reader *r,
                             struct change *ch)
{
    struct delete_topics_request req;
    struct delete_topics_response *resp = &p->resp.del;
    struct row_names names;
    if (delete_topics_request_read(r, p->api_version, &p->arena, &req) < 0)
        return KERR_INVALID_REQUEST;
    p->timeout_ms = req.timeout_ms;
    bool v6 = p->api_version >= 6;
    uint32_t cnt = v6 ? req.topics.cnt : req.topic_names.cnt;
    delete_topics_response_init(resp);
    resp->responses.v = rows_alloc(p, cnt, sizeof(*resp->responses.v), &names);
    if (resp->responses.v == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++)
        names.v[i] = v6 ? req.topics.v[i].name : req.topic_names.v[i];
    names_mark_repeats(&names, cnt);
    for (uint32_t i = 0; i < cnt; i++) {
        struct delete_topics_response_topic *out = &resp->responses.v[i];
        delete_topics_response_topic_init(out);
        out->name = names.v[i];
        if (v6)
            out->topic_id = req.topics.v[i].topic_id;
        resp->responses.cnt = i + 1;
        delete_row(c, p, ch, i, names.repeated[i]);
    }
    return 0;
}
ADMIN_API(delete_topics, DELETE_TOPICS_REQUEST, del, responses)

/* ---- CreatePartitions ---- */

static void grow_one(struct controller *c, struct pending *p, struct change *ch, uint32_t i,
                     const struct create_partitions_request_topic *in)
{
    const struct meta_topic *t = image_topic_by_name(c->img, in->name);
    if (t == NULL) {
        row_fail(p, i, KERR_UNKNOWN_TOPIC, "This server does not host this topic.");
        return;
    }
    if (in->count > 0 && (uint32_t)in->count == t->partition_cnt) {
        row_fail(p, i, KERR_INVALID_PARTITIONS, "Topic already has %u partition(s).",
                 t->partition_cnt);
        return;
    }
    if (in->count <= 0 || (uint32_t)in->count < t->partition_cnt) {
        row_fail(p, i, KERR_INVALID_PARTITIONS,
                 "The topic %s currently has %u partition(s); %d would not be an increase.",
                 t->name, t->partition_cnt, in->count);
        return;
    }
    uint32_t add = (uint32_t)in->count - t->partition_cnt;
    if (!in->assignments.null && in->assignments.cnt != add) {
        row_fail(p, i, KERR_INVALID_ASSIGNMENT,
                 "Attempted to add %u additional partition(s), but only %u assignment(s) were "
                 "specified.",
                 add, in->assignments.cnt);
        return;
    }
    for (uint32_t k = 0; k < in->assignments.cnt; k++) {
        const struct wire_i32s *ids = &in->assignments.v[k].broker_ids;
        if (ids->cnt != 1 || ids->v[0] != c->id.node_id) {
            row_fail(p, i, KERR_INVALID_ASSIGNMENT,
                     "Every partition must be assigned to broker %d, the only one.", c->id.node_id);
            return;
        }
    }
    if (!row_room_for(c, p, ch, i, add))
        return;
    for (uint32_t k = 0; k < add; k++)
        change_add_partition(c, ch, &t->id, (int32_t)(t->partition_cnt + k));
    p->topic_ids[i] = t->id;
}
static int16_t create_partitions(struct controller *c, struct pending *p, struct wire_reader *r,
                                 struct change *ch)
{
    struct create_partitions_request req;
    struct create_partitions_response *resp = &p->resp.grow;
    struct row_names names;
    if (create_partitions_request_read(r, p->api_version, &p->arena, &req) < 0)
        return KERR_INVALID_REQUEST;
    p->timeout_ms = req.timeout_ms;
    p->validate_only = req.validate_only;
    uint32_t cnt = req.topics.cnt;
    create_partitions_response_init(resp);
    resp->results.v = rows_alloc(p, cnt, sizeof(*resp->results.v), &names);
    if (resp->results.v == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++)
        names.v[i] = req.topics.v[i].name;
    names_mark_repeats(&names, cnt);
    for (uint32_t i = 0; i < cnt; i++) {
        create_partitions_response_result_init(&resp->results.v[i]);
        resp->results.v[i].name = names.v[i];
        resp->results.cnt = i + 1;
        if (names.repeated[i])
            row_fail(p, i, KERR_INVALID_REQUEST, "Duplicate topic in request.");
        else
            grow_one(c, p, ch, i, &req.topics.v[i]);
    }
    return 0;
}
ADMIN_API(create_partitions, CREATE_PARTITIONS_REQUEST, grow, results)
