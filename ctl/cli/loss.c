/* loss.c - what was lost, and nothing else: one row per reason, from the cable to the log.
 *
 * The order of the rows is the way of a frame: what the device lost before anybody saw it, what the
 * port dropped, what the kernel's socket buffer and the listener dropped, what the log refused. */
#include "ctl/cli/cli.h"
#include "ctl/cli/ledger.h"
#include "lib/base/err.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct reason {
    const char *ledger, *name, *help;
} reasons[] = {
#define DROP_PORT(name, help) {"ports", #name, help},
#define DROP_DGRAM(name, help) {"listeners", #name, help},
#define DROP_EVENT(name, help) {"events", #name, help},
#include "dataplane/drop.def"
};
static const struct reason device[] = {
    {"ports", "imissed", "the device had no free descriptor: the shards did not keep up"},
    {"ports", "ierrors", "the device found the frame damaged"},
    {"ports", "nombuf", "no packet buffer was free (memory.mbufs)"},
};
static const char kernel_help[] = "the kernel's socket buffer was full (listeners[].rcvbuf)";

static const char *help_of(const char *ledger, const char *name)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (strcmp(reasons[i].ledger, ledger) == 0 && strcmp(reasons[i].name, name) == 0)
            return reasons[i].help;
    return ""; /* another build's reason */
}

/* The row of the answer before this one with the same name, or NULL. */
static const json_t *row_before(const json_t *before, const char *key, const char *name)
{
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(before, key), i,
                       row) if (strcmp(cli_str(row, "name", ""), name) == 0) return row;
    return NULL;
}

struct report {
    const json_t *before; /* the ledgers shown last, or NULL */
    struct table *table;
    int64_t lost, lost_since;
};

static void lost(struct report *r, const struct ledger *l, const json_t *row, const char *what,
                 int64_t n, int64_t was, const char *help)
{
    char a[CLI_TEXT_MAX], b[CLI_TEXT_MAX];
    int64_t since = r->before != NULL ? n - was : 0;
    if (n == 0)
        return;
    r->lost += n;
    r->lost_since += since;
    table_row(r->table, cli_str(row, "name", "?"), l->unit, what, cli_num(n, a),
              r->before != NULL ? cli_num(since, b) : "", help);
}

static void row_losses(struct report *r, const struct ledger *l, const json_t *row)
{
    const json_t *was = row_before(r->before, l->key, cli_str(row, "name", ""));
    const json_t *drops = json_object_get(row, "dropped");
    const char *name;
    json_t *n;
    for (size_t i = 0; i < sizeof(device) / sizeof(device[0]); i++)
        lost(r, l, row, device[i].name, cli_int(json_object_get(row, "nic"), device[i].name, 0),
             cli_int(json_object_get(was, "nic"), device[i].name, 0), device[i].help);
    lost(r, l, row, "kernel_drops", cli_int(row, "kernel_drops", 0),
         cli_int(was, "kernel_drops", 0), kernel_help);
    json_object_foreach((json_t *)drops, name, n)
        lost(r, l, row, name, json_integer_value(n),
             cli_int(json_object_get(was, "dropped"), name, 0), help_of(l->key, name));
}

/* Losses of each queue of a port, when it has several: whose core is too slow? */
static void queues_print(const json_t *port)
{
    const json_t *q, *queues = json_object_get(port, "queues");
    size_t i;
    char n[CLI_TEXT_MAX], a[CLI_TEXT_MAX], b[CLI_TEXT_MAX], c[CLI_TEXT_MAX];
    if (json_array_size(queues) < 2 || ledger_dropped(port) + cli_int(port, "nic_imissed", 0) == 0)
        return;
    json_array_foreach(queues, i, q)
        printf("  %s, shard %s, since its start: seen %s, missed by the device %s, dropped %s\n",
               cli_str(port, "name", "?"), cli_num(cli_int(q, "shard", -1), n),
               cli_num(cli_int(q, "seen", 0), a), cli_num(cli_int(q, "imissed", 0), b),
               cli_num(cli_int(q, "dropped", 0), c));
}

static void policed_print(const json_t *sources)
{
    const json_t *s;
    size_t i;
    if (json_array_size(sources) == 0)
        return;
    struct table *t = table_new("SOURCE WITH A POLICING RULE|>REFUSED|>PASSED");
    json_array_foreach(sources, i, s)
    {
        char a[CLI_TEXT_MAX], b[CLI_TEXT_MAX];
        table_row(t, cli_str(s, "source", "?"), cli_num(cli_int(s, "refused", 0), a),
                  cli_num(cli_int(s, "passed", 0), b));
    }
    table_print(t);
}

/* false: a ledger does not balance. */
static bool losses_print(const json_t *now, const json_t *before)
{
    struct report r = {before, table_new("WHERE|UNIT|REASON|>LOST|>SINCE|MEANING"), 0, 0};
    bool balances = true;
    const json_t *row;
    size_t k;
    char a[CLI_TEXT_MAX], b[CLI_TEXT_MAX], when[CLI_TEXT_MAX];
    for (uint32_t i = 0; i < LEDGER_CNT; i++) {
        json_array_foreach(json_object_get(now, ledgers[i].key), k, row)
        {
            balances &= ledger_off(&ledgers[i], row) == 0;
            row_losses(&r, &ledgers[i], row);
        }
    }
    printf("%s  lost %s", cli_time(cli_int(now, "taken_ms", 0), when), cli_num(r.lost, a));
    if (before != NULL)
        printf(", since the last look %s", cli_num(r.lost_since, b));
    printf("; the ledgers %s\n", balances ? "balance" : "DO NOT BALANCE");
    if (r.lost > 0)
        table_print(r.table);
    else
        table_free(r.table);
    json_array_foreach(json_object_get(now, "ports"), k, row) queues_print(row);
    policed_print(json_object_get(now, "policed"));
    (void)fflush(stdout); /* for those who read a pipe while we watch */
    return balances;
}

int cmd_loss(struct cli *c, int argc, char **argv)
{
    bool watch = false, balances = true;
    uint64_t interval_s = 1, count = 0;
    const struct arg_opt opts[] = {
        {"--watch", "-w", ARG_FLAG, &watch, 0, 0, NULL},
        {"--interval", NULL, ARG_NUM, &interval_s, 1, 86400, NULL},
        {"--count", NULL, ARG_NUM, &count, 1, 1000000000, NULL},
    };
    if (args_parse(c->cmd, argc, argv, opts, 3, NULL, 0) < 0)
        return cli_usage(c);
    if (count == 0)
        count = watch ? UINT64_MAX : 1;
    json_t *before = NULL;
    for (uint64_t i = 0; i < count; i++) {
        json_t *st;
        if (i > 0)
            (void)nanosleep(&(struct timespec){.tv_sec = (time_t)interval_s}, NULL);
        int code = admin_call(c, "GET", "/v1/status", NULL, &st);
        if (code != EXIT_OK) {
            json_decref(before);
            return code;
        }
        json_t *now = json_incref(json_object_get(st, "ledgers"));
        json_decref(st);
        if (c->json)
            cli_print_json(now);
        else
            balances &= losses_print(now, before);
        json_decref(before);
        before = now;
    }
    json_decref(before);
    if (!balances)
        return cli_fail(c, "LEDGER", "a ledger does not balance; please report this");
    return EXIT_OK;
}
