/* group_call.c - see group_call.h. */
#include "dataplane/kafka/handlers/group_call.h"

uint16_t group_owner(const struct shard *s, struct span group, int32_t *ret_partition,
                     int16_t *ret_error)
{
    const struct meta_topic *t =
        s->image != NULL ? image_topic_by_name(s->image, span_str(OFFSETS_TOPIC)) : NULL;
    *ret_error = KE_NOT_AVAILABLE;
    if (t == NULL || t->partition_cnt == 0)
        return OWNER_NONE;
    *ret_partition = clog_partition(group, t->partition_cnt);
    uint16_t owner = partition_owner(s, t, *ret_partition);
    *ret_error = owner == OWNER_NONE ? KE_NOT_AVAILABLE : 0;
    return owner;
}

/* Kafka's form of a client's address: "/" and the address without its port. */
static void host_of(const char *peer, char *to, size_t cap)
{
    const char *start = peer[0] == '[' ? peer + 1 : peer;
    const char *end = peer[0] == '[' ? strchr(peer, ']') : strrchr(peer, ':');
    size_t len = end != NULL && end >= start ? (size_t)(end - start) : strlen(start);
    if (len > cap - 2)
        len = cap - 2;
    to[0] = '/';
    memcpy(to + 1, start, len);
    to[1 + len] = '\0';
}

static void fill(struct group_call *call, struct kreq *req, const void *in)
{
    call->req = req;
    call->api_key = req->api->key;
    call->version = kreq_version(req);
    call->client_id = span_is_null(req->hdr.client_id) ? WIRE_EMPTY : req->hdr.client_id;
    call->in = in;
    call->error = 0;
    host_of(req->conn->peer, call->client_host, sizeof(call->client_host));
    arena_init(&call->arena, COORD_CALL_BYTES_MAX);
}

int16_t group_call_send(struct group_call *call, struct kreq *req, struct span group,
                        const void *in)
{
    int16_t error;
    uint16_t owner = group_owner(req->k->s, group, &call->partition, &error);
    if (owner == OWNER_NONE)
        return error;
    call->group = group;
    call->owner = owner;
    fill(call, req, in);
    kreq_send(req, owner, &call->msg, MSG_GROUP);
    return 0;
}

void group_call_send_all(struct group_call *call, struct kreq *req, uint16_t to, const void *in)
{
    call->partition = -1;
    fill(call, req, in);
    kreq_send(req, to, &call->msg, MSG_GROUP);
}

void kafka_on_group_reply(struct shard *s, struct msg *m)
{
    (void)s;
    struct group_call *call = container_of(m, struct group_call, msg);
    struct kreq *req = call->req;
    call->done(call); /* frees call->arena when it needs it no more */
    kreq_put(req);
}
