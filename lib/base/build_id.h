/* build_id.h - which build this is: version and commit. sluiced and the dataplane compare theirs;
 * another build is drained and restarted. Static text, any thread. */
#pragma once

/* "0.1.0-4f2a91c03d7e", "-dirty" behind it when the tree had uncommitted changes; the version alone
 * when it was not built from a checkout. */
const char *build_id(void);
