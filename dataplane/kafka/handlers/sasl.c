/* sasl.c - SaslHandshake and SaslAuthenticate as Kafka answers them where no SASL is configured:
 * the connection is authenticated already (as nobody in particular), so neither is in place. Old
 * clients test for these versions before they look at anything else. And
 * DescribeUserScramCredentials, without which kafka-configs describes no quota of a user: there are
 * no credentials. */
#include "dataplane/kafka/handlers.h"
#include <stdlib.h>
#include <string.h>

enum {
    ERR_ILLEGAL_SASL_STATE = 34,
    ERR_INVALID_REQUEST = 42,
    ERR_RESOURCE_NOT_FOUND = 91,
    ERR_DUPLICATE_RESOURCE = 92
};

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

/* More users than anybody has, and more of a name than a message needs. */
#define USERS_MAX 10000u
#define NAME_SHOWN_MAX 255u

static int scram_result(struct kreq *req, struct span user, bool is_repeated,
                        struct describe_user_scram_credentials_response_result *out)
{
    struct span why = span_str(
        is_repeated
            ? "Cannot describe SCRAM credentials for the same user twice in a single request: "
            : "Attempt to describe a user credential that does not exist: ");
    uint32_t shown = user.len < NAME_SHOWN_MAX ? user.len : NAME_SHOWN_MAX;
    uint8_t *text = arena_alloc(&req->arena, (size_t)why.len + shown);
    if (text == NULL)
        return -E_LIMIT;
    memcpy(text, why.p, why.len);
    if (shown > 0)
        memcpy(text + why.len, user.p, shown);
    describe_user_scram_credentials_response_result_init(out);
    out->user = user;
    out->error_code = is_repeated ? ERR_DUPLICATE_RESOURCE : ERR_RESOURCE_NOT_FOUND;
    out->error_message = span_of(text, why.len + shown);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct describe_user_scram_credentials_request_user *x = a, *y = b;
    uint32_t len = x->name.len < y->name.len ? x->name.len : y->name.len;
    int c = len > 0 ? memcmp(x->name.p, y->name.p, len) : 0;
    return c != 0 ? c : (x->name.len > y->name.len) - (x->name.len < y->name.len);
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
    if (in.users.cnt > USERS_MAX) {
        resp.error_code = ERR_INVALID_REQUEST;
        resp.error_message = span_str("Too many users in one request: at most 10000");
        KREQ_RESPOND(req, describe_user_scram_credentials_response, &resp);
        return 0;
    }
    kreq_arena_allow(req, in.users.cnt * (sizeof(*resp.results.v) + 128 + NAME_SHOWN_MAX));
    resp.results.v = arena_array(&req->arena, in.users.cnt, sizeof(*resp.results.v));
    if (resp.results.v == NULL)
        return -E_LIMIT;
    if (in.users.cnt > 1)
        qsort(in.users.v, in.users.cnt, sizeof(*in.users.v), by_name);
    for (uint32_t i = 0, n; i < in.users.cnt && rc == 0; i += n) {
        for (n = 1; i + n < in.users.cnt && by_name(&in.users.v[i], &in.users.v[i + n]) == 0;)
            n++;
        rc = scram_result(req, in.users.v[i].name, n > 1, &resp.results.v[resp.results.cnt++]);
    }
    if (rc < 0)
        return rc;
    KREQ_RESPOND(req, describe_user_scram_credentials_response, &resp);
    return 0;
}
