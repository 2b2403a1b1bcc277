/* main.c - sluiced: options, configuration, then daemon_run. */
#include "lib/base/cpu_check.h"
#include "accel/accel.h"
#include "ctl/conf/conf_load.h"
#include "ctl/daemon.h"
#include "lib/base/assert.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SETS_MAX 256
enum { EXIT_USAGE = 2 };

static const char usage[] =
    "sluiced - the control daemon of a Sluice appliance: starts the dataplane, owns configuration\n"
    "and topics, serves metrics and administration.\n"
    "\n"
    "  sluiced --dev [--data DIR]      embedded defaults, no configuration file, no privileges\n"
    "  sluiced --config FILE           what a service runs\n"
    "  sluiced --check FILE            reads FILE, reports every mistake, starts nothing\n"
    "  sluiced --config-help           every configuration key\n"
    "\n"
    "  --data DIR         data directory (default with --dev: ./sluice-data)\n"
    "  --set KEY=VALUE    overrides one key, such as kafka.listeners[0].bind=127.0.0.1:0; "
    "repeatable\n"
    "  --dataplane PATH   the sluice-dataplane program (default: found beside this one)\n"
    "  --version, --help\n";

struct options {
    bool dev;
    const char *config, *check, *data, *dataplane;
    const char *sets[SETS_MAX];
    uint32_t set_cnt;
};
static int misuse(const char *what, const char *word)
{
    fprintf(stderr, "sluiced: %s%s%s\nTry 'sluiced --help'.\n", what, word == NULL ? "" : " ",
            word == NULL ? "" : word);
    return -EXIT_USAGE;
}
/* The value of option `name` at argv[*i], as "--name value" or "--name=value"; NULL: not it. */
static const char *value_of(char **argv, int argc, int *i, const char *name, bool *missing)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0)
        return NULL;
    if (argv[*i][n] == '=')
        return argv[*i] + n + 1;
    if (argv[*i][n] != '\0')
        return NULL;
    if (*i + 1 >= argc) {
        *missing = true;
        return "";
    }
    return argv[++*i];
}
/* 1: done, exit with 0; 0: go on; negative: exit with its absolute value. */
static int options_read(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool missing = false;
        const char *v, *word = argv[i];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            fputs(usage, stdout);
            return 1;
        }
        if (strcmp(word, "--version") == 0) {
            printf("sluiced %s\n", SLUICE_VERSION);
            return 1;
        }
        if (strcmp(word, "--config-help") == 0) {
            conf_print_reference(stdout);
            return 1;
        }
        if (strcmp(word, "--dev") == 0) {
            o->dev = true;
        } else if ((v = value_of(argv, argc, &i, "--config", &missing)) != NULL) {
            o->config = v;
        } else if ((v = value_of(argv, argc, &i, "--check", &missing)) != NULL) {
            o->check = v;
        } else if ((v = value_of(argv, argc, &i, "--data", &missing)) != NULL) {
            o->data = v;
        } else if ((v = value_of(argv, argc, &i, "--dataplane", &missing)) != NULL) {
            o->dataplane = v;
        } else if ((v = value_of(argv, argc, &i, "--set", &missing)) != NULL) {
            if (o->set_cnt == SETS_MAX)
                return misuse("too many --set", NULL);
            o->sets[o->set_cnt++] = v;
        } else {
            return misuse(word[0] == '-' ? "unknown option" : "unexpected argument", word);
        }
        if (missing)
            return misuse("a value is missing after", word);
    }
    if (o->check != NULL && (o->dev || o->config != NULL))
        return misuse("--check goes without --dev and --config", NULL);
    if (o->dev && o->config != NULL)
        return misuse("--dev and --config exclude each other", NULL);
    if (!o->dev && o->config == NULL && o->check == NULL)
        return misuse("say --dev, --config FILE or --check FILE", NULL);
    return 0;
}
static int conf_of(const struct options *o, struct conf_load *l)
{
    char cwd[PATH_MAX], data[CONF_PATH_MAX + 16];
    const char *file = o->check != NULL ? o->check : o->config;
    conf_load_init(l, o->dev);
    if (file != NULL)
        conf_load_file(l, file);
    if (o->data != NULL) {
        snprintf(data, sizeof(data), "data.dir=%.*s", CONF_PATH_MAX, o->data);
        conf_load_set(l, data);
    }
    for (uint32_t i = 0; i < o->set_cnt; i++)
        conf_load_set(l, o->sets[i]);
    if (getcwd(cwd, sizeof(cwd)) == NULL)
        snprintf(cwd, sizeof(cwd), "/");
    return conf_load_finish(l, cwd);
}
static void raise_nofile(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r); /* the dataplane inherits it; without, fewer files */
    }
}
int main(int argc, char **argv)
{
    struct options o = {.dev = false};
    cpu_check_link();
    char program[PATH_MAX], err[PATH_MAX * 3];
    int rc = options_read(&o, argc, argv);
    if (rc != 0)
        return rc > 0 ? 0 : -rc;
    struct conf_load *l = malloc(sizeof(*l));
    ASSERT(l != NULL);
    rc = conf_of(&o, l);
    if (rc < 0) {
        fputs(l->errors, o.check != NULL ? stdout : stderr);
        conf_load_fini(l);
        free(l);
        return o.check != NULL ? 1 : EXIT_USAGE;
    }
    if (o.check != NULL) {
        printf("%s: ok\n", o.check);
    } else {
        accel_init(false);
        raise_nofile();
        struct daemon_opts d = {.conf = &l->conf, .dataplane = o.dataplane, .print_hints = o.dev};
        rc = 0;
        if (d.dataplane == NULL) {
            rc = supervise_find_program(program, sizeof(program), err, sizeof(err));
            d.dataplane = program;
        }
        if (rc < 0) {
            fprintf(stderr, "sluiced: %s\n", err);
            rc = 1;
        } else {
            rc = daemon_run(&d);
        }
    }
    conf_load_fini(l);
    free(l);
    return rc;
}
