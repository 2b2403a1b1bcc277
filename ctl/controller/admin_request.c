/* admin_request.c - see controller_int.h: an admin request from its arrival to its answer.
 *
 *     arrival -> propose (api) -> commit -> waiting for the dataplane -> answer
 *                   `-> nothing to change, validate_only, refused: answered at once */
#include "ctl/controller/controller_int.h"
#include "ctl/controller/topic_rules.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/iface/ctl_proto.h"
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_ARENA_MAX (256u << 20)

/* ---- rows ---- */

static struct span say_v(struct pending *p, const char *fmt, va_list ap)
{
    char text[ADMIN_MESSAGE_MAX];
    vsnprintf(text, sizeof(text), fmt, ap);
    uint32_t len = (uint32_t)strlen(text);
    char *copy = arena_alloc(&p->arena, len + 1);
    if (copy == NULL)
        return SPAN_NULL;
    memcpy(copy, text, len + 1);
    return span_of(copy, len);
}
struct span say(struct pending *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct span text = say_v(p, fmt, ap);
    va_end(ap);
    return text;
}
static uint32_t row_cnt(const struct pending *p)
{
    return p->api->row_cnt(p);
}
static struct row row_at(struct pending *p, uint32_t i)
{
    return p->api->row_at(p, i);
}
void row_fail(struct pending *p, uint32_t i, int16_t error, const char *fmt, ...)
{
    struct row row = row_at(p, i);
    va_list ap;
    va_start(ap, fmt);
    *row.error = error;
    *row.message = say_v(p, fmt, ap);
    va_end(ap);
}
bool row_room_for(struct controller *c, struct pending *p, const struct change *ch, uint32_t i,
                  uint32_t partitions)
{
    if (change_room_for(c, ch, partitions))
        return true;
    row_fail(p, i, KERR_POLICY_VIOLATION,
             "%u more partitions would pass the limit of %u on this appliance "
             "(topic_defaults.partitions_max, %u in use)",
             partitions, c->conf->partitions_max, c->img->partition_cnt + ch->partitions_added);
    return false;
}
/* Every row that was to change fails with this. */
static void rows_fail(struct pending *p, int16_t error, const char *message)
{
    for (uint32_t i = 0; i < row_cnt(p); i++)
        if (*row_at(p, i).error == 0 && !uuid_is_zero(&p->topic_ids[i]))
            row_fail(p, i, error, "%s", message);
}
void *rows_alloc(struct pending *p, uint32_t cnt, size_t row_size, struct row_names *ret_names)
{
    struct arena *a = &p->arena;
    void *rows = arena_array(a, cnt + 1, row_size);
    p->topic_ids = arena_array(a, cnt + 1, sizeof(*p->topic_ids));
    ret_names->v = arena_array(a, cnt + 1, sizeof(*ret_names->v));
    ret_names->repeated = arena_array(a, cnt + 1, sizeof(*ret_names->repeated));
    ret_names->order = arena_array(a, cnt + 1, sizeof(*ret_names->order));
    bool all = p->topic_ids != NULL && ret_names->v != NULL && ret_names->repeated != NULL &&
               ret_names->order != NULL;
    return all ? rows : NULL;
}
static int name_order(const void *a, const void *b)
{
    const struct span *x = *(const struct span *const *)a, *y = *(const struct span *const *)b;
    uint32_t n = x->len < y->len ? x->len : y->len;
    int d = n == 0 ? 0 : memcmp(x->p, y->p, n);
    if (d != 0)
        return d;
    return x->len < y->len ? -1 : x->len > y->len;
}
void names_mark_repeats(struct row_names *names, uint32_t cnt)
{
    const struct span **order = names->order;
    for (uint32_t i = 0; i < cnt; i++)
        order[i] = &names->v[i];
    qsort(order, cnt, sizeof(*order), name_order);
    for (uint32_t i = 1; i < cnt; i++)
        if (name_order(&order[i - 1], &order[i]) == 0)
            names->repeated[order[i - 1] - names->v] = names->repeated[order[i] - names->v] = true;
}

/* ---- arrival, waiting, end ---- */

static void pending_free(struct pending *p)
{
    arena_fini(&p->arena);
    free(p);
}
static void refuse(struct pending *p, int16_t error, const char *message)
{
    p->done(p->arg, error, message, SPAN_NULL);
    pending_free(p);
}
/* Encodes and answers; p is gone. */
static void answer(struct pending *p)
{
    struct wire_writer w;
    size_t len = p->api->size(p);
    uint8_t *buf = malloc(len + 1);
    if (buf == NULL) {
        refuse(p, -1, "out of memory");
        return;
    }
    wire_writer_init(&w, buf, len);
    p->api->write(&w, p);
    ASSERT(w.err == 0);
    p->done(p->arg, 0, NULL, span_of(buf, (uint32_t)w.len));
    free(buf);
    pending_free(p);
}

