/* The control socket: whole frames whatever the chunks, one peer at a time, no damage from bad
 * ones. */
#include "tests/support/test.h"
#include "dataplane/control/link_server.h"
#include "lib/iface/ctl_proto.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char path[64];
static struct {
    int connects, disconnects, frames;
    uint16_t type;
    uint64_t id;
    uint8_t body[64];
    uint32_t len;
    int rc;
} seen;

static void on_connect(void *arg)
{
    (void)arg;
    seen.connects++;
}
static void on_disconnect(void *arg)
{
    (void)arg;
    seen.disconnects++;
}
static int on_frame(void *arg, uint16_t type, uint64_t id, struct span body)
{
    (void)arg;
    seen.frames++;
    seen.type = type;
    seen.id = id;
    seen.len = body.len;
    memcpy(seen.body, body.p, body.len < 64 ? body.len : 64);
    return seen.rc;
}
static const struct link_ops ops = {on_connect, on_frame, on_disconnect};

static struct link_server *server(void)
{
    struct link_server *l;
    snprintf(path, sizeof(path), "/tmp/sluice-link-%d.sock", (int)getpid());
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(link_server_create(path, &ops, NULL, &l), 0);
    return l;
}
static int peer(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}
static void run(struct link_server *l)
{
    for (int i = 0; i < 4; i++) {
        struct pollfd fds[2];
        int n = link_server_pollfds(l, fds);
        assert_true(poll(fds, (nfds_t)n, 10) >= 0);
        link_server_run(l, fds, n);
    }
}

static void frames_arrive_whole_in_any_chunks(void **state)
{
    (void)state;
    struct link_server *l = server();
    int fd = peer();
    run(l);
    assert_int_equal(seen.connects, 1);
    uint8_t bytes[2 * (CTL_FRAME_HEAD + 5)];
    for (int i = 0; i < 2; i++) {
        uint8_t *p = bytes + i * (CTL_FRAME_HEAD + 5);
        ctl_frame_head(p, (uint16_t)(7 + i), 40u + (uint64_t)i, 5);
        memcpy(p + CTL_FRAME_HEAD, "hello", 5);
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        assert_int_equal(write(fd, bytes + i, 1), 1);
        run(l);
        assert_int_equal(seen.frames, (int)((i + 1) / (CTL_FRAME_HEAD + 5)));
    }
    assert_int_equal(seen.type, 8);
    assert_int_equal(seen.id, 41);
    assert_memory_equal(seen.body, "hello", 5);
    link_server_send(l, 9, 77, span_str("answer"));
    uint8_t in[CTL_FRAME_HEAD + 6];
    struct ctl_frame f;
    assert_int_equal(read(fd, in, sizeof(in)), (int)sizeof(in));
    assert_int_equal(ctl_frame_parse(span_of(in, sizeof(in)), &f), (int)sizeof(in));
    assert_int_equal(f.type, 9);
    assert_int_equal(f.id, 77);
    close(fd);
    run(l);
    assert_int_equal(seen.disconnects, 1);
    assert_false(link_server_is_connected(l));
    link_server_send(l, 9, 78, span_str("nobody hears this"));
    link_server_destroy(l);
}

static void a_second_peer_is_closed_while_the_first_lives(void **state)
{
    (void)state;
    struct link_server *l = server();
    int a = peer();
    run(l);
    int b = peer();
    run(l);
    char c;
    assert_int_equal(read(b, &c, 1), 0);
    assert_int_equal(seen.connects, 1);
    assert_true(link_server_is_connected(l));
    close(b);
    close(a);
    run(l);
    int d = peer();
    run(l);
    assert_int_equal(seen.connects, 2);
    close(d);
    link_server_destroy(l);
}

static void a_bad_or_refused_frame_ends_the_connection_only(void **state)
{
    (void)state;
    static const uint8_t bad[][4] = {{0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff}, {0x7f, 0, 0, 0}};
    struct link_server *l = server();
    for (int i = 0; i < 3; i++) {
        int fd = peer();
        run(l);
        assert_int_equal(write(fd, bad[i], 4), 4);
        run(l);
        assert_false(link_server_is_connected(l));
        close(fd);
    }
    seen.rc = -E_MALFORMED;
    int fd = peer();
    run(l);
    uint8_t head[CTL_FRAME_HEAD];
    ctl_frame_head(head, 1, 1, 0);
    assert_int_equal(write(fd, head, sizeof(head)), (int)sizeof(head));
    run(l);
    assert_int_equal(seen.frames, 1);
    assert_false(link_server_is_connected(l));
    close(fd);
    assert_int_equal(seen.connects, seen.disconnects);
    link_server_destroy(l);
}

static void a_peer_that_does_not_read_is_cut_off_at_the_limit(void **state)
{
    (void)state;
    struct link_server *l = server();
    int fd = peer();
    run(l);
    uint8_t *big = calloc(1, CTL_BODY_MAX);
    assert_non_null(big);
    for (int i = 0; i < 40 && link_server_is_connected(l); i++)
        link_server_send(l, 1, 1, span_of(big, CTL_BODY_MAX));
    assert_false(link_server_is_connected(l));
    free(big);
    close(fd);
    link_server_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_arrive_whole_in_any_chunks),
        cmocka_unit_test(a_second_peer_is_closed_while_the_first_lives),
        cmocka_unit_test(a_bad_or_refused_frame_ends_the_connection_only),
        cmocka_unit_test(a_peer_that_does_not_read_is_cut_off_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
