/* sasl.c - SaslHandshake and SaslAuthenticate as Kafka answers them where no SASL is configured:
 * the connection is authenticated already (as nobody in particular), so neither is in place. Old
 * clients test for these versions before they look at anything else. */
#include "dataplane/kafka/handlers.h"

enum { ERR_ILLEGAL_SASL_STATE = 34 };

int sasl_handshake_start(struct kreq *req, struct wire_reader *r)
{
    struct sasl_handshake_request in;
    struct sasl_handshake_response resp;
    int rc = sasl_handshake_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    sasl_handshake_response_init(&resp);
    resp.error_code = ERR_ILLEGAL_SASL_STATE;
    KREQ_RESPOND(req, sasl_handshake_response, &resp);
    return 0;
}

int sasl_authenticate_start(struct kreq *req, struct wire_reader *r)
{
    struct sasl_authenticate_request in;
    struct sasl_authenticate_response resp;
    int rc = sasl_authenticate_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    sasl_authenticate_response_init(&resp);
    resp.error_code = ERR_ILLEGAL_SASL_STATE;
    resp.error_message =
        span_str("SaslAuthenticate request received after successful authentication");
    KREQ_RESPOND(req, sasl_authenticate_response, &resp);
    return 0;
}
