/* ledger.h - the three loss ledgers of an answer to /v1/status, as status and loss show them.
 * Runs on: the only thread. */
#pragma once
#include <jansson.h>
#include <stdint.h>

/* What a ledger is: its key in the answer, its unit, the left side and the summands of the right
 * side (ended by NULL); what was dropped is always the last summand. */
#define LEDGER_CNT 3u
struct ledger {
    const char *key, *title, *unit, *equation, *left, *right[5];
};
extern const struct ledger ledgers[LEDGER_CNT];

/* Sum of the row's drop reasons. */
int64_t ledger_dropped(const json_t *row);
/* Left minus right side: 0 when the row balances. Added up here, not believed. */
int64_t ledger_off(const struct ledger *l, const json_t *row);
