/* http.c - see http.h. Two libmicrohttpd daemons in external epoll mode share one handler. */
#include "ctl/daemon.h"
#include "ctl/http/http_int.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/iface/net_addr.h"
#include <ctype.h>
#include <limits.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
#define IDLE_S 60

enum door { DOOR_ANY, DOOR_UNIX };
static const struct route {
    const char *method, *path;
    enum door door;
    http_handler_fn *handler;
} routes[] = {
#define ROUTE(method, path, door, handler) {method, path, DOOR_##door, handler},
#include "ctl/http/routes.def"
#undef ROUTE
};
struct door_arg {
    struct daemon *d;
    bool over_unix;
};
struct http {
    struct daemon *d;
    struct MHD_Daemon *tcp, *unix_;
    int tcp_epoll, unix_epoll;
    struct net_addr bound;
    struct door_arg arg[2];
    char sock_path[PATH_MAX];
};

/* ---- answers ---- */

static void call_free(struct http_call *c)
{
    free(c->body);
    free(c->text);
    free(c);
}
void http_answer(struct http_call *c, int status, const char *content_type, char *text, size_t len)
{
    ASSERT(c->status == 0);
    c->status = status;
    c->content_type = content_type;
    c->text = text;
    c->text_len = len;
    c->waiting = false;
    if (c->abandoned)
        call_free(c);
    else if (c->suspended) {
        c->suspended = false;
        MHD_resume_connection(c->conn);
    }
}
void http_answer_json(struct http_call *c, int status, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(json);
    ASSERT(text != NULL); /* only when out of memory, or built from text that is not UTF-8 */
    http_answer(c, status, "application/json", text, strlen(text));
}
void http_error(struct http_call *c, int status, const char *code, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80 || (unsigned char)*p < 0x20)
            *p = '?'; /* what a client sent back to it need not be UTF-8 */
    http_answer_json(c, status, json_pack("{s:s, s:s}", "error", code, "message", text));
}
void http_wait(struct http_call *c)
{
    c->waiting = true;
}

/* ---- one request ---- */

