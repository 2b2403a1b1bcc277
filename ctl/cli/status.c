/* status.c - one screen: who runs, the shards, the doors, and where every frame, datagram and event
 * went. The three ledgers are printed with their equations, so that a reader can add them up. */
#include "ctl/cli/cli.h"
#include "ctl/cli/ledger.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void named_counts(const char *label, const json_t *counts)
{
    const char *name;
    json_t *n;
    char buf[CLI_TEXT_MAX];
    bool any = false;
    json_object_foreach((json_t *)counts, name, n)
    {
        if (json_integer_value(n) == 0)
            continue;
        printf("%s%s %s", any ? ", " : label, name, cli_num(json_integer_value(n), buf));
        any = true;
    }
    if (any)
        putchar('\n');
}

/* Returns false when a row does not balance; the sum is done here, not believed. */
static bool ledger_print(const struct ledger *l, const json_t *rows)
{
    const json_t *row;
    size_t i;
    bool all = true;
    char a[CLI_TEXT_MAX];
    if (json_array_size(rows) == 0)
        return true;
    printf("\n%s: %s\n", l->title, l->equation);
    json_array_foreach(rows, i, row)
    {
        int64_t off = ledger_off(l, row);
        printf("  ");
        cli_put_text(cli_str(row, "name", "?"), strlen(cli_str(row, "name", "?")));
        printf(": %s =", cli_num(cli_int(row, l->left, 0), a));
        for (const char *const *r = l->right; *r != NULL; r++)
            printf("%s %s", r == l->right ? "" : " +", cli_num(cli_int(row, *r, 0), a));
        printf(" + %s", cli_num(ledger_dropped(row), a));
        if (off == 0)
            printf("   balances\n");
        else
            printf("   DOES NOT BALANCE, off by %s\n", cli_num(off, a));
        all &= off == 0;
        named_counts("    dropped: ", json_object_get(row, "dropped"));
        named_counts("    the device counted: ", json_object_get(row, "nic"));
    }
    return all;
}

static void process_line(const char *label, const json_t *p)
{
    char age[CLI_TEXT_MAX];
    printf("%-10s ", label);
    const char *state = cli_str(p, "state", NULL);
    if (state != NULL)
        printf("%s, ", state);
    if (cli_int(p, "pid", 0) > 0)
        printf("process %" PRId64 ", ", cli_int(p, "pid", 0));
    printf("up %s", cli_age(cli_int(p, "uptime_s", -1), age));
    int64_t starts = cli_int(p, "starts", 0);
    if (starts > 1)
        printf(", started %" PRId64 " times", starts);
    putchar('\n');
}

/* Why not all is well, when it is not; and what else somebody should know. */
static void reasons_print(const json_t *list)
{
    const json_t *why;
    size_t i;
    json_array_foreach(list, i, why)
    {
        printf("  ! ");
        cli_put_text(json_string_value(why), json_string_length(why));
        putchar('\n');
    }
}

/* crc32c: isa-l (...), ... */
static void acceleration_print(const json_t *o)
{
    const char *name;
    json_t *what;
    json_object_foreach((json_t *)(uintptr_t)o, name, what)
        printf("%s: %s\n", name, json_string_value(what));
}

#define OVERFLOW_MS_MAX 3600000 /* an hour: the gauge's largest value */
static void shards_print(const json_t *rows)
{
    const json_t *s;
    size_t i;
    struct table *t = table_new(
        ">SHARD|>CPU|>BUSY|>LONGEST TURN|>PARTITIONS|>CONNECTIONS|>UNFLUSHED|>OVERFLOW IN");
    json_array_foreach(rows, i, s)
    {
        char no[CLI_TEXT_MAX], cpu[CLI_TEXT_MAX], busy[CLI_TEXT_MAX], turn[CLI_TEXT_MAX],
            parts[CLI_TEXT_MAX], conns[CLI_TEXT_MAX], bytes[CLI_TEXT_MAX], full[CLI_TEXT_MAX];
        int64_t ms = cli_int(s, "overflow_ms", OVERFLOW_MS_MAX);
        if (ms < OVERFLOW_MS_MAX)
            (void)snprintf(full, sizeof(full), "%.1f s", (double)ms / 1000);
        else
            (void)snprintf(full, sizeof(full), "> 1 h");
        (void)snprintf(busy, sizeof(busy), "%.1f %%", cli_real(s, "busy_percent", 0));
        (void)snprintf(turn, sizeof(turn), "%" PRId64 " us", cli_int(s, "turn_max_us", 0));
        bool pinned = cli_int(s, "cpu", -1) >= 0;
        table_row(t, cli_num(cli_int(s, "shard", -1), no),
                  pinned ? cli_num(cli_int(s, "cpu", -1), cpu) : "-", busy, turn,
                  cli_num(cli_int(s, "partitions", 0), parts),
                  cli_num(cli_int(s, "connections", 0), conns),
                  cli_bytes(cli_int(s, "unflushed_bytes", 0), bytes), full);
    }
    putchar('\n');
    table_print(t);
}

