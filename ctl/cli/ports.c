/* ports.c - DIR/run/ports: what sluiced wrote about the addresses its listeners got. */
#include "ctl/cli/cli.h"
#include "lib/iface/conf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Does `name` stand for a Kafka listener? The dataplane's configuration says; where it cannot be
 * read, the usual names do. */
static bool is_kafka(const struct conf *conf, const char *name)
{
    if (conf == NULL)
        return strcmp(name, "kafka") == 0;
    for (uint32_t i = 0; i < conf->kafka_cnt; i++)
        if (strcmp(conf->kafka[i].name, name) == 0)
            return true;
    return false;
}

int ports_kafka(const char *dir, char *ret, size_t cap)
{
    char path[4096], line[512], name[128], transport[16], addr[320], err[256];
    int rc = -ENOENT;
    struct conf *conf = malloc(sizeof(*conf));
    (void)snprintf(path, sizeof(path), "%s/run/dataplane.conf", dir);
    if (conf != NULL && conf_read(conf, path, err, sizeof(err)) < 0) {
        free(conf);
        conf = NULL;
    }
    (void)snprintf(path, sizeof(path), "%s/run/ports", dir);
    FILE *f = fopen(path, "re");
    while (rc < 0 && f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "%127s %15s %319s", name, transport, addr) != 3 || !is_kafka(conf, name))
            continue;
        const char *port = strrchr(addr, ':');
        if (port == NULL)
            continue;
        if (strncmp(addr, "0.0.0.0:", 8) == 0 || addr[0] == '*')
            (void)snprintf(ret, cap, "127.0.0.1%s", port);
        else if (strncmp(addr, "[::]:", 5) == 0)
            (void)snprintf(ret, cap, "localhost%s", port);
        else
            (void)snprintf(ret, cap, "%s", addr);
        rc = 0;
    }
    if (f != NULL)
        (void)fclose(f);
    free(conf);
    return rc;
}
