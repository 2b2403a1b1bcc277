#include "bench/load/bench_load.h"
#include <stdio.h>
#include <string.h>

#define WAIT_MS 30000

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
    if (err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        fprintf(stderr, "sluice-bench: %s\n", reason);
}

rd_kafka_t *client_new(rd_kafka_type_t type, const char *bootstrap, const struct client_opt *opts,
                       void (*dr)(rd_kafka_t *, const rd_kafka_message_t *, void *), void *opaque)
{
    static const struct client_opt consumer[] = {
        {"group.id", "sluice-bench"}, /* needed by the API; nothing is joined or committed */
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"check.crcs", "true"},
        {NULL, NULL}};
    static const struct client_opt any[] = {
        {"client.id", "sluice-bench"}, {"log_level", "0"}, {NULL, NULL}};
    char err[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const struct client_opt server[] = {{"bootstrap.servers", bootstrap}, {NULL, NULL}};
    const struct client_opt *lists[] = {server, any, type == RD_KAFKA_CONSUMER ? consumer : any,
                                        opts};
    for (size_t l = 0; l < 4; l++)
        for (const struct client_opt *o = lists[l]; o->name != NULL; o++)
            if (rd_kafka_conf_set(conf, o->name, o->value, err, sizeof(err)) != RD_KAFKA_CONF_OK) {
                (void)bench_fail("librdkafka: %s", err);
                rd_kafka_conf_destroy(conf);
                return NULL;
            }
    rd_kafka_conf_set_opaque(conf, opaque);
    rd_kafka_conf_set_error_cb(conf, on_error);
    if (dr != NULL)
        rd_kafka_conf_set_dr_msg_cb(conf, dr);
    rd_kafka_t *rk = rd_kafka_new(type, conf, err, sizeof(err));
    if (rk == NULL) {
        (void)bench_fail("librdkafka: %s", err);
        rd_kafka_conf_destroy(conf);
    } else if (type == RD_KAFKA_CONSUMER) {
        (void)rd_kafka_poll_set_consumer(rk);
    }
    return rk;
}

/* Waits for the one result of an admin request. */
static int admin_result(rd_kafka_queue_t *q, const char *what, const char *topic)
{
    const char *why = NULL;
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, WAIT_MS);
    rd_kafka_resp_err_t e = RD_KAFKA_RESP_ERR__TIMED_OUT;
    size_t n = 0;
    if (ev != NULL) {
        e = rd_kafka_event_error(ev);
        why = e != 0 ? rd_kafka_event_error_string(ev) : NULL;
        const rd_kafka_CreateTopics_result_t *made = rd_kafka_event_CreateTopics_result(ev);
        const rd_kafka_DeleteTopics_result_t *gone = rd_kafka_event_DeleteTopics_result(ev);
        const rd_kafka_topic_result_t **r =
            made != NULL   ? rd_kafka_CreateTopics_result_topics(made, &n)
            : gone != NULL ? rd_kafka_DeleteTopics_result_topics(gone, &n)
                           : NULL;
        if (e == 0 && n == 1) {
            e = rd_kafka_topic_result_error(r[0]);
            why = rd_kafka_topic_result_error_string(r[0]);
        }
    }
    int code = EXIT_OK;
    if (e != 0)
        code = bench_fail("%s topic %s: %s", what, topic, why != NULL ? why : rd_kafka_err2str(e));
    if (ev != NULL)
        rd_kafka_event_destroy(ev);
    return code;
}

int client_topic_create(rd_kafka_t *rk, const char *topic, uint32_t partitions)
{
    char err[512];
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(topic, (int)partitions, 1, err, sizeof(err));
    if (t == NULL)
        return bench_fail("topic %s: %s", topic, err);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &t, 1, NULL, q);
    int code = admin_result(q, "making", topic);
    rd_kafka_NewTopic_destroy(t);
    rd_kafka_queue_destroy(q);
    return code;
}

int client_topic_delete(rd_kafka_t *rk, const char *topic)
{
    rd_kafka_DeleteTopic_t *t = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopics(rk, &t, 1, NULL, q);
    int code = admin_result(q, "deleting", topic);
    rd_kafka_DeleteTopic_destroy(t);
    rd_kafka_queue_destroy(q);
    return code;
}

int client_partitions(rd_kafka_t *rk, const char *topic, uint32_t *ret)
{
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
    rd_kafka_resp_err_t e = rd_kafka_metadata(rk, 0, t, &md, WAIT_MS);
    rd_kafka_topic_destroy(t);
    if (e == 0 && md->topic_cnt == 1)
        e = md->topics[0].err;
    if (e == 0)
        *ret = (uint32_t)md->topics[0].partition_cnt;
    if (md != NULL)
        rd_kafka_metadata_destroy(md);
    return e == 0 ? EXIT_OK : bench_fail("asking for topic %s: %s", topic, rd_kafka_err2str(e));
}

int client_ranges(rd_kafka_t *rk, const char *topic, uint32_t partitions, struct client_range *ret)
{
    for (uint32_t p = 0; p < partitions; p++) {
        rd_kafka_resp_err_t e = rd_kafka_query_watermark_offsets(rk, topic, (int32_t)p, &ret[p].low,
                                                                 &ret[p].high, WAIT_MS);
        if (e != 0)
            return bench_fail("asking for the ends of %s partition %u: %s", topic, p,
                              rd_kafka_err2str(e));
    }
    return EXIT_OK;
}

int client_assign(rd_kafka_t *rk, const char *topic, uint32_t from, uint32_t to,
                  const struct client_range *ranges, bool at_end)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)(to - from));
    for (uint32_t p = from; p < to; p++)
        rd_kafka_topic_partition_list_add(list, topic, (int32_t)p)->offset =
            at_end ? ranges[p].high : ranges[p].low;
    rd_kafka_resp_err_t e = rd_kafka_assign(rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return e == 0 ? EXIT_OK : bench_fail("reading %s: %s", topic, rd_kafka_err2str(e));
}
