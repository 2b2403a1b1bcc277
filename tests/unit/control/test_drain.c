/* What DRAIN_RESPONSE says of partitions: those that shards could not close, and after the time-out
 * all of the shards that did not answer. */
#include "dataplane/control/control.c"
#include "tests/support/test.h"

static const struct uuid topic_id = {{1}};

/* One topic: partitions 0, 1, 2 on shard 0, partition 3 on shard 1. */
static struct control *fixture(struct meta_topic *t, struct meta_image *img,
                               struct meta_topic **by_name)
{
    static const uint8_t owners[] = {0, 0, 0, 1};
    struct control *c = calloc(1, sizeof(*c));
    *by_name = t;
    t->id = topic_id;
    t->partition_cnt = 4;
    img->by_name = by_name;
    img->topic_cnt = 1;
    img->partition_cnt = 4;
    c->image = img;
    c->opts.shard_cnt = 2;
    assert_ok(owner_map_create(1, &c->owner_map));
    assert_ok(owner_map_add(c->owner_map, &topic_id, owners, 4));
    c->replies_due = 2;
    return c;
}

static void reply(struct control *c, uint16_t shard, int rc, uint32_t unclosed)
{
    stops[shard] = (struct stop_msg){.msg = {.type = MSG_STOP, .rc = rc}, .unclosed_cnt = unclosed};
    on_stop_reply(&c->self, &stops[shard].msg);
}

static void partitions_of_silent_shards_and_failed_ones_are_unclean(void **state)
{
    struct meta_topic t = {0}, *by_name;
    struct meta_image img = {0};
    struct control *c = fixture(&t, &img, &by_name);
    assert_int_equal(unclean_cnt(c), 4);
    reply(c, 1, 0, 0);
    assert_int_equal(unclean_cnt(c), 3); /* what a time-out would say now */
    reply(c, 0, -E_STORAGE, 2);
    assert_int_equal(unclean_cnt(c), 2);
    assert_int_equal(c->replies_due, 0);
    assert_true(c->unclean);
    owner_map_destroy(c->owner_map);
    free(c);
}

static void after_a_clean_stop_none_is_unclean(void **state)
{
    struct meta_topic t = {0}, *by_name;
    struct meta_image img = {0};
    struct control *c = fixture(&t, &img, &by_name);
    reply(c, 0, 0, 0);
    reply(c, 1, 0, 0);
    assert_int_equal(unclean_cnt(c), 0);
    assert_false(c->unclean);
    owner_map_destroy(c->owner_map);
    free(c);
}

TEST_MAIN(TEST(partitions_of_silent_shards_and_failed_ones_are_unclean),
          TEST(after_a_clean_stop_none_is_unclean))
