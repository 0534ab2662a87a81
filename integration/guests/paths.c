/* Prints each file named on the command line, or why it cannot. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void print(const char *path)
{
	char text[64] = "";
	FILE *file = fopen(path, "r");

	if (!file) {
		printf("%s: %s\n", path, strerror(errno));
		return;
	}
	if (!fgets(text, sizeof text, file))
		strcpy(text, "nothing");
	printf("%s: %s\n", path, text);
	fclose(file);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		print(argv[i]);
	return 0;
}
