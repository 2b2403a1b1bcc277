/* handlers.h - one handler per API, as api.def names them; each lives in handlers/<api>.c.
 * Contract of start, resume and cancel: session.h, struct api. Runs on: the shard's thread. */
#pragma once
#include "dataplane/kafka/owner.h"
#include "dataplane/kafka/session.h"
#include "dataplane/shard/owner_map.h"
#include "lib/meta/config_keys.h"
#include "lib/wire/wire_gen.h"

enum { /* API_KEY_x */
#define API(id, key, name, lo, hi, flags, start, resume, cancel) API_KEY_##id = (key),
#include "dataplane/kafka/api.def"
#undef API
};

int api_versions_start(struct kreq *req, struct wire_reader *r);
int metadata_start(struct kreq *req, struct wire_reader *r);
int produce_start(struct kreq *req, struct wire_reader *r);
void produce_cancel(struct kreq *req);
int fetch_start(struct kreq *req, struct wire_reader *r);
void fetch_resume(struct kreq *req);
void fetch_cancel(struct kreq *req);
int list_offsets_start(struct kreq *req, struct wire_reader *r);
int create_topics_start(struct kreq *req, struct wire_reader *r);
int delete_topics_start(struct kreq *req, struct wire_reader *r);
int create_partitions_start(struct kreq *req, struct wire_reader *r);
int init_producer_id_start(struct kreq *req, struct wire_reader *r);
int describe_configs_start(struct kreq *req, struct wire_reader *r);
int describe_cluster_start(struct kreq *req, struct wire_reader *r);
int describe_topic_partitions_start(struct kreq *req, struct wire_reader *r);
int offset_for_leader_epoch_start(struct kreq *req, struct wire_reader *r);
int delete_records_start(struct kreq *req, struct wire_reader *r);
int alter_configs_start(struct kreq *req, struct wire_reader *r);
int describe_log_dirs_start(struct kreq *req, struct wire_reader *r);
int elect_leaders_start(struct kreq *req, struct wire_reader *r);
int incremental_alter_configs_start(struct kreq *req, struct wire_reader *r);
int describe_user_scram_credentials_start(struct kreq *req, struct wire_reader *r);
int list_partition_reassignments_start(struct kreq *req, struct wire_reader *r);
int describe_producers_start(struct kreq *req, struct wire_reader *r);
int list_config_resources_start(struct kreq *req, struct wire_reader *r);
int alter_client_quotas_start(struct kreq *req, struct wire_reader *r);
int describe_client_quotas_start(struct kreq *req, struct wire_reader *r);
int describe_quorum_start(struct kreq *req, struct wire_reader *r);
int sasl_handshake_start(struct kreq *req, struct wire_reader *r);
int sasl_authenticate_start(struct kreq *req, struct wire_reader *r);

/* Questions to the owners of partitions (owner.h), any number for one request:
 *     asks_begin -> ask_send each -> asks_sent -> ask.done each -> asks.home
 * All of it lives in the request's arena. Once the connection is gone neither done nor home run. */
struct asks {
    struct kreq *req;
    uint32_t pending;             /* questions out, and one until asks_sent */
    void (*home)(struct asks *a); /* all are answered: respond. Inside asks_sent if none is out */
};
struct ask_op {
    struct ask_msg m;
    struct asks *of;
    void (*done)(struct ask_op *ask); /* the answer is there, rc in m.msg.rc */
};
void asks_begin(struct asks *a, struct kreq *req, void (*home)(struct asks *a));
/* Fills topic, partition and sends. 0, or the Kafka code why there is nobody to ask. */
int16_t ask_send(struct asks *a, struct ask_op *ask, const struct meta_topic *t, int32_t partition);
/* From done: the same question to the same partition once more. 0 or -E_NOT_OWNER. */
NODISCARD int ask_again(struct ask_op *ask);
void asks_sent(struct asks *a);
int find_coordinator_start(struct kreq *req, struct wire_reader *r);
int join_group_start(struct kreq *req, struct wire_reader *r);
int sync_group_start(struct kreq *req, struct wire_reader *r);
int heartbeat_start(struct kreq *req, struct wire_reader *r);
int leave_group_start(struct kreq *req, struct wire_reader *r);
int offset_commit_start(struct kreq *req, struct wire_reader *r);
int offset_delete_start(struct kreq *req, struct wire_reader *r);
int offset_fetch_start(struct kreq *req, struct wire_reader *r);
int describe_groups_start(struct kreq *req, struct wire_reader *r);
int list_groups_start(struct kreq *req, struct wire_reader *r);
int delete_groups_start(struct kreq *req, struct wire_reader *r);
int consumer_group_heartbeat_start(struct kreq *req, struct wire_reader *r);
int consumer_group_describe_start(struct kreq *req, struct wire_reader *r);
void group_one_cancel(struct kreq *req);
int add_partitions_to_txn_start(struct kreq *req, struct wire_reader *r);
int add_offsets_to_txn_start(struct kreq *req, struct wire_reader *r);
int txn_offset_commit_start(struct kreq *req, struct wire_reader *r);
int write_txn_markers_start(struct kreq *req, struct wire_reader *r);
int describe_transactions_start(struct kreq *req, struct wire_reader *r);
int list_transactions_start(struct kreq *req, struct wire_reader *r);
int end_txn_start(struct kreq *req, struct wire_reader *r);

/* An admin request that somebody (a client, or Metadata's auto-creation) wants answered by
 * sluiced. `done` runs when the answer, or the failure in m.msg.rc, is there - also when the
 * connection is gone (req->conn == NULL), so that it can let go of what it holds. */
struct admin_op {
    struct kafka_admin_msg m;
    struct kreq *req;
    void (*done)(struct admin_op *op);
};
void admin_send(struct admin_op *op);

/* Kafka's rules of a topic name (1..249 of [a-zA-Z0-9._-], not "." or ".."). */
bool topic_name_is_valid(struct span name);
/* Topics that clients may not write: ours and Kafka's internal ones. */
bool topic_is_internal(const struct meta_topic *t);
bool topic_name_is_internal(struct span name);
/* The image's value of a topic's LONG or INT key (config_keys.h), else def. */
int64_t topic_config_int(const struct meta_image *img, const struct meta_topic *t, const char *key,
                         int64_t def);
bool topic_config_is(const struct meta_image *img, const struct meta_topic *t, const char *key,
                     const char *value, bool def);
