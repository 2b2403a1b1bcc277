/* The image against a simple model over random record sequences; sharing, atomicity, refusals. */
#include "lib/meta/image.c"
#include "tests/support/test.h"

enum { M_TOPICS = 40, M_PARTITIONS = 12, M_CONFIGS = 5, NODE = 1 };

static const char *const config_keys[M_CONFIGS] = {"cleanup.policy", "retention.ms", "a",
                                                   "sluice.compression", "z.last"};

/* ---- the model: plain arrays, no sharing ---- */
struct model_topic {
    bool used;
    struct uuid id;
    char name[32];
    uint32_t partition_cnt;
    struct meta_partition partitions[M_PARTITIONS];
    int config[M_CONFIGS]; /* 0: none */
};
struct model {
    struct model_topic topics[M_TOPICS];
    int broker_config[M_CONFIGS], default_config[M_CONFIGS];
    int16_t feature;
    int64_t next_producer_id, broker_epoch, offset;
    bool registered, fenced, shutdown;
};

static void config_text(int value, char out[16])
{
    snprintf(out, 16, "v%d", value);
}

static void check_configs(const struct meta_config *configs, uint32_t cnt, const int *want)
{
    uint32_t n = 0;
    for (int k = 0; k < M_CONFIGS; k++) {
        char text[16];
        const char *got = meta_config_find(configs, cnt, config_keys[k]);
        config_text(want[k], text);
        if (want[k] == 0) {
            assert_null(got);
        } else {
            assert_string_equal(got, text);
            n++;
        }
    }
    assert_int_equal(cnt, n);
}

static void check(const struct model *m, const struct meta_image *img)
{
    uint32_t topics = 0, partitions = 0;
    for (int i = 0; i < M_TOPICS; i++) {
        const struct model_topic *t = &m->topics[i];
        if (!t->used)
            continue;
        topics++;
        partitions += t->partition_cnt;
        const struct meta_topic *got = image_topic_by_name(img, span_str(t->name));
        assert_non_null(got);
        assert_ptr_equal(got, image_topic_by_id(img, &t->id));
        assert_string_equal(got->name, t->name);
        assert_int_equal(got->partition_cnt, t->partition_cnt);
        for (uint32_t p = 0; p < t->partition_cnt; p++) {
            assert_int_equal(got->partitions[p].leader, t->partitions[p].leader);
            assert_int_equal(got->partitions[p].leader_epoch, t->partitions[p].leader_epoch);
            assert_int_equal(got->partitions[p].partition_epoch, t->partitions[p].partition_epoch);
            assert_true(uuid_eq(&got->partitions[p].directory, &t->partitions[p].directory));
        }
        check_configs(got->configs, got->config_cnt, t->config);
    }
    assert_int_equal(img->topic_cnt, topics);
    assert_int_equal(img->partition_cnt, partitions);
    for (uint32_t i = 1; i < img->topic_cnt; i++)
        assert_true(strcmp(img->by_name[i - 1]->name, img->by_name[i]->name) < 0);
    check_configs(img->broker_configs, img->broker_config_cnt, m->broker_config);
    check_configs(img->default_configs, img->default_config_cnt, m->default_config);
    assert_int_equal(image_feature(img, "transaction.version"), m->feature);
    assert_int_equal(img->next_producer_id, m->next_producer_id);
    assert_int_equal(img->offset, m->offset);
    assert_int_equal(img->broker_epoch, m->broker_epoch);
    assert_int_equal(img->broker != NULL, m->registered);
    if (m->registered) {
        assert_int_equal(img->broker->fenced, m->fenced);
        assert_int_equal(img->broker->in_controlled_shutdown, m->shutdown);
    }
    struct uuid nobody;
    uuid_random(&nobody);
    assert_null(image_topic_by_id(img, &nobody));
    assert_null(image_topic_by_name(img, span_str("nobody")));
}

static struct uuid random_uuid(struct test_rng *rng)
{
    struct uuid u;
    rng_fill(rng, u.b, sizeof(u.b));
    return u;
}

static struct model_topic *random_topic(struct model *m, struct test_rng *rng)
{
    struct model_topic *t = &m->topics[rng_below(rng, M_TOPICS)];
    return t->used ? t : NULL;
}

static void put_one_config(struct meta_batch *b, struct test_rng *rng, int8_t type,
                           const char *resource, int *config)
{
    int k = (int)rng_below(rng, M_CONFIGS);
    config[k] = rng_below(rng, 3) == 0 ? 0 : 1 + (int)rng_below(rng, 1000);
    char text[16];
    config_text(config[k], text);
    meta_put_config(b, type, span_str(resource), span_str(config_keys[k]),
                    config[k] == 0 ? SPAN_NULL : span_str(text));
}

