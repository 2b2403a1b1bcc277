/* stats_shm.h - counters of all shards in one shared file, DIR/run/stats.shm, and the ledger
 * checkpoint DIR/state/ledger by which totals continue across restarts.
 *
 * The dataplane's control thread creates the file; each shard publishes its counters at most once
 * per turn into its own block; sluiced (and sluicectl in tests) map it read-only. A block holds two
 * copies and a sequence number: a copy is written while the other one is the published one, so a
 * reader gets the counters of one instant of the shard (end of a turn), in which the ledgers
 * balance, and a dataplane killed at any point leaves its last published turn whole.
 * Layout: struct stats_header, shard_cnt blocks, one block of carried totals. The file is internal:
 * another build's file is refused.
 *
 * Runs on: create/destroy, ledger_* on the control thread (they block); stats_publish on the shard;
 * the reader functions on any thread, of any process. */
#pragma once
#include "dataplane/counters.h"
#include "lib/base/err.h"
#include "lib/iface/conf.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define STATS_MAGIC UINT64_C(0x31415453454c5553) /* "SULESTA1" in memory order */
#define STATS_STAGES_MAX 16
#define STATS_STAGE_NAME_MAX 16
#define STATS_SHARDS_MAX 64
#define STATS_ACCEL_MAX 512
#define STATS_PUBLISH_IDLE_NS UINT64_C(10000000) /* an idle shard publishes this often */

/* ---- what the words are: tables for metrics, status and the checkpoint */
enum stats_kind { STATS_COUNTER, STATS_GAUGE, STATS_MAX };
struct stats_desc {
    const char *name, *help;
    enum stats_kind kind;
    uint16_t word, cnt; /* first word in its struct, number of words */
    bool is_drop;       /* name is a drop reason */
};
extern const struct stats_desc stats_shard_desc[], stats_port_desc[], stats_listener_desc[],
    stats_event_desc[];
extern const uint32_t stats_shard_desc_cnt, stats_port_desc_cnt, stats_listener_desc_cnt,
    stats_event_desc_cnt;

/* ---- what happened between the previous run and this one: the `_sluice.gaps` record */
struct ledger_gap {
    bool had_previous;      /* false: first start of this directory, no record */
    bool clean;             /* the previous run stopped in order */
    bool nic_unobserved;    /* traffic may have come while nobody counted */
    int64_t from_ms, to_ms; /* wall clock: last known instant of the old run, start of this */
    uint32_t shards_before, shards; /* differ: an order boundary; before 0: not known */
    int64_t in_flight_lost_max; /* events in flight at from_ms; -1: unknown (the machine went down:
                                   what came after from_ms was not written down either) */
};
/* The record's value as JSON text, NUL-terminated. Length, or -E_LIMIT (cap 256 always does). */
int ledger_gap_json(const struct ledger_gap *g, char *buf, size_t cap);

/* ---- the file */
struct stats_header {
    _Atomic uint64_t magic; /* stored last */
    uint64_t layout;        /* hash over every counter's name and place */
    char build[64], boot_id[40];
    uint32_t shard_cnt, port_cnt, listener_cnt, stage_cnt, rule_cnt;
    int32_t pid;
    uint64_t tsc_hz;
    int64_t start_wall_ms;
    struct ledger_gap gap;
    char accel[STATS_ACCEL_MAX];         /* accel_describe of the dataplane */
    int32_t shard_cpu[STATS_SHARDS_MAX]; /* where it is pinned; -1: nowhere */
    char stage_name[STATS_STAGES_MAX][STATS_STAGE_NAME_MAX];
    char port_name[CONF_PORTS_MAX][CONF_NAME_MAX];
    char listener_name[CONF_LISTENERS_MAX][CONF_NAME_MAX];
};

#define STATS_TALKERS_MAX 16
struct stats_talker { /* a source that a policing rule is for */
    uint8_t ip[16];
    uint64_t passed, refused; /* datagrams since start, or since its place was given to it */
};

struct stats_shm;    /* the creator's handle */
struct stats_block;  /* one shard's place */
struct stats_reader; /* a read-only mapping */

