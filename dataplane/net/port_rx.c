/* port_rx.c - from a device queue to listeners: burst -> prefetch -> parse -> act.
 *
 * Frames stay in their buffers while parsers read them; port_tx_flush gives the buffers back at the
 * end of the turn. Every frame of a burst is accounted for before the burst ends. */
#include "dataplane/net/ip.h"
#include "dataplane/net/port_int.h"
#include "lib/base/assert.h"

#define PREFETCH_BYTES 64

/* What became of the frames of one burst; added to the port's counters at its end. */
struct tally {
    uint64_t to_udp, to_host, handled, held, bytes;
    uint32_t drop[PDROP_CNT];
};

static uint32_t pkt_flags(const struct rte_mbuf *m)
{
    uint64_t ol = m->ol_flags;
    /* A checksum that the device calls bad is judged here again: some devices call a UDP checksum
     * of zero bad. */
    return ((ol & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD ? PKT_IP_CHECKSUM_OK
                                                                              : 0) |
           ((ol & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD ? PKT_L4_CHECKSUM_OK
                                                                              : 0) |
           (ol & RTE_MBUF_F_RX_VLAN_STRIPPED ? PKT_VLAN_STRIPPED : 0);
}

/* Parsers want a frame in one piece: one of several buffers is copied together, until the turn
 * ends. burst_rx sees to it that there is a place for each. NULL: longer than the port's MTU. */
__attribute__((noinline)) static const uint8_t *frame_join(struct port_set *ps, struct rte_mbuf *m)
{
    if (m->pkt_len > ps->joined_len_max)
        return NULL;
    ASSERT(ps->joined_cnt < PORT_JOINED_MAX);
    uint8_t *to = ps->joined + (size_t)ps->joined_cnt++ * ps->joined_len_max;
    return rte_pktmbuf_read(m, 0, m->pkt_len, to);
}

static void frame_parse(struct port_set *ps, const struct port_if *pi, struct rte_mbuf *m,
                        struct pkt *p)
{
    const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
    if (unlikely(m->nb_segs > 1)) {
        frame = frame_join(ps, m);
        if (frame == NULL) {
            p->kind = PKT_DROP;
            p->why = PDROP_too_long;
            return;
        }
    }
    pkt_parse(pi->port->host, frame, m->pkt_len, pkt_flags(m), m->vlan_tci, p);
}

static struct dgram dgram_of(const struct port_set *ps, const struct pkt *p)
{
    return (struct dgram){.bytes = p->payload,
                          .peer = p->src,
                          .arrival_ms = ps->cfg.shard->wall_ms,
                          .truncated = false};
}

/* Datagrams of one listener: those of other shards go there, the rest to the parser. */
static void deliver(struct port_set *ps, const struct port_if *pi, uint16_t listener,
                    struct dgram *dg, uint32_t n)
{
    if (ps->cfg.handover != NULL && !pi->port->is_steered)
        n = dgram_handover_split(ps->cfg.handover, listener, dg, n);
    if (n > 0)
        (void)ps->cfg.deliver(ps->cfg.arg, listener, dg, n); /* it counts what it refuses */
}

/* All PKT_UDP of the burst, listener by listener, each in order of arrival. */
static void udp_deliver(struct port_set *ps, const struct port_if *pi, const struct pkt *pk,
                        uint32_t n, uint32_t listeners, struct tally *t)
{
    struct dgram dg[PORT_BURST];
    for (; listeners != 0; listeners &= listeners - 1) {
        uint16_t l = (uint16_t)__builtin_ctz(listeners);
        uint32_t cnt = 0;
        for (uint32_t i = 0; i < n; i++)
            if (pk[i].kind == PKT_UDP && pk[i].listener == l)
                dg[cnt++] = dgram_of(ps, &pk[i]);
        deliver(ps, pi, l, dg, cnt);
        t->to_udp += cnt;
    }
}

/* A datagram of `frames` frames, whole again. One for a listener stays in the burst, at the place
 * of its last frame: datagrams that came before that one are delivered before. */
static void whole_act(struct port_set *ps, struct port_if *pi, struct pkt *p, uint32_t frames,
                      uint32_t *listeners, struct tally *t)
{
    switch ((enum pkt_kind)p->kind) {
    case PKT_UDP:
        *listeners |= 1u << p->listener;
        t->to_udp += frames - 1; /* udp_deliver counts the last one */
        return;
    case PKT_REPLY:
        port_tx_reply(ps, pi, p);
        t->handled += frames;
        return;
    case PKT_DROP:
        t->drop[p->why] += frames;
        return;
    case PKT_HANDLED:
    case PKT_FRAGMENT: /* a fragment inside a fragment is no datagram: nothing sends it */
        t->handled += frames;
        return;
    }
}

__attribute__((noinline, cold)) static void fragment_act(struct port_set *ps, struct port_if *pi,
                                                         struct pkt *p, uint32_t *listeners,
                                                         struct tally *t)
{
    struct ip_reasm_result res =
        ip_reasm_add(pi->reasm, p, (int64_t)(ps->cfg.shard->now_ns / 1000000));
    t->drop[PDROP_frag_limit] += res.dropped_cnt;
    if (res.is_whole) {
        pkt_parse_whole(pi->port->host, p, res.l4);
        whole_act(ps, pi, p, res.frame_cnt, listeners, t);
    }
}

static void tally_add(struct port_if *pi, uint32_t n, const struct tally *t)
{
    struct port_stats *st = pi->stats;
    st->seen += n;
    st->to_udp += t->to_udp;
    st->to_host += t->to_host;
    st->handled += t->handled;
    st->rx_bytes += t->bytes;
    st->in_reassembly = ip_reasm_held(pi->reasm);
    for (uint32_t i = 0; i < PDROP_CNT; i++)
        st->drop[i] += t->drop[i];
}

/* A frame that is not ours to serve goes to the host's own stack, if there is a way. True: it is
 * counted, there or as a drop. */
static bool host_pass(struct port_set *ps, struct port_if *pi, const struct rte_mbuf *m,
                      const struct pkt *p, struct tally *t)
{
    if (pi->port->kernel == NULL || !pkt_is_for_host(pi->port->host, p))
        return false;
    /* Where the device has taken the port's tag, one that is left is the sender's own. */
    bool is_tagged = (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) == 0 &&
                     load_be16(p->eth + ETH_TYPE) == ETHERTYPE_VLAN;
    int why = PDROP_host_limit;
    if (bucket_share_has(ps->host_free_at, ps->cfg.shard->now_ns)) {
        uint64_t tsc = clock_tsc();
        why = port_host_pass(pi->port->kernel, m, p, is_tagged, ps->cfg.shard->now_ns);
        port_host_pay(ps, pi, tsc, 1);
    }
    if (why < 0)
        t->to_host++;
    else
        t->drop[why]++;
    return true;
}

static void host_kick(struct port_set *ps, struct port_if *pi, const struct tally *t)
{
    if (likely(t->to_host == 0))
        return;
    uint64_t tsc = clock_tsc();
    port_host_kick(pi->port->kernel);
    port_host_pay(ps, pi, tsc, (uint32_t)t->to_host);
}

/* What is neither for a listener nor for the host, nor a fragment. */
static void answer_act(struct port_set *ps, struct port_if *pi, const struct pkt *p,
                       struct tally *t)
{
    if (p->kind == PKT_DROP) {
        t->drop[p->why]++;
        return;
    }
    if (p->kind == PKT_REPLY)
        port_tx_reply(ps, pi, p);
    t->handled++;
}

/* @hot. A burst of n frames, behind the last ones in ps->turn. */
static void burst_act(struct port_set *ps, struct port_if *pi, uint32_t n)
{
    struct rte_mbuf **m = ps->turn + ps->turn_cnt;
    struct pkt pk[PORT_BURST];
    struct tally t = {0};
    uint32_t listeners = 0, others = 0;
    ps->turn_cnt += n;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *p = rte_pktmbuf_mtod(m[i], const uint8_t *);
        __builtin_prefetch(p);
        __builtin_prefetch(p + PREFETCH_BYTES);
    }
    for (uint32_t i = 0; i < n; i++) {
        t.bytes += m[i]->pkt_len;
        frame_parse(ps, pi, m[i], &pk[i]);
        if (likely(pk[i].kind == PKT_UDP))
            listeners |= 1u << pk[i].listener;
        else
            others++;
    }
    for (uint32_t i = 0; others > 0 && i < n; i++) {
        if (pk[i].kind == PKT_UDP)
            continue;
        others--;
        if (host_pass(ps, pi, m[i], &pk[i], &t))
            continue;
        if (pk[i].kind == PKT_FRAGMENT)
            fragment_act(ps, pi, &pk[i], &listeners, &t);
        else
            answer_act(ps, pi, &pk[i], &t);
    }
    host_kick(ps, pi, &t);
    udp_deliver(ps, pi, pk, n, listeners, &t);
    tally_add(pi, n, &t);
}

static uint32_t burst_rx(struct port_set *ps, struct port_if *pi, uint16_t queue)
{
    uint16_t n = rte_eth_rx_burst(pi->port->dev, queue, ps->turn + ps->turn_cnt, PORT_BURST);
    if (n > 0)
        burst_act(ps, pi, n);
    return n;
}

/* ---- while the log is behind */

/* As if the oldest parked frames came only now. */
static uint32_t burst_unpark(struct port_set *ps, struct port_if *pi)
{
    uint32_t n = pi->parked_cnt < PORT_BURST ? pi->parked_cnt : PORT_BURST;
    for (uint32_t i = 0; i < n; i++) {
        struct rte_mbuf *m = pi->parked[(pi->parked_first + i) % pi->parked_cap];
        pi->parked_bufs -= m->nb_segs;
        ps->turn[ps->turn_cnt + i] = m;
    }
    pi->parked_first = (pi->parked_first + n) % pi->parked_cap;
    pi->parked_cnt -= n;
    burst_act(ps, pi, n);
    return n;
}

/* Serves everybody but the listeners, whose frames wait in order or, above parked_cap buffers, are
 * dropped. */
__attribute__((noinline, cold)) static uint32_t burst_park(struct port_set *ps, struct port_if *pi,
                                                           uint16_t queue)
{
    struct rte_mbuf *m[PORT_BURST];
    struct tally t = {0};
    uint32_t seen = 0, n = rte_eth_rx_burst(pi->port->dev, queue, m, PORT_BURST);
    for (uint32_t i = 0; i < n; i++) {
        struct pkt p;
        frame_parse(ps, pi, m[i], &p);
        bool for_host = p.kind != PKT_UDP && host_pass(ps, pi, m[i], &p, &t);
        bool waits = !for_host && (p.kind == PKT_UDP || p.kind == PKT_FRAGMENT);
        if (waits && pi->parked_bufs + m[i]->nb_segs <= pi->parked_cap) {
            pi->parked_bufs += m[i]->nb_segs;
            pi->parked[(pi->parked_first + pi->parked_cnt++) % pi->parked_cap] = m[i];
            continue;
        }
        seen++;
        t.bytes += m[i]->pkt_len;
        ps->turn[ps->turn_cnt++] = m[i];
        if (waits)
            t.drop[PDROP_log_behind]++;
        else if (!for_host)
            answer_act(ps, pi, &p, &t);
    }
    host_kick(ps, pi, &t);
    tally_add(pi, seen, &t);
    return n;
}

/* The log is behind, or other shards are with what they were handed: better that frames wait in the
 * device, which has room and counts what it loses, than that we take them to drop them. What is for
 * the host stands in the same queue and does not wait: with an exception path, burst_park. */
static bool must_wait(const struct port_set *ps, const struct port_if *pi)
{
    if (pi->msgs_min > 0 && dgram_handover_free_cnt(ps->cfg.handover) < pi->msgs_min)
        return true;
    return ps->cfg.has_room != NULL && !ps->cfg.has_room(ps->cfg.arg, PORT_BURST);
}

static bool is_full(const struct port_set *ps, uint32_t done, uint32_t budget)
{
    return done >= budget || ps->turn_cnt + PORT_BURST > PORT_TURN_MAX ||
           ps->joined_cnt + PORT_BURST > PORT_JOINED_MAX;
}

uint32_t port_rx_poll(struct shard *s, uint32_t budget)
{
    struct port_set *ps = s->ports;
    uint32_t done = 0;
    bool all_seen = false, waits = false; /* every queue, in this turn; not those that wait */
    if (ps == NULL || ps->is_drained)
        return 0;
    for (uint32_t k = 0; k < ps->if_cnt; k++) {
        struct port_if *pi = &ps->ifs[(ps->if_next + k) % ps->if_cnt];
        while (unlikely(pi->parked_cnt > 0) && !must_wait(ps, pi)) {
            if (is_full(ps, done, budget))
                goto full;
            done += burst_unpark(ps, pi);
        }
        for (uint32_t q = 0; q < pi->rxq_cnt; q++) {
            uint32_t i = (pi->rxq_next + q) % pi->rxq_cnt;
            uint16_t queue = (uint16_t)(pi->rxq_first + i * pi->rxq_step);
            /* Nothing overtakes what is parked. */
            bool must_park = must_wait(ps, pi) || pi->parked_cnt > 0;
            waits |= must_park;
            if (must_park && (pi->parked == NULL || ps->is_draining))
                break;
            if (is_full(ps, done, budget))
                goto full;
            done += must_park ? burst_park(ps, pi, queue) : burst_rx(ps, pi, queue);
        }
        pi->rxq_next++;
    }
    all_seen = true;
full:
    ps->if_next++;
    if (unlikely(ps->is_draining)) {
        ps->drain_left -= done < ps->drain_left ? done : ps->drain_left;
        if (ps->drain_left == 0 || (all_seen && !waits && done == 0))
            port_drain_end(ps);
    }
    return done;
}