/* One random change, to the model and as records. */
static void step(struct model *m, struct meta_batch *b, struct test_rng *rng)
{
    struct model_topic *t = random_topic(m, rng);
    struct uuid dir = random_uuid(rng);
    switch (rng_below(rng, 12)) {
    case 0:
    case 1: { /* new topic with partitions, the last one first now and then */
        int i = (int)rng_below(rng, M_TOPICS);
        t = &m->topics[i];
        if (t->used)
            break;
        memset(t, 0, sizeof(*t));
        t->used = true;
        t->id = random_uuid(rng);
        snprintf(t->name, sizeof(t->name), "%s%d",
                 i % 3 == 0   ? "zz"
                 : i % 3 == 1 ? "Topic."
                              : "_",
                 i);
        meta_put_topic(b, &t->id, span_str(t->name));
        t->partition_cnt = (uint32_t)rng_below(rng, M_PARTITIONS + 1);
        bool backwards = rng_below(rng, 3) == 0;
        for (uint32_t n = 0; n < t->partition_cnt; n++) {
            uint32_t p = backwards ? t->partition_cnt - 1 - n : n;
            meta_put_partition(b, &t->id, (int32_t)p, NODE, &dir);
            t->partitions[p] = (struct meta_partition){.leader = NODE, .directory = dir};
        }
        break;
    }
    case 2:
        if (t == NULL)
            break;
        meta_put_remove_topic(b, &t->id);
        t->used = false;
        break;
    case 3: /* one more partition */
        if (t == NULL || t->partition_cnt == M_PARTITIONS)
            break;
        meta_put_partition(b, &t->id, (int32_t)t->partition_cnt, NODE, &dir);
        t->partitions[t->partition_cnt++] =
            (struct meta_partition){.leader = NODE, .directory = dir};
        break;
    case 4:
    case 5: { /* a new leader epoch, or another directory */
        if (t == NULL || t->partition_cnt == 0)
            break;
        uint32_t p = (uint32_t)rng_below(rng, t->partition_cnt);
        t->partitions[p].partition_epoch++;
        if (rng_below(rng, 3) != 0) {
            meta_put_leader(b, &t->id, (int32_t)p, NODE);
            t->partitions[p].leader_epoch++;
            t->partitions[p].leader = NODE;
            break;
        }
        struct partition_change_record c;
        partition_change_record_init(&c);
        c.topic_id = t->id;
        c.partition_id = (int32_t)p;
        c.directories.null = false;
        c.directories.v = &dir;
        c.directories.cnt = 1;
        meta_put_partition_change_record(b, &c);
        t->partitions[p].directory = dir;
        break;
    }
    case 6:
    case 7:
        if (t != NULL)
            put_one_config(b, rng, META_RESOURCE_TOPIC, t->name, t->config);
        break;
    case 8:
        if (rng_below(rng, 2) == 0)
            put_one_config(b, rng, META_RESOURCE_BROKER, "", m->default_config);
        else
            put_one_config(b, rng, META_RESOURCE_BROKER, "1", m->broker_config);
        break;
    case 9:
        m->feature = (int16_t)rng_below(rng, 3);
        meta_put_feature(b, "transaction.version", m->feature);
        break;
    case 10:
        m->next_producer_id += (int64_t)rng_below(rng, 2000);
        meta_put_producer_ids(b, NODE, m->broker_epoch, m->next_producer_id);
        break;
    default: { /* registration, and changes of it */
        struct broker_registration_change_record c;
        struct register_broker_record r;
        if (!m->registered || rng_below(rng, 4) == 0) {
            register_broker_record_init(&r);
            r.broker_id = NODE;
            r.broker_epoch = m->broker_epoch = m->offset + 1;
            r.incarnation_id = random_uuid(rng);
            r.log_dirs.v = &dir;
            r.log_dirs.cnt = 1;
            struct register_broker_record_end_point ep = {
                .name = span_str("PLAINTEXT"), .host = span_str("127.0.0.1"), .port = 9092};
            r.end_points.v = &ep;
            r.end_points.cnt = 1;
            meta_put_register_broker_record(b, &r);
            m->registered = m->fenced = true;
            m->shutdown = false;
            break;
        }
        broker_registration_change_record_init(&c);
        c.broker_id = NODE;
        c.broker_epoch = m->broker_epoch;
        c.fenced = (int8_t)((int)rng_below(rng, 3) - 1);
        c.in_controlled_shutdown = (int8_t)rng_below(rng, 2);
        meta_put_broker_registration_change_record(b, &c);
        m->fenced = c.fenced == 0 ? m->fenced : c.fenced > 0;
        m->shutdown = m->shutdown || c.in_controlled_shutdown > 0;
        break;
    }
    }
}

