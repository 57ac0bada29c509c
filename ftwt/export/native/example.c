/* Prints an image's class and the MACs that it took: ./example model.ftwt image.ppm [reduction] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ftwt.h"

static void check(const char *wrong) {
    if (wrong) fprintf(stderr, "%s\n", wrong), exit(1);
}

/* A binary PPM of the network's size, each channel by itself, as the network takes it. */
static float *load(const char *path, const ftwt_sizes *sizes) {
    int wide = 0, high = 0, byte = 0, size = sizes->input[1] * sizes->input[2];
    FILE *file = fopen(path, "rb");
    check(file ? 0 : "the image cannot be opened");
    int good = fscanf(file, "P6 %d %d 255", &wide, &high) == 2 && fgetc(file) != EOF;
    check(good && high == sizes->input[1] && wide == sizes->input[2] && sizes->input[0] == 3
              ? 0 : "the image is no binary PPM of the network's size");
    float *image = calloc((size_t)size, 3 * sizeof *image);
    for (int i = 0; image && i < 3 * size && (byte = fgetc(file)) != EOF; i++) {
        float pixel = (float)byte / 255, *to = &image[i % 3 * size + i / 3];
        *to = sizes->mean ? (pixel - sizes->mean[i % 3]) / sizes->deviation[i % 3] : pixel;
    }
    return check(byte == EOF ? "the image ends too early" : 0), fclose(file), image;
}

int main(int count, char **argument) {
    ftwt_model *model = 0;
    ftwt_sizes sizes;
    check(count < 3 ? "give a network's file and an image" : ftwt_open(argument[1], 1, &model));
    check(count < 4 ? 0 : ftwt_at(model, atof(argument[3])));
    check(ftwt_shape(model, &sizes));
    int32_t shape[4] = {1, sizes.input[0], sizes.input[1], sizes.input[2]}, best = 0;
    float *image = load(argument[2], &sizes), *answer = calloc((size_t)sizes.output[0], sizeof *answer);
    int64_t macs;
    check(ftwt_run(model, image, shape, answer, &macs));
    for (int i = 1; i < sizes.output[0]; i++) best = answer[i] > answer[best] ? i : best;
    printf("class %d, %lld MACs of %lld\n", best, (long long)macs, (long long)sizes.dense_macs);
    return free(image), free(answer), ftwt_close(model), 0;
}
