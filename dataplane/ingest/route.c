/* route.c - see route.h. */
#include "dataplane/ingest/route.h"
#include "dataplane/shard/owner_map.h"
#include "lib/base/assert.h"
#include "lib/meta/config_keys.h"

int route_init(struct route *r, const char *topic, uint16_t listener, bool dead,
               enum conf_rule_compression compression)
{
    *r = (struct route){
        .topic = topic, .listener = listener, .dead = dead, .compression = compression};
    r->target = calloc(ROUTE_TARGETS_MAX, sizeof(*r->target));
    return r->target == NULL ? -ENOMEM : 0;
}

void route_fini(struct route *r)
{
    free(r->target);
    r->target = NULL;
}

static const enum codec_id codec_of[] = {
    [CONF_COMP_AUTO] = CODEC_GZIP, [CONF_COMP_PRODUCER] = CODEC_NONE, [CONF_COMP_NONE] = CODEC_NONE,
    [CONF_COMP_GZIP] = CODEC_GZIP, [CONF_COMP_SNAPPY] = CODEC_SNAPPY, [CONF_COMP_LZ4] = CODEC_LZ4,
    [CONF_COMP_ZSTD] = CODEC_ZSTD,
};

/* sluice.compression=auto wins, then an explicit compression.type, then the configuration's choice
 * for listener topics. `auto` is gzip level 1, or
 * nothing (auto.h). `producer` asks for what the producer chose; here
 * that is us, and we choose none. */
static void codec_choose(const struct meta_image *img, const struct meta_topic *t,
                         const struct conf *conf, enum codec_id *ret_id, bool *ret_auto)
{
    const char *ours = meta_topic_config(t, "sluice.compression");
    const char *type = config_of_topic(img, t, "compression.type", NULL);
    enum codec_id id = codec_of[conf->listener_compression];
    bool is_auto = ours != NULL ? strcmp(ours, "auto") == 0
                                : type == NULL && conf->listener_compression == CONF_COMP_AUTO;
    if (is_auto)
        id = CODEC_GZIP;
    else if (type != NULL) {
        int c = codec_by_name(type); /* "uncompressed" and "producer" are no codecs */
        id = c >= 0 ? (enum codec_id)c : CODEC_NONE;
    } else if (ours != NULL)
        id = CODEC_NONE;
    *ret_id = id;
    *ret_auto = is_auto;
}

/* The partitions to use, in order; how many. *ret_local as in struct route. */
static uint32_t partitions_choose(const struct shard *s, const struct meta_topic *t,
                                  int32_t part[ROUTE_TARGETS_MAX],
                                  uint16_t owner[ROUTE_TARGETS_MAX], bool *ret_local)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < t->partition_cnt && n < ROUTE_TARGETS_MAX; p++) {
        if (partition_owner(s, t, (int32_t)p) == s->id) {
            part[n] = (int32_t)p;
            owner[n++] = s->id;
        }
    }
    *ret_local = n > 0;
    if (n > 0)
        return n;
    for (uint32_t p = 0; p < t->partition_cnt && n < ROUTE_TARGETS_MAX; p++) {
        uint16_t o = partition_owner(s, t, (int32_t)p);
        if (o == OWNER_NONE) /* not placed yet: the next image has it */
            return 0;
        part[n] = (int32_t)p;
        owner[n++] = o;
    }
    return n;
}

static bool is_same(const struct route *r, const struct meta_topic *t, uint32_t cnt, bool local,
                    const int32_t *part, const uint16_t *owner)
{
    if (!r->present || !uuid_eq(&r->id, &t->id) || r->cnt != cnt || r->local != local)
        return false;
    for (uint32_t i = 0; i < cnt; i++)
        if (r->target[i].partition != part[i] || r->target[i].owner != owner[i])
            return false;
    return true;
}

static void close_all(struct route *r, struct accum *a)
{
    for (uint32_t i = 0; i < r->cnt; i++)
        accum_close(a, &r->target[i]);
}

void route_refresh(struct route *r, struct shard *s, struct accum *a)
{
    int32_t part[ROUTE_TARGETS_MAX];
    uint16_t owner[ROUTE_TARGETS_MAX];
    const struct meta_topic *t =
        s->image != NULL ? image_topic_by_name(s->image, span_str(r->topic)) : NULL;
    bool local = false;
    uint32_t cnt = t != NULL ? partitions_choose(s, t, part, owner, &local) : 0;
    if (cnt == 0) {
        close_all(r, a);
        r->present = false;
        r->cnt = 0;
        return;
    }
    if (!is_same(r, t, cnt, local, part, owner)) {
        close_all(r, a);
        r->id = t->id;
        r->cnt = cnt;
        r->local = local;
        r->present = true;
        for (uint32_t i = 0; i < cnt; i++)
            r->target[i] =
                (struct target){.topic_id = t->id,
                                .partition = part[i],
                                .owner = owner[i],
                                .listener = r->listener,
                                .stream = s->conf->listeners[r->listener].transport == CONF_TCP,
                                .dead = r->dead};
    }
    enum codec_id codec;
    bool is_auto = false;
    if (r->compression != CONF_RULE_COMP_TOPIC) {
        codec = codec_of[conf_compression_of(r->compression)];
        is_auto = conf_compression_of(r->compression) == CONF_COMP_AUTO;
    } else {
        codec_choose(s->image, t, s->conf, &codec, &is_auto);
    }
    for (uint32_t i = 0; i < cnt; i++) { /* a live change applies to what is sealed from now on */
        r->target[i].codec = codec;
        r->target[i].is_auto = is_auto;
        r->target[i].level = codec == CODEC_GZIP ? 1 : 0;
    }
}
