/* posix DIRECTORY: how files, names and attributes behave. One line "ok NAME" or "not ok NAME" for each check. */
#include "check.h"
#include <dirent.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <linux/falloc.h>

enum { PAGE = 4096 };

static void direct_io(void) {
  char *buffer;
  EXPECT(posix_memalign((void **)&buffer, PAGE, 256 * PAGE) == 0);
  for (int i = 0; i < 256 * PAGE; i++) buffer[i] = (char)(i * 31 + i / PAGE);
  int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644);
  EXPECT(fd >= 0);
  EXPECT(pwrite(fd, buffer, 256 * PAGE, 0) == 256 * PAGE);
  char *back;
  EXPECT(posix_memalign((void **)&back, PAGE, 256 * PAGE) == 0);
  EXPECT(pread(fd, back, 256 * PAGE, 0) == 256 * PAGE);
  EXPECT(memcmp(buffer, back, 256 * PAGE) == 0);
  EXPECT(pread(fd, back, PAGE, 256 * PAGE) == 0);
}

/* Through a mapping, and without O_DIRECT later, a file may be written that ends within a block. */
static void direct_io_of_odd_sizes(void) {
  close(created("f", ""));
  int fd = open("f", O_RDWR | O_DIRECT);
  EXPECT(fd >= 0 && ftruncate(fd, PAGE + 100) == 0);
  char *map = mmap(NULL, PAGE + 100, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  EXPECT(map != MAP_FAILED);
  strcpy(map + PAGE + 90, "the end");
  EXPECT(msync(map, PAGE + 100, MS_SYNC) == 0 && munmap(map, PAGE + 100) == 0);
  EXPECT(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT) == 0);
  char back[8] = "";
  EXPECT(pread(fd, back, 7, PAGE + 90) == 7 && strcmp(back, "the end") == 0);
  EXPECT(pwrite(fd, "odd", 3, 1) == 3);
}

static void mapping_is_coherent(void) {
  int fd = created("f", "");
  EXPECT(ftruncate(fd, 3 * PAGE) == 0);
  char *map = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  EXPECT(map != MAP_FAILED);
  strcpy(map + PAGE - 3, "across pages");
  char back[13] = "";
  EXPECT(pread(fd, back, 12, PAGE - 3) == 12 && strcmp(back, "across pages") == 0);
  EXPECT(pwrite(fd, "WRITTEN", 7, 2 * PAGE) == 7);
  EXPECT(memcmp(map + 2 * PAGE, "WRITTEN", 7) == 0);
  EXPECT(msync(map, 3 * PAGE, MS_SYNC) == 0 && munmap(map, 3 * PAGE) == 0);
  map = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
  EXPECT(map != MAP_FAILED && memcmp(map + PAGE - 3, "acr", 3) == 0);
}

