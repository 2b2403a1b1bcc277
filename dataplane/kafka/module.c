/* module.c - the Kafka part of a shard as a module: what is made at start, and its statistics. */
#include "dataplane/kafka/fetch_session.h"
#include "dataplane/kafka/group/coord.h"
#include "dataplane/kafka/session.h"
#include "dataplane/kafka/txn/txn.h"
#include <stdlib.h>

int kafka_create(struct shard *s, struct kafka **ret_kafka)
{
    const struct conf *conf = s->conf;
    if (conf->request_bytes < KAFKA_REQUEST_BYTES_MIN)
        return -E_CONFIG;
    struct kafka *k = (struct kafka *)calloc(1, sizeof(*k));
    if (k == NULL)
        return -ENOMEM;
    k->s = s;
    list_init(&k->conns);
    list_init(&k->ready);
    list_init(&k->starved);
    list_init(&k->kicked);
    list_init(&k->parked);
    list_init(&k->free_reqs);
    list_init(&k->free_conns);
    uint64_t total = conf->request_bytes;
    budget_init(&k->probes, total / 16);
    budget_init(&k->frames_small, total * 3 / 16);
    budget_init(&k->frames_large, total / 4);
    budget_init(&k->responses, total / 2);
    k->frame_max = conf->socket_request_max_bytes;
    if (k->frame_max > k->frames_large.cap) /* sluiced refuses such a configuration */
        k->frame_max = (uint32_t)k->frames_large.cap;
    k->reqs_max = KAFKA_REQS_SHARED + conf->connections_max * KAFKA_REQS_OWN;
    k->reqs = (struct kreq *)calloc(k->reqs_max, sizeof(*k->reqs));
    k->conn_mem = (struct kconn *)calloc(conf->connections_max, sizeof(*k->conn_mem));
    k->scratch = (uint8_t *)malloc(KAFKA_INFLATE_MAX);
    k->shared = s->kafka_shared;
    if (k->shared == NULL && kafka_shared_create(conf->connections_max, &k->own_shared) == 0)
        k->shared = k->own_shared;
    k->sessions = fetch_sessions_create(s->id, s->now_ns ^ (uint64_t)s->wall_ms << 20);
    if (k->reqs == NULL || k->conn_mem == NULL || k->scratch == NULL || k->sessions == NULL ||
        k->shared == NULL || coord_create(k, &k->coord) < 0 || txn_coord_create(k, &k->txns) < 0)
        goto undo;
    timer_arm(s->timers, &k->tick, s->now_ns + KAFKA_TICK_NS, kafka_on_tick);
    kafka_ids_refill(k);
    *ret_kafka = k;
    return 0;
undo:
    coord_destroy(k->coord);
    kafka_shared_destroy(k->own_shared);
    fetch_sessions_destroy(k->sessions);
    free(k->scratch);
    free(k->conn_mem);
    free(k->reqs);
    free(k);
    return -ENOMEM;
}

void kafka_destroy(struct kafka *k)
{
    if (k == NULL)
        return;
    while (!list_is_empty(&k->conns))
        kconn_gone(container_of(k->conns.next, struct kconn, link));
    timer_cancel(k->s->timers, &k->tick);
    timer_cancel(k->s->timers, &k->ids_retry);
    coord_destroy(k->coord);
    txn_coord_destroy(k->txns);
    for (uint32_t i = 0; i < k->reqs_fresh; i++)
        arena_fini(&k->reqs[i].arena);
    kafka_shared_destroy(k->own_shared);
    fetch_sessions_destroy(k->sessions);
    free(k->scratch);
    free(k->conn_mem);
    free(k->reqs);
    free(k);
}

void kafka_set_bound_port(struct kafka *k, uint16_t listener_idx, uint16_t port)
{
    ASSERT(listener_idx < CONF_KAFKA_MAX);
    k->port[listener_idx] = port;
}

void kafka_stats_get(const struct kafka *k, struct kafka_stats *ret_stats)
{
    *ret_stats = k->st;
    struct fetch_session_stats fs;
    fetch_sessions_stats(k->sessions, &fs);
    ret_stats->fetch_sessions = fs.sessions;
    ret_stats->fetch_session_steps = fs.steps;
    ret_stats->fetch_session_evictions = fs.evictions;
    coord_stats_get(k->coord, ret_stats);
    txn_stats_get(k->txns, ret_stats);
    ret_stats->connections = k->conn_cnt;
    ret_stats->requests_inflight = k->req_cnt;
    ret_stats->request_bytes_used = k->probes.used + k->frames_small.used + k->frames_large.used;
    ret_stats->response_bytes_used = k->responses.used;
}
