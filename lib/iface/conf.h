/* conf.h - the immutable configuration snapshot that sluiced hands to the dataplane.
 *
 * sluiced reads and validates YAML (ctl/conf/conf.def), fills struct conf and writes it with
 * conf_write to DIR/run/dataplane.conf before it starts the dataplane, which reads it back with
 * conf_read. The file is internal, one "key=value" line per field, checked field by field: a file
 * of another build or a damaged one is refused. Fixed arrays: a configuration has named maxima.
 * Any thread; read-only after start. */
#pragma once
#include "dataplane/flow.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONF_PATH_MAX 1024
#define CONF_NAME_MAX 64
#define CONF_LISTENERS_MAX 32
#define CONF_PORTS_MAX 8
#define CONF_DIRS_MAX 16
#define CONF_KAFKA_MAX 8
#define CONF_ADDRS_MAX 8
#define CONF_ROUTES_MAX 16
#define CONF_HTTP_HOSTS_MAX 8
#define CONF_POLICE_MAX 32
#define CONF_RULES_MAX 64
#define CONF_FACILITIES 24
#define CONF_SEVERITIES 8

enum conf_transport { CONF_UDP, CONF_TCP };
enum conf_proto { CONF_SYSLOG, CONF_RAW, CONF_GELF, CONF_JSON, CONF_NETFLOW };
enum conf_key { CONF_KEY_NONE, CONF_KEY_SOURCE, CONF_KEY_HOST };
enum conf_compression {
    CONF_COMP_AUTO,
    CONF_COMP_PRODUCER,
    CONF_COMP_NONE,
    CONF_COMP_GZIP,
    CONF_COMP_SNAPPY,
    CONF_COMP_LZ4,
    CONF_COMP_ZSTD
};
/* A rule's own choice, with "not chosen" first. */
enum conf_rule_compression {
    CONF_RULE_COMP_TOPIC,
    CONF_RULE_COMP_AUTO,
    CONF_RULE_COMP_NONE,
    CONF_RULE_COMP_GZIP,
    CONF_RULE_COMP_SNAPPY,
    CONF_RULE_COMP_LZ4,
    CONF_RULE_COMP_ZSTD
};

struct conf_listener { /* where events arrive */
    char name[CONF_NAME_MAX];
    enum conf_transport transport;
    enum conf_proto proto;
    char port_name[CONF_NAME_MAX]; /* DPDK port by name; empty: kernel socket */
    struct net_addr bind; /* address and UDP/TCP port; port 0: any free one (kernel only) */
    char topic[250];
    int32_t topic_partitions;       /* -1: one per shard */
    uint32_t event_bytes_max;       /* longer events are cut and marked truncated */
    uint32_t header_mask;           /* bit i: write enum rec_header i */
    int32_t zone_offset_s;          /* RFC 3164 timestamps: seconds east of UTC */
    uint32_t rcvbuf_bytes;          /* kernel sockets */
    uint32_t connections_max;       /* TCP */
    char time_field[CONF_NAME_MAX]; /* JSON: top-level member with the event's time; empty: none */
};
struct conf_addr {
    struct net_addr ip; /* .port unused */
    uint8_t prefix_len;
};
struct conf_rule {                /* events -> topic; the first rule that matches decides */
    char listener[CONF_NAME_MAX]; /* empty: any */
    struct conf_addr source;      /* ::/0: any */
    uint32_t facilities;          /* bit: facility number; 0: any, also none */
    uint32_t severities;
    char host[256], app[256]; /* with '*' at the beginning, the end or both; empty: any */
    char topic[250];
    int32_t topic_partitions; /* -1: one per shard */
    enum conf_key key;
    enum conf_rule_compression compression;
};
struct conf_route {
    struct conf_addr dst;
    struct net_addr via;
};
struct conf_port { /* one DPDK ethdev */
    char name[CONF_NAME_MAX];
    char device[512]; /* PCI address "0000:3b:00.0" or a vdev string "net_af_packet0,iface=v0" */
    uint16_t queues;  /* 0: one per shard */
    uint32_t rx_desc, tx_desc;
    uint16_t mtu, vlan; /* vlan 0: untagged */
    bool promiscuous;
    char host_interface[16]; /* TAP for what the dataplane does not serve; empty: dropped */
    uint32_t host_rate;      /* frames a second */
    uint32_t addr_cnt;
    struct conf_addr addrs[CONF_ADDRS_MAX];
    uint32_t route_cnt;
    struct conf_route routes[CONF_ROUTES_MAX];
};
struct conf_police_rule { /* what sources of a prefix may send, in datagrams */
    struct conf_addr from;
    uint32_t rate, burst; /* a second; burst 0: as many as rate */
    bool shared;          /* one bucket for the whole prefix, else one for each source */
};
struct conf_kafka_listener {
    char name[CONF_NAME_MAX];
    struct net_addr bind;
    char advertised_host[256]; /* empty: the bind address */
    uint16_t advertised_port;  /* 0: the bound port */
    bool allow_plaintext;      /* for an address other than loopback */
};
struct conf {
    /* identity and places */
    char dir[CONF_PATH_MAX]; /* DIR: log/ journal/ run/ state/ */
    uint32_t data_dir_cnt;   /* log.dirs; [0] is DIR/log */
    char data_dirs[CONF_DIRS_MAX][CONF_PATH_MAX];
    struct uuid cluster_id;
    int32_t node_id;
    bool dev; /* --dev: exit 30 s after losing sluiced */

