/* control_int.h - what the files of control/ share: the one struct control and its services.
 * Runs on: the control thread. */
#pragma once
#include "dataplane/control/apply.h"
#include "dataplane/control/control.h"
#include "dataplane/control/link_server.h"
#include "dataplane/control/owners.h"
#include "dataplane/kafka/admin_msg.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/meta/image.h"
#include "lib/wire/wire_gen.h"
#include <stdlib.h>
#include <string.h>

#define PID_BLOCKS 2 /* producer id blocks kept in advance */

struct pending_admin {
    struct kafka_admin_msg *m; /* NULL: free slot */
    uint64_t id;
    uint64_t deadline_ns;
    bool sent;
};
struct pid_block {
    int64_t first;
    int32_t cnt;
};
struct control {
    struct control_opts opts;
    struct shard self; /* what handlers get: endpoint shard_cnt, no stages */
    struct link_server *link;
    struct owners *owners;
    struct uuid incarnation;
    bool greeted;     /* sluiced accepted us on this connection */
    uint64_t lost_ns; /* since when nobody is connected; 0: connected */

    struct meta_image *image; /* NULL before the first batch */
    struct owner_map *owner_map;
    /* a batch that is being collected over several frames */
    struct span *records;
    uint32_t record_cnt, record_cap;
    size_t record_bytes;

    struct part *
        *found; /* what recovery found and no image has named yet, sorted by id, partition */
    uint32_t found_cnt;

    /* directories of deleted partitions, renamed already, whose files are removed by and by */
    struct doomed_dir {
        struct file_io *io;
        char *path;
    } * doomed;
    uint32_t doomed_cnt, doomed_cap;

    struct pending_admin admin[CONTROL_ADMIN_MAX];
    uint32_t admin_cnt;
    uint64_t next_id;

    struct list pid_waiting; /* struct msg.link of producer_ids_msg */
    struct pid_block pids[PID_BLOCKS];
    uint32_t pid_cnt;
    uint64_t pid_request_id; /* 0: none under way */

    /* partitions whose directory could not be made; tried again now and then */
    struct missing_part {
        struct uuid topic_id;
        int32_t partition;
        int dir_idx; /* -1: its directory is missing, or it cannot be read: a restart may find it */
        int rc;      /* why */
        const char *why; /* catalog_part_why_offline; NULL: it is not that */
    } * missing;
    uint32_t missing_cnt, missing_cap;
    bool missing_told;   /* sluiced's list is not empty */
    uint64_t missing_ns; /* when to try */

    struct gap_msg *gap;            /* the record that is being appended; NULL: none */
    bool gap_is_start, gap_done;    /* it is this start's; that one is over */
    uint64_t gap_retry_ns;          /* it could not be written: not before then */
    struct plog_gap_msg *space_gap; /* the one it is about; NULL: this start's */
    struct list space_gaps;         /* plog_gap_msg.msg.link: wait for their turn */
    struct list boundaries;         /* order_boundary.link: wait for theirs; the head's may be under
                                       way */
    bool gap_is_boundary;

    uint32_t replies_due; /* of the broadcast under way */
    bool stop_asked, stopping;
    bool unclean;            /* some partition was not closed in order */
    bool stopped[SHARD_MAX]; /* shards that have answered MSG_STOP */
    uint32_t unclosed_cnt;   /* partitions that these could not close */
    uint64_t stop_deadline_ns;
    uint64_t drain_id; /* of the DRAIN_REQUEST to answer; 0: none */
    uint64_t ledger_ns;
    struct stats_reader *reader;
    struct counters ledger_last;
};

static inline struct control *of_shard(struct shard *s)
{
    return container_of(s, struct control, self);
}

/* Encode message x of type name and send it. */
#define SEND(c, type, id, name, msg)                                                               \
    do {                                                                                           \
        size_t len_ = name##_size((msg), CTL_MESSAGE_VERSION);                                     \
        uint8_t *buf_ = malloc(len_ + 1);                                                          \
        struct wire_writer w_;                                                                     \
        if (buf_ == NULL) {                                                                        \
            LOG_ERROR("out of memory for a control frame of %zu bytes", len_);                     \
            break;                                                                                 \
        }                                                                                          \
        wire_writer_init(&w_, buf_, len_);                                                         \
        name##_write(&w_, CTL_MESSAGE_VERSION, (msg));                                             \
        ASSERT(w_.err == 0);                                                                       \
        link_server_send((c)->link, (type), (id), span_of(buf_, (uint32_t)w_.len));                \
        free(buf_);                                                                                \
    } while (0)

/* control.c: replies of a broadcast; wait until every shard has replied. */
void control_on_counted_reply(struct shard *s, struct msg *m);
void control_await_replies(struct control *c);

/* control_image.c: one METADATA_BATCH frame. Negative: protocol error. */
int control_on_metadata_batch(struct control *c, uint64_t id, struct span body);
void control_retry_missing(struct control *c, uint64_t now_ns);
void control_missing_tell(struct control *c); /* sluiced, unless it knows that there are none */
void control_records_clear(struct control *c);
void control_doomed_find(struct control *c);                    /* those that an earlier run left */
void control_doomed_remove(struct control *c, uint32_t budget); /* blocks for at most that many */
int control_part_cmp(const void *a, const void *b); /* by topic id, partition; of struct part * */

/* control_requests.c: what shards ask of sluiced, and sluiced of shards. */
void control_on_admin(struct shard *s, struct msg *m);
void control_on_producer_ids(struct shard *s, struct msg *m);
void control_admin_send(struct control *c, struct pending_admin *p, uint64_t now_ns);
int control_on_admin_response(struct control *c, uint64_t id, struct span body);
void control_admin_expire(struct control *c, uint64_t now_ns, bool all);
void control_pids_serve(struct control *c);
int control_on_producer_ids_response(struct control *c, uint64_t id, struct span body);
int control_on_stats_request(struct control *c, uint64_t id, struct span body);

/* control_gaps.c: the records of _sluice.gaps. */
void control_gaps_run(struct control *c); /* the next one, if none is under way */
/* Listener topics that have other partition counts in `next` than in `old`. */
void control_note_boundaries(struct control *c, const struct meta_image *old,
                             const struct meta_image *next);
void control_boundaries_clear(struct control *c);
void control_on_space_gap(struct shard *s, struct msg *m);
void control_on_gap_reply(struct shard *s, struct msg *m);
