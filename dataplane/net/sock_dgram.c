/* sock_dgram.c - see sock_dgram.h.
 *
 * A provided buffer as multishot recvmsg fills it:
 *     | io_uring_recvmsg_out | name (NAME_LEN) | control (CTRL_LEN) | payload |
 * The three lengths are those of the msghdr given at start; recvmsg_out says how much of each was
 * used. A buffer is with the kernel, in the queue (received, not yet delivered), or in the turn
 * (delivered, still borrowed). */
#include "dataplane/net/sock_dgram.h"
#include "lib/base/assert.h"
#include "lib/iface/net_addr.h"
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME_LEN ((uint32_t)sizeof(struct sockaddr_in6))
#define CTRL_LEN ((uint32_t)CMSG_SPACE(sizeof(uint32_t)))
/* The name is padded so that control messages are aligned as struct cmsghdr asks. */
#define NAME_AREA ((NAME_LEN + 7u) & ~7u)
#define HEAD_LEN ((uint32_t)sizeof(struct io_uring_recvmsg_out) + NAME_AREA + CTRL_LEN)

struct sock {
    struct uring_op op;
    struct sock_dgrams *sd;
    int fd; /* -1: closed */
    uint16_t listener;
    bool armed;
    bool draining;      /* the kernel refuses new datagrams; those it has are still coming */
    bool closing;       /* nothing comes any more but the end of the receive operation */
    uint32_t ovfl_last; /* the kernel's 32-bit counter as last seen */
    struct sock_dgram_stats st;
};

struct arrived {
    uint16_t buf_id, sock;
    uint32_t len; /* of the whole buffer that was filled */
};

struct sock_dgrams {
    struct sock_dgrams_cfg cfg;
    struct uring_bufs *bufs;
    uint32_t buf_size;
    struct msghdr mh; /* lengths only: the same for all sockets */
    struct sock socks[DGRAM_SOCKS_MAX];
    uint32_t sock_cnt;
    struct arrived *queue; /* ring of buf_cnt: more cannot be out */
    uint32_t head, tail;
    uint16_t *turn; /* buffers delivered in this turn */
    uint32_t turn_cnt;
    uint32_t ops;
    struct uring_op op_cancel;
};

static void on_recv(struct uring_op *op, int res, int buf_id, bool more);

static void on_cancel(struct uring_op *op, int res, int buf_id, bool more)
{
    container_of(op, struct sock_dgrams, op_cancel)->ops--;
}

static void sock_arm(struct sock *s)
{
    if (s->armed || s->closing)
        return;
    s->armed = true;
    s->sd->ops++;
    uring_recvmsg_multishot(s->sd->cfg.uring, &s->op, s->fd, &s->sd->mh, s->sd->cfg.buf_group);
}

/* `seen` counts drops since the socket was opened, modulo 2^32. Counters are read at different
 * times (with each datagram, and by sync), so an older value may follow a newer one. */
static void ovfl_update(struct sock *s, uint32_t seen)
{
    uint32_t delta = seen - s->ovfl_last;
    if (delta == 0 || delta > UINT32_MAX / 2)
        return;
    s->ovfl_last = seen;
    s->st.kernel_drops += delta;
}

static void ovfl_sync(struct sock *s)
{
    uint32_t mem[SK_MEMINFO_VARS];
    socklen_t len = sizeof(mem);
    if (s->fd >= 0 && getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, mem, &len) == 0 &&
        len > SK_MEMINFO_DROPS * sizeof(mem[0]))
        ovfl_update(s, mem[SK_MEMINFO_DROPS]);
}

static void sock_close(struct sock *s)
{
    ovfl_sync(s);
    if (s->fd >= 0)
        (void)close(s->fd); /* received only: nothing to lose */
    s->fd = -1;
}

static void on_recv(struct uring_op *op, int res, int buf_id, bool more)
{
    struct sock *s = container_of(op, struct sock, op);
    struct sock_dgrams *sd = s->sd;
    if (!more) {
        s->armed = false;
        sd->ops--;
    }
    if (buf_id >= 0 && res >= 0) {
        struct arrived *a = &sd->queue[sd->tail++ & (sd->cfg.buf_cnt - 1)];
        *a = (struct arrived){(uint16_t)buf_id, (uint16_t)(s - sd->socks), (uint32_t)res};
        ASSERT(sd->tail - sd->head <= sd->cfg.buf_cnt);
    } else if (buf_id >= 0) {
        uring_bufs_give_back(sd->bufs, buf_id);
    }
    if (res == -ENOBUFS)
        s->st.nobuf++;
    else if (res < 0 && res != -ECANCELED)
        s->st.errors++;
    if (!s->armed && s->closing)
        sock_close(s);
    /* Else turn_end arms it again, once per turn whatever the reason was. */
}

