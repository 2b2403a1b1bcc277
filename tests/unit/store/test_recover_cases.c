/* Every row of recover_cases.def is met: a state on disk that provokes it, and what is there
 * afterwards. A row without a case does not link. */
#include "dataplane/store/format.h"
#include "dataplane/store/plog_int.h"
#include "tests/unit/store/steps.h"

#define T0 ENV_DIR "/t-0/"
#define LOG0 T0 "00000000000000000000.log"

static void crash(struct env *e)
{
    fake_disk_die_at(e->disk, fake_disk_ops(e->disk));
    env_abandon(e);
    fake_disk_revive(e->disk);
}

static void fill(struct env *e, uint32_t cnt, uint32_t len)
{
    for (uint32_t i = 0; i < cnt; i++)
        (void)put(e, 0, i + 1, len);
}

/* Everything is flushed and below the recovery point, but the next start takes it for a crash. */
static void stop_unclean(struct env *e)
{
    assert_ok(env_close(e));
    assert_ok(fake_file_ops.unlink(&e->io, ENV_DIR "/" FN_CLEAN));
}

static uint8_t *content(struct env *e, const char *path, uint64_t more, uint64_t *ret_len)
{
    const uint8_t *p = fake_disk_content(e->disk, path, ret_len);
    assert_non_null(p);
    uint8_t *copy = calloc(1, *ret_len + more + 1);
    assert_non_null(copy);
    memcpy(copy, p, *ret_len);
    return copy;
}

static void flip(struct env *e, const char *path, uint64_t pos)
{
    uint64_t len;
    uint8_t *p = content(e, path, 0, &len);
    assert_true(pos < len);
    p[pos] ^= 0x40;
    fake_disk_put(e->disk, path, p, len);
    free(p);
}

/* As a write leaves it that was cut off before its sector at pos. */
static void tear(struct env *e, const char *path, uint64_t pos)
{
    uint64_t len;
    uint8_t *p = content(e, path, 0, &len);
    assert_true(pos % 512 == 0 && pos + 512 <= len);
    memset(p + pos, 0, 512);
    fake_disk_put(e->disk, path, p, len);
    free(p);
}

static void extend(struct env *e, const char *path, int byte, uint64_t more)
{
    uint64_t len;
    uint8_t *p = content(e, path, more, &len);
    memset(p + len, byte, more);
    fake_disk_put(e->disk, path, p, len + more);
    free(p);
}

static bool exists(struct env *e, const char *path)
{
    uint64_t len;
    return fake_disk_content(e->disk, path, &len) != NULL;
}

/* ---- one state per row; each returns how many batches are served afterwards ---- */

static uint32_t case_CLEAN(struct env *e)
{
    fill(e, 3, 1000);
    assert_ok(env_close(e));
    return 3;
}

static uint32_t case_SCANNED(struct env *e)
{
    fill(e, 3, 1000);
    crash(e);
    return 3;
}

static uint32_t case_ZERO_TAIL(struct env *e)
{
    fill(e, 3, 1000);
    env_settle(e);
    crash(e);
    extend(e, LOG0, 0, 8192);
    return 3;
}

static uint32_t case_TORN_TAIL(struct env *e)
{
    fill(e, 3, 1000);
    stop_unclean(e);
    extend(e, LOG0, 0x5a, 700);
    return 3;
}

static uint32_t case_DAMAGED_TAIL(struct env *e)
{
    fill(e, 3, 70000); /* straight to the segment: the journal does not have them */
    env_settle(e);
    crash(e);
    fake_disk_put(e->disk, ENV_DIR "/" FN_RECOVERY_POINT, "0\n0\n", 4);
    tear(e, LOG0, 70144); /* a good batch follows */
    return 1;
}

static uint32_t case_DAMAGED_BATCH(struct env *e)
{
    fill(e, 3, 1000);
    stop_unclean(e);
    flip(e, LOG0, 1000 + 500);
    return UINT32_MAX; /* a reader meets the error at offset 1 */
}

static uint32_t case_DAMAGED_FIELD(struct env *e)
{
    fill(e, 3, 1000);
    stop_unclean(e);
    flip(e, LOG0, 1000 + BATCH_MAGIC);
    return 3;
}