static void doors_print(const json_t *st)
{
    const json_t *row;
    size_t i;
    if (json_array_size(json_object_get(st, "ports")) > 0) {
        struct table *t = table_new("PORT|DEVICE|LINK|>CHANGES");
        const json_t *counted = json_object_get(json_object_get(st, "ledgers"), "ports");
        json_array_foreach(json_object_get(st, "ports"), i, row)
        {
            const json_t *c = json_array_get(counted, i);
            char changes[CLI_TEXT_MAX];
            table_row(t, cli_str(row, "name", "?"), cli_str(row, "device", ""),
                      cli_int(c, "link_up", 0) > 0 ? "up" : "down",
                      cli_num(cli_int(c, "link_changes", 0), changes));
        }
        putchar('\n');
        table_print(t);
    }
    struct table *t = table_new("LISTENER|TRANSPORT|PROTOCOL|ADDRESS|TOPIC");
    json_array_foreach(json_object_get(st, "listeners"), i, row) table_row(
        t, cli_str(row, "name", "?"), cli_str(row, "transport", ""), cli_str(row, "protocol", ""),
        cli_str(row, "address", ""), cli_str(row, "topic", ""));
    putchar('\n');
    table_print(t);
}

/* Routing rules: "source=10.0.0.0/8 severity=err" -> topic. */
static void rules_print(const json_t *rules)
{
    static const char *const conditions[] = {"listener", "source", "facility",
                                             "severity", "host",   "app"};
    const json_t *row;
    size_t i;
    if (json_array_size(rules) == 0)
        return;
    struct table *t = table_new(">RULE|EVENTS WITH|TOPIC|KEY|COMPRESSION|>EVENTS");
    json_array_foreach(rules, i, row)
    {
        char no[CLI_TEXT_MAX], n[CLI_TEXT_MAX], when[1024] = "";
        size_t len = 0;
        for (size_t k = 0; k < sizeof(conditions) / sizeof(conditions[0]); k++) {
            const char *v = cli_str(row, conditions[k], NULL);
            if (v != NULL && len < sizeof(when))
                len += (size_t)snprintf(when + len, sizeof(when) - len, "%s%s=%s",
                                        len > 0 ? ", " : "", conditions[k], v);
        }
        table_row(t, cli_num((int64_t)i, no), when[0] != '\0' ? when : "(any)",
                  cli_str(row, "topic", ""), cli_str(row, "key", ""),
                  cli_str(row, "compression", ""), cli_num(cli_int(row, "events", 0), n));
    }
    putchar('\n');
    table_print(t);
}

int cmd_status(struct cli *c, int argc, char **argv)
{
    json_t *st;
    char a[CLI_TEXT_MAX], b[CLI_TEXT_MAX];
    if (args_parse(c->cmd, argc, argv, NULL, 0, NULL, 0) < 0)
        return cli_usage(c);
    int code = admin_call(c, "GET", "/v1/status", NULL, &st);
    if (code != EXIT_OK)
        return code;
    if (c->json) {
        cli_print_json(st);
        json_decref(st);
        return EXIT_OK;
    }
    printf("Sluice %s, node %" PRId64 ", cluster %s, data in %s\n", cli_str(st, "version", "?"),
           cli_int(st, "node_id", -1), cli_str(st, "cluster_id", "?"),
           cli_str(st, "data_dir", c->dir));
    process_line("sluiced", json_object_get(st, "sluiced"));
    process_line("dataplane", json_object_get(st, "dataplane"));
    reasons_print(json_object_get(json_object_get(st, "dataplane"), "reasons"));
    reasons_print(json_object_get(st, "notes"));
    printf("%s topics, %s partitions\n", cli_num(cli_int(st, "topics", 0), a),
           cli_num(cli_int(st, "partitions", 0), b));
    acceleration_print(json_object_get(st, "acceleration"));
    shards_print(json_object_get(st, "shards"));
    doors_print(st);
    rules_print(json_object_get(st, "rules"));
    const json_t *all = json_object_get(st, "ledgers");
    bool balances = true;
    for (uint32_t i = 0; i < LEDGER_CNT; i++)
        balances &= ledger_print(&ledgers[i], json_object_get(all, ledgers[i].key));
    json_decref(st);
    if (!balances)
        return cli_fail(c, "LEDGER", "a ledger does not balance; please report this");
    return EXIT_OK;
}
