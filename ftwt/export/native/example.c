/* Prints the class of an image and the multiply-accumulates that it took:
 * ./example model.ftwt image.ppm [reduction] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ftwt.h"

static int fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

/* A binary PPM (P6) of the network's own size, as floats (3, height, width) from 0 to 1. */
static int load(const char *path, const ftwt_sizes *sizes, float *pixels) {
    const int height = sizes->input[1], width = sizes->input[2], size = height * width;
    int wide = 0, high = 0, most = 0, byte = 0;
    FILE *file = fopen(path, "rb");
    int good = file && fscanf(file, "P6 %d %d %d", &wide, &high, &most) == 3 &&
               fgetc(file) != EOF && wide == width && high == height && most == 255;
    for (int i = 0; good && i < 3 * size; i++, good = byte != EOF)
        pixels[i % 3 * size + i / 3] = (float)(byte = fgetc(file)) / 255;
    if (file) fclose(file);
    return good;
}

int main(int count, char **arguments) {
    ftwt_model *model;
    ftwt_sizes sizes;
    const char *wrong;
    if (count < 3) return fail("usage", "example model.ftwt image.ppm [reduction]");
    if ((wrong = ftwt_open(arguments[1], 1, &model))) return fail(arguments[1], wrong);
    if (count > 3 && (wrong = ftwt_at(model, atof(arguments[3])))) return fail("reduction", wrong);
    ftwt_shape(model, &sizes);
    const int32_t shape[4] = {1, sizes.input[0], sizes.input[1], sizes.input[2]};
    const int pixels = shape[1] * shape[2] * shape[3], classes = sizes.output[0];
    float *image = calloc(pixels, sizeof *image), *answer = calloc(classes, sizeof *answer);
    if (shape[1] != 3 || sizes.output[1] * sizes.output[2] != 1 || !load(arguments[2], &sizes, image))
        return fail(arguments[2], "expected a binary PPM of the size that the network takes");
    for (int i = 0, plane = pixels / 3; sizes.mean && i < pixels; i++)
        image[i] = (image[i] - sizes.mean[i / plane]) / sizes.deviation[i / plane];
    int64_t macs;
    if ((wrong = ftwt_run(model, image, shape, answer, &macs))) return fail("run", wrong);
    int best = 0;
    for (int i = 1; i < classes; i++) best = answer[i] > answer[best] ? i : best;
    const char *name = sizes.classes;
    for (int i = 0; name && i < best; i++) name += strlen(name) + 1;
    printf("class %d%s%s, %lld MACs of %lld\n", best, name ? " " : "", name ? name : "",
           (long long)macs, (long long)sizes.dense_macs);
    free(image), free(answer), ftwt_close(model);
    return 0;
}
