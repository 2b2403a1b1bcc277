/* link_server.c - see link_server.h. */
#include "dataplane/control/link_server.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/iface/ctl_proto.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct bytes {
    uint8_t *p;
    size_t len, cap, head; /* head: consumed */
};
struct link_server {
    int listen_fd, fd; /* fd -1: nobody */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    const struct link_ops *ops;
    void *arg;
    struct bytes in, out;
};

static int bytes_reserve(struct bytes *b, size_t more)
{
    if (b->head > 0) {
        memmove(b->p, b->p + b->head, b->len - b->head);
        b->len -= b->head;
        b->head = 0;
    }
    if (b->len + more <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap : 65536;
    while (cap < b->len + more)
        cap *= 2;
    uint8_t *p = realloc(b->p, cap);
    if (p == NULL)
        return -ENOMEM;
    b->p = p;
    b->cap = cap;
    return 0;
}

static void bytes_clear(struct bytes *b)
{
    free(b->p);
    memset(b, 0, sizeof(*b));
}

int link_server_create(const char *path, const struct link_ops *ops, void *arg,
                       struct link_server **ret)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path))
        return -ENAMETOOLONG;
    struct link_server *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return -ENOMEM;
    l->fd = -1;
    l->ops = ops;
    l->arg = arg;
    strcpy(l->path, path);
    strcpy(sa.sun_path, path);
    int rc;
    l->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->listen_fd < 0) {
        rc = -errno;
        goto undo_alloc;
    }
    if (unlink(path) < 0 && errno != ENOENT) {
        rc = -errno;
        goto undo_socket;
    }
    mode_t mask = umask(0117); /* the socket is born 0660 */
    rc = bind(l->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
    umask(mask);
    if (rc < 0)
        goto undo_socket;
    if (listen(l->listen_fd, 4) < 0) {
        rc = -errno;
        goto undo_bind;
    }
    *ret = l;
    return 0;
undo_bind:
    unlink(path);
undo_socket:
    close(l->listen_fd);
undo_alloc:
    free(l);
    return rc;
}

static void disconnect(struct link_server *l)
{
    if (l->fd < 0)
        return;
    close(l->fd);
    l->fd = -1;
    bytes_clear(&l->in);
    bytes_clear(&l->out);
    l->ops->on_disconnect(l->arg);
}

void link_server_destroy(struct link_server *l)
{
    if (l == NULL)
        return;
    if (l->fd >= 0)
        close(l->fd);
    bytes_clear(&l->in);
    bytes_clear(&l->out);
    close(l->listen_fd);
    unlink(l->path);
    free(l);
}

bool link_server_is_connected(const struct link_server *l)
{
    return l->fd >= 0;
}

/* Write what the socket takes. */
static void flush_out(struct link_server *l)
{
    while (l->fd >= 0 && l->out.head < l->out.len) {
        ssize_t n = send(l->fd, l->out.p + l->out.head, l->out.len - l->out.head,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                disconnect(l);
            return;
        }
        l->out.head += (size_t)n;
    }
}

void link_server_send(struct link_server *l, uint16_t type, uint64_t id, struct span body)
{
    if (l->fd < 0)
        return;
    ASSERT(body.len <= CTL_BODY_MAX);
    size_t len = CTL_FRAME_HEAD + (size_t)body.len;
    if (l->out.len - l->out.head + len > LINK_UNSENT_MAX || bytes_reserve(&l->out, len) < 0) {
        LOG_WARN("sluiced does not read: closing its connection with %zu bytes unsent",
                 l->out.len - l->out.head);
        disconnect(l);
        return;
    }
    ctl_frame_head(l->out.p + l->out.len, type, id, body.len);
    if (body.len > 0)
        memcpy(l->out.p + l->out.len + CTL_FRAME_HEAD, body.p, body.len);
    l->out.len += len;
    flush_out(l);
}

static void accept_peer(struct link_server *l)
{
    int fd = accept4(l->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
        (cred.uid != 0 && cred.uid != geteuid())) {
        LOG_WARN("control socket: a connection of another user was refused");
        close(fd);
        return;
    }
    if (l->fd >= 0) {
        LOG_WARN("control socket: pid %d was refused, another sluiced is connected", (int)cred.pid);
        close(fd);
        return;
    }
    l->fd = fd;
    l->ops->on_connect(l->arg);
}

/* All whole frames that are there. on_frame may send, but never receives, so the bytes stay put. */
static int take_frames(struct link_server *l)
{
    while (l->fd >= 0) {
        struct ctl_frame f;
        size_t left = l->in.len - l->in.head;
        int len = ctl_frame_parse(span_of(l->in.p + l->in.head, (uint32_t)left), &f);
        if (len == -EAGAIN)
            return 0;
        if (len < 0)
            return len;
        l->in.head += (size_t)len;
        int rc = l->ops->on_frame(l->arg, f.type, f.id, f.body);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void read_peer(struct link_server *l)
{
    for (;;) {
        if (bytes_reserve(&l->in, 65536) < 0) {
            disconnect(l);
            return;
        }
        ssize_t n = recv(l->fd, l->in.p + l->in.len, l->in.cap - l->in.len, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) {
            disconnect(l);
            return;
        }
        l->in.len += (size_t)n;
        int rc = take_frames(l);
        if (rc < 0) {
            LOG_ERROR("control socket: %s; closing the connection", err_text(rc));
            disconnect(l);
        }
        if (l->fd < 0)
            return;
    }
}

int link_server_pollfds(const struct link_server *l, struct pollfd *fds)
{
    fds[0] = (struct pollfd){.fd = l->listen_fd, .events = POLLIN};
    if (l->fd < 0)
        return 1;
    fds[1] = (struct pollfd){.fd = l->fd, .events = POLLIN};
    if (l->out.head < l->out.len)
        fds[1].events |= POLLOUT;
    return 2;
}

void link_server_run(struct link_server *l, const struct pollfd *fds, int cnt)
{
    if (cnt > 1 && l->fd == fds[1].fd) {
        if (fds[1].revents & POLLOUT)
            flush_out(l);
        if (l->fd >= 0 && (fds[1].revents & (POLLIN | POLLHUP | POLLERR)))
            read_peer(l);
    }
    if (fds[0].revents & POLLIN)
        accept_peer(l);
}
