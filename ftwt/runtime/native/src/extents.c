/* How many floats lie where a step's tensors are. */
#include "extents.h"

#include "engine.h"

static int64_t padded(int64_t outputs) {
    return (outputs + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
}

void ftwt_extents(const ftwt_program *program, const ftwt_step *step, int64_t floats[5]) {
    const int64_t outputs = program->set[step->made].width;
    int64_t weight = 0, bias = 0, rows = 0, weight2 = 0, bias2 = 0;
    switch (step->kind) {
    case STEP_CONV:
        weight = outputs * step->row, bias = outputs;
        /* Of a file not yet an address, but not null where there is a place. */
        if (step->weight2)
            weight2 = outputs * 18 * (program->value[step->source[0]].channels / step->groups);
        break;
    case STEP_LINEAR:
        weight = program->set[step->reads].width * padded(outputs), bias = padded(outputs);
        break;
    case STEP_GATE:
        if (step->rank) {
            weight = step->rank * padded(program->set[step->reads].width);
            bias = padded(step->rank);
            weight2 = step->rank * padded(outputs), bias2 = padded(outputs);
        } else {
            weight = program->set[step->reads].width * padded(outputs);
            bias = rows = padded(outputs);
        }
        break;
    case STEP_TABLE: weight = step->rank * outputs; break;
    case STEP_AFFINE: rows = bias = outputs; break;
    default: break;
    }
    floats[0] = weight, floats[1] = bias, floats[2] = rows, floats[3] = weight2, floats[4] = bias2;
}
