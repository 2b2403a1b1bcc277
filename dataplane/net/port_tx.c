/* port_tx.c - frames of ours on their way out, and the end of a turn. */
#include "dataplane/net/port_int.h"
#include "lib/base/assert.h"

/* A buffer for the next frame of this turn, or NULL (counted). */
static struct rte_mbuf *tx_get(struct port_set *ps, struct port_if *pi)
{
    struct rte_mbuf *m = NULL;
    if (pi->can_tx && pi->tx_cnt < PORT_TX_MAX)
        m = rte_pktmbuf_alloc(ps->pool);
    if (m == NULL)
        pi->stats->tx_dropped++;
    return m;
}

/* len 0: there was nothing to say (an answer longer than the MTU). */
static void tx_put(struct port_if *pi, struct rte_mbuf *m, uint32_t len)
{
    if (len == 0) {
        rte_pktmbuf_free(m);
        return;
    }
    m->data_len = (uint16_t)len;
    m->pkt_len = len;
    pi->tx[pi->tx_cnt++] = m;
}

void port_tx_reply(struct port_set *ps, struct port_if *pi, const struct pkt *p)
{
    struct rte_mbuf *m = tx_get(ps, pi);
    if (m != NULL)
        tx_put(
            pi, m,
            pkt_reply(pi->port->host, p, rte_pktmbuf_mtod(m, uint8_t *), rte_pktmbuf_tailroom(m)));
}

void port_tx_announce(struct port_set *ps, struct port_if *pi, uint32_t i)
{
    struct rte_mbuf *m = tx_get(ps, pi);
    if (m != NULL)
        tx_put(pi, m,
               pkt_announce(pi->port->host, i, rte_pktmbuf_mtod(m, uint8_t *),
                            rte_pktmbuf_tailroom(m)));
}

/* What the host's own stack sends, as far as there is room and time; how many frames. */
static uint32_t host_take(struct port_set *ps, struct port_if *pi)
{
    if (!bucket_share_has(ps->host_free_at, ps->cfg.shard->now_ns))
        return 0;
    uint32_t n = port_host_take(pi->port->kernel, pi->tx + pi->tx_cnt, PORT_TX_MAX - pi->tx_cnt);
    pi->tx_cnt += (uint16_t)n;
    pi->stats->from_host += n;
    return n;
}

/* @hot. */
static uint32_t if_flush(struct port_set *ps, struct port_if *pi)
{
    uint64_t tsc = 0;
    uint32_t from_host = 0;
    if (unlikely(pi->port->kernel != NULL) && pi->rxq_first == 0) {
        tsc = clock_tsc();
        from_host = host_take(ps, pi);
    }
    uint32_t n = pi->tx_cnt;
    uint64_t bytes = 0;
    if (n == 0)
        return 0;
    uint16_t lens[PORT_TX_MAX];
    for (uint32_t i = 0; i < n; i++)
        lens[i] = pi->tx[i]->data_len;
    uint32_t sent = rte_eth_tx_burst(pi->port->dev, pi->rxq_first, pi->tx, (uint16_t)n);
    if (from_host > 0) /* the few answers of ours among them, too */
        port_host_pay(ps, pi, tsc, from_host);
    for (uint32_t i = 0; i < sent; i++)
        bytes += lens[i];
    if (sent < n)
        rte_pktmbuf_free_bulk(pi->tx + sent, n - sent);
    pi->stats->tx_frames += sent;
    pi->stats->tx_bytes += bytes;
    pi->stats->tx_dropped += n - sent;
    pi->tx_cnt = 0;
    return n;
}

uint32_t port_tx_flush(struct shard *s, uint32_t budget)
{
    struct port_set *ps = s->ports;
    uint32_t n = 0;
    if (ps == NULL)
        return 0;
    for (uint32_t i = 0; i < ps->if_cnt; i++) {
        n += if_flush(ps, &ps->ifs[i]);
        ip_reasm_turn_end(ps->ifs[i].reasm);
    }
    if (ps->turn_cnt > 0)
        rte_pktmbuf_free_bulk(ps->turn, ps->turn_cnt);
    ps->turn_cnt = 0;
    ps->joined_cnt = 0;
    return n;
}
