/* Runs an image each time that a byte comes, and answers with a byte: native_c FILE IMAGES THREADS.
 * IMAGES holds at most 256 images of float32, one after the other; the byte says which. */
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
    float *images = malloc(256 * floats * sizeof *images);
    float *answer = malloc((size_t)sizes.output[0] * sizeof *answer);
    FILE *file = fopen(arguments[2], "rb");
    if (!images || !answer || !file || !fread(images, sizeof *images, 256 * floats, file)) return 1;
    for (unsigned char byte; read(0, &byte, 1) == 1;) {
        wrong = ftwt_run(model, images + byte * floats, shape, answer, 0);
        if (wrong) return fprintf(stderr, "%s\n", wrong), 1;
        if (write(1, &byte, 1) != 1) return 1;
    }
    free(images), free(answer), fclose(file), ftwt_close(model);
    return 0;
}
