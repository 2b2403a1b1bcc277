/* http_int.h - what the files of ctl/http share: an answer being written, and the handlers. */
#pragma once
#include "ctl/http/http.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_BODY_MAX (1u << 20) /* of a request */

/* One request. Lives from its first header until libmicrohttpd says it is over. */
struct http_call {
    struct daemon *d;
    struct MHD_Connection *conn;
    bool over_unix;
    /* request */
    char *body;
    size_t body_len;
    bool body_too_large, handled;
    /* answer; ready when status != 0 */
    int status;
    const char *content_type;
    char *text; /* malloc'ed */
    size_t text_len;
    /* while it waits for the dataplane */
    bool waiting;   /* somebody holds a pointer to this call */
    bool abandoned; /* the connection went away meanwhile: free it when the answer comes */
    bool suspended;
    void *arg;      /* of the handler that waits */
    char name[256]; /* the topic it is about */
};
/* Sets the answer; takes `text` (malloc'ed). Resumes a suspended call, frees an abandoned one. */
void http_answer(struct http_call *c, int status, const char *content_type, char *text, size_t len);
/* The same from JSON; takes the reference. */
void http_answer_json(struct http_call *c, int status, json_t *json);
__attribute__((format(printf, 4, 5))) void http_error(struct http_call *c, int status,
                                                      const char *code, const char *fmt, ...);
/* The handler will answer later, by http_answer. */
void http_wait(struct http_call *c);

typedef void http_handler_fn(struct http_call *c);
http_handler_fn metrics_get, health_get, index_get, status_get, topics_get, topic_get, topic_post,
    topic_delete;
/* "TOPIC_ALREADY_EXISTS"; "UNKNOWN_SERVER_ERROR" for what has no name here. */
const char *kafka_error_name(int16_t code);
