/* test_port.c - ports on a real EAL, without huge pages or root: frames written into a pcap file or
 * a ring go through the stages, and the ledger balances after every turn. */
#include "dataplane/net/port_int.h"
#include "dataplane/net/port_host.c"
#include "tests/support/test.h"
#include "tests/unit/dataplane/net/frames.h"
#include "lib/base/clock.h"
#include <rte_eal.h>
#include <rte_eth_ring.h>
#include <fcntl.h>
#include <sys/mman.h>

struct rig { /* shards, all run by this thread */
    struct conf *conf;
    struct ports *ports;
    struct mbox_net *boxes;
    uint16_t cnt;
    uint32_t cnt_msgs; /* of each hand-over */
    struct shard s[2];
    struct counters *counters[2];
    struct dgram_handover *handover[2];
    uint32_t got[2], got_bytes[2], lost;
    uint16_t last_listener;
    uint8_t last[4096], firsts[8]; /* the last datagram; first bytes of the first ones */
    uint32_t last_len;
};
static struct rig *rig_now;
static char *tmp;
static uint16_t rig_mtu;  /* of the next rig; 0: 1500 */
static bool clock_stands; /* turns do not move now_ns */

static uint32_t on_dgrams(void *arg, uint16_t listener, const struct dgram *dg, uint32_t n)
{
    struct shard *s = arg;
    struct rig *r = rig_now;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(s->cnt == 1 || source_shard(&dg[i].peer, s->cnt) == s->id);
        assert_true(dg[i].arrival_ms > 0 && dg[i].arrival_ms <= s->wall_ms);
        if (s->id == 0 && r->got[0] < sizeof(r->firsts))
            r->firsts[r->got[0]] = dg[i].bytes.len > 0 ? dg[i].bytes.p[0] : 0;
        r->got[s->id]++;
        r->got_bytes[s->id] += dg[i].bytes.len;
        r->last_listener = listener;
        r->last_len = dg[i].bytes.len;
        memcpy(r->last, dg[i].bytes.p, dg[i].bytes.len < 4096 ? dg[i].bytes.len : 4096);
    }
    return n;
}

static bool no_room; /* the log is behind */
static bool has_room(void *arg, uint32_t n)
{
    assert_true(n > 0);
    return !no_room;
}
static void on_dropped(void *arg, uint16_t listener, uint32_t n)
{
    struct shard *s = arg;
    s->counters->listener[listener].drop[DDROP_handoff_full] += n;
    rig_now->lost += n;
}
static void on_request(struct shard *s, struct msg *m)
{
    dgram_handover_on_request(rig_now->handover[s->id], m);
}
static void on_reply(struct shard *s, struct msg *m)
{
    dgram_handover_on_reply(rig_now->handover[s->id], m);
}

static void rig_open_with(struct rig *r, const char *device, uint16_t shards, uint32_t msgs)
{
    char err[1024] = "";
    memset(r, 0, sizeof(*r));
    rig_now = r;
    r->cnt = shards;
    r->cnt_msgs = msgs;
    r->conf = frames_conf();
    strcpy(r->conf->ports[0].device, device);
    if (rig_mtu > 0)
        r->conf->ports[0].mtu = rig_mtu;
    msg_handlers[MSG_DGRAMS] = (struct msg_handlers){on_request, on_reply};
    assert_ok(mbox_net_create(shards, 64, &r->boxes));
    struct ports_cfg cfg = {.conf = r->conf, .shard_cnt = shards};
    if (ports_open(&cfg, &r->ports, err, sizeof(err)) < 0)
        fail_msg("%s", err);
    for (uint16_t i = 0; i < shards; i++) {
        struct shard *s = &r->s[i];
        r->counters[i] = calloc(1, sizeof(*r->counters[i]));
        *s = (struct shard){.id = i,
                            .cnt = shards,
                            .conf = r->conf,
                            .counters = r->counters[i],
                            .mbox = mbox_of(r->boxes, i),
                            .now_ns = clock_mono_ns()};
        assert_ok(timer_wheel_create(s->now_ns, &s->timers));
        struct dgram_handover_cfg hc = {.mbox = s->mbox,
                                        .shard = i,
                                        .shard_cnt = shards,
                                        .msg_cnt = r->cnt_msgs,
                                        .deliver = on_dgrams,
                                        .dropped = on_dropped,
                                        .arg = s};
        if (shards > 1)
            assert_ok(dgram_handover_create(&hc, &r->handover[i]));
        struct port_set_cfg pc = {.shard = s,
                                  .handover = r->handover[i],
                                  .deliver = on_dgrams,
                                  .has_room = has_room,
                                  .arg = s};
        assert_ok(port_set_create(r->ports, &pc, &s->ports));
    }
    if (ports_start(r->ports, err, sizeof(err)) < 0)
        fail_msg("%s", err);
}

