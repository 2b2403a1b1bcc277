/* ready.c - see daemon.h: what sluiced tells the world when the appliance serves: run/ports for
 * programs, the "try this" text for people. */
#include "ctl/daemon.h"
#include "ctl/http/http.h"
#include "lib/base/log.h"
#include "lib/base/text_file.h"
#include "lib/iface/ctl_proto.h"
#include "lib/iface/net_addr.h"
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

void ready_write_ports(const struct daemon *d)
{
    char path[PATH_MAX], text[DAEMON_LISTENERS_MAX * 400 + 400], http[NET_ADDR_TEXT_MAX];
    size_t len = 0;
    struct net_addr a;
    for (uint32_t i = 0; i < d->listener_cnt; i++) {
        const struct daemon_listener *l = &d->listeners[i];
        bool tcp = l->kind == CTL_LISTENER_KAFKA || l->kind == CTL_LISTENER_INGEST_TCP;
        bool v6 = strchr(l->host, ':') != NULL;
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, "%s %s %s%s%s:%u\n", l->name,
                             tcp ? "tcp" : "udp", v6 ? "[" : "", l->host, v6 ? "]" : "", l->port);
    }
    http_bound(d->http, &a);
    (void)net_addr_format(&a, http); /* the length is not needed */
    len += (size_t)snprintf(text + len, sizeof(text) - len, "http tcp %s\n", http);
    daemon_path(d, path, "ports");
    int rc = text_file_replace_volatile(path, text, len);
    if (rc < 0)
        LOG_ERROR("%s: %s", path, err_text(rc));
}
static const struct daemon_listener *listener_of(const struct daemon *d, int8_t kind)
{
    for (uint32_t i = 0; i < d->listener_cnt; i++)
        if (d->listeners[i].kind == kind)
            return &d->listeners[i];
    return NULL;
}
static void print_gave_up(const struct daemon *d)
{
    const struct conf *c = d->conf;
    printf("\nCompared with a tuned appliance this one gives up:\n");
    if (!c->hugepages)
        printf("  - hugepages: packet and staging memory comes from ordinary pages\n");
    if (c->port_cnt == 0)
        printf("  - DPDK ports: every byte passes the kernel's sockets\n");
    struct statfs fs;
    if (statfs(c->dir, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
        printf("  - durability: %s is in memory (tmpfs); a restart of the machine empties it\n",
               c->dir);
    if (d->shard_cnt == 1)
        printf("  - cores: one shard serves everything\n");
    if (!c->idle_poll)
        printf(
            "  - polling: an idle shard sleeps, which adds some microseconds to the first event\n");
    if (c->dev)
        printf("  - staying up: without sluiced the dataplane ends after 30 s (--dev)\n");
    printf("`sluicectl doctor` says what to change on a real server.\n");
}
void ready_print_hints(const struct daemon *d)
{
    const struct daemon_listener *kafka = listener_of(d, CTL_LISTENER_KAFKA);
    const struct daemon_listener *udp = listener_of(d, CTL_LISTENER_INGEST_UDP);
    char http[NET_ADDR_TEXT_MAX];
    struct net_addr a;
    http_bound(d->http, &a);
    (void)net_addr_format(&a, http); /* the length is not needed */
    print_gave_up(d);
    printf("\nSluice %s is ready, data in %s. Try this in another terminal:\n", SLUICE_VERSION,
           d->conf->dir);
    if (udp != NULL)
        printf("  logger -n %s -P %u -d \"hello\"\n", udp->host, udp->port);
    if (kafka != NULL && d->conf->listener_cnt > 0)
        printf("  kcat -b %s:%u -t %s -C -o beginning -e -f '%%h %%s\\n'\n", kafka->host,
               kafka->port, d->conf->listeners[0].topic);
    if (kafka != NULL)
        printf("  echo hello | kcat -b %s:%u -t mytopic -P\n", kafka->host, kafka->port);
    printf("  curl http://%s/metrics\n", http);
    printf("Ctrl-C stops it; everything acknowledged stays.\n\n");
    fflush(stdout);
}