static bool host_ok(const struct daemon *d, const char *host)
{
    char name[256];
    struct net_addr a;
    if (host == NULL)
        return false;
    snprintf(name, sizeof(name), "%s", host);
    char *colon = strrchr(name, ':');
    if (colon != NULL && strchr(colon, ']') == NULL &&
        strspn(colon + 1, "0123456789") == strlen(colon + 1))
        *colon = '\0';
    if (strcasecmp(name, "localhost") == 0 ||
        net_addr_parse_ip(name, (uint32_t)strlen(name), &a) == 0)
        return true; /* a literal address cannot be rebound by somebody's DNS */
    for (uint32_t i = 0; i < d->conf->http_host_cnt; i++)
        if (strcasecmp(name, d->conf->http_hosts[i]) == 0)
            return true;
    return false;
}
static bool peer_ok(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (info == NULL || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    /* The socket's mode has let owner and group in; a peer from elsewhere has no business here. */
    return peer.uid == 0 || peer.uid == geteuid() || peer.gid == getegid();
}
static bool path_match(const char *pattern, const char *url, char *name, size_t cap)
{
    size_t n = strlen(pattern);
    if (pattern[n - 1] != '*')
        return strcmp(pattern, url) == 0;
    if (strncmp(pattern, url, n - 1) != 0 || url[n - 1] == '\0' || strlen(url + n - 1) >= cap)
        return false;
    snprintf(name, cap, "%s", url + n - 1); /* libmicrohttpd has decoded %xx */
    return true;
}
static void dispatch(struct http_call *c, const char *url, const char *method)
{
    const char *host = MHD_lookup_connection_value(c->conn, MHD_HEADER_KIND, "Host");
    bool path_known = false, elsewhere = false;
    if (strcmp(method, "HEAD") == 0)
        method = "GET"; /* libmicrohttpd leaves the body out */
    if (c->over_unix && !peer_ok(c->conn)) {
        http_error(c, 403, "CLUSTER_AUTHORIZATION_FAILED", "this user may not administer");
        return;
    }
    if (!c->over_unix && !host_ok(c->d, host)) {
        http_error(c, 403, "INVALID_REQUEST", "Host '%s' is not served here; add it to http.hosts",
                   host == NULL ? "" : host);
        return;
    }
    if (c->body_too_large) {
        http_error(c, 413, "INVALID_REQUEST", "the body is larger than %u bytes", HTTP_BODY_MAX);
        return;
    }
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *r = &routes[i];
        if (!path_match(r->path, url, c->name, sizeof(c->name)))
            continue;
        path_known = true;
        if (strcmp(r->method, method) != 0)
            continue;
        if (r->door == DOOR_UNIX && !c->over_unix) {
            elsewhere = true;
            continue;
        }
        r->handler(c);
        return;
    }
    if (elsewhere || (path_known || strcmp(method, "GET") != 0))
        http_error(c, 405, "INVALID_REQUEST", "%s is not served here%s", method,
                   c->over_unix ? "" : ": changes go over the unix socket run/admin.sock");
    else
        http_error(c, 404, "RESOURCE_NOT_FOUND", "there is no %s", url);
}
static enum MHD_Result respond(struct http_call *c)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(c->text_len, c->text, MHD_RESPMEM_MUST_COPY);
    if (r == NULL)
        return MHD_NO;
    (void)MHD_add_response_header(r, "Content-Type", c->content_type); /* nice to have */
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");     /* nice to have */
    if (c->status == 405)
        (void)MHD_add_response_header(r, "Allow", c->over_unix ? "GET, POST, DELETE" : "GET");
    enum MHD_Result rc = MHD_queue_response(c->conn, (unsigned)c->status, r);
    MHD_destroy_response(r);
    return rc;
}
static enum MHD_Result on_request(void *arg, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **call_arg)
{
    struct door_arg *door = arg;
    struct http_call *c = *call_arg;
    (void)version;
    if (c == NULL) {
        c = calloc(1, sizeof(*c));
        if (c == NULL)
            return MHD_NO;
        c->d = door->d;
        c->conn = conn;
        c->over_unix = door->over_unix;
        *call_arg = c;
        return MHD_YES; /* headers only; called again for the body and at its end */
    }
    if (*data_len > 0) {
        if (c->body_len + *data_len > HTTP_BODY_MAX) {
            c->body_too_large = true;
        } else {
            char *p = realloc(c->body, c->body_len + *data_len + 1);
            if (p == NULL)
                return MHD_NO;
            memcpy(p + c->body_len, data, *data_len);
            c->body = p;
            c->body_len += *data_len;
            c->body[c->body_len] = '\0';
        }
        *data_len = 0;
        return MHD_YES;
    }
    if (!c->handled) {
        c->handled = true;
        dispatch(c, url, method);
    }
    if (c->status == 0) {
        ASSERT(c->waiting);
        c->suspended = true;
        MHD_suspend_connection(conn);
        return MHD_YES;
    }
    return respond(c);
}
static void on_completed(void *arg, struct MHD_Connection *conn, void **call_arg,
                         enum MHD_RequestTerminationCode why)
{
    struct http_call *c = *call_arg;
    (void)arg;
    (void)conn;
    (void)why;
    *call_arg = NULL;
    if (c == NULL)
        return;
    if (c->waiting)
        c->abandoned = true;
    else
        call_free(c);
}

/* ---- the doors ---- */

