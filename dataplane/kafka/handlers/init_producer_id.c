/* init_producer_id.c - InitProducerId for idempotent producers: the next id of the shard's block.
 * With no transactional id the current id and epoch a client sends (KIP-360) only mean that it
 * wants another one. Transactional ids are refused until there are transactions. */
#include "dataplane/kafka/handlers.h"

static int take_id(struct kafka *k, int64_t *ret_id)
{
    if (k->ids[0].next >= k->ids[0].end) {
        k->ids[0] = k->ids[1];
        k->ids[1] = (struct producer_block){0, 0};
    }
    int rc = -E_NO_PRODUCER_IDS;
    if (k->ids[0].next < k->ids[0].end) {
        *ret_id = k->ids[0].next++;
        rc = 0;
    }
    kafka_ids_refill(k);
    return rc;
}

int init_producer_id_start(struct kreq *req, struct wire_reader *r)
{
    struct init_producer_id_request in;
    int rc = init_producer_id_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    struct init_producer_id_response resp;
    init_producer_id_response_init(&resp);
    resp.producer_epoch = -1;
    if (!span_is_null(in.transactional_id)) {
        /* INVALID_REQUEST for an empty id, as Kafka; else UNSUPPORTED_VERSION, which is final */
        resp.error_code = in.transactional_id.len == 0 ? 42 : 35;
    } else {
        rc = take_id(req->k, &resp.producer_id);
        resp.error_code = (int16_t)err_kafka_code(rc);
        if (rc == 0)
            resp.producer_epoch = 0;
    }
    KREQ_RESPOND(req, init_producer_id_response, &resp);
    return 0;
}
