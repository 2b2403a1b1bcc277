/* ingest.c - the burst: parse, name the source, route, add to a batch, count. */
#include "dataplane/ingest/ingest_int.h"
#include "lib/base/assert.h"
#include "lib/iface/conf.h"
#include <stdlib.h>

#define RH_ALL ((1u << RH_CNT) - 1)
/* What a record takes besides its value: framing, header names, and header values, of which four
 * may be HEADER_VALUE_MAX long. */
#define RECORD_OVERHEAD_MAX 2048u

static_assert(CONF_LISTENERS_MAX <= 32, "ingest_missing has 32 bits for each kind of topic");

/* What a protocol is made of; streams of all but syslog have one delimiter. */
static const struct proto {
    parse_burst_fn *burst;
    enum framing_mode framing;
    bool binary; /* no byte of a datagram is a delimiter */
} protos[] = {
    [CONF_SYSLOG] = {syslog_burst, FRAMING_SYSLOG, false},
    [CONF_RAW] = {raw_burst, FRAMING_LF, false},
    [CONF_GELF] = {gelf_burst, FRAMING_NUL, false},
    [CONF_JSON] = {json_burst, FRAMING_LF, false},
    [CONF_NETFLOW] = {netflow_burst, FRAMING_LF, true},
};

/* ---- life */

/* One route for each topic, not for each rule: events of one source stay in order, whichever rules
 * sent them there. */
static int listener_routes_init(struct ingest *in, uint16_t i, const struct conf *conf)
{
    struct ilistener *l = &in->listener[i];
    const struct conf_listener *c = &conf->listeners[i];
    l->route = calloc(1 + conf->rule_cnt, sizeof(*l->route));
    if (l->route == NULL)
        return -ENOMEM;
    l->rules = rules_of_listener(&in->rules, c->name);
    int rc = route_init(&l->route[l->route_cnt++], c->topic, i, false, CONF_RULE_COMP_TOPIC);
    for (uint32_t k = 0; rc == 0 && k < conf->rule_cnt; k++) {
        const struct conf_rule *r = &conf->rules[k];
        uint32_t at = 0;
        if ((l->rules >> k & 1) == 0)
            continue;
        while (at < l->route_cnt && strcmp(l->route[at].topic, r->topic) != 0)
            at++;
        if (at == l->route_cnt)
            rc = route_init(&l->route[l->route_cnt++], r->topic, i, false, r->compression);
        l->route_of[k] = (uint8_t)at;
    }
    return rc;
}

static int listener_init(struct ingest *in, uint16_t i, const struct conf *conf)
{
    struct ilistener *l = &in->listener[i];
    const struct conf_listener *c = &conf->listeners[i];
    const struct proto *p = &protos[c->proto];
    bool cut_by_us = c->transport == CONF_TCP && p->framing != FRAMING_SYSLOG;
    l->parse = (struct parse_conf){.listener = span_str(c->name),
                                   .zone_offset_s = c->zone_offset_s,
                                   .event_bytes_max = c->event_bytes_max,
                                   .keep_end = p->binary || cut_by_us,
                                   .time_field = span_str(c->time_field)};
    l->proto = c->proto;
    l->burst = p->burst;
    l->header_mask = c->header_mask & RH_ALL;
    int n = snprintf(l->dead_topic, sizeof(l->dead_topic), "%s.dlq", c->topic);
    if (n < 0 || (size_t)n >= sizeof(l->dead_topic) || c->event_bytes_max < 16)
        return -E_LIMIT;
    int rc = listener_routes_init(in, i, conf);
    if (rc == 0)
        rc = route_init(&l->dead, l->dead_topic, i, true, CONF_RULE_COMP_TOPIC);
    if (rc == 0 && c->transport == CONF_TCP)
        rc = stream_pool_create(in, i, c->connections_max, c->event_bytes_max, p->framing,
                                &l->streams);
    return rc;
}

/* What keeps more than one datagram in mind, for the protocols that need it. */
static int inputs_create(struct ingest *in, const struct conf *conf)
{
    uint32_t gelf_event_max = 0;
    bool netflow = false;
    for (uint32_t i = 0; i < conf->listener_cnt; i++) {
        const struct conf_listener *c = &conf->listeners[i];
        netflow |= c->proto == CONF_NETFLOW;
        if (c->proto == CONF_GELF && c->transport == CONF_UDP &&
            c->event_bytes_max > gelf_event_max)
            gelf_event_max = c->event_bytes_max;
    }
    int rc = netflow ? netflow_seq_create(&in->netflow) : 0;
    if (rc == 0 && gelf_event_max > 0)
        rc = gelf_input_create(in, conf->gelf_bytes, gelf_event_max, &in->gelf);
    return rc;
}

