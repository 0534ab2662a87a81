/* One kind of work for each name:
 *
 *   work cpu          counts primes with a sieve, and hashes it
 *   work files        writes and reads 32 MB in a file, then makes and removes 1000 small files
 *   work output       writes 128 MB to standard output, in blocks of 4 kB
 *   work spin         says "spinning", and never ends
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096, LIMIT = 20 * 1000 * 1000 };

static char block[BLOCK];

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int cpu(void) {
    unsigned char *composite = calloc(LIMIT, 1);
    if (!composite)
        return fail("calloc");
    unsigned primes = 0;
    uint64_t hash = 1469598103934665603u;
    for (uint64_t i = 2; i < LIMIT; i++) {
        hash = (hash ^ composite[i]) * 1099511628211u;
        if (composite[i])
            continue;
        primes++;
        for (uint64_t j = i * i; j < LIMIT; j += i)
            composite[j] = 1;
    }
    printf("%u primes, hash %llx\n", primes, (unsigned long long)hash);
    return 0;
}

static int one_large_file(void) {
    int fd = open("/data/large", O_CREAT | O_TRUNC | O_RDWR, 0644);
    if (fd < 0)
        return fail("open");
    for (int i = 0; i < 8192; i++)
        if (write(fd, block, BLOCK) != BLOCK)
            return fail("write");
    lseek(fd, 0, SEEK_SET);
    for (int i = 0; i < 8192; i++)
        if (read(fd, block, BLOCK) != BLOCK)
            return fail("read");
    close(fd);
    return unlink("/data/large") ? fail("unlink") : 0;
}

static int many_small_files(void) {
    char name[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "/data/%d", i);
        int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd < 0 || write(fd, name, 16) != 16 || close(fd))
            return fail(name);
    }
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "/data/%d", i);
        if (unlink(name))
            return fail(name);
    }
    return 0;
}

static int output(void) {
    memset(block, 'x', BLOCK);
    for (int i = 0; i < 32768; i++)
        for (int done = 0; done < BLOCK;) {
            int written = write(1, block + done, BLOCK - done);
            if (written < 0)
                return fail("write");
            done += written;
        }
    return 0;
}

static _Noreturn void spin(void) {
    puts("spinning");
    fflush(stdout);
    for (volatile unsigned i = 0;; i++)
        ;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "cpu"))
        return cpu();
    if (!strcmp(name, "files"))
        return one_large_file() || many_small_files();
    if (!strcmp(name, "output"))
        return output();
    if (!strcmp(name, "spin"))
        spin();
    fputs("usage: work cpu|files|output|spin\n", stderr);
    return 2;
}