static const struct admin_api *const admin_apis[] = {
    &create_topics_api,
    &delete_topics_api,
    &create_partitions_api,
    &alter_configs_api,
    &incremental_alter_configs_api,
    &alter_client_quotas_api,
};
/* NULL: not an API or version of the controller. */
static const struct admin_api *api_find(int16_t key, int16_t version)
{
    for (size_t i = 0; i < sizeof(admin_apis) / sizeof(admin_apis[0]); i++)
        if (admin_apis[i]->key == key)
            return version >= admin_apis[i]->min && version <= admin_apis[i]->max ? admin_apis[i]
                                                                                  : NULL;
    return NULL;
}
static void wait_add(struct controller *c, struct pending *p)
{
    struct pending **at = &c->waiting;
    while (*at != NULL)
        at = &(*at)->next;
    *at = p;
    c->waiting_cnt++;
}
static void change_failed(struct pending *p, int rc)
{
    char text[ADMIN_MESSAGE_MAX];
    snprintf(text, sizeof(text), "the metadata log could not take the change: %s", err_text(rc));
    if (rc == -E_LIMIT)
        rows_fail(p, KERR_POLICY_VIOLATION, "too many changes in one request");
    else
        rows_fail(p, KERR_STORAGE, text);
}
void controller_admin(struct controller *c, const struct admin_request *req)
{
    struct pending *p = calloc(1, sizeof(*p));
    const struct admin_api *api = api_find(req->api_key, req->api_version);
    if (p == NULL || api == NULL || c->waiting_cnt >= CONTROLLER_PENDING_MAX) {
        bool served = api != NULL;
        req->done(req->arg, served ? KERR_TIMED_OUT : KERR_UNSUPPORTED_VERSION,
                  served ? "too many admin requests are waiting" : "not an API of the controller",
                  SPAN_NULL);
        free(p);
        return;
    }
    p->api = api;
    p->api_version = req->api_version;
    p->done = req->done;
    p->arg = req->arg;
    arena_init(&p->arena, REQUEST_ARENA_MAX);
    uint8_t *body = arena_alloc(&p->arena, req->body.len + 1);
    if (body == NULL) {
        refuse(p, -1, "out of memory");
        return;
    }
    if (req->body.len > 0)
        memcpy(body, req->body.p, req->body.len);
    struct change ch;
    change_init(&ch, c);
    struct wire_reader r;
    wire_reader_init(&r, span_of(body, req->body.len));
    int16_t error = api->propose(c, p, &r, &ch);
    if (error != 0) {
        refuse(p, error, "the request does not follow its schema");
        change_fini(&ch);
        return;
    }
    if (p->validate_only || (ch.b.cnt == 0 && ch.b.rc == 0)) {
        answer(p);
        change_fini(&ch);
        return;
    }
    p->wait_offset = INT64_MAX; /* until commit says which: publish may report at once */
    p->deadline_ns = clock_mono_ns() + (p->timeout_ms > 0 ? (uint64_t)p->timeout_ms : 0) * 1000000;
    int rc = controller_commit(c, &ch, &p->wait_offset);
    change_fini(&ch);
    if (rc < 0) {
        change_failed(p, rc);
        answer(p);
        return;
    }
    if (c->applied >= p->wait_offset)
        answer(p);
    else
        wait_add(c, p);
}
void controller_on_applied(struct controller *c, const struct ctl_metadata_applied *m)
{
    char text[ADMIN_MESSAGE_MAX];
    if (m->error_code != 0)
        LOG_ERROR("the dataplane refused metadata up to offset %" PRId64 ": %.*s", m->offset,
                  (int)m->error_message.len, (const char *)m->error_message.p);
    if (m->offset > c->applied)
        c->applied = m->offset;
    struct pending **at = &c->waiting;
    while (*at != NULL) {
        struct pending *p = *at;
        for (uint32_t e = 0; e < m->topics.cnt; e++)
            for (uint32_t i = 0; i < row_cnt(p); i++)
                if (uuid_eq(&p->topic_ids[i], &m->topics.v[e].topic_id))
                    row_fail(p, i, m->topics.v[e].error_code, "%.*s",
                             (int)m->topics.v[e].error_message.len,
                             (const char *)m->topics.v[e].error_message.p);
        if (p->wait_offset > c->applied) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        c->waiting_cnt--;
        if (m->error_code != 0) {
            snprintf(text, sizeof(text), "the dataplane refused the change: %.*s",
                     (int)m->error_message.len, (const char *)m->error_message.p);
            rows_fail(p, m->error_code, text);
        }
        answer(p);
    }
}
int controller_tick(struct controller *c)
{
    uint64_t now = clock_mono_ns(), next = UINT64_MAX;
    struct pending **at = &c->waiting;
    while (*at != NULL) {
        struct pending *p = *at;
        if (p->deadline_ns > now) {
            next = p->deadline_ns < next ? p->deadline_ns : next;
            at = &p->next;
            continue;
        }
        *at = p->next;
        c->waiting_cnt--;
        rows_fail(p, KERR_TIMED_OUT,
                  "the change is recorded, but the dataplane has not applied it in time");
        answer(p);
    }
    if (next == UINT64_MAX)
        return -1;
    uint64_t ms = (next - now + 999999) / 1000000;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
void admin_requests_end(struct controller *c, const char *why)
{
    while (c->waiting != NULL) {
        struct pending *p = c->waiting;
        c->waiting = p->next;
        c->waiting_cnt--;
        rows_fail(p, KERR_TIMED_OUT, why);
        answer(p);
    }
}
