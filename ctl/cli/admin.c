/* admin.c - the admin API through libcurl on a unix socket. */
#include "ctl/cli/cli.h"
#include "lib/base/assert.h"
#include <curl/curl.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX (256u << 20)
#define TIMEOUT_S 60L /* above the 30 s after which sluiced gives up on the dataplane */

struct answer {
    char *text;
    size_t len;
};

static size_t answer_take(char *p, size_t one, size_t n, void *arg)
{
    struct answer *a = arg;
    if (a->len + n > ANSWER_MAX)
        return 0;
    char *more = realloc(a->text, a->len + n + 1);
    if (more == NULL)
        return 0;
    a->text = more;
    memcpy(a->text + a->len, p, n);
    a->len += n;
    a->text[a->len] = '\0';
    return n;
}

static int refuse_permission(struct cli *c)
{
    char sock[4096];
    struct stat st;
    (void)snprintf(sock, sizeof(sock), "%s/run/admin.sock", c->dir);
    if (stat(sock, &st) < 0)
        return cli_fail(
            c, "EACCES",
            "no permission to enter %s/run; run as the user that runs sluiced, or as root", c->dir);
    const struct passwd *pw = getpwuid(st.st_uid);
    const struct group *gr = getgrgid(st.st_gid);
    return cli_fail(
        c, "EACCES",
        "no permission on %s (mode %04o, user %s, group %s); run as that user, join that "
        "group, or use sudo",
        sock, (unsigned)(st.st_mode & 07777), pw != NULL ? pw->pw_name : "?",
        gr != NULL ? gr->gr_name : "?");
}

/* Finds out exactly why nobody would answer, and a path to the socket that fits into sun_path:
 * /proc/self/fd/N/admin.sock, however deep DIR is. The descriptor of DIR/run, or -1 after a
 * message. */
static int door_open(struct cli *c, char *ret_sock, size_t cap)
{
    char path[4096];
    struct stat st;
    if (stat(c->dir, &st) < 0) {
        (void)cli_fail(c, err_name(-errno),
                       "%s (%s): %s; give the appliance's data directory with --data DIR", c->dir,
                       c->dir_by, strerror(errno));
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/run", c->dir);
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        if (errno == EACCES)
            (void)refuse_permission(c);
        else
            (void)cli_fail(c, "NOT_RUNNING",
                           "no appliance is running at %s (%s): %s: %s; start one with 'sluiced "
                           "--dev --data %s', "
                           "or give another directory with --data",
                           c->dir, c->dir_by, path, strerror(errno), c->dir);
        return -1;
    }
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/admin.sock", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0) {
        (void)close(fd);
        (void)snprintf(ret_sock, cap, "%s", un.sun_path);
        return dir;
    }
    int e = errno;
    if (fd >= 0)
        (void)close(fd);
    (void)close(dir);
    if (e == EACCES || e == EPERM)
        (void)refuse_permission(c);
    else
        (void)cli_fail(c, "NOT_RUNNING",
                       "no appliance is running at %s (%s): %s/admin.sock: %s; start one with "
                       "'sluiced --dev --data %s', or give another directory with --data",
                       c->dir, c->dir_by, path, strerror(e), c->dir);
    return -1;
}

static int answer_read(struct cli *c, long status, const struct answer *a, json_t **ret)
{
    json_error_t why;
    json_t *j = a->len == 0
                    ? json_object()
                    : json_loadb(a->text, a->len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    if (j == NULL)
        return cli_fail(c, "MALFORMED",
                        "sluiced answered with status %ld and what is no JSON: %s, line %d", status,
                        why.text, why.line);
    if (status >= 200 && status < 300) {
        *ret = j;
        return EXIT_OK;
    }
    const char *text = cli_str(j, "message", NULL);
    int rc = text != NULL ? cli_fail(c, cli_str(j, "error", NULL), "%s", text)
                          : cli_fail(c, NULL, "sluiced answered with status %ld", status);
    json_decref(j);
    return rc;
}

int admin_call(struct cli *c, const char *method, const char *path, const json_t *body,
               json_t **ret)
{
    char sock[64], url[1024], why[CURL_ERROR_SIZE] = "";
    struct answer a = {0};
    struct curl_slist *heads = NULL;
    long status = 0;
    int dir = door_open(c, sock, sizeof(sock)), rc = EXIT_FAILED;
    if (dir < 0)
        return EXIT_FAILED;
    CURL *curl = curl_easy_init();
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    ASSERT(curl != NULL && (body == NULL || text != NULL));
    (void)snprintf(url, sizeof(url), "http://localhost%s", path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, sock);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, answer_take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &a);
    if (text != NULL) {
        heads = curl_slist_append(heads, "Content-Type: application/json");
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, heads);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
    }
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OPERATION_TIMEDOUT)
        (void)cli_fail(c, "TIMED_OUT",
                       "no answer from sluiced within %ld s; '%s %s' may still happen", TIMEOUT_S,
                       method, path);
    else if (code != CURLE_OK)
        (void)cli_fail(c, "HTTP", "talking to sluiced at %s: %s", c->dir,
                       why[0] ? why : curl_easy_strerror(code));
    else {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        rc = answer_read(c, status, &a, ret);
    }
    curl_slist_free_all(heads);
    curl_easy_cleanup(curl);
    free(text);
    free(a.text);
    (void)close(dir);
    return rc;
}

char *admin_escape(const char *name)
{
    char *to = malloc(strlen(name) * 3 + 1), *p = to;
    ASSERT(to != NULL);
    for (; *name != '\0'; name++) {
        unsigned char b = (unsigned char)*name;
        bool plain = (b >= '0' && b <= '9') || (b >= 'A' && b <= 'Z') || (b >= 'a' && b <= 'z') ||
                     b == '.' || b == '_' || b == '~' || b == '-';
        p += plain ? sprintf(p, "%c", b) : sprintf(p, "%%%02X", b);
    }
    return to;
}
