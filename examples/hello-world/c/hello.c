// Prints what a container gives its program, one fact a line: the same lines in the same
// order as the Rust, Go and shell programs beside this one.

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(char **list, size_t count) {
    if (count > 1)
        qsort(list, count, sizeof *list, compare);
}

// The entry's name, with a slash after a directory's; NULL when memory is short.
static char *label(const struct dirent *entry) {
    size_t size = strlen(entry->d_name) + 2;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "%s%s", entry->d_name, entry->d_type == DT_DIR ? "/" : "");
    return text;
}

static int is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

// One line for each entry of `path`, sorted. Returns -1 when memory is short.
static int list(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        printf("files in %s: cannot be read\n", path);
        return 0;
    }
    char **names = NULL;
    size_t count = 0;
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(dir));) {
        if (is_dot(entry->d_name))
            continue;
        char **more = realloc(names, (count + 1) * sizeof *names);
        if (more)
            names = more;
        if (!more || !(names[count] = label(entry)))
            result = -1;
        else
            count++;
    }
    sort(names, count);
    for (size_t i = 0; i < count; i++) {
        printf("files in %s: %s\n", path, names[i]);
        free(names[i]);
    }
    free(names);
    closedir(dir);
    return result;
}

int main(int argc, char **argv) {
    puts("hello from C");
    for (int i = 0; i < argc; i++)
        printf("arg %d: %s\n", i, argv[i]);
    size_t variables = 0;
    while (environ && environ[variables])
        variables++;
    sort(environ, variables);
    for (size_t i = 0; i < variables; i++)
        printf("env: %s\n", environ[i]);
    char cwd[4096];
    printf("cwd: %s\n", getcwd(cwd, sizeof cwd) ? cwd : "unknown");
    if (list("/") != 0 || list(".") != 0 || fflush(stdout) != 0)
        return EXIT_FAILURE;
    return EXIT_SUCCESS;
}