    /* shards and memory */
    uint32_t shard_cnt; /* 0: plan decides */
    char cpus[256];     /* list such as "2-5"; empty: plan decides */
    bool idle_poll;     /* false: adaptive */
    bool hugepages;
    char compression_device[256]; /* compressdev: PCI address or vdev; empty: none */
    char eal_extra[512];      /* more EAL arguments, space separated */
    uint64_t cold_read_bytes; /* buffers for reads from the disk */
    uint64_t staging_bytes;   /* per shard: staging and tail cache */
    uint64_t request_bytes;   /* per shard: Kafka request and response budget */
    uint32_t connections_max; /* per shard */
    uint32_t mbufs;           /* per shard */
    uint64_t gelf_bytes;      /* per shard: chunks of GELF messages that are not whole yet */

    /* log */
    uint32_t flush_max_ms; /* sluice.flush.max.ms */
    uint32_t linger_ms;    /* ingest batches */
    uint32_t batch_bytes;  /* ingest batches close at this size */
    uint64_t journal_file_bytes;
    uint32_t journal_file_cnt;        /* per shard and data directory */
    uint32_t journal_threshold_bytes; /* partitions with less queued go to the journal */
    uint64_t storage_min_free_bytes;
    uint64_t reserve_bytes;    /* taken ahead of a segment's end */
    uint64_t scrub_rate_bytes; /* a second and shard; 0: off */
    int64_t scrub_interval_ms;
    uint64_t compaction_rate_bytes; /* a second and shard; 0: off */
    uint64_t compaction_memory_bytes;
    int64_t compaction_interval_ms;

    /* topic defaults (Kafka's broker keys) */
    int32_t num_partitions;
    bool auto_create_topics;
    uint64_t log_segment_bytes;
    int64_t log_segment_ms, log_retention_ms, log_retention_bytes;
    uint32_t log_index_interval_bytes, log_index_size_max_bytes;
    uint32_t message_max_bytes;
    uint32_t partitions_max;
    bool replicas_clamp; /* a replication factor above 1 is taken as 1, not refused */
    enum conf_compression listener_compression; /* sluice.compression of listener topics */

    /* Kafka protocol limits */
    uint32_t socket_request_max_bytes, fetch_max_bytes;
    uint32_t connections_max_idle_ms;
    uint32_t kafka_connections_max, kafka_connections_max_per_ip; /* of all shards */
    char kafka_connections_max_per_ip_overrides[1024];            /* ip_limits.h */

    /* consumer groups */
    uint32_t group_initial_rebalance_delay_ms;
    uint32_t group_min_session_timeout_ms, group_max_session_timeout_ms;
    uint32_t group_max_size, group_consumer_max_size;
    uint32_t group_consumer_session_timeout_ms, group_consumer_heartbeat_interval_ms;
    uint32_t offsets_partitions; /* of __consumer_offsets when sluiced creates it */
    uint64_t offsets_retention_ms;

    /* transactions */
    uint32_t transactions_partitions; /* of __transaction_state when it is created */
    uint32_t transaction_max_timeout_ms;
    uint64_t transactional_id_expiration_ms;

    /* policing */
    uint32_t police_sources_max; /* per shard */
    uint32_t police_rule_cnt;
    struct conf_police_rule police_rules[CONF_POLICE_MAX];

    struct net_addr http_bind; /* sluiced's GET-only HTTP server */
    uint32_t http_host_cnt;
    char http_hosts[CONF_HTTP_HOSTS_MAX][CONF_NAME_MAX];

