/* msg.c - names of messages and the table of their handlers. */
#include "dataplane/shard/msg.h"
#include <stddef.h>

struct msg_handlers msg_handlers[MSG_CNT];

const char *msg_name(enum msg_type t)
{
    static const char *const names[] = {
#define MSG(name, comment) [MSG_##name] = #name,
#include "dataplane/shard/msg.def"
#undef MSG
    };
    return (unsigned)t < MSG_CNT ? names[t] : "?";
}
