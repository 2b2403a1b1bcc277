/* sasl.c - SaslHandshake and SaslAuthenticate as Kafka answers them where no SASL is configured:
 * the connection is authenticated already (as nobody in particular), so neither is in place. Old
 * clients test for these versions before they look at anything else. And
 * DescribeUserScramCredentials, without which kafka-configs describes no quota of a user: there are
 * no credentials. */
#include "dataplane/kafka/handlers.h"
#include <string.h>

enum { ERR_ILLEGAL_SASL_STATE = 34, ERR_RESOURCE_NOT_FOUND = 91, ERR_DUPLICATE_RESOURCE = 92 };

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

static int scram_result(struct kreq *req, struct span user, bool is_repeated,
                        struct describe_user_scram_credentials_response_result *out)
{
    struct span why = span_str(
        is_repeated
            ? "Cannot describe SCRAM credentials for the same user twice in a single request: "
            : "Attempt to describe a user credential that does not exist: ");
    uint8_t *text = arena_alloc(&req->arena, (size_t)why.len + user.len);
    if (text == NULL)
        return -E_LIMIT;
    memcpy(text, why.p, why.len);
    if (user.len > 0)
        memcpy(text + why.len, user.p, user.len);
    describe_user_scram_credentials_response_result_init(out);
    out->user = user;
    out->error_code = is_repeated ? ERR_DUPLICATE_RESOURCE : ERR_RESOURCE_NOT_FOUND;
    out->error_message = span_of(text, why.len + user.len);
    return 0;
}

/* How many of users[0..cnt) have this name. */
static uint32_t named(const struct describe_user_scram_credentials_request_user *users,
                      uint32_t cnt, struct span name)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < cnt; i++)
        n += span_eq(users[i].name, name);
    return n;
}

int describe_user_scram_credentials_start(struct kreq *req, struct wire_reader *r)
{
    struct describe_user_scram_credentials_request in;
    struct describe_user_scram_credentials_response resp;
    int rc = describe_user_scram_credentials_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    describe_user_scram_credentials_response_init(&resp);
    resp.error_message = SPAN_NULL;
    uint64_t need = 0;
    for (uint32_t i = 0; i < in.users.cnt; i++)
        need += sizeof(*resp.results.v) + 128 + in.users.v[i].name.len;
    kreq_arena_allow(req, need);
    resp.results.v = arena_array(&req->arena, in.users.cnt, sizeof(*resp.results.v));
    if (resp.results.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < in.users.cnt && rc == 0; i++) {
        struct span name = in.users.v[i].name;
        if (named(in.users.v, i, name) == 0) /* else it has its result */
            rc = scram_result(req, name, named(in.users.v, in.users.cnt, name) > 1,
                              &resp.results.v[resp.results.cnt++]);
    }
    if (rc < 0)
        return rc;
    KREQ_RESPOND(req, describe_user_scram_credentials_response, &resp);
    return 0;
}
