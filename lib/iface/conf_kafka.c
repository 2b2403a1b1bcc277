/* conf_kafka.c - see conf_kafka.h. */
#include "lib/iface/conf_kafka.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void log_dirs(const struct conf *c, char *out, size_t cap)
{
    size_t len = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < c->data_dir_cnt && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%s", i > 0 ? "," : "", c->data_dirs[i]);
}

bool conf_kafka_value(const struct conf *c, const char *key, char *out, size_t cap)
{
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"log.segment.bytes", (int64_t)c->log_segment_bytes},
        {"log.roll.ms", c->log_segment_ms},
        {"log.retention.ms", c->log_retention_ms},
        {"log.retention.bytes", c->log_retention_bytes},
        {"log.index.interval.bytes", c->log_index_interval_bytes},
        {"log.index.size.max.bytes", c->log_index_size_max_bytes},
        {"message.max.bytes", c->message_max_bytes},
        {"node.id", c->node_id},
        {"broker.id", c->node_id},
        {"num.partitions", c->num_partitions},
        {"socket.request.max.bytes", c->socket_request_max_bytes},
        {"fetch.max.bytes", c->fetch_max_bytes},
        {"connections.max.idle.ms", c->connections_max_idle_ms},
        {"max.connections", c->kafka_connections_max},
        {"max.connections.per.ip", c->kafka_connections_max_per_ip},
        {"offsets.topic.num.partitions", c->offsets_partitions},
        {"offsets.retention.minutes", c->offsets_retention_ms / 60000},
        {"transaction.state.log.num.partitions", c->transactions_partitions},
        {"transaction.max.timeout.ms", c->transaction_max_timeout_ms},
        {"transactional.id.expiration.ms", (int64_t)c->transactional_id_expiration_ms},
        {"group.initial.rebalance.delay.ms", c->group_initial_rebalance_delay_ms},
        {"group.min.session.timeout.ms", c->group_min_session_timeout_ms},
        {"group.max.session.timeout.ms", c->group_max_session_timeout_ms},
        {"group.max.size", c->group_max_size},
        {"group.consumer.session.timeout.ms", c->group_consumer_session_timeout_ms},
        {"group.consumer.heartbeat.interval.ms", c->group_consumer_heartbeat_interval_ms},
        {"group.consumer.max.size", c->group_consumer_max_size},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strcmp(key, numbers[i].key) == 0) {
            snprintf(out, cap, "%" PRId64, (int64_t)numbers[i].value);
            return true;
        }
    if (strcmp(key, "log.dirs") == 0)
        log_dirs(c, out, cap);
    else if (strcmp(key, "max.connections.per.ip.overrides") == 0)
        snprintf(out, cap, "%s", c->kafka_connections_max_per_ip_overrides);
    else if (strcmp(key, "auto.create.topics.enable") == 0)
        snprintf(out, cap, "%s", c->auto_create_topics ? "true" : "false");
    else
        return false;
    return true;
}
