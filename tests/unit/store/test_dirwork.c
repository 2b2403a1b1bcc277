/* The housekeeping threads: where they run, and that a long job does not hold up short ones. */
#include "dataplane/store/dirwork.h"
#include "tests/support/test.h"
#include <sched.h>
#include <unistd.h>

struct seen {
    struct dirjob j;
    cpu_set_t cpus;
    bool done;
};
static void look(struct dirjob *j)
{
    struct seen *s = (struct seen *)j;
    j->rc = sched_getaffinity(0, sizeof(s->cpus), &s->cpus);
}
static void looked(struct dirjob *j)
{
    ((struct seen *)j)->done = true;
}

static cpu_set_t cpus_of_thread(const int *cpus, uint32_t cnt)
{
    struct dirwork_opts o = {.threaded = true, .wake_fd = -1, .cpus = cpus, .cpu_cnt = cnt};
    struct seen s = {.j = {.run = look, .done = looked}};
    struct dirwork *w;
    assert_ok(dirwork_create(&o, &w));
    dirwork_submit(w, &s.j);
    for (int i = 0; i < 10000 && !s.done; i++)
        if (dirwork_poll(w) == 0)
            usleep(1000);
    assert_true(s.done);
    assert_ok(s.j.rc);
    dirwork_destroy(w);
    return s.cpus;
}

static void a_thread_created_on_a_shards_core_runs_on_the_others(void **state)
{
    cpu_set_t all, one, got;
    int cpus[CPU_SETSIZE], cnt = 0;
    assert_ok(sched_getaffinity(0, sizeof(all), &all));
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all))
            cpus[cnt++] = i;
    CPU_ZERO(&one);
    CPU_SET(cpus[0], &one);
    assert_ok(sched_setaffinity(0, sizeof(one), &one)); /* as a shard is */
    got = cpus_of_thread(cpus, (uint32_t)cnt);
    assert_true(CPU_EQUAL(&got, &all));
    got = cpus_of_thread(cpus + cnt - 1, 1);
    assert_int_equal(CPU_COUNT(&got), 1);
    assert_true(CPU_ISSET(cpus[cnt - 1], &got));
    got = cpus_of_thread((int[]){CPU_SETSIZE - 1}, 1); /* no such CPU: better here than nowhere */
    assert_true(CPU_EQUAL(&got, &one));
    assert_ok(sched_setaffinity(0, sizeof(all), &all));
}

TEST_MAIN(TEST(a_thread_created_on_a_shards_core_runs_on_the_others))
