/* topic_regex.h - patterns of topic names that members of a consumer group subscribe to (KIP-848).
 *
 * The syntax is RE2/J's, as Kafka's: Perl's without what needs backtracking to be true (no
 * backreferences, look-around, possessive or atomic parts); those are refused, and so is what RE2/J
 * refuses otherwise (repeats over 1,000, a repeat of a repeat). The machine underneath is PCRE2,
 * with its steps bounded, because it does backtrack: a pattern that takes too many on a name is an
 * error, not a slow shard. A pattern matches a whole name. Any thread, one at a time. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"

#define TOPIC_REGEX_LEN_MAX 4096
#define TOPIC_REGEX_STEPS_MAX 20000 /* of matching one name */

struct topic_regex;
/* 0; -ENOMEM; or what is wrong is in `why`: -E_MALFORMED, not a pattern of this syntax, or too
 * large once its repeats are written out; -E_LIMIT, too long. */
NODISCARD int topic_regex_compile(struct span pattern, struct topic_regex **ret, char *why,
                                  size_t why_cap);
/* 1 it matches, 0 it does not, -E_LIMIT too many steps. */
NODISCARD int topic_regex_match(struct topic_regex *re, struct span name);
/* Accepts NULL. */
void topic_regex_free(struct topic_regex *re);
