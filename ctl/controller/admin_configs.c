/* admin_configs.c - AlterConfigs and IncrementalAlterConfigs; what they mean for one resource is in
 * topic_edit.c. */
#include "ctl/controller/controller_int.h"
#include "ctl/controller/topic_edit.h"
#include "ctl/controller/topic_rules.h"
#include <string.h>

#define ALTER_CONFIGS_TIMEOUT_MS 30000 /* these requests carry none */

static void alter_one(struct controller *c, struct pending *p, struct change *ch, uint32_t i,
                      const struct topic_edits *in, bool repeated)
{
    char why[ADMIN_MESSAGE_MAX];
    const struct meta_topic *t = NULL;
    if (repeated) {
        row_fail(p, i, KERR_INVALID_REQUEST, "Each resource must appear at most once.");
        return;
    }
    uint32_t before = ch->b.cnt;
    int16_t error = topic_edit(c->img, in, &p->arena, &ch->b, &t, why, sizeof(why));
    if (error != 0)
        row_fail(p, i, error, "%s", why);
    else if (ch->b.cnt > before && t != NULL)
        p->topic_ids[i] = t->id;
    else if (ch->b.cnt > before)
        memset(&p->topic_ids[i], 0xff, sizeof(p->topic_ids[i])); /* the broker; no topic's id */
}
/* Resources of several types may have one name: only those that have both are repetitions. */
static void repeats_keep_same_type(struct row_names *names, const int8_t *types, uint32_t cnt)
{
    for (uint32_t from = 0, to; from < cnt; from = to) {
        uint32_t of_type[256] = {0};
        to = from; /* equal names are neighbours in names->order */
        while (to < cnt && span_eq(*names->order[from], *names->order[to]))
            of_type[(uint8_t)types[names->order[to++] - names->v]]++;
        for (uint32_t i = from; i < to; i++) {
            size_t row = (size_t)(names->order[i] - names->v);
            names->repeated[row] = of_type[(uint8_t)types[row]] > 1;
        }
    }
}
/* The two APIs differ in the operation of a key, which op_of reads. */
#define ALTER_CONFIGS(api, member, op_of, is_replace)                                              \
    static int16_t api(struct controller *c, struct pending *p, struct wire_reader *r,             \
                       struct change *ch)                                                          \
    {                                                                                              \
        struct api##_request req;                                                                  \
        struct api##_response *resp = &p->resp.member;                                             \
        struct row_names names;                                                                    \
        if (api##_request_read(r, p->api_version, &p->arena, &req) < 0)                            \
            return KERR_INVALID_REQUEST;                                                           \
        p->timeout_ms = ALTER_CONFIGS_TIMEOUT_MS;                                                  \
        p->validate_only = req.validate_only;                                                      \
        uint32_t cnt = req.resources.cnt;                                                          \
        api##_response_init(resp);                                                                 \
        resp->responses.v = rows_alloc(p, cnt, sizeof(*resp->responses.v), &names);                \
        if (resp->responses.v == NULL)                                                             \
            return KERR_INVALID_REQUEST;                                                           \
        for (uint32_t i = 0; i < cnt; i++)                                                         \
            names.v[i] = req.resources.v[i].resource_name;                                         \
        int8_t *types = arena_array(&p->arena, cnt + 1, sizeof(*types));                           \
        if (types == NULL)                                                                         \
            return KERR_INVALID_REQUEST;                                                           \
        for (uint32_t i = 0; i < cnt; i++)                                                         \
            types[i] = req.resources.v[i].resource_type;                                           \
        names_mark_repeats(&names, cnt);                                                           \
        repeats_keep_same_type(&names, types, cnt);                                                \
        for (uint32_t i = 0; i < cnt; i++) {                                                       \
            const struct api##_request_resource *in = &req.resources.v[i];                         \
            struct api##_response_resource *out = &resp->responses.v[i];                           \
            uint32_t keys = in->configs.cnt;                                                       \
            struct topic_edit *edits = arena_array(&p->arena, keys + 1, sizeof(*edits));           \
            if (edits == NULL)                                                                     \
                return KERR_INVALID_REQUEST;                                                       \
            for (uint32_t k = 0; k < keys; k++)                                                    \
                edits[k] = (struct topic_edit){in->configs.v[k].name, op_of(&in->configs.v[k]),    \
                                               in->configs.v[k].value};                            \
            api##_response_resource_init(out);                                                     \
            out->resource_type = in->resource_type;                                                \
            out->resource_name = in->resource_name;                                                \
            out->error_message = SPAN_NULL;                                                        \
            resp->responses.cnt = i + 1;                                                           \
            struct topic_edits all = {in->resource_type, names.v[i], edits, keys, is_replace};     \
            alter_one(c, p, ch, i, &all, names.repeated[i]);                                       \
        }                                                                                          \
        return 0;                                                                                  \
    }
#define OP_SET(config) EDIT_SET
#define OP_ASKED(config) (config)->config_operation
ALTER_CONFIGS(alter_configs, alter, OP_SET, true)
ALTER_CONFIGS(incremental_alter_configs, incremental, OP_ASKED, false)
ADMIN_API(alter_configs, ALTER_CONFIGS_REQUEST, alter, responses)
ADMIN_API(incremental_alter_configs, INCREMENTAL_ALTER_CONFIGS_REQUEST, incremental, responses)
