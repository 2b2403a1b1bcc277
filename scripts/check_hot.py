#!/usr/bin/env python3
"""Checks the hot path: a function marked @hot in the comment above it (or above its prototype), and
whatever of ours it calls, makes no call that may allocate, lock, log or enter the kernel. The
search ends at a function with the attribute `cold` (a way out that is taken rarely) and at one whose
comment says "@hot ends", with the reason (it runs once per batch, say). Calls by pointer are not
followed: what they lead to has a mark of its own. Prints one line per violation with the way that
leads there; exit 1 if any."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = ["accel", "dataplane", "lib"]
FORBIDDEN = {
    "allocates": "malloc calloc realloc free strdup strndup aligned_alloc posix_memalign mmap munmap "
                 "rte_malloc rte_zmalloc rte_free open_memstream asprintf",
    "locks": "pthread_mutex_lock pthread_mutex_unlock pthread_cond_wait pthread_cond_signal "
             "pthread_rwlock_rdlock pthread_rwlock_wrlock sem_wait sem_post rte_spinlock_lock",
    "logs or formats": "printf fprintf snprintf vsnprintf vfprintf puts fputs perror syslog LOG_DEBUG "
                       "LOG_INFO LOG_WARN LOG_ERROR log_write",
    "enters the kernel": "open openat close read write pread pwrite readv writev lseek ioctl fcntl fsync "
                         "fdatasync ftruncate rename unlink mkdir stat fstat statx socket bind connect "
                         "accept recv recvmsg recvfrom send sendto sendmsg setsockopt getsockopt poll "
                         "epoll_wait select nanosleep usleep sleep sched_yield eventfd_write "
                         "eventfd_read getrandom time gettimeofday",
}
WHY = {name: why for why, names in FORBIDDEN.items() for name in names.split()}
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "do", "else", "case", "defined"}
HEAD = re.compile(r"^(?P<head>[A-Za-z_][\w\s*(),]*?)\b(?P<name>\w+)\((?P<args>[^;{}]*)\)\s*\{", re.M)
CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def code_of(text):
    """The text with comments, strings and preprocessor lines blanked; every line stays where it is."""
    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    text = re.sub(r"//[^\n]*", blank, text)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text)
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", blank, text, flags=re.M)


class Function:
    def __init__(self, path, line, name, is_static, is_cold, calls):
        self.path, self.line, self.name = path, line, name
        self.is_static, self.is_cold, self.calls = is_static, is_cold, calls


def functions_of(path, code):
    for m in HEAD.finditer(code):
        name = m.group("name")
        if name in KEYWORDS or m.start() > 0 and code[m.start() - 1] != "\n":
            continue
        end = code.find("\n}", m.end())
        body = code[m.end():end if end >= 0 else len(code)]
        calls = []
        for c in CALL.finditer(body):
            if c.group(1) not in KEYWORDS:
                calls.append((c.group(1), code.count("\n", 0, m.end() + c.start()) + 1))
        head = m.group("head")
        yield Function(path, code.count("\n", 0, m.start("name")) + 1, name, "static" in head,
                       re.search(r"\bcold\b", head) is not None, calls)


def marked(text, mark):
    """Names of the functions whose comment says so."""
    for m in re.finditer(r"/\*(?:(?!\*/).)*?" + mark + r".*?\*/\s*", text, flags=re.S):
        name = re.match(r"[^;{]*?\b(\w+)\s*\(", re.sub(r"__attribute__\(\(.*?\)\)\s*", "", text[m.end():]),
                        flags=re.S)
        if name:
            yield name.group(1)


def main():
    by_name, hot, ends = {}, [], set()
    for folder in FOLDERS:
        for at, _, files in os.walk(os.path.join(ROOT, folder)):
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    path = os.path.relpath(os.path.join(at, name), ROOT)
                    text = open(os.path.join(ROOT, path)).read()
                    for f in functions_of(path, code_of(text)):
                        by_name.setdefault(f.name, []).append(f)
                    hot += [(n, path) for n in marked(text, r"@hot(?! ends)\b")]
                    ends.update(marked(text, r"@hot ends"))

    def resolve(name, path):
        found = by_name.get(name, [])
        here = [f for f in found if f.path == path]
        return here or [f for f in found if not f.is_static or f.path.endswith(".h")]

    bad, seen, roots = [], set(), 0
    todo = []
    for name, path in hot:
        found = resolve(name, path)
        roots += len(found)
        todo += [(f, [f.name]) for f in found]
    while todo:
        f, way = todo.pop()
        if (f.path, f.name) in seen:
            continue
        seen.add((f.path, f.name))
        for name, line in f.calls:
            if name in WHY and not resolve(name, f.path):
                bad.append(f"{f.path}:{line}: {' -> '.join(way)} calls {name}, which {WHY[name]}")
            todo += [(g, way + [g.name]) for g in resolve(name, f.path)
                     if not g.is_cold and g.name not in ends and (g.path, g.name) not in seen]
    for line in sorted(bad):
        print(line)
    print(f"check_hot: {roots} functions marked, {len(seen)} reached, {len(bad)} violations")
    return 1 if bad or roots == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
