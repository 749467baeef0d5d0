/* The frame of a check program: each check is a function, run in a directory of its own in a process of its own. */
#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct check {
  const char *name;
  void (*run)(void);
};

/* Ends the check: what was expected, where, and the errno of that moment. */
#define EXPECT(condition)                                                                        \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      printf("  %s:%d: %s (errno %d, %s)\n", __FILE__, __LINE__, #condition, errno, strerror(errno)); \
      fflush(stdout);                                                                            \
      _exit(1);                                                                                  \
    }                                                                                            \
  } while (0)

#define EXPECT_ERRNO(call, number) \
  do {                             \
    errno = 0;                     \
    EXPECT((call) == -1);          \
    EXPECT(errno == (number));     \
  } while (0)

static inline int created(const char *name, const char *content) {
  int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0644);
  EXPECT(fd >= 0);
  EXPECT(write(fd, content, strlen(content)) == (ssize_t)strlen(content));
  return fd;
}

static inline struct stat status_of(const char *name) {
  struct stat st;
  EXPECT(lstat(name, &st) == 0);
  return st;
}

/* Runs `body` as another user in a child; its exit status is the child's. */
static inline int as_user(unsigned uid, int (*body)(void)) {
  pid_t child = fork();
  if (child == 0) {
    if (setgid(uid) != 0 || setuid(uid) != 0) _exit(99);
    _exit(body());
  }
  int status = -1;
  EXPECT(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline int run_checks(const struct check *checks, size_t count, const char *directory) {
  int failures = 0;
  for (size_t i = 0; i < count; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, checks[i].name);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      umask(0);
      EXPECT(mkdir(path, 0777) == 0);
      EXPECT(chdir(path) == 0);
      checks[i].run();
      fflush(stdout);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    failures += status != 0;
    printf("%s %s\n", status == 0 ? "ok" : "not ok", checks[i].name);
  }
  fflush(stdout);
  return failures;
}
#endif
