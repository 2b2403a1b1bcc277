/* fake_dataplane.c - a dataplane without data: the other end of the control socket, for the tests
 * of sluiced. It is started with --conf DIR/run/dataplane.conf; what it shall do is in DIR/fake
 * (key=value lines, read at start), what it saw is appended to DIR/fake.log.
 *
 *   build=TEXT     say another build in HELLO, once (the line is removed)
 *   exit=N         end with N at once
 *   stderr=TEXT    write this line to stderr at start
 *   hold=1         never report METADATA_APPLIED after the first batch
 *   unclean=1      list every partition an earlier fake had (DIR/fake.topics) as not closed cleanly
 *   no_drain=1     do not answer or obey DRAIN_REQUEST
 * SIGUSR1: ask for producer ids and for a topic "from-kafka" (CreateTopics 7, 2 s). */
#include "lib/base/build_id.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/iface/conf.h"
#include "lib/iface/ctl_proto.h"
#include "lib/iface/net_addr.h"
#include "lib/meta/image.h"
#include "lib/wire/wire_gen.h"
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct conf conf;
static char opt_build[64], opt_stderr[256];
static int opt_exit = -1;
static bool opt_hold, opt_no_drain, opt_unclean;
static FILE *logf_;
static int conn = -1;
static struct meta_image *image;
static uint8_t *in;
static size_t in_len, in_cap;
static struct uuid incarnation;
static uint32_t batches;

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(logf_, fmt, ap);
    va_end(ap);
    fputc('\n', logf_);
    fflush(logf_);
}
static void options_read(void)
{
    char path[1200], line[512], rest[4096] = "";
    snprintf(path, sizeof(path), "%s/fake", conf.dir);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return;
    while (fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "build=%63s", opt_build) != 1)
            strncat(rest, line, sizeof(rest) - strlen(rest) - 1);
        (void)sscanf(line, "stderr=%255[^\n]", opt_stderr);
        (void)sscanf(line, "exit=%d", &opt_exit);
        opt_hold |= strncmp(line, "hold=1", 6) == 0;
        opt_no_drain |= strncmp(line, "no_drain=1", 10) == 0;
        opt_unclean |= strncmp(line, "unclean=1", 9) == 0;
    }
    fclose(f);
    f = fopen(path, "w");
    fputs(rest, f);
    fclose(f);
}
static void send_frame(uint16_t type, uint64_t id, const void *body, size_t len)
{
    uint8_t head[CTL_FRAME_HEAD];
    ctl_frame_head(head, type, id, (uint32_t)len);
    if (send(conn, head, sizeof(head), MSG_NOSIGNAL) < 0 ||
        (len > 0 && send(conn, body, len, MSG_NOSIGNAL) < 0))
        note("send failed");
}
#define SEND(type, id, name, msg)                                                                  \
    do {                                                                                           \
        size_t len_ = name##_size((msg), 0);                                                       \
        uint8_t *buf_ = malloc(len_ + 1);                                                          \
        struct wire_writer w_;                                                                     \
        wire_writer_init(&w_, buf_, len_);                                                         \
        name##_write(&w_, 0, (msg));                                                               \
        ASSERT(w_.err == 0);                                                                       \
        send_frame(type, id, buf_, w_.len);                                                        \
        free(buf_);                                                                                \
    } while (0)

