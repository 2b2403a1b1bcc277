#include "ctl/cli/ledger.h"
#include "ctl/cli/cli.h"

const struct ledger ledgers[LEDGER_CNT] = {
    {"ports",
     "Frames, by port",
     "frames",
     "seen = to_udp + to_host + handled + in_reassembly + dropped",
     "seen",
     {"to_udp", "to_host", "handled", "in_reassembly", NULL}},
    {"listeners",
     "Datagrams, by listener",
     "datagrams",
     "received = parsed + in_reassembly + dropped",
     "received",
     {"parsed", "in_reassembly", NULL}},
    {"events",
     "Events, by listener",
     "events",
     "produced = durable + dead_lettered_durable + in_flight + dropped",
     "produced",
     {"durable", "dead_lettered_durable", "in_flight", NULL}},
};

int64_t ledger_dropped(const json_t *row)
{
    const char *reason;
    json_t *n;
    int64_t sum = 0;
    json_object_foreach(json_object_get(row, "dropped"), reason, n) sum += json_integer_value(n);
    return sum;
}

int64_t ledger_off(const struct ledger *l, const json_t *row)
{
    int64_t right = ledger_dropped(row);
    for (const char *const *r = l->right; *r != NULL; r++)
        right += cli_int(row, *r, 0);
    return cli_int(row, l->left, 0) - right;
}