/* ---- stopping ---- */

/* A filter that takes nothing: the kernel drops and counts what arrives from now on. */
static bool sock_refuse(struct sock *s)
{
    struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog prog = {.len = 1, .filter = &none};
    return setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0;
}

static bool sock_has_more(const struct sock *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0 && (p.revents & POLLIN) != 0;
}

static void sock_end(struct sock *s)
{
    if (s->closing)
        return;
    s->closing = true;
    if (!s->armed) {
        sock_close(s);
        return;
    }
    s->sd->ops++;
    uring_cancel(s->sd->cfg.uring, &s->sd->op_cancel, &s->op);
}

/* ---- one buffer -> one datagram ---- */

/* Pure. False: not a datagram that we understand. */
static bool dgram_parse(const uint8_t *buf, uint32_t len, struct dgram *ret_dg, bool *ret_has_ovfl,
                        uint32_t *ret_ovfl)
{
    struct io_uring_recvmsg_out out;
    *ret_has_ovfl = false;
    if (len < HEAD_LEN)
        return false;
    memcpy(&out, buf, sizeof(out));
    const uint8_t *name = buf + sizeof(out);
    const uint8_t *ctrl = name + NAME_AREA;
    const uint8_t *payload = ctrl + CTRL_LEN;
    uint32_t payload_len = len - HEAD_LEN;
    if (out.controllen >= CMSG_LEN(sizeof(uint32_t)) && out.controllen <= CTRL_LEN) {
        struct cmsghdr cm;
        memcpy(&cm, ctrl, sizeof(cm));
        if (cm.cmsg_level == SOL_SOCKET && cm.cmsg_type == SO_RXQ_OVFL &&
            cm.cmsg_len == CMSG_LEN(sizeof(uint32_t))) {
            memcpy(ret_ovfl, ctrl + CMSG_LEN(0), sizeof(*ret_ovfl));
            *ret_has_ovfl = true;
        }
    }
    struct sockaddr_storage ss;
    if (out.namelen > NAME_LEN)
        return false;
    memset(&ss, 0, sizeof(ss));
    memcpy(&ss, name, out.namelen);
    if (net_addr_from_sockaddr((struct sockaddr *)&ss, out.namelen, &ret_dg->peer) < 0)
        return false;
    if (payload_len > out.payloadlen)
        payload_len = out.payloadlen;
    ret_dg->bytes = span_of(payload, payload_len);
    ret_dg->truncated = (out.flags & MSG_TRUNC) != 0;
    return true;
}

static void burst_deliver(struct sock_dgrams *sd, uint16_t listener, struct dgram *dg, uint32_t n)
{
    if (sd->cfg.handover != NULL)
        n = dgram_handover_split(sd->cfg.handover, listener, dg, n);
    if (n > 0)
        (void)sd->cfg.deliver(sd->cfg.arg, listener, dg, n); /* it counts what it refuses */
}

/* @hot. One run of queued datagrams of one socket. Returns how many queue entries it used. */
static uint32_t burst_run(struct sock_dgrams *sd, int64_t wall_ms, uint32_t budget)
{
    struct dgram dg[DGRAM_BURST_MAX];
    uint32_t mask = sd->cfg.buf_cnt - 1, used = 0, n = 0;
    uint16_t which = sd->queue[sd->head & mask].sock;
    struct sock *s = &sd->socks[which];
    while (used < budget && sd->head != sd->tail) {
        const struct arrived *a = &sd->queue[sd->head & mask];
        if (a->sock != which)
            break;
        bool has_ovfl;
        uint32_t ovfl;
        sd->head++;
        used++;
        sd->turn[sd->turn_cnt++] = a->buf_id;
        bool good =
            dgram_parse(uring_bufs_ptr(sd->bufs, a->buf_id), a->len, &dg[n], &has_ovfl, &ovfl);
        if (has_ovfl)
            ovfl_update(s, ovfl);
        s->st.received++;
        if (!good) {
            s->st.malformed++;
            continue;
        }
        if (dg[n].bytes.len > sd->cfg.payload_max) { /* buffers are rounded up */
            dg[n].bytes.len = sd->cfg.payload_max;
            dg[n].truncated = true;
        }
        s->st.bytes += dg[n].bytes.len;
        s->st.truncated += dg[n].truncated;
        dg[n++].arrival_ms = wall_ms;
    }
    burst_deliver(sd, s->listener, dg, n);
    return used;
}

