/* journal.c - see journal.h.
 *
 * Uses are numbered from 1; file = use % file_cnt. The tail is the oldest use that somebody holds.
 * A file whose write or flush failed ends its use at once: what it holds stays valid for its
 * holders. The failed entry may be whole on the disk though nobody was told so: it is scrubbed
 * before its partitions take the same offsets again. */
#include "dataplane/store/journal.h"
#include "accel/crc32c.h"
#include "lib/base/assert.h"
#include "lib/base/list.h"
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum journal_state { JN_IDLE, JN_BUILDING, JN_WRITING, JN_FLUSHING };

struct journal {
    struct file_io *io;
    enum journal_state state;
    uint32_t file_cnt;
    uint64_t file_bytes;
    uint64_t use;        /* current; 0 before the first entry */
    uint64_t generation; /* of the current use */
    uint64_t pos;        /* next entry in the current file */
    bool use_is_over;    /* a write failed: go to the next file */
    uint64_t seq;
    uint32_t held[JOURNAL_FILES_MAX]; /* holders by use % file_cnt */
    uint64_t
        bad_pos[JOURNAL_FILES_MAX]; /* of the failed entry that ended the use; UINT64_MAX: none */
    uint64_t entry_pos;             /* of the entry in flight */
    struct file *files[JOURNAL_FILES_MAX];
    uint8_t *buf;
    uint32_t buf_cap, len, run_cnt;
    struct journal_run runs[4096];
    uint32_t bytes_len;
    struct file_op op;
    journal_done_fn *done;
    void *done_arg;
};

static uint32_t block_up(uint32_t n)
{
    return (n + FILE_BLOCK - 1) & ~(FILE_BLOCK - 1);
}

void journal_file_name(char out[64], const struct uuid *directory_id, uint16_t shard, uint32_t n)
{
    char id[UUID_TEXT_LEN + 1];
    uuid_format(directory_id, id);
    (void)snprintf(out, 64, "%s-%u-%u" SFX_JOURNAL, id, shard, n);
}

int journal_file_parse(const char *name, struct uuid *ret_id, uint32_t *ret_shard, uint32_t *ret_n)
{
    size_t len = strlen(name);
    if (len < UUID_TEXT_LEN + 4 || name[UUID_TEXT_LEN] != '-')
        return -E_MALFORMED;
    unsigned shard, n;
    int used = 0;
    if (sscanf(name + UUID_TEXT_LEN, "-%5u-%3u" SFX_JOURNAL "%n", &shard, &n, &used) != 2 ||
        used == 0 || name[UUID_TEXT_LEN + used] != 0)
        return -E_MALFORMED;
    *ret_shard = shard;
    *ret_n = n;
    return uuid_parse(name, UUID_TEXT_LEN, ret_id);
}

static int file_prewrite(struct file_io *io, struct file *f, uint64_t bytes, uint8_t *zeros,
                         uint32_t zeros_len)
{
    int rc = io->ops->truncate(f, 0);
    for (uint64_t at = 0; rc == 0 && at < bytes;) {
        uint64_t n = bytes - at < zeros_len ? bytes - at : zeros_len;
        int64_t w = io->ops->pwrite(f, zeros, n, at);
        if (w <= 0)
            rc = w < 0 ? (int)w : -EIO;
        else
            at += (uint64_t)w;
    }
    return rc == 0 ? io->ops->fsync(f) : rc;
}

static int file_open_one(struct journal *j, const struct journal_conf *conf, uint32_t n)
{
    char name[64], path[STORE_PATH_MAX];
    journal_file_name(name, &conf->directory_id, conf->shard, n);
    int rc = path_join(path, conf->dir, name);
    if (rc == 0)
        rc = j->io->ops->open(j->io, path, FILE_CREATE | FILE_DIRECT, &j->files[n]);
    uint64_t size = 0;
    if (rc == 0)
        rc = j->io->ops->size(j->files[n], &size);
    if (rc == 0 && size != conf->file_bytes)
        rc = file_prewrite(j->io, j->files[n], conf->file_bytes, j->buf, j->buf_cap);
    return rc;
}