static struct meta_image *new_image(void)
{
    struct meta_image *img = NULL;
    assert_ok(image_create_empty(&img));
    img->node_id = NODE;
    return img;
}

static void random_records_add_up_to_what_the_model_says(void **state)
{
    uint64_t seed = test_seed(1);
    for (uint64_t run = 0; run < 20; run++) {
        struct test_rng rng = {seed + run};
        static struct model m, before;
        memset(&m, 0, sizeof(m));
        m.broker_epoch = m.offset = -1;
        struct meta_image *img = new_image();
        struct meta_batch b;
        meta_batch_init(&b);
        for (int i = 0; i < 150; i++) {
            before = m;
            meta_batch_reset(&b);
            for (uint64_t n = rng_below(&rng, 8); n > 0; n--)
                step(&m, &b, &rng);
            assert_ok(b.rc);
            m.offset += b.cnt;
            struct meta_image *next;
            assert_ok(image_apply(img, b.v, b.cnt, m.offset, &next));
            check(&before, img); /* the old one is untouched */
            check(&m, next);
            image_put(img);
            check(&m, next); /* and does not carry the new one */
            img = next;
        }
        /* the snapshot is the same image */
        meta_batch_reset(&b);
        meta_put_image(&b, img);
        assert_ok(b.rc);
        struct meta_image *empty = new_image(), *again;
        assert_ok(image_apply(empty, b.v, b.cnt, m.offset, &again));
        check(&m, again);
        if (img->broker != NULL) {
            assert_int_equal(img->broker->record_len, again->broker->record_len);
            assert_memory_equal(img->broker->record, again->broker->record,
                                img->broker->record_len);
        }
        image_put(again);
        image_put(empty);
        image_put(img);
        meta_batch_fini(&b);
    }
}

/* An image with topic "t" of two partitions. */
static struct meta_image *small_image(struct uuid *ret_id)
{
    struct uuid dir = {{9}};
    struct meta_batch b;
    meta_batch_init(&b);
    uuid_random(ret_id);
    meta_put_topic(&b, ret_id, span_str("t"));
    meta_put_config(&b, META_RESOURCE_TOPIC, span_str("t"), span_str("k"), span_str("v"));
    meta_put_partition(&b, ret_id, 0, NODE, &dir);
    meta_put_partition(&b, ret_id, 1, NODE, &dir);
    struct meta_image *empty = new_image(), *img = NULL;
    assert_ok(image_apply(empty, b.v, b.cnt, 3, &img));
    image_put(empty);
    meta_batch_fini(&b);
    return img;
}

/* Quotas of 3 users x 3 client ids (absent, default, "a") against a table; then the order in which
 * they are in force, against Kafka's list written out. */
static struct quota_name nth_name(uint32_t n)
{
    return (struct quota_name){(enum quota_name_kind)n, n == 2 ? span_str("a") : SPAN_NULL};
}

static void quotas_are_kept_and_the_most_specific_is_in_force(void **state)
{
    struct test_rng rng = {test_seed(7)};
    double model[3][3][QUOTA_TYPE_CNT] = {0};
    struct meta_image *img = new_image();
    struct meta_batch b;
    meta_batch_init(&b);
    static const uint8_t order[8][2] = {{2, 2}, {2, 1}, {2, 0}, {1, 2},
                                        {1, 1}, {1, 0}, {0, 2}, {0, 1}};
    for (int i = 0; i < 400; i++) {
        uint32_t u = (uint32_t)rng_below(&rng, 3), c = (uint32_t)rng_below(&rng, 3);
        enum quota_type type = (enum quota_type)rng_below(&rng, QUOTA_TYPE_CNT);
        double rate = rng_below(&rng, 3) == 0 ? 0 : (double)(1 + rng_below(&rng, 1000));
        if (u == 0 && c == 0)
            continue;
        struct quota_entity e = {nth_name(u), nth_name(c)};
        struct meta_image *next;
        meta_batch_reset(&b);
        meta_put_quota(&b, &e, type, rate);
        assert_ok(b.rc);
        assert_ok(image_apply(img, b.v, b.cnt, i, &next));
        image_put(img);
        img = next;
        model[u][c][type] = rate;
        if (i % 50 == 49) { /* as a snapshot says it */
            meta_batch_reset(&b);
            meta_put_image(&b, img);
            struct meta_image *empty = new_image();
            assert_ok(image_apply(empty, b.v, b.cnt, i, &next));
            image_put(empty);
            image_put(img);
            img = next;
        }
        const double *want = NULL;
        uint32_t at = 0;
        for (; at < 8 && want == NULL; at++)
            if (model[order[at][0]][order[at][1]][type] > 0)
                want = &model[order[at][0]][order[at][1]][type];
        struct quota_in_force q;
        bool found = quotas_in_force(img->quotas, span_str("a"), span_str("a"), type, &q);
        assert_int_equal(found, want != NULL);
        if (!found)
            continue;
        assert_true(q.rate == *want);
        assert_int_equal(span_is_null(q.user), order[at - 1][0] == 0);
        assert_int_equal(span_is_null(q.client), order[at - 1][1] == 0);
    }
    image_put(img);
    meta_batch_fini(&b);
}