static void rig_open(struct rig *r, const char *device, uint16_t shards)
{
    rig_open_with(r, device, shards, 32);
}

static uint64_t drops(const struct port_stats *st)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < PDROP_CNT; i++)
        n += st->drop[i];
    return n;
}

/* One turn of every shard; frames taken. */
static uint32_t rig_turn(struct rig *r)
{
    uint32_t n = 0;
    for (uint16_t i = 0; i < r->cnt; i++) {
        struct shard *s = &r->s[i];
        s->now_ns = clock_stands ? s->now_ns : clock_mono_ns();
        s->wall_ms = clock_wall_ms();
        (void)mbox_poll(s->mbox, s, 32);
        n += port_rx_poll(s, 32);
        (void)timer_poll(s->timers, s->now_ns, 16);
        (void)port_tx_flush(s, 32);
        if (r->handover[i] != NULL)
            dgram_handover_turn_end(r->handover[i]);
        const struct port_stats *st = &r->counters[i]->port[0];
        assert_int_equal(st->seen,
                         st->to_udp + st->to_host + st->handled + st->in_reassembly + drops(st));
    }
    return n;
}

static void rig_settle(struct rig *r)
{
    for (int idle = 0; idle < 4;)
        idle = rig_turn(r) > 0 ? 0 : idle + 1;
}

static struct port_stats rig_stats(const struct rig *r)
{
    struct port_stats sum = {0};
    for (uint16_t i = 0; i < r->cnt; i++)
        for (size_t w = 0; w < sizeof(sum) / 8; w++)
            ((uint64_t *)&sum)[w] += ((const uint64_t *)&r->counters[i]->port[0])[w];
    return sum;
}

static void rig_close(struct rig *r)
{
    for (uint16_t i = 0; i < r->cnt; i++)
        port_set_drain(r->s[i].ports, false);
    rig_settle(r);
    ports_stop(r->ports);
    for (uint16_t i = 0; i < r->cnt; i++) {
        port_set_destroy(r->s[i].ports);
        dgram_handover_destroy(r->handover[i]);
        timer_wheel_destroy(r->s[i].timers);
        free(r->counters[i]);
    }
    ports_close(r->ports);
    mbox_net_destroy(r->boxes);
    free(r->conf);
}

/* A pcap file, and how to append to it. */
static void pcap_put(FILE *f, const struct frame *fr)
{
    uint32_t head[4] = {0, 0, fr->len, fr->len};
    assert_int_equal(fwrite(head, sizeof(head), 1, f), 1);
    assert_int_equal(fwrite(fr->b, fr->len, 1, f), 1);
}
static FILE *pcap_create(const char *path)
{
    static const uint32_t head[6] = {0xa1b2c3d4, 4u << 16 | 2, 0, 0, 65535, 1};
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(head, sizeof(head), 1, f), 1);
    return f;
}

/* Frames of every sort, `rounds` times; what the ledger must say. */
static void pcap_mixture(const char *path, uint32_t rounds, struct port_stats *want)
{
    static uint8_t data[1200];
    memset(data, 'x', sizeof(data));
    FILE *f = pcap_create(path);
    memset(want, 0, sizeof(*want));
    for (uint32_t i = 0; i < rounds; i++) {
        struct frame fr[8];
        fr[0] = frame_udp4((uint8_t)i, 4000, 514, data, 100);
        fr[1] = frame_udp6(4000, 514, data, 100);
        fr[2] = frame_udp4((uint8_t)i, 4000, 9, data, 100);
        want->drop[PDROP_udp_port]++;
        fr[3] = frame_arp(ARP_REQUEST, our_ip4);
        memcpy(fr[0].b, our_mac, 6);
        fr[4] = frame_udp4((uint8_t)i, 4000, 514, data, 100);
        fr[4].b[0] = 4;
        want->drop[PDROP_not_for_us]++;
        struct frame whole = frame_udp4((uint8_t)i, 4000, 515, data, 1200);
        uint32_t parts = frame_split4(&whole, (uint16_t)i, 512, fr + 5, 3);
        assert_int_equal(parts, 3);
        want->to_udp += 2 + parts;
        want->handled++;
        for (uint32_t k = 0; k < 8; k++)
            pcap_put(f, &fr[k]);
        want->seen += 8;
    }
    fclose(f);
}

/* The vdev has a MAC of its own making; the frames are made for ours. */
static void rig_set_mac(struct rig *r)
{
    memcpy(r->ports->port[0].host->mac, our_mac, 6);
}

