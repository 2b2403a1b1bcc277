/* udpflood.c - many UDP sources on one machine: numbered syslog datagrams, paced, by sendmmsg.
 *
 *     udpflood DEST:PORT FIRST_SOURCE SOURCES PORTS COUNT RATE TAG MALFORMED_EVERY LONG_EVERY LONG
 * Binds PORTS sockets on each of the SOURCES consecutive IPv4 addresses from FIRST_SOURCE on and
 * sends COUNT datagrams, RATE a second, in bursts of one socket. Each source numbers its own
 * datagrams from 0 on, over all of its ports. Every MALFORMED_EVERY-th has no PRI, every
 * LONG_EVERY- th is LONG bytes long (0: none). Writes what it sent to stdout as JSON. It stays on
 * one CPU: the kernel keeps the order of one CPU's datagrams only. */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 8, DATAGRAM_MAX = 4096, SOCKETS_MAX = 16384 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "udpflood: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void stay_on_this_cpu(void)
{
    cpu_set_t set;
    int cpu = sched_getcpu();
    CPU_ZERO(&set);
    CPU_SET(cpu < 0 ? 0 : cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        die("sched_setaffinity");
}

/* A full send buffer is waited for; everything else is an error. */
static void send_all(int fd, struct mmsghdr *m, unsigned cnt)
{
    for (unsigned done = 0; done < cnt;) {
        int n = sendmmsg(fd, m + done, cnt - done, 0);
        if (n > 0)
            done += (unsigned)n;
        else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
            die("sendmmsg");
    }
}

int main(int argc, char **argv)
{
    static int fds[SOCKETS_MAX];
    static uint64_t next_no[SOCKETS_MAX];
    static char buf[BURST][DATAGRAM_MAX];
    static struct mmsghdr msgs[BURST];
    struct iovec iov[BURST];
    struct sockaddr_in dst = {.sin_family = AF_INET}, src = {.sin_family = AF_INET};
    struct rlimit files;
    if (argc != 11) {
        fprintf(stderr, "usage: udpflood DEST:PORT FIRST_SOURCE SOURCES PORTS COUNT RATE TAG "
                        "MALFORMED_EVERY LONG_EVERY LONG\n");
        return 2;
    }
    char *colon = strchr(argv[1], ':');
    if (colon == NULL)
        return 2;
    *colon = '\0';
    dst.sin_port = htons((uint16_t)atoi(colon + 1));
    uint32_t sources = (uint32_t)atoi(argv[3]), ports = (uint32_t)atoi(argv[4]);
    uint64_t count = strtoull(argv[5], NULL, 10), rate = strtoull(argv[6], NULL, 10);
    uint64_t malformed_every = strtoull(argv[8], NULL, 10),
             long_every = strtoull(argv[9], NULL, 10);
    size_t long_len = strtoul(argv[10], NULL, 10);
    if (inet_pton(AF_INET, argv[1], &dst.sin_addr) != 1 ||
        inet_pton(AF_INET, argv[2], &src.sin_addr) != 1 || sources == 0 || ports == 0 ||
        (uint64_t)sources * ports > SOCKETS_MAX || rate == 0 || long_len > DATAGRAM_MAX) {
        fprintf(stderr, "udpflood: bad arguments\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* too few show up as a failed socket() */
    }
    stay_on_this_cpu();
    uint32_t first = ntohl(src.sin_addr.s_addr);
    for (uint32_t i = 0; i < sources * ports; i++) {
        src.sin_addr.s_addr = htonl(first + i % sources);
        fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fds[i] < 0)
            die("socket");
        if (bind(fds[i], (struct sockaddr *)&src, sizeof(src)) < 0)
            die("bind");
        if (connect(fds[i], (struct sockaddr *)&dst, sizeof(dst)) < 0)
            die("connect");
    }
    uint64_t sent = 0, malformed = 0, cut = 0, start = now_ns();
    for (uint64_t turn = 0; sent < count; turn++) {
        uint32_t s = (uint32_t)(turn % sources), port = (uint32_t)(turn / sources % ports);
        unsigned n = count - sent < BURST ? (unsigned)(count - sent) : BURST;
        for (unsigned i = 0; i < n; i++) {
            uint64_t k = sent + i;
            bool bad = malformed_every > 0 && k % malformed_every == malformed_every / 2;
            bool is_long = !bad && long_every > 0 && k % long_every == long_every / 2;
            int len =
                snprintf(buf[i], DATAGRAM_MAX, "%s host-%u flood %u - - tag=%s source=%u no=%llu ",
                         bad ? "no priority here" : "<134>1 2026-01-01T00:00:00Z", s, port, argv[7],
                         s, (unsigned long long)next_no[s]++);
            if (is_long && (size_t)len < long_len) {
                memset(buf[i] + len, 'x', long_len - (size_t)len);
                len = (int)long_len;
            }
            malformed += bad;
            cut += is_long;
            iov[i] = (struct iovec){buf[i], (size_t)len};
            msgs[i].msg_hdr.msg_iov = &iov[i];
            msgs[i].msg_hdr.msg_iovlen = 1;
        }
        send_all(fds[port * sources + s], msgs, n);
        sent += n;
        uint64_t due = start + sent * 1000000000u / rate, now = now_ns();
        if (due > now + 200000) {
            struct timespec t = {(time_t)((due - now) / 1000000000u),
                                 (long)((due - now) % 1000000000u)};
            (void)nanosleep(&t, NULL); /* waking early is only a little faster */
        }
    }
    printf("{\"sent\": %llu, \"malformed\": %llu, \"long\": %llu, \"seconds\": %.3f}\n",
           (unsigned long long)sent, (unsigned long long)malformed, (unsigned long long)cut,
           (double)(now_ns() - start) / 1e9);
    return 0;
}