/* Random changes of 4 groups x 3 keys against a table; every so often through a snapshot. */
static void group_configurations_are_kept_and_go_with_their_last_key(void **state)
{
    static const char *const groups[] = {"a", "ab", "b/c", "z"}, *const keys[] = {"k", "l", "m"};
    struct test_rng rng = {test_seed(9)};
    char model[4][3][16] = {0};
    struct meta_image *img = new_image(), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    for (int i = 0; i < 300; i++) {
        uint32_t g = (uint32_t)rng_below(&rng, 4), k = (uint32_t)rng_below(&rng, 3);
        bool removed = rng_below(&rng, 2) == 0;
        model[g][k][0] = '\0';
        if (!removed)
            snprintf(model[g][k], sizeof(model[g][k]), "%d", i);
        meta_batch_reset(&b);
        meta_put_config(&b, META_RESOURCE_GROUP, span_str(groups[g]), span_str(keys[k]),
                        removed ? SPAN_NULL : span_str(model[g][k]));
        assert_ok(image_apply(img, b.v, b.cnt, i, &next));
        image_put(img);
        img = next;
        if (i % 20 == 19) {
            meta_batch_reset(&b);
            meta_put_image(&b, img);
            struct meta_image *empty = new_image();
            assert_ok(image_apply(empty, b.v, b.cnt, i, &next));
            image_put(empty);
            image_put(img);
            img = next;
        }
        uint32_t cnt = 0;
        for (g = 0; g < 4; g++) {
            bool any = false;
            for (k = 0; k < 3; k++) {
                const char *got = image_group_config(img, span_str(groups[g]), keys[k]);
                assert_string_equal(got != NULL ? got : "", model[g][k]);
                any |= got != NULL;
            }
            assert_int_equal(groups_find(img->groups, span_str(groups[g])) != NULL, any);
            cnt += any;
        }
        assert_int_equal(img->groups != NULL ? img->groups->cnt : 0, cnt);
    }
    meta_batch_reset(&b);
    meta_put_config(&b, META_RESOURCE_GROUP, span_str(""), span_str("k"), span_str("1"));
    assert_rc(image_apply(img, b.v, b.cnt, 300, &next), -E_MALFORMED);
    image_put(img);
    meta_batch_fini(&b);
}

static void quota_records_without_a_meaning_here_are_passed_over_and_bad_ones_refused(void **state)
{
    static const struct {
        const char *type, *name, *key;
        double value;
        int rc;
    } cases[] = {{"ip", "10.0.0.1", "producer_byte_rate", 1, 0},
                 {"user", "u", "request_percentage", 1, 0},
                 {"user", "", "producer_byte_rate", 1, -E_MALFORMED},
                 {"user", "u", "producer_byte_rate", -1, -E_MALFORMED},
                 {"user", "u", "producer_byte_rate", 0, -E_MALFORMED}};
    struct meta_image *img = new_image(), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client_quota_record m;
        struct client_quota_record_entity e = {span_str(cases[i].type), span_str(cases[i].name)};
        client_quota_record_init(&m);
        m.entity.v = &e;
        m.entity.cnt = 1;
        m.key = span_str(cases[i].key);
        m.value = cases[i].value;
        meta_batch_reset(&b);
        meta_put_client_quota_record(&b, &m);
        assert_rc(image_apply(img, b.v, b.cnt, 1, &next), cases[i].rc);
        if (cases[i].rc == 0) {
            assert_null(next->quotas);
            image_put(next);
        }
    }
    image_put(img);
    meta_batch_fini(&b);
}