static void frames_of_a_file_are_all_accounted_for(void **state)
{
    static struct rig r;
    struct port_stats want;
    char dev[600], path[512];
    snprintf(path, sizeof(path), "%s/a.pcap", tmp);
    pcap_mixture(path, 100, &want);
    snprintf(dev, sizeof(dev), "net_pcap0,rx_pcap=%s", path);
    rig_open(&r, dev, 1);
    rig_set_mac(&r);
    no_room = true; /* frames wait in the device: nothing is taken, nothing dropped */
    rig_settle(&r);
    assert_int_equal(rig_stats(&r).seen, 0);
    no_room = false;
    rig_settle(&r);
    struct port_stats got = rig_stats(&r);
    assert_int_equal(got.seen, want.seen);
    assert_int_equal(got.to_udp, want.to_udp);
    assert_int_equal(got.handled, want.handled);
    assert_memory_equal(got.drop, want.drop, sizeof(want.drop));
    assert_int_equal(r.got[0], 300);
    assert_int_equal(r.got_bytes[0], 100 * (100 + 100 + 1200));
    assert_int_equal(got.in_reassembly, 0);
    assert_true(got.tx_frames + got.tx_dropped >= 100);
    rig_close(&r);
}

static void two_shards_share_one_queue_by_source(void **state)
{
    static struct rig r;
    struct port_stats want;
    char dev[600], path[512];
    snprintf(path, sizeof(path), "%s/b.pcap", tmp);
    pcap_mixture(path, 200, &want);
    snprintf(dev, sizeof(dev), "net_pcap1,rx_pcap=%s", path);
    rig_open(&r, dev, 2);
    rig_set_mac(&r);
    rig_settle(&r);
    struct port_stats got = rig_stats(&r);
    assert_int_equal(got.seen, want.seen);
    assert_int_equal(got.to_udp, want.to_udp);
    assert_memory_equal(got.drop, want.drop, sizeof(want.drop));
    assert_int_equal(r.counters[1]->port[0].seen, 0);
    assert_true(r.got[0] > 100);
    assert_true(r.got[1] > 100);
    assert_int_equal(r.got[0] + r.got[1], 600);
    assert_int_equal(r.lost, 0);
    rig_close(&r);
    /* with one message for everything some are lost: the listener's ledger hears of each */
    snprintf(dev, sizeof(dev), "net_pcap3,rx_pcap=%s", path);
    rig_open_with(&r, dev, 2, 1);
    rig_set_mac(&r);
    rig_settle(&r);
    assert_int_equal(rig_stats(&r).to_udp, want.to_udp);
    assert_true(r.lost > 0);
    assert_int_equal(r.got[0] + r.got[1] + r.lost, 600);
    rig_close(&r);
}

static void a_shard_polls_all_queues_that_are_its_own(void **state)
{
    static struct rig r;
    struct port_stats want, sum = {0};
    char dev[2048] = "net_pcap2", path[512];
    for (int q = 0; q < 3; q++) {
        snprintf(path, sizeof(path), "%s/q%d.pcap", tmp, q);
        pcap_mixture(path, 10 + (uint32_t)q, &want);
        sum.seen += want.seen;
        snprintf(dev + strlen(dev), sizeof(dev) - strlen(dev), ",rx_pcap=%s", path);
    }
    rig_open(&r, dev, 2);
    rig_set_mac(&r);
    rig_settle(&r);
    assert_int_equal(rig_stats(&r).seen, sum.seen);
    assert_int_equal(r.counters[0]->port[0].seen, 8 * (10 + 12));
    assert_int_equal(r.counters[1]->port[0].seen, 8 * 11);
    rig_close(&r);
}

/* Both ends of a ring device in our hands. */
static struct rte_ring *ring_in, *ring_out;

static void ring_send(struct rig *r, const struct frame *f)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(r->ports->pool[0]);
    assert_non_null(m);
    memcpy(rte_pktmbuf_append(m, (uint16_t)f->len), f->b, f->len);
    assert_int_equal(rte_ring_enqueue(ring_in, m), 0);
}
static bool ring_take(struct frame *f)
{
    void *p;
    if (rte_ring_dequeue(ring_out, &p) != 0)
        return false;
    struct rte_mbuf *m = p;
    f->len = m->pkt_len;
    memcpy(f->b, rte_pktmbuf_mtod(m, void *), f->len);
    rte_pktmbuf_free(m);
    return true;
}