struct stats_create_opts {
    const struct conf *conf; /* names and counts of ports and listeners; not kept */
    uint16_t shard_cnt;
    uint32_t stage_cnt;
    const char *const *stage_names;
    const int *shard_cpu; /* shard_cnt; NULL: not pinned */
    const char *accel;    /* which kernels were chosen; NULL: not said */
    uint64_t tsc_hz;
    int64_t start_wall_ms;
    const struct counters *carried; /* totals of earlier runs (ledger_recover); NULL: none */
    struct ledger_gap gap;
};
/* Writes a fresh file beside `path` and renames it over it (mode 0640; readers of the old one keep
 * it). 0, -errno, or -E_LIMIT for too many shards or stages. */
NODISCARD int stats_create(const char *path, const struct stats_create_opts *opts,
                           struct stats_shm **ret);
void stats_destroy(struct stats_shm *shm); /* unmaps; the file stays for the next start */
struct stats_block *stats_block(struct stats_shm *shm, uint16_t shard);

/* @hot. End of a turn: publish `c` when the turn did something (`busy`) or the last publication is
 * older than STATS_PUBLISH_IDLE_NS. Ledgers must balance in `c`. Only configured ports and
 * listeners are copied. Call with busy = true before sleeping and before the shard ends. */
void stats_publish(struct stats_block *b, const struct counters *c, uint64_t now_ns,
                   int64_t wall_ms, bool busy);
/* Whether that would publish: who gathers `c` first need not when not. */
bool stats_publish_is_due(const struct stats_block *b, uint64_t now_ns, bool busy);

/* Once a second: the shard's loudest policed sources, n <= STATS_TALKERS_MAX. */
void stats_publish_talkers(struct stats_block *b, const struct stats_talker *t, uint32_t n);

/* ---- reading. 0, -errno (-ENOENT: no dataplane has started yet), -E_MALFORMED: not our file,
 * -E_UNSUPPORTED_VERSION: another build's. A restarted dataplane makes a new file,
 * which a reader sees when it opens again. */
NODISCARD int stats_open(const char *path, struct stats_reader **ret);
void stats_close(struct stats_reader *r);
const struct stats_header *stats_header(const struct stats_reader *r);
/* Counters of one shard since start, one instant. 0, or -EAGAIN after too many retries. */
NODISCARD int stats_read(const struct stats_reader *r, uint16_t shard, struct counters *ret);
/* Totals: carried from earlier runs + all shards (each one instant). 0 or -EAGAIN. */
NODISCARD int stats_read_total(const struct stats_reader *r, struct counters *ret);
/* The loudest policed sources of one shard; how many, or -EAGAIN after too many retries. */
NODISCARD int stats_read_talkers(const struct stats_reader *r, uint16_t shard,
                                 struct stats_talker ret[STATS_TALKERS_MAX]);
/* Wall clock of the latest publication of any shard. */
int64_t stats_last_ms(const struct stats_reader *r);
/* The kernel's id of this boot; empty when unknown. */
void stats_boot_id(char *buf, size_t cap);
/* to += c, by kind. */
void stats_sum(struct counters *to, const struct counters *c);
/* Do the three ledgers balance? 0, or -E_MALFORMED with the first that does not in err[]. */
NODISCARD int stats_check(const struct counters *c, uint32_t port_cnt, uint32_t listener_cnt,
                          char *err, size_t err_cap);

/* ---- totals across restarts
 * Written now and then and at a clean stop: totals as stats_read_total gives them. Atomic and
 * fsynced. The text file names every word, so another build's file still loads. 0 or -errno. */
NODISCARD int ledger_save(const char *path, const struct conf *conf, const struct counters *total,
                          int64_t wall_ms, bool clean);
/* At start: totals of earlier runs and the gap. A stats.shm left by a run that died on this boot is
 * exact and preferred; else the checkpoint. What was in flight or in reassembly becomes
 * drop[restart], so the carried ledgers balance. Ports and listeners are matched by name.
 * shm_path's file must be the old one: call before stats_create. 0 (also without any file), or
 * -errno, -E_MALFORMED with a sentence in err[] (the caller decides to go on from zero). */
NODISCARD int ledger_recover(const char *shm_path, const char *ledger_path, const struct conf *conf,
                             int64_t now_ms, struct counters *ret_carried,
                             struct ledger_gap *ret_gap, char *err, size_t err_cap);
