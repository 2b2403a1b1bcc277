/* http.h - the two doors of sluiced: TCP that only reads, a unix socket that may change things.
 *
 *     TCP conf.http_bind      GET /metrics /health / ; Host header checked; other methods 405
 *     DIR/run/admin.sock      GET, POST and DELETE below /v1; 0660, peer credentials checked
 *
 * libmicrohttpd without threads: http_fds are polled by the main loop, http_run does the work.
 * Errors have the body {"error":{"code":"...","message":"..."}}.
 * Runs on: sluiced's main thread. A request that waits for the dataplane is suspended, never
 * blocks. */
#pragma once
#include "lib/base/err.h"
#include "dataplane/flow.h"
#include <poll.h>

struct daemon;
struct http;
/* 0, or -errno with a sentence in err[] (an address in use is named). */
NODISCARD int http_create(struct daemon *d, struct http **ret, char *err, size_t err_cap);
void http_destroy(struct http *h);
/* The bound TCP address. */
void http_bound(const struct http *h, struct net_addr *ret);
/* Fills two entries. */
void http_pollfds(const struct http *h, struct pollfd fds[2]);
/* Does what is ready; milliseconds until it wants to run again, -1: no limit. */
int http_run(struct http *h);
