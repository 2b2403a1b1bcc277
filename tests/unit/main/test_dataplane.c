/* The program itself: starts with 1, 2 and 4 shards, idles cheaply, stops on SIGTERM, keeps others
 * out of its directory, and says in one sentence why it does not start.
 *   argv[1]: the program */
#include "lib/iface/conf.h"
#include "lib/iface/stats_shm.h"
#include "tests/support/test.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

static const char *program;
static struct conf c;
static char *dir, out[65536];

static int setup(void **state)
{
    dir = test_tmpdir();
    conf_defaults(&c);
    snprintf(c.dir, sizeof(c.dir), "%s", dir);
    c.data_dir_cnt = 1;
    snprintf(c.data_dirs[0], sizeof(c.data_dirs[0]), "%s/log", dir);
    c.kafka_cnt = c.listener_cnt = 0;
    c.dev = false; /* nobody supervises: live until told otherwise */
    return 0;
}
static int teardown(void **state)
{
    test_tmpdir_remove(dir);
    return 0;
}

struct child {
    pid_t pid;
    int fd; /* its stderr */
};
static struct child spawn(void)
{
    char path[CONF_PATH_MAX + 32];
    int fd[2];
    snprintf(path, sizeof(path), "%s/conf", dir);
    assert_ok(conf_write(&c, path));
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    struct child ch = {fork(), fd[0]};
    if (ch.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing running */
        dup2(fd[1], 2);
        execl(program, program, "--conf", path, (char *)NULL);
        _exit(127);
    }
    close(fd[1]);
    out[0] = '\0';
    return ch;
}
/* Read stderr until `text` was seen (true) or it ended or 20 s passed. */
static bool says(struct child *ch, const char *text)
{
    size_t n = strlen(out);
    struct pollfd p = {ch->fd, POLLIN, 0};
    while (strstr(out, text) == NULL) {
        if (poll(&p, 1, 20000) <= 0)
            return false;
        ssize_t k = read(ch->fd, out + n, sizeof(out) - 1 - n);
        if (k <= 0)
            return false;
        out[n += (size_t)k] = '\0';
    }
    return true;
}
static int ended(struct child *ch)
{
    int status = 0;
    (void)says(ch, "\001"); /* to the end */
    assert_int_equal(waitpid(ch->pid, &status, 0), ch->pid);
    close(ch->fd);
    if (!WIFEXITED(status))
        fail_msg("ended by signal %d: %s", WTERMSIG(status), out);
    return WEXITSTATUS(status);
}
static uint64_t cpu_ms(pid_t pid)
{
    clockid_t clock;
    struct timespec ts;
    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &ts), 0);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}
static void refuses_to_start(const char *text)
{
    struct child ch = spawn();
    int code = ended(&ch);
    if (code != 1 || strstr(out, text) == NULL)
        fail_msg("exit %d without \"%s\": %s", code, text, out);
}

static void one_two_and_four_shards_start_idle_and_stop(void **state)
{
    for (uint32_t n = 1; n <= 4; n *= 2) {
        c.shard_cnt = n;
        struct child ch = spawn();
        if (!says(&ch, "started with "))
            fail_msg("%u shards: %s", n, out);
        usleep(100000); /* the last spin */
        uint64_t before = cpu_ms(ch.pid);
        usleep(500000);
        uint64_t used = cpu_ms(ch.pid) - before;
        printf("%u shards: %llu ms of CPU in 500 ms\n", n, (unsigned long long)used);
        assert_true(used <= 100 * n); /* 1 to 2 on a quiet machine, 500 if they never slept */
        char path[CONF_PATH_MAX + 32];
        struct stats_reader *r = NULL;
        snprintf(path, sizeof(path), "%s/run/stats.shm", dir);
        assert_ok(stats_open(path, &r));
        assert_int_equal(stats_header(r)->shard_cnt, n);
        for (uint16_t i = 0; i < n; i++) {
            static struct counters k;
            assert_ok(stats_read(r, i, &k));
            assert_true(k.shard.turns > 0);
            assert_true(k.shard.sleeps > 0);
        }
        stats_close(r);
        kill(ch.pid, n == 2 ? SIGINT : SIGTERM);
        assert_int_equal(ended(&ch), 0);
        assert_non_null(strstr(out, "stopped"));
    }
}

static void a_directory_in_use_names_its_holder(void **state)
{
    struct child first = spawn();
    assert_true(says(&first, "started with "));
    char text[64];
    snprintf(text, sizeof(text), "process %d", (int)first.pid);
    refuses_to_start(text);
    kill(first.pid, SIGKILL); /* and a dead holder leaves nothing behind */
    int status;
    waitpid(first.pid, &status, 0);
    close(first.fd);
    struct child second = spawn();
    assert_true(says(&second, "started with "));
    kill(second.pid, SIGTERM);
    assert_int_equal(ended(&second), 0);
}

static void a_device_that_does_not_exist_is_named(void **state)
{
    c.port_cnt = 1;
    c.ports[0].rx_desc = c.ports[0].tx_desc = 512;
    c.ports[0].mtu = 1500;
    c.ports[0].host_rate = 1;
    strcpy(c.ports[0].name, "uplink");
    strcpy(c.ports[0].device, "net_af_packet0,iface=no-such-nic");
    refuses_to_start("net_af_packet0");
}

static void cpus_that_are_not_there_are_named(void **state)
{
    strcpy(c.cpus, "1000");
    refuses_to_start("this machine has no CPU 1000");
}

static void a_damaged_configuration_is_refused(void **state)
{
    char cmd[CONF_PATH_MAX + 64];
    struct child ch = spawn(); /* writes the file; then it is damaged */
    assert_true(says(&ch, "started with "));
    kill(ch.pid, SIGTERM);
    assert_int_equal(ended(&ch), 0);
    snprintf(cmd, sizeof(cmd), "echo garbage >> %s/conf; exec %s --conf %s/conf 2>/dev/null", dir,
             program, dir);
    assert_int_equal(WEXITSTATUS(system(cmd)), 1);
    snprintf(cmd, sizeof(cmd), "%s --conf %s/none 2>/dev/null", program, dir);
    assert_int_equal(WEXITSTATUS(system(cmd)), 1);
    snprintf(cmd, sizeof(cmd), "%s 2>/dev/null", program);
    assert_int_equal(WEXITSTATUS(system(cmd)), 2);
}

int main(int argc, char **argv)
{
    program = argv[1];
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(one_two_and_four_shards_start_idle_and_stop), T(a_directory_in_use_names_its_holder),
        T(a_device_that_does_not_exist_is_named),       T(cpus_that_are_not_there_are_named),
        T(a_damaged_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
