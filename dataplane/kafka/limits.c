/* limits.c - what the configuration allows clients: byte rates (quotas) and numbers of connections,
 * applied to the words that all shards count in (shared.h). */
#include "dataplane/kafka/session.h"
#include "lib/base/hash.h"
#include "lib/iface/ip_limits.h"
#include "lib/meta/image.h"
#include <stdlib.h>

#define MS_NS UINT64_C(1000000)

/* Nobody is authenticated, so everybody is Kafka's ANONYMOUS. */
static bool quota_of(const struct kreq *req, enum quota_type type, struct quota_in_force *ret)
{
    const struct meta_image *img = req->k->s->image;
    return img != NULL &&
           quotas_in_force(img->quotas, span_str("ANONYMOUS"), req->hdr.client_id, type, ret);
}

double kreq_quota(const struct kreq *req, enum quota_type type)
{
    struct quota_in_force q;
    return quota_of(req, type, &q) ? q.rate : 0;
}

uint32_t kreq_throttle(struct kreq *req, enum quota_type type, uint64_t bytes)
{
    struct quota_in_force q;
    struct kafka *k = req->k;
    struct kconn *c = req->conn;
    if (c == NULL || !quota_of(req, type, &q))
        return 0;
    uint64_t key = hash_mix64((uint64_t)type + 1);
    key = hash_mix64(key ^ (q.user.p != NULL ? hash_span(q.user) : 0));
    key = hash_mix64(key ^ (q.client.p != NULL ? hash_span(q.client) : 1));
    uint64_t debt_ns = quota_take(k->shared, key, q.rate, bytes, k->s->now_ns);
    uint64_t ms = (debt_ns + MS_NS - 1) / MS_NS;
    if (ms == 0)
        return 0;
    ms = ms < THROTTLE_MAX_MS ? ms : THROTTLE_MAX_MS;
    k->st.throttled++;
    k->st.throttled_ms += ms;
    kconn_mute(c, k->s->now_ns + ms * MS_NS);
    return (uint32_t)ms;
}

/* A limit on connections: the dynamic value of the broker's key, else `otherwise`. */
static uint32_t conn_limit(const struct kafka *k, const char *key, uint32_t otherwise)
{
    const char *text = k->s->image != NULL ? image_broker_config(k->s->image, key) : NULL;
    return text != NULL ? (uint32_t)strtoul(text, NULL, 10) : otherwise; /* sluiced checked it */
}

enum conn_verdict kconn_admit(struct kafka *k, const struct net_addr *peer, uint32_t *ret_slot)
{
    const struct conf *conf = k->s->conf;
    uint32_t max = conn_limit(k, "max.connections", conf->kafka_connections_max);
    uint32_t per_ip = conn_limit(k, "max.connections.per.ip", conf->kafka_connections_max_per_ip);
    const char *key = "max.connections.per.ip.overrides";
    const char *single = k->s->image != NULL ? image_broker_config(k->s->image, key) : NULL;
    if (single == NULL)
        single = conf->kafka_connections_max_per_ip_overrides;
    (void)ip_limits_find(single, peer, &per_ip); /* none: as all the others */
    return conn_count(k->shared, peer, max, per_ip, ret_slot);
}