static void rename_replaces_and_refuses(void) {
  close(created("a", "A"));
  close(created("b", "B"));
  ino_t ino = status_of("a").st_ino;
  EXPECT_ERRNO(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
  EXPECT(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE) == 0 && status_of("b").st_ino == ino);
  EXPECT(rename("b", "a") == 0 && status_of("a").st_ino == ino);
  EXPECT_ERRNO(access("b", F_OK), ENOENT);
  EXPECT(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
  EXPECT_ERRNO(rename("d", "d/e/f"), EINVAL);
  EXPECT_ERRNO(rename("a", "d"), EISDIR);
  EXPECT_ERRNO(rename("d", "a"), ENOTDIR);
  EXPECT(mkdir("full", 0755) == 0 && mkdir("full/x", 0755) == 0);
  errno = 0;
  EXPECT(rename("d", "full") == -1 && (errno == ENOTEMPTY || errno == EEXIST));
  EXPECT(rename("a", "d/e/moved") == 0 && status_of("d/e/moved").st_ino == ino);
}

static void links(void) {
  close(created("f", "text"));
  EXPECT(link("f", "g") == 0 && status_of("f").st_nlink == 2 && status_of("g").st_ino == status_of("f").st_ino);
  EXPECT(unlink("f") == 0 && status_of("g").st_nlink == 1);
  char target[4096], back[4096];
  memset(target, 'x', 4000);
  target[4000] = 0;
  EXPECT(symlink(target, "long") == 0 && readlink("long", back, sizeof back) == 4000 && memcmp(target, back, 4000) == 0);
  EXPECT(symlink("../nowhere", "dangling") == 0 && status_of("dangling").st_size == 10);
  EXPECT_ERRNO(open("dangling", O_RDONLY), ENOENT);
  EXPECT(symlink("loop", "loop") == 0);
  EXPECT_ERRNO(open("loop", O_RDONLY), ELOOP);
  EXPECT_ERRNO(open("g", O_RDONLY | O_DIRECTORY), ENOTDIR);
  EXPECT_ERRNO(open("dangling", O_RDONLY | O_NOFOLLOW), ELOOP);
}

static void extended_attributes(void) {
  int fd = created("f", "");
  char value[3000], back[4096];
  memset(value, 7, sizeof value);
  EXPECT(fsetxattr(fd, "user.a", value, sizeof value, XATTR_CREATE) == 0);
  EXPECT_ERRNO(fsetxattr(fd, "user.a", "", 0, XATTR_CREATE), EEXIST);
  EXPECT_ERRNO(fsetxattr(fd, "user.none", "", 0, XATTR_REPLACE), ENODATA);
  EXPECT(setxattr("f", "user.empty", "", 0, 0) == 0);
  EXPECT(getxattr("f", "user.a", NULL, 0) == sizeof value);
  EXPECT_ERRNO(getxattr("f", "user.a", back, 10), ERANGE);
  EXPECT(getxattr("f", "user.a", back, sizeof back) == sizeof value && memcmp(value, back, sizeof value) == 0);
  ssize_t size = listxattr("f", back, sizeof back);
  EXPECT(size >= 18 && memmem(back, (size_t)size, "user.a\0", 7) && memmem(back, (size_t)size, "user.empty\0", 11));
  EXPECT(removexattr("f", "user.a") == 0);
  EXPECT_ERRNO(getxattr("f", "user.a", back, sizeof back), ENODATA);
  EXPECT_ERRNO(removexattr("f", "user.a"), ENODATA);
}

static int locker_fd;
static int lock_refused(void) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
  int fd = open("f", O_RDWR);
  if (fcntl(fd, F_SETLK, &lock) != -1 || (errno != EAGAIN && errno != EACCES)) return 1;
  lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
  if (fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_WRLCK || lock.l_start != 0 || lock.l_len != 8) return 2;
  lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 8, .l_len = 10};
  if (fcntl(fd, F_SETLK, &lock) != 0) return 3;
  int second = open("f", O_RDWR);
  return flock(second, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK ? 0 : 4;
}

static void locks_between_processes(void) {
  locker_fd = created("f", "0123456789");
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 8};
  EXPECT(fcntl(locker_fd, F_SETLK, &lock) == 0);
  EXPECT(flock(locker_fd, LOCK_EX) == 0);
  EXPECT(as_user(0, lock_refused) == 0);
  lock.l_type = F_UNLCK;
  EXPECT(fcntl(locker_fd, F_SETLK, &lock) == 0 && flock(locker_fd, LOCK_UN) == 0);
  EXPECT(as_user(0, lock_refused) == 1); /* the first lock is granted now */
}

/* Until the lock is granted, or 5 seconds: a file's last close need not be over when close returns. */
static int granted(int fd, struct flock lock) {
  for (int i = 0; i < 100; i++, usleep(50000)) {
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return 1;
    if (errno != EAGAIN && errno != EACCES) return 0;
  }
  return 0;
}

static void locks_of_open_files(void) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 8};
  int first = created("f", "0123456789"), second = open("f", O_RDWR);
  EXPECT(fcntl(first, F_OFD_SETLK, &lock) == 0);
  EXPECT_ERRNO(fcntl(second, F_OFD_SETLK, &lock), EAGAIN);
  int copy = dup(first);
  EXPECT(close(first) == 0);
  EXPECT_ERRNO(fcntl(second, F_OFD_SETLK, &lock), EAGAIN);
  EXPECT(close(copy) == 0 && granted(second, lock));
  /* Of a process: another descriptor's close ends them, and those taken anew stay. */
  int third = open("f", O_RDWR);
  lock.l_start = 100;
  EXPECT(fcntl(third, F_SETLK, &lock) == 0 && close(open("f", O_RDONLY)) == 0 && granted(second, lock));
  lock.l_start = 200;
  EXPECT(fcntl(third, F_SETLK, &lock) == 0 && close(third) == 0);
  third = open("f", O_RDWR);
  EXPECT(fcntl(third, F_SETLK, &lock) == 0);
  usleep(100000);
  EXPECT_ERRNO(fcntl(second, F_OFD_SETLK, &lock), EAGAIN);
}

