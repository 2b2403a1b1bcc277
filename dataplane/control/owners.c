/* owners.c - see owners.h. An open-addressing table topic id -> owners of its partitions, and how
 * many partitions each shard owns. */
#include "dataplane/control/owners.h"
#include "dataplane/shard/shard.h"
#include "dataplane/shard/shard_map.h"
#include "lib/base/assert.h"
#include "lib/base/log.h"
#include "lib/base/text_file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER_REMAP 255 /* known to a file of another number of shards: to be mapped anew */
static_assert(OWNER_REMAP > SHARD_MAX,
              "no shard, and not the mark of a partition without an owner");

struct topic_owners {
    struct uuid id; /* zero: free */
    uint32_t cnt;
    bool dead; /* forgotten; the slot still continues probe chains */
    uint8_t *shard;
};
struct owners {
    char path[1100];
    uint16_t shard_cnt, before;
    bool dirty;
    uint32_t load[SHARD_MAX];
    uint32_t cap, used; /* used counts dead slots too */
    struct topic_owners *slots;
};

static uint32_t slot_of(const struct owners *o, const struct uuid *id)
{
    uint64_t x;
    memcpy(&x, id->b + 8, 8);
    uint32_t i = (uint32_t)(x * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (o->cap - 1);
    while (!uuid_is_zero(&o->slots[i].id) && !uuid_eq(&o->slots[i].id, id))
        i = (i + 1) & (o->cap - 1);
    return i;
}

static int grow(struct owners *o)
{
    struct topic_owners *old = o->slots;
    uint32_t old_cap = o->cap;
    uint32_t cap = old_cap ? old_cap * 2 : 64;
    struct topic_owners *slots = calloc(cap, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    o->slots = slots;
    o->cap = cap;
    o->used = 0;
    for (uint32_t i = 0; i < old_cap; i++) {
        if (uuid_is_zero(&old[i].id) || old[i].dead)
            continue;
        o->slots[slot_of(o, &old[i].id)] = old[i];
        o->used++;
    }
    free(old);
    return 0;
}

/* The topic's slot with room for cnt owners; partitions without an owner are SHARD_MAX. */
static int topic_reserve(struct owners *o, const struct uuid *id, uint32_t cnt,
                         struct topic_owners **ret)
{
    if (2 * (o->used + 1) > o->cap) {
        int rc = grow(o);
        if (rc < 0)
            return rc;
    }
    struct topic_owners *t = &o->slots[slot_of(o, id)];
    if (uuid_is_zero(&t->id)) {
        t->id = *id;
        o->used++;
    }
    t->dead = false;
    if (cnt > t->cnt) {
        uint8_t *shard = realloc(t->shard, cnt);
        if (shard == NULL)
            return -ENOMEM;
        memset(shard + t->cnt, SHARD_MAX, cnt - t->cnt);
        t->shard = shard;
        t->cnt = cnt;
    }
    *ret = t;
    return 0;
}

int owners_of_topic(struct owners *o, const struct uuid *topic_id, uint32_t cnt,
                    const uint64_t *among, uint8_t *out)
{
    struct topic_owners *t;
    uint32_t of_topic[SHARD_MAX] = {0};
    int rc = topic_reserve(o, topic_id, cnt, &t);
    if (rc < 0)
        return rc;
    for (uint32_t p = 0; p < t->cnt; p++)
        if (t->shard[p] < o->shard_cnt)
            of_topic[t->shard[p]]++;
    for (uint32_t p = 0; p < cnt; p++) {
        if (t->shard[p] >= o->shard_cnt) {
            uint64_t all = shard_map_all(o->shard_cnt);
            uint64_t may = (among[p] & all) != 0 ? among[p] & all : all;
            t->shard[p] = (uint8_t)(t->shard[p] == OWNER_REMAP
                                        ? shard_map_rendezvous(topic_id, (int32_t)p, may)
                                        : shard_map_choose(may, of_topic, o->load));
            o->load[t->shard[p]]++;
            of_topic[t->shard[p]]++;
            o->dirty = true;
        }
        out[p] = t->shard[p];
    }
    return 0;
}

void owners_forget_topic(struct owners *o, const struct uuid *topic_id)
{
    if (o->cap == 0)
        return;
    struct topic_owners *t = &o->slots[slot_of(o, topic_id)];
    if (uuid_is_zero(&t->id) || t->dead)
        return;
    for (uint32_t p = 0; p < t->cnt; p++)
        if (t->shard[p] < o->shard_cnt)
            o->load[t->shard[p]]--;
    free(t->shard);
    t->shard = NULL;
    t->cnt = 0;
    t->dead = true;
    o->dirty = true;
}

/* One "<topic id> <partition> <shard>" line. */
static int load_line(struct owners *o, const char *line, bool remap)
{
    char text[64];
    unsigned partition, shard;
    struct uuid id;
    struct topic_owners *t;
    if (sscanf(line, "%63s %u %u", text, &partition, &shard) != 3 || partition > 1000000 ||
        shard >= SHARD_MAX || uuid_parse(text, (uint32_t)strlen(text), &id) < 0 ||
        uuid_is_zero(&id))
        return -E_MALFORMED;
    int rc = topic_reserve(o, &id, partition + 1, &t);
    if (rc < 0)
        return rc;
    if (!remap && shard >= o->shard_cnt)
        return -E_MALFORMED;
    if (t->shard[partition] != SHARD_MAX)
        return -E_MALFORMED; /* named twice */
    t->shard[partition] = remap ? OWNER_REMAP : (uint8_t)shard;
    if (!remap)
        o->load[shard]++;
    return 0;
}

static void clear(struct owners *o)
{
    for (uint32_t i = 0; i < o->cap; i++)
        free(o->slots[i].shard);
    free(o->slots);
    o->slots = NULL;
    o->cap = o->used = 0;
    memset(o->load, 0, sizeof(o->load));
}

int owners_load(const char *dir, uint16_t shard_cnt, struct owners **ret, bool *ret_changed)
{
    struct owners *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return -ENOMEM;
    snprintf(o->path, sizeof(o->path), "%s/owners", dir);
    o->shard_cnt = shard_cnt;
    *ret_changed = false;
    *ret = o;
    FILE *f = fopen(o->path, "r");
    if (f == NULL)
        return 0;
    char line[256];
    unsigned version, shards, line_no = 1;
    int rc = 0;
    if (fgets(line, sizeof(line), f) == NULL ||
        sscanf(line, "sluice-owners %u %u", &version, &shards) != 2 || version != 1)
        rc = -E_MALFORMED;
    bool remap = rc == 0 && shards != shard_cnt;
    while (rc == 0 && fgets(line, sizeof(line), f) != NULL) {
        line_no++;
        rc = load_line(o, line, remap);
    }
    fclose(f);
    if (rc == -ENOMEM) {
        owners_destroy(o);
        *ret = NULL;
        return rc;
    }
    if (rc < 0) {
        LOG_WARN("%s:%u is damaged; the owners of partitions are chosen anew", o->path, line_no);
        clear(o);
        o->dirty = true;
    } else {
        o->before = (uint16_t)shards;
    }
    *ret_changed = remap || rc < 0;
    o->dirty |= remap;
    return 0;
}

uint16_t owners_before(const struct owners *o)
{
    return o->before;
}

void owners_destroy(struct owners *o)
{
    if (o == NULL)
        return;
    clear(o);
    free(o);
}

int owners_save(struct owners *o)
{
    if (!o->dirty)
        return 0;
    char *lines = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&lines, &len);
    if (f == NULL)
        return -errno;
    fprintf(f, "sluice-owners 1 %u\n", o->shard_cnt);
    for (uint32_t i = 0; i < o->cap; i++) {
        const struct topic_owners *t = &o->slots[i];
        char text[UUID_TEXT_LEN + 1];
        if (uuid_is_zero(&t->id) || t->dead)
            continue;
        uuid_format(&t->id, text);
        for (uint32_t p = 0; p < t->cnt; p++)
            if (t->shard[p] < o->shard_cnt)
                fprintf(f, "%s %u %u\n", text, p, t->shard[p]);
    }
    bool whole = !ferror(f);
    int rc = fclose(f) == 0 && whole ? text_file_replace(o->path, lines, len) : -ENOMEM;
    free(lines);
    if (rc == 0)
        o->dirty = false;
    return rc;
}