uint32_t sock_dgrams_poll(struct sock_dgrams *sd, int64_t wall_ms, uint32_t budget)
{
    uint32_t done = 0;
    sock_dgrams_turn_end(sd); /* of the turn before, if nobody did */
    while (done < budget && sd->head != sd->tail) {
        uint32_t n = budget - done < DGRAM_BURST_MAX ? budget - done : DGRAM_BURST_MAX;
        if (sd->cfg.room != NULL)
            n = sd->cfg.room(sd->cfg.arg, n);
        if (n == 0)
            break;
        done += burst_run(sd, wall_ms, n);
    }
    return done;
}

void sock_dgrams_turn_end(struct sock_dgrams *sd)
{
    for (uint32_t i = 0; i < sd->turn_cnt; i++)
        uring_bufs_give_back(sd->bufs, sd->turn[i]);
    sd->turn_cnt = 0;
    if (sd->tail - sd->head == sd->cfg.buf_cnt)
        return; /* no buffer to receive into */
    for (uint32_t i = 0; i < sd->sock_cnt; i++) {
        struct sock *s = &sd->socks[i];
        if (unlikely(s->draining) && !s->closing && !sock_has_more(s))
            sock_end(s);
        sock_arm(s);
    }
}

bool sock_dgrams_pending(const struct sock_dgrams *sd)
{
    return sd->head != sd->tail || sd->turn_cnt > 0;
}

void sock_dgrams_sync(struct sock_dgrams *sd)
{
    for (uint32_t i = 0; i < sd->sock_cnt; i++)
        ovfl_sync(&sd->socks[i]);
}

/* ---- life ---- */

int sock_dgrams_add(struct sock_dgrams *sd, uint16_t listener, int fd)
{
    if (sd->sock_cnt == DGRAM_SOCKS_MAX) {
        (void)close(fd); /* received only: nothing to lose */
        return -ENOSPC;
    }
    struct sock *s = &sd->socks[sd->sock_cnt++];
    *s = (struct sock){.sd = sd, .fd = fd, .listener = listener, .op.done = on_recv};
    sock_arm(s);
    return 0;
}

void sock_dgrams_drain(struct sock_dgrams *sd)
{
    for (uint32_t i = 0; i < sd->sock_cnt; i++) {
        struct sock *s = &sd->socks[i];
        s->draining = true;
        if (!s->closing && !sock_refuse(s))
            sock_end(s); /* else a busy sender would never let us end */
    }
}

bool sock_dgrams_is_drained(const struct sock_dgrams *sd)
{
    for (uint32_t i = 0; i < sd->sock_cnt; i++)
        if (sd->socks[i].fd >= 0)
            return false;
    return !sock_dgrams_pending(sd);
}

const struct sock_dgram_stats *sock_dgrams_stats(const struct sock_dgrams *sd, uint16_t listener)
{
    for (uint32_t i = 0; i < sd->sock_cnt; i++)
        if (sd->socks[i].listener == listener)
            return &sd->socks[i].st;
    return NULL;
}

int sock_dgrams_create(const struct sock_dgrams_cfg *cfg, struct sock_dgrams **ret)
{
    struct sock_dgrams *sd = calloc(1, sizeof(*sd));
    if (sd == NULL)
        return -ENOMEM;
    sd->cfg = *cfg;
    uint32_t cnt = 1;
    while (cnt < (cfg->buf_cnt == 0 ? 1024 : cfg->buf_cnt) && cnt < 32768)
        cnt *= 2;
    sd->cfg.buf_cnt = cnt;
    if (sd->cfg.payload_max == 0)
        sd->cfg.payload_max = 8192;
    sd->buf_size = (HEAD_LEN + sd->cfg.payload_max + 63) & ~63u;
    sd->mh = (struct msghdr){.msg_namelen = NAME_AREA, .msg_controllen = CTRL_LEN};
    sd->op_cancel.done = on_cancel;
    int rc = -ENOMEM;
    sd->queue = calloc(cnt, sizeof(*sd->queue));
    sd->turn = calloc(cnt, sizeof(*sd->turn));
    if (sd->queue == NULL || sd->turn == NULL)
        goto undo;
    rc = uring_bufs_create(cfg->uring, cfg->buf_group, cnt, sd->buf_size, &sd->bufs);
    if (rc < 0)
        goto undo;
    *ret = sd;
    return 0;
undo:
    free(sd->queue);
    free(sd->turn);
    free(sd);
    return rc;
}

void sock_dgrams_destroy(struct sock_dgrams *sd)
{
    if (sd == NULL)
        return;
    for (uint32_t i = 0; i < sd->sock_cnt; i++)
        sock_end(&sd->socks[i]);
    while (sd->ops > 0)
        if (uring_reap(sd->cfg.uring, 256) == 0)
            uring_wait(sd->cfg.uring, 10000000);
    uring_bufs_destroy(sd->bufs);
    free(sd->queue);
    free(sd->turn);
    free(sd);
}
