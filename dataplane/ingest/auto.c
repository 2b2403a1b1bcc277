/* auto.c - see auto.h. */
#include "dataplane/ingest/auto.h"

void auto_init(struct auto_share *a)
{
    *a = (struct auto_share){.share = AUTO_SHARE_ALL};
}

void auto_look(struct auto_share *a, uint64_t now_ns, uint64_t busy_cycles, uint64_t idle_cycles)
{
    if (now_ns - a->window_ns < AUTO_WINDOW_NS)
        return;
    uint64_t busy = busy_cycles - a->busy, all = busy + idle_cycles - a->idle;
    a->window_ns = now_ns;
    a->busy = busy_cycles;
    a->idle = idle_cycles;
    if (all == 0)
        return;
    uint64_t percent = busy * 100 / all;
    if (percent > 98)
        a->share /= 2;
    else if (percent > 90)
        a->share -= (a->share + 3) / 4;
    else if (percent <= 75 && a->share < AUTO_SHARE_ALL)
        a->share = a->share + 2 < AUTO_SHARE_ALL ? a->share + 2 : AUTO_SHARE_ALL;
}

static bool has_backlog(struct auto_share *a, uint64_t turn)
{
    auto_events(a, turn, 0);
    return a->turn_events >= AUTO_BACKLOG || a->last_events >= AUTO_BACKLOG;
}

bool auto_has_cycles(struct auto_share *a, uint64_t turn)
{
    return a->share == AUTO_SHARE_ALL && !has_backlog(a, turn);
}

bool auto_take(struct auto_share *a, uint64_t turn)
{
    if (has_backlog(a, turn))
        return false;
    a->owed += a->share;
    if (a->owed < AUTO_SHARE_ALL)
        return false;
    a->owed -= AUTO_SHARE_ALL;
    return true;
}