static void unchanged_topics_are_shared(void **state)
{
    struct uuid id, other;
    struct meta_image *img = small_image(&id), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    uuid_random(&other);
    meta_put_topic(&b, &other, span_str("other"));
    assert_ok(image_apply(img, b.v, b.cnt, 4, &next));
    assert_ptr_equal(image_topic_by_id(img, &id), image_topic_by_id(next, &id));
    assert_int_equal(image_topic_by_id(img, &id)->refs, 2);
    const struct meta_topic *t = image_topic_by_id(next, &id);
    image_put(img);
    assert_int_equal(t->refs, 1);
    assert_string_equal(meta_topic_config(t, "k"), "v");
    image_put(next);
    meta_batch_fini(&b);
}

static void a_changed_topic_is_copied_and_the_old_one_stays(void **state)
{
    struct uuid id;
    struct meta_image *img = small_image(&id), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_leader(&b, &id, 1, NODE);
    assert_ok(image_apply(img, b.v, b.cnt, 4, &next));
    const struct meta_topic *was = image_topic_by_id(img, &id), *is = image_topic_by_id(next, &id);
    assert_ptr_not_equal(was, is);
    assert_int_equal(was->partitions[1].leader_epoch, 0);
    assert_int_equal(is->partitions[1].leader_epoch, 1);
    assert_int_equal(is->partitions[1].partition_epoch, 1);
    assert_int_equal(is->partitions[0].leader_epoch, 0);
    assert_string_equal(meta_topic_config(is, "k"), "v");
    image_put(img);
    image_put(next);
    meta_batch_fini(&b);
}

/* `b` after a good record: refused with rc, nothing changes. */
static void assert_refused(struct meta_batch *b, int want)
{
    struct uuid id;
    struct meta_image *img = small_image(&id), *next = NULL;
    assert_ok(b->rc);
    assert_rc(image_apply(img, b->v, b->cnt, 10, &next), want);
    assert_null(next);
    assert_int_equal(img->offset, 3);
    assert_int_equal(img->topic_cnt, 1);
    assert_int_equal(img->partition_cnt, 2);
    image_put(img);
    meta_batch_reset(b);
    meta_put_feature(b, "transaction.version", 2);
}

static void refuse_bytes(struct meta_batch *b, const void *bytes, uint32_t len, int want)
{
    meta_put_feature(b, "overwritten below", 1);
    b->v[b->cnt - 1] = span_of(bytes, len);
    assert_refused(b, want);
}

static void unknown_records_are_refused(void **state)
{
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_feature(&b, "transaction.version", 2);
    refuse_bytes(&b, "\x01\x06\x00\x00", 4, -E_UNSUPPORTED_VERSION);         /* type 6 */
    refuse_bytes(&b, "\x01\x1d\x00\x00", 4, -E_UNSUPPORTED_VERSION);         /* type 29 */
    refuse_bytes(&b, "\x01\x1c\x01\x00", 4, -E_UNSUPPORTED_VERSION);         /* ClearElr 1 */
    refuse_bytes(&b, "\x01\xff\xff\x03\x00\x00", 6, -E_UNSUPPORTED_VERSION); /* type 65535 */
    refuse_bytes(&b, "\x02\x14\x00\x00", 4, -E_UNSUPPORTED_VERSION);         /* frame 2 */
    refuse_bytes(&b, "\x00\x14\x00\x00", 4, -E_UNSUPPORTED_VERSION);         /* frame 0 */
    refuse_bytes(&b, "\x01\x14\x01\x00", 4, -E_UNSUPPORTED_VERSION);         /* NoOp 1 */
    refuse_bytes(&b, "\x01\x14", 2, -E_TRUNCATED);
    refuse_bytes(&b, "", 0, -E_TRUNCATED);
    refuse_bytes(&b, "\x01\xff\xff\xff\xff\xff\x01", 7, -E_MALFORMED);
    meta_batch_fini(&b);
}