    uint32_t kafka_cnt;
    struct conf_kafka_listener kafka[CONF_KAFKA_MAX];
    uint32_t port_cnt;
    struct conf_port ports[CONF_PORTS_MAX];
    uint32_t listener_cnt;
    struct conf_listener listeners[CONF_LISTENERS_MAX];
    uint32_t rule_cnt;
    struct conf_rule rules[CONF_RULES_MAX];
};

/* Values of `sluiced --dev` with no configuration file: conf_init, the rows of --dev, conf_finish.
 */
void conf_defaults(struct conf *c);
/* Every key at the default of conf.def (one Kafka and two syslog listeners on loopback), not yet
 * finished. What a configuration file starts from. */
void conf_init(struct conf *c);
/* The values that --dev changes: data.dir, shards.count, node.dev. */
void conf_dev(struct conf *c);
/* Derived values: data_dirs[0] becomes DIR/log. Call once, after the last conf_set. */
void conf_finish(struct conf *c);

/* Sets one key by its path as written in YAML ("listeners[0].bind"). The index after the last
 * element appends one with the element's defaults. 0, or -E_CONFIG with a sentence in err[] that
 * names neither file nor line. `internal` allows keys only sluiced may set. */
NODISCARD int conf_set(struct conf *c, const char *path, const char *value, bool internal,
                       char *err, size_t err_cap);
/* The value of one key as text. 0, or -E_CONFIG: no such key, or no such element. */
NODISCARD int conf_get(const struct conf *c, const char *path, char *out, size_t cap);
/* Empties a list ("listeners") so that a file's own list replaces the default one. */
NODISCARD int conf_list_clear(struct conf *c, const char *path);
/* One more element, with the element's defaults. 0, or -E_CONFIG as conf_set. */
NODISCARD int conf_list_append(struct conf *c, const char *path, char *err, size_t err_cap);

/* What a dotted path may be, for readers of configuration files. Indices are part of the path. */
enum conf_node {
    CONF_NODE_UNKNOWN,
    CONF_NODE_GROUP,
    CONF_NODE_KEY,
    CONF_NODE_LIST,
    CONF_NODE_VALUES,
    CONF_NODE_ELEMENT
};
enum conf_node conf_node_kind(const char *path);
/* A key whose value is a set of words (headers, facility, ...): YAML may write it as a list. */
bool conf_node_is_set(const char *path);
/* A key that only sluiced sets. */
bool conf_node_is_internal(const char *path);
/* The name under `parent` ("" is the root) closest to `name`, or NULL when none is close.
 * Static lifetime until the next call in the same thread. */
const char *conf_suggest(const char *parent, const char *name);
/* Edits between two short words, a swap of neighbours counting as one; UINT32_MAX for long ones. */
uint32_t conf_word_distance(const char *a, const char *b);
/* The reference of all keys as text for a terminal. */
void conf_print_reference(FILE *out);

/* 1..249 of [a-zA-Z0-9._-], not "." or "..". */
bool conf_topic_name_ok(const char *name);
/* Takes the first "N" or "N-M" off a list of cores such as "2-5,8" and moves *list behind it. 1, 0
 * when nothing is left, or -E_CONFIG with what is wrong in err[]. */
#define CONF_CPU_MAX 65535
NODISCARD int conf_cpus_next(const char **list, uint32_t *ret_first, uint32_t *ret_last, char *err,
                             size_t cap);
/* "auto", "producer", "none", ... */
const char *conf_compression_name(enum conf_compression c);
/* "syslog", "raw", ... */
const char *conf_proto_name(enum conf_proto p);
/* Length of its prefix in the 128 bits of ip: an IPv4 address is v4-mapped. */
uint32_t conf_addr_bits(const struct conf_addr *a);
/* Is `topic` where the dead letters of the topic `of` go? */
bool conf_is_dlq_of(const char *topic, const char *of);
/* Is `a` in the network `net`? An IPv4 prefix contains IPv4 addresses only, ::/0 every address. */
bool conf_addr_contains(const struct conf_addr *net, const struct net_addr *a);
/* What a rule's own choice of compression means; of CONF_RULE_COMP_TOPIC: CONF_COMP_PRODUCER. */
enum conf_compression conf_compression_of(enum conf_rule_compression c);

/* Atomically replaces `path`. 0 or -errno. */
NODISCARD int conf_write(const struct conf *c, const char *path);
/* True when the file is exactly what conf_write(c) would write: same build, same values. */
bool conf_file_matches(const struct conf *c, const char *path);
/* 0, -errno, or -E_CONFIG with a sentence naming line and field in err[]. */
NODISCARD int conf_read(struct conf *c, const char *path, char *err, size_t err_cap);