static void answers_leave_and_receive_buffers_come_back(void **state)
{
    static struct rig r;
    struct frame f, out;
    ring_in = rte_ring_create("t_in", 256, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    ring_out = rte_ring_create("t_out", 32, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    assert_true(rte_eth_from_rings("t", &ring_in, 1, &ring_out, 1, 0) >= 0);
    rig_open(&r, "net_ring_t", 1);
    rig_set_mac(&r);
    unsigned before = rte_mempool_avail_count(r.ports->pool[0]);
    /* the link is found up within a few milliseconds: both addresses are announced */
    uint64_t end = clock_mono_ns() + UINT64_C(5000000000);
    while (rig_stats(&r).tx_frames < 2 && clock_mono_ns() < end)
        (void)rig_turn(&r);
    for (int i = 0; i < 2; i++)
        assert_true(ring_take(&out));
    assert_false(ring_take(&out));
    assert_int_equal(rig_stats(&r).link_up, 1);
    assert_int_equal(rig_stats(&r).link_changes, 1);
    /* down and up again: counted, and announced again */
    for (int up = 0; up < 2; up++) {
        assert_ok(up ? rte_eth_dev_set_link_up(r.ports->port[0].dev)
                     : rte_eth_dev_set_link_down(r.ports->port[0].dev));
        r.s[0].now_ns += 2 * PORT_SAMPLE_NS;
        (void)timer_poll(r.s[0].timers, r.s[0].now_ns, 16);
        (void)port_tx_flush(&r.s[0], 32);
        assert_int_equal(rig_stats(&r).link_up, up);
        assert_int_equal(rig_stats(&r).link_changes, 2 + up);
    }
    for (int i = 0; i < 2; i++)
        assert_true(ring_take(&out));
    assert_false(ring_take(&out));
    f = frame_echo4("ping", 4);
    ring_send(&r, &f);
    f = frame_arp(ARP_REQUEST, our_ip4);
    ring_send(&r, &f);
    f = frame_ns(our_ip6);
    ring_send(&r, &f);
    rig_settle(&r);
    assert_true(ring_take(&out));
    assert_int_equal(out.b[ETH_LEN + IP4_LEN], ICMP_ECHO_REPLY);
    assert_true(ring_take(&out));
    assert_int_equal(load_be16(out.b + ETH_TYPE), ETHERTYPE_ARP);
    assert_true(ring_take(&out));
    assert_int_equal(load_be16(out.b + ETH_TYPE), ETHERTYPE_IP6);
    assert_int_equal(r.counters[0]->port[0].handled, 3);
    assert_int_equal(r.counters[0]->port[0].tx_frames, 7);
    /* nobody takes them: what the queue refuses is counted and freed */
    f = frame_echo4("ping", 4);
    for (int i = 0; i < 60; i++)
        ring_send(&r, &f);
    rig_settle(&r);
    struct port_stats st = rig_stats(&r);
    assert_int_equal(st.tx_frames, 7 + 31); /* the ring holds one less than its size */
    assert_int_equal(st.tx_dropped, 60 - 31);
    while (ring_take(&out))
        continue;
    assert_int_equal(rte_mempool_avail_count(r.ports->pool[0]), before);
    rig_close(&r);
}

/* Answered a second later: what is looked at once a second is looked at. */
static void rig_sample(struct rig *r)
{
    r->s[0].now_ns += 2 * PORT_SAMPLE_NS;
    (void)timer_poll(r->s[0].timers, r->s[0].now_ns, 16);
}

/* One burst, two listeners, one message: the datagrams of the second listener find none. */
static void what_finds_no_message_to_its_shard_is_counted_to_the_datagram(void **state)
{
    static struct rig r;
    uint8_t source = 1, second = 2;
    struct frame f;
    ring_in = rte_ring_create("h_in", 64, SOCKET_ID_ANY, 0);
    ring_out = rte_ring_create("h_out", 64, SOCKET_ID_ANY, 0);
    assert_true(rte_eth_from_rings("h", &ring_in, 1, &ring_out, 1, 0) >= 0);
    rig_open_with(&r, "net_ring_h", 2, 1);
    rig_set_mac(&r);
    for (bool found = false; !found; source += !found) {
        struct net_addr a = net_addr_v4((const uint8_t[]){198, 51, 100, source}, 0);
        found = source_shard(&a, 2) == 1;
    }
    for (int round = 1; round <= 3; round++) {
        for (uint32_t i = 0; i < PORT_BURST; i++) {
            f = frame_udp4(source, 4000, i < 13 ? 514 : 515, "x", 1);
            ring_send(&r, &f);
        }
        rig_settle(&r);
        assert_int_equal(rig_stats(&r).to_udp, round * (int)PORT_BURST);
        assert_int_equal(r.got[1], round * 13);
        assert_int_equal(r.lost, round * ((int)PORT_BURST - 13));
        assert_int_equal(r.counters[0]->listener[second].drop[DDROP_handoff_full], r.lost);
        assert_int_equal(dgram_handover_stats(r.handover[0])->dropped, r.lost);
    }
    rig_close(&r);
}

/* Takes all packet buffers but `left`. */
static struct rte_mbuf *bufs_take(struct rig *r, uint32_t left)
{
    struct rte_mbuf *all = NULL, *m;
    while ((m = rte_pktmbuf_alloc(r->ports->pool[0])) != NULL) {
        m->next = all;
        all = m;
    }
    for (; left > 0; left--) {
        m = all;
        all = m->next;
        m->next = NULL;
        rte_pktmbuf_free(m);
    }
    return all;
}
static void bufs_give(struct rte_mbuf *all)
{
    while (all != NULL) {
        struct rte_mbuf *m = all;
        all = m->next;
        m->next = NULL;
        rte_pktmbuf_free(m);
    }
}

/* What the device counts is ours to the frame: it had no buffer for seven, and eleven were longer
 * than the buffer there was. */
static void what_the_device_could_not_receive_is_counted_to_the_frame(void **state)
{
    static struct rig r;
    static uint8_t data[1200];
    char dev[600], path[512];
    snprintf(path, sizeof(path), "%s/n.pcap", tmp);
    FILE *f = pcap_create(path);
    struct frame fr = frame_udp4(1, 4000, 514, data, 100);
    for (int i = 0; i < 7 + 5; i++)
        pcap_put(f, &fr);
    for (int i = 0; i < 11; i++) {
        uint32_t head[4] = {0, 0, 4000, 4000};
        static uint8_t frame[4000];
        assert_int_equal(fwrite(head, sizeof(head), 1, f), 1);
        assert_int_equal(fwrite(frame, sizeof(frame), 1, f), 1);
    }
    for (int i = 0; i < 6; i++)
        pcap_put(f, &fr);
    fclose(f);
    snprintf(dev, sizeof(dev), "net_pcap7,rx_pcap=%s", path);
    rig_open(&r, dev, 1);
    rig_set_mac(&r);
    struct rte_mbuf *taken = bufs_take(&r, 0);
    for (int i = 0; i < 7; i++)
        assert_int_equal(rig_turn(&r), 0);
    bufs_give(taken);
    taken = bufs_take(&r, 5); /* those five are received; then there is none */
    assert_int_equal(port_rx_poll(&r.s[0], 32), 5);
    (void)port_tx_flush(&r.s[0], 32);
    bufs_give(taken);
    taken = bufs_take(&r, 1);
    for (int i = 0; i < 10; i++) /* the sixth of that burst is one of the eleven */
        assert_int_equal(rig_turn(&r), 0);
    bufs_give(taken);
    rig_settle(&r);
    rig_sample(&r);
    struct port_stats st = rig_stats(&r);
    assert_int_equal(st.to_udp, 5 + 6);
    assert_int_equal(st.nic_nombuf, 7 + 1);
    assert_int_equal(st.nic_ierrors, 10);
    rig_sample(&r);
    assert_int_equal(rig_stats(&r).nic_nombuf, 7 + 1);
    assert_int_equal(rig_stats(&r).nic_ierrors, 10);
    rig_close(&r);
}

/* The exception path with an interface that is always full. */
static void what_the_host_does_not_take_is_counted_to_the_frame(void **state)
{
    static struct rig r;
    struct frame f = frame_eth(0x88cc);
    struct port_host *h = aligned_alloc(64, sizeof(*h));
    struct port_hosts *hs;
    f.len = 60;
    ring_in = rte_ring_create("x_in", 64, SOCKET_ID_ANY, 0);
    ring_out = rte_ring_create("x_out", 64, SOCKET_ID_ANY, 0);
    assert_true(rte_eth_from_rings("x", &ring_in, 1, &ring_out, 1, 0) >= 0);
    rig_open(&r, "net_ring_x", 1);
    rig_set_mac(&r);
    assert_ok(port_hosts_create(&hs));
    memset(h, 0, sizeof(*h));
    *h = (struct port_host){.all = hs, .shard_fd = -1, .len_max = 1518};
    h->tap = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(h->tap >= 0);
    assert_ok(host_alloc(h, 0, PORT_HOST_BUFS(64)));
    hs->host[hs->cnt++] = h;
    struct port *port = &r.ports->port[0];
    port->kernel = h;
    const struct port_stats *st = &r.counters[0]->port[0];
    clock_stands = true;
    /* above host_rate */
    h->rate = bucket_rate(1, 40);
    for (int i = 0; i < 40 + 17; i++)
        ring_send(&r, &f);
    rig_settle(&r);
    assert_int_equal(st->to_host, 40);
    assert_int_equal(st->drop[PDROP_host_limit], 17);
    /* above the share of the shard's time */
    r.s[0].ports->host_free_at = r.s[0].now_ns + UINT64_C(3600000000000);
    for (int i = 0; i < 9; i++)
        ring_send(&r, &f);
    rig_settle(&r);
    assert_int_equal(st->drop[PDROP_host_limit], 17 + 9);
    r.s[0].ports->host_free_at = 0;
    /* nobody takes them out of the ring */
    h->rate = bucket_rate(1000000, 1000000);
    h->full_at = 0;
    uint32_t room = rte_ring_free_count(h->to_kernel);
    assert_int_equal(room, PORT_HOST_RING - 1 - 40);
    for (uint32_t i = 0; i < room + 23; i++) {
        ring_send(&r, &f);
        rig_settle(&r);
        r.s[0].ports->host_free_at = 0;
    }
    assert_int_equal(st->to_host, PORT_HOST_RING - 1);
    assert_int_equal(st->drop[PDROP_host_full], 23);
    f.len = 1600; /* longer than the interface's frames */
    ring_send(&r, &f);
    rig_settle(&r);
    assert_int_equal(st->drop[PDROP_host_full], 23 + 1);
    /* the interface takes none */
    assert_int_equal(st->host_refused, 0);
    while (frames_to_kernel(h) > 0)
        continue;
    rig_sample(&r);
    assert_int_equal(st->host_refused, PORT_HOST_RING - 1);
    rig_sample(&r);
    assert_int_equal(st->host_refused, PORT_HOST_RING - 1);
    assert_int_equal(st->drop[PDROP_host_limit], 17 + 9);
    clock_stands = false;
    rig_close(&r);
    port_hosts_destroy(hs);
}

/* A frame as a device delivers it that has smaller buffers than frames. */
static void ring_send_in_pieces(struct rig *r, const uint8_t *b, uint32_t len, uint32_t piece)
{
    struct rte_mbuf *head = NULL;
    for (uint32_t at = 0; at < len; at += piece) {
        uint32_t n = len - at < piece ? len - at : piece;
        struct rte_mbuf *m = rte_pktmbuf_alloc(r->ports->pool[0]);
        assert_non_null(m);
        memcpy(rte_pktmbuf_append(m, (uint16_t)n), b + at, n);
        if (head == NULL)
            head = m;
        else
            assert_int_equal(rte_pktmbuf_chain(head, m), 0);
    }
    assert_int_equal(rte_ring_enqueue(ring_in, head), 0);
}

static void long_frames_come_in_several_buffers(void **state)
{
    static struct rig r;
    static uint8_t frame[9100];
    static uint8_t data[8900];
    for (uint32_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    ring_in = rte_ring_create("w_in", 256, SOCKET_ID_ANY, 0);
    ring_out = rte_ring_create("w_out", 64, SOCKET_ID_ANY, 0);
    assert_true(rte_eth_from_rings("w", &ring_in, 1, &ring_out, 1, 0) >= 0);
    rig_mtu = 9000;
    rig_open(&r, "net_ring_w", 1);
    rig_mtu = 0;
    rig_set_mac(&r);
    assert_true(r.ports->port[0].is_scattered);
    assert_int_equal(rte_pktmbuf_data_room_size(r.ports->pool[0]), RTE_MBUF_DEFAULT_BUF_SIZE);
    unsigned before = rte_mempool_avail_count(r.ports->pool[0]);
    struct frame head = frame_udp4(3, 4000, 514, data, 8); /* grown to the whole below */
    uint32_t len = head.len + sizeof(data) - 8;
    memcpy(frame, head.b, head.len);
    memcpy(frame + head.len, data + 8, sizeof(data) - 8);
    uint8_t *ip = frame + ETH_LEN, *udp = ip + IP4_LEN;
    store_be16(ip + IP4_TOTAL_LEN, (uint16_t)(len - ETH_LEN));
    store_be16(udp + UDP_LENGTH, (uint16_t)(UDP_LEN + sizeof(data)));
    memset(ip + IP4_CHECKSUM, 0, 2);
    memset(udp + UDP_CHECKSUM, 0, 2); /* none */
    uint16_t sum = ip_checksum(ip_sum(ip, IP4_LEN));
    memcpy(ip + IP4_CHECKSUM, &sum, 2);
    /* more than one turn can join, split in all sorts of places: inside headers, too */
    for (uint32_t i = 0; i < 150; i++)
        ring_send_in_pieces(&r, frame, len, i % 3 == 0 ? 2048 : i % 3 == 1 ? 1500 : 1029);
    ring_send_in_pieces(&r, frame, 60, 20);
    rig_settle(&r);
    assert_int_equal(r.got[0], 150);
    assert_int_equal(r.got_bytes[0], 150 * sizeof(data));
    assert_memory_equal(r.last, data, sizeof(r.last));
    struct port_stats st = rig_stats(&r);
    assert_int_equal(st.seen, 151);
    assert_int_equal(st.drop[PDROP_ip_header], 1); /* it ends before its IP packet does */
    /* longer than the MTU */
    static uint8_t huge[9100];
    memcpy(huge, frame, 64);
    ring_send_in_pieces(&r, huge, sizeof(huge), 2000);
    rig_settle(&r);
    assert_int_equal(rig_stats(&r).drop[PDROP_too_long], 1);
    struct frame out; /* the port's announcements of itself, where the clock made it send some */
    while (ring_take(&out))
        continue;
    assert_int_equal(rte_mempool_avail_count(r.ports->pool[0]), before);
    rig_close(&r);
}

static void fragments_keep_their_place_among_whole_datagrams(void **state)
{
    static struct rig r;
    struct frame f, fr[3];
    uint8_t data[200] = {0};
    ring_in = rte_ring_create("v_in", 64, SOCKET_ID_ANY, 0);
    ring_out = rte_ring_create("v_out", 64, SOCKET_ID_ANY, 0);
    assert_true(rte_eth_from_rings("v", &ring_in, 1, &ring_out, 1, 0) >= 0);
    rig_open(&r, "net_ring_v", 1);
    rig_set_mac(&r);
    /* one source, one listener, one burst: 1, 2 (in three pieces, with 3 among them), 4 */
    for (uint8_t n = 1; n <= 4; n++) {
        data[0] = n;
        if (n == 2)
            continue;
        if (n == 3) {
            data[0] = 2;
            struct frame whole = frame_udp4(3, 1, 514, data, 200);
            (void)frame_split4(&whole, 1, 80, fr, 3);
            ring_send(&r, &fr[0]);
            ring_send(&r, &fr[2]);
            data[0] = 3;
        }
        f = frame_udp4(3, 1, 514, data, 100);
        ring_send(&r, &f);
        if (n == 3)
            ring_send(&r, &fr[1]);
    }
    rig_settle(&r);
    assert_int_equal(r.got[0], 4);
    assert_int_equal(r.got_bytes[0], 500);
    assert_memory_equal(r.firsts, "\1\3\2\4", 4);
    assert_int_equal(rig_stats(&r).to_udp, 6);
    rig_close(&r);
}

static void fragments_left_over_are_drops_at_the_end(void **state)
{
    static struct rig r;
    struct frame fr[3];
    uint8_t data[200] = {0};
    ring_in = rte_ring_create("u_in", 64, SOCKET_ID_ANY, 0);
    ring_out = rte_ring_create("u_out", 64, SOCKET_ID_ANY, 0);
    assert_true(rte_eth_from_rings("u", &ring_in, 1, &ring_out, 1, 0) >= 0);
    rig_open(&r, "net_ring_u", 1);
    rig_set_mac(&r);
    struct frame whole = frame_udp4(3, 1, 514, data, 200);
    (void)frame_split4(&whole, 1, 80, fr, 3);
    ring_send(&r, &fr[0]);
    ring_send(&r, &fr[2]);
    ring_send(&r, &fr[2]); /* twice: one of them is too many */
    rig_settle(&r);
    assert_int_equal(r.counters[0]->port[0].in_reassembly, 2);
    assert_int_equal(r.counters[0]->port[0].drop[PDROP_frag_limit], 1);
    r.s[0].now_ns += (uint64_t)REASM_TIMEOUT_MS * 1000000;
    (void)timer_poll(r.s[0].timers, r.s[0].now_ns, 16);
    assert_int_equal(r.counters[0]->port[0].drop[PDROP_frag_timeout], 2);
    ring_send(&r, &fr[1]);
    rig_settle(&r);
    ring_send(&r, &fr[0]); /* in the queue when the stop comes, which still takes it */
    port_set_drain(r.s[0].ports, true);
    assert_false(port_set_is_drained(r.s[0].ports));
    rig_settle(&r);
    assert_true(port_set_is_drained(r.s[0].ports));
    assert_int_equal(r.counters[0]->port[0].drop[PDROP_restart], 2);
    assert_int_equal(r.counters[0]->port[0].in_reassembly, 0);
    rig_close(&r);
}

/* What an exception path changes: the port is polled while the log is behind. */
static void while_the_log_is_behind_others_are_served_and_datagrams_wait_in_order(void **state)
{
    static struct rig r;
    struct frame f, out;
    uint8_t data[100] = {0};
    ring_in = rte_ring_create("k_in", 64, SOCKET_ID_ANY, 0);
    ring_out = rte_ring_create("k_out", 64, SOCKET_ID_ANY, 0);
    assert_true(rte_eth_from_rings("k", &ring_in, 1, &ring_out, 1, 0) >= 0);
    rig_open(&r, "net_ring_k", 1);
    rig_set_mac(&r);
    unsigned before = rte_mempool_avail_count(r.ports->pool[0]);
    struct port_if *pi = &r.s[0].ports->ifs[0];
    pi->parked_cap = 4;
    pi->parked = calloc(pi->parked_cap, sizeof(struct rte_mbuf *));
    no_room = true;
    for (uint8_t n = 1; n <= 6;
         n++) { /* the first four wait, among echo requests; two are too many */
        data[0] = n;
        f = frame_udp4(3, 1, 514, data, 100);
        ring_send(&r, &f);
        f = frame_echo4("ping", 4);
        ring_send(&r, &f);
    }
    rig_settle(&r);
    struct port_stats st = rig_stats(&r);
    assert_int_equal(r.got[0], 0);
    assert_int_equal(st.handled, 6);
    assert_int_equal(st.drop[PDROP_log_behind], 2);
    assert_int_equal(st.seen, 8); /* what waits is in the queue still */
    for (int i = 0; i < 6; i++) {
        do /* or an announcement */
            assert_true(ring_take(&out));
        while (load_be16(out.b + ETH_TYPE) != ETHERTYPE_IP4);
    }
    no_room = false;
    data[0] = 7;
    f = frame_udp4(3, 1, 514, data, 100);
    ring_send(&r, &f);
    rig_settle(&r);
    assert_int_equal(r.got[0], 5);
    assert_memory_equal(r.firsts, "\1\2\3\4\7", 5);
    assert_int_equal(rig_stats(&r).to_udp, 5);
    /* the ring of parked frames goes round; at the end they are drops */
    no_room = true;
    for (int i = 0; i < 3; i++)
        ring_send(&r, &f);
    rig_settle(&r);
    assert_int_equal(rig_stats(&r).seen, 13);
    port_set_drain(r.s[0].ports, false);
    assert_int_equal(rig_stats(&r).drop[PDROP_restart], 3);
    assert_int_equal(rig_stats(&r).seen, 16);
    while (ring_take(&out))
        continue;
    no_room = false;
    assert_int_equal(rte_mempool_avail_count(r.ports->pool[0]), before);
    rig_close(&r);
}

static void refused(const char *device, int want, const char *text, void (*change)(struct conf *))
{
    struct conf *c = frames_conf();
    struct ports *p = NULL;
    char err[1024] = "";
    strcpy(c->ports[0].device, device);
    if (change != NULL)
        change(c);
    struct ports_cfg cfg = {.conf = c, .shard_cnt = 1};
    int rc = ports_open(&cfg, &p, err, sizeof(err));
    if (rc != want || strstr(err, text) == NULL)
        fail_msg("%s: rc %d, \"%s\"", device, rc, err);
    assert_null(p);
    free(c);
}
static void with_3_queues(struct conf *c)
{
    c->ports[0].queues = 3;
}
static void with_few_buffers(struct conf *c)
{
    c->mbufs = 1100;
}
static void with_unknown_port(struct conf *c)
{
    strcpy(c->listeners[1].port_name, "elsewhere");
}

static void a_port_that_cannot_work_says_why(void **state)
{
    refused("net_af_packet0,iface=no-such-if", -ENODEV,
            "port p (net_af_packet0,iface=no-such-if): there is no network interface 'no-such-if'",
            NULL);
    refused("net_af_packet0", -E_CONFIG, "iface=INTERFACE is missing", NULL);
    refused("net_pcap5,rx_pcap=/no/such/file", -ENOENT, "cannot read /no/such/file", NULL);
    refused("net_nosuch0", -EFAULT, "unknown driver or wrong arguments", NULL);
    refused("0000:ff:1f.7", -ENODEV, "no PCI device with this address", NULL);
    refused("ff:1f.7", -ENODEV, "no PCI device with this address", NULL);
    char dev[600];
    snprintf(dev, sizeof(dev), "net_pcap6,rx_pcap=%s/a.pcap", tmp);
    refused(dev, -E_CONFIG, "queues is 3, but the device has 1", with_3_queues);
    refused("net_null0", -E_CONFIG, "memory.mbufs is 1100", with_few_buffers);
    refused("net_null0", -E_CONFIG, "listener l1: there is no port named 'elsewhere'",
            with_unknown_port);
}

int main(void)
{
    static char *argv[] = {"test_port",      "--no-huge", "--no-shconf", "--no-pci",
                           "--no-telemetry", "-m",        "96",          "--log-level",
                           "error",          "-l",        "0",           NULL};
    if (rte_eal_init(11, argv) < 0) {
        fprintf(stderr, "EAL does not start here\n");
        return 77; /* skipped */
    }
    tmp = test_tmpdir();
    const struct CMUnitTest tests[] = {
        TEST(frames_of_a_file_are_all_accounted_for),
        TEST(two_shards_share_one_queue_by_source),
        TEST(a_shard_polls_all_queues_that_are_its_own),
        TEST(answers_leave_and_receive_buffers_come_back),
        TEST(what_finds_no_message_to_its_shard_is_counted_to_the_datagram),
        TEST(what_the_device_could_not_receive_is_counted_to_the_frame),
        TEST(what_the_host_does_not_take_is_counted_to_the_frame),
        TEST(long_frames_come_in_several_buffers),
        TEST(fragments_keep_their_place_among_whole_datagrams),
        TEST(fragments_left_over_are_drops_at_the_end),
        TEST(while_the_log_is_behind_others_are_served_and_datagrams_wait_in_order),
        TEST(a_port_that_cannot_work_says_why),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    test_tmpdir_remove(tmp);
    (void)rte_eal_cleanup();
    return rc;
}
