/* rules.h - the event routing rules of the configuration, compiled to bit sets: bit i stands for
 * rules[i], and of the rules that an event's listener, source, facility and severity leave, the
 * lowest bit is the first that matches. Only rules that ask for host or app look at text.
 *
 *     candidates = of listener & of source & facility[event] & severity[event]
 *
 * The set of a source is kept in ingest's cache of source addresses, the one of a listener with the
 * listener. Runs on: its shard; read-only after compiling. */
#pragma once
#include "dataplane/ingest/proto.h"
#include "lib/base/assert.h"
#include "lib/iface/conf.h"

struct rule_pattern { /* "text", "text*", "*text", "*text*" */
    struct span text; /* without the stars; borrows the configuration */
    bool any;         /* no condition */
    bool open_begin, open_end;
};
struct rules {
    const struct conf *conf;
    uint64_t facility[REC_FACILITY_NONE + 1];
    uint64_t severity[REC_SEVERITY_NONE + 1];
    uint64_t text; /* rules with a condition on host or app */
    struct rule_pattern host[CONF_RULES_MAX], app[CONF_RULES_MAX];
};
static_assert(CONF_RULES_MAX <= 64, "a set of rules is one word");

/* conf outlives it. */
void rules_compile(struct rules *r, const struct conf *conf);
uint64_t rules_of_listener(const struct rules *r, const char *name);
uint64_t rules_of_source(const struct rules *r, const struct net_addr *a);
bool rule_text_matches(const struct rules *r, uint32_t i, const struct rec *rec);

/* @hot. The first rule out of `candidates` that matches; -1: none. */
static inline int rules_pick(const struct rules *r, uint64_t candidates, const struct rec *rec)
{
    candidates &= r->facility[rec->facility] & r->severity[rec->severity];
    while (candidates != 0) {
        uint32_t i = (uint32_t)__builtin_ctzll(candidates);
        if ((r->text >> i & 1) == 0 || rule_text_matches(r, i, rec))
            return (int)i;
        candidates &= candidates - 1;
    }
    return -1;
}
