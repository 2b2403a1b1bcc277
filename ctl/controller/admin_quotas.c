/* admin_quotas.c - AlterClientQuotas: from what a client asks to ClientQuota records, by Kafka's
 * rules. Byte rates of users and client ids are kept; Kafka's other quotas (request_percentage,
 * controller_mutation_rate, connection_creation_rate of an ip) are refused: nothing here enforces
 * them. */
#include "ctl/controller/controller_int.h"
#include "ctl/controller/topic_rules.h"
#include <math.h>
#include <string.h>

#define ALTER_QUOTAS_TIMEOUT_MS 30000 /* these requests carry none */
#define RATE_MAX 9223372036854775807.0

static int shown(struct span s)
{
    return (int)(s.len < 200 ? s.len : 200);
}

/* False: row i has failed. */
static bool entity_read(struct pending *p, uint32_t i,
                        const struct alter_client_quotas_request_entry *in,
                        struct quota_entity *ret)
{
    *ret = (struct quota_entity){0};
    if (in->entity.cnt == 0)
        row_fail(p, i, KERR_INVALID_REQUEST, "Invalid empty client quota entity.");
    for (uint32_t k = 0; k < in->entity.cnt; k++) {
        const struct alter_client_quotas_request_entity *e = &in->entity.v[k];
        bool user = span_eq_str(e->entity_type, "user");
        struct quota_name *to = user ? &ret->user : &ret->client;
        if (!user && !span_eq_str(e->entity_type, "client-id")) {
            row_fail(p, i, KERR_INVALID_REQUEST,
                     span_eq_str(e->entity_type, "ip")
                         ? "There are no quotas of addresses here: entity type %.*s"
                         : "Unhandled client quota entity type: %.*s",
                     shown(e->entity_type), (const char *)e->entity_type.p);
            return false;
        }
        if (to->kind != QUOTA_ABSENT) {
            row_fail(p, i, KERR_INVALID_REQUEST, "Duplicate client quota entity type: %.*s",
                     shown(e->entity_type), (const char *)e->entity_type.p);
            return false;
        }
        if (!span_is_null(e->entity_name) && e->entity_name.len == 0) {
            row_fail(p, i, KERR_INVALID_REQUEST, "Empty %.*s not supported", shown(e->entity_type),
                     (const char *)e->entity_type.p);
            return false;
        }
        *to = (struct quota_name){span_is_null(e->entity_name) ? QUOTA_DEFAULT : QUOTA_NAMED,
                                  e->entity_name};
    }
    return in->entity.cnt > 0;
}

static bool op_check(struct pending *p, uint32_t i,
                     const struct alter_client_quotas_request_entry *in, uint32_t k)
{
    const struct alter_client_quotas_request_op *op = &in->ops.v[k];
    enum quota_type type;
    for (uint32_t j = 0; j < k; j++)
        if (span_eq(in->ops.v[j].key, op->key)) {
            row_fail(p, i, KERR_INVALID_REQUEST, "Duplicate quota key: %.*s", shown(op->key),
                     (const char *)op->key.p);
            return false;
        }
    if (!quota_type_of(op->key, &type)) {
        bool kafkas = span_eq_str(op->key, "request_percentage") ||
                      span_eq_str(op->key, "controller_mutation_rate") ||
                      span_eq_str(op->key, "connection_creation_rate");
        row_fail(p, i, KERR_INVALID_REQUEST,
                 kafkas ? "Quota %.*s is not enforced here, so it cannot be set"
                        : "Invalid configuration key %.*s",
                 shown(op->key), (const char *)op->key.p);
        return false;
    }
    if (op->remove)
        return true;
    if (!(op->value > 0) || !(op->value < RATE_MAX)) {
        row_fail(p, i, KERR_INVALID_REQUEST, "Quota %.*s must be greater than 0", shown(op->key),
                 (const char *)op->key.p);
        return false;
    }
    if (floor(op->value) != op->value) {
        row_fail(p, i, KERR_INVALID_REQUEST, "Configuration %.*s must be a Long value",
                 shown(op->key), (const char *)op->key.p);
        return false;
    }
    return true;
}