static struct MHD_Daemon *door_open(int fd, struct door_arg *arg, int *ret_epoll)
{
    struct MHD_Daemon *m =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, arg,
                         MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                         (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (m == NULL)
        return NULL;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(m, MHD_DAEMON_INFO_EPOLL_FD);
    *ret_epoll = info != NULL ? info->epoll_fd : -1;
    return m;
}
static int tcp_open(struct http *h, char *err, size_t cap)
{
    char text[NET_ADDR_TEXT_MAX];
    struct sockaddr_storage ss;
    const struct net_addr *want = &h->d->conf->http_bind;
    (void)net_addr_format(want, text); /* the length is not needed */
    socklen_t len = net_addr_to_sockaddr(want, &ss);
    int one = 1;
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&ss, &(socklen_t){sizeof(ss)}) < 0) {
        int rc = -errno;
        const char *what = rc == -EADDRINUSE
                               ? "the port is in use by another process; end it, or "
                                 "choose another port with --set http.bind=ADDRESS:PORT"
                           : rc == -EADDRNOTAVAIL ? "no interface of this machine has this address"
                                                  : err_text(rc);
        snprintf(err, cap, "http.bind %s: %s", text, what);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (net_addr_from_sockaddr((struct sockaddr *)&ss, sizeof(ss), &h->bound) < 0)
        h->bound = *want;
    h->arg[0] = (struct door_arg){h->d, false};
    h->tcp = door_open(fd, &h->arg[0], &h->tcp_epoll);
    if (h->tcp == NULL) {
        snprintf(err, cap, "http.bind %s: libmicrohttpd refused the socket", text);
        close(fd);
        return -EIO;
    }
    return 0;
}
static int unix_open(struct http *h, char *err, size_t cap)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int n = snprintf(h->sock_path, sizeof(h->sock_path), "%s/run/admin.sock", h->d->conf->dir);
    ASSERT(n > 0 && (size_t)n < sizeof(sa.sun_path)); /* conf_load checked data.dir */
    memcpy(sa.sun_path, h->sock_path, (size_t)n + 1);
    (void)unlink(h->sock_path); /* of an earlier run: the lock on sluiced.pid is ours */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        chmod(h->sock_path, 0660) < 0 || listen(fd, 128) < 0) {
        int rc = -errno;
        snprintf(err, cap, "%s: %s", h->sock_path, err_text(rc));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    h->arg[1] = (struct door_arg){h->d, true};
    h->unix_ = door_open(fd, &h->arg[1], &h->unix_epoll);
    if (h->unix_ == NULL) {
        snprintf(err, cap, "%s: libmicrohttpd refused the socket", h->sock_path);
        close(fd);
        return -EIO;
    }
    return 0;
}
int http_create(struct daemon *d, struct http **ret, char *err, size_t err_cap)
{
    struct http *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    h->d = d;
    h->tcp_epoll = h->unix_epoll = -1;
    int rc = tcp_open(h, err, err_cap);
    if (rc == 0)
        rc = unix_open(h, err, err_cap);
    if (rc < 0) {
        http_destroy(h);
        return rc;
    }
    *ret = h;
    return 0;
}
void http_destroy(struct http *h)
{
    if (h == NULL)
        return;
    if (h->tcp != NULL)
        MHD_stop_daemon(h->tcp);
    if (h->unix_ != NULL) {
        MHD_stop_daemon(h->unix_);
        (void)unlink(h->sock_path); /* nobody would listen there */
    }
    free(h);
}
void http_bound(const struct http *h, struct net_addr *ret)
{
    *ret = h->bound;
}
void http_pollfds(const struct http *h, struct pollfd fds[2])
{
    fds[0] = (struct pollfd){.fd = h->tcp_epoll, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = h->unix_epoll, .events = POLLIN};
}
int http_run(struct http *h)
{
    struct MHD_Daemon *const all[2] = {h->tcp, h->unix_};
    int best = -1;
    for (int i = 0; i < 2; i++) {
        unsigned long long ms;
        (void)MHD_run(all[i]); /* a failed turn is tried again by the next one */
        if (MHD_get_timeout(all[i], &ms) == MHD_YES && (best < 0 || ms < (unsigned long long)best))
            best = ms > INT_MAX ? INT_MAX : (int)ms;
    }
    return best;
}
