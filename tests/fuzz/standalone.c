/* standalone.c - drives a libFuzzer target without libFuzzer, a bounded number of times.
 *
 *     fuzz_x [-n runs] [-s seed] [file or folder...]
 *     fuzz_x -w FOLDER       only writes the target's own seeds into it, for libFuzzer
 * Runs every given input once, then `runs` inputs that are random bytes or mutations of the given
 * ones and of the target's own seeds. A target may define fuzz_seed(i, buf, cap): writes its i-th
 * valid input and returns the length, 0 when there is none; mutations of valid inputs get past the
 * checks that random bytes never pass. An input that crashes is found by repeating with the seed
 * and run number that were printed last. */
#include <dirent.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
__attribute__((weak)) size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap);

enum { INPUT_MAX = 64 * 1024, SEEDS_MAX = 1024 };

static struct seed {
    uint8_t *p;
    size_t len;
} seeds[SEEDS_MAX];
static unsigned seed_cnt;
static uint64_t rng_state;
static volatile uint64_t run_no;
static volatile uint64_t rng_first;

static uint64_t rng(void)
{
    uint64_t z = rng_state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static void on_crash(int sig)
{
    char msg[128];
    int n = snprintf(msg, sizeof(msg), "crash (signal %d): repeat with -s %llu -n %llu\n", sig,
                     (unsigned long long)rng_first, (unsigned long long)run_no + 1);
    ssize_t rc = write(STDERR_FILENO, msg, (size_t)n);
    (void)rc;
    signal(sig, SIG_DFL);
    raise(sig);
}

/* The target gets an exact heap copy, so that a sanitizer sees a read past the end. */
static void run_one(const uint8_t *p, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, p, len);
    (void)LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static void seed_add(const uint8_t *p, size_t len)
{
    run_one(p, len);
    if (seed_cnt == SEEDS_MAX)
        return;
    seeds[seed_cnt].p = malloc(len > 0 ? len : 1);
    if (seeds[seed_cnt].p == NULL)
        abort();
    memcpy(seeds[seed_cnt].p, p, len);
    seeds[seed_cnt++].len = len;
}

static void load_path(const char *path)
{
    static uint8_t buf[INPUT_MAX];
    struct stat st;
    if (stat(path, &st) < 0) {
        perror(path);
        exit(2);
    }
    if (S_ISDIR(st.st_mode)) {
        DIR *d = opendir(path);
        for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
            char sub[4096];
            if (e->d_name[0] == '.')
                continue;
            snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
            load_path(sub);
        }
        if (d != NULL)
            closedir(d);
        return;
    }
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    size_t len = fread(buf, 1, sizeof(buf), f);
    fclose(f);
    seed_add(buf, len);
}

/* One to eight small edits: flip, overwrite, interesting value, insert, delete, cut, splice. */
static size_t mutate(uint8_t *b, size_t len, size_t cap)
{
    static const uint8_t interesting[] = {0, 1, 2, 0x0a, 0x20, 0x7f, 0x80, 0xfe, 0xff};
    for (unsigned edits = 1 + rng() % 8; edits > 0; edits--) {
        size_t at = len > 0 ? rng() % len : 0;
        switch (rng() % 7) {
        case 0:
            if (len > 0)
                b[at] ^= (uint8_t)(1u << rng() % 8);
            break;
        case 1:
            if (len > 0)
                b[at] = (uint8_t)rng();
            break;
        case 2:
            for (size_t n = 1u << rng() % 4; n > 0 && at < len; n--)
                b[at++] = interesting[rng() % sizeof(interesting)];
            break;
        case 3: {
            size_t n = 1 + rng() % 16;
            if (len + n > cap)
                break;
            memmove(b + at + n, b + at, len - at);
            for (size_t i = 0; i < n; i++)
                b[at + i] = (uint8_t)rng();
            len += n;
            break;
        }
        case 4: {
            size_t n = len > at ? 1 + rng() % (len - at < 16 ? len - at : 16) : 0;
            memmove(b + at, b + at + n, len - at - n);
            len -= n;
            break;
        }
        case 5:
            if (rng() % 4 == 0)
                len = at;
            break;
        default: {
            const struct seed *o = seed_cnt > 0 ? &seeds[rng() % seed_cnt] : NULL;
            if (o == NULL || o->len == 0)
                break;
            size_t from = rng() % o->len, n = 1 + rng() % (o->len - from);
            if (at + n > cap)
                n = cap - at;
            memcpy(b + at, o->p + from, n);
            if (at + n > len)
                len = at + n;
            break;
        }
        }
    }
    return len;
}

static int seeds_write(const char *folder)
{
    static uint8_t buf[INPUT_MAX];
    size_t len;
    for (unsigned i = 0; fuzz_seed != NULL && (len = fuzz_seed(i, buf, sizeof(buf))) > 0; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/seed-%u", folder, i);
        FILE *f = fopen(path, "wb");
        if (f == NULL || fwrite(buf, 1, len, f) != len || fclose(f) != 0) {
            perror(path);
            return 2;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static uint8_t buf[INPUT_MAX];
    uint64_t runs = 20000;
    int opt;
    rng_state = 1;
    while ((opt = getopt(argc, argv, "n:s:w:")) != -1) {
        if (opt == 'n')
            runs = strtoull(optarg, NULL, 0);
        else if (opt == 's')
            rng_state = strtoull(optarg, NULL, 0);
        else
            return opt == 'w' ? seeds_write(optarg) : 2;
    }
    rng_first = rng_state;
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    signal(SIGFPE, on_crash);
    for (int i = optind; i < argc; i++)
        load_path(argv[i]);
    for (unsigned i = 0; fuzz_seed != NULL && i < SEEDS_MAX; i++) {
        size_t len = fuzz_seed(i, buf, sizeof(buf));
        if (len == 0)
            break;
        seed_add(buf, len);
    }
    for (uint64_t i = 0; i < runs; i++) {
        size_t len;
        run_no = i;
        if (seed_cnt > 0 && rng() % 8 != 0) {
            const struct seed *s = &seeds[rng() % seed_cnt];
            memcpy(buf, s->p, s->len);
            len = mutate(buf, s->len, sizeof(buf));
        } else {
            len = rng() % (rng() % 16 == 0 ? 4096 : 128);
            for (size_t j = 0; j < len; j++)
                buf[j] = (uint8_t)rng();
        }
        run_one(buf, len);
    }
    printf("%llu runs, %u seeds, no crash\n", (unsigned long long)runs, seed_cnt);
    for (unsigned i = 0; i < seed_cnt; i++)
        free(seeds[i].p);
    return 0;
}