/* An entity as bytes that are equal when it is; SPAN_NULL: no memory. */
static struct span entity_key(struct pending *p, const struct quota_entity *e)
{
    uint32_t user = e->user.kind == QUOTA_NAMED ? e->user.name.len : 0;
    uint32_t client = e->client.kind == QUOTA_NAMED ? e->client.name.len : 0;
    uint8_t *key = arena_alloc(&p->arena, (size_t)user + client + 6);
    if (key == NULL)
        return SPAN_NULL;
    key[0] = (uint8_t)e->user.kind;
    key[1] = (uint8_t)e->client.kind;
    store_be32(key + 2, user);
    if (user > 0)
        memcpy(key + 6, e->user.name.p, user);
    if (client > 0)
        memcpy(key + 6 + user, e->client.name.p, client);
    return span_of(key, user + client + 6);
}

/* `repeated`: other rows change the same entity, so what is in force now says nothing. */
static void alter_one(struct controller *c, struct pending *p, struct change *ch, uint32_t i,
                      const struct alter_client_quotas_request_entry *in,
                      const struct quota_entity *e, bool repeated)
{
    for (uint32_t k = 0; k < in->ops.cnt; k++)
        if (!op_check(p, i, in, k))
            return;
    const struct meta_quota *old = quotas_find(c->img->quotas, e);
    for (uint32_t k = 0; k < in->ops.cnt; k++) {
        const struct alter_client_quotas_request_op *op = &in->ops.v[k];
        enum quota_type type;
        if (!quota_type_of(op->key, &type))
            continue; /* op_check refused it */
        double rate = op->remove ? 0 : op->value;
        if (!repeated && rate == (old != NULL ? old->rate[type] : 0))
            continue;
        meta_put_quota(&ch->b, e, type, rate);
        memset(&p->topic_ids[i], 0xff, sizeof(p->topic_ids[i])); /* changed; no topic's id */
    }
}

/* The answer's row of an entry: the same entity. */
static bool row_init(struct pending *p, const struct alter_client_quotas_request_entry *in,
                     struct alter_client_quotas_response_entry *out)
{
    alter_client_quotas_response_entry_init(out);
    out->error_message = SPAN_NULL;
    out->entity.v = arena_array(&p->arena, in->entity.cnt + 1, sizeof(*out->entity.v));
    if (out->entity.v == NULL)
        return false;
    out->entity.cnt = in->entity.cnt;
    for (uint32_t k = 0; k < in->entity.cnt; k++)
        out->entity.v[k] = (struct alter_client_quotas_response_entity){
            .entity_type = in->entity.v[k].entity_type, .entity_name = in->entity.v[k].entity_name};
    return true;
}

/* The rows are one batch of records, applied in order: of two with the same entity the last one
 * counts. */
static int16_t alter_client_quotas(struct controller *c, struct pending *p, struct wire_reader *r,
                                   struct change *ch)
{
    struct alter_client_quotas_request req;
    struct alter_client_quotas_response *resp = &p->resp.quotas;
    struct row_names names;
    if (alter_client_quotas_request_read(r, p->api_version, &p->arena, &req) < 0)
        return KERR_INVALID_REQUEST;
    p->timeout_ms = ALTER_QUOTAS_TIMEOUT_MS;
    p->validate_only = req.validate_only;
    uint32_t cnt = req.entries.cnt;
    alter_client_quotas_response_init(resp);
    resp->entries.v = rows_alloc(p, cnt, sizeof(*resp->entries.v), &names);
    struct quota_entity *entities = arena_array(&p->arena, cnt + 1, sizeof(*entities));
    if (resp->entries.v == NULL || entities == NULL)
        return KERR_INVALID_REQUEST;
    for (uint32_t i = 0; i < cnt; i++) {
        if (!row_init(p, &req.entries.v[i], &resp->entries.v[i]))
            return KERR_INVALID_REQUEST;
        resp->entries.cnt = i + 1;
        (void)entity_read(p, i, &req.entries.v[i], &entities[i]); /* or the row has failed */
        names.v[i] = entity_key(p, &entities[i]);
        if (span_is_null(names.v[i]))
            return KERR_INVALID_REQUEST;
    }
    names_mark_repeats(&names, cnt);
    for (uint32_t i = 0; i < cnt; i++)
        if (resp->entries.v[i].error_code == 0)
            alter_one(c, p, ch, i, &req.entries.v[i], &entities[i], names.repeated[i]);
    return 0;
}
ADMIN_API(alter_client_quotas, ALTER_CLIENT_QUOTAS_REQUEST, quotas, entries)