int ingest_create(struct shard *s, const struct conf *conf, struct ingest **ret)
{
    struct ingest *in = calloc(1, sizeof(*in));
    if (in == NULL)
        return -ENOMEM;
    int rc = -ENOMEM;
    in->s = s;
    in->listener_cnt = conf->listener_cnt;
    list_init(&in->waiting);
    rules_compile(&in->rules, conf);
    in->listener = calloc(conf->listener_cnt > 0 ? conf->listener_cnt : 1, sizeof(*in->listener));
    if (in->listener == NULL)
        goto undo;
    struct accum_opts o = {.batch_bytes = conf->batch_bytes,
                           .linger_ns = (uint64_t)conf->linger_ms * 1000000,
                           .pool_bytes = conf->staging_bytes / 2};
    bool datagrams = false, streams = false;
    for (uint16_t i = 0; i < conf->listener_cnt; i++) {
        datagrams |= conf->listeners[i].transport == CONF_UDP;
        streams |= conf->listeners[i].transport == CONF_TCP;
        uint32_t max = conf->listeners[i].event_bytes_max + RECORD_OVERHEAD_MAX;
        o.record_bytes_max = max > o.record_bytes_max ? max : o.record_bytes_max;
        rc = listener_init(in, i, conf);
        if (rc < 0)
            goto undo;
    }
    rc = inputs_create(in, conf);
    if (rc < 0)
        goto undo;
    if (conf->listener_cnt == 0)
        o.pool_bytes = 0;
    o.shared = datagrams && streams;
    rc = accum_create(s, &o, &in->accum);
    if (rc < 0)
        goto undo;
    *ret = in;
    return 0;
undo:
    ingest_destroy(in);
    return rc;
}

void ingest_destroy(struct ingest *in)
{
    if (in == NULL)
        return;
    for (uint32_t i = 0; in->listener != NULL && i < in->listener_cnt; i++) {
        stream_pool_destroy(in->listener[i].streams);
        for (uint32_t k = 0; k < in->listener[i].route_cnt; k++)
            route_fini(&in->listener[i].route[k]);
        free(in->listener[i].route);
        route_fini(&in->listener[i].dead);
    }
    gelf_input_destroy(in->gelf);
    netflow_seq_destroy(in->netflow);
    accum_destroy(in->accum);
    free(in->listener);
    free(in);
}

/* ---- routes */
__attribute__((noinline, cold)) static void routes_refresh(struct ingest *in)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < in->listener_cnt; i++) {
        struct ilistener *l = &in->listener[i];
        for (uint32_t k = 0; k < l->route_cnt; k++) {
            route_refresh(&l->route[k], in->s, in->accum);
            missing |= (uint64_t)!l->route[k].present << i;
        }
        route_refresh(&l->dead, in->s, in->accum);
        missing |= (uint64_t)!l->dead.present << (32 + i);
    }
    in->image = in->s->image;
    in->image_seen = true;
    atomic_store_explicit(&in->missing, missing, memory_order_relaxed);
}

static inline void routes_check(struct ingest *in)
{
    if (unlikely(in->image != in->s->image || !in->image_seen))
        routes_refresh(in);
}

uint64_t ingest_missing(const struct ingest *in)
{
    return atomic_load_explicit(&in->missing, memory_order_relaxed);
}

/* ---- the source header */
__attribute__((noinline)) static void source_format(struct source_entry *e,
                                                    const struct net_addr *peer)
{
    char text[NET_ADDR_TEXT_MAX];
    uint32_t n = net_addr_format_ip(peer, text);
    n = n < sizeof(e->text) ? n : (uint32_t)sizeof(e->text);
    memcpy(e->ip, peer->ip, sizeof(e->ip));
    memcpy(e->text, text, n);
    e->len = (uint8_t)n;
}

/* The text is copied out of the cache, because a later event of the burst may take its place. */
static inline void source_name(struct ingest *in, uint32_t i, const struct net_addr *peer)
{
    struct rec *r = &in->rec[i];
    r->source_hash = source_hash(peer);
    uint32_t slot = r->source_hash % SOURCE_CACHE;
    struct source_entry *e = &in->sources[slot];
    if (unlikely(e->len == 0 || memcmp(e->ip, peer->ip, sizeof(e->ip)) != 0)) {
        source_format(e, peer);
        in->source_rules[slot] = rules_of_source(&in->rules, peer);
    }
    in->rec_rules[i] = in->source_rules[slot];
    static_assert(sizeof(e->text) + 1 == sizeof(in->source_text[0]), "one copy of 47 bytes");
    memcpy(in->source_text[i], e->text, sizeof(e->text));
    r->header[RH_SOURCE] = span_of(in->source_text[i], e->len);
}