static void unlinked_file_lives_on(void) {
  int fd = created("f", "hello");
  EXPECT(unlink("f") == 0);
  struct stat st;
  EXPECT(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 5);
  EXPECT(pwrite(fd, "J", 1, 0) == 1 && ftruncate(fd, 4) == 0 && fchmod(fd, 0600) == 0);
  char back[8] = "";
  EXPECT(pread(fd, back, 8, 0) == 4 && strcmp(back, "Jell") == 0);
  int directory = open(".", O_RDONLY | O_DIRECTORY);
  EXPECT(mkdir("d", 0755) == 0);
  int inner = open("d", O_RDONLY | O_DIRECTORY);
  EXPECT(unlinkat(directory, "d", AT_REMOVEDIR) == 0);
  EXPECT_ERRNO(openat(inner, "x", O_CREAT | O_RDWR, 0644), ENOENT);
}

static void allocation_and_holes(void) {
  int fd = created("f", "");
  EXPECT(fallocate(fd, 0, 0, 64 * PAGE) == 0 && status_of("f").st_size == 64 * PAGE);
  EXPECT(fallocate(fd, FALLOC_FL_KEEP_SIZE, 64 * PAGE, PAGE) == 0 && status_of("f").st_size == 64 * PAGE);
  char page[PAGE], back[PAGE];
  memset(page, 'p', PAGE);
  for (int i = 0; i < 8; i++) EXPECT(pwrite(fd, page, PAGE, i * PAGE) == PAGE);
  EXPECT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, 2 * PAGE) == 0);
  EXPECT(pread(fd, back, PAGE, 2 * PAGE) == PAGE && back[0] == 0 && memcmp(back, back + 1, PAGE - 1) == 0);
  EXPECT(pread(fd, back, PAGE, 4 * PAGE) == PAGE && memcmp(page, back, PAGE) == 0);
  int holes = created("g", "");
  EXPECT(pwrite(holes, page, PAGE, 1 << 20) == PAGE);
  EXPECT(lseek(holes, 0, SEEK_DATA) == 1 << 20 && lseek(holes, 0, SEEK_HOLE) == 0);
  EXPECT(lseek(holes, 1 << 20, SEEK_HOLE) == (1 << 20) + PAGE);
  EXPECT_ERRNO(lseek(holes, 1 << 21, SEEK_DATA), ENXIO);
}

static void offsets_beyond_4_gib(void) {
  int fd = created("f", "");
  off_t at = (5LL << 30) + 123;
  EXPECT(pwrite(fd, "far", 3, at) == 3 && status_of("f").st_size == at + 3 && status_of("f").st_blocks < 1000);
  char back[4] = "";
  EXPECT(pread(fd, back, 3, at) == 3 && strcmp(back, "far") == 0 && pread(fd, back, 3, 1LL << 32) == 3 && back[0] == 0);
}

static void temporary_file(void) {
  int fd = open(".", O_TMPFILE | O_RDWR, 0600);
  EXPECT(fd >= 0);
  EXPECT(write(fd, "tmp", 3) == 3);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  EXPECT(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0 && status_of("named").st_size == 3);
}

static void names(void) {
  char name[257];
  memset(name, 'n', 256);
  name[256] = 0;
  EXPECT_ERRNO(open(name, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
  name[255] = 0;
  close(created(name, ""));
  const char *odd[] = {" ", "a\nb", "\xff\xfe", "...", "-rf", "\xe2\x98\x83", "*"};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) close(created(odd[i], odd[i]));
  EXPECT_ERRNO(open(" ", O_CREAT | O_EXCL, 0644), EEXIST);
  int seen = 0;
  DIR *directory = opendir(".");
  for (struct dirent *e; (e = readdir(directory));) {
    seen += strcmp(e->d_name, name) == 0;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) seen += strcmp(e->d_name, odd[i]) == 0;
  }
  EXPECT(seen == 1 + sizeof odd / sizeof odd[0]);
}

