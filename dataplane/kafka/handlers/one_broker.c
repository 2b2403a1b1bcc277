/* one_broker.c - admin APIs whose answer follows from there being one broker: ElectLeaders (every
 * partition is led by it already), ListPartitionReassignments (none is ever under way),
 * DescribeQuorum (one voter), and ListConfigResources. */
#include "dataplane/kafka/handlers.h"
#include <stdio.h>

enum {
    ERR_UNKNOWN_TOPIC = 3,
    ERR_UNSUPPORTED_VERSION = 35,
    ERR_INVALID_REQUEST = 42,
    ERR_ELECTION_NOT_NEEDED = 84
};
enum { ELECTION_PREFERRED = 0, ELECTION_UNCLEAN = 1 };
enum {
    RES_TOPIC = 2,
    RES_BROKER = 4,
    RES_BROKER_LOGGER = 8,
    RES_CLIENT_METRICS = 16,
    RES_GROUP = 32
};

static int elect_topic(struct kreq *req, const struct elect_leaders_request_topic *in,
                       struct elect_leaders_response_topic *out)
{
    const struct meta_image *img = req->k->s->image;
    const struct meta_topic *t = img != NULL ? image_topic_by_name(img, in->topic) : NULL;
    uint32_t cnt = in->partitions.cnt;
    elect_leaders_response_topic_init(out);
    out->topic = in->topic;
    out->partition_result.v = arena_array(&req->arena, cnt, sizeof(*out->partition_result.v));
    if (out->partition_result.v == NULL)
        return -E_LIMIT;
    out->partition_result.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        struct elect_leaders_response_partition *p = &out->partition_result.v[i];
        int32_t id = in->partitions.v[i];
        bool exists = t != NULL && id >= 0 && (uint32_t)id < t->partition_cnt;
        elect_leaders_response_partition_init(p);
        p->partition_id = id;
        p->error_code = exists ? ERR_ELECTION_NOT_NEEDED : ERR_UNKNOWN_TOPIC;
        p->error_message = span_str(exists ? "Leader election not needed for topic partition."
                                           : "This server does not host this topic-partition.");
    }
    return 0;
}

/* Asked for "all", Kafka lists only those it had to elect: none. */
int elect_leaders_start(struct kreq *req, struct wire_reader *r)
{
    struct elect_leaders_request in;
    struct elect_leaders_response resp;
    int rc = elect_leaders_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    elect_leaders_response_init(&resp);
    bool known = in.election_type == ELECTION_PREFERRED || in.election_type == ELECTION_UNCLEAN;
    uint32_t cnt = known ? in.topic_partitions.cnt : 0;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < cnt; i++)
        parts += in.topic_partitions.v[i].partitions.cnt;
    kreq_arena_allow(req, parts * sizeof(struct elect_leaders_response_partition) +
                              cnt * (sizeof(*resp.replica_election_results.v) + 64) + 4096);
    resp.error_code = known ? 0 : ERR_INVALID_REQUEST;
    resp.replica_election_results.v =
        arena_array(&req->arena, cnt, sizeof(*resp.replica_election_results.v));
    if (resp.replica_election_results.v == NULL)
        return -E_LIMIT;
    resp.replica_election_results.cnt = cnt;
    for (uint32_t i = 0; i < cnt && rc == 0; i++)
        rc = elect_topic(req, &in.topic_partitions.v[i], &resp.replica_election_results.v[i]);
    if (rc < 0)
        return rc;
    KREQ_RESPOND(req, elect_leaders_response, &resp);
    return 0;
}

int list_partition_reassignments_start(struct kreq *req, struct wire_reader *r)
{
    struct list_partition_reassignments_request in;
    struct list_partition_reassignments_response resp;
    int rc = list_partition_reassignments_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    list_partition_reassignments_response_init(&resp);
    resp.error_message = SPAN_NULL;
    KREQ_RESPOND(req, list_partition_reassignments_response, &resp);
    return 0;
}

#define QUORUM_EPOCH 1 /* of the metadata log: its one voter was never anybody else */

static int quorum_topic(struct kreq *req, const struct describe_quorum_request_topic *in,
                        struct describe_quorum_response_topic *out)
{
    const struct shard *s = req->k->s;
    uint32_t cnt = in->partitions.cnt;
    describe_quorum_response_topic_init(out);
    out->topic_name = in->topic_name;
    out->partitions.v = arena_array(&req->arena, cnt, sizeof(*out->partitions.v));
    if (out->partitions.v == NULL)
        return -E_LIMIT;
    out->partitions.cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        struct describe_quorum_response_partition *p = &out->partitions.v[i];
        describe_quorum_response_partition_init(p);
        p->partition_index = in->partitions.v[i].partition_index;
        p->error_message = SPAN_NULL;
        if (!span_eq_str(in->topic_name, "__cluster_metadata") || p->partition_index != 0 ||
            s->image == NULL) {
            p->error_code = ERR_UNKNOWN_TOPIC;
            p->leader_id = p->leader_epoch = -1;
            p->high_watermark = -1;
            continue;
        }
        struct describe_quorum_response_replica *voter = arena_alloc(&req->arena, sizeof(*voter));
        if (voter == NULL)
            return -E_LIMIT;
        describe_quorum_response_replica_init(voter);
        voter->replica_id = s->conf->node_id;
        voter->log_end_offset = s->image->offset + 1;
        voter->last_caught_up_timestamp = s->wall_ms;
        p->leader_id = s->conf->node_id;
        p->leader_epoch = QUORUM_EPOCH;
        p->high_watermark = voter->log_end_offset;
        p->current_voters.v = voter;
        p->current_voters.cnt = 1;
    }
    return 0;
}

