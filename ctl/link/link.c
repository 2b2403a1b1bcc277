/* link.c - see link.h */
#include "ctl/link/link.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_CHUNK 65536
#define HELLO_ARENA_MAX (256u << 20)

enum state { L_DOWN, L_GREETING, L_UP };
struct asked {
    uint64_t id; /* 0: free */
    uint16_t answer_type;
    uint64_t deadline_ns;
    link_answer_fn *done;
    void *arg;
};
struct bytes {
    uint8_t *p;
    size_t len, cap;
};
struct link {
    const struct link_ops *ops;
    void *arg;
    char path[108];
    enum state state;
    int fd;
    int peer_pid;
    uint64_t generation; /* counts connections, so that a callback's close is noticed */
    struct bytes in, out;
    uint64_t last_id;
    struct asked asked[LINK_ASKED_MAX];
};

static int bytes_reserve(struct bytes *b, size_t more, size_t max)
{
    if (b->len + more > max)
        return -E_LIMIT;
    if (b->len + more <= b->cap)
        return 0;
    size_t cap = b->cap == 0 ? READ_CHUNK : b->cap;
    while (cap < b->len + more)
        cap *= 2;
    uint8_t *p = realloc(b->p, cap);
    if (p == NULL)
        return -ENOMEM;
    b->p = p;
    b->cap = cap;
    return 0;
}
static void bytes_consume(struct bytes *b, size_t n)
{
    b->len -= n;
    if (b->len > 0)
        memmove(b->p, b->p + n, b->len);
}

int link_create(const char *path, const struct link_ops *ops, void *arg, struct link **ret)
{
    struct link *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return -ENOMEM;
    if (snprintf(l->path, sizeof(l->path), "%s", path) >= (int)sizeof(l->path)) {
        free(l);
        return -ENAMETOOLONG;
    }
    l->ops = ops;
    l->arg = arg;
    l->fd = -1;
    *ret = l;
    return 0;
}
void link_destroy(struct link *l)
{
    if (l == NULL)
        return;
    link_close(l, "stopping");
    free(l->in.p);
    free(l->out.p);
    free(l);
}
int link_connect(struct link *l)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (l->state != L_DOWN)
        return -EALREADY;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    memcpy(sa.sun_path, l->path, sizeof(sa.sun_path));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    l->peer_pid = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        l->peer_pid = (int)peer.pid;
    l->fd = fd;
    l->state = L_GREETING;
    l->generation++;
    return 0;
}
void link_close(struct link *l, const char *why)
{
    if (l->state == L_DOWN)
        return;
    close(l->fd);
    l->fd = -1;
    l->state = L_DOWN;
    l->peer_pid = 0;
    l->in.len = l->out.len = 0;
    l->generation++;
    for (uint32_t i = 0; i < LINK_ASKED_MAX; i++) {
        struct asked a = l->asked[i];
        if (a.id == 0)
            continue;
        l->asked[i].id = 0;
        (void)a.done(a.arg, -ENOTCONN, NULL); /* "more" means nothing now */
    }
    l->ops->on_down(l->arg, why);
}
bool link_is_down(const struct link *l)
{
    return l->state == L_DOWN;
}
bool link_is_up(const struct link *l)
{
    return l->state == L_UP;
}
int link_peer_pid(const struct link *l)
{
    return l->peer_pid;
}
int link_fd(const struct link *l)
{
    return l->fd;
}
short link_events(const struct link *l)
{
    return (short)(POLLIN | (l->out.len > 0 ? POLLOUT : 0));
}

/* ---- sending ---- */

