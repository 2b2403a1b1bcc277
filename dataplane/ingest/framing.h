/* framing.h - cuts a byte stream into frames. FRAMING_LF: lines up to LF; FRAMING_NUL: up to NUL;
 * every other byte belongs to the frame. FRAMING_SYSLOG: by RFC 6587, told apart per frame:
 *   octet counting    "58 <34>1 ..."   a number 1..8 digits long, a space, that many bytes
 *   non-transparent   "<34>1 ...\n"    anything else, up to LF or NUL
 *
 *     START -> COUNT -> OCTETS -> START        a frame longer than len_max: its prefix is a frame
 *         `-> LINE ------------> START         marked cut, the rest is skipped:
 *                                              OCTETS -> SKIP_OCTETS, LINE -> SKIP_LINE -> START
 * The same stream gives the same frames in whatever chunks it comes. Delimiters between frames are
 * skipped (some senders end counted frames with one): an empty line is no frame.
 * Runs on: the owner. No allocation: an unfinished frame is kept in the caller's `buf`. */
#pragma once
#include "lib/base/span.h"

enum framing_mode { FRAMING_SYSLOG, FRAMING_LF, FRAMING_NUL };
enum framing_state { FR_START, FR_COUNT, FR_OCTETS, FR_LINE, FR_SKIP_OCTETS, FR_SKIP_LINE };

struct framing {      /* plain data: a copy taken before framing_feed undoes it when put back */
    uint8_t *buf;     /* len_max bytes, the caller's */
    uint32_t len_max; /* at least 16 */
    enum framing_mode mode;
    enum framing_state state;
    uint32_t have;   /* bytes of the unfinished frame in buf */
    uint32_t digits; /* COUNT: digits read */
    uint32_t count;  /* COUNT: their value; OCTETS: length of the frame; SKIP_OCTETS: bytes left */
};

struct frame {
    struct span bytes;
    uint32_t full_len; /* 0: whole. Cut: the length the sender named, UINT32_MAX when unknown */
};

void framing_init(struct framing *f, enum framing_mode mode, uint8_t *buf, uint32_t len_max);

/* @hot. Cut at most `max` frames from `in`. Returns how many bytes were used; *ret_cnt frames are
 * in out[]. Less than all is used when `max` was reached or when buf is still lent to out[0]:
 * handle the frames, then feed the rest again. Frames borrow `in` or `buf` until the next call. */
uint32_t framing_feed(struct framing *f, struct span in, struct frame *out, uint32_t max,
                      uint32_t *ret_cnt);

/* The stream has ended. An unfinished line is a frame; an unfinished counted frame is one that is
 * cut. Returns 0 or 1 frames; f is at START after it. */
uint32_t framing_finish(struct framing *f, struct frame *out);

/* First LF or NUL in p[0..len), or len. The scalar twin is for tests. */
uint32_t framing_find_end(const uint8_t *p, uint32_t len);
uint32_t framing_find_end_scalar(const uint8_t *p, uint32_t len);
