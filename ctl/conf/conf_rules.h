/* conf_rules.h - what a configuration's event routing rules must fulfil beyond each key's own form:
 * their listeners exist and know what the rule asks for, their topics may be written, rules for one
 * topic agree, and every rule can be reached.
 * Any thread; pure. */
#pragma once
#include "lib/iface/conf.h"

/* One fault: `path` as in the file ("rules[2].topic"), `text` what is wrong. Both borrowed. */
typedef void conf_rules_report_fn(void *arg, const char *path, const char *text);
void conf_rules_check(const struct conf *c, conf_rules_report_fn *report, void *arg);