int journal_create(struct file_io *io, const struct journal_conf *conf, struct journal **ret)
{
    bool sane = conf->file_cnt >= 2 && conf->file_cnt <= JOURNAL_FILES_MAX &&
                conf->file_bytes % FILE_BLOCK == 0 && conf->file_bytes >= 4 * FILE_BLOCK;
    if (!sane)
        return -E_CONFIG;
    struct journal *j = calloc(1, sizeof(*j));
    if (j == NULL)
        return -ENOMEM;
    j->io = io;
    j->file_cnt = conf->file_cnt;
    j->file_bytes = conf->file_bytes;
    uint64_t cap =
        conf->entry_bytes_max < conf->file_bytes ? conf->entry_bytes_max : conf->file_bytes;
    j->buf_cap = (uint32_t)cap & ~(FILE_BLOCK - 1);
    j->buf = aligned_alloc(FILE_BLOCK, j->buf_cap);
    int rc = j->buf == NULL ? -ENOMEM : 0;
    if (rc == 0)
        memset(j->buf, 0, j->buf_cap);
    for (uint32_t i = 0; rc == 0 && i < conf->file_cnt; i++)
        rc = file_open_one(j, conf, i);
    if (rc == 0)
        rc = io->ops->dir_sync(io, conf->dir);
    if (rc < 0) {
        journal_destroy(j);
        return rc;
    }
    j->use_is_over = true;
    *ret = j;
    return 0;
}

void journal_destroy(struct journal *j)
{
    if (j == NULL)
        return;
    ASSERT(!journal_is_busy(j));
    for (uint32_t i = 0; i < j->file_cnt; i++)
        if (j->files[i] != NULL)
            j->io->ops->close(j->files[i]);
    free(j->buf);
    free(j);
}

int journal_scrub(struct journal *j, uint64_t use)
{
    uint64_t pos = j->bad_pos[use % j->file_cnt];
    struct file *f = j->files[use % j->file_cnt];
    if (pos == UINT64_MAX)
        return 0;
    uint8_t *zero = aligned_alloc(FILE_BLOCK, FILE_BLOCK);
    if (zero == NULL)
        return -ENOMEM;
    memset(zero, 0, FILE_BLOCK);
    int64_t n = j->io->ops->pwrite(f, zero, FILE_BLOCK, pos);
    free(zero);
    if (n != FILE_BLOCK)
        return n < 0 ? (int)n : -EIO;
    return j->io->ops->fsync(f);
}

bool journal_is_busy(const struct journal *j)
{
    return j->state == JN_WRITING || j->state == JN_FLUSHING;
}

uint64_t journal_use(const struct journal *j)
{
    return j->use;
}

void journal_hold(struct journal *j, uint64_t use)
{
    j->held[use % j->file_cnt]++;
}

void journal_release(struct journal *j, uint64_t use)
{
    ASSERT(j->held[use % j->file_cnt] > 0);
    j->held[use % j->file_cnt]--;
}

uint64_t journal_tail_use(const struct journal *j)
{
    uint64_t oldest = j->use > j->file_cnt ? j->use - j->file_cnt + 1 : 1;
    for (uint64_t u = oldest; u <= j->use; u++)
        if (j->held[u % j->file_cnt] > 0)
            return u;
    return JOURNAL_USE_NONE;
}

uint32_t journal_free_cnt(const struct journal *j)
{
    uint64_t tail = journal_tail_use(j);
    uint64_t used = tail == JOURNAL_USE_NONE ? 0 : j->use - tail + 1;
    return (uint32_t)(j->file_cnt - used);
}

/* The next file, if nobody needs what it holds. */
static bool use_next(struct journal *j)
{
    uint64_t tail = journal_tail_use(j);
    uint64_t next = j->use + 1;
    if (tail != JOURNAL_USE_NONE && next - tail >= j->file_cnt)
        return false;
    j->use = next;
    j->pos = 0;
    j->bad_pos[next % j->file_cnt] = UINT64_MAX;
    j->use_is_over = false;
    if (getrandom(&j->generation, sizeof(j->generation), 0) != (ssize_t)sizeof(j->generation))
        abort(); /* a kernel without randomness; uuid_random does the same */
    return true;
}

