/* find_coordinator.c - FindCoordinator: this broker, for groups once their partition has a shard.
 * Transactional ids get the same answer: InitProducerId then says that there are no transactions.
 */
#include "dataplane/kafka/handlers/group_call.h"

enum { KEY_GROUP = 0, KEY_TRANSACTION = 1 };

static int16_t find(const struct kreq *req, int8_t type, struct span key)
{
    int32_t partition;
    int16_t error;
    if (type == KEY_TRANSACTION)
        return 0;
    if (type != KEY_GROUP)
        return KE_INVALID_REQUEST;
    (void)group_owner(req->k->s, key, &partition, &error); /* only whether there is one */
    return error;
}

int find_coordinator_start(struct kreq *req, struct wire_reader *r)
{
    struct find_coordinator_request in;
    int rc = find_coordinator_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    struct find_coordinator_response out;
    struct span host;
    int32_t port, node = req->k->s->conf->node_id;
    find_coordinator_response_init(&out);
    kreq_advertised(req, &host, &port);
    if (kreq_version(req) < 4) {
        out.error_code = find(req, in.key_type, in.key);
        bool ok = out.error_code == 0;
        out.node_id = ok ? node : -1;
        out.host = ok ? host : WIRE_EMPTY;
        out.port = ok ? port : -1;
        KREQ_RESPOND(req, find_coordinator_response, &out);
        return 0;
    }
    kreq_arena_allow(req, in.coordinator_keys.cnt * (sizeof(*out.coordinators.v) + 16));
    out.coordinators.v =
        arena_array(&req->arena, in.coordinator_keys.cnt, sizeof(*out.coordinators.v));
    if (out.coordinators.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < in.coordinator_keys.cnt; i++) {
        struct find_coordinator_response_coordinator *o =
            &out.coordinators.v[out.coordinators.cnt++];
        find_coordinator_response_coordinator_init(o);
        o->key = in.coordinator_keys.v[i];
        o->error_code = find(req, in.key_type, o->key);
        bool ok = o->error_code == 0;
        o->node_id = ok ? node : -1;
        o->host = ok ? host : WIRE_EMPTY;
        o->port = ok ? port : -1;
    }
    KREQ_RESPOND(req, find_coordinator_response, &out);
    return 0;
}
