/* eal.c - rte_eal_init with our arguments, its log in our log. */
#include "dataplane/eal.h"
#include "lib/base/log.h"
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>
#include <stdlib.h>
#include <string.h>

/* EAL keeps pointers into its arguments: they live as long as the process. */
static struct eal_args args;
static FILE *log_stream;
static char last_complaint[256];

/* One write per line (the stream is line buffered). */
static ssize_t log_line(void *cookie, const char *buf, size_t len)
{
    int n = (int)len;
    while (n > 0 && (buf[n - 1] == '\n' || buf[n - 1] == '\r'))
        n--;
    if (n == 0)
        return (ssize_t)len;
    int level = rte_log_cur_msg_loglevel();
    if (level <= (int)RTE_LOG_ERR) {
        snprintf(last_complaint, sizeof(last_complaint), "%.*s", n, buf);
        LOG_ERROR("%.*s", n, buf);
    } else if (level <= (int)RTE_LOG_WARNING) {
        LOG_WARN("%.*s", n, buf);
    } else {
        LOG_DEBUG("%.*s", n, buf); /* EAL is talkative at start */
    }
    return (ssize_t)len;
}

static int capture_log(void)
{
    log_stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = log_line});
    if (log_stream == NULL)
        return -ENOMEM;
    setvbuf(log_stream, NULL, _IOLBF, 4096);
    return rte_openlog_stream(log_stream) == 0 ? 0 : -EIO;
}

static int check_ports(const struct conf *c, char *err, size_t err_cap)
{
    for (uint32_t i = 0; i < c->port_cnt; i++) {
        char name[CONF_NAME_MAX * 2];
        uint16_t id;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(c->ports[i].device, ","),
                 c->ports[i].device);
        if (rte_eth_dev_get_port_by_name(name, &id) == 0)
            continue;
        snprintf(err, err_cap, "port %s: device \"%s\" did not come up%s%s", c->ports[i].name,
                 c->ports[i].device, last_complaint[0] != '\0' ? ": " : "", last_complaint);
        return -E_CONFIG;
    }
    return 0;
}

int eal_start(const struct conf *c, const struct plan *p, char *err, size_t err_cap)
{
    int rc = eal_args_make(c, p, &args, err, err_cap);
    if (rc < 0)
        return rc;
    rc = capture_log();
    if (rc < 0) {
        snprintf(err, err_cap, "EAL's log cannot be captured: %s", err_text(rc));
        return rc;
    }
    /* EAL's own files. Its default for an ordinary user is in /tmp, where another user's may stand. */
    char run[CONF_PATH_MAX + 8];
    snprintf(run, sizeof(run), "%s/run", c->dir);
    if (setenv("RUNTIME_DIRECTORY", run, 1) != 0)
        return -ENOMEM;
    /* EAL permutes the vector it is given. */
    char *argv[EAL_ARGS_MAX + 1];
    memcpy(argv, args.v, sizeof(argv));
    if (rte_eal_init(args.cnt, argv) < 0) {
        snprintf(err, err_cap, "DPDK did not start: %s%s",
                 last_complaint[0] != '\0' ? last_complaint : rte_strerror(rte_errno),
                 c->hugepages ? " (hugepages: true needs free huge pages; see sluicectl doctor)"
                              : "");
        return -E_CONFIG;
    }
    rc = check_ports(c, err, err_cap);
    if (rc < 0)
        eal_stop();
    return rc;
}

void eal_stop(void)
{
    (void)rte_eal_cleanup(); /* the process ends */
    (void)rte_openlog_stream(NULL);
    if (log_stream != NULL)
        fclose(log_stream);
    log_stream = NULL;
}
