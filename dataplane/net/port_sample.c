/* port_sample.c - what is looked at once a second: the device's own counters and its link, and
 * fragments that wait for others in vain.
 *
 * Most devices count losses per port; these are kept by the shard that has queue 0. af_packet's are
 * per queue, kept by the shard that polls it. A driver that starts counting from zero again (memif,
 * when its peer leaves) costs nothing: deltas are taken. */
#include "dataplane/net/port_int.h"
#include "lib/base/log.h"
#include "lib/base/assert.h"

static uint64_t delta(uint64_t *last, uint64_t now)
{
    uint64_t d = now >= *last ? now - *last : now;
    *last = now;
    return d;
}

static void device_sample(struct port_if *pi)
{
    struct rte_eth_stats st;
    for (uint16_t i = 0; i < pi->rxq_cnt && pi->port->af_packet_if != 0; i++)
        pi->stats->nic_imissed += port_af_packet_drops(
            pi->port->af_packet_if, (uint16_t)(pi->rxq_first + i * pi->rxq_step));
    if (pi->rxq_first == 0 && pi->port->kernel != NULL)
        pi->stats->host_refused += delta(&pi->last_refused, port_host_refused(pi->port->kernel));
    if (pi->rxq_first != 0 || rte_eth_stats_get(pi->port->dev, &st) != 0)
        return; /* somebody else's, or a device without counters */
    pi->stats->nic_imissed += delta(&pi->last_imissed, st.imissed);
    pi->stats->nic_ierrors += delta(&pi->last_ierrors, st.ierrors);
    pi->stats->nic_nombuf += delta(&pi->last_nombuf, st.rx_nombuf);
}

/* Announce our addresses whenever the link comes up, at start too: neighbours may remember the MAC
 * of a machine that had them before. */
static void link_sample(struct port_set *ps, struct port_if *pi)
{
    struct rte_eth_link link = {0};
    if (rte_eth_link_get_nowait(pi->port->dev, &link) != 0)
        return;
    unsigned ifindex = pi->port->af_packet_if;
    bool is_up =
        ifindex != 0 ? port_af_packet_link_is_up(ifindex) : link.link_status == RTE_ETH_LINK_UP;
    if (is_up == pi->was_up)
        return;
    pi->was_up = is_up;
    pi->stats->link_up = is_up;
    pi->stats->link_changes++;
    LOG_INFO("port %s: link is %s", pi->port->conf->name, is_up ? "up" : "down");
    for (uint32_t i = 0; is_up && i < pi->port->host->addr_cnt; i++)
        port_tx_announce(ps, pi, i);
}

static void on_sample(struct timer *t, uint64_t now_ns)
{
    struct port_set *ps = container_of(t, struct port_set, sample);
    for (uint32_t i = 0; i < ps->if_cnt; i++) {
        struct port_if *pi = &ps->ifs[i];
        pi->stats->drop[PDROP_frag_timeout] +=
            ip_reasm_expire(pi->reasm, (int64_t)(now_ns / 1000000));
        pi->stats->in_reassembly = ip_reasm_held(pi->reasm);
        device_sample(pi);
        if (pi->rxq_first == 0)
            link_sample(ps, pi);
    }
    timer_arm(ps->cfg.shard->timers, t, now_ns + PORT_SAMPLE_NS, on_sample);
}

void port_sample_start(struct port_set *ps)
{
    if (ps->if_cnt > 0 && ps->cfg.shard->timers != NULL)
        timer_arm(ps->cfg.shard->timers, &ps->sample, ps->cfg.shard->now_ns, on_sample);
}

void port_sample_stop(struct port_set *ps)
{
    if (timer_is_armed(&ps->sample))
        timer_cancel(ps->cfg.shard->timers, &ps->sample);
}

bool port_set_is_drained(const struct port_set *ps)
{
    return ps->is_drained;
}

void port_set_sync(struct port_set *ps)
{
    for (uint32_t i = 0; i < ps->if_cnt; i++)
        device_sample(&ps->ifs[i]);
}

void port_set_drain(struct port_set *ps, bool take_rest)
{
    if (ps->is_draining)
        return;
    ps->is_draining = true;
    for (uint32_t i = 0; i < ps->if_cnt; i++)
        ps->drain_left +=
            ps->ifs[i].rxq_cnt * ps->ifs[i].port->conf->rx_desc + ps->ifs[i].parked_cnt;
    if (!take_rest)
        port_drain_end(ps);
}

void port_unpark_all(struct port_if *pi)
{
    for (uint32_t i = 0; i < pi->parked_cnt; i++)
        rte_pktmbuf_free(pi->parked[(pi->parked_first + i) % pi->parked_cap]);
    pi->parked_cnt = pi->parked_bufs = 0;
}

__attribute__((cold)) void port_drain_end(struct port_set *ps)
{
    ps->is_drained = true;
    port_set_sync(ps);
    port_sample_stop(ps);
    for (uint32_t i = 0; i < ps->if_cnt; i++) {
        struct port_if *pi = &ps->ifs[i];
        pi->stats->seen += pi->parked_cnt;
        pi->stats->drop[PDROP_restart] += pi->parked_cnt + ip_reasm_clear(pi->reasm);
        port_unpark_all(pi);
        pi->stats->in_reassembly = 0;
    }
}
