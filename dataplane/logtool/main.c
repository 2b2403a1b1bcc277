/* main.c - sluice-log: offline work on data directories, run by `sluicectl log`.
 *
 *     sluice-log recover [-v] DIR...
 *     sluice-log verify [--deep] [--json] [--jobs N] [--topic T[:P]] DIR...
 *     sluice-log dump [--topic T:P] [--offset N] [--count N] [--keys] [--values] [--json]
 * FILE|DIR... sluice-log repair [--dry-run] [--deep] [--json] [--jobs N] [--topic T[:P]] DIR...
 *
 * DIR is a Kafka log.dir of a stopped appliance; its journal stands beside it. After recover
 * Kafka's tools read every byte that was acknowledged. */
#include "accel/accel.h"
#include "dataplane/logtool/logtool.h"
#include "dataplane/store/recover.h"
#include "lib/base/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void say(void *arg, const char *text)
{
    (void)arg;
    printf("%s\n", text);
}

int cmd_recover(int argc, char **argv)
{
    struct recover_report rep = {.say = say};
    char err[CATALOG_ERR_MAX];
    int at = 1;
    if (argc > at && strcmp(argv[at], "-v") == 0) {
        rep.verbose = true;
        at++;
    }
    if (argc <= at) {
        fprintf(stderr, "usage: sluicectl log recover [-v] DIR...\n");
        return LOGTOOL_USAGE;
    }
    int rc = store_log_recover((const char *const *)argv + at, (uint32_t)(argc - at), &rep, err);
    printf("partitions %" PRIu64 ", batches checked %" PRIu64 ", bytes read %" PRIu64
           ", bytes cut %" PRIu64 "\n",
           rep.partitions, rep.batches, rep.bytes_scanned, rep.bytes_cut);
    for (int i = 0; i < RC_CNT; i++)
        if (rep.cnt[i] > 0)
            printf("%8" PRIu64 "  %s\n", rep.cnt[i], recover_case_text((enum recover_case)i));
    if (rc < 0) {
        fprintf(stderr, "sluicectl: %s\n", err);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } cmds[] = {{"recover", cmd_recover},
                {"verify", cmd_verify},
                {"repair", cmd_verify},
                {"dump", cmd_dump}};
    for (size_t i = 0; argc > 1 && i < sizeof(cmds) / sizeof(cmds[0]); i++) {
        if (strcmp(argv[1], cmds[i].name) != 0)
            continue;
        accel_init(false);
        return cmds[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "usage: sluicectl log recover|verify|repair|dump ... DIR...\n");
    return LOGTOOL_USAGE;
}
