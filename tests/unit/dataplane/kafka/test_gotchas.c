/* test_gotchas.c - answers of Kafka's that are easily got wrong, each as a test of its name. */
#include "tests/unit/dataplane/kafka/kafka_test.h"

enum {
    SASL_HANDSHAKE = 17,
    API_VERSIONS = 18,
    SASL_AUTHENTICATE = 36,
    DESCRIBE_QUORUM = 55,
};

static void sasl_on_a_plaintext_listener_is_an_illegal_state_and_nothing_closes(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 1; v++) {
        struct sasl_handshake_request m = {.mechanism = span_str("PLAIN")};
        struct sasl_handshake_response resp;
        REQUEST(c, SASL_HANDSHAKE, v, sasl_handshake, &m);
        world_run(w, 2);
        RESPONSE(c, SASL_HANDSHAKE, v, sasl_handshake, &resp);
        assert_int_equal(resp.error_code, 34);
        assert_int_equal(resp.mechanisms.cnt, 0);
    }
    for (int16_t v = 0; v <= 2; v++) {
        struct sasl_authenticate_request m = {.auth_bytes = span_str("\0user\0secret")};
        struct sasl_authenticate_response resp;
        REQUEST(c, SASL_AUTHENTICATE, v, sasl_authenticate, &m);
        world_run(w, 2);
        RESPONSE(c, SASL_AUTHENTICATE, v, sasl_authenticate, &resp);
        assert_int_equal(resp.error_code, 34);
        assert_true(resp.error_message.len > 0);
        assert_int_equal(resp.auth_bytes.len, 0);
    }
    assert_false(c->eof || c->closed);
    client_close(c);
    close_world();
}

static void the_quorum_of_the_metadata_log_is_this_node(void **state)
{
    (void)state;
    open_world(NULL);
    struct client *c = client_open(w);
    for (int16_t v = 0; v <= 2; v++) {
        struct describe_quorum_request m;
        struct describe_quorum_request_topic t[2];
        struct describe_quorum_request_partition p = {0};
        struct describe_quorum_response resp;
        describe_quorum_request_init(&m);
        for (int i = 0; i < 2; i++) {
            describe_quorum_request_topic_init(&t[i]);
            t[i].topic_name = span_str(i == 0 ? "__cluster_metadata" : "other");
            t[i].partitions.v = &p;
            t[i].partitions.cnt = 1;
        }
        m.topics.v = t;
        m.topics.cnt = 2;
        REQUEST(c, DESCRIBE_QUORUM, v, describe_quorum, &m);
        world_run(w, 2);
        RESPONSE(c, DESCRIBE_QUORUM, v, describe_quorum, &resp);
        assert_int_equal(resp.error_code, 0);
        const struct describe_quorum_response_partition *q = resp.topics.v[0].partitions.v;
        assert_int_equal(q->error_code, 0);
        assert_int_equal(q->leader_id, w->conf->node_id);
        assert_int_equal(q->high_watermark, w->image->offset + 1);
        assert_int_equal(q->current_voters.cnt, 1);
        assert_int_equal(q->current_voters.v[0].replica_id, w->conf->node_id);
        assert_int_equal(q->observers.cnt, 0);
        assert_int_equal(resp.topics.v[1].partitions.v[0].error_code, 3);
        assert_int_equal(resp.nodes.cnt, v >= 2 ? 1 : 0);
    }
    client_close(c);
    close_world();
}

TEST_MAIN(TEST(sasl_on_a_plaintext_listener_is_an_illegal_state_and_nothing_closes),
          TEST(the_quorum_of_the_metadata_log_is_this_node))
