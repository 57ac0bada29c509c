/* What the caller has to know of the library, by name: it compares its own structs and numbers with
 * these, and takes limits from here. */
#include <stddef.h>

#include "engine.h"
#include "file.h"
#include "ftwt.h"

#define NUMBER(NAME) {#NAME, NAME},
#define SIZE(TYPE) {#TYPE, sizeof(TYPE)},
#define FIELD(TYPE, NAME) {#TYPE "." #NAME, offsetof(TYPE, NAME)},

static const struct {
    const char *name;
    int64_t value;
} facts[] = {
    NUMBER(FTWT_FORMAT)
    NUMBER(MOST_TAPS) NUMBER(MOST_LANES) NUMBER(TILE) NUMBER(POOL_ROW)
    NUMBER(FTWT_MEMORY) NUMBER(FTWT_PROGRAM) NUMBER(FTWT_TENSOR)
    NUMBER(PLACE_ARENA) NUMBER(PLACE_INPUT) NUMBER(PLACE_OUTPUT)
    NUMBER(SET_ALL) NUMBER(SET_GIVEN) NUMBER(SET_MADE) NUMBER(SET_UNION) NUMBER(SET_INTERSECTION)
    NUMBER(SET_CONCAT) NUMBER(SET_REORDER)
    NUMBER(STEP_GATE) NUMBER(STEP_TABLE) NUMBER(STEP_CONV) NUMBER(STEP_LINEAR) NUMBER(STEP_ADD)
    NUMBER(STEP_MULTIPLY) NUMBER(STEP_POOL) NUMBER(STEP_PICK) NUMBER(STEP_CONCAT)
    NUMBER(STEP_ACTIVATE) NUMBER(STEP_AFFINE) NUMBER(STEP_MASK)
    NUMBER(STEP_FOLLOW)
    NUMBER(ACT_NONE) NUMBER(ACT_RELU) NUMBER(ACT_RELU6) NUMBER(ACT_HARDSWISH) NUMBER(ACT_SILU)
    NUMBER(ACT_HARDSIGMOID) NUMBER(ACT_SIGMOID)
    NUMBER(POOL_NONE) NUMBER(POOL_MAX) NUMBER(POOL_MEAN) NUMBER(POOL_MEAN_STD)
    NUMBER(NORM_NONE) NUMBER(NORM_SOFTMAX) NUMBER(NORM_LAYER)

    SIZE(ftwt_value)
    FIELD(ftwt_value, channels) FIELD(ftwt_value, height) FIELD(ftwt_value, width)
    FIELD(ftwt_value, set) FIELD(ftwt_value, place) FIELD(ftwt_value, number)
    FIELD(ftwt_value, offset)

    SIZE(ftwt_set)
    FIELD(ftwt_set, kind) FIELD(ftwt_set, width) FIELD(ftwt_set, number) FIELD(ftwt_set, before)
    FIELD(ftwt_set, parts) FIELD(ftwt_set, unused) FIELD(ftwt_set, part) FIELD(ftwt_set, index)

    SIZE(ftwt_window)
    FIELD(ftwt_window, kernel) FIELD(ftwt_window, stride) FIELD(ftwt_window, padding)
    FIELD(ftwt_window, dilation)

    SIZE(ftwt_step)
    FIELD(ftwt_step, kind) FIELD(ftwt_step, output) FIELD(ftwt_step, made) FIELD(ftwt_step, reads)
    FIELD(ftwt_step, fill) FIELD(ftwt_step, activation) FIELD(ftwt_step, pool)
    FIELD(ftwt_step, normalize) FIELD(ftwt_step, groups) FIELD(ftwt_step, rank)
    FIELD(ftwt_step, sources) FIELD(ftwt_step, row) FIELD(ftwt_step, source)
    FIELD(ftwt_step, window) FIELD(ftwt_step, pooling) FIELD(ftwt_step, middle)
    FIELD(ftwt_step, index) FIELD(ftwt_step, weight) FIELD(ftwt_step, bias) FIELD(ftwt_step, rows)
    FIELD(ftwt_step, weight2) FIELD(ftwt_step, bias2)

    SIZE(ftwt_program)
    FIELD(ftwt_program, batch) FIELD(ftwt_program, values) FIELD(ftwt_program, sets)
    FIELD(ftwt_program, steps) FIELD(ftwt_program, inputs) FIELD(ftwt_program, outputs)
    FIELD(ftwt_program, given) FIELD(ftwt_program, made) FIELD(ftwt_program, value)
    FIELD(ftwt_program, set) FIELD(ftwt_program, step) FIELD(ftwt_program, arena)

    SIZE(ftwt_tensor)
    FIELD(ftwt_tensor, data) FIELD(ftwt_tensor, count)

    NUMBER(FILE_VERSION) NUMBER(FILE_CHECKED)
    NUMBER(SIGNAL_MARGIN) NUMBER(SIGNAL_CONFIDENCE) NUMBER(SIGNAL_ENTROPY)

    SIZE(ftwt_signal)
    FIELD(ftwt_signal, kind) FIELD(ftwt_signal, unused) FIELD(ftwt_signal, temperature)

    SIZE(ftwt_setting)
    FIELD(ftwt_setting, program) FIELD(ftwt_setting, thresholds) FIELD(ftwt_setting, macs)

    SIZE(ftwt_file)
    FIELD(ftwt_file, magic) FIELD(ftwt_file, version) FIELD(ftwt_file, program)
    FIELD(ftwt_file, lanes) FIELD(ftwt_file, tile) FIELD(ftwt_file, order)
    FIELD(ftwt_file, checksum) FIELD(ftwt_file, size) FIELD(ftwt_file, input)
    FIELD(ftwt_file, output) FIELD(ftwt_file, dense_macs) FIELD(ftwt_file, settings)
    FIELD(ftwt_file, points) FIELD(ftwt_file, limits) FIELD(ftwt_file, mirror)
    FIELD(ftwt_file, weight) FIELD(ftwt_file, setting) FIELD(ftwt_file, signal)
    FIELD(ftwt_file, sure) FIELD(ftwt_file, point) FIELD(ftwt_file, scale)
    FIELD(ftwt_file, classes) FIELD(ftwt_file, classes_bytes)

    SIZE(ftwt_sizes)
    FIELD(ftwt_sizes, input) FIELD(ftwt_sizes, output) FIELD(ftwt_sizes, dense_macs)
    FIELD(ftwt_sizes, lowest) FIELD(ftwt_sizes, highest) FIELD(ftwt_sizes, mean)
    FIELD(ftwt_sizes, deviation) FIELD(ftwt_sizes, classes)
};

int ftwt_fact(int number, const char **name, int64_t *value) {
    if (number < 0 || number >= (int)(sizeof facts / sizeof *facts)) return 0;
    *name = facts[number].name;
    *value = facts[number].value;
    return 1;
}