bool journal_begin(struct journal *j)
{
    if (j->state != JN_IDLE)
        return false;
    /* An entry needs two blocks at least to be worth starting; else take the next file. */
    if (j->use_is_over || j->file_bytes - j->pos < 2 * FILE_BLOCK) {
        if (!use_next(j))
            return false;
    }
    j->run_cnt = 0;
    j->bytes_len = 0;
    j->state = JN_BUILDING;
    return true;
}

/* Length of the entry with `bytes` of runs and `cnt` table rows. The table comes last, so that runs
 * can be copied in before it is known how many follow. */
static uint64_t entry_len(uint64_t bytes, uint32_t cnt)
{
    return sizeof(struct journal_head) + bytes + (uint64_t)cnt * sizeof(struct journal_run);
}

uint8_t *journal_add(struct journal *j, const struct journal_run *run)
{
    ASSERT(j->state == JN_BUILDING);
    uint64_t room = j->file_bytes - j->pos;
    if (room > j->buf_cap)
        room = j->buf_cap;
    uint64_t need = entry_len((uint64_t)j->bytes_len + run->len, j->run_cnt + 1);
    if (need > room && j->run_cnt == 0 && j->pos > 0 && use_next(j))
        room = j->file_bytes < j->buf_cap ? j->file_bytes : j->buf_cap;
    if (need > room || j->run_cnt == sizeof(j->runs) / sizeof(j->runs[0]))
        return NULL;
    j->runs[j->run_cnt] = *run;
    j->runs[j->run_cnt++].crc = journal_run_crc(run, j->generation);
    uint8_t *p = j->buf + sizeof(struct journal_head) + j->bytes_len;
    j->bytes_len += run->len;
    return p;
}

uint32_t journal_run_cnt(const struct journal *j)
{
    return j->run_cnt;
}

static void finish(struct journal *j, int rc)
{
    j->state = JN_IDLE;
    if (rc < 0) {
        j->use_is_over = true;
        j->bad_pos[j->use % j->file_cnt] = j->entry_pos;
    }
    j->done(j->done_arg, rc);
}

static void on_flushed(struct file_op *op, int res)
{
    finish(container_of(op, struct journal, op), res < 0 ? res : 0);
}

static void on_written(struct file_op *op, int res)
{
    struct journal *j = container_of(op, struct journal, op);
    struct file *f = j->files[j->use % j->file_cnt];
    if (res != (int)block_up(j->len)) {
        finish(j, res < 0 ? res : -EIO);
        return;
    }
    j->state = JN_FLUSHING;
    j->op.done = on_flushed;
    j->io->ops->flush(f, &j->op);
}

void journal_commit(struct journal *j, journal_done_fn *done, void *arg)
{
    ASSERT(j->state == JN_BUILDING);
    if (j->run_cnt == 0) { /* nothing fitted: nobody is told */
        j->state = JN_IDLE;
        return;
    }
    struct journal_head h = {.magic = JOURNAL_MAGIC,
                             .version = JOURNAL_VERSION,
                             .generation = j->generation,
                             .seq = ++j->seq,
                             .len = (uint32_t)entry_len(j->bytes_len, j->run_cnt),
                             .run_cnt = j->run_cnt};
    memcpy(j->buf, &h, sizeof(h));
    memcpy(j->buf + sizeof(h) + j->bytes_len, j->runs, j->run_cnt * sizeof(j->runs[0]));
    h.crc = crc32c(0, j->buf, h.len);
    memcpy(j->buf, &h, sizeof(h));
    uint32_t padded = block_up(h.len);
    memset(j->buf + h.len, 0, padded - h.len);
    j->len = h.len;
    j->done = done;
    j->done_arg = arg;
    j->state = JN_WRITING;
    j->op.done = on_written;
    j->entry_pos = j->pos;
    j->pos += padded;
    j->io->ops->write(j->files[j->use % j->file_cnt], &j->op, j->buf, padded, j->entry_pos);
}
