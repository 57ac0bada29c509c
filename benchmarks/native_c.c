/* Runs an image each time that a byte comes, and answers with a byte: native_c FILE IMAGES THREADS.
 * IMAGES holds float32 images one after the other, which are taken in turn. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ftwt.h"

int main(int count, char **arguments) {
    ftwt_model *model;
    ftwt_sizes sizes;
    if (count != 4) return 2;
    const char *wrong = ftwt_open(arguments[1], atoi(arguments[3]), &model);
    if (!wrong) wrong = ftwt_shape(model, &sizes);
    if (wrong) return fprintf(stderr, "%s\n", wrong), 1;
    const int32_t shape[4] = {1, sizes.input[0], sizes.input[1], sizes.input[2]};
    const size_t floats = (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
    float *image = malloc(floats * sizeof *image);
    float *answer = malloc((size_t)sizes.output[0] * sizeof *answer);
    FILE *images = fopen(arguments[2], "rb");
    if (!image || !answer || !images) return 1;
    for (char byte; read(0, &byte, 1) == 1;) {
        fseek(images, (long)((unsigned char)byte * floats * sizeof *image), SEEK_SET);
        if (fread(image, sizeof *image, floats, images) != floats) return 1;
        wrong = ftwt_run(model, image, shape, answer, 0);
        if (wrong) return fprintf(stderr, "%s\n", wrong), 1;
        if (write(1, &byte, 1) != 1) return 1;
    }
    free(image), free(answer), fclose(images), ftwt_close(model);
    return 0;
}
