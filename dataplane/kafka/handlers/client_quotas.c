/* client_quotas.c - DescribeClientQuotas, from the metadata image. AlterClientQuotas is forwarded
 * (admin_forward.c). A filter component asks for an entity type by name, by default, or by any
 * name; strict: entities with other types than those asked for are left out. */
#include "dataplane/kafka/handlers.h"
#include "lib/meta/quotas.h"

enum { MATCH_EXACT = 0, MATCH_DEFAULT = 1, MATCH_ANY = 2 };
enum { ERR_INVALID_REQUEST = 42 };

struct filter { /* of users, of client ids */
    bool asked;
    int8_t match;
    struct span name;
};

static bool name_matches(const struct filter *f, const struct quota_name *n)
{
    if (!f->asked || n->kind == QUOTA_ABSENT)
        return false;
    switch (f->match) {
    case MATCH_EXACT:
        return n->kind == QUOTA_NAMED && span_eq(n->name, f->name);
    case MATCH_DEFAULT:
        return n->kind == QUOTA_DEFAULT;
    default: /* any that is named, and the default: what Kafka calls specified */
        return true;
    }
}

static bool entity_matches(const struct quota_entity *e, const struct filter *users,
                           const struct filter *clients, bool strict)
{
    const struct filter *filters[] = {users, clients};
    const struct quota_name *names[] = {&e->user, &e->client};
    for (int i = 0; i < 2; i++) {
        if (filters[i]->asked && !name_matches(filters[i], names[i]))
            return false;
        if (strict && !filters[i]->asked && names[i]->kind != QUOTA_ABSENT)
            return false;
    }
    return true;
}

/* NULL, or why the filter cannot be. */
static const char *filters_read(const struct describe_client_quotas_request *in,
                                struct filter *users, struct filter *clients, bool *ret_none)
{
    for (uint32_t i = 0; i < in->components.cnt; i++) {
        const struct describe_client_quotas_request_component *c = &in->components.v[i];
        bool user = span_eq_str(c->entity_type, "user");
        struct filter *f = user ? users : clients;
        if (span_eq_str(c->entity_type, "ip")) {
            *ret_none = true; /* there are no quotas of addresses */
            continue;
        }
        if (!user && !span_eq_str(c->entity_type, "client-id"))
            return "unknown entity type: user, client-id and ip are";
        if (f->asked)
            return "an entity type occurs twice in the filter";
        if (c->match_type < MATCH_EXACT || c->match_type > MATCH_ANY)
            return "unknown match type";
        if (c->match_type == MATCH_EXACT && span_is_null(c->match))
            return "an exact match needs a name";
        if (c->match_type != MATCH_EXACT && !span_is_null(c->match))
            return "only an exact match has a name";
        *f = (struct filter){true, c->match_type, c->match};
    }
    return NULL;
}

static int entry_put(struct kreq *req, const struct meta_quota *q,
                     struct describe_client_quotas_response_entry *out)
{
    const struct quota_name *names[] = {&q->entity.user, &q->entity.client};
    describe_client_quotas_response_entry_init(out);
    out->entity.v = arena_array(&req->arena, 2, sizeof(*out->entity.v));
    out->values.v = arena_array(&req->arena, QUOTA_TYPE_CNT, sizeof(*out->values.v));
    if (out->entity.v == NULL || out->values.v == NULL)
        return -E_LIMIT;
    for (int i = 0; i < 2; i++)
        if (names[i]->kind != QUOTA_ABSENT)
            out->entity.v[out->entity.cnt++] = (struct describe_client_quotas_response_entity){
                .entity_type = span_str(i == 0 ? "user" : "client-id"),
                .entity_name = names[i]->kind == QUOTA_NAMED ? names[i]->name : SPAN_NULL};
    for (int i = 0; i < QUOTA_TYPE_CNT; i++)
        if (q->rate[i] > 0)
            out->values.v[out->values.cnt++] = (struct describe_client_quotas_response_value){
                .key = span_str(quota_key((enum quota_type)i)), .value = q->rate[i]};
    return 0;
}

int describe_client_quotas_start(struct kreq *req, struct wire_reader *r)
{
    struct describe_client_quotas_request in;
    struct describe_client_quotas_response resp;
    struct filter users = {0}, clients = {0};
    bool none = false;
    int rc = describe_client_quotas_request_read(r, kreq_version(req), &req->arena, &in);
    if (rc < 0)
        return rc;
    describe_client_quotas_response_init(&resp);
    resp.error_message = SPAN_NULL;
    const char *why = filters_read(&in, &users, &clients, &none);
    if (why != NULL) {
        resp.error_code = ERR_INVALID_REQUEST;
        resp.error_message = span_str(why);
        resp.entries.null = true;
        KREQ_RESPOND(req, describe_client_quotas_response, &resp);
        return 0;
    }
    const struct meta_quotas *q = req->k->s->image != NULL ? req->k->s->image->quotas : NULL;
    uint32_t cnt = q != NULL && !none ? q->cnt : 0;
    kreq_arena_allow(
        req,
        (uint64_t)cnt *
            (sizeof(*resp.entries.v) + 2 * sizeof(struct describe_client_quotas_response_entity) +
             QUOTA_TYPE_CNT * sizeof(struct describe_client_quotas_response_value) + 64));
    resp.entries.v = arena_array(&req->arena, cnt, sizeof(*resp.entries.v));
    if (resp.entries.v == NULL)
        return -E_LIMIT;
    for (uint32_t i = 0; i < cnt && rc == 0; i++)
        if (entity_matches(&q->v[i].entity, &users, &clients, in.strict))
            rc = entry_put(req, &q->v[i], &resp.entries.v[resp.entries.cnt++]);
    if (rc < 0)
        return rc;
    KREQ_RESPOND(req, describe_client_quotas_response, &resp);
    return 0;
}
