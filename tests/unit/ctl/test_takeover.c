/* test_takeover.c - what Apache Kafka leaves behind in a directory, and Sluice goes on with:
 * segments, snapshots, epochs, control records; and what is refused instead. */
#include "ctl/controller/meta_log.c"
#include "accel/accel.h"
#include "ctl/controller/controller_int.h"
#include "tests/support/test.h"

enum { NODE = 1 };

/* ---- files as Kafka writes them ---- */

static struct codec_ctx *codecs;

static void file_put(const char *dir, const char *name, const void *p, size_t len)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0640);
    assert_true(fd >= 0);
    assert_ok(write_full(fd, p, len, (uint64_t)lseek(fd, 0, SEEK_END)));
    close(fd);
}
static char *file_get(const char *dir, const char *name)
{
    char path[600], *text;
    size_t len;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_ok(text_file_read(path, 1 << 20, &text, &len));
    return text;
}
struct kafka { /* writes one file */
    const char *dir, *name;
    int64_t offset;
    int32_t epoch;
};
static void put_batch(struct kafka *k, const struct span *v, uint32_t cnt)
{
    struct meta_log log = {.codecs = codecs, .next_offset = k->offset, .epoch = k->epoch};
    uint8_t *buf;
    struct span batch;
    assert_ok(batch_make(&log, v, cnt, 1234, &buf, &batch));
    file_put(k->dir, k->name, batch.p, batch.len);
    free(buf);
    k->offset += cnt;
}
static void put_text(struct kafka *k, const char *text)
{
    struct span v = span_str(text);
    put_batch(k, &v, 1);
}
static void put_control(struct kafka *k, int16_t type, const void *value, uint32_t len)
{
    uint8_t buf[512], key[4] = {0, 0, 0, (uint8_t)type};
    struct batch_builder b;
    struct span batch;
    struct rec r = {.key = span_of(key, 4), .value = span_of(value, len), .timestamp_ms = 1234};
    struct seal_opts o = {.codec = CODEC_NONE,
                          .producer_id = -1,
                          .producer_epoch = -1,
                          .base_sequence = -1,
                          .attributes = BATCH_ATTR_CONTROL};
    batch_builder_init(&b, buf, sizeof(buf));
    assert_ok(batch_builder_add(&b, &r));
    assert_ok(batch_seal(&b, codecs, &o, NULL, 0, &batch));
    store_be64(buf + BATCH_BASE_OFFSET, (uint64_t)k->offset);
    store_be32(buf + BATCH_LEADER_EPOCH, (uint32_t)k->epoch);
    file_put(k->dir, k->name, batch.p, batch.len);
    k->offset++;
}
/* LeaderChange 0: version, leader, voters 1 .. n, granting voters, no tags. */
static void put_leader_change(struct kafka *k, int32_t leader, uint8_t voters)
{
    uint8_t v[64] = {0};
    uint32_t at = 2;
    store_be32(v + at, (uint32_t)leader);
    at += 4;
    v[at++] = (uint8_t)(voters + 1);
    for (uint8_t i = 1; i <= voters; i++, at += 5)
        v[at + 3] = i; /* and its empty tags */
    v[at++] = 1;
    v[at++] = 0;
    put_control(k, CONTROL_LEADER_CHANGE, v, at);
}
/* KRaftVoters 0: version, voters 1 .. n (id, directory, one endpoint, versions 0 .. 1), no tags. */
static void put_voters(struct kafka *k, uint8_t voters)
{
    static const uint8_t rest[] = {2, 2, 'C', 2, 'h', 0x23, 0x85, 0, 0, 0, 0, 1, 0, 0};
    uint8_t v[256] = {0};
    uint32_t at = 2;
    v[at++] = (uint8_t)(voters + 1);
    for (uint8_t i = 1; i <= voters; i++) {
        v[at + 3] = i;
        at += 4 + 16;
        memcpy(v + at, rest, sizeof(rest));
        at += sizeof(rest);
    }
    put_control(k, CONTROL_KRAFT_VOTERS, v, at + 1);
}
static void put_header(struct kafka *k)
{
    static const uint8_t header[11] = {0};
    put_control(k, 3, header, sizeof(header));
}
static void put_footer(struct kafka *k)
{
    put_control(k, CONTROL_SNAPSHOT_FOOTER, "\0\0\0", 3);
}