/* What Kafka wrote and the appliance has no use for changes nothing but the offset. */
static void what_only_kafka_has_a_use_for_is_passed_over(void **state)
{
    static const char *const frames[] = {
        "\x01\x1c\x00\x00", /* ClearElr */
        "\x01\x1b\x00xyz",  /* RegisterController */
        "\x01\x12\x00",     /* AccessControlEntry */
        "\x01\x0b\x00",     /* UserScramCredential */
    };
    struct uuid id;
    struct meta_image *img = small_image(&id), *next;
    struct register_broker_record r;
    struct meta_batch b;
    meta_batch_init(&b);
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        meta_put_feature(&b, "overwritten below", 1);
        b.v[b.cnt - 1] = span_of(frames[i], i == 0 ? 4 : (uint32_t)(3 + strlen(frames[i] + 3)));
    }
    meta_put_config(&b, 16, span_str("m"), span_str("k"), span_str("v")); /* client metrics */
    meta_put_config(&b, META_RESOURCE_BROKER, span_str("2"), span_str("k"), span_str("v"));
    register_broker_record_init(&r); /* a broker of a cluster that this node was in */
    r.broker_id = NODE + 1;
    meta_put_register_broker_record(&b, &r);
    struct broker_registration_change_record c;
    broker_registration_change_record_init(&c);
    c.broker_id = NODE + 1;
    meta_put_broker_registration_change_record(&b, &c);
    struct unregister_broker_record u = {.broker_id = NODE + 1};
    meta_put_unregister_broker_record(&b, &u);
    assert_ok(b.rc);
    assert_ok(image_apply(img, b.v, b.cnt, 16, &next));
    assert_int_equal(next->offset, 16);
    assert_int_equal(next->node_id, NODE);
    assert_int_equal(next->topic_cnt, 1);
    assert_int_equal(next->feature_cnt, img->feature_cnt);
    assert_int_equal(next->broker_config_cnt, img->broker_config_cnt);
    assert_int_equal(next->default_config_cnt, img->default_config_cnt);
    image_put(next);
    image_put(img);
    meta_batch_fini(&b);
}

static void a_partition_with_replicas_of_other_nodes_is_known_as_such(void **state)
{
    static const int32_t two[] = {NODE, NODE + 1}, other[] = {NODE + 1}, here[] = {NODE};
    static const struct {
        const int32_t *v;
        uint32_t cnt;
        bool is_elsewhere;
    } cases[] = {{two, 2, true}, {other, 1, true}, {NULL, 0, true}, {here, 1, false}};
    struct uuid id;
    struct meta_image *img = small_image(&id), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    img->node_id = NODE;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct partition_change_record m;
        partition_change_record_init(&m);
        m.partition_id = 1;
        m.topic_id = id;
        m.replicas = (struct wire_i32s){.v = (int32_t *)(uintptr_t)cases[i].v, .cnt = cases[i].cnt};
        meta_batch_reset(&b);
        meta_put_partition_change_record(&b, &m);
        assert_ok(image_apply(img, b.v, b.cnt, 4, &next));
        image_put(img);
        img = next;
        const struct meta_topic *t = image_topic_by_id(img, &id);
        assert_int_equal(t->partitions[1].is_elsewhere, cases[i].is_elsewhere);
        assert_false(t->partitions[0].is_elsewhere);
    }
    image_put(img);
    meta_batch_fini(&b);
}

static void records_that_contradict_the_image_are_refused(void **state)
{
    struct uuid id, other, dir = {{1}}, zero = {{0}};
    struct meta_image *img = small_image(&id), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    uuid_random(&other);
    meta_put_topic(&b, &other, span_str("t")); /* the name is taken */
    assert_refused(&b, -E_MALFORMED);
    meta_put_topic(&b, &other, span_str("../x"));
    assert_refused(&b, -E_MALFORMED);
    meta_put_topic(&b, &zero, span_str("x"));
    assert_refused(&b, -E_MALFORMED);
    meta_put_topic(&b, &other, span_str("x"));
    meta_put_topic(&b, &other, span_str("y")); /* the id is taken */
    assert_refused(&b, -E_MALFORMED);
    meta_put_partition(&b, &other, 0, NODE, &dir);
    assert_refused(&b, -E_MALFORMED);
    meta_put_leader(&b, &other, 0, NODE);
    assert_refused(&b, -E_MALFORMED);
    meta_put_remove_topic(&b, &other);
    assert_refused(&b, -E_MALFORMED);
    meta_put_config(&b, META_RESOURCE_TOPIC, span_str("x"), span_str("k"), span_str("v"));
    assert_refused(&b, -E_MALFORMED);
    meta_put_producer_ids(&b, NODE, 0, -1);
    assert_refused(&b, -E_MALFORMED);
    meta_put_topic(&b, &other, span_str("x")); /* partition 0 never comes */
    meta_put_partition(&b, &other, 1, NODE, &dir);
    assert_refused(&b, -E_MALFORMED);
    meta_put_topic(&b, &other, span_str("x"));
    meta_put_partition(&b, &other, META_PARTITIONS_MAX, NODE, &dir);
    assert_refused(&b, -E_LIMIT);
    meta_put_topic(&b, &other, span_str("x"));
    meta_put_partition(&b, &other, META_PARTITIONS_MAX - 1, NODE, &dir); /* two exist already */
    assert_refused(&b, -E_LIMIT);
    for (int i = 0; i < 16; i++) {
        char name[8];
        snprintf(name, sizeof(name), "f%d", i);
        meta_put_feature(&b, name, 1);
    }
    assert_refused(&b, -E_LIMIT);
    /* known to the image, but not there: partition 2 of "t" */
    meta_batch_reset(&b);
    meta_put_leader(&b, &id, 2, NODE);
    assert_rc(image_apply(img, b.v, b.cnt, 4, &next), -E_MALFORMED);
    meta_batch_fini(&b);
    image_put(img);
}

