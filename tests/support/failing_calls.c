/* Makes the n-th call of a kind fail that is about something below a folder. Preloaded; armed by the process itself.
 *
 * Every function here does what libc's own does, but for the one call that is to fail. Paths are looked at with plain
 * system calls, so that nothing here calls itself. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SHORT = -1, KILL = -2 };

static const char *const kinds[] = {"open", "read", "write", "truncate", "fsync", "syncfs", "rename", "link",
                                    "mkdir", "unlink", "chmod", "readdir", "stat", "close"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static char armed_call[32], under[PATH_MAX];
static size_t under_length;
static long nth;
static int failure, lasting, counting;
static atomic_long met[KINDS], fired;

void shim_arm(const char *call, const char *folder, long number, int error, int from_then_on) {
    snprintf(armed_call, sizeof armed_call, "%s", call);
    under_length = (size_t)snprintf(under, sizeof under, "%s", folder);
    nth = number, failure = error, lasting = from_then_on, counting = 1;
}

long shim_met(const char *call) {
    for (int kind = 0; kind < KINDS; kind++)
        if (strcmp(kinds[kind], call) == 0) return atomic_load(&met[kind]);
    return -1;
}

long shim_fired(void) { return atomic_load(&fired); }

static int below(const char *path) { return strncmp(path, under, under_length) == 0; }

static int of_fd(int fd, char *path) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long got = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (got <= 0) return 0;
    path[got] = 0;
    return 1;
}

static int is_meant(int fd, const char *path) {
    char where[PATH_MAX];
    if (path != NULL && path[0] == '/') return below(path);
    if (fd == AT_FDCWD || !of_fd(fd, where)) return 0;
    if (path != NULL && path[0] != 0) {
        size_t used = strlen(where);
        snprintf(where + used, sizeof where - used, "/%s", path);
    }
    return below(where);
}

/* 0: go on. SHORT: do a part of it. Else the error. */
static int verdict(const char *call, int fd, const char *path) {
    if (!counting) return 0;
    int before = errno;
    int meant = is_meant(fd, path);
    errno = before;
    if (!meant) return 0;
    int kind = 0;
    while (strcmp(kinds[kind], call) != 0) kind++;
    long number = atomic_fetch_add(&met[kind], 1) + 1;
    if (strcmp(call, armed_call) != 0 || number < nth || (number > nth && !lasting)) return 0;
    atomic_fetch_add(&fired, 1);
    if (failure == KILL) syscall(SYS_kill, getpid(), SIGKILL);
    return failure;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(call, fd, path, value) \
    do { \
        int wrong = verdict(call, fd, path); \
        if (wrong > 0) { errno = wrong; return value; } \
    } while (0)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        FAIL("open", AT_FDCWD, path, -1); \
        return real(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int fd, const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        FAIL("open", fd, path, -1); \
        return real(fd, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define MOVE(name, call) /* a call that moves bytes, and may move fewer */ \
    int wrong = verdict(call, fd, NULL); \
    if (wrong > 0) { errno = wrong; return -1; } \
    if (wrong == SHORT && size > 1) size /= 2

ssize_t read(int fd, void *data, size_t size) { REAL(read); MOVE(read, "read"); return real(fd, data, size); }
ssize_t write(int fd, const void *data, size_t size) { REAL(write); MOVE(write, "write"); return real(fd, data, size); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) { REAL(pread64); MOVE(pread64, "read"); return real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64); MOVE(pwrite64, "write"); return real(fd, data, size, at);
}
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(preadv64); FAIL("read", fd, NULL, -1); return real(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(pwritev64); FAIL("write", fd, NULL, -1); return real(fd, parts, count, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { REAL(writev); FAIL("write", fd, NULL, -1); return real(fd, parts, count); }
ssize_t copy_file_range(int source, off64_t *from, int fd, off64_t *to, size_t size, unsigned flags) {
    REAL(copy_file_range); FAIL("write", fd, NULL, -1); return real(source, from, fd, to, size, flags);
}
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); FAIL("truncate", fd, NULL, -1); return real(fd, size); }
int fsync(int fd) { REAL(fsync); FAIL("fsync", fd, NULL, -1); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); FAIL("fsync", fd, NULL, -1); return real(fd); }
int syncfs(int fd) { REAL(syncfs); FAIL("syncfs", fd, NULL, -1); return real(fd); }

int rename(const char *one, const char *other) { REAL(rename); FAIL("rename", AT_FDCWD, other, -1); return real(one, other); }
int renameat(int a, const char *one, int b, const char *other) { REAL(renameat); FAIL("rename", b, other, -1); return real(a, one, b, other); }
int renameat2(int a, const char *one, int b, const char *other, unsigned flags) {
    REAL(renameat2); FAIL("rename", b, other, -1); return real(a, one, b, other, flags);
}
int link(const char *one, const char *other) { REAL(link); FAIL("link", AT_FDCWD, other, -1); return real(one, other); }
int linkat(int a, const char *one, int b, const char *other, int flags) {
    REAL(linkat); FAIL("link", b, other, -1); return real(a, one, b, other, flags);
}
int mkdir(const char *path, mode_t mode) { REAL(mkdir); FAIL("mkdir", AT_FDCWD, path, -1); return real(path, mode); }
int mkdirat(int fd, const char *path, mode_t mode) { REAL(mkdirat); FAIL("mkdir", fd, path, -1); return real(fd, path, mode); }
int unlink(const char *path) { REAL(unlink); FAIL("unlink", AT_FDCWD, path, -1); return real(path); }
int unlinkat(int fd, const char *path, int flags) { REAL(unlinkat); FAIL("unlink", fd, path, -1); return real(fd, path, flags); }
int rmdir(const char *path) { REAL(rmdir); FAIL("unlink", AT_FDCWD, path, -1); return real(path); }
int fchmod(int fd, mode_t mode) { REAL(fchmod); FAIL("chmod", fd, NULL, -1); return real(fd, mode); }

DIR *opendir(const char *path) { REAL(opendir); FAIL("readdir", AT_FDCWD, path, NULL); return real(path); }
DIR *fdopendir(int fd) { REAL(fdopendir); FAIL("readdir", fd, NULL, NULL); return real(fd); }
struct dirent64 *readdir64(DIR *folder) { REAL(readdir64); FAIL("readdir", dirfd(folder), NULL, NULL); return real(folder); }
struct dirent *readdir(DIR *folder) { REAL(readdir); FAIL("readdir", dirfd(folder), NULL, NULL); return real(folder); }

/* As Linux does it: the number is free, whatever is said; and nothing is ever said of a folder. */
int close(int fd) {
    REAL(close);
    struct stat status;
    int before = errno, is_file = syscall(SYS_fstat, fd, &status) == 0 && S_ISREG(status.st_mode);
    errno = before;
    int wrong = is_file ? verdict("close", fd, NULL) : 0;
    if (wrong <= 0) return real(fd);
    real(fd);
    errno = wrong;
    return -1;
}

int fstat64(int fd, struct stat64 *status) { REAL(fstat64); FAIL("stat", fd, NULL, -1); return real(fd, status); }
int stat64(const char *path, struct stat64 *status) { REAL(stat64); FAIL("stat", AT_FDCWD, path, -1); return real(path, status); }
int lstat64(const char *path, struct stat64 *status) { REAL(lstat64); FAIL("stat", AT_FDCWD, path, -1); return real(path, status); }
int fstatat64(int fd, const char *path, struct stat64 *status, int flags) {
    REAL(fstatat64); FAIL("stat", fd, path, -1); return real(fd, path, status, flags);
}
int statx(int fd, const char *path, int flags, unsigned mask, struct statx *status) {
    REAL(statx); FAIL("stat", fd, path, -1); return real(fd, path, flags, mask, status);
}
