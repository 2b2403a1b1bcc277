/* meta_dir.c - see meta_dir.h */
#include "ctl/controller/meta_dir.h"
#include "lib/base/text_file.h"
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (1u << 20)
#define OFFSET_DIGITS 20
#define EPOCH_DIGITS 10

/* ---- names ---- */

/* `digits` digits at *at, which moves behind them; -1: it is something else. */
static int64_t number_take(const char **at, int digits)
{
    int64_t n = 0;
    for (int i = 0; i < digits; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9' || n > (INT64_MAX - (c - '0')) / 10)
            return -1;
        n = n * 10 + (c - '0');
    }
    *at += digits;
    return n;
}
/* Room for one more at the end of a list; NULL: out of memory. */
static void *list_add(void *list, uint32_t *cnt, size_t item)
{
    void *more = realloc(list, (*cnt + 1) * item);
    if (more != NULL)
        (*cnt)++;
    return more;
}
static int name_note(struct meta_dir *d, const char *name)
{
    const char *at = name;
    int64_t offset = number_take(&at, OFFSET_DIGITS), epoch;
    if (offset < 0)
        return 0;
    if (strcmp(at, ".log") == 0) {
        int64_t *v = list_add(d->segments, &d->segment_cnt, sizeof(*v));
        if (v == NULL)
            return -ENOMEM;
        d->segments = v;
        v[d->segment_cnt - 1] = offset;
        return 0;
    }
    if (*at != '-')
        return 0;
    at++;
    epoch = number_take(&at, EPOCH_DIGITS);
    if (epoch < 0 || epoch > INT32_MAX || strcmp(at, ".checkpoint") != 0)
        return 0;
    struct meta_snapshot *v = list_add(d->snapshots, &d->snapshot_cnt, sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    d->snapshots = v;
    v[d->snapshot_cnt - 1] = (struct meta_snapshot){offset, (int32_t)epoch};
    return 0;
}
static int by_offset(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}
static int by_end(const void *a, const void *b)
{
    const struct meta_snapshot *x = a, *y = b;
    int c = by_offset(&x->end_offset, &y->end_offset);
    return c != 0 ? c : (x->epoch > y->epoch) - (x->epoch < y->epoch);
}
int meta_dir_scan(const char *path, struct meta_dir *ret)
{
    *ret = (struct meta_dir){0};
    DIR *d = opendir(path);
    if (d == NULL)
        return -errno;
    int rc = 0;
    for (struct dirent *e = readdir(d); e != NULL && rc == 0; e = readdir(d))
        rc = name_note(ret, e->d_name);
    closedir(d);
    if (ret->segment_cnt > 0)
        qsort(ret->segments, ret->segment_cnt, sizeof(*ret->segments), by_offset);
    if (ret->snapshot_cnt > 0)
        qsort(ret->snapshots, ret->snapshot_cnt, sizeof(*ret->snapshots), by_end);
    return rc;
}
void meta_dir_fini(struct meta_dir *d)
{
    free(d->segments);
    free(d->snapshots);
    *d = (struct meta_dir){0};
}

/* ---- the leader ---- */

static int whole_number(const json_t *o, const char *key, int32_t min, int32_t *ret)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > INT32_MAX)
        return -E_MALFORMED;
    *ret = (int32_t)json_integer_value(v);
    return 0;
}
int meta_quorum_parse(const char *text, size_t len, struct meta_quorum *ret)
{
    struct meta_quorum q = {-1, 0, 0};
    *ret = (struct meta_quorum){-1, 0, 0};
    json_t *o = json_loadb(text, len, 0, NULL);
    int rc = whole_number(o, "leaderId", -1, &q.leader_id);
    if (rc == 0)
        rc = whole_number(o, "leaderEpoch", 0, &q.epoch);
    q.voter_cnt = (uint32_t)json_array_size(json_object_get(o, "currentVoters"));
    json_decref(o);
    if (rc == 0)
        *ret = q;
    return rc;
}
int meta_quorum_read(const char *dir, struct meta_quorum *ret)
{
    char path[PATH_MAX], *text;
    size_t len;
    *ret = (struct meta_quorum){-1, 0, 0};
    snprintf(path, sizeof(path), "%s/quorum-state", dir);
    int rc = text_file_read(path, TEXT_MAX, &text, &len);
    if (rc < 0)
        return rc;
    rc = meta_quorum_parse(text, len, ret);
    free(text);
    return rc;
}
static int quorum_write(const char *dir, const struct meta_lead *l)
{
    char path[PATH_MAX], text[256], id[UUID_TEXT_LEN + 1];
    uuid_format(&l->directory, id);
    int n = snprintf(text, sizeof(text),
                     "{\"leaderId\":%" PRId32 ",\"leaderEpoch\":%" PRId32 ",\"votedId\":%" PRId32
                     ",\"votedDirectoryId\":\"%s\",\"data_version\":1}",
                     l->node_id, l->epoch, l->node_id, id);
    snprintf(path, sizeof(path), "%s/quorum-state", dir);
    return text_file_replace(path, text, (size_t)n);
}
/* Entries of the file that stay, as lines in `out`, which has room for all of `text`. */
static uint32_t epochs_keep(const char *text, const struct meta_lead *l, char *out)
{
    int version, at;
    uint32_t cnt, kept = 0;
    int32_t last_epoch = -1;
    int64_t last_start = -1;
    size_t len = 0;
    out[0] = '\0';
    if (sscanf(text, "%d %" SCNu32 "%n", &version, &cnt, &at) != 2 || version != 0)
        return 0;
    for (text += at; cnt > 0; cnt--, text += at) {
        int32_t epoch;
        int64_t start;
        if (sscanf(text, "%" SCNd32 " %" SCNd64 "%n", &epoch, &start, &at) != 2)
            break;
        if (epoch <= last_epoch || start <= last_start || epoch >= l->epoch || start >= l->start)
            break;
        last_epoch = epoch;
        last_start = start;
        len += (size_t)sprintf(out + len, "%" PRId32 " %" PRId64 "\n", epoch, start);
        kept++;
    }
    return kept;
}
int meta_epochs_next(const char *text, size_t len, const struct meta_lead *l, char **ret_text)
{
    /* Numbers that are in range get no longer by being printed, and each has a byte behind it but
     * the last. */
    char *keep = malloc(2 * len + 2);
    if (keep == NULL)
        return -ENOMEM;
    uint32_t kept = epochs_keep(text, l, keep);
    int n = asprintf(ret_text, "0\n%" PRIu32 "\n%s%" PRId32 " %" PRId64 "\n", kept + 1, keep,
                     l->epoch, l->start);
    free(keep);
    return n < 0 ? -ENOMEM : 0;
}
static int epochs_write(const char *dir, const struct meta_lead *l)
{
    char path[PATH_MAX], *text = NULL, *next;
    size_t len = 0;
    snprintf(path, sizeof(path), "%s/leader-epoch-checkpoint", dir);
    int rc = text_file_read(path, TEXT_MAX, &text, &len);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    rc = meta_epochs_next(text == NULL ? "" : text, len, l, &next);
    free(text);
    if (rc < 0)
        return rc;
    rc = text_file_replace(path, next, strlen(next));
    free(next);
    return rc;
}
int meta_lead_write(const char *dir, const struct meta_lead *l)
{
    int rc = quorum_write(dir, l);
    return rc < 0 ? rc : epochs_write(dir, l);
}