static void flush(struct link *l)
{
    size_t done = 0;
    while (done < l->out.len) {
        ssize_t n = send(l->fd, l->out.p + done, l->out.len - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            link_close(l, "the connection broke");
            return;
        }
        done += (size_t)n;
    }
    bytes_consume(&l->out, done);
}
void link_send(struct link *l, uint16_t type, uint64_t id, struct span body)
{
    if (l->state == L_DOWN)
        return;
    ASSERT(body.len <= CTL_BODY_MAX);
    bool idle = l->out.len == 0;
    if (bytes_reserve(&l->out, CTL_FRAME_HEAD + (size_t)body.len, LINK_UNSENT_MAX) < 0) {
        link_close(l, "the dataplane does not read");
        return;
    }
    ctl_frame_head(l->out.p + l->out.len, type, id, body.len);
    if (body.len > 0)
        memcpy(l->out.p + l->out.len + CTL_FRAME_HEAD, body.p, body.len);
    l->out.len += CTL_FRAME_HEAD + (size_t)body.len;
    if (idle)
        flush(l);
}
int link_ask(struct link *l, const struct link_ask *ask)
{
    if (l->state != L_UP)
        return -ENOTCONN;
    for (uint32_t i = 0; i < LINK_ASKED_MAX; i++) {
        struct asked *a = &l->asked[i];
        if (a->id != 0)
            continue;
        *a = (struct asked){.id = ++l->last_id,
                            .answer_type = ask->answer_type,
                            .deadline_ns = clock_mono_ns() + ask->timeout_ms * UINT64_C(1000000),
                            .done = ask->done,
                            .arg = ask->arg};
        link_send(l, ask->type, a->id, ask->body);
        return 0;
    }
    return -E_BUSY;
}
int link_tick(struct link *l)
{
    uint64_t now = clock_mono_ns(), next = UINT64_MAX;
    for (uint32_t i = 0; i < LINK_ASKED_MAX; i++) {
        struct asked a = l->asked[i];
        if (a.id == 0)
            continue;
        if (a.deadline_ns <= now) {
            l->asked[i].id = 0;
            (void)a.done(a.arg, -E_TIMED_OUT, NULL); /* as above */
        } else if (a.deadline_ns < next) {
            next = a.deadline_ns;
        }
    }
    if (next == UINT64_MAX)
        return -1;
    uint64_t ms = (next - now + 999999) / 1000000;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* ---- receiving ---- */

static int hello_take(struct link *l, const struct ctl_frame *f)
{
    struct wire_reader r;
    struct arena a;
    struct ctl_hello h;
    if (f->type != CTL_HELLO)
        return -E_MALFORMED;
    wire_reader_init(&r, f->body);
    arena_init(&a, HELLO_ARENA_MAX);
    int rc = ctl_hello_read(&r, CTL_MESSAGE_VERSION, &a, &h);
    if (rc == 0) {
        l->state = L_UP;
        l->ops->on_hello(l->arg, &h);
    }
    arena_fini(&a);
    return rc;
}
static int frame_take(struct link *l, const struct ctl_frame *f)
{
    if (l->state == L_GREETING)
        return hello_take(l, f);
    for (uint32_t i = 0; i < LINK_ASKED_MAX && f->id != 0; i++) {
        struct asked *a = &l->asked[i];
        if (a->id != f->id || a->answer_type != f->type)
            continue;
        uint64_t id = a->id;
        bool more = a->done(a->arg, 0, f);
        if (!more && a->id == id)
            a->id = 0;
        return 0;
    }
    return l->ops->on_frame(l->arg, f);
}
static void frames_take(struct link *l)
{
    uint64_t generation = l->generation;
    size_t at = 0;
    while (l->in.len > at) {
        struct ctl_frame f;
        size_t left = l->in.len - at;
        int len = ctl_frame_parse(
            span_of(l->in.p + at, left > UINT32_MAX ? UINT32_MAX : (uint32_t)left), &f);
        if (len == -EAGAIN)
            break;
        int rc = len < 0 ? len : frame_take(l, &f);
        if (l->generation != generation)
            return; /* a callback closed the connection */
        if (rc < 0) {
            char why[160];
            snprintf(why, sizeof(why), "a frame cannot be read (%s)", err_text(rc));
            link_close(l, why);
            return;
        }
        at += (size_t)len;
    }
    bytes_consume(&l->in, at);
}
void link_run(struct link *l, short revents)
{
    uint64_t generation = l->generation;
    if (l->state == L_DOWN)
        return;
    if (revents & POLLOUT)
        flush(l);
    while (l->generation == generation && (revents & (POLLIN | POLLHUP | POLLERR))) {
        if (bytes_reserve(&l->in, READ_CHUNK, 2 * (size_t)CTL_BODY_MAX + READ_CHUNK) < 0) {
            link_close(l, "out of memory");
            return;
        }
        ssize_t n = recv(l->fd, l->in.p + l->in.len, READ_CHUNK, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            link_close(l, "the dataplane closed it");
            return;
        }
        l->in.len += (size_t)n;
        frames_take(l);
    }
}
