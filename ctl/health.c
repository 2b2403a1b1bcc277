/* health.c - see daemon.h: why the appliance is not all right. */
#include "ctl/daemon.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void reason_add(char reasons[DAEMON_REASONS_MAX][256], uint32_t *cnt, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void reason_add(char reasons[DAEMON_REASONS_MAX][256], uint32_t *cnt, const char *fmt, ...)
{
    va_list ap;
    if (*cnt == DAEMON_REASONS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(reasons[(*cnt)++], 256, fmt, ap);
    va_end(ap);
}
/* What serves, but not everything: from the counters. */
static uint32_t storage_health(const struct daemon *d, char reasons[DAEMON_REASONS_MAX][256])
{
    uint32_t cnt = 0;
    struct stats_reader *r;
    struct counters *total = malloc(sizeof(*total));
    if (total == NULL || daemon_stats_open(d, &r) < 0) {
        free(total);
        return 0; /* the dataplane makes it anew when it starts */
    }
    if (stats_read_total(r, total) == 0) {
        if (total->shard.read_only)
            reason_add(reasons, &cnt,
                       "the log is read-only: a disk has less than storage.min_free left; free "
                       "some space or shorten retention");
        if (total->shard.fenced_partitions > 0)
            reason_add(reasons, &cnt,
                       "%llu partitions are closed after a disk error and being recovered",
                       (unsigned long long)total->shard.fenced_partitions);
        uint64_t lost = total->shard.scrub_quarantined + total->shard.found_damaged_batches;
        if (lost > 0)
            reason_add(reasons, &cnt,
                       "%llu batches of the log are lost to damage on disk; everything else is "
                       "served, readers of their offsets get CORRUPT_MESSAGE",
                       (unsigned long long)lost);
        if (total->shard.scrub_transient + total->shard.scrub_errors > 0)
            reason_add(reasons, &cnt,
                       "reading the log again met %llu errors and %llu places that were wrong only "
                       "once: memory, cable, controller or disk may be failing",
                       (unsigned long long)total->shard.scrub_errors,
                       (unsigned long long)total->shard.scrub_transient);
    }
    stats_close(r);
    free(total);
    return cnt;
}
static void missing_health(const struct daemon *d, char reasons[DAEMON_REASONS_MAX][256],
                           uint32_t *cnt)
{
    for (uint32_t i = 0; i < d->conf->data_dir_cnt; i++)
        if (!controller_dir_is_open(d->controller, i))
            reason_add(reasons, cnt,
                       "data directory %.120s is missing or failed: its partitions are not served; "
                       "put its disk right and restart",
                       d->conf->data_dirs[i]);
    for (uint32_t i = 0; i < d->missing_named; i++)
        reason_add(reasons, cnt, "%s", d->missing[i]);
    if (d->missing_cnt > d->missing_named)
        reason_add(reasons, cnt, "and %u more partitions that are not served",
                   d->missing_cnt - d->missing_named);
}
uint32_t daemon_health(const struct daemon *d, char reasons[DAEMON_REASONS_MAX][256])
{
    uint32_t cnt = 0;
    if (d->phase == DAEMON_STOPPING)
        reason_add(reasons, &cnt, "stopping");
    else if (!supervise_is_running(d->supervise))
        reason_add(reasons, &cnt, "the dataplane is not running%s%s",
                   d->last_exit[0] != '\0' ? ": it " : "", d->last_exit);
    else if (d->phase != DAEMON_READY)
        reason_add(reasons, &cnt, "the dataplane is starting");
    else if (!d->answers)
        reason_add(reasons, &cnt, "the dataplane does not answer");
    else {
        cnt = storage_health(d, reasons);
        missing_health(d, reasons, &cnt);
    }
    return cnt;
}