/* ---- the log ---- */

struct seen {
    int64_t last_offset;
    char text[1024];
};
static int collect(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    struct seen *s = arg;
    s->last_offset = last_offset;
    for (uint32_t i = 0; i < cnt; i++)
        snprintf(s->text + strlen(s->text), sizeof(s->text) - strlen(s->text), "%.*s;",
                 (int)records[i].len, (const char *)records[i].p);
    return 0;
}
static char why[2048];
static struct meta_log *log_open(const char *dir, struct seen *s, int want)
{
    struct meta_log *log = NULL;
    struct meta_log_opts o = {.dir = dir, .node_id = NODE};
    *s = (struct seen){.last_offset = -1};
    int rc = meta_log_open(&o, collect, s, &log, why, sizeof(why));
    if (rc != want)
        fail_msg("%d, expected %d: %s", rc, want, why);
    return log;
}
static void append(struct meta_log *log, const char *text, int64_t want_offset)
{
    struct span v = span_str(text);
    int64_t last;
    assert_ok(meta_log_append(log, &v, 1, 1234, &last));
    assert_int_equal(last, want_offset);
}
/* Segments [0, 3) and [3, 6), a leader change in each, epochs 1 and 4. */
static void two_segments(const char *dir)
{
    struct kafka k = {.dir = dir, .name = "00000000000000000000.log", .epoch = 1};
    put_leader_change(&k, NODE, 1);
    put_text(&k, "one");
    put_text(&k, "two");
    k.name = "00000000000000000003.log";
    k.epoch = 4;
    put_leader_change(&k, NODE, 1);
    put_text(&k, "four");
    put_text(&k, "five");
}
static void segments_are_one_log_and_the_last_one_grows(void **state)
{
    char *dir = test_tmpdir();
    struct seen s;
    two_segments(dir);
    struct meta_log *log = log_open(dir, &s, 0);
    assert_string_equal(s.text, "one;two;four;five;");
    assert_int_equal(s.last_offset, 5);
    assert_int_equal(meta_log_next_offset(log), 6);
    append(log, "six", 6);
    meta_log_close(log);
    log = log_open(dir, &s, 0);
    assert_string_equal(s.text, "one;two;four;five;six;");
    meta_log_close(log);
    test_tmpdir_remove(dir);
}
static void a_missing_segment_and_a_torn_one_in_the_middle_are_refused(void **state)
{
    char *dir = test_tmpdir(), path[600];
    struct seen s;
    two_segments(dir);
    struct kafka k = {.dir = dir, .name = "00000000000000000007.log", .offset = 7, .epoch = 4};
    put_text(&k, "seven");
    log_open(dir, &s, -E_CORRUPT_BATCH);
    assert_non_null(strstr(why, "missing between offset 6 and 7"));
    snprintf(path, sizeof(path), "%s/00000000000000000007.log", dir);
    assert_int_equal(unlink(path), 0);
    file_put(dir, "00000000000000000000.log", "torn", 4);
    log_open(dir, &s, -E_TRUNCATED);
    assert_non_null(strstr(why, "00000000000000000000.log"));
    snprintf(path, sizeof(path), "%s/00000000000000000000.log", dir);
    assert_int_equal(unlink(path), 0);
    log_open(dir, &s, -E_CORRUPT_BATCH); /* and no snapshot says what was in it */
    assert_non_null(strstr(why, "begins at offset 3"));
    test_tmpdir_remove(dir);
}
static void a_snapshot_stands_for_what_came_before_it(void **state)
{
    char *dir = test_tmpdir(), path[600];
    struct seen s;
    two_segments(dir);
    struct kafka k = {.dir = dir, .name = "00000000000000000005-0000000004.checkpoint"};
    put_header(&k);
    put_text(&k, "state");
    put_text(&k, "of four");
    put_footer(&k);
    /* Kafka removes what a snapshot tells, when its retention says so. */
    for (int gone = 0; gone < 2; gone++) {
        struct meta_log *log = log_open(dir, &s, 0);
        assert_string_equal(s.text, "state;of four;five;");
        assert_int_equal(meta_log_next_offset(log), 6);
        meta_log_close(log);
        snprintf(path, sizeof(path), "%s/00000000000000000000.log", dir);
        assert_int_equal(unlink(path), gone ? -1 : 0);
    }
    /* A newer one that is not whole: the older one is read. */
    k = (struct kafka){.dir = dir, .name = "00000000000000000006-0000000004.checkpoint"};
    put_header(&k);
    put_text(&k, "half a state");
    log_set_level(LOG_LEVEL_ERROR);
    struct meta_log *log = log_open(dir, &s, 0);
    assert_string_equal(s.text, "state;of four;five;");
    meta_log_close(log);
    /* A log that ends before its snapshot has lost something. */
    put_footer(&k);
    k = (struct kafka){.dir = dir, .name = "00000000000000000009-0000000004.checkpoint"};
    put_header(&k);
    put_footer(&k);
    log_open(dir, &s, -E_CORRUPT_BATCH);
    assert_non_null(strstr(why, "before the end of its snapshot"));
    test_tmpdir_remove(dir);
}
/* All of a snapshot but its last byte, and each of its bytes wrong: never half a state. */
static void a_damaged_snapshot_is_never_read_in_part(void **state)
{
    char *dir = test_tmpdir(), path[600];
    struct seen s;
    struct kafka k = {.dir = dir, .name = "00000000000000000000.log", .epoch = 1};
    put_text(&k, "zero");
    put_text(&k, "one");
    k = (struct kafka){.dir = dir, .name = "00000000000000000002-0000000001.checkpoint"};
    put_header(&k);
    put_text(&k, "state");
    put_footer(&k);
    snprintf(path, sizeof(path), "%s/%s", dir, k.name);
    int fd = open(path, O_RDWR);
    off_t len = lseek(fd, 0, SEEK_END);
    log_set_level(LOG_LEVEL_ERROR);
    for (off_t at = 0; at <= len; at++) {
        uint8_t b;
        if (at < len) {
            assert_ok(read_full(fd, &b, 1, (uint64_t)at));
            uint8_t wrong = b ^ 0x40;
            assert_ok(write_full(fd, &wrong, 1, (uint64_t)at));
        } else
            assert_int_equal(ftruncate(fd, len - 1), 0);
        struct meta_log *log = log_open(dir, &s, 0);
        /* Base offset and leader epoch are outside the checksum, and mean nothing in a snapshot. */
        if (strcmp(s.text, "state;") != 0)
            assert_string_equal(s.text, "zero;one;");
        else
            assert_true(at < len);
        meta_log_close(log);
        if (at < len)
            assert_ok(write_full(fd, &b, 1, (uint64_t)at));
    }
    close(fd);
    test_tmpdir_remove(dir);
}
static void every_process_that_appends_leads_an_epoch_of_its_own(void **state)
{
    char *dir = test_tmpdir(), *text;
    struct seen s;
    two_segments(dir);
    static const char epochs[] = "0\n3\n1 0\n4 3\n5 6\n";
    static const char quorum[] =
        "{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":5,\"votedId\":-1,\"appliedOffset\":0,"
        "\"currentVoters\":[{\"voterId\":1}],\"data_version\":0}";
    file_put(dir, "leader-epoch-checkpoint", epochs, sizeof(epochs) - 1);
    file_put(dir, "quorum-state", quorum, sizeof(quorum) - 1);
    file_put(dir, "00000000000000000003.timeindex", epochs, 12);
    struct meta_log *log = log_open(dir, &s, 0);
    text = file_get(dir, "quorum-state"); /* whoever only reads changes nothing */
    assert_non_null(strstr(text, "\"leaderEpoch\":5"));
    free(text);
    append(log, "six", 6);
    char path[600];
    snprintf(path, sizeof(path), "%s/00000000000000000003.timeindex", dir);
    assert_int_equal(access(path, F_OK), -1); /* it would end before "six" */
    append(log, "seven", 7);
    meta_log_close(log);
    text = file_get(dir, "quorum-state");
    assert_non_null(strstr(text, "\"leaderEpoch\":6,\"votedId\":1"));
    free(text);
    text = file_get(dir, "leader-epoch-checkpoint"); /* epoch 5 wrote nothing */
    assert_string_equal(text, "0\n3\n1 0\n4 3\n6 6\n");
    free(text);
    log = log_open(dir, &s, 0);
    append(log, "eight", 8);
    meta_log_close(log);
    text = file_get(dir, "leader-epoch-checkpoint");
    assert_string_equal(text, "0\n4\n1 0\n4 3\n6 6\n7 8\n");
    free(text);
    test_tmpdir_remove(dir);
}
static void damaged_side_files_are_made_anew(void **state)
{
    static const char *const bad[] = {
        "", "{", "[]", "null", "{\"leaderId\":\"1\"}", "0\n-1\n1 0\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *dir = test_tmpdir(), *text;
        struct seen s;
        two_segments(dir);
        file_put(dir, "quorum-state", bad[i], strlen(bad[i]));
        file_put(dir, "leader-epoch-checkpoint", bad[i], strlen(bad[i]));
        log_set_level(LOG_LEVEL_ERROR);
        struct meta_log *log = log_open(dir, &s, 0);
        append(log, "six", 6);
        meta_log_close(log);
        text = file_get(dir, "quorum-state");
        assert_non_null(strstr(text, "\"leaderEpoch\":5"));
        free(text);
        text = file_get(dir, "leader-epoch-checkpoint");
        assert_non_null(strstr(text, "5 6\n"));
        free(text);
        test_tmpdir_remove(dir);
    }
}

