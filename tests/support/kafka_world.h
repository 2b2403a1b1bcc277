/* kafka_world.h - the Kafka side of several shards on one thread: real mailboxes, the simulated
 * transport, fake logs (fake_plog.h), a fake control thread, and clients that send bytes.
 *
 * Time is virtual: world_run(ms) moves it in steps of 1 ms and runs every shard at each. One
 * thread. */
#pragma once
#include "dataplane/kafka/handlers.h"
#include "dataplane/net/net_sim.h"
#include "tests/support/fake_plog.h"
#include "tests/support/kafka_bytes.h"

#define WORLD_SHARDS_MAX 4
#define WORLD_TOPIC_PARTITIONS 4

struct client {
    struct world *w;
    conn_id id;
    bool open, closed, eof;
    uint8_t *in; /* what the broker sent and was not taken */
    size_t in_len, in_cap;
    bool deaf; /* does not read */
};
struct admin_seen { /* the last MSG_ADMIN, copied */
    uint32_t cnt;
    int16_t api_key, api_version;
    bool fail_fast;
    uint32_t timeout_ms;
    uint8_t body[4096];
    uint32_t body_len;
};
struct world {
    uint32_t shard_cnt;
    uint64_t now_ns;
    struct shard shard[WORLD_SHARDS_MAX];
    struct mbox_net *mboxes;
    struct mbox *ctl;
    struct sim_world *sim;
    struct net *client_net;
    struct conf *conf;
    struct meta_image *image;
    struct owner_map *owners;
    struct kafka_shared *kafka_shared;
    uint32_t topics_made;
    struct client *clients[512];
    uint32_t client_cnt;
    int listener[WORLD_SHARDS_MAX];
    /* the control thread */
    struct admin_seen admin;
    bool ctl_away; /* keeps admin requests */
    int admin_rc;  /* < 0: what it answers */
    bool creates;  /* CreateTopics makes the topic */
    int64_t next_id;
    bool ids_away;
    struct list held; /* of struct msg.link */
};
/* Topic ids: the n-th topic made has bytes {n, n, ...}. */
struct uuid world_topic_id(uint32_t n);

struct world_opts {
    uint32_t shards;          /* 1 */
    uint64_t request_bytes;   /* 64 MiB */
    uint32_t connections_max; /* 256 */
    uint32_t chunk_max;       /* net_sim: short reads */
    uint64_t seed;
};
struct world *world_create(const struct world_opts *opts);
void world_destroy(struct world *w);
/* Where there are several: the one whose control thread answers from now on. */
void world_use(struct world *w);
/* A topic of WORLD_TOPIC_PARTITIONS partitions, partition p on shard p % shards; config "k=v" or
 * NULL. */
void world_topic(struct world *w, const char *name, const char *config);
/* What one user and client id ("" default, NULL absent) may do a second; 0: no quota. */
void world_quota(struct world *w, const char *user, const char *client, enum quota_type type,
                 double rate);
/* A dynamic configuration of the broker; value NULL: none. */
void world_broker_config(struct world *w, const char *key, const char *value);
void world_group_config(struct world *w, const char *group, const char *key, const char *value);
/* Deletes it again: its partitions are unknown from then on. */
void world_topic_delete(struct world *w, const char *name);
struct plog *world_plog(struct world *w, const char *topic, int32_t partition);
void world_run(struct world *w, uint32_t ms);
/* Time passes at once; then what was due runs. */
void world_skip(struct world *w, int64_t ms);
/* One connection to shard 0 (or any). */
struct client *client_open(struct world *w);
void client_send(struct client *c, const void *p, size_t len);
void client_close(struct client *c);
/* A whole response frame: its bytes after the size, or false. The view is valid until the next. */
bool client_take(struct client *c, struct span *ret_frame);
void client_request(struct client *c, int16_t key, int16_t version, int32_t correlation,
                    write_fn *write, const void *m);
