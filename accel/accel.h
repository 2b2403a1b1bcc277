/* accel.h - picks the implementation of every accelerated function once, at start.
 * accel_init checks the CPU (SSE4.2 + PCLMUL are required for the ISA-L kernels) and fills the
 * table; accel_describe says in one line per function what runs and why. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>

/* force_soft selects the scalar twins (tests, benchmarks, an unfit CPU). Call once, before threads.
 */
void accel_init(bool force_soft);
/* The compression device that is used, as offload_describe says; before the first shard. */
void accel_offload(const char *text);
/* Writes text such as "crc32c: isa-l (sse4.2, pclmulqdq)\ngzip: isa-l igzip level 1\n", cut to fit
 * and NUL-terminated; its length without the NUL. 512 bytes hold all of it. */
size_t accel_describe(char *buf, size_t cap);