static void special_files(void) {
  EXPECT(mkfifo("fifo", 0640) == 0 && S_ISFIFO(status_of("fifo").st_mode));
  EXPECT(mknod("socket", S_IFSOCK | 0600, 0) == 0 && S_ISSOCK(status_of("socket").st_mode));
  EXPECT(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0 && status_of("null").st_rdev == makedev(1, 3));
  EXPECT(mkdir("d", 01777) == 0 && (status_of("d").st_mode & 07777) == 01777 && status_of("d").st_nlink == 2);
}

static int user_creates(void) {
  umask(027);
  int fd = open("mine", O_CREAT | O_RDWR, 0666);
  if (fd < 0 || mkdir("own", 0777) != 0 || mkfifo("pipe", 0666) != 0 || symlink("x", "link") != 0) return 1;
  if (open("secret", O_RDONLY) != -1 || errno != EACCES) return 2;
  if (chmod("secret", 0777) != -1 || errno != EPERM) return 3;
  if (chown("mine", 0, 0) != -1 || errno != EPERM) return 4;
  if (unlink("sticky/root") != -1 || (errno != EPERM && errno != EACCES)) return 5;
  return write(fd, "x", 1) == 1 ? 0 : 6;
}

static void ownership_and_permissions(void) {
  close(created("secret", "s"));
  EXPECT(chmod("secret", 0600) == 0 && mkdir("sticky", 01777) == 0);
  close(created("sticky/root", ""));
  EXPECT(as_user(1000, user_creates) == 0);
  const char *made[] = {"mine", "own", "pipe", "link"};
  for (int i = 0; i < 4; i++) EXPECT(status_of(made[i]).st_uid == 1000 && status_of(made[i]).st_gid == 1000);
  EXPECT((status_of("mine").st_mode & 07777) == 0640 && (status_of("own").st_mode & 07777) == 0750);
  EXPECT(chown("mine", 7, 8) == 0 && status_of("mine").st_uid == 7 && status_of("mine").st_gid == 8);
  EXPECT(mkdir("setgid", 02777) == 0 && chown("setgid", 0, 55) == 0 && chmod("setgid", 02777) == 0);
  close(created("setgid/inherits", ""));
  EXPECT(status_of("setgid/inherits").st_gid == 55);
}

static int user_writes(void) {
  int fd = open("suid", O_WRONLY);
  return fd >= 0 && write(fd, "w", 1) == 1 ? 0 : 1;
}

static int user_allocates(void) {
  int fd = open("suid", O_WRONLY);
  return fd >= 0 && fallocate(fd, 0, 0, PAGE) == 0 ? 0 : 1;
}

static void writing_clears_setuid(void) {
  close(created("suid", "x"));
  EXPECT(chmod("suid", 06777) == 0 && (status_of("suid").st_mode & 07777) == 06777);
  EXPECT(as_user(1000, user_writes) == 0);
  EXPECT((status_of("suid").st_mode & 07777) == 0777);
  EXPECT(chmod("suid", 06777) == 0 && as_user(1000, user_allocates) == 0);
  EXPECT((status_of("suid").st_mode & 07777) == 0777);
  EXPECT(chown("suid", 1000, 1000) == 0 && chmod("suid", 02767) == 0 && as_user(1000, user_writes) == 0);
  EXPECT((status_of("suid").st_mode & 07777) == 02767); /* the group may not execute it */
}

static void times(void) {
  int fd = created("f", "");
  struct timespec set[2] = {{123456789, 987654321}, {1000000000, 1}};
  EXPECT(futimens(fd, set) == 0);
  struct stat st = status_of("f");
  EXPECT(st.st_atim.tv_sec == 123456789 && st.st_atim.tv_nsec == 987654321);
  EXPECT(st.st_mtim.tv_sec == 1000000000 && st.st_mtim.tv_nsec == 1);
  struct timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  EXPECT(utimensat(AT_FDCWD, "f", omit, 0) == 0);
  st = status_of("f");
  EXPECT(st.st_atim.tv_sec == 123456789 && st.st_mtim.tv_sec > 1000000000);
}