/* ---- the burst */
static void headers_mask(struct rec *r, uint32_t mask)
{
    if (r->header[RH_REASON].p != NULL) /* a dead letter says where it is from, always */
        mask |= 1u << RH_REASON | 1u << RH_SOURCE | 1u << RH_LISTENER;
    for (uint32_t h = 0; h < RH_CNT; h++)
        if ((mask >> h & 1) == 0)
            r->header[h] = SPAN_NULL;
}

struct burst_sums {
    uint32_t accepted, dropped, truncated, out_of_bounds;
    uint64_t bytes;
    uint32_t drop[EDROP_CNT];
};

/* The route of record i, by the rules; sets its key. *ret_rule: -1, none. */
static inline struct route *event_route(struct ingest *in, struct ilistener *l, uint32_t i,
                                        int *ret_rule)
{
    struct rec *r = &in->rec[i];
    *ret_rule = -1;
    if (unlikely(r->header[RH_REASON].p != NULL))
        return &l->dead;
    int rule = rules_pick(&in->rules, in->rec_rules[i] & l->rules, r);
    if (likely(rule < 0))
        return &l->route[0];
    *ret_rule = rule;
    enum conf_key key = in->rules.conf->rules[rule].key;
    if (key != CONF_KEY_NONE)
        r->key = r->header[key == CONF_KEY_SOURCE ? RH_SOURCE : RH_HOST];
    return &l->route[l->route_of[rule]];
}

/* Add a record to its batch. 0; or the reason why not, as -1 - enum event_drop. */
static inline int event_add(struct ingest *in, struct route *route, const struct rec *r)
{
    if (unlikely(!route->present))
        return -1 - (int)(route->dead ? EDROP_no_dlq_topic : EDROP_no_topic);
    int rc = accum_add(in->accum, route_pick(route, r->source_hash), r);
    if (likely(rc == 0))
        return 0;
    return -1 - (int)(rc == -EAGAIN ? EDROP_no_buffer : EDROP_too_large);
}

static void sums_count(struct ingest *in, uint16_t l, const struct burst_sums *s)
{
    struct listener_stats *ls = &in->s->counters->listener[l];
    struct event_stats *es = &in->s->counters->events[l];
    uint32_t n = s->accepted + s->dropped;
    ls->received += n;
    ls->parsed += n;
    ls->received_bytes += s->bytes;
    ls->truncated += s->truncated;
    ls->time_out_of_bounds += s->out_of_bounds;
    es->produced += n;
    es->in_flight += s->accepted;
    if (unlikely(s->dropped > 0))
        counters_add(es->drop, s->drop, EDROP_CNT);
}

/* @hot */
uint32_t ingest_burst(struct ingest *in, uint16_t li, const struct dgram *dg,
                      const uint32_t *full_len, uint32_t n, bool lossless)
{
    struct ilistener *l = &in->listener[li];
    struct burst_sums sums = {0};
    DASSERT(n <= INGEST_BURST_MAX);
    routes_check(in);
    accum_events(in->accum, n);
    l->burst(&l->parse, dg, full_len, n, &in->mem, in->rec);
    for (uint32_t i = 0; i < n; i++)
        source_name(in, i, &dg[i].peer);
    uint32_t i = 0;
    for (; i < n; i++) {
        struct rec *r = &in->rec[i];
        uint32_t truncated = r->header[RH_TRUNCATED].p != NULL;
        uint32_t out_of_bounds = r->header[RH_EVENT_TIME].p != NULL;
        int rule;
        struct route *route = event_route(in, l, i, &rule);
        if (unlikely(l->header_mask != RH_ALL))
            headers_mask(r, l->header_mask);
        int rc = event_add(in, route, r);
        if (unlikely(rc < 0)) {
            if (lossless && rc == -1 - (int)EDROP_no_buffer)
                break;
            sums.dropped++;
            sums.drop[-1 - rc]++;
        } else {
            sums.accepted++;
        }
        if (rule >= 0)
            in->s->counters->shard.rule_events[rule]++;
        sums.bytes += dg[i].bytes.len;
        sums.truncated += truncated;
        sums.out_of_bounds += out_of_bounds;
    }
    sums_count(in, li, &sums);
    return i;
}

static void netflow_note(struct ingest *in, uint16_t listener, const struct dgram *dg, uint32_t n)
{
    struct listener_stats *ls = &in->s->counters->listener[listener];
    for (uint32_t i = 0; i < n; i++) {
        struct netflow_seen seen =
            netflow_seq_note(in->netflow, listener, &dg[i].peer, dg[i].bytes);
        ls->netflow_gaps += seen.gaps;
        ls->netflow_lost += seen.lost;
        ls->netflow_restarts += seen.restarts;
    }
}

