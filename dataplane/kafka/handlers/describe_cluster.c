/* describe_cluster.c - DescribeCluster: one broker, ours. Asked for controllers, a broker's
 * listener answers MISMATCHED_ENDPOINT_TYPE. */
#include "dataplane/kafka/handlers.h"

#define ENDPOINT_BROKERS 1
#define ENDPOINT_CONTROLLERS 2
#define CLUSTER_OPERATIONS 0x1FA0

int describe_cluster_start(struct kreq *req, struct wire_reader *r)
{
    struct describe_cluster_request in;
    int rc = describe_cluster_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    const struct shard *s = req->k->s;
    const struct meta_image *img = s->image;
    struct describe_cluster_response resp;
    describe_cluster_response_init(&resp);
    struct describe_cluster_response_broker broker;
    describe_cluster_response_broker_init(&broker);
    char cluster[UUID_TEXT_LEN + 1];
    uuid_format(img != NULL && !uuid_is_zero(&img->cluster_id) ? &img->cluster_id
                                                               : &s->conf->cluster_id,
                cluster);
    resp.cluster_id = span_str(cluster);
    resp.endpoint_type = in.endpoint_type;
    if (in.endpoint_type == ENDPOINT_BROKERS) {
        broker.broker_id = s->conf->node_id;
        kreq_advertised(req, &broker.host, &broker.port);
        resp.brokers.v = &broker;
        resp.brokers.cnt = 1;
        resp.controller_id = s->conf->node_id;
        if (in.include_cluster_authorized_operations)
            resp.cluster_authorized_operations = CLUSTER_OPERATIONS;
    } else if (in.endpoint_type == ENDPOINT_CONTROLLERS) {
        resp.error_code = 114; /* MISMATCHED_ENDPOINT_TYPE */
        resp.error_message = span_str("this listener serves brokers, not controllers");
    } else {
        resp.error_code = 115; /* UNSUPPORTED_ENDPOINT_TYPE */
        resp.error_message = span_str("endpoint type must be 1 (brokers)");
    }
    KREQ_RESPOND(req, describe_cluster_response, &resp);
    return 0;
}
