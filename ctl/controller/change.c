/* change.c - see controller_int.h: the records of one change, topics and partitions among them. */
#include "ctl/controller/controller_int.h"
#include <string.h>

void change_init(struct change *ch, const struct controller *c)
{
    meta_batch_init(&ch->b);
    ch->partitions_added = 0;
    memset(ch->dir_partitions, 0, sizeof(ch->dir_partitions));
    for (uint32_t i = 0; i < c->img->topic_cnt; i++) {
        const struct meta_topic *t = c->img->by_name[i];
        for (uint32_t p = 0; p < t->partition_cnt; p++)
            for (uint32_t d = 0; d < c->id.dir_cnt; d++)
                ch->dir_partitions[d] += uuid_eq(&c->id.dir_id[d], &t->partitions[p].directory);
    }
}
void change_fini(struct change *ch)
{
    meta_batch_fini(&ch->b);
}
bool change_room_for(const struct controller *c, const struct change *ch, uint64_t partitions)
{
    return (uint64_t)c->img->partition_cnt + ch->partitions_added + partitions <=
           c->conf->partitions_max;
}
void change_add_partition(const struct controller *c, struct change *ch,
                          const struct uuid *topic_id, int32_t partition)
{
    uint32_t d = 0;
    for (uint32_t i = 1; i < c->id.dir_cnt; i++)
        if (c->dir_is_open[i] && ch->dir_partitions[i] < ch->dir_partitions[d])
            d = i;
    ch->dir_partitions[d]++;
    meta_put_partition(&ch->b, topic_id, partition, c->id.node_id, &c->id.dir_id[d]);
    ch->partitions_added++;
}
struct uuid change_add_topic(const struct controller *c, struct change *ch,
                             const struct proposed_topic *t)
{
    struct uuid id;
    uuid_random(&id);
    meta_put_topic(&ch->b, &id, t->name);
    for (uint32_t i = 0; i < t->config_cnt; i++)
        meta_put_config(&ch->b, META_RESOURCE_TOPIC, t->name, t->configs[i].name,
                        t->configs[i].value);
    for (uint32_t i = 0; i < t->partitions; i++)
        change_add_partition(c, ch, &id, (int32_t)i);
    return id;
}