static void damaged_bodies_are_refused_whole(void **state)
{
    struct test_rng rng = {test_seed(5)};
    struct uuid id;
    struct meta_image *img = small_image(&id);
    struct meta_batch b;
    meta_batch_init(&b);
    static struct model m;
    memset(&m, 0, sizeof(m));
    m.broker_epoch = m.offset = -1;
    for (int i = 0; i < 60; i++)
        step(&m, &b, &rng);
    for (uint32_t i = 0; i < b.cnt; i++) {
        for (uint32_t len = 0; len < b.v[i].len; len++) {
            uint8_t *exact = malloc(len + 1);
            memcpy(exact + 1, b.v[i].p, len);
            struct span cut = span_of(exact + 1, len);
            struct meta_image *next = NULL;
            assert_rc(image_apply(img, &cut, 1, 9, &next), -E_TRUNCATED);
            free(exact);
        }
        uint8_t *longer = malloc(b.v[i].len + 1);
        memcpy(longer, b.v[i].p, b.v[i].len);
        longer[b.v[i].len] = 0;
        struct span s = span_of(longer, b.v[i].len + 1);
        struct meta_image *next = NULL;
        assert_true(image_apply(img, &s, 1, 9, &next) < 0);
        free(longer);
    }
    meta_batch_fini(&b);
    image_put(img);
}

static void transactions_apply_whole_or_not_at_all(void **state)
{
    struct uuid a, c;
    uuid_random(&a);
    uuid_random(&c);
    struct begin_transaction_record begin;
    struct end_transaction_record end;
    struct abort_transaction_record abort_;
    begin_transaction_record_init(&begin);
    end_transaction_record_init(&end);
    abort_transaction_record_init(&abort_);
    struct meta_image *img = new_image(), *next = NULL;
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_begin_transaction_record(&b, &begin);
    meta_put_topic(&b, &a, span_str("a"));
    assert_rc(image_apply(img, b.v, b.cnt, 1, &next), -EAGAIN);
    meta_put_end_transaction_record(&b, &end);
    meta_put_begin_transaction_record(&b, &begin);
    meta_put_topic(&b, &c, span_str("c"));
    meta_put_abort_transaction_record(&b, &abort_);
    meta_put_feature(&b, "group.version", 1);
    assert_ok(image_apply(img, b.v, b.cnt, 6, &next));
    assert_non_null(image_topic_by_name(next, span_str("a")));
    assert_null(image_topic_by_name(next, span_str("c")));
    assert_int_equal(image_feature(next, "group.version"), 1);
    image_put(next);
    meta_batch_reset(&b);
    meta_put_end_transaction_record(&b, &end);
    assert_rc(image_apply(img, b.v, b.cnt, 6, &next), -E_MALFORMED);
    meta_batch_reset(&b);
    meta_put_begin_transaction_record(&b, &begin);
    meta_put_begin_transaction_record(&b, &begin);
    meta_put_end_transaction_record(&b, &end);
    assert_rc(image_apply(img, b.v, b.cnt, 6, &next), -E_MALFORMED);
    image_put(img);
    meta_batch_fini(&b);
}

static void a_topic_can_be_removed_and_created_again_in_one_batch(void **state)
{
    struct uuid id, other, dir = {{4}};
    struct meta_image *img = small_image(&id), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    uuid_random(&other);
    meta_put_remove_topic(&b, &id);
    meta_put_topic(&b, &other, span_str("t"));
    meta_put_partition(&b, &other, 0, NODE, &dir);
    assert_ok(image_apply(img, b.v, b.cnt, 7, &next));
    assert_null(image_topic_by_id(next, &id));
    const struct meta_topic *t = image_topic_by_name(next, span_str("t"));
    assert_true(uuid_eq(&t->id, &other));
    assert_int_equal(t->partition_cnt, 1);
    assert_int_equal(t->config_cnt, 0);
    assert_int_equal(next->partition_cnt, 1);
    assert_int_equal(image_topic_by_id(img, &id)->partition_cnt, 2);
    image_put(img);
    image_put(next);
    meta_batch_fini(&b);
}

