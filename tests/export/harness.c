/* Opens and runs files that may be damaged: harness files FILE... | cut FILE | flip FILE STEP.
 * `cut` and `flip` change the file itself. Prints one line for each file, or for each that opens
 * although it should not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ftwt.h"

static const char *run(ftwt_model *model) {
    ftwt_sizes sizes;
    const char *wrong = ftwt_shape(model, &sizes);
    if (wrong) return wrong;
    const int32_t shape[4] = {2, sizes.input[0], sizes.input[1], sizes.input[2]};
    const int64_t in = 2ll * shape[1] * shape[2] * shape[3];
    const int64_t out = 2ll * sizes.output[0] * sizes.output[1] * sizes.output[2];
    float *images = calloc((size_t)in, sizeof *images), *answers = calloc((size_t)out, sizeof *answers);
    int64_t macs[2];
    for (int64_t i = 0; i < in; i++) images[i] = (float)(i % 7) - 3;
    const int32_t other[4] = {2, shape[1], shape[2] + 1, shape[3]};
    if (!ftwt_run(model, images, other, answers, macs)) abort();
    wrong = ftwt_run(model, images, shape, answers, macs);
    if (!wrong) wrong = ftwt_at(model, 0.5);
    if (!wrong) wrong = ftwt_run(model, images, shape, answers, macs);
    free(images);
    free(answers);
    return wrong;
}

static void report(const char *path) {
    ftwt_model *model;
    const char *wrong = ftwt_open(path, 1, &model);
    if (!wrong) wrong = run(model);
    printf("%s\n", wrong ? wrong : "ran");
    ftwt_close(model);
}

static int opens(const char *path) {
    ftwt_model *model;
    const char *wrong = ftwt_open(path, 1, &model);
    ftwt_close(model);
    return !wrong;
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    if (!strcmp(arguments[1], "files"))
        for (int i = 2; i < count; i++) report(arguments[i]);
    FILE *file = fopen(arguments[2], "r+b");
    if (!file || fseek(file, 0, SEEK_END)) return 2;
    const long size = ftell(file);
    if (!strcmp(arguments[1], "cut"))
        for (long i = size - 1; i >= 0; i--) {
            if (truncate(arguments[2], i)) return 2;
            if (opens(arguments[2])) printf("opens with %ld of %ld bytes\n", i, size);
        }
    if (!strcmp(arguments[1], "flip"))
        for (long i = 0; i < size; i += atol(arguments[3])) {
            unsigned char byte;
            if (pread(fileno(file), &byte, 1, i) != 1) return 2;
            byte ^= (unsigned char)(1 << i % 8);
            if (pwrite(fileno(file), &byte, 1, i) != 1) return 2;
            if (opens(arguments[2])) printf("opens with another byte %ld\n", i);
            byte ^= (unsigned char)(1 << i % 8);
            if (pwrite(fileno(file), &byte, 1, i) != 1) return 2;
        }
    fclose(file);
    return 0;
}
