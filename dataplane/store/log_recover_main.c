/* log_recover_main.c - sluice-log: offline work on data directories, run by `sluicectl log`.
 *
 *     sluice-log recover [-v] DIR...
 *
 * DIR is a Kafka log.dir of a stopped appliance; its journal stands beside it. Afterwards Kafka's
 * tools read every byte that was acknowledged. Exit: 0 done, 1 failed, 2 usage. */
#include "accel/accel.h"
#include "dataplane/store/recover.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void say(void *arg, const char *text)
{
    (void)arg;
    printf("%s\n", text);
}

int main(int argc, char **argv)
{
    struct recover_report rep = {.say = say};
    char err[CATALOG_ERR_MAX];
    int at = 2;
    if (argc > at && strcmp(argv[at], "-v") == 0) {
        rep.verbose = true;
        at++;
    }
    if (argc <= at || strcmp(argv[1], "recover") != 0) {
        fprintf(stderr, "usage: sluice-log recover [-v] DIR...\n");
        return 2;
    }
    accel_init(false);
    int rc = store_log_recover((const char *const *)argv + at, (uint32_t)(argc - at), &rep, err);
    printf("partitions %" PRIu64 ", batches checked %" PRIu64 ", bytes read %" PRIu64
           ", bytes cut %" PRIu64 "\n",
           rep.partitions, rep.batches, rep.bytes_scanned, rep.bytes_cut);
    for (int i = 0; i < RC_CNT; i++)
        if (rep.cnt[i] > 0)
            printf("%8" PRIu64 "  %s\n", rep.cnt[i], recover_case_text((enum recover_case)i));
    if (rc < 0) {
        fprintf(stderr, "sluice-log: %s\n", err);
        return 1;
    }
    return 0;
}
