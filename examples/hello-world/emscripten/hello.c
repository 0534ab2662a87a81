// Prints what a container gives its program, as the programs beside this one do, but for the
// files: a stand-alone program of Emscripten has no directories to read.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv) {
    puts("hello from Emscripten");
    for (int i = 0; i < argc; i++)
        printf("arg %d: %s\n", i, argv[i]);
    size_t variables = 0;
    while (environ[variables])
        variables++;
    qsort(environ, variables, sizeof *environ, compare);
    for (size_t i = 0; i < variables; i++)
        printf("env: %s\n", environ[i]);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