static void hello(void)
{
    struct ctl_hello h;
    struct ctl_hello_listener l[CONF_LISTENERS_MAX + CONF_KAFKA_MAX];
    ctl_hello_init(&h);
    h.protocol_version = CTL_PROTOCOL_VERSION;
    h.build = span_str(opt_build[0] != '\0' ? opt_build : build_id());
    h.pid = getpid();
    h.shard_cnt = conf.shard_cnt == 0 ? 2 : (int32_t)conf.shard_cnt;
    h.incarnation = incarnation;
    h.cluster_id = conf.cluster_id;
    h.node_id = conf.node_id;
    h.metadata_offset = image->offset;
    uint32_t n = 0;
    for (uint32_t i = 0; i < conf.kafka_cnt; i++, n++) {
        ctl_hello_listener_init(&l[n]);
        l[n].name = span_str(conf.kafka[i].name);
        l[n].kind = CTL_LISTENER_KAFKA;
        l[n].host = span_str("127.0.0.1");
        l[n].port = 19092;
    }
    for (uint32_t i = 0; i < conf.listener_cnt; i++, n++) {
        ctl_hello_listener_init(&l[n]);
        l[n].name = span_str(conf.listeners[i].name);
        l[n].kind = conf.listeners[i].transport == CONF_TCP ? CTL_LISTENER_INGEST_TCP
                                                            : CTL_LISTENER_INGEST_UDP;
        l[n].host = span_str("127.0.0.1");
        l[n].port = 15514;
    }
    h.listeners.v = l;
    h.listeners.cnt = n;
    /* Unclean: what the earlier fake noted as its topics, "id partitions" per line. */
    static struct ctl_hello_unclean_topic un[64];
    static int32_t parts[1024];
    char path[1200], id[64];
    uint32_t cnt, topics = 0, used = 0;
    snprintf(path, sizeof(path), "%s/fake.topics", conf.dir);
    FILE *f = opt_unclean ? fopen(path, "r") : NULL;
    while (f != NULL && topics < 64 && fscanf(f, "%63s %u", id, &cnt) == 2) {
        ctl_hello_unclean_topic_init(&un[topics]);
        ASSERT(uuid_parse(id, (uint32_t)strlen(id), &un[topics].topic_id) == 0);
        un[topics].partitions.v = &parts[used];
        for (uint32_t i = 0; i < cnt && used < 1024; i++)
            parts[used++] = (int32_t)i;
        un[topics++].partitions.cnt = cnt;
    }
    if (f != NULL)
        fclose(f);
    h.unclean.v = un;
    h.unclean.cnt = topics;
    SEND(CTL_HELLO, 0, ctl_hello, &h);
}
static void topics_save(void)
{
    char path[1200], id[UUID_TEXT_LEN + 1];
    snprintf(path, sizeof(path), "%s/fake.topics", conf.dir);
    FILE *f = fopen(path, "w");
    for (uint32_t i = 0; i < image->topic_cnt; i++) {
        uuid_format(&image->by_name[i]->id, id);
        fprintf(f, "%s %u\n", id, image->by_name[i]->partition_cnt);
    }
    fclose(f);
}
static void on_batch(uint64_t id, const struct ctl_metadata_batch *m)
{
    struct meta_image *next, *base = image;
    struct meta_image *empty = NULL;
    ASSERT(!m->more);
    if (m->is_snapshot) {
        ASSERT(image_create_empty(&empty) == 0);
        base = empty;
    }
    int rc = image_apply(base, m->records.v, m->records.cnt, m->last_offset, &next);
    if (rc < 0) {
        note("apply failed %d", rc);
        abort();
    }
    image_put(image);
    image_put(empty);
    image = next;
    topics_save();
    note("batch %" PRId64 " snapshot %d records %u topics %u epoch %" PRId64, m->last_offset,
         m->is_snapshot, m->records.cnt, image->topic_cnt, image->broker_epoch);
    for (uint32_t i = 0; i < image->topic_cnt; i++)
        note("topic %s partitions %u leader_epoch %d", image->by_name[i]->name,
             image->by_name[i]->partition_cnt, image->by_name[i]->partitions[0].leader_epoch);
    if (opt_hold && batches > 0)
        return;
    batches++;
    struct ctl_metadata_applied a;
    ctl_metadata_applied_init(&a);
    a.offset = m->last_offset;
    SEND(CTL_METADATA_APPLIED, id, ctl_metadata_applied, &a);
}
static void on_stats(uint64_t id, const struct ctl_partition_stats_request *q)
{
    struct ctl_partition_stats_response m;
    struct ctl_partition_stats_response_partition p[64];
    ctl_partition_stats_response_init(&m);
    const struct meta_topic *t = image_topic_by_id(image, &q->topics.v[0].topic_id);
    for (uint32_t i = 0; t != NULL && i < t->partition_cnt && i < 64; i++) {
        ctl_partition_stats_response_partition_init(&p[i]);
        p[i].topic_id = t->id;
        p[i].partition = (int32_t)i;
        p[i].shard = (int32_t)(i % 2);
        p[i].next = 100 + i;
        p[i].leader_epoch = t->partitions[i].leader_epoch;
        m.partitions.v = p;
        m.partitions.cnt = i + 1;
    }
    SEND(CTL_PARTITION_STATS_RESPONSE, id, ctl_partition_stats_response, &m);
}
static void on_frame(const struct ctl_frame *f)
{
    struct arena a;
    struct wire_reader r;
    union {
        struct ctl_hello_reply hello;
        struct ctl_metadata_batch batch;
        struct ctl_ping ping;
        struct ctl_admin_response admin;
        struct ctl_producer_ids_response ids;
        struct ctl_partition_stats_request stats;
    } m;
    arena_init(&a, 64 << 20);
    wire_reader_init(&r, f->body);
    switch (f->type) {
    case CTL_HELLO_REPLY:
        ASSERT(ctl_hello_reply_read(&r, 0, &a, &m.hello) == 0);
        note("hello_reply %d epoch %" PRId64, m.hello.error_code, m.hello.broker_epoch);
        break;
    case CTL_METADATA_BATCH:
        ASSERT(ctl_metadata_batch_read(&r, 0, &a, &m.batch) == 0);
        on_batch(f->id, &m.batch);
        break;
    case CTL_PING:
        ASSERT(ctl_ping_read(&r, 0, &a, &m.ping) == 0);
        struct ctl_pong pong = {.sent_ns = m.ping.sent_ns};
        SEND(CTL_PONG, f->id, ctl_pong, &pong);
        break;
    case CTL_PARTITION_STATS_REQUEST:
        ASSERT(ctl_partition_stats_request_read(&r, 0, &a, &m.stats) == 0);
        on_stats(f->id, &m.stats);
        break;
    case CTL_PRODUCER_IDS_RESPONSE:
        ASSERT(ctl_producer_ids_response_read(&r, 0, &a, &m.ids) == 0);
        note("producer_ids %" PRId64 " %d", m.ids.first_id, m.ids.count);
        break;
    case CTL_ADMIN_RESPONSE:
        ASSERT(ctl_admin_response_read(&r, 0, &a, &m.admin) == 0);
        struct create_topics_response ct;
        struct wire_reader br;
        wire_reader_init(&br, m.admin.body);
        if (m.admin.error_code == 0) {
            ASSERT(create_topics_response_read(&br, 7, &a, &ct) == 0);
            note("admin_response topic_error %d", ct.topics.v[0].error_code);
        } else {
            note("admin_response error %d", m.admin.error_code);
        }
        break;
    case CTL_DRAIN_REQUEST:
        note("drain");
        if (opt_no_drain)
            break;
        struct ctl_drain_response d;
        ctl_drain_response_init(&d);
        d.partitions_closed = (int32_t)image->partition_cnt;
        SEND(CTL_DRAIN_RESPONSE, f->id, ctl_drain_response, &d);
        exit(0);
    default:
        note("frame %d", f->type);
    }
    arena_fini(&a);
}
static void ask(void)
{
    struct ctl_producer_ids_request p;
    ctl_producer_ids_request_init(&p);
    SEND(CTL_PRODUCER_IDS_REQUEST, 71, ctl_producer_ids_request, &p);
    struct create_topics_request q;
    struct create_topics_request_topic t;
    uint8_t body[256];
    struct wire_writer w;
    create_topics_request_init(&q);
    create_topics_request_topic_init(&t);
    t.name = span_str("from-kafka");
    t.num_partitions = 3;
    t.replication_factor = 1;
    q.topics.v = &t;
    q.topics.cnt = 1;
    q.timeout_ms = 2000;
    wire_writer_init(&w, body, sizeof(body));
    create_topics_request_write(&w, 7, &q);
    struct ctl_admin_request a;
    ctl_admin_request_init(&a);
    a.api_key = 19;
    a.api_version = 7;
    a.timeout_ms = 2000;
    a.body = span_of(body, (uint32_t)w.len);
    SEND(CTL_ADMIN_REQUEST, 72, ctl_admin_request, &a);
    note("asked");
}
static void readable(void)
{
    if (in_cap - in_len < 65536) {
        in_cap += 1 << 20;
        in = realloc(in, in_cap);
    }
    ssize_t n = recv(conn, in + in_len, in_cap - in_len, 0);
    if (n <= 0) {
        note("disconnected");
        close(conn);
        conn = -1;
        in_len = 0;
        return;
    }
    in_len += (size_t)n;
    struct ctl_frame f;
    int len;
    while (conn >= 0 && (len = ctl_frame_parse(span_of(in, (uint32_t)in_len), &f)) > 0) {
        on_frame(&f);
        memmove(in, in + len, in_len - (size_t)len);
        in_len -= (size_t)len;
    }
}
int main(int argc, char **argv)
{
    char err[512], path[1200];
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    sigset_t set;
    if (argc != 3 || conf_read(&conf, argv[2], err, sizeof(err)) < 0) {
        fprintf(stderr, "fake: %s\n", argc == 3 ? err : "usage: --conf FILE");
        return 2;
    }
    snprintf(path, sizeof(path), "%s/fake.log", conf.dir);
    logf_ = fopen(path, "a");
    options_read();
    note("start %d", getpid());
    if (opt_stderr[0] != '\0')
        fprintf(stderr, "%s\n", opt_stderr);
    if (opt_exit >= 0)
        return opt_exit;
    snprintf(path, sizeof(path), "%s/run/lock", conf.dir);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(lock, F_SETLK, &fl) < 0) {
        fprintf(stderr, "fake: locked\n");
        return 3;
    }
    dprintf(lock, "%d\n", getpid());
    uuid_random(&incarnation);
    if (image_create_empty(&image) < 0)
        return 1;
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%.80s/run/dataplane.sock", conf.dir);
    unlink(sa.sun_path);
    int srv = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(srv, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(srv, 4) < 0)
        return 1;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int sfd = signalfd(-1, &set, SFD_CLOEXEC);
    for (;;) {
        struct pollfd p[3] = {{.fd = conn < 0 ? srv : -1, .events = POLLIN},
                              {.fd = conn, .events = POLLIN},
                              {.fd = sfd, .events = POLLIN}};
        if (poll(p, 3, -1) < 0)
            continue;
        if (p[0].revents) {
            conn = accept4(srv, NULL, NULL, SOCK_CLOEXEC);
            note("connected");
            hello();
        }
        if (p[1].revents && conn >= 0)
            readable();
        if (p[2].revents) {
            struct signalfd_siginfo si;
            if (read(sfd, &si, sizeof(si)) != (ssize_t)sizeof(si))
                return 1;
            if (si.ssi_signo == SIGTERM) {
                note("sigterm");
                return 0;
            }
            ask();
        }
    }
}
