/* sim_clients.h - Kafka clients of the simulated shards, and what each of their answers must say.
 *
 * A client has one connection at a time. It sends requests drawn from the seed, several at once;
 * stops reading for a while, closes in the middle, connects again. Idempotent producers then send
 * again what was not answered. Every answer is checked: order, offsets, bytes (sim_log.h),
 * min.bytes and max.wait by the virtual clock. One thread. */
#pragma once
#include "tests/sim/sim_log.h"

void sim_clients_create(uint32_t cnt);
void sim_clients_destroy(void);
/* When clients_run has something to do next. */
uint64_t sim_clients_next(void);
void sim_clients_run(void);
/* From now on nothing new is asked; what was asked still is to be answered. */
void sim_clients_finish(void);
bool sim_clients_are_done(void);
/* Close all connections, however. */
void sim_clients_close(void);