static uint32_t case_LATER_SEGMENT(struct env *e)
{
    fill(e, 6, 100000); /* two to a segment */
    env_settle(e);
    crash(e);
    fake_disk_put(e->disk, ENV_DIR "/" FN_RECOVERY_POINT, "0\n0\n", 4);
    tear(e, LOG0, 100352);
    return 1;
}

static uint32_t case_UNFLUSHED_SEGMENT(struct env *e)
{
    uint8_t zeros[4096] = {0};
    fill(e, 2, 100000);
    env_settle(e);
    crash(e);
    fake_disk_put(e->disk, ENV_DIR "/" FN_RECOVERY_POINT, "0\n0\n", 4);
    tear(e, LOG0, 100352);
    fake_disk_put(e->disk, T0 "00000000000000000002.log", zeros, sizeof(zeros));
    return 1;
}

static uint32_t case_INDEX_REBUILT(struct env *e)
{
    fill(e, 12, 5000);
    assert_ok(env_close(e));
    assert_ok(fake_file_ops.unlink(&e->io, T0 "00000000000000000000.index"));
    return 12;
}

static uint32_t case_ORPHAN(struct env *e)
{
    fill(e, 3, 1000);
    assert_ok(env_close(e));
    fake_disk_put(e->disk, T0 "00000000000000000077.index", "12345678", 8);
    fake_disk_put(e->disk, T0 FN_NEXT, "x", 1);
    fake_disk_put(e->disk, T0 "00000000000000000078.log.deleted", "x", 1);
    return 3;
}

static uint32_t case_REWRITE_UNDONE(struct env *e)
{
    fill(e, 4, 100000); /* two to a segment */
    assert_ok(env_close(e));
    fake_disk_put(e->disk, LOG0 ".cleaned", "half", 4);
    return 4;
}

static uint32_t case_REWRITE_DONE(struct env *e)
{
    static const char *const files[] = {LOG0, T0 "00000000000000000000.index",
                                        T0 "00000000000000000000.timeindex"};
    fill(e, 4, 100000);
    assert_ok(env_close(e));
    for (int i = 0; i < 3; i++) {
        char path[256];
        uint64_t len;
        uint8_t *p = content(e, files[i], 0, &len);
        (void)snprintf(path, sizeof(path), "%s.swap", files[i]);
        fake_disk_put(e->disk, path, p, len);
        free(p);
    }
    return 4;
}

static uint64_t no_room_at; /* the operation that finds no room */

static uint32_t case_NO_ROOM(struct env *e)
{
    fill(e, 12, 5000);
    stop_unclean(e);
    assert_ok(fake_file_ops.unlink(&e->io, T0 "00000000000000000000.index"));
    e->spare_derived = true;
    fake_disk_fail_at(e->disk, fake_disk_ops(e->disk) + no_room_at, -ENOSPC);
    return 12;
}

static uint32_t case_SNAPSHOT_BAD(struct env *e)
{
    fill(e, 3, 1000);
    stop_unclean(e);
    fake_disk_put(e->disk, T0 "00000000000000000000.snapshot", "damage", 6);
    return 3;
}

static uint32_t case_TXNINDEX_BAD(struct env *e)
{
    fill(e, 3, 1000);
    assert_ok(env_close(e));
    fake_disk_put(e->disk, T0 "00000000000000000000.txnindex", "damage", 6);
    return 3;
}

static uint32_t case_UNFINISHED_DIR(struct env *e)
{
    fill(e, 3, 1000);
    assert_ok(env_close(e));
    assert_ok(fake_file_ops.mkdir(&e->io, ENV_DIR "/t-1"));
    fake_disk_put(e->disk, ENV_DIR "/t-1/00000000000000000000.log", "", 0);
    return 3;
}

static uint32_t case_NO_META(struct env *e)
{
    fill(e, 3, 1000);
    assert_ok(env_close(e));
    assert_ok(fake_file_ops.unlink(&e->io, T0 FN_PARTITION_META));
    return 0;
}

static uint32_t case_UNREADABLE(struct env *e)
{
    (void)put(e, 0, 1, 100000); /* straight to the segment */
    fill(e, 3, 1000);           /* the journal has them */
    crash(e);
    fake_disk_unreadable(e->disk, LOG0);
    return 0;
}

static uint32_t case_JOURNAL_KEPT(struct env *e)
{
    return case_UNREADABLE(e);
}