/* @hot */
uint32_t ingest_dgrams(struct ingest *in, uint16_t listener, const struct dgram *dg, uint32_t n)
{
    ASSERT(listener < in->listener_cnt);
    if (unlikely(in->stopping)) {
        ingest_dgrams_lost(in, listener, DDROP_stopping, n);
        return n;
    }
    enum conf_proto proto = in->listener[listener].proto;
    if (proto == CONF_GELF) {
        gelf_input_dgrams(in->gelf, listener, dg, n);
        return n;
    }
    if (proto == CONF_NETFLOW)
        netflow_note(in, listener, dg, n);
    for (uint32_t at = 0; at < n; at += INGEST_BURST_MAX) {
        uint32_t left = n - at;
        (void)ingest_burst(in, listener, dg + at, NULL,
                           left < INGEST_BURST_MAX ? left : INGEST_BURST_MAX, false);
    }
    return n;
}

bool ingest_has_room(struct ingest *in, uint32_t n)
{
    return in->stopping || accum_has_room(in->accum, n);
}

uint32_t ingest_room(struct ingest *in, uint32_t n)
{
    if (in->stopping)
        return n;
    uint32_t free = accum_has_room(in->accum, n) ? accum_free_cnt(in->accum) : 0;
    return n < free ? n : free;
}

void ingest_rate(struct ingest *in)
{
    struct shard_stats *st = &in->s->counters->shard;
    uint64_t ns = in->s->now_ns - in->rate_ns, bytes = st->ingest_raw_bytes - in->rate_bytes;
    in->rate_ns = in->s->now_ns;
    in->rate_bytes = st->ingest_raw_bytes;
    if (bytes > 0 ||
        !accum_is_behind(in->accum)) { /* behind and without a buffer it seals nothing */
        in->rate_last_ns = ns;
        in->rate_last_bytes = bytes;
    }
    uint64_t free_bytes = accum_free_bytes(in->accum), ms = INGEST_OVERFLOW_MS_MAX;
    if (in->rate_last_bytes > 0)
        ms = (uint64_t)((double)free_bytes * (double)in->rate_last_ns /
                        (double)in->rate_last_bytes / 1e6);
    st->ingest_overflow_ms = ms < INGEST_OVERFLOW_MS_MAX ? ms : INGEST_OVERFLOW_MS_MAX;
}

void ingest_dgrams_lost(struct ingest *in, uint16_t listener, uint32_t why, uint64_t cnt)
{
    ASSERT(listener < in->listener_cnt);
    ASSERT(why < DDROP_CNT);
    struct listener_stats *ls = &in->s->counters->listener[listener];
    ls->received += cnt;
    ls->drop[why] += cnt;
}

void ingest_kernel_drops(struct ingest *in, uint16_t listener, uint64_t cnt)
{
    ASSERT(listener < in->listener_cnt);
    in->s->counters->listener[listener].kernel_drops += cnt;
}

/* ---- turns and the end */
uint32_t ingest_poll(struct ingest *in, uint32_t budget)
{
    routes_check(in); /* also without traffic: the control thread wants to know what is missing */
    uint32_t n = accum_expire(in->accum, in->s->now_ns, budget);
    if (in->gelf != NULL)
        n += gelf_input_poll(in->gelf);
    if (!list_is_empty(&in->waiting) && accum_stream_has_room(in->accum) && !in->stopping)
        n += streams_poll(in, budget);
    return n;
}

bool ingest_streams_wait(const struct ingest *in)
{
    return !list_is_empty(&in->waiting);
}

void ingest_stop(struct ingest *in)
{
    in->stopping = true;
    if (in->gelf != NULL)
        gelf_input_stop(in->gelf);
    accum_close_all(in->accum);
}

bool ingest_is_idle(const struct ingest *in)
{
    return accum_is_idle(in->accum);
}

bool ingest_has_work(const struct ingest *in)
{
    return accum_has_work(in->accum);
}

void ingest_on_seal(struct shard *s, struct msg *m)
{
    accum_on_seal(s->ingest->accum, m);
}
void ingest_on_seal_reply(struct shard *s, struct msg *m)
{
    accum_on_seal_reply(s->ingest->accum, m);
}
void ingest_on_sealed(struct shard *s, struct msg *m)
{
    accum_on_sealed(s, m);
}
void ingest_on_sealed_reply(struct shard *s, struct msg *m)
{
    accum_on_sealed_reply(s, m);
}
