/* test_meta_log.c - the metadata log: what was appended is there after any crash, and nothing else.
 */
#include "ctl/controller/meta_log.c"
#include "accel/accel.h"
#include "tests/support/test.h"

#define SEGMENT_NAME "00000000000000000000.log"

struct seen {
    uint32_t batches, records;
    int64_t last_offset;
    char text[4096];
};
static int collect(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    struct seen *s = arg;
    s->batches++;
    s->records += cnt;
    s->last_offset = last_offset;
    for (uint32_t i = 0; i < cnt; i++)
        snprintf(s->text + strlen(s->text), sizeof(s->text) - strlen(s->text), "%.*s;",
                 (int)records[i].len, (const char *)records[i].p);
    return 0;
}
static struct meta_log *reopen(const char *dir, struct seen *s, int want)
{
    struct meta_log *log = NULL;
    char err[512];
    struct meta_log_opts o = {.dir = dir, .node_id = 1};
    memset(s, 0, sizeof(*s));
    s->last_offset = -1;
    int rc = meta_log_open(&o, collect, s, &log, err, sizeof(err));
    if (rc != want)
        fail_msg("%d, expected %d: %s", rc, want, err);
    return log;
}
static int64_t append(struct meta_log *log, const char *a, const char *b)
{
    struct span v[2] = {span_str(a), span_str(b == NULL ? "" : b)};
    int64_t last;
    assert_ok(meta_log_append(log, v, b == NULL ? 1 : 2, 1234, &last));
    return last;
}
static void what_is_appended_is_replayed_with_dense_offsets(void **state)
{
    char *dir = test_tmpdir(), sub[300];
    struct seen s;
    snprintf(sub, sizeof(sub), "%s/log/__cluster_metadata-0", dir);
    struct meta_log *log = reopen(sub, &s, 0);
    assert_int_equal(s.batches, 0);
    assert_int_equal(append(log, "one", NULL), 0);
    assert_int_equal(append(log, "two", "three"), 2);
    meta_log_close(log);
    log = reopen(sub, &s, 0);
    assert_int_equal(s.batches, 2);
    assert_string_equal(s.text, "one;two;three;");
    assert_int_equal(append(log, "four", NULL), 3);
    meta_log_close(log);
    test_tmpdir_remove(dir);
}
static void a_crash_at_any_byte_of_the_last_batch_loses_only_that_batch(void **state)
{
    char *dir = test_tmpdir(), path[400];
    struct seen s;
    struct meta_log *log = reopen(dir, &s, 0);
    append(log, "one", NULL);
    append(log, "two", "three");
    uint64_t keep = meta_log_size(log);
    append(log, "the last one", "and its second record");
    uint64_t end = meta_log_size(log);
    meta_log_close(log);
    snprintf(path, sizeof(path), "%s/" SEGMENT_NAME, dir);
    uint8_t *bytes = malloc(end);
    int fd = open(path, O_RDWR);
    assert_ok(read_full(fd, bytes, end, 0));
    log_set_level(LOG_LEVEL_ERROR);
    for (uint64_t cut = keep; cut <= end; cut++) {
        for (int garbage = 0; garbage < 3; garbage++) { /* cut; zeros; old bytes behind the cut */
            assert_int_equal(ftruncate(fd, 0), 0);
            assert_ok(write_full(fd, bytes, cut, 0));
            uint8_t tail[64];
            memset(tail, garbage == 1 ? 0 : 0xa5, sizeof(tail));
            if (garbage > 0)
                assert_ok(write_full(fd, tail, sizeof(tail), cut));
            /* The lost bytes may be what lies there anyway (a record ends in a zero). */
            bool whole = cut == end || (garbage > 0 && end - cut <= sizeof(tail) &&
                                        memcmp(tail, bytes + cut, end - cut) == 0);
            log = reopen(dir, &s, 0);
            assert_string_equal(s.text, !whole
                                            ? "one;two;three;"
                                            : "one;two;three;the last one;and its second record;");
            assert_int_equal(meta_log_size(log), !whole ? keep : end);
            int64_t next = append(log, "next", NULL);
            assert_int_equal(next, !whole ? 3 : 5);
            meta_log_close(log);
            log = reopen(dir, &s, 0);
            assert_int_equal(s.last_offset, next);
            meta_log_close(log);
        }
    }
    close(fd);
    free(bytes);
    test_tmpdir_remove(dir);
}
static void damage_with_batches_behind_it_is_refused_and_left_alone(void **state)
{
    char *dir = test_tmpdir(), path[400], err[512];
    struct seen s;
    struct meta_log *log = reopen(dir, &s, 0);
    append(log, "one", NULL);
    uint64_t first = meta_log_size(log);
    append(log, "two", NULL);
    append(log, "three", NULL);
    uint64_t end = meta_log_size(log);
    meta_log_close(log);
    snprintf(path, sizeof(path), "%s/" SEGMENT_NAME, dir);
    int fd = open(path, O_RDWR);
    uint8_t b;
    assert_ok(read_full(fd, &b, 1, first + 63));
    b ^= 1;
    assert_ok(write_full(fd, &b, 1, first + 63));
    struct meta_log_opts o = {.dir = dir, .node_id = 1};
    assert_rc(meta_log_open(&o, collect, &s, &log, err, sizeof(err)), -E_CORRUPT_BATCH);
    assert_non_null(strstr(err, "offset 1"));
    assert_int_equal(lseek(fd, 0, SEEK_END), end);
    close(fd);
    test_tmpdir_remove(dir);
}
static int refuse_all(void *arg, const struct span *records, uint32_t cnt, int64_t last_offset)
{
    return -E_UNSUPPORTED_VERSION;
}
static void a_record_that_cannot_be_applied_stops_the_start(void **state)
{
    char *dir = test_tmpdir();
    struct seen s;
    struct meta_log *log = reopen(dir, &s, 0);
    append(log, "one", NULL);
    meta_log_close(log);
    char err[512];
    struct meta_log_opts o = {.dir = dir, .node_id = 1};
    assert_rc(meta_log_open(&o, refuse_all, &s, &log, err, sizeof(err)), -E_UNSUPPORTED_VERSION);
    assert_non_null(strstr(err, "offset 0"));
    test_tmpdir_remove(dir);
}
static void a_change_too_large_for_a_batch_is_refused_before_it_is_written(void **state)
{
    char *dir = test_tmpdir();
    struct seen s;
    struct meta_log *log = reopen(dir, &s, 0);
    struct span *v = calloc(66, sizeof(*v));
    uint8_t *mib = calloc(1, 1 << 20);
    int64_t last;
    for (int i = 0; i < 66; i++)
        v[i] = span_of(mib, 1 << 20);
    assert_rc(meta_log_append(log, v, 66, 0, &last), -E_LIMIT);
    assert_int_equal(meta_log_size(log), 0);
    meta_log_close(log);
    free(v);
    free(mib);
    test_tmpdir_remove(dir);
}
int main(void)
{
    accel_init(false);
    const struct CMUnitTest tests[] = {
        TEST(what_is_appended_is_replayed_with_dense_offsets),
        TEST(a_crash_at_any_byte_of_the_last_batch_loses_only_that_batch),
        TEST(damage_with_batches_behind_it_is_refused_and_left_alone),
        TEST(a_record_that_cannot_be_applied_stops_the_start),
        TEST(a_change_too_large_for_a_batch_is_refused_before_it_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