static uint32_t case_FOREIGN_NAME(struct env *e)
{
    fill(e, 3, 1000);
    assert_ok(env_close(e));
    assert_ok(fake_file_ops.mkdir(&e->io, ENV_DIR "/photos"));
    fake_disk_put(e->disk, ENV_DIR "/photos/cat.jpg", "cat", 3);
    return 3;
}

static uint32_t case_DELETE_DIR(struct env *e)
{
    fill(e, 3, 1000);
    assert_ok(env_close(e));
    assert_ok(fake_file_ops.mkdir(&e->io, ENV_DIR "/t-9.0123-delete"));
    fake_disk_put(e->disk, ENV_DIR "/t-9.0123-delete/00000000000000000000.log", "x", 1);
    return 3;
}

static uint32_t case_JOURNAL_ENTRY(struct env *e)
{
    return case_SCANNED(e);
}

static uint32_t case_JOURNAL_APPLIED(struct env *e)
{
    return case_SCANNED(e); /* not drained yet */
}

static uint32_t case_JOURNAL_KNOWN(struct env *e)
{
    fill(e, 3, 1000);
    env_settle(e);
    env_step(e, 1000, 1000000000); /* as old as to be drained */
    env_settle(e);
    crash(e);
    return 3;
}

static uint32_t case_JOURNAL_UNKNOWN(struct env *e)
{
    fill(e, 3, 1000);
    crash(e);
    assert_ok(dir_remove(&e->io, ENV_DIR "/t-0"));
    return 0;
}

static uint32_t case_JOURNAL_GAP(struct env *e)
{
    (void)put(e, 0, 1, 100000); /* straight to the segment */
    (void)put(e, 0, 2, 1000);   /* the journal has it */
    crash(e);
    fake_disk_put(e->disk, LOG0, "", 0);
    return UINT32_MAX; /* offset 0 is gone, 1 is there */
}

/* Three entries of the journal, one batch each; bits of the second one's body are wrong. */
static void journal_damaged(struct env *e, bool one_bit)
{
    char name[64], path[CATALOG_PATH_MAX + 80];
    uint64_t len, at = 0;
    e->sc.drain_age_ms = 60000;
    fill(e, 3, 1000);
    journal_file_name(name, &e->cat->dirs[0].id, 0, 1);
    (void)snprintf(path, sizeof(path), "%s/%s", e->cat->dirs[0].journal_path, name);
    crash(e);
    uint8_t *p = content(e, path, 0, &len);
    for (int64_t next = -1; next != 1; at += FILE_BLOCK) {
        struct journal_head h;
        memcpy(&h, p + at, sizeof(h));
        assert_int_equal(h.magic, JOURNAL_MAGIC);
        next = (int64_t)load_be64(p + at + sizeof(h));
    }
    free(p);
    flip(e, path, at - FILE_BLOCK + 500);
    if (!one_bit)
        flip(e, path, at - FILE_BLOCK + 700);
}

static uint32_t case_JOURNAL_MENDED(struct env *e)
{
    journal_damaged(e, true);
    return 3;
}

static uint32_t case_JOURNAL_LOST(struct env *e)
{
    journal_damaged(e, false);
    return UINT32_MAX; /* a reader meets the error at offset 1 */
}

static void journal_is_written(void *arg, int rc)
{
    *(int *)arg = rc;
}

static uint32_t case_JOURNAL_BAD(struct env *e)
{
    struct journal *j;
    struct journal_conf jc = {.dir = e->cat->dirs[0].journal_path,
                              .directory_id = e->cat->dirs[0].id,
                              .file_cnt = e->sc.journal_file_cnt,
                              .file_bytes = e->sc.journal_file_bytes,
                              .entry_bytes_max = (uint32_t)e->sc.journal_file_bytes};
    struct uuid id = env_topic_id();
    char dir[CATALOG_PATH_MAX];
    int rc = 1;
    fill(e, 3, 1000);
    memcpy(dir, jc.dir, sizeof(dir)); /* it goes with the catalog */
    jc.dir = dir;
    assert_ok(env_close(e));
    assert_ok(journal_create(&e->io, &jc, &j));
    assert_true(journal_begin(j));
    uint8_t *p = journal_add(
        j, &(struct journal_run){.topic_id = id, .partition = 0, .base_offset = 3, .len = 200});
    assert_non_null(p);
    memset(p, 0x5a, 200); /* no batch, under a checksum that is right */
    journal_commit(j, journal_is_written, &rc);
    for (int i = 0; i < 100 && rc == 1; i++)
        (void)fake_disk_poll(e->disk, 100);
    assert_ok(rc);
    journal_destroy(j);
    return 3;
}

