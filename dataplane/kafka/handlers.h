/* handlers.h - one handler per API, as api.def names them; each lives in handlers/<api>.c.
 * Contract of start, resume and cancel: session.h, struct api. Runs on: the shard's thread. */
#pragma once
#include "dataplane/kafka/session.h"
#include "dataplane/shard/owner_map.h"
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
/* The topic's value of a LONG or INT key: its override, else def. */
int64_t topic_config_int(const struct meta_topic *t, const char *key, int64_t def);
bool topic_config_is(const struct meta_topic *t, const char *key, const char *value, bool def);
