/* msg.c - the table of handlers. */
#include "dataplane/shard/msg.h"

struct msg_handlers msg_handlers[MSG_CNT];
