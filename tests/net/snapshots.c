/* snapshots.c - takes many snapshots of a running dataplane's counters and checks that the ledgers
 * of each one balance.
 *
 *     snapshots STATS_SHM COUNT SECONDS
 * COUNT snapshots, spread over SECONDS: in turn one of each shard and one of all. Writes what it
 * saw to stdout as JSON; ends with 1 at the first that does not balance or cannot be read. */
#include "lib/base/err.h"
#include "lib/iface/stats_shm.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct counters c;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_until(uint64_t due)
{
    uint64_t now = now_ns();
    if (due > now + 50000) {
        struct timespec t = {(time_t)((due - now) / 1000000000u),
                             (long)((due - now) % 1000000000u)};
        (void)nanosleep(&t, NULL); /* waking early only moves one of them */
    }
}

int main(int argc, char **argv)
{
    struct stats_reader *r;
    if (argc != 4)
        return 2;
    uint64_t count = strtoull(argv[2], NULL, 10);
    double seconds = strtod(argv[3], NULL);
    int rc = stats_open(argv[1], &r);
    if (rc < 0 || count == 0) {
        fprintf(stderr, "snapshots: %s: %s\n", argv[1], err_text(rc));
        return 1;
    }
    const struct stats_header *h = stats_header(r);
    uint64_t start = now_ns(), in_flight_max = 0, differ = 0, last = 0;
    for (uint64_t i = 0; i < count; i++) {
        char why[256];
        uint64_t shard = i % (h->shard_cnt + 1), in_flight = 0, received = 0;
        wait_until(start + (uint64_t)(seconds * 1e9 / (double)count * (double)i));
        rc = shard < h->shard_cnt ? stats_read(r, (uint16_t)shard, &c) : stats_read_total(r, &c);
        if (rc < 0) {
            fprintf(stderr, "snapshots: number %llu: %s\n", (unsigned long long)i, err_text(rc));
            return 1;
        }
        if (stats_check(&c, h->port_cnt, h->listener_cnt, why, sizeof(why)) < 0) {
            fprintf(stderr, "snapshots: number %llu: %s\n", (unsigned long long)i, why);
            return 1;
        }
        if (shard < h->shard_cnt)
            continue;
        for (uint32_t l = 0; l < h->listener_cnt; l++) {
            in_flight += c.events[l].in_flight;
            received += c.listener[l].received;
        }
        in_flight_max = in_flight > in_flight_max ? in_flight : in_flight_max;
        differ += received != last;
        last = received;
    }
    printf("{\"snapshots\": %llu, \"in_flight_max\": %llu, \"differ\": %llu, \"seconds\": %.3f}\n",
           (unsigned long long)count, (unsigned long long)in_flight_max, (unsigned long long)differ,
           (double)(now_ns() - start) / 1e9);
    stats_close(r);
    return 0;
}
