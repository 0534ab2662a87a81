/* The program of the image with which critest tries whether privileges can be gained. */

#include <stdio.h>
#include <unistd.h>

int main(void)
{
	printf("Effective uid: %d\n", geteuid());
	return 0;
}