static void records_have_kafkas_frame(void **state)
{
    struct uuid id = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
    struct meta_batch b;
    meta_batch_init(&b);
    meta_put_topic(&b, &id, span_str("ab"));
    static const uint8_t topic[] = {1, 2, 0, 3, 'a', 'b', 0,  1,  2,  3,  4, 5,
                                    6, 7, 8, 9, 10,  11,  12, 13, 14, 15, 0};
    assert_int_equal(b.v[0].len, sizeof(topic));
    assert_memory_equal(b.v[0].p, topic, sizeof(topic));
    meta_put_feature(&b, "metadata.version", META_VERSION_LEVEL);
    assert_int_equal(b.v[1].p[1], 12);
    struct meta_record rec;
    assert_ok(meta_record_parse(b.v[1], &rec));
    assert_int_equal(rec.type, META_FEATURE_LEVEL);
    assert_string_equal(meta_type_name(rec.type), "feature_level_record");
    struct uuid dir = {{7}};
    meta_put_partition(&b, &id, 3, 1, &dir);
    static const uint8_t head[] = {1, 3, 2, 0, 0, 0, 3};
    assert_memory_equal(b.v[2].p, head, sizeof(head));
    /* too long for a Kafka string */
    char *text = malloc(40000);
    memset(text, 'x', 40000);
    meta_put_topic(&b, &id, span_of(text, 40000));
    assert_rc(b.rc, -E_LIMIT);
    meta_put_topic(&b, &id, span_str("later"));
    assert_int_equal(b.cnt, 3);
    free(text);
    meta_batch_fini(&b);
}

static void topic_names_follow_kafkas_rule(void **state)
{
    char text[260];
    memset(text, 'n', sizeof(text));
    assert_true(meta_topic_name_ok(span_str("a.b_c-D9")));
    assert_true(meta_topic_name_ok(span_str("...")));
    assert_true(meta_topic_name_ok(span_of(text, 249)));
    assert_false(meta_topic_name_ok(span_of(text, 250)));
    assert_false(meta_topic_name_ok(span_str("")));
    assert_false(meta_topic_name_ok(SPAN_NULL));
    assert_false(meta_topic_name_ok(span_str(".")));
    assert_false(meta_topic_name_ok(span_str("..")));
    assert_false(meta_topic_name_ok(span_str("a/b")));
    assert_false(meta_topic_name_ok(span_of("a\0b", 3)));
    assert_true(meta_topic_name_internal(span_str("__consumer_offsets")));
    assert_false(meta_topic_name_internal(span_str("__cluster_metadata")));
}

static void thousands_of_topics_are_found_by_name_and_id(void **state)
{
    enum { N = 3000 };
    static struct uuid ids[N];
    struct test_rng rng = {test_seed(8)};
    struct meta_image *img = new_image(), *next;
    struct meta_batch b;
    meta_batch_init(&b);
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", i);
        ids[i] = random_uuid(&rng);
        meta_put_topic(&b, &ids[i], span_str(name));
        meta_put_partition(&b, &ids[i], 0, NODE, &ids[i]);
    }
    assert_ok(image_apply(img, b.v, b.cnt, 0, &next));
    image_put(img);
    img = next;
    meta_batch_reset(&b);
    for (int i = 0; i < N; i += 2)
        meta_put_remove_topic(&b, &ids[i]);
    assert_ok(image_apply(img, b.v, b.cnt, 1, &next));
    image_put(img);
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", i);
        const struct meta_topic *t = image_topic_by_id(next, &ids[i]);
        assert_ptr_equal(t, image_topic_by_name(next, span_str(name)));
        assert_int_equal(t != NULL, i % 2 == 1);
    }
    assert_int_equal(next->partition_cnt, N / 2);
    image_put(next);
    meta_batch_fini(&b);
}

TEST_MAIN(TEST(random_records_add_up_to_what_the_model_says), TEST(unchanged_topics_are_shared),
          TEST(quotas_are_kept_and_the_most_specific_is_in_force),
          TEST(group_configurations_are_kept_and_go_with_their_last_key),
          TEST(quota_records_without_a_meaning_here_are_passed_over_and_bad_ones_refused),
          TEST(a_changed_topic_is_copied_and_the_old_one_stays), TEST(unknown_records_are_refused),
          TEST(what_only_kafka_has_a_use_for_is_passed_over),
          TEST(a_partition_with_replicas_of_other_nodes_is_known_as_such),
          TEST(records_that_contradict_the_image_are_refused),
          TEST(damaged_bodies_are_refused_whole), TEST(transactions_apply_whole_or_not_at_all),
          TEST(a_topic_can_be_removed_and_created_again_in_one_batch),
          TEST(records_have_kafkas_frame), TEST(topic_names_follow_kafkas_rule),
          TEST(thousands_of_topics_are_found_by_name_and_id))
