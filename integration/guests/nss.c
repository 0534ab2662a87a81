/* A module for glibc's name lookup. It is code of the image, which must not run in the process
 * that becomes the container. */
#include <unistd.h>

__attribute__((constructor)) static void run(void) {
    static const char text[] = "native code of the image\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
}
