/*
 * File I/O that never stops while the guest's memory comes and goes:
 *
 *   load DIRECTORY SECONDS HOT_START HOT_END
 *
 * Writes files from fresh buffers, through the page cache, O_DIRECT and mmap in turn, reads each back into another
 * fresh buffer and compares. Counts how many of the buffers' pages lay in guest physical [HOT_START, HOT_END), by
 * /proc/self/pagemap, so that the caller can prove that hot-added memory carried the requests. Ends early when
 * DIRECTORY/stop appears. Prints one line of NAME=VALUE and exits 0 if nothing went wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, FILES = 6, MAX_PAGES = 4096, CHUNK = 1 << 20 };
enum mode { BUFFERED, DIRECT, MAPPED, MODES };

static uint64_t hot_start, hot_end, hot_pages, all_pages, hot_direct_pages, bytes;
static unsigned files, errors, mismatches;
static int pagemap;

static void failed(const char *what) {
  if (errors++ < 10) fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
}

static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* A new mapping, so that its pages are newly allocated: the kernel takes movable, that is hot-added, memory first. */
static uint8_t *fresh_buffer(size_t size) {
  uint8_t *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (buffer == MAP_FAILED) {
    failed("mmap of a buffer");
    exit(2);
  }
  return buffer;
}

static void count_pages(const uint8_t *buffer, size_t size, enum mode mode) {
  static uint64_t entries[MAX_PAGES];
  size_t count = size / PAGE;
  ssize_t got = pread(pagemap, entries, count * sizeof entries[0], (off_t)((uintptr_t)buffer / PAGE * sizeof entries[0]));
  for (size_t i = 0; i < (size_t)got / sizeof entries[0]; i++) {
    uint64_t address = (entries[i] & ((1ULL << 55) - 1)) * PAGE;
    int is_hot = (entries[i] >> 63) && address >= hot_start && address < hot_end;
    all_pages++;
    hot_pages += is_hot;
    hot_direct_pages += is_hot && mode == DIRECT;
  }
}

static int open_for(const char *path, int flags, enum mode mode) {
  int fd = open(path, flags | (mode == DIRECT ? O_DIRECT : 0), 0644);
  if (fd < 0) failed(path);
  return fd;
}

static void transfer(int fd, uint8_t *buffer, size_t size, int is_write) {
  for (size_t done = 0; done < size;) {
    size_t want = size - done < CHUNK ? size - done : CHUNK;
    ssize_t n = is_write ? pwrite(fd, buffer + done, want, (off_t)done) : pread(fd, buffer + done, want, (off_t)done);
    if (n <= 0) {
      failed(is_write ? "write" : "read");
      return;
    }
    done += (size_t)n;
  }
  bytes += size;
}

static void transfer_mapped(int fd, uint8_t *buffer, size_t size, int is_write) {
  uint8_t *map = mmap(NULL, size, is_write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    failed("mmap of a file");
    return;
  }
  if (is_write) memcpy(map, buffer, size);
  else memcpy(buffer, map, size);
  if (is_write && msync(map, size, MS_SYNC) < 0) failed("msync");
  munmap(map, size);
  bytes += size;
}

static void one_file(const char *path, enum mode mode, uint64_t *random) {
  size_t size = (1 + next_random(random) % MAX_PAGES) * PAGE;
  uint8_t *written = fresh_buffer(size), *read_back = fresh_buffer(size);
  for (size_t i = 0; i < size; i += 8) *(uint64_t *)(written + i) = next_random(random);
  int fd = open_for(path, O_CREAT | O_TRUNC | O_RDWR, mode);
  if (fd >= 0) {
    if (mode == MAPPED && ftruncate(fd, (off_t)size) < 0) failed("ftruncate");
    (mode == MAPPED ? transfer_mapped : transfer)(fd, written, size, 1);
    if (fsync(fd) < 0) failed("fsync");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
  }
  enum mode back = (enum mode)(next_random(random) % MODES);
  fd = open_for(path, O_RDONLY, back);
  if (fd >= 0) {
    (back == MAPPED ? transfer_mapped : transfer)(fd, read_back, size, 0);
    close(fd);
  }
  if (memcmp(written, read_back, size) != 0) {
    mismatches++;
    fprintf(stderr, "load: %s differs, %zu bytes, written %d, read %d\n", path, size, mode, back);
  }
  count_pages(written, size, mode);
  count_pages(read_back, size, back);
  munmap(written, size);
  munmap(read_back, size);
  files++;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  hot_start = strtoull(argv[3], NULL, 0);
  hot_end = strtoull(argv[4], NULL, 0);
  pagemap = open("/proc/self/pagemap", O_RDONLY);
  time_t end = time(NULL) + atoi(argv[2]);
  uint64_t random = 0x9e3779b97f4a7c15;
  char path[512], stop[512];
  snprintf(stop, sizeof stop, "%s/stop", argv[1]);
  for (unsigned i = 0; time(NULL) < end && access(stop, F_OK) != 0; i++) {
    snprintf(path, sizeof path, "%s/load-%u", argv[1], i % FILES);
    one_file(path, (enum mode)(i % MODES), &random);
  }
  printf("files=%u bytes=%llu errors=%u mismatches=%u hot_pages=%llu hot_direct_pages=%llu pages=%llu\n", files,
         (unsigned long long)bytes, errors, mismatches, (unsigned long long)hot_pages,
         (unsigned long long)hot_direct_pages, (unsigned long long)all_pages);
  return errors + mismatches == 0 ? 0 : 1;
}