static const struct {
    const char *name;
    uint32_t (*fn)(struct env *e);
} states[RC_CNT] = {
#define RCASE(name, warn, text) [RC_##name] = {#name, case_##name},
#include "dataplane/store/recover_cases.def"
#undef RCASE
};

static char said[64u << 10];
static void say(void *arg, const char *text)
{
    size_t at = strlen(said);
    (void)arg;
    (void)snprintf(said + at, sizeof(said) - at, "%s\n", text);
}

/* What a row says beside the batches that are served. */
static void look(struct env *e, uint32_t c)
{
    struct env_read x;
    switch (c) {
    case RC_FOREIGN_NAME:
        assert_true(exists(e, ENV_DIR "/photos/cat.jpg"));
        break;
    case RC_LATER_SEGMENT:
        assert_true(exists(e, T0 "00000000000000000002.log.quarantine"));
        break;
    case RC_UNFLUSHED_SEGMENT:
        assert_false(exists(e, T0 "00000000000000000002.log"));
        break;
    case RC_DELETE_DIR:
        assert_false(exists(e, ENV_DIR "/t-9.0123-delete/00000000000000000000.log"));
        break;
    case RC_ORPHAN:
        assert_false(exists(e, T0 "00000000000000000077.index"));
        assert_false(exists(e, T0 FN_NEXT));
        assert_false(exists(e, T0 "00000000000000000078.log.deleted"));
        break;
    case RC_JOURNAL_LOST:
        assert_non_null(
            strstr(said, "topic t partition 0: offsets 1 and above: 1000 bytes at byte 4136 of "));
        assert_non_null(strstr(said, "topic t partition 0: offsets 1 to 1 are missing"));
        assert_ok(env_read(e, 0, 0, buf, sizeof(buf), &x));
        assert_int_equal(x.r.len, 1000);
        assert_rc(env_read(e, 0, 1, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
        assert_ok(env_read(e, 0, 2, buf, sizeof(buf), &x));
        assert_int_equal(x.r.len, 1000);
        break;
    case RC_DAMAGED_BATCH:
        assert_rc(env_read(e, 0, 1, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
        assert_ok(env_read(e, 0, 2, buf, sizeof(buf), &x));
        assert_true(x.r.len > 0);
        break;
    case RC_JOURNAL_GAP:
        assert_rc(env_read(e, 0, 0, buf, sizeof(buf), &x), -E_CORRUPT_BATCH);
        assert_ok(env_read(e, 0, 1, buf, sizeof(buf), &x));
        assert_true(x.r.len > 0);
        break;
    default:
        break;
    }
}

/* False: this time something else had no room, which is an error. */
static bool is_met(uint32_t c)
{
    struct env *e = start(1, NULL);
    uint32_t expect = states[c].fn(e);
    char row[64];
    said[0] = 0;
    e->say = say;
    int rc = env_open(e);
    if (c == RC_NO_ROOM && (rc < 0 || e->rep.cnt[c] == 0)) {
        assert_true(rc == 0 || rc == -ENOSPC);
        if (rc == 0)
            assert_ok(env_close(e));
        env_fini(e);
        free(e);
        return false;
    }
    assert_ok(rc);
    (void)snprintf(row, sizeof(row), "[%s: ", states[c].name);
    if (e->rep.cnt[c] == 0)
        fail_msg("%s is not met; recovery said:\n%s", states[c].name, said);
    if (c != RC_JOURNAL_ENTRY && strstr(said, row) == NULL) /* counted, its runs are told */
        fail_msg("%s is not told:\n%s", states[c].name, said);
    if (e->parts[0] == NULL)
        assert_int_equal(expect, 0);
    else if (expect != UINT32_MAX)
        assert_int_equal(count_all(e, 0), expect);
    look(e, c);
    stop(e);
    return true;
}

static void every_row_is_met_and_does_what_it_says(void **state)
{
    for (uint32_t c = 0; c < RC_CNT; c++) {
        bool met = is_met(c);
        for (no_room_at = 0; !met && no_room_at < 40; no_room_at++)
            met = is_met(c);
        assert_true(met);
    }
}

TEST_MAIN(TEST(every_row_is_met_and_does_what_it_says))
