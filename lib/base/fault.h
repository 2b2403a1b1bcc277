/* fault.h - named fault points, by which tests make rare failures happen.
 *
 *     if (FAULT("seg_sync"))
 *         return -EIO;
 *
 * FAULT is the constant false unless the file is compiled with -DSLUICE_FAULTS (meson option
 * `faults`, or a unit test that includes the .c). Armed by fault_arm, or for whole programs by the
 * environment: SLUICE_FAULTS=name[:skip[:times]],...
 * Runs on: arm before threads start; FAULT on any thread. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum { FAULT_MAX = 32, FAULT_NAME_MAX = 63, FAULT_FOREVER = UINT32_MAX };

struct fault_when {
    uint32_t skip;  /* pass this many times before failing */
    uint32_t times; /* then fail this many times; FAULT_FOREVER */
};
/* 0, -E_LIMIT (too many points or name too long). Arming again replaces. */
NODISCARD int fault_arm(const char *name, struct fault_when when);
/* Parses the text form above. 0, -E_MALFORMED, -E_LIMIT; what was parsed before stays armed. */
NODISCARD int fault_arm_text(const char *text);
void fault_disarm_all(void);
/* Whether the point fails this time; counts the pass. */
bool fault_hit(const char *name);
/* Times the point was passed since it was armed (failing or not). */
uint32_t fault_passes(const char *name);

#ifdef SLUICE_FAULTS
#define FAULT(name) fault_hit(name)
#else
#define FAULT(name) false
#endif
