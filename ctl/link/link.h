/* link.h - sluiced's end of the control socket DIR/run/dataplane.sock (lib/iface/ctl_proto.h).
 *
 *     DOWN --link_connect--> GREETING --HELLO came--> UP --close, bad frame, link_close--> DOWN
 *
 * Never blocks: what cannot be written is kept (at most LINK_UNSENT_MAX, then the link closes).
 * Requests of ours carry an id and a deadline; whoever asked is told exactly once.
 * Runs on: sluiced's main thread. Callbacks run inside link_run, link_tick and link_close; they may
 * send and ask, and may call link_close. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/iface/ctl_proto.h"
#include "lib/wire/wire_gen.h"
#include <stdbool.h>
#include <stdlib.h>

#define LINK_UNSENT_MAX (512u << 20)
#define LINK_ASKED_MAX 256 /* requests of ours without an answer */

struct link;
struct link_ops {
    /* First frame of the connection; the callee answers with HELLO_REPLY. Borrowed. */
    void (*on_hello)(void *arg, const struct ctl_hello *hello);
    /* Any other frame that is not an answer to a request of ours. Negative: close. */
    int (*on_frame)(void *arg, const struct ctl_frame *f);
    void (*on_down)(void *arg, const char *why);
};
/* An answer. rc 0: `f` is one frame of it, call again while the callee returns true ("more comes").
 * rc < 0 (-E_TIMED_OUT, -ENOTCONN): there is none, f is NULL. */
typedef bool link_answer_fn(void *arg, int rc, const struct ctl_frame *f);

NODISCARD int link_create(const char *path, const struct link_ops *ops, void *arg,
                          struct link **ret);
void link_destroy(struct link *l);
/* 0, or -errno (-ENOENT, -ECONNREFUSED: nobody listens), -EALREADY when not DOWN. */
NODISCARD int link_connect(struct link *l);
void link_close(struct link *l, const char *why);
bool link_is_down(const struct link *l);
bool link_is_up(const struct link *l);
/* Process id of the peer as the kernel knows it; 0 when down. */
int link_peer_pid(const struct link *l);

int link_fd(const struct link *l); /* -1: none */
short link_events(const struct link *l);
void link_run(struct link *l, short revents);
/* Ends requests past their deadline; milliseconds until the next one, -1: none. */
int link_tick(struct link *l);

/* Queue one frame; dropped when down. */
void link_send(struct link *l, uint16_t type, uint64_t id, struct span body);
/* A request of ours. The answer's frame type is `answer_type`. 0, -ENOTCONN, -E_BUSY. */
struct link_ask {
    uint16_t type, answer_type;
    struct span body;
    uint32_t timeout_ms;
    link_answer_fn *done;
    void *arg;
};
NODISCARD int link_ask(struct link *l, const struct link_ask *ask);

/* Encode message `name` and pass it on as `span_` to `statement`. */
#define LINK_ENCODE(name, msg, statement)                                                          \
    do {                                                                                           \
        size_t len_ = name##_size((msg), CTL_MESSAGE_VERSION);                                     \
        uint8_t *buf_ = malloc(len_ + 1);                                                          \
        ASSERT(buf_ != NULL);                                                                      \
        struct wire_writer w_;                                                                     \
        wire_writer_init(&w_, buf_, len_);                                                         \
        name##_write(&w_, CTL_MESSAGE_VERSION, (msg));                                             \
        ASSERT(w_.err == 0);                                                                       \
        struct span span_ = span_of(buf_, (uint32_t)w_.len);                                       \
        statement;                                                                                 \
        free(buf_);                                                                                \
    } while (0)