/* ---- the controller ---- */

struct world {
    char *dir, log_dir[300], meta_dir[400];
    struct conf conf;
    struct identity id;
    struct controller *c;
    struct meta_batch b;
};
static void nobody(void *arg, const struct span *records, uint32_t cnt, int64_t last)
{
}
static struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof(*w));
    w->dir = test_tmpdir();
    conf_init(&w->conf);
    snprintf(w->conf.dir, sizeof(w->conf.dir), "%s", w->dir);
    conf_finish(&w->conf);
    snprintf(w->log_dir, sizeof(w->log_dir), "%s/log", w->dir);
    snprintf(w->meta_dir, sizeof(w->meta_dir), "%s/" META_LOG_DIR, w->log_dir);
    assert_ok(identity_load(&w->conf, &w->id, why, sizeof(why)));
    assert_ok(text_file_mkdirs(w->meta_dir));
    meta_batch_init(&w->b);
    log_set_level(LOG_LEVEL_ERROR);
    return w;
}
static void world_open(struct world *w, int want)
{
    struct controller_opts o = {.conf = &w->conf, .identity = &w->id, .publish = nobody};
    int rc = controller_open(&o, &w->c, why, sizeof(why));
    if (rc != want)
        fail_msg("%d, expected %d: %s", rc, want, why);
}
static void world_free(struct world *w)
{
    controller_close(w->c);
    meta_batch_fini(&w->b);
    test_tmpdir_remove(w->dir);
    free(w);
}
/* The records of w->b as one batch. */
static void world_put(struct world *w, struct kafka *k)
{
    assert_ok(w->b.rc);
    put_batch(k, w->b.v, w->b.cnt);
    meta_batch_reset(&w->b);
}
static struct kafka segment_of(struct world *w)
{
    return (struct kafka){.dir = w->meta_dir, .name = "00000000000000000000.log", .epoch = 1};
}
static struct ctl_hello hello_new(void)
{
    struct ctl_hello h;
    ctl_hello_init(&h);
    uuid_random(&h.incarnation);
    h.shard_cnt = 1;
    return h;
}
/* A topic as a broker leaves it that has given its partitions away. */
static struct uuid put_topic(struct world *w, const char *name, const struct uuid *directory,
                             int32_t replica, int32_t leader)
{
    struct partition_record m;
    struct uuid id;
    struct uuid dirs[] = {*directory};
    int32_t replicas[] = {replica};
    uuid_random(&id);
    meta_put_topic(&w->b, &id, span_str(name));
    partition_record_init(&m);
    m.partition_id = 0;
    m.topic_id = id;
    m.replicas = m.isr = (struct wire_i32s){.v = replicas, .cnt = 1};
    m.leader = leader;
    m.leader_epoch = 7;
    m.partition_epoch = 9;
    m.directories = (struct wire_uuids){.v = dirs, .cnt = 1};
    meta_put_partition_record(&w->b, &m);
    return id;
}
static void partitions_without_leader_or_directory_are_taken_over(void **state)
{
    struct world *w = world_new();
    struct kafka k = segment_of(w);
    const struct uuid unassigned = {{[15] = 1}};
    struct ctl_hello h = hello_new();
    int64_t epoch;
    put_leader_change(&k, NODE, 1);
    struct uuid a = put_topic(w, "a", &w->id.dir_id[0], NODE, -1);
    struct uuid b = put_topic(w, "b", &unassigned, NODE, NODE);
    struct uuid c = put_topic(w, "c", &w->id.dir_id[0], NODE, NODE);
    world_put(w, &k);
    world_open(w, 0);
    assert_ok(controller_register(w->c, &h, &epoch));
    struct meta_image *img = controller_image(w->c);
    const struct {
        const struct uuid *id;
        int32_t leader_epoch, partition_epoch;
    } want[] = {{&a, 8, 10}, {&b, 7, 10}, {&c, 7, 9}};
    for (size_t i = 0; i < 3; i++) {
        const struct meta_partition *p = image_topic_by_id(img, want[i].id)->partitions;
        assert_int_equal(p->leader, NODE);
        assert_int_equal(p->leader_epoch, want[i].leader_epoch);
        assert_int_equal(p->partition_epoch, want[i].partition_epoch);
        assert_true(uuid_eq(&p->directory, &w->id.dir_id[0]));
    }
    world_free(w);
}
static void a_change_in_several_batches_counts_when_its_end_is_there(void **state)
{
    for (int ended = 0; ended < 2; ended++) {
        struct world *w = world_new();
        struct kafka k = segment_of(w);
        struct begin_transaction_record begin;
        struct end_transaction_record end;
        begin_transaction_record_init(&begin);
        end_transaction_record_init(&end);
        meta_put_feature(&w->b, "group.version", 1);
        world_put(w, &k);
        meta_put_begin_transaction_record(&w->b, &begin);
        (void)put_topic(w, "a", &w->id.dir_id[0], NODE, NODE);
        world_put(w, &k);
        (void)put_topic(w, "b", &w->id.dir_id[0], NODE, NODE);
        world_put(w, &k);
        if (ended) {
            meta_put_end_transaction_record(&w->b, &end);
            world_put(w, &k);
        }
        int64_t next = k.offset;
        for (int again = 0; again < 2; again++) { /* what did not end is ended by a record */
            world_open(w, 0);
            assert_int_equal(controller_image(w->c)->topic_cnt, ended ? 2 : 0);
            assert_int_equal(controller_last_offset(w->c), ended ? next - 1 : next);
            controller_close(w->c);
            w->c = NULL;
        }
        world_free(w);
    }
}
/* What tells the voters lies behind a snapshot, in it, or beside it. */
static void a_snapshot_does_not_hide_the_voters(void **state)
{
    enum { SAME_SEGMENT, EARLIER_SEGMENT, IN_SNAPSHOT, QUORUM_STATE, REMOVED, ALONE, CASE_CNT };
    static const char quorum[] =
        "{\"clusterId\":\"\",\"leaderId\":1,\"leaderEpoch\":1,\"votedId\":-1,\"appliedOffset\":0,"
        "\"currentVoters\":[{\"voterId\":1},{\"voterId\":2},{\"voterId\":3}],\"data_version\":0}";
    for (int i = 0; i < CASE_CNT; i++) {
        struct world *w = world_new();
        struct kafka k = segment_of(w);
        if (i == SAME_SEGMENT || i == EARLIER_SEGMENT || i == REMOVED)
            put_leader_change(&k, NODE, 3);
        meta_put_feature(&w->b, "metadata.version", 30);
        world_put(w, &k);
        if (i == REMOVED) /* the two others were taken out of the quorum */
            put_voters(&k, 1);
        char name[64];
        if (i == EARLIER_SEGMENT) {
            snprintf(name, sizeof(name), "%020" PRId64 ".log", k.offset);
            k.name = name;
            meta_put_feature(&w->b, "group.version", 1);
            world_put(w, &k);
        }
        snprintf(name, sizeof(name), "%020" PRId64 "-0000000001.checkpoint", k.offset);
        k = (struct kafka){.dir = w->meta_dir, .name = name, .epoch = 1};
        put_header(&k);
        if (i == IN_SNAPSHOT || i == ALONE)
            put_voters(&k, i == ALONE ? 1 : 3);
        meta_put_feature(&w->b, "metadata.version", 30);
        world_put(w, &k);
        put_footer(&k);
        if (i == QUORUM_STATE)
            file_put(w->meta_dir, "quorum-state", quorum, sizeof(quorum) - 1);
        world_open(w, i == REMOVED || i == ALONE ? 0 : -E_FOREIGN_DIR);
        if (i != REMOVED && i != ALONE)
            assert_non_null(strstr(why, " of 3:"));
        world_free(w);
    }
}
static void what_belongs_to_more_than_this_node_is_refused(void **state)
{
    enum { VOTERS, LEADER, REPLICA, REMOTE, OLD, NEW, CASE_CNT };
    static const char *const text[CASE_CNT] = {
        "controller 1 of 3", "controller 2 of 1", "partition a-0 has replicas",
        "remote storage",    "is at level 24",    "is at level 31"};
    for (int i = 0; i < CASE_CNT; i++) {
        struct world *w = world_new();
        struct kafka k = segment_of(w);
        put_leader_change(&k, i == LEADER ? 2 : NODE, i == VOTERS ? 3 : 1);
        (void)put_topic(w, "a", &w->id.dir_id[0], i == REPLICA ? 2 : NODE, -1);
        meta_put_feature(&w->b, "metadata.version", i == OLD ? 24 : i == NEW ? 31 : 30);
        if (i == REMOTE)
            meta_put_config(&w->b, META_RESOURCE_TOPIC, span_str("a"),
                            span_str("remote.storage.enable"), span_str("true"));
        world_put(w, &k);
        world_open(w, -E_FOREIGN_DIR);
        assert_non_null(strstr(why, text[i]));
        world_free(w);
    }
}
static void a_directory_that_kafka_never_ran_on_is_refused_untouched(void **state)
{
    struct world *w = world_new();
    file_put(w->log_dir, "bootstrap.checkpoint", "x", 1);
    world_open(w, -E_FOREIGN_DIR);
    assert_non_null(strstr(why, "never ran"));
    struct meta_dir d;
    assert_ok(meta_dir_scan(w->meta_dir, &d));
    assert_int_equal(d.segment_cnt, 0);
    meta_dir_fini(&d);
    struct kafka k = segment_of(w);
    put_leader_change(&k, NODE, 1);
    world_open(w, 0);
    world_free(w);
}
static void a_fenced_broker_is_registered_again(void **state)
{
    struct world *w = world_new();
    struct ctl_hello h = hello_new(), h2 = hello_new();
    int64_t epoch, again;
    world_open(w, 0);
    controller_fence(w->c); /* nobody has registered */
    assert_int_equal(controller_last_offset(w->c), -1);
    assert_ok(controller_register(w->c, &h, &epoch));
    int64_t last = controller_last_offset(w->c);
    controller_fence(w->c);
    controller_fence(w->c);
    assert_int_equal(controller_last_offset(w->c), last + 1);
    assert_true(controller_image(w->c)->broker->fenced);
    assert_int_equal(controller_image(w->c)->broker_epoch, epoch); /* as the clean mark says */
    controller_close(w->c);
    world_open(w, 0);
    assert_ok(controller_register(w->c, &h2, &again));
    assert_true(again > epoch);
    assert_false(controller_image(w->c)->broker->fenced);
    world_free(w);
}
int main(void)
{
    accel_init(false);
    if (codec_ctx_create(&codecs) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(segments_are_one_log_and_the_last_one_grows),
        TEST(a_missing_segment_and_a_torn_one_in_the_middle_are_refused),
        TEST(a_snapshot_stands_for_what_came_before_it),
        TEST(a_damaged_snapshot_is_never_read_in_part),
        TEST(every_process_that_appends_leads_an_epoch_of_its_own),
        TEST(damaged_side_files_are_made_anew),
        TEST(partitions_without_leader_or_directory_are_taken_over),
        TEST(a_change_in_several_batches_counts_when_its_end_is_there),
        TEST(a_snapshot_does_not_hide_the_voters),
        TEST(what_belongs_to_more_than_this_node_is_refused),
        TEST(a_directory_that_kafka_never_ran_on_is_refused_untouched),
        TEST(a_fenced_broker_is_registered_again),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    codec_ctx_destroy(codecs);
    return rc;
}