static void sizes_and_appends(void) {
  int fd = created("f", "12345");
  EXPECT(ftruncate(fd, 3) == 0 && ftruncate(fd, 6) == 0);
  char back[8] = "........";
  EXPECT(pread(fd, back, 8, 0) == 6 && memcmp(back, "123\0\0\0", 6) == 0);
  int append = open("f", O_WRONLY | O_APPEND);
  EXPECT(write(append, "+", 1) == 1 && write(fd, "0", 1) == 1 && write(append, "+", 1) == 1);
  EXPECT(status_of("f").st_size == 8 && fsync(fd) == 0 && fdatasync(append) == 0 && syncfs(fd) == 0);
  struct statvfs fs;
  EXPECT(statvfs(".", &fs) == 0 && fs.f_namemax == 255 && fs.f_blocks > 0);
}

static void copies_inside_the_share(void) {
  int from = created("from", "copy me please"), to = created("to", "");
  loff_t in = 5, out = 100;
  EXPECT(copy_file_range(from, &in, to, &out, 9, 0) == 9);
  char back[10] = "";
  EXPECT(pread(to, back, 9, 100) == 9 && strcmp(back, "me please") == 0);
}

static void directories(void) {
  EXPECT(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && status_of("d").st_nlink == 3);
  EXPECT_ERRNO(rmdir("d"), ENOTEMPTY);
  EXPECT_ERRNO(unlink("d/e"), EISDIR);
  EXPECT(chdir("d/e") == 0 && rename("../../d", "../../moved") == 0);
  char cwd[4096];
  EXPECT(getcwd(cwd, sizeof cwd) && strstr(cwd, "/moved/e"));
  close(created("here", ""));
  EXPECT(chdir("../..") == 0 && status_of("moved/e/here").st_size == 0);
  EXPECT(unlink("moved/e/here") == 0 && rmdir("moved/e") == 0 && status_of("moved").st_nlink == 2);
}

static void directory_seeks(void) {
  char name[32];
  for (int i = 0; i < 500; i++) {
    snprintf(name, sizeof name, "entry-%d", i);
    close(created(name, ""));
  }
  DIR *directory = opendir(".");
  long places[503]; /* one more: the end */
  char found[502][32];
  int count = 0;
  for (struct dirent *e; places[count] = telldir(directory), (e = readdir(directory)); count++) {
    EXPECT(count < 502);
    strcpy(found[count], e->d_name);
  }
  EXPECT(count == 502);
  for (int i = 501; i >= 0; i -= 37) {
    seekdir(directory, places[i]);
    EXPECT(strcmp(readdir(directory)->d_name, found[i]) == 0);
  }
}

static void many_open_files(void) {
  enum { MANY = 3000 };
  static int fds[MANY];
  char name[32];
  for (int i = 0; i < MANY; i++) {
    snprintf(name, sizeof name, "%d", i);
    fds[i] = created(name, name);
  }
  for (int i = 0; i < MANY; i += 7) {
    char back[32] = "";
    snprintf(name, sizeof name, "%d", i);
    EXPECT(pread(fds[i], back, sizeof back, 0) == (ssize_t)strlen(name) && strcmp(back, name) == 0);
  }
}

static const struct check CHECKS[] = {
    {"direct-io", direct_io},
    {"direct-io-of-odd-sizes", direct_io_of_odd_sizes},
    {"mapping-is-coherent", mapping_is_coherent},
    {"rename-replaces-and-refuses", rename_replaces_and_refuses},
    {"links", links},
    {"extended-attributes", extended_attributes},
    {"locks-between-processes", locks_between_processes},
    {"locks-of-open-files", locks_of_open_files},
    {"unlinked-file-lives-on", unlinked_file_lives_on},
    {"allocation-and-holes", allocation_and_holes},
    {"offsets-beyond-4-gib", offsets_beyond_4_gib},
    {"temporary-file", temporary_file},
    {"names", names},
    {"special-files", special_files},
    {"ownership-and-permissions", ownership_and_permissions},
    {"writing-clears-setuid", writing_clears_setuid},
    {"times", times},
    {"sizes-and-appends", sizes_and_appends},
    {"copies-inside-the-share", copies_inside_the_share},
    {"directories", directories},
    {"directory-seeks", directory_seeks},
    {"many-open-files", many_open_files},
};

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  return run_checks(CHECKS, sizeof CHECKS / sizeof CHECKS[0], argv[1]) != 0;
}