/* The offsets are those of the image that this shard serves. Directories of the voters have no ids
 * (kraft.version 0), and no controller listener exists that clients could be told of. */
int describe_quorum_start(struct kreq *req, struct wire_reader *r)
{
    struct describe_quorum_request in;
    struct describe_quorum_response resp;
    int rc = describe_quorum_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    describe_quorum_response_init(&resp);
    resp.error_message = SPAN_NULL;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < in.topics.cnt; i++)
        parts += in.topics.v[i].partitions.cnt;
    kreq_arena_allow(req, parts * (sizeof(struct describe_quorum_response_partition) +
                                   sizeof(struct describe_quorum_response_replica) + 64) +
                              in.topics.cnt * (sizeof(*resp.topics.v) + 64) + 4096);
    resp.topics.v = arena_array(&req->arena, in.topics.cnt, sizeof(*resp.topics.v));
    if (resp.topics.v == NULL)
        return -E_LIMIT;
    resp.topics.cnt = in.topics.cnt;
    for (uint32_t i = 0; i < in.topics.cnt && rc == 0; i++)
        rc = quorum_topic(req, &in.topics.v[i], &resp.topics.v[i]);
    if (rc < 0)
        return rc;
    struct describe_quorum_response_node node;
    describe_quorum_response_node_init(&node);
    node.node_id = req->k->s->conf->node_id;
    resp.nodes.v = &node;
    resp.nodes.cnt = 1;
    KREQ_RESPOND(req, describe_quorum_response, &resp);
    return 0;
}

static bool is_asked(const struct list_config_resources_request *in, int8_t type)
{
    for (uint32_t i = 0; i < in->resource_types.cnt; i++)
        if (in->resource_types.v[i] == type)
            return true;
    return in->resource_types.cnt == 0;
}

static void add(struct list_config_resources_response *resp, struct span name, int8_t type)
{
    struct list_config_resources_response_resource *o =
        &resp->config_resources.v[resp->config_resources.cnt++];
    list_config_resources_response_resource_init(o);
    o->resource_name = name;
    o->resource_type = type;
}

/* Version 0 asks for client metrics only, and there are none. Groups: those that have a
 * configuration, as in Kafka. */
int list_config_resources_start(struct kreq *req, struct wire_reader *r)
{
    struct list_config_resources_request in;
    struct list_config_resources_response resp;
    int rc = list_config_resources_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    list_config_resources_response_init(&resp);
    for (uint32_t i = 0; i < in.resource_types.cnt; i++) {
        int8_t t = in.resource_types.v[i];
        bool known = t == RES_TOPIC || t == RES_BROKER || t == RES_BROKER_LOGGER ||
                     t == RES_CLIENT_METRICS || t == RES_GROUP;
        if (!known)
            resp.error_code = ERR_UNSUPPORTED_VERSION;
    }
    const struct meta_image *img = req->k->s->image;
    bool list = kreq_version(req) >= 1 && resp.error_code == 0;
    uint32_t topics = list && img != NULL && is_asked(&in, RES_TOPIC) ? img->topic_cnt : 0;
    uint32_t groups = list && img != NULL && img->groups != NULL && is_asked(&in, RES_GROUP)
                          ? img->groups->cnt
                          : 0;
    size_t most = (size_t)topics + groups + 2;
    kreq_arena_allow(req, most * sizeof(*resp.config_resources.v) + 4096);
    resp.config_resources.v = arena_array(&req->arena, most, sizeof(*resp.config_resources.v));
    char *self = arena_alloc(&req->arena, 16);
    if (resp.config_resources.v == NULL || self == NULL)
        return -E_LIMIT;
    snprintf(self, 16, "%d", req->k->s->conf->node_id);
    for (uint32_t i = 0; i < topics; i++)
        add(&resp, span_str(img->by_name[i]->name), RES_TOPIC);
    if (list && is_asked(&in, RES_BROKER))
        add(&resp, span_str(self), RES_BROKER);
    if (list && is_asked(&in, RES_BROKER_LOGGER))
        add(&resp, span_str(self), RES_BROKER_LOGGER);
    for (uint32_t i = 0; i < groups; i++)
        add(&resp, span_str(img->groups->v[i].name), RES_GROUP);
    KREQ_RESPOND(req, list_config_resources_response, &resp);
    return 0;
}
